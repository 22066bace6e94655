//! Faults and latency on request: what a network and a busy service do, on purpose.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use awsim_core::AwsError;
use jiff::SignedDuration;
use lamplighter_cloud::Ids;
use serde::{Deserialize, Serialize};

use crate::shared::fault;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Nothing is done and the given code is answered.
    Before,
    /// Nothing is done and the service's own throttling code is answered.
    Throttle,
    /// It is done, and the answer is lost: a bare 500 comes instead.
    After,
    /// It is done, and the answer is held back for `hold`, then lost: a client that waits less long hears
    /// nothing at all.
    Hold,
    /// It is done, and the connection is closed without a word.
    Cut,
    /// It is done, and the answer comes `hold` late.
    Slow,
    /// `zone` is impaired: EC2's calls that name a machine in it fail as a whole, and so do descriptions that name
    /// none.
    ZoneOut,
}

/// One fault to inject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// `sqs`, `ec2`, `ecs`, `application-autoscaling`, `cloudwatch`, `ssm`, `events`, `dynamodb`,
    /// `secretsmanager`, `logs`; left out: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// An operation such as `StartInstances`; left out: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The caller's access key id; left out: anyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key: Option<String>,
    /// What goes wrong.
    pub kind: FaultKind,
    /// How often, from 0 to 1.
    #[serde(default = "always")]
    pub probability: f64,
    /// How many times in all; left out: without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The code of `before`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The text of `before`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The HTTP status of `before`, 500 where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How long `hold` and `slow` hold the answer back; 30 s where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<SignedDuration>,
    /// The zone of `zone-out`, as `us-east-1b` or `b`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

impl Fault {
    /// What is wrong with it, if anything is.
    pub fn check(&self) -> Result<(), String> {
        let letter = self.zone.as_deref().and_then(letter);
        match (self.kind, letter, &self.zone) {
            (FaultKind::ZoneOut, Some(_), _) => Ok(()),
            (FaultKind::ZoneOut, None, given) => Err(format!(
                "zone: expected a zone such as us-east-1b, got {:?}",
                given.as_deref().unwrap_or_default()
            )),
            (_, _, Some(_)) => Err("zone: only kind zone-out has one".to_owned()),
            (_, _, None) => Ok(()),
        }
    }
}

/// The letter of a zone.
fn letter(zone: &str) -> Option<String> {
    let last = zone.chars().next_back().filter(char::is_ascii_lowercase)?;
    let rest = &zone[..zone.len() - 1];
    (rest.is_empty() || rest.ends_with(|it: char| it.is_ascii_digit())).then(|| last.to_string())
}

/// The letters of the zones that these faults impair.
pub(crate) fn zones_out(faults: &[Fault]) -> BTreeSet<String> {
    let out = faults.iter().filter(|it| it.kind == FaultKind::ZoneOut && it.count != Some(0));
    out.filter_map(|it| letter(it.zone.as_deref()?)).collect()
}

fn always() -> f64 {
    1.0
}

/// Time that every call takes beyond its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// At least so much.
    pub base: SignedDuration,
    /// Up to so much more, drawn.
    #[serde(default)]
    pub jitter: SignedDuration,
}

/// What happens to one call.
#[derive(Debug)]
pub(crate) enum Verdict {
    Pass,
    Refuse(AwsError),
    /// It is done; then this happens to its answer, after a while.
    Spoil {
        after: Duration,
        how: Spoiled,
    },
}

/// What becomes of the answer to a call that was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoiled {
    /// It comes all the same.
    Late,
    /// A bare 500 comes instead.
    Lost,
    /// The connection ends without one.
    Cut,
}

/// The faults in force.
#[derive(Debug)]
pub(crate) struct Faults {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    faults: Vec<Fault>,
    latency: Option<Latency>,
    ids: Ids,
}

