//! From the body of one queue message to what it says.
//!
//! Five envelopes are told apart by fields that no command has: `lamplighter` (a transformed tick or a
//! wake-up), `detail-type` (an EventBridge event), `body`, `path` and their like (an HTTP request); what
//! has none of them is a bare command. The action comes from the payload, else from the envelope's path,
//! else from the message attribute `action`, else from the tick's rule. The attributes `id`, `target` and
//! `holder` fill in what the payload leaves open.
//!
//! A target that two places name differently is refused: whichever won, the other machine was meant.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::error::{FieldError, quoted};
use crate::fields::{self, Draft, string_at, time_at, unknown_field};
use crate::http::{self, PathSays, Request};
use crate::json::{self, kind_of};
use crate::malformed::{Malformed, MalformedKind};
use crate::{
    Action, Command, CommandId, Holder, IdleShard, LifecycleEvent, Signal, TargetName, TargetRef,
    Thresholds, Tick, WakeUp,
};

/// SQS takes no longer message.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// What one message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inbound {
    /// A user asks.
    Command(Command),
    /// A schedule asks.
    Tick(Tick),
    /// AWS reports.
    Signal(Signal),
    /// A timer of the worker's own.
    WakeUp(WakeUp),
    /// A part of a tick's work.
    IdleShard(IdleShard),
}

/// Says what a message means, given its attributes and the commands that the fleet gives its schedules.
///
/// # Errors
/// Where it cannot be understood; the error says what was wrong, where, and what was expected.
pub fn parse(
    body: &str,
    attributes: &BTreeMap<String, String>,
    rules: &BTreeMap<String, Command>,
) -> Result<Inbound, Malformed> {
    if body.len() > BODY_BYTES_MAX {
        return Err(Malformed::new(
            MalformedKind::TooLarge,
            format!("the body has {} bytes; expected at most {BODY_BYTES_MAX}", body.len()),
        ));
    }
    // Even a body that is no JSON gets its rejected outcome under the id of its attribute.
    let (around, mistake) = Around::read(attributes);
    let result = json::object(body, "the body").and_then(|map| inbound(&map, &around, rules));
    let result = match (result, mistake) {
        // These take nothing from attributes, so whatever stands there is not about them.
        (Ok(nudge @ (Inbound::Signal(_) | Inbound::WakeUp(_) | Inbound::IdleShard(_))), _) => {
            Ok(nudge)
        }
        (Ok(Inbound::Command(command)), Some(mistake)) => Err(Malformed {
            command: command.id,
            action: mistake.action.or(Some(command.action)),
            target: command.target.as_ref().and_then(TargetRef::name).cloned(),
            ..mistake
        }),
        (Ok(Inbound::Tick(tick)), Some(mistake)) => {
            Err(Malformed { command: Some(tick.command_id()), ..mistake })
        }
        // A command may only seem to lack what its attribute was to say.
        (Err(malformed), Some(mistake)) => {
            Err(Malformed { kind: mistake.kind, message: mistake.message, ..malformed })
        }
        (result, None) => result,
    };
    result.map_err(|malformed| Malformed {
        command: malformed.command.or(around.id),
        action: malformed.action.or(around.action),
        target: malformed.target.or(around.target),
        ..malformed
    })
}

/// [`parse`], of bytes that may be no text.
///
/// # Errors
/// As [`parse`], and where the bytes are not UTF-8.
pub fn parse_bytes(
    body: &[u8],
    attributes: &BTreeMap<String, String>,
    rules: &BTreeMap<String, Command>,
) -> Result<Inbound, Malformed> {
    match std::str::from_utf8(body) {
        Ok(body) => parse(body, attributes, rules),
        Err(error) => Err(Malformed::new(
            MalformedKind::NotUtf8,
            format!("the body is not UTF-8 after byte {}; expected JSON", error.valid_up_to()),
        )),
    }
}

impl Command {
    /// Takes a bare command object, in any spelling: from a body, a fleet file, a tick.
    ///
    /// # Errors
    /// Where it has no action, or a field that is unknown or has a value that cannot be taken.
    pub fn from_json(value: &Value) -> Result<Self, Malformed> {
        bare_command(value)
    }
}

