//! Every verb and every flag is run, and what it says is read.
//!
//! *Theory.* The binary's own help is the list: each test notes what it ran, and at its end compares that
//! with what the help of its verbs names. A flag that is added to a verb fails that verb's test until
//! it is run; a verb that is added fails `every_verb_of_the_help_has_a_test_that_runs_it`.
//!
//! *Invariants.* What counts as run was run here, with an exit code that was asked for and output that
//! was looked at. Where JSON is asked for, stdout is JSON and nothing else.
//!
//! *Not here.* Whether a verb does the right thing under load, faults or restarts: the other files.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{
    Answer, FLEET, Local, Process, TEMPLATE, eventually, http, lamplighter, send_raw, tag,
};
use crate::help::{flags_in, help_of, verbs_in};
use crate::verbs_door::{DOOR, LINKS};

/// Who asks for what: the verbs of each test below, with the exit codes that it must have seen.
const ASKING: Verbs =
    &[("send", &[0, 1, 2]), ("outcome", &[0, 1, 2]), ("pause", &[0, 1, 2]), ("resume", &[0, 1, 2])];
const LOOKING: Verbs =
    &[("status", &[0, 1, 2]), ("why", &[0, 1, 2]), ("history", &[0, 1, 2]), ("watch", &[0, 1, 2])];
const LEAKING: Verbs = &[("leaks", &[0, 1, 2])];
const PROBING: Verbs = &[("probe", &[0, 1, 2])];
const DEAD_LETTERS: Verbs =
    &[("dlq list", &[0, 1, 2]), ("dlq show", &[0, 1, 2]), ("dlq replay", &[0, 1, 2])];
/// A worker that cannot reach AWS goes on trying: it has no exit code for that.
const SERVING: Verbs = &[("run", &[0, 2]), ("local", &[0, 1, 2]), ("health", &[0, 1, 2])];
const SCHEDULING: Verbs = &[
    ("schedule plan", &[0, 1, 2]),
    ("schedule apply", &[0, 1, 2]),
    ("schedule next", &[0, 2]),
    ("schedule enable", &[0, 1, 2]),
    ("schedule disable", &[0, 1, 2]),
];
const SETTING_UP: Verbs = &[("setup", &[0, 1, 2]), ("check", &[0, 1, 2]), ("completions", &[0, 2])];

pub(crate) type Verbs = &'static [(&'static str, &'static [i32])];

/// Flags that clap gives to every verb, and which `every_verb_of_the_help…` runs on each.
const CLAPS: [&str; 2] = ["--help", "--version"];

/// What was run: flags and exit codes by verb.
#[derive(Default)]
pub(crate) struct Ran {
    flags: BTreeMap<String, BTreeSet<String>>,
    codes: BTreeMap<String, BTreeSet<i32>>,
}

impl Ran {
    /// Notes a run. Words that are no flags count for nothing here.
    pub(crate) fn note(&mut self, verb: &str, arguments: &[&str], code: i32) {
        let flags = arguments.iter().filter(|word| word.starts_with("--"));
        let flags = flags.map(|flag| flag.split('=').next().unwrap_or(flag).to_owned());
        // A refused command line proves nothing about the flags in it.
        if code != 2 {
            self.flags.entry(verb.to_owned()).or_default().extend(flags);
        }
        self.codes.entry(verb.to_owned()).or_default().insert(code);
    }

    #[track_caller]
    pub(crate) fn run(
        &mut self,
        local: &Local,
        verb: &str,
        arguments: &[&str],
        code: i32,
    ) -> Answer {
        self.run_as(&mut local.command(), verb, arguments, code)
    }

    #[track_caller]
    pub(crate) fn run_as(
        &mut self,
        command: &mut Command,
        verb: &str,
        arguments: &[&str],
        code: i32,
    ) -> Answer {
        let answer = Answer::of(command.args(verb.split(' ')).args(arguments));
        assert_eq!(
            answer.code, code,
            "{verb} {arguments:?}: stdout: {}\nstderr: {}",
            answer.stdout, answer.stderr
        );
        if code != 0 && answer.stdout.is_empty() {
            // One sentence, perhaps a hint, and no insides.
            answer.complains(code, &["error: "]);
        }
        if arguments.contains(&"--json") && !answer.stdout.is_empty() {
            answer.json();
        }
        self.note(verb, arguments, code);
        answer
    }

    #[track_caller]
    fn says(&mut self, local: &Local, verb: &str, arguments: &[&str], code: i32, words: &[&str]) {
        let answer = self.run(local, verb, arguments, code);
        let said = format!("{}{}", answer.stdout, answer.stderr);
        for word in words {
            assert!(said.contains(word), "{verb} {arguments:?}: {word:?} is not in: {said}");
        }
    }

    #[track_caller]
    fn json(&mut self, local: &Local, verb: &str, arguments: &[&str], code: i32) -> Value {
        self.run(local, verb, &[arguments, &["--json"]].concat(), code).json()
    }

