//! The cloud port: EC2, ECS, SSM, addresses, metrics and secrets as one look, one act and one question.
//!
//! *Theory.* A look at many targets makes one describe for all of them; what else a target's plan asks
//! for follows at once for each. An error that waiting cures goes back to the runtime; one that it does
//! not is part of what was seen. AWS not knowing a machine or a service is a state, not an error.

use futures_util::future::join_all;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use lamplighter_events::{Cause, InstanceId};
use lamplighter_lifecycle::{
    Agent, Effect, HealthReading, HealthUrl, InstanceSeen, LaunchToken, ObservePlan,
    ObserveTrouble, Observed, Place, PowerState, ProbePlan, Resource, Round, Seen, ServiceId,
    Sighting,
};
use lamplighter_runtime::ports::{Applied, CallError, Clock, Cloud, Disposition, Tagged};

use crate::addresses::Addresses;
use crate::batch::{Answered, Batcher};
use crate::client::Aws;
use crate::disposition::own_error;
use crate::ec2::{Describe, Start, Stop, Switch, seen};
use crate::ecs::{self, ServiceDescribed, Services};
use crate::health::HealthClient;
use crate::launch::{self, Launches};
use crate::probe::Probes;
use crate::scaling::{self, ScalableTargets};
use crate::secrets::Secrets;
use crate::ssm::{self, Agents, Asked};

/// The port over the SDK.
pub(crate) struct AwsCloud {
    describes: Batcher<Describe>,
    starts: Batcher<Start>,
    stops: Batcher<Stop>,
    agents: Batcher<Agents>,
    launches: Batcher<Launches>,
    ec2: aws_sdk_ec2::Client,
    services: Batcher<Services>,
    bounds: Batcher<ScalableTargets>,
    ecs: aws_sdk_ecs::Client,
    scaling: aws_sdk_applicationautoscaling::Client,
    ssm: aws_sdk_ssm::Client,
    health: HealthClient,
    probes: Probes,
    addresses: Addresses,
    secrets: Arc<Secrets>,
    clock: Arc<dyn Clock>,
}

/// A look at one of many.
type Look<'a> = Pin<Box<dyn Future<Output = Result<Sighting, CallError>> + Send + 'a>>;

impl AwsCloud {
    pub(crate) fn new(
        aws: &Aws,
        health: HealthClient,
        probes: Probes,
        secrets: Arc<Secrets>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let switch = || Switch { client: aws.ec2.clone(), clock: Arc::clone(&clock) };
        Self {
            describes: Batcher::new(Describe::new(aws.ec2.clone(), Arc::clone(&clock))),
            starts: Batcher::new(Start(switch())),
            stops: Batcher::new(Stop(switch())),
            agents: Batcher::new(Agents { client: aws.ssm.clone() }),
            launches: Batcher::new(Launches { client: aws.ec2.clone(), clock: Arc::clone(&clock) }),
            ec2: aws.ec2.clone(),
            services: Batcher::new(Services::new(aws.ecs.clone(), Arc::clone(&clock))),
            bounds: Batcher::new(ScalableTargets { client: aws.scaling.clone() }),
            ecs: aws.ecs.clone(),
            scaling: aws.scaling.clone(),
            ssm: aws.ssm.clone(),
            health,
            probes,
            addresses: Addresses::new(Arc::clone(&secrets)),
            secrets,
            clock,
        }
    }

    /// Nothing more can be asked of a machine before its id is known.
    async fn look_at_launch(&self, token: &LaunchToken) -> Result<Sighting, CallError> {
        match self.launches.call(token.clone()).await {
            Ok((at, seen)) => Ok(Ok(Observed::of(at, Seen::Instance(seen)))),
            Err(error) => trouble(error).map(Err),
        }
    }

