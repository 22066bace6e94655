//! Calls that arrive together share one request; each caller gets its own answer.
//!
//! *Theory.* The first call of a batch starts a task that waits a moment for others, makes the shared
//! request and hands out the answers. The task belongs to nobody: a caller that is dropped takes nothing
//! from the others, and a request that panics is an error for those who shared it and nobody else.
//!
//! *Invariants.* A batch never holds more than its bound; a full one leaves at once, and a timer takes its
//! own batch alone. Answers are matched by position. Without calls there is no task.
//!
//! *Not here.* What is shared: one file per service.

use futures_util::future::join_all;
use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_ec2::error::ProvideErrorMetadata;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use jiff::Timestamp;
use lamplighter_events::Cause;
use lamplighter_runtime::ports::{Applied, CallError, Disposition};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::disposition::{ErrorCode, call_error, meaning, own_error};

/// How many times its lingering a batch waits at most, while calls keep coming: one of hundreds takes a busy
/// worker longer than a moment to collect, and half of one costs as much as a whole.
const LINGERINGS_MAX: u32 = 10;

/// The request that is shared.
#[async_trait]
pub(crate) trait Shared: Send + Sync + 'static {
    /// One caller's part.
    type Item: Send + 'static;
    /// One caller's answer.
    type Answer: Send + 'static;
    /// The operation, for errors.
    const OPERATION: &'static str;
    /// How many items one request takes.
    const ITEMS_MAX: usize;
    /// How long a batch waits for one more call: far below what a call takes, and long enough for the tasks
    /// that one receive woke.
    const LINGER: Duration = Duration::from_millis(5);
    /// Makes the request: one answer for each item, in their order.
    async fn call(&self, items: Vec<Self::Item>) -> Vec<Result<Self::Answer, CallError>>;
}

struct Waiting<S: Shared> {
    item: S::Item,
    answer: oneshot::Sender<Result<S::Answer, CallError>>,
}

/// The batch that is being collected.
struct Collecting<S: Shared> {
    /// How many left before it. A full batch leaves while the timer of its first call still runs, and that
    /// timer must not take a younger one.
    number: u64,
    waiting: Vec<Waiting<S>>,
}

impl<S: Shared> Collecting<S> {
    fn leave(&mut self) -> Vec<Waiting<S>> {
        self.number += 1;
        mem::take(&mut self.waiting)
    }
}

/// Collects calls into shared requests.
pub(crate) struct Batcher<S: Shared> {
    shared: Arc<S>,
    collecting: Arc<Mutex<Collecting<S>>>,
}

impl<S: Shared> Batcher<S> {
    pub(crate) fn new(shared: S) -> Self {
        let collecting = Collecting { number: 0, waiting: Vec::new() };
        Self { shared: Arc::new(shared), collecting: Arc::new(Mutex::new(collecting)) }
    }

    /// Adds an item to the batch that is being collected, and waits for its answer.
    pub(crate) async fn call(&self, item: S::Item) -> Result<S::Answer, CallError> {
        let mut answered = self.enter([item]);
        match answered.pop() {
            Some(answered) => answered.wait().await,
            None => unreachable!("one item has one answer"),
        }
    }

    /// Adds items one directly after the other, however slow the machine is; their answers to be waited for,
    /// in their order.
    pub(crate) fn enter(&self, items: impl IntoIterator<Item = S::Item>) -> Vec<Answered<S>> {
        let mut answers = Vec::new();
        let mut collecting = lock(&self.collecting);
        for item in items {
            let (answer, answered) = oneshot::channel();
            answers.push(Answered(answered));
            collecting.waiting.push(Waiting { item, answer });
            let length = collecting.waiting.len();
            if length >= S::ITEMS_MAX {
                let batch = collecting.leave();
                let shared = Arc::clone(&self.shared);
                tokio::spawn(async move { send(&*shared, batch).await });
            } else if length == 1 {
                let shared = Arc::clone(&self.shared);
                let number = collecting.number;
                let collecting = Arc::clone(&self.collecting);
                tokio::spawn(async move {
                    if let Some(batch) = leave_in_time(&collecting, number).await {
                        send(&*shared, batch).await;
                    }
                });
            }
        }
        answers
    }
}

