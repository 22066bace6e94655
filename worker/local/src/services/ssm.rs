//! SSM: agents, commands and what became of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use awsim_core::{AwsError, Protocol, RequestContext, ServiceHandler};
use jiff::{SignedDuration, Timestamp};
use lamplighter_cloud::commands::{AgentView, Command, CommandSpec, Invocation};
use serde_json::{Value, json};

use crate::input::{flag, integer, list, required, text, texts};
use crate::shared::{Shared, epoch, fault, refuse};

pub(crate) struct Ssm {
    pub(crate) shared: Arc<Shared>,
}

#[async_trait]
impl ServiceHandler for Ssm {
    fn service_name(&self) -> &'static str {
        "ssm"
    }

    fn protocol(&self) -> Protocol {
        Protocol::AwsJson1_1
    }

    async fn handle(
        &self,
        operation: &str,
        input: Value,
        _ctx: &RequestContext,
    ) -> Result<Value, AwsError> {
        match operation {
            "DescribeInstanceInformation" => self.describe(&input),
            "SendCommand" => self.send(&input),
            "GetCommandInvocation" => self.invocation(&input),
            "ListCommands" => self.list_commands(&input),
            "ListCommandInvocations" => self.list_invocations(&input),
            "CancelCommand" => {
                let id = required(&input, "CommandId")?;
                let instances = texts(&input, "InstanceIds");
                self.shared
                    .with(|world, now| world.cancel_command(now, id, &instances))
                    .map_err(|error| refuse(&error))?;
                Ok(json!({}))
            }
            _ => Err(AwsError::unknown_operation(operation)),
        }
    }
}

impl Ssm {
    fn describe(&self, input: &Value) -> Result<Value, AwsError> {
        // Two spellings of the same filters.
        let mut filters: Vec<(String, Vec<String>)> = list(input, "Filters")
            .iter()
            .map(|filter| (text(filter, "Key").to_owned(), texts(filter, "Values")))
            .collect();
        filters.extend(
            list(input, "InstanceInformationFilterList")
                .iter()
                .map(|filter| (text(filter, "key").to_owned(), texts(filter, "valueSet"))),
        );
        for (key, _) in &filters {
            if !["InstanceIds", "PingStatus", "PlatformTypes", "ResourceType"]
                .contains(&key.as_str())
            {
                return Err(fault(
                    400,
                    "InvalidInstanceInformationFilterValue",
                    format!("The filter key {key} is not supported here."),
                ));
            }
        }
        let limit = integer(input, "MaxResults")?.unwrap_or(50);
        if !(5..=50).contains(&limit) {
            return Err(fault(
                400,
                "ValidationException",
                format!(
                    "1 validation error detected: Value '{limit}' at 'maxResults' failed to satisfy constraint: Member must have value from 5 to 50"
                ),
            ));
        }
        let named: Vec<String> = filters
            .iter()
            .filter(|(key, _)| key == "InstanceIds")
            .flat_map(|(_, values)| values.clone())
            .collect();
        let agents = self
            .shared
            .with(|world, now| world.describe_agents(now, &named))
            .map_err(|error| refuse(&error))?;
        let kept: Vec<AgentView> = agents
            .into_iter()
            .filter(|agent| {
                filters.iter().all(|(key, values)| match key.as_str() {
                    "InstanceIds" => values.contains(&agent.instance_id),
                    "PingStatus" => values.iter().any(|it| it == ping(agent)),
                    "PlatformTypes" => values.iter().any(|it| it == "Linux"),
                    _ => values.iter().any(|it| it == "EC2Instance"),
                })
            })
            .collect();
        let after = input.get("NextToken").and_then(Value::as_str);
        let limit = usize::try_from(limit).unwrap_or(50);
        let (page, token) = super::page(kept, |agent| agent.instance_id.as_str(), after, limit);
        let shown: Vec<Value> = page.iter().map(agent_json).collect();
        Ok(with_token(json!({"InstanceInformationList": shown}), token))
    }

