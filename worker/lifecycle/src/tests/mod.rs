//! The rules told as stories: a target, a clock and a machine that says what the story says.
//!
//! Each test is a claim. `Story` carries the record through decisions exactly as the runtime does:
//! observe, decide, commit, act, answer.

mod creates;
mod driver;
mod faults;
mod holds;
mod idling;
mod lag;
mod looks;
mod machine;
mod model;
mod properties;
mod runs;
mod services;
mod size;
mod starting;
mod stopping;
mod templates;
mod watching;
mod windows;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use lamplighter_events::{
    Action, AttentionKind, Cause, CommandId, EventBody, Holder, HumanDuration, InstanceId, Outcome,
    TargetName, Verdict,
};

use crate::*;

/// The story's world.
pub(super) struct Story {
    pub(super) spec: TargetSpec,
    pub(super) record: TargetRecord,
    pub(super) now: Timestamp,
    pub(super) seen: Observed,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) effects: Vec<Effect>,
    pub(super) writes: usize,
    pub(super) last: Option<Decision>,
    nonces: u64,
    /// EC2's times of the machine's latest start and of its latest stop by a user.
    launched_at: Option<Timestamp>,
    user_stopped_at: Option<Timestamp>,
}

pub(super) fn seconds(text: &str) -> HumanDuration {
    HumanDuration::parse(text).unwrap()
}

pub(super) fn instance_of(spec: &mut TargetSpec) -> &mut InstanceSpec {
    match &mut spec.place {
        Place::Instance(instance) => instance,
        Place::Service(_) | Place::Template(_) => panic!("it is none"),
    }
}

impl Story {
    /// A machine that is stopped, with no unit and no policy.
    pub(super) fn new() -> Self {
        let now: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        let instance = InstanceId::parse("i-01f5d046c86e4f36e").unwrap();
        let name = TargetName::parse("position-keeper").unwrap();
        let spec = TargetSpec {
            name: name.clone(),
            place: Place::Instance(InstanceSpec {
                instance: InstanceRef::Id(instance.clone()),
                systemd_unit: None,
                unit_check_every: None,
            }),
            health: None,
            timings: Timings {
                start_timeout: seconds("2m"),
                settle: seconds("10s"),
                ready_timeout: seconds("2m"),
                health_timeout: seconds("3m"),
                stop_timeout: seconds("5m"),
                poll: seconds("5s"),
            },
            log_group: None,
            exclusive: false,
            max_hold: None,
            keep_failed: false,
            idle: None,
            hours: None,
        };
        let record = TargetRecord::first_contact(name, spec.kind(), instance.into(), now);
        let seen = Observed::bare(now, PowerState::Stopped);
        Self {
            spec,
            record,
            now,
            seen,
            outcomes: vec![],
            effects: vec![],
            writes: 0,
            last: None,
            nonces: 0,
            launched_at: None,
            user_stopped_at: None,
        }
    }

    pub(super) fn with_unit() -> Self {
        let mut story = Self::new();
        story.instance().systemd_unit = Some(UnitName::parse("positionkeeper").unwrap());
        story
    }

    pub(super) fn instance(&mut self) -> &mut InstanceSpec {
        instance_of(&mut self.spec)
    }

    /// What EC2 says of the machine.
    pub(super) fn machine(&mut self) -> &mut InstanceSeen {
        match &mut self.seen.seen {
            Seen::Instance(instance) => instance,
            Seen::Service(_) => panic!("it is a service"),
        }
    }

    pub(super) fn after(&mut self, seconds: i64) -> &mut Self {
        self.now += SignedDuration::from_secs(seconds);
        self
    }

    /// With the times that EC2 tells of it.
    pub(super) fn sees(&mut self, state: PowerState) -> &mut Self {
        self.seen = Observed::bare(self.now, state);
        let up = matches!(state, PowerState::Pending | PowerState::Running);
        let (launched_at, stopped_at) = (self.launched_at, self.user_stopped_at);
        let machine = self.machine();
        machine.launched_at = launched_at;
        machine.user_stopped_at = stopped_at.filter(|_| !up);
        self
    }

    /// Somebody else stops it now, and it shows.
    pub(super) fn sees_it_stopped_outside(&mut self, state: PowerState) -> &mut Self {
        self.user_stopped_at = Some(self.now);
        self.sees(state)
    }

