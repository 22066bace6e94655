//! The ports to EC2 and SSM: what a worker sees of the model's machines, and what it does to them.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use lamplighter_cloud::commands::{CommandSpec, Progress};
use lamplighter_events::{Cause, InstanceId};
use lamplighter_lifecycle::{
    Agent, CheckReading, PowerState, Effect, HealthReading, InstanceRef, InstanceSeen, ObservePlan,
    Observed, Sighting,
};
use lamplighter_runtime::ports::{Applied, CallError, Clock, Cloud, Disposition};

use super::fault::{Gate, fail};
use super::{Call, Health, Sim, State};
use crate::breakage::Breakage;

/// As the adapter has it.
const SECRETS_REMEMBERED: SignedDuration = SignedDuration::from_mins(5);

#[async_trait]
impl Cloud for Sim {
    async fn observe(&self, plans: &[ObservePlan]) -> Vec<Result<Sighting, CallError>> {
        let mut sightings = Vec::new();
        for plan in plans {
            let at = Clock::now(self);
            let seen = self.observe_one(plan, at).await;
            sightings.push(seen);
        }
        sightings
    }

    async fn execute(
        &self,
        effect: &Effect,
        act_by: Timestamp,
    ) -> Result<Option<String>, CallError> {
        let operation = match effect {
            Effect::StartInstance { .. } => "ec2:StartInstances",
            Effect::StopInstance { .. } => "ec2:StopInstances",
            Effect::SendCommand { .. } => "ssm:SendCommand",
        };
        let sim = self.clone();
        self.call(
            operation,
            || effect.instance().to_string(),
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
                    let what = format!("{} (late)", effect.instance());
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

    async fn resolve(&self, instance: &InstanceRef) -> Result<InstanceId, CallError> {
        let (secret, key) = match instance {
            InstanceRef::Id(id) => return Ok(id.clone()),
            InstanceRef::Secret { secret, key } => (secret, key),
        };
        let name = (self.worker(), secret.clone());
        let now = self.true_now();
        let known = self.inspect(|state| state.remembered.get(&name).cloned());
        if let Some((_, id)) = known.filter(|(at, _)| now < *at + SECRETS_REMEMBERED) {
            return Ok(id);
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
            Ok(found)
        })
        .await
    }
}

/// What AWS does when the call arrives.
fn make(state: &mut State, effect: &Effect, now: Timestamp) -> Result<Option<String>, CallError> {
    let ids = [effect.instance().to_string()];
    match effect {
        Effect::StartInstance { instance } => {
            let started = state.world.start_machines(now, &ids, false);
            started.map_err(|error| machine(&error))?;
            state.watch.went_up(instance, now);
            Ok(None)
        }
        Effect::StopInstance { instance } => {
            let stopped = state.world.stop_machines(now, &ids, false);
            stopped.map_err(|error| machine(&error))?;
            state.watch.went_down(instance);
            Ok(None)
        }
        Effect::SendCommand { token, probe, .. } => {
            // The guard of the script is by this name.
            let guard = match state.breakage {
                Some(Breakage::SendsBlindly) => format!("{token}#{}", state.chance.next()),
                _ => token.clone(),
            };
            let script = format!(
                "token='{guard}'\nunit='{}'\nsettle_seconds={}\nactivating_seconds={}\n",
                probe.unit.as_str(),
                probe.settle_seconds,
                probe.activating_seconds
            );
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
    }
}

fn machine(error: &lamplighter_cloud::machines::MachineError) -> CallError {
    use lamplighter_cloud::ServiceFault;
    let (cause, disposition) = match error.code() {
        "InsufficientInstanceCapacity" => (Cause::Capacity, Disposition::Retry),
        "IncorrectInstanceState" => {
            (Cause::Conflict, Disposition::RetryAfter(Duration::from_secs(2)))
        }
        _ => (Cause::NotFound, Disposition::Fail),
    };
    CallError {
        operation: "ec2:call",
        cause,
        message: error.to_string(),
        disposition,
        applied: Applied::No,
    }
}

impl Sim {
    fn worker_now_in(&self, state: &State, now: Timestamp) -> Timestamp {
        state.clocks.get(&self.worker()).map_or(now, |clock| clock.reads(now))
    }

    async fn observe_one(&self, plan: &ObservePlan, at: Timestamp) -> Result<Sighting, CallError> {
        let id = plan.instance.to_string();
        let seen = self
            .call(
                "ec2:DescribeInstances",
                || id.clone(),
                |state, now| {
                    let lies = state.breakage == Some(Breakage::TakesAcceptedForDone)
                        && state.watch.is_going_up(&plan.instance);
                    let ids = [id.clone()];
                    Ok((state.world.describe_machines(now, &ids, |_, _| true), lies))
                },
            )
            .await?;
        let (seen, lies) = seen;
        let (machine, view) = match seen {
            Ok(machines) => machines.into_iter().next().unwrap(),
            // As the adapter has it: EC2 does not know the id.
            Err(_) => {
                let instance = InstanceSeen::state(PowerState::Missing);
                return Ok(Ok(Observed { at, instance, agent: None, check: None, health: None }));
            }
        };
        let mut ec2_state = PowerState::parse(view.state.name()).unwrap();
        if lies {
            ec2_state = PowerState::Running;
        }
        let mut instance = InstanceSeen::state(ec2_state);
        instance.reason = view.state_reason.map(|(code, message)| format!("{code}: {message}"));
        let stopped = view.transition_reason.strip_prefix("User initiated (");
        instance.user_stopped_at = stopped
            .and_then(|rest| rest.strip_suffix(" GMT)"))
            .and_then(|time| format!("{}Z", time.replace(' ', "T")).parse().ok());
        instance.private_ip = Some(machine.private_ip);
        let mut observed = Observed { at, instance, agent: None, check: None, health: None };
        if ec2_state != PowerState::Running {
            return Ok(Ok(observed));
        }
        if plan.agent {
            observed.agent = Some(self.read_agent(&plan.instance).await?);
        }
        if let Some((command_id, token)) = &plan.check {
            observed.check = Some(self.read_check(command_id.as_deref(), token, plan).await?);
        }
        if plan.health.is_some() {
            observed.health = Some(self.read_health(&plan.instance).await?);
        }
        Ok(Ok(observed))
    }

    async fn read_agent(&self, instance: &InstanceId) -> Result<Agent, CallError> {
        let what = || instance.to_string();
        let agents = self
            .call("ssm:DescribeInstanceInformation", what, |state, now| {
                Ok(state.world.describe_agents(now))
            })
            .await?;
        let agent = agents.iter().find(|agent| agent.instance_id == instance.as_str());
        Ok(match agent.map(|agent| agent.online) {
            Some(true) => Agent::Online,
            Some(false) => Agent::Offline,
            None => Agent::Unregistered,
        })
    }

    async fn read_health(&self, instance: &InstanceId) -> Result<HealthReading, CallError> {
        let what = || instance.to_string();
        self.call("http:Health", what, |state, now| {
            let plan = state.health.get(instance).copied();
            let plan = plan.unwrap_or(Health { after: SignedDuration::ZERO, never: false });
            state.world.advance(now);
            let since = state.world.machines.get(instance.as_str()).and_then(|it| it.running_since);
            let healthy = !plan.never && since.is_some_and(|since| since + plan.after <= now);
            Ok(match healthy {
                true => HealthReading::Healthy,
                false => HealthReading::Unhealthy { detail: "503 Service Unavailable".to_owned() },
            })
        })
        .await
    }

    async fn read_check(
        &self,
        command_id: Option<&str>,
        token: &str,
        plan: &ObservePlan,
    ) -> Result<CheckReading, CallError> {
        let known = match command_id {
            Some(id) => Some(id.to_owned()),
            None => {
                let comment = format!("lamplighter {token}");
                self.call(
                    "ssm:ListCommands",
                    || comment.clone(),
                    |state, _| {
                        let mut commands = state.world.commands.newest_first();
                        Ok(commands.find(|it| it.comment == comment).map(|it| it.id.clone()))
                    },
                )
                .await?
            }
        };
        let Some(id) = known else { return Ok(CheckReading::Absent) };
        let invocation = self
            .call(
                "ssm:GetCommandInvocation",
                || id.clone(),
                |state, now| Ok(state.world.command_invocation(now, &id, plan.instance.as_str())),
            )
            .await?;
        let Ok((_, invocation)) = invocation else { return Ok(CheckReading::Absent) };
        Ok(match invocation.progress {
            Progress::Pending | Progress::InProgress => {
                CheckReading::Pending { command_id: Some(id) }
            }
            Progress::Success | Progress::Failed => {
                CheckReading::Said { state: invocation.stdout.trim().to_owned() }
            }
            Progress::DeliveryTimedOut => {
                CheckReading::Undelivered { detail: invocation.progress.details().to_owned() }
            }
            Progress::Cancelled | Progress::ExecutionTimedOut => {
                CheckReading::Broken { detail: invocation.progress.details().to_owned() }
            }
        })
    }
}
