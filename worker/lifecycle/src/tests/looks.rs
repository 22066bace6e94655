//! Looks that nobody asked for, claims, and how long things wait: rows.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lamplighter_events::{Cause, InstanceId, Signal};

use super::Story;
use crate::*;

const ID: &str = "i-0123456789abcdef0";

fn id() -> InstanceId {
    InstanceId::parse(ID).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[track_caller]
fn check_signal(signal: Signal, expected: Option<&str>) {
    let shown = format!("{signal:?}");
    assert_eq!(newsworthy(signal).map(|it| it.to_string()).as_deref(), expected, "{shown}");
}

#[test]
fn a_signal_is_worth_a_look_when_something_has_ended() {
    let ec2 =
        |state: &str| Signal::Ec2StateChange { instance: id(), state: state.into(), at: at(0) };
    for (state, expected) in [
        ("pending", None),
        ("running", Some(ID)),
        ("stopping", Some(ID)),
        ("stopped", Some(ID)),
        ("shutting-down", Some(ID)),
        ("terminated", Some(ID)),
    ] {
        check_signal(ec2(state), expected);
    }
    let spot = Signal::Ec2SpotInterruption { instance: id(), action: "stop".into(), at: at(0) };
    check_signal(spot, Some(ID));
    let ssm = |instance, status: &str| Signal::SsmCommandStatus {
        command_id: "c".into(),
        instance,
        status: status.into(),
        at: at(0),
    };
    for status in ["Pending", "InProgress", "Delayed"] {
        check_signal(ssm(Some(id()), status), None);
    }
    for status in ["Success", "Failed", "TimedOut", "Undeliverable"] {
        check_signal(ssm(Some(id()), status), Some(ID));
    }
    check_signal(ssm(None, "Success"), None);
    let ecs = |group: &str, status: &str| Signal::EcsTaskStateChange {
        cluster: "prod".into(),
        group: group.into(),
        last_status: status.into(),
        at: at(0),
    };
    check_signal(ecs("service:web", "RUNNING"), Some("prod/web"));
    check_signal(ecs("service:web", "STOPPED"), Some("prod/web"));
    check_signal(ecs("service:web", "PROVISIONING"), None);
    check_signal(ecs("family:job", "STOPPED"), None);
    check_signal(ecs("service:not a name", "STOPPED"), None);
}

#[test]
fn a_sweep_looks_at_what_is_otherwise_than_expected() {
    use PowerState::{Missing, Pending, Running, ShuttingDown, Stopped, Stopping, Terminated};
    let states = [Pending, Running, ShuttingDown, Terminated, Stopping, Stopped, Missing];
    // Yes at the place of each state that is unexpected.
    for (phase, expected) in [
        (None, "yy--y--"),
        (Some(Phase::Starting), "-------"),
        (Some(Phase::Stopping), "-------"),
        (Some(Phase::On), "y-yyyyy"),
        (Some(Phase::Failed), "y-yyyyy"),
    ] {
        let mark = |state| if is_unexpected(phase, state) { 'y' } else { '-' };
        let found: String = states.into_iter().map(mark).collect();
        assert_eq!(found, expected, "{phase:?}");
    }
}

#[test]
fn hours_get_a_look_unless_the_record_has_one_in_time() {
    let mut record = Story::new().record;
    assert!(hours_need_a_look(None, at(100)));
    for (wake_at, suppressed_until, expected) in [
        (None, None, true),
        (Some(100), None, false),
        (Some(99), None, false),
        (Some(101), None, true),
        // A window that somebody ended is over first.
        (Some(101), Some(150), false),
        (Some(151), Some(150), true),
    ] {
        record.wake_at = wake_at.map(at);
        record.suppressed_until = suppressed_until.map(at);
        let found = hours_need_a_look(Some(&record), at(100));
        assert_eq!(found, expected, "{wake_at:?} {suppressed_until:?}");
    }
}

#[test]
fn a_tagged_machine_is_what_its_targets_record_says() {
    let token = LaunchToken::parse(&"a".repeat(32)).unwrap();
    let mut record = Story::walrus(super::templates::template()).record;
    let of = |record: Option<&TargetRecord>, kind| standing(&id(), token.as_str(), kind, record);
    assert_eq!(of(None, None), Standing::Stray);
    assert_eq!(of(None, Some(Kind::Instance)), Standing::Stray);
    assert_eq!(of(None, Some(Kind::Launched)), Standing::Orphan);
    assert_eq!(of(Some(&record), Some(Kind::Launched)), Standing::Stray);
    for resource in [Resource::Launch(token.clone()), Resource::Instance(id())] {
        record.resource = resource;
        (record.phase, record.wake_at) = (Phase::On, None);
        assert_eq!(of(Some(&record), Some(Kind::Launched)), Standing::Minded);
        record.phase = Phase::Off;
        assert_eq!(of(Some(&record), Some(Kind::Launched)), Standing::Late);
        record.wake_at = Some(at(1));
        assert_eq!(of(Some(&record), Some(Kind::Launched)), Standing::Minded);
    }
}

#[test]
fn a_commit_claims_a_resource_when_it_changes_or_will_be_forgotten() {
    let before = Story::new().record;
    assert_eq!(claimed_resource(None, &before), Some(before.resource.clone()));
    assert_eq!(claimed_resource(Some(&before), &before), None);
    let mut next = before.clone();
    next.resource = Resource::Instance(id());
    assert_eq!(claimed_resource(Some(&before), &next), Some(Resource::Instance(id())));
    next.resource = Resource::Launch(LaunchToken::parse(&"b".repeat(32)).unwrap());
    assert_eq!(claimed_resource(Some(&before), &next), None);
    let mut next = before.clone();
    next.provision.retire_at = Some(at(9));
    assert_eq!(claimed_resource(Some(&before), &next), Some(before.resource.clone()));
}

#[test]
fn a_commit_takes_a_place_and_gives_it_back() {
    let story = Story::walrus(super::templates::template());
    let limit = story.spec.template().unwrap().limit;
    let (mut before, mut next) = (story.record.clone(), story.record.clone());
    for (had, has, phase, expected) in [
        (false, false, Phase::Off, None),
        (false, true, Phase::Starting, Some(SeatChange::Take(limit))),
        // Its machine is there already.
        (false, true, Phase::On, Some(SeatChange::Force)),
        (false, true, Phase::Stopping, Some(SeatChange::Force)),
        (true, true, Phase::On, None),
        (true, false, Phase::Off, Some(SeatChange::Leave)),
    ] {
        before.provision.seated = had;
        (next.provision.seated, next.phase) = (has, phase);
        let found = seat_change(&story.spec, Some(&before), &next).map(|seat| seat.change);
        assert_eq!(found, expected, "{had} {has} {phase:?}");
    }
    let plain = Story::new();
    assert_eq!(seat_change(&plain.spec, None, &plain.record), None);
}

#[test]
fn what_an_old_fleet_does_not_know_waits_for_a_newer_one() {
    let wait = Duration::from_secs(180);
    for (age, receives, wait, expected) in [
        (-5, 9, wait, true),
        (0, 9, wait, true),
        (179, 9, wait, true),
        (180, 2, wait, true),
        (180, 3, wait, false),
        (0, 1, Duration::ZERO, false),
    ] {
        let found = waits_for_newer_fleet(SignedDuration::from_secs(age), receives, wait);
        assert_eq!(found, expected, "{age} {receives} {wait:?}");
    }
}

#[test]
fn a_denied_call_may_only_be_early() {
    assert!(rights_may_arrive(Cause::Denied, at(0), at(59)));
    assert!(!rights_may_arrive(Cause::Denied, at(0), at(60)));
    assert!(!rights_may_arrive(Cause::NotFound, at(0), at(1)));
    assert_eq!(tick_expires_at(at(0)), at(30 * 60));
}
