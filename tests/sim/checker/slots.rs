//! D9: messages in hand, and the slots that they take.
//!
//! What is in hand is known by receipt, from its receive until the worker begins to delete it or to give
//! it back. A message that is given back for exactly as long as a heartbeat extends it looks like one that
//! is extended: from then on it is not counted against the limit, and it ends when it is received again.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use lamplighter_runtime::ports::Receipt;

use super::Watch;
use crate::rule::Rule;

/// In quiet times a message is worked on for a second or two; polls and other waits take longer.
const IN_HAND_MAX: SignedDuration = SignedDuration::from_secs(30);
/// How far back the receives of a worker are remembered: many long polls.
const ASKS_REMEMBERED: SignedDuration = SignedDuration::from_mins(3);

/// A message in hand.
struct Hand {
    worker: u64,
    message: String,
    since: Timestamp,
    /// It was extended, or given back for as long.
    perhaps_given_back: bool,
}

#[derive(Default)]
pub(super) struct Slots {
    /// The limit of each worker; none is known while it is 0.
    limit: usize,
    hands: BTreeMap<Receipt, Hand>,
    asks: BTreeMap<u64, VecDeque<(Timestamp, usize)>>,
    /// From here on nothing goes wrong any more.
    calm_from: Option<Timestamp>,
}

impl Watch {
    /// Every worker has so many slots.
    pub(crate) fn limit_slots(&mut self, limit: usize) {
        self.slots.limit = limit;
    }

    /// From here on no call fails.
    pub(crate) fn calm(&mut self, from: Timestamp) {
        self.slots.calm_from = Some(from);
    }

    /// Whether nothing has gone wrong since.
    pub(super) fn is_calm_since(&self, at: Timestamp) -> bool {
        self.slots.calm_from.is_some_and(|from| from <= at)
    }

    /// A worker asks for up to `max` messages.
    pub(crate) fn asks(&mut self, worker: u64, max: usize, now: Timestamp) {
        let asks = self.slots.asks.entry(worker).or_default();
        asks.push_back((now, max));
        while asks.front().is_some_and(|(at, _)| *at + ASKS_REMEMBERED < now) {
            asks.pop_front();
        }
        let surely = |hand: &&Hand| hand.worker == worker && !hand.perhaps_given_back;
        let in_hand = self.slots.hands.values().filter(surely).count();
        let limit = self.slots.limit;
        if limit > 0 && in_hand + max > limit {
            let what = format!("worker {worker} has {in_hand} in hand, asks for {max} of {limit}");
            self.wrong(Rule::D9, now, what);
        }
    }

    /// A worker received a message.
    pub(crate) fn takes(&mut self, worker: u64, message: &str, receipt: &Receipt, now: Timestamp) {
        // Visible again: whoever had it before has lost it, or gave it back.
        self.slots.hands.retain(|_, hand| hand.message != message);
        let message = message.to_owned();
        let hand = Hand { worker, message, since: now, perhaps_given_back: false };
        self.slots.hands.insert(receipt.clone(), hand);
    }

    /// A worker extends a message's visibility, or gives it back for as long.
    pub(crate) fn extends(&mut self, receipt: &Receipt) {
        if let Some(hand) = self.slots.hands.get_mut(receipt) {
            hand.perhaps_given_back = true;
        }
    }

    /// A worker begins to delete a message, or to give it back.
    pub(crate) fn lets_go(&mut self, worker: u64, receipt: &Receipt, now: Timestamp) {
        let Some(hand) = self.slots.hands.remove(receipt) else { return };
        self.check_hand(worker, &hand, now);
    }

    /// All that a worker had in hand is no longer.
    pub(crate) fn died(&mut self, worker: u64) {
        self.slots.hands.retain(|_, hand| hand.worker != worker);
        self.slots.asks.remove(&worker);
    }

    fn check_hand(&mut self, worker: u64, hand: &Hand, now: Timestamp) {
        let calm = self.slots.calm_from.is_some_and(|from| from <= hand.since);
        if calm && now > hand.since + IN_HAND_MAX {
            let (message, since) = (&hand.message, hand.since);
            let what = format!("worker {worker} had {message} in hand since {since}: a slot waits");
            self.wrong(Rule::D9, now, what);
        }
    }

    /// Who still works asks for as many messages as it has slots.
    pub(super) fn check_slots(&mut self, working: &[u64], now: Timestamp) {
        let hands = std::mem::take(&mut self.slots.hands);
        for hand in hands.values().filter(|hand| working.contains(&hand.worker)) {
            self.check_hand(hand.worker, hand, now);
        }
        let full = self.slots.limit.min(10);
        for worker in working {
            let asks = self.slots.asks.get(worker).into_iter().flatten();
            let recent = asks.filter(|(at, _)| *at + ASKS_REMEMBERED >= now);
            let most = recent.map(|(_, max)| *max).max().unwrap_or(0);
            if most < full {
                let what = format!("worker {worker} asks for {most} at most, and has {full} slots");
                self.wrong(Rule::D9, now, what);
            }
        }
    }
}
