//! The independent checker: DESIGN.md §7's table, asked of the whole world.
//!
//! *Theory.* `Watch` is told of each commit, effect and delete as it happens, and keeps what it finds
//! wrong; `check_the_end` looks at the world after the repair bound. Nothing of the rules is reused: who
//! should hold what is worked out anew from the commands that were taken and what became of them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use lamplighter_events::{
    Action, AttentionKind, Cause, CommandId, EventBody, InstanceId, LifecycleEvent, Outcome,
    TargetName, Verdict,
};
use lamplighter_lifecycle::{
    ACT_WITHIN_SECONDS, CommandRecord, Effect, HoldKind, Phase, Sent, TargetRecord,
};
use lamplighter_runtime::ports::Commit;

use crate::world::{DEAD, Sim, Table};

/// What was seen to go wrong, and what is needed to tell.
#[derive(Default)]
pub(crate) struct Watch {
    pub(crate) violations: Vec<String>,
    /// Permissions that were committed, and whether they were used.
    permitted: Vec<(Effect, Timestamp, bool)>,
    /// Machines that somebody really started or stopped at the console.
    pub(crate) started_outside: BTreeSet<InstanceId>,
    pub(crate) stopped_outside: BTreeSet<InstanceId>,
    /// A fleet in which a start may honestly fail (no capacity, a unit that dies).
    pub(crate) may_fail: bool,
    /// Every event as it was first committed: an id names one event.
    events: BTreeMap<String, LifecycleEvent>,
}

impl Watch {
    fn wrong(&mut self, what: String) {
        self.violations.push(what);
    }

    /// A commit that went through. `now` is the worker's.
    pub(crate) fn committed(
        &mut self,
        before: Option<&TargetRecord>,
        commit: &Commit,
        now: Timestamp,
    ) {
        let after = &commit.record;
        let name = format!("{} rev {}", after.target, after.rev);
        let held = before.and_then(|before| before.doing.as_ref());
        if let Some(doing) = after.doing.as_ref().filter(|doing| Some(*doing) != held) {
            if held.is_some_and(|held| held.act_by >= now + SignedDuration::from_secs(1)) {
                self.wrong(format!("D6 {name}: a permission while another is under way"));
            }
            if doing.nonce != commit.nonce {
                self.wrong(format!("D6 {name}: a permission of another nonce"));
            }
            let decided_at = doing.act_by - SignedDuration::from_secs(ACT_WITHIN_SECONDS);
            if matches!(doing.effect, Effect::StopInstance { .. }) && after.wanted(decided_at) {
                self.wrong(format!("D2 {name}: a stop beside a hold in force"));
            }
            self.permitted.push((doing.effect.clone(), doing.act_by, false));
        } else if let (Some(before), Some(_)) = (before, &after.doing)
            && (before.phase, before.step) != (after.phase, after.step)
        {
            self.wrong(format!("§3 {name}: concluded while an effect may be under way"));
        }
        self.check_waits(&name, after, now);
        for hold in &after.holds {
            let new = before.is_none_or(|it| it.holds.iter().all(|old| old.id != hold.id));
            let outside = self.started_outside.contains(&after.instance);
            if new && hold.kind == HoldKind::Adopted && !outside {
                self.wrong(format!("D1 {name}: adopted, and nobody outside started it"));
            }
        }
        for event in &after.outbox {
            let first = self.events.entry(event.id.clone()).or_insert_with(|| event.clone());
            if first.body != event.body {
                let id = event.id.clone();
                self.wrong(format!("§3 {name}: two events with the id {id}"));
            }
            let outside = self.stopped_outside.contains(&after.instance);
            if let EventBody::Attention { attention: AttentionKind::StoppedOutside, .. } =
                event.body
                && !outside
            {
                self.wrong(format!("§3 {name}: stopped outside, and nobody did"));
            }
        }
    }

