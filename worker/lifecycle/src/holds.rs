//! Ends holds, and remembers until when they are released.

use lamplighter_events::{Cause, Holder, Verdict};

use crate::hold::{Hold, Sent};
use crate::limits::RELEASES_MAX;
use crate::pass::Pass;
use crate::{answer, windows};

/// From now on no start of this holder that is older counts.
pub(crate) fn remember_release(pass: &mut Pass<'_>, holder: &Holder, sent: &Sent) {
    let releases = &mut pass.record.releases;
    let last = releases.entry(holder.to_string()).or_insert_with(|| sent.clone());
    if *last < *sent {
        *last = sent.clone();
    }
    while releases.len() > RELEASES_MAX {
        let oldest = releases.iter().min_by(|a, b| a.1.cmp(b.1)).map(|(holder, _)| holder.clone());
        oldest.map(|holder| releases.remove(&holder));
    }
}

/// Ends holds that are older than `sent`, and the starts that wait for them.
pub(crate) fn end_holds(pass: &mut Pass<'_>, sent: &Sent, which: impl Fn(&Hold) -> bool) -> usize {
    let (ended, kept): (Vec<Hold>, Vec<Hold>) = std::mem::take(&mut pass.record.holds)
        .into_iter()
        .partition(|hold| hold.sent < *sent && which(hold));
    pass.record.holds = kept;
    for hold in &ended {
        windows::suppress(pass, hold);
    }
    let starts = pass.take_open(|open| {
        open.wants_on()
            && open.sent < *sent
            && ended.iter().any(|hold| hold.requested() && hold.holder == open.holder)
    });
    for start in starts {
        let message = "its hold was ended by a later command, or by a stop outside";
        let answer = answer::start(pass, &start, false, message);
        pass.close(&start, Verdict::Rejected, Some(Cause::Superseded), message, answer);
    }
    ended.len()
}

/// Drops the holds whose end has come, and the starts that did not get there in time. The newest start
/// decided that end: an older one that is still on its way must not put it off.
pub(crate) fn end_expired_holds(pass: &mut Pass<'_>) {
    let now = pass.now;
    let (expired, kept): (Vec<Hold>, Vec<Hold>) =
        std::mem::take(&mut pass.record.holds).into_iter().partition(|hold| hold.expired(now));
    pass.record.holds = kept;
    for hold in expired {
        pass.note(format!("the hold of {} ended", hold.holder));
        if hold.requested() {
            remember_release(pass, &hold.holder, &hold.sent);
        }
        let starts = pass.take_open(|open| {
            open.wants_on() && open.holder == hold.holder && open.sent <= hold.sent
        });
        for start in starts {
            let message = "its hold ended before the target was on";
            let answer = answer::start(pass, &start, false, message);
            pass.close(&start, Verdict::Failed, Some(Cause::Expired), message, answer);
        }
    }
}
