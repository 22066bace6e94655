//! The worker as its users meet it: one message in, what it causes, and what it costs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_cloud::Timings;
use lamplighter_events::{Cause, EventBody, Verdict};
use lamplighter_lifecycle::{Phase, Step, TargetSpec};
use lamplighter_runtime::{Fleet, WorkerOptions};
use lamplighter_sim::crowd::spec;
use lamplighter_sim::staff::{Running, employ, run};
use lamplighter_sim::world::{COMMANDS, INSTANCE, Sim};
use serde_json::json;

pub(crate) fn fleet(spec: TargetSpec) -> Arc<Fleet> {
    let targets = BTreeMap::from([(spec.name.clone(), spec)]);
    Arc::new(Fleet { targets, ..Fleet::default() })
}

pub(crate) fn work(sim: &Sim, spec: TargetSpec) -> Running {
    work_with(sim, spec, WorkerOptions::default())
}

pub(crate) fn work_with(sim: &Sim, spec: TargetSpec, options: WorkerOptions) -> Running {
    employ(sim.for_worker(), fleet(spec), options)
}

pub(crate) async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[track_caller]
pub(crate) fn check_outcome(sim: &Sim, id: &str, verdict: Verdict, cause: Option<Cause>) {
    let command = sim.command(id).unwrap_or_else(|| panic!("{id} was never taken"));
    let outcome = command.outcome.unwrap_or_else(|| {
        panic!("{id} has no outcome; {}", sim.record().map(|it| it.why).unwrap_or_default())
    });
    assert_eq!((outcome.outcome, outcome.cause), (verdict, cause), "{}", outcome.message);
}

#[test]
fn a_message_wakes_the_machine_and_another_stops_it() {
    run(|| async {
        let sim = Sim::new(1, Timings::default());
        let worker = work(&sim, spec());
        sim.say(
            &json!({"action": "start", "target": "position-keeper", "id": "s", "holder": "ann"}),
        );
        pass(40).await;
        check_outcome(&sim, "s", Verdict::Done, None);
        assert_eq!((sim.phase(), sim.machine_state()), (Some(Phase::On), "running"));
        sim.say(
            &json!({"action": "stop", "target": "position-keeper", "id": "t", "holder": "ann"}),
        );
        pass(20).await;
        check_outcome(&sim, "t", Verdict::Done, None);
        assert_eq!((sim.phase(), sim.machine_state()), (Some(Phase::Off), "stopped"));
        worker.drain().await;
        assert_eq!(sim.count("ec2:StartInstances"), 1);
        assert_eq!(sim.count("ec2:StopInstances"), 1);
        assert_eq!(sim.count("ssm:SendCommand"), 1);
        assert_eq!(sim.queued(COMMANDS), 0, "off costs nothing: not even a wake-up");
        let completed = sim
            .emitted()
            .iter()
            .filter(|event| matches!(event.body, EventBody::CommandCompleted { .. }))
            .count();
        assert_eq!(completed, 2);
    });
}

#[test]
fn a_start_with_a_unit_stays_within_its_budget() {
    run(|| async {
        let sim = Sim::new(2, Timings::default());
        let worker = work(&sim, spec());
        sim.say(&json!({"action": "start", "id": "s", "holder": "ann"}));
        pass(40).await;
        check_outcome(&sim, "s", Verdict::Done, None);
        worker.drain().await;
        let story: Vec<String> = sim
            .calls()
            .iter()
            .map(|call| format!("{} {} {}", call.at, call.operation, call.what))
            .collect();
        let story = story.join("\n");
        assert_eq!(sim.count("dynamodb:write"), 6, "{story}");
        assert_eq!(sim.count("ec2:StartInstances") + sim.count("ssm:SendCommand"), 2, "{story}");
        let polls = sim.count("ssm:DescribeInstanceInformation");
        // Each poll for the agent describes the machine as well; the sweep's first look adds one.
        assert!(sim.count("ec2:DescribeInstances") <= 4 + polls + 1, "{story}");
    });
}

