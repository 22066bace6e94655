//! One pass over a target: load, observe, decide, commit once, act.
//!
//! *Invariants.*
//! - An effect is made only by the pass whose commit allowed it, before its `act_by`.
//! - What was decided is dropped when the commit was fenced: the pass reads again.
//! - Events are sent only from a record that is durable, and cleared by whoever sent them.
//! - The wake-up message carries the version that it belongs to; one of an older version is void, since
//!   every commit sets its own. A lost one costs a sweep's minute.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use lamplighter_events::{Cause, InstanceId, Outcome, Verdict, WakeUp};
use lamplighter_lifecycle::{
    AcceptedCommand, ApplyAnswer, Decision, Effect, EffectAnswer, Input, ObserveTrouble, Place,
    Refusal, Resource, Round, Sighting, SpotNotice, TargetRecord, TargetSpec, align, apply_answer,
    claimed_resource, clear_sent, decide, idle_override, never_waits_for_the_bus, plan_observation,
    plan_probes, probes_are_due, rights_may_arrive, seat_change,
};
use tracing::Instrument;

use crate::attributes::TRACE_ATTRIBUTE;
use crate::outcomes::Concluded;
use crate::ports::{Applied, CallError, Commit, Committed, Disposition, Outgoing};
use crate::shared::Shared;
use crate::work::Work;
use crate::{backoff, outcomes, telemetry};

/// How often a pass that lost its write reads again before it gives its messages back.
const FENCED_MAX: u32 = 16;
/// How long the answer to an effect waits for its events to be acknowledged, so that both are written
/// at once. What is not acknowledged by then stays in the record and is sent again.
const EVENTS_GRACE: Duration = Duration::from_secs(2);
/// SQS delays a message by 15 minutes at most; longer waits are the sweep's.
const DELAY_MAX_SECONDS: i64 = 900;

/// Works on a target until the record holds what the work asked. `Err`: again later.
pub(crate) async fn run(shared: &Shared, spec: &TargetSpec, work: &Work) -> Result<(), CallError> {
    let command = match work {
        Work::Command(command) => Some(command.as_ref()),
        Work::Nudge { .. } => None,
    };
    let span = tracing::info_span!(
        "pass",
        target_name = %spec.name,
        command = command.map(|command| command.id.to_string()),
        action = command.map(|command| command.action.as_str()),
        asked_by = match work {
            Work::Command(_) => "command",
            Work::Nudge { wake_rev: Some(_), .. } => "wake-up",
            // A signal of AWS's, or a sweep.
            Work::Nudge { wake_rev: None, .. } => "nudge",
        },
        rev = tracing::field::Empty,
        step = tracing::field::Empty,
    );
    let mut command = command.cloned();
    let (mut wake_rev, must_look, round, notice, found, given_up) = match work {
        Work::Nudge { wake_rev, look, round, notice, found, given_up, .. } => {
            (*wake_rev, *look, round.as_deref(), notice.as_ref(), found.as_ref(), given_up.as_ref())
        }
        Work::Command(_) => (None, true, None, None, None, None),
    };
    let asked = Mutex::new(match work {
        Work::Nudge { asked, .. } => asked.clone(),
        Work::Command(_) => Vec::new(),
    });
    let mut full = false;
    let mut joined = false;
    if let Some(trace) = command.as_ref().and_then(|command| command.trace.as_deref()) {
        telemetry::join(&span, Some(trace));
        joined = true;
    }
    for attempt in 0..FENCED_MAX {
        let loaded = shared.ports.store.load(&spec.name).await?;
        if !joined {
            let trace = loaded.as_ref().and_then(|record| record.trace.as_deref());
            telemetry::join(&span, trace);
            joined = true;
        }
        if let Some(rev) = wake_rev
            && loaded.as_ref().is_none_or(|record| record.rev != rev)
        {
            tracing::debug!(target_name = %spec.name, rev, "a wake-up of an older version: void");
            // What this work has asked already must be known to the record: an unknown request hides use.
            let asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            if !must_look && asked.is_empty() {
                return Ok(());
            }
            wake_rev = None;
        }
        let asked = &asked;
        let once = Once { shared, spec, wake_rev, round, asked, notice, found, given_up, full };
        let pass = Box::pin(once.pass(loaded, command.as_ref()));
        match pass.instrument(span.clone()).await? {
            Ended::Done => return Ok(()),
            Ended::Repeated => command = None,
            Ended::Full => full = true,
            Ended::Fenced => {
                let pause = f64::from(attempt + 1) * 20.0 * (0.5 + shared.ports.clock.jitter());
                tokio::time::sleep(Duration::from_secs_f64(pause / 1000.0)).await;
            }
        }
    }
    Err(CallError {
        operation: "dynamodb:commit",
        cause: Cause::Conflict,
        message: format!("{} changed {FENCED_MAX} times while it was being worked on", spec.name),
        disposition: Disposition::Retry,
        applied: Applied::No,
    })
}

