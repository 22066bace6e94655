//! What should have come about when faults have ceased and the repair bound has passed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use lamplighter_cloud::queue::Message;
use lamplighter_cloud::{MachineState, World};
use lamplighter_events::{Action, Cause, CommandId, LifecycleEvent, Outcome, TargetName, Verdict};
use lamplighter_lifecycle::{
    CommandRecord, HoldKind, Kind, OUTBOX_MAX, Phase, Resource, TargetRecord,
};

use super::{Said, Watch, is_wanted, outcome_of, tells};
use crate::backends::Backend;
use crate::launched::of_token;
use crate::rule::{Finding, Rule};
use crate::table::Table;

/// A due record is found by a sweep within a minute and worked on at once.
const DUE_WITHIN: SignedDuration = SignedDuration::from_mins(3);
/// From a decision to its events, without faults: a commit and a call.
const TOLD_WITHIN: SignedDuration = SignedDuration::from_secs(10);

/// The longest way up or down.
const TURNS_WITHIN: SignedDuration = SignedDuration::from_mins(5);

/// What the story knows and the world does not.
#[derive(Debug, Default)]
pub struct Ending {
    /// Everything that users sent.
    pub said: Vec<Said>,
    /// Ids that came with what cannot be understood.
    pub refused: BTreeSet<CommandId>,
    /// Targets whose failed starts keep their machines.
    pub keep_failed: BTreeSet<TargetName>,
    /// The workers that are at work.
    pub working: Vec<u64>,
    /// The machines and services that the fleet names, or once named.
    pub resources: BTreeSet<Resource>,
}

/// What is there at the end.
pub(crate) struct Remains<'a> {
    pub(crate) table: &'a Table,
    pub(crate) emitted: &'a [LifecycleEvent],
    pub(crate) world: &'a World,
    pub(crate) backends: &'a BTreeMap<Resource, Backend>,
    pub(crate) dead: Vec<&'a Message>,
}

impl Watch {
    /// The world after faults have ceased and the repair bound has passed.
    pub(crate) fn check_the_end(
        &mut self,
        remains: &Remains<'_>,
        ending: &Ending,
        now: Timestamp,
    ) -> Vec<Finding> {
        let Remains { table, emitted, world, backends, dead } = remains;
        // First: whoever has lost its slots shows everything else, too.
        self.check_slots(&ending.working, now);
        for one in &ending.said {
            self.check_outcome(table.commands.get(&one.id), emitted, one, now);
        }
        for id in &ending.refused {
            self.check_refused(table.commands.get(id), emitted, id, now);
        }
        for record in table.records() {
            let mut truth = Truth::of(world, &record.resource);
            if record.kind == Kind::Launched {
                // What is stopped is still there.
                truth.off = truth.gone;
            }
            let kept = ending.keep_failed.contains(&record.target);
            self.check_target(record, &truth, kept, now);
            self.check_holds(record, table, ending, now);
            self.check_idle_is_off(record, table, backends, now);
            self.check_hours(record, table, ending, now);
            self.check_bounds(record, world, now);
        }
        self.check_tracking(table, world, ending, now);
        self.check_ledger(table, world, now);
        self.check_events(table, emitted, now);
        self.check_executions(world.commands.all_executions(), now);
        self.check_dead(dead, now);
        self.take_findings()
    }

