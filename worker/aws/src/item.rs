//! Records as DynamoDB items, and back.
//!
//! *Theory.* A record is one JSON document in the attribute `doc`; beside it stand only the attributes
//! that conditions and indexes read. An item is in a sparse index exactly when it has the index's key.
//!
//! Every item has a `format` (see `STORED_FORMAT`). One of a newer release is not read here, and nothing is written over
//! it: the record's `rev` guards the record and the commands that it took, a condition of its own each other item.
//!
//! | item | `pk` | `sk` | beside `doc` |
//! | --- | --- | --- | --- |
//! | target | `TARGET#<name>` | `RECORD` | `rev`, `nonce`, `phase`, `kind`, `expires_at` (TTL, of a launched machine that is gone), `resource`, `watch` (JSON, where a tick has something to look at), `due_shard` + `wake_at`, `up_shard` + `up_since` |
//! | command | `COMMAND#<id>` | `COMMAND` | `fingerprint`, `outcome`, `expires_at` (TTL) |
//! | template | `TEMPLATE#<name>` | `SEATS` | `seats`: the targets whose machines count for its limit (no `doc`) |
//! | machine or service | `RESOURCE#<resource>` | `RESOURCE` | `owner` (no `doc`) |

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use lamplighter_events::{Cause, CommandId, Outcome, TargetName};
use lamplighter_lifecycle::{
    COMMAND_LIFE_SECONDS, CommandRecord, IdleWatch, Kind, Phase, Resource, STORED_FORMAT,
    TargetRecord,
};
use lamplighter_runtime::ports::{Applied, CallError, Disposition, SHARDS, Stored, UpTarget};

use crate::disposition::own_error;

/// The SDK's shape of an item.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// Index of what is due.
pub(crate) const DUE: &str = "due";
/// Index of what is up.
pub(crate) const UP: &str = "what-is-up";

const TARGET: &str = "TARGET#";
const COMMAND: &str = "COMMAND#";
const RESOURCE: &str = "RESOURCE#";
const TEMPLATE: &str = "TEMPLATE#";

/// Why an item cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ItemError {
    /// An attribute is missing or of another type.
    #[error("the item {key} has no usable {attribute:?}")]
    Attribute {
        /// Its `pk`.
        key: String,
        /// Which attribute.
        attribute: &'static str,
    },
    /// A newer release wrote it.
    #[error(
        "the item {key} has format {format}, of a newer release; this one reads formats up to {STORED_FORMAT}, and \
         changes nothing of it"
    )]
    Newer {
        /// Its `pk`.
        key: String,
        /// Its format.
        format: u64,
    },
    /// Its document is none of ours.
    #[error("the document of the item {key} cannot be read (line {line}, column {column})")]
    Document {
        /// Its `pk`.
        key: String,
        /// Where in the document.
        line: usize,
        /// Where in the line.
        column: usize,
    },
}

impl ItemError {
    /// As whoever made the call hears it.
    pub(crate) fn into_call_error(self, operation: &'static str) -> CallError {
        let (cause, disposition) = match &self {
            Self::Newer { .. } => (Cause::Conflict, Disposition::Newer),
            Self::Attribute { .. } | Self::Document { .. } => (Cause::Invalid, Disposition::Fail),
        };
        own_error(operation, cause, disposition, Applied::No, self.to_string())
    }
}

/// A string attribute.
pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// A number attribute.
pub(crate) fn number(value: impl Into<i128>) -> AttributeValue {
    AttributeValue::N(value.into().to_string())
}

/// The condition under which an item that is not guarded by a record's `rev` may be written over.
pub(crate) const FORMAT_IS_OURS: &str = "attribute_not_exists(#format) OR #format <= :format";
/// `format` is a word that DynamoDB keeps for itself.
pub(crate) const FORMAT_NAME: (&str, &str) = ("#format", "format");

/// Puts this release's format into an item.
pub(crate) fn put_format(item: &mut Item) {
    item.insert(FORMAT_NAME.1.to_owned(), number(STORED_FORMAT));
}

