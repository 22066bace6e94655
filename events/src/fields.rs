//! The fields of a command: their names, their spellings, and what each can take.
//!
//! One table ([`Field::names`]) feeds the parser, the errors that list what was expected, and the schema,
//! so they cannot disagree. Each name is taken in kebab, snake, camel, Pascal and screaming snake case:
//! the seeds' clients use four of the five.

use crate::nearest::nearest;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::error::{FieldError, quoted};
use crate::json::kind_of;
use crate::malformed::{Malformed, MalformedKind};
use crate::{
    Action, Command, CommandId, Holder, HumanDuration, InstanceId, TargetName, TargetRef,
    Thresholds,
};

/// A sentence or two; the reason is shown in tables and kept in the history.
pub(crate) const REASON_CHARS_MAX: usize = 512;
/// ECS allows names of 255 characters; an ARN with both names is longer than that.
pub(crate) const ECS_NAME_CHARS_MAX: usize = 512;
/// 366 days, as for every duration.
pub(crate) const MINUTES_MAX: u64 = HumanDuration::DAYS_MAX * 24 * 60;

/// A bootstrap takes a handful.
const PARAMETERS_MAX: usize = 32;
/// They stand in the record, and travel with the bootstrap: SSM takes 64 KiB in all.
const PARAMETER_BYTES_MAX: usize = 4096;
/// All of them together: they stand in the target's record and in each answer.
const PARAMETERS_BYTES_MAX: usize = 8192;

const TIMESTAMP_EXPECTED: &str =
    "a time with its zone or offset, such as \"2026-12-01T18:00:00Z\", or epoch seconds";

/// Every spelling of every field; made once, since a body may hold a hundred thousand names.
static SPELLINGS: LazyLock<BTreeMap<String, Field>> = LazyLock::new(|| {
    Field::ALL
        .into_iter()
        .flat_map(|field| field.spellings().into_iter().map(move |spelling| (spelling, field)))
        .collect()
});

/// A field of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Field {
    Action,
    Target,
    Instance,
    Cluster,
    Service,
    Id,
    Holder,
    For,
    Until,
    Reason,
    Expires,
    IdleThreshold,
    LookbackPeriod,
    Template,
}

impl Field {
    pub(crate) const ALL: [Self; 14] = [
        Self::Action,
        Self::Target,
        Self::Instance,
        Self::Cluster,
        Self::Service,
        Self::Id,
        Self::Holder,
        Self::For,
        Self::Until,
        Self::Reason,
        Self::Expires,
        Self::IdleThreshold,
        Self::LookbackPeriod,
        Self::Template,
    ];

    /// Its names in snake case, the canonical one first.
    pub(crate) const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Action => &["action"],
            Self::Target => &["target"],
            Self::Instance => &["instance_id"],
            Self::Cluster => &["cluster", "cluster_name"],
            Self::Service => &["service", "service_name"],
            Self::Id => &["id"],
            Self::Holder => &["holder"],
            Self::For => &["for"],
            Self::Until => &["until"],
            Self::Reason => &["reason"],
            Self::Expires => &["expires"],
            Self::IdleThreshold => &["idle_threshold_mins", "idle_threshold_minutes"],
            Self::LookbackPeriod => &["lookback_period_mins", "lookback_period_minutes"],
            Self::Template => &["template"],
        }
    }

    /// Every way in which it may be written, the canonical one first, each once.
    pub(crate) fn spellings(self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for name in self.names() {
            for spelling in [
                (*name).to_owned(),
                name.replace('_', "-"),
                camel(name),
                capitalised(&camel(name)),
                name.to_ascii_uppercase(),
            ] {
                if !all.contains(&spelling) {
                    all.push(spelling);
                }
            }
        }
        all
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        SPELLINGS.get(text).copied()
    }
}

fn camel(snake: &str) -> String {
    let mut words = snake.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |camel, word| camel + &capitalised(word))
}

fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + chars.as_str())
}

/// What a payload said, before the action and the rest are filled in from around it.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) action: Option<Action>,
    pub(crate) target: Option<TargetRef>,
    pub(crate) id: Option<CommandId>,
    pub(crate) holder: Option<Holder>,
    hold_for: Option<HumanDuration>,
    until: Option<Timestamp>,
    reason: Option<String>,
    expires: Option<Timestamp>,
    thresholds: Thresholds,
    template: Option<TargetName>,
    /// What is no field: a create's parameters, any other action's mistake.
    others: Vec<(String, Value)>,
    unknown_action: Option<Malformed>,
    mistake: Option<Malformed>,
}

