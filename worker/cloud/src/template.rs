//! What a rule hands to its target: the event, a constant, a part of the event, or a template.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An input transformer: named parts of the event, put into a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transformer {
    /// Name to JSON path.
    #[serde(rename = "InputPathsMap", default)]
    pub paths: BTreeMap<String, String>,
    /// Text with `<name>` where a value goes.
    #[serde(rename = "InputTemplate")]
    pub template: String,
}

/// What a template can name beside its own paths.
#[derive(Debug, Clone, Copy)]
pub struct Occasion<'a> {
    /// The rule's name.
    pub rule_name: &'a str,
    /// The rule's ARN.
    pub rule_arn: &'a str,
    /// When the bus took the event.
    pub ingested: Timestamp,
}

/// The value at a path such as `$.detail.items[0].name`; `None` where nothing is there.
#[must_use]
pub fn at_path<'a>(event: &'a Value, path: &str) -> Option<&'a Value> {
    let mut value = event;
    let rest = path.strip_prefix('$')?;
    for step in rest.split('.').filter(|step| !step.is_empty()) {
        let (name, indices) = step.split_once('[').map_or((step, ""), |(name, rest)| (name, rest));
        if !name.is_empty() {
            value = value.get(name)?;
        }
        for index in indices.split('[').filter(|index| !index.is_empty()) {
            value = value.get(index.strip_suffix(']')?.parse::<usize>().ok()?)?;
        }
    }
    Some(value)
}

impl Transformer {
    /// The template with every placeholder filled. Inside quotes a text goes in bare (escaped), outside
    /// with its quotes, as EventBridge does; a path that finds nothing gives an empty text.
    #[must_use]
    pub fn render(&self, event: &Value, occasion: Occasion<'_>) -> String {
        let mut out = String::new();
        let mut quoted = false;
        let mut rest = self.template.as_str();
        while let Some(first) = rest.chars().next() {
            let placeholder = (first == '<').then(|| rest[1..].split_once('>')).flatten();
            let value = placeholder.and_then(|(name, after)| {
                self.value_of(name, event, occasion).map(|value| (value, after))
            });
            if let Some((value, after)) = value {
                out.push_str(&inserted(&value, quoted));
                rest = after;
                continue;
            }
            out.push(first);
            rest = &rest[first.len_utf8()..];
            match first {
                '"' => quoted = !quoted,
                '\\' => {
                    if let Some(escaped) = rest.chars().next() {
                        out.push(escaped);
                        rest = &rest[escaped.len_utf8()..];
                    }
                }
                _ => {}
            }
        }
        out
    }

    /// What a placeholder stands for; `None` leaves the text between `<` and `>` as it is.
    fn value_of(&self, name: &str, event: &Value, occasion: Occasion<'_>) -> Option<Value> {
        if let Some(path) = self.paths.get(name) {
            return Some(
                at_path(event, path).cloned().unwrap_or_else(|| Value::String(String::new())),
            );
        }
        match name {
            "aws.events.rule-name" => Some(occasion.rule_name.into()),
            "aws.events.rule-arn" => Some(occasion.rule_arn.into()),
            "aws.events.event.ingestion-time" => Some(occasion.ingested.to_string().into()),
            "aws.events.event" => {
                let mut event = event.clone();
                if let Some(fields) = event.as_object_mut() {
                    fields.remove("detail");
                }
                Some(event)
            }
            "aws.events.event.json" => Some(event.clone()),
            _ => None,
        }
    }
}

fn inserted(value: &Value, quoted: bool) -> String {
    if !quoted {
        return value.to_string();
    }
    let bare = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let escaped = Value::String(bare).to_string();
    escaped[1..escaped.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(template: &str, expected: &str) {
        let event = serde_json::json!({
            "time": "2026-11-20T10:00:00Z",
            "resources": ["arn:rule/idle"],
            "detail": {"state": "run\"ning", "count": 2}
        });
        let paths = [
            ("at", "$.time"),
            ("state", "$.detail.state"),
            ("count", "$.detail.count"),
            ("first", "$.resources[0]"),
            ("none", "$.detail.nothing"),
        ];
        let transformer = Transformer {
            paths: paths.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            template: template.to_owned(),
        };
        let occasion = Occasion {
            rule_name: "idle",
            rule_arn: "arn:rule/idle",
            ingested: "2026-11-20T10:00:01Z".parse().unwrap(),
        };
        assert_eq!(transformer.render(&event, occasion), expected);
    }

    #[test]
    fn placeholders_are_filled_as_eventbridge_fills_them() {
        check(r#"{"at":<at>,"n":<count>}"#, r#"{"at":"2026-11-20T10:00:00Z","n":2}"#);
        check(r#"{"at":"<at>","n":"<count>"}"#, r#"{"at":"2026-11-20T10:00:00Z","n":"2"}"#);
        check(r#""it is <state> now""#, r#""it is run\"ning now""#);
        check(
            r#"{"rule":"<aws.events.rule-name>","in":"<aws.events.event.ingestion-time>"}"#,
            r#"{"rule":"idle","in":"2026-11-20T10:00:01Z"}"#,
        );
        check(r#"{"first":<first>,"none":<none>}"#, r#"{"first":"arn:rule/idle","none":""}"#);
        check("a <unknown> stays, as does 1 < 2", "a <unknown> stays, as does 1 < 2");
    }
}
