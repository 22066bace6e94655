//! I1 to I3: what idleness may do, by the truth of who was active when.
//!
//! *Theory.* A hold that ended though nobody released it, no end of its own had come, no start failed and
//! nobody stopped the target outside, was ended by idleness. Then
//!
//! - **I1**: the latest start, keep-alive and readiness, and whatever each probe could have shown of its users,
//!   lie at least `after` back; each probe was answered at least twice.
//! - **I3**: and both times usably; or the policy stops what is unreachable, and that was warned of before.
//! - **I2**: what is idle for longer, in quiet times, is off.
//!
//! *What a probe can show.* Of a reported time: the latest use, but for what lies within our own requests and
//! two seconds around them, whichever probe, worker or person asked. Of a metric: every use, published or not, but for
//! the end that may be on its way still (the policy's lag and two periods), and a silence that is shorter than three
//! periods, which no hole gives away. Of a count or a command: the moment; so there it is asked that no answer of the
//! last `after` said busy, and in calm times only, since what a dying worker heard is heard by nobody.
//!
//! *Tolerance.* [`TOLERANCE`], and by as much as the worker's clock is wrong.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use lamplighter_events::{Action, AttentionKind, EventBody, TargetName, Verdict};
use lamplighter_lifecycle::{
    Hold, HoldKind, HttpReads, IdleSpec, MetricProbe, MetricReads, Phase, Probe, Resource,
    TargetRecord,
};
use lamplighter_runtime::ports::Commit;

use super::{Around, Policy, Watch, Writer, in_force};
use crate::backends::{Backend, Marks};
use crate::rule::Rule;
use crate::table::Table;

/// Our own requests and this much around them: two seconds each way; half of the five in which a backend must
/// answer, by which its clock is misread; two of a worker's clock; and one for whole seconds.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(8);
/// As the fleet's people are told: a use this near to a probe is taken for the probe.
const AROUND_A_PROBE: SignedDuration = SignedDuration::from_secs(2);
/// Both rounds of a decision lie within this, whatever was slow.
const ROUNDS_WITHIN: SignedDuration = SignedDuration::from_mins(2);
/// In quiet times what is idle is off so long after the tick that could know it.
const REPAIRED_WITHIN: SignedDuration = SignedDuration::from_mins(5);
/// So many questions of a target are remembered.
const SAMPLES_MAX: usize = 400;

/// One question to a backend, and what was so.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Who asked.
    pub worker: u64,
    /// Which of the policy's probes.
    pub probe: usize,
    /// From.
    pub asked: Timestamp,
    /// Until.
    pub answered: Timestamp,
    /// When it was so.
    pub at: Timestamp,
    /// The worker got an answer that it can use.
    pub readable: bool,
    /// Somebody was at work just then.
    pub busy: Option<bool>,
}

#[derive(Default)]
pub(super) struct Idleness {
    samples: BTreeMap<Resource, VecDeque<Sample>>,
    /// Holder, and the place in the order, of each hold that idleness ended.
    ended: BTreeMap<TargetName, Vec<(String, Timestamp, String)>>,
    on_since: BTreeMap<TargetName, Timestamp>,
    /// What was published before the faults ceased is seen from then on.
    metrics_flow_from: Option<Timestamp>,
    /// The shortest `after` that a command of somebody's brought with it.
    shortest: BTreeMap<TargetName, SignedDuration>,
}

impl Idleness {
    pub(super) fn ended_of(&self, target: &TargetName) -> Vec<(String, Timestamp, String)> {
        self.ended.get(target).cloned().unwrap_or_default()
    }
}

/// What idleness may end.
fn endable(hold: &Hold, policy: &Policy) -> bool {
    match hold.kind {
        HoldKind::IdleBounded => !policy.spec.exclusive,
        HoldKind::Adopted => true,
        _ => false,
    }
}

impl Watch {
    /// A backend, or CloudWatch, was asked.
    pub(crate) fn sampled(&mut self, resource: &Resource, sample: Sample) {
        let samples = self.idle.samples.entry(resource.clone()).or_default();
        samples.push_back(sample);
        if samples.len() > SAMPLES_MAX {
            samples.pop_front();
        }
    }

