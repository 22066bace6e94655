//! The seeds' environment variables: a fleet of one without a fleet file, or another machine, service, launch
//! template or threshold for the one target of its kind in a file.
//!
//! | variables | fleet |
//! | --- | --- |
//! | `INSTANCE_ID` (`BACKEND_BASE_URL`, `IDLE_TIMEOUT_SECONDS`) | seed 002: target `backend`; health is the base with `/health`, last activity that with `/api/last-activity` |
//! | `SECRET_ARN` | seed 000: target `position-keeper`: key `PK_INSTANCE`, unit `positionkeeper`, exclusive |
//! | `ECS_CLUSTER_NAME`, `ECS_SERVICE_NAME` (`IDLE_THRESHOLD_MINUTES`, `LOOKBACK_PERIOD_MINUTES`) | seed 001: target `fluidity`, idle by its two metrics |
//! | `SLEEP_CHECK_INTERVAL_MINUTES` | how often seed 001 looks: of use to schedules alone |
//! | `AWS_LAUNCH_TEMPLATE_ID` | seed 004: template `walrus`, with the shipped bootstrap of that name |
//!
//! An empty variable counts as unset, as templates leave them so.

use std::collections::BTreeMap;

use lamplighter_events::{HumanDuration, InstanceId, TargetName};
use lamplighter_lifecycle::{
    Condition, HealthUrl, HttpProbe, HttpReads, IdleSpec, InstanceRef, Kind, METRIC_LAG_SECONDS,
    MetricProbe, MetricReads, Missing, Place, Probe, ServiceId, ServiceSpec, Statistic, TargetSpec,
    UnitName,
};
use lamplighter_runtime::Fleet;

use super::reader::shown;
use super::targets::{plain_instance, plain_target};
use super::values::seconds;
use super::{COMMANDS, ConfigError, bootstrap, templates};

/// Variables that name a machine or a service, and so a fleet of one.
const NAMING: [&str; 5] =
    ["INSTANCE_ID", "SECRET_ARN", "ECS_CLUSTER_NAME", "ECS_SERVICE_NAME", LAUNCH_TEMPLATE];
const LAUNCH_TEMPLATE: &str = "AWS_LAUNCH_TEMPLATE_ID";
/// The key of seed 000's secret.
const SECRET_KEY: &str = "PK_INSTANCE";
/// What the seeds' own code took where nothing was said.
const IDLE_TIMEOUT_SECONDS: u64 = 15 * 60;
const IDLE_THRESHOLD_MINUTES: u64 = 15;
const LOOKBACK_PERIOD_MINUTES: u64 = 10;

type Variables = BTreeMap<String, String>;

fn value<'v>(variables: &'v Variables, name: &str) -> Option<&'v str> {
    variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

fn refuse(name: &str, problem: &str, expected: &str) -> ConfigError {
    ConfigError::Environment(format!("environment variable {name}: {problem}; expected {expected}"))
}

/// A number of seconds or minutes.
fn whole(
    variables: &Variables,
    name: &str,
    unit: &str,
    unit_seconds: u64,
) -> Result<Option<HumanDuration>, ConfigError> {
    let Some(text) = value(variables, name) else { return Ok(None) };
    let seconds = text.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_seconds));
    seconds.and_then(HumanDuration::from_seconds).map(Some).ok_or_else(|| {
        let problem = format!("\"{}\" is not valid", shown(text));
        refuse(name, &problem, &format!("whole {unit} above zero, up to 366 days"))
    })
}

/// How often seed 001 looked whether its service is idle: what a schedule of `check-idle` may take for its rate.
pub(crate) fn sleep_check_interval(
    variables: &Variables,
) -> Result<Option<HumanDuration>, ConfigError> {
    whole(variables, "SLEEP_CHECK_INTERVAL_MINUTES", "minutes", 60)
}

/// What the variables name.
enum Named {
    Place(Place),
    LaunchTemplate(String),
}

