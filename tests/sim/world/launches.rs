//! What a worker sees of machines that were launched for a request, and the launch itself.

use jiff::Timestamp;
use lamplighter_cloud::MachineState;
use lamplighter_cloud::launches::{LaunchSpec, TemplateRef};
use lamplighter_cloud::machines::MachineError;
use lamplighter_events::InstanceId;
use lamplighter_lifecycle::{
    InstanceSeen, Launch, LaunchToken, OWNER_TAG, Observed, PowerState, Resource, Seen, Sighting,
    TARGET_TAG,
};
use lamplighter_runtime::ports::{CallError, Tagged};

use super::machines::instance_seen;
use super::{Sim, State, refusals};
use crate::breakage::Breakage;
use crate::launched::token_of;

impl Sim {
    pub(super) async fn observe_launch(
        &self,
        token: &LaunchToken,
        at: Timestamp,
    ) -> Result<Sighting, CallError> {
        let found = self
            .call(
                "ec2:DescribeInstances",
                || format!("by token {}", token.as_str()),
                |state, now| {
                    let found = state
                        .world
                        .describe_machines(now, &[], |it, _| token_of(it) == token.as_str());
                    let found = found.map_err(|error| describe_error(&error, state))?;
                    Ok(found.into_iter().next())
                },
            )
            .await?;
        let seen = found.map(|(machine, view)| InstanceSeen {
            id: InstanceId::parse(&machine.id).ok(),
            ..instance_seen(&machine, &view)
        });
        let seen = seen.unwrap_or_else(|| InstanceSeen::state(PowerState::Missing));
        Ok(Ok(Observed::of(at, Seen::Instance(seen))))
    }

    pub(super) async fn tagged_machines(&self, owner: &str) -> Result<Vec<Tagged>, CallError> {
        self.call(
            "ec2:DescribeInstances",
            || format!("tagged {owner}"),
            |state, now| {
                let found = state.world.describe_machines(now, &[], |machine, view| {
                    let there = !matches!(
                        view.state,
                        MachineState::ShuttingDown | MachineState::Terminated
                    );
                    there && machine.tags.get(OWNER_TAG).is_some_and(|it| it == owner)
                });
                let found = found.map_err(|error| describe_error(&error, state))?;
                let tagged = found.into_iter().map(|(machine, view)| Tagged {
                    instance: InstanceId::parse(&machine.id).expect("the model's ids are EC2's"),
                    target: machine.tags.get(TARGET_TAG).cloned().unwrap_or_default(),
                    token: token_of(&machine).to_owned(),
                    state: instance_seen(&machine, &view).state,
                    launched_at: Some(view.launched),
                    instance_type: machine.instance_type.clone(),
                });
                Ok(tagged.collect())
            },
        )
        .await
    }
}

fn describe_error(error: &MachineError, state: &State) -> CallError {
    refusals::machine("ec2:DescribeInstances", error, state.made)
}

/// `RunInstances`, as EC2 takes it.
pub(super) fn run(
    state: &mut State,
    launch: &Launch,
    now: Timestamp,
) -> Result<Option<String>, CallError> {
    let mut token = launch.token.as_str().to_owned();
    if state.breakage == Some(Breakage::LaunchesWithoutToken) {
        token = format!("{}-{}", &token[..24], state.chance.next() % 1_000_000);
    }
    let spec = LaunchSpec {
        version: launch.version.clone(),
        client_token: Some(token),
        subnet: launch.option.subnet.clone(),
        instance_type: launch.option.instance_type.clone(),
        spot: launch.option.spot,
        tags: launch.tags.clone(),
        ..LaunchSpec::new(TemplateRef::new(&launch.launch_template))
    };
    let launched = state.world.run_machines(now, &spec);
    let launched =
        launched.map_err(|error| refusals::machine("ec2:RunInstances", &error, state.made))?;
    let id = launched.machine.id;
    let State { watch, world, table, .. } = state;
    watch.check_launch(world, table, now);
    if let Ok(instance) = InstanceId::parse(&id) {
        state.watch.went_up(&Resource::Instance(instance), now);
    }
    Ok(Some(id))
}
