//! `parameters`, `fixed`, `one_of` and `dedupe` of a template: what a create may say, and what it cannot change.
//!
//! *Theory.* A parameter stands in the payload beside the command's own fields and in the answer beside the
//! record's, so it can have none of their names. A fixed value is a parameter whose pattern is that value alone.

use lamplighter_events::nearest;
use std::collections::BTreeMap;

use lamplighter_lifecycle::{Bootstrap, Parameter};

use super::ConfigError;
use super::bootstrap::{Chosen, Shipped};
use super::patterns::{PATTERN, exactly, is_shell_text, pattern};
use super::reader::{Item, Reader, shown};

/// As many as a payload may have.
const PARAMETERS_MAX: usize = 32;
/// Values of the file, together: SSM's 64 KiB have the scripts in them, and the payload's own values.
const VALUE_BYTES_MAX: usize = 4_096;
const NAME: &str =
    "a name such as \"blob_id\": a letter, then small letters, digits and '_', at most 64";
/// One value; a payload that says another is told it.
const ONE_VALUE_BYTES_MAX: usize = 1_024;
const VALUE: &str = "text without control characters, of 1 to 1024 bytes";

/// What payloads and answers have already, or a client would take for something of theirs.
#[rustfmt::skip]
pub(crate) const RESERVED: &[&str] = &[
    // A command's.
    "action", "target", "instance_id", "cluster", "cluster_name", "service", "service_name", "id",
    "holder", "for", "until", "reason", "expires", "idle_threshold_mins", "idle_threshold_minutes",
    "lookback_period_mins", "lookback_period_minutes", "template", "parameters",
    // An answer's and a status's.
    "name", "public_ip", "private_ip", "processing_status", "created_at", "error", "cost", "status", "state",
    "message", "started", "stopped", "phase", "step", "why", "kind", "wanted", "holds", "observed",
    "observed_age_seconds", "since", "lock_status", "instance", "suppressed_until", "expires_at",
    "ec2_state", "service_state", "overall_status", "instance_status", "failure", "paused", "unanswered",
    "wake_at", "rev", "held_by", "previous_state", "current_state", "idle_seconds", "threshold_seconds",
    "kept_alive_until", "outcome", "verdict", "cause", "answer", "launch",
    // The wrapper's own, on the host.
    "run_dir", "uptime_file",
];

/// What is read.
pub(crate) struct Declared {
    pub(crate) parameters: BTreeMap<String, Parameter>,
    pub(crate) one_of: Vec<String>,
    pub(crate) dedupe: Option<String>,
}

