//! What a machine that bears our tags is to the record of the target that its tags name.

use lamplighter_events::InstanceId;

use crate::kinds::Kind;
use crate::record::TargetRecord;
use crate::resource::Resource;

/// What a machine with our tags is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A record minds it.
    Minded,
    /// A record knows it and should have ended it.
    Late,
    /// Its target's record gave its launch up, and it came all the same.
    GivenUp,
    /// No record of its target is there.
    Orphan,
    /// Its target's record minds another machine, or its tags name no target of the fleet.
    Stray,
}

/// What the machine with this id and launch token is. `kind` is that of the target that its tags name, where the fleet has
/// one; `record` is that target's.
pub fn standing(
    instance: &InstanceId,
    token: &str,
    kind: Option<Kind>,
    record: Option<&TargetRecord>,
) -> Standing {
    match kind {
        Some(Kind::Launched) => {}
        None | Some(Kind::Instance | Kind::Service) => return Standing::Stray,
    }
    let Some(record) = record else { return Standing::Orphan };
    let known = match &record.resource {
        Resource::Instance(id) => id == instance,
        Resource::Launch(launch) => launch.as_str() == token,
        Resource::Service(_) => false,
    };
    let given_up = record.provision.launch.iter().flat_map(|launch| &launch.given_up);
    if !known && given_up.into_iter().any(|launch| launch.token.as_str() == token) {
        return Standing::GivenUp;
    }
    match (known, record.is_up() || record.wake_at.is_some()) {
        (true, true) => Standing::Minded,
        (true, false) => Standing::Late,
        (false, _) => Standing::Stray,
    }
}
