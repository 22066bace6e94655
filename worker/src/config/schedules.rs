//! `[schedules.NAME]`: when something is asked, by whose clock, and what; `[scheduler]`: by whom it is
//! sent where a clock is named.
//!
//! A schedule without a zone becomes a rule of EventBridge, which knows UTC alone; one with a zone a
//! schedule of EventBridge Scheduler, which sends by a role. The name is the rule's in both: by it the
//! worker finds the command again when its tick comes.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use lamplighter_events::{Action, Command, Expression, TargetName, TargetRef};
use lamplighter_lifecycle::TemplateSpec;
use lamplighter_runtime::Fleet;
use toml::de::DeValue;

use super::ConfigError;
use super::reader::{Item, one_of, shown};

const NAME: &str = "1 to 64 letters, digits, '.', '_' and '-'";
const EXPRESSION: &str = "\"rate(5 minutes)\" or \"cron(0 23 * * ? *)\"";
const ZONE: &str = "the name of a time zone, such as \"Europe/Berlin\"";
const ROLE: &str =
    "the ARN of a role, such as \"arn:aws:iam::123456789012:role/lamplighter-scheduler\"";

/// Enough of what a template says to a create.
const TOLD_CHARS_MAX: usize = 150;

/// One schedule, beside its command, which is in the fleet's rules.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    /// The expression as it was written.
    pub(crate) text: String,
    /// As it was read.
    pub(crate) expression: Expression,
    /// By whose clock; UTC where there is none.
    pub(crate) zone: Option<TimeZone>,
    /// Whether it fires from the beginning.
    pub(crate) enabled: bool,
}

impl Schedule {
    /// The zone's name.
    pub(crate) fn zone_name(&self) -> Option<&str> {
        self.zone.as_ref().and_then(TimeZone::iana_name)
    }
}

/// `[scheduler]`
#[derive(Debug, Clone)]
pub(crate) struct Scheduler {
    /// The role by which it sends.
    pub(crate) role: Option<String>,
    /// The group that its schedules are in.
    pub(crate) group: String,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self { role: None, group: "lamplighter".to_owned() }
    }
}

/// Reads `[scheduler]`.
pub(crate) fn scheduler(item: &Item<'_>) -> Result<Scheduler, ConfigError> {
    let reader = item.table(&["role", "group"])?;
    let mut scheduler = Scheduler::default();
    if let Some(item) = reader.get("role") {
        let role = item.string(ROLE)?;
        if !is_role(role) {
            return Err(item.refuse(&format!("\"{}\" is no role", shown(role)), ROLE));
        }
        scheduler.role = Some(role.to_owned());
    }
    if let Some(item) = reader.get("group") {
        let group = item.string(NAME)?;
        if !fits(group) {
            return Err(item.refuse(&format!("\"{}\" is not valid", shown(group)), NAME));
        }
        group.clone_into(&mut scheduler.group);
    }
    Ok(scheduler)
}

/// `arn:aws:iam::ACCOUNT:role/NAME`, in any of AWS's partitions and with a path or without.
fn is_role(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [arn, partition, iam, region, account, role] = parts[..] else { return false };
    let name = role.strip_prefix("role/").unwrap_or_default();
    arn == "arn"
        && partition.starts_with("aws")
        && (iam, region) == ("iam", "")
        && account.len() == 12
        && account.bytes().all(|byte| byte.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@_/-".contains(&byte))
}

/// What a rule or a group may be called.
fn fits(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Reads one schedule.
pub(crate) fn schedule(
    item: &Item<'_>,
    fleet: &Fleet,
    scheduler: &Scheduler,
) -> Result<(Schedule, Command), ConfigError> {
    if !fits(item.key) {
        return Err(
            item.refuse_key(&format!("the name is not valid; expected a rule's name: {NAME}"))
        );
    }
    let reader = item.table(&["expression", "command", "zone", "enabled"])?;
    let expression = reader.need("expression", EXPRESSION)?;
    let text = expression.string(EXPRESSION)?;
    let parsed =
        Expression::parse(text).map_err(|error| expression.refuse_with(&error.to_string()))?;
    let zone = reader.get("zone").map(|item| zone(&item, &parsed, scheduler)).transpose()?;
    if zone.is_none() && matches!(parsed, Expression::At(_)) {
        let problem = "at(…) without a zone: a rule of EventBridge knows rate and cron alone";
        return Err(expression.refuse(problem, "a zone beside it, such as zone = \"UTC\""));
    }
    let enabled = match reader.get("enabled") {
        None => true,
        Some(item) => match item.value {
            DeValue::Boolean(enabled) => *enabled,
            _ => return Err(item.wrong_type("true or false")),
        },
    };
    let item = reader.need("command", "command = { action = \"…\" }")?;
    item.open_table()?;
    let command =
        Command::from_json(&item.json()?).map_err(|error| item.refuse_with(&error.message))?;
    if command.action == Action::Create {
        check_create(&item, &command, fleet)?;
    } else if let Some(TargetRef::Name(target)) = &command.target
        && fleet.templates.contains_key(target)
    {
        let problem =
            format!("{target} is a template, and {} is for a target", command.action.as_str());
        return Err(item.refuse(&problem, "a target, or create"));
    } else if let Some(TargetRef::Name(target)) = &command.target
        && !fleet.targets.contains_key(target)
    {
        let known: Vec<&str> = fleet.targets.keys().map(|name| name.as_str()).collect();
        return Err(item.refuse(&format!("no target is named \"{target}\""), &one_of(&known)));
    }
    Ok((Schedule { text: text.to_owned(), expression: parsed, zone, enabled }, command))
}

fn zone(
    item: &Item<'_>,
    expression: &Expression,
    scheduler: &Scheduler,
) -> Result<TimeZone, ConfigError> {
    let name = item.string(ZONE)?;
    if matches!(expression, Expression::Rate { .. }) {
        let problem = "a rate has no time zone: it counts from when it was made";
        return Err(item.refuse(problem, "cron(…) beside a zone, or no zone"));
    }
    let zone = TimeZone::get(name).ok().filter(|zone| zone.iana_name() == Some(name));
    let zone = zone
        .ok_or_else(|| item.refuse(&format!("no time zone is named \"{}\"", shown(name)), ZONE))?;
    if scheduler.role.is_none() {
        let problem = "a schedule with a zone is sent by EventBridge Scheduler, which needs a role";
        let expected = "[scheduler] role = \"arn:aws:iam::…:role/…\", a role that \
                        scheduler.amazonaws.com may assume and that may send to the command queue";
        return Err(item.refuse(problem, expected));
    }
    Ok(zone)
}

/// The template that a create means.
fn of_create<'f>(
    item: &Item<'_>,
    command: &Command,
    fleet: &'f Fleet,
) -> Result<&'f TemplateSpec, ConfigError> {
    let named = match (&command.template, &command.target) {
        (Some(name), _) | (None, Some(TargetRef::Name(name))) => Some(name),
        (None, None) => None,
        (None, Some(_)) => {
            let problem = "a create makes a machine, and this names one that is there";
            return Err(item.refuse(problem, "template = \"NAME\""));
        }
    };
    let names: Vec<&str> = fleet.templates.keys().take(8).map(|name| name.as_str()).collect();
    let expected = match names.is_empty() {
        true => "a template of this file, which has none".to_owned(),
        false => format!("template = \"NAME\" with one of {}", names.join(", ")),
    };
    let spec = match named {
        Some(name) => fleet
            .templates
            .get(name)
            .ok_or_else(|| item.refuse(&format!("no template is named \"{name}\""), &expected)),
        None => match fleet.templates.len() {
            1 => fleet.templates.values().next().ok_or_else(|| item.refuse_with(&expected)),
            _ => Err(item.refuse("it names no template", &expected)),
        },
    }?;
    spec.template().ok_or_else(|| item.refuse_with(&expected))
}

