//! Text that people read, within its bounds.

/// The text itself, where it is short enough.
pub(crate) fn within(text: String, chars_max: usize) -> String {
    let fits = text.chars().count() <= chars_max && !text.contains(char::is_control);
    if fits { text } else { shortened(&text, chars_max) }
}

/// Text of at most so many characters, in one line.
pub(crate) fn shortened(text: &str, chars_max: usize) -> String {
    let line = |c: char| if c.is_control() { ' ' } else { c };
    if text.chars().count() <= chars_max {
        return text.chars().map(line).collect();
    }
    let mut short: String = text.chars().map(line).take(chars_max.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shortened_by_characters_and_keeps_to_one_line() {
        assert_eq!(shortened("as it is", 8), "as it is");
        assert_eq!(shortened("one more", 7), "one mo…");
        assert_eq!(shortened("∞∞∞∞", 3), "∞∞…");
        assert_eq!(shortened("two\nlines\u{1}", 20), "two lines ");
    }
}
