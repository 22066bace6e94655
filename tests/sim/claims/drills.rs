//! Every single fault at every call of each action; pairs of them for what changes something.
//!
//! The test run takes a part of the pairs; `scripts/soak --pairs` takes them all.

use lamplighter_events::Action;
use lamplighter_lifecycle::Kind;
use lamplighter_sim::drill::{EXERCISES, Exercise, IN_PAIRS, drill, length};
use lamplighter_sim::fault::Fault;

/// Calls after a command's end that are struck too: what it leaves behind.
const BEYOND: usize = 4;
/// One pair in so many is tried in the test run. A prime, so that each run of neighbours mixes calls
/// and faults.
const PAIRS_STRIDE: usize = 193;

#[track_caller]
fn check(exercise: Exercise, faults: &[(usize, Fault)]) {
    let report = drill(exercise, faults);
    let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    assert!(
        findings.is_empty(),
        "{} with {faults:?}:\n{}\n{}",
        exercise.name(),
        findings.join("\n"),
        report.tale
    );
}

#[test]
fn every_action_is_exercised_on_kinds_that_take_it() {
    for action in Action::ALL {
        assert!(EXERCISES.iter().any(|it| it.action == action), "{action:?}");
    }
    for kind in Kind::ALL {
        assert!(EXERCISES.iter().any(|it| it.kind == kind), "{kind}");
    }
    for Exercise { kind, action, .. } in EXERCISES {
        assert!(kind.takes(action), "{action:?} of {kind}");
    }
}

/// Every call in turn, with each sort of fault.
fn check_singles(which: impl Fn(&Exercise) -> bool) {
    for exercise in EXERCISES.into_iter().filter(which) {
        for number in 0..length(exercise) + BEYOND {
            Fault::EACH.into_iter().for_each(|fault| check(exercise, &[(number, fault)]));
        }
    }
}

#[test]
fn any_call_of_any_action_on_a_machine_may_fail_in_any_way() {
    check_singles(|it| it.kind == Kind::Instance && !it.idle);
}

#[test]
fn any_call_of_any_action_on_a_service_may_fail_in_any_way() {
    check_singles(|it| it.kind == Kind::Service && !it.idle);
}

#[test]
fn any_call_of_a_request_may_fail_in_any_way() {
    check_singles(|it| it.kind == Kind::Launched);
}

#[test]
fn any_call_of_a_stop_by_idleness_may_fail_in_any_way() {
    check_singles(|it| it.idle);
}

fn check_pairs(which: impl Fn(&Exercise) -> bool) {
    for exercise in IN_PAIRS.into_iter().filter(which) {
        let calls = length(exercise) + BEYOND;
        let pairs =
            (0..calls).flat_map(|first| (first + 1..calls + BEYOND).map(move |it| (first, it)));
        let sorts =
            || Fault::EACH.into_iter().flat_map(|one| Fault::EACH.map(|other| (one, other)));
        let all = pairs.flat_map(|at| sorts().map(move |faults| (at, faults)));
        for ((first, second), (one, other)) in all.step_by(PAIRS_STRIDE) {
            check(exercise, &[(first, one), (second, other)]);
        }
    }
}

#[test]
fn any_two_calls_of_a_start_may_fail() {
    check_pairs(|it| it.action == Action::Start);
}

#[test]
fn any_two_calls_of_a_stop_may_fail() {
    check_pairs(|it| it.action == Action::Stop);
}

#[test]
fn any_two_calls_of_a_kill_may_fail() {
    check_pairs(|it| it.action == Action::Kill);
}

#[test]
fn any_two_calls_of_a_request_may_fail() {
    check_pairs(|it| it.kind == Kind::Launched);
}

#[test]
fn any_two_calls_of_a_stop_by_idleness_may_fail() {
    check_pairs(|it| it.idle);
}
