//! `[templates.NAME]`: what a machine for each request is made from.
//!
//! *Theory.* A template makes targets, so it shares their names: `NAME.` and 16 hexadecimal digits is a machine of
//! it, and nothing else may be called so. What would make its machines judge one another is said aloud, or refused.
//!
//! *Not here.* The bootstrap (`bootstrap`), what a create may say (`parameters`, `patterns`), and whether the launch
//! template exists: `lamplighter check --aws`.

use std::collections::BTreeMap;

use lamplighter_events::{TargetName, nearest};
use lamplighter_lifecycle::{HealthUrl, Kind, Market, Place, Probe, TargetSpec, TemplateSpec};
use lamplighter_runtime::Fleet;
use toml::de::DeValue;

use super::ConfigError;
use super::bootstrap::{self, Chosen};
use super::parameters;
use super::reader::{Item, Reader, Source, shown};
use super::targets::{plain_target, with_common};
use super::values::{Taken, duration_or_word, seconds, unit};

const KEYS: [&str; 31] = [
    "kind",
    "launch_template",
    "version",
    "limit",
    "subnets",
    "instance_types",
    "market",
    "tags",
    "name_prefix",
    "wait_for",
    "max_lifetime",
    "max_hold",
    "idle",
    "health",
    "start_timeout",
    "settle",
    "ready_timeout",
    "health_timeout",
    "stop_timeout",
    "poll",
    "log_group",
    "keep_failed",
    "retention",
    "dedupe",
    "price_per_hour",
    "systemd_unit",
    "unit_check_every",
    "bootstrap",
    "parameters",
    "fixed",
    "one_of",
];
/// Keys of targets, and why a template has none of them.
const FOREIGN: [(&str, &str); 3] = [
    (
        "exclusive",
        "each create has a machine of its own, so there is nobody to exclude; expected limit = 1 where there \
         is to be one machine at a time",
    ),
    (
        "hours",
        "a machine lives from its create to its end, so there is nothing to switch by the clock; expected \
         max_lifetime, or a schedule whose command is a create",
    ),
    (
        "instance_id",
        "its machines are launched, and have no id before; expected launch_template, or a target of kind = \
         \"ec2-instance\"",
    ),
];
/// A target's name has 63 characters; a machine's is the template's, a dot and 16 digits.
const NAME_CHARS_MAX: usize = 46;
/// Queue names have at most 80.
const OWNER_CHARS_MAX: usize = 80;
const LIMIT: u32 = 20;
const LIMIT_MAX: i64 = 1_000;
/// Subnets times types times markets are tried one after the other.
const OPTIONS_MAX: usize = 16;
/// EC2 takes 50, and five are ours: Name and what the worker knows its machines by.
const TAGS_MAX: usize = 45;
const TAG_KEY_CHARS_MAX: usize = 128;
const TAG_VALUE_CHARS_MAX: usize = 256;
/// The name is a tag's value, and has 22 characters more.
const NAME_PREFIX_CHARS_MAX: usize = 200;
/// As long as clients may ask what became of a machine.
const RETENTION_SECONDS: u64 = 7 * 86_400;
/// Far more than any machine costs, and its millionths are counted exactly.
const PRICE_MAX: f64 = 10_000.0;
pub(crate) const LAUNCH_TEMPLATE: &str = "a launch template's id (lt- and 8 to 17 hex digits), or its name (3 to 128 letters, digits and ().-/_)";
const VERSION: &str = "a version's number, \"$Default\" or \"$Latest\"";
const SUBNET: &str = "a subnet's id: subnet- and 8 to 17 hex digits";
const INSTANCE_TYPE: &str = "an instance type such as \"t3.medium\"";

/// A template of which only its launch template is said.
pub(crate) fn plain(
    template: TargetName,
    owner: &str,
    launch_template: String,
    chosen: Chosen,
) -> TargetSpec {
    let shipped = chosen.shipped.as_ref();
    let spec = TemplateSpec {
        owner: owner.to_owned(),
        launch_template,
        version: "$Default".to_owned(),
        subnets: Vec::new(),
        instance_types: Vec::new(),
        market: Market::OnDemand,
        tags: BTreeMap::from([("ManagedBy".to_owned(), "lamplighter".to_owned())]),
        name_prefix: match shipped {
            Some(shipped) => shipped.name_prefix.to_owned(),
            None => format!("{template}-vm"),
        },
        // Seed 004's clients are told the address.
        wait_for_public_ip: shipped.is_some(),
        limit: LIMIT,
        max_lifetime: None,
        keep_failed_for: None,
        retention: seconds(RETENTION_SECONDS),
        dedupe: None,
        parameters: shipped.map(|it| it.parameters.clone()).unwrap_or_default(),
        one_of: shipped.map(|it| it.one_of.clone()).unwrap_or_default(),
        bootstrap: chosen.bootstrap,
        bootstrap_timeout: chosen.timeout,
        // What it brings runs on as a unit, whose end is to be seen.
        systemd_unit: shipped.map(|shipped| shipped.unit.clone()),
        // As often as that of an instance.
        unit_check_every: Some(seconds(300)),
        price_per_hour_millionths: None,
        template: template.clone(),
    };
    plain_target(template, Place::Template(Box::new(spec)))
}