/// An error where a newer release wrote the item. What has no format is older than formats are.
pub(crate) fn check_format(item: &Item) -> Result<(), ItemError> {
    let Some(attribute) = item.get(FORMAT_NAME.1) else { return Ok(()) };
    let key = string(item, "pk").unwrap_or("?").to_owned();
    let format = attribute.as_n().ok().and_then(|number| number.parse::<u64>().ok());
    match format {
        Some(format) if format <= u64::from(STORED_FORMAT) => Ok(()),
        Some(format) => Err(ItemError::Newer { key, format }),
        None => Err(ItemError::Attribute { key, attribute: FORMAT_NAME.1 }),
    }
}

fn key(pk: String, sk: &str) -> Item {
    HashMap::from([("pk".to_owned(), text(pk)), ("sk".to_owned(), text(sk))])
}

/// The key of a target.
pub(crate) fn target_key(target: &TargetName) -> Item {
    key(format!("{TARGET}{target}"), "RECORD")
}

/// What the `pk` of every target begins with that was made from this template.
pub(crate) fn made_prefix(template: &TargetName) -> String {
    format!("{TARGET}{template}.")
}

/// The key of a command.
pub(crate) fn command_key(id: &CommandId) -> Item {
    key(format!("{COMMAND}{id}"), "COMMAND")
}

/// The key of a machine or service.
pub(crate) fn resource_key(resource: &Resource) -> Item {
    key(format!("{RESOURCE}{resource}"), "RESOURCE")
}

/// The key of a template's places.
pub(crate) fn template_key(template: &TargetName) -> Item {
    key(format!("{TEMPLATE}{template}"), "SEATS")
}

/// The shard of a target: FNV-1a, since it must be the same in every version for ever.
pub(crate) fn shard(target: &TargetName) -> u32 {
    let hash = target
        .as_str()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash % SHARDS
}

/// A target's item.
pub(crate) fn target_item(record: &TargetRecord, nonce: &str) -> Result<Item, serde_json::Error> {
    let mut item = target_key(&record.target);
    put_format(&mut item);
    let mut put = |name: &str, value| item.insert(name.to_owned(), value);
    put("rev", number(record.rev));
    put("nonce", text(nonce));
    put("doc", text(serde_json::to_string(record)?));
    put("phase", text(record.phase.as_str()));
    put("resource", text(record.resource.to_string()));
    put("kind", text(record.kind.as_str()));
    if let Some(at) = record.provision.retire_at {
        put("expires_at", number(at.as_second()));
    }
    if let Some(watch) = IdleWatch::of(record) {
        put("watch", text(serde_json::to_string(&watch)?));
    }
    if let Some(wake_at) = record.wake_at {
        put("due_shard", text(shard(&record.target).to_string()));
        put("wake_at", number(wake_at.as_millisecond()));
    }
    if record.is_up() {
        put("up_shard", text(shard(&record.target).to_string()));
        put("up_since", number(record.since.as_millisecond()));
    }
    Ok(item)
}

/// A command's item. Its outcome stands beside the document: it is set later, once.
pub(crate) fn command_item(record: &CommandRecord) -> Result<Item, serde_json::Error> {
    let mut item = command_key(&record.id);
    put_format(&mut item);
    let mut bare = record.clone();
    if let Some(outcome) = bare.outcome.take() {
        item.insert("outcome".to_owned(), text(serde_json::to_string(&outcome)?));
    }
    item.insert("fingerprint".to_owned(), text(&record.fingerprint));
    item.insert("doc".to_owned(), text(serde_json::to_string(&bare)?));
    item.insert(
        "expires_at".to_owned(),
        number(record.accepted_at.as_second() + COMMAND_LIFE_SECONDS),
    );
    Ok(item)
}

/// A string attribute of an item.
pub(crate) fn string<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

fn document<T: serde::de::DeserializeOwned>(
    item: &Item,
    attribute: &'static str,
) -> Result<T, ItemError> {
    let key = string(item, "pk").unwrap_or("?").to_owned();
    let Some(text) = string(item, attribute) else {
        return Err(ItemError::Attribute { key, attribute });
    };
    // serde's own words could quote the document.
    serde_json::from_str(text).map_err(|error| ItemError::Document {
        key,
        line: error.line(),
        column: error.column(),
    })
}

