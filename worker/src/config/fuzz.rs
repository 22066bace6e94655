//! Whatever a fleet file says: for a bounded time, files made from noise, from the words of the format, and
//! from good fleets that were broken in their text or in their structure, up to the longest file that is read.
//!
//! Each input has a seed of its own, counted up from `LAMPLIGHTER_FUZZ_SEED`; a failure names it, and a run
//! that begins there fails at once. `LAMPLIGHTER_FUZZ_SECONDS` says for how long. What is taken is written
//! anew in another spelling and must mean the same.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use lamplighter_events::{Action, Command, CommandId, TargetRef};
use toml::de::{DeTable, DeValue};

use super::{Config, ConfigError, EXAMPLE_TEXT, FILE_BYTES_MAX, environment, parse};

const SEED: u64 = 20_261_120;
const SECONDS: u64 = 8;
/// However slow the machine, so many inputs at least.
const INPUTS_MIN: u64 = 2_000;
/// A refusal is read by a person in a terminal: some lines of it at most.
const REFUSAL_CHARS_MAX: usize = 1_000;
/// No refusal may repeat so much of a file: a path has a few names, each cut after 60 characters.
const REPEATED_CHARS: usize = 200;
/// Megabytes take a second or two here. Only what grows with the square comes near this.
const LONGEST: Duration = Duration::from_secs(60);
const FILE: &str = "fleet.toml";

/// What the README shows, what the design shows beside it, and what the example leaves out.
const README: &str = include_str!("../../../README.md");
const MORE: &str = r#"
[targets.fluidity]
kind = "ec2-instance"
instance_id = "i-0123456789abcdef0"
health_timeout = "3m"
ready_timeout = "1h30m"
stop_timeout = "500ms"
start_timeout = "90s"
unit_check_every = "off"
keep_failed = true
[targets.fluidity.idle]
after = "15m"
grace = "5m"
unreachable_after = "1h"
when_unreachable = "stop"
http = [{ url = "http://{private_ip}:80/a", pointer = "/a/0", reads = "idle-seconds", ignore_own = false }, { url = "http://x/b", pointer = "", reads = "count" }]
cpu = { idle_when = "< 5", period = "5m" }
command = { script = "who | wc -l", idle_when = "== 0", timeout = "20s" }
[targets.server]
kind = "ecs-service"
cluster = "arn:aws:ecs:eu-central-1:123456789012:cluster/fluidity-prod"
service = "fluidity-server-prod"
desired = 2
healthy = true
settle = "0s"
[targets.server.idle]
after = "15m"
metrics = [{ namespace = "Fluidity", name = "ActiveConnections", statistic = "Average", idle_when = "== 0" }, { namespace = "Fluidity", name = "LastActivityEpochSeconds", reads = "epoch", dimensions = { Service = "{service}" }, period = "60s", look_back = "10m" }]
[targets.server.hours]
weekly = "Mon-Fri 08:00-18:00, Sat 10:00-14:00"
zone = "Europe/Berlin"
except = ["2026-12-25", 2026-12-26]
[targets.later]
kind = "ecs-tenant"
template = "lt-0123456789"
[templates.walrus]
kind = "ec2-template"
launch_template = "lt-0123456789abcdef0"
version = 3
limit = 3
subnets = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
instance_types = ["t3.medium", "u-6tb1.metal"]
market = "spot-then-on-demand"
tags = { Team = "ml" }
wait_for = "running"
max_lifetime = "12h"
bootstrap = { name = "walrus", timeout = "10m" }
fixed = { aggregator = "https://a.example" }
dedupe = "blob_id"
price_per_hour = 0.0416
keep_failed = "2h"
retention = "7d"
settle = "0s"
[templates.walrus.parameters]
blob_id = { default = "abc" }
[templates.own]
kind = "ec2-template"
launch_template = "gpu/one"
name_prefix = "own"
bootstrap = { document = "Prepare-Host", timeout = "1m" }
one_of = ["image", "model"]
health = "http://{public_ip}:80/"
idle = { after = "15m", cpu = "< 5" }
[templates.own.parameters]
image = { pattern = "[a-z]{1,8}" }
model = { pattern = "(?i)[a-z0-9'_-]+" }
size = { pattern = "small|large", required = true }
[templates.own.fixed]
region_of_data = "eu"
[schedules.idle-check]
expression = "rate(5 minutes)"
command = { action = "check-idle" }
[schedules.nightly]
expression = "cron(0 23 * * ? *)"
command = { action = "kill", target = "fluidity", reason = "it is late", for = "1h" }
enabled = false
[schedules.fresh]
expression = "rate(1 day)"
command = { action = "create", template = "own", image = "debian", size = "small" }
[schedules.morning]
expression = "cron(0/15 8-9 ? * MON-FRI *)"
zone = "Europe/Berlin"
command = { action = "start", target = "fluidity" }
[scheduler]
role = "arn:aws:iam::123456789012:role/sender"
group = "office"
[local]
describe_lag = "1s"
command = "200ms"
[local.machines.fluidity]
state = "running"
boot = "5s"
no_capacity = true
bounce = "5s"
agent_never = true
[local.machines.fluidity.units.app]
dies_after = "20s"
enabled = false
[local.services.server]
running = 1
start = "1s"
no_image = true
exit_code = 3
scaling = { min = 1, max = 2 }
[local.launch_templates.lt-0123456789]
name = "later"
instance_type = "g5.xlarge"
public_ip = false
profile = true
bootstrap = "3s"
bootstrap_exit = 1
bootstrap_output = "no disk"
no_capacity = ["subnet-0123", "t3.large", "spot"]
[local.launch_templates.lt-0123456789.units.app]
active_after = "1s"
"#;

