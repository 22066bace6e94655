//! Whatever bytes a queue brings: for a bounded time, inputs made from noise, from the words of the parser,
//! and from every fixture, broken in its text or in its structure, up to the longest body that SQS takes.
//!
//! Each input has a seed of its own, counted up from `LAMPLIGHTER_FUZZ_SEED`; a failure names it, and a run
//! that begins there fails at once. `LAMPLIGHTER_FUZZ_SECONDS` says for how long. The thread that parses has a
//! small stack, so that nesting which recurses is found while it is still shallow.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use lamplighter_events::{
    BODY_BYTES_MAX, Command, Inbound, Malformed, MalformedKind, Signal, parse, parse_bytes,
};
use serde_json::{Map, Value, json};

use crate::fixtures::{fixtures, rules};

const SEED: u64 = 20_261_120;
const SECONDS: u64 = 8;
/// However slow the machine, so many inputs at least.
const INPUTS_MIN: u64 = 3_000;
/// Tokio's workers have 2 MiB, and much else on it.
const STACK_BYTES: usize = 512 * 1024;
/// A refusal becomes the attribute `reason-message`, which the worker cuts after so many characters.
const REFUSAL_CHARS_MAX: usize = 1_000;
/// No refusal may repeat so much of a body: names and times are cut after 60.
const REPEATED_CHARS: usize = 80;
/// Milliseconds are usual for a megabyte. Only what grows with the square comes near this.
const LONGEST: Duration = Duration::from_secs(60);

/// SplitMix64: small, and the same everywhere.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
    /// Below `many`, which is not 0.
    pub(crate) fn below(&mut self, many: usize) -> usize {
        usize::try_from(self.roll() % many as u64).unwrap()
    }
    pub(crate) fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
    pub(crate) fn pick<'t, T: ?Sized>(&mut self, of: &[&'t T]) -> &'t T {
        of[self.below(of.len())]
    }
}

/// What the parser reacts to, and what it should not choke on.
const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "{\"",
    "\":\"",
    "\",\"",
    "\"}",
    "null",
    "true",
    "-",
    "0",
    "1e999",
    "-0.0",
    "1e-400",
    "18446744073709551616",
    "\\",
    "\\u0000",
    "\\ud800",
    "\\udc00",
    "\u{0}",
    "\u{7f}",
    "\u{2028}",
    "\u{feff}",
    "\u{fffe}",
    "\u{10ffff}",
    "é",
    "\r\n",
    "\t",
    " ",
    "action",
    "start",
    "checkIdle",
    "target",
    "pyelli",
    "id",
    "holder",
    "for",
    "2h",
    "1h30m",
    "-1h",
    "until",
    "2026-12-01T18:00:00Z",
    "-009999-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "reason",
    "expires",
    "instance_id",
    "i-01f5d046c86e4f36e",
    "cluster",
    "serviceName",
    "idleThresholdMinutes",
    "lamplighter",
    "tick",
    "wake-up",
    "rule",
    "idle-check",
    "scheduled",
    "command",
    "rev",
    "at",
    "detail-type",
    "source",
    "detail",
    "resources",
    "time",
    "Scheduled Event",
    "aws.events",
    "aws.ec2",
    "aws.ssm",
    "EC2 Instance State-change Notification",
    "arn:aws:events:eu-west-1:1:rule/nightly",
    "body",
    "rawPath",
    "path",
    "/pyelli/start",
    "/../start",
    "/%2e/kill",
    "headers",
    "X-Current-User-Id",
    "isBase64Encoded",
    "eyJhY3Rpb24iOiJzdGFydCJ9",
    "requestContext",
    "stage",
    "prod",
    "queryStringParameters",
    "\u{1f600}",
];

/// The fields of a command, in small letters and without what joins their words.
const FIELDS: &[&str] = &[
    "action",
    "target",
    "instanceid",
    "cluster",
    "clustername",
    "service",
    "servicename",
    "id",
    "holder",
    "for",
    "until",
    "reason",
    "expires",
    "idlethresholdmins",
    "idlethresholdminutes",
    "lookbackperiodmins",
    "lookbackperiodminutes",
    "template",
];

/// Two that the fleet has, and what may stand there else.
const RULES: &[&str] =
    &["idle-check", "nightly", "rate", "arn:aws:events:eu-west-1:1:rule/bus/nightly", "/"];

struct Corpus {
    texts: Vec<String>,
    values: Vec<Value>,
    attributes: Vec<BTreeMap<String, String>>,
}

