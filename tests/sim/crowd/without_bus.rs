//! Crowds whose bus goes away for good: what ends cost gets through all the same, and nothing grows without bound.
//!
//! A crowd lives as usual for a while. Then EventBridge refuses everything, people go on, and questions fill each
//! target's outbox until new commands wait in the queue. In the end somebody resumes and kills every target. Faults
//! cease, and after the repair bound everything is off, though nobody was ever told.

use std::time::Duration;

use jiff::SignedDuration;
use lamplighter_events::Action;
use lamplighter_lifecycle::OUTBOX_BACKLOG_MAX;

use super::{Chaos, Crowd, Place, Play, REPAIR_BOUND, Report, run, tale};

/// More than a record takes while the bus is away.
const QUESTIONS: usize = OUTBOX_BACKLOG_MAX + 8;

/// Plays the crowd of a seed without its bus.
pub fn play_without_bus(seed: u64, how: Play) -> Report {
    run(|| async move {
        let mut crowd = Crowd::new(seed, how);
        crowd.lose_the_bus().await;
        crowd.end_without_bus().await
    })
}

impl Crowd {
    async fn act_for(&mut self, seconds: i64) {
        let until = self.sim.true_now() + SignedDuration::from_secs(seconds);
        while self.sim.true_now() < until {
            let pause = 1 + self.dice.roll(10_000);
            let at = self.sim.true_now() + SignedDuration::from_millis(pause as i64);
            self.ticks_until(at, false).await;
            self.somebody_acts();
        }
    }

    async fn lose_the_bus(&mut self) {
        for _ in 0..2 + self.dice.roll(2) {
            self.hire();
        }
        let per_mille = [0, 20, 100][self.dice.roll(3) as usize];
        let until = self.sim.true_now() + SignedDuration::from_mins(6);
        self.sim.unleash(Chaos { until, per_mille, deaths_per_mille: 20 });
        self.tell(format!("{per_mille} of 1000 calls fail until {until}"));
        self.act_for(90).await;
        self.tell("the bus is away from here on");
        self.sim.set_bus_away(true);
        for target in 0..self.members.len() {
            for _ in 0..QUESTIONS {
                self.say(Action::Status, target, "ann", None);
            }
        }
        self.act_for(200).await;
        let calm = until + SignedDuration::from_mins(2);
        self.sim.inspect(|state| state.watch.calm(calm));
        self.ticks_until(until, false).await;
        self.tell("the faults cease");
        self.backends_heal();
        for target in 0..self.members.len() {
            self.say(Action::Resume, target, "admin", None);
        }
        // What was sent with a delay has come by then, so that nothing is newer than the kills.
        tokio::time::sleep(Duration::from_secs(20)).await;
        for target in 0..self.members.len() {
            self.say(Action::Kill, target, "admin", None);
        }
    }

    async fn end_without_bus(mut self) -> Report {
        tokio::time::sleep(REPAIR_BOUND).await;
        self.ending.working = self.places.iter().filter_map(Place::working).collect();
        let findings = self.sim.check_without_bus(&self.ending);
        for place in self.places.drain(..) {
            let _ = tokio::time::timeout(Duration::from_secs(60), place.close()).await;
        }
        self.publisher.abort();
        Report {
            seed: self.seed,
            findings,
            steps: self.sim.calls_made(),
            faults: self.sim.faults(),
            commands: self.ending.said.len(),
            tale: tale::tell(&self.story, &self.sim.calls()),
        }
    }
}
