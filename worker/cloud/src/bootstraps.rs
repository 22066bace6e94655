//! Bootstraps: what a fleet does once to a machine that was just launched.
//!
//! A bootstrap takes the time that its machine's [`Behaviour`](crate::Behaviour) says, and prints one line,
//! `lamplighter-exit CODE TEXT`; past its own timeout it is ended and says so with 124. One with a token
//! runs once on a machine: whoever delivers it again waits for the first one's line and prints that. Where
//! the first left none (its machine stopped, or it was called off), the second waits in vain and fails.
//!
//! It counts as an execution from the moment that it begins: what it changed by then is changed.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::{SignedDuration, Timestamp};

pub use crate::machines::BootstrapRun;
use crate::machines::Machine;
use crate::queue::plus;
use crate::scripts::Script;
use crate::timings::Timings;
use crate::units::{Unit, UnitSeed};

/// The most bootstraps that a machine remembers; one or two is what machines have.
pub const RUNS_MAX: usize = 100;
/// How much longer than its timeout a second delivery waits for the first one's line.
const PATIENCE: SignedDuration = SignedDuration::from_secs(25);
/// What `timeout` exits with.
const TIMED_OUT: u8 = 124;

/// What a delivery comes to.
pub(crate) struct Delivery {
    /// Whether it is the one that runs.
    pub(crate) runs: bool,
    /// When there is something to say; never, where it hangs.
    pub(crate) completes: Option<Timestamp>,
}

/// A bootstrap is delivered to a machine: it begins, or waits for the one that began.
pub(crate) fn deliver(
    machine: &mut Machine,
    at: Timestamp,
    command_id: &str,
    script: &Script<'_>,
    timings: &Timings,
) -> Delivery {
    let soonest = plus(at, timings.command);
    if let Some(token) = script.token {
        if machine.guards.contains_key(token) {
            return Delivery { runs: false, completes: Some(soonest) };
        }
        if let Some(first) = machine.bootstraps.iter().find(|it| it.is_of(token)) {
            let completes = first.ends.map(|ends| ends.max(soonest)).or(patience(at, script));
            return Delivery { runs: false, completes };
        }
    }
    let takes = machine.behaviour.bootstrap.unwrap_or(timings.bootstrap);
    let limit = script.timeout_seconds.map(SignedDuration::from_secs);
    let ends = (!machine.behaviour.bootstrap_hangs)
        .then(|| plus(at, limit.map_or(takes, |limit| takes.min(limit))));
    if machine.bootstraps.len() == RUNS_MAX {
        machine.bootstraps.remove(0);
    }
    machine.bootstraps.push(BootstrapRun {
        command_id: command_id.to_owned(),
        token: script.token.map(str::to_owned),
        name: script.bootstrap.unwrap_or_default().to_owned(),
        environment: environment(script.environment_base64),
        began: at,
        ended: None,
        exit: None,
        ends,
        is_forgotten: false,
    });
    Delivery { runs: true, completes: ends }
}

/// What a delivery has to say at its time: an exit code and a text, or to wait until later.
pub(crate) fn complete(
    machine: &mut Machine,
    at: Timestamp,
    delivered: Timestamp,
    command_id: &str,
    script: &Script<'_>,
    timings: &Timings,
) -> Result<(i64, String), Timestamp> {
    if let Some(result) = script.token.and_then(|token| machine.guards.get(token)) {
        return Ok(result.clone());
    }
    let Machine { bootstraps, behaviour, guards, units, .. } = machine;
    let own = bootstraps.iter_mut().find(|it| it.command_id == command_id);
    let Some(run) = own.filter(|it| it.ended.is_none()) else {
        return match patience(delivered, script) {
            Some(limit) if at < limit => Err(limit),
            _ => Ok((4, String::new())),
        };
    };
    let takes = behaviour.bootstrap.unwrap_or(timings.bootstrap);
    let limit = script.timeout_seconds.filter(|it| takes > SignedDuration::from_secs(*it));
    let (code, text) = match limit {
        Some(seconds) => (TIMED_OUT, format!("ended after {seconds} s")),
        None => (
            behaviour.bootstrap_exit.unwrap_or(0),
            behaviour.bootstrap_output.clone().unwrap_or_default(),
        ),
    };
    run.ended = Some(at);
    run.exit = Some(code);
    if code == 0 {
        // What a bootstrap brings runs on as a transient unit: no boot brings it back.
        let unit = units.entry(format!("{}-model", run.name));
        let unit = unit.or_insert_with(|| Unit::new(UnitSeed::default()));
        unit.seed.enabled = true;
        unit.boot(at);
        unit.seed.enabled = false;
    }
    let result = (0, format!("lamplighter-exit {code} {text}\n"));
    if let Some(token) = script.token {
        guards.insert(token.to_owned(), result.clone());
    }
    Ok(result)
}

/// Until when a second delivery waits; without a timeout for ever.
fn patience(delivered: Timestamp, script: &Script<'_>) -> Option<Timestamp> {
    let timeout = SignedDuration::from_secs(script.timeout_seconds?);
    Some(plus(plus(delivered, timeout), PATIENCE))
}

/// Lines of `NAME=BASE64VALUE`, packed in base64 once more; what is none of these is passed over.
fn environment(packed: &str) -> BTreeMap<String, String> {
    let decoded = |text: &str| String::from_utf8(BASE64.decode(text).ok()?).ok();
    let lines = decoded(packed).unwrap_or_default();
    let each = lines.lines().filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        Some((name.to_owned(), decoded(value.trim_end())?))
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_read_as_far_as_it_can_be() {
        let lines = format!("A={}\nB=***\nC\nD=\n", BASE64.encode("x y=z\n'"));
        let got = environment(&BASE64.encode(lines));
        let expected = [("A", "x y=z\n'"), ("D", "")];
        assert_eq!(got, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        assert!(environment("no base64").is_empty());
    }
}
