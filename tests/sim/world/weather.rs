//! What goes wrong for everybody at once, for minutes or days: a service that cannot be reached, a zone without
//! room, requests that are refused in bulk.
//!
//! A [`Fault`](crate::fault::Fault) strikes one call; weather strikes every call that it is about, as long as it lasts.

use std::time::Duration;

use jiff::Timestamp;
use lamplighter_events::Cause;
use lamplighter_runtime::ports::{Applied, CallError, Disposition};

use super::{Sim, State};

/// How a call fails, after the SDK's own attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The endpoint's name is not resolved.
    Unreachable,
    /// 503.
    Unavailable,
    /// EC2 has no room.
    NoCapacity,
    /// Too many requests.
    RequestLimit,
}

/// One stretch of it.
#[derive(Debug, Clone)]
pub struct Weather {
    /// An operation, or what several begin with (`dynamodb:`).
    pub operation: &'static str,
    /// Only calls about one of these; empty: all of them.
    pub about: Vec<String>,
    /// From when (inclusive).
    pub from: Timestamp,
    /// Until when (exclusive).
    pub until: Timestamp,
    /// How many of a thousand calls it strikes.
    pub per_mille: u64,
    /// How they fail.
    pub refusal: Refusal,
}

impl Weather {
    fn strikes(&self, operation: &str, what: &str, now: Timestamp) -> bool {
        let about = self.about.is_empty() || self.about.iter().any(|it| what.contains(it.as_str()));
        self.from <= now && now < self.until && operation.starts_with(self.operation) && about
    }
}

impl Sim {
    /// From here on.
    pub fn set_weather(&self, weather: Vec<Weather>) {
        self.lock().weather = weather;
    }
}

impl State {
    /// Why this call fails, if it does.
    pub(super) fn refused_by_weather(
        &mut self,
        operation: &'static str,
        what: &str,
        now: Timestamp,
    ) -> Option<CallError> {
        let struck = self.weather.iter().find(|it| it.strikes(operation, what, now))?;
        let (refusal, per_mille) = (struck.refusal, struck.per_mille);
        if self.chance.next() % 1000 >= per_mille {
            return None;
        }
        let (cause, disposition, message) = match refusal {
            Refusal::Unreachable => {
                (Cause::Throttled, Disposition::Retry, "dispatch failure: dns error")
            }
            Refusal::Unavailable => (
                Cause::Throttled,
                Disposition::Retry,
                "Unavailable: The service is unavailable. Please try again shortly.",
            ),
            Refusal::NoCapacity => (
                Cause::Capacity,
                Disposition::Retry,
                "InsufficientInstanceCapacity: We currently do not have sufficient capacity in the \
                 Availability Zone you requested.",
            ),
            Refusal::RequestLimit => (
                Cause::Throttled,
                Disposition::RetryAfter(Duration::from_secs(5)),
                "RequestLimitExceeded: Request limit exceeded.",
            ),
        };
        let message = message.to_owned();
        Some(CallError { operation, cause, message, disposition, applied: Applied::No })
    }
}