/// The command queue's name, also where it is a URL: by it the machines of two fleets are told apart.
pub(crate) fn owner(commands: &str) -> &str {
    commands.trim_end_matches('/').rsplit('/').next().unwrap_or(commands)
}

/// Reads one template.
pub(crate) fn template(
    item: &Item<'_>,
    commands: &str,
    taken: &mut Taken,
    warnings: &mut Vec<String>,
) -> Result<TargetSpec, ConfigError> {
    let name = name(item)?;
    let reader = item.open_table()?;
    kind(&reader)?;
    reader.refuse_foreign(&FOREIGN)?;
    let reader = item.table(&KEYS)?;
    let owner = owner(commands);
    if !(1..=OWNER_CHARS_MAX).contains(&owner.chars().count())
        || owner.chars().any(char::is_control)
    {
        return Err(item.refuse_key(&format!(
            "its machines bear the command queue's name, and \"{}\" is none; expected [queue] commands to end \
             in a queue's name",
            shown(owner)
        )));
    }
    let launch_template = reader.need("launch_template", LAUNCH_TEMPLATE)?;
    let text = launch_template.string(LAUNCH_TEMPLATE)?;
    if !is_launch_template(text) {
        let problem = format!("\"{}\" is not valid", shown(text));
        return Err(launch_template.refuse(&problem, LAUNCH_TEMPLATE));
    }
    let chosen = match reader.get("bootstrap") {
        Some(item) => bootstrap::bootstrap(&item, &name)?,
        None => bootstrap::none(),
    };
    let declared = parameters::declared(&reader, &chosen, warnings)?;
    let mut base = plain(name, owner, text.to_owned(), chosen);
    let Place::Template(spec) = &mut base.place else { unreachable!("a template was made") };
    spec.parameters = declared.parameters;
    spec.one_of = declared.one_of;
    spec.dedupe = declared.dedupe;
    if let Some(item) = reader.get("version") {
        spec.version = version(&item)?;
    }
    spec.subnets = options(&reader, "subnets", SUBNET, is_subnet)?;
    spec.instance_types = options(&reader, "instance_types", INSTANCE_TYPE, is_instance_type)?;
    if let Some(item) = reader.get("market") {
        spec.market = item.choice(&[
            ("on-demand", Market::OnDemand),
            ("spot", Market::Spot),
            ("spot-then-on-demand", Market::SpotThenOnDemand),
        ])?;
    }
    if let Some(item) = reader.get("tags") {
        spec.tags.extend(tags(&item)?);
    }
    if let Some(item) = reader.get("name_prefix") {
        let expected = "what machines' names begin with, 1 to 200 characters";
        spec.name_prefix = item.name(NAME_PREFIX_CHARS_MAX, expected)?.to_owned();
    }
    if let Some(item) = reader.get("wait_for") {
        spec.wait_for_public_ip = item.choice(&[("public_ip", true), ("running", false)])?;
    }
    if let Some(item) = reader.get("limit") {
        spec.limit = u32::try_from(item.whole(1..=LIMIT_MAX)?).unwrap_or(LIMIT);
    }
    spec.max_lifetime = reader.duration("max_lifetime")?;
    spec.keep_failed_for = reader.duration("keep_failed")?;
    spec.retention = reader.duration_or("retention", spec.retention)?;
    spec.price_per_hour_millionths =
        reader.get("price_per_hour").map(|item| price(&item)).transpose()?;
    if let Some(item) = reader.get("systemd_unit") {
        spec.systemd_unit = Some(unit(&item)?);
    }
    if let Some(item) = reader.get("unit_check_every") {
        spec.unit_check_every = duration_or_word(&item, "off")?;
    }
    base.keep_failed = spec.keep_failed_for.is_some();
    let spec = with_common(&reader, base, taken, warnings)?;
    warnings.extend(shared_addresses(item, &spec));
    Ok(spec)
}