/// What the variables name, and by which of them.
fn named(variables: &Variables) -> Result<Option<(&'static str, Named)>, ConfigError> {
    let instance = value(variables, "INSTANCE_ID");
    let secret = value(variables, "SECRET_ARN");
    let cluster = value(variables, "ECS_CLUSTER_NAME");
    let service = value(variables, "ECS_SERVICE_NAME");
    let ecs = cluster.or(service).map(|_| match cluster {
        Some(_) => "ECS_CLUSTER_NAME",
        None => "ECS_SERVICE_NAME",
    });
    let template = value(variables, LAUNCH_TEMPLATE);
    let each = [
        instance.map(|_| "INSTANCE_ID"),
        secret.map(|_| "SECRET_ARN"),
        ecs,
        template.map(|_| LAUNCH_TEMPLATE),
    ];
    let mut set = each.into_iter().flatten();
    if let (Some(one), Some(other)) = (set.next(), set.next()) {
        return Err(ConfigError::Environment(format!(
            "environment variables {one} and {other} are both set, and each names what is to be switched; \
             expected one of them, or a fleet file that has both"
        )));
    }
    if let Some(id) = instance {
        let id = InstanceId::parse(id)
            .map_err(|error| refuse("INSTANCE_ID", &error.problem, &error.expected))?;
        let place = Place::Instance(plain_instance(InstanceRef::Id(id)));
        return Ok(Some(("INSTANCE_ID", Named::Place(place))));
    }
    if let Some(secret) = secret {
        if secret.len() > 2048 || secret.chars().any(|c| c.is_control() || c.is_whitespace()) {
            let problem = format!("\"{}\" is not valid", shown(secret));
            return Err(refuse("SECRET_ARN", &problem, "the name or ARN of a secret"));
        }
        let (secret, key) = (secret.to_owned(), SECRET_KEY.to_owned());
        let instance = plain_instance(InstanceRef::Secret { secret, key });
        return Ok(Some(("SECRET_ARN", Named::Place(Place::Instance(instance)))));
    }
    if let Some(text) = template {
        if !templates::is_launch_template(text) {
            let problem = format!("\"{}\" is not valid", shown(text));
            return Err(refuse(LAUNCH_TEMPLATE, &problem, templates::LAUNCH_TEMPLATE));
        }
        return Ok(Some((LAUNCH_TEMPLATE, Named::LaunchTemplate(text.to_owned()))));
    }
    let (cluster, service) = match (cluster, service) {
        (None, None) => return Ok(None),
        (Some(cluster), Some(service)) => (cluster, service),
        (cluster, _) => {
            let (set, missing) = match cluster {
                Some(_) => ("ECS_CLUSTER_NAME", "ECS_SERVICE_NAME"),
                None => ("ECS_SERVICE_NAME", "ECS_CLUSTER_NAME"),
            };
            return Err(ConfigError::Environment(format!(
                "environment variable {set} is set and {missing} is not; expected both, since a service is \
                 named by its cluster and itself"
            )));
        }
    };
    let service = ServiceId::parse(cluster, service).map_err(|error| {
        let name = if error.what == "a cluster" { "ECS_CLUSTER_NAME" } else { "ECS_SERVICE_NAME" };
        let problem = format!("\"{}\" is not {}", shown(&error.text), error.what);
        refuse(name, &problem, error.expected)
    })?;
    let service = ServiceSpec { service, desired: 1, healthy: false, also: Vec::new() };
    Ok(Some(("ECS_CLUSTER_NAME", Named::Place(Place::Service(service)))))
}

/// The fleet that the variables make by themselves; `None` where they name nothing.
pub(crate) fn fleet(
    variables: &Variables,
    warnings: &mut Vec<String>,
) -> Result<Option<Fleet>, ConfigError> {
    let Some((variable, named)) = named(variables)? else { return Ok(None) };
    let place = match named {
        Named::Place(place) => place,
        Named::LaunchTemplate(launch_template) => {
            let spec = walrus(launch_template);
            let name = spec.name.clone();
            warnings.push(format!(
                "no fleet file: the fleet is the one template {name}, made from {variable}"
            ));
            let templates = BTreeMap::from([(name, spec)]);
            return Ok(Some(Fleet { templates, ..Fleet::default() }));
        }
    };
    let spec = match variable {
        "INSTANCE_ID" => backend(variables, place)?,
        "SECRET_ARN" => position_keeper(place),
        _ => fluidity(variables, place, warnings)?,
    };
    let name = spec.name.clone();
    warnings
        .push(format!("no fleet file: the fleet is the one target {name}, made from {variable}"));
    Ok(Some(Fleet { targets: BTreeMap::from([(name, spec)]), ..Fleet::default() }))
}

fn target(name: &str, place: Place) -> TargetSpec {
    let name = TargetName::parse(name).expect("a constant that is a target's name");
    plain_target(name, place)
}

/// Seed 004, which had no fleet file, and so no queue of another name either.
fn walrus(launch_template: String) -> TargetSpec {
    let name = TargetName::parse("walrus").expect("a constant that is a template's name");
    templates::plain(name, COMMANDS, launch_template, bootstrap::walrus())
}