impl Corpus {
    fn read() -> Self {
        let folders = ["commands", "envelopes", "signals", "ticks", "bad", "events"];
        let mut corpus = Self { texts: vec![], values: vec![], attributes: vec![BTreeMap::new()] };
        for (path, text) in folders.into_iter().flat_map(fixtures) {
            corpus.values.extend(serde_json::from_str::<Value>(&text));
            corpus.texts.push(text);
            let attributes = fs::read_to_string(path.with_extension("attributes.json"));
            corpus.attributes.extend(attributes.map(|text| serde_json::from_str(&text).unwrap()));
        }
        corpus
    }

    fn text(&self, dice: &mut Dice) -> String {
        self.texts[dice.below(self.texts.len())].clone()
    }

    fn value(&self, dice: &mut Dice) -> Value {
        self.values[dice.below(self.values.len())].clone()
    }

    fn attributes(&self, dice: &mut Dice) -> BTreeMap<String, String> {
        let mut attributes = self.attributes[dice.below(self.attributes.len())].clone();
        while dice.one_in(4) {
            let name = dice.pick(&["action", "id", "target", "holder", "traceparent"]);
            attributes.insert(name.to_owned(), words(dice, 3));
        }
        attributes
    }
}

fn words(dice: &mut Dice, most: usize) -> String {
    (0..=dice.below(most)).map(|_| dice.pick(WORDS)).collect()
}

fn noise(dice: &mut Dice, most: usize) -> Vec<u8> {
    (0..dice.below(most)).map(|_| dice.roll().to_be_bytes()[0]).collect()
}

/// Some bytes of a text are changed, lost, doubled, or come from another.
fn broken(dice: &mut Dice, corpus: &Corpus) -> Vec<u8> {
    let mut bytes = corpus.text(dice).into_bytes();
    for _ in 0..=dice.below(4) {
        let from = dice.below(bytes.len().max(1)).min(bytes.len());
        let to = (from + dice.below(12)).min(bytes.len());
        match dice.below(6) {
            0 => bytes.truncate(from),
            1 => drop(bytes.drain(from..to)),
            2 => drop(bytes.splice(from..to, dice.pick(WORDS).bytes())),
            3 => bytes.extend_from_within(from..to),
            4 => drop(bytes.splice(from..to, noise(dice, 5))),
            _ => {
                let other = corpus.text(dice).into_bytes();
                let cut = dice.below(other.len().max(1)).min(other.len());
                bytes.splice(from.., other[cut..].iter().copied());
            }
        }
    }
    bytes
}

/// A value that some field may or may not take.
fn value(dice: &mut Dice, corpus: &Corpus) -> Value {
    match dice.below(12) {
        0 => Value::Null,
        1 => json!(dice.one_in(2)),
        2 => json!(dice.roll()),
        3 => json!(i64::MIN + i64::from(dice.roll() as u32)),
        4 => json!(f64::from_bits(dice.roll())),
        5 => json!([dice.pick(WORDS)]),
        6 => corpus.value(dice),
        7 => json!(corpus.value(dice).to_string()),
        8 => json!(dice.pick(WORDS).repeat(dice.below(600))),
        _ => json!(words(dice, 3)),
    }
}

/// Somewhere in the structure a field is renamed, lost, added or given another value.
fn warp(dice: &mut Dice, corpus: &Corpus, node: &mut Value) {
    let deeper = !dice.one_in(3);
    match node {
        Value::Object(map) if deeper && !map.is_empty() => {
            let key = map.keys().nth(dice.below(map.len())).unwrap().clone();
            match dice.below(6) {
                0 => drop(map.remove(&key)),
                1 => drop(map.insert(words(dice, 2), value(dice, corpus))),
                2 => {
                    let kept = map.remove(&key).unwrap();
                    map.insert(dice.pick(WORDS).to_owned(), kept);
                }
                3 => {
                    let again = map[&key].clone();
                    map.insert(key.to_uppercase(), again);
                }
                _ => warp(dice, corpus, map.get_mut(&key).unwrap()),
            }
        }
        Value::Array(items) if deeper && !items.is_empty() => {
            let index = dice.below(items.len());
            warp(dice, corpus, &mut items[index]);
        }
        other => *other = value(dice, corpus),
    }
}

fn warped(dice: &mut Dice, corpus: &Corpus) -> Value {
    let mut warped = corpus.value(dice);
    for _ in 0..dice.below(4) {
        warp(dice, corpus, &mut warped);
    }
    // What a gateway, a schedule or a bus puts around it.
    match dice.below(10) {
        0 => json!({ "rawPath": words(dice, 2), "body": warped.to_string() }),
        1 => {
            json!({ "lamplighter": "tick", "rule": dice.pick(RULES), "scheduled": 1, "command": warped })
        }
        2 => {
            json!({ "lamplighter": "tick", "rule": dice.pick(RULES), "scheduled": "2026-11-20T23:00:00Z" })
        }
        3 => json!({ "detail-type": "x", "source": "com.example", "detail": warped }),
        _ => warped,
    }
}

