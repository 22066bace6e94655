//! Text to JSON, with the bounds that serde_json does not set: size, depth, and no key twice.
//!
//! The depth is counted over the bytes before anything recurses. A key that comes twice with two values is
//! refused: whichever of `{"action":"stop","action":"kill"}` won, somebody would be surprised.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::quoted;
use crate::malformed::{Malformed, MalformedKind};

/// Deeper than any event of AWS, shallow enough for any stack.
pub const DEPTH_MAX: usize = 32;

/// The object that `text` is; `what` names the text in errors, such as "the body".
pub(crate) fn object(text: &str, what: &str) -> Result<Map<String, Value>, Malformed> {
    if depth_exceeds(text.as_bytes(), DEPTH_MAX) {
        return Err(Malformed::new(
            MalformedKind::TooDeep,
            format!("{what} nests deeper than {DEPTH_MAX} objects and arrays; expected no more"),
        ));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict.deserialize(&mut deserializer).and_then(|value| {
        deserializer.end()?;
        Ok(value)
    });
    match value {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(Malformed::new(
            MalformedKind::NotAnObject,
            format!("{what} is {}; expected a JSON object", kind_of(&other)),
        )),
        // Only a key that comes twice is an error of data; all others are of syntax.
        Err(error) if error.is_data() => Err(Malformed::new(
            MalformedKind::InvalidField,
            format!("{what}: {error}; expected each field once"),
        )),
        Err(_) if text.trim().is_empty() => {
            Err(Malformed::new(MalformedKind::NotJson, format!("{what} is empty; expected JSON")))
        }
        Err(error) => {
            let error = error.to_string();
            // serde_json says what it expected, where it expected something.
            let hint = if error.contains("expected") { "" } else { "; expected a JSON object" };
            Err(Malformed::new(
                MalformedKind::NotJson,
                format!("{what} is not a JSON object: {error}{hint}"),
            ))
        }
    }
}

/// What sort of value it is, in words, for an error that must not show the value itself.
pub(crate) const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn depth_exceeds(bytes: &[u8], depth_max: usize) -> bool {
    let mut depth = 0_usize;
    let mut in_text = false;
    let mut escaped = false;
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                if depth > depth_max {
                    return true;
                }
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Makes a [`Value`] as serde_json does, but refuses a key with two values.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(Self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            let value = entries.next_value_seed(Self)?;
            if map.get(&key).is_some_and(|earlier| *earlier != value) {
                let name = quoted(&key);
                return Err(A::Error::custom(format_args!("{name} comes twice, with two values")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        String::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(), MalformedKind>) {
        let found = object(text, "the body").map(drop).map_err(|malformed| malformed.kind);
        assert_eq!(found, expected, "{text:.80}");
    }

    fn nested(depth: usize) -> String {
        format!("{{\"a\":{}1{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1))
    }

    #[test]
    fn depth_is_counted_before_recursion_and_not_inside_text() {
        check(&nested(DEPTH_MAX), Ok(()));
        check(&nested(DEPTH_MAX + 1), Err(MalformedKind::TooDeep));
        check(&"[".repeat(1 << 20), Err(MalformedKind::TooDeep));
        check(&format!("{{\"a\":\"{}\"}}", "[".repeat(100)), Ok(()));
        check(&format!("{{\"a\":\"\\\"{}\"}}", "[".repeat(100)), Ok(()));
    }

    #[test]
    fn a_key_comes_once_or_says_the_same_twice() {
        check(r#"{"a":1,"a":1}"#, Ok(()));
        check(r#"{"a":1,"a":2}"#, Err(MalformedKind::InvalidField));
        check(r#"{"a":{"b":1,"b":[]}}"#, Err(MalformedKind::InvalidField));
    }

    #[test]
    fn what_is_no_object_is_told_from_what_is_no_json() {
        check("", Err(MalformedKind::NotJson));
        check(" \n", Err(MalformedKind::NotJson));
        check("{}x", Err(MalformedKind::NotJson));
        check(r#"{"a":1e999}"#, Err(MalformedKind::NotJson));
        check(r#"{"a":"\ud800"}"#, Err(MalformedKind::NotJson));
        check("[]", Err(MalformedKind::NotAnObject));
        check("null", Err(MalformedKind::NotAnObject));
    }
}
