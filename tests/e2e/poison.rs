//! Bodies that no worker can understand, as many as are wanted, each with the reason that it must get.
//!
//! Two halves. What is written by hand knows its reason by itself. Mutants of the good fixtures in
//! `events/fixtures` ask the parser for theirs: what is tested with them is the way to the dead letters,
//! not the parser. One that still means something is no poison and is made anew.
//!
//! *Invariants.* A seed fixes them all. No body names a target of the fleet, so none can do anything.
//! SQS takes each of them: none is empty, too large, or has a character that XML cannot carry.

use std::collections::BTreeMap;
use std::path::Path;

use lamplighter_events::{Action, Inbound, parse};
use serde_json::json;

/// A large body has from half to all of this.
const LARGE_BYTES: usize = 400_000;
/// One in so many is large: a flood of large ones alone would measure the wire.
const LARGE_EVERY: usize = 100;

pub(crate) struct Poison {
    pub(crate) body: String,
    /// The dead letter's `reason`.
    pub(crate) reason: &'static str,
    /// The id that the body brought; a message without one gets SQS's.
    pub(crate) id: Option<String>,
}

/// Splitmix64: small, and good enough to choose by.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % sides as u64).expect("smaller than a usize")
    }

    fn choose<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.roll(among.len())]
    }
}

/// Poison without end.
pub(crate) struct Poisons {
    dice: Dice,
    made: usize,
    good: Vec<String>,
}

impl Poisons {
    pub(crate) fn new(seed: u64) -> Self {
        Self { dice: Dice(seed), made: 0, good: good_bodies() }
    }

    fn by_hand(&mut self, number: usize) -> (String, &'static str) {
        let dice = &mut self.dice;
        match dice.roll(10) {
            0 => no_json(dice),
            1 => no_object(dice),
            2 => empty(dice),
            3 => wrong_types(dice),
            4 => (unknown_action(dice), "unknown-action"),
            5 => (unknown_field(dice, number), "unknown-field"),
            6 => (unknown_target(dice, number), "unknown-target"),
            7 => unicode(dice),
            8 => (deep(dice), "too-deep"),
            _ => envelope(dice, number),
        }
    }

    fn mutant(&mut self) -> Poison {
        loop {
            let mut body: Vec<char> = self.good[self.dice.roll(self.good.len())].chars().collect();
            for _ in 0..=self.dice.roll(3) {
                mutate(&mut self.dice, &mut body);
            }
            let body: String = body.into_iter().collect();
            if let Some(poison) = judged(body) {
                return poison;
            }
        }
    }
}

impl Iterator for Poisons {
    type Item = Poison;

    fn next(&mut self) -> Option<Poison> {
        let number = self.made;
        self.made += 1;
        if number.is_multiple_of(LARGE_EVERY) {
            let (body, reason) = large(&mut self.dice);
            return Some(Poison { body, reason, id: None });
        }
        if number.is_multiple_of(2) {
            return Some(self.mutant());
        }
        let (body, reason) = self.by_hand(number);
        let id = judged(body.clone()).and_then(|poison| poison.id);
        Some(Poison { body, reason, id })
    }
}

fn good_bodies() -> Vec<String> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../events/fixtures");
    let mut bodies = Vec::new();
    for folder in ["commands", "envelopes", "ticks"] {
        let files = std::fs::read_dir(fixtures.join(folder)).expect("the fixtures are there");
        let mut paths: Vec<_> = files.map(|file| file.expect("a readable folder").path()).collect();
        // A folder has no order of its own.
        paths.sort();
        paths.retain(|path| {
            let name = path.to_string_lossy();
            name.ends_with(".json") && !name.ends_with(".attributes.json")
        });
        let texts = paths.iter().map(|path| std::fs::read_to_string(path).expect("a fixture"));
        bodies.extend(texts);
    }
    assert!(bodies.len() > 30, "only {} good bodies to spoil", bodies.len());
    bodies
}

/// `None` where it still means something, or SQS would not take it.
fn judged(body: String) -> Option<Poison> {
    let sendable = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    if body.is_empty() || !body.chars().all(sendable) {
        return None;
    }
    let (reason, id) = match parse(&body, &BTreeMap::new(), &BTreeMap::new()) {
        Err(malformed) => (malformed.kind.as_str(), malformed.command),
        // Nothing has an idle policy here, so that such a command is for nobody.
        Ok(Inbound::Command(command)) if command.action == Action::CheckIdle => return None,
        Ok(Inbound::Command(command)) => ("unknown-target", command.id),
        Ok(Inbound::Tick(tick)) => {
            let checks =
                |command: &lamplighter_events::Command| command.action == Action::CheckIdle;
            if tick.command.as_ref().is_some_and(checks) {
                return None;
            }
            ("unknown-target", Some(tick.command_id()))
        }
        Ok(Inbound::Signal(_) | Inbound::WakeUp(_) | Inbound::IdleShard(_)) => return None,
    };
    Some(Poison { body, reason, id: id.map(|id| id.to_string()) })
}