impl Draft {
    /// Reads every field, whatever is wrong with the others.
    pub(crate) fn read(payload: &Map<String, Value>) -> Self {
        let mut mistakes = Vec::new();
        let mut others = Vec::new();
        let mut given: BTreeMap<Field, (&str, &Value)> = BTreeMap::new();
        for (name, value) in payload {
            let Some(field) = Field::parse(name) else {
                // One more than may be: what comes after it may be very many.
                if others.len() <= PARAMETERS_MAX {
                    others.push((name.clone(), value.clone()));
                }
                continue;
            };
            // Clients in JavaScript and Python send what they do not have as null.
            if value.is_null() {
                continue;
            }
            match given.get(&field) {
                Some((earlier, said)) if *said != value => mistakes.push(
                    FieldError::new(
                        name,
                        format!("says something else than {earlier}"),
                        "one of the two alone",
                    )
                    .into(),
                ),
                Some(_) => {}
                None => drop(given.insert(field, (name, value))),
            }
        }

        let mut draft = Self { others, ..Self::default() };
        for (field, (name, value)) in &given {
            match draft.take(*field, name, value) {
                Ok(()) => {}
                // Said before anything else: the fields of an action that we do not have mean nothing.
                Err(mistake) if mistake.kind == MalformedKind::UnknownAction => {
                    draft.unknown_action = Some(mistake);
                }
                Err(mistake) => mistakes.push(mistake),
            }
        }
        if let Err(mistake) = draft.settle_target(&given) {
            mistakes.push(mistake.into());
        }
        if let (Some((long, _)), Some((until, _))) =
            (given.get(&Field::For), given.get(&Field::Until))
        {
            let problem = format!("is given together with {until}");
            mistakes.push(FieldError::new(*long, problem, "one of the two alone").into());
        }
        draft.mistake = mistakes.into_iter().next();
        draft
    }

    /// The first mistake, once it is known what is asked (`None`: nothing is).
    pub(crate) fn mistake(&mut self, action: Option<Action>) -> Option<Malformed> {
        let strange = match (action, self.others.first()) {
            (Some(Action::Create), _) => parameters(&self.others).err().map(Malformed::from),
            (_, Some((name, _))) => Some(unknown_field(name, "a command", &canonical_names())),
            (_, None) => None,
        };
        let misplaced = self.template.is_some() && action.is_some_and(|it| it != Action::Create);
        let misplaced = misplaced.then(|| {
            let problem = "is for the action create alone";
            FieldError::new("template", problem, "target, or instance_id").into()
        });
        self.unknown_action.take().or(strange).or_else(|| self.mistake.take()).or(misplaced)
    }

    fn take(&mut self, field: Field, name: &str, value: &Value) -> Result<(), Malformed> {
        let named = |error: FieldError| error.at(name);
        match field {
            Field::Action => {
                let text = text(name, value, "the name of an action")?;
                self.action = Some(action(text)?);
            }
            Field::Target => {
                let text = text(name, value, TargetName::EXPECTED)?;
                self.target = Some(TargetRef::Name(TargetName::parse(text).map_err(named)?));
            }
            Field::Id => {
                let text = text(name, value, CommandId::EXPECTED)?;
                self.id = Some(CommandId::parse(text).map_err(named)?);
            }
            Field::Holder => {
                let text = text(name, value, Holder::EXPECTED)?;
                self.holder = Some(Holder::parse(text).map_err(named)?);
            }
            Field::For => {
                let text = text(name, value, HumanDuration::EXPECTED)?;
                self.hold_for = Some(HumanDuration::parse(text).map_err(named)?);
            }
            Field::Until => self.until = Some(timestamp(name, value)?),
            Field::Expires => self.expires = Some(timestamp(name, value)?),
            Field::Reason => self.reason = Some(reason(name, value)?),
            Field::IdleThreshold => {
                self.thresholds.idle_threshold_mins = Some(minutes(name, value)?);
            }
            Field::LookbackPeriod => {
                self.thresholds.lookback_period_mins = Some(minutes(name, value)?);
            }
            Field::Template => {
                let text = text(name, value, TargetName::EXPECTED)?;
                self.template = Some(TargetName::parse(text).map_err(named)?);
            }
            // Read together, since they are three ways of saying one thing.
            Field::Instance | Field::Cluster | Field::Service => {}
        }
        Ok(())
    }