    /// The world without its bus, after everybody was killed and the repair bound has passed.
    pub(crate) fn check_without_bus(
        &mut self,
        remains: &Remains<'_>,
        ending: &Ending,
        now: Timestamp,
    ) -> Vec<Finding> {
        let Remains { table, world, dead, .. } = remains;
        self.check_slots(&ending.working, now);
        for record in table.records() {
            self.check_killed(record, ending, now);
            self.check_target(record, &Truth::of(world, &record.resource), false, now);
            if record.outbox.len() > OUTBOX_MAX {
                let (name, events) = (&record.target, record.outbox.len());
                self.wrong(Rule::Section3, now, format!("{name}: {events} events wait"));
            }
        }
        for one in &ending.said {
            let outcome = table.commands.get(&one.id).and_then(|it| it.outcome.as_ref());
            let waits = matches!(one.action, Action::Start | Action::Status | Action::CheckIdle);
            if outcome.is_none() && !waits {
                self.wrong(Rule::D8, now, format!("{} has no outcome without the bus", one.id));
            }
        }
        for id in &ending.refused {
            let outcome = table.commands.get(id).and_then(|it| it.outcome.as_ref());
            if outcome.is_none_or(|outcome| outcome.outcome != Verdict::Rejected) {
                self.wrong(Rule::D8, now, format!("{id} is poison, and came to {outcome:?}"));
            }
        }
        self.check_dead(dead, now);
        self.take_findings()
    }

    /// After a replay of finished commands: `before` is what they had come to.
    pub(crate) fn check_the_replay(
        &mut self,
        table: &Table,
        before: &BTreeMap<CommandId, Outcome>,
        now: Timestamp,
    ) -> Vec<Finding> {
        for (id, outcome) in before {
            let command = table.commands.get(id).and_then(|command| command.outcome.as_ref());
            if command != Some(outcome) {
                self.wrong(Rule::D10, now, format!("a replay changed the outcome of {id}"));
            }
        }
        std::mem::take(&mut self.findings)
    }

    /// What was promised before what it was to be kept by.
    fn take_findings(&mut self) -> Vec<Finding> {
        let mut findings = std::mem::take(&mut self.findings);
        findings.sort_by_key(|finding| (finding.at, finding.rule == Rule::Section3));
        findings
    }
}

/// How a thing really is.
pub(super) struct Truth {
    /// It costs nothing.
    off: bool,
    /// It has all that it is to have.
    up: bool,
    /// On its way up, or short of what it is to have.
    rises: bool,
    gone: bool,
    /// For people.
    name: String,
}

impl Truth {
    pub(super) fn of(world: &World, resource: &Resource) -> Self {
        let launched = match resource {
            Resource::Launch(token) => of_token(world, token.as_str()),
            Resource::Instance(id) => world.machines.get(id.as_str()),
            Resource::Service(_) => None,
        };
        match resource {
            Resource::Launch(_) | Resource::Instance(_) => {
                let state = launched.map(|machine| machine.state());
                let state = state.unwrap_or(MachineState::Terminated);
                Self {
                    off: matches!(state, MachineState::Stopped | MachineState::Terminated),
                    up: state == MachineState::Running,
                    rises: state == MachineState::Pending,
                    gone: state == MachineState::Terminated,
                    name: state.name().to_owned(),
                }
            }
            Resource::Service(id) => {
                let service = world.services.get(id.cluster(), id.service());
                let sight = service.map(|service| service.seen_at(Timestamp::MAX));
                let counts = sight.map(|it| (it.view.desired, it.running(), it.pending()));
                let (desired, running, pending) = counts.unwrap_or_default();
                Self {
                    off: desired == 0 && running + pending == 0,
                    up: desired > 0 && running >= desired,
                    rises: desired > 0 && running < desired,
                    gone: counts.is_none(),
                    name: format!("{desired} desired, {running} running, {pending} pending"),
                }
            }
        }
    }

    /// Whether it costs: it runs, or wants to.
    pub(super) fn is_up(&self) -> bool {
        self.up || self.rises
    }
}

fn is(command: &CommandRecord, verdict: Verdict) -> bool {
    command.outcome.as_ref().is_some_and(|it| it.outcome == verdict)
}

fn wants_on(said: &Said) -> bool {
    matches!(said.action, Action::Start | Action::Create)
}

/// Whether `ender` ends the hold that `start` asked for, by §4 and the order of sending.
fn ends(ender: &Said, command: Option<&CommandRecord>, start: &Said) -> bool {
    let ends = match ender.action {
        Action::Kill | Action::Destroy => true,
        Action::Stop => ender.holder == start.holder,
        _ => false,
    };
    let taken = command.is_some_and(|command| !is(command, Verdict::Rejected));
    ends && taken && ender.target == start.target
}

