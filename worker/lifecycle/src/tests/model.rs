//! The reference: DESIGN.md §4 ("Holds, exactly") and the "Order" of §3, read from the page and not from
//! the code. It knows who wants the target, and nothing of machines, phases or effects.
//!
//! *Certain of*: requested holds and their ends, what anyone's stop does to an adopted hold, releases,
//! kills, pauses, exclusivity, and which causes a refusal may give. Where two reasons refuse the same
//! command, DESIGN.md does not say which is named: `Says::Refused` has both.
//!
//! *Told, not guessed*: that a start failed for good, that a machine was adopted, or that it was stopped
//! outside. Whether those were true is the driver's to judge, which knows the machine.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use lamplighter_events::{Action, Cause, HumanDuration};

use crate::{AcceptedCommand, HOLDS_MAX, OPEN_COMMANDS_MAX, Sent};

/// One holder's wish for the target to be on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) sent: Sent,
    pub(super) until: Option<Timestamp>,
}

/// What the rules say to a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// Not begun, for one of these causes.
    Refused(Vec<Cause>),
    /// Taken. The wishes of these holders are over by it.
    Taken(BTreeSet<String>),
}

/// The rules, as far as they concern wishes.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) exclusive: bool,
    pub(super) max_hold: Option<HumanDuration>,
    pub(super) keep_failed: bool,
    pub(super) wishes: BTreeMap<String, Wish>,
    pub(super) adopted: Option<Sent>,
    pub(super) releases: BTreeMap<String, Sent>,
    pub(super) killed: Option<Sent>,
    pub(super) paused: Option<Sent>,
    pub(super) resumed: Option<Sent>,
}

fn after(at: Timestamp, long: HumanDuration) -> Timestamp {
    at.saturating_add(long.as_signed()).unwrap()
}

fn newest(known: &mut Option<Sent>, sent: &Sent) {
    *known = known.take().max(Some(sent.clone()));
}

impl Model {
    pub(super) fn wanted(&self) -> bool {
        !self.held_by().is_empty()
    }

    pub(super) fn held_by(&self) -> BTreeSet<String> {
        let adopted = self.adopted.as_ref().map(|_| "outside".to_owned());
        self.wishes.keys().cloned().chain(adopted).collect()
    }

    /// The holders whose wish has come to its end. The end is the newest start's word: an older start
    /// that comes after it would undo it.
    pub(super) fn expire(&mut self, now: Timestamp) -> BTreeSet<String> {
        let over = |wish: &Wish| wish.until.is_some_and(|until| until <= now);
        for (holder, wish) in self.wishes.iter().filter(|(_, wish)| over(wish)) {
            let release = self.releases.entry(holder.clone()).or_insert_with(|| wish.sent.clone());
            *release = wish.sent.clone().max(release.clone());
        }
        self.drop_wishes(|_, wish| over(wish))
    }

    /// `open` commands have no outcome yet, of which `others` are no starts.
    pub(super) fn take(
        &mut self,
        asked: &AcceptedCommand,
        open: usize,
        others: usize,
        now: Timestamp,
    ) -> Says {
        let mut causes = Vec::new();
        if asked.expires.is_some_and(|expires| expires <= now) {
            causes.push(Cause::Expired);
        }
        if open >= OPEN_COMMANDS_MAX && asked.action == Action::Start {
            causes.push(Cause::Conflict);
        }
        let sent = asked.sent();
        let holder = asked.holder.to_string();
        let until = self.end_of(asked);
        match asked.action {
            Action::Start => causes.extend(self.refuses_start(&holder, &sent, until, now)),
            Action::Pause if self.resumed.as_ref() > Some(&sent) => causes.push(Cause::Superseded),
            Action::Create | Action::Destroy => causes.push(Cause::Invalid),
            _ => {}
        }
        if !causes.is_empty() {
            return Says::Refused(causes);
        }
        match asked.action {
            Action::Start => {
                let wish = Wish { sent, until };
                match self.wishes.get_mut(&holder) {
                    Some(mine) if mine.sent > wish.sent => {}
                    Some(mine) => *mine = wish,
                    None => drop(self.wishes.insert(holder, wish)),
                }
            }
            Action::Stop => {
                let release = self.releases.entry(holder.clone()).or_insert_with(|| sent.clone());
                *release = sent.clone().max(release.clone());
                let ended = self.end(&sent, |of| of == holder);
                return self.released(ended, others);
            }
            Action::Kill => {
                newest(&mut self.killed, &sent);
                let ended = self.end(&sent, |_| true);
                return self.released(ended, others);
            }
            Action::Pause => newest(&mut self.paused, &sent),
            Action::Resume => {
                newest(&mut self.resumed, &sent);
                if self.paused.as_ref() > Some(&sent) {
                    return Says::Refused(vec![Cause::Superseded]);
                }
                self.paused = None;
            }
            _ => {}
        }
        Says::Taken(BTreeSet::new())
    }

    /// A stop or kill waits only where nobody wants the target any more.
    fn released(&self, ended: BTreeSet<String>, others: usize) -> Says {
        match !self.wanted() && others >= OPEN_COMMANDS_MAX {
            true => Says::Refused(vec![Cause::Conflict]),
            false => Says::Taken(ended),
        }
    }

    fn refuses_start(
        &self,
        holder: &str,
        sent: &Sent,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> Vec<Cause> {
        let mut causes = Vec::new();
        let newer = |known: Option<&Sent>| known.is_some_and(|known| known > sent);
        if newer(self.killed.as_ref()) || newer(self.releases.get(holder)) {
            causes.push(Cause::Superseded);
        }
        if until.is_some_and(|until| until <= now) {
            causes.push(Cause::Expired);
        }
        let held_by_another = self.wishes.keys().any(|other| other != holder);
        let full = self.held_by().len() >= HOLDS_MAX && !self.wishes.contains_key(holder);
        if self.exclusive && held_by_another || full {
            causes.push(Cause::Conflict);
        }
        causes
    }

    fn end_of(&self, asked: &AcceptedCommand) -> Option<Timestamp> {
        let long = asked.hold_for.map(|long| after(asked.sent_at, long));
        let bound = self.max_hold.map(|long| after(asked.sent_at, long));
        [asked.until.or(long), bound].into_iter().flatten().min()
    }

    fn drop_wishes(&mut self, over: impl Fn(&str, &Wish) -> bool) -> BTreeSet<String> {
        let before: BTreeSet<String> = self.wishes.keys().cloned().collect();
        self.wishes.retain(|holder, wish| !over(holder, wish));
        before.into_iter().filter(|holder| !self.wishes.contains_key(holder)).collect()
    }

    /// Ends what is older than `sent`: the wishes that `of` picks out, and an adoption.
    fn end(&mut self, sent: &Sent, of: impl Fn(&str) -> bool) -> BTreeSet<String> {
        self.adopted.take_if(|adopted| *adopted < *sent);
        self.drop_wishes(|holder, wish| of(holder) && wish.sent < *sent)
    }

    /// Somebody stopped the machine outside, then.
    pub(super) fn stopped_outside(&mut self, at: Timestamp) -> BTreeSet<String> {
        self.end(&Sent::new(at, "\u{10FFFF}"), |_| true)
    }

    /// This start failed for good: the command's own hold goes.
    pub(super) fn failed(&mut self, holder: &str, sent: &Sent) {
        if !self.keep_failed {
            self.drop_wishes(|of, wish| of == holder && wish.sent <= *sent);
        }
    }
}
