//! What a worker sees of the model's machines, their agents and their health addresses.

use jiff::{SignedDuration, Timestamp};
use lamplighter_cloud::Machine;
use lamplighter_cloud::commands::Progress;
use lamplighter_cloud::machines::{MachineError, MachineView};
use lamplighter_events::InstanceId;
use lamplighter_lifecycle::{
    Agent, CheckReading, HealthReading, InstanceSeen, ObservePlan, Observed, PowerState, Resource,
    Seen, Sighting,
};
use lamplighter_runtime::ports::CallError;

use super::{Health, Sim, refusals};
use crate::backends;
use crate::breakage::Breakage;

/// By this line a script is the fleet's own.
pub(super) const IDLE_MARK: &str = "question='idle'";

/// A description in our words, as the adapter reads it.
pub(super) fn instance_seen(machine: &Machine, view: &MachineView) -> InstanceSeen {
    let mut seen = InstanceSeen::state(PowerState::parse(view.state.name()).unwrap());
    let reason = view.state_reason.as_ref();
    seen.reason = reason.map(|(code, message)| format!("{code}: {message}"));
    let stopped = view.transition_reason.strip_prefix("User initiated (");
    seen.user_stopped_at = stopped
        .and_then(|rest| rest.strip_suffix(" GMT)"))
        .and_then(|time| format!("{}Z", time.replace(' ', "T")).parse().ok());
    // EC2's times are whole seconds.
    seen.launched_at = Timestamp::from_second(view.launched.as_second()).ok();
    seen.private_ip = Some(machine.private_ip.clone());
    seen.public_ip.clone_from(&view.public_ip);
    seen
}

impl Sim {
    pub(super) async fn observe_machine(
        &self,
        id: &InstanceId,
        plan: &ObservePlan,
        at: Timestamp,
    ) -> Result<Sighting, CallError> {
        let instance_id = id;
        let id = id.to_string();
        let seen = self
            .call(
                "ec2:DescribeInstances",
                || id.clone(),
                |state, now| {
                    let lies = state.breakage == Some(Breakage::TakesAcceptedForDone)
                        && state.watch.is_going_up(&plan.resource);
                    let ids = [id.clone()];
                    let found = state.world.describe_machines(now, &ids, |_, _| true);
                    if let Err(error @ MachineError::ZoneImpaired) = &found {
                        return Err(refusals::machine("ec2:DescribeInstances", error, state.made));
                    }
                    Ok((found, lies))
                },
            )
            .await?;
        let (seen, lies) = seen;
        let (machine, view) = match seen {
            Ok(machines) => machines.into_iter().next().unwrap(),
            // As the adapter has it: EC2 does not know the id.
            Err(_) => {
                return Ok(Ok(Observed::bare(at, PowerState::Missing)));
            }
        };
        let mut instance = instance_seen(&machine, &view);
        if lies {
            instance.state = PowerState::Running;
        }
        let power = instance.state;
        let mut observed = Observed::of(at, Seen::Instance(instance));
        if power != PowerState::Running {
            return Ok(Ok(observed));
        }
        if plan.agent {
            observed.agent = Some(self.read_agent(instance_id).await?);
        }
        if let Some((command_id, token)) = &plan.check {
            observed.check =
                Some(self.read_check(command_id.as_deref(), token, instance_id).await?);
        }
        if plan.health.is_some() {
            observed.health = Some(self.read_health(&plan.resource).await?);
        }
        Ok(Ok(observed))
    }

    async fn read_agent(&self, instance: &InstanceId) -> Result<Agent, CallError> {
        let what = || instance.to_string();
        let agents = self
            .call("ssm:DescribeInstanceInformation", what, |state, now| {
                // As the adapter has it: a machine that SSM does not take has no agent.
                Ok(state.world.describe_agents(now, &[instance.to_string()]).unwrap_or_default())
            })
            .await?;
        let agent = agents.iter().find(|agent| agent.instance_id == instance.as_str());
        Ok(match agent.map(|agent| agent.online) {
            Some(true) => Agent::Online,
            Some(false) => Agent::Offline,
            None => Agent::Unregistered,
        })
    }

    pub(super) async fn read_health(
        &self,
        resource: &Resource,
    ) -> Result<HealthReading, CallError> {
        let what = || resource.to_string();
        self.call("http:Health", what, |state, now| {
            let plan = state.health.get(resource).copied();
            let plan = plan.unwrap_or(Health { after: SignedDuration::ZERO, never: false });
            state.world.advance(now);
            let since = backends::up_since(&state.world, resource);
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
        instance: &InstanceId,
    ) -> Result<CheckReading, CallError> {
        let known = match command_id {
            Some(id) => Some(id.to_owned()),
            None => {
                let comment = format!("lamplighter {token}");
                self.call(
                    "ssm:ListCommands",
                    || comment.clone(),
                    |state, _| {
                        let mut commands = state.world.commands_to(instance.as_str());
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
                |state, now| Ok(state.world.command_invocation(now, &id, instance.as_str())),
            )
            .await?;
        let Ok((command, invocation)) = invocation else { return Ok(CheckReading::Absent) };
        let script = command.parameters.get("commands").into_iter().flatten();
        let idle = script.clone().any(|text| text.lines().any(|line| line == IDLE_MARK));
        if let (true, true, Some(ended)) = (idle, invocation.progress.ended(), invocation.ended)
            && matches!(invocation.progress, Progress::Success | Progress::Failed)
        {
            return Ok(self.read_idleness(instance, &command.comment, ended));
        }
        Ok(match invocation.progress {
            Progress::Pending | Progress::InProgress => {
                CheckReading::Pending { command_id: Some(id) }
            }
            Progress::Success | Progress::Failed
                if invocation.stdout.starts_with("lamplighter-exit ") =>
            {
                let said = invocation.stdout.trim().trim_start_matches("lamplighter-exit ");
                let (code, output) = said.split_once(' ').unwrap_or((said, ""));
                CheckReading::Exited {
                    code: code.parse().expect("an exit code"),
                    output: output.to_owned(),
                }
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