/// Whether a create of the file's own has what its template takes.
fn check_create(item: &Item<'_>, command: &Command, fleet: &Fleet) -> Result<(), ConfigError> {
    let template = of_create(item, command, fleet)?;
    let Err(error) = template.check(&command.parameters) else { return Ok(()) };
    let said = error.to_string();
    // It may have a value and a pattern in it, each as long as may be.
    let mut told: String = said.chars().take(TOLD_CHARS_MAX).collect();
    if told.len() < said.len() {
        told.push('…');
    }
    let expected =
        format!("what the template {} takes, or every tick would fail", template.template);
    Err(match said.contains("expected") {
        true => item.refuse_with(&told),
        false => item.refuse(&told, &expected),
    })
}

/// What is valid and will surprise.
pub(crate) fn warnings(schedules: &BTreeMap<String, Schedule>, fleet: &Fleet) -> Vec<String> {
    let never = schedules.iter().filter(|(_, schedule)| !schedule.expression.ever_fires());
    let mut warnings: Vec<String> = never
        .map(|(name, schedule)| {
            let text = shown(&schedule.text);
            format!("schedules.{name}: \"{text}\" never fires: no calendar has such a day")
        })
        .collect();
    let targets = fleet.targets.values().map(|spec| ("targets", spec));
    let all = targets.chain(fleet.templates.values().map(|spec| ("templates", spec)));
    for (section, spec) in all.filter(|(_, spec)| spec.idle.is_some()) {
        let target = &spec.name;
        let asked = schedules.iter().any(|(name, it)| {
            it.enabled && it.expression.ever_fires() && checks(fleet.rules.get(name), target)
        });
        if !asked {
            warnings.push(format!(
                "{section}.{target}.idle: no schedule asks whether {target} is idle, so nobody will know \
                 that it is; expected one such as [schedules.idle-check] with expression = \
                 \"rate(5 minutes)\" and command = {{ action = \"check-idle\" }}"
            ));
        }
    }
    warnings
}

/// Whether a schedule's command asks whether this target is idle.
fn checks(command: Option<&Command>, target: &TargetName) -> bool {
    let command = command.filter(|command| command.action == Action::CheckIdle);
    command.is_some_and(|command| match &command.target {
        Some(TargetRef::Name(name)) => name == target,
        // To all; or to one by its id, which only AWS may know to be this.
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use super::is_role;

    #[track_caller]
    fn check(text: &str, expected: bool) {
        assert_eq!(is_role(text), expected, "{text}");
    }

    #[test]
    fn a_role_is_told_from_what_looks_like_one() {
        check("arn:aws:iam::123456789012:role/lamplighter", true);
        check("arn:aws-cn:iam::123456789012:role/service/lamp_lighter+1@x", true);
        check("arn:aws:iam::1234:role/lamplighter", false);
        check("arn:aws:iam:eu-west-1:123456789012:role/lamplighter", false);
        check("arn:aws:iam::123456789012:user/lamplighter", false);
        check("arn:aws:iam::123456789012:role/", false);
        check("arn:aws:iam::123456789012:role/a b", false);
        check("lamplighter", false);
    }
}