/// The bus is away, and the record is full of what it has not heard.
fn backlog(record: &TargetRecord) -> CallError {
    CallError {
        operation: "events:PutEvents",
        cause: Cause::Throttled,
        message: format!("{} events of {} wait to be sent", record.outbox.len(), record.target),
        disposition: Disposition::Retry,
        applied: Applied::No,
    }
}

enum Ended {
    Done,
    /// Somebody else committed first.
    Fenced,
    /// The command was taken before: what remains is a nudge.
    Repeated,
    /// The template had no place left: decided anew with that.
    Full,
}

struct Once<'a> {
    shared: &'a Shared,
    spec: &'a TargetSpec,
    wake_rev: Option<u64>,
    /// A tick's readings, which are the first of two rounds.
    round: Option<&'a Round>,
    /// Rounds that were asked and are in no record: by others, or by a pass of this work that lost its write.
    asked: &'a Mutex<Vec<Round>>,
    /// A spot machine's end, as EC2 has announced it.
    notice: Option<&'a SpotNotice>,
    /// A machine that a sweep found, and that no record knows.
    found: Option<&'a InstanceId>,
    /// A machine that a sweep found, of a launch that was given up.
    given_up: Option<&'a InstanceId>,
    /// Its template was found to have no place left.
    full: bool,
}

