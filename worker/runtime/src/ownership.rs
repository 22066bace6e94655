//! Which target a machine or service belongs to.

use lamplighter_events::TargetName;
use lamplighter_lifecycle::Resource;

use crate::fleet::Fleet;
use crate::ports::{CallError, Store};

/// The target that a resource belongs to: by the fleet file, or else by the table.
///
/// # Errors
/// Where the table has to be asked and does not answer.
pub async fn owner_of(
    fleet: &Fleet,
    store: &dyn Store,
    resource: &Resource,
) -> Result<Option<TargetName>, CallError> {
    match (fleet.owner(resource), resource) {
        (Some(owner), _) => Ok(Some(owner)),
        // The fleet file names every service, so the table knows no other.
        (None, Resource::Service(_)) => Ok(None),
        (None, Resource::Instance(_) | Resource::Launch(_)) => store.owner(resource).await,
    }
}