    /// CloudWatch is well, and has shown what it was late with, from then on.
    pub(crate) fn metrics_flow_from(&mut self, at: Timestamp) {
        self.idle.metrics_flow_from = Some(at);
    }

    /// A host's answer was read: whether somebody was at work when its script ran.
    pub(crate) fn host_said(
        &mut self,
        resource: &Resource,
        worker: u64,
        at: Timestamp,
        busy: bool,
    ) {
        let (probe, readable, busy) = (usize::MAX, true, Some(busy));
        let sample = Sample { worker, probe, asked: at, answered: at, at, readable, busy };
        self.sampled(resource, sample);
    }

    /// Somebody sends a check with a threshold of its own.
    pub fn brought_threshold(&mut self, target: &TargetName, after: SignedDuration) {
        let shortest = self.idle.shortest.entry(target.clone()).or_insert(after);
        *shortest = (*shortest).min(after);
    }

    pub(super) fn check_idle_ends(
        &mut self,
        name: &str,
        before: Option<&TargetRecord>,
        commit: &Commit,
        around: &Around<'_>,
        by: Writer,
        now: Timestamp,
    ) {
        let after = &commit.record;
        if after.phase == Phase::On && before.is_none_or(|it| it.phase != Phase::On) {
            // It was seen on when that was decided; the commit may have been on its way for long.
            self.idle.on_since.insert(after.target.clone(), by.decided.min(now));
        }
        let Some(before) = before else { return };
        let ended: Vec<&Hold> = before
            .holds
            .iter()
            // What began since it was decided is looked at last, and so is not overlooked either.
            .filter(|hold| in_force(hold, by.worker_now) || hold.from > by.worker_now)
            .filter(|hold| was_ended_by_idleness(hold, before, commit))
            .collect();
        if ended.is_empty() {
            return;
        }
        for hold in &ended {
            let ended = self.idle.ended.entry(after.target.clone()).or_default();
            ended.push((hold.holder.to_string(), hold.sent.at, hold.sent.id.clone()));
        }
        let Some(policy) = self.policies.get(&after.target).cloned() else { return };
        let mut wrong = Vec::new();
        let Some(idle) = &policy.spec.idle else {
            return self.wrong(Rule::I1, now, format!("{name}: a hold ended, and nobody ended it"));
        };
        if let Some(hold) = ended.iter().find(|hold| !endable(hold, &policy)) {
            let kind = hold.kind.as_str();
            wrong.push((Rule::I1, format!("a hold that is {kind} was ended by idleness")));
        }
        let long = self.idle.shortest.get(&after.target).copied();
        let long = long.map_or(idle.after.as_signed(), |it| it.min(idle.after.as_signed()));
        let skew = by.worker_now.duration_since(by.decided).abs();
        // What is younger than this forbids it.
        let young = by.decided - long + TOLERANCE + skew;
        self.check_floor(&ended, &policy, idle, around.table, young, &mut wrong);
        self.check_probes(before, idle, around, by, young, &mut wrong);
        for (rule, what) in wrong {
            self.wrong(rule, now, format!("{name}: {what}"));
        }
    }

    fn check_floor(
        &self,
        ended: &[&Hold],
        policy: &Policy,
        idle: &IdleSpec,
        table: &Table,
        young: Timestamp,
        wrong: &mut Vec<(Rule, String)>,
    ) {
        let grace = idle.grace.map_or(SignedDuration::ZERO, |grace| grace.as_signed());
        let target = &policy.spec.name;
        for hold in ended.iter().filter(|hold| hold.kind == HoldKind::IdleBounded) {
            if hold.sent.at + grace > young {
                let at = hold.sent.at;
                wrong.push((Rule::I1, format!("idle, and {} started it at {at}", hold.holder)));
            }
        }
        let ready = self.idle.on_since.get(target).filter(|at| **at + grace > young);
        if let Some(at) = ready {
            wrong.push((Rule::I1, format!("idle, and it came on only at {at}")));
        }
        let kept = table.commands.values().find(|command| {
            command.action == Some(Action::KeepAlive)
                && command.target.as_ref() == Some(target)
                && command.sent_at + grace > young
                && command.outcome.as_ref().is_some_and(|it| it.outcome == Verdict::Done)
        });
        if let Some(command) = kept {
            let at = command.sent_at;
            wrong.push((Rule::I1, format!("idle, and {} kept it alive at {at}", command.id)));
        }
    }