impl Once<'_> {
    async fn pass(
        &self,
        loaded: Option<TargetRecord>,
        command: Option<&AcceptedCommand>,
    ) -> Result<Ended, CallError> {
        let ports = &self.shared.ports;
        let began = ports.clock.now();
        let (resource, trouble) = match self.resolve(loaded.as_ref(), began).await {
            Ok(resource) => (resource, None),
            Err(error) if error.disposition == Disposition::Fail => {
                let message = error.to_string();
                let trouble = ObserveTrouble { cause: error.cause, message };
                match &loaded {
                    Some(record) => (record.resource.clone(), Some(trouble)),
                    // A command for what has no record yet, denied within a minute of its sending.
                    None if command
                        .is_some_and(|it| rights_may_arrive(error.cause, it.sent_at, began)) =>
                    {
                        return Err(CallError { disposition: Disposition::Retry, ..error });
                    }
                    None => return self.fail_unresolved(command, trouble).await,
                }
            }
            Err(error) => return Err(error),
        };
        let record = self.record(loaded.as_ref(), &resource, began);
        let mut inputs: Vec<Input> =
            command.into_iter().map(|command| Input::Command(Box::new(command.clone()))).collect();
        let resent = match command {
            // A bus that hangs must not hold up what ends cost; what it took without an answer is sent again.
            Some(command) if never_waits_for_the_bus(command.action) => {
                tokio::time::timeout(EVENTS_GRACE, self.emit(&record)).await.unwrap_or_default()
            }
            _ => self.emit(&record).await,
        };
        if command.is_some_and(|it| resent.is_empty() && !record.takes(it.action)) {
            return Err(backlog(&record));
        }
        if !resent.is_empty() {
            inputs.push(Input::EventsSent(resent));
        }
        // Before the look is planned: where all else says idle, the host is to be asked.
        inputs.extend(self.asked().iter().cloned().map(Input::Asked));
        inputs.extend(self.round.cloned().map(Input::Round));
        inputs.extend(self.notice.cloned().map(Input::SpotNotice));
        inputs.extend(self.given_up.cloned().map(Input::GivenUpLaunch));
        inputs.extend(self.full.then_some(Input::NoSeat));
        let sighting = match trouble {
            Some(trouble) => Err(trouble),
            None => self.observe(&record, &inputs).await?,
        };
        if probes_are_due(&record, self.spec, &inputs, &sighting, ports.clock.now()) {
            inputs.extend(self.probe(&record, &inputs, &sighting).await);
        }
        let now = ports.clock.now();
        let nonce = ports.clock.new_id();
        let mut decision = decide(&record, self.spec, &inputs, &sighting, now, &nonce);
        if decision.asks_again {
            // Whoever became active in between is seen by it; whoever asked for a hold, by the commit.
            inputs.extend(self.probe(&record, &inputs, &sighting).await);
            let now = ports.clock.now();
            decision = decide(&record, self.spec, &inputs, &sighting, now, &nonce);
            debug_assert!(!decision.asks_again, "two rounds are enough");
        }
        let now = ports.clock.now();
        // What is to be written is logged once it is: a decision that lost its write never was.
        if self.shared.options.dry_run || !decision.changed {
            self.log(&decision, began, now);
        }
        if self.shared.options.dry_run {
            return Ok(Ended::Done);
        }
        if !decision.changed {
            // A look that changed nothing hands its own wake-up on; other nudges leave it alone, so
            // that there is one chain of wake-ups for a version, however many signals come.
            if self.wake_rev.is_some()
                && let Some(at) = decision.look_at
            {
                self.wake_later(record.rev, at).await;
            }
            return Ok(Ended::Done);
        }
        let commit = Commit {
            expected_rev: record.rev,
            nonce,
            accepted: decision.accepted.clone(),
            outcomes: decision.outcomes.clone(),
            claims: claimed_resource(loaded.as_ref(), &decision.next),
            seat: seat_change(self.spec, loaded.as_ref(), &decision.next),
            record: decision.next.clone(),
        };
        match ports.store.commit(&commit).await? {
            Committed::Done => {}
            Committed::Fenced => return Ok(Ended::Fenced),
            Committed::Full => return Ok(Ended::Full),
            Committed::CommandExists(existing) => return self.repeated(command, &existing).await,
            Committed::ResourceTaken(owner) => {
                let message = format!("{resource} belongs to the target {owner} already");
                let trouble = ObserveTrouble { cause: Cause::Conflict, message };
                return self.fail_unresolved(command, trouble).await;
            }
        }
        self.log(&decision, began, now);
        self.count(&decision, now);
        Box::pin(self.after_commit(decision)).await;
        Ok(Ended::Done)
    }

    /// What the target is made of. A launched machine's record says so itself.
    async fn resolve(
        &self,
        loaded: Option<&TargetRecord>,
        now: Timestamp,
    ) -> Result<Resource, CallError> {
        let template = match &self.spec.place {
            Place::Template(template) => template,
            named @ (Place::Instance(_) | Place::Service(_)) => {
                return self.shared.ports.cloud.resolve(named).await;
            }
        };
        Ok(match (loaded, self.found) {
            (Some(record), _) => record.resource.clone(),
            (None, Some(found)) => Resource::Instance(found.clone()),
            // A record that was lost may have left its machine: one command must not make a second one.
            (None, None) => {
                let tagged = self.shared.ports.cloud.tagged(&template.owner).await?;
                let mine = tagged.into_iter().find(|it| it.target == self.spec.name.as_str());
                match mine {
                    Some(machine) => Resource::Instance(machine.instance),
                    None => Resource::not_launched(&self.spec.name, now),
                }
            }
        })
    }

    fn record(
        &self,
        loaded: Option<&TargetRecord>,
        resource: &Resource,
        now: Timestamp,
    ) -> TargetRecord {
        match loaded {
            Some(record) => {
                let aligned = align(record.clone(), resource, now);
                if aligned.resource != *resource {
                    tracing::warn!(
                        target_name = %self.spec.name, minded = %aligned.resource, named = %resource,
                        "the fleet names another machine; the one that is up is minded until it is off"
                    );
                }
                aligned
            }
            None => TargetRecord::first_contact(
                self.spec.name.clone(),
                self.spec.kind(),
                resource.clone(),
                now,
            ),
        }
    }

    async fn observe(
        &self,
        record: &TargetRecord,
        inputs: &[Input],
    ) -> Result<Sighting, CallError> {
        let plan = plan_observation(record, self.spec, inputs, self.shared.ports.clock.now());
        let mut sightings = self.shared.ports.cloud.observe(std::slice::from_ref(&plan)).await;
        sightings.pop().unwrap_or_else(|| unreachable!("one plan has one sighting"))
    }

    /// One round of the idle policy's probes.
    async fn probe(
        &self,
        record: &TargetRecord,
        inputs: &[Input],
        sighting: &Sighting,
    ) -> Option<Input> {
        let seen = sighting.as_ref().ok()?;
        let over = idle_override(record, inputs);
        let plan = plan_probes(self.spec, seen, &record.resource, &record.idle, over)?;
        let round = self.shared.ports.cloud.probe(&plan).await;
        self.asked().push(round.clone());
        Some(Input::Round(round))
    }

    fn asked(&self) -> MutexGuard<'_, Vec<Round>> {
        // A panic elsewhere leaves whole rounds.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What follows a commit: its events, its effect, and the next look. None of it can fail the
    /// message any more: what is left undone here stands in the record, and is found there.
    async fn after_commit(&self, decision: Decision) {
        let (rev, look_at) = match decision.effect.clone() {
            Some(effect) => self.act(&decision, &effect).await,
            None => match self.emit(&decision.next).await {
                sent if sent.is_empty() => (decision.next.rev, decision.look_at),
                sent => self.clear(&decision, &sent).await,
            },
        };
        if let Some(at) = look_at {
            self.wake_later(rev, at).await;
        }
    }

    async fn clear(&self, decision: &Decision, sent: &[String]) -> (u64, Option<Timestamp>) {
        let next = clear_sent(decision, sent);
        let (rev, wake_at) = (next.rev, next.wake_at);
        match self.commit_record(&decision.next, next, Vec::new()).await {
            Some(true) => (rev, wake_at),
            _ => (decision.next.rev, decision.look_at),
        }
    }

    /// `None`: unknown; the sweep finds out.
    async fn commit_record(
        &self,
        before: &TargetRecord,
        record: TargetRecord,
        outcomes: Vec<Outcome>,
    ) -> Option<bool> {
        let commit = Commit {
            expected_rev: before.rev,
            nonce: self.shared.ports.clock.new_id(),
            accepted: None,
            outcomes,
            claims: claimed_resource(Some(before), &record),
            seat: seat_change(self.spec, Some(before), &record),
            record,
        };
        match self.shared.ports.store.commit(&commit).await {
            Ok(Committed::Done) => Some(true),
            Ok(_) => Some(false),
            Err(error) => {
                tracing::warn!(%error, "a commit failed; what it would have said is found out later");
                None
            }
        }
    }

    /// Makes the permitted call and commits its answer by its nonce.
    async fn act(&self, decision: &Decision, effect: &Effect) -> (u64, Option<Timestamp>) {
        let ports = &self.shared.ports;
        let unanswered = (decision.next.rev, decision.look_at);
        let Some(doing) = &decision.next.doing else { return unanswered };
        // Side by side: a bus that is slow or away must neither use up the permission (or nothing would
        // ever start while it is), nor hold up the answer beyond a moment.
        let mut emit = std::pin::pin!(self.emit(&decision.next));
        let in_time = ports.clock.now() <= doing.act_by;
        let mut execute = std::pin::pin!(async {
            match in_time {
                true => Some(ports.cloud.execute(effect, doing.act_by).await),
                false => None,
            }
        });
        let mut sent = None;
        let executed = loop {
            tokio::select! {
                biased;
                executed = &mut execute => break executed,
                done = &mut emit, if sent.is_none() => sent = Some(done),
            }
        };
        let sent = match sent {
            Some(sent) => sent,
            None => tokio::time::timeout(EVENTS_GRACE, emit).await.unwrap_or_default(),
        };
        let answer = match executed {
            None => EffectAnswer::NotMade,
            Some(Ok(id)) => EffectAnswer::Accepted { id },
            Some(Err(error)) if error.applied == Applied::Perhaps => {
                tracing::warn!(%error, "the answer is unknown; it is found out by looking");
                return unanswered;
            }
            Some(Err(error)) => self.refusal(&error, decision.next.attempt.refusals),
        };
        let mut record = decision.next.clone();
        for _ in 0..FENCED_MAX {
            let applied =
                apply_answer(&record, self.spec, &doing.nonce, &answer, &sent, ports.clock.now());
            let ApplyAnswer::Commit(answered) = applied else { return unanswered };
            let outcomes = answered.outcomes.clone();
            match self.commit_record(&record, answered.next.clone(), outcomes).await {
                Some(true) => {
                    self.count(&answered, ports.clock.now());
                    self.log(&answered, ports.clock.now(), ports.clock.now());
                    let late = self.emit(&answered.next).await;
                    if late.is_empty() {
                        return (answered.next.rev, answered.look_at);
                    }
                    return self.clear(&answered, &late).await;
                }
                Some(false) => match ports.store.load(&self.spec.name).await {
                    Ok(Some(now_there)) => record = now_there,
                    _ => return unanswered,
                },
                None => return unanswered,
            }
        }
        unanswered
    }

    fn refusal(&self, error: &CallError, refusals: u32) -> EffectAnswer {
        if error.cause == Cause::Throttled {
            self.shared.meters.throttled(error.operation);
        }
        let grown = backoff::refusal_millis(refusals, self.shared.ports.clock.jitter());
        let refusal = match error.disposition {
            Disposition::Retry => Refusal::RetryAfter(grown),
            Disposition::RetryAfter(pause) => {
                let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                Refusal::RetryAfter(grown.max(millis))
            }
            Disposition::Park | Disposition::Fail | Disposition::Newer => Refusal::Final,
        };
        EffectAnswer::Refused { cause: error.cause, message: error.message.clone(), refusal }
    }

    /// Sends what the record has in its outbox; the ids that were acknowledged. A failure leaves them
    /// there: the record's `wake_at` sees to it.
    async fn emit(&self, record: &TargetRecord) -> Vec<String> {
        if record.outbox.is_empty() || record.rev == 0 || self.shared.options.dry_run {
            return Vec::new();
        }
        match self.shared.ports.bus.emit(&record.outbox).await {
            Ok(sent) => sent,
            Err(error) => {
                tracing::warn!(%error, "events wait in the record to be sent later");
                Vec::new()
            }
        }
    }

    async fn wake_later(&self, rev: u64, at: Timestamp) {
        let millis = at.duration_since(self.shared.ports.clock.now()).as_millis();
        // Rounded up: a message that comes before its time would find nothing to do.
        let seconds = i64::try_from((millis.max(0) + 999) / 1000).unwrap_or(i64::MAX);
        if seconds > DELAY_MAX_SECONDS {
            return;
        }
        let wake_up = WakeUp { target: self.spec.name.clone(), rev, at };
        let attributes = telemetry::traceparent()
            .map(|trace| (TRACE_ATTRIBUTE.to_owned(), trace))
            .into_iter()
            .collect();
        let message = Outgoing {
            body: wake_up.to_json().to_string(),
            attributes,
            delay_seconds: u32::try_from(seconds).unwrap_or(0),
        };
        if let Err(error) = self.shared.ports.queue.send(&message).await {
            tracing::warn!(%error, "a wake-up could not be sent; the sweep finds the target");
        }
    }

    /// The command's id was taken before. The same payload: nothing is left to do but to look. Another
    /// one: refused, and the first one's outcome stands.
    async fn repeated(
        &self,
        command: Option<&AcceptedCommand>,
        existing: &lamplighter_lifecycle::CommandRecord,
    ) -> Result<Ended, CallError> {
        let Some(command) = command else { return Ok(Ended::Fenced) };
        if existing.fingerprint == command.fingerprint {
            tracing::info!(command = %command.id, "it was taken before: its first outcome stands");
            return Ok(Ended::Repeated);
        }
        let message = format!(
            "the id {} was used before with another payload; send this one with an id of its own",
            command.id
        );
        tracing::warn!(command = %command.id, "{message}");
        let now = self.shared.ports.clock.now();
        let outcome = Outcome {
            command: command.id.clone(),
            target: Some(self.spec.name.clone()),
            action: Some(command.action),
            outcome: Verdict::Rejected,
            cause: Some(Cause::Conflict),
            message,
            answer: serde_json::Map::new(),
            at: now,
            took_ms: 0,
        };
        outcomes::announce(self.shared, &command.id, Some(self.spec.name.clone()), outcome).await?;
        Ok(Ended::Repeated)
    }

    /// There is no machine to speak of: whoever asked is told; nobody else is.
    async fn fail_unresolved(
        &self,
        command: Option<&AcceptedCommand>,
        trouble: ObserveTrouble,
    ) -> Result<Ended, CallError> {
        tracing::error!(
            target_name = %self.spec.name, cause = %trouble.cause, why = %trouble.message,
            "the target has no machine"
        );
        let Some(command) = command else { return Ok(Ended::Done) };
        let failed = Concluded {
            id: Some(command.id.clone()),
            fingerprint: command.fingerprint.clone(),
            action: Some(command.action),
            target: Some(self.spec.name.clone()),
            verdict: Verdict::Failed,
            cause: Some(trouble.cause),
            message: trouble.message,
            answer: serde_json::Map::new(),
        };
        outcomes::conclude(self.shared, command.sent_at, failed).await?;
        Ok(Ended::Done)
    }

    fn log(&self, decision: &Decision, began: Timestamp, now: Timestamp) {
        let span = tracing::Span::current();
        let step = decision.next.step.map(|step| step.as_str());
        span.record("rev", decision.next.rev);
        span.record("step", step);
        let duration_ms = now.duration_since(began).as_millis();
        let effect = decision.effect.as_ref().map(Effect::operation);
        let phase = decision.next.phase.as_str();
        if decision.changed || self.shared.options.dry_run {
            tracing::info!(phase, step, effect, duration_ms, why = %decision.why, "decided");
        } else {
            tracing::debug!(phase, step, duration_ms, why = %decision.why, "nothing changed");
        }
    }

    fn count(&self, decision: &Decision, now: Timestamp) {
        let meters = &self.shared.meters;
        let kind = self.spec.kind().as_str();
        let taken = decision.accepted.as_ref().and_then(|accepted| accepted.outcome.as_ref());
        for outcome in taken.into_iter().chain(&decision.outcomes) {
            let action = outcome.action.map_or("unknown", |action| action.as_str());
            let cause = outcome.cause.map_or("none", Cause::as_str);
            let seconds = std::time::Duration::from_millis(outcome.took_ms).as_secs_f64();
            match outcome.outcome {
                Verdict::Done => {
                    meters.done(action, kind);
                    if outcome.answer.get("started") == Some(&serde_json::Value::Bool(true)) {
                        meters.command_to_ready_seconds(kind, seconds);
                    }
                }
                Verdict::Rejected => meters.rejected(action, kind, cause),
                Verdict::Failed => meters.failed(action, kind, cause),
            }
            meters.command_seconds(action, kind, seconds);
            tracing::info!(
                command = %outcome.command, action, outcome = ?outcome.outcome, cause,
                took_ms = outcome.took_ms, at = %now, detail = %outcome.message, "outcome"
            );
        }
    }
}
