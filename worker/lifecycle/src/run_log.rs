//! Writes the runs of a target into its record.

use jiff::Timestamp;

use crate::effect::EffectKind;
use crate::limits::RUNS_MAX;
use crate::phase::Phase;
use crate::record::TargetRecord;
use crate::runs::Run;

/// Brings the runs of `next` up to what a pass came to; `effect` is the kind of the effect that it decided.
pub(crate) fn keep(
    next: &mut TargetRecord,
    before: &TargetRecord,
    effect: Option<EffectKind>,
    now: Timestamp,
) {
    let up = next.is_up();
    let on = next.phase == Phase::On;
    // A launch has forgotten the machine before it.
    let seen_off = next.observed.as_ref().is_none_or(|seen| seen.state().is_off());
    let begins_anew = seen_off && effect == Some(EffectKind::Start);
    let runs = &mut next.runs;
    let open = runs.last().filter(|run| run.until.is_none());
    if open.is_none() && before.is_up() {
        // Written by a version that knew no runs: how its way up went is not known any more.
        let since = whole(before.since);
        let from = runs.last().map_or(since, |last| last.last().max(since));
        runs.push(Run {
            from,
            ready: Some(from).filter(|_| before.phase == Phase::On),
            until: None,
        });
    }
    // Two clocks, one order.
    let now = runs.last().map_or(whole(now), |last| last.last().max(whole(now)));
    if let Some(open) = runs.last_mut().filter(|run| run.until.is_none())
        && (!up || (begins_anew && open.ready.is_some()))
    {
        open.until = Some(now);
    }
    if up && runs.last().is_none_or(|run| run.until.is_some()) {
        runs.push(Run { from: now, ready: None, until: None });
    }
    if let Some(open) = runs.last_mut().filter(|run| on && run.until.is_none()) {
        open.ready = open.ready.or(Some(now));
    }
    let excess = runs.len().saturating_sub(RUNS_MAX);
    runs.drain(..excess);
}

fn whole(at: Timestamp) -> Timestamp {
    // Every time has its second.
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
