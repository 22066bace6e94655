//! `[local]`: the world of `lamplighter local`, as far as it is not the fleet itself.
//!
//! The keys are those of the model's own types (`Timings`, `Behaviour`, `UnitSeed`, `ServiceBehaviour`); each value is
//! given to them alone, so that an error has its place in the file.

mod launch_templates;

use lamplighter_lifecycle::MANAGED_TAG;
use std::collections::{BTreeMap, BTreeSet};

use lamplighter_cloud::services::ScalingSeed;
use lamplighter_cloud::{
    LaunchTemplateSeed, MachineSeed, ServiceBehaviour, ServiceSeed, Timings, UnitSeed,
};
use lamplighter_events::{InstanceId, TargetName, nearest};
use lamplighter_lifecycle::{Bootstrap, InstanceRef, InstanceSpec, TargetSpec};
use lamplighter_runtime::Fleet;
use serde_json::{Map, Value, json};
use toml::de::DeValue;

use super::ConfigError;
use super::reader::{Item, Reader, SHOWN_CHARS_MAX, one_of, shown};

const TIMINGS: [&str; 18] = [
    "boot",
    "stop",
    "terminate",
    "agent",
    "public_ip_after",
    "not_found_for",
    "spot_notice",
    "bootstrap",
    "command",
    "invocation",
    "describe_lag",
    "placement",
    "task_start",
    "task_stop",
    "health",
    "scaling",
    "metric_lag",
    "metric_scatter",
];
const BEHAVIOUR: [&str; 8] =
    ["boot", "stop", "agent", "agent_never", "bounce", "no_capacity", "host_exit", "host_output"];
/// What a machine is, beside how it behaves.
const MACHINE: [&str; 2] = ["units", "state"];
const UNIT: [&str; 4] = ["after_boot", "enabled", "active_after", "dies_after"];
const SERVICE_BEHAVIOUR: [&str; 11] = [
    "start",
    "stop",
    "health",
    "never_healthy",
    "exits_after",
    "exit_code",
    "fails_to_start",
    "no_image",
    "no_capacity",
    "never_settles",
    "scaling_rolls_out",
];
/// What a service is, beside how it behaves.
const SERVICE: [&str; 4] = ["running", "health_check", "circuit_breaker", "scaling"];
/// The model keeps each task by itself; more would only be slow.
const TASKS_MAX: i64 = 100;

/// What `[local]` says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Local {
    /// How long things take.
    pub(crate) timings: Timings,
    /// By target: how its machine differs. The id is filled in by [`Local::machines`].
    machines: BTreeMap<TargetName, MachineSeed>,
    /// By target: how its service differs. Cluster and name are filled in by [`Local::services`].
    services: BTreeMap<TargetName, ServiceSeed>,
    /// By id.
    launch_templates: BTreeMap<String, LaunchTemplateSeed>,
    /// By name: the texts of secrets.
    secrets: BTreeMap<String, String>,
}

