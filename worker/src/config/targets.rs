//! `[targets.NAME]`: one table becomes one `TargetSpec`, with every default filled in.
//!
//! The kind is read first: each kind has keys of its own, and those of another are refused with the reason.

use lamplighter_events::{HumanDuration, InstanceId, TargetName, nearest};
use lamplighter_lifecycle::{
    InstanceRef, InstanceSpec, Kind, Place, ServiceId, ServicePattern, ServiceSpec, TargetSpec,
    Timings,
};
use toml::de::DeValue;

use super::ConfigError;
use super::reader::{Item, Reader, shown};
use super::values::{Taken, duration_or_word, health, seconds, unit};
use super::{hours, idle};

/// Kinds that the design knows and this release does not have.
const LATER_KINDS: [&str; 1] = ["ecs-tenant"];

/// Keys of every kind.
const COMMON_KEYS: [&str; 13] = [
    "kind",
    "health",
    "exclusive",
    "start_timeout",
    "settle",
    "health_timeout",
    "stop_timeout",
    "poll",
    "max_hold",
    "keep_failed",
    "log_group",
    "idle",
    "hours",
];
/// Keys of an instance, and why a service has none of them.
const INSTANCE_KEYS: [(&str, &str); 4] = [
    ("instance_id", "an ECS service has no instance of its own; expected cluster and service"),
    (
        "systemd_unit",
        "the tasks of an ECS service have no systemd; expected healthy = true, or health = \"http://…\"",
    ),
    (
        "ready_timeout",
        "it bounds the wait for an agent and a unit, which an ECS service has not; expected start_timeout \
         or health_timeout",
    ),
    (
        "unit_check_every",
        "the tasks of an ECS service have no systemd unit; expected it only beside systemd_unit",
    ),
];
/// Keys of a service, and why an instance has none of them.
const SERVICE_KEYS: [(&str, &str); 5] = [
    (
        "cluster",
        "an EC2 instance is in no cluster; expected instance_id, or kind = \"ecs-service\"",
    ),
    ("service", "an EC2 instance is no service; expected instance_id, or kind = \"ecs-service\""),
    ("desired", "an EC2 instance has no desired count; expected it only of kind = \"ecs-service\""),
    (
        "healthy",
        "it asks for the health checks of a service's containers; expected systemd_unit or health for an \
         EC2 instance",
    ),
    ("also", "it names other ECS services; expected it only of kind = \"ecs-service\""),
];
/// Patterns of services that a payload may name itself; a fleet has a handful.
const ALSO: &str = "also = [\"cluster/service\"], in which '*' stands for any characters";

/// The shortest duration stands for none at all, where the lifecycle knows no zero.
const NO_TIME_MILLIS: u64 = 1;
/// ECS takes as many tasks of a service (a quota of AWS's).
const DESIRED_MAX: i64 = 5_000;

/// How long things take for an instance where the file says nothing: DESIGN.md §5 and the seeds.
pub(crate) fn instance_timings() -> Timings {
    Timings {
        // Seed 000 gave a machine two minutes and its unit ten seconds.
        start_timeout: seconds(120),
        settle: seconds(10),
        ready_timeout: seconds(120),
        // Seed 002's client waits 180 s for `/health`.
        health_timeout: seconds(180),
        stop_timeout: seconds(300),
        poll: seconds(5),
    }
}

/// The same for a service. Fargate takes a minute or two for a task, most of it for the image.
pub(crate) fn service_timings() -> Timings {
    Timings {
        start_timeout: seconds(300),
        // A task whose container exits at once says RUNNING before: it must stay for a moment.
        settle: seconds(5),
        // Two minutes at most from SIGTERM to SIGKILL, and some to be seen.
        stop_timeout: seconds(300),
        ..instance_timings()
    }
}

/// The same for a machine that is launched.
pub(crate) fn template_timings() -> Timings {
    Timings {
        // Seed 004 gave a machine five minutes to run, and its agent five more.
        start_timeout: seconds(300),
        ready_timeout: seconds(300),
        // Its bootstrap has seen to it that it is well.
        settle: no_time(),
        ..instance_timings()
    }
}

/// An instance of which only its id is said.
pub(crate) fn plain_instance(instance: InstanceRef) -> InstanceSpec {
    // Every five minutes: as often as a target that is on is looked at anyway.
    InstanceSpec { instance, systemd_unit: None, unit_check_every: Some(seconds(300)) }
}

