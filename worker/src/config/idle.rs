//! `[targets.NAME.idle]`: when a target counts as idle, and whom that is asked of.
//!
//! *Theory.* A policy stops a machine, so nothing in it is guessed: a key that could have no effect is refused,
//! and so is a policy that asks nobody, unless it says so (`keep_alive = true`).
//!
//! *How late a metric is* (`lag`) and what a missing point means (`missing`) are the user's to say: a shorter lag than
//! the metric has takes values that are on their way for idleness, so the default is long.
//!
//! *Metrics without dimensions* judge whoever publishes under that name: one target's traffic keeps another on,
//! or its silence stops it. Where one target does so that is a warning; where two do, it is refused.

use std::collections::BTreeMap;

use lamplighter_events::{HumanDuration, TargetName};
use lamplighter_lifecycle::{
    CommandProbe, CommandReads, Condition, HealthUrl, HttpProbe, HttpReads, IdleSpec,
    METRIC_LAG_SECONDS, MetricProbe, MetricReads, Missing, Place, Probe, Statistic,
};
use toml::de::DeValue;

use super::ConfigError;
use super::reader::{Item, Reader, shown};
use super::values::{Taken, health, seconds};

const KEYS: [&str; 9] = [
    "after",
    "grace",
    "unreachable_after",
    "when_unreachable",
    "keep_alive",
    "http",
    "metrics",
    "cpu",
    "command",
];
const HTTP_KEYS: [&str; 4] = ["url", "pointer", "reads", "ignore_own"];
const METRIC_KEYS: [&str; 10] = [
    "namespace",
    "name",
    "dimensions",
    "statistic",
    "period",
    "look_back",
    "idle_when",
    "reads",
    "lag",
    "missing",
];
const CPU_KEYS: [&str; 4] = ["idle_when", "period", "look_back", "lag"];
/// A metric that comes later than this says nothing of who is there now.
const LAG_SECONDS_MAX: u64 = 3600;
const COMMAND_KEYS: [&str; 4] = ["script", "reads", "idle_when", "timeout"];

/// Each is asked at every tick, and remembered in the record.
const PROBES_MAX: usize = 16;
/// One GetMetricData takes 500 metrics and answers 100,800 values: so many periods of each fit.
const PERIODS_MAX: u64 = 200;
/// CloudWatch's own limits.
const METRIC_NAME_CHARS_MAX: usize = 255;
const DIMENSION_CHARS_MAX: usize = 1024;
const DIMENSIONS_MAX: usize = 30;
const PERIOD_SECONDS_MAX: u64 = 86_400;
/// High-resolution periods, in seconds; all others are whole minutes.
const SHORT_PERIODS: [u64; 4] = [1, 5, 10, 30];
const PERIOD: &str = "1s, 5s, 10s, 30s, or whole minutes up to a day";
/// A JSON pointer of a person's is a few names long.
const POINTER_CHARS_MAX: usize = 256;
/// It goes to the host with every question, and is one small question.
const SCRIPT_CHARS_MAX: usize = 4_096;
/// A command that takes longer than the usual tick's five minutes would be asked again before it answered.
const TIMEOUT_SECONDS_MAX: u64 = 300;
const TIMEOUT_SECONDS: u32 = 30;
/// EC2's basic monitoring writes a value every five minutes, ECS one a minute.
const EC2_CPU_PERIOD_SECONDS: u32 = 300;
const ECS_CPU_PERIOD_SECONDS: u32 = 60;

/// What is being read, and for whom.
struct Policy<'a> {
    /// Where it hangs: `targets.pyelli.idle`.
    path: &'a str,
    target: &'a TargetName,
    place: &'a Place,
    after: HumanDuration,
}

