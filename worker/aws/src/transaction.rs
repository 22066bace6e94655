//! What a cancelled transaction says, part by part.
//!
//! *Theory.* DynamoDB cancels a transaction with one reason for each part, in their order. A failed
//! condition is an answer (somebody was first); anything else is trouble, and trouble comes first: while
//! one part was throttled, what the others say is not the whole story.

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::CancellationReason;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use lamplighter_runtime::ports::CallError;

use crate::disposition::entry_error;
use crate::item::{Item, check_format};

pub(crate) const TRANSACT: &str = "dynamodb:TransactWriteItems";
/// DynamoDB's bound for a client request token.
const TOKEN_BYTES_MAX: usize = 36;

/// What a part of a transaction writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Record,
    Command,
    Outcome,
    Resource,
    Seat,
}

/// The conditions that did not hold, each with the item that was there, where DynamoDB showed it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Cancelled {
    pub(crate) record: Option<Option<Item>>,
    pub(crate) command: Option<Option<Item>>,
    pub(crate) resource: Option<Option<Item>>,
    pub(crate) seat: Option<Option<Item>>,
    pub(crate) outcome: bool,
}

/// Whether the token was used before, with what DynamoDB takes for another request.
pub(crate) fn is_known_token(error: &SdkError<TransactWriteItemsError, HttpResponse>) -> bool {
    error
        .as_service_error()
        .is_some_and(TransactWriteItemsError::is_idempotent_parameter_mismatch_exception)
}

/// Reads the reasons; `None` where the error is not a cancellation.
pub(crate) fn read_cancelled(
    parts: &[Part],
    error: &SdkError<TransactWriteItemsError, HttpResponse>,
) -> Option<Result<Cancelled, CallError>> {
    match error.as_service_error()? {
        TransactWriteItemsError::TransactionCanceledException(cancelled) => {
            Some(read_reasons(parts, cancelled.cancellation_reasons()))
        }
        _ => None,
    }
}

fn read_reasons(parts: &[Part], reasons: &[CancellationReason]) -> Result<Cancelled, CallError> {
    let mut cancelled = Cancelled::default();
    let mut said = false;
    for (part, reason) in parts.iter().zip(reasons) {
        match reason.code() {
            None | Some("None" | "") => {}
            Some("ConditionalCheckFailed") => {
                said = true;
                let item = reason.item().cloned().filter(|item| !item.is_empty());
                if let Some(error) = item.as_ref().and_then(|item| check_format(item).err()) {
                    return Err(error.into_call_error(TRANSACT));
                }
                match part {
                    Part::Record => cancelled.record = Some(item),
                    Part::Command => cancelled.command = Some(item),
                    Part::Resource => cancelled.resource = Some(item),
                    Part::Seat => cancelled.seat = Some(item),
                    // Its only condition is the format.
                    Part::Outcome => cancelled.outcome = true,
                }
            }
            Some(code) => return Err(entry_error(TRANSACT, Some(code), reason.message(), true)),
        }
    }
    if said {
        Ok(cancelled)
    } else {
        let words = "the transaction was cancelled without a reason";
        Err(entry_error(TRANSACT, Some("TransactionConflict"), Some(words), true))
    }
}

/// The token by which DynamoDB knows a transaction again: the commit's nonce, or its digest where that
/// is too long.
pub(crate) fn request_token(nonce: &str) -> String {
    if nonce.len() <= TOKEN_BYTES_MAX && !nonce.is_empty() {
        return nonce.to_owned();
    }
    let digest = |basis: u64| {
        nonce
            .bytes()
            .fold(basis, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    };
    format!("{:016x}{:016x}", digest(0xcbf2_9ce4_8422_2325), digest(0x6c62_272e_07bb_0142))
}

#[cfg(test)]
mod tests {
    use lamplighter_runtime::ports::{Applied, Disposition};

    use super::*;

    const PARTS: &[Part] = &[Part::Record, Part::Command, Part::Outcome, Part::Resource];

    fn reasons(codes: &[&str]) -> Vec<CancellationReason> {
        codes.iter().map(|code| CancellationReason::builder().code(*code).build()).collect()
    }

    #[track_caller]
    fn check(codes: &[&str], record: bool, command: bool, resource: bool) {
        let cancelled = read_reasons(PARTS, &reasons(codes)).unwrap();
        let found =
            (cancelled.record.is_some(), cancelled.command.is_some(), cancelled.resource.is_some());
        assert_eq!(found, (record, command, resource), "{codes:?}");
    }

    #[test]
    fn each_reason_belongs_to_the_part_in_its_place() {
        let failed = "ConditionalCheckFailed";
        check(&[failed, "None", "None", "None"], true, false, false);
        check(&["None", failed, "None", "None"], false, true, false);
        check(&["None", "None", "None", failed], false, false, true);
        check(&[failed, failed, "None", failed], true, true, true);
    }

    #[test]
    fn trouble_with_one_part_is_tried_again_whatever_the_others_say() {
        let codes = ["ConditionalCheckFailed", "None", "TransactionConflict", "None"];
        let error = read_reasons(PARTS, &reasons(&codes)).unwrap_err();
        assert_eq!((error.disposition, error.applied), (Disposition::Retry, Applied::No));
        let error = read_reasons(PARTS, &reasons(&["ThrottlingError"])).unwrap_err();
        assert_eq!(error.disposition, Disposition::Retry);
        assert_eq!(read_reasons(PARTS, &[]).unwrap_err().disposition, Disposition::Retry);
    }

    #[test]
    fn a_token_fits_and_differs_with_its_nonce() {
        assert_eq!(request_token("n-1"), "n-1");
        let long = request_token(&"n".repeat(80));
        assert_eq!(long.len(), 32);
        assert_ne!(long, request_token(&"n".repeat(81)));
    }
}
