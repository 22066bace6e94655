//! The seeds' environment variables: a fleet of one without a fleet file, or another machine for the
//! one target of a file.
//!
//! | variables | fleet |
//! | --- | --- |
//! | `INSTANCE_ID` (`BACKEND_BASE_URL`, `IDLE_TIMEOUT_SECONDS`) | seed 002: target `backend`; health is the base with `/health` |
//! | `SECRET_ARN` | seed 000: target `position-keeper`: key `PK_INSTANCE`, unit `positionkeeper`, exclusive |
//! | `ECS_CLUSTER_NAME`, `ECS_SERVICE_NAME`, `AWS_LAUNCH_TEMPLATE_ID` | not in this release |
//!
//! An empty variable counts as unset, as templates leave them so.

use std::collections::BTreeMap;

use lamplighter_events::{HumanDuration, InstanceId, TargetName};
use lamplighter_lifecycle::{HealthUrl, IdleSpec, InstanceRef, TargetSpec, UnitName};
use lamplighter_runtime::Fleet;

use super::ConfigError;
use super::reader::shown;
use super::targets::defaults;

/// Variables that name a machine.
const MACHINES: [&str; 2] = ["INSTANCE_ID", "SECRET_ARN"];
/// Variables of kinds that come later.
const LATER: [&str; 3] = ["ECS_CLUSTER_NAME", "ECS_SERVICE_NAME", "AWS_LAUNCH_TEMPLATE_ID"];
/// The key of seed 000's secret.
const SECRET_KEY: &str = "PK_INSTANCE";

type Variables = BTreeMap<String, String>;

fn value<'v>(variables: &'v Variables, name: &str) -> Option<&'v str> {
    variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

fn refuse(name: &str, problem: &str, expected: &str) -> ConfigError {
    ConfigError::Environment(format!("environment variable {name}: {problem}; expected {expected}"))
}

/// The machine that the variables name, and which variable did.
fn machine(variables: &Variables) -> Result<Option<(&'static str, InstanceRef)>, ConfigError> {
    match (value(variables, "INSTANCE_ID"), value(variables, "SECRET_ARN")) {
        (Some(_), Some(_)) => Err(ConfigError::Environment(
            "environment variables INSTANCE_ID and SECRET_ARN are both set, and each names a machine; \
             expected one of them, or a fleet file with two targets"
                .to_owned(),
        )),
        (Some(id), None) => InstanceId::parse(id)
            .map(|id| Some(("INSTANCE_ID", InstanceRef::Id(id))))
            .map_err(|error| refuse("INSTANCE_ID", &error.problem, &error.expected)),
        (None, Some(secret)) => {
            if secret.len() > 2048 || secret.chars().any(|c| c.is_control() || c.is_whitespace()) {
                let problem = format!("\"{}\" is not valid", shown(secret));
                return Err(refuse("SECRET_ARN", &problem, "the name or ARN of a secret"));
            }
            let secret = InstanceRef::Secret {
                secret: secret.to_owned(),
                key: SECRET_KEY.to_owned(),
            };
            Ok(Some(("SECRET_ARN", secret)))
        }
        (None, None) => Ok(None),
    }
}

/// The fleet that the variables make by themselves; `None` where they name nothing.
pub(crate) fn fleet(
    variables: &Variables,
    warnings: &mut Vec<String>,
) -> Result<Option<Fleet>, ConfigError> {
    let Some((variable, instance)) = machine(variables)? else {
        let set: Vec<&str> =
            LATER.into_iter().filter(|name| value(variables, name).is_some()).collect();
        if set.is_empty() {
            return Ok(None);
        }
        return Err(ConfigError::Environment(format!(
            "{} set, but ECS services and launch templates are not in this release; expected \
             INSTANCE_ID or SECRET_ARN, or a fleet file",
            match set.as_slice() {
                [one] => format!("environment variable {one} is"),
                many => format!("environment variables {} are", many.join(", ")),
            }
        )));
    };
    let mut ec2 = defaults(instance);
    let (name, exclusive, mut idle) = match variable {
        "SECRET_ARN" => {
            let unit = UnitName::parse("positionkeeper");
            ec2.systemd_unit = Some(unit.expect("a constant that is a unit's name"));
            ec2.log_group = Some("/aws/ec2/positionkeeper".to_owned());
            ("position-keeper", true, None)
        }
        _ => {
            if let Some(base) = value(variables, "BACKEND_BASE_URL") {
                let url = format!("{}/health", base.trim_end_matches('/'));
                let health = HealthUrl::parse(&url).map_err(|_| {
                    let problem = format!("\"{}\" is not valid", shown(base));
                    refuse(
                        "BACKEND_BASE_URL",
                        &problem,
                        "an address such as \"http://10.0.1.50:8000\"",
                    )
                })?;
                ec2.health = Some(health);
            }
            ("backend", false, None)
        }
    };
    if variable == "INSTANCE_ID"
        && let Some(text) = value(variables, "IDLE_TIMEOUT_SECONDS")
    {
        let after = text.parse().ok().and_then(HumanDuration::from_seconds).ok_or_else(|| {
            let problem = format!("\"{}\" is not valid", shown(text));
            refuse("IDLE_TIMEOUT_SECONDS", &problem, "whole seconds above zero, up to 366 days")
        })?;
        idle = Some(IdleSpec { after });
        warnings.push(
            "IDLE_TIMEOUT_SECONDS: idle policies are not evaluated in this release: backend will \
             stay on until it is stopped"
                .to_owned(),
        );
    }
    let name = TargetName::parse(name).expect("a constant that is a target's name");
    warnings
        .push(format!("no fleet file: the fleet is the one target {name}, made from {variable}"));
    let spec =
        TargetSpec { name: name.clone(), ec2, exclusive, max_hold: None, keep_failed: false, idle };
    Ok(Some(Fleet {
        targets: BTreeMap::from([(name, spec)]),
        default_target: None,
        rules: BTreeMap::new(),
    }))
}

/// Beside a file: another machine for its only target, or a refusal.
pub(crate) fn override_machine(
    variables: &Variables,
    file: &str,
    fleet: &mut Fleet,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let Some((variable, instance)) = machine(variables)? else { return Ok(()) };
    let targets = fleet.targets.len();
    let mut specs = fleet.targets.values_mut();
    let (Some(only), None) = (specs.next(), specs.next()) else {
        let set: Vec<&str> =
            MACHINES.into_iter().filter(|name| value(variables, name).is_some()).collect();
        return Err(ConfigError::Environment(format!(
            "environment variable {} is set, but {file} has {targets} targets, so it is not clear whose \
             machine it names; expected it to be unset, or a file with one target",
            set.join(", ")
        )));
    };
    if only.ec2.instance != instance {
        warnings.push(format!(
            "environment variable {variable} overrides the instance_id of target {} in {file}",
            only.name
        ));
        only.ec2.instance = instance;
    }
    Ok(())
}