/// A target's record.
pub(crate) fn read_target(item: &Item) -> Result<TargetRecord, ItemError> {
    check_format(item)?;
    document(item, "doc")
}

/// A target's record, or what stands beside a document that cannot be read.
pub(crate) fn read_stored(item: &Item, operation: &'static str) -> Result<Stored, CallError> {
    let error = match read_target(item) {
        Ok(record) => return Ok(Stored::Record(Box::new(record))),
        Err(error) => error,
    };
    let unreadable = error.into_call_error(operation);
    let Ok(target) = read_name(item) else { return Err(unreadable) };
    let resource = string(item, "resource").and_then(|text| Resource::parse(text).ok());
    let (Some(resource), Some(kind)) = (resource, string(item, "kind")) else {
        return Err(unreadable);
    };
    // A phase of a newer release has no word here; that it is up is in the index.
    let up_since = item.get("up_since").and_then(|value| value.as_n().ok()?.parse::<i64>().ok());
    let since = up_since.and_then(|millis| Timestamp::from_millisecond(millis).ok());
    let otherwise = if up_since.is_some() { Phase::On } else { Phase::Off };
    let phase = string(item, "phase").and_then(read_phase).unwrap_or(otherwise);
    let since = since.unwrap_or(Timestamp::UNIX_EPOCH);
    let why = format!("its record cannot be read: {}", unreadable.message);
    let kind = Kind::parse(kind).unwrap_or_else(|| Kind::suggested_by(&resource));
    let mut outline = TargetRecord::outline(target, kind, resource, phase, since, why);
    let rev = item.get("rev").and_then(|value| value.as_n().ok()?.parse().ok());
    outline.rev = rev.unwrap_or_default();
    Ok(Stored::Unreadable { outline: Box::new(outline), error: unreadable })
}

/// A command's record.
pub(crate) fn read_command(item: &Item) -> Result<CommandRecord, ItemError> {
    check_format(item)?;
    let outcome = match item.contains_key("outcome") {
        true => Some(document::<Outcome>(item, "outcome")?),
        false => None,
    };
    // An outcome can outlive its command where somebody deleted the item: it still counts.
    if let (false, Some(outcome)) = (item.contains_key("doc"), &outcome) {
        return Ok(CommandRecord {
            id: outcome.command.clone(),
            fingerprint: string(item, "fingerprint").unwrap_or_default().to_owned(),
            target: outcome.target.clone(),
            action: outcome.action,
            sent_at: outcome.at,
            accepted_at: outcome.at,
            outcome: Some(outcome.clone()),
            parked_as: None,
        });
    }
    let mut record: CommandRecord = document(item, "doc")?;
    record.outcome = outcome;
    Ok(record)
}

/// The owner of a machine or service.
pub(crate) fn read_owner(item: &Item) -> Result<TargetName, ItemError> {
    check_format(item)?;
    string(item, "owner").and_then(|name| TargetName::parse(name).ok()).ok_or_else(|| {
        let key = string(item, "pk").unwrap_or("?").to_owned();
        ItemError::Attribute { key, attribute: "owner" }
    })
}

/// The target of an index line.
pub(crate) fn read_name(item: &Item) -> Result<TargetName, ItemError> {
    let key = string(item, "pk").unwrap_or("?");
    key.strip_prefix(TARGET)
        .and_then(|name| TargetName::parse(name).ok())
        .ok_or_else(|| ItemError::Attribute { key: key.to_owned(), attribute: "pk" })
}

/// A line of the index of what is up.
pub(crate) fn read_up(item: &Item) -> Result<UpTarget, ItemError> {
    let target = read_name(item)?;
    let wrong = |attribute| ItemError::Attribute { key: format!("{TARGET}{target}"), attribute };
    let resource = string(item, "resource").and_then(|text| Resource::parse(text).ok());
    let phase = string(item, "phase").and_then(read_phase);
    // A newer release's workers ask its probes.
    let ours = check_format(item).is_ok();
    let watch = match item.contains_key("watch") && ours {
        true => Some(document(item, "watch")?),
        false => None,
    };
    Ok(UpTarget {
        resource: resource.ok_or_else(|| wrong("resource"))?,
        phase: phase.ok_or_else(|| wrong("phase"))?,
        watch,
        target,
    })
}