    fn settle_target(&mut self, given: &BTreeMap<Field, (&str, &Value)>) -> Result<(), FieldError> {
        let instance = given.get(&Field::Instance);
        let cluster = given.get(&Field::Cluster);
        let service = given.get(&Field::Service);
        let ways: Vec<&str> = [given.get(&Field::Target), instance, cluster.or(service)]
            .into_iter()
            .flatten()
            .map(|(name, _)| *name)
            .collect();
        if let [first, second, ..] = ways[..] {
            return Err(FieldError::new(
                second,
                format!("names a target beside {first}"),
                "target, or instance_id, or cluster and service",
            ));
        }
        if let Some((name, value)) = instance {
            let id = InstanceId::parse(text(name, value, InstanceId::EXPECTED)?)
                .map_err(|error| error.at(*name))?;
            self.target = Some(TargetRef::Instance(id));
        }
        match (cluster, service) {
            (Some(cluster), Some(service)) => {
                let cluster = ecs_name(cluster.0, cluster.1)?;
                let service = ecs_name(service.0, service.1)?;
                self.target = Some(TargetRef::EcsService { cluster, service });
            }
            (Some((name, _)), None) | (None, Some((name, _))) => {
                return Err(FieldError::new(
                    *name,
                    "is given alone",
                    "cluster and service together",
                ));
            }
            (None, None) => {}
        }
        Ok(())
    }

    pub(crate) fn finish(self, action: Action) -> Command {
        let parameters = match action {
            Action::Create => parameters(&self.others).unwrap_or_default(),
            _ => BTreeMap::new(),
        };
        Command {
            action,
            target: self.target,
            id: self.id,
            holder: self.holder,
            hold_for: self.hold_for,
            until: self.until,
            reason: self.reason,
            expires: self.expires,
            thresholds: self.thresholds,
            template: self.template,
            parameters,
        }
    }

    /// The mistake, with what could be read in spite of it.
    pub(crate) fn explain(&self, mistake: Malformed) -> Malformed {
        Malformed {
            command: mistake.command.or_else(|| self.id.clone()),
            action: mistake.action.or(self.action),
            target: mistake
                .target
                .or_else(|| self.target.as_ref().and_then(TargetRef::name).cloned()),
            ..mistake
        }
    }
}

/// A create's parameters: names in snake case, however they were spelled, and values as text.
fn parameters(others: &[(String, Value)]) -> Result<BTreeMap<String, String>, FieldError> {
    let mut parameters = BTreeMap::new();
    if let Some((name, _)) = others.get(PARAMETERS_MAX) {
        let expected = "at most 32 fields that are parameters";
        return Err(FieldError::new(quoted(name), "is one too many", expected));
    }
    for (name, value) in others {
        let Some(snake) = snake(name) else {
            let expected = "a letter, then letters, digits, '_' or '-': at most 64";
            return Err(FieldError::new(quoted(name), "is no parameter's name", expected));
        };
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            other => {
                let problem = format!("is {}", kind_of(other));
                return Err(FieldError::new(name, problem, "text, a number, true or false"));
            }
        };
        if text.len() > PARAMETER_BYTES_MAX {
            let problem = format!("has {} bytes", text.len());
            return Err(FieldError::new(name, problem, "at most 4096"));
        }
        if parameters.get(&snake).is_some_and(|said| *said != text) {
            return Err(FieldError::new(name, "is given twice, differently", "one of the two"));
        }
        parameters.insert(snake, text);
    }
    let bytes = serde_json::to_string(&parameters).map_or(usize::MAX, |json| json.len());
    if bytes > PARAMETERS_BYTES_MAX {
        let problem = format!("have {bytes} bytes together as JSON");
        return Err(FieldError::new("parameters", problem, "at most 8192"));
    }
    Ok(parameters)
}

/// `blobId`, `blob-id` and `BLOB_ID` are `blob_id`.
fn snake(name: &str) -> Option<String> {
    let fits = (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if !fits {
        return None;
    }
    let shouts = !name.bytes().any(|b| b.is_ascii_lowercase());
    let mut snake = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() && !shouts && !snake.is_empty() && !snake.ends_with('_') {
            snake.push('_');
        }
        snake.push(if c == '-' { '_' } else { c.to_ascii_lowercase() });
    }
    Some(snake)
}

fn canonical_names() -> Vec<&'static str> {
    Field::ALL.iter().map(|field| field.names()[0]).collect()
}

/// The error for a field that `what` does not have, with the nearest one that it has.
pub(crate) fn unknown_field(name: &str, what: &str, expected: &[&str]) -> Malformed {
    let hint = nearest(name, expected)
        .map_or_else(String::new, |known| format!(" (did you mean \"{known}\"?)"));
    Malformed::new(
        MalformedKind::UnknownField,
        format!("unknown field {} in {what}{hint}; expected {}", quoted(name), expected.join(", ")),
    )
}

pub(crate) fn action(text: &str) -> Result<Action, Malformed> {
    Action::parse(text)
        .map_err(|error| Malformed::new(MalformedKind::UnknownAction, error.to_string()))
}

pub(crate) fn text<'v>(
    name: &str,
    value: &'v Value,
    expected: &str,
) -> Result<&'v str, FieldError> {
    value.as_str().ok_or_else(|| FieldError::new(name, format!("is {}", kind_of(value)), expected))
}

