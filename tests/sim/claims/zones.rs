//! One zone of EC2's is impaired: each call that names a machine in it fails as a whole. The machines of the other zones
//! are minded all the same.

use std::sync::Arc;
use std::time::Duration;

use lamplighter_cloud::{MachineSeed, Timings};
use lamplighter_events::{InstanceId, TargetName, Verdict};
use lamplighter_lifecycle::{InstanceRef, InstanceSpec, Phase, Place, TargetSpec};
use lamplighter_runtime::{Fleet, WorkerOptions};
use lamplighter_sim::breakage::Breakage;
use lamplighter_sim::crowd::spec;
use lamplighter_sim::staff::{Running, employ, run};
use lamplighter_sim::world::{INSTANCE, Sim};
use serde_json::json;

const HEALTHY: &str = "i-0abc123def4560001";

fn target(name: &str, instance: &str) -> TargetSpec {
    let instance = InstanceRef::Id(InstanceId::parse(instance).unwrap());
    let place = InstanceSpec { instance, systemd_unit: None, unit_check_every: None };
    let name = TargetName::parse(name).unwrap();
    TargetSpec { name, place: Place::Instance(place), exclusive: false, ..spec() }
}

/// Two targets, the first of them in a zone that goes out, and no signal from EC2.
fn play(breakage: Option<Breakage>) -> (Sim, Running) {
    let sim = Sim::new(5, Timings::default());
    sim.break_it(breakage);
    let seed = json!({"id": HEALTHY, "zone": "b"});
    let seed: MachineSeed = serde_json::from_value(seed).unwrap();
    sim.with_world(|world, now| {
        world.seed_machine(now, &seed);
        world.bus.rule_mut("default", "ec2").map(|rule| rule.enabled = false).unwrap();
    });
    let mut fleet = Fleet::default();
    for spec in [target("early", INSTANCE), target("late", HEALTHY)] {
        fleet.targets.insert(spec.name.clone(), spec);
    }
    let worker = employ(sim.for_worker(), Arc::new(fleet), WorkerOptions::default());
    (sim, worker)
}

fn phase(sim: &Sim, target: &str) -> Option<Phase> {
    sim.record_of(&TargetName::parse(target).unwrap()).map(|record| record.phase)
}

async fn minutes(minutes: u64) {
    tokio::time::sleep(Duration::from_secs(minutes * 60)).await;
}

/// What becomes of a machine in a healthy zone that somebody starts at the console and stops again.
fn seen_from_outside(breakage: Option<Breakage>) -> (Option<Phase>, Option<Phase>) {
    run(|| async move {
        let (sim, worker) = play(breakage);
        minutes(1).await;
        sim.set_zone_out("a", true);
        let ids = [HEALTHY.to_owned()];
        sim.with_world(|world, now| world.start_machines(now, &ids, false)).unwrap();
        minutes(20).await;
        let started = phase(&sim, "late");
        sim.with_world(|world, now| world.stop_machines(now, &ids, false)).unwrap();
        minutes(20).await;
        let stopped = phase(&sim, "late");
        worker.drain().await;
        (started, stopped)
    })
}

#[test]
fn a_sweep_sees_the_machines_of_the_healthy_zones() {
    assert_eq!(seen_from_outside(None), (Some(Phase::On), Some(Phase::Off)));
}

#[test]
fn a_look_that_fails_as_a_whole_is_found() {
    let (started, _) = seen_from_outside(Some(Breakage::HidesTheHealthy));
    assert_ne!(started, Some(Phase::On), "the mistake was not noticed");
}

#[test]
fn a_start_in_a_healthy_zone_is_done_and_one_in_the_impaired_zone_once_that_is_well() {
    run(|| async move {
        let (sim, worker) = play(None);
        sim.set_zone_out("a", true);
        for target in ["early", "late"] {
            sim.say(&json!({"action": "start", "target": target, "id": target, "holder": "ann"}));
        }
        minutes(2).await;
        let outcome = |id: &str| sim.command(id).and_then(|it| it.outcome).map(|it| it.outcome);
        assert_eq!(outcome("late"), Some(Verdict::Done));
        assert_eq!(outcome("early"), None, "it is neither lost nor failed");
        sim.set_zone_out("a", false);
        minutes(8).await;
        assert_eq!(outcome("early"), Some(Verdict::Done));
        worker.drain().await;
    });
}