    fn send(&self, input: &Value) -> Result<Value, AwsError> {
        let parameters = input.get("Parameters").and_then(Value::as_object);
        let parameters: BTreeMap<String, Vec<String>> = parameters
            .into_iter()
            .flatten()
            .map(|(name, _)| (name.clone(), texts(&input["Parameters"], name)))
            .collect();
        let spec = CommandSpec {
            document: required(input, "DocumentName")?.to_owned(),
            instance_ids: texts(input, "InstanceIds"),
            parameters,
            comment: text(input, "Comment").to_owned(),
            timeout_seconds: integer(input, "TimeoutSeconds")?,
        };
        let command = self
            .shared
            .with(|world, now| world.send_command(now, spec))
            .map_err(|error| refuse(&error))?;
        Ok(json!({"Command": command_json(&command)}))
    }

    fn invocation(&self, input: &Value) -> Result<Value, AwsError> {
        let id = required(input, "CommandId")?;
        let instance = required(input, "InstanceId")?;
        let (command, it) = self
            .shared
            .with(|world, now| world.command_invocation(now, id, instance))
            .map_err(|error| refuse(&error))?;
        let moment = |at: Option<Timestamp>| at.map_or_else(String::new, instant);
        let took = it.delivered.zip(it.ended).map(|(from, to)| to.duration_since(from));
        Ok(json!({
            "CommandId": command.id,
            "InstanceId": it.instance_id,
            "Comment": command.comment,
            "DocumentName": command.document,
            "DocumentVersion": "$DEFAULT",
            "PluginName": "aws:runShellScript",
            "ResponseCode": it.response_code,
            "ExecutionStartDateTime": moment(it.delivered),
            "ExecutionElapsedTime": took.map_or_else(String::new, |took: SignedDuration| took.to_string()),
            "ExecutionEndDateTime": moment(it.ended),
            "Status": it.progress.status(),
            "StatusDetails": it.progress.details(),
            "StandardOutputContent": it.stdout,
            "StandardOutputUrl": "",
            "StandardErrorContent": it.stderr,
            "StandardErrorUrl": "",
            "CloudWatchOutputConfig": {"CloudWatchLogGroupName": "", "CloudWatchOutputEnabled": false},
        }))
    }

    /// The commands a listing asks for, newest first.
    fn listed(&self, input: &Value) -> Result<Vec<Command>, AwsError> {
        let id = input.get("CommandId").and_then(Value::as_str);
        let instance = input.get("InstanceId").and_then(Value::as_str);
        let mut after = None;
        let mut status = None;
        for filter in list(input, "Filters") {
            let value = text(filter, "value");
            match text(filter, "key") {
                "InvokedAfter" => after = value.parse::<Timestamp>().ok(),
                "Status" => status = Some(value.to_owned()),
                "DocumentName" => {}
                key => {
                    let message = format!("The filter key {key} is not supported here.");
                    return Err(fault(400, "InvalidFilterKey", message));
                }
            }
        }
        Ok(self.shared.with(|world, _| {
            world
                .commands
                .newest_first()
                .filter(|command| id.is_none_or(|id| command.id == id))
                // By its machine a command is listed once it reached it.
                .filter(|it| instance.is_none_or(|instance| it.reached(instance)))
                .filter(|command| after.is_none_or(|after| command.requested > after))
                .filter(|command| {
                    status.as_ref().is_none_or(|it| command.progress().status() == it)
                })
                .cloned()
                .collect()
        }))
    }

    fn list_commands(&self, input: &Value) -> Result<Value, AwsError> {
        let commands = self.listed(input)?;
        if let Some(id) = input.get("CommandId").and_then(Value::as_str)
            && commands.is_empty()
        {
            return Err(fault(400, "InvalidCommandId", format!("Command {id} does not exist.")));
        }
        let (page, token) = numbered_page(commands, input)?;
        let shown: Vec<Value> = page.iter().map(command_json).collect();
        Ok(with_token(json!({"Commands": shown}), token))
    }

    fn list_invocations(&self, input: &Value) -> Result<Value, AwsError> {
        let instance = input.get("InstanceId").and_then(Value::as_str);
        let details = flag(input, "Details");
        let all: Vec<Value> = self
            .listed(input)?
            .iter()
            .flat_map(|command| {
                command
                    .invocations
                    .values()
                    .filter(|it| instance.is_none_or(|instance| it.instance_id == instance))
                    .map(|it| invocation_json(command, it, details))
                    .collect::<Vec<_>>()
            })
            .collect();
        let (page, token) = numbered_page(all, input)?;
        Ok(with_token(json!({"CommandInvocations": page}), token))
    }
}

