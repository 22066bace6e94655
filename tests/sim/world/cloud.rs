//! The ports to EC2 and SSM: what a worker sees of the model's machines, and what it does to them.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use lamplighter_cloud::commands::{CommandSpec, Progress};
use lamplighter_events::{Cause, InstanceId};
use lamplighter_lifecycle::{
    Agent, CheckReading, Ec2State, Effect, InstanceRef, InstanceSeen, ObservePlan, ObserveTrouble,
    Observed, Phase, Sighting,
};
use lamplighter_runtime::ports::{Applied, CallError, Clock, Cloud, Disposition};

use super::{Call, Sim, State, fail};

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
        let what = effect.instance().to_string();
        self.call(operation, what, |state, now| {
            if now + self.offset > act_by {
                return Err(fail(operation, Applied::No));
            }
            state.watch.issued(effect, act_by);
            let Some(seconds) = state.later else { return make(state, effect, now) };
            let (sim, effect) = (self.clone(), effect.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                let at = sim.true_now();
                let mut state = sim.lock();
                let what = format!("{} (late)", effect.instance());
                state.calls.push(Call { at, worker: sim.worker, fault: None, operation, what });
                // Refused or not: nobody listens any more.
                drop(make(&mut state, &effect, at));
            });
            Ok(None)
        })
        .await
    }

    async fn resolve(&self, instance: &InstanceRef) -> Result<InstanceId, CallError> {
        match instance {
            InstanceRef::Id(id) => Ok(id.clone()),
            InstanceRef::Secret { secret, key } => Err(CallError {
                operation: "secretsmanager:GetSecretValue",
                cause: Cause::NotFound,
                message: format!("no secret {secret} (for {key})"),
                disposition: Disposition::Fail,
                applied: Applied::No,
            }),
        }
    }
}

/// What AWS does when the call arrives.
fn make(state: &mut State, effect: &Effect, now: Timestamp) -> Result<Option<String>, CallError> {
    let ids = [effect.instance().to_string()];
    match effect {
        Effect::StartInstance { .. } => state
            .world
            .start_machines(now, &ids, false)
            .map(|_| None)
            .map_err(|error| machine(&error)),
        Effect::StopInstance { .. } => state
            .world
            .stop_machines(now, &ids, false)
            .map(|_| None)
            .map_err(|error| machine(&error)),
        Effect::SendCommand { token, probe, .. } => {
            let script = format!(
                "token='{token}'\nunit='{}'\nsettle_seconds={}\nactivating_seconds={}\n",
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
    async fn observe_one(&self, plan: &ObservePlan, at: Timestamp) -> Result<Sighting, CallError> {
        let id = plan.instance.to_string();
        let seen = self
            .call("ec2:DescribeInstances", id.clone(), |state, now| {
                Ok(state.world.describe_machines(now, &[id], |_, _| true))
            })
            .await?;
        let (machine, view) = match seen {
            Ok(machines) => machines.into_iter().next().unwrap(),
            Err(error) => {
                let message = error.to_string();
                return Ok(Err(ObserveTrouble { cause: Cause::NotFound, message }));
            }
        };
        let ec2_state = Ec2State::parse(view.state.name()).unwrap();
        let mut instance = InstanceSeen::state(ec2_state);
        instance.reason = view.state_reason.map(|(code, message)| format!("{code}: {message}"));
        let stopped = view.transition_reason.strip_prefix("User initiated (");
        instance.user_stopped_at = stopped
            .and_then(|rest| rest.strip_suffix(" GMT)"))
            .and_then(|time| format!("{}Z", time.replace(' ', "T")).parse().ok());
        instance.private_ip = Some(machine.private_ip);
        let mut observed = Observed { at, instance, agent: None, check: None, health: None };
        if ec2_state != Ec2State::Running {
            return Ok(Ok(observed));
        }
        if plan.agent {
            let agents = self
                .call("ssm:DescribeInstanceInformation", String::new(), |state, now| {
                    Ok(state.world.describe_agents(now))
                })
                .await?;
            let agent = agents.iter().find(|agent| agent.instance_id == plan.instance.as_str());
            observed.agent = Some(match agent.map(|agent| agent.online) {
                Some(true) => Agent::Online,
                Some(false) => Agent::Offline,
                None => Agent::Unregistered,
            });
        }
        if let Some((command_id, token)) = &plan.check {
            observed.check = Some(self.read_check(command_id.as_deref(), token, plan).await?);
        }
        if plan.health.is_some() {
            observed.health = Some(lamplighter_lifecycle::HealthReading::Healthy);
        }
        Ok(Ok(observed))
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
                self.call("ssm:ListCommands", String::new(), |state, _| {
                    let mut commands = state.world.commands.newest_first();
                    Ok(commands.find(|it| it.comment == comment).map(|it| it.id.clone()))
                })
                .await?
            }
        };
        let Some(id) = known else { return Ok(CheckReading::Absent) };
        let invocation = self
            .call("ssm:GetCommandInvocation", id.clone(), |state, now| {
                Ok(state.world.command_invocation(now, &id, plan.instance.as_str()))
            })
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

    pub(crate) fn phase(&self) -> Option<Phase> {
        self.record().map(|record| record.phase)
    }
}
