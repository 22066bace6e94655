//! `[targets.NAME]`: one table becomes one `TargetSpec`, with every default filled in.

use std::collections::BTreeMap;

use lamplighter_events::{HumanDuration, InstanceId, TargetName};
use lamplighter_lifecycle::{Ec2Spec, HealthUrl, IdleSpec, InstanceRef, TargetSpec, UnitName};
use toml::de::DeValue;

use super::ConfigError;
use super::reader::{Item, Reader, nearest, shown};

/// The only kind of this release.
pub(crate) const KIND: &str = "ec2-instance";
/// Kinds that the design knows and this release does not have.
const LATER_KINDS: [&str; 3] = ["ecs-service", "ec2-template", "ecs-tenant"];

const KEYS: [&str; 16] = [
    "kind",
    "instance_id",
    "systemd_unit",
    "health",
    "exclusive",
    "start_timeout",
    "settle",
    "ready_timeout",
    "health_timeout",
    "stop_timeout",
    "poll",
    "unit_check_every",
    "max_hold",
    "keep_failed",
    "log_group",
    "idle",
];

/// `after` is what counts in this release; the probes are taken as they are, so that a file that was
/// written for a later release can be tried with this one.
const IDLE_KEYS: [&str; 10] = [
    "after",
    "http",
    "metrics",
    "ssm",
    "cpu",
    "network",
    "connections",
    "every",
    "ignore",
    "unreachable_after",
];

/// The defaults of DESIGN.md §5 and of the seeds.
pub(crate) fn defaults(instance: InstanceRef) -> Ec2Spec {
    Ec2Spec {
        instance,
        systemd_unit: None,
        health: None,
        // Seed 000 gave a machine two minutes and its unit ten seconds.
        start_timeout: seconds(120),
        settle: seconds(10),
        ready_timeout: seconds(120),
        // Seed 002's client waits 180 s for `/health`.
        health_timeout: seconds(180),
        stop_timeout: seconds(300),
        poll: seconds(5),
        unit_check_every: Some(seconds(300)),
        log_group: None,
    }
}

pub(crate) fn seconds(seconds: u64) -> HumanDuration {
    HumanDuration::from_seconds(seconds).expect("a constant between a second and a year")
}

/// Who has a resource already: the target, and the byte where it says so. The line is counted only for
/// whoever is told of it: counting it for each target would take long for a file of thousands.
pub(crate) type Taken = BTreeMap<String, (TargetName, usize)>;

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
    kind(&reader)?;
    let reader = item.table(&KEYS)?;
    let expected =
        "instance_id = \"i-…\", or instance_id = { secret = \"name or ARN\", key = \"KEY\" }";
    let id_item = reader.need("instance_id", expected)?;
    let instance = instance(&id_item)?;
    let resource = match &instance {
        InstanceRef::Id(id) => id.to_string(),
        InstanceRef::Secret { secret, key } => format!("key {key} of secret {secret}"),
    };
    if let Some((other, at)) = taken.get(&resource) {
        let line = id_item.line_of(*at);
        return Err(id_item.refuse_with(&format!(
            "{resource} belongs to target {other} already (line {line}); expected a machine that no \
             other target has"
        )));
    }
    taken.insert(resource, (name.clone(), id_item.key_at.start));

    let base = defaults(instance);
    let ec2 = Ec2Spec {
        systemd_unit: reader.get("systemd_unit").map(|item| unit(&item)).transpose()?,
        health: reader.get("health").map(|item| health(&item)).transpose()?,
        start_timeout: reader.duration_or("start_timeout", base.start_timeout)?,
        settle: reader.duration_or("settle", base.settle)?,
        ready_timeout: reader.duration_or("ready_timeout", base.ready_timeout)?,
        health_timeout: reader.duration_or("health_timeout", base.health_timeout)?,
        stop_timeout: reader.duration_or("stop_timeout", base.stop_timeout)?,
        poll: reader.duration_or("poll", base.poll)?,
        unit_check_every: match reader.get("unit_check_every") {
            Some(item) if item.value.as_str() == Some("off") => None,
            Some(item) => {
                let expected = format!("\"off\", or {}", HumanDuration::EXPECTED);
                let every = item.parse(&expected, |text| {
                    HumanDuration::parse(text).map_err(|error| lamplighter_events::FieldError {
                        expected: expected.clone(),
                        ..error
                    })
                })?;
                Some(every)
            }
            None => base.unit_check_every,
        },
        log_group: reader
            .get("log_group")
            .map(|item| item.string("a CloudWatch log group's name").map(str::to_owned))
            .transpose()?,
        instance: base.instance,
    };
    let idle = reader.get("idle").map(|item| idle(&item, &name, warnings)).transpose()?;
    Ok(TargetSpec {
        ec2,
        exclusive: reader.flag("exclusive")?,
        max_hold: reader.duration("max_hold")?,
        keep_failed: reader.flag("keep_failed")?,
        idle,
        name,
    })
}

fn kind(reader: &Reader<'_>) -> Result<(), ConfigError> {
    let expected = "kind = \"ec2-instance\"";
    let item = reader.need("kind", expected)?;
    let kind = item.string("\"ec2-instance\"")?;
    if kind == KIND {
        return Ok(());
    }
    if LATER_KINDS.contains(&kind) {
        let problem = format!("the kind \"{kind}\" is not in this release");
        return Err(item.refuse(&problem, "\"ec2-instance\""));
    }
    let hint = match nearest(kind, &[KIND]) {
        Some(near) => format!("; did you mean \"{near}\"?"),
        None => "; expected \"ec2-instance\"".to_owned(),
    };
    Err(item.refuse_with(&format!("unknown kind \"{}\"{hint}", shown(kind))))
}

fn instance(item: &Item<'_>) -> Result<InstanceRef, ConfigError> {
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

fn unit(item: &Item<'_>) -> Result<UnitName, ConfigError> {
    let expected = "a systemd unit's name: letters, digits and :_.@- only, at most 128";
    let text = item.string(expected)?;
    UnitName::parse(text)
        .map_err(|_| item.refuse(&format!("\"{}\" is not valid", shown(text)), expected))
}

fn health(item: &Item<'_>) -> Result<HealthUrl, ConfigError> {
    let expected = "an address with http:// or https://, in which {private_ip} and {public_ip} are \
                    the only placeholders";
    let text = item.string(expected)?;
    HealthUrl::parse(text)
        .map_err(|_| item.refuse(&format!("\"{}\" is not valid", shown(text)), expected))
}

fn idle(
    item: &Item<'_>,
    target: &TargetName,
    warnings: &mut Vec<String>,
) -> Result<IdleSpec, ConfigError> {
    let reader = item.table(&IDLE_KEYS)?;
    let after = reader
        .need("after", "after = \"15m\"")?
        .parse(HumanDuration::EXPECTED, HumanDuration::parse)?;
    warnings.push(format!(
        "targets.{target}.idle: idle policies are not evaluated in this release: {target} will stay \
         on until it is stopped (or until max_hold)"
    ));
    Ok(IdleSpec { after })
}
