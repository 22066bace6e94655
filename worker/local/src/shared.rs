//! The one world behind all services, and who is told when it changes.
//!
//! Every operation runs under one lock with the world advanced to now. Afterwards those who wait are
//! told: long polls when a message may have arrived, the clock when something is due earlier than it
//! knew, and the saver that there is something to save. The lock is never held across an await.

use std::sync::{Mutex, MutexGuard, PoisonError};

use awsim_core::AwsError;
use awsim_core::error::ErrorType;
use axum::http::StatusCode;
use jiff::Timestamp;
use lamplighter_cloud::{ServiceFault, World};
use tokio::sync::{Notify, watch};

/// The world and those who wait for it.
#[derive(Debug)]
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    /// Changes when a message may have become receivable, and when the endpoint closes.
    arrivals: watch::Sender<u64>,
    /// The clock has something due earlier than it is armed for.
    pub(crate) rearm: Notify,
    /// There is something to save.
    pub(crate) dirty: Notify,
    /// Turns true once, when the endpoint closes.
    closing: watch::Sender<bool>,
}

#[derive(Debug)]
struct Inner {
    world: World,
    armed: Option<Timestamp>,
}

impl Shared {
    pub(crate) fn new(world: World) -> Self {
        Self {
            inner: Mutex::new(Inner { world, armed: None }),
            arrivals: watch::Sender::new(0),
            rearm: Notify::new(),
            dirty: Notify::new(),
            closing: watch::Sender::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic inside the model is a bug of the model; the world it leaves is still the best there is.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs an operation that may change the world.
    pub(crate) fn with<R>(&self, operation: impl FnOnce(&mut World, Timestamp) -> R) -> R {
        let mut inner = self.lock();
        let now = Timestamp::now();
        inner.world.advance(now);
        let result = operation(&mut inner.world, now);
        let arrivals = inner.world.queues.arrivals();
        let earlier = match (inner.world.next_due(), inner.armed) {
            (Some(due), Some(armed)) => due < armed,
            (Some(_), None) => true,
            (None, _) => false,
        };
        drop(inner);
        if *self.arrivals.borrow() != arrivals {
            self.arrivals.send_replace(arrivals);
        }
        if earlier {
            self.rearm.notify_one();
        }
        self.dirty.notify_one();
        result
    }

    /// Looks at the world as it is, advanced to now, without marking it changed.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&mut World, Timestamp) -> R) -> R {
        let mut inner = self.lock();
        let now = Timestamp::now();
        look(&mut inner.world, now)
    }

    /// Brings the world to now and says when to do so next.
    pub(crate) fn arm(&self) -> Option<Timestamp> {
        let mut inner = self.lock();
        let now = Timestamp::now();
        let before = inner.world.queues.arrivals();
        inner.world.advance(now);
        let after = inner.world.queues.arrivals();
        inner.armed = inner.world.next_due();
        let armed = inner.armed;
        drop(inner);
        if before != after {
            self.arrivals.send_replace(after);
        }
        self.dirty.notify_one();
        armed
    }

    pub(crate) fn subscribe_arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.subscribe()
    }

    pub(crate) fn subscribe_closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }

    pub(crate) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }
}

/// A refusal of the model, as the gateway puts it on the wire.
pub(crate) fn refuse(error: &impl ServiceFault) -> AwsError {
    fault(error.status(), error.code(), error.to_string())
}

/// An error of this status, code and text.
pub(crate) fn fault(status: u16, code: &str, message: impl Into<String>) -> AwsError {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let server = status.is_server_error();
    AwsError {
        status,
        code: code.to_owned(),
        message: message.into(),
        error_type: if server { ErrorType::Receiver } else { ErrorType::Sender },
        extras: None,
    }
}

/// Seconds since the epoch with milliseconds, as the JSON protocols write times.
pub(crate) fn epoch(at: Timestamp) -> serde_json::Value {
    #[allow(clippy::cast_precision_loss)] // Milliseconds of this millennium fit a double exactly.
    let millis = at.as_millisecond() as f64;
    (millis / 1000.0).into()
}