impl Faults {
    pub(crate) fn new(faults: Vec<Fault>, latency: Option<Latency>, seed: u64) -> Self {
        Self { inner: Mutex::new(Inner { faults, latency, ids: Ids::new(seed) }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The faults with what is left of their counts.
    pub(crate) fn list(&self) -> Vec<Fault> {
        self.lock().faults.clone()
    }

    /// Replaces all faults.
    pub(crate) fn set(&self, faults: Vec<Fault>) {
        self.lock().faults = faults;
    }

    /// Replaces the latency.
    pub(crate) fn set_latency(&self, latency: Option<Latency>) {
        self.lock().latency = latency;
    }

    /// How long this call is to be delayed.
    pub(crate) fn delay(&self) -> Duration {
        let mut inner = self.lock();
        let Some(latency) = inner.latency.clone() else { return Duration::ZERO };
        let base = Duration::try_from(latency.base).unwrap_or_default();
        let jitter = Duration::try_from(latency.jitter).unwrap_or_default();
        let nanos = u64::try_from(jitter.as_nanos()).unwrap_or(u64::MAX - 1);
        base + Duration::from_nanos(inner.ids.draw() % (nanos + 1))
    }

    /// What becomes of this call: the first fault that fits and strikes decides.
    pub(crate) fn judge(
        &self,
        service: &str,
        operation: &str,
        access_key: Option<&str>,
    ) -> Verdict {
        let mut inner = self.lock();
        let Inner { faults, ids, .. } = &mut *inner;
        let fits = |wanted: &Option<String>, actual: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(actual))
        };
        for it in faults.iter_mut() {
            // That one is the world's.
            let applies = it.kind != FaultKind::ZoneOut
                && fits(&it.service, service)
                && fits(&it.operation, operation)
                && fits(&it.access_key, access_key.unwrap_or_default())
                && it.count != Some(0);
            if !applies || !strikes(it.probability, ids) {
                continue;
            }
            it.count = it.count.map(|left| left - 1);
            return match it.kind {
                FaultKind::Before => Verdict::Refuse(fault(
                    it.status.unwrap_or(500),
                    it.code.as_deref().unwrap_or("InternalError"),
                    it.message.as_deref().unwrap_or("An internal error occurred (injected)."),
                )),
                FaultKind::Throttle => Verdict::Refuse(throttling(service)),
                FaultKind::After => Verdict::Spoil { after: Duration::ZERO, how: Spoiled::Lost },
                FaultKind::Cut => Verdict::Spoil { after: Duration::ZERO, how: Spoiled::Cut },
                FaultKind::Hold => Verdict::Spoil { after: held_back(it), how: Spoiled::Lost },
                FaultKind::Slow => Verdict::Spoil { after: held_back(it), how: Spoiled::Late },
                FaultKind::ZoneOut => Verdict::Pass,
            };
        }
        Verdict::Pass
    }
}

fn held_back(fault: &Fault) -> Duration {
    let hold = fault.hold.unwrap_or(SignedDuration::from_secs(30));
    Duration::try_from(hold).unwrap_or_default()
}

fn strikes(probability: f64, ids: &mut Ids) -> bool {
    if probability >= 1.0 {
        return true;
    }
    // 53 bits are what a double holds exactly.
    #[allow(clippy::cast_precision_loss)]
    let drawn = (ids.draw() >> 11) as f64 / (1_u64 << 53) as f64;
    drawn < probability
}

/// How each service says that it is asked too much.
fn throttling(service: &str) -> AwsError {
    match service {
        "ec2" => fault(503, "RequestLimitExceeded", "Request limit exceeded."),
        "sqs" => fault(400, "RequestThrottled", "Request was throttled."),
        "cloudwatch" => fault(400, "Throttling", "Rate exceeded"),
        "dynamodb" => fault(
            400,
            "ProvisionedThroughputExceededException",
            "The level of configured provisioned throughput for the table was exceeded.",
        ),
        _ => fault(400, "ThrottlingException", "Rate exceeded"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_fault_strikes_so_often_and_no_more() {
        let wanted = r#"[{"service":"ec2","kind":"throttle","count":2}]"#;
        let faults = Faults::new(serde_json::from_str(wanted).unwrap(), None, 1);
        let strikes = |service: &str| {
            matches!(faults.judge(service, "StartInstances", None), Verdict::Refuse(_))
        };
        assert!(!strikes("sqs"));
        assert!(strikes("ec2"));
        assert!(strikes("ec2"));
        assert!(!strikes("ec2"));
    }

    #[test]
    fn a_seed_fixes_which_calls_fail() {
        let run = || {
            let wanted = r#"[{"kind":"after","probability":0.5}]"#;
            let faults = Faults::new(serde_json::from_str(wanted).unwrap(), None, 9);
            let lost = |_| matches!(faults.judge("sqs", "X", None), Verdict::Spoil { .. });
            (0..64).map(lost).collect::<Vec<bool>>()
        };
        let drawn = run();
        assert_eq!(drawn, run());
        assert!(drawn.contains(&true) && drawn.contains(&false));
    }

    #[track_caller]
    fn check_zone(fault: &str, expected: Result<&str, &str>) {
        let fault: Fault = serde_json::from_str(fault).unwrap();
        let found = fault.check().map(|()| zones_out(std::slice::from_ref(&fault)));
        match (found, expected) {
            (Ok(zones), Ok(letter)) => assert_eq!(zones, BTreeSet::from([letter.to_owned()])),
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            (found, expected) => panic!("{found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn a_zone_is_impaired_by_its_name_or_its_letter() {
        check_zone(r#"{"kind":"zone-out","zone":"us-east-1b"}"#, Ok("b"));
        check_zone(r#"{"kind":"zone-out","zone":"c"}"#, Ok("c"));
        check_zone(r#"{"kind":"zone-out","zone":"us-east-1"}"#, Err("us-east-1b"));
        check_zone(r#"{"kind":"zone-out"}"#, Err("us-east-1b"));
        check_zone(r#"{"kind":"cut","zone":"a"}"#, Err("only kind zone-out"));
    }

    #[test]
    fn an_unknown_field_of_a_fault_is_refused_by_name() {
        let error = serde_json::from_str::<Fault>(r#"{"kind":"after","when":1}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `when`"), "{error}");
    }
}
