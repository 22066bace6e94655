//! A machine with a truth of its own: it knows who started and stopped it, which the core has to infer.
//!
//! It boots and stops in its own time, tells its state late by up to a minute (`lag`, drawn for each look, so that
//! its descriptions go back), refuses what EC2 would refuse, and can be handled by somebody outside.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use lamplighter_events::Cause;

use crate::*;

/// Who moved the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Us,
    Outside,
    /// It broke: nobody asked.
    Itself,
}

/// What somebody outside, or fate, does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outside {
    Starts,
    Stops,
    Terminates,
    FallsBack,
    Hangs,
    UnitDies,
    AgentDies,
    Sickens,
    Heals,
}

#[derive(Debug, Clone, Copy)]
struct Moment {
    at: Timestamp,
    state: PowerState,
    user_at: Option<Timestamp>,
    launched_at: Timestamp,
}

pub(super) struct Machine {
    moments: Vec<Moment>,
    /// Who last sent it up, and who down.
    pub(super) up_by: By,
    pub(super) down_by: By,
    /// When that was.
    pub(super) up_at: Timestamp,
    pub(super) down_at: Timestamp,
    /// Until when we must know our own hand in it.
    pub(super) up_ours_until: Timestamp,
    pub(super) down_ours_until: Timestamp,
    pace: Pace,
    hangs: bool,
    unit_dead: bool,
    agent_dead: bool,
    sick: bool,
    questions: BTreeMap<String, Timestamp>,
    late: Vec<(Timestamp, Effect, Timestamp)>,
}

/// How long things take, seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    pub(super) boots: i64,
    pub(super) stops: i64,
    pub(super) agent: i64,
    pub(super) answers: i64,
}

pub(super) fn plus(at: Timestamp, seconds: i64) -> Timestamp {
    at + SignedDuration::from_secs(seconds)
}

impl Machine {
    pub(super) fn new(now: Timestamp, state: PowerState, pace: Pace) -> Self {
        let at = plus(now, -3600);
        let first = Moment { at, state, user_at: None, launched_at: at };
        Self {
            moments: vec![first],
            up_by: By::Outside,
            down_by: By::Outside,
            up_at: first.at,
            down_at: first.at,
            up_ours_until: Timestamp::MIN,
            down_ours_until: Timestamp::MIN,
            pace,
            hangs: false,
            unit_dead: false,
            agent_dead: false,
            sick: false,
            questions: BTreeMap::new(),
            late: Vec::new(),
        }
    }

    fn last(&self) -> Moment {
        *self.moments.last().unwrap()
    }

    pub(super) fn state(&self) -> PowerState {
        self.last().state
    }

    fn enter(&mut self, at: Timestamp, state: PowerState, user_at: Option<Timestamp>) {
        let launched_at = match state {
            PowerState::Pending => at,
            _ => self.last().launched_at,
        };
        self.moments.push(Moment { at, state, user_at, launched_at });
    }

    /// Whatever is due by `now` happens, in order.
    pub(super) fn advance(&mut self, now: Timestamp) {
        loop {
            let last = self.last();
            let own = match last.state {
                PowerState::Pending if !self.hangs => {
                    Some((plus(last.at, self.pace.boots), PowerState::Running))
                }
                PowerState::Stopping => Some((plus(last.at, self.pace.stops), PowerState::Stopped)),
                PowerState::ShuttingDown => {
                    Some((plus(last.at, self.pace.stops), PowerState::Terminated))
                }
                _ => None,
            };
            let own = own.filter(|(at, _)| *at <= now);
            let late = self.late.iter().map(|(at, ..)| *at).min().filter(|at| *at <= now);
            match (own, late) {
                (Some((at, state)), late) if late.is_none_or(|late| at <= late) => {
                    self.enter(at, state, last.user_at);
                }
                (_, Some(at)) => {
                    let index = self.late.iter().position(|(due, ..)| *due == at).unwrap();
                    let (_, effect, ours_until) = self.late.remove(index);
                    self.execute(&effect, at.max(last.at), ours_until);
                }
                _ => return,
            }
        }
    }

    /// A request on its way, which nobody hears of any more.
    pub(super) fn execute_late(&mut self, effect: Effect, at: Timestamp, ours_until: Timestamp) {
        self.late.push((at, effect, ours_until));
    }