/// A command object that stands alone: nothing around it fills anything in.
pub(crate) fn bare_command(value: &Value) -> Result<Command, Malformed> {
    match value {
        Value::Object(map) => command(map, &Around::default(), PathSays::default(), None, None),
        other => Err(Malformed::new(
            MalformedKind::NotAnObject,
            format!("the command is {}; expected an object", kind_of(other)),
        )),
    }
}

/// What the message's attributes say.
#[derive(Debug, Default)]
struct Around {
    action: Option<Action>,
    id: Option<CommandId>,
    target: Option<TargetName>,
    holder: Option<Holder>,
}

impl Around {
    fn read(attributes: &BTreeMap<String, String>) -> (Self, Option<Malformed>) {
        let mut around = Self::default();
        let mut mistake: Option<Malformed> = None;
        for (name, value) in attributes {
            let named = |error: FieldError| error.at(format!("message attribute {name}"));
            let taken: Result<(), Malformed> = match name.as_str() {
                "action" => fields::action(value).map(|action| around.action = Some(action)),
                "id" => CommandId::parse(value)
                    .map(|id| around.id = Some(id))
                    .map_err(|error| named(error).into()),
                "target" => TargetName::parse(value)
                    .map(|target| around.target = Some(target))
                    .map_err(|error| named(error).into()),
                "holder" => Holder::parse(value)
                    .map(|holder| around.holder = Some(holder))
                    .map_err(|error| named(error).into()),
                // Trace context and whatever else travels along.
                _ => Ok(()),
            };
            if let Err(malformed) = taken {
                mistake.get_or_insert(malformed);
            }
        }
        (around, mistake)
    }
}

fn inbound(
    map: &Map<String, Value>,
    around: &Around,
    rules: &BTreeMap<String, Command>,
) -> Result<Inbound, Malformed> {
    if let Some(what) = map.get("lamplighter") {
        return match what.as_str() {
            Some("tick") => transformed_tick(map, around, rules),
            Some("wake-up") => wake_up(map).map(Inbound::WakeUp),
            Some("idle-shard") => idle_shard(map).map(Inbound::IdleShard),
            _ => Err(Malformed::new(
                MalformedKind::UnknownEvent,
                "`lamplighter` names no message of ours; expected \"tick\", \"wake-up\" or \"idle-shard\"",
            )),
        };
    }
    if map.contains_key("detail-type") {
        return event(map, around, rules);
    }
    if http::is_request(map) {
        let Request { payload, path, caller } = Request::read(map)?;
        return command(&payload, around, path, caller, None).map(Inbound::Command);
    }
    command(map, around, PathSays::default(), None, None).map(Inbound::Command)
}

/// The command that a payload makes with what stands around it.
fn command(
    payload: &Map<String, Value>,
    around: &Around,
    path: PathSays,
    caller: Option<Holder>,
    rule: Option<Action>,
) -> Result<Command, Malformed> {
    let mut draft = Draft::read(payload);
    let action = draft.action.or(path.action).or(around.action).or(rule);
    if let Some(mistake) = draft.mistake(action) {
        let unnamed = mistake.kind != MalformedKind::UnknownAction;
        let action = path.action.or(around.action).or(rule).filter(|_| unnamed);
        let explained = draft.explain(mistake);
        return Err(Malformed {
            action: explained.action.or(action),
            target: explained.target.or(path.target),
            ..explained
        });
    }
    let Some(action) = action else {
        let malformed = no_action(path.other.as_deref());
        let malformed = Malformed { target: path.target, ..malformed };
        return Err(draft.explain(malformed));
    };
    for (place, named) in [("path", path.target), ("attribute", around.target.clone())] {
        let Some(named) = named else { continue };
        match &draft.target {
            Some(TargetRef::Name(said)) if *said != named => {
                let problem = format!("is {said}, and the message's {place} says {named}");
                let mistake = FieldError::new("target", problem, "one target");
                let mistake = Malformed { action: Some(action), ..mistake.into() };
                return Err(draft.explain(mistake));
            }
            Some(_) => {}
            None => draft.target = Some(TargetRef::Name(named)),
        }
    }
    draft.id = draft.id.or_else(|| around.id.clone());
    draft.holder = draft.holder.or(caller).or_else(|| around.holder.clone());
    Ok(draft.finish(action))
}

