//! Ten thousand messages that nobody can understand, beside a few that somebody needs.
//!
//! *Theory.* Poison must cost its own handling and nothing else: no slot for ever, no memory, no log
//! beyond a line, no other command. The flood does not end before the commands beside it have, so that
//! they can only be done in its midst; where they starved, it would reach its bound and the test fail.
//!
//! *Not here.* What each reason is for (`events/tests`), and what SQS itself refuses.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::harness::{Local, Process};
use crate::poison::{Poison, Poisons};
use crate::wire::{Wire, attribute};

const FLOOD: usize = 10_000;
/// The flood ends here even if the commands beside it have not: many times what they need.
const FLOOD_MAX: usize = 100_000;
/// So much lies in the queue at least, all the time: each step of a command waits behind it.
const BACKLOG: usize = 200;
const AT_ONCE: usize = 300;
/// An idle worker in debug holds 8 MB. What is in hand at once may be large: 32 slots, 0.4 MB each, in
/// a few copies. All that floods by is some dozens of megabytes more than that.
const ANONYMOUS_KB_MAX: u64 = 64_000;
/// A line tells the reason in a sentence, and the fields of a command.
const LOG_BYTES_EACH_MAX: usize = 1_000;

const FLEET: &str = r#"
[targets.lamp-a]
kind = "ec2-instance"
instance_id = "i-0aaaaaaaaaaaaaaa1"
systemd_unit = "lamp"
settle = "1s"
poll = "1s"

[targets.lamp-b]
kind = "ec2-instance"
instance_id = "i-0aaaaaaaaaaaaaaa2"
settle = "1s"
poll = "1s"

[local]
boot = "500ms"
agent = "300ms"
stop = "300ms"
"#;

/// Ends the flood also where a command beside it fails the test.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Sends poison until there was enough of it and `ended`; what was sent, and the most memory that the
/// worker held meanwhile.
fn flood(wire: &Wire, worker: &Process, ended: &AtomicBool) -> (Vec<Poison>, u64) {
    let mut poisons = Poisons::new(0x1a_3b);
    let (mut sent, mut held_kb) = (Vec::new(), 0);
    while sent.len() < FLOOD || !ended.load(Ordering::SeqCst) {
        assert!(sent.len() < FLOOD_MAX, "what was sent beside the flood is never done");
        held_kb = held_kb.max(worker.anonymous_kb().unwrap_or(0));
        if wire.depth(&wire.commands).0 > BACKLOG {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        }
        let mut some: Vec<Poison> = poisons.by_ref().take(AT_ONCE).collect();
        let bodies: Vec<&str> = some.iter().map(|poison| poison.body.as_str()).collect();
        let ids = wire.send(&bodies);
        for (poison, id) in some.iter_mut().zip(ids) {
            poison.id.get_or_insert(id);
        }
        sent.extend(some);
    }
    (sent, held_kb)
}

/// What people need done, one after the other, each in the midst of the flood.
fn work_beside(local: &Local, wire: &Wire) {
    let rows: [(&[&str], &str); 6] = [
        (&["start", "lamp-a", "--holder", "ann"], "started"),
        (&["status", "lamp-a"], "instance_status"),
        (&["start", "lamp-b", "--holder", "ben", "--for", "1h"], "started"),
        (&["start", "lamp-a", "--holder", "cat"], "started"),
        (&["stop", "lamp-a", "--holder", "cat"], "stopped"),
        (&["stop", "lamp-a", "--holder", "ann"], "stopped"),
    ];
    for (row, field) in rows {
        let before = wire.depth(&wire.dead_letters).0;
        let outcome = local.json(&[&["send"], row, &["--wait"]].concat());
        assert_eq!(outcome["outcome"], "done", "{row:?}: {outcome}");
        assert!(outcome["answer"].get(field).is_some(), "{row:?}: {outcome}");
        // The flood was being worked off meanwhile, not held up by it.
        let after = wire.depth(&wire.dead_letters).0;
        assert!(after > before, "{row:?}: {before} dead letters before and {after} after");
    }
}

