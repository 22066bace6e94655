//! EventBridge Scheduler: groups, schedules, and the tags of groups.
//!
//! Not here: what the model has not (start and end dates, deletion after completion), and taking tags
//! away. A parameter that would change when or where a schedule fires is refused, not ignored.

use std::sync::Arc;

use async_trait::async_trait;
use awsim_core::{AwsError, Protocol, RequestContext, RouteDefinition, ServiceHandler};
use lamplighter_cloud::World;
use lamplighter_cloud::schedules::{Group, Schedule, ScheduleSpec, SchedulerError};
use serde_json::{Value, json};

use crate::input::{integer, maybe_text, required, tags, text};
use crate::shared::{Shared, epoch, fault, refuse};

pub(crate) struct Scheduler {
    pub(crate) shared: Arc<Shared>,
}

/// The most items of one page.
const PAGE_MAX: i64 = 100;
/// What the model would have to leave out.
const NOT_HERE: [&str; 3] = ["StartDate", "EndDate", "KmsKeyArn"];
const ROUTES: [(&str, &str, &str); 11] = [
    ("POST", "/schedules/{Name}", "CreateSchedule"),
    ("PUT", "/schedules/{Name}", "UpdateSchedule"),
    ("GET", "/schedules/{Name}", "GetSchedule"),
    ("DELETE", "/schedules/{Name}", "DeleteSchedule"),
    ("GET", "/schedules", "ListSchedules"),
    ("POST", "/schedule-groups/{Name}", "CreateScheduleGroup"),
    ("GET", "/schedule-groups/{Name}", "GetScheduleGroup"),
    ("DELETE", "/schedule-groups/{Name}", "DeleteScheduleGroup"),
    ("GET", "/schedule-groups", "ListScheduleGroups"),
    ("POST", "/tags/{ResourceArn}", "TagResource"),
    ("GET", "/tags/{ResourceArn}", "ListTagsForResource"),
];

#[async_trait]
impl ServiceHandler for Scheduler {
    fn service_name(&self) -> &'static str {
        "scheduler"
    }

    fn protocol(&self) -> Protocol {
        Protocol::RestJson1
    }

    fn routes(&self) -> Vec<RouteDefinition> {
        let route = |(method, path_pattern, operation)| RouteDefinition {
            method,
            path_pattern,
            operation,
            required_query_param: None,
        };
        ROUTES.map(route).to_vec()
    }

    async fn handle(
        &self,
        operation: &str,
        input: Value,
        _ctx: &RequestContext,
    ) -> Result<Value, AwsError> {
        // A body names its group with a capital, a query without.
        let group = text(&input, "groupName");
        match operation {
            "CreateSchedule" | "UpdateSchedule" => {
                let spec = spec(&input)?;
                let arn = self.shared.with(|world, now| match operation {
                    "CreateSchedule" => world.create_schedule(now, spec),
                    _ => world.update_schedule(now, spec),
                });
                arn.map(|arn| json!({"ScheduleArn": arn})).map_err(|error| refuse(&error))
            }
            "GetSchedule" => {
                let name = required(&input, "Name")?;
                self.ask(|world| {
                    let schedule = world.schedules.get(group, name)?;
                    Ok(schedule_json(world, schedule))
                })
            }
            "DeleteSchedule" => {
                let name = required(&input, "Name")?;
                self.ask(|world| world.schedules.delete(group, name).map(|()| json!({})))
            }
            "ListSchedules" => self.list_schedules(&input),
            "CreateScheduleGroup" => {
                let name = required(&input, "Name")?;
                let (tags, token) = (tags(&input, "Tags"), maybe_text(&input, "ClientToken"));
                self.shared
                    .with(|world, now| world.create_schedule_group(now, name, tags, token))
                    .map(|arn| json!({"ScheduleGroupArn": arn}))
                    .map_err(|error| refuse(&error))
            }
            "GetScheduleGroup" => {
                let name = required(&input, "Name")?;
                self.ask(|world| Ok(group_json(world, world.schedules.group(name)?)))
            }
            "DeleteScheduleGroup" => {
                let name = required(&input, "Name")?;
                self.ask(|world| world.schedules.delete_group(name).map(|()| json!({})))
            }
            "ListScheduleGroups" => self.list_groups(&input),
            "TagResource" | "ListTagsForResource" => {
                let arn = required(&input, "ResourceArn")?;
                let name = arn.rsplit_once(":schedule-group/").map_or(arn, |(_, name)| name);
                self.ask(|world| {
                    let group = world.schedules.group_mut(name)?;
                    if operation == "TagResource" {
                        group.tags.extend(tags(&input, "Tags"));
                        return Ok(json!({}));
                    }
                    let tags = group.tags.iter();
                    let shown: Vec<Value> =
                        tags.map(|(key, value)| json!({"Key": key, "Value": value})).collect();
                    Ok(json!({"Tags": shown}))
                })
            }
            _ => Err(AwsError::unknown_operation(operation)),
        }
    }
}

impl Scheduler {
    fn ask(
        &self,
        question: impl FnOnce(&mut World) -> Result<Value, SchedulerError>,
    ) -> Result<Value, AwsError> {
        self.shared.with(|world, _| question(world)).map_err(|error| refuse(&error))
    }

