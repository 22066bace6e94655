//! Reading TOML with the place of everything at hand.
//!
//! *Theory.* serde says what was wrong, but seldom where, and never what was nearest. The fleet file
//! is small and its mistakes cost money, so it is read by hand: a [`Reader`] is one table whose keys
//! are all known, an [`Item`] one value that knows its path and its place.
//!
//! *Invariant.* Whoever opens a table names every key it may have: nothing is ever silently ignored.

use lamplighter_events::nearest;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use lamplighter_events::{FieldError, HumanDuration};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;

/// Enough of a found value to recognise it.
pub(crate) const SHOWN_CHARS_MAX: usize = 60;

/// A text that is being read, and what to call it.
pub(crate) struct Source<'a> {
    /// The file's name, as the user gave it.
    pub(crate) file: String,
    /// All of it.
    pub(crate) text: &'a str,
    /// Where the files are that it names.
    pub(crate) folder: &'a Path,
}

impl Source<'_> {
    /// A refusal at a place.
    pub(crate) fn refuse(&self, at: &Range<usize>, message: impl Into<String>) -> ConfigError {
        let (line, column) = self.place(at.start);
        ConfigError::Refused { file: self.file.clone(), line, column, message: message.into() }
    }

    /// Line and column, from 1, of a byte.
    pub(crate) fn place(&self, offset: usize) -> (usize, usize) {
        let mut before = self.text.len().min(offset);
        while !self.text.is_char_boundary(before) {
            before -= 1;
        }
        let before = &self.text[..before];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        (line, column)
    }
}

/// One table of the file.
pub(crate) struct Reader<'a> {
    source: &'a Source<'a>,
    path: String,
    at: Range<usize>,
    entries: &'a DeTable<'a>,
}

/// One value of the file.
#[derive(Clone)]
pub(crate) struct Item<'a> {
    source: &'a Source<'a>,
    /// Where it hangs: `targets.pyelli.idle.after`.
    pub(crate) path: String,
    /// Its name alone.
    pub(crate) key: &'a str,
    /// Where its name stands.
    pub(crate) key_at: Range<usize>,
    /// Where it stands.
    pub(crate) at: Range<usize>,
    /// What it is.
    pub(crate) value: &'a DeValue<'a>,
}

impl<'a> Reader<'a> {
    /// The whole file, whose tables have these names.
    pub(crate) fn top(
        source: &'a Source<'a>,
        entries: &'a DeTable<'a>,
        known: &[&str],
    ) -> Result<Self, ConfigError> {
        let reader = Self { source, path: String::new(), at: 0..0, entries };
        reader.refuse_unknown(known)?;
        Ok(reader)
    }

