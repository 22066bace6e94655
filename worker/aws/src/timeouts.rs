//! How long a call to AWS may take.
//!
//! *Theory.* The SDK has no limit of its own for an answer, so each attempt and each operation gets one. An effect's call
//! ends with its permission.

use std::time::Duration;

use aws_smithy_types::timeout::TimeoutConfig;
use jiff::Timestamp;
use lamplighter_runtime::ports::CallError;

use crate::batch::remaining;

/// A connection that takes longer than this will not come about.
const CONNECT_SECONDS: u64 = 3;
/// What any answer may take, but for a receive that waits (DESIGN.md §3).
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// A receive answers after its wait; this is the time beyond it.
pub(crate) const RECEIVE_GRACE: Duration = Duration::from_secs(10);
/// Three attempts and the pauses between them; beyond it the message goes back to the queue.
pub(crate) const OPERATION_TIMEOUT: Duration = Duration::from_secs(18);

/// A receive's `attempt` is its wait and the grace; everything else keeps the defaults.
pub(crate) fn timeouts(attempt: Duration, operation: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(CONNECT_SECONDS))
        .operation_attempt_timeout(attempt)
        .operation_timeout(operation)
        .build()
}

/// The limits of an effect's call: no attempt after `act_by`.
///
/// # Errors
/// Where that time is over: nothing is called.
pub(crate) fn act_timeouts(
    operation: &'static str,
    now: Timestamp,
    act_by: Timestamp,
) -> Result<TimeoutConfig, CallError> {
    let left = remaining(operation, now, act_by)?;
    Ok(timeouts(ATTEMPT_TIMEOUT.min(left), left))
}
