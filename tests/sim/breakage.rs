//! Breaking the worker on purpose: a checker that never fails proves nothing.
//!
//! *Theory.* Each breakage is one of the mistakes that systems of this sort make. It is made where the
//! runtime meets its ports (a read that shows less than is there, a write without its condition, a
//! message deleted too soon), so that the runtime itself stays the one that ships. `claims/broken.rs`
//! shows that the checker names each by its rule, within a bounded number of seeds.
//!
//! Those of launches are played by crowds of requests, the others by the usual ones.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use lamplighter_events::{InstanceId, TargetName};
use lamplighter_lifecycle::{
    AcceptedChanges, Contradiction, EffectKind, HistoryEntry, HoldKind, OwnRequests, Phase,
    PowerState, Resource, Seat, SeatChange, TargetRecord,
};
use lamplighter_runtime::ports::Commit;

use crate::rule::Rule;

/// What EC2 says of a shortage, in about as many words.
const PARAGRAPH: &str = " We currently do not have sufficient capacity in the Availability Zone you requested. Our \
    system will be working on provisioning additional capacity. You can currently get capacity by not specifying an \
    Availability Zone in your request or choosing another one.";

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Breakage {
    /// A start whose answer was lost is not remembered: when it shows, it counts as somebody else's.
    ForgetsUnansweredStarts,
    /// A stop whose answer was lost is not remembered: when it shows, it ends everybody's holds.
    ForgetsUnansweredStops,
    /// The decision to stop looks at holds that were read elsewhere, not in the record it writes.
    StopsWithoutLooking,
    /// An accepted start counts as a machine that runs.
    TakesAcceptedForDone,
    /// An observation counts at once, however soon after an effect it was made.
    KeepsNoMargin,
    /// Delayed messages get lost, and no sweep finds what they were for.
    NeverLooksAgain,
    /// When the fleet names another machine, the one that is up is forgotten.
    DropsItsMachine,
    /// A question to a host is sent again without the guard that makes it once.
    SendsBlindly,
    /// The guard lies in memory, and a reboot of the host forgets it.
    GuardsInMemory,
    /// A record is written whatever version is there.
    WritesWithoutCondition,
    /// An effect is made though its permission is over.
    ActsTooLate,
    /// A message is deleted when it is received.
    DeletesFirst,
    /// An event counts as sent that was not.
    DropsEvents,
    /// Last releases and kills are not remembered.
    ForgetsReleases,
    /// A command counts from when it was received: a stop that comes late ends newer holds.
    CountsFromItsReceive,
    /// A message counts from whenever its sender claims.
    BelievesSenders,
    /// A tick counts from when it came: one that comes hours late does what was to be done then.
    TakesTicksForNew,
    /// What the fleet does not name is rejected at once, also where a newer fleet names it.
    RejectsUnknownAtOnce,
    /// The parts of an idle check are larger than the queue takes.
    SendsLargeParts,
    /// While events wait to be sent, commands that end cost wait, too.
    WaitsForTheBus,
    /// A wait is slept through, with the message in hand.
    WaitsOnItsSlot,
    /// A slot is not given back on some path.
    LosesPermits,
    /// Whatever does not succeed at once is given up for dead.
    ParksTrouble,
    /// A command's id is not looked up.
    ForgetsCommands,
    /// A reading that nobody has counts as idle.
    TakesUnknownForIdle,
    /// The second round of readings is the first one, given again.
    AsksOnce,
    /// The holds that are ended were looked at before the second round: who came in between is put out.
    LooksAtOldHolds,
    /// A keep-alive is forgotten.
    ForgetsKeepAlives,
    /// What the probe itself causes counts as somebody's activity.
    CountsItsOwnProbe,
    /// Use just before a question of its own counts as that question.
    WidensItsQuestions,
    /// The points of a metric count as its newest, however old they are, and for those that are missing.
    ForgetsTimesOfPoints,
    /// What cannot be reached is stopped at once and in silence.
    StopsTheUnreachable,
    /// A window that somebody ended comes back.
    ReopensWindows,
    /// A window never begins.
    MissesWindows,
    /// A service's scaling is not suspended before it is turned off.
    LeavesItsBounds,
    /// What the bounds were before the way down is not remembered.
    ForgetsItsBounds,
    /// Each call of a launch has a token of its own.
    LaunchesWithoutToken,
    /// The limit is looked at, and not made a condition.
    CountsWithoutCondition,
    /// A look at many fails as a whole when it fails for one. What sees it is a zone's outage (`claims/zones.rs`), since
    /// only sweeps look at many at once.
    HidesTheHealthy,
    /// A place is given back when the end is asked for, and not when the machine is gone.
    FreesPlacesEarly,
    /// AWS's words are kept as they come, and history without end.
    KeepsEverything,
    /// What a newer release wrote is read, and written over.
    ReadsNewerFormats,
    /// What AWS accepted is not remembered: after some seconds every description is believed.
    BelievesOldDescriptions,
    /// The bounds that scaling accepted are not remembered: every description of them is believed.
    BelievesOldBounds,
}