/// Reads the table. `taken` remembers whose metrics have no dimensions.
pub(crate) fn idle(
    item: &Item<'_>,
    target: &TargetName,
    place: &Place,
    taken: &mut Taken,
    warnings: &mut Vec<String>,
) -> Result<IdleSpec, ConfigError> {
    let reader = item.table(&KEYS)?;
    let after = reader
        .need("after", "after = \"15m\"")?
        .parse(HumanDuration::EXPECTED, HumanDuration::parse)?;
    let policy = Policy { path: &item.path, target, place, after };
    let mut probes = Vec::new();
    if let Some(item) = reader.get("http") {
        for item in
            one_or_more(&item, "a table { url = \"…\", pointer = \"…\" }, or a list of them")?
        {
            let probe = http(&item, &policy)?;
            let label = Probe::Http(probe.clone()).label();
            if probes.iter().any(|known: &Probe| known.label() == label) {
                return Err(item.refuse_with(
                    "this address is asked already; expected each address once in a policy",
                ));
            }
            probes.push(Probe::Http(probe));
        }
    }
    if let Some(item) = reader.get("metrics") {
        for item in item.list("a list of tables { namespace = \"…\", name = \"…\", … }")? {
            let metric = metric(&item, &policy)?;
            if metric.dimensions.is_empty() {
                without_dimensions(&item, &metric, &policy, taken, warnings)?;
            }
            probes.push(Probe::Metric(metric));
        }
    }
    if let Some(item) = reader.get("cpu") {
        probes.push(Probe::Metric(cpu(&item, &policy)?));
    }
    if let Some(item) = reader.get("command") {
        probes.push(Probe::Command(command(&item, &policy)?));
    }
    if probes.len() > PROBES_MAX {
        let problem = format!("has {} probes", probes.len());
        return Err(item.refuse(&problem, &format!("at most {PROBES_MAX}")));
    }
    let keep_alive = reader.flag("keep_alive")?;
    if probes.is_empty() && !keep_alive {
        return Err(item.refuse_key(
            "it asks nobody whether the target is idle; expected http, metrics, cpu or command, or \
             keep_alive = true: then it is idle when nobody has sent keep-alive for `after`",
        ));
    }
    let (unreachable_after, stop_unreachable) = unreachable(&reader, &probes)?;
    Ok(IdleSpec {
        after,
        grace: reader.duration("grace")?,
        probes,
        unreachable_after,
        stop_unreachable,
    })
}

fn unreachable(
    reader: &Reader<'_>,
    probes: &[Probe],
) -> Result<(Option<HumanDuration>, bool), ConfigError> {
    let limit = reader.duration("unreachable_after")?;
    let stops = match reader.get("when_unreachable") {
        Some(item) => {
            let stops = item.choice(&[("keep", false), ("stop", true)])?;
            if limit.is_none() {
                return Err(item.refuse_key(
                    "it says what follows unreachable_after, which is missing; expected \
                     unreachable_after = \"1h\" beside it",
                ));
            }
            stops
        }
        None => false,
    };
    let reachable = probes.iter().any(|probe| !matches!(probe, Probe::Metric(_)));
    match reader.get("unreachable_after") {
        Some(item) if !reachable => Err(item.refuse_key(
            "nothing is asked that could be unreachable; expected an http or a command probe beside it",
        )),
        _ => Ok((limit, stops)),
    }
}

/// A table, or a list of tables.
fn one_or_more<'a>(item: &Item<'a>, expected: &str) -> Result<Vec<Item<'a>>, ConfigError> {
    match item.value {
        DeValue::Array(_) => item.list(expected),
        DeValue::Table(_) => Ok(vec![item.clone()]),
        _ => Err(item.wrong_type(expected)),
    }
}

fn http(item: &Item<'_>, policy: &Policy<'_>) -> Result<HttpProbe, ConfigError> {
    let reader = item.table(&HTTP_KEYS)?;
    let url: HealthUrl = health(&reader.need("url", "url = \"http://…\"")?, policy.place)?;
    let pointer = pointer(&reader.need("pointer", "pointer = \"/last_activity\"")?)?;
    let reads = match reader.get("reads") {
        Some(item) => item.choice(&[
            ("epoch", HttpReads::Epoch),
            ("idle-seconds", HttpReads::IdleSeconds),
            ("count", HttpReads::Count),
        ])?,
        None => HttpReads::Epoch,
    };
    let counts = reads == HttpReads::Count;
    let ignore_own = match reader.get("ignore_own") {
        Some(item) if counts && reader.flag("ignore_own")? => {
            return Err(item.refuse_with(
                "a count has no time by which our own request could be told from others'; expected it \
                 only beside reads = \"epoch\" or \"idle-seconds\"",
            ));
        }
        Some(_) => reader.flag("ignore_own")?,
        None => !counts,
    };
    Ok(HttpProbe { url, pointer, reads, ignore_own })
}

