//! What is checked as it happens: commits, effects, deletes.

use jiff::{SignedDuration, Timestamp};
use lamplighter_cloud::{MachineState, World};
use lamplighter_events::{AttentionKind, Cause, CommandId, EventBody, LifecycleEvent, Outcome};
use lamplighter_lifecycle::{
    ACT_WITHIN_SECONDS, Effect, EffectKind, HoldKind, Phase, RECORD_BYTES_MAX, RUNS_MAX, Resource,
    Run, TargetRecord,
};
use lamplighter_runtime::ports::Commit;

use super::{Around, Watch, Writer, in_force, is_wanted, outcome_of, tells, without_answer};
use crate::rule::Rule;
use crate::table::Table;

/// A look takes so long at most, faults included: what was seen was so within this.
const LOOK_SECONDS: i64 = 60;
/// Workers' clocks are set by whole seconds.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_secs(2);

impl Watch {
    /// A commit that goes through, just before it does.
    pub(crate) fn committed(
        &mut self,
        before: Option<&TargetRecord>,
        commit: &Commit,
        around: &Around<'_>,
        by: Writer,
        now: Timestamp,
    ) {
        let Writer { worker_now, .. } = by;
        let after = &commit.record;
        let name = format!("{} rev {}", after.target, after.rev);
        if let Some(there) = around.table.format_of(&after.target)
            && there > by.format
        {
            let what = format!("{name}: format {} written over format {there}", by.format);
            self.wrong(Rule::R2, now, what);
        }
        self.minded.entry(after.target.clone()).or_default().insert(after.resource.clone());
        let rev = before.map_or(0, |before| before.rev);
        if after.rev != rev + 1 {
            self.wrong(Rule::D6, now, format!("{name} follows rev {rev}"));
        }
        let bytes = serde_json::to_string(after).map_or(usize::MAX, |json| json.len());
        if bytes > RECORD_BYTES_MAX {
            self.wrong(Rule::R1, now, format!("{name}: its record has {bytes} bytes"));
        }
        self.check_permission(&name, before, commit, worker_now, now);
        self.check_commands(&name, commit, around.table, now);
        self.check_conclusions(&name, before, commit, around.world, now);
        self.check_idle_ends(&name, before, commit, around, by, now);
        self.check_waits(&name, after, worker_now, now);
        self.check_adoption(&name, before, after, now);
        self.check_runs(&name, before, after, now);
        for event in &after.outbox {
            self.check_event(&name, after, event, now);
        }
    }

    fn check_permission(
        &mut self,
        name: &str,
        before: Option<&TargetRecord>,
        commit: &Commit,
        worker_now: Timestamp,
        now: Timestamp,
    ) {
        let after = &commit.record;
        let held = before.and_then(|before| before.doing.as_ref());
        if let Some(doing) = after.doing.as_ref().filter(|doing| Some(*doing) != held) {
            if held.is_some_and(|held| held.act_by >= worker_now + CLOCK_SLACK) {
                self.wrong(Rule::D6, now, format!("{name}: a permission while another runs"));
            }
            if doing.nonce != commit.nonce {
                self.wrong(Rule::D6, now, format!("{name}: a permission of another nonce"));
            }
            let decided_at = doing.act_by - SignedDuration::from_secs(ACT_WITHIN_SECONDS);
            // A machine of a launch that was given up is not the one that is wanted.
            let another = matches!(doing.effect, Effect::TerminateInstance { .. })
                && doing.effect.resource() != after.resource;
            if doing.effect.kind() == EffectKind::Stop && !another && is_wanted(after, decided_at) {
                self.wrong(Rule::D2, now, format!("{name}: a stop beside a hold in force"));
            }
            self.permitted.push((doing.effect.clone(), doing.act_by, false));
            self.bounds.permitted(&doing.effect, self.describe_lag, now);
        } else if let (Some(before), Some(_)) = (before, &after.doing)
            && (before.phase, before.step) != (after.phase, after.step)
        {
            let what = format!("{name}: concluded while an effect may be under way");
            self.wrong(Rule::Section3, now, what);
        }
    }