/// A target of which only its place is said.
pub(crate) fn plain_target(name: TargetName, place: Place) -> TargetSpec {
    let timings = match place {
        Place::Instance(_) => instance_timings(),
        Place::Service(_) => service_timings(),
        Place::Template(_) => template_timings(),
    };
    TargetSpec {
        name,
        place,
        health: None,
        timings,
        log_group: None,
        exclusive: false,
        max_hold: None,
        keep_failed: false,
        idle: None,
        hours: None,
    }
}

fn no_time() -> HumanDuration {
    HumanDuration::from_millis(NO_TIME_MILLIS).expect("a constant above zero")
}

/// Reads one target.
pub(crate) fn target(
    item: &Item<'_>,
    taken: &mut Taken,
    warnings: &mut Vec<String>,
) -> Result<TargetSpec, ConfigError> {
    let name = TargetName::parse(item.key).map_err(|error| {
        item.refuse_key(&format!("the name {}; expected {}", error.problem, error.expected))
    })?;
    // The kind first: another kind has other keys, and their refusal would mislead.
    let reader = item.open_table()?;
    let kind = kind(&reader)?;
    let (own, foreign) = match kind {
        TargetKind::Service => (&SERVICE_KEYS[..], &INSTANCE_KEYS[..]),
        TargetKind::Instance => (&INSTANCE_KEYS[..], &SERVICE_KEYS[..]),
    };
    reader.refuse_foreign(foreign)?;
    let known: Vec<&str> = COMMON_KEYS.into_iter().chain(own.iter().map(|(key, _)| *key)).collect();
    let reader = item.table(&known)?;
    let place = match kind {
        TargetKind::Service => Place::Service(service(&reader, &name, taken)?),
        TargetKind::Instance => Place::Instance(instance(&reader, &name, taken)?),
    };
    let spec = with_common(&reader, plain_target(name, place), taken, warnings)?;
    Ok(TargetSpec {
        exclusive: reader.flag("exclusive")?,
        keep_failed: reader.flag("keep_failed")?,
        hours: reader.get("hours").map(|item| hours::hours(&item)).transpose()?,
        ..spec
    })
}

/// Reads the keys that every kind has and understands alike.
pub(crate) fn with_common(
    reader: &Reader<'_>,
    base: TargetSpec,
    taken: &mut Taken,
    warnings: &mut Vec<String>,
) -> Result<TargetSpec, ConfigError> {
    let (name, place) = (&base.name, &base.place);
    let defaults = base.timings;
    let timings = Timings {
        start_timeout: reader.duration_or("start_timeout", defaults.start_timeout)?,
        settle: settle(reader, place)?.unwrap_or(defaults.settle),
        ready_timeout: reader.duration_or("ready_timeout", defaults.ready_timeout)?,
        health_timeout: reader.duration_or("health_timeout", defaults.health_timeout)?,
        stop_timeout: reader.duration_or("stop_timeout", defaults.stop_timeout)?,
        poll: reader.duration_or("poll", defaults.poll)?,
    };
    Ok(TargetSpec {
        health: reader.get("health").map(|item| health(&item, place)).transpose()?,
        timings,
        log_group: reader
            .get("log_group")
            .map(|item| item.string("a CloudWatch log group's name").map(str::to_owned))
            .transpose()?,
        max_hold: reader.duration("max_hold")?,
        idle: reader
            .get("idle")
            .map(|item| idle::idle(&item, name, place, taken, warnings))
            .transpose()?,
        ..base
    })
}

/// The kinds that are written as targets.
#[derive(Clone, Copy)]
enum TargetKind {
    Instance,
    Service,
}

fn kind(reader: &Reader<'_>) -> Result<TargetKind, ConfigError> {
    let known = [Kind::Instance.as_str(), Kind::Service.as_str()];
    let expected = &format!("\"{}\" or \"{}\"", known[0], known[1]);
    let item = reader.need("kind", &format!("kind = {expected}"))?;
    let kind = item.string(expected)?;
    match Kind::parse(kind) {
        Some(Kind::Instance) => return Ok(TargetKind::Instance),
        Some(Kind::Service) => return Ok(TargetKind::Service),
        Some(template @ Kind::Launched) => {
            let problem = format!("an {template} is no target: each create makes one from it");
            let instead = "it under [templates.NAME] instead of [targets.NAME]";
            return Err(item.refuse(&problem, instead));
        }
        None => {}
    }
    if LATER_KINDS.contains(&kind) {
        let problem = format!("the kind \"{kind}\" is not in this release");
        return Err(item.refuse(&problem, expected));
    }
    let hint = match nearest(kind, &known) {
        Some(near) => format!("; did you mean \"{near}\"?"),
        None => format!("; expected {expected}"),
    };
    Err(item.refuse_with(&format!("unknown kind \"{}\"{hint}", shown(kind))))
}

