//! Machines by the token of their launch.

use lamplighter_cloud::{Machine, World};

/// The machine that a launch led to.
pub(crate) fn of_token<'w>(world: &'w World, token: &str) -> Option<&'w Machine> {
    world.machines.iter().find(|machine| token_of(machine) == token)
}

/// The client token of a machine's launch.
pub(crate) fn token_of(machine: &Machine) -> &str {
    machine.launch.as_ref().and_then(|it| it.client_token.as_deref()).unwrap_or_default()
}
