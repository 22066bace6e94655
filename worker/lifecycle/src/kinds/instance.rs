//! An EC2 instance that is started and stopped.

use super::{PhaseNames, Properties};
use crate::phase::Step;

pub(super) const PROPERTIES: Properties = Properties {
    name: "ec2-instance",
    phase_names: PhaseNames { off: "off", starting: "starting", stopping: "stopping" },
    first_step: Step::StartInstance,
    accepted_step: Step::WaitRunning,
    stop_step: Step::StopInstance,
    rest: "stopped",
    stopped: "stopped",
    tells_steps: false,
    stop_destroys: false,
    counts_toward_limit: false,
    turns_any_time: false,
    runs_tasks: false,
    tells_its_times: true,
};
