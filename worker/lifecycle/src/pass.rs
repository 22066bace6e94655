//! One decision in the making: the record being rewritten, what was seen, and what comes of it.
//!
//! *Invariants.* At most one effect a pass. Nothing is acted on while another effect may still be
//! issued (`doing`), while paused, or on an observation older than the last `act_by`.

use jiff::Timestamp;
use lamplighter_events::{
    Action, AttentionKind, Cause, EventBody, HumanDuration, LifecycleEvent, Outcome, Verdict,
};
use serde_json::{Map, Value};

use crate::effect::{Effect, EffectKind, Question, UnitProbe};
use crate::kinds::Kind;
use crate::limits::{
    ACT_WITHIN_SECONDS, CONSISTENCY_MARGIN_SECONDS, HISTORY_CHARS_MAX, HISTORY_MAX,
    MESSAGE_CHARS_MAX, OUTBOX_MAX, UNIT_ACTIVATING_SECONDS,
};
use crate::observed::{Observed, PowerState, Sighting};
use crate::phase::{Phase, Step};
use crate::probe::Round;
use crate::record;
use crate::record::{
    Check, CheckPurpose, CommandRecord, Contradiction, Doing, HistoryEntry, LastOutcome,
    OpenCommand, TargetRecord, ends_cost,
};
use crate::size::for_event;
use crate::spec::TargetSpec;
use crate::text::shortened;
use crate::time::{add, later};

/// Whether a transition has more to say in the same pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Rest,
    Again,
}

pub(crate) struct Pass<'a> {
    pub(crate) spec: &'a TargetSpec,
    pub(crate) now: Timestamp,
    pub(crate) nonce: &'a str,
    pub(crate) sighting: Option<&'a Sighting>,
    pub(crate) record: TargetRecord,
    pub(crate) effect: Option<Effect>,
    pub(crate) accepted: Option<CommandRecord>,
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) look_at: Option<Timestamp>,
    pub(crate) rounds: Vec<Round>,
    pub(crate) asks_again: bool,
    pub(crate) idle_why: Option<String>,
    pub(crate) no_seat: bool,
    /// Whether the record takes what a command would add to it.
    pub(crate) room: bool,
    why: String,
    events: Vec<EventBody>,
    notes: Vec<String>,
}

