//! The port to EC2, ECS and SSM: what a worker does to the model's machines and services. What it sees of
//! them is in `machines` and `services`, what their backends tell it in `probes`.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use lamplighter_cloud::commands::CommandSpec;
use lamplighter_cloud::scaling::{TargetSpec as ScalingSpec, resource_id};
use lamplighter_cloud::services::ServiceUpdate;
use lamplighter_events::Cause;
use lamplighter_lifecycle::{
    Bounds, Effect, InstanceRef, ObservePlan, Place, ProbePlan, Question, Resource, Round,
    ServiceId, Sighting,
};
use lamplighter_runtime::ports::{Applied, CallError, Clock, Cloud, Disposition, Tagged};

use super::{Sim, State, launches, refusals};
use crate::breakage::Breakage;
use crate::call::Call;
use crate::fault::{Gate, fail};
use crate::world::machines::IDLE_MARK;
use crate::world::refusals::refused;

/// As the adapter has it.
const SECRETS_REMEMBERED: SignedDuration = SignedDuration::from_mins(5);
const SCALE: &str = "application-autoscaling:RegisterScalableTarget";

#[async_trait]
impl Cloud for Sim {
    async fn observe(&self, plans: &[ObservePlan]) -> Vec<Result<Sighting, CallError>> {
        let mut sightings = Vec::new();
        for plan in plans {
            let at = Clock::now(self);
            sightings.push(match &plan.resource {
                Resource::Instance(id) => self.observe_machine(id, plan, at).await,
                Resource::Service(id) => self.observe_service(id, plan, at).await,
                Resource::Launch(token) => self.observe_launch(token, at).await,
            });
        }
        // A batch that is not taken apart fails as a whole.
        let failed = sightings.iter().find_map(|sighting| sighting.as_ref().err()).cloned();
        match failed.filter(|_| self.broken(Breakage::HidesTheHealthy)) {
            Some(error) => plans.iter().map(|_| Err(error.clone())).collect(),
            None => sightings,
        }
    }

    async fn execute(
        &self,
        effect: &Effect,
        act_by: Timestamp,
    ) -> Result<Option<String>, CallError> {
        let operation = match effect {
            Effect::StartInstance { .. } => "ec2:StartInstances",
            Effect::StopInstance { .. } => "ec2:StopInstances",
            Effect::RunInstance(_) => "ec2:RunInstances",
            Effect::TerminateInstance { .. } => "ec2:TerminateInstances",
            Effect::SendCommand { .. } => "ssm:SendCommand",
            Effect::UpdateService { .. } => "ecs:UpdateService",
            Effect::RegisterScalableTarget { .. } => SCALE,
        };
        let sim = self.clone();
        self.call(
            operation,
            || about(effect),
            |state, now| {
                // Signed at this moment, by the worker's clock.
                let worker_now = sim.worker_now_in(state, now);
                if worker_now > act_by && state.breakage != Some(Breakage::ActsTooLate) {
                    return Err(fail(operation, Gate::Closed));
                }
                state.watch.issued(effect, act_by, worker_now, now);
                let Some(seconds) = state.later else { return make(state, effect, now) };
                let effect = effect.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                    let at = sim.true_now();
                    let mut state = sim.lock();
                    let what = format!("{} (late)", about(&effect));
                    let call = Call { at, worker: sim.worker(), fault: None, operation, what };
                    if state.loud {
                        println!("{}", crate::tale::line(&call));
                    }
                    state.calls.push(call);
                    // Refused or not: nobody listens any more.
                    drop(make(&mut state, &effect, at));
                    drop(state);
                    sim.changed.notify_waiters();
                });
                Ok(None)
            },
        )
        .await
    }

    async fn probe(&self, plan: &ProbePlan) -> Round {
        self.ask_all(plan).await
    }

    async fn tagged(&self, owner: &str) -> Result<Vec<Tagged>, CallError> {
        self.tagged_machines(owner).await
    }

    async fn resolve(&self, place: &Place) -> Result<Resource, CallError> {
        let instance = match place {
            Place::Instance(spec) => &spec.instance,
            Place::Service(spec) => return Ok(Resource::Service(spec.service.clone())),
            Place::Template(_) => unreachable!("a template is never resolved"),
        };
        let (secret, key) = match instance {
            InstanceRef::Id(id) => return Ok(Resource::Instance(id.clone())),
            InstanceRef::Secret { secret, key } => (secret, key),
        };
        let name = (self.worker(), secret.clone());
        let now = self.true_now();
        let known = self.inspect(|state| state.remembered.get(&name).cloned());
        if let Some((_, id)) = known.filter(|(at, _)| now < *at + SECRETS_REMEMBERED) {
            return Ok(Resource::Instance(id));
        }
        let what = || secret.clone();
        self.call("secretsmanager:GetSecretValue", what, |state, now| {
            let found = state.secrets.get(secret).cloned().ok_or_else(|| CallError {
                operation: "secretsmanager:GetSecretValue",
                cause: Cause::NotFound,
                message: format!("no secret {secret} (for {key})"),
                disposition: Disposition::Fail,
                applied: Applied::No,
            })?;
            state.remembered.insert(name, (now, found.clone()));
            Ok(Resource::Instance(found))
        })
        .await
    }
}

