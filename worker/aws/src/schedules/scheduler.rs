//! Schedules of EventBridge Scheduler: found, made, changed, removed, switched.
//!
//! A group of ours is ours with all that is in it: schedules have no tags of their own. Groups of ours
//! are found by their tag whatever their names are, so that a fleet whose group got another name leaves
//! none behind that goes on firing.

use std::collections::BTreeMap;

use aws_sdk_scheduler::error::ProvideErrorMetadata;
use aws_sdk_scheduler::operation::get_schedule::GetScheduleOutput;
use aws_sdk_scheduler::types::{
    FlexibleTimeWindow, FlexibleTimeWindowMode, RetryPolicy, ScheduleState, Tag, Target,
};
use serde_json::json;

use super::plan::{Change, EXPRESSION, Found, Planned, Shape, ZONE};
use super::rules::retries;
use super::{
    DESCRIPTION, Home, LATE_SECONDS_MAX, Owner, QUEUE_TAG, SchedulesError, Wanted, failed, owner,
};
use crate::client::Aws;
use crate::disposition::{ErrorCode, call_error};

/// What was made or removed by somebody since the look.
const CONFLICT: &str = "ConflictException";

fn what(name: &str) -> String {
    format!("schedule {name}")
}

/// The tick, as the parser of ticks wants it; Scheduler puts the time in.
fn input(name: &str) -> String {
    let due = "<aws.scheduler.scheduled-time>";
    format!("{{\"lamplighter\":\"tick\",\"rule\":{},\"scheduled\":\"{due}\"}}", json!(name))
}

pub(super) fn shape(wanted: &Wanted, zone: &str, queue_arn: &str, role: Option<&str>) -> Shape {
    let mut shape = Shape::from([
        (EXPRESSION, wanted.expression.clone()),
        (ZONE, zone.to_owned()),
        ("queue", queue_arn.to_owned()),
        ("input", input(&wanted.name)),
        ("retries", retries(Some(LATE_SECONDS_MAX))),
        ("window", FlexibleTimeWindowMode::Off.as_str().to_owned()),
    ]);
    if let Some(role) = role {
        shape.insert("role", role.to_owned());
    }
    shape
}

fn shape_of(schedule: &GetScheduleOutput) -> Shape {
    let target = schedule.target();
    let retry = target.and_then(Target::retry_policy);
    let texts = [
        (EXPRESSION, schedule.schedule_expression().map(str::to_owned)),
        (ZONE, schedule.schedule_expression_timezone().map(str::to_owned)),
        ("queue", target.map(|it| it.arn().to_owned())),
        ("input", target.and_then(Target::input).map(str::to_owned)),
        ("role", target.map(|it| it.role_arn().to_owned())),
        ("retries", Some(retries(retry.and_then(RetryPolicy::maximum_event_age_in_seconds)))),
        ("window", schedule.flexible_time_window().map(|it| it.mode().as_str().to_owned())),
        ("start", schedule.start_date().map(ToString::to_string)),
        ("end", schedule.end_date().map(ToString::to_string)),
    ];
    texts.into_iter().filter_map(|(key, text)| Some((key, text?))).collect()
}

/// The group of this name, whosever it is, and all groups that are ours, with what is in those.
pub(super) async fn look(
    aws: &Aws,
    wanted: &str,
    queue_arn: &str,
) -> Result<(BTreeMap<String, Owner>, Vec<Found>), SchedulesError> {
    let (mut groups, mut found) = (BTreeMap::new(), Vec::new());
    for (name, arn) in list_groups(aws).await? {
        let what = format!("schedule group {name}");
        let answer = aws.scheduler.list_tags_for_resource().resource_arn(arn).send().await;
        let answer = answer
            .map_err(|error| failed(&what, call_error("scheduler:ListTagsForResource", &error)))?;
        let tag = answer.tags().iter().find(|tag| tag.key() == QUEUE_TAG).map(Tag::value);
        let owner = owner(tag, queue_arn);
        if owner == Owner::Us {
            for schedule in list_schedules(aws, &name).await? {
                found.extend(read(aws, &name, &schedule).await?);
            }
        }
        if owner == Owner::Us || name == wanted {
            groups.insert(name, owner);
        }
    }
    Ok((groups, found))
}

