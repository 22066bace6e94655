//! Backends that count our requests, and who is told of what.

use super::*;

const ONE: &str = "http one";
const TWO: &str = "http two";

/// So many seconds after noon.
fn at(seconds: f64) -> Timestamp {
    let noon: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
    noon + SignedDuration::from_millis((seconds * 1000.0) as i64)
}

/// A backend with any number of addresses that counts every request as use, after it has answered it.
struct Counting {
    last: f64,
    users: Vec<f64>,
}

impl Counting {
    fn used_at(users: &[f64]) -> Self {
        Self { last: 0.0, users: users.to_vec() }
    }

    /// It is asked for each of these, one after the other; whoever asks may lose what it was told.
    fn asked(&mut self, from: f64, labels: &[&str]) -> Vec<Asked> {
        let mut now = from;
        let mut asked = Vec::new();
        for label in labels {
            let used = self.users.iter().copied().filter(|at| *at <= now).fold(0.0, f64::max);
            let said = Some(at(used.max(self.last)));
            let (asked_at, answered_at) = (at(now), at(now + 0.04));
            self.last = now + 0.04;
            now += 0.05;
            asked.push(Asked { label: (*label).to_owned(), asked_at, answered_at, said });
        }
        asked
    }
}

#[track_caller]
fn shows(requests: &OwnRequests, label: &str, from: f64, expected: Shown) {
    assert_eq!(requests.shown(label, at(from)), Some(expected), "{requests:?}");
}

fn ours(use_before: f64) -> Shown {
    Shown::Ours { use_before: at(use_before) }
}

fn blurred(use_before: f64, clear_at: Option<f64>) -> Shown {
    Shown::Blurred { use_before: at(use_before), clear_at: clear_at.map(at) }
}

#[test]
fn two_probes_of_one_backend_do_not_take_each_other_for_use() {
    let mut backend = Counting::used_at(&[100.0]);
    let mut requests = OwnRequests::default();
    for look in 1..=6 {
        let from = f64::from(look) * 300.0;
        // Whoever was told of use longest ago is asked first.
        let order = match requests.clear_at(ONE) <= requests.clear_at(TWO) {
            true => [ONE, TWO],
            false => [TWO, ONE],
        };
        requests.add(&backend.asked(from, &order));
    }
    // The first look told one of them of the use; the other knows that there was none since its first question.
    shows(&requests, TWO, 1800.0, ours(300.0));
    shows(&requests, ONE, 1800.0, blurred(100.0, Some(1500.0)));
}

/// Crowd seed 1000000607: a person asks a moment before each look, by a clock that is ahead of the worker's.
#[test]
fn the_request_of_a_clock_that_is_ahead_is_ours() {
    let mut backend = Counting::used_at(&[100.0]);
    let mut requests = OwnRequests::default();
    let mut ahead = backend.asked(300.0, &[ONE]);
    let behind = backend.asked(300.1, &[ONE]);
    for asked in &mut ahead {
        asked.asked_at += SignedDuration::from_secs(1);
        asked.answered_at += SignedDuration::from_secs(1);
    }
    requests.add(&behind);
    shows(&requests, ONE, 300.1, Shown::JustNow);
    requests.add(&ahead);
    shows(&requests, ONE, 300.1, blurred(100.0, Some(301.0)));
}

#[test]
fn two_that_ask_at_once_do_not_take_a_use_for_each_others_requests() {
    let mut requests = OwnRequests::default();
    for from in [300.0, 600.0] {
        let mut backend = Counting::used_at(&[from + 0.1, from + 0.2]);
        let mut ahead = backend.asked(from + 0.1, &[ONE]);
        for asked in &mut ahead {
            asked.asked_at += SignedDuration::from_secs(1);
            asked.answered_at += SignedDuration::from_secs(1);
        }
        requests.add(&backend.asked(from + 0.2, &[ONE]));
        requests.add(&ahead);
        shows(&requests, ONE, from + 0.2, Shown::JustNow);
    }
}

/// Crowd seed 5000007237: two workers ask at once, and both are told of a use that has just ended.
#[test]
fn requests_at_the_same_time_do_not_explain_each_other() {
    let mut backend = Counting::used_at(&[299.95]);
    let mut requests = OwnRequests::default();
    let (one, other) = (backend.asked(300.0, &[ONE]), backend.asked(300.02, &[ONE]));
    requests.add(&one);
    requests.add(&other);
    shows(&requests, ONE, 300.0, Shown::JustNow);
    requests.add(&backend.asked(400.0, &[ONE]));
    shows(&requests, ONE, 400.0, ours(300.02));
}

#[test]
fn a_request_of_another_worker_is_ours_once_its_answer_is_known() {
    let mut backend = Counting::used_at(&[100.0]);
    let mut requests = OwnRequests::default();
    requests.add(&backend.asked(300.0, &[ONE]));
    let others = backend.asked(400.0, &[ONE]);
    requests.add(&backend.asked(600.0, &[ONE]));
    // Until then it may be anybody's.
    shows(&requests, ONE, 600.0, Shown::Use(at(400.04)));
    requests.add(&others);
    shows(&requests, ONE, 600.0, ours(100.0));
}

