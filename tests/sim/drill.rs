//! Drills: one command, in a world where nothing else goes wrong, with faults at calls that are named by
//! their number.
//!
//! A drill without faults tells how many calls the command takes; every one of them is then struck, with
//! each sort of fault, alone and in pairs. Whatever was struck, the command must come to its end, the
//! machine must be where it was wanted, and [`crate::checker`] must find nothing.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use lamplighter_cloud::Timings;
use lamplighter_events::{Action, CommandId, Verdict};
use lamplighter_lifecycle::{Phase, Resource};
use lamplighter_runtime::{Fleet, WorkerOptions};
use serde_json::json;

use crate::checker::{Ending, Finding, Rule, Said, check_the_end};
use crate::crowd::spec;
use crate::staff::{Place, run};
use crate::tale;
use crate::world::{Fault, INSTANCE, Sim};

/// One seed is enough: what varies are the faults.
const SEED: u64 = 7;
/// In a drill nothing waits longer than a lost message's visibility and a few retries.
const PATIENCE: Duration = Duration::from_secs(400);
/// How often it is looked whether all is at rest.
const LOOK: Duration = Duration::from_secs(2);
/// Until a lost answer can no longer come true (15 min and the skew bound), and a look each minute has
/// found it so.
const AFTERMATH: Duration = Duration::from_secs(19 * 60);
/// Slots of the one worker.
const SLOTS: usize = 4;

/// The actions that this release's kind can do.
pub const ACTIONS: [Action; 7] = [
    Action::Start,
    Action::Stop,
    Action::Kill,
    Action::Status,
    Action::CheckIdle,
    Action::Pause,
    Action::Resume,
];

/// What a drill came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What may never be, and was.
    pub findings: Vec<Finding>,
    /// How many calls were made since the command was sent, until all was at rest.
    pub calls: usize,
    /// How many calls were made in all.
    pub steps: usize,
    /// How many faults struck.
    pub faults: usize,
    /// All of it, in the order of time.
    pub tale: String,
}

/// Whether the machine is on before the command comes, and after it.
fn before_and_after(action: Action) -> (bool, bool) {
    match action {
        Action::Start => (false, true),
        Action::Stop | Action::Kill => (true, false),
        _ => (true, true),
    }
}

/// How many calls a command takes when nothing goes wrong.
pub fn length(action: Action) -> usize {
    drill(action, &[]).calls
}

/// One command, with these faults at these calls, counted from its sending.
pub fn drill(action: Action, faults: &[(usize, Fault)]) -> Report {
    run(|| play(action, faults))
}

async fn play(action: Action, faults: &[(usize, Fault)]) -> Report {
    let sim = Sim::new(SEED, Timings::default());
    sim.inspect(|state| state.watch.limit_slots(SLOTS));
    let mut fleet = Fleet::default();
    let spec = spec();
    let target = spec.name.clone();
    fleet.targets.insert(target.clone(), spec);
    let options = WorkerOptions { slots: SLOTS, ..WorkerOptions::default() };
    let place = Place::open(&sim, &Arc::new(fleet), &options);
    let mut ending = Ending::default();
    ending.resources.insert(Resource::parse(INSTANCE).unwrap());
    let mut say = |action: Action, id: &str| {
        sim.say(&json!({"action": action.as_str(), "id": id, "holder": "ann"}));
        ending.said.push(Said {
            id: CommandId::parse(id).unwrap(),
            target: target.clone(),
            action,
            holder: "ann".to_owned(),
            hold_for: None,
            sent: vec![sim.true_now()],
        });
    };
    let (on_before, on_after) = before_and_after(action);
    if on_before {
        say(Action::Start, "before");
        rest(&sim).await;
    }
    if action == Action::Resume {
        say(Action::Pause, "pause");
        rest(&sim).await;
    }
    let first = sim.calls_made();
    for (number, fault) in faults {
        sim.plan(first + number, *fault);
    }
    say(action, "it");
    rest(&sim).await;
    let calls = sim.calls_made() - first;
    if !faults.is_empty() {
        tokio::time::sleep(AFTERMATH).await;
    }
    let mut findings = match action {
        // A paused target is left alone, and that is all there is to say of it.
        Action::Pause => Vec::new(),
        _ => check_the_end(&sim, &ending),
    };
    findings.extend(check(&sim, on_after));
    drop(place);
    Report {
        findings,
        calls,
        steps: sim.calls_made(),
        faults: sim.faults(),
        tale: tale::tell(&[], &sim.calls()),
    }
}

/// Until the last command has its outcome and nothing is under way.
async fn rest(sim: &Sim) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while tokio::time::Instant::now() < until {
        tokio::time::sleep(LOOK).await;
        let open = sim.inspect(|state| {
            let open = state.table.commands.values().any(|command| command.outcome.is_none());
            let busy = state.table.records().any(|record| {
                !record.open.is_empty() || record.doing.is_some() || !record.outbox.is_empty()
            });
            open || busy || state.table.commands.is_empty()
        });
        if !open && sim.queued(crate::world::COMMANDS) <= 1 {
            return;
        }
    }
}

/// The command is done, and the machine is where it was wanted.
fn check(sim: &Sim, on: bool) -> Vec<Finding> {
    let at = sim.true_now();
    let wrong = |what: String| Finding { rule: Rule::D3, at, what };
    let mut findings = Vec::new();
    let outcome = sim.command("it").and_then(|command| command.outcome);
    if outcome.as_ref().map(|outcome| outcome.outcome) != Some(Verdict::Done) {
        findings.push(wrong(format!("it came to {outcome:?}")));
    }
    let expected = if on { (Phase::On, "running") } else { (Phase::Off, "stopped") };
    let is = (sim.phase(), sim.machine_state());
    if is != (Some(expected.0), expected.1) {
        findings.push(wrong(format!("it is {is:?}, expected {expected:?}")));
    }
    let record = sim.record();
    let looks = record.as_ref().and_then(|record| record.wake_at);
    if looks.is_some_and(|wake_at| wake_at < at - SignedDuration::from_mins(2)) {
        findings.push(wrong(format!("due since {looks:?}")));
    }
    findings
}