#[test]
fn a_pure_command_costs_two_writes() {
    run(|| async {
        let sim = Sim::new(3, Timings::default());
        let worker = work(&sim, spec());
        sim.say(&json!({"action": "status", "id": "q"}));
        pass(10).await;
        check_outcome(&sim, "q", Verdict::Done, None);
        assert_eq!(sim.count("dynamodb:write"), 2);
        worker.drain().await;
    });
}

#[test]
fn an_idle_worker_makes_no_more_than_four_requests_a_minute_beyond_its_polls() {
    run(|| async {
        let sim = Sim::new(4, Timings::default());
        let worker = work(&sim, spec());
        sim.say(&json!({"action": "start", "id": "s"}));
        pass(120).await;
        let before = sim.calls().len() - sim.count("sqs:ReceiveMessage");
        pass(3600).await;
        let after = sim.calls().len() - sim.count("sqs:ReceiveMessage");
        assert!(after - before <= 4 * 60, "{} requests in an hour", after - before);
        worker.drain().await;
    });
}

#[test]
fn the_same_message_twice_does_nothing_twice() {
    run(|| async {
        let sim = Sim::new(5, Timings::default());
        let worker = work(&sim, spec());
        let message = json!({"action": "start", "id": "s", "holder": "ann"});
        sim.say(&message);
        sim.say(&message);
        pass(60).await;
        sim.say(&message);
        pass(30).await;
        check_outcome(&sim, "s", Verdict::Done, None);
        assert_eq!(sim.count("ec2:StartInstances"), 1);
        // The same id with another payload is refused, and the first outcome stands.
        sim.say(&json!({"action": "kill", "id": "s"}));
        pass(30).await;
        check_outcome(&sim, "s", Verdict::Done, None);
        assert_eq!(sim.phase(), Some(Phase::On));
        let refused = sim.emitted().iter().any(|event| match &event.body {
            EventBody::CommandRejected { outcome } => outcome.cause == Some(Cause::Conflict),
            _ => false,
        });
        assert!(refused);
        worker.drain().await;
    });
}