/// Seed 000.
fn position_keeper(mut place: Place) -> TargetSpec {
    if let Place::Instance(instance) = &mut place {
        let unit = UnitName::parse("positionkeeper");
        instance.systemd_unit = Some(unit.expect("a constant that is a unit's name"));
    }
    TargetSpec {
        exclusive: true,
        log_group: Some("/aws/ec2/positionkeeper".to_owned()),
        ..target("position-keeper", place)
    }
}

/// Seed 002.
fn backend(variables: &Variables, place: Place) -> Result<TargetSpec, ConfigError> {
    let after = whole(variables, "IDLE_TIMEOUT_SECONDS", "seconds", 1)?;
    let spec = target("backend", place);
    let Some(base) = value(variables, "BACKEND_BASE_URL") else {
        return match after {
            None => Ok(spec),
            Some(_) => Err(ConfigError::Environment(
                "environment variable IDLE_TIMEOUT_SECONDS is set and BACKEND_BASE_URL is not; expected \
                 both: the backend's /api/last-activity tells whether it is idle"
                    .to_owned(),
            )),
        };
    };
    let below = |path: &str| {
        HealthUrl::parse(&format!("{}{path}", base.trim_end_matches('/'))).map_err(|_| {
            let problem = format!("\"{}\" is not valid", shown(base));
            refuse("BACKEND_BASE_URL", &problem, "an address such as \"http://10.0.1.50:8000\"")
        })
    };
    let probe = HttpProbe {
        url: below("/api/last-activity")?,
        pointer: "/last_activity".to_owned(),
        reads: HttpReads::Epoch,
        ignore_own: true,
    };
    let after = after.unwrap_or_else(|| seconds(IDLE_TIMEOUT_SECONDS));
    let idle = IdleSpec { probes: vec![Probe::Http(probe)], ..IdleSpec::after(after) };
    Ok(TargetSpec { health: Some(below("/health")?), idle: Some(idle), ..spec })
}

/// Seed 001: idle needs both of its metrics.
fn fluidity(
    variables: &Variables,
    place: Place,
    warnings: &mut Vec<String>,
) -> Result<TargetSpec, ConfigError> {
    let minutes = |name, default: u64| -> Result<HumanDuration, ConfigError> {
        Ok(whole(variables, name, "minutes", 60)?.unwrap_or_else(|| seconds(default * 60)))
    };
    let after = minutes("IDLE_THRESHOLD_MINUTES", IDLE_THRESHOLD_MINUTES)?;
    let look_back = minutes("LOOKBACK_PERIOD_MINUTES", LOOKBACK_PERIOD_MINUTES)?;
    // Said here already, so that a deployment with a wrong one does not come up.
    sleep_check_interval(variables)?;
    let metric = |name: &str, statistic, reads| {
        Probe::Metric(MetricProbe {
            namespace: "Fluidity".to_owned(),
            name: name.to_owned(),
            dimensions: BTreeMap::new(),
            statistic,
            period_seconds: 60,
            look_back: Some(look_back),
            lag: seconds(METRIC_LAG_SECONDS),
            missing: Missing::Unknown,
            reads,
        })
    };
    let none = Condition::parse("== 0").expect("a constant that is a condition");
    let probes = vec![
        metric("ActiveConnections", Statistic::Average, MetricReads::IdleWhen(none)),
        metric("LastActivityEpochSeconds", Statistic::Maximum, MetricReads::Epoch),
    ];
    warnings.push(
        "the metrics of the namespace Fluidity have no dimensions: whoever else publishes under their \
         names keeps fluidity on, or stops it; a fleet file can name dimensions"
            .to_owned(),
    );
    let spec = target("fluidity", place);
    Ok(TargetSpec { idle: Some(IdleSpec { probes, ..IdleSpec::after(after) }), ..spec })
}

/// The only target, or template, of a kind; how many there are, where that is not one.
fn only(fleet: &mut Fleet, kind: Kind) -> Result<&mut TargetSpec, usize> {
    let all = match kind {
        Kind::Instance | Kind::Service => &mut fleet.targets,
        Kind::Launched => &mut fleet.templates,
    };
    let count = all.values().filter(|spec| spec.kind() == kind).count();
    let found = all.values_mut().find(|spec| spec.kind() == kind);
    found.filter(|_| count == 1).ok_or(count)
}