    /// The values whose names are the user's own: targets, schedules.
    pub(crate) fn items(&self) -> impl Iterator<Item = Item<'a>> + use<'a, '_> {
        self.entries.iter().map(|(key, value)| self.item(key, value))
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<Item<'a>> {
        self.entries
            .iter()
            .find(|(name, _)| name.get_ref() == key)
            .map(|(name, value)| self.item(name, value))
    }

    /// The value of a key that must be there.
    pub(crate) fn need(&self, key: &str, expected: &str) -> Result<Item<'a>, ConfigError> {
        self.get(key).ok_or_else(|| {
            let message = format!("{}: {key} is missing; expected {expected}", self.path);
            self.source.refuse(&self.at, message)
        })
    }

    /// A string, or its default.
    pub(crate) fn string_or(&self, key: &str, default: &str) -> Result<String, ConfigError> {
        match self.get(key) {
            None => Ok(default.to_owned()),
            Some(item) => {
                let text = item.string("a name")?;
                if text.is_empty() {
                    return Err(item.refuse("is empty", "a name"));
                }
                Ok(text.to_owned())
            }
        }
    }

    /// Refuses a key that belongs elsewhere, with the reason.
    pub(crate) fn refuse_foreign(&self, foreign: &[(&str, &str)]) -> Result<(), ConfigError> {
        for (key, reason) in foreign {
            if let Some(item) = self.get(key) {
                return Err(item.refuse_key(reason));
            }
        }
        Ok(())
    }

    /// True or false, or false where it is not said.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, ConfigError> {
        match self.get(key) {
            None => Ok(false),
            Some(item) => match item.value {
                DeValue::Boolean(flag) => Ok(*flag),
                _ => Err(item.wrong_type("true or false")),
            },
        }
    }

    /// A duration, if it is said.
    pub(crate) fn duration(&self, key: &str) -> Result<Option<HumanDuration>, ConfigError> {
        self.get(key)
            .map(|item| item.parse(HumanDuration::EXPECTED, HumanDuration::parse))
            .transpose()
    }

    /// A duration in words of ours, or as the file says.
    pub(crate) fn duration_or(
        &self,
        key: &str,
        default: HumanDuration,
    ) -> Result<HumanDuration, ConfigError> {
        Ok(self.duration(key)?.unwrap_or(default))
    }

    fn item(
        &self,
        key: &'a Spanned<toml::de::DeString<'a>>,
        value: &'a Spanned<DeValue<'a>>,
    ) -> Item<'a> {
        let path = match self.path.as_str() {
            "" => key.get_ref().to_string(),
            path => format!("{path}.{}", shown(key.get_ref())),
        };
        Item {
            source: self.source,
            path,
            key: key.get_ref(),
            key_at: key.span(),
            at: value.span(),
            value: value.get_ref(),
        }
    }

    fn refuse_unknown(&self, known: &[&str]) -> Result<(), ConfigError> {
        for (key, _) in self.entries {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let whose = match self.path.as_str() {
                "" => String::new(),
                path => format!("{path}: "),
            };
            let hint = match nearest(name, known) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("expected one of {}", known.join(", ")),
            };
            let message = format!("{whose}unknown key \"{}\"; {hint}", shown(name));
            return Err(self.source.refuse(&key.span(), message));
        }
        Ok(())
    }
}

impl<'a> Item<'a> {
    /// A refusal: what is wrong with this value, and what was expected.
    pub(crate) fn refuse(&self, problem: &str, expected: &str) -> ConfigError {
        self.source.refuse(&self.at, format!("{}: {problem}; expected {expected}", self.path))
    }

    /// A refusal in other words.
    pub(crate) fn refuse_with(&self, message: &str) -> ConfigError {
        self.source.refuse(&self.at, format!("{}: {message}", self.path))
    }

    /// A refusal of the name, not the value.
    pub(crate) fn refuse_key(&self, message: &str) -> ConfigError {
        self.source.refuse(&self.key_at, format!("{}: {message}", self.path))
    }

    /// A refusal of the value's type.
    pub(crate) fn wrong_type(&self, expected: &str) -> ConfigError {
        self.refuse(&format!("found {}", described(self.value)), expected)
    }

    /// The line of a byte of the file that it stands in.
    pub(crate) fn line_of(&self, offset: usize) -> usize {
        self.source.place(offset).0
    }

    /// A file that the fleet file names, from its own folder on.
    pub(crate) fn beside(&self, path: &str) -> PathBuf {
        self.source.folder.join(path)
    }

