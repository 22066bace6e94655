//! One fault at every call of a start and a stop, of every sort: the promise holds all the same.

use lamplighter_cloud::Timings;
use lamplighter_events::Verdict;
use lamplighter_lifecycle::Phase;
use serde_json::json;

use crate::pool::{check_outcome, pass, run, spec, work};
use crate::world::{COMMANDS, Fault, Sim};

/// The calls of a start and a stop are fewer than this; later numbers fall into the quiet after.
const CALLS: usize = 130;

#[track_caller]
fn check(number: usize, fault: Fault) {
    run(|| async move {
        let sim = Sim::new(7, Timings::default());
        sim.plan(number, fault);
        let worker = work(&sim, spec());
        sim.say(&json!({"action": "start", "id": "s", "holder": "ann"}));
        pass(200).await;
        let story = || {
            let calls = sim.calls();
            let lines =
                calls.iter().enumerate().filter(|(_, it)| it.operation != "sqs:ReceiveMessage");
            lines
                .map(|(at, it)| format!("{at} {} {} {}\n", it.at, it.operation, it.what))
                .collect::<String>()
        };
        assert_eq!(sim.phase(), Some(Phase::On), "call {number} {fault:?}\n{}", story());
        check_outcome(&sim, "s", Verdict::Done, None);
        sim.say(&json!({"action": "stop", "id": "t", "holder": "ann"}));
        pass(200).await;
        assert_eq!(sim.phase(), Some(Phase::Off), "call {number} {fault:?}\n{}", story());
        assert_eq!(sim.machine_state(), "stopped");
        check_outcome(&sim, "t", Verdict::Done, None);
        let executions =
            sim.with_world(|world, _| world.commands.all_executions().values().copied().max());
        assert_eq!(executions, Some(1), "D5: call {number} {fault:?}\n{}", story());
        assert!(sim.dead_letters().is_empty(), "D10: call {number} {fault:?}");
        assert!(sim.record().unwrap().outbox.is_empty(), "unsent events: {number} {fault:?}");
        // What waits is at most the watch over a lost answer.
        assert!(sim.queued(COMMANDS) <= 1, "call {number} {fault:?}\n{}", story());
        worker.drain().await;
    });
}

#[test]
fn any_call_may_fail_before_it_is_made() {
    (0..CALLS).for_each(|number| check(number, Fault::Before));
}

#[test]
fn any_answer_may_be_lost() {
    (0..CALLS).for_each(|number| check(number, Fault::Lost));
}

#[test]
fn any_call_may_fail_without_anyone_knowing() {
    (0..CALLS).for_each(|number| check(number, Fault::Unclear));
}

#[test]
fn any_call_may_be_late_past_its_permission() {
    (0..CALLS).for_each(|number| check(number, Fault::Slow(20)));
}
