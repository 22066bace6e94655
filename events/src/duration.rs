//! Durations as people write them: `2h`, `90s`, `1h30m`, `500ms`, `1d`.
//!
//! Always more than zero and at most [`HumanDuration::DAYS_MAX`] days; a day is 24 hours, whatever the
//! clocks do. No fractions, no spaces, no bare numbers: a number without a unit is how "15" once meant
//! seconds to one side and minutes to the other.

use std::borrow::Cow;
use std::fmt;

use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{FieldError, quoted};

/// The units in the order in which they are written, with their milliseconds.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

const MILLIS_MAX: u64 = HumanDuration::DAYS_MAX * 86_400_000;

/// A length of time, more than zero and at most 366 days, to the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(u64);

impl HumanDuration {
    /// No hold, deadline or pause is meant to be longer than a leap year.
    pub const DAYS_MAX: u64 = 366;
    /// What is taken, in words.
    pub const EXPECTED: &str =
        "a duration above zero and up to 366 days, such as \"2h\", \"90s\", \"1h30m\" or \"500ms\"";

    /// Takes text such as `1h30m`: units in falling order, each at most once.
    ///
    /// # Errors
    /// Where it is anything else, zero, or longer than 366 days.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        Self::parse_millis(text).and_then(Self::from_millis).ok_or_else(|| {
            FieldError::new("duration", format!("{} is not valid", quoted(text)), Self::EXPECTED)
        })
    }

    /// That many milliseconds, where it is within the limits.
    #[must_use]
    pub fn from_millis(millis: u64) -> Option<Self> {
        (1..=MILLIS_MAX).contains(&millis).then_some(Self(millis))
    }

    /// That many seconds, where it is within the limits.
    #[must_use]
    pub fn from_seconds(seconds: u64) -> Option<Self> {
        seconds.checked_mul(1_000).and_then(Self::from_millis)
    }

    /// Whole seconds, rounded down.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0 / 1_000
    }

    /// Milliseconds, exactly.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// The same length for adding to a timestamp.
    #[must_use]
    pub const fn as_signed(self) -> SignedDuration {
        // At most 366 days of milliseconds: far below what fits.
        SignedDuration::from_millis(self.0 as i64)
    }

    /// The same length for the standard library.
    #[must_use]
    pub const fn std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }

    fn parse_millis(text: &str) -> Option<u64> {
        let mut rest = text;
        let mut units = UNITS.iter();
        let mut millis = 0_u64;
        while !rest.is_empty() {
            let digits = rest.find(|char: char| !char.is_ascii_digit())?;
            let amount: u64 = rest[..digits].parse().ok()?;
            rest = &rest[digits..];
            let letters = rest.find(|char: char| !char.is_ascii_lowercase()).unwrap_or(rest.len());
            // Going on from the last unit refuses repeats and rising order.
            let (_, unit_millis) = units.find(|(unit, _)| *unit == &rest[..letters])?;
            rest = &rest[letters..];
            millis = millis.checked_add(amount.checked_mul(*unit_millis)?)?;
        }
        Some(millis)
    }
}

impl From<HumanDuration> for SignedDuration {
    fn from(duration: HumanDuration) -> Self {
        duration.as_signed()
    }
}

impl fmt::Display for HumanDuration {
    /// The shortest form that parses back: `90s`, not `1m30s`; `1d`, not `24h`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every choice of units is tried, 31 of them; of equals, the one with the larger units.
        let shortest = (1_u32..1 << UNITS.len())
            .rev()
            .filter_map(|chosen| {
                let mut rest = self.0;
                let mut form = String::new();
                for (index, (unit, unit_millis)) in UNITS.iter().enumerate() {
                    let amount = rest / unit_millis;
                    if chosen >> (UNITS.len() - 1 - index) & 1 == 1 && amount > 0 {
                        form.push_str(&format!("{amount}{unit}"));
                        rest %= unit_millis;
                    }
                }
                (rest == 0).then_some(form)
            })
            .min_by_key(String::len);
        f.pad(&shortest.unwrap_or_default())
    }
}

impl std::str::FromStr for HumanDuration {
    type Err = FieldError;
    fn from_str(text: &str) -> Result<Self, FieldError> {
        Self::parse(text)
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> Cow<'static, str> {
        "HumanDuration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 2,
            "pattern": r"^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$",
            "description": Self::EXPECTED,
        })
    }
}
