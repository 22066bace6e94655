//! Names that came over the wire and were found well-formed: holding one is the proof.
//!
//! Each is made by `parse` alone, also when deserialised, so no record or message can smuggle in a name
//! with a newline, a slash or ten kilobytes. Whether the thing named exists is not asked here.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{FieldError, quoted};

/// DNS-label length; a target's name ends in keys, tags and host names.
const TARGET_NAME_CHARS_MAX: usize = 63;
/// Longer than any UUID, SQS message id or tick id, short enough for a key.
const COMMAND_ID_BYTES_MAX: usize = 256;
/// The longest user id seen is a UUID with a prefix.
const HOLDER_CHARS_MAX: usize = 128;

macro_rules! name {
    (
        $(#[$doc:meta])* $name:ident, field: $field:literal, expected: $expected:literal,
        pattern: $pattern:literal, well_formed: $well_formed:path
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// What is taken, in words.
            pub const EXPECTED: &str = $expected;

            /// Takes `text` where it is well-formed.
            ///
            /// # Errors
            /// Where it is not; the error shows at most 60 characters of it.
            pub fn parse(text: &str) -> Result<Self, FieldError> {
                if $well_formed(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(FieldError::new($field, problem(text), Self::EXPECTED))
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // `pad`, so that tables can align names.
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = FieldError;
            fn from_str(text: &str) -> Result<Self, FieldError> {
                Self::parse(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $expected })
            }
        }
    };
}

fn problem(text: &str) -> String {
    match text.chars().count() {
        0 => "is empty".to_owned(),
        1..=60 => format!("{} is not valid", quoted(text)),
        chars => format!("{} ({chars} characters) is not valid", quoted(text)),
    }
}

name! {
    /// A target of the fleet.
    TargetName, field: "target",
    expected: "a name of 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit",
    pattern: "^[a-z0-9][a-z0-9._-]{0,62}$", well_formed: is_target_name
}

name! {
    /// What makes a command one and the same when it comes again: the sender's key or the message's id.
    CommandId, field: "id",
    expected: "1 to 256 printable ASCII characters without a space at either end",
    pattern: "^[!-~]([ -~]{0,254}[!-~])?$", well_formed: is_command_id
}

name! {
    /// Who holds a target on.
    Holder, field: "holder",
    expected: "1 to 128 characters without control characters",
    pattern: r"^[^\u0000-\u001f\u007f-\u009f]{1,128}$", well_formed: is_holder
}

name! {
    /// An EC2 instance: eight hex digits of old, 17 now, and the shortened ones that people write in examples.
    InstanceId, field: "instance_id",
    expected: "an EC2 instance id: i- and 8 to 17 hex digits in lower case",
    pattern: "^i-[0-9a-f]{8,17}$", well_formed: is_instance_id
}

impl Holder {
    /// Whoever gave no name: all of them share this one.
    #[must_use]
    pub fn shared() -> Self {
        Self("default".to_owned())
    }
}

impl CommandId {
    /// From text made here: what is not allowed becomes `_`, what is too long is cut.
    pub(crate) fn from_parts(text: &str) -> Self {
        let mut id: String =
            text.chars().map(|char| if char.is_ascii_graphic() { char } else { '_' }).collect();
        id.truncate(COMMAND_ID_BYTES_MAX);
        if id.is_empty() {
            id.push('_');
        }
        Self(id)
    }
}

fn is_target_name(text: &str) -> bool {
    text.len() <= TARGET_NAME_CHARS_MAX
        && text.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
}

fn is_command_id(text: &str) -> bool {
    (1..=COMMAND_ID_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && !text.starts_with(' ')
        && !text.ends_with(' ')
}

fn is_holder(text: &str) -> bool {
    (1..=HOLDER_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

fn is_instance_id(text: &str) -> bool {
    text.strip_prefix("i-").is_some_and(|digits| {
        (8..=17).contains(&digits.len())
            && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}
