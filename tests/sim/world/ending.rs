//! Asks the checker what it finds at the end of a run.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lamplighter_events::{CommandId, Outcome};

use super::{DEAD, Sim, State};
use crate::checker::{Ending, Remains, Watch};
use crate::rule::Finding;

impl Sim {
    /// What the checker finds after faults have ceased and the repair bound has passed.
    pub fn check_the_end(&self, ending: &Ending) -> Vec<Finding> {
        self.ask(|watch, remains, now| watch.check_the_end(remains, ending, now))
    }

    /// What it finds in a world without a bus, after everybody was killed and the repair bound has passed.
    pub fn check_without_bus(&self, ending: &Ending) -> Vec<Finding> {
        self.ask(|watch, remains, now| watch.check_without_bus(remains, ending, now))
    }

    /// What it finds after a replay of finished commands: `before` is what they had come to.
    pub fn check_the_replay(&self, before: &BTreeMap<CommandId, Outcome>) -> Vec<Finding> {
        let now = self.true_now();
        let State { watch, table, .. } = &mut *self.lock();
        watch.check_the_replay(table, before, now)
    }

    fn ask<R>(&self, ask: impl FnOnce(&mut Watch, &Remains<'_>, Timestamp) -> R) -> R {
        let now = self.true_now();
        let State { watch, table, emitted, world, backends, .. } = &mut *self.lock();
        world.advance(now);
        let dead = world.queues.get(DEAD).unwrap().messages().collect();
        ask(watch, &Remains { table, emitted, world, backends, dead }, now)
    }
}