    /// Everything that the help of these verbs names was run, with every exit code that they have.
    #[track_caller]
    pub(crate) fn covers(&self, verbs: Verbs) {
        for (verb, codes) in verbs {
            let help = help_of(verb);
            let mut missing: BTreeSet<String> = flags_in(&help);
            assert!(missing.contains("--json"), "{verb}: is this a help? {help}");
            for flag in self.flags.get(*verb).into_iter().flatten() {
                assert!(missing.remove(flag), "{verb} {flag} is run, and not in its help");
            }
            missing.retain(|flag| !CLAPS.contains(&flag.as_str()));
            // It prints a script, whatever the fleet.
            if *verb == "completions" {
                missing.retain(|flag| flag != "--json" && flag != "--fleet");
            }
            assert!(missing.is_empty(), "{verb}: no test runs {missing:?}");
            let seen = self.codes.get(*verb).cloned().unwrap_or_default();
            assert_eq!(seen, codes.iter().copied().collect(), "{verb}: exit codes");
        }
    }
}

#[test]
fn a_flag_or_verb_that_no_test_runs_would_be_found() {
    let help = "Say things\n\nCommands:\n  a  One thing\n     --not-a-flag of it\n  help  Print\n\n\
                Options:\n      --new <X>  Something\n                 --old is gone\n  -h, --help\n";
    let expected = ["--help", "--new", "--not-a-flag", "--old"];
    // A line that merely goes on with a flag counts: rather one too many than one too few.
    assert_eq!(flags_in(help), expected.map(str::to_owned).into());
    let mut ran = Ran::default();
    ran.note("send", &["start", "x", "--wait", "--for=1h"], 0);
    ran.note("send", &["--until"], 2);
    assert_eq!(ran.flags["send"], ["--for", "--wait"].map(str::to_owned).into());
}

#[test]
fn every_verb_of_the_help_has_a_test_that_runs_it() {
    let tested: BTreeSet<String> = [
        ASKING,
        LOOKING,
        LEAKING,
        PROBING,
        DEAD_LETTERS,
        SERVING,
        SETTING_UP,
        SCHEDULING,
        DOOR,
        LINKS,
    ]
    .into_iter()
    .flatten()
    .map(|(verb, _)| (*verb).to_owned())
    .collect();
    let found = verbs_in(&help_of(""), "");
    assert_eq!(found, tested);
    for verb in &found {
        let help = Answer::of(lamplighter().arg("help").args(verb.split(' ')));
        assert_eq!(help.is(0).stdout, help_of(verb), "{verb}");
        let version = Answer::of(lamplighter().args(verb.split(' ')).arg("--version"));
        assert!(version.is(0).stdout.contains(env!("CARGO_PKG_VERSION")), "{}", version.stdout);
    }
    // What nobody wrote is refused, with what there is.
    Answer::of(&mut lamplighter()).is(2);
    Answer::of(lamplighter().arg("sned")).complains(2, &["sned", "send"]);
}

