//! What is said about a value that cannot be taken.
//!
//! A message quotes at most [`QUOTED_CHARS_MAX`] characters of a name, escaped, because it ends in logs and attributes.

/// Enough of an offending name to find it in the sender's code, too little to leak or flood a log.
const QUOTED_CHARS_MAX: usize = 60;

/// The input as it may be shown: in quotes, escaped, and cut after [`QUOTED_CHARS_MAX`] characters.
pub(crate) fn quoted(text: &str) -> String {
    // Escaping may lengthen a character up to tenfold, so the limit holds for what is shown.
    let mut shown = String::new();
    let mut shown_chars = 0;
    for char in text.chars() {
        let escaped_chars = char.escape_debug().count();
        if shown_chars + escaped_chars > QUOTED_CHARS_MAX {
            shown.push('…');
            break;
        }
        shown_chars += escaped_chars;
        shown.extend(char.escape_debug());
    }
    format!("\"{shown}\"")
}

/// A value that its field cannot take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}; expected {expected}")]
pub struct FieldError {
    /// The field as its sender wrote it, or the name of the type where there is no field.
    pub field: String,
    /// What is wrong with the value.
    pub problem: String,
    /// What would have been taken.
    pub expected: String,
}

impl FieldError {
    pub(crate) fn new(
        field: impl Into<String>,
        problem: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self { field: field.into(), problem: problem.into(), expected: expected.into() }
    }

    /// The same error, about the field of this name.
    #[must_use]
    pub fn at(self, field: impl Into<String>) -> Self {
        Self { field: field.into(), ..self }
    }
}