#[test]
fn a_request_whose_answer_is_known_hides_no_use_before_it() {
    let mut backend = Counting::used_at(&[100.0, 350.0]);
    let mut requests = OwnRequests::default();
    requests.add(&backend.asked(300.0, &[ONE]));
    let others = backend.asked(400.0, &[ONE]);
    requests.add(&backend.asked(600.0, &[ONE]));
    requests.add(&others);
    shows(&requests, ONE, 600.0, ours(350.0));
}

#[test]
fn a_request_whose_answer_nobody_kept_counts_as_use() {
    let mut backend = Counting::used_at(&[100.0, 350.0]);
    let mut requests = OwnRequests::default();
    requests.add(&backend.asked(300.0, &[ONE]));
    let _ = backend.asked(400.0, &[ONE]);
    requests.add(&backend.asked(600.0, &[ONE]));
    requests.add(&backend.asked(900.0, &[ONE]));
    // It hid the use just before; so it stands for it.
    shows(&requests, ONE, 900.0, ours(400.04));
    // The other probe's answer is no answer of this one's.
    let mut backend = Counting::used_at(&[100.0, 350.0]);
    let mut requests = OwnRequests::default();
    requests.add(&backend.asked(300.0, &[ONE]));
    requests.add(&backend.asked(400.0, &[TWO]));
    requests.add(&backend.asked(600.0, &[ONE]));
    shows(&requests, ONE, 600.0, Shown::Use(at(400.04)));
}

#[test]
fn two_workers_that_ask_at_once_know_it_from_each_other() {
    let mut backend = Counting::used_at(&[100.0]);
    let mut requests = OwnRequests::default();
    requests.add(&backend.asked(300.0, &[ONE]));
    let (one, other) = (backend.asked(600.0, &[ONE]), backend.asked(600.3, &[ONE]));
    requests.add(&other);
    shows(&requests, ONE, 600.3, Shown::JustNow);
    requests.add(&one);
    shows(&requests, ONE, 600.3, blurred(100.0, Some(600.0)));
    requests.add(&backend.asked(900.0, &[ONE]));
    shows(&requests, ONE, 900.0, ours(100.0));
}

#[test]
fn whoever_is_there_all_the_time_is_seen_at_each_look() {
    let users: Vec<f64> = (0..3000).map(|step| f64::from(step) / 2.0).collect();
    let mut backend = Counting::used_at(&users);
    let mut requests = OwnRequests::default();
    for from in [300.0, 600.0, 900.0] {
        requests.add(&backend.asked(from, &[ONE, TWO]));
        shows(&requests, ONE, from, Shown::JustNow);
        // A moment later it may be the first question.
        assert!(matches!(requests.shown(TWO, at(from)), Some(Shown::Blurred { .. })));
    }
    // The first round of this look was told of the use, so it does not explain what the second one is told.
    requests.add(&backend.asked(901.0, &[ONE]));
    shows(&requests, ONE, 901.0, Shown::JustNow);
}

#[test]
fn the_same_round_twice_is_one() {
    let mut backend = Counting::used_at(&[100.0]);
    let mut requests = OwnRequests::default();
    let round = backend.asked(300.0, &[ONE, TWO]);
    requests.add(&round);
    let once = requests.clone();
    requests.add(&round);
    assert_eq!(requests, once);
}

#[test]
fn a_backend_that_does_not_count_requests_is_found_out_and_costs_nothing_more() {
    let mut requests = OwnRequests::default();
    let asked = |from: f64| {
        let (asked_at, answered_at) = (at(from), at(from + 0.04));
        vec![Asked { label: ONE.to_owned(), asked_at, answered_at, said: Some(at(100.0)) }]
    };
    // Two workers that ask at once are told the same of one that counts, too.
    requests.add(&asked(300.0));
    requests.add(&asked(301.0));
    assert!(!requests.is_unmarked(ONE));
    requests.add(&asked(600.0));
    assert!(requests.is_unmarked(ONE));
    let known = requests.clone();
    requests.add(&asked(900.0));
    assert_eq!(requests, known);
    assert!(requests.rounds.is_empty() && requests.used.is_empty());
}

#[test]
fn what_the_previous_release_remembered_is_taken_over() {
    let old = |marks, real: Option<f64>| OwnProbe {
        asked_at: at(300.0),
        answered_at: at(300.04),
        said: at(250.0),
        real: real.map(at),
        marks,
    };
    let mut backend = Counting::used_at(&[100.0]);
    backend.last = 300.04;
    let mut requests = OwnRequests::default();
    requests.take_over(ONE, old(Some(true), Some(100.0)));
    requests.add(&backend.asked(600.0, &[ONE]));
    shows(&requests, ONE, 600.0, ours(100.0));
    let mut requests = OwnRequests::default();
    requests.take_over(ONE, old(Some(false), Some(100.0)));
    assert!(requests.is_unmarked(ONE));
}

#[test]
fn what_is_remembered_is_bounded_and_the_latest_use_survives() {
    let mut backend = Counting::used_at(&[100.0, 1250.0]);
    let mut requests = OwnRequests::default();
    for look in 1..=40 {
        requests.add(&backend.asked(f64::from(look) * 300.0, &[ONE]));
        assert!(requests.rounds.len() <= OWN_ROUNDS_MAX);
    }
    shows(&requests, ONE, 12_000.0, ours(1250.0));
    let bytes = serde_json::to_string(&requests).unwrap().len();
    assert!(bytes < 2_000, "{bytes}");
}