#[test]
fn asking_for_things() {
    let mut ran = Ran::default();
    let local = Local::with_fleet(&format!("{FLEET}{TEMPLATE}"), &[]);
    let fleet = local.fleet().to_str().expect("a plain path").to_owned();
    let run = &mut ran;

    // send: the holds that it makes are in the status.
    let sent = run.run(&local, "send", &["status", "pyelli", "--fleet", &fleet], 0);
    assert_eq!(sent.stdout.trim().len(), 36, "the id alone: {}", sent.stdout);
    let start = ["start", "pyelli", "--holder", "ann", "--for", "2h", "--reason", "a batch"];
    let sent = run.json(&local, "send", &[&start[..], &["--id", "s-1"]].concat(), 0);
    assert_eq!(sent, json!({"command": "s-1", "action": "start", "target": "pyelli"}));
    eventually("it is done", || {
        let answer = local.run(&["outcome", "s-1", "--json"]);
        (answer.code == 0).then_some(())
    });
    let until = "2099-01-01T00:00:00Z";
    let wait =
        ["start", "pyelli", "--holder", "ben", "--until", until, "--wait", "--timeout", "5m"];
    run.says(&local, "send", &wait, 0, &["sent start of pyelli, id ", "done: "]);
    let holds = local.json(&["status", "pyelli"])["holds"].clone();
    let hold = |holder: &str| {
        let holds = holds.as_array().expect("holds are a list");
        holds.iter().find(|hold| hold["holder"] == holder).cloned().expect("its hold")
    };
    assert_eq!(hold("ann")["reason"], "a batch");
    assert_eq!(hold("ben")["until"], until);
    let late = ["stop", "pyelli", "--expires", "2020-01-01T00:00:00Z", "--wait"];
    let late = run.json(&local, "send", &late, 1);
    assert_eq!((&late["outcome"], &late["cause"]), (&json!("rejected"), &json!("expired")));
    // The fleet has no idle policy, and says so.
    let check = ["check-idle", "--idle-threshold-minutes", "20", "--lookback-minutes", "5"];
    let checked = run.json(&local, "send", &[&check[..], &["--wait"]].concat(), 0);
    assert_eq!(checked["answer"]["asked"], json!(0), "{checked}");
    let misplaced = ["start", "pyelli", "--lookback-minutes", "5"];
    run.says(&local, "send", &misplaced, 2, &["belong to check-idle"]);
    run.says(&local, "send", &["start", "pyeli"], 2, &["did you mean \"pyelli\"?"]);
    run.says(&local, "send", &["strat", "pyelli"], 2, &["strat"]);
    run.says(&local, "send", &["start", "pyelli", "--for", "soon"], 2, &["soon", "2h"]);
    run.says(&local, "send", &["start", "pyelli", "--timeout", "1s"], 2, &["--wait"]);

    // outcome
    run.says(&local, "outcome", &["s-1", "--fleet", &fleet], 0, &["done: "]);
    let outcome = run.json(&local, "outcome", &["s-1"], 0);
    assert_eq!((&outcome["command"], &outcome["outcome"]), (&json!("s-1"), &json!("done")));
    run.says(&local, "outcome", &["s-none"], 1, &["s-none", "no command", "45 days"]);
    assert_eq!(run.run(&local, "outcome", &["s-none", "--json"], 1).stdout, "");
    let rejected = run.json(&local, "outcome", &[late["command"].as_str().expect("an id")], 1);
    assert_eq!(rejected, late);
    run.says(&local, "outcome", &["bad\nid"], 2, &["id"]);
    run.says(&local, "outcome", &[], 2, &["<ID>"]);

    // pause and resume
    let pause = ["pyelli", "--holder", "ann", "--reason", "an audit", "--wait", "--timeout", "5m"];
    run.says(&local, "pause", &pause, 0, &["sent pause of pyelli", "done: paused"]);
    let paused = local.json(&["status", "pyelli"])["paused"].clone();
    assert_eq!((&paused["by"], &paused["reason"]), (&json!("ann"), &json!("an audit")));
    let resume =
        ["pyelli", "--holder", "ann", "--reason", "it is over", "--wait", "--timeout", "5m"];
    run.says(&local, "resume", &resume, 0, &["sent resume of pyelli", "done: resumed"]);
    for (verb, is_paused) in [("pause", true), ("resume", false)] {
        let all = run.json(&local, verb, &["--all", "--wait", "--fleet", &fleet], 0);
        let all = all.as_array().cloned().expect("one outcome for each target");
        let targets: Vec<&str> = all.iter().filter_map(|it| it["target"].as_str()).collect();
        assert_eq!(targets, ["position-keeper", "pyelli", "render-box"]);
        assert!(all.iter().all(|outcome| outcome["outcome"] == "done"), "{all:?}");
        for status in local.json(&["status"]).as_array().expect("all targets") {
            assert_eq!(status["paused"].is_object(), is_paused, "{status}");
        }
        // Without a wait: an id for each.
        assert_eq!(run.run(&local, verb, &["--all"], 0).stdout.lines().count(), 3);
        run.says(&local, verb, &["pyelli", "--all"], 2, &["--all"]);
        run.says(&local, verb, &[], 2, &["<TARGET>"]);
    }

    // create: what follows from it is in `machines`.
    let create = ["create", "walrus", "--set", "blob_id=abc", "--wait"];
    run.says(&local, "send", &create, 0, &["done: ", "instance  i-", "address   "]);
    run.says(&local, "send", &["start", "pyelli", "--set", "a=b"], 2, &["create alone"]);
    run.says(&local, "send", &["create", "walrs"], 2, &["did you mean \"walrus\"?"]);
    run.says(&local, "send", &["stop", "walrus"], 2, &["walrus is a template"]);

    // Nobody is there to do it: waiting ends, the command stays.
    let alone = Local::start(&["--no-worker"]);
    for verb in ["pause", "resume"] {
        let words = ["no outcome within 1s", "no worker has taken it yet", "lamplighter outcome"];
        run.says(&alone, verb, &["pyelli", "--wait", "--timeout", "1s"], 1, &words);
    }
    let given_up = run.json(&alone, "send", &["start", "--wait", "--timeout", "1s"], 1);
    assert_eq!(given_up["outcome"], Value::Null);
    ran.covers(ASKING);
}

/// What the answers mean is in `idle` and `services`.
#[test]
fn probing_things() {
    let mut ran = Ran::default();
    let idle = "[targets.pyelli.idle]\nafter = \"15m\"\n\
                command = { script = \"exit 0\", reads = \"exit-code\" }\n[local]";
    let local = Local::with_fleet(&FLEET.replace("[local]", idle), &[]);
    let fleet = local.fleet().to_str().expect("a plain path").to_owned();
    let run = &mut ran;
    run.says(&local, "probe", &["pyelli", "--fleet", &fleet], 0, &["pyelli", "--host asks it"]);
    local.run(&["send", "start", "pyelli", "--wait"]).is(0);
    let flags = ["pyelli", "--host", "--idle-threshold-minutes", "20", "--lookback-minutes", "5"];
    let probed = eventually("its agent answers", || {
        let probed = run.json(&local, "probe", &flags, 0);
        (probed["probes"][0]["says"] == "idle").then_some(probed)
    });
    assert_eq!((&probed["verdict"], &probed["after"]), (&json!("not yet"), &json!("20m")));
    run.says(&local, "probe", &["position-keeper"], 2, &["no idle policy"]);
    run.says(&local, "probe", &["pyelli", "--lookback-minutes", "0"], 2, &["0"]);
    let lost = local.folder.path().join("lost.toml");
    let text = FLEET.replace("[local]", idle);
    std::fs::write(&lost, format!("[store]\ntable = \"nowhere\"\n{text}")).expect("a file");
    let lost = lost.to_str().expect("a plain path");
    run.says(&local, "probe", &["pyelli", "--fleet", lost], 1, &["nowhere"]);
    ran.covers(PROBING);
}

