//! Reading the input of an operation: JSON of one protocol, text of the other.
//!
//! The query protocol gives every number as text, so numbers are taken in both forms.

use std::collections::BTreeMap;

use awsim_core::AwsError;
use serde_json::Value;

use crate::shared::fault;

/// A text field, empty where it is not given.
pub(crate) fn text<'a>(input: &'a Value, name: &str) -> &'a str {
    input.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A text field, owned, where it is given.
pub(crate) fn maybe_text(input: &Value, name: &str) -> Option<String> {
    input.get(name).and_then(Value::as_str).map(str::to_owned)
}

/// A text field that must be there.
pub(crate) fn required<'a>(input: &'a Value, name: &str) -> Result<&'a str, AwsError> {
    input.get(name).and_then(Value::as_str).filter(|it| !it.is_empty()).ok_or_else(|| {
        fault(400, "MissingParameter", format!("The request must contain the parameter {name}."))
    })
}

/// A whole number, where it is given.
pub(crate) fn integer(input: &Value, name: &str) -> Result<Option<i64>, AwsError> {
    let Some(value) = input.get(name).filter(|it| !it.is_null()) else { return Ok(None) };
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).map(Some).ok_or_else(|| {
        fault(
            400,
            "InvalidParameterValue",
            format!("Value {value} for parameter {name} is invalid. Reason: Must be an integer."),
        )
    })
}

/// A truth value; false where it is not given.
pub(crate) fn flag(input: &Value, name: &str) -> bool {
    match input.get(name) {
        Some(Value::Bool(given)) => *given,
        Some(Value::String(given)) => given.eq_ignore_ascii_case("true"),
        _ => false,
    }
}

/// A list, empty where it is not given.
pub(crate) fn list<'a>(input: &'a Value, name: &str) -> &'a [Value] {
    input.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A list of texts; what is not text is left out.
pub(crate) fn texts(input: &Value, name: &str) -> Vec<String> {
    list(input, name).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A map of texts; numbers are taken as they are written.
pub(crate) fn map(input: &Value, name: &str) -> BTreeMap<String, String> {
    let fields = input.get(name).and_then(Value::as_object);
    fields
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(given) => given.to_string(),
                _ => return None,
            };
            Some((key.clone(), text))
        })
        .collect()
}

/// Tags as a list of `{Key, Value}`.
pub(crate) fn tags(input: &Value, name: &str) -> BTreeMap<String, String> {
    list(input, name)
        .iter()
        .map(|tag| (text(tag, "Key").to_owned(), text(tag, "Value").to_owned()))
        .collect()
}