impl Breakage {
    /// All of them, each with the rule by which the checker must name it.
    pub const EACH: [(Self, Rule); 43] = [
        (Self::ForgetsUnansweredStarts, Rule::D1),
        (Self::StopsWithoutLooking, Rule::D2),
        (Self::ForgetsUnansweredStops, Rule::D3),
        (Self::TakesAcceptedForDone, Rule::D3),
        (Self::KeepsNoMargin, Rule::D3),
        (Self::DropsItsMachine, Rule::D4),
        (Self::SendsBlindly, Rule::D5),
        (Self::GuardsInMemory, Rule::D5),
        (Self::WritesWithoutCondition, Rule::D6),
        (Self::ActsTooLate, Rule::D6),
        (Self::DeletesFirst, Rule::D7),
        (Self::DropsEvents, Rule::D7),
        (Self::ForgetsReleases, Rule::D8),
        (Self::CountsFromItsReceive, Rule::D8),
        (Self::BelievesSenders, Rule::D8),
        (Self::TakesTicksForNew, Rule::D8),
        (Self::SendsLargeParts, Rule::D8),
        (Self::NeverLooksAgain, Rule::D8),
        (Self::WaitsOnItsSlot, Rule::D9),
        (Self::LosesPermits, Rule::D9),
        (Self::ParksTrouble, Rule::D10),
        (Self::ForgetsCommands, Rule::D10),
        (Self::RejectsUnknownAtOnce, Rule::D10),
        (Self::WaitsForTheBus, Rule::D1),
        (Self::AsksOnce, Rule::I1),
        (Self::LooksAtOldHolds, Rule::I1),
        (Self::ForgetsKeepAlives, Rule::I1),
        (Self::WidensItsQuestions, Rule::I1),
        (Self::ForgetsTimesOfPoints, Rule::I1),
        (Self::CountsItsOwnProbe, Rule::I2),
        (Self::TakesUnknownForIdle, Rule::I3),
        (Self::StopsTheUnreachable, Rule::I3),
        (Self::ReopensWindows, Rule::W1),
        (Self::MissesWindows, Rule::W1),
        (Self::LeavesItsBounds, Rule::B1),
        (Self::ForgetsItsBounds, Rule::B1),
        (Self::LaunchesWithoutToken, Rule::D4),
        (Self::CountsWithoutCondition, Rule::L1),
        (Self::FreesPlacesEarly, Rule::L1),
        (Self::KeepsEverything, Rule::R1),
        (Self::ReadsNewerFormats, Rule::R2),
        (Self::BelievesOldDescriptions, Rule::D3),
        (Self::BelievesOldBounds, Rule::B1),
    ];

    /// Whether it is about machines that are launched.
    pub fn is_of_launches(self) -> bool {
        matches!(
            self,
            Self::LaunchesWithoutToken | Self::CountsWithoutCondition | Self::FreesPlacesEarly
        )
    }

    /// Whether it shows only while the bus is away for good.
    pub fn is_of_the_bus(self) -> bool {
        self == Self::WaitsForTheBus
    }

    /// What a mistake breaks besides, in some crowds before anything else.
    pub const ALSO: [(Self, Rule); 10] = [
        // What could not be asked at all has no round.
        (Self::TakesUnknownForIdle, Rule::I1),
        (Self::StopsTheUnreachable, Rule::I1),
        // What nobody looks at again stays on.
        (Self::NeverLooksAgain, Rule::D1),
        // The machine that was forgotten is adopted by nobody's wish.
        (Self::DropsItsMachine, Rule::D1),
        // A command waits as the stop does.
        (Self::WaitsForTheBus, Rule::D8),
        // An id that is taken twice is one that changes what was finished, or one that is open still.
        (Self::ForgetsCommands, Rule::D8),
        // A window that nobody finds, a tick that nobody shares out.
        (Self::NeverLooksAgain, Rule::W1),
        (Self::NeverLooksAgain, Rule::I2),
        // What contradicts the record is never confirmed.
        (Self::NeverLooksAgain, Rule::D3),
        // The holds that were overlooked are ended by nobody.
        (Self::StopsWithoutLooking, Rule::I1),
    ];
}

