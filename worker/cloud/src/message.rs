//! A message on its way into a queue, and what SQS refuses of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The longest delay of a message.
pub const DELAY_SECONDS_MAX: i64 = 900;

/// Why a queue operation was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// No queue of this name.
    #[error("The specified queue does not exist.")]
    DoesNotExist,
    /// A queue of this name exists with other attributes.
    #[error("A queue already exists with the same name and a different value for attribute {0}")]
    NameExists(String),
    /// The handle is not one of this queue's.
    #[error("The input receipt handle \"{0}\" is not a valid receipt handle.")]
    ReceiptHandleIsInvalid(String),
    /// The message is not in flight.
    #[error("The message referred to isn't in flight.")]
    MessageNotInflight,
    /// A parameter is out of its range.
    #[error("{0}")]
    InvalidParameterValue(String),
    /// An attribute that no queue has.
    #[error("Unknown Attribute {0}.")]
    InvalidAttributeName(String),
    /// An attribute's value is out of its range.
    #[error("Invalid value for the parameter {0}.")]
    InvalidAttributeValue(String),
    /// The body has a character that XML cannot carry.
    #[error(
        "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF"
    )]
    InvalidMessageContents,
    /// Too many messages in flight.
    #[error("Too many messages are in flight for this queue.")]
    OverLimit,
}

/// A message attribute as the wire has it; `binary` is base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageAttribute {
    /// `String`, `Number` or `Binary`, with an optional label after a dot.
    pub data_type: String,
    /// The value of a `String` or `Number`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The value of a `Binary`, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<String>,
}

/// A message to send.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    /// The body.
    pub body: String,
    /// Attributes.
    pub attributes: BTreeMap<String, MessageAttribute>,
    /// The delay, where it differs from the queue's.
    pub delay_seconds: Option<i64>,
}

/// Refuses what SQS would refuse, in SQS's words.
pub(crate) fn check_outgoing(
    outgoing: &Outgoing,
    delay_seconds: i64,
    bytes_max: usize,
) -> Result<(), QueueError> {
    let invalid = |text: String| Err(QueueError::InvalidParameterValue(text));
    if !(0..=DELAY_SECONDS_MAX).contains(&delay_seconds) {
        return invalid(format!(
            "Value {delay_seconds} for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and <= 900."
        ));
    }
    if outgoing.body.is_empty() {
        return invalid("The request must contain the parameter MessageBody.".to_owned());
    }
    if outgoing.attributes.len() > 10 {
        return invalid(format!(
            "Number of message attributes [{}] exceeds the allowed maximum [10].",
            outgoing.attributes.len()
        ));
    }
    for (name, attribute) in &outgoing.attributes {
        let kind = attribute.data_type.split('.').next().unwrap_or_default();
        let fits = match kind {
            "String" | "Number" => attribute.text.as_ref().is_some_and(|text| !text.is_empty()),
            "Binary" => attribute.binary.as_ref().is_some_and(|bytes| !bytes.is_empty()),
            _ => false,
        };
        if !fits {
            return invalid(format!(
                "The message attribute '{name}' must contain a non-empty value of its type; its type '{}' must start with String, Number or Binary.",
                attribute.data_type
            ));
        }
    }
    if size_of_message(outgoing) > bytes_max {
        return invalid(format!(
            "One or more parameters are invalid. Reason: Message must be shorter than {bytes_max} bytes."
        ));
    }
    let readable = |it: char| matches!(it, '\u{9}' | '\u{a}' | '\u{d}' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}');
    if !outgoing.body.chars().all(readable) {
        return Err(QueueError::InvalidMessageContents);
    }
    Ok(())
}

/// The bytes that count against the size limit: body, attribute names, types and values.
#[must_use]
pub fn size_of_message(outgoing: &Outgoing) -> usize {
    let attributes: usize = outgoing
        .attributes
        .iter()
        .map(|(name, it)| {
            let text = it.text.as_ref().map_or(0, String::len);
            let binary = it.binary.as_ref().map_or(0, |base64| base64.len() / 4 * 3);
            name.len() + it.data_type.len() + text + binary
        })
        .sum();
    outgoing.body.len() + attributes
}