impl Watch {
    /// Whoever killed it last wants it off: what was asked for before does not hold it.
    fn check_killed(&mut self, record: &TargetRecord, ending: &Ending, now: Timestamp) {
        let name = &record.target;
        let mine = ending.said.iter().filter(|one| one.target == *name);
        let kill = mine.rev().find(|one| one.action == Action::Kill);
        let Some(sent) = kill.and_then(|kill| kill.sent.first()) else { return };
        for hold in record.holds.iter().filter(|hold| hold.requested() && hold.sent.at < *sent) {
            let what = format!("{name}: killed at {sent}, and {} still holds it", hold.holder);
            self.wrong(Rule::D1, now, what);
        }
    }

    fn check_outcome(
        &mut self,
        command: Option<&CommandRecord>,
        emitted: &[LifecycleEvent],
        said: &Said,
        now: Timestamp,
    ) {
        let Some(command) = command else {
            return self.wrong(Rule::D8, now, format!("{} was lost", said.id));
        };
        if !said.sent.contains(&command.sent_at) {
            let (id, at) = (&said.id, command.sent_at);
            self.wrong(Rule::D8, now, format!("{id} counts from {at}, when nobody sent it"));
        }
        let Some(outcome) = &command.outcome else {
            return self.wrong(Rule::D8, now, format!("{} has no outcome", said.id));
        };
        let mut told = emitted.iter().filter_map(outcome_of).filter(|it| it.command == said.id);
        if told.any(|it| !tells(it, outcome)) {
            self.wrong(Rule::D8, now, format!("two outcomes of {}", said.id));
        }
    }

    /// Whoever brought an id hears why it was refused.
    fn check_refused(
        &mut self,
        command: Option<&CommandRecord>,
        emitted: &[LifecycleEvent],
        id: &CommandId,
        now: Timestamp,
    ) {
        let outcome = command.and_then(|command| command.outcome.as_ref());
        if outcome.is_none_or(|outcome| outcome.outcome != Verdict::Rejected) {
            self.wrong(Rule::D8, now, format!("{id} is poison, and came to {outcome:?}"));
        }
        let told = |told| outcome.is_some_and(|outcome| tells(told, outcome));
        if !emitted.iter().filter_map(outcome_of).any(told) {
            self.wrong(Rule::D7, now, format!("nobody was told that {id} was refused"));
        }
    }

    fn check_target(&mut self, record: &TargetRecord, truth: &Truth, kept: bool, now: Timestamp) {
        let name = &record.target;
        let wanted = is_wanted(record, now);
        let (phase, why) = (record.phase, &record.why);
        let service = record.resource.service().is_some();
        // Clocks and ticks turn targets in quiet times, too: what was just turned has its time.
        let moves = matches!(phase, Phase::Starting | Phase::Stopping)
            && record.since + TURNS_WITHIN > now
            && self
                .policies
                .get(name)
                .is_some_and(|it| it.spec.idle.is_some() || it.spec.hours.is_some());
        // So has what a window of office hours let go of a moment ago.
        let ended = record.holds.iter().filter_map(|hold| hold.until);
        let just_ended = ended.into_iter().any(|at| at <= now && now < at + DUE_WITHIN);
        if moves || (just_ended && !wanted) {
            return;
        }
        // A machine that never boots cannot be stopped either: EC2 refuses while it is pending.
        let launched = record.kind == Kind::Launched;
        let off = truth.off || (self.may_fail && truth.rises && !service && !launched);
        let state = &truth.name;
        if !wanted && !off {
            let what = format!("{name}: {state} ({phase:?}) and nobody wants it: {why}");
            self.wrong(Rule::D1, now, what);
        }
        // Where tasks may fail, ECS goes on trying, and so it is on and short of them.
        let on = phase == Phase::On && (truth.up || (service && self.may_fail && truth.rises));
        let failed = phase == Phase::Failed && record.failure.is_some();
        let may_fail = self.may_fail || truth.gone;
        let window = record.holds.iter().any(|hold| hold.kind == HoldKind::Window);
        // A window tries again and again, and may just be at it.
        let tries = may_fail && window && phase == Phase::Starting;
        // A start that failed while there were faults keeps its hold where the fleet says so, and rests with its cause.
        let by_faults = record.failure.as_ref().is_some_and(|it| !self.is_calm_since(it.at));
        let excused = tries || (failed && (may_fail || (kept && by_faults)));
        if wanted && !on && !excused {
            let what = format!("{name}: {state} ({phase:?}) and wanted: {why}");
            self.wrong(Rule::D3, now, what);
        }
        if !record.open.is_empty() {
            let open = &record.open;
            self.wrong(Rule::D8, now, format!("{name}: open commands: {open:?}"));
        }
        // A unit may be asked for just now.
        let expired = record.doing.as_ref().filter(|doing| doing.act_by + DUE_WITHIN < now);
        if expired.is_some() || !record.unanswered.is_empty() {
            let open = &record.unanswered;
            let what = format!("{name}: an effect is still open: {expired:?} {open:?}");
            self.wrong(Rule::Section3, now, what);
        }
        if record.wake_at.is_some_and(|at| at < now - DUE_WITHIN) {
            let at = record.wake_at;
            self.wrong(Rule::Section3, now, format!("{name}: due since {at:?}"));
        }
    }

