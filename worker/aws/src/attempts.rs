//! Whether an attempt before the last one may have had its effect.
//!
//! *Theory.* The SDK tells how the last attempt of a call ended. When the first was lost on the way back
//! and the second was throttled, "throttled" alone would claim that nothing happened. Calls that change
//! something therefore carry this interceptor, and its word corrects the error.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use aws_sdk_sqs::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::FinalizerInterceptorContextRef;
use lamplighter_runtime::ports::{Applied, CallError};

use crate::disposition::never_left;

const LAST_WAS_LOST: u8 = 1;
const EARLIER_WAS_LOST: u8 = 2;

/// The attempts of one call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attempts(Arc<AtomicU8>);

impl Attempts {
    /// The error, with `Applied::Perhaps` where an earlier attempt was lost.
    pub(crate) fn correct(&self, error: CallError) -> CallError {
        if self.0.load(Ordering::Relaxed) & EARLIER_WAS_LOST == 0 {
            error
        } else {
            CallError { applied: Applied::Perhaps, ..error }
        }
    }

    fn ended(&self, lost: bool) {
        let before = self.0.load(Ordering::Relaxed);
        let earlier = if before == 0 { 0 } else { EARLIER_WAS_LOST };
        self.0.store(earlier | if lost { LAST_WAS_LOST } else { 0 }, Ordering::Relaxed);
    }
}

impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "Attempts"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let failed = !matches!(context.output_or_error(), Some(Ok(_)));
        let refused = context.response().is_some_and(|answer| answer.status().is_client_error());
        let not_sent = matches!(context.output_or_error(), Some(Err(error))
            if error.as_connector_error().is_some_and(|error| never_left(error)));
        self.ended(failed && !refused && !not_sent);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lamplighter_events::Cause;
    use lamplighter_runtime::ports::Disposition;

    use super::*;

    #[track_caller]
    fn check(lost: &[bool], expected: Applied) {
        let attempts = Attempts::default();
        for lost in lost {
            attempts.ended(*lost);
        }
        let error = CallError {
            operation: "test:X",
            cause: Cause::Throttled,
            message: String::new(),
            disposition: Disposition::Retry,
            applied: Applied::No,
        };
        assert_eq!(attempts.correct(error).applied, expected, "{lost:?}");
    }

    #[test]
    fn a_refusal_after_a_lost_answer_is_ambiguous() {
        check(&[false], Applied::No);
        check(&[false, false], Applied::No);
        check(&[true], Applied::No); // the last attempt's own error tells
        check(&[true, false], Applied::Perhaps);
        check(&[false, true, false], Applied::Perhaps);
        check(&[true, false, false], Applied::Perhaps);
    }
}
