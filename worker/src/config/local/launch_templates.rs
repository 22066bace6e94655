//! `[local.launch_templates.lt-…]`: what `lamplighter local` launches, and how that behaves.

use std::collections::BTreeMap;

use lamplighter_cloud::launch_templates::{Profile, is_template_id};
use lamplighter_cloud::launches::is_instance_type;
use lamplighter_cloud::{LaunchTemplateSeed, Scarce, Shortage, TemplateData};
use serde_json::json;
use toml::de::DeValue;

use super::super::ConfigError;
use super::super::reader::{Item, SHOWN_CHARS_MAX, shown};
use super::{behaviour, stable_hash, units, whole};

/// What a template is, beside how its machines behave.
const TEMPLATE: [&str; 8] =
    ["name", "image", "snapshot", "instance_type", "public_ip", "profile", "no_capacity", "units"];
const BEHAVIOUR: [&str; 13] = [
    "boot",
    "stop",
    "agent",
    "agent_never",
    "bounce",
    "host_exit",
    "host_output",
    "public_ip_after",
    "not_found_for",
    "bootstrap",
    "bootstrap_exit",
    "bootstrap_output",
    "bootstrap_hangs",
];
/// As long as EC2 lets a launch template's name be.
const NAME_CHARS_MAX: usize = 128;
/// SSM's longest name of a parameter, and what comes before it.
const IMAGE_CHARS_MAX: usize = 1024;
const SCARCE: &str = r#"true, or a list of "spot", "on-demand", subnets and instance types"#;

/// A template that is only named, by id or by name; a name determines its id, so that it is the same after
/// a restart.
pub(super) fn plain(id_or_name: &str) -> LaunchTemplateSeed {
    if is_template_id(id_or_name) {
        return LaunchTemplateSeed { id: id_or_name.to_owned(), ..LaunchTemplateSeed::default() };
    }
    let id = format!("lt-0{:016x}", stable_hash(id_or_name));
    LaunchTemplateSeed { id, name: id_or_name.to_owned(), ..LaunchTemplateSeed::default() }
}

/// Reads the table.
pub(super) fn read(item: &Item<'_>) -> Result<BTreeMap<String, LaunchTemplateSeed>, ConfigError> {
    let mut all: BTreeMap<String, LaunchTemplateSeed> = BTreeMap::new();
    let tables = item.open_table()?;
    for item in tables.items() {
        let seed = template(&item)?;
        if let Some(other) = all.values().find(|it| !it.name.is_empty() && it.name == seed.name) {
            return Err(item.refuse_key(&format!(
                "its name \"{}\" is that of {} too; expected a name of its own",
                shown(&seed.name),
                other.id
            )));
        }
        all.insert(seed.id.clone(), seed);
    }
    Ok(all)
}

fn template(item: &Item<'_>) -> Result<LaunchTemplateSeed, ConfigError> {
    if !is_template_id(item.key) {
        return Err(item.refuse_key("no launch template's id; expected lt- and 8 to 17 hex digits"));
    }
    let keys: Vec<&str> = TEMPLATE.into_iter().chain(BEHAVIOUR).collect();
    let reader = item.table(&keys)?;
    let mut data: TemplateData = whole(
        item,
        json!({"behaviour": behaviour(&reader, &BEHAVIOUR)?, "units": units(&reader)?}),
    )?;
    if let Some(item) = reader.get("instance_type") {
        let expected = "an instance type such as \"t3.large\"";
        let name = item.name(SHOWN_CHARS_MAX, expected)?;
        if !is_instance_type(name) {
            return Err(item.refuse(&format!("\"{}\" is not valid", shown(name)), expected));
        }
        name.clone_into(&mut data.instance_type);
    }
    if let Some(item) = reader.get("image") {
        let expected = "an image's id, ami-…, or resolve:ssm: and the name of a parameter";
        let name = item.name(IMAGE_CHARS_MAX, expected)?;
        if !name.starts_with("ami-") && !name.starts_with("resolve:ssm:/") {
            return Err(item.refuse(&format!("\"{}\" is not valid", shown(name)), expected));
        }
        name.clone_into(&mut data.image_id);
    }
    if let Some(item) = reader.get("snapshot") {
        let expected = "a snapshot's id, snap-…";
        let name = item.name(SHOWN_CHARS_MAX, expected)?;
        if !name.starts_with("snap-") {
            return Err(item.refuse(&format!("\"{}\" is not valid", shown(name)), expected));
        }
        data.snapshot = Some(name.to_owned());
    }
    if reader.get("public_ip").is_some() {
        data.public_ip = reader.flag("public_ip")?;
    }
    if let Some(item) = reader.get("profile") {
        data.profile = match item.value {
            DeValue::Boolean(own) => Profile::Own(*own),
            DeValue::String(_) => {
                let name = item.name(1600, "true, false, or an instance profile's name or ARN")?;
                Profile::Named(name.to_owned())
            }
            _ => {
                let expected = "true, false, or an instance profile's name or ARN";
                return Err(item.wrong_type(expected));
            }
        };
    }
    let name = reader.get("name");
    let name =
        name.map(|item| item.name(NAME_CHARS_MAX, "a launch template's name")).transpose()?;
    let shortages = reader.get("no_capacity").map(|item| shortages(&item)).transpose()?;
    Ok(LaunchTemplateSeed {
        id: item.key.to_owned(),
        name: name.unwrap_or_default().to_owned(),
        versions: BTreeMap::from([(1, data)]),
        default_version: None,
        shortages: shortages.unwrap_or_default(),
    })
}

fn shortages(item: &Item<'_>) -> Result<Vec<Shortage>, ConfigError> {
    if let DeValue::Boolean(all) = item.value {
        return Ok(if *all { vec![Shortage::of(Scarce::Everything)] } else { Vec::new() });
    }
    let each = item.list(SCARCE)?.into_iter().map(|item| {
        let expected = r#""spot", "on-demand", a subnet or an instance type"#;
        let text = item.name(SHOWN_CHARS_MAX, expected)?;
        let of = Scarce::try_from(text.to_owned());
        let of =
            of.map_err(|_| item.refuse(&format!("\"{}\" is not valid", shown(text)), expected))?;
        Ok(Shortage::of(of))
    });
    each.collect()
}
