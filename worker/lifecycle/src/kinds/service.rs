//! An ECS service whose desired count is set.

use super::{PhaseNames, Properties};
use crate::phase::Step;

pub(super) const PROPERTIES: Properties = Properties {
    name: "ecs-service",
    phase_names: PhaseNames { off: "off", starting: "starting", stopping: "stopping" },
    first_step: Step::StartService,
    accepted_step: Step::WaitRunning,
    stop_step: Step::StopService,
    rest: "stopped",
    stopped: "stopped",
    tells_steps: false,
    stop_destroys: false,
    counts_toward_limit: false,
    turns_any_time: true,
    runs_tasks: true,
    tells_its_times: false,
};
