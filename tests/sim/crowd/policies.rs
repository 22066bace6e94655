//! Idle policies with the backends that they ask, and office hours: drawn from a seed.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use lamplighter_events::HumanDuration;
use lamplighter_lifecycle::{
    CommandProbe, CommandReads, Condition, HealthUrl, Hours, HttpProbe, HttpReads, IdleSpec,
    MetricProbe, MetricReads, Missing, Probe, Resource, Statistic,
};

use super::Dice;
use crate::backends::{Backend, CONNECTIONS, LAST_ACTIVITY, Marks, NAMESPACE};
use crate::crowd::lengths::long;
use crate::world::Sim;

/// How long a metric's period is; it is published once a minute, or once a period at its end.
const PERIODS: [u64; 3] = [60, 60, 120];
/// Berlin is so far ahead of UTC in winter; in summer by one hour more.
const WINTER: SignedDuration = SignedDuration::from_hours(1);
/// When Berlin's clocks change in 2026.
const TO_SUMMER: &str = "2026-03-29T01:00:00Z";
const TO_WINTER: &str = "2026-10-25T01:00:00Z";

/// A policy, and what it asks on each of these.
pub(super) fn idleness<'r>(
    sim: &Sim,
    dice: &mut Dice,
    resources: impl Iterator<Item = &'r Resource>,
) -> IdleSpec {
    let resources: Vec<&Resource> = resources.collect();
    let machine = resources.iter().all(|resource| resource.instance().is_some());
    let mut idle = IdleSpec::after(long(["40s", "2m", "3m", "6m"][dice.roll(4) as usize]));
    if dice.one_in(4) {
        idle.grace = Some(long("1m"));
    }
    if dice.one_in(2) {
        idle.unreachable_after = Some(long("3m"));
        idle.stop_unreachable = dice.one_in(2);
    }
    for _ in 0..dice.roll(3) {
        let probe = match dice.roll(7) {
            0..3 => http(dice),
            3..5 => metric(sim, dice, idle.after),
            5 if machine => Probe::Command(CommandProbe {
                script: "who | grep -q . && exit 1; exit 0".to_owned(),
                reads: CommandReads::ExitCode,
                timeout_seconds: 20,
            }),
            _ => http(dice),
        };
        // One label, one memory.
        if !idle.probes.iter().any(|other| other.label() == probe.label()) {
            idle.probes.push(probe);
        }
    }
    let marks = [Marks::No, Marks::No, Marks::After, Marks::After, Marks::Before];
    for resource in resources {
        let marks = marks[dice.roll(5) as usize];
        let ahead = match dice.roll(4) {
            0 => dice.seconds(0, 120),
            1 => -dice.seconds(0, 120),
            _ => SignedDuration::ZERO,
        };
        let mut backend = Backend::new(sim.true_now(), marks, ahead);
        let periods = idle.probes.iter().filter_map(|probe| match probe {
            Probe::Metric(metric) => Some(SignedDuration::from_secs(metric.period())),
            _ => None,
        });
        // Some publish at the end of a period for all of it.
        if let Some(shortest) = periods.min().filter(|_| dice.one_in(3)) {
            backend = backend.publishing_every(shortest);
        }
        sim.set_backend(resource, backend);
    }
    idle
}

fn http(dice: &mut Dice) -> Probe {
    let reads = [HttpReads::Epoch, HttpReads::Epoch, HttpReads::IdleSeconds, HttpReads::Count]
        [dice.roll(4) as usize];
    let path = match reads {
        HttpReads::Epoch => "last-activity",
        HttpReads::IdleSeconds => "idle",
        HttpReads::Count => "sessions",
    };
    Probe::Http(HttpProbe {
        url: HealthUrl::parse(&format!("http://backend.internal:8000/{path}")).unwrap(),
        pointer: "/it".to_owned(),
        reads,
        ignore_own: true,
    })
}

fn metric(sim: &Sim, dice: &mut Dice, after: HumanDuration) -> Probe {
    let period = PERIODS[dice.roll(3) as usize];
    // As long as its points take at worst, while CloudWatch is well.
    let lag = sim.with_world(|world, _| world.timings.metric_lag + world.timings.metric_scatter);
    let lag = if lag <= SignedDuration::from_mins(1) { "1m" } else { "3m" };
    let epoch = dice.one_in(3);
    let name = if epoch { LAST_ACTIVITY } else { CONNECTIONS };
    let none = Condition::parse("== 0").unwrap();
    // A policy that waits for less than a period reads a whole one, as the fleet file has it.
    let whole = HumanDuration::from_seconds(period).filter(|_| after.seconds() < period);
    Probe::Metric(MetricProbe {
        namespace: NAMESPACE.to_owned(),
        name: name.to_owned(),
        dimensions: BTreeMap::new(),
        statistic: if epoch || dice.one_in(2) { Statistic::Maximum } else { Statistic::Average },
        period_seconds: period as u32,
        look_back: if epoch { Some(long("10m")) } else { whole },
        lag: long(lag),
        missing: Missing::Unknown,
        reads: if epoch { MetricReads::Epoch } else { MetricReads::IdleWhen(none) },
    })
}

/// Office hours of Berlin, and what they are in true time: worked out from Berlin's two changes of the year,
/// not from any table of zones.
pub(super) fn office_hours(
    dice: &mut Dice,
    begins: Timestamp,
) -> (Hours, Vec<(Timestamp, Timestamp)>) {
    // Wall-clock times around the story's beginning, in minutes of its day.
    let wall = begins + offset(begins);
    let midnight = wall.as_second() - wall.as_second().rem_euclid(24 * 3600);
    let now = (wall.as_second() - midnight) / 60;
    let from = (now - 20 + dice.roll(50) as i64).clamp(0, 23 * 60);
    let until = (from + 3 + dice.roll(70) as i64).min(24 * 60 - 1);
    let text = |minutes: i64| format!("{:02}:{:02}", minutes / 60, minutes % 60);
    let weekly = format!("daily {}-{}", text(from), text(until));
    let hours = Hours::parse(&weekly, "Europe/Berlin", []).unwrap();
    let mut windows = Vec::new();
    for day in -1..=1 {
        let on_the_wall = |minutes: i64| {
            let seconds = midnight + day * 24 * 3600 + minutes * 60;
            Timestamp::from_second(seconds).unwrap()
        };
        windows.push((first(on_the_wall(from)), last(on_the_wall(until))));
    }
    (hours, windows)
}

/// How far Berlin is ahead of UTC.
fn offset(at: Timestamp) -> SignedDuration {
    let (spring, autumn): (Timestamp, Timestamp) =
        (TO_SUMMER.parse().unwrap(), TO_WINTER.parse().unwrap());
    if spring <= at && at < autumn { WINTER * 2 } else { WINTER }
}

/// The true times at which Berlin's wall clock shows this; none in a gap, two in an overlap.
fn times(wall: Timestamp) -> impl Iterator<Item = Timestamp> {
    [wall - WINTER * 2, wall - WINTER].into_iter().filter(move |at| *at + offset(*at) == wall)
}

/// A time that does not exist is the same distance after the gap.
fn first(wall: Timestamp) -> Timestamp {
    times(wall).min().unwrap_or(wall - WINTER)
}

fn last(wall: Timestamp) -> Timestamp {
    times(wall).max().unwrap_or(wall - WINTER)
}