const WORDS: &[&str] = &[
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    " = ",
    ".",
    ",",
    "\n",
    "\r\n",
    "\r",
    "\t",
    "#",
    "\"",
    "'",
    "\"\"\"",
    "'''",
    "\\",
    "\\u0000",
    "\\U0010ffff",
    "\\ud800",
    "\u{0}",
    "\u{7f}",
    "\u{1b}[2J",
    "\u{feff}",
    "\u{2028}",
    "\u{85}",
    "é",
    "\u{1f600}",
    "true",
    "false",
    "0",
    "-1",
    "+99",
    "1_0",
    "0x1F",
    "0o7",
    "0b1",
    "1e999",
    "inf",
    "-nan",
    "9223372036854775808",
    "1979-05-27T07:32:00Z",
    "1979-05-27",
    "07:32:00.999999999999",
    "targets",
    "targets.a",
    "queue",
    "commands",
    "dead_letters",
    "store",
    "table",
    "events",
    "bus",
    "defaults",
    "target",
    "schedules",
    "expression",
    "rate(5 minutes)",
    "cron(0 23 * * ? *)",
    "cron(0 0 LW,15W 2/3 ? 2027)",
    "at(2027-01-01T00:00:00)",
    "zone",
    "Europe/Berlin",
    "enabled",
    "scheduler",
    "role",
    "group",
    "command",
    "action",
    "local",
    "machines",
    "units",
    "boot",
    "after_boot",
    "failed",
    "kind",
    "\"ec2-instance\"",
    "ecs-service",
    "instance_id",
    "\"i-0123456789\"",
    "secret",
    "key",
    "systemd_unit",
    "health",
    "http://{private_ip}/",
    "exclusive",
    "settle",
    "\"2h\"",
    "\"off\"",
    "max_hold",
    "idle",
    "after",
    "keep_alive",
    "http",
    "metrics",
    "reads",
    "\"epoch\"",
    "idle_when",
    "\"== 0\"",
    "cpu",
    "hours",
    "weekly",
    "\"Mon-Fri 08:00-18:00\"",
    "zone",
    "\"UTC\"",
    "cluster",
    "service",
    "services",
    "pyelli",
    "position-keeper",
    "templates",
    "templates.a",
    "\"ec2-template\"",
    "launch_template",
    "\"lt-0123456789abcdef0\"",
    "version",
    "$Latest",
    "limit",
    "subnets",
    "\"subnet-0123456789abcdef0\"",
    "instance_types",
    "\"t3.medium\"",
    "market",
    "spot",
    "tags",
    "aws:",
    "bootstrap",
    "\"walrus\"",
    "script",
    "document",
    "parameters",
    "fixed",
    "pattern",
    "\"[a-z]+\"",
    "(?x",
    "\\p{L}",
    "[^",
    "{1,1000}",
    "(",
    ")",
    "|",
    "*",
    "required",
    "default",
    "one_of",
    "dedupe",
    "blob_id",
    "keep_failed",
    "retention",
    "price_per_hour",
    "max_lifetime",
    "create",
    "template",
    "walrus",
    "a.0123456789abcdef",
];

/// SplitMix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
    /// Below `many`, which is not 0.
    fn below(&mut self, many: usize) -> usize {
        usize::try_from(self.roll() % many as u64).unwrap()
    }
    fn pick<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.below(of.len())]
    }
    fn words(&mut self, most: usize) -> String {
        (0..=self.below(most)).map(|_| self.pick(WORDS)).collect()
    }
}