    /// Whatever waits has a time at which somebody looks.
    fn check_waits(&mut self, name: &str, after: &TargetRecord, now: Timestamp) {
        let moving = matches!(after.phase, Phase::Starting | Phase::Stopping);
        let waits = after.doing.is_some()
            || !after.unanswered.is_empty()
            || !after.outbox.is_empty()
            || (moving && after.paused.is_none())
            || after.holds.iter().any(|hold| hold.until.is_some());
        if waits && after.wake_at.is_none() {
            self.wrong(format!("§3 {name}: it waits and nobody wakes it: {}", after.why));
        }
        let end = after.holds.iter().filter_map(|hold| hold.until).min();
        // An end that has passed is found by the next look, which comes soon.
        let soon = now + SignedDuration::from_secs(60);
        let late = |end: Timestamp| after.wake_at.is_some_and(|at| at > end.max(soon));
        if end.is_some_and(late) && after.doing.is_none() {
            self.wrong(format!("§3 {name}: a hold ends and nobody looks"));
        }
    }

    /// An effect that reached AWS.
    pub(crate) fn issued(&mut self, effect: &Effect, act_by: Timestamp) {
        let permission = self
            .permitted
            .iter_mut()
            .find(|(it, until, used)| it == effect && *until == act_by && !*used);
        match permission {
            Some((.., used)) => *used = true,
            None => self.wrong(format!("D6: {} without its commit", effect.operation())),
        }
    }

    /// A message was deleted.
    pub(crate) fn deleted(&mut self, table: &Table, emitted: &[LifecycleEvent], body: &str) {
        let Ok(body) = serde_json::from_str::<serde_json::Value>(body) else { return };
        let Some(id) = body["id"].as_str().filter(|_| body["action"].is_string()) else { return };
        let id = CommandId::parse(id).unwrap();
        let Some(command) = table.commands.get(&id) else {
            return self.wrong(format!("D7: {id} deleted before its commit"));
        };
        let Some(outcome) = &command.outcome else { return };
        let waiting = table.records.values().flat_map(|(_, record)| &record.outbox);
        if !waiting.chain(emitted).any(|event| outcome_of(event) == Some(outcome)) {
            self.wrong(format!("D7: {id} deleted before its event is durable"));
        }
    }
}

fn outcome_of(event: &LifecycleEvent) -> Option<&Outcome> {
    match &event.body {
        EventBody::CommandCompleted { outcome } | EventBody::CommandRejected { outcome } => {
            Some(outcome)
        }
        _ => None,
    }
}

/// A command as a user sent it.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) id: CommandId,
    pub(crate) target: TargetName,
    pub(crate) action: Action,
    pub(crate) holder: String,
    pub(crate) hold_for: Option<SignedDuration>,
}

/// The world after faults have ceased and the repair bound has passed.
pub(crate) fn check_the_end(
    sim: &Sim,
    said: &[Said],
    keep_failed: &BTreeSet<TargetName>,
) -> Vec<String> {
    let now = sim.true_now();
    let mut wrong = Vec::new();
    sim.inspect(|watch, table, emitted, world| {
        world.advance(now);
        wrong.append(&mut watch.violations);
        for one in said {
            check_outcome(&mut wrong, table.commands.get(&one.id), emitted, one);
        }
        for (_, record) in table.records.values() {
            let state = world.machines.get(record.instance.as_str()).unwrap().state().name();
            let told_off = watch.stopped_outside.contains(&record.instance);
            check_target(&mut wrong, record, state, watch.may_fail, now);
            let keeps = keep_failed.contains(&record.target);
            check_holds(&mut wrong, record, table, said, told_off, keeps, now);
        }
        for (token, executions) in world.commands.all_executions() {
            if *executions > 1 {
                wrong.push(format!("D5: {token} ran {executions} times"));
            }
        }
        if world.queues.get(DEAD).unwrap().messages().next().is_some() {
            wrong.push("D10: a healthy message among the dead letters".to_owned());
        }
    });
    wrong
}

fn check_outcome(
    wrong: &mut Vec<String>,
    command: Option<&CommandRecord>,
    emitted: &[LifecycleEvent],
    said: &Said,
) {
    let Some(command) = command else {
        return wrong.push(format!("D8: {} was lost", said.id));
    };
    let Some(outcome) = &command.outcome else {
        return wrong.push(format!("D8: {} has no outcome", said.id));
    };
    let told: Vec<&Outcome> =
        emitted.iter().filter_map(outcome_of).filter(|it| it.command == said.id).collect();
    if told.is_empty() {
        wrong.push(format!("D8: nobody was told of {}", said.id));
    }
    if told.iter().any(|it| *it != outcome) {
        wrong.push(format!("D8: two outcomes of {}", said.id));
    }
}

