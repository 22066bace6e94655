//! Carries a record through decisions as the runtime does, beside the reference model and a machine that
//! knows the truth, and compares after every step.
//!
//! *As the runtime does*: the look is made after the record was read, so it is never older than the last
//! commit; an effect is made before its `act_by` or not at all; a command is taken once, and not while the
//! outbox is full; what the bus took is told to the next write.
//!
//! *Not here*: clocks that differ between workers, and writes that are fenced (tests/sim).

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use lamplighter_events::{
    Action, AttentionKind, Cause, CommandId, EventBody, Holder, HumanDuration, Outcome, Verdict,
};

use super::Story;
use super::machine::{By, Machine, Outside, Pace, plus};
use super::model::{Model, Says};
use crate::*;

/// A way in which a worker may look.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Look {
    /// Between the look and the decision, seconds.
    pub(super) delay: i64,
    /// How old AWS's word is, seconds.
    pub(super) lag: i64,
    /// AWS does not let us look at all.
    pub(super) blind: bool,
}

/// What a command says about its hold's end, in seconds from its sending.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lasts {
    Open,
    For(i64),
    Until(i64),
}

#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) action: Action,
    pub(super) holder: u8,
    /// How long it lay in the queue, seconds.
    pub(super) age: i64,
    /// Orders what was sent in the same second.
    pub(super) tie: u8,
    pub(super) lasts: Lasts,
    /// Seconds from its arrival.
    pub(super) expires: Option<i64>,
}

/// What becomes of the effect under way.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    Accepted,
    RetryAfter(u64),
    Final,
    /// Made, and nobody hears the answer.
    Lost,
    /// Neither made nor answered: the worker died.
    Unmade,
    /// Made so many seconds later, and nobody hears the answer.
    Late(i64),
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Ask(Ask, Look),
    Look(Look),
    Wait(i64),
    /// Until the record's own `wake_at`, and then a look.
    Wake(Look),
    /// The effect under way meets its fate; its answer is committed at once, or by a later `Deliver`.
    Aws(Fate, bool),
    Deliver,
    Outside(Outside),
    /// Whether the bus takes events.
    Bus(bool),
    /// So many of one sort by so many holders.
    Crowd(u8, Action),
}

/// How a target is made.
#[derive(Debug, Clone, Default)]
pub(super) struct Make {
    pub(super) exclusive: bool,
    pub(super) max_hold: Option<u64>,
    pub(super) idle: bool,
    pub(super) keep_failed: bool,
    pub(super) unit: bool,
    pub(super) health: bool,
    pub(super) runs: bool,
    pub(super) pace: Pace,
}

/// What a set of commands has left behind.
#[derive(Debug, PartialEq)]
pub(super) struct Standing {
    holds: Vec<(Sent, String, HoldKind, Option<Timestamp>)>,
    /// Older starts of these holders count no more.
    bars: BTreeMap<String, Sent>,
    killed: Option<Sent>,
    paused: Option<Sent>,
    resumed: Option<Sent>,
}

struct Known {
    action: Action,
    holder: String,
    sent: Sent,
    outcome: Option<Outcome>,
}

/// What one pass did to the wishes.
#[derive(Default)]
struct Wishes {
    /// Of whom an end came.
    expired: BTreeSet<String>,
    /// Of whom a command, or somebody outside, ended one.
    ended: BTreeSet<String>,
    /// Who held it once the command was taken: what a stop is told, whatever fails after it.
    held_by: BTreeSet<String>,
}

struct Flight {
    nonce: String,
    effect: Effect,
    act_by: Timestamp,
}