    fn check_probes(
        &self,
        before: &TargetRecord,
        idle: &IdleSpec,
        around: &Around<'_>,
        by: Writer,
        young: Timestamp,
        wrong: &mut Vec<(Rule, String)>,
    ) {
        let none = VecDeque::new();
        let samples = self.idle.samples.get(&before.resource).unwrap_or(&none);
        let backend = around.backends.get(&before.resource);
        let warned = idle.stop_unreachable && self.was_warned(before);
        let is_http =
            |sample: &&Sample| matches!(idle.probes.get(sample.probe), Some(Probe::Http(_)));
        let requests: Vec<&Sample> = samples.iter().filter(is_http).collect();
        let unreached = |number: usize| {
            samples.iter().rfind(|it| it.probe == number).is_some_and(|it| !it.readable)
        };
        let cut_off = warned && (0..idle.probes.len()).any(unreached);
        for (index, probe) in idle.probes.iter().enumerate() {
            let number = if matches!(probe, Probe::Command(_)) { usize::MAX } else { index };
            let asked: Vec<&Sample> =
                samples.iter().filter(|it| it.probe == number && it.at <= by.decided).collect();
            let lately = asked
                .iter()
                // The host's word is in the record, whoever heard it.
                .filter(|it| it.worker == by.worker || number == usize::MAX)
                .filter(|it| it.answered + ROUNDS_WITHIN > by.decided);
            let lately: Vec<&&Sample> = lately.collect();
            if warned && lately.last().is_none_or(|it| !it.readable) {
                // It is stopped since nobody can be reached there.
                return;
            }
            let read: Vec<&&&Sample> = lately.iter().filter(|it| it.readable).collect();
            // The host is asked once; its word serves both rounds.
            let rounds = if number == usize::MAX { 1 } else { 2 };
            let label = probe.label();
            if lately.len() < rounds {
                let count = lately.len();
                wrong.push((Rule::I1, format!("idle by {count} rounds of {label}")));
            } else if read.len() < rounds {
                wrong.push((Rule::I3, format!("idle, and {label} could not be read")));
            }
            let (Some(last), Some(backend)) = (read.last(), backend) else { continue };
            let used = match probe {
                Probe::Http(http) if http.reads != HttpReads::Count => {
                    last_visible_use(backend, &requests, last.at).filter(|at| *at > young)
                }
                // Of what cannot be reached, and publishes nothing any more, nothing is known.
                Probe::Metric(metric) if cut_off && !is_heard(backend, metric, last.at) => None,
                // What is known ends before the lag, and must be as long all the same.
                Probe::Metric(metric) => {
                    use_by_metric(backend, metric, last.at, young - metric.lag.as_signed())
                }
                Probe::Http(_) | Probe::Command(_) => {
                    let calm = self.is_calm_since(young);
                    let told = asked.iter().rev().find(|it| it.busy == Some(true) && it.readable);
                    let now = read.iter().rev().take(rounds).any(|it| it.busy == Some(true));
                    told.filter(|it| now || (calm && it.at > young)).map(|it| it.at)
                }
            };
            if let Some(at) = used {
                wrong.push((Rule::I1, format!("idle, and used at {at}, as {label} shows")));
            }
        }
    }

    /// Whether it was said, in an earlier version, that its backend cannot be reached.
    fn was_warned(&self, before: &TargetRecord) -> bool {
        let since = self.idle.on_since.get(&before.target).copied().unwrap_or(Timestamp::MIN);
        self.events.values().any(|event| {
            event.target.as_ref() == Some(&before.target)
                && event.at + TOLERANCE > since
                && matches!(event.body, EventBody::Attention { attention, .. }
                    if attention == AttentionKind::BackendUnreachable)
        })
    }