fn read_phase(word: &str) -> Option<Phase> {
    [Phase::Off, Phase::Starting, Phase::On, Phase::Stopping, Phase::Failed]
        .into_iter()
        .find(|phase| phase.as_str() == word)
}

#[cfg(test)]
mod fixtures;

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use lamplighter_events::Verdict;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn record() -> TargetRecord {
        TargetRecord::first_contact(
            TargetName::parse("position-keeper").unwrap(),
            Kind::Instance,
            Resource::parse("i-01f5d046c86e4f36e").unwrap(),
            at(1_795_000_000),
        )
    }

    fn command(outcome: Option<Outcome>) -> CommandRecord {
        CommandRecord {
            id: CommandId::parse("c-1").unwrap(),
            fingerprint: "abc".to_owned(),
            target: Some(TargetName::parse("position-keeper").unwrap()),
            action: None,
            sent_at: at(100),
            accepted_at: at(200),
            outcome,
            parked_as: None,
        }
    }

    fn outcome() -> Outcome {
        Outcome {
            command: CommandId::parse("c-1").unwrap(),
            target: None,
            action: None,
            outcome: Verdict::Done,
            cause: None,
            message: "it is on".to_owned(),
            answer: serde_json::Map::new(),
            at: at(300),
            took_ms: 7,
        }
    }

    #[test]
    fn a_target_goes_into_its_item_and_comes_back() {
        let item = target_item(&record(), "n-1").unwrap();
        assert_eq!(read_target(&item).unwrap(), record());
        assert_eq!(read_name(&item).unwrap(), record().target);
        assert_eq!(string(&item, "nonce"), Some("n-1"));
    }

    #[test]
    fn a_target_is_in_an_index_only_while_it_belongs_there() {
        let item = target_item(&record(), "n").unwrap();
        assert!(!item.contains_key("due_shard") && !item.contains_key("up_shard"));
        let mut up = record();
        up.phase = Phase::On;
        up.wake_at = Some(at(1_795_000_300));
        let item = target_item(&up, "n").unwrap();
        assert_eq!(item["wake_at"], number(1_795_000_300_000_i64));
        assert_eq!(item["up_since"], number(1_795_000_000_000_i64));
        let line = read_up(&item).unwrap();
        assert_eq!((line.target, line.phase), (up.target, Phase::On));
    }

    #[test]
    fn a_command_goes_into_its_item_and_comes_back_with_its_outcome() {
        for outcome in [None, Some(outcome())] {
            let item = command_item(&command(outcome.clone())).unwrap();
            assert_eq!(read_command(&item).unwrap(), command(outcome));
            assert_eq!(item["expires_at"], number(200 + COMMAND_LIFE_SECONDS));
        }
    }

    #[test]
    fn an_outcome_without_its_command_is_still_read() {
        let mut item = command_key(&CommandId::parse("c-1").unwrap());
        item.insert("outcome".to_owned(), text(serde_json::to_string(&outcome()).unwrap()));
        assert_eq!(read_command(&item).unwrap().outcome, Some(outcome()));
    }

    #[test]
    fn an_item_that_is_not_ours_says_which_and_where() {
        let mut item = target_key(&record().target);
        let missing = read_target(&item).unwrap_err().to_string();
        assert_eq!(missing, "the item TARGET#position-keeper has no usable \"doc\"");
        item.insert("doc".to_owned(), text("{\"secret\": "));
        let broken = read_target(&item).unwrap_err().to_string();
        assert!(
            broken.contains("TARGET#position-keeper") && !broken.contains("secret"),
            "{broken}"
        );
    }

    #[test]
    fn the_shard_of_a_name_never_changes() {
        let shards: Vec<u32> = ["position-keeper", "pyelli", "a", "b", "fluidity"]
            .iter()
            .map(|name| shard(&TargetName::parse(name).unwrap()))
            .collect();
        assert_eq!(shards, [1, 0, 0, 1, 1]);
    }
}
