//! Faults at a named call: what random crowds meet too seldom.
//!
//! A first run of the same seed tells the call's number; the second one fails it.

use std::collections::BTreeMap;
use std::sync::Arc;

use lamplighter_cloud::Timings;
use lamplighter_events::{AttentionKind, EventBody, Verdict};
use lamplighter_lifecycle::{OUTBOX_BACKLOG_MAX, Phase, Step};
use lamplighter_runtime::{Fleet, WorkerOptions};
use lamplighter_sim::crowd::spec;
use lamplighter_sim::staff::{employ, run};
use lamplighter_sim::world::{COMMANDS, Fault, Sim};
use serde_json::json;

use crate::pool::{check_outcome, pass, work};

const SEED: u64 = 21;

/// The number of the first call of an operation in an undisturbed start.
fn first_call(operation: &'static str) -> usize {
    let found = Arc::new(std::sync::Mutex::new(None));
    let seen = Arc::clone(&found);
    run(|| async move {
        let sim = Sim::new(SEED, Timings::default());
        let worker = work(&sim, spec());
        sim.say(&json!({"action": "start", "id": "s", "holder": "ann"}));
        pass(30).await;
        *seen.lock().unwrap() = sim.calls().iter().position(|call| call.operation == operation);
        worker.drain().await;
    });
    let number = found.lock().unwrap().take();
    number.unwrap_or_else(|| panic!("{operation} was never called"))
}

#[test]
fn a_start_that_takes_effect_late_and_that_nobody_wants_any_more_is_stopped() {
    let number = first_call("ec2:StartInstances");
    run(|| async move {
        let sim = Sim::new(SEED, Timings::default());
        // The request is accepted five minutes after it was signed.
        sim.plan(number, Fault::Late(300));
        let worker = work(&sim, spec());
        sim.say(&json!({"action": "start", "id": "s", "holder": "ann"}));
        pass(1).await;
        sim.say(&json!({"action": "stop", "id": "t", "holder": "ann"}));
        pass(120).await;
        check_outcome(&sim, "s", Verdict::Rejected, Some(lamplighter_events::Cause::Superseded));
        assert_eq!((sim.phase(), sim.machine_state()), (Some(Phase::Off), "stopped"));
        pass(182).await;
        assert_ne!(sim.machine_state(), "stopped", "the late start shows");
        pass(120).await;
        assert_eq!((sim.phase(), sim.machine_state()), (Some(Phase::Off), "stopped"));
        let adopted = sim.emitted().iter().any(|event| {
            matches!(event.body, EventBody::Attention { attention, .. }
                if attention == AttentionKind::StartedOutside)
        });
        assert!(!adopted, "it was ours");
        worker.drain().await;
    });
}

#[test]
fn a_message_that_takes_longer_than_its_visibility_is_not_seen_twice() {
    let number = first_call("dynamodb:write");
    run(|| async move {
        let sim = Sim::new(SEED, Timings::default());
        // Three times the visibility.
        sim.plan(number, Fault::Slow(180));
        // It has slots to spare: if the visibility ended, it would take the message itself, again.
        let worker = work(&sim, spec());
        sim.say(&json!({"action": "start", "id": "s", "holder": "ann"}));
        pass(175).await;
        let beats = sim.count("sqs:ChangeMessageVisibility");
        assert!(beats >= 8, "a heartbeat every 20 s: {beats}");
        let received = sim.with_world(|world, _| {
            let queue = world.queues.get(COMMANDS).unwrap();
            queue.messages().map(|message| message.receive_count).max()
        });
        assert_eq!(received, Some(1));
        pass(120).await;
        check_outcome(&sim, "s", Verdict::Done, None);
        // No heartbeat comes after the delete: nothing is left in the queue.
        assert_eq!(sim.queued(COMMANDS), 0);
        worker.drain().await;
    });
}

#[test]
fn a_target_that_leaves_the_fleet_while_it_is_on_raises_attention_and_stays_on() {
    run(|| async {
        let sim = Sim::new(SEED, Timings::default());
        let first = work(&sim, spec());
        sim.say(&json!({"action": "start", "id": "s", "holder": "ann"}));
        pass(40).await;
        first.drain().await;
        let empty =
            Fleet { targets: BTreeMap::new(), default_target: None, rules: BTreeMap::new() };
        let second = employ(sim.for_worker(), Arc::new(empty), WorkerOptions::default());
        pass(600).await;
        let said = sim
            .emitted()
            .iter()
            .filter(|event| {
                matches!(event.body, EventBody::Attention { attention, .. }
                    if attention == AttentionKind::LeftFleet)
            })
            .count();
        assert_eq!(said, 1);
        assert_eq!((sim.phase(), sim.machine_state()), (Some(Phase::On), "running"));
        second.drain().await;
    });
}

#[test]
fn a_bus_that_is_away_delays_events_and_nothing_else() {
    let number = first_call("events:PutEvents");
    run(|| async move {
        let sim = Sim::new(SEED, Timings::default());
        sim.plan(number, Fault::Slow(60));
        let worker = work(&sim, spec());
        sim.say(&json!({"action": "start", "id": "s", "holder": "ann"}));
        pass(4).await;
        assert_eq!(sim.record().unwrap().step, Some(Step::WaitRunning), "the answer is written");
        pass(240).await;
        check_outcome(&sim, "s", Verdict::Done, None);
        assert_eq!(sim.count("ec2:StartInstances"), 1);
        assert!(sim.record().unwrap().outbox.is_empty());
        worker.drain().await;
    });
}

#[test]
fn a_bus_that_is_away_for_an_hour_fills_no_record_and_loses_no_command() {
    run(|| async {
        let sim = Sim::new(SEED, Timings::default());
        sim.set_bus_away(true);
        let worker = work(&sim, spec());
        for number in 0..100 {
            sim.say(&json!({"action": "status", "id": format!("q{number}")}));
        }
        pass(3600).await;
        let waiting = sim.record().unwrap().outbox.len();
        assert!(waiting <= OUTBOX_BACKLOG_MAX, "{waiting} events wait");
        sim.set_bus_away(false);
        pass(900).await;
        for number in 0..100 {
            check_outcome(&sim, &format!("q{number}"), Verdict::Done, None);
        }
        assert!(sim.dead_letters().is_empty());
        worker.drain().await;
    });
}
