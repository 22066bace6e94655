//! Our own requests to a target's addresses, and how they are told from use.
//!
//! *Theory.* A backend may count each request as use, ours too. It then reports the time of the latest request at the
//! next one. So a reported time that lies within a request of ours is that request, and what was used before it is what
//! that request was told. Hence three rules:
//!
//! - A request explains a later report only if what *it* was told is known. A request whose answer nobody kept hides
//!   the use before it, and so it counts as use itself: the target stays on, for `after` once more at most.
//! - Of requests that were made at nearly the same time, only one that was told of none of them explains another.
//! - What a round was told is kept with the round, whichever probe, worker or person asked. Rounds of several workers
//!   may reach the memory late and in any order; each report is explained anew by all rounds that are known.
//!
//! All HTTP probes of a target are asked one after the other in one round, and each of its requests may count as use
//! at each of its addresses. The first of them is told of the use before the round. A later one may be told of nothing
//! but the first: its report is *blurred*, and says nothing newer than the last clear one. So the probe whose last clear
//! report is the oldest is asked first in the next round.
//!
//! A report that lies within the request that it answers is use just then, or a backend that counts the request
//! before it answers: both look active.
//!
//! *What may be missed.* A use within `OWN_PROBE_MILLIS` of a request of ours, where nothing else is used until the
//! next look. A request is made once or twice a look, at no fixed time, so nobody is used only then; and whoever is
//! used all the time is used during the first request of the next look. Where several probes of one target report
//! different sorts of use and the backend counts requests for both: a use of the sort that is asked later which
//! ended before the look.
//!
//! *What costs nothing.* Where a report did not move though we had asked in between, the backend does not count our
//! requests, and nothing more is remembered of that probe.
//!
//! *Invariant.* Pure; bounded by `OWN_ROUNDS_MAX`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::limits::{BLUR_SECONDS, OWN_PROBE_MILLIS, OWN_ROUND_SECONDS_MAX, OWN_ROUNDS_MAX};
use crate::time::later;

/// How a report stands to the requests of its own round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Near {
    /// It is a time before the round.
    #[default]
    Before,
    /// It is the time of the request that it answers, the round's first.
    Itself,
    /// It may be the time of an earlier request of the round.
    Earlier,
    /// It is the time of a request of ours that is forgotten.
    Forgotten,
}

/// What an address reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnReport {
    /// The time of the latest activity, by our clock.
    pub said: Timestamp,
    /// Whose time that may be, of this round's.
    #[serde(default, skip_serializing_if = "is_before")]
    pub near: Near,
}

fn is_before(near: &Near) -> bool {
    *near == Near::Before
}

/// One round of our requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnRound {
    /// Just before the first request.
    pub from: Timestamp,
    /// Just after the last answer.
    pub until: Timestamp,
    /// What was reported, by the probe's label.
    pub said: BTreeMap<String, OwnReport>,
}

impl OwnRound {
    /// Whether this may be the time of one of its requests.
    fn holds(&self, at: Timestamp) -> bool {
        near(self.from, self.until, at)
    }

    /// Whether it was asked before the other, given what it was told. Clocks of workers differ, so times that are near
    /// each other tell no order. What tells it is that it was told of neither: of a use that the other was told of, it
    /// would have been told, too.
    fn precedes(&self, other: &OwnRound, told: &OwnReport) -> bool {
        let tolerance = SignedDuration::from_millis(OWN_PROBE_MILLIS);
        if other.from.duration_since(self.until) > tolerance {
            return true;
        }
        let of_neither = |report: &OwnReport| {
            matches!(report.near, Near::Before | Near::Forgotten) && !other.holds(report.said)
        };
        let is_first = match told.near {
            Near::Earlier => self.said.values().any(of_neither),
            _ => of_neither(told),
        };
        is_first && self.from.duration_since(other.until) <= tolerance
    }
}

fn near(from: Timestamp, until: Timestamp, at: Timestamp) -> bool {
    let tolerance = SignedDuration::from_millis(OWN_PROBE_MILLIS);
    let from = from.saturating_sub(tolerance).unwrap_or(Timestamp::MIN);
    let until = until.saturating_add(tolerance).unwrap_or(Timestamp::MAX);
    (from..=until).contains(&at)
}