/// Fleets that are taken, and one with a kind that is not in this release.
fn fleets() -> Vec<String> {
    let blocks = README.split("```toml").skip(1);
    let mut fleets: Vec<String> =
        blocks.map(|rest| rest.split("```").next().unwrap().to_owned()).collect();
    assert!(!fleets.is_empty(), "the README shows no fleet file");
    let (_, rest) = MORE.split_once("[targets.later]").unwrap();
    let (later, _) = rest.split_once("[templates.").unwrap();
    fleets.push(MORE.replace(&format!("[targets.later]{later}"), ""));
    fleets.push(EXAMPLE_TEXT.to_owned());
    for fleet in &fleets {
        let refused = parse(FILE, fleet).err();
        assert!(refused.is_none(), "{refused:?} for\n{fleet}");
    }
    fleets.push(MORE.to_owned());
    fleets
}

/// Some characters are changed, lost or doubled, or a stretch comes from another fleet.
fn broken(dice: &mut Dice, fleets: &[String]) -> String {
    let mut text: Vec<char> = fleets[dice.below(fleets.len())].chars().collect();
    for _ in 0..=dice.below(2) {
        let from = dice.below(text.len().max(1)).min(text.len());
        let to = (from + dice.below(10)).min(text.len());
        match dice.below(6) {
            0 => text.truncate(from),
            1 => drop(text.drain(from..to)),
            2 => drop(text.splice(from..to, dice.pick(WORDS).chars())),
            3 => text.extend_from_within(from..to),
            4 => drop(text.splice(from..to, char::from_u32(dice.below(0xd800) as u32))),
            _ => {
                let other: Vec<char> = fleets[dice.below(fleets.len())].chars().collect();
                let cut = dice.below(other.len());
                text.splice(from.., other[cut..].iter().copied());
            }
        }
    }
    text.into_iter().collect()
}

/// Whole lines are lost, doubled, moved, or get another value.
fn shuffled(dice: &mut Dice, fleets: &[String]) -> String {
    let mut lines: Vec<String> =
        fleets[dice.below(fleets.len())].lines().map(str::to_owned).collect();
    for _ in 0..dice.below(3) {
        let at = dice.below(lines.len());
        let other = dice.below(lines.len());
        match dice.below(6) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[other].clone()),
            2 => lines.swap(at, other),
            3 => lines.insert(at, format!("{} = {}", dice.words(2), value(dice))),
            4 => {
                let long = dice.pick(WORDS).repeat(dice.below(400));
                lines[at] = format!("{} = {}", key_of(&lines[at]), quoted(&long));
            }
            _ => lines[at] = format!("{} = {}", key_of(&lines[at]), value(dice)),
        }
        if lines.is_empty() {
            break;
        }
    }
    lines.join("\n")
}

fn key_of(line: &str) -> String {
    line.split('=').next().unwrap_or_default().trim().to_owned()
}

fn value(dice: &mut Dice) -> String {
    match dice.below(6) {
        0 => dice.pick(WORDS).to_owned(),
        1 => format!("[{}]", quoted(dice.pick(WORDS))),
        2 => format!("{{ {} = {} }}", quoted(dice.pick(WORDS)), quoted(dice.pick(WORDS))),
        _ => quoted(&dice.words(2)),
    }
}

/// Megabytes, each shape one that might take long, go deep, or be told whole.
fn large(dice: &mut Dice) -> String {
    let bytes = [64 << 10, 512 << 10, usize::try_from(FILE_BYTES_MAX).unwrap()][dice.below(3)];
    let filled = |part: &str| part.repeat(bytes / part.len());
    let targets = |many: usize| {
        (0..many).fold(String::new(), |mut text, index| {
            let _ = writeln!(
                text,
                "[targets.t{index}]\nkind = \"ec2-instance\"\ninstance_id = \"i-{index:08x}\""
            );
            text
        })
    };
    match dice.below(14) {
        0 => format!("a = {}", filled("[")),
        1 => format!("a = {}", filled("{a=")),
        2 => format!("{}a = 1", filled("a.")),
        3 => format!("[{}a]", filled("a.")),
        4 => format!("a = \"{}\"", filled("x")),
        5 => format!("[queue]\ncommands = {}", filled("9")),
        6 => format!("[targets.{}]\nkind = \"ec2-instance\"", filled("x")),
        7 => format!("[targets.a]\nkind = {}", quoted(&filled("\u{7}"))),
        8 => targets(bytes / 80),
        9 => format!("[defaults]\ntarget = \"nobody\"\n{}", targets(bytes / 80)),
        10 => format!(
            "{}[schedules.s]\nexpression = \"rate(1 day)\"\ncommand = {{ action = \"stop\", target = \"no\" }}",
            targets(bytes / 80)
        ),
        11 => format!("{}[local.machines.nobody]\n", targets(bytes / 80)),
        12 => format!(
            "[local.machines.a.units.b]\nafter_boot = {}\n[targets.a]\nkind = \"ec2-instance\"\ninstance_id = \"i-01234567\"",
            quoted(&filled("y"))
        ),
        _ => filled(dice.pick(WORDS)),
    }
}