/// What an effect is about, for the tale.
fn about(effect: &Effect) -> String {
    let resource = effect.resource();
    match effect {
        Effect::UpdateService { desired, .. } => format!("{resource} to {desired}"),
        Effect::RegisterScalableTarget { bounds, .. } => {
            format!("{resource} from {} to {}", bounds.min, bounds.max)
        }
        _ => resource.to_string(),
    }
}

/// What AWS does when the call arrives.
fn make(state: &mut State, effect: &Effect, now: Timestamp) -> Result<Option<String>, CallError> {
    let resource = effect.resource();
    let ids = [resource.to_string()];
    match effect {
        Effect::StartInstance { .. } => {
            let started = state.world.start_machines(now, &ids, false);
            started.map_err(|error| refusals::machine("ec2:StartInstances", &error, state.made))?;
            state.watch.went_up(&resource, now);
            Ok(None)
        }
        Effect::StopInstance { .. } => {
            let stopped = state.world.stop_machines(now, &ids, false);
            stopped.map_err(|error| refusals::machine("ec2:StopInstances", &error, state.made))?;
            state.watch.went_down(&resource);
            Ok(None)
        }
        Effect::RunInstance(launch) => launches::run(state, launch, now),
        Effect::TerminateInstance { .. } => {
            let ended = state.world.terminate_machines(now, &ids, false);
            ended
                .map_err(|error| refusals::machine("ec2:TerminateInstances", &error, state.made))?;
            state.watch.went_down(&resource);
            Ok(None)
        }
        Effect::UpdateService { service, desired } => {
            let update = ServiceUpdate { desired: Some(*desired), ..ServiceUpdate::default() };
            let (cluster, name) = (service.cluster(), service.service());
            let updated = state.world.update_service(now, cluster, name, &update);
            updated.map_err(|error| refused("ecs:UpdateService", &error))?;
            match desired {
                0 => state.watch.went_down(&resource),
                _ => state.watch.went_up(&resource, now),
            }
            Ok(None)
        }
        Effect::RegisterScalableTarget { service, bounds } => {
            if state.breakage == Some(Breakage::LeavesItsBounds) {
                return Ok(None);
            }
            register(state, service, *bounds, now)?;
            Ok(None)
        }
        Effect::SendCommand { token, question, .. } => send(state, &ids, token, question, now),
    }
}

/// Sets a service's bounds.
pub(super) fn register(
    state: &mut State,
    service: &ServiceId,
    bounds: Bounds,
    now: Timestamp,
) -> Result<(), CallError> {
    let id = resource_id(service.cluster(), service.service());
    let spec =
        ScalingSpec { min: Some(bounds.min), max: Some(bounds.max), ..ScalingSpec::default() };
    let registered = state.world.register_scalable_target(now, &id, spec);
    registered.map(|_| ()).map_err(|error| refused(SCALE, &error))
}

/// Asks a host.
fn send(
    state: &mut State,
    ids: &[String],
    token: &str,
    question: &Question,
    now: Timestamp,
) -> Result<Option<String>, CallError> {
    // The guard of the script is by this name.
    let guard = match state.breakage {
        Some(Breakage::SendsBlindly) => format!("{token}#{}", state.chance.next()),
        _ => token.to_owned(),
    };
    let script = match question {
        Question::Unit(probe) => format!(
            "token='{guard}'\nunit='{}'\nsettle_seconds={}\nactivating_seconds={}\n",
            probe.unit.as_str(),
            probe.settle_seconds,
            probe.activating_seconds
        ),
        Question::Bootstrap { bootstrap, timeout_seconds, .. } => format!(
            "token='{guard}'\nbootstrap='{}'\ntimeout_seconds={timeout_seconds}\nscript_base64=''\n",
            bootstrap.name()
        ),
        Question::Idle { script, .. } => format!("token='{guard}'\n{IDLE_MARK}\n{script}\n"),
    };
    let spec = CommandSpec {
        document: "AWS-RunShellScript".to_owned(),
        instance_ids: ids.to_vec(),
        parameters: BTreeMap::from([("commands".to_owned(), vec![script])]),
        comment: format!("lamplighter {token}"),
        timeout_seconds: Some(30),
    };
    let sent = state.world.send_command(now, spec);
    sent.map(|command| Some(command.id)).map_err(|error| CallError {
        operation: "ssm:SendCommand",
        cause: Cause::AgentUnreachable,
        message: error.to_string(),
        disposition: Disposition::RetryAfter(Duration::from_secs(5)),
        applied: Applied::No,
    })
}