impl Local {
    /// The launch templates of the table, and a plain one for each id or name of `named` that it lacks.
    pub(crate) fn launch_templates<'n>(
        &self,
        named: impl IntoIterator<Item = &'n str>,
    ) -> Vec<LaunchTemplateSeed> {
        let mut all = self.launch_templates.clone();
        for name in named {
            if all.values().any(|seed| seed.id == name || seed.name == name) {
                continue;
            }
            let seed = launch_templates::plain(name);
            all.insert(seed.id.clone(), seed);
        }
        all.into_values().collect()
    }

    /// A machine for each target that is one, with the unit that the target names.
    pub(crate) fn machines(&self, fleet: &Fleet) -> Vec<MachineSeed> {
        let each = fleet.targets.values().filter_map(|spec| {
            let instance = spec.instance()?;
            let mut seed = match self.machines.get(&spec.name) {
                Some(seed) => seed.clone(),
                None => plain(String::new()),
            };
            seed.id = instance_of(spec, instance).to_string();
            seed.name = spec.name.to_string();
            seed.tags.entry(MANAGED_TAG.to_owned()).or_insert_with(|| "true".to_owned());
            if let Some(unit) = &instance.systemd_unit {
                let unit = unit.as_str();
                let unit = unit.strip_suffix(".service").unwrap_or(unit);
                seed.units.entry(unit.to_owned()).or_default();
            }
            Some(seed)
        });
        each.collect()
    }

    /// A service for each target that is one, with a health check where the target asks for one.
    pub(crate) fn services(&self, fleet: &Fleet) -> Vec<ServiceSeed> {
        let each = fleet.targets.values().filter_map(|spec| {
            let service = spec.service()?;
            let mut seed = self.services.get(&spec.name).cloned().unwrap_or_default();
            seed.cluster = service.service.cluster().to_owned();
            seed.name = service.service.service().to_owned();
            seed.health_check |= service.healthy;
            seed.tags.entry(MANAGED_TAG.to_owned()).or_insert_with(|| "true".to_owned());
            Some(seed)
        });
        each.collect()
    }

    /// What the fleet's templates name is there, in the versions that they name.
    pub(crate) fn launch_templates_of(&self, fleet: &Fleet) -> Vec<LaunchTemplateSeed> {
        let specs = || fleet.templates.values().filter_map(TargetSpec::template);
        let mut seeds = self.launch_templates(specs().map(|it| it.launch_template.as_str()));
        for spec in specs() {
            let Ok(number) = spec.version.parse::<u32>() else { continue };
            let name = &spec.launch_template;
            for seed in seeds.iter_mut().filter(|it| it.id == *name || it.name == *name) {
                let newest = seed.versions.values().next_back().cloned().unwrap_or_default();
                seed.versions.entry(1).or_insert_with(|| newest.clone());
                seed.versions.entry(number).or_insert(newest);
            }
        }
        seeds
    }

    /// The subnets that the fleet's templates name; none: whatever is asked for is there.
    pub(crate) fn subnets(fleet: &Fleet) -> Vec<String> {
        let specs = fleet.templates.values().filter_map(TargetSpec::template);
        let all: BTreeSet<&String> = specs.flat_map(|it| &it.subnets).collect();
        all.into_iter().cloned().collect()
    }

    /// The documents of the fleet's own that are bootstraps.
    pub(crate) fn documents(fleet: &Fleet) -> Vec<String> {
        let specs = fleet.templates.values().filter_map(TargetSpec::template);
        let documents = specs.filter_map(|it| match &it.bootstrap {
            Some(Bootstrap::Document { name }) => Some(name),
            _ => None,
        });
        let all: BTreeSet<&String> = documents.collect();
        all.into_iter().cloned().collect()
    }

    /// The texts of secrets: those of the table, and for each other that names machines a JSON object with their ids.
    pub(crate) fn secrets(&self, fleet: &Fleet) -> BTreeMap<String, String> {
        let mut ids: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        for spec in fleet.targets.values() {
            if let Some(instance) = spec.instance()
                && let InstanceRef::Secret { secret, key } = &instance.instance
            {
                let id = Value::from(instance_of(spec, instance).as_str());
                ids.entry(secret.clone()).or_default().insert(key.clone(), id);
            }
        }
        let ids = ids.into_iter().map(|(name, keys)| (name, Value::Object(keys).to_string()));
        ids.chain(self.secrets.clone()).collect()
    }
}

fn plain(id: String) -> MachineSeed {
    MachineSeed {
        id,
        name: String::new(),
        units: BTreeMap::new(),
        state: lamplighter_cloud::MachineState::Stopped,
        zone: "a".to_owned(),
        tags: BTreeMap::new(),
        behaviour: lamplighter_cloud::Behaviour::default(),
    }
}

/// The machine of a target; one that only a secret names gets an id that its name determines, so that
/// it is the same after a restart.
fn instance_of(spec: &TargetSpec, instance: &InstanceSpec) -> InstanceId {
    match &instance.instance {
        InstanceRef::Id(id) => id.clone(),
        InstanceRef::Secret { secret, key } => {
            let hash = stable_hash(&format!("{}\0{secret}\0{key}", spec.name));
            InstanceId::parse(&format!("i-0{hash:016x}")).expect("17 hex digits after i-")
        }
    }
}

