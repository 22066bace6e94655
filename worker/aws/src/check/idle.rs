//! `check --aws` for idle policies: each probe asked once, if the target is on.
//!
//! *Invariant.* A probe that answers nothing useful is a warning, no error: a backend may be busy starting,
//! and unknown is never idle, so nothing is stopped by it.

use std::sync::Arc;

use lamplighter_lifecycle::{
    Agent, CheckReading, CommandProbe, IdleMemory, IdleOverride, PowerState, Probe, Reading,
    Resource, TargetSpec, plan_probes,
};

use crate::batch::Batcher;
use crate::check::finding::{Finding, SeenBy, error, ok, warn};
use crate::check::host::{ask_host, strange};
use crate::client::Aws;
use crate::probe::Probes;
use crate::secrets::Secrets;
use crate::ssm::{Agents, Asked};

/// Beyond a command's own time: for SSM to deliver it and to report.
const HOST_SECONDS: u32 = 40;

pub(crate) async fn check_idle(aws: &Aws, spec: &TargetSpec, seen: SeenBy) -> Vec<Finding> {
    let (Some(idle), Some((resource, observed))) = (&spec.idle, seen) else { return Vec::new() };
    if idle.probes.is_empty() {
        return vec![ok(format!("idle after {} without a keep-alive", idle.after))];
    }
    if observed.state() != PowerState::Running {
        let what = "it is not on: its probes were not asked";
        return vec![warn(what, "check again while it runs")];
    }
    let Some(plan) =
        plan_probes(spec, &observed, &resource, &IdleMemory::default(), IdleOverride::default())
    else {
        return Vec::new();
    };
    let secrets = Arc::new(Secrets::new(aws.secrets.clone()));
    let probes = match Probes::new(aws, secrets, aws.clock()) {
        Ok(probes) => probes,
        Err(refusal) => {
            return vec![error(format!("its probes: {refusal}"), "see the message")];
        }
    };
    let round = probes.ask(&plan).await;
    let mut findings = Vec::new();
    for (probe, reading) in plan.probes.iter().zip(round.readings) {
        findings.push(match (probe, reading) {
            (Probe::Command(command), _) => check_command(aws, &resource, command).await,
            (_, Some(reading)) => told(probe, &reading),
            (_, None) => warn(format!("{}: not asked", probe.label()), "check again later"),
        });
    }
    findings
}

fn told(probe: &Probe, reading: &Reading) -> Finding {
    let label = probe.label();
    match reading {
        Reading::Number { value, ahead_millis, .. } => {
            let ahead = ahead_millis.unwrap_or(0);
            match ahead.abs() > CLOCK_MILLIS {
                false => ok(format!("{label}: {value}")),
                true => warn(
                    format!("{label}: {value}; its clock is {} s off ours", ahead / 1000),
                    "set the backend's clock by NTP: times are corrected, but only as well as `Date` tells",
                ),
            }
        }
        Reading::Series { points } => match points.first() {
            Some(newest) => ok(format!(
                "{label}: {} points, {} at {:.0} the newest",
                points.len(),
                newest.value,
                newest.at
            )),
            None => warn(
                format!("{label}: no data within its look-back"),
                "no data is not idle: check namespace, name and dimensions, and whether it is published",
            ),
        },
        Reading::Exit { code, output } => ok(format!("{label}: exit code {code}, {output:?}")),
        Reading::Unknown { detail, .. } => {
            warn(format!("{label}: {detail}"), "unknown is not idle: it would never be stopped")
        }
    }
}

/// A clock that is off by more than the second of `Date` and a slow answer.
const CLOCK_MILLIS: i64 = 5_000;

async fn check_command(aws: &Aws, resource: &Resource, command: &CommandProbe) -> Finding {
    let Some(instance) = resource.instance() else {
        return error("a service has no host for a command to run on", "use another probe");
    };
    let agent = Batcher::new(Agents { client: aws.ssm.clone() }).call(instance.clone()).await;
    match agent {
        Ok(Agent::Online) => {}
        Ok(_) => {
            let hint = "without its SSM agent the command is unknown, and unknown is not idle";
            return error("command: the SSM agent does not answer", hint);
        }
        Err(refusal) => return error(format!("command: {refusal}"), "see the message"),
    }
    let asked = Asked::Idle { script: &command.script, timeout_seconds: command.timeout_seconds };
    let wait = HOST_SECONDS.saturating_add(command.timeout_seconds);
    match ask_host(aws, instance, asked, "the command on its host", wait).await {
        Ok(CheckReading::Exited { code: code @ (0 | 1), output }) => {
            ok(format!("command: exit code {code}, {output:?}"))
        }
        Ok(other) => warn(
            format!("command: {}", strange(&other)),
            "0 says idle and 1 active; anything else is unknown, and unknown is not idle",
        ),
        Err(finding) => *finding,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use lamplighter_events::HumanDuration;
    use lamplighter_lifecycle::{Condition, MetricProbe, MetricReads, Missing, Point, Statistic};

    use super::*;
    use crate::check::finding::Level;

    #[test]
    fn a_metric_without_data_is_worth_a_warning() {
        let probe = Probe::Metric(MetricProbe {
            namespace: "Fluidity".to_owned(),
            name: "ActiveConnections".to_owned(),
            dimensions: [].into(),
            statistic: Statistic::Average,
            period_seconds: 60,
            look_back: None,
            lag: HumanDuration::from_seconds(180).unwrap(),
            missing: Missing::Unknown,
            reads: MetricReads::IdleWhen(Condition::parse("== 0").unwrap()),
        });
        let check = |values: &[f64], level: Level| {
            let at = Timestamp::UNIX_EPOCH;
            let points = values.iter().map(|value| Point { at, value: *value }).collect();
            let reading = Reading::Series { points };
            assert_eq!(told(&probe, &reading).level, level, "{values:?}");
        };
        check(&[], Level::Warn);
        check(&[0.0], Level::Ok);
        let reading =
            Reading::Unknown { detail: "it answers HTTP 500".to_owned(), unreachable: false };
        assert_eq!(told(&probe, &reading).level, Level::Warn);
    }
}