pub(super) struct Driver {
    pub(super) spec: TargetSpec,
    pub(super) record: TargetRecord,
    pub(super) now: Timestamp,
    pub(super) machine: Machine,
    pub(super) model: Model,
    commands: BTreeMap<CommandId, Known>,
    flight: Option<Flight>,
    answers: Vec<(String, EffectAnswer)>,
    /// Sorts of effects whose answer was lost at least once.
    lost: BTreeSet<EffectKind>,
    committed_at: Timestamp,
    /// Somebody else started a machine that was known to be off, and nobody has asked for anything since.
    foreign: bool,
    /// When the next wake-up comes: a pass that changes nothing hands it on without a write.
    look_at: Option<Timestamp>,
    /// What happened so far, in words: a claim over stories in which nothing happens is worth nothing.
    pub(super) happened: BTreeSet<String>,
    bus: bool,
    numbers: u64,
}

/// Somebody is always at work: idleness is told elsewhere.
fn count() -> Probe {
    Probe::Http(HttpProbe {
        url: HealthUrl::parse("http://{private_ip}/").unwrap(),
        pointer: "/at_work".to_owned(),
        reads: HttpReads::Count,
        ignore_own: false,
    })
}

fn busy(at: Timestamp) -> Round {
    let reading = Reading::Number { value: 1.0, asked_at: at, answered_at: at, ahead_millis: None };
    Round { at, of: None, over: IdleOverride::default(), readings: vec![Some(reading)] }
}

/// A slow look comes at least this often, whatever the record says (DESIGN.md §3).
const SLOW_LOOK_SECONDS: i64 = ON_LOOK_SECONDS;

impl Driver {
    pub(super) fn new(make: &Make) -> Self {
        let story = if make.unit { Story::with_unit() } else { Story::new() };
        let Story { mut spec, record, now, .. } = story;
        spec.exclusive = make.exclusive;
        spec.max_hold = make.max_hold.map(|long| HumanDuration::from_seconds(long).unwrap());
        spec.keep_failed = make.keep_failed;
        let after = super::seconds("15m");
        spec.idle = make.idle.then(|| IdleSpec { probes: vec![count()], ..IdleSpec::after(after) });
        if make.unit {
            super::instance_of(&mut spec).unit_check_every = Some(super::seconds("1m"));
        }
        spec.timings.settle = super::seconds("2s");
        let health = HealthUrl::parse("http://{private_ip}/").unwrap();
        spec.health = make.health.then_some(health);
        let state = if make.runs { PowerState::Running } else { PowerState::Stopped };
        let model = Model {
            exclusive: make.exclusive,
            max_hold: spec.max_hold,
            keep_failed: make.keep_failed,
            ..Model::default()
        };
        Self {
            spec,
            record,
            now,
            machine: Machine::new(now, state, make.pace),
            model,
            commands: BTreeMap::new(),
            flight: None,
            answers: Vec::new(),
            lost: BTreeSet::new(),
            committed_at: now,
            foreign: false,
            look_at: None,
            happened: BTreeSet::new(),
            bus: true,
            numbers: 0,
        }
    }

    pub(super) fn step(&mut self, step: &Step) {
        match step {
            Step::Ask(ask, look) => {
                let command = self.command(ask);
                self.ask(&command, *look);
            }
            Step::Look(look) => self.pass(None, *look),
            Step::Wait(seconds) => self.wait_until(plus(self.now, *seconds)),
            Step::Wake(look) => {
                self.wait_for_the_next_look();
                self.pass(None, *look);
            }
            Step::Aws(fate, at_once) => self.meet(*fate, *at_once),
            Step::Deliver => self.deliver(),
            Step::Outside(what) => self.suffer(*what),
            Step::Bus(up) => self.bus = *up,
            Step::Crowd(size, action) => {
                for holder in 0..*size {
                    let (lasts, expires) = (Lasts::Open, None);
                    let ask = Ask { action: *action, holder, age: 0, tie: 0, lasts, expires };
                    let command = self.command(&ask);
                    self.ask(&command, Look::default());
                }
            }
        }
    }

    fn suffer(&mut self, what: Outside) {
        let Self { record, model, .. } = self;
        let known_off = record.observed.as_ref().is_some_and(|seen| seen.state().is_off())
            && matches!(record.phase, Phase::Off | Phase::Failed)
            && record.quiet.is_none()
            && record.unanswered.is_empty();
        let up_at = self.machine.up_at;
        let wanted = model.wanted();
        self.machine.suffer(what, self.now);
        let started = self.machine.up_at != up_at || what == Outside::Starts;
        if started && self.machine.up_by == By::Outside {
            self.foreign = known_off && !wanted;
        }
    }

