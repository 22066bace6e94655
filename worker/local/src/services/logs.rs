//! CloudWatch Logs: which log groups exist, and nothing else.

use std::sync::Arc;

use async_trait::async_trait;
use awsim_core::{AwsError, Protocol, RequestContext, ServiceHandler};
use serde_json::{Value, json};

use crate::input::{integer, required, text};
use crate::shared::{Shared, fault};

/// The largest page of DescribeLogGroups.
const GROUPS_MAX: i64 = 50;

pub(crate) struct Logs {
    pub(crate) shared: Arc<Shared>,
}

#[async_trait]
impl ServiceHandler for Logs {
    fn service_name(&self) -> &'static str {
        "logs"
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
        match operation {
            "DescribeLogGroups" => {
                let limit = integer(&input, "limit")?.unwrap_or(GROUPS_MAX);
                if !(1..=GROUPS_MAX).contains(&limit) {
                    let message = format!("limit is {limit}; expected 1 to {GROUPS_MAX}");
                    return Err(fault(400, "InvalidParameterException", message));
                }
                let limit = usize::try_from(limit).unwrap_or(1);
                let after = input.get("nextToken").and_then(Value::as_str);
                let prefix = text(&input, "logGroupNamePrefix");
                let (names, more) =
                    self.shared.read(|world, _| world.log_groups.describe(prefix, after, limit));
                let token = names.last().filter(|_| more).cloned();
                let groups: Vec<Value> = names
                    .iter()
                    .map(|name| {
                        let group = format!(
                            "arn:aws:logs:{}:{}:log-group:{name}",
                            ctx.region, ctx.account_id
                        );
                        json!({
                            "logGroupName": name,
                            "arn": format!("{group}:*"),
                            "logGroupArn": group,
                            "creationTime": 0,
                            "metricFilterCount": 0,
                            "storedBytes": 0,
                        })
                    })
                    .collect();
                let mut answer = json!({"logGroups": groups});
                if let Some(token) = token {
                    answer["nextToken"] = token.into();
                }
                Ok(answer)
            }
            "CreateLogGroup" => {
                let name = required(&input, "logGroupName")?;
                self.shared.with(|world, _| world.log_groups.insert(name));
                Ok(json!({}))
            }
            "DeleteLogGroup" => {
                let name = required(&input, "logGroupName")?;
                if self.shared.with(|world, _| world.log_groups.remove(name)) {
                    return Ok(json!({}));
                }
                let message = "The specified log group does not exist.";
                Err(fault(400, "ResourceNotFoundException", message))
            }
            _ => Err(AwsError::unknown_operation(operation)),
        }
    }
}