#[test]
fn an_instance_id_is_a_target_whose_steps_are_shown_too() {
    // Each step lasts longer than the time between two looks.
    let slow = FLEET.replace("boot = \"500ms\"", "boot = \"2s\"\ncommand = \"2s\"");
    let local = Local::with_fleet(&slow, &[]);
    let by_file = local.run(&["send", "start", "i-01f5d046c86e4f36e", "--wait"]);
    for words in ["sent start of position-keeper", "wait-running", "verify-unit", "done: "] {
        assert!(by_file.is(0).stdout.contains(words), "{words:?} is not in {}", by_file.stdout);
    }
    // Whose machine this is the table knows, once a worker has read the secret.
    let first = local.json(&["send", "status", "render-box", "--wait"]);
    assert_eq!(first["outcome"], "done", "{first}");
    let machine = local.json(&["status", "render-box"])["instance"].clone();
    let machine = machine.as_str().expect("an instance id");
    let by_secret = local.run(&["send", "start", machine, "--wait"]);
    for words in ["sent start of render-box", "wait-running", "verify-unit", "failed (unit-failed)"]
    {
        assert!(by_secret.is(1).stdout.contains(words), "{words:?} is not in {}", by_secret.stdout);
    }
}

/// A `watch` whose lines can be read as they come.
struct Watch {
    process: Process,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Watch {
    fn start(local: &Local, arguments: &[&str]) -> Self {
        let mut command = local.command();
        command.arg("watch").args(arguments).stdout(Stdio::piped());
        let mut process = Process::spawn(command, &local.folder.path().join("watch.log"));
        let stdout = process.child.stdout.take().expect("a piped stdout");
        let (said, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = said.send(line);
            }
        });
        Self { process, lines }
    }

    #[track_caller]
    fn line(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut passed = Vec::new();
        loop {
            let next = self.lines.recv_timeout(std::time::Duration::from_secs(60));
            let line = next.unwrap_or_else(|_| panic!("never {what}, only {passed:#?}"));
            if wanted(&line) {
                return line;
            }
            passed.push(line);
        }
    }

    fn end(mut self, ran: &mut Ran, arguments: &[&str]) {
        self.process.signal("-INT");
        assert_eq!(self.process.wait(), 0, "{}", self.process.log());
        ran.note("watch", arguments, 0);
    }
}

