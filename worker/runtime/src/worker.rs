//! The worker: slots, a poller, one task a target, heartbeats, sweeps, and a drain.
//!
//! *Theory.* A slot is taken before a message is received and given back when the message is deleted or
//! released; nothing waits on a slot: a wait is a `wake_at` and a delayed message. Messages for one
//! target go to its mailbox; its one task takes them in turn, and every nudge that lies there when a
//! pass begins is answered by that pass.
//!
//! *Invariants.* No more messages in hand than slots. A panic in one message's work gives that message
//! back and harms no other. After a shutdown begins nothing new is taken; by its deadline everything is
//! finished or given back.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use lamplighter_events::TargetName;
use lamplighter_lifecycle::SKEW_MAX_SECONDS;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::fleet::Fleet;
use crate::held::{Held, Registry};
use crate::liveness::Liveness;
use crate::options::WorkerOptions;
use crate::ports::{CallError, Disposition, Ports, Received};
use crate::shared::Shared;
use crate::telemetry::Meters;
use crate::work::{Routed, Work};
use crate::{backoff, inbox, outcomes, pass, sweep};

/// Messages for one target that may wait for their turn; more go back to the queue for a moment, so
/// that one busy target cannot take all slots.
const MAILBOX_MAX: usize = 8;
/// A body whose work panics this often is parked: it is the body's fault.
const PANICS_MAX: u32 = 5;
/// SQS's largest batch.
const RECEIVE_MAX: usize = 10;
/// How long a receive that is under way when the shutdown begins may still bring messages, which are
/// then given back. (What comes later becomes visible again by itself.)
const LATE_RECEIVE: Duration = Duration::from_secs(2);
/// The end of the drain that is kept for giving back what was not finished: one call, side by side for
/// all, and most of a second try.
const GIVE_BACK_WITHIN: Duration = Duration::from_secs(4);
/// A dry run gives messages back for this long: often enough to be seen, far from using up the
/// receives that lead to the dead letters.
const DRY_RUN_RELEASE_SECONDS: u32 = 600;

/// Something for a target's task to do.
struct Item {
    work: Work,
    /// The message that it came by; a sweep's nudge has none.
    held: Option<Held>,
}

/// Hands messages, and nudges of our own, to the tasks of their targets.
struct Dispatcher {
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    slots: Arc<Semaphore>,
    mailboxes: Mutex<BTreeMap<TargetName, VecDeque<Item>>>,
    tasks: Mutex<JoinSet<()>>,
}

/// A worker.
pub struct Worker {
    dispatcher: Arc<Dispatcher>,
    liveness: Liveness,
}

impl Worker {
    /// A worker on these ports. Nothing happens before `run`.
    pub fn new(ports: Ports, fleet: Arc<Fleet>, options: WorkerOptions) -> Self {
        let dispatcher = Arc::new_cyclic(|dispatcher: &Weak<Dispatcher>| {
            let dispatcher = Weak::clone(dispatcher);
            let nudge = move |target: &TargetName, work| {
                if let Some(dispatcher) = dispatcher.upgrade() {
                    dispatcher.nudge(target, work);
                }
            };
            Dispatcher {
                registry: Arc::default(),
                slots: Arc::new(Semaphore::new(options.slots.max(1))),
                mailboxes: Mutex::default(),
                tasks: Mutex::default(),
                shared: Arc::new(Shared {
                    ports,
                    fleet,
                    options,
                    meters: Meters::new(),
                    nudge: Box::new(nudge),
                }),
            }
        });
        Self { dispatcher, liveness: Liveness::default() }
    }

    /// Gives a sign of life with each turn of its receive loop.
    #[must_use]
    pub fn with_liveness(self, liveness: Liveness) -> Self {
        Self { liveness, ..self }
    }

    /// Works until `shutdown` completes, then drains. Trouble with AWS never ends it.
    pub async fn run(&self, shutdown: impl Future<Output = ()> + Send) {
        let dispatcher = &self.dispatcher;
        let heartbeats = tokio::spawn(Arc::clone(&dispatcher.registry).keep_beating(
            Arc::clone(&dispatcher.shared.ports.queue),
            dispatcher.shared.options.visibility_seconds,
        ));
        let sweeps = tokio::spawn(sweep::keep_sweeping(Arc::clone(&dispatcher.shared)));
        let began = self.poll(shutdown).await;
        sweeps.abort();
        self.drain(began + dispatcher.shared.options.drain).await;
        heartbeats.abort();
    }

