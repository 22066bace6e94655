//! The cloud port: EC2, SSM, health addresses and secrets as one look and one act.
//!
//! *Theory.* A look at many targets makes one describe for all of them; what else a target's plan asks
//! for follows at once for each. An error that waiting cures goes back to the runtime; one that it does
//! not is part of what was seen. EC2 not knowing a machine is a state, not an error.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use lamplighter_events::InstanceId;
use lamplighter_lifecycle::{
    Agent, Effect, HealthReading, HealthUrl, InstanceRef, InstanceSeen, ObservePlan,
    ObserveTrouble, Observed, PowerState, Sighting,
};
use lamplighter_runtime::ports::{CallError, Clock, Cloud, Disposition};

use crate::batch::{Batcher, together};
use crate::client::Aws;
use crate::ec2::{Describe, Start, Stop, Switch, seen};
use crate::health::HealthClient;
use crate::secrets::Secrets;
use crate::ssm::{self, Agents, Verb};

/// The port over the SDK.
pub(crate) struct AwsCloud {
    describes: Batcher<Describe>,
    starts: Batcher<Start>,
    stops: Batcher<Stop>,
    agents: Batcher<Agents>,
    ssm: aws_sdk_ssm::Client,
    health: HealthClient,
    secrets: Secrets,
    clock: Arc<dyn Clock>,
}

impl AwsCloud {
    pub(crate) fn new(aws: &Aws, health: HealthClient, clock: Arc<dyn Clock>) -> Self {
        let switch = || Switch { client: aws.ec2.clone(), clock: Arc::clone(&clock) };
        Self {
            describes: Batcher::new(Describe {
                client: aws.ec2.clone(),
                clock: Arc::clone(&clock),
            }),
            starts: Batcher::new(Start(switch())),
            stops: Batcher::new(Stop(switch())),
            agents: Batcher::new(Agents { client: aws.ssm.clone() }),
            ssm: aws.ssm.clone(),
            health,
            secrets: Secrets::new(aws.secrets.clone()),
            clock,
        }
    }

    async fn look(&self, plan: &ObservePlan) -> Result<Sighting, CallError> {
        let described = match self.describes.call(plan.instance.clone()).await {
            Ok(described) => described,
            Err(error) => return trouble(error).map(Err),
        };
        let instance = seen(described.instance.as_ref());
        let running = instance.state == PowerState::Running;
        let agent = async {
            match plan.agent && running {
                true => self.agents.call(plan.instance.clone()).await.map(Some),
                false => Ok(None),
            }
        };
        let check = async {
            match &plan.check {
                Some((id, token)) if instance.state != PowerState::Missing => {
                    ssm::read_check(&self.ssm, &plan.instance, id.as_deref(), token).await.map(Some)
                }
                _ => Ok(None),
            }
        };
        let health = async {
            match &plan.health {
                Some(url) if running => Some(self.ask_health(url, &instance).await),
                _ => None,
            }
        };
        let (agent, check, health) = tokio::join!(agent, check, health);
        // SSM's silence is not EC2's: a stop does not wait for it, and a start ends at its deadline.
        let agent = agent.or_else(|error| unheard(error, Some(Agent::Offline)));
        let check = check.or_else(|error| unheard(error, None));
        let both = agent.and_then(|agent| check.map(|check| (agent, check)));
        let (agent, check) = match both {
            Ok(both) => both,
            Err(error) => return trouble(error).map(Err),
        };
        Ok(Ok(Observed { at: described.at, instance, agent, check, health }))
    }

    async fn ask_health(&self, url: &HealthUrl, instance: &InstanceSeen) -> HealthReading {
        let address = url.fill(instance.private_ip.as_deref(), instance.public_ip.as_deref());
        match address {
            Some(address) => self.health.ask(&address).await,
            None => HealthReading::Unhealthy {
                detail: format!("the machine has no address for {}", url.as_str()),
            },
        }
    }
}

/// What a passing failure of SSM's comes to; any other stays one.
fn unheard<T>(error: CallError, otherwise: T) -> Result<T, CallError> {
    match error.disposition {
        Disposition::Retry | Disposition::RetryAfter(_) => {
            tracing::warn!(%error, "SSM is not heard; the machine is observed without it");
            Ok(otherwise)
        }
        Disposition::Fail | Disposition::Park => Err(error),
    }
}

/// What waiting does not cure is something that was seen.
fn trouble(error: CallError) -> Result<ObserveTrouble, CallError> {
    match error.disposition {
        Disposition::Fail | Disposition::Park => {
            Ok(ObserveTrouble { cause: error.cause, message: error.to_string() })
        }
        Disposition::Retry | Disposition::RetryAfter(_) => Err(error),
    }
}

#[async_trait]
impl Cloud for AwsCloud {
    async fn observe(&self, plans: &[ObservePlan]) -> Vec<Result<Sighting, CallError>> {
        together(plans.iter().map(|plan| self.look(plan))).await
    }

    async fn execute(
        &self,
        effect: &Effect,
        act_by: Timestamp,
    ) -> Result<Option<String>, CallError> {
        match effect {
            Effect::StartInstance { instance } => {
                self.starts.call((instance.clone(), act_by)).await.map(|()| None)
            }
            Effect::StopInstance { instance } => {
                self.stops.call((instance.clone(), act_by)).await.map(|()| None)
            }
            Effect::SendCommand { instance, token, probe } => {
                ssm::send(&self.ssm, &self.clock, instance, token, probe, Verb::IsActive, act_by)
                    .await
            }
        }
    }

    async fn resolve(&self, instance: &InstanceRef) -> Result<InstanceId, CallError> {
        self.secrets.resolve(instance).await
    }
}