#[test]
fn looking_at_things() {
    let mut ran = Ran::default();
    let local = Local::start(&[]);
    let fleet = local.fleet().to_str().expect("a plain path").to_owned();
    let run = &mut ran;

    // Before anybody has looked.
    let all = Watch::start(&local, &["--fleet", &fleet]);
    let line = all.line("an unseen target", |line| line.contains("  pyelli  "));
    assert!(line.contains("held by nobody: nobody has looked at it yet"), "{line}");
    run.says(&local, "why", &["pyelli"], 0, &["nobody has looked at it yet"]);
    assert_eq!(run.json(&local, "why", &["pyelli"], 0)["why"], "nobody has looked at it yet");
    run.says(&local, "history", &["pyelli"], 0, &["nobody has looked at it yet"]);
    assert_eq!(run.json(&local, "history", &["pyelli"], 0), json!([]));
    run.says(&local, "status", &["pyelli", "--fleet", &fleet], 0, &["hold       none", "never"]);

    let one = Watch::start(&local, &["pyelli", "--json"]);
    local.run(&["send", "start", "pyelli", "--holder", "ann", "--wait"]).is(0);
    let line = all.line("held by ann", |line| line.contains("held by ann"));
    assert!(line.contains("  pyelli  "), "{line}");
    all.end(run, &["--fleet"]);
    let line = one.line("on", |line| line.contains("\"phase\":\"on\""));
    let view: Value = serde_json::from_str(&line).expect("each line is a value");
    assert_eq!((&view["target"], &view["holds"][0]["holder"]), (&json!("pyelli"), &json!("ann")));
    local.run(&["send", "stop", "pyelli", "--holder", "ann", "--wait"]).is(0);
    one.line("off", |line| line.contains("\"phase\":\"off\""));
    one.end(run, &["pyelli", "--json"]);
    run.says(&local, "watch", &["pyeli"], 2, &["did you mean \"pyelli\"?"]);

    run.says(&local, "why", &["pyelli", "--fleet", &fleet], 0, &["pyelli is off"]);
    let why = run.json(&local, "why", &["pyelli"], 0);
    assert_eq!((&why["target"], &why["phase"]), (&json!("pyelli"), &json!("off")));
    run.says(&local, "why", &["nobody"], 2, &["nobody", "position-keeper"]);
    let words = ["TIME", "REV", "WHAT", "StartInstances", "StopInstances"];
    run.says(&local, "history", &["pyelli", "--fleet", &fleet], 0, &words);
    let history = run.json(&local, "history", &["pyelli"], 0);
    let revs: Vec<u64> = history
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| entry["rev"].as_u64().expect("a version"))
        .collect();
    assert!(revs.len() > 3 && revs.is_sorted(), "{revs:?}");
    run.says(&local, "history", &[], 2, &["<TARGET>"]);

    run.says(&local, "status", &[], 0, &["TARGET", "HELD BY", "position-keeper", "render-box"]);
    let statuses = run.json(&local, "status", &[], 0);
    assert_eq!(statuses.as_array().map(Vec::len), Some(3), "{statuses}");
    local.control("POST", "machines/i-0abc123def456/start", "");
    run.says(&local, "status", &["pyelli", "--live"], 0, &["now        "]);
    run.says(&local, "status", &["--live"], 0, &["pyelli now: ", "position-keeper now: stopped"]);
    let live = run.json(&local, "status", &["pyelli", "--live"], 0)["live"].clone();
    assert!(live["instance"].is_object(), "{live}");
    run.says(&local, "status", &["pyeli"], 2, &["did you mean \"pyelli\"?"]);
    run.says(&local, "status", &["--all"], 0, &["position-keeper", "render-box"]);
    run.says(&local, "status", &["pyelli", "--all"], 2, &["--all", "template"]);
    run.says(&local, "status", &["i-0abc123def456"], 0, &["target     pyelli"]);
    run.says(&local, "why", &["i-0abc123def456"], 0, &["pyelli is "]);
    run.says(&local, "why", &["i-0abc123def999"], 1, &["belongs to no target"]);

    // A table that is not there.
    let other = local.folder.path().join("other.toml");
    std::fs::write(&other, format!("[store]\ntable = \"other\"\n{FLEET}")).expect("a file");
    let other = other.to_str().expect("a plain path");
    for verb in ["status", "why", "history", "watch"] {
        run.says(&local, verb, &["pyelli", "--fleet", other], 1, &["other", "lamplighter setup"]);
    }
    ran.covers(LOOKING);
}

/// What else can leak is in `machines`.
#[test]
fn leaking_things() {
    let mut ran = Ran::default();
    let local = Local::start(&["--no-worker"]);
    let fleet = local.fleet().to_str().expect("a plain path").to_owned();
    let run = &mut ran;
    run.says(&local, "leaks", &["--fleet", &fleet], 0, &["no leaks"]);
    let machine = "i-0abc123def456";
    tag(&local, machine, &[("lamplighter:owner", "lamplighter-commands")]);
    let found = run.json(&local, "leaks", &[], 1);
    let leak = |key: &str| found[0][key].clone();
    assert_eq!((leak("leak"), leak("instance")), (json!("stray"), json!(machine)), "{found}");
    run.says(&local, "leaks", &["--fix"], 1, &["DONE", "stray", machine, "left alone"]);
    let other = ["--fix", "--terminate", "i-01f5d046c86e4f36e"];
    run.says(&local, "leaks", &other, 1, &["not in the list", "Nothing was done"]);
    run.says(&local, "leaks", &["--terminate", machine], 2, &["--fix"]);
    assert_eq!(local.machine(machine)["state"], "stopped");
    let done = run.json(&local, "leaks", &["--fix", "--terminate", machine], 0);
    assert_eq!(done[0]["fixed"], json!(true), "{done}");
    eventually("it is no more", || (local.machine(machine)["state"] == "terminated").then_some(()));
    ran.covers(LEAKING);
}