/// RFC 3339 with zone or offset, or epoch seconds as a number.
pub(crate) fn timestamp(name: &str, value: &Value) -> Result<Timestamp, FieldError> {
    let refuse = |problem: String| FieldError::new(name, problem, TIMESTAMP_EXPECTED);
    match value {
        Value::String(text) => {
            text.parse().map_err(|_| refuse(format!("{} is no such time", quoted(text))))
        }
        Value::Number(number) => number
            .as_i64()
            .map(Timestamp::from_second)
            .or_else(|| {
                // Whole seconds came above; what is left are fractions and what no time can be.
                let millis = number.as_f64()? * 1_000.0;
                let fits = (0.0..=Timestamp::MAX.as_millisecond() as f64).contains(&millis);
                fits.then(|| Timestamp::from_millisecond(millis.round() as i64))
            })
            .and_then(Result::ok)
            .filter(|at| at.as_second() >= 0)
            .ok_or_else(|| refuse(format!("{number} is out of range"))),
        other => Err(refuse(format!("is {}", kind_of(other)))),
    }
}

fn reason(name: &str, value: &Value) -> Result<String, FieldError> {
    let expected = "text of up to 512 characters without control characters";
    let text = text(name, value, expected)?;
    let chars = text.chars().count();
    if chars > REASON_CHARS_MAX {
        return Err(FieldError::new(name, format!("has {chars} characters"), expected));
    }
    if text.chars().any(char::is_control) {
        return Err(FieldError::new(name, "has a control character", expected));
    }
    Ok(text.to_owned())
}

pub(crate) fn minutes(name: &str, value: &Value) -> Result<u32, FieldError> {
    value
        .as_u64()
        .filter(|minutes| (1..=MINUTES_MAX).contains(minutes))
        .and_then(|minutes| u32::try_from(minutes).ok())
        .ok_or_else(|| {
            let problem = match value {
                Value::Number(number) => format!("{number} is out of range"),
                other => format!("is {}", kind_of(other)),
            };
            FieldError::new(name, problem, "whole minutes from 1 to 527040 (366 days)")
        })
}

fn ecs_name(name: &str, value: &Value) -> Result<String, FieldError> {
    let expected = "a name or ARN of ECS: letters, digits, '-', '_', and ':' and '/' in an ARN";
    let text = text(name, value, expected)?;
    let well_formed = (1..=ECS_NAME_CHARS_MAX).contains(&text.len())
        && text.bytes().all(
            |byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b':' | b'/'),
        );
    if well_formed {
        Ok(text.to_owned())
    } else {
        Err(FieldError::new(name, format!("{} is not valid", quoted(text)), expected))
    }
}

/// The text at `field`, which must be there.
pub(crate) fn string_at<'v>(
    map: &'v Map<String, Value>,
    field: &str,
    place: &str,
) -> Result<&'v str, FieldError> {
    match map.get(field) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => {
            Err(FieldError::new(field, format!("is {} in {place}", kind_of(other)), "text"))
        }
        None => Err(FieldError::new(field, format!("is missing from {place}"), "text")),
    }
}

/// The time at `field`, which must be there.
pub(crate) fn time_at(
    map: &Map<String, Value>,
    field: &str,
    place: &str,
) -> Result<Timestamp, FieldError> {
    match map.get(field) {
        Some(value) => timestamp(field, value),
        None => timestamp(field, &Value::Null)
            .map_err(|error| FieldError { problem: format!("is missing from {place}"), ..error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_belongs_to_two_fields() {
        let mut seen = BTreeMap::new();
        for field in Field::ALL {
            for spelling in field.spellings() {
                assert_eq!(Field::parse(&spelling), Some(field), "{spelling}");
                assert_eq!(seen.insert(spelling, field), None);
            }
        }
    }

    #[test]
    fn the_seeds_spellings_are_among_them() {
        for (spelling, field) in [
            ("clusterName", Field::Cluster),
            ("cluster_name", Field::Cluster),
            ("cluster", Field::Cluster),
            ("serviceName", Field::Service),
            ("service_name", Field::Service),
            ("instance_id", Field::Instance),
            ("instanceId", Field::Instance),
            ("INSTANCE_ID", Field::Instance),
            ("idleThresholdMinutes", Field::IdleThreshold),
            ("idle_threshold_mins", Field::IdleThreshold),
            ("lookbackPeriodMinutes", Field::LookbackPeriod),
            ("lookback_period_mins", Field::LookbackPeriod),
            ("Action", Field::Action),
        ] {
            assert_eq!(Field::parse(spelling), Some(field), "{spelling}");
        }
        assert_eq!(Field::parse("act-ion"), None);
    }
}