/// One request, as the release before rounds were remembered wrote it: its probe's latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnProbe {
    /// Just before it.
    pub asked_at: Timestamp,
    /// Just after its answer.
    pub answered_at: Timestamp,
    /// What it reported.
    pub said: Timestamp,
    /// The last reported activity that was not ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real: Option<Timestamp>,
    /// Whether the backend counts our requests, once that showed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marks: Option<bool>,
}

/// A request of the round that is being put together, and what it was told.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) label: String,
    pub(crate) asked_at: Timestamp,
    pub(crate) answered_at: Timestamp,
    /// The reported time, of a probe that takes our requests out of it.
    pub(crate) said: Option<Timestamp>,
}

/// What a report shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// The latest use, at this time.
    Use(Timestamp),
    /// A use just now; or the backend counts a request before it answers it.
    JustNow,
    /// A request of ours, and no use since.
    Ours { use_before: Timestamp },
    /// Perhaps nothing but a request that was made just before. The latest clear report was at `clear_at`.
    Blurred { use_before: Timestamp, clear_at: Option<Timestamp> },
}

/// What is remembered of our requests to a target's addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnRequests {
    /// Oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rounds: Vec<OwnRound>,
    /// The latest use before the oldest of them, by the probe's label.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    used: BTreeMap<String, Timestamp>,
    /// The probes whose backend does not count our requests.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    unmarked: BTreeSet<String>,
}

impl OwnRequests {
    /// There is nothing to remember.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether this probe's backend is known not to count our requests.
    pub(crate) fn is_unmarked(&self, label: &str) -> bool {
        self.unmarked.contains(label)
    }

    /// Takes over what the previous release remembered of a probe.
    pub(crate) fn take_over(&mut self, label: &str, old: OwnProbe) {
        if old.marks == Some(false) {
            self.unmarked.insert(label.to_owned());
            return;
        }
        let (asked_at, answered_at) = (old.asked_at, old.answered_at);
        let said = Some(old.said);
        self.used.insert(label.to_owned(), old.real.unwrap_or(asked_at));
        self.add(&[Asked { label: label.to_owned(), asked_at, answered_at, said }]);
        // What it was told is in `real` already, unless it was another request of ours.
        for round in &mut self.rounds {
            if let Some(report) = round.said.get_mut(label).filter(|_| round.from == asked_at) {
                report.near = Near::Forgotten;
            }
        }
    }

    /// When this probe's last clear report was made.
    pub(crate) fn clear_at(&self, label: &str) -> Option<Timestamp> {
        let clear = |round: &&OwnRound| {
            let report = round.said.get(label);
            report.is_some_and(|report| !self.is_blurred(round, label, report))
        };
        self.rounds.iter().rev().find(clear).map(|round| round.from)
    }

    /// Adds a round, and says when it began. The same one may come twice.
    pub(crate) fn add(&mut self, asked: &[Asked]) -> Option<Timestamp> {
        let from = asked.iter().map(|request| request.asked_at).min()?;
        let until = asked.iter().map(|request| request.answered_at).fold(from, Timestamp::max);
        let said: BTreeMap<String, OwnReport> = asked
            .iter()
            .filter(|request| !self.unmarked.contains(&request.label))
            .filter_map(|request| {
                let said = request.said?;
                let near = match (request.asked_at == from, near(from, request.answered_at, said)) {
                    (_, false) => Near::Before,
                    (true, true) => Near::Itself,
                    (false, true) => Near::Earlier,
                };
                Some((request.label.clone(), OwnReport { said, near }))
            })
            .collect();
        let known = self.rounds.iter().any(|round| (round.from, round.until) == (from, until));
        let too_long = until > later(from, OWN_ROUND_SECONDS_MAX);
        if said.is_empty() || known || too_long {
            return Some(from);
        }
        let place = self.rounds.partition_point(|round| round.from <= from);
        self.rounds.insert(place, OwnRound { from, until, said });
        self.forget_the_unmarked();
        while self.rounds.len() > OWN_ROUNDS_MAX {
            self.forget_the_oldest();
        }
        Some(from)
    }