#[test]
fn looking_at_dead_letters() {
    let mut ran = Ran::default();
    let local = Local::start(&[]);
    let fleet = local.fleet().to_str().expect("a plain path").to_owned();
    let run = &mut ran;
    run.says(&local, "dlq list", &[], 0, &["no dead letters"]);
    assert_eq!(run.json(&local, "dlq list", &[], 0), json!([]));
    send_raw(
        &local,
        &[
            r#"{"action":"start","target":"nobody","id":"lost"}"#,
            r#"{"action":"start","target":"pyelli","foor":"2h"}"#,
            r#"{"action": start}"#,
        ],
    );
    let list = eventually("all are parked", || {
        let list = local.json(&["dlq", "list"]);
        (list.as_array().map(Vec::len) == Some(3)).then_some(list)
    });
    let words = [
        "MESSAGE",
        "COMMAND",
        "SENT",
        "REASON",
        "lost",
        "unknown-target: unknown target \"nobody\"",
        "unknown-field: unknown field \"foor\" in a command (did you mean \"for\"?)",
        "not-json: the body is not a JSON object: expected value at line 1 column 12\n",
    ];
    run.says(&local, "dlq list", &["--fleet", &fleet], 0, &words);
    run.says(&local, "dlq list", &["--limit", "1"], 0, &["1 are shown, and there are more"]);
    run.says(&local, "dlq list", &["--limit", "some"], 2, &["some"]);
    let of = |reason: &str| {
        let letters = list.as_array().expect("a list");
        letters.iter().find(|letter| letter["reason"] == reason).cloned().expect("a letter")
    };
    assert_eq!(of("unknown-target")["id"], "lost");
    for field in ["message_id", "id", "reason", "message", "sent_at", "bytes"] {
        assert!(!of("not-json")[field].is_null(), "no {field} in {list}");
    }

    let foor = of("unknown-field")["message_id"].as_str().expect("an id").to_owned();
    run.says(&local, "dlq show", &[&foor], 0, &["reason     unknown-field", "\"foor\":\"2h\""]);
    // In sight again at once, and by the command's id too.
    let shown = run.json(&local, "dlq show", &["lost", "--fleet", &fleet], 0);
    assert_eq!(shown["body"], r#"{"action":"start","target":"nobody","id":"lost"}"#);
    assert_eq!(shown["attributes"]["reason"], "unknown-target");
    run.says(&local, "dlq show", &["found"], 1, &["no dead letter has the id \"found\""]);
    run.says(&local, "dlq show", &[], 2, &["<ID>"]);

    let fast = ["--rate", "100"];
    let some = [&["--reason", "not-json"], &fast[..]].concat();
    run.says(&local, "dlq replay", &some, 0, &["replayed 1"]);
    run.says(&local, "dlq replay", &["--id", &foor, "--fleet", &fleet], 0, &["replayed 1"]);
    run.says(&local, "dlq replay", &["--id", "found"], 1, &["replayed 0"]);
    eventually("both are parked again", || {
        (local.json(&["dlq", "list"]).as_array().map(Vec::len) == Some(3)).then_some(())
    });
    let all = run.json(&local, "dlq replay", &["--all", "--rate", "1000"], 0);
    // What is parked again while it replays is kept, and not replayed for ever.
    assert_eq!(all["replayed"], 3, "{all}");
    assert!(all["kept"].as_u64() <= Some(3), "{all}");
    run.says(&local, "dlq replay", &[], 2, &["--all", "--id", "--reason"]);
    run.says(&local, "dlq replay", &["--all", "--id", "x"], 2, &["cannot be used"]);
    run.says(&local, "dlq replay", &["--all", "--rate", "0"], 2, &["1..=1000"]);

    let other = local.folder.path().join("other.toml");
    std::fs::write(&other, format!("[queue]\ndead_letters = \"other\"\n{FLEET}")).expect("a file");
    let other = other.to_str().expect("a plain path");
    let words = ["other", "lamplighter setup"];
    run.says(&local, "dlq list", &["--fleet", other], 1, &words);
    run.says(&local, "dlq show", &["lost", "--fleet", other], 1, &words);
    run.says(&local, "dlq replay", &["--all", "--fleet", other], 1, &words);
    ran.covers(DEAD_LETTERS);
}

/// `--rate` holds the replay back: the least that it can take is counted, not the most.
#[test]
fn a_rate_is_kept() {
    let local = Local::start(&["--no-worker"]);
    let mut parked = local.worker("worker", &[]);
    send_raw(&local, &["one", "two", "three", "four"]);
    eventually("all are parked", || {
        (local.json(&["dlq", "list"]).as_array().map(Vec::len) == Some(4)).then_some(())
    });
    parked.signal("-TERM");
    assert_eq!(parked.wait(), 0, "{}", parked.log());
    let started = std::time::Instant::now();
    let replayed = local.json(&["dlq", "replay", "--all", "--rate", "2"]);
    assert_eq!(replayed["replayed"], 4);
    assert!(
        started.elapsed() >= std::time::Duration::from_millis(1_500),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn serving_things() {
    let mut ran = Ran::default();
    let folder = tempfile::tempdir().expect("a directory");
    let policy = folder.path().join("policy.json");
    let document = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["sqs:*", "dynamodb:*", "events:*", "ssm:*"], "Resource": "*"},
        {"Effect": "Allow", "Action": "ec2:DescribeInstances", "Resource": "*"}
    ]});
    std::fs::write(&policy, document.to_string()).expect("a file");
    let (policy, data) = (policy.to_str().expect("a path"), folder.path().join("data"));
    let data = data.to_str().expect("a path");
    let world = [
        "--no-worker",
        "--data",
        data,
        "--policy",
        policy,
        "--fault",
        "kind=throttle,service=dynamodb,operation=GetItem,count=1",
        "--fault",
        r#"{"kind":"before","service":"events","operation":"TestEventPattern"}"#,
        "--latency",
        "7",
    ];
    let mut local = Local::start(&world);
    ran.note("local", &world, 0);
    ran.note("local", &["--aws-port", "--http-port", "--fleet"], 0);
    // Each did what it says: the policy, the fault, the latency, the directory.
    let denied = local.run(&["check", "--aws"]);
    for word in ["ec2:StartInstances", "not authorized"] {
        assert!(denied.is(1).stdout.contains(word), "{word:?} is not in {}", denied.stdout);
    }
    local.run(&["status", "pyelli"]).is(0);
    let calls = local.control("GET", "calls?since=0", "")["calls"].clone();
    let calls = calls.as_array().expect("a call log");
    let throttled = |call: &&Value| {
        call["outcome"].as_str().is_some_and(|it| it.starts_with("ProvisionedThroughput"))
    };
    assert_eq!(calls.iter().filter(throttled).count(), 1, "{calls:?}");
    assert!(calls.iter().all(|call| call["took_ms"].as_u64() >= Some(7)), "{calls:?}");
    let faults = local.control("GET", "faults", "")["faults"].clone();
    assert_eq!(faults[1]["operation"], "TestEventPattern", "{faults}");
    assert!(std::fs::read_dir(data).expect("it was made").count() > 0);

    // The port is taken.
    let port = local.endpoint.rsplit(':').next().expect("a port").trim_matches('/').to_owned();
    let mut second = local.command();
    let words = ["local", "--http-port", "0", "--aws-port", &port];
    Answer::of(second.args(words)).complains(1, &["port", &port, "taken"]);
    ran.note("local", &words, 1);
    let mut bad = local.command();
    Answer::of(bad.args(["local", "--fault", "kind=sometimes"])).complains(2, &["sometimes"]);
    ran.note("local", &["--fault"], 2);

    // run: decides and does nothing; ends at a signal; says what it works on.
    let fleet = local.fleet().to_str().expect("a path").to_owned();
    local.control("DELETE", "policy", "");
    let alive = folder.path().join("alive");
    let alive = alive.to_str().expect("a path");
    let arguments = [
        "--dry-run",
        "--workers",
        "2",
        "--json",
        "--fleet",
        &fleet,
        "--unknown-wait",
        "1m",
        "--liveness-file",
        alive,
    ];
    let mut worker = local.worker("dry", &arguments);
    local.run(&["send", "start", "pyelli", "--holder", "ann"]).is(0);
    eventually("it says what it would do", || {
        worker.log().contains("StartInstances").then_some(())
    });
    worker.signal("-TERM");
    assert_eq!(worker.wait(), 0, "{}", worker.log());
    assert!(worker.log().contains("\"slots\":2"), "{}", worker.log());
    assert_eq!(local.machine("i-0abc123def456")["state"], "stopped");
    ran.note("run", &arguments, 0);
    ran.run(&local, "health", &["--json", "--liveness-file", alive, "--max-age", "1h"], 0);
    let absent = folder.path().join("absent");
    let absent = absent.to_str().expect("a path");
    ran.run(&local, "health", &["--fleet", &fleet, "--liveness-file", absent], 1);
    ran.run(&local, "health", &[], 2);
    ran.run(&local, "run", &["--workers", "0"], 2);
    ran.run_as(lamplighter().current_dir(folder.path()), "run", &[], 2);
    local.process.signal("-TERM");
    assert_eq!(local.process.wait(), 0, "{}", local.process.log());

    // local with the worker inside, and its one line of JSON.
    let mut command = lamplighter();
    let arguments = [
        "--aws-port",
        "0",
        "--http-port",
        "0",
        "--json",
        "--dry-run",
        "--workers",
        "2",
        "--unknown-wait",
        "off",
        "--liveness-file",
        alive,
        "--fleet",
        &fleet,
    ];
    command.arg("local").args(arguments).stdout(Stdio::piped());
    let mut process = Process::spawn(command, &folder.path().join("json.log"));
    let mut line = String::new();
    let stdout = process.child.stdout.take().expect("a piped stdout");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let ready: Value = serde_json::from_str(&line).expect("it is JSON");
    assert_eq!((&ready["ready"], &ready["worker"]), (&json!(true), &json!(true)), "{ready}");
    assert_eq!(ready["fleet"], fleet.as_str());
    let endpoint = ready["endpoint"].as_str().expect("an endpoint");
    assert_eq!(http(endpoint, "GET", "/_lamplighter/health", "").0, 200);
    process.signal("-INT");
    assert_eq!(process.wait(), 0, "{}", process.log());
    ran.note("local", &arguments, 0);
    ran.covers(SERVING);
}

