//! `[targets.NAME.hours]`: the recurring windows in which a target is wanted.
//!
//! A zone must be said: hours that nobody named a zone for are hours of whoever reads them.

use lamplighter_lifecycle::{Hours, HoursError};
use toml::de::DeValue;

use super::ConfigError;
use super::reader::{Item, shown};

const WEEKLY: &str = "parts such as \"Mon-Fri 08:00-18:00\", separated by commas";
const ZONE: &str = "an IANA name such as \"Europe/Berlin\"";
const EXCEPT: &str = "a list of days such as [\"2026-12-25\"]";
/// A name such as "America/Argentina/Buenos_Aires" has half of this.
const ZONE_CHARS_MAX: usize = 64;
/// Each day of a year, once.
const EXCEPT_MAX: usize = 366;

/// Reads the table.
pub(crate) fn hours(item: &Item<'_>) -> Result<Hours, ConfigError> {
    let reader = item.table(&["weekly", "zone", "except"])?;
    let weekly = reader.need("weekly", "weekly = \"Mon-Fri 08:00-18:00\"")?;
    let zone = reader.need("zone", "zone = \"Europe/Berlin\"")?;
    let parts = weekly.string(WEEKLY)?;
    let zone_name = zone.name(ZONE_CHARS_MAX, ZONE)?;
    let hours = |days: &[String]| Hours::parse(parts, zone_name, days.iter().map(String::as_str));
    // Without the days first: what is wrong then is not one of them.
    let without = hours(&[]).map_err(|error| match error {
        HoursError::Weekly { part, problem } => {
            weekly.refuse(&format!("\"{}\" {problem}", shown(&part)), WEEKLY)
        }
        HoursError::Zone(name) | HoursError::Except(name) => {
            zone.refuse(&format!("\"{}\" is not known", shown(&name)), ZONE)
        }
    })?;
    let Some(except) = reader.get("except") else { return Ok(without) };
    let items = except.list(EXCEPT)?;
    if items.len() > EXCEPT_MAX {
        let problem = format!("has {} days", items.len());
        return Err(except.refuse(&problem, &format!("at most {EXCEPT_MAX}")));
    }
    let mut days = Vec::new();
    for item in items {
        let day = match item.value {
            // A day of TOML's own, without quotes.
            DeValue::Datetime(day) => day.to_string(),
            _ => item.string("a day such as \"2026-12-25\"")?.to_owned(),
        };
        if hours(std::slice::from_ref(&day)).is_err() {
            let problem = format!("\"{}\" is not a day", shown(&day));
            return Err(item.refuse(&problem, "a day such as \"2026-12-25\""));
        }
        days.push(day);
    }
    hours(&days).map_err(|error| except.refuse_with(&format!("{error}; expected {EXCEPT}")))
}