/// RFC 6901: empty for the whole answer, else parts that each begin with a slash.
fn pointer(item: &Item<'_>) -> Result<String, ConfigError> {
    let expected = "a JSON pointer such as \"/last_activity\", or \"\" for the whole answer";
    let text = item.string(expected)?;
    let escapes = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    let fits = (text.is_empty() || text.starts_with('/'))
        && escapes
        && text.chars().count() <= POINTER_CHARS_MAX
        && !text.chars().any(char::is_control);
    if fits {
        return Ok(text.to_owned());
    }
    Err(item.refuse(&format!("\"{}\" is not valid", shown(text)), expected))
}

fn condition(item: &Item<'_>) -> Result<Condition, ConfigError> {
    let text = item.string(Condition::EXPECTED)?;
    Condition::parse(text).ok_or_else(|| {
        item.refuse(&format!("\"{}\" is not valid", shown(text)), Condition::EXPECTED)
    })
}

fn metric(item: &Item<'_>, policy: &Policy<'_>) -> Result<MetricProbe, ConfigError> {
    let reader = item.table(&METRIC_KEYS)?;
    let name = |key: &str, expected: &str| -> Result<String, ConfigError> {
        let item = reader.need(key, expected)?;
        Ok(item.name(METRIC_NAME_CHARS_MAX, expected)?.to_owned())
    };
    let namespace = name("namespace", "a CloudWatch namespace, such as \"Fluidity\"")?;
    let name = name("name", "a metric's name, such as \"ActiveConnections\"")?;
    let reads = match (reader.get("idle_when"), reader.get("reads")) {
        (Some(item), None) => MetricReads::IdleWhen(condition(&item)?),
        (None, Some(item)) => item.choice(&[("epoch", MetricReads::Epoch)])?,
        (Some(_), Some(item)) => {
            return Err(item.refuse_key(
                "idle_when and reads are both said; expected one of them: a condition on the value, or \
                 \"epoch\" where it is the time of the last activity",
            ));
        }
        (None, None) => {
            return Err(item.refuse_key(
                "it does not say what the value means; expected idle_when = \"== 0\", or reads = \
                 \"epoch\" where it is the time of the last activity",
            ));
        }
    };
    let statistic = match (reader.get("statistic"), reads) {
        (Some(item), _) => {
            let words: Vec<(&str, Statistic)> =
                Statistic::ALL.into_iter().map(|it| (it.as_str(), it)).collect();
            item.choice(&words)?
        }
        (None, MetricReads::Epoch) => Statistic::Maximum,
        (None, MetricReads::IdleWhen(_)) => Statistic::Average,
    };
    let (period_seconds, look_back) = span(item, &reader, policy, 60)?;
    let lag = lag(&reader, period_seconds)?;
    let missing = match reader.get("missing") {
        Some(item) => item.choice(&[("unknown", Missing::Unknown), ("idle", Missing::Idle)])?,
        None => Missing::Unknown,
    };
    let dimensions = match reader.get("dimensions") {
        Some(item) => dimensions(&item, policy)?,
        None => BTreeMap::new(),
    };
    Ok(MetricProbe {
        namespace,
        name,
        dimensions,
        statistic,
        period_seconds,
        look_back,
        lag,
        missing,
        reads,
    })
}

/// How late its values arrive, at most.
fn lag(reader: &Reader<'_>, period_seconds: u32) -> Result<HumanDuration, ConfigError> {
    let lag = reader.duration_or("lag", seconds(METRIC_LAG_SECONDS))?;
    let most = (u64::from(period_seconds) * PERIODS_MAX).min(LAG_SECONDS_MAX);
    match reader.get("lag") {
        Some(item) if lag.seconds() > most => {
            Err(item
                .refuse(&format!("\"{lag}\" is not valid"), &format!("up to {}", seconds(most))))
        }
        _ => Ok(lag),
    }
}

