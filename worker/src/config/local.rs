//! `[local]`: the world of `lamplighter local`, as far as it is not the fleet itself.
//!
//! The keys are those of the model's own types (`Timings`, `Behaviour`, `UnitSeed`); each value is
//! given to them alone, so that an error has its place in the file.

use std::collections::BTreeMap;

use lamplighter_cloud::{MachineSeed, Timings, UnitSeed};
use lamplighter_events::{InstanceId, TargetName};
use lamplighter_lifecycle::{InstanceRef, TargetSpec};
use lamplighter_runtime::Fleet;
use serde_json::{Map, Value, json};

use super::ConfigError;
use super::reader::{Item, SHOWN_CHARS_MAX, nearest, one_of, shown};

const TIMINGS: [&str; 7] =
    ["boot", "stop", "terminate", "agent", "command", "invocation", "describe_lag"];
const KEYS: [&str; 8] =
    ["boot", "stop", "terminate", "agent", "command", "invocation", "describe_lag", "machines"];
const BEHAVIOUR: [&str; 6] = ["boot", "stop", "agent", "agent_never", "bounce", "no_capacity"];
const MACHINE: [&str; 8] =
    ["units", "state", "boot", "stop", "agent", "agent_never", "bounce", "no_capacity"];
const UNIT: [&str; 4] = ["after_boot", "enabled", "active_after", "dies_after"];

/// What `[local]` says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Local {
    /// How long things take.
    pub(crate) timings: Timings,
    /// By target: how its machine differs. The id is filled in by [`Local::machines`].
    machines: BTreeMap<TargetName, MachineSeed>,
}

impl Local {
    /// A machine for each target of the fleet, with the unit that the target names.
    pub(crate) fn machines(&self, fleet: &Fleet) -> Vec<MachineSeed> {
        let each = fleet.targets.values().map(|spec| {
            let mut seed = match self.machines.get(&spec.name) {
                Some(seed) => seed.clone(),
                None => plain(String::new()),
            };
            seed.id = instance_of(spec).to_string();
            seed.name = spec.name.to_string();
            // As the worker's policy asks of every machine that it may touch.
            seed.tags.entry("lamplighter:managed".to_owned()).or_insert_with(|| "true".to_owned());
            if let Some(unit) = &spec.ec2.systemd_unit {
                let unit = unit.as_str();
                let unit = unit.strip_suffix(".service").unwrap_or(unit);
                seed.units.entry(unit.to_owned()).or_default();
            }
            seed
        });
        each.collect()
    }

    /// The secrets that the fleet names, each a JSON object with the ids of its machines.
    pub(crate) fn secrets(fleet: &Fleet) -> BTreeMap<String, Value> {
        let mut secrets: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        for spec in fleet.targets.values() {
            if let InstanceRef::Secret { secret, key } = &spec.ec2.instance {
                let id = Value::from(instance_of(spec).as_str());
                secrets.entry(secret.clone()).or_default().insert(key.clone(), id);
            }
        }
        secrets.into_iter().map(|(name, keys)| (name, Value::Object(keys))).collect()
    }
}

fn plain(id: String) -> MachineSeed {
    MachineSeed {
        id,
        name: String::new(),
        units: BTreeMap::new(),
        state: lamplighter_cloud::MachineState::Stopped,
        tags: BTreeMap::new(),
        behaviour: lamplighter_cloud::Behaviour::default(),
    }
}

/// The machine of a target; one that only a secret names gets an id that its name determines, so that
/// it is the same after a restart.
fn instance_of(spec: &TargetSpec) -> InstanceId {
    match &spec.ec2.instance {
        InstanceRef::Id(id) => id.clone(),
        InstanceRef::Secret { secret, key } => {
            // FNV-1a: a stable hash; std's is not promised to be.
            let hash = format!("{}\0{secret}\0{key}", spec.name)
                .bytes()
                .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
                });
            InstanceId::parse(&format!("i-0{hash:016x}")).expect("17 hex digits after i-")
        }
    }
}

/// Reads the table.
pub(crate) fn read(item: &Item<'_>, fleet: &Fleet) -> Result<Local, ConfigError> {
    let reader = item.table(&KEYS)?;
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
    Ok(Local { timings, machines })
}

fn machine(item: &Item<'_>, fleet: &Fleet) -> Result<(TargetName, MachineSeed), ConfigError> {
    let spec = fleet
        .targets
        .values()
        .find(|spec| spec.name.as_str() == item.key || instance_of(spec).as_str() == item.key);
    let Some(spec) = spec else {
        let known: Vec<&str> = fleet.targets.keys().map(|name| name.as_str()).collect();
        let hint = match nearest(item.key, &known) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("expected {}, or one's instance id", one_of(&known)),
        };
        return Err(item.refuse_key(&format!("no target has this machine; {hint}")));
    };
    let reader = item.table(&MACHINE)?;
    let (mut behaviour, mut units) = (Map::new(), Map::new());
    for key in BEHAVIOUR {
        if let Some(item) = reader.get(key) {
            let value = item.json()?;
            checked::<lamplighter_cloud::Behaviour>(&item, key, &value)?;
            behaviour.insert(key.to_owned(), value);
        }
    }
    if let Some(item) = reader.get("units") {
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
    }
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