/// FNV-1a: std's hash is not promised to stay the same.
fn stable_hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The texts of secrets, by name.
fn secrets(item: &Item<'_>) -> Result<BTreeMap<String, String>, ConfigError> {
    let tables = item.open_table()?;
    let each = tables.items().map(|item| {
        let text = item.string("the text of a secret")?;
        Ok((item.key.to_owned(), text.to_owned()))
    });
    each.collect()
}

/// Reads the table.
pub(crate) fn read(item: &Item<'_>, fleet: &Fleet) -> Result<Local, ConfigError> {
    let keys: Vec<&str> = TIMINGS
        .into_iter()
        .chain(["machines", "services", "launch_templates", "secrets"])
        .collect();
    let reader = item.table(&keys)?;
    let mut timings = Map::new();
    for key in TIMINGS {
        if let Some(item) = reader.get(key) {
            let value = item.json()?;
            checked::<Timings>(&item, key, &value)?;
            timings.insert(key.to_owned(), value);
        }
    }
    let timings = whole(item, Value::Object(timings))?;
    let mut machines = BTreeMap::new();
    if let Some(item) = reader.get("machines") {
        let tables = item.open_table()?;
        for item in tables.items() {
            let (name, seed) = machine(&item, fleet)?;
            machines.insert(name, seed);
        }
    }
    let mut services = BTreeMap::new();
    if let Some(item) = reader.get("services") {
        let tables = item.open_table()?;
        for item in tables.items() {
            let (name, seed) = service(&item, fleet)?;
            services.insert(name, seed);
        }
    }
    let launch_templates = match reader.get("launch_templates") {
        Some(item) => launch_templates::read(&item)?,
        None => BTreeMap::new(),
    };
    let secrets = reader.get("secrets").map(|item| secrets(&item)).transpose()?.unwrap_or_default();
    Ok(Local { timings, machines, services, launch_templates, secrets })
}

/// Who was meant by a table's name: one of these targets.
fn no_such(item: &Item<'_>, noun: &str, known: &[&str]) -> ConfigError {
    let hint = match nearest(item.key, known) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if noun == "machine" => format!("expected {}, or one's instance id", one_of(known)),
        None => format!("expected {}", one_of(known)),
    };
    item.refuse_key(&format!("no target has this {noun}; {hint}"))
}

fn service(item: &Item<'_>, fleet: &Fleet) -> Result<(TargetName, ServiceSeed), ConfigError> {
    let services = fleet.targets.values().filter(|spec| spec.service().is_some());
    let Some(spec) = services.clone().find(|spec| spec.name.as_str() == item.key) else {
        let known: Vec<&str> = services.map(|spec| spec.name.as_str()).collect();
        return Err(no_such(item, "service", &known));
    };
    let keys: Vec<&str> = SERVICE.into_iter().chain(SERVICE_BEHAVIOUR).collect();
    let reader = item.table(&keys)?;
    let mut behaviour = Map::new();
    for key in SERVICE_BEHAVIOUR {
        if let Some(item) = reader.get(key) {
            let value = match key {
                "exit_code" => Value::from(count(&item, 0..=255)?),
                _ => item.json()?,
            };
            if key != "exit_code" {
                checked::<ServiceBehaviour>(&item, key, &value)?;
            }
            behaviour.insert(key.to_owned(), value);
        }
    }
    let running = reader.get("running").map(|item| count(&item, 0..=TASKS_MAX)).transpose()?;
    let scaling = reader.get("scaling").map(|item| scaling(&item)).transpose()?;
    let seed = ServiceSeed {
        desired: running.unwrap_or(0),
        health_check: reader.flag("health_check")?,
        circuit_breaker: reader.flag("circuit_breaker")?,
        scaling,
        behaviour: whole(item, Value::Object(behaviour))?,
        ..ServiceSeed::default()
    };
    Ok((spec.name.clone(), seed))
}

fn scaling(item: &Item<'_>) -> Result<ScalingSeed, ConfigError> {
    let reader = item.table(&["min", "max"])?;
    let bound = |key| count(&reader.need(key, "{ min = 1, max = 4 }")?, 0..=TASKS_MAX);
    let (min, max) = (bound("min")?, bound("max")?);
    if min > max {
        return Err(item.refuse(&format!("min is {min} and max is {max}"), "min up to max"));
    }
    Ok(ScalingSeed { min, max })
}

