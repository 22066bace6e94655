//! An EC2 instance that is launched for a request and terminated afterwards.

use super::{PhaseNames, Properties};
use crate::phase::Step;

pub(super) const PROPERTIES: Properties = Properties {
    name: "ec2-template",
    phase_names: PhaseNames { off: "absent", starting: "provisioning", stopping: "terminating" },
    first_step: Step::LaunchInstance,
    accepted_step: Step::WaitMachine,
    stop_step: Step::TerminateInstance,
    rest: "gone",
    stopped: "terminated",
    tells_steps: true,
    stop_destroys: true,
    counts_toward_limit: true,
    turns_any_time: false,
    runs_tasks: false,
    tells_its_times: true,
};