fn name(item: &Item<'_>) -> Result<TargetName, ConfigError> {
    let name = TargetName::parse(item.key).map_err(|error| {
        item.refuse_key(&format!("the name {}; expected {}", error.problem, error.expected))
    })?;
    if name.as_str().len() > NAME_CHARS_MAX {
        let chars = name.as_str().len();
        return Err(item.refuse_key(&format!(
            "the name has {chars} characters; expected at most {NAME_CHARS_MAX}, since its machines are \
             called by it and 17 more"
        )));
    }
    Ok(name)
}

fn kind(reader: &Reader<'_>) -> Result<(), ConfigError> {
    let known = Kind::Launched.as_str();
    let expected = format!("kind = \"{known}\"");
    let item = reader.need("kind", &expected)?;
    let text = item.string(&expected)?;
    match Kind::parse(text) {
        Some(Kind::Launched) => Ok(()),
        Some(other @ (Kind::Instance | Kind::Service)) => {
            let problem =
                format!("an {other} is a target, which is there before anybody asks for it");
            Err(item.refuse(&problem, "it under [targets.NAME] instead of [templates.NAME]"))
        }
        None => {
            let hint = match nearest(text, &[known]) {
                Some(near) => format!("; did you mean \"{near}\"?"),
                None => format!("; expected \"{known}\""),
            };
            Err(item.refuse_with(&format!("unknown kind \"{}\"{hint}", shown(text))))
        }
    }
}

