//! Refusals of the model, as the adapters put them.

use std::time::Duration;

use lamplighter_cloud::ServiceFault;
use lamplighter_events::Cause;
use lamplighter_runtime::ports::{Applied, CallError, Disposition};

pub(crate) fn refused(operation: &'static str, error: &dyn ServiceFault) -> CallError {
    CallError {
        operation,
        cause: Cause::NotFound,
        message: error.to_string(),
        disposition: Disposition::Fail,
        applied: Applied::No,
    }
}

/// A refusal of EC2's as the adapter puts it: code, text and request id. `number` of the call makes that id.
pub(super) fn machine(
    operation: &'static str,
    error: &lamplighter_cloud::machines::MachineError,
    number: usize,
) -> CallError {
    let (cause, disposition) = match error.code() {
        "InsufficientInstanceCapacity"
        | "VcpuLimitExceeded"
        | "MaxSpotInstanceCountExceeded"
        | "InsufficientFreeAddressesInSubnet"
        | "ReservationCapacityExceeded" => (Cause::Capacity, Disposition::Retry),
        "IncorrectInstanceState" => {
            (Cause::Conflict, Disposition::RetryAfter(Duration::from_secs(2)))
        }
        "Unavailable" => (Cause::Deadline, Disposition::Retry),
        "OperationNotPermitted" => (Cause::Denied, Disposition::Fail),
        "LaunchPostureViolation" => (Cause::Invalid, Disposition::Fail),
        _ => (Cause::NotFound, Disposition::Fail),
    };
    let unclear = error.code() == "Unavailable";
    let id = format!("{number:08x}-77c7-4f6e-9ede-{number:012x}");
    CallError {
        operation,
        cause,
        message: format!("{}: {error} (request {id})", error.code()),
        disposition,
        applied: if unclear { Applied::Perhaps } else { Applied::No },
    }
}