    /// What is idle, in quiet times, is off.
    pub(super) fn check_idle_is_off(
        &mut self,
        record: &TargetRecord,
        table: &Table,
        backends: &BTreeMap<Resource, Backend>,
        now: Timestamp,
    ) {
        let Some(policy) = self.policies.get(&record.target).cloned() else { return };
        let Some(idle) = &policy.spec.idle else { return };
        let held: Vec<&Hold> = record.holds.iter().filter(|hold| in_force(hold, now)).collect();
        let only = !held.is_empty() && held.iter().all(|hold| endable(hold, &policy));
        if record.phase != Phase::On || !only || record.paused.is_some() {
            return;
        }
        let backend = backends.get(&record.resource);
        // Nothing of others' can be seen there.
        let blind = backend.is_some_and(|it| it.marks == Marks::Before)
            && idle
                .probes
                .iter()
                .any(|it| matches!(it, Probe::Http(http) if http.reads != HttpReads::Count));
        // An agent may never come, tasks may never.
        let host =
            self.may_fail && (idle.host_command().is_some() || record.resource.service().is_some());
        if blind || host {
            return;
        }
        // Whose publisher is dead for good stays on.
        let reads_metrics = idle.probes.iter().any(|it| matches!(it, Probe::Metric(_)));
        if reads_metrics && backend.and_then(|it| it.dies_at).is_some_and(|at| at <= now) {
            return;
        }
        // What cannot be reached stays on, but where its policy stops that.
        let reads_http = idle.probes.iter().any(|it| matches!(it, Probe::Http(_)));
        let lost_at = backend.and_then(|it| it.unreachable_from).filter(|_| reads_http);
        let stops = idle.unreachable_after.filter(|_| idle.stop_unreachable);
        if lost_at.is_some() && stops.is_none() {
            return;
        }
        let kept = table.commands.values().filter(|command| {
            command.action == Some(Action::KeepAlive)
                && command.target.as_ref() == Some(&record.target)
        });
        let since = held
            .iter()
            .filter(|hold| hold.kind == HoldKind::IdleBounded)
            .map(|hold| hold.sent.at)
            .chain(kept.map(|command| command.sent_at))
            .chain(self.idle.on_since.get(&record.target).copied())
            .chain(backend.into_iter().flat_map(|it| it.uses_by(now)).map(|(_, until)| until))
            .chain(lost_at)
            .max();
        let grace = idle.grace.map_or(SignedDuration::ZERO, |grace| grace.as_signed());
        let mut bound = idle.after.as_signed() + grace + policy.ticks_every * 3 + REPAIRED_WITHIN;
        if let (Some(_), Some(stops)) = (lost_at, stops) {
            bound += stops.as_signed() + policy.ticks_every;
        }
        // What a metric knows ends earlier; and its look-back must be whole again, since it is heard again.
        let metrics = idle.probes.iter().filter_map(|probe| match probe {
            Probe::Metric(metric) => Some(metric),
            _ => None,
        });
        let known_after = metrics
            .map(|metric| {
                let look_back = metric.look_back.map_or(SignedDuration::ZERO, |it| it.as_signed());
                patience(metric) + look_back
            })
            .max();
        let flows = self.idle.metrics_flow_from.filter(|_| known_after.is_some());
        let since = since.into_iter().chain(flows).max();
        bound += known_after.unwrap_or(SignedDuration::ZERO);
        if let Some(since) = since.filter(|since| *since + bound < now) {
            let (name, why) = (&record.target, &record.why);
            let what = format!("{name}: idle since {since}, and it is on: {why}");
            self.wrong(Rule::I2, now, what);
        }
    }
}