fn is_hex_id(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|digits| {
        (8..=17).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// An id, or a name; what begins as an id does is one.
pub(crate) fn is_launch_template(text: &str) -> bool {
    match text.starts_with("lt-") {
        true => is_hex_id(text, "lt-"),
        false => {
            (3..=128).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"().-/_".contains(&b))
        }
    }
}

fn is_subnet(text: &str) -> bool {
    is_hex_id(text, "subnet-")
}

/// `t3.medium`, `u-6tb1.112xlarge`, `mac2-m2pro.metal`
fn is_instance_type(text: &str) -> bool {
    let part = |text: &str| {
        (1..=30).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.split_once('.').is_some_and(|(family, size)| part(family) && part(size))
}

fn version(item: &Item<'_>) -> Result<String, ConfigError> {
    let text = match item.value {
        DeValue::Integer(_) => item.json()?.to_string(),
        DeValue::String(text) => text.to_string(),
        _ => return Err(item.wrong_type(VERSION)),
    };
    let number = text.parse::<u32>().is_ok_and(|number| number > 0 && number.to_string() == text);
    if number || matches!(text.as_str(), "$Default" | "$Latest") {
        return Ok(text);
    }
    Err(item.refuse(&format!("\"{}\" is not valid", shown(&text)), VERSION))
}

/// A list in order of preference.
fn options(
    reader: &Reader<'_>,
    key: &str,
    expected: &str,
    fits: impl Fn(&str) -> bool,
) -> Result<Vec<String>, ConfigError> {
    let Some(list) = reader.get(key) else { return Ok(Vec::new()) };
    let mut all: Vec<String> = Vec::new();
    let items = list.list(&format!("a list in order of preference, each {expected}"))?;
    if items.is_empty() {
        let problem = "names none";
        return Err(
            list.refuse(problem, &format!("{expected}, or no list for the launch template's"))
        );
    }
    for item in items {
        let text = item.string(expected)?;
        if !fits(text) {
            return Err(item.refuse(&format!("\"{}\" is not valid", shown(text)), expected));
        }
        if all.iter().any(|other| other == text) {
            return Err(item.refuse_with(&format!("{text} is there already; expected each once")));
        }
        all.push(text.to_owned());
    }
    if all.len() > OPTIONS_MAX {
        let problem = format!("names {}", all.len());
        return Err(list.refuse(&problem, &format!("at most {OPTIONS_MAX}")));
    }
    Ok(all)
}

fn tags(item: &Item<'_>) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut tags = BTreeMap::new();
    let expected = "a tag's value, at most 256 characters";
    for item in item.open_table()?.items() {
        let key = item.key;
        let small = key.to_ascii_lowercase();
        if !(1..=TAG_KEY_CHARS_MAX).contains(&key.chars().count())
            || key.chars().any(char::is_control)
        {
            return Err(item.refuse_key("the key is not valid; expected 1 to 128 characters"));
        }
        if key == "Name" {
            let words =
                "a machine's name is made from name_prefix and the time; expected name_prefix";
            return Err(item.refuse_key(words));
        }
        for (prefix, whose) in [("aws:", "AWS's own"), ("lamplighter:", "what the worker goes by")]
        {
            if small.starts_with(prefix) {
                return Err(item.refuse_key(&format!(
                    "tags that begin with {prefix} are {whose}; expected another key"
                )));
            }
        }
        let value = match item.string(expected)? {
            "" => "",
            _ => item.name(TAG_VALUE_CHARS_MAX, expected)?,
        };
        tags.insert(key.to_owned(), value.to_owned());
    }
    if tags.len() > TAGS_MAX {
        let problem = format!("has {} tags", tags.len());
        return Err(item.refuse(&problem, &format!("at most {TAGS_MAX} beside those of ours")));
    }
    Ok(tags)
}

/// An hour's price in millionths.
fn price(item: &Item<'_>) -> Result<u64, ConfigError> {
    let expected = "a number from 0 to 10000, such as 0.0416";
    if !matches!(item.value, DeValue::Integer(_) | DeValue::Float(_)) {
        return Err(item.wrong_type(expected));
    }
    let price = item.json()?.as_f64().unwrap_or(-1.0);
    if !(0.0..=PRICE_MAX).contains(&price) {
        return Err(item.refuse(&format!("{price} is not valid"), expected));
    }
    Ok((price * 1e6).round() as u64)
}

/// Addresses that are the same for every machine of a template.
fn shared_addresses(item: &Item<'_>, spec: &TargetSpec) -> Vec<String> {
    let shared = |url: &HealthUrl| !url.names_machine();
    let mut shared_by = Vec::new();
    if spec.health.as_ref().is_some_and(shared) {
        shared_by.push("health");
    }
    let asked = spec.idle.as_ref().is_some_and(|idle| {
        idle.probes.iter().any(|probe| matches!(probe, Probe::Http(http) if shared(&http.url)))
    });
    if asked {
        shared_by.push("idle.http");
    }
    let path = &item.path;
    let each = shared_by.into_iter().map(|key| {
        format!(
            "{path}.{key}: the address is the same for every machine, so each is judged by whoever answers \
             there; {{public_ip}} and {{private_ip}} stand for a machine's own"
        )
    });
    each.collect()
}

/// Where each target and each template has its name.
pub(crate) type Places = BTreeMap<TargetName, usize>;

/// Makes sure that a name means one thing: a target, a template, or a machine of one.
pub(crate) fn check_names(
    source: &Source<'_>,
    fleet: &Fleet,
    targets: &Places,
    templates: &Places,
) -> Result<(), ConfigError> {
    let line = |at: usize| source.place(at).0;
    for (name, at) in templates {
        let refuse =
            |words: String| Err(source.refuse(&(*at..*at), format!("templates.{name}: {words}")));
        if let Some(other) = targets.get(name) {
            return refuse(format!(
                "a target has that name already (line {}); expected a name of its own, since payloads name \
                 both alike",
                line(*other)
            ));
        }
        // `TARGET.CLUSTER.SERVICE` is a service that a payload names.
        let mut also = fleet.targets.values().filter(|spec| {
            let rest = name.as_str().strip_prefix(spec.name.as_str());
            rest.is_some_and(|rest| rest.starts_with('.'))
                && spec.service().is_some_and(|service| !service.also.is_empty())
        });
        if let Some(spec) = also.next() {
            let other = targets.get(&spec.name).copied().unwrap_or_default();
            return refuse(format!(
                "names that begin with {}. are of services that it allows (line {}); expected another name",
                spec.name,
                line(other)
            ));
        }
    }
    for (section, places) in [("targets", targets), ("templates", templates)] {
        for (name, at) in places {
            let Some((rest, suffix)) = name.as_str().rsplit_once('.') else { continue };
            if let Some(other) = templates.get(rest)
                && TemplateSpec::is_suffix(suffix)
            {
                let words = format!(
                    "{section}.{name}: a machine of the template {rest} (line {}) may be called so; expected \
                     another name",
                    line(*other)
                );
                return Err(source.refuse(&(*at..*at), words));
            }
        }
    }
    Ok(())
}

/// Whether a machine of this template ends by itself.
pub(crate) fn ends(spec: &TargetSpec) -> bool {
    spec.template().is_some_and(|it| it.max_lifetime.is_some()) || spec.idle.is_some()
}
