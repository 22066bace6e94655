//! EventBridge event patterns: which events a rule wants.
//!
//! A pattern mirrors the event: a field's value is a list of alternatives, an object goes deeper.
//! Alternatives are literal values or one-key matchers: `prefix`, `suffix`, `anything-but`, `exists`,
//! `numeric`, `equals-ignore-case`, `wildcard`. An event's array matches when one of its elements does.
//! Not here: `cidr`, which is refused like any other unknown matcher.

use serde_json::Value;

/// Why a pattern is refused; the text says where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Event pattern is not valid. Reason: {0}")]
pub struct PatternError(String);

/// Checks that every part of a pattern is one that [`matches`] understands.
pub fn validate(pattern: &Value) -> Result<(), PatternError> {
    let Value::Object(fields) = pattern else {
        return Err(PatternError("Filter is not an object".to_owned()));
    };
    if fields.is_empty() {
        return Err(PatternError("Empty objects are not allowed".to_owned()));
    }
    for (name, wanted) in fields {
        match wanted {
            Value::Array(alternatives) if name == "$or" => {
                alternatives.iter().try_for_each(validate)?;
            }
            Value::Array(alternatives) if alternatives.is_empty() => {
                return Err(PatternError(format!("\"{name}\": Empty arrays are not allowed")));
            }
            Value::Array(alternatives) => {
                alternatives.iter().try_for_each(|one| validate_matcher(name, one))?;
            }
            Value::Object(_) => validate(wanted)?,
            _ => {
                return Err(PatternError(format!("\"{name}\" must be an object or an array")));
            }
        }
    }
    Ok(())
}

fn validate_matcher(name: &str, matcher: &Value) -> Result<(), PatternError> {
    let Value::Object(fields) = matcher else {
        return if matcher.is_array() {
            Err(PatternError(format!("\"{name}\": a match value must be a scalar or an object")))
        } else {
            Ok(())
        };
    };
    let mut entries = fields.iter();
    let (Some((key, argument)), None) = (entries.next(), entries.next()) else {
        return Err(PatternError(format!("\"{name}\": Only one key allowed in match expression")));
    };
    let fits = match key.as_str() {
        "prefix" | "suffix" => argument.is_string() || argument.is_object(),
        "equals-ignore-case" | "wildcard" => argument.is_string(),
        "exists" => argument.is_boolean(),
        "anything-but" => !argument.is_null(),
        "numeric" => numeric_ranges(argument).is_some(),
        _ => return Err(PatternError(format!("\"{name}\": Unrecognized match type {key}"))),
    };
    if fits {
        return Ok(());
    }
    Err(PatternError(format!("\"{name}\": {key} has a value of the wrong type")))
}

/// Whether the event is one that the pattern wants.
#[must_use]
pub fn matches(pattern: &Value, event: &Value) -> bool {
    let Value::Object(fields) = pattern else { return false };
    fields.iter().all(|(name, wanted)| match wanted {
        Value::Array(alternatives) if name == "$or" => {
            alternatives.iter().any(|alternative| matches(alternative, event))
        }
        Value::Array(alternatives) => {
            let actual = event.get(name);
            alternatives.iter().any(|alternative| matches_field(alternative, actual))
        }
        // Inside an array of objects one element has to match as a whole.
        Value::Object(_) => match event.get(name) {
            Some(Value::Array(elements)) => elements.iter().any(|element| matches(wanted, element)),
            Some(inner) => matches(wanted, inner),
            // A pattern that only asks for absence holds where the parent is absent as well.
            None => matches(wanted, &Value::Null),
        },
        _ => false,
    })
}

fn matches_field(matcher: &Value, actual: Option<&Value>) -> bool {
    if let Some(exists) = matcher.get("exists").and_then(Value::as_bool) {
        return actual.is_some() == exists;
    }
    match actual {
        Some(Value::Array(elements)) => {
            elements.iter().any(|element| matches_scalar(matcher, element))
        }
        Some(value) => matches_scalar(matcher, value),
        None => false,
    }
}

