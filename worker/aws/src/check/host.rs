//! Does a host answer, and does its unit start at boot?

use std::time::Duration;

use aws_sdk_ec2::types::Instance;
use jiff::SignedDuration;
use lamplighter_events::InstanceId;
use lamplighter_lifecycle::{Agent, CheckReading, PowerState, UnitName, UnitProbe};
use lamplighter_runtime::ports::CallError;

use crate::batch::Batcher;
use crate::check::finding::{Finding, error, ok, refused, warn};
use crate::client::Aws;
use crate::ssm::{self, Agents, Asked, Verb};

/// How long a host may take to say whether its unit starts at boot.
const HOST_SECONDS: u32 = 40;

pub(crate) async fn check_host(
    aws: &Aws,
    instance: &InstanceId,
    machine: &Instance,
    state: PowerState,
    unit: &UnitName,
) -> Vec<Finding> {
    let mut findings =
        vec![match machine.iam_instance_profile().and_then(|profile| profile.arn()) {
            Some(arn) => ok(format!("instance profile {arn}")),
            None => error(
                format!("{instance} has no instance profile, so its SSM agent cannot register"),
                "attach one with the policy AmazonSSMManagedInstanceCore",
            ),
        }];
    if state != PowerState::Running {
        findings.push(warn(
            format!("{instance} is {}: its agent and unit were not asked", state.as_str()),
            "check again while it runs",
        ));
        return findings;
    }
    match Batcher::new(Agents { client: aws.ssm.clone() }).call(instance.clone()).await {
        Ok(Agent::Online) => {
            findings.push(ok("the SSM agent is online"));
            findings.push(boot_enabled(aws, instance, unit).await);
        }
        Ok(Agent::Offline) => findings.push(error(
            "the SSM agent is registered and does not answer",
            "look at amazon-ssm-agent on the machine, and at its way to the internet",
        )),
        Ok(Agent::Unregistered) => findings.push(error(
            "SSM has never heard of this machine",
            "install amazon-ssm-agent and attach an instance profile",
        )),
        Err(refusal) => findings.push(refused("SSM agent", &refusal)),
    }
    findings
}

/// Asks the host whether its unit starts at boot.
async fn boot_enabled(aws: &Aws, instance: &InstanceId, unit: &UnitName) -> Finding {
    let probe = UnitProbe { unit: unit.clone(), settle_seconds: 0, activating_seconds: 0 };
    let what = format!("whether {} starts at boot", unit.as_str());
    let asked = Asked::Unit(&probe, Verb::IsEnabled);
    match ask_host(aws, instance, asked, &what, HOST_SECONDS).await {
        Ok(CheckReading::Said { state }) => enabled(unit, &state),
        Ok(other) => warn(
            format!("{what}: {}", strange(&other)),
            "ask `systemctl is-enabled` on the machine",
        ),
        Err(finding) => *finding,
    }
}

/// The host's answer, once there is one.
pub(crate) async fn ask_host(
    aws: &Aws,
    instance: &InstanceId,
    asked: Asked<'_>,
    what: &str,
    wait_seconds: u32,
) -> Result<CheckReading, Box<Finding>> {
    let clock = aws.clock();
    let token = clock.new_id();
    let act_by = clock.now() + SignedDuration::from_secs(10);
    let refused = |refusal: CallError| Box::new(refused(what, &refusal));
    let sent = ssm::send(&aws.ssm, &clock, instance, &token, asked, act_by).await;
    let command_id = sent.map_err(refused)?;
    for _ in 0..wait_seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        match ssm::read_check(&aws.ssm, instance, command_id.as_deref(), &token).await {
            Ok(CheckReading::Pending { .. } | CheckReading::Absent) => {}
            Ok(answer) => return Ok(answer),
            Err(refusal) => return Err(refused(refusal)),
        }
    }
    let words = format!("{what}: no answer within {wait_seconds} s");
    Err(Box::new(warn(words, "check again later")))
}

/// An answer of another sort than the question.
pub(crate) fn strange(reading: &CheckReading) -> String {
    match reading {
        CheckReading::Undelivered { detail } | CheckReading::Broken { detail } => detail.clone(),
        CheckReading::Said { state } => format!("the host says {state:?}"),
        CheckReading::Exited { code, .. } => format!("it exited with {code}"),
        CheckReading::Pending { .. } | CheckReading::Absent => "no answer".to_owned(),
    }
}

fn enabled(unit: &UnitName, state: &str) -> Finding {
    let unit = unit.as_str();
    match state {
        "enabled" | "alias" | "static" | "indirect" | "generated" => {
            ok(format!("{unit} is {state} at boot"))
        }
        "unknown" | "not-found" => error(
            format!("systemd on the machine does not know {unit}"),
            "check systemd_unit in the fleet file",
        ),
        _ => error(
            format!("{unit} is {state}: it will not start when the machine does"),
            &format!("run `systemctl enable {unit}` on the machine"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::finding::Level;

    #[test]
    fn a_unit_that_does_not_start_at_boot_is_an_error_with_its_cure() {
        let unit = UnitName::parse("positionkeeper").unwrap();
        for (state, level) in [
            ("enabled", Level::Ok),
            ("static", Level::Ok),
            ("disabled", Level::Error),
            ("masked", Level::Error),
            ("not-found", Level::Error),
        ] {
            assert_eq!(enabled(&unit, state).level, level, "{state}");
        }
        let hint = enabled(&unit, "disabled").hint.unwrap();
        assert!(hint.contains("systemctl enable positionkeeper"));
    }
}