fn mutate(dice: &mut Dice, body: &mut Vec<char>) {
    if body.is_empty() {
        return;
    }
    let at = dice.roll(body.len());
    let end = (at + 1 + dice.roll(8)).min(body.len());
    match dice.roll(6) {
        0 => body.truncate(at),
        1 => drop(body.drain(at..end)),
        2 => {
            let again: Vec<char> = body[at..end].to_vec();
            drop(body.splice(at..at, again));
        }
        3 => {
            let signs = ['"', '{', '}', '[', ']', ',', ':', '\\', '0', 'e', 'ß', '💡'];
            body[at] = dice.choose(&signs);
        }
        4 => {
            let other = dice.roll(body.len());
            body.swap(at, other);
        }
        _ => {
            let words = ["null", "1e999", "\"\\u0000\"", "-1", "{}", "[[[[", "true", "\u{202e}"];
            drop(body.splice(at..at, dice.choose(&words).chars()));
        }
    }
}

fn no_json(dice: &mut Dice) -> (String, &'static str) {
    let bodies = [
        "start position-keeper, please",
        "action=start&target=lamp-a",
        "<message><action>start</action></message>",
        "{\"action\":\"start\",\"target\":\"lamp-a\"",
        "{\"action\":\"start\",}",
        "{'action':'start'}",
        "{\"action\": start}",
        "{\"action\":\"start\"} {\"action\":\"stop\"}",
        "--- \naction: start\n",
        "{\"reason\":1e999}",
        "%PDF-1.7",
        "undefined",
    ];
    (format!("{}{}", dice.choose(&bodies), " ".repeat(dice.roll(4))), "not-json")
}

fn no_object(dice: &mut Dice) -> (String, &'static str) {
    let bodies =
        ["[1,2]", "\"start\"", "42", "null", "true", "[{\"action\":\"start\"}]", "-0.5", "[]"];
    (dice.choose(&bodies).to_owned(), "not-an-object")
}

fn empty(dice: &mut Dice) -> (String, &'static str) {
    let bodies = [
        ("{}", "no-action"),
        ("{ }", "no-action"),
        (" ", "not-json"),
        ("\n\n\t", "not-json"),
        ("{\"target\":\"lamp-nobody\"}", "no-action"),
        ("{\"action\":null}", "no-action"),
        ("{\"action\":\"\"}", "unknown-action"),
        ("\"\"", "not-an-object"),
    ];
    let (body, reason) = dice.choose(&bodies);
    (body.to_owned(), reason)
}

fn wrong_types(dice: &mut Dice) -> (String, &'static str) {
    let values = [json!(7), json!([]), json!({}), json!(false), json!([["start"]])];
    let value = values[dice.roll(values.len())].clone();
    let fields =
        ["action", "target", "id", "holder", "for", "until", "reason", "expires", "instance_id"];
    let field = dice.choose(&fields);
    // A number is a time.
    let value =
        if value.is_number() && matches!(field, "until" | "expires") { json!({}) } else { value };
    let mut body = json!({"action": "start", "target": "lamp-nobody"});
    if field == "instance_id" {
        body = json!({"action": "start"});
    }
    body[field] = value;
    (body.to_string(), "invalid-field")
}

fn unknown_action(dice: &mut Dice) -> String {
    let actions = ["dance", "strat", "START NOW", "rm -rf /", "start;stop", "star t", "delete-all"];
    json!({"action": dice.choose(&actions), "target": "lamp-nobody"}).to_string()
}

/// Half of them with an id, whose command then has a rejected outcome.
fn unknown_field(dice: &mut Dice, number: usize) -> String {
    let fields = ["colour", "holdr", "foor", "Targett", "__proto__", "x", "force"];
    let mut body = json!({"action": "start", "target": "lamp-nobody"});
    body[dice.choose(&fields)] = json!("red");
    if dice.roll(2) == 0 {
        body["id"] = json!(format!("flood-{number}"));
    }
    body.to_string()
}

fn unknown_target(dice: &mut Dice, number: usize) -> String {
    let actions = ["start", "stop", "kill", "status", "pause", "resume", "wake"];
    let mut body = json!({"action": dice.choose(&actions), "target": format!("nobody-{number}")});
    match dice.roll(3) {
        0 => body["id"] = json!(format!("flood-{number}")),
        1 => body = json!({"action": "start", "instance_id": "i-0fffffffffffffff0"}),
        _ => {}
    }
    body.to_string()
}

