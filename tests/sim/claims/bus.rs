//! What a bus that is away holds up, and what it must not.

use lamplighter_cloud::Timings;
use lamplighter_events::{Cause, EventBody, Verdict};
use lamplighter_lifecycle::{OUTBOX_BACKLOG_MAX, OUTBOX_MAX, Phase};
use lamplighter_sim::crowd::spec;
use lamplighter_sim::staff::{Running, run};
use lamplighter_sim::world::{COMMANDS, Sim};
use serde_json::json;

use crate::pool::{check_outcome, pass, work};

/// A target that is on, and whose outbox is full of what the bus does not take.
async fn on_without_bus(seed: u64) -> (Sim, Running) {
    let sim = Sim::new(seed, Timings::default());
    let worker = work(&sim, spec());
    sim.say(&json!({"action": "start", "id": "s", "holder": "ann"}));
    pass(60).await;
    check_outcome(&sim, "s", Verdict::Done, None);
    sim.set_bus_away(true);
    for number in 0..OUTBOX_BACKLOG_MAX + 20 {
        sim.say(&json!({"action": "status", "id": format!("q{number}")}));
    }
    pass(120).await;
    assert!(sim.record().unwrap().outbox.len() >= OUTBOX_BACKLOG_MAX);
    (sim, worker)
}

#[test]
fn what_ends_cost_is_taken_while_the_bus_is_away_for_good() {
    for ender in ["stop", "kill"] {
        run(|| async move {
            let (sim, worker) = on_without_bus(41).await;
            sim.say(&json!({"action": "start", "id": "later", "holder": "ann"}));
            pass(60).await;
            assert!(sim.command("later").is_none(), "a start waits in the queue");
            sim.say(&json!({"action": ender, "id": "end", "holder": "ann"}));
            pass(60).await;
            check_outcome(&sim, "end", Verdict::Done, None);
            assert_eq!((sim.phase(), sim.machine_state()), (Some(Phase::Off), "stopped"));
            worker.drain().await;
        });
    }
}

#[test]
fn a_pause_a_resume_and_a_keep_alive_are_taken_while_the_bus_is_away() {
    run(|| async {
        let (sim, worker) = on_without_bus(42).await;
        for action in ["pause", "resume", "keep-alive"] {
            sim.say(&json!({"action": action, "id": action, "holder": "ann"}));
            pass(20).await;
            check_outcome(&sim, action, Verdict::Done, None);
        }
        worker.drain().await;
    });
}

/// Outcomes of commands that are always taken could fill a record without end. The stops' stay the longest.
#[test]
fn a_thousand_keep_alives_while_the_bus_is_away_fill_no_record() {
    run(|| async {
        let (sim, worker) = on_without_bus(43).await;
        sim.say(&json!({"action": "stop", "id": "end", "holder": "ann"}));
        pass(60).await;
        for number in 0..1000 {
            sim.say(&json!({"action": "keep-alive", "id": format!("k{number}"), "holder": "ann"}));
            pass(1).await;
        }
        pass(60).await;
        check_outcome(&sim, "k999", Verdict::Done, None);
        let outbox = sim.record().unwrap().outbox;
        assert_eq!(outbox.len(), OUTBOX_MAX);
        let tells_of = |id: &str| {
            outbox.iter().any(|event| match &event.body {
                EventBody::CommandCompleted { outcome } => outcome.command.as_str() == id,
                _ => false,
            })
        };
        assert!(tells_of("end") && tells_of("k999") && !tells_of("k0"));
        worker.drain().await;
    });
}

#[test]
fn what_cannot_be_understood_is_parked_once_while_the_bus_is_away_and_told_later() {
    run(|| async {
        let sim = Sim::new(44, Timings::default());
        let (one, other) = (work(&sim, spec()), work(&sim, spec()));
        sim.set_bus_away(true);
        sim.say_raw("poison");
        sim.say(&json!({"action": "dance", "id": "bad"}));
        sim.say(&json!({"action": "start", "target": "nobody", "id": "lost"}));
        pass(1200).await;
        let bodies: Vec<String> = sim.dead_letters().into_iter().map(|it| it.body).collect();
        assert_eq!(bodies.len(), 3, "{bodies:?}");
        check_outcome(&sim, "bad", Verdict::Rejected, Some(Cause::Invalid));
        check_outcome(&sim, "lost", Verdict::Rejected, Some(Cause::NotFound));
        assert_eq!(sim.queued(COMMANDS), 2, "each waits for its event");
        sim.set_bus_away(false);
        pass(400).await;
        assert_eq!((sim.queued(COMMANDS), sim.dead_letters().len()), (0, 3));
        for id in ["bad", "lost"] {
            let told = sim.emitted().into_iter().filter(|event| match &event.body {
                EventBody::CommandRejected { outcome } => outcome.command.as_str() == id,
                _ => false,
            });
            assert_eq!(told.count(), 1, "{id}");
        }
        one.drain().await;
        other.drain().await;
    });
}

/// A replay brings the same command under another message id: it is parked anew, not taken for parked.
#[test]
fn a_replayed_letter_is_parked_again_and_not_lost() {
    run(|| async {
        let sim = Sim::new(45, Timings::default());
        let worker = work(&sim, spec());
        let body = json!({"action": "dance", "id": "bad"});
        sim.say(&body);
        pass(20).await;
        assert_eq!(sim.dead_letters().len(), 1);
        sim.set_bus_away(true);
        sim.say(&body);
        pass(600).await;
        assert_eq!(sim.dead_letters().len(), 2);
        assert_eq!(sim.queued(COMMANDS), 0, "its event was sent long ago");
        worker.drain().await;
    });
}

#[test]
fn a_tick_is_shared_out_once_while_the_bus_is_away() {
    run(|| async {
        let sim = Sim::new(46, Timings::default());
        let mut spec = spec();
        spec.exclusive = false;
        let idle = lamplighter_lifecycle::IdleSpec::after(
            lamplighter_events::HumanDuration::parse("1h").unwrap(),
        );
        spec.idle = Some(idle);
        let worker = work(&sim, spec);
        sim.say(&json!({"action": "start", "id": "s", "holder": "ann"}));
        pass(60).await;
        sim.set_bus_away(true);
        sim.say(&json!({"action": "check-idle", "id": "all"}));
        pass(1200).await;
        check_outcome(&sim, "all", Verdict::Done, None);
        let parts = sim.calls().into_iter().filter(|call| call.what.contains("idle-shard"));
        assert_eq!(parts.count(), 1);
        worker.drain().await;
    });
}