/// Beside a file: another machine, service or threshold for its only target of that kind, or a refusal.
pub(crate) fn override_fleet(
    variables: &Variables,
    file: &str,
    fleet: &mut Fleet,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    if let Some((variable, named)) = named(variables)? {
        let (kind, noun_of) = match &named {
            Named::Place(place) => (place.kind(), "target"),
            Named::LaunchTemplate(_) => (Kind::Launched, "template"),
        };
        let spec = only(fleet, kind).map_err(|count| {
            let set: Vec<&str> =
                NAMING.into_iter().filter(|name| value(variables, name).is_some()).collect();
            let (noun, are) = match set.as_slice() {
                [_] => ("variable", "is"),
                _ => ("variables", "are"),
            };
            let unset = if set.len() == 1 { "it" } else { "them" };
            let why = match count {
                0 => format!("has no {noun_of} of kind {kind}"),
                _ => format!(
                    "has {count} {noun_of}s of kind {kind}, so it is not clear which of them is meant"
                ),
            };
            ConfigError::Environment(format!(
                "environment {noun} {} {are} set, but {file} {why}; expected {unset} to be unset, or a file \
                 with one such {noun_of}",
                set.join(", ")
            ))
        })?;
        let key = match (named, &mut spec.place) {
            (Named::Place(Place::Instance(instance)), Place::Instance(its))
                if its.instance != instance.instance =>
            {
                its.instance = instance.instance;
                Some("instance_id")
            }
            (Named::Place(Place::Service(service)), Place::Service(its))
                if its.service != service.service =>
            {
                its.service = service.service;
                Some("service")
            }
            (Named::LaunchTemplate(launch_template), Place::Template(its))
                if its.launch_template != launch_template =>
            {
                its.launch_template = launch_template;
                Some("launch_template")
            }
            _ => None,
        };
        if let Some(key) = key {
            warnings.push(format!(
                "environment variable {variable} overrides the {key} of {noun_of} {} in {file}",
                spec.name
            ));
        }
    }
    let timeout = whole(variables, "IDLE_TIMEOUT_SECONDS", "seconds", 1)?;
    let threshold = whole(variables, "IDLE_THRESHOLD_MINUTES", "minutes", 60)?;
    let look_back = whole(variables, "LOOKBACK_PERIOD_MINUTES", "minutes", 60)?;
    sleep_check_interval(variables)?;
    for (variable, kind, threshold) in [
        ("IDLE_TIMEOUT_SECONDS", Kind::Instance, timeout.map(Threshold::After)),
        ("IDLE_THRESHOLD_MINUTES", Kind::Service, threshold.map(Threshold::After)),
        ("LOOKBACK_PERIOD_MINUTES", Kind::Service, look_back.map(Threshold::LookBack)),
    ] {
        if let Some(threshold) = threshold {
            override_threshold(variable, kind, threshold, file, fleet, warnings)?;
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Threshold {
    /// In place of the policy's `after`.
    After(HumanDuration),
    /// In place of every metric's look-back.
    LookBack(HumanDuration),
}

fn override_threshold(
    variable: &str,
    kind: Kind,
    threshold: Threshold,
    file: &str,
    fleet: &mut Fleet,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let spec = match only(fleet, kind) {
        Ok(spec) => spec,
        Err(0) => {
            warnings.push(format!(
                "environment variable {variable} has no effect: {file} has no target of kind {kind}"
            ));
            return Ok(());
        }
        Err(count) => {
            return Err(ConfigError::Environment(format!(
                "environment variable {variable} is set, but {file} has {count} targets of kind {kind}, \
                 so it is not clear which of them is meant; expected it to be unset, or a file with one \
                 such target"
            )));
        }
    };
    let name = spec.name.clone();
    let Some(idle) = &mut spec.idle else {
        warnings.push(format!(
            "environment variable {variable} has no effect: target {name} in {file} has no idle policy"
        ));
        return Ok(());
    };
    let changed = match threshold {
        Threshold::After(after) => std::mem::replace(&mut idle.after, after) != after,
        Threshold::LookBack(look_back) => {
            let mut changed = false;
            for probe in &mut idle.probes {
                if let Probe::Metric(metric) = probe {
                    changed |= metric.look_back.replace(look_back) != Some(look_back);
                }
            }
            changed
        }
    };
    if changed {
        let what = match threshold {
            Threshold::After(_) => "idle.after",
            Threshold::LookBack(_) => "look-back of the idle metrics",
        };
        warnings.push(format!(
            "environment variable {variable} overrides the {what} of target {name} in {file}"
        ));
    }
    Ok(())
}
