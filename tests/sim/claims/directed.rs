//! Faults at a named call: what random crowds meet too seldom.
//!
//! A first run of the same seed tells the call's number; the second one fails it.

use std::sync::Arc;

use jiff::SignedDuration;
use lamplighter_cloud::launch_templates::TemplateData;
use lamplighter_cloud::services::ScalingSeed;
use lamplighter_cloud::{ServiceSeed, Timings};
use lamplighter_events::{AttentionKind, EventBody, HumanDuration, Verdict};
use lamplighter_lifecycle::{
    CommandProbe, CommandReads, HealthUrl, HttpProbe, HttpReads, IdleSpec, OUTBOX_BACKLOG_MAX,
    Phase, Probe, Resource, Step, TargetSpec,
};
use lamplighter_runtime::{Fleet, WorkerOptions};
use lamplighter_sim::backends::{Backend, Marks};
use lamplighter_sim::crowd::{seed_walrus, service_spec, spec, walrus_spec};
use lamplighter_sim::fault::Fault;
use lamplighter_sim::staff::{employ, run};
use lamplighter_sim::world::{COMMANDS, Sim};
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
        let empty = Fleet::default();
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

/// A service with a policy of one address that reports a time, on for long enough to be idle.
fn idle_service() -> TargetSpec {
    let mut spec = service_spec();
    let mut idle = IdleSpec::after(HumanDuration::parse("1m").unwrap());
    idle.probes = vec![Probe::Http(HttpProbe {
        url: HealthUrl::parse("http://backend.internal:8000/last-activity").unwrap(),
        pointer: "/it".to_owned(),
        reads: HttpReads::Epoch,
        ignore_own: true,
    })];
    spec.idle = Some(idle);
    spec
}

/// A world with that service and its backend.
fn service_world(seed: u64, spec: &TargetSpec, bounds: ScalingSeed) -> (Sim, Resource) {
    let sim =
        Sim::new(seed, Timings { scaling: SignedDuration::from_secs(10), ..Timings::default() });
    let resource = spec.resource().unwrap();
    let id = resource.service().unwrap();
    let seed = ServiceSeed {
        cluster: id.cluster().to_owned(),
        name: id.service().to_owned(),
        scaling: Some(bounds),
        ..ServiceSeed::default()
    };
    sim.with_world(|world, now| world.seed_service(now, &seed));
    sim.set_backend(&resource, Backend::new(sim.true_now(), Marks::No, SignedDuration::ZERO));
    (sim, resource)
}

/// Each of two ticks that come at once asks; the second must not take the first one's time, at which somebody
/// was really there, for our own doing and look past it.
#[test]
fn two_ticks_at_once_do_not_stop_what_is_in_use() {
    for seed in 0..40 {
        run(|| async move {
            let spec = idle_service();
            let (sim, resource) = service_world(seed, &spec, ScalingSeed { min: 0, max: 2 });
            sim.with_backend(&resource, |backend| backend.marks = Marks::After).unwrap();
            let (one, other) = (work(&sim, spec.clone()), work(&sim, spec));
            sim.say(&json!({"action": "start", "id": "s", "holder": "ann"}));
            pass(30).await;
            check_outcome(&sim, "s", Verdict::Done, None);
            // What is remembered: nobody since it came on.
            sim.say(&json!({"action": "check-idle", "id": "q"}));
            pass(70).await;
            let now = sim.true_now();
            let until = now + SignedDuration::from_secs(60);
            sim.with_backend(&resource, |backend| backend.use_it(now, until)).unwrap();
            pass(20).await;
            for tick in 0..2 {
                sim.say(&json!({"action": "check-idle", "id": format!("q{tick}")}));
            }
            pass(20).await;
            assert_eq!(sim.phase(), Some(Phase::On), "seed {seed}: it is in use");
            // Its use ends, and the time in which a look back could find it.
            pass(40).await;
            for tick in 0..3 {
                pass(65).await;
                sim.say(&json!({"action": "check-idle", "id": format!("r{tick}")}));
            }
            pass(30).await;
            assert_eq!((sim.phase(), sim.is_up(&resource)), (Some(Phase::Off), false));
            one.drain().await;
            other.drain().await;
        });
    }
}

/// Application Auto Scaling puts the count to 0 after its bounds are: that is our own doing, however late.
#[test]
fn a_service_that_is_wanted_again_while_its_scaling_is_suspended_was_not_stopped_outside() {
    run(|| async {
        let mut spec = idle_service();
        spec.idle = None;
        let (sim, resource) = service_world(SEED, &spec, ScalingSeed { min: 0, max: 2 });
        let worker = work(&sim, spec);
        sim.say(&json!({"action": "start", "id": "s", "holder": "ann"}));
        pass(30).await;
        check_outcome(&sim, "s", Verdict::Done, None);
        // The bounds are set, and the answer comes when somebody wants it again.
        sim.plan(suspension(&sim), Fault::Stale(8));
        sim.say(&json!({"action": "stop", "id": "t", "holder": "ann"}));
        pass(4).await;
        sim.say(&json!({"action": "start", "id": "again", "holder": "bob"}));
        pass(90).await;
        check_outcome(&sim, "again", Verdict::Done, None);
        let outside = sim.emitted().iter().any(|event| {
            matches!(event.body, EventBody::Attention { attention, .. }
                if attention == AttentionKind::StoppedOutside)
        });
        assert!(!outside, "nobody stopped it");
        assert_eq!((sim.phase(), sim.is_up(&resource)), (Some(Phase::On), true));
        worker.drain().await;
    });
}