fn no_action(end_of_path: Option<&str>) -> Malformed {
    let ends = end_of_path
        .map(|segment| format!(" (the path ends in {}, which is none)", quoted(segment)))
        .unwrap_or_default();
    Malformed::new(
        MalformedKind::NoAction,
        format!(
            "no action{ends}; expected it in one of four ways: the field `action` in the body, the last \
             segment of the request's path (/start, /position-keeper/start), the message attribute \
             `action`, or the rule of a tick that the fleet knows"
        ),
    )
}

/// An event of EventBridge: a signal, a schedule's tick, or someone's own event around a command.
fn event(
    map: &Map<String, Value>,
    around: &Around,
    rules: &BTreeMap<String, Command>,
) -> Result<Inbound, Malformed> {
    let detail_type = string_at(map, "detail-type", "the event")?;
    let source = string_at(map, "source", "the event")?;
    if detail_type == "Scheduled Event" && matches!(source, "aws.events" | "aws.scheduler") {
        return scheduled_event(map, around, rules);
    }
    if let Some(signal) = Signal::from_event(source, detail_type, map)? {
        return Ok(Inbound::Signal(signal));
    }
    let unknown = |expected: &str| {
        let event = format!("unknown event {} of {}", quoted(detail_type), quoted(source));
        Malformed::new(MalformedKind::UnknownEvent, format!("{event}; expected {expected}"))
    };
    if source.starts_with("aws.") {
        let known = Signal::DETAIL_TYPES.join(", ");
        return Err(unknown(&format!("one of {known}, Scheduled Event")));
    }
    if source == LifecycleEvent::SOURCE {
        return Err(unknown(
            "no event that lamplighter itself sent: a rule leads back to its queue",
        ));
    }
    match map.get("detail") {
        Some(Value::Object(detail)) => {
            command(detail, around, PathSays::default(), None, None).map(Inbound::Command)
        }
        _ => Err(unknown("its `detail` to be a command object")),
    }
}

fn scheduled_event(
    map: &Map<String, Value>,
    around: &Around,
    rules: &BTreeMap<String, Command>,
) -> Result<Inbound, Malformed> {
    let resource = map.get("resources").and_then(|all| all.get(0)).and_then(Value::as_str);
    let resource = resource.ok_or_else(|| {
        FieldError::new("resources", "has no first entry of text", "the ARN of the rule")
    })?;
    let rule = rule_name("resources", resource)?;
    let scheduled = time_at(map, "time", "the Scheduled Event")?;
    tick(rule, scheduled, None, around, rules)
}

fn transformed_tick(
    map: &Map<String, Value>,
    around: &Around,
    rules: &BTreeMap<String, Command>,
) -> Result<Inbound, Malformed> {
    only(map, "a tick", &["lamplighter", "rule", "scheduled", "command"])?;
    let rule = rule_name("rule", string_at(map, "rule", "the tick")?)?;
    let scheduled = time_at(map, "scheduled", "the tick")?;
    let payload = match map.get("command") {
        None | Some(Value::Null) => None,
        Some(Value::Object(payload)) => Some(payload),
        Some(other) => {
            let problem = format!("is {}", kind_of(other));
            return Err(FieldError::new("command", problem, "a command object").into());
        }
    };
    tick(rule, scheduled, payload, around, rules)
}

fn tick(
    rule: String,
    scheduled: Timestamp,
    payload: Option<&Map<String, Value>>,
    around: &Around,
    rules: &BTreeMap<String, Command>,
) -> Result<Inbound, Malformed> {
    let mut tick = Tick { rule, scheduled, command: None };
    let known = rules.get(&tick.rule);
    let asked = match (payload, known) {
        (Some(payload), _) => {
            let rule = known.map(|command| command.action);
            command(payload, around, PathSays::default(), None, rule)
        }
        (None, Some(known)) => Ok(known.clone()),
        (None, None) => match around.action {
            Some(_) => command(&Map::new(), around, PathSays::default(), None, None),
            None => Err(unknown_rule(&tick.rule, rules)),
        },
    };
    match asked {
        Ok(asked) => {
            tick.command = Some(asked);
            Ok(Inbound::Tick(tick))
        }
        // A tick has an id whatever it carries, so its mistake gets an outcome.
        Err(malformed) => Err(Malformed {
            command: malformed.command.or_else(|| Some(tick.command_id())),
            ..malformed
        }),
    }
}