fn input(dice: &mut Dice, fleets: &[String]) -> String {
    match dice.below(500) {
        0 => large(dice),
        1..=10 => {
            let bytes: Vec<u8> =
                (0..dice.below(200)).map(|_| dice.roll().to_be_bytes()[0]).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        11..=60 => dice.words(30),
        61..=200 => broken(dice, fleets),
        _ => shuffled(dice, fleets),
    }
}

fn is_showable(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

fn check_refusal(text: &str, error: &ConfigError) {
    let ConfigError::Refused { file, line, column, message } = error else {
        panic!("{error:?} for a text that was read")
    };
    assert_eq!(file, FILE);
    let lines = text.matches('\n').count() + 1;
    assert!((1..=lines).contains(line), "line {line} of {lines}: {message}");
    let chars = text.split('\n').nth(line - 1).unwrap().chars().count();
    assert!((1..=chars + 1).contains(column), "column {column} of {chars}: {message}");
    let says = ["expected", "did you mean", "this is not TOML: "];
    assert!(says.iter().any(|word| message.contains(word)), "{message}");
    let told: Vec<char> = message.chars().collect();
    assert!(told.len() < REFUSAL_CHARS_MAX, "{} characters: {message:.300}", told.len());
    assert!(is_showable(message), "{message:?}");
    if text.len() < 4_096 {
        for part in told.windows(REPEATED_CHARS) {
            let part: String = part.iter().collect();
            assert!(!text.contains(&part), "it repeats the file: {part:?}");
        }
    }
}

fn check_config(text: &str, config: &Config) {
    for warning in &config.warnings {
        assert!(!warning.is_empty() && is_showable(warning), "{warning:?}");
    }
    let fleet = &config.fleet;
    assert!(fleet.targets.iter().all(|(name, spec)| *name == spec.name));
    for (name, spec) in &fleet.templates {
        let template = spec.template().unwrap();
        assert!(*name == spec.name && *name == template.template);
        assert!(!fleet.targets.contains_key(name) && !template.options().is_empty());
        for (name, parameter) in &template.parameters {
            let fits = parameter.default.as_ref().is_none_or(|value| parameter.pattern.fits(value));
            assert!(fits, "{name}: {parameter:?}");
        }
        let id = CommandId::parse("x").unwrap();
        let made = template.target_of(&id, &BTreeMap::new()).unwrap();
        assert_eq!(fleet.spec(&made).unwrap().template(), Some(template));
    }
    assert!(fleet.default_target.as_ref().is_none_or(|name| fleet.targets.contains_key(name)));
    for command in fleet.rules.values() {
        assert_eq!(&Command::from_json(&command.to_json()).unwrap(), command);
        let target = command.target.as_ref().and_then(TargetRef::name);
        let of_create = command.action == Action::Create;
        let named = if of_create { &fleet.templates } else { &fleet.targets };
        assert!(target.is_none_or(|name| named.contains_key(name) || command.template.is_some()));
    }
    #[cfg(feature = "local")]
    {
        let seeds = config.local.machines(fleet).len() + config.local.services(fleet).len();
        assert_eq!(seeds, fleet.targets.len());
        let templates = config.local.launch_templates(["lt-0abcdef012", "some"]);
        assert!(templates.iter().all(|seed| seed.id.starts_with("lt-")));
    }
    // A fleet of megabytes would take long to be written, and says nothing that a short one would not.
    if text.len() < 64 << 10 {
        let other = respelled(DeTable::parse(text).unwrap().get_ref());
        let again = parse(FILE, &other).unwrap_or_else(|error| panic!("{error} in\n{other}"));
        assert_eq!(format!("{again:?}"), format!("{config:?}"), "{other}");
    }
}

/// The same in another spelling: every name quoted, every table in one line.
fn respelled(table: &DeTable<'_>) -> String {
    let lines = table.iter().map(|(key, value)| {
        format!("{} = {}\n", quoted(key.get_ref()), respelled_value(value.get_ref()))
    });
    lines.collect()
}

fn respelled_value(value: &DeValue<'_>) -> String {
    let joined = |parts: Vec<String>| parts.join(", ");
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => {
            let prefix = match number.radix() {
                16 => "0x",
                8 => "0o",
                2 => "0b",
                _ => "",
            };
            format!("{prefix}{}", number.as_str())
        }
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(at) => at.to_string(),
        DeValue::Array(items) => {
            let items = items.iter().map(|item| respelled_value(item.get_ref()));
            format!("[{}]", joined(items.collect()))
        }
        DeValue::Table(entries) => {
            let entries = entries.iter().map(|(key, value)| {
                format!("{} = {}", quoted(key.get_ref()), respelled_value(value.get_ref()))
            });
            format!("{{ {} }}", joined(entries.collect()))
        }
    }
}

/// Text as TOML takes any text.
fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|char| match char {
        '"' | '\\' => format!("\\{char}"),
        ' '..='~' => char.to_string(),
        _ => format!("\\U{:08x}", u32::from(char)),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

fn check_environment(dice: &mut Dice) {
    let names = [
        "INSTANCE_ID",
        "SECRET_ARN",
        "BACKEND_BASE_URL",
        "IDLE_TIMEOUT_SECONDS",
        "ECS_CLUSTER_NAME",
        "ECS_SERVICE_NAME",
        "IDLE_THRESHOLD_MINUTES",
        "SLEEP_CHECK_INTERVAL_MINUTES",
        "AWS_LAUNCH_TEMPLATE_ID",
    ];
    let good = [
        "i-0123456789",
        "arn:aws:secretsmanager:x",
        "http://10.0.0.1:80",
        "900",
        "c",
        "s",
        "15",
        "5",
        "lt-0123456789abcdef0",
    ];
    let each = names.iter().zip(good).filter_map(|(name, good)| {
        let value = match dice.below(4) {
            0 => return None,
            1 => dice.words(4),
            _ => good.to_owned(),
        };
        Some(((*name).to_owned(), value))
    });
    let variables: BTreeMap<String, String> = each.collect();
    let mut warnings = Vec::new();
    match environment::fleet(&variables, &mut warnings) {
        Ok(fleet) => {
            assert!(fleet.is_none_or(|it| it.targets.len() + it.templates.len() == 1));
        }
        Err(ConfigError::Environment(message)) => {
            assert!(message.contains("expected") && is_showable(&message), "{message:?}");
            assert!(message.chars().count() < REFUSAL_CHARS_MAX, "{message}");
        }
        Err(other) => panic!("{other:?}"),
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn no_fleet_file_panics_hangs_or_is_refused_without_a_place() {
    let first = number("LAMPLIGHTER_FUZZ_SEED", SEED);
    let fleets = fleets();
    let began = Instant::now();
    let end = Duration::from_secs(number("LAMPLIGHTER_FUZZ_SECONDS", SECONDS));
    let (mut inputs, mut taken, mut read, mut longest) = (0, 0, 0, Duration::ZERO);
    while began.elapsed() < end || inputs < INPUTS_MIN {
        let seed = first.wrapping_add(inputs);
        let mut dice = Dice(seed);
        let text = input(&mut dice, &fleets);
        let from = Instant::now();
        let checked = catch_unwind(AssertUnwindSafe(|| {
            check_environment(&mut dice);
            let result = parse(FILE, &text);
            match &result {
                Ok(config) => check_config(&text, config),
                Err(error) => check_refusal(&text, error),
            }
            result
        }));
        let Ok(result) = checked else {
            panic!("LAMPLIGHTER_FUZZ_SEED={seed}:\n{text:.2000}");
        };
        taken += u64::from(result.is_ok());
        read += u64::from(result.is_err_and(|error| !error.to_string().contains("not TOML")));
        longest = longest.max(from.elapsed());
        let took = from.elapsed();
        assert!(took < LONGEST, "LAMPLIGHTER_FUZZ_SEED={seed}: {took:?} for {text:.200}");
        inputs += 1;
    }
    eprintln!(
        "seed {first}: {inputs} inputs in {:?}, the longest {longest:?}; {taken} taken, {read} refused \
         for what they say, the others were no TOML",
        began.elapsed()
    );
    assert!(taken > INPUTS_MIN / 50 && read > INPUTS_MIN / 10, "mostly noise");
}
