//! Time, identity and chance; and how far AWS's clock is from ours.
//!
//! *Theory.* Each answer of AWS carries `Date`, in whole seconds, written between our sending and our
//! receiving. Half a second is added for what the whole second hides, and it is compared with the middle
//! of that interval. An answer that took long tells little (a receive writes its date at the end of its
//! wait), so only quick ones count.
//!
//! *Not here.* What follows from a skew: the runtime refuses work above its limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aws_sdk_sqs::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use jiff::{SignedDuration, Timestamp};
use lamplighter_runtime::ports::Clock;

/// A slower answer says too little about when its date was written.
const QUICK_SECONDS: i64 = 2;
/// No answer so far.
const UNKNOWN: i64 = i64::MIN;

/// What AWS's last answers said of its clock.
#[derive(Debug)]
pub(crate) struct SkewMeter {
    seconds: AtomicI64,
}

impl Default for SkewMeter {
    fn default() -> Self {
        Self { seconds: AtomicI64::new(UNKNOWN) }
    }
}

impl SkewMeter {
    pub(crate) fn interceptor(self: Arc<Self>) -> ReadDate {
        ReadDate(self)
    }

    fn record(&self, sent: Timestamp, received: Timestamp, date: Timestamp) {
        if let Some(seconds) = skew_seconds(sent, received, date) {
            self.seconds.store(seconds, Ordering::Relaxed);
        }
    }

    fn read(&self) -> Option<SignedDuration> {
        match self.seconds.load(Ordering::Relaxed) {
            UNKNOWN => None,
            seconds => Some(SignedDuration::from_secs(seconds)),
        }
    }
}

/// AWS minus ours in whole seconds, rounded towards zero; `None` where the answer was not quick.
fn skew_seconds(sent: Timestamp, received: Timestamp, date: Timestamp) -> Option<i64> {
    let took = received.as_millisecond() - sent.as_millisecond();
    if !(0..=QUICK_SECONDS * 1000).contains(&took) {
        return None;
    }
    let middle = sent.as_millisecond() + took / 2;
    Some((date.as_millisecond() + 500 - middle) / 1000)
}

/// Reads the `Date` of every answer.
#[derive(Debug)]
pub(crate) struct ReadDate(Arc<SkewMeter>);

#[derive(Debug)]
struct SentAt(Timestamp);

impl Storable for SentAt {
    type Storer = StoreReplace<Self>;
}

impl Intercept for ReadDate {
    fn name(&self) -> &'static str {
        "ReadDate"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        cfg.interceptor_state().store_put(SentAt(Timestamp::now()));
        Ok(())
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").and_then(read_date);
        if let (Some(date), Some(SentAt(sent))) = (date, cfg.load::<SentAt>()) {
            self.0.record(*sent, Timestamp::now(), date);
        }
        Ok(())
    }
}

pub(crate) fn read_date(header: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(header).ok().map(|date| date.timestamp())
}

/// The worker's clock.
#[derive(Debug, Clone)]
pub(crate) struct AwsClock {
    skew: Arc<SkewMeter>,
}

impl AwsClock {
    pub(crate) fn new(skew: Arc<SkewMeter>) -> Self {
        Self { skew }
    }
}

impl Clock for AwsClock {
    /// AWS's time, as its answers tell it. The margins of a record are written by one worker and judged
    /// by another: by their own clocks, which may differ by up to a minute in all, a margin of seconds
    /// would mean nothing (the simulation's seed 1382 left a machine on for ever).
    fn now(&self) -> Timestamp {
        let skew = self.skew.read().unwrap_or(SignedDuration::ZERO);
        Timestamp::now().saturating_add(skew).unwrap_or(Timestamp::MAX)
    }
    fn new_id(&self) -> String {
        uuid::Uuid::new_v4().to_string()
    }
    fn jitter(&self) -> f64 {
        rand::random()
    }
    fn skew(&self) -> Option<SignedDuration> {
        self.skew.read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sent_ms: i64, received_ms: i64, date_seconds: i64, expected: Option<i64>) {
        let at = |ms| Timestamp::from_millisecond(ms).unwrap();
        assert_eq!(skew_seconds(at(sent_ms), at(received_ms), at(date_seconds * 1000)), expected);
    }

    #[test]
    fn the_skew_is_whole_seconds_and_only_quick_answers_count() {
        check(10_000, 10_100, 10, Some(0));
        check(10_900, 11_000, 10, Some(0));
        check(10_000, 10_100, 55, Some(45));
        check(100_000, 100_100, 55, Some(-44));
        check(10_000, 15_000, 15, None);
        check(10_000, 9_000, 10, None);
    }

    #[test]
    fn the_date_header_is_read_as_http_writes_it() {
        let date = read_date("Fri, 20 Nov 2026 10:00:00 GMT").unwrap();
        assert_eq!(date.to_string(), "2026-11-20T10:00:00Z");
        assert_eq!(read_date("yesterday"), None);
    }
}