/// Listings change at their head, so a token is how many from the end are left.
fn numbered_page<T>(items: Vec<T>, input: &Value) -> Result<(Vec<T>, Option<String>), AwsError> {
    let limit = integer(input, "MaxResults")?.unwrap_or(50);
    let limit = usize::try_from(limit).unwrap_or(50).clamp(1, 50);
    let total = items.len();
    let left = match input.get("NextToken").and_then(Value::as_str) {
        Some(token) => token
            .parse::<usize>()
            .map_err(|_| fault(400, "InvalidNextToken", "The specified token is not valid."))?,
        None => total,
    };
    let page: Vec<T> = items.into_iter().skip(total.saturating_sub(left)).take(limit).collect();
    let remaining = left.min(total).saturating_sub(page.len());
    Ok((page, (remaining > 0).then(|| remaining.to_string())))
}

fn with_token(mut answer: Value, token: Option<String>) -> Value {
    if let Some(token) = token {
        answer["NextToken"] = token.into();
    }
    answer
}

/// A time as an invocation's answer has it: RFC 3339 with milliseconds.
fn instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

fn ping(agent: &AgentView) -> &'static str {
    if agent.online { "Online" } else { "ConnectionLost" }
}

fn agent_json(agent: &AgentView) -> Value {
    json!({
        "InstanceId": agent.instance_id,
        "PingStatus": ping(agent),
        "LastPingDateTime": epoch(agent.last_ping),
        "AgentVersion": "3.3.1142.0",
        "IsLatestVersion": true,
        "PlatformType": "Linux",
        "PlatformName": "Ubuntu",
        "PlatformVersion": "24.04",
        "ResourceType": "EC2Instance",
        "IPAddress": agent.private_ip,
        "ComputerName": agent.name,
    })
}

fn command_json(command: &Command) -> Value {
    let progress = command.progress();
    let ended = command.invocations.values().filter(|it| it.progress.ended()).count();
    json!({
        "CommandId": command.id,
        "DocumentName": command.document,
        "DocumentVersion": "$DEFAULT",
        "Comment": command.comment,
        "ExpiresAfter": epoch(command.expires),
        "Parameters": command.parameters,
        "InstanceIds": command.invocations.keys().collect::<Vec<_>>(),
        "Targets": [],
        "RequestedDateTime": epoch(command.requested),
        "Status": progress.status(),
        "StatusDetails": progress.details(),
        "MaxConcurrency": "50",
        "MaxErrors": "0",
        "TargetCount": command.invocations.len(),
        "CompletedCount": ended,
        "ErrorCount": command.invocations.values().filter(|it| it.progress.status() == "Failed").count(),
        "DeliveryTimedOutCount": command.invocations.values()
            .filter(|it| it.progress.details() == "Delivery Timed Out").count(),
    })
}

fn invocation_json(command: &Command, it: &Invocation, details: bool) -> Value {
    let mut plugins = Vec::new();
    if details {
        let mut plugin = json!({
            "Name": "aws:runShellScript",
            "Status": it.progress.status(),
            "StatusDetails": it.progress.details(),
            "ResponseCode": it.response_code,
            "Output": format!("{}{}", it.stdout, it.stderr),
        });
        if let Some(at) = it.delivered {
            plugin["ResponseStartDateTime"] = epoch(at);
        }
        if let Some(at) = it.ended {
            plugin["ResponseFinishDateTime"] = epoch(at);
        }
        plugins.push(plugin);
    }
    json!({
        "CommandId": command.id,
        "InstanceId": it.instance_id,
        "InstanceName": "",
        "Comment": command.comment,
        "DocumentName": command.document,
        "DocumentVersion": "$DEFAULT",
        "RequestedDateTime": epoch(command.requested),
        "Status": it.progress.status(),
        "StatusDetails": it.progress.details(),
        "CommandPlugins": plugins,
    })
}
