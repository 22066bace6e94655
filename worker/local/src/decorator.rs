//! The one wrapper around every service: who may, what goes wrong, how long it takes, what was asked.
//!
//! In this order: latency, faults before, policy, the call, faults after, the log. A call that a fault
//! struck before it was done is logged too, and so is one whose caller went away: a test counts what was
//! asked, `done` tells what was done, and the outcome what the caller was told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use async_trait::async_trait;
use awsim_core::{AwsError, Protocol, RequestContext, ServiceHandler};
use jiff::Timestamp;
use serde_json::Value;

use crate::calls::{Call, CallLog, summary};
use crate::faults::{Faults, Spoiled, Verdict};
use crate::iam::Policies;
use crate::shared::{Shared, fault};

/// A status that no service answers with: it tells the endpoint to close the connection instead.
pub(crate) const CUT_STATUS: u16 = 599;
/// The outcome of a call whose connection was closed.
const CUT: &str = "cut";

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
        let service = self.inner.service_name();
        let entry = Arc::new(Entry {
            desk: Arc::clone(&self.desk),
            started: Instant::now(),
            done: AtomicBool::new(false),
            told: OnceLock::new(),
            rights: OnceLock::new(),
            call: Call {
                seq: 0,
                time: Timestamp::now(),
                service: service.to_owned(),
                operation: operation.to_owned(),
                access_key: ctx.access_key.clone(),
                target: summary(service, &input),
                rights: Vec::new(),
                outcome: String::new(),
                done: false,
                took_ms: 0,
            },
        });
        let result = self.answer(operation, input, ctx, &entry).await;
        let outcome = match &result {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.code.clone(),
        };
        // Nobody else sets it, so it is never set already.
        let _ = entry.told.set(outcome);
        result
    }
}

/// The outcome of a call that nobody waited for any more.
const GONE: &str = "gone";

/// A call on its way into the log. It is written when the last who works on it lets go, so that a call
/// which was dropped with its connection is written too, and truly.
struct Entry {
    desk: Arc<Desk>,
    started: Instant,
    done: AtomicBool,
    told: OnceLock<String>,
    rights: OnceLock<Vec<String>>,
    call: Call,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.desk.calls.record(Call {
            outcome: self.told.take().unwrap_or_else(|| GONE.to_owned()),
            done: self.done.load(Ordering::Relaxed),
            rights: self.rights.take().unwrap_or_default(),
            took_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            ..self.call.clone()
        });
    }
}

impl Decorated {
    async fn answer(
        &self,
        operation: &str,
        input: Value,
        ctx: &RequestContext,
        entry: &Arc<Entry>,
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
        let inner = Arc::clone(&self.inner);
        let rights = self.desk.policies.authorise(
            inner.as_ref(),
            &self.desk.shared,
            operation,
            &input,
            &ctx,
        )?;
        // Nobody else sets them, so they are never set already.
        let _ = entry.rights.set(rights);
        let (call, named) = (Arc::clone(entry), operation.to_owned());
        let work = async move {
            let result = inner.handle(&named, input, &ctx).await;
            call.done.store(result.is_ok(), Ordering::Relaxed);
            result
        };
        // As in AWS, what was begun is finished, whoever hangs up; a receive alone ends with its caller.
        let result = if operation == "ReceiveMessage" {
            work.await
        } else {
            let lost = |_| fault(500, "InternalError", "The endpoint failed at this call.");
            tokio::spawn(work).await.map_err(lost)?
        };
        // What has a state of its own, beside the world that marks itself.
        if matches!(service, "dynamodb" | "secretsmanager" | "sts") {
            self.desk.shared.dirty.notify_one();
        }
        if let Verdict::Spoil { after, how } = verdict {
            let mut closing = self.desk.shared.subscribe_closing();
            tokio::select! {
                biased;
                _ = closing.wait_for(|closing| *closing) => {}
                () = tokio::time::sleep(after) => {}
            }
            match how {
                Spoiled::Late => {}
                Spoiled::Lost => {
                    return Err(fault(500, "InternalError", "The answer was lost (injected)."));
                }
                Spoiled::Cut => return Err(fault(CUT_STATUS, CUT, "")),
            }
        }
        result
    }
}
