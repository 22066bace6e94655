//! When a message counts as sent: by its own stamp, whatever its sender claims.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use lamplighter_cloud::Timings;
use lamplighter_events::{Cause, Verdict};
use lamplighter_lifecycle::Phase;
use lamplighter_runtime::{FIRST_ID_ATTRIBUTE, SENT_AT_ATTRIBUTE};
use lamplighter_sim::crowd::spec;
use lamplighter_sim::staff::run;
use lamplighter_sim::world::Sim;
use serde_json::{Value, json};

use crate::pool::{check_outcome, pass, work};

/// What whoever may send to the queue can claim, with the mark and without it.
fn claims(sent_at: &str) -> [BTreeMap<String, String>; 2] {
    let sent_at = (SENT_AT_ATTRIBUTE.to_owned(), sent_at.to_owned());
    let mark = (FIRST_ID_ATTRIBUTE.to_owned(), "5fea7756-0ea4-451a-a703-a558b933e274".to_owned());
    [BTreeMap::from([sent_at.clone()]), BTreeMap::from([sent_at, mark])]
}

fn say(sim: &Sim, body: &Value, attributes: &BTreeMap<String, String>) {
    sim.say_with(&body.to_string(), attributes, None);
}

#[test]
fn a_start_sent_in_2099_is_ended_by_a_stop_a_kill_and_somebody_at_the_console() {
    for forged in claims("2099-01-01T00:00:00Z") {
        for ender in ["stop", "kill", "console"] {
            let forged = forged.clone();
            run(|| async move {
                let sim = Sim::new(31, Timings::default());
                let worker = work(&sim, spec());
                say(&sim, &json!({"action": "start", "id": "s", "holder": "ann"}), &forged);
                pass(60).await;
                check_outcome(&sim, "s", Verdict::Done, None);
                match ender {
                    "console" => sim.with_world(|world, now| {
                        let machines = [lamplighter_sim::world::INSTANCE.to_owned()];
                        world.stop_machines(now, &machines, false).unwrap();
                    }),
                    ender => {
                        sim.say(&json!({"action": ender, "id": "t", "holder": "ann"}));
                        pass(60).await;
                        check_outcome(&sim, "t", Verdict::Done, None);
                    }
                }
                pass(60).await;
                let ended = (sim.phase(), sim.machine_state());
                assert_eq!(ended, (Some(Phase::Off), "stopped"), "{ender} {forged:?}");
                worker.drain().await;
            });
        }
    }
}

#[test]
fn a_kill_sent_in_2099_supersedes_no_later_start() {
    for forged in claims("2099-01-01T00:00:00Z") {
        run(|| async move {
            let sim = Sim::new(32, Timings::default());
            let worker = work(&sim, spec());
            say(&sim, &json!({"action": "kill", "id": "k", "holder": "ann"}), &forged);
            pass(10).await;
            sim.say(&json!({"action": "start", "id": "s", "holder": "bob"}));
            pass(60).await;
            check_outcome(&sim, "s", Verdict::Done, None);
            assert_eq!(sim.phase(), Some(Phase::On), "{forged:?}");
            worker.drain().await;
        });
    }
}

/// Parking marks the time that it keeps, so a redrive from the SQS console, which copies body and attributes, undoes
/// nothing newer. Letters that the previous release parked look the same.
#[test]
fn a_letter_that_is_redriven_from_the_console_keeps_its_order() {
    run(|| async {
        let sim = Sim::new(33, Timings::default());
        let first = work(&sim, spec());
        sim.say(&json!({"action": "kill", "target": "other", "reason": "old news"}));
        pass(600).await;
        first.drain().await;
        let letter = sim.dead_letters().pop().unwrap();
        let mut named_anew = spec();
        named_anew.name = lamplighter_events::TargetName::parse("other").unwrap();
        let second = work(&sim, named_anew);
        sim.say(&json!({"action": "start", "target": "other", "id": "s", "holder": "bob"}));
        pass(60).await;
        check_outcome(&sim, "s", Verdict::Done, None);
        let texts = letter.attributes.iter();
        let attributes: BTreeMap<String, String> =
            texts.filter_map(|(name, it)| Some((name.clone(), it.text.clone()?))).collect();
        sim.say_with(&letter.body, &attributes, None);
        pass(60).await;
        let id = attributes[FIRST_ID_ATTRIBUTE].as_str();
        check_outcome(&sim, id, Verdict::Done, None);
        assert_eq!(sim.phase(), Some(Phase::On), "the kill is older than the start");
        second.drain().await;
    });
}

/// A sender can make its own command look old: it then ends nothing that is newer.
#[test]
fn a_kill_that_claims_to_be_old_ends_nothing_newer() {
    run(|| async {
        let sim = Sim::new(34, Timings::default());
        let worker = work(&sim, spec());
        sim.say(&json!({"action": "start", "id": "s", "holder": "bob"}));
        pass(60).await;
        let hour_ago = sim.true_now() - SignedDuration::from_hours(1);
        let [unmarked, marked] = claims(&hour_ago.to_string());
        say(&sim, &json!({"action": "kill", "id": "old"}), &marked);
        pass(30).await;
        assert_eq!(sim.phase(), Some(Phase::On));
        say(&sim, &json!({"action": "kill", "id": "new"}), &unmarked);
        pass(30).await;
        assert_eq!(sim.phase(), Some(Phase::Off));
        check_outcome(&sim, "s", Verdict::Done, None);
        check_outcome(&sim, "new", Verdict::Done, None);
        let start = sim.command("s").unwrap();
        assert_ne!(start.outcome.unwrap().cause, Some(Cause::Superseded));
        worker.drain().await;
    });
}