    /// Works out anew who must hold the target, and who must not.
    fn check_holds(
        &mut self,
        record: &TargetRecord,
        table: &Table,
        ending: &Ending,
        now: Timestamp,
    ) {
        let name = &record.target;
        let stopped_outside = self.was_stopped_outside(name);
        let idle_ended = self.idle.ended_of(name);
        // A hold that idleness ended stands for all starts of its holder up to its own.
        let by_idleness = |start: &Said, command: &CommandRecord| {
            let place = (command.sent_at, start.id.as_str());
            idle_ended
                .iter()
                .any(|(holder, at, id)| *holder == start.holder && (*at, id.as_str()) >= place)
        };
        let keeps = ending.keep_failed.contains(name);
        let mine: Vec<(&Said, Option<&CommandRecord>)> = ending
            .said
            .iter()
            .filter(|one| one.target == *name)
            .map(|one| (one, table.commands.get(&one.id)))
            .collect();
        let ended_by_newer = |start: &Said, taken: &CommandRecord| {
            mine.iter().any(|(it, command)| {
                ends(it, *command, start) && it.order(*command) > start.order(Some(taken))
            })
        };
        // The newest start decides the end, also of what an older one asked for that came late.
        let outlived = |start: &Said, taken: &CommandRecord| {
            mine.iter().any(|(it, command)| {
                let over = |command: &CommandRecord| {
                    it.hold_for.is_some_and(|long| command.sent_at + long <= now)
                };
                wants_on(it)
                    && it.holder == start.holder
                    && it.order(*command) > start.order(Some(taken))
                    && command.is_some_and(over)
            })
        };
        for hold in record.holds.iter().filter(|hold| hold.requested()) {
            let start = mine.iter().find(|(one, _)| one.id.as_str() == hold.id);
            let Some((one, Some(command))) = start else {
                self.wrong(Rule::D8, now, format!("{name}: a hold of nobody's: {}", hold.id));
                continue;
            };
            if is(command, Verdict::Rejected) || (is(command, Verdict::Failed) && !keeps) {
                self.wrong(Rule::D8, now, format!("{name}: {} did not succeed and holds", one.id));
            }
            if ended_by_newer(one, command) {
                self.wrong(Rule::D8, now, format!("{name}: {} was ended and holds", one.id));
            }
        }
        for (one, command) in mine.iter().filter(|(one, _)| wants_on(one)) {
            let Some(command) = command else { continue };
            let cause = command.outcome.as_ref().and_then(|outcome| outcome.cause);
            let superseded = cause == Some(Cause::Superseded);
            let by_something =
                ended_by_newer(one, command) || outlived(one, command) || by_idleness(one, command);
            if superseded && !stopped_outside && !by_something {
                self.wrong(Rule::D8, now, format!("{name}: {} superseded by nothing", one.id));
            }
            let newer = mine.iter().any(|(other, newer)| {
                wants_on(other)
                    && other.holder == one.holder
                    && other.order(*newer) > one.order(Some(command))
                    && newer.is_some_and(|command| !is(command, Verdict::Rejected))
            });
            let over = one.hold_for.is_some_and(|long| command.sent_at + long <= now);
            let holds =
                record.holds.iter().any(|hold| hold.requested() && hold.id == one.id.as_str());
            // What was launched in its place failed, honestly: then it is nobody's.
            let failed = record.kind == Kind::Launched && record.failure.is_some() && self.may_fail;
            let should = is(command, Verdict::Done)
                && !failed
                && !newer
                && !over
                && !stopped_outside
                && !by_idleness(one, command)
                && !ended_by_newer(one, command);
            if should && !holds {
                let by_older = mine.iter().any(|(it, command)| ends(it, *command, one));
                let (rule, how) = match by_older {
                    true => (Rule::D8, "by an older command"),
                    false => (Rule::D3, "and nobody ended it"),
                };
                self.wrong(rule, now, format!("{name}: the hold of {} is gone, {how}", one.id));
            }
        }
    }