/// The length of a period, and how far back it is read; `None`: the policy's `after`.
fn span(
    item: &Item<'_>,
    reader: &Reader<'_>,
    policy: &Policy<'_>,
    default_seconds: u32,
) -> Result<(u32, Option<HumanDuration>), ConfigError> {
    let period = match reader.get("period") {
        Some(item) => {
            let period = item.parse(HumanDuration::EXPECTED, HumanDuration::parse)?;
            let whole = period.millis() % 1000 == 0;
            let minutes = period.seconds() % 60 == 0 && period.seconds() <= PERIOD_SECONDS_MAX;
            if !whole || !(minutes || SHORT_PERIODS.contains(&period.seconds())) {
                return Err(
                    item.refuse(&format!("\"{period}\" is no period of CloudWatch's"), PERIOD)
                );
            }
            period
        }
        None => seconds(u64::from(default_seconds)),
    };
    let look_back = reader.duration("look_back")?;
    if let (Some(item), Some(look_back)) = (reader.get("look_back"), look_back)
        && look_back < period
    {
        let problem = format!("\"{look_back}\" is shorter than the period");
        return Err(item.refuse(&problem, &format!("{period} or more")));
    }
    // A policy that waits for less than a period still needs a whole one to read.
    let look_back = look_back.or((policy.after < period).then_some(period));
    let back = look_back.unwrap_or(policy.after);
    let periods = back.seconds() / period.seconds();
    if periods > PERIODS_MAX {
        return Err(item.refuse_key(&format!(
            "it reads back {back} in periods of {period}, which makes {periods} of them; expected at most \
             {PERIODS_MAX}: a longer period, or a shorter look_back"
        )));
    }
    // Whole seconds of at most a day, as was just made sure of.
    Ok((u32::try_from(period.seconds()).unwrap_or(u32::MAX), look_back))
}

fn dimensions(
    item: &Item<'_>,
    policy: &Policy<'_>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let tables = item.open_table()?;
    let mut dimensions = BTreeMap::new();
    let (own, of) = match policy.place {
        Place::Instance(_) | Place::Template(_) => (&["instance_id"][..], "an EC2 instance"),
        Place::Service(_) => (&["cluster", "service"][..], "an ECS service"),
    };
    let expected = "a dimension's value, in which the target's own marks are filled in";
    for item in tables.items() {
        if item.key.is_empty() || item.key.chars().count() > METRIC_NAME_CHARS_MAX {
            return Err(item.refuse_key("the name is not valid; expected 1 to 255 characters"));
        }
        let value = item.name(DIMENSION_CHARS_MAX, expected)?;
        let plain = own
            .iter()
            .fold(value.to_owned(), |text, mark| text.replace(&format!("{{{mark}}}"), ""));
        if plain.contains(['{', '}']) {
            let marks: Vec<String> = own.iter().map(|mark| format!("{{{mark}}}")).collect();
            let problem = format!("\"{}\" has an unknown mark", shown(value));
            return Err(
                item.refuse(&problem, &format!("only {} in that of {of}", marks.join(", ")))
            );
        }
        dimensions.insert(item.key.to_owned(), value.to_owned());
    }
    if dimensions.len() > DIMENSIONS_MAX {
        let problem = format!("has {} dimensions", dimensions.len());
        return Err(
            item.refuse(&problem, &format!("at most {DIMENSIONS_MAX}, as CloudWatch has it"))
        );
    }
    Ok(dimensions)
}

fn without_dimensions(
    item: &Item<'_>,
    metric: &MetricProbe,
    policy: &Policy<'_>,
    taken: &mut Taken,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let named = format!("{}/{}", shown(&metric.namespace), shown(&metric.name));
    let target = policy.target;
    if let Place::Template(template) = policy.place
        && template.limit > 1
    {
        return Err(item.refuse_with(&format!(
            "the metric {named} without dimensions is that of every machine of {target}: each would be judged \
             by the others' traffic; expected dimensions such as {{ InstanceId = \"{{instance_id}}\" }}"
        )));
    }
    let key = format!("metric {}/{}", metric.namespace, metric.name);
    match taken.get(&key) {
        Some((other, at)) if other != target => {
            let line = item.line_of(*at);
            return Err(item.refuse_with(&format!(
                "the metric {named} without dimensions is {other}'s too (line {line}): each would be \
                 judged by the other's traffic; expected dimensions that tell them apart"
            )));
        }
        Some(_) => {}
        None => {
            taken.insert(key, (target.clone(), item.key_at.start));
            let path = policy.path;
            warnings.push(format!(
                "{path}: the metric {named} has no dimensions: whoever else publishes \
                 under that name keeps {target} on, or stops it"
            ));
        }
    }
    Ok(())
}