    /// In whole seconds, as wake-ups come.
    fn wait_until(&mut self, at: Timestamp) {
        let up = i64::from(at.subsec_nanosecond() > 0);
        self.now = self.now.max(Timestamp::from_second(at.as_second() + up).unwrap());
        self.machine.advance(self.now);
    }

    fn wait_for_the_next_look(&mut self) {
        let slow = plus(self.now, SLOW_LOOK_SECONDS);
        self.wait_until(self.look_at.map_or(slow, |at| at.min(slow)));
    }

    pub(super) fn command(&mut self, ask: &Ask) -> AcceptedCommand {
        self.numbers += 1;
        let sent_at = plus(self.now, -ask.age);
        let (hold_for, until) = match ask.lasts {
            Lasts::For(seconds) => (Some(seconds), None),
            Lasts::Until(seconds) => (None, Some(plus(sent_at, seconds))),
            Lasts::Open => (None, None),
        };
        let in_millis = |seconds: i64| {
            let millis = u64::try_from(seconds).unwrap() * 1000;
            HumanDuration::from_millis(millis).unwrap()
        };
        AcceptedCommand {
            id: CommandId::parse(&format!("{:03}-{:04}", ask.tie, self.numbers)).unwrap(),
            fingerprint: "f".to_owned(),
            action: ask.action,
            holder: Holder::parse(&format!("h{}", ask.holder)).unwrap(),
            sent_at,
            hold_for: hold_for.map(in_millis),
            until,
            reason: None,
            expires: ask.expires.map(|seconds| plus(self.now, seconds)),
            trace: None,
            idle: IdleOverride::default(),
            parameters: BTreeMap::new(),
        }
    }

    /// A command arrives; it stays in the queue while the bus is away and the outbox full.
    pub(super) fn ask(&mut self, command: &AcceptedCommand, look: Look) {
        if self.bus || self.record.takes(command.action) {
            self.pass(Some(command), look);
        }
    }

    pub(super) fn pass(&mut self, command: Option<&AcceptedCommand>, look: Look) {
        self.machine.advance(self.now);
        let before = self.record.clone();
        let mut inputs = Vec::new();
        inputs.extend(command.map(|command| Input::Command(Box::new(command.clone()))));
        if self.bus && !before.outbox.is_empty() && before.rev > 0 {
            inputs.push(Input::EventsSent(ids(&before)));
        }
        let at = plus(self.now, -look.delay).max(self.committed_at);
        let plan = plan_observation(&before, &self.spec, &inputs, at);
        let sighting = match look.blind {
            false => Ok(self.machine.observe(&plan, at, look.lag)),
            true => Err(ObserveTrouble { cause: Cause::Invalid, message: "EC2 says no".into() }),
        };
        if probes_are_due(&before, &self.spec, &inputs, &sighting, self.now) {
            inputs.push(Input::Round(busy(self.now)));
        }
        self.numbers += 1;
        let nonce = format!("n{}", self.numbers);
        let decision = decide(&before, &self.spec, &inputs, &sighting, self.now, &nonce);
        self.foreign &= command.is_none();
        self.check_decision(&before, &decision);

        let mut wishes = Wishes { expired: self.model.expire(self.now), ..Wishes::default() };
        let runs = sighting.is_ok_and(|seen| seen.state() == PowerState::Running);
        if before.rev == 0 && runs {
            self.model.adopted = Some(Sent::new(Timestamp::MIN, ""));
        }
        if let Some(command) = command {
            self.take(command, &before, &decision, &mut wishes);
        } else {
            assert_eq!(decision.accepted, None, "a command that nobody sent");
        }
        self.learn_what_was_outside(&before, &decision, &mut wishes);
        let at_once = decision.accepted.as_ref().and_then(|accepted| accepted.outcome.as_ref());
        let at_once = at_once.filter(|outcome| self.commands[&outcome.command].outcome.is_none());
        let mut outcomes: Vec<&Outcome> = decision.outcomes.iter().chain(at_once).collect();
        // Whoever is told what is left is told it after what failed.
        outcomes.sort_by_key(|outcome| outcome.outcome != Verdict::Failed);
        for outcome in outcomes {
            self.judge(outcome, &decision.next, &wishes);
        }
        self.commit(decision);
        self.compare();
        self.check_record();
    }

