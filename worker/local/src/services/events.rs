//! EventBridge: rules, targets, events.

use std::sync::Arc;

use async_trait::async_trait;
use awsim_core::{AwsError, Protocol, RequestContext, ServiceHandler};
use jiff::Timestamp;
use lamplighter_cloud::World;
use lamplighter_cloud::bus::{BusError, Entry, Rule, RuleSpec, Target, bus_name};
use lamplighter_cloud::pattern;
use serde_json::{Value, json};

use crate::input::{integer, list, maybe_text, required, tags, text, texts};
use crate::shared::{Shared, fault, refuse};

pub(crate) struct Events {
    pub(crate) shared: Arc<Shared>,
}

#[async_trait]
impl ServiceHandler for Events {
    fn service_name(&self) -> &'static str {
        "events"
    }

    fn protocol(&self) -> Protocol {
        Protocol::AwsJson1_1
    }

    async fn handle(
        &self,
        operation: &str,
        input: Value,
        ctx: &RequestContext,
    ) -> Result<Value, AwsError> {
        let bus = bus_name(text(&input, "EventBusName"));
        match operation {
            "PutEvents" => self.put_events(&input),
            "PutRule" => self.put_rule(&input),
            "DescribeRule" => {
                let name = required(&input, "Name")?;
                self.ask(|world| {
                    let arn = world.rule_arn(bus, name);
                    world.bus.rule(bus, name).map(|rule| rule_json(rule, &arn))
                })
            }
            "ListRules" => self.list_rules(&input, bus),
            "DeleteRule" => {
                let name = required(&input, "Name")?;
                self.ask(|world| world.bus.delete_rule(bus, name).map(|()| json!({})))
            }
            "EnableRule" | "DisableRule" => {
                let name = required(&input, "Name")?;
                let enabled = operation == "EnableRule";
                self.shared
                    .with(|world, now| world.set_rule_enabled(now, bus, name, enabled))
                    .map_err(|error| refuse(&error))?;
                Ok(json!({}))
            }
            "PutTargets" => self.put_targets(&input, bus),
            "RemoveTargets" => {
                let name = required(&input, "Rule")?;
                let ids = texts(&input, "Ids");
                self.ask(|world| {
                    let rule = world.bus.rule_mut(bus, name)?;
                    rule.targets.retain(|id, _| !ids.contains(id));
                    Ok(json!({"FailedEntryCount": 0, "FailedEntries": []}))
                })
            }
            "ListTargetsByRule" => {
                let name = required(&input, "Rule")?;
                self.ask(|world| {
                    let rule = world.bus.rule(bus, name)?;
                    Ok(json!({"Targets": rule.targets.values().collect::<Vec<_>>()}))
                })
            }
            "ListRuleNamesByTarget" => {
                let arn = required(&input, "TargetArn")?;
                self.ask(|world| {
                    let names: Vec<&str> = world
                        .bus
                        .rules(bus)?
                        .filter(|rule| rule.targets.values().any(|target| target.arn == arn))
                        .map(|rule| rule.name.as_str())
                        .collect();
                    Ok(json!({"RuleNames": names}))
                })
            }
            "CreateEventBus" | "DeleteEventBus" | "DescribeEventBus" | "ListEventBuses" => {
                self.buses(operation, &input, ctx)
            }
            "TagResource" | "UntagResource" | "ListTagsForResource" => {
                self.tagging(operation, &input)
            }
            "TestEventPattern" => test_pattern(&input),
            _ => Err(AwsError::unknown_operation(operation)),
        }
    }
}

fn test_pattern(input: &Value) -> Result<Value, AwsError> {
    let parse = |name: &str| {
        serde_json::from_str::<Value>(text(input, name)).map_err(|error| {
            let message = format!("{name} is not valid JSON: {error}");
            fault(400, "InvalidEventPatternException", message)
        })
    };
    let (wanted, event) = (parse("EventPattern")?, parse("Event")?);
    pattern::validate(&wanted).map_err(|error| refuse(&BusError::Pattern(error)))?;
    Ok(json!({"Result": pattern::matches(&wanted, &event)}))
}

impl Events {
    fn buses(
        &self,
        operation: &str,
        input: &Value,
        ctx: &RequestContext,
    ) -> Result<Value, AwsError> {
        match operation {
            "CreateEventBus" => {
                let name = required(input, "Name")?;
                let arn = bus_arn(ctx, name);
                self.ask(|world| world.bus.create(name).map(|()| json!({"EventBusArn": arn})))
            }
            "DeleteEventBus" => {
                let name = required(input, "Name")?;
                self.ask(|world| {
                    world.bus.delete(name);
                    Ok(json!({}))
                })
            }
            "DescribeEventBus" => {
                let name = bus_name(text(input, "Name"));
                self.ask(|world| {
                    let _ = world.bus.rules(name)?;
                    Ok(json!({"Name": name, "Arn": bus_arn(ctx, name)}))
                })
            }
            _ => self.ask(|world| {
                let buses: Vec<Value> = world
                    .bus
                    .buses()
                    .map(|name| json!({"Name": name, "Arn": bus_arn(ctx, name)}))
                    .collect();
                Ok(json!({"EventBuses": buses}))
            }),
        }
    }

    fn ask(
        &self,
        question: impl FnOnce(&mut World) -> Result<Value, BusError>,
    ) -> Result<Value, AwsError> {
        self.shared.with(|world, _| question(world)).map_err(|error| refuse(&error))
    }