#[test]
fn what_cannot_be_understood_is_parked_with_its_reason_and_loses_nothing() {
    run(|| async {
        let sim = Sim::new(6, Timings::default());
        // What is unknown waits for a newer fleet otherwise.
        let options = WorkerOptions { unknown_wait: Duration::ZERO, ..WorkerOptions::default() };
        let worker = work_with(&sim, spec(), options);
        let bad = [
            ("not json", "not-json"),
            ("[1]", "not-an-object"),
            ("{}", "no-action"),
            (r#"{"action":"dance"}"#, "unknown-action"),
            (r#"{"action":"start","colour":"red"}"#, "unknown-field"),
            (r#"{"action":"start","for":"-1h"}"#, "invalid-field"),
            (r#"{"action":"start","target":"nobody"}"#, "unknown-target"),
        ];
        for (body, _) in bad {
            sim.say_raw(body);
        }
        sim.say(&json!({"action": "start", "target": "nobody", "id": "mine"}));
        sim.say(&json!({"action": "status", "id": "good"}));
        pass(20).await;
        check_outcome(&sim, "good", Verdict::Done, None);
        check_outcome(&sim, "mine", Verdict::Rejected, Some(Cause::NotFound));
        let dead = sim.dead_letters();
        assert_eq!(dead.len(), bad.len() + 1);
        for (body, reason) in bad {
            let letter = dead.iter().find(|letter| letter.body == body).expect(body);
            let said = letter.attributes["reason"].text.as_deref();
            assert_eq!(said, Some(reason), "{body}");
            assert!(letter.attributes.contains_key("reason-message"));
            assert!(letter.attributes.contains_key("lamplighter-sent-at"));
        }
        assert_eq!(sim.queued(COMMANDS), 0);
        worker.drain().await;
    });
}

#[test]
fn a_panic_in_one_message_harms_no_other() {
    run(|| async {
        std::panic::set_hook(Box::new(|_| {}));
        let sim = Sim::new(7, Timings::default());
        sim.curse("boom");
        let options = WorkerOptions { slots: 2, ..WorkerOptions::default() };
        let worker = work_with(&sim, spec(), options);
        sim.say(&json!({"action": "status", "id": "boom"}));
        for number in 0..5 {
            sim.say(&json!({"action": "status", "id": format!("q{number}")}));
        }
        pass(30).await;
        for number in 0..5 {
            check_outcome(&sim, &format!("q{number}"), Verdict::Done, None);
        }
        // It is tried again a few times, then it is a dead letter; no slot was lost on the way.
        pass(600).await;
        assert_eq!(sim.dead_letters().len(), 1);
        sim.say(&json!({"action": "status", "id": "after"}));
        pass(5).await;
        check_outcome(&sim, "after", Verdict::Done, None);
        worker.drain().await;
        let _ = std::panic::take_hook();
    });
}

#[test]
fn a_drain_in_mid_work_leaves_everything_to_the_next_worker() {
    run(|| async {
        let sim = Sim::new(8, Timings::default());
        let first = work(&sim, spec());
        sim.say(&json!({"action": "start", "id": "s"}));
        pass(2).await;
        first.drain().await;
        assert_eq!(sim.phase(), Some(Phase::Starting));
        let second = work(&sim, spec());
        pass(40).await;
        check_outcome(&sim, "s", Verdict::Done, None);
        assert_eq!(sim.count("ec2:StartInstances"), 1);
        second.drain().await;
    });
}

/// Whoever ends a worker waits half a minute and then kills it, as ECS does.
#[test]
fn a_drain_is_over_in_time_and_gives_everything_back_however_slow_aws_is() {
    run(|| async {
        let sim = Sim::new(8, Timings::default());
        let worker = work(&sim, spec());
        pass(1).await;
        sim.set_slow(Duration::from_secs(3));
        for number in 0..8 {
            sim.say(&json!({"action": "status", "id": format!("s{number}")}));
        }
        pass(5).await;
        let in_hand = sim.in_hand();
        assert!(in_hand > 4, "only {in_hand} messages are in hand");
        let from = tokio::time::Instant::now();
        worker.drain().await;
        let took = from.elapsed();
        assert!(took <= Duration::from_secs(25), "it took {took:?}");
        assert_eq!(sim.in_hand(), 0, "messages were kept");
    });
}

#[test]
fn a_worker_killed_at_any_moment_loses_nothing() {
    for millis in (0..12_000).step_by(150) {
        run(|| async move {
            let sim = Sim::new(millis, Timings::default());
            let first = work(&sim, spec());
            sim.say(&json!({"action": "start", "id": "s"}));
            tokio::time::sleep(Duration::from_millis(millis)).await;
            first.kill();
            let second = work(&sim, spec());
            // The message comes back after its visibility of 60 s at the latest.
            pass(180).await;
            check_outcome(&sim, "s", Verdict::Done, None);
            assert_eq!(sim.machine_state(), "running");
            second.drain().await;
        });
    }
}

#[test]
fn without_signals_it_polls() {
    run(|| async {
        let sim = Sim::new(9, Timings::default());
        sim.with_world(|world, _| {
            world.bus.delete_rule("default", "ec2").ok();
            for name in ["ec2", "ssm"] {
                let mut rule = world.bus.rule_mut("default", name);
                if let Ok(rule) = &mut rule {
                    rule.enabled = false;
                }
            }
        });
        let worker = work(&sim, spec());
        sim.say(&json!({"action": "start", "id": "s"}));
        pass(60).await;
        check_outcome(&sim, "s", Verdict::Done, None);
        worker.drain().await;
    });
}

#[test]
fn a_hold_that_lasts_longer_than_a_message_can_be_delayed_ends_on_time() {
    run(|| async {
        let sim = Sim::new(10, Timings::default());
        let worker = work(&sim, spec());
        sim.say(&json!({"action": "start", "id": "s", "for": "2h"}));
        pass(2 * 3600 - 5).await;
        assert_eq!(sim.machine_state(), "running");
        pass(10).await;
        assert_eq!(sim.machine_state(), "stopped");
        worker.drain().await;
    });
}

#[test]
fn somebody_at_the_console_is_noticed() {
    run(|| async {
        let sim = Sim::new(11, Timings::default());
        let worker = work(&sim, spec());
        sim.say(&json!({"action": "start", "id": "s"}));
        pass(60).await;
        sim.with_world(|world, now| {
            world.stop_machines(now, &[INSTANCE.to_owned()], false).unwrap();
        });
        pass(60).await;
        assert_eq!(sim.phase(), Some(Phase::Off));
        let said = sim.emitted().iter().any(|event| {
            matches!(event.body, EventBody::Attention { attention, .. }
                if attention == lamplighter_events::AttentionKind::StoppedOutside)
        });
        assert!(said);
        sim.with_world(|world, now| {
            world.start_machines(now, &[INSTANCE.to_owned()], false).unwrap();
        });
        pass(60).await;
        assert_eq!(sim.phase(), Some(Phase::On), "adopted");
        worker.drain().await;
    });
}

#[test]
fn a_dry_run_decides_and_touches_nothing() {
    run(|| async {
        let sim = Sim::new(12, Timings::default());
        let options = WorkerOptions { dry_run: true, ..WorkerOptions::default() };
        let worker = work_with(&sim, spec(), options);
        sim.say(&json!({"action": "start", "id": "s"}));
        sim.say_raw("poison");
        pass(60).await;
        assert_eq!(sim.count("dynamodb:write"), 0);
        assert_eq!(sim.count("ec2:StartInstances"), 0);
        assert_eq!(sim.dead_letters().len(), 0);
        assert_eq!(sim.queued(COMMANDS), 2, "the messages stay");
        worker.drain().await;
    });
}

#[test]
fn two_workers_on_one_queue_start_it_once() {
    for seed in 0..40 {
        run(|| async move {
            let sim = Sim::new(seed, Timings::default());
            let (first, second) = (work(&sim, spec()), work(&sim, spec()));
            for number in 0..6 {
                let body = json!({"action": "start", "id": format!("s{number}"), "holder": "ann"});
                sim.say(&body);
            }
            pass(90).await;
            for number in 0..6 {
                check_outcome(&sim, &format!("s{number}"), Verdict::Done, None);
            }
            assert_eq!(sim.count("ec2:StartInstances"), 1, "seed {seed}");
            first.drain().await;
            second.drain().await;
        });
    }
}

#[test]
fn a_wait_holds_no_slot() {
    run(|| async {
        let timings = Timings { boot: jiff::SignedDuration::from_secs(100), ..Timings::default() };
        let sim = Sim::new(13, timings);
        let options = WorkerOptions { slots: 1, ..WorkerOptions::default() };
        let worker = work_with(&sim, spec(), options);
        sim.say(&json!({"action": "start", "id": "s"}));
        pass(20).await;
        assert_eq!(sim.record().unwrap().step, Some(Step::WaitRunning));
        sim.say(&json!({"action": "status", "id": "q"}));
        pass(3).await;
        check_outcome(&sim, "q", Verdict::Done, None);
        worker.drain().await;
    });
}

#[test]
fn a_worker_whose_clock_is_wrong_takes_no_work_until_it_is_right() {
    run(|| async {
        let sim = Sim::new(14, Timings::default());
        sim.set_ahead(jiff::SignedDuration::from_secs(-32));
        let worker = work(&sim, spec());
        pass(30).await;
        // The first answers tell it.
        let asked = sim.count("sqs:ReceiveMessage");
        sim.say(&json!({"action": "status", "id": "q"}));
        pass(120).await;
        assert_eq!(sim.count("sqs:ReceiveMessage"), asked);
        assert!(sim.command("q").is_none());
        sim.jump_clocks(jiff::SignedDuration::from_secs(29));
        pass(30).await;
        check_outcome(&sim, "q", Verdict::Done, None);
        worker.drain().await;
    });
}