/// An answer that will come.
pub(crate) struct Answered<S: Shared>(oneshot::Receiver<Result<S::Answer, CallError>>);

impl<S: Shared> Answered<S> {
    pub(crate) async fn wait(self) -> Result<S::Answer, CallError> {
        self.0.await.unwrap_or_else(|_| {
            let words = "the shared request was abandoned";
            let (cause, applied) = (Cause::Deadline, Applied::Perhaps);
            Err(own_error(S::OPERATION, cause, Disposition::Retry, applied, words))
        })
    }
}

/// How many requests taking one batch apart may make: one bad entry among 500 is found with 19, and a zone that is
/// out is cut off with its first four.
pub(crate) const PARTS_CALLS_MAX: usize = 48;
/// How long a batch is taken apart: whoever waits for the answers has other things to do.
const PARTS_WITHIN: Duration = Duration::from_secs(15);
/// Parts that are asked for side by side: few, since whatever refused the batch may be overloaded.
const PARTS_AT_ONCE: usize = 4;

/// A shared request that failed as a whole.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) error: CallError,
    /// AWS answered. Silence and a lost connection say nothing about the entries.
    pub(crate) answered: bool,
}

impl From<CallError> for Refused {
    fn from(error: CallError) -> Self {
        Self { error, answered: true }
    }
}

impl Refused {
    /// The error of a call.
    pub(crate) fn of<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let answered = matches!(error, SdkError::ServiceError(_) | SdkError::ResponseError(_));
        Self { error: call_error(operation, error), answered }
    }
}

/// What a shared request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Portion {
    /// The batch as it was collected.
    Whole,
    /// A part of one that failed: made without the SDK's retries, which the whole has had, so that taking batches
    /// apart does not use up the retry quota that all calls share.
    Part,
}

/// What one item of a shared request came to.
pub(crate) type Each<K, A> = BTreeMap<K, Result<A, CallError>>;

/// Asks for all at once. Where the batch fails because of some of its items, it is taken apart until those stand
/// alone, within a bound on requests and time; the others get their answers.
///
/// An error concerns single items where `concerns_one` says so, and where AWS fails with an error of its own
/// (EC2 fails a whole call for one id in an impaired zone). A refusal that `names` items is theirs; otherwise `cut`
/// divides the batch, in halves where it does not.
pub(crate) async fn apart<K, A, F>(
    keys: &[K],
    concerns_one: impl Fn(&CallError) -> bool,
    names: impl Fn(&CallError, &K) -> bool,
    cut: impl Fn(&[K]) -> Vec<Vec<K>>,
    request: impl Fn(Vec<K>, Portion) -> F,
) -> Each<K, A>
where
    K: Clone + Ord,
    F: Future<Output = Result<Each<K, A>, Refused>>,
{
    let mut all: Vec<K> = keys.to_vec();
    all.sort();
    all.dedup();
    let mut answers = BTreeMap::new();
    // Each part with the error of the batch that it is a part of. The largest parts come first.
    let mut parts: VecDeque<(Vec<K>, Option<CallError>)> = VecDeque::from([(all, None)]);
    let (mut calls, mut until) = (0, None);
    while !parts.is_empty() {
        let some: Vec<_> = parts.drain(..parts.len().min(PARTS_AT_ONCE)).collect();
        let late = until.is_some_and(|until| Instant::now() >= until);
        let (mut asked, mut portions) = (Vec::new(), Vec::new());
        for (group, before) in some {
            match before {
                Some(error) if late || calls >= PARTS_CALLS_MAX => {
                    refuse(&mut answers, group, &error);
                }
                _ if group.is_empty() => {}
                before => {
                    calls += 1;
                    let portion = if before.is_some() { Portion::Part } else { Portion::Whole };
                    asked.push(request(group.clone(), portion));
                    portions.push((group, before));
                }
            }
        }
        for (answer, (group, before)) in join_all(asked).await.into_iter().zip(portions) {
            let Refused { error, answered } = match answer {
                Ok(found) => {
                    answers.extend(found);
                    continue;
                }
                Err(refused) => refused,
            };
            until = until.or_else(|| Some(Instant::now() + PARTS_WITHIN));
            let own_trouble = answered
                && error.applied == Applied::Perhaps
                && error.disposition == Disposition::Retry;
            let divides = group.len() > 1 && (own_trouble || concerns_one(&error));
            let error = after(before.as_ref(), error);
            if !divides {
                refuse(&mut answers, group, &error);
                continue;
            }
            let (bad, rest): (Vec<_>, Vec<_>) =
                group.into_iter().partition(|key| names(&error, key));
            if bad.is_empty() {
                let halves = rest.split_at(rest.len() / 2);
                let cut = cut(&rest);
                let cut =
                    if cut.len() > 1 { cut } else { vec![halves.0.to_vec(), halves.1.to_vec()] };
                parts.extend(cut.into_iter().map(|part| (part, Some(error.clone()))));
            } else {
                refuse(&mut answers, bad, &error);
                parts.push_back((rest, Some(error)));
            }
        }
    }
    answers
}