    fn put_events(&self, input: &Value) -> Result<Value, AwsError> {
        let entries: Vec<Entry> = list(input, "Entries")
            .iter()
            .map(|entry| Entry {
                source: text(entry, "Source").to_owned(),
                detail_type: text(entry, "DetailType").to_owned(),
                detail: text(entry, "Detail").to_owned(),
                resources: texts(entry, "Resources"),
                bus: text(entry, "EventBusName").to_owned(),
                time: entry.get("Time").and_then(Value::as_f64).and_then(time_of),
            })
            .collect();
        let results = self
            .shared
            .with(|world, now| world.put_events(now, &entries))
            .map_err(|error| refuse(&error))?;
        let failed = results.iter().filter(|result| result.is_err()).count();
        let shown: Vec<Value> = results
            .into_iter()
            .map(|result| match result {
                Ok(id) => json!({"EventId": id}),
                Err(failure) => {
                    json!({"ErrorCode": failure.code, "ErrorMessage": failure.message})
                }
            })
            .collect();
        Ok(json!({"FailedEntryCount": failed, "Entries": shown}))
    }

    fn put_rule(&self, input: &Value) -> Result<Value, AwsError> {
        let pattern = match input.get("EventPattern").and_then(Value::as_str) {
            None | Some("") => None,
            Some(text) => Some(serde_json::from_str::<Value>(text).map_err(|error| {
                let message = format!("Event pattern is not valid. Reason: {error}");
                fault(400, "InvalidEventPatternException", message)
            })?),
        };
        let spec = RuleSpec {
            name: required(input, "Name")?.to_owned(),
            bus: text(input, "EventBusName").to_owned(),
            pattern,
            expression: maybe_text(input, "ScheduleExpression").filter(|it| !it.is_empty()),
            disabled: text(input, "State") == "DISABLED",
            description: maybe_text(input, "Description"),
            tags: tags(input, "Tags"),
        };
        let arn = self
            .shared
            .with(|world, now| world.put_rule(now, spec))
            .map_err(|error| refuse(&error))?;
        Ok(json!({"RuleArn": arn}))
    }

    fn list_rules(&self, input: &Value, bus: &str) -> Result<Value, AwsError> {
        let prefix = text(input, "NamePrefix");
        let limit = integer(input, "Limit")?.unwrap_or(100);
        let limit = usize::try_from(limit).unwrap_or(100).clamp(1, 100);
        let after = input.get("NextToken").and_then(Value::as_str);
        self.ask(|world| {
            let rules: Vec<&Rule> =
                world.bus.rules(bus)?.filter(|rule| rule.name.starts_with(prefix)).collect();
            let (page, token) = super::page(rules, |rule| rule.name.as_str(), after, limit);
            let shown: Vec<Value> =
                page.iter().map(|rule| rule_json(rule, &world.rule_arn(bus, &rule.name))).collect();
            let mut answer = json!({"Rules": shown});
            if let Some(token) = token {
                answer["NextToken"] = token.into();
            }
            Ok(answer)
        })
    }

    fn put_targets(&self, input: &Value, bus: &str) -> Result<Value, AwsError> {
        let name = required(input, "Rule")?;
        let targets: Vec<Target> = list(input, "Targets")
            .iter()
            .map(|target| serde_json::from_value(target.clone()))
            .collect::<Result<_, _>>()
            .map_err(|error| {
                fault(400, "ValidationException", format!("A target cannot be read: {error}"))
            })?;
        if let Some(target) = targets.iter().find(|it| !it.arn.starts_with("arn:aws:sqs:")) {
            let message = format!(
                "Parameter {} is not valid. Reason: only SQS queues are targets here.",
                target.arn
            );
            return Err(fault(400, "ValidationException", message));
        }
        self.ask(|world| {
            world.bus.rule_mut(bus, name)?.put_targets(targets)?;
            Ok(json!({"FailedEntryCount": 0, "FailedEntries": []}))
        })
    }

    fn tagging(&self, operation: &str, input: &Value) -> Result<Value, AwsError> {
        let arn = required(input, "ResourceARN")?;
        let path = arn.split_once(":rule/").map_or("", |(_, path)| path);
        let (bus, name) = path.split_once('/').unwrap_or(("default", path));
        self.ask(|world| {
            let rule = world.bus.rule_mut(bus, name)?;
            match operation {
                "TagResource" => rule.tags.extend(tags(input, "Tags")),
                "UntagResource" => {
                    let keys = texts(input, "TagKeys");
                    rule.tags.retain(|key, _| !keys.contains(key));
                }
                _ => {
                    let shown: Vec<Value> = rule
                        .tags
                        .iter()
                        .map(|(key, value)| json!({"Key": key, "Value": value}))
                        .collect();
                    return Ok(json!({"Tags": shown}));
                }
            }
            Ok(json!({}))
        })
    }
}

fn time_of(seconds: f64) -> Option<Timestamp> {
    #[allow(clippy::cast_possible_truncation)] // Out of range saturates, and is refused below.
    Timestamp::from_millisecond((seconds * 1000.0) as i64).ok()
}

fn bus_arn(ctx: &RequestContext, name: &str) -> String {
    format!("arn:aws:events:{}:{}:event-bus/{name}", ctx.region, ctx.account_id)
}

fn rule_json(rule: &Rule, arn: &str) -> Value {
    let mut shown = json!({
        "Name": rule.name,
        "Arn": arn,
        "EventBusName": rule.bus,
        "State": if rule.enabled { "ENABLED" } else { "DISABLED" },
    });
    if let Some(pattern) = &rule.pattern {
        shown["EventPattern"] = pattern.to_string().into();
    }
    if let Some(expression) = &rule.expression {
        shown["ScheduleExpression"] = expression.clone().into();
    }
    if let Some(description) = &rule.description {
        shown["Description"] = description.clone().into();
    }
    shown
}