    /// Somebody else starts it now, and it shows.
    pub(super) fn sees_it_started_outside(&mut self, state: PowerState) -> &mut Self {
        self.launched_at = Some(self.now);
        self.sees(state)
    }

    pub(super) fn sees_agent(&mut self, agent: Agent) -> &mut Self {
        self.sees(PowerState::Running);
        self.seen.agent = Some(agent);
        self
    }

    pub(super) fn hears(&mut self, reading: CheckReading) -> &mut Self {
        self.sees(PowerState::Running);
        self.seen.check = Some(reading);
        self
    }

    pub(super) fn said(&mut self, state: &str) -> &mut Self {
        self.hears(CheckReading::Said { state: state.to_owned() })
    }

    pub(super) fn command(&self, action: Action, holder: &str) -> AcceptedCommand {
        AcceptedCommand {
            id: CommandId::parse(&format!("{}-{holder}-{}", action.as_str(), self.nonces)).unwrap(),
            fingerprint: "f".to_owned(),
            action,
            holder: Holder::parse(holder).unwrap(),
            sent_at: self.now,
            hold_for: None,
            until: None,
            reason: None,
            expires: None,
            trace: None,
            idle: IdleOverride::default(),
            parameters: BTreeMap::new(),
        }
    }

    /// A pass with a command, committed; its effect waits for `answered`.
    pub(super) fn asks(&mut self, command: AcceptedCommand) -> &mut Self {
        self.pass(&[Input::Command(Box::new(command))])
    }

    pub(super) fn start(&mut self, holder: &str) -> &mut Self {
        let command = self.command(Action::Start, holder);
        self.asks(command)
    }

    pub(super) fn stop(&mut self, holder: &str) -> &mut Self {
        let command = self.command(Action::Stop, holder);
        self.asks(command)
    }

    pub(super) fn kill(&mut self) -> &mut Self {
        let command = self.command(Action::Kill, "admin");
        self.asks(command)
    }

    /// A pass without a command.
    pub(super) fn look(&mut self) -> &mut Self {
        self.pass(&[])
    }

    fn pass(&mut self, inputs: &[Input]) -> &mut Self {
        self.seen.at = self.now;
        self.nonces += 1;
        let sighting: Sighting = Ok(self.seen.clone());
        self.decide(inputs, &sighting)
    }

    /// A pass whose observation fails for good.
    pub(super) fn cannot_look(&mut self, cause: Cause, inputs: &[Input]) -> &mut Self {
        self.nonces += 1;
        let trouble: Sighting = Err(ObserveTrouble { cause, message: "EC2 says no".to_owned() });
        self.decide(inputs, &trouble)
    }

    fn decide(&mut self, inputs: &[Input], sighting: &Sighting) -> &mut Self {
        let nonce = format!("n{}", self.nonces);
        let decision = decide(&self.record, &self.spec, inputs, sighting, self.now, &nonce);
        self.check_house(&decision);
        self.take(decision);
        self
    }

    /// What must hold of every decision whatever.
    #[track_caller]
    fn check_house(&self, decision: &Decision) {
        assert!(!decision.why.is_empty(), "a decision without a why");
        runs::check(&decision.next);
        let ends_another = |effect: &Effect| {
            matches!(effect, Effect::TerminateInstance { .. })
                && effect.resource() != decision.next.resource
        };
        let stops = |effect: &Effect| effect.kind() == EffectKind::Stop && !ends_another(effect);
        if decision.effect.as_ref().is_some_and(stops) {
            assert!(!decision.next.wanted(self.now), "a stop beside a hold in force");
        }
        assert!(
            decision.effect.is_none() || self.record.doing.is_none_or_over(self.now),
            "an effect while another may be under way"
        );
        assert_eq!(decision.effect.is_some(), decision.changed && decision.effect.is_some());
        let waits = decision.next.doing.is_some()
            || !decision.next.unanswered.is_empty()
            || matches!(decision.next.phase, Phase::Starting | Phase::Stopping);
        if waits && decision.next.paused.is_none() {
            assert!(decision.look_at.is_some(), "a wait that nobody wakes: {}", decision.why);
        }
    }