/// No way to cut a batch but in halves.
pub(crate) fn halves<K>(_: &[K]) -> Vec<Vec<K>> {
    Vec::new()
}

/// The error of a part: where the whole may have had its effect, so may the part.
fn after(before: Option<&CallError>, error: CallError) -> CallError {
    match before {
        Some(before) if before.applied == Applied::Perhaps => {
            CallError { applied: Applied::Perhaps, ..error }
        }
        _ => error,
    }
}

fn refuse<K: Ord, A>(answers: &mut Each<K, A>, group: Vec<K>, error: &CallError) {
    answers.extend(group.into_iter().map(|key| (key, Err(error.clone()))));
}

/// The answers in the order of the items. One that is missing is a fault of ours, and no panic.
pub(crate) fn in_order<I, A>(
    operation: &'static str,
    items: &[I],
    answer: impl Fn(&I) -> Option<Result<A, CallError>>,
) -> Vec<Result<A, CallError>> {
    items
        .iter()
        .map(|item| {
            answer(item).unwrap_or_else(|| {
                let meaning = meaning(operation, ErrorCode::Internal);
                let words = "the answer left an entry out";
                Err(own_error(
                    operation,
                    meaning.cause,
                    meaning.disposition,
                    meaning.applied,
                    words,
                ))
            })
        })
        .collect()
}