    fn take(
        &mut self,
        command: &AcceptedCommand,
        before: &TargetRecord,
        decision: &Decision,
        wishes: &mut Wishes,
    ) {
        let accepted = decision.accepted.as_ref().expect("a command without its item");
        assert_eq!((&accepted.id, accepted.action), (&command.id, Some(command.action)));
        assert!(decision.changed, "a command that nothing remembers");
        let holder = command.holder.to_string();
        let (action, sent) = (command.action, command.sent());
        let known = Known { action, holder: holder.clone(), sent, outcome: None };
        assert!(self.commands.insert(command.id.clone(), known).is_none());
        let expired = |open: &OpenCommand| {
            let outcome = decision.outcomes.iter().find(|outcome| outcome.command == open.id);
            outcome.is_some_and(|outcome| outcome.cause == Some(Cause::Expired))
        };
        let waiting = before.open.iter().filter(|open| !expired(open));
        let (starts, others): (Vec<_>, Vec<_>) =
            waiting.partition(|open| open.action == Action::Start);
        let open = starts.len() + others.len();
        let says = self.model.take(command, open, others.len(), self.now);
        match says {
            Says::Refused(causes) => {
                let outcome = accepted.outcome.as_ref();
                let outcome = outcome.unwrap_or_else(|| panic!("not refused: {causes:?}"));
                assert_eq!(outcome.outcome, Verdict::Rejected, "{outcome:?}; expected {causes:?}");
                assert!(causes.contains(&outcome.cause.unwrap()), "{outcome:?} but {causes:?}");
                if outcome.cause == Some(Cause::Conflict) && action == Action::Start {
                    let named = outcome.answer.get("holder").and_then(|holder| holder.as_str());
                    let full = open >= OPEN_COMMANDS_MAX || before.holds.len() >= HOLDS_MAX;
                    assert!(full || named.is_some_and(|named| named != holder), "{outcome:?}");
                }
                self.happened.insert(format!(
                    "{} Rejected {}",
                    action.as_str(),
                    outcome.cause.unwrap()
                ));
                self.commands.get_mut(&command.id).unwrap().outcome = Some(outcome.clone());
            }
            Says::Taken(by_it) => wishes.ended.extend(by_it),
        }
        wishes.held_by = self.model.held_by();
    }

    /// What the decision says was done outside must have been.
    fn learn_what_was_outside(
        &mut self,
        before: &TargetRecord,
        decision: &Decision,
        wishes: &mut Wishes,
    ) {
        for (kind, message) in attentions(decision) {
            self.happened.insert(format!("{kind:?}"));
            match kind {
                AttentionKind::StartedOutside => {
                    let Machine { up_by, up_ours_until, .. } = self.machine;
                    let theirs = up_by == By::Outside || self.now >= up_ours_until;
                    assert!(theirs, "our start, adopted");
                    self.model.adopted = Some(Sent::new(before.since, "adopted:"));
                }
                AttentionKind::StoppedOutside => {
                    let Machine { up_by, up_at, down_by, down_at, down_ours_until, .. } =
                        self.machine;
                    assert!(down_at >= up_at || up_by != By::Us, "never down since we started it");
                    let theirs = down_by != By::Us || self.now >= down_ours_until;
                    assert!(theirs, "our stop, called theirs");
                    let at = message.split_once(" outside at ").unwrap().1;
                    let at: Timestamp = at.split([' ', ';']).next().unwrap().parse().unwrap();
                    assert!(at <= down_at || down_by != By::Outside, "{at} is after {down_at}");
                    wishes.ended.extend(self.model.stopped_outside(at));
                }
                _ => {}
            }
        }
    }