    /// What AWS says to a call, and what comes of it.
    pub(super) fn execute(
        &mut self,
        effect: &Effect,
        now: Timestamp,
        ours_until: Timestamp,
    ) -> EffectAnswer {
        let refused = |cause, refusal| {
            let message = "EC2 says no".to_owned();
            EffectAnswer::Refused { cause, message, refusal }
        };
        let soon = Refusal::RetryAfter(2000);
        let state = self.state();
        let mut command_id = None;
        match (effect, state) {
            (_, PowerState::ShuttingDown | PowerState::Terminated | PowerState::Missing) => {
                return refused(Cause::NotFound, Refusal::Final);
            }
            (Effect::StartInstance { .. }, PowerState::Stopped) => {
                self.up_by = By::Us;
                self.up_at = now;
                self.up_ours_until = ours_until;
                self.enter(now, PowerState::Pending, None);
            }
            (Effect::StartInstance { .. }, PowerState::Stopping)
            | (Effect::StopInstance { .. }, PowerState::Pending) => {
                return refused(Cause::Conflict, soon);
            }
            (Effect::StopInstance { .. }, PowerState::Running) => {
                self.down_by = By::Us;
                self.down_at = now;
                self.down_ours_until = ours_until;
                self.enter(now, PowerState::Stopping, Some(now));
            }
            (Effect::SendCommand { token, .. }, PowerState::Running) if !self.agent_dead => {
                self.questions.entry(token.clone()).or_insert(now);
                command_id = Some(format!("c-{token}"));
            }
            (Effect::SendCommand { .. }, _) => return refused(Cause::AgentUnreachable, soon),
            _ => {}
        }
        EffectAnswer::Accepted { id: command_id }
    }

    pub(super) fn suffer(&mut self, what: Outside, now: Timestamp) {
        let state = self.state();
        match (what, state) {
            (Outside::Starts, PowerState::Stopped) => {
                self.up_by = By::Outside;
                self.up_at = now;
                self.enter(now, PowerState::Pending, None);
            }
            (Outside::Stops, PowerState::Running) => {
                self.down_by = By::Outside;
                self.down_at = now;
                self.enter(now, PowerState::Stopping, Some(now));
            }
            (Outside::Terminates, PowerState::Stopped | PowerState::Running) => {
                self.down_by = By::Outside;
                self.down_at = now;
                self.enter(now, PowerState::ShuttingDown, Some(now));
            }
            (Outside::FallsBack, PowerState::Pending | PowerState::Running) => {
                self.down_by = By::Itself;
                self.down_at = now;
                self.enter(now, PowerState::Stopped, None);
            }
            (Outside::Hangs, PowerState::Pending) => self.hangs = true,
            (Outside::UnitDies, _) => self.unit_dead = true,
            (Outside::AgentDies, _) => self.agent_dead = true,
            (Outside::Sickens, _) => self.sick = true,
            (Outside::Heals, _) => {
                self.hangs = false;
                self.unit_dead = false;
                self.agent_dead = false;
                self.sick = false;
            }
            _ => {}
        }
    }

    /// One look, begun at `at`, as AWS tells it: the state is `lag` seconds old.
    pub(super) fn observe(&self, plan: &ObservePlan, at: Timestamp, lag: i64) -> Observed {
        let told = plus(at, -lag);
        let moment = self.moments.iter().rev().find(|moment| moment.at <= told);
        let moment = *moment.unwrap_or(&self.moments[0]);
        let runs = moment.state == PowerState::Running;
        let mut seen = Observed::bare(at, moment.state);
        if let Seen::Instance(instance) = &mut seen.seen {
            instance.user_stopped_at = moment.user_at;
            instance.launched_at = Some(moment.launched_at);
            instance.private_ip = runs.then(|| "10.0.0.1".to_owned());
        }
        let agent = match (self.agent_dead, plus(moment.at, self.pace.agent) <= at) {
            (true, _) => Agent::Offline,
            (false, true) => Agent::Online,
            (false, false) => Agent::Unregistered,
        };
        seen.agent = (plan.agent && runs).then_some(agent);
        seen.check = plan.check.as_ref().map(|(_, token)| match self.questions.get(token) {
            None => CheckReading::Absent,
            Some(asked) if plus(*asked, self.pace.answers) <= at && runs && !self.agent_dead => {
                let state = if self.unit_dead { "failed" } else { "active" };
                CheckReading::Said { state: state.to_owned() }
            }
            Some(_) => CheckReading::Pending { command_id: Some(format!("c-{token}")) },
        });
        seen.health = (plan.health.is_some() && runs).then(|| match self.sick {
            false => HealthReading::Healthy,
            true => HealthReading::Unhealthy { detail: "503".to_owned() },
        });
        seen
    }
}