fn unicode(dice: &mut Dice) -> (String, &'static str) {
    let bodies = [
        ("{\"action\":\"ştart\"}", "unknown-action"),
        ("{\"action\":\"start\u{200b}\"}", "unknown-action"),
        ("{\"äction\":\"start\"}", "unknown-field"),
        ("{\"action\":\"start\",\"target\":\"lämp\"}", "invalid-field"),
        ("{\"action\":\"start\",\"holder\":\"a\\u0000b\"}", "invalid-field"),
        ("{\"action\":\"start\",\"reason\":\"\\u001b[31mred\"}", "invalid-field"),
        ("{\"action\":\"\\ud800\"}", "not-json"),
        ("\u{feff}{\"action\":\"start\"}", "not-json"),
        ("🔥🔥🔥", "not-json"),
        ("\u{202e}\"trats\":\"noitca\"{", "not-json"),
        ("{\"動作\":\"開始\"}", "unknown-field"),
        ("\u{fffd}\u{fffd}", "not-json"),
    ];
    let (body, reason) = dice.choose(&bodies);
    (body.to_owned(), reason)
}

fn deep(dice: &mut Dice) -> String {
    let depth = 40 + dice.roll(2_000);
    match dice.roll(3) {
        0 => "[".repeat(depth),
        1 => format!("{{\"action\":{}1{}}}", "[".repeat(depth), "]".repeat(depth)),
        _ => format!("{}null{}", "{\"a\":".repeat(depth), "}".repeat(depth)),
    }
}

/// Wrong things in the right wrapping.
fn envelope(dice: &mut Dice, number: usize) -> (String, &'static str) {
    let at = "2026-11-20T10:00:00Z";
    let event = |source: &str, detail_type: &str| {
        json!({"version": "0", "source": source, "detail-type": detail_type, "time": at,
               "resources": [], "detail": {"n": number}})
    };
    let (body, reason) = match dice.roll(11) {
        0 => (
            json!({"lamplighter": "tick", "rule": "no-such-rule", "scheduled": at}),
            "unknown-rule",
        ),
        1 => (json!({"lamplighter": "tick", "rule": "x", "scheduled": "soon"}), "invalid-field"),
        2 => (json!({"lamplighter": "wake-up", "rev": 1, "at": at}), "invalid-field"),
        3 => (json!({"lamplighter": "lamp"}), "unknown-event"),
        4 => (event("aws.s3", "Object Created"), "unknown-event"),
        5 => (event("lamplighter", "Command Completed"), "unknown-event"),
        6 => (event("my.app", "Please"), "unknown-field"),
        7 => (json!({"rawPath": "/", "body": "not json"}), "not-json"),
        8 => (json!({"rawPath": "/dance", "body": "{}"}), "no-action"),
        9 => (json!({"rawPath": "/../start", "body": "{}"}), "invalid-path"),
        _ => (event("aws.ec2", "EC2 Instance State-change Notification"), "invalid-field"),
    };
    (body.to_string(), reason)
}

fn large(dice: &mut Dice) -> (String, &'static str) {
    let filler = "x".repeat(LARGE_BYTES / 2 + dice.roll(LARGE_BYTES / 2));
    match dice.roll(5) {
        0 => (filler, "not-json"),
        1 => ("[".repeat(filler.len()), "too-deep"),
        2 => (json!({"action": "start", "reason": filler}).to_string(), "invalid-field"),
        3 => (json!({"action": filler}).to_string(), "unknown-action"),
        _ => (json!({"action": "start", filler: 1}).to_string(), "unknown-field"),
    }
}

#[test]
fn every_reason_by_hand_is_the_one_that_the_parser_gives() {
    let mut sorts = BTreeMap::new();
    for poison in Poisons::new(7).take(6_000) {
        let judged = judged(poison.body.clone());
        let judged = judged.unwrap_or_else(|| panic!("no poison: {:.200}", poison.body));
        assert_eq!(judged.reason, poison.reason, "{:.200}", poison.body);
        *sorts.entry(poison.reason).or_insert(0) += 1;
    }
    println!("{sorts:?}");
    // All but `too-large`, which no queue takes.
    for reason in [
        "not-utf8",
        "not-json",
        "not-an-object",
        "too-deep",
        "no-action",
        "unknown-action",
        "unknown-field",
        "invalid-field",
        "unknown-rule",
        "unknown-event",
        "invalid-path",
        "unknown-target",
    ] {
        assert!(sorts.contains_key(reason), "no poison is {reason}: {sorts:?}");
    }
}