    /// Everything of ours that is up is minded by one record.
    fn check_tracking(&mut self, table: &Table, world: &World, ending: &Ending, now: Timestamp) {
        for resource in &ending.resources {
            let minding = table.records().filter(|record| record.resource == *resource).count();
            if minding > 1 {
                self.wrong(Rule::D4, now, format!("{resource} is minded by {minding} targets"));
            }
            let up = Truth::of(world, resource).is_up();
            if up && minding == 0 && self.sent_up.contains_key(resource) {
                self.wrong(Rule::D4, now, format!("{resource} is up, and nobody tracks it"));
            }
        }
    }

    /// What was committed to be told was told.
    fn check_events(&mut self, table: &Table, emitted: &[LifecycleEvent], now: Timestamp) {
        let told: BTreeSet<&str> = emitted.iter().map(|event| event.id.as_str()).collect();
        // A clock may turn a target in quiet times, too: what it decided just now, and what its record still has to
        // send, is being sent.
        let sending: BTreeSet<&str> = table
            .records()
            .flat_map(|record| &record.outbox)
            .map(|event| event.id.as_str())
            .collect();
        let just = |event: &LifecycleEvent| {
            event.at + TOLD_WITHIN > now && sending.contains(event.id.as_str())
        };
        let due = self.events.values().filter(|event| !just(event));
        let untold: Vec<String> =
            due.map(|event| event.id.clone()).filter(|id| !told.contains(id.as_str())).collect();
        for id in untold {
            self.wrong(Rule::D7, now, format!("the event {id} was committed and never sent"));
        }
    }

    fn check_executions(&mut self, executions: &BTreeMap<String, u64>, now: Timestamp) {
        let mut by_token: BTreeMap<&str, u64> = BTreeMap::new();
        for (guard, times) in executions {
            let token = guard.split('#').next().unwrap_or(guard);
            *by_token.entry(token).or_default() += times;
        }
        for (token, times) in by_token.into_iter().filter(|(_, times)| *times > 1) {
            self.wrong(Rule::D5, now, format!("{token} took effect {times} times"));
        }
    }

    /// Poison is among the dead letters, and nothing else is: what SQS moved there itself included.
    fn check_dead(&mut self, letters: &[&Message], now: Timestamp) {
        let dead: BTreeSet<&str> = letters.iter().map(|letter| letter.body.as_str()).collect();
        for body in &dead {
            self.parked(body, now);
        }
        let dropped = self.poison.iter().filter(|body| !dead.contains(body.as_str()));
        for body in dropped.cloned().collect::<Vec<_>>() {
            self.wrong(Rule::D7, now, format!("dropped, and not parked: {body}"));
        }
    }
}