fn check_target(
    wrong: &mut Vec<String>,
    record: &TargetRecord,
    state: &str,
    may_fail: bool,
    now: Timestamp,
) {
    let name = &record.target;
    let wanted = record.wanted(now);
    let phase = record.phase;
    if !wanted && state != "stopped" {
        wrong.push(format!("D1 {name}: {state} ({phase:?}) and nobody wants it: {}", record.why));
    }
    let on = phase == Phase::On && state == "running";
    let failed = phase == Phase::Failed && record.failure.is_some();
    if wanted && !on && !(failed && may_fail) {
        wrong.push(format!("D3 {name}: {state} ({phase:?}) and wanted: {}", record.why));
    }
    if !record.open.is_empty() {
        wrong.push(format!("D8 {name}: open commands: {:?}", record.open));
    }
    if !record.outbox.is_empty() {
        wrong.push(format!("§3 {name}: {} unsent events", record.outbox.len()));
    }
    if record.doing.is_some() || !record.unanswered.is_empty() {
        wrong.push(format!("§3 {name}: an effect is still open: {:?}", record.unanswered));
    }
    if record.wake_at.is_some_and(|at| at < now - SignedDuration::from_mins(3)) {
        wrong.push(format!("§3 {name}: due since {:?}", record.wake_at));
    }
}

/// Works out anew who must hold the target, and who must not.
fn check_holds(
    wrong: &mut Vec<String>,
    record: &TargetRecord,
    table: &Table,
    said: &[Said],
    stopped_outside: bool,
    keeps: bool,
    now: Timestamp,
) {
    let name = &record.target;
    let mine: Vec<(&Said, &CommandRecord, Sent)> = said
        .iter()
        .filter(|one| one.target == *name)
        .filter_map(|one| table.commands.get(&one.id).map(|it| (one, it)))
        .map(|(one, command)| (one, command, Sent::new(command.sent_at, one.id.as_str())))
        .collect();
    let is = |command: &CommandRecord, verdict| {
        command.outcome.as_ref().is_some_and(|it| it.outcome == verdict)
    };
    let ended_after = |holder: &str, sent: &Sent| {
        mine.iter().any(|(one, command, at)| {
            let ends =
                one.action == Action::Kill || (one.action == Action::Stop && one.holder == holder);
            ends && !is(command, Verdict::Rejected) && *at > *sent
        })
    };
    for hold in record.holds.iter().filter(|hold| hold.requested()) {
        let start = mine.iter().find(|(one, ..)| one.id.as_str() == hold.id);
        let Some((one, command, sent)) = start else {
            wrong.push(format!("D8 {name}: a hold of nobody's: {}", hold.id));
            continue;
        };
        if is(command, Verdict::Rejected) || (is(command, Verdict::Failed) && !keeps) {
            wrong.push(format!("D8 {name}: {} did not succeed and holds", one.id));
        }
        if ended_after(&one.holder, sent) {
            wrong.push(format!("D8 {name}: {} was ended and holds", one.id));
        }
    }
    for (one, command, sent) in mine.iter().filter(|(one, ..)| one.action == Action::Start) {
        let superseded = command
            .outcome
            .as_ref()
            .is_some_and(|outcome| outcome.cause == Some(Cause::Superseded));
        if superseded && !stopped_outside && !ended_after(&one.holder, sent) {
            wrong.push(format!("D8 {name}: {} superseded by nothing", one.id));
        }
        let newer = mine.iter().any(|(other, command, at)| {
            other.action == Action::Start
                && other.holder == one.holder
                && at > sent
                && !is(command, Verdict::Rejected)
        });
        let over = one.hold_for.is_some_and(|long| command.sent_at + long <= now);
        let holds = record.holds.iter().any(|hold| hold.requested() && hold.id == one.id.as_str());
        let should = is(command, Verdict::Done)
            && !newer
            && !over
            && !stopped_outside
            && !ended_after(&one.holder, sent);
        if should && !holds {
            wrong.push(format!("D3 {name}: {} is done and its hold is gone", one.id));
        }
    }
}