    /// Receives until the shutdown; when that began.
    async fn poll(&self, shutdown: impl Future<Output = ()> + Send) -> Instant {
        let dispatcher = &self.dispatcher;
        let mut shutdown = std::pin::pin!(shutdown);
        let mut failures = 0;
        loop {
            self.liveness.give();
            let slots = tokio::select! {
                biased;
                () = &mut shutdown => return Instant::now(),
                slots = dispatcher.free_slots() => slots,
            };
            if dispatcher.refuses_for_skew() {
                drop(slots);
                tokio::select! {
                    biased;
                    () = &mut shutdown => return Instant::now(),
                    () = dispatcher.look_at_the_clock() => continue,
                }
            }
            let mut receive = std::pin::pin!(
                dispatcher
                    .shared
                    .ports
                    .queue
                    .receive(slots.len(), dispatcher.shared.options.receive_wait)
            );
            let received = tokio::select! {
                biased;
                () = &mut shutdown => {
                    let began = Instant::now();
                    if let Ok(Ok(late)) = tokio::time::timeout(LATE_RECEIVE, &mut receive).await {
                        dispatcher.give_back(late);
                    }
                    return began;
                }
                received = &mut receive => received,
            };
            match received {
                Ok(messages) => {
                    failures = 0;
                    dispatcher.take(messages, slots);
                }
                Err(error) => {
                    drop(slots);
                    failures += 1;
                    let jitter = dispatcher.shared.ports.clock.jitter();
                    let pause = backoff::retry_seconds(failures, jitter).min(30);
                    tracing::error!(%error, pause_seconds = pause, "nothing can be received");
                    tokio::select! {
                        biased;
                        () = &mut shutdown => return Instant::now(),
                        () = tokio::time::sleep(Duration::from_secs(u64::from(pause))) => {}
                    }
                }
            }
        }
    }

    /// Lets what is in hand finish while there is time; then gives the rest back.
    async fn drain(&self, until: Instant) {
        let dispatcher = &self.dispatcher;
        tracing::info!(in_hand = dispatcher.registry.count(), "draining");
        // They outlive the deadline: one that is dropped takes its message off the list of those that are
        // to be given back.
        let mut tasks = JoinSet::new();
        let finish = async {
            loop {
                tasks = std::mem::take(&mut *dispatcher.lock_tasks());
                if tasks.is_empty() {
                    return;
                }
                while tasks.join_next().await.is_some() {}
            }
        };
        let finish_by = until.checked_sub(GIVE_BACK_WITHIN).unwrap_or(until);
        if tokio::time::timeout_at(finish_by, finish).await.is_err() {
            tracing::warn!(
                in_hand = dispatcher.registry.count(),
                "the deadline: giving messages back"
            );
        }
        dispatcher.registry.release_all(&dispatcher.shared.ports.queue, until).await;
        drop(tasks);
        tracing::info!("drained");
    }
}

