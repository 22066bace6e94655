//! The one wrapper around every service: who may, what goes wrong, how long it takes, what was asked.
//!
//! In this order: latency, faults before, policy, the call, faults after, the log. A call that a fault
//! struck before it was done is logged too: a test counts what was asked, and the outcome tells.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use awsim_core::{AwsError, Protocol, RequestContext, ServiceHandler};
use jiff::Timestamp;
use serde_json::Value;

use crate::calls::{Call, CallLog, summary};
use crate::faults::{Faults, Verdict};
use crate::iam::Policies;
use crate::shared::{Shared, fault};

/// What every wrapped service shares.
pub(crate) struct Desk {
    pub(crate) shared: Arc<Shared>,
    pub(crate) calls: CallLog,
    pub(crate) faults: Faults,
    pub(crate) policies: Policies,
    /// The one region whose state every caller sees, whatever region they sign for.
    pub(crate) region: String,
}

pub(crate) struct Decorated {
    pub(crate) inner: Arc<dyn ServiceHandler>,
    pub(crate) desk: Arc<Desk>,
}

#[async_trait]
impl ServiceHandler for Decorated {
    fn service_name(&self) -> &str {
        self.inner.service_name()
    }

    fn signing_name(&self) -> &str {
        self.inner.signing_name()
    }

    fn protocol(&self) -> Protocol {
        self.inner.protocol()
    }

    async fn handle(
        &self,
        operation: &str,
        input: Value,
        ctx: &RequestContext,
    ) -> Result<Value, AwsError> {
        let (started, time) = (Instant::now(), Timestamp::now());
        let service = self.inner.service_name();
        let target = summary(service, &input);
        let result = self.answer(operation, input, ctx).await;
        let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let outcome = match &result {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.code.clone(),
        };
        self.desk.calls.record(Call {
            seq: 0,
            time,
            service: service.to_owned(),
            operation: operation.to_owned(),
            access_key: ctx.access_key.clone(),
            target,
            outcome,
            took_ms,
        });
        result
    }
}

impl Decorated {
    async fn answer(
        &self,
        operation: &str,
        input: Value,
        ctx: &RequestContext,
    ) -> Result<Value, AwsError> {
        let service = self.inner.service_name();
        let delay = self.desk.faults.delay();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let verdict = self.desk.faults.judge(service, operation, ctx.access_key.as_deref());
        if let Verdict::Refuse(error) = verdict {
            return Err(error);
        }
        let mut ctx = ctx.clone();
        ctx.region.clone_from(&self.desk.region);
        let inner = self.inner.as_ref();
        self.desk.policies.authorise(inner, &self.desk.shared, operation, &input, &ctx)?;
        let result = inner.handle(operation, input, &ctx).await;
        // What has a state of its own, beside the world that marks itself.
        if matches!(service, "dynamodb" | "secretsmanager" | "sts") {
            self.desk.shared.dirty.notify_one();
        }
        if let Verdict::Lose { after } = verdict {
            let mut closing = self.desk.shared.subscribe_closing();
            tokio::select! {
                biased;
                _ = closing.wait_for(|closing| *closing) => {}
                () = tokio::time::sleep(after) => {}
            }
            return Err(fault(500, "InternalError", "The answer was lost (injected)."));
        }
        result
    }
}