fn unknown_rule(rule: &str, rules: &BTreeMap<String, Command>) -> Malformed {
    /// A fleet may have hundreds; a few show where to look.
    const SHOWN_MAX: usize = 8;
    let mut known: Vec<&str> = rules.keys().map(String::as_str).take(SHOWN_MAX).collect();
    if rules.len() > SHOWN_MAX {
        known.push("…");
    }
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Malformed::new(
        MalformedKind::UnknownRule,
        format!(
            "a tick of the rule {} that the fleet does not have; expected one of its schedules ({known}), \
             or a tick that carries its command",
            quoted(rule)
        ),
    )
}

/// The rule's name, also from its ARN: `rule/NAME`, `rule/BUS/NAME`, `schedule/GROUP/NAME`.
fn rule_name(field: &str, text: &str) -> Result<String, FieldError> {
    let name = match text.strip_prefix("arn:") {
        None => Some(text),
        Some(arn) => [":rule/", ":schedule/"]
            .iter()
            .find_map(|kind| Some(arn.split_once(kind)?.1))
            .and_then(|path| path.rsplit('/').next()),
    };
    name.filter(|name| {
        (1..=64).contains(&name.len())
            && name.bytes().all(
                |byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-'),
            )
    })
    .map(str::to_owned)
    .ok_or_else(|| {
        FieldError::new(
            field,
            format!("{} names no rule", quoted(text)),
            "a rule's name of 1 to 64 letters, digits, '.', '_' and '-', or its ARN",
        )
    })
}

fn wake_up(map: &Map<String, Value>) -> Result<WakeUp, Malformed> {
    only(map, "a wake-up", &["lamplighter", "target", "rev", "at"])?;
    let target = TargetName::parse(string_at(map, "target", "the wake-up")?)?;
    let rev = map.get("rev").and_then(Value::as_u64).ok_or_else(|| {
        FieldError::new("rev", "is missing or no whole number", "the record's version")
    })?;
    Ok(WakeUp { target, rev, at: time_at(map, "at", "the wake-up")? })
}

fn idle_shard(map: &Map<String, Value>) -> Result<IdleShard, Malformed> {
    let minutes = ["idle_threshold_mins", "lookback_period_mins"];
    only(map, "an idle-shard", &["lamplighter", "targets", "notes", minutes[0], minutes[1]])?;
    let expected = "a list of 1 to 1000 names of targets";
    let wrong = |problem: &str| FieldError::new("targets", problem, expected);
    let Some(Value::Array(names)) = map.get("targets") else {
        return Err(wrong("is missing or no list").into());
    };
    if !(1..=IdleShard::TARGETS_MAX).contains(&names.len()) {
        return Err(wrong("has too many names, or none").into());
    }
    let mut targets = Vec::new();
    for name in names {
        let name = name.as_str().ok_or_else(|| wrong("has an entry that is no text"))?;
        targets.push(TargetName::parse(name).map_err(|error| error.at("targets"))?);
    }
    let given = |field: &str| map.get(field).map(|value| fields::minutes(field, value)).transpose();
    let thresholds = Thresholds {
        idle_threshold_mins: given(minutes[0])?,
        lookback_period_mins: given(minutes[1])?,
    };
    let notes = match map.get("notes") {
        Some(Value::Array(notes)) if notes.len() == targets.len() => notes.clone(),
        _ => {
            let problem = "is missing, or not as long as `targets`";
            return Err(FieldError::new("notes", problem, "a note on each target").into());
        }
    };
    Ok(IdleShard { targets, notes, thresholds })
}

fn only(map: &Map<String, Value>, what: &str, expected: &[&str]) -> Result<(), Malformed> {
    match map.keys().find(|name| !expected.contains(&name.as_str())) {
        Some(name) => Err(unknown_field(name, what, expected)),
        None => Ok(()),
    }
}