fn count(item: &Item<'_>, range: std::ops::RangeInclusive<i64>) -> Result<u32, ConfigError> {
    let expected = format!("a whole number from {} to {}", range.start(), range.end());
    let DeValue::Integer(_) = item.value else { return Err(item.wrong_type(&expected)) };
    let number = item.json()?.as_i64().filter(|number| range.contains(number));
    let number = number.and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| item.refuse("it is out of range", &expected))
}

fn machine(item: &Item<'_>, fleet: &Fleet) -> Result<(TargetName, MachineSeed), ConfigError> {
    let machines = fleet.targets.values().filter_map(|spec| Some((spec, spec.instance()?)));
    let spec = machines.clone().find(|(spec, instance)| {
        spec.name.as_str() == item.key || instance_of(spec, instance).as_str() == item.key
    });
    let Some((spec, _)) = spec else {
        let known: Vec<&str> = machines.map(|(spec, _)| spec.name.as_str()).collect();
        return Err(no_such(item, "machine", &known));
    };
    let keys: Vec<&str> = MACHINE.into_iter().chain(BEHAVIOUR).collect();
    let reader = item.table(&keys)?;
    let (behaviour, units) = (behaviour(&reader, &BEHAVIOUR)?, units(&reader)?);
    let state = match reader.get("state") {
        Some(item) => match item.string("\"stopped\" or \"running\"")? {
            state @ ("stopped" | "running") => state,
            _ => return Err(item.wrong_type("\"stopped\" or \"running\"")),
        },
        None => "stopped",
    };
    let seed = json!({ "id": "", "units": units, "state": state, "behaviour": behaviour });
    Ok((spec.name.clone(), whole(item, seed)?))
}

/// How a machine behaves, as far as these keys say it.
fn behaviour(reader: &Reader<'_>, keys: &[&str]) -> Result<Map<String, Value>, ConfigError> {
    let mut behaviour = Map::new();
    for key in keys {
        let Some(item) = reader.get(key) else { continue };
        let value = if key.ends_with("_exit") {
            Value::from(count(&item, 0..=255)?)
        } else {
            let value = item.json()?;
            checked::<lamplighter_cloud::Behaviour>(&item, key, &value)?;
            value
        };
        behaviour.insert((*key).to_owned(), value);
    }
    Ok(behaviour)
}

/// The table `units`, where there is one.
fn units(reader: &Reader<'_>) -> Result<Map<String, Value>, ConfigError> {
    let mut units = Map::new();
    let Some(item) = reader.get("units") else { return Ok(units) };
    let tables = item.open_table()?;
    for item in tables.items() {
        let unit = item.table(&UNIT)?;
        for key in UNIT {
            if let Some(item) = unit.get(key) {
                checked::<UnitSeed>(&item, key, &item.json()?)?;
            }
        }
        let name = item.key.strip_suffix(".service").unwrap_or(item.key);
        units.insert(name.to_owned(), item.json()?);
    }
    Ok(units)
}

/// Whether a type takes a value under a key of its own.
fn checked<T: serde::de::DeserializeOwned>(
    item: &Item<'_>,
    key: &str,
    value: &Value,
) -> Result<(), ConfigError> {
    // The types of another crate tell the value whole, as it came; so only what may be shown gets there.
    let long = |text: &str| text.chars().count() > SHOWN_CHARS_MAX;
    match value {
        Value::String(text) if long(text) || text.chars().any(char::is_control) => {
            let problem = format!("\"{}\" is not valid", shown(text));
            return Err(item.refuse(&problem, "a short text without control characters"));
        }
        Value::String(_) | Value::Bool(_) => {}
        _ => return Err(item.wrong_type("a duration or a word as text, or true or false")),
    }
    let mut one = Map::new();
    one.insert(key.to_owned(), value.clone());
    match serde_json::from_value::<T>(Value::Object(one)) {
        Ok(_) => Ok(()),
        Err(error) => Err(item.refuse_with(&error.to_string())),
    }
}

fn whole<T: serde::de::DeserializeOwned>(item: &Item<'_>, value: Value) -> Result<T, ConfigError> {
    serde_json::from_value(value).map_err(|error| item.refuse_with(&error.to_string()))
}
