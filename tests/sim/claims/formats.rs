//! Releases of two formats beside each other, as a deployment and its rollback have them.

use lamplighter_cloud::Timings;
use lamplighter_events::Verdict;
use lamplighter_lifecycle::{Phase, STORED_FORMAT};
use lamplighter_sim::crowd::{Play, play_releases, spec};
use lamplighter_sim::staff::run;
use lamplighter_sim::world::{COMMANDS, DEAD, Sim};
use serde_json::json;

use crate::pool::{check_outcome, pass, work};

/// A few; `scripts/soak` plays more.
const SEEDS: u64 = 30;

#[test]
fn an_older_release_leaves_alone_what_a_newer_one_wrote() {
    run(|| async {
        let sim = Sim::new(31, Timings::default());
        let newer = work(&sim, spec());
        sim.say(&json!({"action": "start", "id": "s", "holder": "ann"}));
        pass(60).await;
        check_outcome(&sim, "s", Verdict::Done, None);
        newer.drain().await;
        let before = sim.record().unwrap();
        sim.set_release(STORED_FORMAT - 1);
        let older = work(&sim, spec());
        sim.say(&json!({"action": "stop", "id": "t", "holder": "ann"}));
        pass(1800).await;
        assert!(sim.command("t").is_none(), "taken by a release that cannot read the record");
        assert_eq!(sim.record().unwrap(), before);
        assert_eq!(sim.queued(DEAD), 0, "the message waits");
        assert!(sim.queued(COMMANDS) > 0);
        assert_eq!(sim.machine_state(), "running");
        older.drain().await;
        sim.set_release(STORED_FORMAT);
        let newer = work(&sim, spec());
        pass(1800).await;
        check_outcome(&sim, "t", Verdict::Done, None);
        assert_eq!((sim.phase(), sim.machine_state()), (Some(Phase::Off), "stopped"));
        newer.drain().await;
    });
}

#[test]
fn a_release_reads_and_carries_on_what_the_previous_one_wrote() {
    run(|| async {
        let sim = Sim::new(32, Timings::default());
        sim.set_release(STORED_FORMAT - 1);
        let older = work(&sim, spec());
        sim.say(&json!({"action": "start", "id": "s", "holder": "ann"}));
        // In the middle of the start.
        pass(8).await;
        older.drain().await;
        sim.set_release(STORED_FORMAT);
        let newer = work(&sim, spec());
        pass(120).await;
        check_outcome(&sim, "s", Verdict::Done, None);
        assert_eq!(sim.count("ec2:StartInstances"), 1);
        newer.drain().await;
    });
}

#[test]
fn releases_roll_forward_and_back_under_load() {
    for seed in 0..SEEDS {
        let report = play_releases(seed, Play::default());
        let found: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "seed {seed}: {}", found.join("\n"));
    }
}