    fn list_schedules(&self, input: &Value) -> Result<Value, AwsError> {
        let (group, prefix) = (text(input, "ScheduleGroup"), text(input, "NamePrefix"));
        let (state, limit) = (text(input, "State"), limit(input)?);
        self.ask(|world| {
            if !group.is_empty() {
                world.schedules.group(group)?;
            }
            let found = world.schedules.iter().filter(|schedule| {
                let spec = &schedule.spec;
                (group.is_empty() || group_of(spec) == group)
                    && spec.name.starts_with(prefix)
                    && (state.is_empty() || state_of(spec) == state)
            });
            let found: Vec<(String, Value)> = found
                .map(|schedule| {
                    let spec = &schedule.spec;
                    let shown = summary_json(world, schedule);
                    (format!("{}/{}", group_of(spec), spec.name), shown)
                })
                .collect();
            Ok(paged("Schedules", found, input, limit))
        })
    }

    fn list_groups(&self, input: &Value) -> Result<Value, AwsError> {
        let (prefix, limit) = (text(input, "NamePrefix"), limit(input)?);
        self.ask(|world| {
            let found = world.schedules.groups().filter(|group| group.name.starts_with(prefix));
            let found: Vec<(String, Value)> =
                found.map(|group| (group.name.clone(), group_json(world, group))).collect();
            Ok(paged("ScheduleGroups", found, input, limit))
        })
    }
}

fn limit(input: &Value) -> Result<usize, AwsError> {
    let limit = integer(input, "MaxResults")?.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
    Ok(usize::try_from(limit).unwrap_or(1))
}

fn paged(name: &str, found: Vec<(String, Value)>, input: &Value, limit: usize) -> Value {
    let after = input.get("NextToken").and_then(Value::as_str);
    let (page, token) = super::page(found, |(key, _)| key.as_str(), after, limit);
    let shown: Vec<Value> = page.into_iter().map(|(_, shown)| shown).collect();
    let mut answer = json!({});
    answer[name] = shown.into();
    if let Some(token) = token {
        answer["NextToken"] = token.into();
    }
    answer
}

fn spec(input: &Value) -> Result<ScheduleSpec, AwsError> {
    let given = |name: &&&str| input.get(**name).is_some_and(|value| !value.is_null());
    let completion = text(input, "ActionAfterCompletion");
    let left_out = NOT_HERE.iter().find(given).copied();
    let left_out = left_out.or((completion == "DELETE").then_some("ActionAfterCompletion"));
    if let Some(name) = left_out {
        let message = format!("{name} is not offered by this endpoint.");
        return Err(fault(400, "ValidationException", message));
    }
    let value = |name: &str| input.get(name).cloned().unwrap_or(Value::Null);
    Ok(ScheduleSpec {
        name: required(input, "Name")?.to_owned(),
        group: text(input, "GroupName").to_owned(),
        expression: text(input, "ScheduleExpression").to_owned(),
        zone: text(input, "ScheduleExpressionTimezone").to_owned(),
        disabled: text(input, "State") == "DISABLED",
        description: maybe_text(input, "Description"),
        target: value("Target"),
        window: value("FlexibleTimeWindow"),
        token: maybe_text(input, "ClientToken"),
    })
}

fn group_of(spec: &ScheduleSpec) -> &str {
    if spec.group.is_empty() { lamplighter_cloud::schedules::DEFAULT_GROUP } else { &spec.group }
}

fn state_of(spec: &ScheduleSpec) -> &'static str {
    if spec.disabled { "DISABLED" } else { "ENABLED" }
}

fn schedule_json(world: &World, schedule: &Schedule) -> Value {
    let spec = &schedule.spec;
    let mut shown = json!({
        "Name": spec.name,
        "GroupName": group_of(spec),
        "Arn": world.schedule_arn(&spec.group, &spec.name),
        "ScheduleExpression": spec.expression,
        "ScheduleExpressionTimezone": if spec.zone.is_empty() { "UTC" } else { &spec.zone },
        "State": state_of(spec),
        "Target": spec.target,
        "FlexibleTimeWindow": spec.window,
        "ActionAfterCompletion": "NONE",
        "CreationDate": epoch(schedule.created),
        "LastModificationDate": epoch(schedule.changed),
    });
    if let Some(description) = &spec.description {
        shown["Description"] = description.clone().into();
    }
    shown
}

/// What a listing shows of a schedule.
fn summary_json(world: &World, schedule: &Schedule) -> Value {
    const SHOWN: [&str; 6] =
        ["Name", "GroupName", "Arn", "State", "CreationDate", "LastModificationDate"];
    let mut shown = schedule_json(world, schedule);
    if let Some(fields) = shown.as_object_mut() {
        fields.retain(|name, _| SHOWN.contains(&name.as_str()));
    }
    shown["Target"] = json!({"Arn": schedule.spec.target["Arn"]});
    shown
}

fn group_json(world: &World, group: &Group) -> Value {
    json!({
        "Name": group.name,
        "Arn": world.schedule_group_arn(&group.name),
        "State": "ACTIVE",
        "CreationDate": epoch(group.created),
        "LastModificationDate": epoch(group.created),
    })
}
