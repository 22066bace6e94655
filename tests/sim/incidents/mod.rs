//! Public incidents as drills: what an outage does to a small fleet, hour by hour.
//!
//! *Theory.* A fleet of four machines, a service, a machine that is in use all the time, and a template has users who
//! start, stop and ask around the clock, and a schedule that looks for idleness. An [`Incident`] is data: what AWS
//! does in which hours. When it is over, nobody asks for anything more. The report counts what nobody may suffer:
//! commands that were lost, commands that took effect twice, machines that were stopped while somebody had them. It
//! also says how long the fleet takes to come to rest. The checker looks at the whole world besides.
//!
//! *Not here.* Faults that strike single calls (`drill`, `crowd`).

mod office;
mod timelines;

pub use timelines::INCIDENTS;

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use office::Office;

use crate::breakage::Breakage;
use crate::rule::{Finding, Rule};
use crate::staff::run;
use crate::world::Refusal;

/// The fleet has come to rest long before; the checker's own bounds are within it.
const REPAIR_BOUND: Duration = Duration::from_secs(50 * 60);
/// The users' day begins before the incident does.
const BEFORE_MINUTES: i64 = 20;

/// Something that AWS does in some hours of an incident. Times are minutes from the incident's beginning.
#[derive(Debug, Clone, Copy)]
pub struct Happening {
    /// From when (inclusive).
    pub from: i64,
    /// Until when (exclusive).
    pub until: i64,
    /// What.
    pub what: What,
}

/// What AWS does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// So many of a thousand calls of these operations fail.
    Refuses(&'static str, u64, Refusal),
    /// What runs has no network: agents do not answer.
    NoNetwork,
    /// A zone is out: its machines cannot be described, started or reached; nothing in it is stopped.
    ZoneOut,
    /// EventBridge delivers ticks and signals so many minutes late.
    LateEvents(i64),
    /// Most messages are delivered twice and more, in any order.
    Duplicates,
}

/// An incident.
#[derive(Debug, Clone, Copy)]
pub struct Incident {
    /// For the report and for choosing it.
    pub name: &'static str,
    /// Where AWS describes it, or what it is made of.
    pub source: &'static str,
    /// Minutes between two commands of the users.
    pub pace: i64,
    /// What happens.
    pub timeline: &'static [Happening],
}

impl Incident {
    /// From its first happening to the end of its last one.
    fn minutes(&self) -> i64 {
        self.timeline.iter().map(|it| it.until).max().unwrap_or(0)
    }
}

/// What an incident came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which.
    pub name: &'static str,
    /// How long it lasted.
    pub minutes: i64,
    /// How many commands were sent.
    pub commands: usize,
    /// How many of them succeeded.
    pub done: usize,
    /// How many were rejected or failed, each with its cause.
    pub refused: usize,
    /// Commands without an outcome, and healthy messages among the dead letters.
    pub lost: Vec<String>,
    /// What took effect twice.
    pub doubled: Vec<String>,
    /// What was stopped while somebody had it.
    pub wrongly_stopped: Vec<String>,
    /// From the end of the incident until every record and every queue was at rest; `None`: never.
    pub minutes_to_rest: Option<i64>,
    /// Whatever else the checker found.
    pub findings: Vec<Finding>,
    /// Calls to AWS.
    pub calls: usize,
    /// All of it, in the order of time.
    pub tale: String,
}

impl Report {
    /// Whether nobody suffered.
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty()
            && self.doubled.is_empty()
            && self.wrongly_stopped.is_empty()
            && self.findings.is_empty()
            && self.minutes_to_rest.is_some()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = match self.minutes_to_rest {
            Some(minutes) => format!("at rest after {minutes} min"),
            None => "never at rest".to_owned(),
        };
        write!(
            f,
            "{}: {} min, {} commands ({} done, {} refused with a cause), {} lost, {} doubled, {} wrongly stopped, \
             {rest}, {} calls",
            self.name,
            self.minutes,
            self.commands,
            self.done,
            self.refused,
            self.lost.len(),
            self.doubled.len(),
            self.wrongly_stopped.len(),
            self.calls
        )?;
        for what in self.lost.iter().chain(&self.doubled).chain(&self.wrongly_stopped).take(10) {
            write!(f, "\n    {what}")?;
        }
        for finding in self.findings.iter().take(10) {
            write!(f, "\n    {finding}")?;
        }
        Ok(())
    }
}

/// Plays an incident.
pub fn play(incident: &Incident, seed: u64, breakage: Option<Breakage>) -> Report {
    run(|| async move {
        let mut office = Office::open(seed, breakage, incident.pace);
        let begins = office.now() + SignedDuration::from_mins(BEFORE_MINUTES);
        office.foresee(incident, begins);
        let ends = begins + SignedDuration::from_mins(incident.minutes());
        while office.now() < ends {
            office.minute(true).await;
        }
        let rest = rest(&mut office, ends).await;
        report(incident, office, rest).await
    })
}

/// Until everything is at rest, and then until the repair bound has passed.
async fn rest(office: &mut Office, ends: Timestamp) -> Option<i64> {
    let bound = ends + SignedDuration::try_from(REPAIR_BOUND).unwrap();
    let mut rest = None;
    while office.now() < bound {
        office.minute(false).await;
        rest = match office.is_at_rest() {
            true => rest.or(Some(office.now().duration_since(ends).as_mins())),
            false => None,
        };
    }
    rest
}

async fn report(incident: &Incident, mut office: Office, minutes_to_rest: Option<i64>) -> Report {
    let (mut lost, mut doubled) = (office.lost(), Vec::new());
    let mut wrongly_stopped = office.wrongly_stopped();
    let mut findings = Vec::new();
    for finding in office.check() {
        match finding.rule {
            Rule::D4 | Rule::D5 => doubled.push(finding.to_string()),
            Rule::D8 if finding.what.contains("two outcomes") => doubled.push(finding.to_string()),
            Rule::D8 if finding.what.contains("was lost") => {}
            Rule::D10 => lost.push(finding.to_string()),
            Rule::D2 | Rule::I1 | Rule::I3 => wrongly_stopped.push(finding.to_string()),
            _ => findings.push(finding),
        }
    }
    let (commands, done, refused) = office.counts();
    let (calls, tale) = office.close().await;
    Report {
        name: incident.name,
        minutes: incident.minutes(),
        commands,
        done,
        refused,
        lost,
        doubled,
        wrongly_stopped,
        minutes_to_rest,
        findings,
        calls,
        tale,
    }
}