    /// An id is taken once, and has one outcome.
    fn check_commands(&mut self, name: &str, commit: &Commit, table: &Table, now: Timestamp) {
        if let Some(accepted) = &commit.accepted
            && let Some(existing) = table.commands.get(&accepted.id)
        {
            let (rule, what) = match &existing.outcome {
                Some(_) => (Rule::D10, "a repeat changes what was finished"),
                None => (Rule::D8, "taken twice"),
            };
            self.wrong(rule, now, format!("{name}: {}: {what}", accepted.id));
        }
        for outcome in &commit.outcomes {
            match table.commands.get(&outcome.command) {
                None => {
                    self.wrong(
                        Rule::D8,
                        now,
                        format!("{name}: an outcome of nobody's: {outcome:?}"),
                    );
                }
                Some(command) if command.outcome.is_some() => {
                    let what = format!("{name}: a second outcome of {}", outcome.command);
                    self.wrong(Rule::D8, now, what);
                }
                Some(_) => {}
            }
        }
    }

    /// What is said of the machine must have been so a moment ago.
    fn check_conclusions(
        &mut self,
        name: &str,
        before: Option<&TargetRecord>,
        commit: &Commit,
        world: &World,
        now: Timestamp,
    ) {
        let after = &commit.record;
        let came_on = after.phase == Phase::On && before.is_none_or(|it| it.phase != Phase::On);
        let look = LOOK_SECONDS + self.describe_lag.as_secs();
        if came_on && !was_running(world, &after.resource, now, after, look) {
            let what = format!("{name}: said to be on, and it was not");
            self.wrong(Rule::D3, now, what);
        }
        let Resource::Instance(id) = &after.resource else { return };
        let Some(machine) = world.machines.get(id.as_str()) else { return };
        let taken = commit.accepted.as_ref().and_then(|it| it.outcome.as_ref());
        let bounced = |outcome: &&Outcome| outcome.cause == Some(Cause::Bounced);
        let honest = machine.behaviour.bounce.is_some() || self.was_stopped_outside(&after.target);
        if let Some(outcome) = commit.outcomes.iter().chain(taken).find(bounced)
            && !honest
        {
            let what = format!("{name}: {} said to have bounced: nothing did", outcome.command);
            self.wrong(Rule::D3, now, what);
        }
    }

    /// Whatever waits has a time at which somebody looks.
    fn check_waits(
        &mut self,
        name: &str,
        after: &TargetRecord,
        worker_now: Timestamp,
        now: Timestamp,
    ) {
        let moving = matches!(after.phase, Phase::Starting | Phase::Stopping);
        let waits = after.doing.is_some()
            || !after.unanswered.is_empty()
            || !after.outbox.is_empty()
            || (moving && after.paused.is_none())
            || after.holds.iter().any(|hold| hold.until.is_some());
        if waits && after.wake_at.is_none() {
            let what = format!("{name}: it waits and nobody wakes it: {}", after.why);
            self.wrong(Rule::Section3, now, what);
        }
        let end = after.holds.iter().filter_map(|hold| hold.until).min();
        // An end that has passed is found by the next look, which comes soon.
        let soon = worker_now + SignedDuration::from_secs(60);
        let late = |end: Timestamp| after.wake_at.is_some_and(|at| at > end.max(soon));
        if end.is_some_and(late) && after.doing.is_none() {
            self.wrong(Rule::Section3, now, format!("{name}: a hold ends and nobody looks"));
        }
    }

    /// Only what somebody outside started is adopted; an adopted machine costs until it is stopped.
    fn check_adoption(
        &mut self,
        name: &str,
        before: Option<&TargetRecord>,
        after: &TargetRecord,
        now: Timestamp,
    ) {
        for hold in after.holds.iter().filter(|hold| hold.kind == HoldKind::Adopted) {
            let known = before.is_some_and(|it| it.holds.iter().any(|old| old.id == hold.id));
            if known || !in_force(hold, now + CLOCK_SLACK) {
                continue;
            }
            let ours = self.sent_up.get(&after.resource);
            let theirs = self.started_outside.get(&after.resource);
            if ours.is_some_and(|ours| theirs.is_none_or(|theirs| theirs < ours)) {
                let what = format!("{name}: adopted, and nobody outside started it");
                self.wrong(Rule::D1, now, what);
            }
        }
    }