    async fn look_at_instance(
        &self,
        id: &InstanceId,
        plan: &ObservePlan,
        described: Answered<Describe>,
    ) -> Result<Sighting, CallError> {
        let described = match described.wait().await {
            Ok(described) => described,
            Err(error) => return trouble(error).map(Err),
        };
        let instance = seen(described.instance.as_ref());
        let running = instance.state == PowerState::Running;
        let agent = async {
            match plan.agent && running {
                true => self.agents.call(id.clone()).await.map(Some),
                false => Ok(None),
            }
        };
        let check = async {
            match &plan.check {
                Some((command, token)) if instance.state != PowerState::Missing => {
                    ssm::read_check(&self.ssm, id, command.as_deref(), token).await.map(Some)
                }
                _ => Ok(None),
            }
        };
        let health = async {
            match &plan.health {
                Some(url) if running => Some(self.ask_health(url, Some(&instance)).await),
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
        Ok(Ok(Observed { at: described.at, seen: Seen::Instance(instance), agent, check, health }))
    }

    async fn look_at_service(
        &self,
        service: &ServiceId,
        plan: &ObservePlan,
        described: Answered<Services>,
    ) -> Result<Sighting, CallError> {
        match self.describe_service(service, plan, described).await {
            Ok(observed) => Ok(Ok(observed)),
            Err(error) => trouble(error).map(Err),
        }
    }

    async fn describe_service(
        &self,
        service: &ServiceId,
        plan: &ObservePlan,
        described: Answered<Services>,
    ) -> Result<Observed, CallError> {
        let ServiceDescribed { at, mut seen } = described.wait().await?;
        let (active, running) = (seen.active, seen.running > 0);
        let bounds = async {
            match plan.bounds && active {
                true => self.bounds.call(service.clone()).await,
                false => Ok(None),
            }
        };
        let tasks = ecs::look_at_tasks(&self.ecs, plan, service, &mut seen);
        let health = async {
            match &plan.health {
                Some(url) if running => Some(self.ask_health(url, None).await),
                _ => None,
            }
        };
        let (bounds, tasks, health) = tokio::join!(bounds, tasks, health);
        tasks?;
        seen.bounds = bounds?;
        Ok(Observed { health, ..Observed::of(at, Seen::Service(seen)) })
    }

    async fn ask_health(&self, url: &HealthUrl, instance: Option<&InstanceSeen>) -> HealthReading {
        let private = instance.and_then(|it| it.private_ip.as_deref());
        let public = instance.and_then(|it| it.public_ip.as_deref());
        match self.addresses.fill(url, private, public).await {
            Ok(address) => self.health.ask(&address).await,
            Err(detail) => HealthReading::Unhealthy { detail },
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
        Disposition::Fail | Disposition::Park | Disposition::Newer => Err(error),
    }
}

/// What waiting does not cure is something that was seen.
fn trouble(error: CallError) -> Result<ObserveTrouble, CallError> {
    match error.disposition {
        Disposition::Fail | Disposition::Park | Disposition::Newer => {
            Ok(ObserveTrouble { cause: error.cause, message: error.to_string() })
        }
        Disposition::Retry | Disposition::RetryAfter(_) => Err(error),
    }
}

#[async_trait]
impl Cloud for AwsCloud {
    async fn observe(&self, plans: &[ObservePlan]) -> Vec<Result<Sighting, CallError>> {
        let resources = || plans.iter().map(|plan| &plan.resource);
        let ids = resources().filter_map(|resource| resource.instance().cloned());
        let services = resources().filter_map(|resource| resource.service().cloned());
        // All of them before any answer, so that no look of many is spread over more calls than it fills.
        let (mut machines, mut services) =
            (self.describes.enter(ids).into_iter(), self.services.enter(services).into_iter());
        let looks = plans.iter().map(|plan| -> Look<'_> {
            const EACH: &str = "each that entered has an answer";
            match &plan.resource {
                Resource::Instance(id) => {
                    Box::pin(self.look_at_instance(id, plan, machines.next().expect(EACH)))
                }
                Resource::Service(id) => {
                    Box::pin(self.look_at_service(id, plan, services.next().expect(EACH)))
                }
                Resource::Launch(token) => Box::pin(self.look_at_launch(token)),
            }
        });
        join_all(looks).await
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
            Effect::RunInstance(run) => launch::run(&self.ec2, &self.clock, run, act_by).await,
            Effect::TerminateInstance { instance } => {
                launch::terminate(&self.ec2, &self.clock, instance, act_by).await.map(|()| None)
            }
            Effect::SendCommand { instance, token, question } => {
                let asked = Asked::of(question);
                ssm::send(&self.ssm, &self.clock, instance, token, asked, act_by).await
            }
            Effect::UpdateService { service, desired } => {
                ecs::update(&self.ecs, &self.clock, service, *desired, act_by).await.map(|()| None)
            }
            Effect::RegisterScalableTarget { service, bounds } => {
                let (client, clock) = (&self.scaling, &self.clock);
                scaling::register(client, clock, service, *bounds, act_by).await.map(|()| None)
            }
        }
    }

    async fn probe(&self, plan: &ProbePlan) -> Round {
        self.probes.ask(plan).await
    }

    async fn tagged(&self, owner: &str) -> Result<Vec<Tagged>, CallError> {
        launch::tagged(&self.ec2, owner).await
    }

    async fn resolve(&self, place: &Place) -> Result<Resource, CallError> {
        match place {
            Place::Instance(spec) => {
                self.secrets.resolve(&spec.instance).await.map(Resource::Instance)
            }
            Place::Service(spec) => Ok(Resource::Service(spec.service.clone())),
            Place::Template(template) => Err(own_error(
                "lamplighter:resolve",
                Cause::Invalid,
                Disposition::Fail,
                Applied::No,
                format!(
                    "{} is a template: its machines' records say which they are",
                    template.template
                ),
            )),
        }
    }
}