/// The number of the call that suspends the scaling, if a stop comes now: in the order of a stop's calls.
fn suspension(sim: &Sim) -> usize {
    // The receive that is under way, load, describe, bounds, write.
    sim.calls_made() + 5
}

/// A tick's own readings make the pass ask the host, where all else says idle.
#[test]
fn a_tick_asks_the_host_where_all_else_says_idle() {
    run(|| async {
        let sim = Sim::new(SEED, Timings::default());
        let mut spec = spec();
        spec.exclusive = false;
        let mut idle = IdleSpec::after(HumanDuration::parse("1m").unwrap());
        idle.probes = vec![Probe::Command(CommandProbe {
            script: "exit 0".to_owned(),
            reads: CommandReads::ExitCode,
            timeout_seconds: 20,
        })];
        spec.idle = Some(idle);
        let worker = work(&sim, spec);
        sim.say(&json!({"action": "start", "id": "s", "holder": "ann"}));
        pass(40).await;
        for tick in 0..4 {
            sim.say(&json!({"action": "check-idle", "id": format!("q{tick}")}));
            pass(60).await;
        }
        assert_eq!((sim.phase(), sim.machine_state()), (Some(Phase::Off), "stopped"));
        worker.drain().await;
    });
}

/// A count of our own that is due while nothing can be ended by it is no reason to look again at once.
#[test]
fn a_count_that_nobody_asks_for_any_more_costs_nothing() {
    run(|| async {
        let sim = Sim::new(SEED, Timings::default());
        let mut spec = spec();
        spec.exclusive = false;
        let mut idle = IdleSpec::after(HumanDuration::parse("4m").unwrap());
        idle.probes = vec![Probe::Http(HttpProbe {
            url: HealthUrl::parse("http://backend.internal:8000/sessions").unwrap(),
            pointer: "/it".to_owned(),
            reads: HttpReads::Count,
            ignore_own: true,
        })];
        spec.idle = Some(idle);
        let resource = spec.resource().unwrap();
        sim.set_backend(&resource, Backend::new(sim.true_now(), Marks::No, SignedDuration::ZERO));
        let worker = work(&sim, spec);
        sim.say(&json!({"action": "start", "id": "s", "holder": "ann"}));
        pass(40).await;
        // The count begins, and then only somebody who said how long is left.
        sim.say(&json!({"action": "check-idle", "id": "q"}));
        pass(20).await;
        sim.say(&json!({"action": "start", "id": "f", "holder": "ann", "for": "2h"}));
        pass(20).await;
        let before = sim.calls_made() - sim.count("sqs:ReceiveMessage");
        pass(1800).await;
        let after = sim.calls_made() - sim.count("sqs:ReceiveMessage");
        assert!(after - before < 30 * 6, "{} calls in half an hour", after - before);
        assert_eq!(sim.phase(), Some(Phase::On));
        worker.drain().await;
    });
}

#[test]
fn a_command_that_comes_before_the_sweep_finds_the_machine_whose_record_was_lost() {
    run(|| async move {
        let sim = Sim::new(SEED, Timings::default());
        seed_walrus(&sim, TemplateData::default());
        let walrus = walrus_spec();
        let fleet = Fleet { templates: [(walrus.name.clone(), walrus)].into(), ..Fleet::default() };
        let worker = employ(sim.for_worker(), Arc::new(fleet), WorkerOptions::default());
        let create = |id| json!({"action": "create", "blob_id": "one", "id": id, "holder": "ann"});
        sim.say(&create("first"));
        pass(60).await;
        check_outcome(&sim, "first", Verdict::Done, None);
        let target = sim.record().unwrap().target;
        let machine = sim.record().unwrap().resource;
        sim.lose_record(&target);
        // Long before the sweep looks for what bears our tags.
        sim.say(&create("second"));
        pass(60).await;
        check_outcome(&sim, "second", Verdict::Done, None);
        assert_eq!(sim.record().unwrap().resource, machine, "it is the same one");
        assert_eq!(sim.count("ec2:RunInstances"), 1);
        let orphan = |event: &EventBody| {
            matches!(event, EventBody::Attention { attention: AttentionKind::Orphan, .. })
        };
        assert!(sim.emitted().iter().any(|event| orphan(&event.body)), "and it is said aloud");
        sim.say(&json!({"action": "destroy", "target": target.as_str(), "id": "end"}));
        pass(60).await;
        check_outcome(&sim, "end", Verdict::Done, None);
        assert!(!sim.is_up(&machine));
        worker.drain().await;
    });
}
