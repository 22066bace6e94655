//! Values that several tables of the fleet file have.

use std::collections::BTreeMap;

use lamplighter_events::{HumanDuration, TargetName};
use lamplighter_lifecycle::{AddressError, HealthUrl, Place, UnitName};

use super::ConfigError;
use super::reader::{Item, shown};

pub(crate) fn seconds(seconds: u64) -> HumanDuration {
    HumanDuration::from_seconds(seconds).expect("a constant between a second and a year")
}

/// Who has a resource already: the target, and the byte where it says so. The line is counted only for
/// whoever is told of it: counting it for each target would take long for a file of thousands.
pub(crate) type Taken = BTreeMap<String, (TargetName, usize)>;

/// A duration, or `None` where the word stands instead of it.
pub(crate) fn duration_or_word(
    item: &Item<'_>,
    word: &str,
) -> Result<Option<HumanDuration>, ConfigError> {
    if item.value.as_str() == Some(word) {
        return Ok(None);
    }
    let expected = format!("\"{word}\", or {}", HumanDuration::EXPECTED);
    let duration = item.parse(&expected, |text| {
        HumanDuration::parse(text)
            .map_err(|error| lamplighter_events::FieldError { expected: expected.clone(), ..error })
    })?;
    Ok(Some(duration))
}

pub(crate) fn unit(item: &Item<'_>) -> Result<UnitName, ConfigError> {
    let expected = "a systemd unit's name: letters, digits and :_.@- only, at most 128";
    let text = item.string(expected)?;
    UnitName::parse(text)
        .map_err(|_| item.refuse(&format!("\"{}\" is not valid", shown(text)), expected))
}

/// An address of the target's; a service's tasks have none that would last.
pub(crate) fn health(item: &Item<'_>, place: &Place) -> Result<HealthUrl, ConfigError> {
    let expected = match place {
        Place::Instance(_) | Place::Template(_) => {
            "an address with http:// or https://, in which {private_ip}, {public_ip} and ${secret:NAME} are the \
             only placeholders"
        }
        Place::Service(_) => {
            "an address with http:// or https://, that of its load balancer or of its name in DNS"
        }
    };
    let text = item.string(expected)?;
    let url = HealthUrl::parse(text).map_err(|error| match error {
        AddressError::Malformed => {
            item.refuse(&format!("\"{}\" is not valid", shown(text)), expected)
        }
        error => item.refuse_with(&format!("\"{}\": {error}", shown(text))),
    })?;
    if matches!(place, Place::Service(_)) && url.names_machine() {
        let problem = "an ECS service has no address of its own to fill in, since each of its tasks has another";
        return Err(item.refuse(problem, expected));
    }
    Ok(url)
}