/// A letter as it can be told from others: its id, its reason, its body.
type Letter = (String, String, String);

fn counted(letters: impl Iterator<Item = Letter>) -> BTreeMap<Letter, usize> {
    let mut counts = BTreeMap::new();
    for letter in letters {
        *counts.entry(letter).or_insert(0) += 1;
    }
    counts
}

#[test]
fn ten_thousand_poisonous_messages_are_each_a_dead_letter_and_hold_up_nobody() {
    let local = Local::with_fleet(FLEET, &["--no-worker"]);
    let wire = Wire::to(&local);
    let worker = local.worker("worker", &[]);
    let ended = AtomicBool::new(false);
    let (sent, held_kb) = std::thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(&wire, &worker, &ended));
        let ending = Ending(&ended);
        work_beside(&local, &wire);
        drop(ending);
        flooding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    wire.await_rest();

    let letters = wire.take_all(&wire.dead_letters);
    let text = |message, name| attribute(message, name).unwrap_or("none").to_owned();
    for letter in &letters {
        let why = text(letter, "reason-message");
        assert!(why.len() > 10 && why.chars().count() <= 1_000, "{why:?}");
        assert_ne!(text(letter, "lamplighter-sent-at"), "none");
    }
    // None is lost and none is there twice: with a worker that lives on, at least once is once.
    let found = counted(letters.iter().map(|letter| {
        let id = attribute(letter, "id").or_else(|| attribute(letter, "lamplighter-message-id"));
        let body = letter.body().unwrap_or_default().to_owned();
        (id.unwrap_or_default().to_owned(), text(letter, "reason"), body)
    }));
    let expected = counted(sent.iter().map(|poison| {
        let id = poison.id.clone().expect("each has one by now");
        (id, poison.reason.to_owned(), poison.body.clone())
    }));
    let short = |letters: Vec<(&Letter, &usize)>| -> Vec<String> {
        let each = letters.iter().take(5);
        each.map(|(letter, times)| format!("{times} x {letter:.200?}")).collect()
    };
    let lost = expected.iter().filter(|(letter, times)| found.get(*letter) != Some(*times));
    let strange = found.iter().filter(|(letter, times)| expected.get(*letter) != Some(*times));
    let (lost, strange) = (short(lost.collect()), short(strange.collect()));
    assert!(lost.is_empty() && strange.is_empty(), "expected {lost:#?}, found {strange:#?}");
    assert!(letters.len() >= FLOOD);

    // What brought an id of its own has an outcome that says the same.
    let mut asked = BTreeMap::new();
    for poison in sent.iter().filter(|poison| poison.id.as_deref().is_some_and(is_own)) {
        asked.entry(poison.reason).or_insert(poison);
    }
    assert!(asked.len() >= 2, "too few kinds of poison have ids: {:?}", asked.keys());
    for poison in asked.values() {
        let id = poison.id.as_deref().unwrap_or_default();
        let outcome = local.run(&["outcome", id, "--json"]);
        assert_eq!(outcome.is(1).json()["outcome"], json!("rejected"), "{id}");
    }

    assert!(held_kb < ANONYMOUS_KB_MAX, "{held_kb} kB were held at once");
    let log = worker.log();
    assert!(log.len() < letters.len() * LOG_BYTES_EACH_MAX, "{} bytes of log", log.len());
    assert!(!log.contains(&"x".repeat(600)), "a body is in the log");
    let large: usize = sent.iter().map(|poison| poison.body.len()).sum();
    println!(
        "{} letters of {} kB, {held_kb} kB held at once, {} kB of log",
        letters.len(),
        large / 1_000,
        log.len() / 1_000
    );
}

/// Ids of the flood's own, which no other test body has.
fn is_own(id: &str) -> bool {
    id.starts_with("flood-")
}
