//! Application Auto Scaling: the scalable targets of ECS services.
//!
//! Not here: policies, scheduled actions, other namespaces; asking for those finds nothing, registering
//! them is refused.

use std::sync::Arc;

use async_trait::async_trait;
use awsim_core::{AwsError, Protocol, RequestContext, ServiceHandler};
use lamplighter_cloud::scaling::{DIMENSION, NAMESPACE, ScalingError, Suspended, TargetSpec};
use serde_json::{Value, json};

use crate::input::{integer, maybe_text, text, texts};
use crate::shared::{Shared, epoch, refuse};

pub(crate) struct Scaling {
    pub(crate) shared: Arc<Shared>,
}

/// The most targets of one page.
const PAGE_MAX: i64 = 50;
/// The most ids of one DescribeScalableTargets.
const IDS_MAX: usize = 50;

#[async_trait]
impl ServiceHandler for Scaling {
    fn service_name(&self) -> &'static str {
        "application-autoscaling"
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
            "DescribeScalableTargets" => self.describe(&input, ctx),
            "RegisterScalableTarget" => {
                let resource_id = known(&input)?;
                let spec = TargetSpec {
                    min: integer(&input, "MinCapacity")?,
                    max: integer(&input, "MaxCapacity")?,
                    role_arn: maybe_text(&input, "RoleARN"),
                    suspended: suspended(&input)?,
                };
                self.shared
                    .with(|world, now| {
                        let target = world.register_scalable_target(now, resource_id, spec)?;
                        Ok(json!({"ScalableTargetARN": world.scalable_target_arn(&target)}))
                    })
                    .map_err(|error: ScalingError| refuse(&error))
            }
            "DeregisterScalableTarget" => {
                let resource_id = known(&input)?;
                self.shared
                    .with(|world, now| world.deregister_scalable_target(now, resource_id))
                    .map_err(|error| refuse(&error))?;
                Ok(json!({}))
            }
            _ => Err(AwsError::unknown_operation(operation)),
        }
    }
}

fn invalid(text: impl Into<String>) -> AwsError {
    refuse(&ScalingError::Validation(text.into()))
}

/// The resource id, if namespace and dimension are those that the model knows.
fn known(input: &Value) -> Result<&str, AwsError> {
    let given = (text(input, "ServiceNamespace"), text(input, "ScalableDimension"));
    if given != (NAMESPACE, DIMENSION) {
        return Err(invalid("Unsupported service namespace, resource type or scalable dimension"));
    }
    Ok(text(input, "ResourceId"))
}

fn suspended(input: &Value) -> Result<Option<Suspended>, AwsError> {
    let Some(state) = input.get("SuspendedState").filter(|it| !it.is_null()) else {
        return Ok(None);
    };
    let state = serde_json::from_value(state.clone());
    state.map(Some).map_err(|error| invalid(format!("SuspendedState: {error}")))
}

impl Scaling {
    fn describe(&self, input: &Value, ctx: &RequestContext) -> Result<Value, AwsError> {
        let namespace = text(input, "ServiceNamespace");
        if namespace.is_empty() {
            return Err(invalid("ServiceNamespace is required"));
        }
        let ids = texts(input, "ResourceIds");
        if ids.len() > IDS_MAX {
            return Err(invalid(format!(
                "ResourceIds has {} members; expected 1 to {IDS_MAX}",
                ids.len()
            )));
        }
        let dimension = text(input, "ScalableDimension");
        let ours = namespace == NAMESPACE && ["", DIMENSION].contains(&dimension);
        let role = format!(
            "arn:aws:iam::{}:role/aws-service-role/ecs.application-autoscaling.amazonaws.com/AWSServiceRoleForApplicationAutoScaling_ECSService",
            ctx.account_id
        );
        let targets: Vec<(String, Value)> = self.shared.with(|world, now| {
            let all = world.describe_scalable_targets(now);
            let all = all.iter().filter(|_| ours);
            let wanted = all.filter(|it| ids.is_empty() || ids.contains(&it.resource_id));
            wanted
                .map(|it| {
                    let json = json!({
                        "ServiceNamespace": NAMESPACE,
                        "ResourceId": it.resource_id,
                        "ScalableDimension": DIMENSION,
                        "MinCapacity": it.min,
                        "MaxCapacity": it.max,
                        "RoleARN": it.role_arn.as_ref().unwrap_or(&role),
                        "CreationTime": epoch(it.created),
                        "SuspendedState": it.suspended,
                        "ScalableTargetARN": world.scalable_target_arn(it),
                    });
                    (it.resource_id.clone(), json)
                })
                .collect()
        });
        let limit = integer(input, "MaxResults")?.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
        let limit = usize::try_from(limit).unwrap_or(1);
        let after = input.get("NextToken").and_then(Value::as_str);
        let (page, token) = super::page(targets, |(id, _)| id.as_str(), after, limit);
        let shown: Vec<Value> = page.into_iter().map(|(_, json)| json).collect();
        let mut answer = json!({"ScalableTargets": shown});
        if let Some(token) = token {
            answer["NextToken"] = token.into();
        }
        Ok(answer)
    }
}
