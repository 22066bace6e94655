//! Messages in hand: heartbeats, and the one end that each message has.
//!
//! *Invariant.* A message's visibility is never extended after its delete or its release began: both
//! take the same lock and close it. A message holds its slot until then, and no longer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedSemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::ports::{Queue, Receipt, Received};

/// A received message with its slot.
pub(crate) struct Held {
    pub(crate) message: Received,
    state: Arc<State>,
    registry: Arc<Registry>,
    number: u64,
    _slot: OwnedSemaphorePermit,
}

struct State {
    receipt: Receipt,
    closed: Mutex<bool>,
}

/// All messages in hand.
#[derive(Default)]
pub(crate) struct Registry {
    next: AtomicU64,
    held: StdMutex<BTreeMap<u64, Arc<State>>>,
}

impl Registry {
    pub(crate) fn hold(self: &Arc<Self>, message: Received, slot: OwnedSemaphorePermit) -> Held {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let state = Arc::new(State { receipt: message.receipt.clone(), closed: Mutex::new(false) });
        self.lock().insert(number, Arc::clone(&state));
        Held { message, state, registry: Arc::clone(self), number, _slot: slot }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<State>>> {
        // The map is never left half changed, so a panic elsewhere does not spoil it.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Extends every open message's visibility, side by side.
    async fn beat(&self, queue: &Arc<dyn Queue>, visibility_seconds: u32) {
        let held: Vec<Arc<State>> = self.lock().values().cloned().collect();
        let mut beats = JoinSet::new();
        for state in held {
            let queue = Arc::clone(queue);
            beats.spawn(async move {
                let closed = state.closed.lock().await;
                if !*closed
                    && let Err(error) = queue.delay(&state.receipt, visibility_seconds).await
                {
                    tracing::warn!(%error, "a heartbeat failed; the message may be seen twice");
                }
            });
        }
        while beats.join_next().await.is_some() {}
    }

    /// Beats for as long as it is polled.
    pub(crate) async fn keep_beating(
        self: Arc<Self>,
        queue: Arc<dyn Queue>,
        visibility_seconds: u32,
    ) {
        let pause = Duration::from_secs(u64::from(visibility_seconds.max(3) / 3));
        loop {
            tokio::time::sleep(pause).await;
            self.beat(&queue, visibility_seconds).await;
        }
    }

    /// Gives every message back (the drain's deadline has come), side by side, and not beyond this
    /// moment: whoever ends a worker does not wait for ever.
    pub(crate) async fn release_all(&self, queue: &Arc<dyn Queue>, until: Instant) {
        let held: Vec<Arc<State>> = self.lock().values().cloned().collect();
        let mut releases = JoinSet::new();
        for state in held {
            let queue = Arc::clone(queue);
            releases.spawn(async move {
                let mut closed = state.closed.lock().await;
                if !std::mem::replace(&mut *closed, true)
                    && let Err(error) = queue.delay(&state.receipt, 0).await
                {
                    tracing::warn!(%error, "a message could not be given back; it comes back by itself");
                }
            });
        }
        let all = async { while releases.join_next().await.is_some() {} };
        if tokio::time::timeout_at(until, all).await.is_err() {
            tracing::warn!(
                left = releases.len(),
                "messages could not be given back in time; they come back by themselves"
            );
        }
    }
}

impl Held {
    /// All that it caused is durable: away with it. A failure only means that it comes again, and a
    /// repeat does nothing.
    pub(crate) async fn delete(self, queue: &Arc<dyn Queue>) {
        let mut closed = self.state.closed.lock().await;
        if !std::mem::replace(&mut *closed, true)
            && let Err(error) = queue.delete(&self.state.receipt).await
        {
            tracing::warn!(%error, "a finished message could not be deleted; it will come again");
        }
    }

    /// Back to the queue, to be seen again after `seconds`.
    pub(crate) async fn release(self, queue: &Arc<dyn Queue>, seconds: u32) {
        let mut closed = self.state.closed.lock().await;
        if !std::mem::replace(&mut *closed, true)
            && let Err(error) = queue.delay(&self.state.receipt, seconds).await
        {
            tracing::warn!(%error, "a message could not be delayed; it comes back by itself");
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.number);
    }
}
