//! What can go wrong with a call, and how it is drawn.

use jiff::Timestamp;
use lamplighter_events::Cause;
use lamplighter_runtime::ports::{Applied, CallError, Disposition};

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing was done, and the error says so.
    Before,
    /// It was done; the answer is an ambiguous error.
    Lost,
    /// Nothing was done, and nobody knows.
    Unclear,
    /// It is done, and answered, late, seconds: past any permission, if that is long enough.
    Slow(u64),
    /// It is done at once and answered late, seconds: the answer is old when it comes.
    Stale(u64),
    /// Nobody knows, and an effect takes place so many seconds later, as a signed request can.
    Late(u64),
    /// The worker is killed before the call is made.
    DiesBefore,
    /// The worker is killed after it was done, before the answer.
    DiesAfter,
}

impl Fault {
    /// One of each sort, for trying them all: long enough to be past a permission of 15 s.
    pub const EACH: [Self; 8] = [
        Self::Before,
        Self::Lost,
        Self::Unclear,
        Self::Slow(20),
        Self::Stale(20),
        Self::Late(40),
        Self::DiesBefore,
        Self::DiesAfter,
    ];
}

/// The calls that change machines and services: few among many, and the ones that matter most.
const EFFECTS: [&str; 7] = [
    "ec2:StartInstances",
    "ec2:StopInstances",
    "ec2:RunInstances",
    "ec2:TerminateInstances",
    "ssm:SendCommand",
    "ecs:UpdateService",
    "application-autoscaling:RegisterScalableTarget",
];
/// So many times more often than others they fail.
const EFFECTS_WORSE: u64 = 3;

/// Random faults, for as long as they last.
#[derive(Debug, Clone, Copy)]
pub struct Chaos {
    /// No faults from here on.
    pub until: Timestamp,
    /// How many of a thousand calls fail.
    pub per_mille: u64,
    /// How many of a thousand faults kill the worker.
    pub deaths_per_mille: u64,
}

impl Chaos {
    pub(crate) fn draw(
        &self,
        now: Timestamp,
        operation: &str,
        chance: &mut Chance,
    ) -> Option<Fault> {
        let effect = EFFECTS.contains(&operation);
        let per_mille = if effect { self.per_mille * EFFECTS_WORSE } else { self.per_mille };
        if now >= self.until || chance.next() % 1000 >= per_mille {
            return None;
        }
        let size = chance.next();
        if chance.next() % 1000 < self.deaths_per_mille {
            return Some(if size.is_multiple_of(2) { Fault::DiesBefore } else { Fault::DiesAfter });
        }
        if effect && chance.next().is_multiple_of(3) {
            // Mostly soon; sometimes nearly as late as its signature allows.
            return Some(match size.is_multiple_of(3) {
                true => Fault::Late(60 + size % 780),
                false => Fault::Late(1 + size % 40),
            });
        }
        Some(match chance.next() % 100 {
            0..25 => Fault::Before,
            25..50 => Fault::Lost,
            50..70 => Fault::Unclear,
            70..88 => Fault::Slow(1 + size % 20),
            _ => Fault::Stale(1 + size % 15),
        })
    }
}

/// Whether a call that failed may have been made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gate {
    Closed,
    Unknown,
}

pub(crate) fn fail(operation: &'static str, gate: Gate) -> CallError {
    CallError {
        operation,
        cause: Cause::Throttled,
        message: "a fault of the simulation".to_owned(),
        disposition: Disposition::Retry,
        applied: match gate {
            Gate::Closed => Applied::No,
            Gate::Unknown => Applied::Perhaps,
        },
    }
}

/// What stands there was written by a newer release.
pub(crate) fn newer(operation: &'static str, format: u32, reads: u32) -> CallError {
    CallError {
        operation,
        cause: Cause::Conflict,
        message: format!("the item has format {format}; this worker reads up to {reads}"),
        disposition: Disposition::Newer,
        applied: Applied::No,
    }
}

/// xorshift64*: enough for drawing delays, and the same on every machine.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}
