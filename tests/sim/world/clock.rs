//! A worker's clock: its machine's, which may be wrong and may jump, set right by AWS's answers.
//!
//! As `worker/aws` does it: each quick answer carries AWS's time in whole seconds; the worker's time is
//! its machine's plus what the last answer told.

use jiff::{SignedDuration, Timestamp};
use lamplighter_runtime::ports::Clock;

use super::Sim;

/// A slower answer says too little about when its date was written, milliseconds.
const QUICK_MS: i64 = 2000;

/// The clock of the machine that a worker runs on.
#[derive(Debug, Clone, Copy)]
pub(super) struct MachineClock {
    /// How far it is ahead of AWS's.
    ahead: SignedDuration,
    /// AWS's clock minus this one, as the last answer told.
    learnt: Option<SignedDuration>,
}

impl MachineClock {
    pub(super) fn ahead(ahead: SignedDuration) -> Self {
        Self { ahead, learnt: None }
    }

    /// What it shows when AWS's clock shows `now`.
    pub(super) fn reads(&self, now: Timestamp) -> Timestamp {
        now + self.ahead + self.learnt.unwrap_or(SignedDuration::ZERO)
    }
}

impl Sim {
    /// The clocks of workers to come, and this one's, are so far ahead of AWS's.
    pub fn set_ahead(&self, ahead: SignedDuration) {
        let mut state = self.lock();
        state.ahead = ahead;
        let worker = self.worker;
        if let Some(clock) = state.clocks.get_mut(&worker) {
            clock.ahead = ahead;
        }
    }

    /// Every machine's clock jumps so far.
    pub fn jump_clocks(&self, ahead: SignedDuration) {
        self.lock().clocks.values_mut().for_each(|clock| clock.ahead = ahead);
    }

    fn clock(&self) -> MachineClock {
        let clock = self.lock().clocks.get(&self.worker).copied();
        clock.unwrap_or_else(|| MachineClock::ahead(SignedDuration::ZERO))
    }

    /// An answer came to what was asked at `asked` (AWS's time).
    pub(super) fn learn_the_time(&self, asked: Timestamp) {
        let now = self.true_now();
        let took = now.as_millisecond() - asked.as_millisecond();
        if took > QUICK_MS {
            return;
        }
        let mut state = self.lock();
        if let Some(clock) = state.clocks.get_mut(&self.worker) {
            let middle = asked.as_millisecond() + took / 2 + clock.ahead.as_millis() as i64;
            let skew = (now.as_second() * 1000 + 500 - middle) / 1000;
            clock.learnt = Some(SignedDuration::from_secs(skew));
        }
    }

    pub(super) fn worker_now_in(&self, state: &super::State, now: Timestamp) -> Timestamp {
        state.clocks.get(&self.worker()).map_or(now, |clock| clock.reads(now))
    }

    /// This worker's time.
    pub(crate) fn worker_now(&self) -> Timestamp {
        self.clock().reads(self.true_now())
    }
}

impl Clock for Sim {
    fn now(&self) -> Timestamp {
        self.worker_now()
    }
    fn new_id(&self) -> String {
        let mut state = self.lock();
        state.ids += 1;
        format!("id-{}", state.ids)
    }
    fn jitter(&self) -> f64 {
        (self.draw() >> 11) as f64 / (1u64 << 53) as f64
    }
    fn skew(&self) -> Option<SignedDuration> {
        self.clock().learnt
    }
}