    /// One outcome, and the only one, for a reason that the model knows of.
    fn judge(&mut self, outcome: &Outcome, next: &TargetRecord, wishes: &Wishes) {
        let known =
            self.commands.get_mut(&outcome.command).expect("an outcome of nobody's command");
        assert!(known.outcome.is_none(), "two outcomes: {:?} and {outcome:?}", known.outcome);
        assert!(!outcome.message.is_empty() && outcome.at == self.now);
        known.outcome = Some(outcome.clone());
        let cause = outcome.cause.map_or("", Cause::as_str);
        self.happened.insert(format!("{} {:?} {cause}", known.action.as_str(), outcome.outcome));
        let Known { action, holder, sent, .. } = known;
        let lost = |kind| self.lost.contains(&kind);
        let ok = match (*action, outcome.outcome, outcome.cause) {
            (Action::Start, Verdict::Done, None) => {
                assert!(!next.up.unit_down, "called on, and its unit is dead");
                let up = self.machine.state() == PowerState::Running;
                let ours = self.machine.down_by == By::Us && !lost(EffectKind::Stop);
                assert!(up || !ours, "called on, though we stopped it");
                next.phase == Phase::On && self.model.wishes.contains_key(holder)
            }
            (Action::Start, Verdict::Rejected, Some(Cause::Superseded)) => {
                wishes.ended.contains(holder)
            }
            (Action::Start, Verdict::Failed, Some(Cause::Expired)) => {
                wishes.expired.contains(holder)
            }
            (Action::Start, Verdict::Failed, Some(cause)) => {
                let fell = self.machine.down_at >= self.machine.up_at;
                let fell = fell || self.machine.up_by != By::Us || lost(EffectKind::Start);
                assert!(fell || cause != Cause::Bounced, "called fallen back, and never was down");
                self.model.failed(holder, sent);
                matches!(next.phase, Phase::Failed | Phase::Stopping | Phase::Off)
            }
            (Action::Stop | Action::Kill, Verdict::Done, None) => {
                let stopped = outcome.answer["stopped"].as_bool().unwrap();
                let held_by = outcome.answer["held_by"].as_array().unwrap();
                let held_by = held_by.iter().map(|holder| holder.as_str().unwrap().to_owned());
                let held_by: BTreeSet<String> = held_by.collect();
                let off = matches!(next.phase, Phase::Off | Phase::Failed);
                let true_once = held_by == self.model.held_by() || held_by == wishes.held_by;
                // Where the record has no room for one more that waits, it is answered before that.
                let unawaited =
                    next.phase == Phase::Stopping && outcome.message.contains("no room");
                true_once && if held_by.is_empty() { off || unawaited } else { !stopped }
            }
            (Action::Stop | Action::Kill, Verdict::Failed, Some(_)) => true,
            (
                Action::Status | Action::KeepAlive | Action::Pause | Action::Resume,
                Verdict::Done,
                None,
            ) => true,
            // Somebody is always at work, so no check is what stops it.
            (Action::CheckIdle, Verdict::Done, None) => {
                let stopped = outcome.answer["stopped"].as_bool().unwrap();
                !stopped || (next.phase == Phase::Off && self.model.held_by().is_empty())
            }
            (Action::CheckIdle, Verdict::Failed, Some(_)) => true,
            _ => false,
        };
        assert!(ok, "{outcome:?}; phase {:?}, {:?}", next.phase, self.model);
    }