/// What a broken worker reads.
pub(crate) fn read_wrongly(
    breakage: Breakage,
    record: &mut TargetRecord,
    secrets: &BTreeMap<String, InstanceId>,
    now: Timestamp,
) {
    match breakage {
        Breakage::KeepsNoMargin => {
            record.quiet = None;
            let at = now - SignedDuration::from_hours(1);
            let state = PowerState::Stopped;
            record.attempt.contradiction =
                record.attempt.contradiction.or(Some(Contradiction { at, state }));
        }
        // Now and then, or nothing would ever stay on.
        Breakage::StopsWithoutLooking
            if record.phase == Phase::On && record.rev.is_multiple_of(8) =>
        {
            record.holds.clear();
        }
        Breakage::DropsItsMachine => {
            // Targets of this sort have a secret of their own name.
            if let Some(instance) = secrets.get(record.target.as_str())
                && record.resource.instance().is_some_and(|it| it != instance)
                && record.doing.is_none()
                && record.unanswered.is_empty()
            {
                record.resource = Resource::Instance(instance.clone());
                record.phase = Phase::Off;
                record.observed = None;
            }
        }
        Breakage::ForgetsKeepAlives => record.idle.kept_alive_at = None,
        Breakage::CountsItsOwnProbe => record.idle.requests = OwnRequests::default(),
        Breakage::StopsTheUnreachable => {
            let hour_ago = now - SignedDuration::from_hours(1);
            record.idle.unreachable_since = Some(hour_ago);
            record.idle.unreachable_said_at = Some(hour_ago);
        }
        Breakage::BelievesOldDescriptions => record.accepted = AcceptedChanges::default(),
        Breakage::BelievesOldBounds => {
            record.accepted.bounds = None;
            record.accepted.suspension = None;
        }
        Breakage::ReopensWindows => record.suppressed_until = None,
        Breakage::MissesWindows if record.holds.iter().all(|it| it.kind != HoldKind::Window) => {
            record.suppressed_until = Some(now + SignedDuration::from_hours(24));
        }
        _ => {}
    }
}

/// What a broken worker writes.
pub(crate) fn write_wrongly(
    breakage: Breakage,
    commit: &mut Commit,
    before: Option<&TargetRecord>,
) {
    match breakage {
        Breakage::ForgetsUnansweredStarts => forget(commit, EffectKind::Start),
        Breakage::ForgetsUnansweredStops => forget(commit, EffectKind::Stop),
        Breakage::ForgetsReleases => {
            commit.record.releases.clear();
            commit.record.last_kill = None;
        }
        Breakage::StopsWithoutLooking => {
            // The holds that it did not look at are there all the same.
            if let Some(before) =
                before.filter(|it| it.phase == Phase::On && it.rev.is_multiple_of(8))
            {
                commit.record.holds.clone_from(&before.holds);
            }
        }
        Breakage::ForgetsItsBounds => commit.record.bounds = None,
        Breakage::KeepsEverything => {
            let before = before.map(|before| before.history.as_slice()).unwrap_or_default();
            let lost = before.iter().filter(|entry| !commit.record.history.contains(entry));
            let mut history: Vec<HistoryEntry> = lost.cloned().collect();
            history.append(&mut commit.record.history);
            for entry in history.iter_mut().filter(|entry| entry.rev == commit.record.rev) {
                entry.what.push_str(&PARAGRAPH.repeat(8));
            }
            commit.record.history = history;
        }
        Breakage::FreesPlacesEarly
            if commit.record.phase == Phase::Stopping && commit.record.provision.seated =>
        {
            commit.record.provision.seated = false;
            let template = commit.record.target.as_str().split('.').next().unwrap_or_default();
            commit.seat = TargetName::parse(template)
                .ok()
                .map(|template| Seat { template, change: SeatChange::Leave });
        }
        _ => {}
    }
}

/// Whether a commit ends what idleness may end, and says nothing else.
pub(crate) fn ends_idle_holds(there: &TargetRecord, commit: &Commit) -> bool {
    let idle = |record: &TargetRecord| {
        let may_end = |kind| matches!(kind, HoldKind::IdleBounded | HoldKind::Adopted);
        record.holds.iter().filter(|hold| may_end(hold.kind)).count()
    };
    let next = &commit.record;
    let silent = commit.outcomes.is_empty() && commit.accepted.is_none();
    let turns = next.phase == Phase::Stopping && there.phase == Phase::On;
    silent && turns && idle(there) > 0 && idle(next) == 0
}

fn forget(commit: &mut Commit, kind: EffectKind) {
    commit.record.unanswered.retain(|lost| lost.effect.kind() != kind);
}
