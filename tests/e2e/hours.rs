//! Office hours: a window opens a machine by itself, and closes it again.

use serde_json::{Value, json};

use std::time::Duration;

use crate::harness::{Local, eventually, eventually_within};

const MACHINE: &str = "i-00000001";

/// Minutes of the day in UTC, and the second of the minute.
fn minute() -> (u64, u64) {
    let seconds = crate::backend::now() as u64;
    (seconds / 60 % 1440, seconds % 60)
}

/// A window that began two minutes ago and ends so many minutes from now.
fn fleet(ends_in: u64) -> String {
    let (now, _) = minute();
    let text = |minute: u64| format!("{:02}:{:02}", minute % 1440 / 60, minute % 60);
    let (from, until) = (text(now + 1440 - 2), text(now + ends_in));
    format!(
        "[targets.office]\nkind = \"ec2-instance\"\ninstance_id = \"{MACHINE}\"\nsettle = \"200ms\"\n\
         poll = \"1s\"\n[targets.office.hours]\nweekly = \"daily {from}-{until}\"\nzone = \"UTC\"\n\
         [local]\nboot = \"300ms\"\nstop = \"300ms\"\n"
    )
}

fn status(local: &Local) -> Value {
    local.json(&["status", "office"])
}

#[track_caller]
fn comes_on(local: &Local) -> Value {
    eventually("the window opens it", || {
        let status = status(local);
        (status["phase"] == "on").then_some(status)
    })
}

#[test]
fn a_window_in_force_opens_a_machine_and_its_end_closes_it() {
    // A window ends at a full minute, so this test takes between 45 and 105 seconds, whenever it begins. At least
    // 45 seconds are left for the machine to come on.
    let ends_in = if minute().1 > 15 { 2 } else { 1 };
    let local = Local::with_fleet(&fleet(ends_in), &[]);
    let status = comes_on(&local);
    let hold = &status["holds"][0];
    assert_eq!(
        (&hold["kind"], &hold["holder"]),
        (&json!("window"), &json!("office-hours")),
        "{status}"
    );
    assert!(local.run(&["status", "office"]).is(0).stdout.contains("in force until"));
    eventually_within(Duration::from_secs(60 * ends_in + 60), "the window closes it", || {
        (local.machine(MACHINE)["state"] == "stopped").then_some(())
    });
}

#[test]
fn a_window_that_was_ended_early_stays_ended() {
    let local = Local::with_fleet(&fleet(60), &[]);
    comes_on(&local);
    let stopped = local.send(&["stop", "office"]);
    assert_eq!(stopped["outcome"], "done", "{stopped}");
    eventually("it is off", || (status(&local)["phase"] == "off").then_some(()));
    let shown = status(&local);
    assert!(shown["suppressed_until"].is_string(), "{shown}");
    let told = local.run(&["status", "office"]).is(0).stdout.clone();
    assert!(told.contains("was ended early"), "{told}");
    // Somebody may still start it by hand.
    local.run(&["send", "start", "office", "--for", "1h", "--wait"]).is(0);
    assert_eq!(local.machine(MACHINE)["state"], "running");
}