    fn commit(&mut self, decision: Decision) {
        if !decision.changed {
            let (stored, needed) = (self.record.wake_at, decision.look_at);
            assert!(needed.is_none_or(|at| stored.is_some_and(|stored| stored <= at)));
            self.look_at = needed;
            return;
        }
        self.committed_at = self.now;
        if let Some(effect) = &decision.effect {
            let Doing { nonce, act_by, .. } = decision.next.doing.clone().unwrap();
            self.abandon();
            self.happened.insert(effect.operation().to_owned());
            self.flight = Some(Flight { nonce, effect: effect.clone(), act_by });
        }
        self.record =
            match self.bus && !decision.next.outbox.is_empty() && decision.effect.is_none() {
                true => clear_sent(&decision, &ids(&decision.next)),
                false => decision.next,
            };
    }

    /// Nobody will hear of the effect under way.
    fn abandon(&mut self) {
        if let Some(flight) = self.flight.take() {
            self.lost.insert(flight.effect.kind());
        }
    }

    pub(super) fn meet(&mut self, fate: Fate, at_once: bool) {
        let Some(flight) = &self.flight else { return };
        let refused = |cause, refusal| {
            let message = "AWS says no".to_owned();
            EffectAnswer::Refused { cause, message, refusal }
        };
        let lost = plus(flight.act_by, SIGNATURE_LIFE_SECONDS + SKEW_MAX_SECONDS);
        let answered = if at_once { Timestamp::MAX } else { lost };
        let answer = match fate {
            _ if self.now > flight.act_by => EffectAnswer::NotMade,
            Fate::Accepted => self.machine.execute(&flight.effect, self.now, answered),
            Fate::RetryAfter(millis) => refused(Cause::Throttled, Refusal::RetryAfter(millis)),
            Fate::Final => refused(Cause::Invalid, Refusal::Final),
            Fate::Lost => {
                self.machine.execute(&flight.effect, self.now, lost);
                return self.abandon();
            }
            Fate::Unmade => return self.abandon(),
            Fate::Late(seconds) => {
                let at = plus(self.now, seconds);
                self.machine.execute_late(flight.effect.clone(), at, lost);
                return self.abandon();
            }
        };
        self.answers.push((flight.nonce.clone(), answer));
        if at_once {
            self.flight = None;
            self.deliver();
        } else {
            self.abandon();
        }
    }

    fn deliver(&mut self) {
        let Some((nonce, answer)) = self.answers.pop() else { return };
        let before = self.record.clone();
        let sent = if self.bus { ids(&before) } else { Vec::new() };
        let applied = apply_answer(&before, &self.spec, &nonce, &answer, &sent, self.now);
        let knows = before.doing.iter().any(|doing| doing.nonce == nonce)
            || before.unanswered.iter().any(|lost| lost.knows(&nonce));
        let ApplyAnswer::Commit(decision) = applied else {
            return assert!(!knows, "an answer that was waited for, called stale");
        };
        assert!(knows, "an answer that nobody waited for, taken");
        assert!(decision.effect.is_none() && decision.accepted.is_none());
        assert!(decision.next.doing.as_ref().is_none_or(|doing| doing.nonce != nonce));
        self.check_decision(&before, &decision);
        for outcome in &decision.outcomes {
            self.judge(outcome, &decision.next, &Wishes::default());
        }
        self.committed_at = self.now;
        self.record = match self.bus && !decision.next.outbox.is_empty() {
            true => clear_sent(&decision, &ids(&decision.next)),
            false => decision.next,
        };
        self.look_at = self.record.wake_at;
        self.compare();
        self.check_waits();
    }