impl Dispatcher {
    fn lock_tasks(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_mailboxes(&self) -> std::sync::MutexGuard<'_, BTreeMap<TargetName, VecDeque<Item>>> {
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for one slot and takes what else is free, up to a batch.
    async fn free_slots(&self) -> Vec<OwnedSemaphorePermit> {
        let Ok(first) = Arc::clone(&self.slots).acquire_owned().await else {
            unreachable!("the semaphore is never closed")
        };
        let mut slots = vec![first];
        while slots.len() < RECEIVE_MAX {
            match Arc::clone(&self.slots).try_acquire_owned() {
                Ok(slot) => slots.push(slot),
                Err(_) => break,
            }
        }
        slots
    }

    /// A worker whose clock is wrong would sign requests too late and judge holds wrongly.
    fn refuses_for_skew(&self) -> bool {
        let skew = self.shared.ports.clock.skew().map_or(0, |skew| skew.as_secs());
        let refuses = skew.abs() > SKEW_MAX_SECONDS;
        if refuses {
            tracing::error!(
                skew_seconds = skew,
                "this machine's clock differs from AWS's by more than {SKEW_MAX_SECONDS} s; no work \
                 is taken until it is set right"
            );
        }
        refuses
    }

    /// Makes a harmless call, whose answer tells AWS's time, and waits a little.
    async fn look_at_the_clock(&self) {
        if let Err(error) = self.shared.ports.store.due(0, jiff::Timestamp::UNIX_EPOCH).await {
            tracing::debug!(%error, "AWS's time is still unknown");
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }

    /// Side by side, and waited for as all that is in hand.
    fn give_back(self: &Arc<Self>, messages: Vec<Received>) {
        let mut tasks = self.lock_tasks();
        for message in messages {
            let shared = Arc::clone(&self.shared);
            tasks.spawn(async move {
                if let Err(error) = shared.ports.queue.delay(&message.receipt, 0).await {
                    tracing::warn!(%error, "a late message comes back by itself");
                }
            });
        }
    }

    fn take(self: &Arc<Self>, messages: Vec<Received>, slots: Vec<OwnedSemaphorePermit>) {
        let now = self.shared.ports.clock.now();
        self.shared.meters.received(u64::try_from(messages.len()).unwrap_or(u64::MAX));
        if let Some(oldest) = messages.iter().map(|message| message.sent_at).min() {
            self.shared
                .meters
                .oldest_message_seconds(now.duration_since(oldest).as_secs_f64().max(0.0));
        }
        let mut tasks = self.lock_tasks();
        // Finished tasks are forgotten here, so that the set does not grow.
        while tasks.try_join_next().is_some() {}
        for (message, slot) in messages.into_iter().zip(slots) {
            let held = self.registry.hold(message, slot);
            let dispatcher = Arc::clone(self);
            tasks.spawn(async move { dispatcher.receive_one(held).await });
        }
        drop(tasks);
        self.shared.meters.in_flight(i64::try_from(self.registry.count()).unwrap_or(i64::MAX));
    }

    /// Routes one message. Its own task, so that a panic while parsing harms no other.
    async fn receive_one(self: Arc<Self>, held: Held) {
        let shared = Arc::clone(&self.shared);
        let message = held.message.clone();
        let routed = tokio::spawn(async move { inbox::route(&shared, &message).await }).await;
        match routed {
            Ok(Ok(Routed::To(target, work))) => {
                self.deliver(&target, Item { work, held: Some(held) }).await;
            }
            Ok(Ok(Routed::Done)) => {
                let work = Work::look();
                let item = Item { work, held: Some(held) };
                self.settle(item, Ok(())).await;
            }
            Ok(Err(error)) => self.again_later(held, &error).await,
            Err(_panicked) => self.after_panic(held).await,
        }
    }

    /// A nudge of our own: it has no message that could go back to the queue, so a full mailbox refuses it.
    fn nudge(self: &Arc<Self>, target: &TargetName, work: Work) {
        drop(self.put(target, Item { work, held: None }));
    }

    async fn deliver(self: &Arc<Self>, target: &TargetName, item: Item) {
        if let Some(Item { held: Some(held), .. }) = self.put(target, item) {
            let seconds = backoff::retry_seconds(1, self.shared.ports.clock.jitter());
            held.release(&self.shared.ports.queue, seconds).await;
        }
    }

    /// Puts it into the target's mailbox, and starts the target's task where none runs. Returns it where the mailbox
    /// is full.
    fn put(self: &Arc<Self>, target: &TargetName, item: Item) -> Option<Item> {
        let mut mailboxes = self.lock_mailboxes();
        match mailboxes.get_mut(target) {
            Some(mailbox) if mailbox.len() >= MAILBOX_MAX => Some(item),
            Some(mailbox) => {
                mailbox.push_back(item);
                None
            }
            None => {
                mailboxes.insert(target.clone(), VecDeque::from([item]));
                drop(mailboxes);
                let dispatcher = Arc::clone(self);
                let target = target.clone();
                self.lock_tasks().spawn(async move { dispatcher.work_on(target).await });
                None
            }
        }
    }

    /// The one task of a target: until its mailbox is empty.
    async fn work_on(self: Arc<Self>, target: TargetName) {
        while let Some((work, items)) = self.next_work(&target) {
            let Some(spec) = self.shared.fleet.spec(&target).map(Cow::into_owned) else {
                for item in items {
                    self.settle(item, Ok(())).await;
                }
                continue;
            };
            let shared = Arc::clone(&self.shared);
            // A task of its own: its panic ends here, and the messages are still in hand.
            let pass =
                tokio::spawn(async move { Box::pin(pass::run(&shared, &spec, &work)).await }).await;
            for item in items {
                match &pass {
                    Ok(result) => self.settle(item, result.clone()).await,
                    Err(_panicked) => {
                        if let Some(held) = item.held {
                            self.after_panic(held).await;
                        }
                    }
                }
            }
        }
    }

    /// The next thing to do: a command with every nudge that lies there, or the nudges alone.
    fn next_work(&self, target: &TargetName) -> Option<(Work, Vec<Item>)> {
        let mut mailboxes = self.lock_mailboxes();
        let mailbox = mailboxes.get_mut(target)?;
        let Some(first) = mailbox.pop_front() else {
            mailboxes.remove(target);
            return None;
        };
        let mut work = first.work.clone();
        let mut items = vec![first];
        let mut rest = VecDeque::new();
        for item in std::mem::take(mailbox) {
            match (&work, &item.work) {
                (Work::Command(_), Work::Command(_)) => rest.push_back(item),
                // Of two machines, perhaps: neither stands for the other.
                (one, other) if one.brings_news() && other.brings_news() => rest.push_back(item),
                (Work::Command(_), news) if news.brings_news() => rest.push_back(item),
                (news, Work::Command(_)) if news.brings_news() => rest.push_back(item),
                (Work::Nudge { .. }, Work::Command(_)) => {
                    work = item.work.clone();
                    items.push(item);
                }
                (Work::Command(_), Work::Nudge { wake_rev: None, .. }) => items.push(item),
                // A wake-up hands its chain on, which a command's pass need not: it keeps its turn.
                (Work::Command(_), Work::Nudge { wake_rev: Some(_), .. }) => rest.push_back(item),
                (
                    Work::Nudge { wake_rev: one, look, round, asked, notice, found, given_up },
                    Work::Nudge {
                        wake_rev: other,
                        look: too,
                        round: newer,
                        asked: also_asked,
                        notice: noticed,
                        found: other_found,
                        given_up: other_given_up,
                    },
                ) => {
                    // Only the newest version's wake-up can be valid. One that is void must not swallow
                    // the look that a signal or a sweep asked for.
                    work = Work::Nudge {
                        wake_rev: (*one).max(*other),
                        look: *look || *too,
                        round: newer.clone().or_else(|| round.clone()),
                        asked: asked.iter().chain(also_asked).cloned().collect(),
                        notice: notice.clone().or_else(|| noticed.clone()),
                        found: found.clone().or_else(|| other_found.clone()),
                        given_up: given_up.clone().or_else(|| other_given_up.clone()),
                    };
                    items.push(item);
                }
            }
        }
        *mailbox = rest;
        Some((work, items))
    }

    async fn settle(&self, item: Item, result: Result<(), CallError>) {
        let Some(held) = item.held else {
            if let Err(error) = result {
                tracing::warn!(%error, "a look of our own failed; the next sweep looks again");
            }
            return;
        };
        match result {
            Ok(()) if self.shared.options.dry_run => {
                held.release(&self.shared.ports.queue, DRY_RUN_RELEASE_SECONDS).await;
            }
            Ok(()) => held.delete(&self.shared.ports.queue).await,
            Err(error) => self.again_later(held, &error).await,
        }
    }

    fn pause_of(&self, message: &Received) -> u32 {
        let age = self.shared.ports.clock.now().duration_since(message.sent_at);
        backoff::redelivery_seconds(message.receives, age, self.shared.ports.clock.jitter())
    }

    async fn again_later(&self, held: Held, error: &CallError) {
        if error.disposition == Disposition::Park {
            return self.park(held, error.cause.as_str(), &error.to_string()).await;
        }
        let grown = self.pause_of(&held.message);
        let seconds = match error.disposition {
            Disposition::RetryAfter(pause) => {
                grown.max(u32::try_from(pause.as_secs()).unwrap_or(u32::MAX))
            }
            Disposition::Newer => {
                let age = self.shared.ports.clock.now().duration_since(held.message.sent_at);
                let jitter = self.shared.ports.clock.jitter();
                backoff::newer_seconds(held.message.receives, age, jitter)
            }
            Disposition::Retry | Disposition::Fail | Disposition::Park => grown,
        };
        self.shared.meters.redelivered(error.cause.as_str());
        tracing::warn!(
            message_id = %held.message.message_id, %error, again_in_seconds = seconds,
            receives = held.message.receives, "back to the queue"
        );
        held.release(&self.shared.ports.queue, seconds).await;
    }

    async fn after_panic(&self, held: Held) {
        let receives = held.message.receives;
        tracing::error!(message_id = %held.message.message_id, receives, "working on it panicked");
        if receives >= PANICS_MAX {
            return self.park(held, "panicked", "the worker panicked on it, repeatedly").await;
        }
        self.shared.meters.redelivered("panicked");
        let seconds = self.pause_of(&held.message);
        held.release(&self.shared.ports.queue, seconds).await;
    }

    async fn park(&self, held: Held, reason: &'static str, text: &str) {
        match outcomes::park(&self.shared, &held.message, reason, text, None).await {
            Ok(_) => held.delete(&self.shared.ports.queue).await,
            Err(error) => {
                tracing::error!(%error, "it could not be parked; it stays in the queue");
                held.release(&self.shared.ports.queue, DRY_RUN_RELEASE_SECONDS).await;
            }
        }
    }
}