/// By elimination: nothing else ended it.
fn was_ended_by_idleness(hold: &Hold, before: &TargetRecord, commit: &Commit) -> bool {
    let after = &commit.record;
    let idle = hold.kind != HoldKind::Window;
    let there = after.holds.iter().any(|it| {
        it.id == hold.id || (it.requested() && hold.requested() && it.holder == hold.holder)
    });
    let taken = commit.accepted.as_ref();
    // A target may be idle in the commit of somebody else's stop.
    let released = taken.is_some_and(|it| {
        let rejected = it.outcome.as_ref().is_some_and(|it| it.outcome == Verdict::Rejected);
        let open = after.open.iter().find(|open| open.id == it.id).map(|open| &open.holder);
        let ended = after.last_outcome.as_ref().filter(|last| last.command == it.id);
        let holder = open.or(ended.map(|last| &last.holder));
        let whose = holder.is_none_or(|holder| *holder == hold.holder) || !hold.requested();
        !rejected && (it.action == Some(Action::Kill) || it.action == Some(Action::Stop) && whose)
    });
    let outcomes = commit.outcomes.iter().chain(taken.and_then(|it| it.outcome.as_ref()));
    let failed = outcomes
        .into_iter()
        .any(|it| it.action == Some(Action::Start) && it.outcome == Verdict::Failed);
    let outside = after.outbox.iter().any(|event| {
        !before.outbox.iter().any(|old| old.id == event.id)
            && matches!(event.body, EventBody::Attention { attention, .. }
                if attention == AttentionKind::StoppedOutside)
    });
    idle && !there && !released && !failed && !outside
}

/// Whether its publisher was surely heard as lately as it must be while it lives. A point bears the time at which its
/// period began.
fn is_heard(backend: &Backend, metric: &MetricProbe, asked_at: Timestamp) -> bool {
    let period = SignedDuration::from_secs(i64::from(metric.period_seconds));
    let newest = backend.published().last();
    newest.is_some_and(|newest| *newest - period + patience(metric) - TOLERANCE > asked_at)
}

/// How old the newest of a metric may be, while its publisher lives.
fn patience(metric: &MetricProbe) -> SignedDuration {
    metric.lag.as_signed() + SignedDuration::from_secs(i64::from(metric.period_seconds)) * 2
}

/// The latest use that a metric forbids to stop, whether it was published or not.
fn use_by_metric(
    backend: &Backend,
    metric: &MetricProbe,
    asked_at: Timestamp,
    young: Timestamp,
) -> Option<Timestamp> {
    let known = asked_at - patience(metric) - TOLERANCE;
    let within = |(from, until): (Timestamp, Timestamp)| {
        let (from, until) = (from.max(young), until.min(known));
        (from < until).then_some((from, until))
    };
    // Each value of the other sort tells of all that was before.
    let counts = matches!(metric.reads, MetricReads::IdleWhen(_));
    // A silence that no hole of two periods gives away.
    let short = SignedDuration::from_secs(i64::from(metric.period_seconds)) * 3 + TOLERANCE;
    let usual = backend.publishes_every() + TOLERANCE;
    let published = backend.published();
    let hidden = |moment: Timestamp| {
        let next = published.partition_point(|at| *at < moment);
        let before = next.checked_sub(1).map(|place| published[place])?;
        let silence = published.get(next)?.duration_since(before);
        (counts && usual < silence && silence < short).then_some(before)
    };
    let shown = |(from, until): (Timestamp, Timestamp)| {
        let mut moment = until;
        while let Some(silent_from) = hidden(moment) {
            moment = silent_from - SignedDuration::from_millis(1);
        }
        (moment >= from).then_some(moment)
    };
    backend.uses_by(known).filter_map(within).filter_map(shown).max()
}

/// The latest moment of a use, by `at`, that a reported time can show.
fn last_visible_use(backend: &Backend, asked: &[&Sample], at: Timestamp) -> Option<Timestamp> {
    let hidden = |moment: Timestamp| {
        asked
            .iter()
            .map(|it| (it.asked - AROUND_A_PROBE, it.answered + AROUND_A_PROBE))
            .filter(|(from, until)| *from <= moment && moment <= *until)
            .map(|(from, _)| from)
            .min()
    };
    let visible = |(from, until): (Timestamp, Timestamp)| {
        let mut moment = until;
        while let Some(start) = hidden(moment) {
            moment = start - SignedDuration::from_millis(1);
        }
        (moment >= from).then_some(moment)
    };
    backend.uses_by(at).filter_map(visible).max()
}