    /// What a probe's report of the round that began then shows.
    pub(crate) fn shown(&self, label: &str, from: Timestamp) -> Option<Shown> {
        let round = self.rounds.iter().find(|it| it.from == from && it.said.contains_key(label))?;
        let report = round.said.get(label)?;
        let use_before = self.latest_use(label).unwrap_or(round.from);
        Some(if self.is_blurred(round, label, report) {
            Shown::Blurred { use_before, clear_at: self.clear_at(label) }
        } else if report.near == Near::Forgotten || self.explained(round, label, report).is_some() {
            Shown::Ours { use_before }
        } else if report.near == Near::Itself {
            Shown::JustNow
        } else {
            Shown::Use(report.said)
        })
    }

    /// The latest use that any of its reports showed; where none did, its first request, since nothing is known of
    /// what was before.
    fn latest_use(&self, label: &str) -> Option<Timestamp> {
        let first = self.rounds.iter().find(|round| round.said.contains_key(label));
        let base = self.used.get(label).copied().or(first.map(|round| round.from));
        let shown = self.rounds.iter().filter_map(|round| self.use_shown_by(round, label));
        // A use that a report showed is better knowledge than the first request.
        match self.used.contains_key(label) {
            true => shown.chain(base).max(),
            false => shown.max().or(base),
        }
    }

    fn use_shown_by(&self, round: &OwnRound, label: &str) -> Option<Timestamp> {
        let report = round.said.get(label)?;
        if self.explained(round, label, report).is_some() {
            return None;
        }
        match report.near {
            Near::Before => Some(report.said),
            Near::Itself => Some(round.from),
            Near::Earlier | Near::Forgotten => None,
        }
    }

    /// The latest other round of which this may be the report.
    fn explained(&self, round: &OwnRound, label: &str, report: &OwnReport) -> Option<&OwnRound> {
        self.rounds.iter().rev().find(|other| {
            (other.from, other.until) != (round.from, round.until)
                && other.holds(report.said)
                && other.said.get(label).is_some_and(|told| other.precedes(round, told))
        })
    }

    fn is_blurred(&self, round: &OwnRound, label: &str, report: &OwnReport) -> bool {
        match self.explained(round, label, report) {
            Some(other) => later(other.until, BLUR_SECONDS) > round.from,
            None => report.near == Near::Earlier,
        }
    }

    /// A report that did not move, though we had asked in between, is of a backend that does not count requests.
    fn forget_the_unmarked(&mut self) {
        let labels: BTreeSet<&String> =
            self.rounds.iter().flat_map(|round| round.said.keys()).collect();
        // Two workers' clocks and requests may overlap.
        let apart = SignedDuration::from_millis(2 * OWN_PROBE_MILLIS);
        let unmoved = |label: &&&String| {
            let plain: Vec<(&OwnRound, Timestamp)> = self
                .rounds
                .iter()
                .filter_map(|round| Some((round, round.said.get(**label)?)))
                .filter(|(round, report)| {
                    report.near == Near::Before && self.explained(round, label, report).is_none()
                })
                .map(|(round, report)| (round, report.said))
                .collect();
            plain.iter().enumerate().any(|(place, (one, before))| {
                plain[place + 1..].iter().any(|(other, said)| {
                    let moved = said.duration_since(*before).abs();
                    other.from.duration_since(one.until) > apart
                        && moved <= SignedDuration::from_millis(OWN_PROBE_MILLIS)
                })
            })
        };
        let found: Vec<String> = labels.iter().filter(unmoved).map(|it| (*it).clone()).collect();
        for label in found {
            for round in &mut self.rounds {
                round.said.remove(&label);
            }
            self.used.remove(&label);
            self.unmarked.insert(label);
        }
        self.rounds.retain(|round| !round.said.is_empty());
    }

    fn forget_the_oldest(&mut self) {
        let Some(oldest) = self.rounds.first().cloned() else { return };
        for label in oldest.said.keys() {
            let shown = self.use_shown_by(&oldest, label);
            let used = self.used.get(label).copied();
            let latest = shown.into_iter().chain(used).max().unwrap_or(oldest.from);
            self.used.insert(label.clone(), latest);
        }
        self.rounds.remove(0);
        // What it explained stays explained.
        for round in &mut self.rounds {
            let blurs = later(oldest.until, BLUR_SECONDS) > round.from;
            for (label, report) in &mut round.said {
                if oldest.said.contains_key(label) && oldest.holds(report.said) {
                    report.near = if blurs { Near::Earlier } else { Near::Forgotten };
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "tests/own.rs"]
mod tests;
