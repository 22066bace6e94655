//! Two fleets at once, as in a rolling deployment.

use std::collections::BTreeMap;
use std::sync::Arc;

use lamplighter_cloud::Timings;
use lamplighter_events::{Cause, Command, Tick, Verdict};
use lamplighter_lifecycle::Phase;
use lamplighter_runtime::{Fleet, WorkerOptions};
use lamplighter_sim::crowd::spec;
use lamplighter_sim::staff::{employ, run};
use lamplighter_sim::world::{COMMANDS, Sim};
use serde_json::json;

use crate::pool::{check_outcome, pass, work};

const RULE: &str = "nightly";

/// What the new fleet has and the old one has not: the target, and a schedule.
fn new_fleet() -> Arc<Fleet> {
    let mut spec = spec();
    spec.exclusive = false;
    let start = json!({"action": "start", "target": spec.name.as_str(), "holder": "tick"});
    Arc::new(Fleet {
        targets: BTreeMap::from([(spec.name.clone(), spec)]),
        rules: BTreeMap::from([(RULE.to_owned(), Command::from_json(&start).unwrap())]),
        ..Fleet::default()
    })
}

#[test]
fn an_old_worker_rejects_nothing_that_the_new_fleet_names() {
    for seed in 0..10 {
        run(|| async move {
            let sim = Sim::new(seed, Timings::default());
            let old = || employ(sim.for_worker(), Arc::default(), WorkerOptions::default());
            let (one, other) = (old(), old());
            sim.say(&json!({"action": "start", "target": "position-keeper", "id": "s", "holder": "ann"}));
            let tick = Tick { rule: RULE.to_owned(), scheduled: sim.true_now(), command: None };
            sim.say_raw(&tick.to_json().to_string());
            pass(60).await;
            assert!(sim.command("s").is_none(), "no id is used up");
            let new = employ(sim.for_worker(), new_fleet(), WorkerOptions::default());
            pass(60).await;
            one.drain().await;
            other.drain().await;
            pass(60).await;
            check_outcome(&sim, "s", Verdict::Done, None);
            assert!(sim.dead_letters().is_empty());
            let id = tick.command_id();
            check_outcome(&sim, id.as_str(), Verdict::Done, None);
            assert_eq!(sim.phase(), Some(Phase::On));
            new.drain().await;
        });
    }
}

#[test]
fn what_no_fleet_names_is_parked_after_a_while() {
    run(|| async {
        let sim = Sim::new(51, Timings::default());
        let worker = work(&sim, spec());
        let unknown = json!({"action": "start", "target": "nobody", "id": "lost"});
        sim.say(&unknown);
        let tick = Tick { rule: RULE.to_owned(), scheduled: sim.true_now(), command: None };
        sim.say_raw(&tick.to_json().to_string());
        pass(150).await;
        assert!(sim.dead_letters().is_empty() && sim.command("lost").is_none());
        pass(90).await;
        assert_eq!((sim.dead_letters().len(), sim.queued(COMMANDS)), (2, 0));
        check_outcome(&sim, "lost", Verdict::Rejected, Some(Cause::NotFound));
        let receives =
            sim.calls().into_iter().filter(|it| it.operation == "sqs:ChangeMessageVisibility");
        assert!(receives.count() <= 24, "seven receives each, or eight");
        worker.drain().await;
    });
}

/// A worker that was away for an hour finds an old message, and the newer fleet is still starting.
#[test]
fn an_old_message_meets_more_than_one_worker_too() {
    run(|| async {
        let sim = Sim::new(52, Timings::default());
        sim.say(
            &json!({"action": "start", "target": "position-keeper", "id": "s", "holder": "ann"}),
        );
        pass(3600).await;
        let old = employ(sim.for_worker(), Arc::default(), WorkerOptions::default());
        pass(15).await;
        old.drain().await;
        let new = employ(sim.for_worker(), new_fleet(), WorkerOptions::default());
        pass(90).await;
        check_outcome(&sim, "s", Verdict::Done, None);
        assert!(sim.dead_letters().is_empty());
        new.drain().await;
    });
}

#[test]
fn a_wake_up_of_a_target_that_only_the_new_fleet_names_is_not_swallowed() {
    run(|| async {
        let timings = Timings { boot: jiff::SignedDuration::from_secs(40), ..Timings::default() };
        let sim = Sim::new(53, timings);
        for service in ["ec2", "ssm"] {
            let silence = |world: &mut lamplighter_cloud::World, _| {
                world.bus.rule_mut("default", service).map(|rule| rule.enabled = false)
            };
            sim.with_world(silence).unwrap();
        }
        let new = employ(sim.for_worker(), new_fleet(), WorkerOptions::default());
        sim.say(&json!({"action": "start", "id": "s", "holder": "ann"}));
        pass(10).await;
        new.kill();
        let old = employ(sim.for_worker(), Arc::default(), WorkerOptions::default());
        pass(30).await;
        assert!(sim.queued(COMMANDS) > 0, "its wake-up is still there");
        old.drain().await;
        let new = employ(sim.for_worker(), new_fleet(), WorkerOptions::default());
        pass(120).await;
        check_outcome(&sim, "s", Verdict::Done, None);
        new.drain().await;
    });
}
