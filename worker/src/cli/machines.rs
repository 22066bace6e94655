//! The machines of a template: which there are, and how they are shown.
//!
//! A machine has a place of its template's from before its launch until it is surely gone. Those are listed; what
//! is gone and not yet forgotten is listed where somebody asks for all, since that reads the whole table.

use jiff::Timestamp;
use lamplighter_events::TargetName;
use lamplighter_lifecycle::{LaunchRecord, ProvisionedStatus, StatusView};
use lamplighter_lifecycle::{TargetSpec, TemplateSpec};
use lamplighter_runtime::Fleet;
use lamplighter_runtime::ports::{CallError, Ports, Stored};

use super::output::{self, Style};

/// The most of what a machine was made with that a table shows.
const PARAMETERS_CHARS_MAX: usize = 40;

/// A template's machines.
pub(super) struct Machines<'c> {
    /// The template.
    pub(super) spec: &'c TemplateSpec,
    /// How many have a place.
    pub(super) taken: usize,
    /// Their records, oldest first.
    pub(super) records: Vec<Stored>,
}

/// The targets that have a place of one of the fleet's templates.
pub(super) async fn placed(fleet: &Fleet, ports: &Ports) -> Result<Vec<TargetName>, CallError> {
    let mut names = Vec::new();
    for template in fleet.templates.keys() {
        names.extend(ports.store.seats(template).await?);
    }
    Ok(names)
}

/// The machines of a template that have a place; with `all` those too that are not yet forgotten.
pub(super) async fn of<'c>(
    ports: &Ports,
    spec: &'c TemplateSpec,
    all: bool,
    now: Timestamp,
) -> Result<Machines<'c>, CallError> {
    let places = ports.store.seats(&spec.template).await?;
    let mut records = match all {
        true => ports.store.records_of(&spec.template).await?,
        false => load(ports, &places).await?,
    };
    // DynamoDB takes its time to delete what has expired.
    let retires = |stored: &Stored| stored.record().and_then(|record| record.provision.retire_at);
    records.retain(|stored| retires(stored).is_none_or(|at| at > now));
    records.sort_by(|one, other| {
        let created = |it: &Stored| Some(it.record()?.provision.launch.as_ref()?.created_at);
        (created(one), one.target()).cmp(&(created(other), other.target()))
    });
    Ok(Machines { spec, taken: places.len(), records })
}

/// Records of machines. One that was made a moment ago is not left out.
async fn load(ports: &Ports, names: &[TargetName]) -> Result<Vec<Stored>, CallError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut records = ports.store.load_all(names).await?;
    for name in names {
        if !records.iter().any(|stored| stored.target() == name) {
            records.extend(ports.store.look_up(name).await?);
        }
    }
    Ok(records)
}

/// How many of its places are taken.
pub(super) fn heading(machines: &Machines<'_>) -> String {
    let Machines { spec, taken, .. } = machines;
    format!("template {}: {taken} of {} machines", spec.template, spec.limit)
}

/// What it was made with, in a line; without what its template would have said anyway, where that is named.
fn told_parameters(seen: &ProvisionedStatus, beside: Option<&TemplateSpec>) -> String {
    let of_template = |name: &String, value: &String| {
        let parameter = beside.and_then(|template| template.parameters.get(name));
        parameter.is_some_and(|parameter| parameter.default.as_ref() == Some(value))
    };
    let told = seen.parameters.iter().filter(|(name, value)| !of_template(name, value));
    told.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
}

fn shortened(text: String) -> String {
    if text.chars().count() <= PARAMETERS_CHARS_MAX {
        return text;
    }
    let short: String = text.chars().take(PARAMETERS_CHARS_MAX - 1).collect();
    format!("{short}…")
}

/// Money: what a minute of a small machine costs is seen, too.
pub(super) fn money(units: f64) -> String {
    format!("{units:.4}")
}

/// The table of a template's machines.
pub(super) fn table(
    spec: &TemplateSpec,
    views: &[StatusView],
    now: Timestamp,
    style: Style,
) -> String {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let row = |view: &StatusView| {
        let seen = view.provisioned.as_ref()?;
        let paused = if view.paused.is_some() { ", paused" } else { "" };
        Some(vec![
            view.target.to_string(),
            format!("{}{paused}", seen.processing_status),
            output::span(now.duration_since(view.since)),
            or_none(seen.instance_id.as_ref().map(ToString::to_string)),
            or_none(seen.public_ip.clone()),
            or_none(output::holders(view, now)),
            or_none(seen.cost.map(money)),
            shortened(told_parameters(seen, Some(spec))),
            view.why.clone(),
        ])
    };
    let rows: Vec<Vec<String>> = views.iter().filter_map(row).collect();
    let header =
        ["MACHINE", "STATUS", "SINCE", "INSTANCE", "ADDRESS", "HELD BY", "COST", "WITH", "WHY"];
    output::table(&header, &rows, |row, column, cell| match (column, views.get(row)) {
        (1, Some(view)) => style.phase(view.phase, cell),
        _ => cell.to_owned(),
    })
}

/// What there is to say of a launched machine beyond what is said of every target.
pub(super) fn rows(
    spec: &TargetSpec,
    view: &StatusView,
    launch: Option<&LaunchRecord>,
    now: Timestamp,
) -> Vec<(&'static str, String)> {
    let (Some(template), Some(seen)) = (spec.template(), &view.provisioned) else {
        return Vec::new();
    };
    let mut rows = vec![("template", template.template.to_string())];
    rows.push(("status", seen.processing_status.to_owned()));
    let instance = seen.instance_id.as_ref().map(ToString::to_string);
    let name = seen.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    rows.push(("instance", format!("{}{name}", instance.as_deref().unwrap_or("none yet"))));
    rows.push(("address", seen.public_ip.clone().unwrap_or_else(|| "none".to_owned())));
    if !seen.parameters.is_empty() {
        rows.push(("with", told_parameters(seen, None)));
    }
    let Some(launch) = launch else { return rows };
    let ago = output::span(now.duration_since(launch.created_at));
    rows.push(("created", format!("{} ({ago} ago)", output::time(launch.created_at))));
    if let Some(cost) = seen.cost {
        rows.push(("cost", money(cost)));
    }
    let refused = launch.tried.iter().map(|tried| format!("; refused: {tried}"));
    rows.push(("launches", format!("{}{}", launch.number, refused.collect::<String>())));
    if let Some(at) = launch.interrupted_at {
        rows.push(("spot", format!("EC2 announced at {} that it takes it back", output::time(at))));
    }
    if let Some(at) = launch.ended_at {
        rows.push(("ended", output::time(at)));
    }
    rows
}