/// The time that an effect still has.
pub(crate) fn remaining(
    operation: &'static str,
    now: Timestamp,
    act_by: Timestamp,
) -> Result<Duration, CallError> {
    match Duration::try_from(act_by.duration_since(now)) {
        Ok(left) if !left.is_zero() => Ok(left),
        _ => Err(own_error(
            operation,
            Cause::Deadline,
            Disposition::Retry,
            Applied::No,
            format!("not called: it was allowed until {act_by} only"),
        )),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until nobody joins the batch any more; `None` where it was full before.
async fn leave_in_time<S: Shared>(
    collecting: &Mutex<Collecting<S>>,
    number: u64,
) -> Option<Vec<Waiting<S>>> {
    let until = Instant::now() + S::LINGER * LINGERINGS_MAX;
    let mut known = 1;
    loop {
        tokio::time::sleep(S::LINGER).await;
        let mut collecting = lock(collecting);
        if collecting.number != number {
            return None;
        }
        let length = collecting.waiting.len();
        if length == known || Instant::now() >= until {
            return Some(collecting.leave());
        }
        known = length;
    }
}

async fn send<S: Shared>(shared: &S, batch: Vec<Waiting<S>>) {
    let (items, callers): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|waiting| (waiting.item, waiting.answer)).unzip();
    let answers = shared.call(items).await;
    for (caller, answer) in callers.into_iter().zip(answers) {
        // A caller that went away wants no answer.
        let _ = caller.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Doubling<const ITEMS_MAX: usize> {
        requests: Arc<AtomicUsize>,
    }

    #[async_trait]
    impl<const ITEMS_MAX: usize> Shared for Doubling<ITEMS_MAX> {
        type Item = u32;
        type Answer = u32;
        const OPERATION: &'static str = "test:Double";
        const ITEMS_MAX: usize = ITEMS_MAX;
        async fn call(&self, items: Vec<u32>) -> Vec<Result<u32, CallError>> {
            self.requests.fetch_add(1, Ordering::SeqCst);
            assert!(!items.contains(&666), "this request is cursed");
            tokio::time::sleep(Duration::from_millis(20)).await;
            items.into_iter().map(|item| Ok(item * 2)).collect()
        }
    }

    fn batcher<const MAX: usize>() -> (Batcher<Doubling<MAX>>, Arc<AtomicUsize>) {
        let doubling = Doubling::default();
        let requests = Arc::clone(&doubling.requests);
        (Batcher::new(doubling), requests)
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_arrive_together_share_one_request() {
        let (batcher, requests) = batcher::<10>();
        let answers = join_all((0..7).map(|n| batcher.call(n))).await;
        let answers: Vec<u32> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, [0, 2, 4, 6, 8, 10, 12]);
        assert_eq!(requests.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_batch_leaves_and_the_next_one_begins() {
        let (batcher, requests) = batcher::<10>();
        let answers = join_all((0..25).map(|n| batcher.call(n))).await;
        assert_eq!(answers.len(), 25);
        assert!(answers.iter().enumerate().all(|(at, answer)| *answer == Ok(at as u32 * 2)));
        assert_eq!(requests.load(Ordering::SeqCst), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_batch_takes_its_timer_with_it_and_no_younger_one_leaves_early() {
        let (batcher, requests) = batcher::<10>();
        let millis = |millis| tokio::time::sleep(Duration::from_millis(millis));
        let full = join_all((0..10).map(|n| batcher.call(n)));
        let early = async {
            millis(3).await;
            batcher.call(10).await
        };
        // After the first batch would have waited long enough, and while the second still does.
        let late = async {
            millis(7).await;
            batcher.call(11).await
        };
        let (_, early, late) = tokio::join!(full, early, late);
        assert_eq!((early, late), (Ok(20), Ok(22)));
        assert_eq!(requests.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn items_that_enter_together_fill_batches_and_are_answered_in_order() {
        let (batcher, requests) = batcher::<10>();
        let answered = batcher.enter(0..25);
        for (at, answered) in (0..25).zip(answered) {
            assert_eq!(answered.wait().await, Ok(at * 2));
        }
        assert_eq!(requests.load(Ordering::SeqCst), 3);
        assert!(batcher.enter([]).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_waits_while_calls_keep_coming_and_no_longer_than_its_bound() {
        let (batcher, requests) = batcher::<100>();
        let began = Instant::now();
        let calls = (0..25).map(|at| {
            let batcher = &batcher;
            async move {
                tokio::time::sleep(Duration::from_millis(u64::from(at) * 4)).await;
                assert_eq!(batcher.call(at).await, Ok(at * 2));
                began.elapsed()
            }
        });
        let answered = join_all(calls).await;
        // Fifty milliseconds of waiting and twenty for the request; the second batch takes all the others.
        let millis: Vec<u128> = answered.iter().map(Duration::as_millis).collect();
        assert!((70..75).contains(&millis[0]), "{millis:?}");
        assert_eq!(requests.load(Ordering::SeqCst), 2, "{millis:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_call_makes_its_own_request() {
        let (batcher, requests) = batcher::<10>();
        assert_eq!(batcher.call(1).await, Ok(2));
        assert_eq!(batcher.call(2).await, Ok(4));
        assert_eq!(requests.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_caller_harms_no_other() {
        let (batcher, _) = batcher::<10>();
        let batcher = Arc::new(batcher);
        let first = tokio::spawn({
            let batcher = Arc::clone(&batcher);
            async move { batcher.call(1).await }
        });
        let second = tokio::spawn({
            let batcher = Arc::clone(&batcher);
            async move { batcher.call(2).await }
        });
        tokio::task::yield_now().await;
        first.abort();
        assert_eq!(second.await.unwrap(), Ok(4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_an_error_for_those_who_shared_it_and_for_nobody_else() {
        let (batcher, _) = batcher::<10>();
        let answers = join_all([1, 666].map(|n| batcher.call(n))).await;
        assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(|error| {
            error.applied == Applied::Perhaps && error.disposition == Disposition::Retry
        })));
        assert_eq!(batcher.call(3).await, Ok(6));
    }
}
