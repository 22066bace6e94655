//! Public incidents: nobody loses a command, none takes effect twice, and nothing is stopped under its user.

use lamplighter_sim::breakage::Breakage;
use lamplighter_sim::incidents::{INCIDENTS, Incident, play};

const SEED: u64 = 1;

fn named(name: &str) -> &'static Incident {
    INCIDENTS.iter().find(|incident| incident.name == name).expect("an incident of this name")
}

#[track_caller]
fn check(name: &str) {
    let report = play(named(name), SEED, None);
    println!("{report}");
    assert!(report.is_clean(), "{name} harmed somebody");
    assert!(report.commands > 100, "the users went on working");
}

#[test]
fn a_region_without_dynamodb_then_capacity_then_network_harms_nobody() {
    check("us-east-1-2025-10-20");
}

#[test]
fn a_zone_that_is_out_harms_nobody() {
    check("zone-outage");
}

#[test]
fn events_that_come_hours_late_harm_nobody() {
    check("eventbridge-late");
}

#[test]
fn messages_that_come_twice_in_bulk_harm_nobody() {
    check("sqs-duplicates");
}

#[test]
fn a_week_of_failing_describes_harms_nobody() {
    check("describes-unavailable");
}

/// The report can fail: workers that give up in an outage are found.
#[test]
fn a_worker_that_parks_what_fails_in_an_outage_is_found() {
    let report = play(named("us-east-1-2025-10-20"), SEED, Some(Breakage::ParksTrouble));
    assert!(!report.lost.is_empty(), "{report}");
}