async fn list_groups(aws: &Aws) -> Result<Vec<(String, String)>, SchedulesError> {
    let mut groups = Vec::new();
    let mut token = None;
    loop {
        let answer = aws.scheduler.list_schedule_groups().set_next_token(token).send().await;
        let answer = answer.map_err(|error| {
            failed("schedule groups", call_error("scheduler:ListScheduleGroups", &error))
        })?;
        for group in answer.schedule_groups() {
            let named = group.name().zip(group.arn());
            groups.extend(named.map(|(name, arn)| (name.to_owned(), arn.to_owned())));
        }
        token = answer.next_token().map(str::to_owned);
        if token.is_none() {
            return Ok(groups);
        }
    }
}

async fn list_schedules(aws: &Aws, group: &str) -> Result<Vec<String>, SchedulesError> {
    let mut names = Vec::new();
    let mut token = None;
    loop {
        let call = aws.scheduler.list_schedules().group_name(group).set_next_token(token);
        let answer = call.send().await.map_err(|error| {
            let what = format!("schedule group {group}");
            failed(&what, call_error("scheduler:ListSchedules", &error))
        })?;
        names.extend(answer.schedules().iter().filter_map(|it| it.name().map(str::to_owned)));
        token = answer.next_token().map(str::to_owned);
        if token.is_none() {
            return Ok(names);
        }
    }
}

async fn read(aws: &Aws, group: &str, name: &str) -> Result<Option<Found>, SchedulesError> {
    let schedule = get(aws, group, name).await?;
    Ok(schedule.map(|schedule| Found {
        home: Home::Scheduler(group.to_owned()),
        name: name.to_owned(),
        owner: Owner::Us,
        enabled: is_enabled(&schedule),
        shape: shape_of(&schedule),
        targets: Vec::new(),
    }))
}

fn is_enabled(schedule: &GetScheduleOutput) -> bool {
    schedule.state() != Some(&ScheduleState::Disabled)
}

async fn get(
    aws: &Aws,
    group: &str,
    name: &str,
) -> Result<Option<GetScheduleOutput>, SchedulesError> {
    match aws.scheduler.get_schedule().group_name(group).name(name).send().await {
        Ok(schedule) => Ok(Some(schedule)),
        Err(error) if ErrorCode::parse(error.code(), 404) == ErrorCode::NoSuchResource => Ok(None),
        Err(error) => Err(failed(&what(name), call_error("scheduler:GetSchedule", &error))),
    }
}

/// Makes the group with its tag.
pub(super) async fn make_group(
    aws: &Aws,
    group: &str,
    queue_arn: &str,
) -> Result<(), SchedulesError> {
    let what = format!("schedule group {group}");
    let tag = Tag::builder().key(QUEUE_TAG).value(queue_arn).build();
    let tag = tag.map_err(|_| SchedulesError::Incomplete { what: what.clone(), missing: "tag" })?;
    match aws.scheduler.create_schedule_group().name(group).tags(tag).send().await {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(CONFLICT) => {
            Err(SchedulesError::Meanwhile { what, done: "made" })
        }
        Err(error) => Err(failed(&what, call_error("scheduler:CreateScheduleGroup", &error))),
    }
}

