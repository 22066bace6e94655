//! What AWS reports on its own: a nudge to look at a target, never a fact about it.
//!
//! A signal comes as the EventBridge event that AWS sends. It says when and what, but a pass always
//! describes: signals come late, doubled and out of order.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::fields::{string_at, time_at};
use crate::{FieldError, InstanceId};

const EC2_STATE_CHANGE: &str = "EC2 Instance State-change Notification";
const EC2_SPOT_INTERRUPTION: &str = "EC2 Spot Instance Interruption Warning";
const SSM_COMMAND_STATUS: &str = "EC2 Command Status-change Notification";
const SSM_INVOCATION_STATUS: &str = "EC2 Command Invocation Status-change Notification";
const ECS_TASK_STATE_CHANGE: &str = "ECS Task State Change";

/// An ARN of ECS with two names of 255 characters fits; nothing that AWS sends is longer.
const TEXT_CHARS_MAX: usize = 600;

/// What AWS reports on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// An EC2 instance went to another state.
    Ec2StateChange {
        /// The instance.
        instance: InstanceId,
        /// Such as `running`.
        state: String,
        /// When AWS says it was.
        at: Timestamp,
    },
    /// EC2 takes a spot instance back, two minutes from now.
    Ec2SpotInterruption {
        /// The instance.
        instance: InstanceId,
        /// `terminate`, `stop` or `hibernate`.
        action: String,
        /// When AWS says it was.
        at: Timestamp,
    },
    /// A command of SSM went to another status, on one instance or as a whole.
    SsmCommandStatus {
        /// SSM's id of the command.
        command_id: String,
        /// The instance, where the event is about one.
        instance: Option<InstanceId>,
        /// Such as `Success`.
        status: String,
        /// When AWS says it was.
        at: Timestamp,
    },
    /// A task of ECS went to another status.
    EcsTaskStateChange {
        /// The cluster's name, without its ARN.
        cluster: String,
        /// Such as `service:fluidity-server-prod`.
        group: String,
        /// Such as `RUNNING`.
        last_status: String,
        /// When AWS says it was.
        at: Timestamp,
    },
}

impl Signal {
    /// The events of AWS that are signals, by their `detail-type`.
    pub const DETAIL_TYPES: [&str; 5] = [
        EC2_STATE_CHANGE,
        EC2_SPOT_INTERRUPTION,
        SSM_COMMAND_STATUS,
        SSM_INVOCATION_STATUS,
        ECS_TASK_STATE_CHANGE,
    ];

    /// When AWS says it was.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        match self {
            Self::Ec2StateChange { at, .. }
            | Self::Ec2SpotInterruption { at, .. }
            | Self::SsmCommandStatus { at, .. }
            | Self::EcsTaskStateChange { at, .. } => *at,
        }
    }

    /// The signal in an event of EventBridge; `None` where the event is none of ours.
    pub(crate) fn from_event(
        source: &str,
        detail_type: &str,
        event: &Map<String, Value>,
    ) -> Result<Option<Self>, FieldError> {
        let known = matches!(
            (source, detail_type),
            ("aws.ec2", EC2_STATE_CHANGE | EC2_SPOT_INTERRUPTION)
                | ("aws.ssm", SSM_COMMAND_STATUS | SSM_INVOCATION_STATUS)
                | ("aws.ecs", ECS_TASK_STATE_CHANGE)
        );
        if !known {
            return Ok(None);
        }
        let Some(Value::Object(detail)) = event.get("detail") else {
            let problem = format!("is missing from {detail_type} or no object");
            return Err(FieldError::new("detail", problem, "an object"));
        };
        let at = time_at(event, "time", detail_type)?;
        let told = |field: &str| bounded_at(detail, field, detail_type);
        Ok(Some(match detail_type {
            EC2_STATE_CHANGE => {
                let instance = InstanceId::parse(&told("instance-id")?)
                    .map_err(|error| error.at("instance-id"))?;
                Self::Ec2StateChange { instance, state: told("state")?, at }
            }
            EC2_SPOT_INTERRUPTION => {
                let instance = InstanceId::parse(&told("instance-id")?)
                    .map_err(|error| error.at("instance-id"))?;
                Self::Ec2SpotInterruption { instance, action: told("instance-action")?, at }
            }
            ECS_TASK_STATE_CHANGE => {
                let cluster = told("clusterArn")?;
                let cluster = cluster.rsplit('/').next().unwrap_or(&cluster).to_owned();
                Self::EcsTaskStateChange {
                    cluster,
                    group: told("group")?,
                    last_status: told("lastStatus")?,
                    at,
                }
            }
            _ => Self::SsmCommandStatus {
                command_id: told("command-id")?,
                // A node that is no EC2 instance (mi-…) is nobody's; its command's id still tells.
                instance: match detail.get("instance-id") {
                    Some(Value::String(id)) => InstanceId::parse(id).ok(),
                    _ => None,
                },
                status: told("status")?,
                at,
            },
        }))
    }
}

fn bounded_at(
    detail: &Map<String, Value>,
    field: &str,
    detail_type: &str,
) -> Result<String, FieldError> {
    let text = string_at(detail, field, detail_type)?;
    let chars = text.chars().count();
    if !(1..=TEXT_CHARS_MAX).contains(&chars) || text.chars().any(char::is_control) {
        return Err(FieldError::new(
            field,
            format!("has {chars} characters in {detail_type}, or control characters among them"),
            "1 to 600 characters without control characters",
        ));
    }
    Ok(text.to_owned())
}