    fn take(&mut self, decision: Decision) {
        if decision.changed {
            self.writes += 1;
            self.record = decision.next.clone();
        }
        let at_once = decision.accepted.as_ref().and_then(|accepted| accepted.outcome.clone());
        self.outcomes.extend(at_once);
        self.outcomes.extend(decision.outcomes.clone());
        self.effects.extend(decision.effect.clone());
        self.last = Some(decision);
    }

    /// AWS answers the effect under way.
    #[track_caller]
    pub(super) fn answered(&mut self, answer: &EffectAnswer) -> &mut Self {
        let doing = self.record.doing.as_ref().expect("an effect is under way");
        let (nonce, kind) = (doing.nonce.clone(), doing.effect.kind());
        match (answer, kind) {
            (EffectAnswer::Accepted { .. }, EffectKind::Start) => self.launched_at = Some(self.now),
            (EffectAnswer::Accepted { .. }, EffectKind::Stop) => {
                self.user_stopped_at = Some(self.now);
            }
            _ => {}
        }
        match apply_answer(&self.record, &self.spec, &nonce, answer, &[], self.now) {
            ApplyAnswer::Commit(decision) => self.take(*decision),
            ApplyAnswer::Stale => panic!("the answer was stale"),
        }
        self
    }

    #[track_caller]
    pub(super) fn accepted(&mut self) -> &mut Self {
        self.answered(&EffectAnswer::Accepted { id: None })
    }

    #[track_caller]
    pub(super) fn sent(&mut self, command_id: &str) -> &mut Self {
        self.answered(&EffectAnswer::Accepted { id: Some(command_id.to_owned()) })
    }

    #[track_caller]
    pub(super) fn refused(&mut self, cause: Cause, refusal: Refusal) -> &mut Self {
        let message = "AWS says no".to_owned();
        self.answered(&EffectAnswer::Refused { cause, message, refusal })
    }

    /// A started target without a unit, on, held by `holder`.
    #[track_caller]
    pub(super) fn on(holder: &str) -> Self {
        let mut story = Self::new();
        story.start(holder).accepted();
        story.after(6).sees(PowerState::Running).look();
        story.after(10).look().is(Phase::On, None);
        story.outcomes.clear();
        story.effects.clear();
        story.writes = 0;
        story
    }

    #[track_caller]
    pub(super) fn is(&mut self, phase: Phase, step: Option<Step>) -> &mut Self {
        assert_eq!((self.record.phase, self.record.step), (phase, step), "{}", self.record.why);
        self
    }

    /// The one effect decided since the last question.
    #[track_caller]
    pub(super) fn did(&mut self, kind: EffectKind) -> &mut Self {
        let kinds: Vec<EffectKind> = self.effects.drain(..).map(|effect| effect.kind()).collect();
        assert_eq!(kinds, vec![kind], "{}", self.record.why);
        self
    }

    #[track_caller]
    pub(super) fn did_nothing(&mut self) -> &mut Self {
        assert!(self.effects.is_empty(), "{:?}", self.effects);
        self
    }

    /// The one outcome since the last question.
    #[track_caller]
    pub(super) fn outcome(&mut self, verdict: Verdict, cause: Option<Cause>) -> Outcome {
        let outcomes = std::mem::take(&mut self.outcomes);
        assert_eq!(outcomes.len(), 1, "{outcomes:?}; why: {}", self.record.why);
        let outcome = outcomes.into_iter().next().unwrap();
        assert_eq!((outcome.outcome, outcome.cause), (verdict, cause), "{}", outcome.message);
        outcome
    }

    #[track_caller]
    pub(super) fn no_outcome(&mut self) -> &mut Self {
        assert!(self.outcomes.is_empty(), "{:?}", self.outcomes);
        self
    }

    pub(super) fn attentions(&self) -> Vec<AttentionKind> {
        self.record
            .outbox
            .iter()
            .filter_map(|event| match &event.body {
                EventBody::Attention { attention, .. } => Some(*attention),
                _ => None,
            })
            .collect()
    }
}

trait OverOrNone {
    fn is_none_or_over(&self, now: Timestamp) -> bool;
}

impl OverOrNone for Option<Doing> {
    fn is_none_or_over(&self, now: Timestamp) -> bool {
        self.as_ref().is_none_or(|doing| doing.act_by < now)
    }
}