/// Does what is planned about a schedule.
pub(super) async fn carry_out(
    aws: &Aws,
    planned: &Planned,
    group: &str,
    queue_arn: &str,
    role: Option<&str>,
) -> Result<(), SchedulesError> {
    let name = &planned.name;
    let meanwhile = |done| SchedulesError::Meanwhile { what: what(name), done };
    match &planned.change {
        Change::Unchanged | Change::NotOurs { .. } => Ok(()),
        Change::Add => {
            let call = aws.scheduler.create_schedule().group_name(group).name(name);
            let answer = call
                .description(DESCRIPTION)
                .state(state(planned.enabled))
                .set_schedule_expression(planned.expression.clone())
                .set_schedule_expression_timezone(planned.zone.clone())
                .flexible_time_window(on_time(name)?)
                .target(target(name, queue_arn, role)?)
                .send()
                .await;
            match answer {
                Ok(_) => Ok(()),
                Err(error) if error.code() == Some(CONFLICT) => Err(meanwhile("made")),
                Err(error) => {
                    Err(failed(&what(name), call_error("scheduler:CreateSchedule", &error)))
                }
            }
        }
        Change::Change { .. } => {
            let there = get(aws, group, name).await?.ok_or_else(|| meanwhile("removed"))?;
            let call = aws.scheduler.update_schedule().group_name(group).name(name);
            let answer = call
                .description(DESCRIPTION)
                // What an update is not told it forgets, the state included.
                .state(state(is_enabled(&there)))
                .set_schedule_expression(planned.expression.clone())
                .set_schedule_expression_timezone(planned.zone.clone())
                .flexible_time_window(on_time(name)?)
                .target(target(name, queue_arn, role)?)
                .send()
                .await;
            answer.map(drop).map_err(|error| {
                failed(&what(name), call_error("scheduler:UpdateSchedule", &error))
            })
        }
        Change::Remove => {
            match aws.scheduler.delete_schedule().group_name(group).name(name).send().await {
                Ok(_) => Ok(()),
                // Somebody was faster.
                Err(error) if ErrorCode::parse(error.code(), 404) == ErrorCode::NoSuchResource => {
                    Ok(())
                }
                Err(error) => {
                    Err(failed(&what(name), call_error("scheduler:DeleteSchedule", &error)))
                }
            }
        }
    }
}

fn state(enabled: bool) -> ScheduleState {
    if enabled { ScheduleState::Enabled } else { ScheduleState::Disabled }
}

/// No window: a schedule is for its minute.
fn on_time(name: &str) -> Result<FlexibleTimeWindow, SchedulesError> {
    FlexibleTimeWindow::builder()
        .mode(FlexibleTimeWindowMode::Off)
        .build()
        .map_err(|_| SchedulesError::Incomplete { what: what(name), missing: "window" })
}

fn target(name: &str, queue_arn: &str, role: Option<&str>) -> Result<Target, SchedulesError> {
    let role = role.ok_or_else(|| SchedulesError::NoRole(name.to_owned()))?;
    let retries = RetryPolicy::builder().maximum_event_age_in_seconds(LATE_SECONDS_MAX).build();
    let target = Target::builder().arn(queue_arn).role_arn(role).input(input(name));
    let target = target.retry_policy(retries).build();
    target.map_err(|_| SchedulesError::Incomplete { what: what(name), missing: "target" })
}

/// Sets a schedule as it is, but for its state.
pub(super) async fn switch(
    aws: &Aws,
    group: &str,
    name: &str,
    enabled: bool,
) -> Result<(), SchedulesError> {
    let there = get(aws, group, name).await?;
    let there =
        there.ok_or_else(|| SchedulesError::Meanwhile { what: what(name), done: "removed" })?;
    let call = aws.scheduler.update_schedule().group_name(group).name(name);
    let answer = call
        .state(state(enabled))
        .set_description(there.description)
        .set_schedule_expression(there.schedule_expression)
        .set_schedule_expression_timezone(there.schedule_expression_timezone)
        .set_flexible_time_window(there.flexible_time_window)
        .set_target(there.target)
        .set_start_date(there.start_date)
        .set_end_date(there.end_date)
        .set_kms_key_arn(there.kms_key_arn)
        .set_action_after_completion(there.action_after_completion)
        .send()
        .await;
    let answer = answer.map(drop);
    answer.map_err(|error| failed(&what(name), call_error("scheduler:UpdateSchedule", &error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_is_a_tick_once_its_time_is_put_in() {
        let body = input("morning");
        let body = body.replace("<aws.scheduler.scheduled-time>", "2026-11-20T07:00:00Z");
        let command = json!({"action": "status"});
        let command = lamplighter_events::Command::from_json(&command).unwrap();
        let rules = [("morning".to_owned(), command)];
        let parsed = lamplighter_events::parse(&body, &[].into(), &rules.into()).unwrap();
        let lamplighter_events::Inbound::Tick(tick) = parsed else { panic!("{parsed:?}") };
        assert_eq!(tick.command_id().to_string(), "tick:morning:2026-11-20T07:00:00Z");
    }
}
