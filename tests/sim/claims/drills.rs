//! Every single fault at every call of each action; pairs of them for start, stop and kill.
//!
//! The test run takes a part of the pairs; `scripts/soak --pairs` takes them all.

use lamplighter_events::Action;
use lamplighter_sim::drill::{ACTIONS, drill, length};
use lamplighter_sim::world::Fault;

/// Calls after a command's end that are struck too: what it leaves behind.
const BEYOND: usize = 4;
/// One pair in so many is tried in the test run. A prime, so that each run of neighbours mixes calls
/// and faults.
const PAIRS_STRIDE: usize = 97;

#[track_caller]
fn check(action: Action, faults: &[(usize, Fault)]) {
    let report = drill(action, faults);
    let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    assert!(
        findings.is_empty(),
        "{} with {faults:?}:\n{}\n{}",
        action.as_str(),
        findings.join("\n"),
        report.tale
    );
}

#[test]
fn any_call_of_any_action_may_fail_in_any_way() {
    for action in ACTIONS {
        for number in 0..length(action) + BEYOND {
            Fault::EACH.into_iter().for_each(|fault| check(action, &[(number, fault)]));
        }
    }
}

fn check_pairs(action: Action) {
    let calls = length(action) + BEYOND;
    let pairs = (0..calls).flat_map(|first| (first + 1..calls + BEYOND).map(move |it| (first, it)));
    let sorts = || Fault::EACH.into_iter().flat_map(|one| Fault::EACH.map(|other| (one, other)));
    let all = pairs.flat_map(|at| sorts().map(move |faults| (at, faults)));
    for ((first, second), (one, other)) in all.step_by(PAIRS_STRIDE) {
        check(action, &[(first, one), (second, other)]);
    }
}

#[test]
fn any_two_calls_of_a_start_may_fail() {
    check_pairs(Action::Start);
}

#[test]
fn any_two_calls_of_a_stop_may_fail() {
    check_pairs(Action::Stop);
}

#[test]
fn any_two_calls_of_a_kill_may_fail() {
    check_pairs(Action::Kill);
}