/// Reads all four.
pub(crate) fn declared(
    reader: &Reader<'_>,
    chosen: &Chosen,
    warnings: &mut Vec<String>,
) -> Result<Declared, ConfigError> {
    let shipped = chosen.shipped.as_ref();
    let mut parameters = shipped.map(|it| it.parameters.clone()).unwrap_or_default();
    let mut bytes: usize = 0;
    let mut own = Vec::new();
    if let Some(table) = reader.get("parameters") {
        for item in table.open_table()?.items() {
            name(&item)?;
            let parameter = match shipped {
                Some(shipped) => with_default(&item, shipped)?,
                None => parameter(&item, warnings)?,
            };
            bytes += parameter.default.as_ref().map_or(0, String::len);
            parameters.insert(item.key.to_owned(), parameter);
            own.push(item.key);
        }
    }
    let mut fixed = Vec::new();
    if let Some(table) = reader.get("fixed") {
        for item in table.open_table()?.items() {
            name(&item)?;
            if own.contains(&item.key) {
                return Err(item.refuse_key(
                    "it is among the parameters too, which a create may change; expected it once",
                ));
            }
            let value = value(&item)?;
            if let Some(shipped) = shipped {
                fits_shipped(&item, value, shipped)?;
            }
            bytes += value.len();
            let parameter = Parameter {
                pattern: exactly(value),
                required: false,
                default: Some(value.to_owned()),
            };
            parameters.insert(item.key.to_owned(), parameter);
            fixed.push(item.key);
        }
    }
    for key in ["fixed", "parameters"] {
        let Some(item) = reader.get(key) else { continue };
        if parameters.len() > PARAMETERS_MAX {
            let problem = format!("there are {} parameters", parameters.len());
            return Err(item.refuse(&problem, &format!("at most {PARAMETERS_MAX}")));
        }
        if bytes > VALUE_BYTES_MAX {
            let problem = format!("its values have {bytes} bytes together");
            return Err(item.refuse(&problem, &format!("at most {VALUE_BYTES_MAX}")));
        }
    }
    if let (Some(Bootstrap::Document { name }), Some(item)) =
        (&chosen.bootstrap, reader.get("parameters"))
    {
        let loose = |key: &&&str| is_shell_text(&parameters[**key].pattern);
        for key in own.iter().filter(loose) {
            warnings.push(format!(
                "{}.{key}: its pattern takes what a shell reads, and SSM writes values into the script of {name} \
                 as they are",
                item.path
            ));
        }
    }
    let one_of = match (shipped, reader.get("one_of")) {
        (Some(shipped), Some(item)) => {
            return Err(item.refuse_key(&format!(
                "the bootstrap {} says itself which it needs ({}); expected it only beside a bootstrap of \
                 the fleet's own",
                shipped.name,
                shipped.one_of.join(" or ")
            )));
        }
        (Some(shipped), None) => shipped.one_of.clone(),
        (None, Some(item)) => one_of(&item, &parameters)?,
        (None, None) => Vec::new(),
    };
    let dedupe = reader.get("dedupe").map(|item| {
        let name = known(&item, &parameters)?;
        if fixed.contains(&name) {
            return Err(item.refuse_with(
                "its value is fixed, so every create would be the same; expected a parameter that \
                 creates differ in",
            ));
        }
        Ok(name.to_owned())
    });
    Ok(Declared { parameters, one_of, dedupe: dedupe.transpose()? })
}

/// A name that is free: snake case, as payloads' names become.
fn name(item: &Item<'_>) -> Result<(), ConfigError> {
    let key = item.key;
    let fits = key.len() <= 64
        && key.starts_with(|c: char| c.is_ascii_lowercase())
        && !key.contains("__")
        && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !fits {
        return Err(item.refuse_key(&format!("the name is not valid; expected {NAME}")));
    }
    if RESERVED.contains(&key) {
        return Err(item.refuse_key(
            "commands and answers have a field of that name already; expected another name",
        ));
    }
    Ok(())
}

fn value<'a>(item: &Item<'a>) -> Result<&'a str, ConfigError> {
    let text = item.name(ONE_VALUE_BYTES_MAX, VALUE)?;
    if text.len() > ONE_VALUE_BYTES_MAX {
        return Err(item.refuse(&format!("has {} bytes", text.len()), VALUE));
    }
    Ok(text)
}

/// A default that a create could have said itself.
fn default(item: &Item<'_>, parameter: &Parameter) -> Result<String, ConfigError> {
    let text = value(item)?;
    if !parameter.pattern.fits(text) {
        let problem = format!("\"{}\" does not match the pattern", shown(text));
        let expected = format!("what matches {}", shown(parameter.pattern.as_str()));
        return Err(item.refuse(&problem, &expected));
    }
    Ok(text.to_owned())
}

fn parameter(item: &Item<'_>, warnings: &mut Vec<String>) -> Result<Parameter, ConfigError> {
    let reader = item.table(&["pattern", "required", "default"])?;
    let pattern = pattern(&reader.need("pattern", PATTERN)?)?;
    let mut parameter = Parameter { pattern, required: reader.flag("required")?, default: None };
    if let Some(item) = reader.get("default") {
        parameter.default = Some(default(&item, &parameter)?);
    }
    if parameter.default.is_some() && parameter.required {
        parameter.required = false;
        let path = &item.path;
        warnings.push(format!("{path}: required has no effect, since the default stands for it"));
    }
    Ok(parameter)
}

