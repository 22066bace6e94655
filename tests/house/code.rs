//! Tells code from what merely speaks of it.
//!
//! [`blanked`] keeps every line where it was and turns comments and literals into spaces, so that a
//! module may explain why it uses no `HashMap`. Knows nested block comments, raw strings, and a lifetime
//! from a character. Not a parser: a macro's input is code like any other.

/// The text with comments and the contents of string and character literals blanked.
pub(crate) fn blanked(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_or_comment_end(&chars, at);
        if end > at {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            out.push(chars[at]);
            at += 1;
        }
    }
    out
}

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The end of what begins at `at`, or `at` itself if that is code.
fn literal_or_comment_end(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1).copied();
    match (chars[at], next) {
        ('/', Some('/')) => until_line_end(chars, at),
        ('/', Some('*')) => block_comment_end(chars, at),
        ('"', _) => string_end(chars, at),
        ('r', Some('"' | '#')) if !in_a_word(chars, at) => raw_string_end(chars, at),
        ('\'', Some('\\')) => {
            let closing = chars[at + 3..].iter().position(|c| *c == '\'');
            closing.map_or(chars.len(), |offset| at + 3 + offset + 1)
        }
        ('\'', Some(_)) if chars.get(at + 2) == Some(&'\'') => at + 3,
        _ => at,
    }
}

/// Whether the `r` at `at` ends or continues a word; `br"…"` and `cr"…"` are raw strings all the same.
fn in_a_word(chars: &[char], at: usize) -> bool {
    let Some(before) = at.checked_sub(1) else { return false };
    if matches!(chars[before], 'b' | 'c') {
        return before.checked_sub(1).is_some_and(|earlier| is_word(chars[earlier]));
    }
    is_word(chars[before])
}

fn until_line_end(chars: &[char], at: usize) -> usize {
    chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |offset| at + offset)
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut here = at;
    while here < chars.len() {
        match (chars[here], chars.get(here + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                here += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                here += 2;
                if depth == 0 {
                    return here;
                }
            }
            _ => here += 1,
        }
    }
    chars.len()
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut here = at + 1;
    while here < chars.len() {
        match chars[here] {
            '\\' => here += 2,
            '"' => return here + 1,
            _ => here += 1,
        }
    }
    chars.len()
}

/// `r#name` is code; only a quote after the hashes makes it a string.
fn raw_string_end(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let quote = at + 1 + hashes;
    if chars.get(quote) != Some(&'"') {
        return at;
    }
    let mut here = quote + 1;
    while here < chars.len() {
        let closed = chars[here] == '"'
            && chars[here + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
        if closed {
            return here + 1 + hashes;
        }
        here += 1;
    }
    chars.len()
}
