//! What a parameter's value looks like: regular expressions of the `regex` crate, about the whole value.
//!
//! *Theory.* A value becomes a variable of a script that runs as root on a fresh host. It is no shell text on the
//! way there, but the script is somebody's, and may be careless with a quote or a line break. So a pattern that
//! takes one by the way (as `.`, `\S` and `[^/]` do) is refused; one that names it means it.

use lamplighter_lifecycle::Pattern;
use regex_syntax::hir::{Class, Hir, HirKind};

use super::ConfigError;
use super::reader::{Item, shown};

/// A pattern of a person's is a line; this bounds what a refusal may have to show.
const PATTERN_CHARS_MAX: usize = 150;
pub(crate) const PATTERN: &str = "a regular expression such as \"[A-Za-z0-9_-]{1,128}\"";

/// Characters that break a careless script, and how a pattern says that it means them.
const BREAKING: [(char, &str, &str); 5] = [
    ('\n', "a line break", "\\n"),
    ('\r', "a carriage return", "\\r"),
    ('"', "a double quote", "\""),
    ('\'', "a quote", "'"),
    ('`', "a backquote", "`"),
];

/// Reads a pattern.
pub(crate) fn pattern(item: &Item<'_>) -> Result<Pattern, ConfigError> {
    let text = item.string(PATTERN)?;
    let chars = text.chars().count();
    if !(1..=PATTERN_CHARS_MAX).contains(&chars) || text.chars().any(char::is_control) {
        let problem = format!("\"{}\" is not valid", shown(text));
        let expected = format!("{PATTERN}, of 1 to {PATTERN_CHARS_MAX} characters");
        return Err(item.refuse(&problem, &expected));
    }
    let hir = regex_syntax::parse(text).map_err(|error| {
        let (at, what) = match &error {
            regex_syntax::Error::Parse(error) => {
                (error.span().start.offset, error.kind().to_string())
            }
            regex_syntax::Error::Translate(error) => {
                (error.span().start.offset, error.kind().to_string())
            }
            _ => (0, "it cannot be read".to_owned()),
        };
        let character = text.get(..at).map_or(0, |before| before.chars().count()) + 1;
        let problem = format!("\"{}\", character {character}: {}", shown(text), shown(&what));
        item.refuse(&problem, PATTERN)
    })?;
    // What is sound by itself may still be too large, or comment away what stands around it.
    let pattern = Pattern::parse(text).map_err(|_| {
        let problem = format!("\"{}\" is too large, or cannot be matched whole", shown(text));
        item.refuse(&problem, PATTERN)
    })?;
    if pattern.fits("") {
        let problem = format!("\"{}\" takes an empty value", shown(text));
        return Err(
            item.refuse(&problem, &format!("{PATTERN}; what may be left out is not required"))
        );
    }
    let by_the_way =
        BREAKING.into_iter().filter(|(char, _, said)| takes(&hir, *char) && !text.contains(said));
    let by_the_way: Vec<&str> = by_the_way.map(|(_, name, _)| name).collect();
    if by_the_way.is_empty() {
        return Ok(pattern);
    }
    let problem = format!("\"{}\" takes {} by the way", shown(text), by_the_way.join(", "));
    Err(item.refuse(
        &problem,
        "the characters that a value may have, such as \"[A-Za-z0-9_-]{1,128}\"; one that is meant stands \
         in the pattern itself",
    ))
}

/// The pattern of one value alone.
pub(crate) fn exactly(value: &str) -> Pattern {
    Pattern::parse(&regex_syntax::escape(value)).expect("text that is escaped is a pattern")
}

/// Whether a pattern takes values with any of what a shell reads: SSM writes them into a document's own script.
pub(crate) fn is_shell_text(pattern: &Pattern) -> bool {
    let hir = regex_syntax::parse(pattern.as_str());
    hir.is_ok_and(|hir| "\n\"'`$\\;&|<>()".chars().any(|char| takes(&hir, char)))
}

/// Whether a value may have this character, as far as the pattern's parts tell.
fn takes(hir: &Hir, char: char) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => false,
        HirKind::Literal(literal) => {
            std::str::from_utf8(&literal.0).is_ok_and(|text| text.contains(char))
        }
        HirKind::Class(Class::Unicode(class)) => {
            class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&char))
        }
        HirKind::Class(Class::Bytes(class)) => {
            let byte = u8::try_from(char).unwrap_or(u8::MAX);
            class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&byte))
        }
        HirKind::Repetition(repeated) => repeated.max != Some(0) && takes(&repeated.sub, char),
        HirKind::Capture(group) => takes(&group.sub, char),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().any(|part| takes(part, char))
        }
    }
}