/// Makes sure that a resource belongs to one target alone.
fn claim(
    item: &Item<'_>,
    resource: String,
    noun: &str,
    name: &TargetName,
    taken: &mut Taken,
) -> Result<(), ConfigError> {
    if let Some((other, at)) = taken.get(&resource) {
        let line = item.line_of(*at);
        return Err(item.refuse_with(&format!(
            "{resource} belongs to target {other} already (line {line}); expected a {noun} that no \
             other target has"
        )));
    }
    taken.insert(resource, (name.clone(), item.key_at.start));
    Ok(())
}

fn instance(
    reader: &Reader<'_>,
    name: &TargetName,
    taken: &mut Taken,
) -> Result<InstanceSpec, ConfigError> {
    let expected =
        "instance_id = \"i-…\", or instance_id = { secret = \"name or ARN\", key = \"KEY\" }";
    let item = reader.need("instance_id", expected)?;
    let instance = instance_ref(&item)?;
    let resource = match &instance {
        InstanceRef::Id(id) => id.to_string(),
        InstanceRef::Secret { secret, key } => format!("key {key} of secret {secret}"),
    };
    claim(&item, resource, "machine", name, taken)?;
    let base = plain_instance(instance);
    Ok(InstanceSpec {
        systemd_unit: reader.get("systemd_unit").map(|item| unit(&item)).transpose()?,
        unit_check_every: match reader.get("unit_check_every") {
            Some(item) => duration_or_word(&item, "off")?,
            None => base.unit_check_every,
        },
        ..base
    })
}

fn service(
    reader: &Reader<'_>,
    name: &TargetName,
    taken: &mut Taken,
) -> Result<ServiceSpec, ConfigError> {
    let cluster = reader.need("cluster", "cluster = \"name or ARN\"")?;
    let item = reader.need("service", "service = \"name or ARN\"")?;
    let (cluster_text, service_text) =
        (cluster.string("a cluster's name or ARN")?, item.string("a service's name or ARN")?);
    let service = ServiceId::parse(cluster_text, service_text).map_err(|error| {
        let whose = if error.what == "a cluster" { &cluster } else { &item };
        whose.refuse(&format!("\"{}\" is not {}", shown(&error.text), error.what), error.expected)
    })?;
    claim(&item, service.to_string(), "service", name, taken)?;
    let desired = match reader.get("desired") {
        Some(item) => item.whole(1..=DESIRED_MAX)?,
        None => 1,
    };
    let mut also = Vec::new();
    if let Some(item) = reader.get("also") {
        for item in item.list(ALSO)? {
            let text = item.string(ALSO)?;
            let pattern = ServicePattern::parse(text).map_err(|error| {
                item.refuse(&format!("\"{}\" is not {}", shown(text), error.what), error.expected)
            })?;
            also.push(pattern);
        }
    }
    Ok(ServiceSpec { service, desired, healthy: reader.flag("healthy")?, also })
}

/// A service and a machine with a bootstrap may have none: others have seen to it that they are well.
fn settle(reader: &Reader<'_>, place: &Place) -> Result<Option<HumanDuration>, ConfigError> {
    match (reader.get("settle"), place) {
        (Some(item), Place::Service(_) | Place::Template(_))
            if item.value.as_str() == Some("0s") =>
        {
            Ok(Some(no_time()))
        }
        _ => reader.duration("settle"),
    }
}

fn instance_ref(item: &Item<'_>) -> Result<InstanceRef, ConfigError> {
    match item.value {
        DeValue::Table(_) => {
            let reader = item.table(&["secret", "key"])?;
            let named = |key: &str, expected: &str| {
                let item = reader.need(key, expected)?;
                let text = item.string(expected)?;
                let fits = !text.is_empty()
                    && text.len() <= 2048
                    && !text.chars().any(|char| char.is_control() || char.is_whitespace());
                if fits {
                    Ok(text.to_owned())
                } else {
                    Err(item.refuse(&format!("\"{}\" is not valid", shown(text)), expected))
                }
            };
            Ok(InstanceRef::Secret {
                secret: named("secret", "the name or ARN of a secret")?,
                key: named("key", "a key of the secret's JSON object")?,
            })
        }
        _ => {
            let expected = "an instance id, or { secret = \"name or ARN\", key = \"KEY\" }";
            item.parse(expected, InstanceId::parse).map(InstanceRef::Id)
        }
    }
}