impl<'a> Pass<'a> {
    pub(crate) fn new(
        record: TargetRecord,
        spec: &'a TargetSpec,
        sighting: Option<&'a Sighting>,
        now: Timestamp,
        nonce: &'a str,
    ) -> Self {
        Self {
            spec,
            now,
            nonce,
            sighting,
            record,
            effect: None,
            accepted: None,
            outcomes: Vec::new(),
            look_at: None,
            rounds: Vec::new(),
            asks_again: false,
            idle_why: None,
            no_seat: false,
            room: true,
            why: String::new(),
            events: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(crate) fn seen(&self) -> Option<&'a Observed> {
        self.sighting.and_then(|sighting| sighting.as_ref().ok())
    }

    /// When it was looked: only what was seen after a margin's end is beyond the margin, however late
    /// it is decided.
    pub(crate) fn seen_at(&self) -> Timestamp {
        self.seen().map_or(self.now, |seen| seen.at.min(self.now))
    }

    /// The kind of what the record has now.
    pub(crate) fn kind(&self) -> Kind {
        Kind::of(&self.record.resource, self.spec.kind())
    }

    pub(crate) fn wanted(&self) -> bool {
        self.record.wanted(self.now)
    }

    /// Nothing may be concluded or done: an effect may be under way.
    pub(crate) fn in_flight(&self) -> bool {
        self.record.doing.is_some()
    }

    pub(crate) fn after(&self, duration: HumanDuration) -> Timestamp {
        add(self.now, duration)
    }

    pub(crate) fn in_seconds(&self, seconds: i64) -> Timestamp {
        later(self.now, seconds)
    }

    /// Somebody must look again at `at`, or earlier.
    pub(crate) fn look(&mut self, at: Timestamp) {
        self.look_at = Some(self.look_at.map_or(at, |earlier| earlier.min(at)));
    }

    pub(crate) fn look_after_poll(&mut self) {
        let at = self.after(self.spec.timings.poll);
        self.look(at);
    }

    /// The reason that people will read; the last one said stands.
    pub(crate) fn why(&mut self, why: impl Into<String>) {
        self.why = why.into();
    }

    pub(crate) fn take_why(&mut self) -> String {
        std::mem::take(&mut self.why)
    }

    /// A line of history.
    pub(crate) fn note(&mut self, what: impl Into<String>) {
        self.notes.push(what.into());
    }

    pub(crate) fn attention(&mut self, attention: AttentionKind, message: impl Into<String>) {
        let message = shortened(&message.into(), MESSAGE_CHARS_MAX);
        self.note(message.clone());
        let instance = Some(self.record.resource.to_string());
        self.events.push(EventBody::Attention { attention, message, instance });
    }

    /// Enters a phase and says so. `cause` is for failures.
    pub(crate) fn enter(
        &mut self,
        phase: Phase,
        step: Option<Step>,
        cause: Option<Cause>,
        why: impl Into<String>,
    ) {
        let why = why.into();
        let from = self.record.phase;
        self.record.step = step;
        if from != phase {
            self.record.phase = phase;
            self.record.since = self.now;
            let kind = self.record.kind;
            let line = format!("{} → {}: {why}", kind.phase_name(from), kind.phase_name(phase));
            self.note(line);
        } else if phase == Phase::Starting && self.kind().tells_steps() {
            self.note(format!("{}: {why}", step.map_or("", Step::as_str)));
        }
        if from != phase || (phase == Phase::Starting && self.kind().tells_steps()) {
            self.events.push(EventBody::TargetStateChanged {
                kind: self.record.kind.as_str().to_owned(),
                from: self.record.kind.phase_name(from).to_owned(),
                to: self.record.kind.phase_name(phase).to_owned(),
                step: step.map(|step| step.as_str().to_owned()),
                cause,
                why: shortened(&why, MESSAGE_CHARS_MAX),
                instance: Some(self.record.resource.to_string()),
            });
        }
        self.why = why;
    }

    /// Decides an effect, if the target is not paused. Ends the pass either way.
    pub(crate) fn act(&mut self, effect: Effect, step: Option<Step>, why: &str) -> Flow {
        if let Some(paused) = &self.record.paused {
            let by = paused.by.clone();
            self.why(format!("paused by holder {by}: {} is not made ({why})", effect.operation()));
            return Flow::Rest;
        }
        let act_by = self.in_seconds(ACT_WITHIN_SECONDS);
        self.note(format!("{}: {why}", effect.operation()));
        self.record.doing =
            Some(Doing { effect: effect.noted(), nonce: self.nonce.to_owned(), act_by });
        self.record.step = step;
        self.effect = Some(effect);
        self.why(why);
        Flow::Rest
    }

    /// Asks the host for its unit with a new token.
    pub(crate) fn ask(&mut self, purpose: CheckPurpose, why: &str) -> Flow {
        let asked = self.record.checks;
        self.record.checks += 1;
        let token = record::token(&self.record);
        let check = Check { token, command_id: None, purpose, asked_at: self.now };
        let flow = self.ask_again(check, why);
        if self.effect.is_none() {
            // Not asked, so not counted: a paused target would be written at each look.
            self.record.checks = asked;
        }
        flow
    }

    /// Asks with a token that exists already: the guard on the host makes it once.
    pub(crate) fn ask_again(&mut self, check: Check, why: &str) -> Flow {
        let step = match check.purpose {
            CheckPurpose::Verify => Some(Step::VerifyUnit),
            CheckPurpose::Bootstrap => Some(Step::Bootstrap),
            CheckPurpose::Watch | CheckPurpose::Idle => self.record.step,
        };
        let Some(question) = self.question(check.purpose) else { return Flow::Rest };
        let Some(instance) = self.record.resource.instance().cloned() else { return Flow::Rest };
        let effect = Effect::SendCommand { instance, token: check.token.clone(), question };
        let before = self.record.attempt.check.replace(check);
        let flow = self.act(effect, step, why);
        if self.effect.is_none() {
            self.record.attempt.check = before;
        }
        flow
    }

    fn question(&self, purpose: CheckPurpose) -> Option<Question> {
        let activating_seconds = match purpose {
            CheckPurpose::Verify => UNIT_ACTIVATING_SECONDS,
            CheckPurpose::Watch => 0,
            CheckPurpose::Bootstrap => {
                let template = self.spec.template()?;
                let seconds = template.bootstrap_timeout.seconds();
                return Some(Question::Bootstrap {
                    bootstrap: template.bootstrap.clone()?,
                    parameters: self.record.provision.launch.as_ref()?.parameters.clone(),
                    timeout_seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
                });
            }
            CheckPurpose::Idle => {
                let command = self.spec.idle.as_ref()?.host_command()?;
                let timeout_seconds = command.timeout_seconds;
                return Some(Question::Idle { script: command.script.clone(), timeout_seconds });
            }
        };
        Some(Question::Unit(UnitProbe {
            unit: self.spec.unit()?.clone(),
            settle_seconds: self.spec.settle_seconds(),
            activating_seconds,
        }))
    }

    /// The margin after `kind`, if it still runs.
    pub(crate) fn quiet_after(&self, kind: EffectKind) -> Option<Timestamp> {
        self.record
            .quiet
            .filter(|quiet| quiet.after == kind && self.seen_at() < quiet.until)
            .map(|q| q.until)
    }

    pub(crate) fn unanswered(&self, kind: EffectKind) -> bool {
        self.record.unanswered.iter().any(|lost| lost.effect.kind() == kind)
    }

    /// Whether a stop of ours may come true late: one of this machine, since a target that is launched has had
    /// others.
    pub(crate) fn own_stop_may_come(&self) -> bool {
        let changes_machines = self.kind().stop_destroys();
        self.record.unanswered.iter().any(|lost| {
            lost.effect.kind() == EffectKind::Stop
                && (!changes_machines || lost.effect.resource() == self.record.resource)
        })
    }

    /// Whether an observation that contradicts the record has stood for the consistency margin, and
    /// the margin of the last effect is over. If not, somebody looks again.
    pub(crate) fn confirmed(&mut self, state: PowerState) -> bool {
        self.confirmed_for(state, CONSISTENCY_MARGIN_SECONDS)
    }

    /// The same for an observation that must have stood for so many seconds.
    pub(crate) fn confirmed_for(&mut self, state: PowerState, seconds: i64) -> bool {
        if let Some(quiet) = self.record.quiet.filter(|quiet| self.seen_at() < quiet.until) {
            self.look(quiet.until);
            self.why(format!(
                "{} says {}, within its consistency margin; looking again",
                self.record.resource.speaker(),
                state.as_str()
            ));
            return false;
        }
        let since = match self.record.attempt.contradiction {
            Some(seen) => seen.at,
            None => {
                let at = self.seen_at();
                self.record.attempt.contradiction = Some(Contradiction { at, state });
                at
            }
        };
        let at = later(since, seconds);
        if self.seen_at() >= at {
            return true;
        }
        self.look(at);
        if seconds > CONSISTENCY_MARGIN_SECONDS {
            // It may turn out otherwise long before.
            self.look_after_poll();
        }
        let speaker = self.record.resource.speaker();
        let state = state.as_str();
        self.why(format!("{speaker} says {state}, unexpectedly; looking again to be sure"));
        false
    }

    /// Ends a command.
    pub(crate) fn close(
        &mut self,
        command: &OpenCommand,
        verdict: Verdict,
        cause: Option<Cause>,
        message: impl Into<String>,
        answer: Map<String, Value>,
    ) {
        let took = self.now.duration_since(command.sent.at).as_millis().max(0);
        let outcome = Outcome {
            command: command.id.clone(),
            target: Some(self.record.target.clone()),
            action: Some(command.action),
            outcome: verdict,
            cause,
            message: shortened(&message.into(), MESSAGE_CHARS_MAX),
            answer,
            at: self.now,
            took_ms: u64::try_from(took).unwrap_or(u64::MAX),
        };
        let word = match verdict {
            Verdict::Done => "done",
            Verdict::Rejected => "rejected",
            Verdict::Failed => "failed",
        };
        self.note(format!(
            "{} by {} ({}): {word}: {}",
            command.action.as_str(),
            command.holder,
            command.id,
            outcome.message
        ));
        let told = for_event(&outcome);
        self.events.push(match verdict {
            Verdict::Rejected => EventBody::CommandRejected { outcome: told },
            Verdict::Done | Verdict::Failed => EventBody::CommandCompleted { outcome: told },
        });
        // Whoever asks how it is does not want to read that somebody asked.
        if command.action != Action::Status {
            self.record.last_outcome = Some(LastOutcome {
                command: command.id.clone(),
                action: command.action,
                holder: command.holder.clone(),
                outcome: verdict,
                cause,
                message: outcome.message.clone(),
                at: self.now,
            });
        }
        match &mut self.accepted {
            Some(accepted) if accepted.id == command.id => accepted.outcome = Some(outcome),
            _ => self.outcomes.push(outcome),
        }
    }

    /// Takes the open commands that `which` picks out of the record.
    pub(crate) fn take_open(&mut self, which: impl Fn(&OpenCommand) -> bool) -> Vec<OpenCommand> {
        let (taken, kept) =
            std::mem::take(&mut self.record.open).into_iter().partition(|c| which(c));
        self.record.open = kept;
        taken
    }

    /// Numbers what happened by the version that it will be committed with.
    pub(crate) fn seal(&mut self, rev: u64) {
        for what in std::mem::take(&mut self.notes) {
            let what = shortened(&what, HISTORY_CHARS_MAX);
            self.record.history.push(HistoryEntry { at: self.now, rev, what });
        }
        let excess = self.record.history.len().saturating_sub(HISTORY_MAX);
        self.record.history.drain(..excess);
        for (index, body) in std::mem::take(&mut self.events).into_iter().enumerate() {
            self.record.outbox.push(LifecycleEvent {
                id: format!("{}:{rev}:{index}", self.record.target),
                at: self.now,
                target: Some(self.record.target.clone()),
                body,
            });
        }
        while self.record.outbox.len() > OUTBOX_MAX {
            let index = least_missed(&self.record.outbox);
            self.record.outbox.remove(index);
        }
    }
}

/// Which event is given up first: the oldest state change, then the oldest attention, then the oldest outcome of a
/// command that ends no cost, then the oldest of all. An outcome is in its command's item, too.
fn least_missed(outbox: &[LifecycleEvent]) -> usize {
    let rank = |body: &EventBody| match body {
        EventBody::TargetStateChanged { .. } => 0,
        EventBody::Attention { .. } => 1,
        EventBody::CommandCompleted { outcome } | EventBody::CommandRejected { outcome } => {
            if outcome.action.is_some_and(ends_cost) {
                3
            } else {
                2
            }
        }
    };
    let ranks = outbox.iter().enumerate().map(|(index, event)| (rank(&event.body), index));
    ranks.min().map_or(0, |(_, index)| index)
}