    /// When it was up: in order, never twice at once, open exactly while it is up, and never told otherwise later.
    fn check_runs(
        &mut self,
        name: &str,
        before: Option<&TargetRecord>,
        after: &TargetRecord,
        now: Timestamp,
    ) {
        let runs = &after.runs;
        let times = runs.iter().flat_map(|run| [Some(run.from), run.ready, run.until]).flatten();
        let ended = runs.iter().filter(|run| run.until.is_some()).count();
        let open = runs.last().is_some_and(|run| run.until.is_none());
        let fits = times.is_sorted() && ended + usize::from(open) == runs.len();
        if !fits || open != after.is_up() {
            let what = format!("{name}: {} and its runs are {runs:?}", after.phase.as_str());
            self.wrong(Rule::Section3, now, what);
        }
        let known = before.into_iter().flat_map(|before| &before.runs);
        let is_told = |run: &&Run| run.until.is_none() || runs.contains(run);
        // The oldest are forgotten, two at most in one commit.
        if known.skip(if runs.len() < RUNS_MAX { 0 } else { 2 }).any(|run| !is_told(&run)) {
            let what = format!("{name}: a run that was over is told otherwise: {runs:?}");
            self.wrong(Rule::Section3, now, what);
        }
    }

    fn check_event(
        &mut self,
        name: &str,
        after: &TargetRecord,
        event: &LifecycleEvent,
        now: Timestamp,
    ) {
        let first = self.events.entry(event.id.clone()).or_insert_with(|| event.clone());
        if without_answer(first).body != without_answer(event).body {
            let what = format!("{name}: two events with the id {}", event.id);
            self.wrong(Rule::Section3, now, what);
        }
        if let EventBody::Attention { attention: AttentionKind::StoppedOutside, .. } = event.body
            && !self.was_stopped_outside(&after.target)
        {
            let what = format!("{name}: counted as stopped outside, and nobody stopped it");
            self.wrong(Rule::D3, now, what);
        }
    }

    /// An effect that is sent to AWS.
    pub(crate) fn issued(
        &mut self,
        effect: &Effect,
        act_by: Timestamp,
        worker_now: Timestamp,
        now: Timestamp,
    ) {
        let operation = effect.operation();
        let permission = self
            .permitted
            .iter_mut()
            .find(|(it, until, used)| *it == effect.noted() && *until == act_by && !*used);
        match permission {
            Some((.., used)) => *used = true,
            None => self.wrong(Rule::D6, now, format!("{operation} without its commit")),
        }
        if worker_now > act_by {
            self.wrong(
                Rule::D6,
                now,
                format!("{operation} at {worker_now}, allowed until {act_by}"),
            );
        }
    }

    /// A message is put among the dead letters.
    pub(crate) fn parked(&mut self, body: &str, now: Timestamp) {
        if !self.poison.contains(body) {
            self.wrong(Rule::D10, now, format!("a healthy message among the dead: {body}"));
        }
    }

    /// A message is gone from the queue.
    pub(crate) fn deleted(
        &mut self,
        table: &Table,
        emitted: &[LifecycleEvent],
        body: &str,
        now: Timestamp,
    ) {
        let Ok(body) = serde_json::from_str::<serde_json::Value>(body) else { return };
        let Some(id) = body["id"].as_str().filter(|_| body["action"].is_string()) else { return };
        let Ok(id) = CommandId::parse(id) else { return };
        let Some(command) = table.commands.get(&id) else {
            return self.wrong(Rule::D7, now, format!("{id} deleted before its commit"));
        };
        let Some(outcome) = &command.outcome else { return };
        let waiting = table.records().flat_map(|record| &record.outbox);
        let told = |event| outcome_of(event).is_some_and(|told| tells(told, outcome));
        if !waiting.chain(emitted).any(told) {
            self.wrong(Rule::D7, now, format!("{id} deleted before its event is durable"));
        }
    }
}

/// Whether it ran a moment ago. A service that is adopted on its way up wants tasks, and no more.
fn was_running(
    world: &World,
    resource: &Resource,
    now: Timestamp,
    after: &TargetRecord,
    look_seconds: i64,
) -> bool {
    let adopted = after.holds.iter().any(|hold| hold.kind == HoldKind::Adopted);
    // Close together: somebody may stop a machine in its first second, and a look that lags has seen that one.
    (0..=look_seconds * 10).any(|tenths| {
        let at = now - SignedDuration::from_millis(tenths * 100);
        match resource {
            Resource::Instance(id) => {
                let machine = world.machines.get(id.as_str());
                machine.is_none_or(|it| it.seen_at(at).state == MachineState::Running)
            }
            Resource::Launch(_) => false,
            Resource::Service(id) => {
                let service = world.services.get(id.cluster(), id.service());
                service.is_none_or(|service| {
                    let sight = service.seen_at(at);
                    let desired = sight.view.desired;
                    desired > 0 && (sight.running() >= desired || adopted)
                })
            }
        }
    })
}
