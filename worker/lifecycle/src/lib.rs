//! The rules of Lamplighter, and nothing else.
//!
//! *Theory.* A target is wanted while a hold is in force (`hold`). What is known of it is one
//! `TargetRecord` (`record`); what AWS says of it is one `Observed` (`observed`). `decide` folds
//! the inputs and the observation into the next record, at most one `Effect`, outcomes and events.
//! `apply_answer` folds in what AWS said to the effect.
//!
//! *Invariants.*
//! - Nothing here does I/O, sleeps, reads a clock or draws a random number: `now` is an argument.
//!   The house checks enforce that this crate depends on neither tokio nor an AWS crate.
//! - An effect is only ever decided together with the record that allows it (`doing`).
//! - A stop is decided only when the record that is written with it has no hold in force.
//! - `why` is never empty after a decision.
//!
//! *Not here.* Parsing (crate events), storage and messages (crate runtime), AWS (crate aws).
#![warn(missing_docs)]

mod accepted;
mod address;
mod answer;
mod attention;
mod capability;
mod commands;
mod decide;
mod effect;
mod hold;
mod holds;
mod hours;
mod idle;
mod input;
mod json_size;
mod kinds;
mod lag;
mod limits;
mod observed;
mod own;
mod pass;
mod phase;
mod phases;
mod plan;
mod probe;
mod quota;
mod record;
mod resource;
mod retry;
mod run_log;
mod runs;
mod series;
mod size;
mod spec;
mod status;
mod template;
mod text;
mod time;
mod tracking;
mod unit;
mod watch;
mod windows;

pub use accepted::{AcceptedBounds, AcceptedChanges};
pub use address::{AddressError, HealthUrl, SecretRef, with_secret_values};
pub use attention::{hours_need_a_look, hours_want_it_at, is_unexpected, newsworthy};
pub use capability::{Capability, Need, WaitsFor, capability};
pub use decide::{ApplyAnswer, Decision, apply_answer, clear_sent, decide};
pub use effect::{Effect, EffectAnswer, EffectKind, Question, Refusal, Unanswered, UnitProbe};
pub use hold::{Hold, HoldKind, Sent};
pub use hours::{Hours, HoursError, Window};
pub use idle::{
    HostReading, IdleMemory, IdleVerdict, Judged, ProbeWord, Says, Streak, judge, remember_requests,
};
pub use input::{AcceptedCommand, Input, SpotNotice};
pub use kinds::Kind;
pub use limits::*;
pub use observed::{
    Agent, Bounds, CheckReading, HealthReading, InstanceSeen, ObservePlan, ObserveTrouble,
    Observed, PowerState, Seen, ServiceSeen, Sighting, TaskStopped,
};
pub use own::{OwnProbe, OwnReport, OwnRequests, OwnRound};
pub use phase::{Phase, Step};
pub use plan::{align, idle_override, plan_observation, plan_probes, probes_are_due};
pub use probe::{
    CommandProbe, CommandReads, Condition, HttpProbe, HttpReads, IdleOverride, IdleSpec,
    MetricProbe, MetricReads, Missing, Point, Probe, ProbePlan, Reading, Round, Statistic,
};
pub use quota::{Seat, SeatChange, claimed_resource, seat_change};
pub use record::{
    Attempt, Check, CheckPurpose, CommandRecord, Contradiction, Doing, Failure, HistoryEntry,
    LastOutcome, OpenCommand, Paused, Provision, Quiet, TargetRecord, UnitHealth, UpState,
    never_waits_for_the_bus,
};
pub use resource::{LaunchToken, NotAResource, Resource, ServiceId, ServicePattern};
pub use retry::{
    NEWER_MAX, OPTIONS_PAUSE_SECONDS, OUTBOX_LOOK_SECONDS, REDELIVERY_MAX, REDELIVERY_MIN,
    REFUSAL_MAX, REFUSAL_MIN, RIGHTS_ARRIVE_SECONDS, RIGHTS_RETRY_SECONDS, UNANSWERED_LOOK_SECONDS,
    WINDOW_RETRY_SECONDS, rights_may_arrive, tick_expires_at, waits_for_newer_fleet,
};
pub use runs::{Run, usual_start_seconds};
pub use size::stored_bytes;
pub use spec::{InstanceRef, InstanceSpec, Place, ServiceSpec, TargetSpec, Timings};
pub use status::{InstanceStatus, ProvisionedStatus, ServiceStatus, StatusView};
pub use template::{
    BadParameters, Bootstrap, GivenUpLaunch, LAUNCH_TAG, Launch, LaunchOption, LaunchRecord,
    MANAGED_TAG, Market, OWNER_TAG, Parameter, Pattern, TARGET_TAG, TemplateSpec,
};
pub use tracking::{Standing, standing};
pub use unit::{SpecError, UnitName};
pub use watch::{IdleWatch, ends_by_idleness, idle_floor};

#[cfg(test)]
mod tests;