    /// What must hold of every decision whatever.
    fn check_decision(&self, before: &TargetRecord, decision: &Decision) {
        let next = &decision.next;
        assert!(!decision.why.is_empty() && next.why == decision.why);
        assert_eq!(next.rev, before.rev + 1);
        assert_eq!(next.wake_at, decision.look_at);
        if let Some(effect) = &decision.effect {
            let over = before.doing.as_ref().is_none_or(|doing| doing.act_by < self.now);
            assert!(over, "an effect while another may be under way");
            assert!(
                decision.changed && next.doing.as_ref().is_some_and(|d| d.effect == effect.noted())
            );
            assert!(next.paused.is_none(), "an effect while paused");
            let stop = effect.kind() == EffectKind::Stop;
            assert!(!stop || !next.wanted(self.now), "a stop beside a hold in force");
            assert!(stop || next.wanted(self.now), "a start that nobody wants");
            assert!(!stop || !self.foreign, "somebody else's machine, stopped");
        }
        assert!(next.history.len() <= HISTORY_MAX && next.open.len() <= OPEN_COMMANDS_MAX);
        assert!(next.holds.len() <= HOLDS_MAX, "{} holds", next.holds.len());
        assert!(next.releases.len() <= RELEASES_MAX && next.unanswered.len() <= UNANSWERED_MAX);
        assert!(next.outbox.len() <= OUTBOX_MAX, "{} events", next.outbox.len());
        let events: BTreeSet<&str> = next.outbox.iter().map(|event| event.id.as_str()).collect();
        assert_eq!(events.len(), next.outbox.len(), "two events with one id");
        super::runs::check(next);
    }

    /// The record's wishes are the model's.
    fn compare(&self) {
        let now = self.now;
        let theirs: Vec<(String, Option<Timestamp>, Sent)> = (self.record.holds_in_force(now))
            .filter(|hold| hold.requested())
            .map(|hold| (hold.holder.to_string(), hold.until, hold.sent.clone()))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let ours: Vec<(String, Option<Timestamp>, Sent)> = (self.model.wishes.iter())
            .filter(|(_, wish)| wish.until.is_none_or(|until| until > now))
            .map(|(holder, wish)| (holder.clone(), wish.until, wish.sent.clone()))
            .collect();
        assert_eq!(theirs, ours, "record, model; why: {}", self.record.why);
        let adopted = self.record.holds.iter().filter(|hold| !hold.requested()).count();
        assert_eq!(adopted, usize::from(self.model.adopted.is_some()), "{:?}", self.record.holds);
        let paused = self.record.paused.as_ref().map(|paused| &paused.sent);
        assert_eq!(paused, self.model.paused.as_ref());
        assert!(!self.spec.exclusive || theirs.len() <= 1, "two holders of an exclusive target");
    }

    /// What must hold of a record between two passes.
    fn check_record(&self) {
        let record = &self.record;
        let waiting: BTreeSet<&CommandId> = record.open.iter().map(|open| &open.id).collect();
        let unanswered = self.commands.iter().filter(|(_, known)| known.outcome.is_none());
        assert_eq!(waiting, unanswered.map(|(id, _)| id).collect());
        let wanted = self.model.wanted();
        for open in &record.open {
            match open.action {
                Action::Start => assert!(
                    self.model.wishes.contains_key(open.holder.as_str()),
                    "a start that waits for nothing: {open:?}"
                ),
                Action::Stop | Action::Kill => assert!(!wanted, "a stop that waits: {open:?}"),
                Action::Status => {}
                Action::CheckIdle => assert!(
                    matches!(record.phase, Phase::On | Phase::Stopping),
                    "a check that waits for nothing: {open:?}"
                ),
                other => panic!("{other:?} does not wait"),
            }
        }
        self.check_waits();
    }

    fn check_waits(&self) {
        let record = &self.record;
        let waits = record.doing.is_some()
            || !record.unanswered.is_empty()
            || !record.outbox.is_empty()
            || record.holds.iter().any(|hold| hold.until.is_some())
            || matches!(record.phase, Phase::Starting | Phase::Stopping) && record.paused.is_none()
            || record.open.iter().any(|open| open.action == Action::CheckIdle)
            || !record.open.is_empty() && record.paused.is_none();
        assert!(!waits || record.wake_at.is_some(), "a wait that nobody wakes: {}", record.why);
    }

    /// Faults have ceased: passes come as the record asks, and at least as often as the slow look.
    /// Returns how many it took until the target rests.
    pub(super) fn come_to_rest(&mut self, passes_max: usize) -> usize {
        self.bus = true;
        self.machine.suffer(Outside::Heals, self.now);
        if self.record.paused.is_some() {
            let command = self.newest(Action::Resume, 0);
            self.ask(&command, Look::default());
        }
        for passes in 0..passes_max {
            self.meet(Fate::Accepted, true);
            self.pass(None, Look::default());
            self.meet(Fate::Accepted, true);
            if self.rests() {
                return passes;
            }
            self.wait_for_the_next_look();
        }
        panic!("no rest: {:?}, machine {:?}", self.record, self.machine.state());
    }