fn matches_scalar(matcher: &Value, actual: &Value) -> bool {
    let Some((key, argument)) = matcher.as_object().and_then(|fields| fields.iter().next()) else {
        return equal(matcher, actual);
    };
    let text = actual.as_str();
    match (key.as_str(), argument) {
        ("prefix", Value::String(prefix)) => text.is_some_and(|it| it.starts_with(prefix.as_str())),
        ("suffix", Value::String(suffix)) => text.is_some_and(|it| it.ends_with(suffix.as_str())),
        ("prefix" | "suffix", folded) => {
            let wanted = folded.get("equals-ignore-case").and_then(Value::as_str);
            wanted.zip(text).is_some_and(|(wanted, text)| {
                let (wanted, text) = (wanted.to_lowercase(), text.to_lowercase());
                if key == "prefix" { text.starts_with(&wanted) } else { text.ends_with(&wanted) }
            })
        }
        ("equals-ignore-case", Value::String(wanted)) => {
            text.is_some_and(|it| it.to_lowercase() == wanted.to_lowercase())
        }
        ("wildcard", Value::String(wanted)) => text.is_some_and(|it| wildcard(wanted, it)),
        ("anything-but", Value::Array(unwanted)) => !unwanted.iter().any(|one| equal(one, actual)),
        ("anything-but", Value::Object(inner)) => inner.iter().all(|(kind, argument)| {
            let several = argument.as_array().map_or(std::slice::from_ref(argument), Vec::as_slice);
            several
                .iter()
                .all(|one| !matches_scalar(&serde_json::json!({kind.as_str(): one}), actual))
        }),
        ("anything-but", unwanted) => !equal(unwanted, actual),
        ("numeric", ranges) => {
            let ranges = numeric_ranges(ranges);
            ranges.zip(actual.as_f64()).is_some_and(|(ranges, number)| {
                ranges.iter().all(|(operator, bound)| match *operator {
                    "<" => number < *bound,
                    "<=" => number <= *bound,
                    ">" => number > *bound,
                    ">=" => number >= *bound,
                    _ => (number - *bound).abs() < f64::EPSILON,
                })
            })
        }
        _ => false,
    }
}

/// Numbers are equal by value, everything else as it is written.
fn equal(wanted: &Value, actual: &Value) -> bool {
    match (wanted.as_f64(), actual.as_f64()) {
        (Some(left), Some(right)) => (left - right).abs() < f64::EPSILON,
        _ => wanted == actual,
    }
}

fn numeric_ranges(argument: &Value) -> Option<Vec<(&str, f64)>> {
    let parts = argument.as_array()?;
    if parts.is_empty() || parts.len() % 2 != 0 {
        return None;
    }
    parts
        .chunks(2)
        .map(|pair| {
            let operator = pair[0].as_str()?;
            let known = ["<", "<=", ">", ">=", "="].contains(&operator);
            known.then_some((operator, pair[1].as_f64()?))
        })
        .collect()
}

fn wildcard(wanted: &str, text: &str) -> bool {
    let mut parts = wanted.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(found) => rest = &rest[found + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, wanted: bool) {
        let event = serde_json::json!({
            "source": "aws.ec2", "detail-type": "EC2 Instance State-change Notification",
            "resources": ["arn:aws:ec2:us-east-1:1:instance/i-1"],
            "detail": {"instance-id": "i-1", "state": "running", "count": 3, "nothing": null}
        });
        let pattern: Value = serde_json::from_str(pattern).unwrap();
        validate(&pattern).unwrap();
        assert_eq!(matches(&pattern, &event), wanted, "{pattern}");
    }

    #[test]
    fn a_pattern_wants_what_it_says() {
        check(r#"{"source":["aws.ec2"]}"#, true);
        check(r#"{"source":["aws.ssm","aws.ec2"]}"#, true);
        check(r#"{"source":["aws.ssm"]}"#, false);
        check(r#"{"source":["aws.ec2"],"detail":{"state":["stopped"]}}"#, false);
        check(r#"{"detail":{"state":["running"],"instance-id":[{"prefix":"i-"}]}}"#, true);
        check(r#"{"detail":{"state":[{"anything-but":"running"}]}}"#, false);
        check(r#"{"detail":{"state":[{"anything-but":["pending","stopping"]}]}}"#, true);
        check(r#"{"detail":{"state":[{"anything-but":{"prefix":"run"}}]}}"#, false);
        check(r#"{"detail":{"gone":[{"exists":false}]}}"#, true);
        check(r#"{"detail":{"state":[{"exists":false}]}}"#, false);
        check(r#"{"none":{"gone":[{"exists":false}]}}"#, true);
        check(r#"{"detail":{"count":[{"numeric":[">",2,"<=",3]}]}}"#, true);
        check(r#"{"detail":{"count":[{"numeric":["=",4]}]}}"#, false);
        check(r#"{"detail":{"nothing":[null]}}"#, true);
        check(r#"{"resources":[{"suffix":"/i-1"}]}"#, true);
        check(r#"{"detail-type":[{"wildcard":"EC2*Notification"}]}"#, true);
        check(r#"{"detail-type":[{"wildcard":"EC2*notification"}]}"#, false);
        check(r#"{"source":[{"equals-ignore-case":"AWS.EC2"}]}"#, true);
        check(r#"{"$or":[{"source":["x"]},{"detail":{"state":["running"]}}]}"#, true);
    }

    #[test]
    fn a_pattern_that_says_nothing_known_is_refused() {
        for pattern in ["[]", "{}", r#"{"a":[]}"#, r#"{"a":1}"#, r#"{"a":[{"cidr":"1"}]}"#] {
            let pattern: Value = serde_json::from_str(pattern).unwrap();
            assert!(validate(&pattern).is_err(), "{pattern}");
        }
    }
}