/// A parameter of a shipped bootstrap's, which has its own pattern.
fn with_default(item: &Item<'_>, shipped: &Shipped) -> Result<Parameter, ConfigError> {
    let Some(parameter) = shipped.parameters.get(item.key) else {
        let names: Vec<&str> = shipped.parameters.keys().map(String::as_str).collect();
        return Err(not_of(item, shipped, &names));
    };
    let reader = item.open_table()?;
    for key in ["pattern", "required"] {
        if let Some(item) = reader.get(key) {
            return Err(item.refuse_key(&format!(
                "the bootstrap {} says itself what it takes; expected default = \"…\" alone",
                shipped.name
            )));
        }
    }
    let reader = item.table(&["default"])?;
    let item = reader.need("default", "default = \"…\"")?;
    Ok(Parameter { default: Some(default(&item, parameter)?), ..parameter.clone() })
}

fn not_of(item: &Item<'_>, shipped: &Shipped, names: &[&str]) -> ConfigError {
    let hint = match nearest(item.key, names) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("expected one of {}", names.join(", ")),
    };
    item.refuse_key(&format!("the bootstrap {} takes nothing of that name; {hint}", shipped.name))
}

/// A fixed value of a shipped bootstrap's.
fn fits_shipped(item: &Item<'_>, value: &str, shipped: &Shipped) -> Result<(), ConfigError> {
    let parameters = shipped.parameters.iter().map(|(name, it)| (name, &it.pattern));
    let mut all = parameters.chain(&shipped.settings);
    let Some((_, pattern)) = all.find(|(name, _)| *name == item.key) else {
        let names = shipped.parameters.keys().chain(shipped.settings.keys());
        return Err(not_of(item, shipped, &names.map(String::as_str).collect::<Vec<_>>()));
    };
    if pattern.fits(value) {
        return Ok(());
    }
    let problem = format!("\"{}\" is nothing that {} takes", shown(value), shipped.name);
    Err(item.refuse(&problem, &format!("what matches {}", shown(pattern.as_str()))))
}

/// The name of one of the parameters.
fn known<'a>(
    item: &Item<'a>,
    parameters: &BTreeMap<String, Parameter>,
) -> Result<&'a str, ConfigError> {
    let expected = match parameters.is_empty() {
        true => "a parameter of this template, which has none".to_owned(),
        false => {
            let names: Vec<&str> = parameters.keys().take(8).map(String::as_str).collect();
            let more = if parameters.len() > names.len() { ", …" } else { "" };
            format!("one of {}{more}", names.join(", "))
        }
    };
    let name = item.string(&expected)?;
    match parameters.contains_key(name) {
        true => Ok(name),
        false => Err(item.refuse(&format!("no parameter is named \"{}\"", shown(name)), &expected)),
    }
}

fn one_of(
    item: &Item<'_>,
    parameters: &BTreeMap<String, Parameter>,
) -> Result<Vec<String>, ConfigError> {
    let mut names: Vec<String> = Vec::new();
    for item in item.list("a list of parameters, of which a create must say one")? {
        let name = known(&item, parameters)?;
        if parameters[name].default.is_some() {
            return Err(item.refuse_with(&format!(
                "{name} has a value anyway, so nothing would ever be missing; expected parameters \
                 without one"
            )));
        }
        if names.iter().any(|other| other == name) {
            return Err(item.refuse_with(&format!("{name} is there already; expected each once")));
        }
        names.push(name.to_owned());
    }
    if names.len() < 2 {
        let problem = format!("names {}", names.len());
        return Err(item.refuse(&problem, "two or more; one that must be there is required = true"));
    }
    Ok(names)
}