#[test]
fn setting_up_and_checking() {
    let mut ran = Ran::default();
    let local = Local::start(&["--no-worker"]);
    let run = &mut ran;
    let names = "[queue]\ncommands = \"other\"\ndead_letters = \"other-dead\"\n[store]\n\
                 table = \"other\"\n[events]\nbus = \"other-bus\"\n";
    let other = local.folder.path().join("other.toml");
    std::fs::write(&other, format!("{names}{FLEET}")).expect("a file");
    let other = other.to_str().expect("a plain path");
    let made = [
        "command queue other",
        "dead-letter queue other-dead",
        "table other",
        "event bus other-bus",
    ];

    run.says(&local, "setup", &["--dry-run", "--fleet", other], 0, &made);
    let planned = run.json(&local, "setup", &["--dry-run", "--fleet", other], 0);
    let changes = |steps: &Value| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let steps = steps.as_array().cloned().expect("a list of steps");
        steps.iter().map(|step| (text(&step["what"]), text(&step["change"]))).collect()
    };
    for what in made {
        assert!(changes(&planned).contains(&(what.to_owned(), "created".to_owned())), "{planned}");
    }
    run.says(&local, "status", &["--fleet", other], 1, &["lamplighter setup"]);
    let words: Vec<String> = made.iter().map(|what| format!("created    {what}")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    run.says(&local, "setup", &["--fleet", other], 0, &words);
    let again = run.json(&local, "setup", &["--fleet", other], 0);
    assert!(changes(&again).iter().all(|(_, change)| change == "exists"), "{again}");
    assert_eq!(changes(&again).len(), changes(&planned).len());
    run.says(&local, "setup", &["--dry-runn"], 2, &["--dry-run"]);
    local.control("PUT", "policy?access_key=nobody", r#"{"Version":"2012-10-17","Statement":[]}"#);
    let mut nobody = local.command();
    nobody.env("AWS_ACCESS_KEY_ID", "nobody");
    let refused = run.run_as(&mut nobody, "setup", &["--fleet", other], 1);
    refused.complains(1, &["sqs:GetQueueUrl", "not authorized", "lamplighter check --aws"]);

    // check: the file alone; what it names; what is wrong with that.
    let words = ["ok     fleet:", "3 targets", "warn   pyelli:", "max_hold"];
    run.says(&local, "check", &[other], 0, &words);
    run.says(&local, "check", &["--aws", "--fleet", other], 0, &["queue other", "table other"]);
    let findings = run.json(&local, "check", &["--aws"], 0);
    let has = |about: &str, level: &str, what: &str| {
        findings.as_array().expect("a list").iter().any(|finding| {
            finding["about"] == about
                && finding["level"] == level
                && finding["what"].as_str().is_some_and(|it| it.contains(what))
        })
    };
    assert!(has("aws", "ok", "command queue lamplighter-commands"), "{findings}");
    assert!(has("pyelli", "ok", "may call ec2:StartInstances"), "{findings}");
    assert!(has("render-box", "ok", "secret render"), "{findings}");
    let ghost = local.folder.path().join("ghost.toml");
    let ghosts = FLEET.replace("i-0abc123def456", "i-0fffffffffffffff0");
    std::fs::write(&ghost, ghosts).expect("a file");
    let ghost = ghost.to_str().expect("a plain path");
    run.says(&local, "check", &[ghost, "--aws"], 1, &["error  pyelli:", "i-0fffffffffffffff0"]);
    run.says(&local, "check", &["/nowhere.toml"], 2, &["/nowhere.toml"]);

    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = run.run_as(&mut lamplighter(), "completions", &[shell], 0).stdout;
        for word in ["lamplighter", "replay", "aws-port"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
    }
    run.run_as(&mut lamplighter(), "completions", &["tcsh"], 2);
    ran.covers(SETTING_UP);
}

/// What they do is in `schedules`.
#[test]
fn scheduling_things() {
    let mut ran = Ran::default();
    let local = Local::start(&["--no-worker"]);
    let run = &mut ran;
    let file = |name: &str, more: &str| {
        let path = local.folder.path().join(name);
        std::fs::write(&path, format!("{more}{FLEET}")).expect("a file");
        path.to_str().expect("a plain path").to_owned()
    };
    let nightly = "[schedules.nightly]\nexpression = \"cron(0 23 * * ? *)\"\n\
                   command = { action = \"kill\", target = \"pyelli\" }\n";
    let fleet = file("nightly.toml", nightly);
    let lost = file("lost.toml", &format!("[queue]\ncommands = \"nowhere\"\n{nightly}"));
    let wrong = file("wrong.toml", &nightly.replace("0 23", "0 25"));
    for verb in ["schedule plan", "schedule apply"] {
        let words = ["nowhere does not exist", "lamplighter setup"];
        run.says(&local, verb, &["--fleet", &lost], 1, &words);
        run.says(&local, verb, &["--fleet", &wrong], 2, &["wrong.toml:2:14", "hours \"25\""]);
        let report = run.json(&local, verb, &["--fleet", &fleet], 0);
        assert_eq!(report["schedules"][0]["change"], "add", "{report}");
    }
    for verb in ["schedule disable", "schedule enable"] {
        run.says(&local, verb, &["--fleet", &lost, "nightly"], 1, &["nowhere does not exist"]);
        run.says(&local, verb, &["--fleet", &fleet, "nightli"], 2, &["did you mean"]);
        let done = run.json(&local, verb, &["--fleet", &fleet, "nightly"], 0);
        assert_eq!((&done["name"], &done["changed"]), (&"nightly".into(), &true.into()));
    }
    let arguments = ["--fleet", &fleet, "--count", "2", "--name", "nightly"];
    let next = run.json(&local, "schedule next", &arguments, 0);
    assert_eq!(next["firings"].as_array().map(Vec::len), Some(2), "{next}");
    run.says(&local, "schedule next", &["--count", "0"], 2, &["--count"]);
    ran.covers(SCHEDULING);
}
