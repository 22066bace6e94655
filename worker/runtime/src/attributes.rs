//! Names of message attributes.

use crate::ports::Received;
use crate::telemetry;

/// The attribute with a command's id.
pub const ID_ATTRIBUTE: &str = "id";

/// The attribute with the sender's trace.
pub const TRACE_ATTRIBUTE: &str = "traceparent";

/// Why a message was parked: one word.
pub const REASON_ATTRIBUTE: &str = "reason";

/// Why a message was parked: a sentence.
pub const REASON_MESSAGE_ATTRIBUTE: &str = "reason-message";

/// The sender's trace. An attribute can hold a megabyte, and the record would keep it.
pub(crate) fn trace_of(message: &Received) -> Option<String> {
    let trace = message.attributes.get(TRACE_ATTRIBUTE)?;
    telemetry::is_traceparent(trace).then(|| trace.clone())
}
