//! Which failures the SDK does not retry by itself.

use aws_sdk_ec2::operation::run_instances::RunInstancesError;
use aws_sdk_ec2::operation::start_instances::StartInstancesError;
use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::retries::classifiers::{
    ClassifyRetry, RetryAction, RetryClassifierPriority,
};

use crate::disposition::ErrorCode;

/// EC2 answers "no capacity" with HTTP 500, which the SDK's classifiers take for trouble of its own.
#[derive(Debug)]
pub(crate) struct CapacityIsNotRetried;

impl ClassifyRetry for CapacityIsNotRetried {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let code = context
            .output_or_error()
            .and_then(Result::err)
            .and_then(|error| error.as_operation_error())
            .and_then(|error| {
                let start = error.downcast_ref::<StartInstancesError>();
                let run = error.downcast_ref::<RunInstancesError>();
                start.map(StartInstancesError::meta).or_else(|| run.map(RunInstancesError::meta))
            })
            .and_then(|meta| meta.code());
        match ErrorCode::parse(code, 0) {
            ErrorCode::NoCapacity | ErrorCode::AccountLimit => RetryAction::RetryForbidden,
            _ => RetryAction::NoActionIndicated,
        }
    }
    fn name(&self) -> &'static str {
        "capacity is not retried"
    }
    fn priority(&self) -> RetryClassifierPriority {
        RetryClassifierPriority::run_after(RetryClassifierPriority::transient_error_classifier())
    }
}