    pub(super) fn refused_any_as(&self, cause: Cause) -> bool {
        let mut outcomes = self.commands.values().filter_map(|known| known.outcome.as_ref());
        outcomes.any(|outcome| outcome.outcome == Verdict::Rejected && outcome.cause == Some(cause))
    }

    /// What the commands so far have left: the holds, whose starts would still count, and the pause.
    pub(super) fn standing(&self) -> Standing {
        let TargetRecord { holds, releases, last_kill, paused, last_resume, .. } = &self.record;
        let mut bars = releases.clone();
        for hold in holds.iter().filter(|hold| hold.requested()) {
            bars.entry(hold.holder.to_string()).or_insert_with(|| hold.sent.clone());
        }
        for (holder, bar) in &mut bars {
            let of_hold = holds.iter().find(|hold| hold.holder.as_str() == holder.as_str());
            let of_hold = of_hold.map(|hold| &hold.sent);
            *bar = last_kill.iter().chain(of_hold).chain([&*bar]).max().unwrap().clone();
        }
        bars.retain(|_, bar| Some(&*bar) != last_kill.as_ref());
        let mut holds: Vec<(Sent, String, HoldKind, Option<Timestamp>)> = (holds.iter())
            .map(|hold| (hold.sent.clone(), hold.holder.to_string(), hold.kind, hold.until))
            .collect();
        holds.sort_by(|a, b| a.0.cmp(&b.0));
        let paused = paused.as_ref().map(|paused| paused.sent.clone());
        Standing { holds, bars, paused, killed: last_kill.clone(), resumed: last_resume.clone() }
    }

    /// Looks again at the same moment, at nothing new: how many of them write before one does nothing, or
    /// acts.
    pub(super) fn writes_before_calm(&mut self, most: usize) -> usize {
        (0..most)
            .take_while(|_| {
                let before = self.record.rev;
                self.bus = true;
                self.pass(None, Look::default());
                self.record.rev != before && self.flight.is_none()
            })
            .count()
    }

    /// A command that was sent just now, after everything that was ever sent.
    pub(super) fn newest(&mut self, action: Action, holder: u8) -> AcceptedCommand {
        let lasts = Lasts::Open;
        self.command(&Ask { action, holder, age: 0, tie: u8::MAX, lasts, expires: None })
    }

    fn rests(&self) -> bool {
        let Self { record, now, .. } = self;
        let state = self.machine.state();
        let calm = record.doing.is_none()
            && record.unanswered.is_empty()
            && record.open.is_empty()
            && record.outbox.is_empty()
            && record.attempt.contradiction.is_none();
        calm && match record.phase {
            Phase::On => record.wanted(*now) && state == PowerState::Running,
            Phase::Off => !record.wanted(*now) && state.is_off(),
            Phase::Failed => {
                record.failure.is_some()
                    && (state.is_off() || record.up.kept && record.wanted(*now))
            }
            Phase::Starting | Phase::Stopping => false,
        }
    }

    pub(super) fn later(&mut self, seconds: i64) {
        self.wait_until(self.now + SignedDuration::from_secs(seconds));
    }
}

fn ids(record: &TargetRecord) -> Vec<String> {
    record.outbox.iter().map(|event| event.id.clone()).collect()
}

/// What people were told of by this decision.
fn attentions(decision: &Decision) -> Vec<(AttentionKind, String)> {
    let new = format!(":{}:", decision.next.rev);
    let events = decision.next.outbox.iter().filter(|event| event.id.contains(&new));
    let told = events.filter_map(|event| match &event.body {
        EventBody::Attention { attention, message, .. } => Some((*attention, message.clone())),
        _ => None,
    });
    told.collect()
}