/// CPU in percent, by AWS's own metrics.
fn cpu(item: &Item<'_>, policy: &Policy<'_>) -> Result<MetricProbe, ConfigError> {
    let (namespace, dimensions, default_seconds): (_, &[(&str, &str)], _) = match policy.place {
        Place::Instance(_) | Place::Template(_) => {
            ("AWS/EC2", &[("InstanceId", "{instance_id}")], EC2_CPU_PERIOD_SECONDS)
        }
        Place::Service(_) => (
            "AWS/ECS",
            &[("ClusterName", "{cluster}"), ("ServiceName", "{service}")],
            ECS_CPU_PERIOD_SECONDS,
        ),
    };
    let expected =
        "a condition such as \"< 5\" (percent), or { idle_when = \"< 5\", period = \"5m\" }";
    let (condition, (period_seconds, look_back), lag) = match item.value {
        DeValue::String(_) => {
            let (condition, after) = (condition(item)?, policy.after);
            let period = seconds(u64::from(default_seconds));
            if after.seconds() / period.seconds() > PERIODS_MAX {
                return Err(item.refuse_with(&format!(
                    "it reads back {after} in periods of {period}, which are more than {PERIODS_MAX}; \
                     expected {{ idle_when = \"…\", period = \"…\" }} with a longer period"
                )));
            }
            let look_back = (after < period).then_some(period);
            (condition, (default_seconds, look_back), seconds(METRIC_LAG_SECONDS))
        }
        DeValue::Table(_) => {
            let reader = item.table(&CPU_KEYS)?;
            let idle_when = reader.need("idle_when", "idle_when = \"< 5\"")?;
            let span = span(item, &reader, policy, default_seconds)?;
            (condition(&idle_when)?, span, lag(&reader, span.0)?)
        }
        _ => return Err(item.wrong_type(expected)),
    };
    let dimensions =
        dimensions.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Ok(MetricProbe {
        namespace: namespace.to_owned(),
        name: "CPUUtilization".to_owned(),
        dimensions,
        statistic: Statistic::Average,
        period_seconds,
        look_back,
        lag,
        missing: Missing::Unknown,
        reads: MetricReads::IdleWhen(condition),
    })
}

fn command(item: &Item<'_>, policy: &Policy<'_>) -> Result<CommandProbe, ConfigError> {
    if matches!(policy.place, Place::Service(_)) {
        return Err(item.refuse_key(
            "a command runs on a machine by SSM, and the tasks of an ECS service have none of their own; \
             expected http, metrics or cpu",
        ));
    }
    let reader = item.table(&COMMAND_KEYS)?;
    let expected = "a shell script, such as \"pgrep renderer >/dev/null && exit 1; exit 0\"";
    let script_item = reader.need("script", expected)?;
    let script = script_item.string(expected)?;
    if script.trim().is_empty() || script.contains('\0') {
        return Err(script_item.refuse("is empty or holds a zero byte", expected));
    }
    if script.chars().count() > SCRIPT_CHARS_MAX {
        let problem = format!("has {} characters", script.chars().count());
        return Err(script_item.refuse(&problem, &format!("at most {SCRIPT_CHARS_MAX}")));
    }
    let reads = match (reader.get("reads"), reader.get("idle_when")) {
        (Some(item), None) => item.choice(&[("exit-code", CommandReads::ExitCode)])?,
        (None, Some(item)) => CommandReads::Number(condition(&item)?),
        _ => {
            return Err(item.refuse_key(
                "it must say in one way what the command means; expected reads = \"exit-code\" (0 is idle, \
                 1 is active), or idle_when = \"== 0\" on the number that it prints",
            ));
        }
    };
    let timeout_seconds = match (reader.get("timeout"), reader.duration("timeout")?) {
        (Some(item), Some(timeout)) => {
            let seconds = timeout.seconds();
            if timeout.millis() % 1000 != 0 || seconds > TIMEOUT_SECONDS_MAX {
                let problem = format!("\"{timeout}\" is not valid");
                return Err(item.refuse(&problem, "whole seconds, up to 5m"));
            }
            u32::try_from(seconds).unwrap_or(TIMEOUT_SECONDS)
        }
        _ => TIMEOUT_SECONDS,
    };
    Ok(CommandProbe { script: script.to_owned(), reads, timeout_seconds })
}
