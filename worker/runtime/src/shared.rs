//! What all tasks of a worker share.

use std::sync::Arc;

use lamplighter_events::TargetName;

use crate::fleet::Fleet;
use crate::options::WorkerOptions;
use crate::ports::Ports;
use crate::telemetry::Meters;
use crate::work::Work;

/// Gives the task of a target something to do.
pub(crate) type Nudge = Box<dyn Fn(&TargetName, Work) + Send + Sync>;

pub(crate) struct Shared {
    pub(crate) ports: Ports,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) options: WorkerOptions,
    pub(crate) meters: Meters,
    pub(crate) nudge: Nudge,
}

impl Shared {
    /// Has the target looked at.
    pub(crate) fn nudge(&self, target: &TargetName) {
        self.nudge_with(target, Work::look());
    }

    pub(crate) fn nudge_with(&self, target: &TargetName, work: Work) {
        (self.nudge)(target, work);
    }
}
