//! What a commit claims beside its record: the resource for its target, and a place within its template's limit.
//!
//! The store makes each claim in the commit's transaction, so a claim that fails writes nothing.

use lamplighter_events::TargetName;

use crate::phase::Phase;
use crate::record::TargetRecord;
use crate::resource::Resource;
use crate::spec::TargetSpec;

/// What a commit does to the places of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The template.
    pub template: TargetName,
    /// What is done.
    pub change: SeatChange,
}

/// What is done to a template's places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeatChange {
    /// The target takes one, if fewer than so many are taken; it may have it already.
    Take(u32),
    /// The target takes one, however many are taken: its machine is there.
    Force,
    /// The target gives its place back.
    Leave,
}

/// The resource that the record takes for its own with this commit. A launch has nothing to claim before its machine has
/// an id. A record that will be forgotten takes its claim along.
pub fn claimed_resource(before: Option<&TargetRecord>, next: &TargetRecord) -> Option<Resource> {
    let moved = before.is_none_or(|before| before.resource != next.resource);
    let retires =
        before.is_some_and(|before| before.provision.retire_at != next.provision.retire_at);
    let named = match next.resource {
        Resource::Instance(_) | Resource::Service(_) => true,
        Resource::Launch(_) => false,
    };
    ((moved || retires) && named).then(|| next.resource.clone())
}

/// What this commit does to the places of its template.
pub fn seat_change(
    spec: &TargetSpec,
    before: Option<&TargetRecord>,
    next: &TargetRecord,
) -> Option<Seat> {
    let template = spec.template()?;
    let had = before.is_some_and(|before| before.provision.seated);
    let change = match (had, next.provision.seated, next.phase) {
        (false, true, Phase::On | Phase::Stopping) => SeatChange::Force,
        (false, true, Phase::Off | Phase::Starting | Phase::Failed) => {
            SeatChange::Take(template.limit)
        }
        (true, false, _) => SeatChange::Leave,
        (true, true, _) | (false, false, _) => return None,
    };
    Some(Seat { template: template.template.clone(), change })
}