/// As long as SQS takes them, or a little longer; each shape is one that might take long, or go deep.
fn large(dice: &mut Dice, corpus: &Corpus) -> Vec<u8> {
    let bytes = [64 * 1024, 256 * 1024, BODY_BYTES_MAX - 64, BODY_BYTES_MAX + 1][dice.below(4)];
    let filled = |part: &str| part.repeat(bytes / part.len());
    let text = match dice.below(14) {
        0 => filled("["),
        1 => filled("{\"a\":"),
        2 => format!("{{\"action\":\"start\",\"reason\":\"{}\"}}", filled("x")),
        3 => format!("{{\"action\":\"start\",\"for\":{}}}", filled("9")),
        4 => format!("{{\"action\":\"start\",\"until\":1{}}}", filled("0")),
        5 => format!("{{\"action\":\"{}\"}}", filled("\\u0000")),
        6 => {
            let fields: Map<String, Value> =
                (0..bytes / 16).map(|index| (format!("field-{index}"), json!(1))).collect();
            Value::Object(fields).to_string()
        }
        7 => format!("{{{}\"action\":\"stop\"}}", filled("\"action\":\"start\",")),
        8 => format!("{{\"rawPath\":\"{}\"}}", filled("/start")),
        9 => format!(
            "{{\"rawPath\":\"/start\",\"isBase64Encoded\":true,\"body\":\"{}\"}}",
            filled("W1tb")
        ),
        10 => format!("{{\"rawPath\":\"/start\",\"body\":\"{}\"}}", filled("[")),
        11 => {
            // A body in a body in a body: each is text to the one around it.
            let mut inner = corpus.value(dice);
            while inner.to_string().len() < bytes / 2 {
                inner = json!({ "rawPath": "/start", "body": inner.to_string() });
            }
            inner.to_string()
        }
        12 => format!("[{}0]", filled("0,")),
        _ => filled(dice.pick(WORDS)),
    };
    text.into_bytes()
}

struct Input {
    body: Vec<u8>,
    attributes: BTreeMap<String, String>,
}

fn input(dice: &mut Dice, corpus: &Corpus) -> Input {
    let body = match dice.below(400) {
        0 => large(dice, corpus),
        1..=40 => noise(dice, 300),
        41..=120 => words(dice, 40).into_bytes(),
        121..=220 => broken(dice, corpus),
        _ => warped(dice, corpus).to_string().into_bytes(),
    };
    Input { body, attributes: corpus.attributes(dice) }
}

/// What may stand in a message attribute of SQS, and in one line of a log.
fn is_showable(char: char) -> bool {
    !char.is_control() && !matches!(char, '\u{fffe}' | '\u{ffff}')
}

fn check_refusal(body: &[u8], malformed: &Malformed) {
    let Malformed { kind, message, .. } = malformed;
    assert!(MalformedKind::ALL.contains(kind));
    assert!(!message.is_empty() && message.contains("expected"), "{kind}: {message}");
    let chars: Vec<char> = message.chars().collect();
    assert!(chars.len() < REFUSAL_CHARS_MAX, "{kind}: {} characters", chars.len());
    assert!(chars.iter().copied().all(is_showable), "{kind}: {message:?}");
    let body = String::from_utf8_lossy(body);
    // A long body takes long to search, and says nothing that a short one would not.
    if body.len() < 4_096 {
        for part in chars.windows(REPEATED_CHARS) {
            let part: String = part.iter().collect();
            assert!(!body.contains(&part), "{kind}: it repeats the body: {part:?}");
        }
    }
}

fn check_command(command: &Command) {
    let json = command.to_json();
    assert_eq!(&Command::from_json(&json).unwrap(), command);
    let body = json.to_string();
    let again = parse(&body, &BTreeMap::new(), &BTreeMap::new());
    assert_eq!(again.as_ref(), Ok(&Inbound::Command(command.clone())));
    let texts =
        json.as_object().unwrap().iter().filter_map(|(name, value)| Some((name, value.as_str()?)));
    for (name, text) in texts {
        // What a parameter may hold is the fleet's to say; here only how much.
        if command.parameters.contains_key(name) {
            assert!(text.len() <= 4096, "{name}");
            continue;
        }
        assert!(text.chars().count() <= 512, "{name}");
        assert!(!text.chars().any(char::is_control), "{name}");
    }
}