    /// A string.
    pub(crate) fn string(&self, expected: &str) -> Result<&'a str, ConfigError> {
        self.value.as_str().ok_or_else(|| self.wrong_type(expected))
    }

    /// A string that is taken by the parser of one of our types.
    pub(crate) fn parse<T>(
        &self,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, FieldError>,
    ) -> Result<T, ConfigError> {
        parse(self.string(expected)?).map_err(|error| self.refuse(&error.problem, &error.expected))
    }

    /// A table with these keys.
    pub(crate) fn table(&self, known: &[&str]) -> Result<Reader<'a>, ConfigError> {
        let reader = self.open_table()?;
        reader.refuse_unknown(known)?;
        Ok(reader)
    }

    /// A table whose keys are the user's own.
    pub(crate) fn open_table(&self) -> Result<Reader<'a>, ConfigError> {
        let entries = self.value.as_table().ok_or_else(|| self.wrong_type("a table"))?;
        // A table's own place may be its header's, or nothing's where it is implied: its name's is best.
        Ok(Reader {
            source: self.source,
            path: self.path.clone(),
            at: self.key_at.clone(),
            entries,
        })
    }

    /// The values of a list, each with its own place.
    pub(crate) fn list(&self, expected: &str) -> Result<Vec<Item<'a>>, ConfigError> {
        let DeValue::Array(items) = self.value else { return Err(self.wrong_type(expected)) };
        let each = items.iter().enumerate().map(|(index, value)| Item {
            source: self.source,
            path: format!("{}[{index}]", self.path),
            key: self.key,
            // A table in a list has no name of its own: it is found where it stands.
            key_at: value.span(),
            at: value.span(),
            value: value.get_ref(),
        });
        Ok(each.collect())
    }

    /// Text that names something elsewhere: neither empty, nor too long, nor with what cannot be shown.
    pub(crate) fn name(&self, chars_max: usize, expected: &str) -> Result<&'a str, ConfigError> {
        let text = self.string(expected)?;
        let fits = (1..=chars_max).contains(&text.chars().count());
        if fits && !text.chars().any(char::is_control) {
            return Ok(text);
        }
        Err(self.refuse(&format!("\"{}\" is not valid", shown(text)), expected))
    }

    /// A whole number in a range.
    pub(crate) fn whole(&self, range: RangeInclusive<i64>) -> Result<i64, ConfigError> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let DeValue::Integer(_) = self.value else { return Err(self.wrong_type(&expected)) };
        let count = self.json()?.as_i64().unwrap_or(0);
        match range.contains(&count) {
            true => Ok(count),
            false => Err(self.refuse(&format!("{count} is not valid"), &expected)),
        }
    }

    /// One word of a few.
    pub(crate) fn choice<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, ConfigError> {
        let quoted: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let expected = quoted.join(" or ");
        let text = self.string(&expected)?;
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => Ok(*meaning),
            None => Err(self.refuse(&format!("\"{}\" is not valid", shown(text)), &expected)),
        }
    }

    /// The value as JSON, for what is parsed by a type of another crate.
    pub(crate) fn json(&self) -> Result<serde_json::Value, ConfigError> {
        json(self.value).map_err(|problem| self.refuse(&problem, "a value that JSON can hold"))
    }
}

fn json(value: &DeValue<'_>) -> Result<serde_json::Value, String> {
    use serde_json::Value;
    Ok(match value {
        DeValue::String(text) => Value::from(text.to_string()),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            i64::from_str_radix(&digits, number.radix())
                .map(Value::from)
                .map_err(|_| format!("the integer {} is too large", shown(number.as_str())))?
        }
        DeValue::Float(number) => {
            let float: f64 = number
                .as_str()
                .replace('_', "")
                .parse()
                .map_err(|_| format!("{} is not a number", shown(number.as_str())))?;
            serde_json::Number::from_f64(float)
                .map(Value::Number)
                .ok_or_else(|| format!("{} is not a finite number", shown(number.as_str())))?
        }
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(at) => Value::from(at.to_string()),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| json(item.get_ref())).collect::<Result<_, _>>()?)
        }
        DeValue::Table(entries) => Value::Object(
            entries
                .iter()
                .map(|(key, value)| Ok((key.get_ref().to_string(), json(value.get_ref())?)))
                .collect::<Result<_, String>>()?,
        ),
    })
}

/// A value as an error names it.
fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string \"{}\"", shown(text)),
        DeValue::Integer(number) => format!("the number {}", shown(number.as_str())),
        DeValue::Float(number) => format!("the number {}", shown(number.as_str())),
        DeValue::Boolean(flag) => format!("{flag}"),
        DeValue::Datetime(at) => format!("the time {at}"),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// Text of the user's as it may be shown: escaped and cut.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String =
        text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().count() > SHOWN_CHARS_MAX {
        shown.push('…');
    }
    shown
}

/// The names of which one was expected; a fleet may have thousands, and a few show where to look.
pub(crate) fn one_of(names: &[&str]) -> String {
    const NAMED_MAX: usize = 8;
    match names.split_at_checked(NAMED_MAX) {
        Some((first, [_, ..])) => format!("one of {}, …", first.join(", ")),
        _ if names.is_empty() => "a target of this file, which has none".to_owned(),
        _ => format!("one of {}", names.join(", ")),
    }
}