/// Of a body that is a bare command, but for a create, every field is one that a command has.
fn check_fields(body: &[u8]) {
    let Ok(Value::Object(map)) = serde_json::from_slice::<Value>(body) else { return };
    let around =
        ["detail-type", "body", "rawPath", "path", "requestContext", "httpMethod", "headers"];
    if around.iter().any(|name| map.contains_key(*name)) {
        return;
    }
    for name in map.keys() {
        let plain: String = name.chars().filter(|char| !matches!(char, '-' | '_')).collect();
        assert!(FIELDS.contains(&plain.to_lowercase().as_str()), "it took the field {name:?}");
    }
}

fn check_signal(signal: &Signal) {
    let texts = match signal {
        Signal::Ec2StateChange { state, .. } => vec![state],
        Signal::Ec2SpotInterruption { action, .. } => vec![action],
        Signal::SsmCommandStatus { command_id, status, .. } => vec![command_id, status],
        Signal::EcsTaskStateChange { cluster, group, last_status, .. } => {
            vec![cluster, group, last_status]
        }
    };
    for text in texts {
        assert!(text.chars().count() <= 600 && !text.chars().any(char::is_control), "{text:?}");
    }
}

fn check_input(input: &Input) -> &'static str {
    let Input { body, attributes } = input;
    let bare = |body: Value| parse(&body.to_string(), &BTreeMap::new(), &BTreeMap::new());
    let result = parse_bytes(body, attributes, &rules());
    assert_eq!(
        result,
        parse_bytes(body, attributes, &rules()),
        "it depends on more than its input"
    );
    match result {
        Err(malformed) => {
            check_refusal(body, &malformed);
            malformed.kind.as_str()
        }
        Ok(Inbound::Command(command)) => {
            check_command(&command);
            if command.action != lamplighter_events::Action::Create {
                check_fields(body);
            }
            "command"
        }
        Ok(Inbound::Tick(tick)) => {
            check_command(tick.command.as_ref().unwrap());
            let again = bare(tick.to_json());
            assert_eq!(again, Ok(Inbound::Tick(tick)));
            "tick"
        }
        Ok(Inbound::WakeUp(wake_up)) => {
            let again = bare(wake_up.to_json());
            assert_eq!(again, Ok(Inbound::WakeUp(wake_up)));
            "wake-up"
        }
        Ok(Inbound::IdleShard(shard)) => {
            let again = bare(shard.to_json());
            assert_eq!(again, Ok(Inbound::IdleShard(shard)));
            "idle-shard"
        }
        Ok(Inbound::Signal(signal)) => {
            check_signal(&signal);
            "signal"
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn run() {
    let seed = number("LAMPLIGHTER_FUZZ_SEED", SEED);
    let corpus = Corpus::read();
    let began = Instant::now();
    let end = Duration::from_secs(number("LAMPLIGHTER_FUZZ_SECONDS", SECONDS));
    let (mut inputs, mut longest) = (0, Duration::ZERO);
    let mut met: BTreeMap<&str, u64> = BTreeMap::new();
    while began.elapsed() < end || inputs < INPUTS_MIN {
        let seed = seed.wrapping_add(inputs);
        let input = input(&mut Dice(seed), &corpus);
        let from = Instant::now();
        let what = catch_unwind(AssertUnwindSafe(|| check_input(&input))).unwrap_or_else(|_| {
            let body = String::from_utf8_lossy(&input.body);
            let body: String = body.chars().take(2_000).collect();
            panic!("LAMPLIGHTER_FUZZ_SEED={seed}: {:?}\n{body}", input.attributes)
        });
        longest = longest.max(from.elapsed());
        assert!(from.elapsed() < LONGEST, "LAMPLIGHTER_FUZZ_SEED={seed}: {:?}", from.elapsed());
        *met.entry(what).or_default() += 1;
        inputs += 1;
    }
    eprintln!(
        "seed {seed}: {inputs} inputs in {:?}, the longest {longest:?}: {met:?}",
        began.elapsed()
    );
    // Noise alone would be refused for one reason only.
    for what in ["command", "tick", "wake-up", "signal"] {
        assert!(met.contains_key(what), "no input was a {what}");
    }
    for kind in MalformedKind::ALL {
        assert!(met.contains_key(kind.as_str()), "no input was refused as {kind}");
    }
}

#[test]
fn no_input_panics_hangs_or_is_told_too_much_of() {
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(run).unwrap();
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
