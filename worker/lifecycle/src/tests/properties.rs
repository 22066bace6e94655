//! Whatever comes, in whatever order: claims over arbitrary interleavings, checked by the driver after every
//! step against the reference model.
//!
//! *Order.* Commands with fixed `Sent` leave the same holds, releases and pause in whatever order they are
//! delivered. What may depend on the order of arrival, by DESIGN.md, and is therefore kept out of that claim:
//! - an exclusive target: whoever arrives first has it, and the other is refused with `conflict`;
//! - the bounds (`HOLDS_MAX`, `OPEN_COMMANDS_MAX`): whoever arrives last is refused;
//! - a command that came too late for its own `expires`, or a start that came after its hold's own end: it is
//!   refused, and what is refused changes nothing (not even the end of an older start of its holder);
//! - a start that failed for good takes its hold with it: an older start that arrives after that tries again;
//! - a stop outside ends what is older *and known*: DESIGN.md remembers releases and kills, not stops
//!   outside, so an older start that arrives afterwards starts the machine again.
//!
//! `LAMPLIGHTER_PROPTEST_CASES` says how many cases each claim gets, `LAMPLIGHTER_PROPTEST_SEED` where they
//! begin. Without them a run is the same each time.

use std::cell::RefCell;
use std::collections::BTreeSet;

use lamplighter_events::{Action, Cause};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{RngSeed, TestError, TestRunner};

use super::driver::{Ask, Driver, Fate, Lasts, Look, Make, Step};
use super::machine::{Outside, Pace};
use crate::{AcceptedCommand, SHOWS_WITHIN_SECONDS};

/// Enough for a debug build to take some seconds for each claim.
const CASES: u32 = 1_000;
const SEED: u64 = 20_261_120;
/// One for what is new in the first look, and one for what that leads to.
const WRITES_MAX: usize = 2;
const STEPS_MAX: usize = 60;
/// Longer than every timeout of the spec together.
const LASTS_SECONDS_MAX: i64 = 4_000;
/// The longest way to rest: a lost effect is watched for a quarter of an hour, a minute at a time, and every
/// timeout of the spec may have to run out.
const PASSES_TO_REST_MAX: usize = 120;

fn number<N: std::str::FromStr>(name: &str, default: N) -> N {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What so many stories must contain, so that the claims speak of something.
const HAPPENS: &[&str] = &[
    "StartInstances",
    "StopInstances",
    "SendCommand",
    "StartedOutside",
    "StoppedOutside",
    "StopOverdue",
    "UnitDied",
    "start Done ",
    "start Failed agent-unreachable",
    "start Failed bounced",
    "start Failed deadline",
    "start Failed invalid",
    "start Failed expired",
    "start Failed not-found",
    "start Failed throttled",
    "start Failed unit-failed",
    "start Rejected conflict",
    "start Rejected expired",
    "start Rejected superseded",
    "stop Done ",
    "stop Failed deadline",
    "stop Failed invalid",
    "stop Rejected expired",
    "kill Done ",
    "pause Done ",
    "pause Rejected superseded",
    "resume Done ",
    "resume Rejected superseded",
    "status Done ",
    "check-idle Done ",
    "keep-alive Done ",
];

fn cases() -> u32 {
    number("LAMPLIGHTER_PROPTEST_CASES", CASES)
}

#[track_caller]
fn check<S: Strategy>(strategy: &S, claim: impl Fn(S::Value)) {
    check_one_in(1, strategy, claim);
}

/// As `check`, for cases that take long: one for so many of the others.
#[track_caller]
pub(super) fn check_one_in<S: Strategy>(many: u32, strategy: &S, claim: impl Fn(S::Value)) {
    let config = ProptestConfig {
        cases: cases().div_ceil(many),
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(number("LAMPLIGHTER_PROPTEST_SEED", SEED)),
        max_shrink_iters: number("LAMPLIGHTER_PROPTEST_SHRINKS", 20_000),
        ..ProptestConfig::default()
    };
    let outcome = TestRunner::new(config).run(strategy, |value| {
        claim(value);
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, value)) => panic!("{why}\nminimal: {value:?}"),
        Err(other) => panic!("{other}"),
    }
}

fn look() -> impl Strategy<Value = Look> {
    let seconds = |max: i64| prop_oneof![3 => Just(0), 1 => 0..=max];
    // Describes lag, mostly by seconds, and so they go back; the worker itself may be slow.
    let lag = prop_oneof![30 => Just(0), 10 => 0..5_i64, 2 => 0..SHOWS_WITHIN_SECONDS - 2];
    (seconds(20), lag, proptest::bool::weighted(0.03)).prop_map(|(delay, lag, blind)| Look {
        delay,
        lag,
        blind,
    })
}

fn lasts(seconds_max: i64) -> impl Strategy<Value = Lasts> {
    prop_oneof![
        2 => Just(Lasts::Open),
        2 => (1..seconds_max).prop_map(Lasts::For),
        1 => (-10..seconds_max).prop_map(Lasts::Until),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => Just(Action::Start),
        6 => Just(Action::Stop),
        1 => Just(Action::Kill),
        1 => Just(Action::Pause),
        2 => Just(Action::Resume),
        1 => select(vec![Action::Status, Action::CheckIdle, Action::Create, Action::KeepAlive]),
    ]
}

prop_compose! {
    fn ask()(
        action in action(),
        holder in 0..4_u8,
        age in prop_oneof![3 => Just(0_i64), 2 => 0..10_i64, 1 => 0..2_000_i64],
        tie in 0..4_u8,
        lasts in lasts(LASTS_SECONDS_MAX),
        expires in option::weighted(0.05, -5..60_i64),
    ) -> Ask {
        Ask { action, holder, age, tie, lasts, expires }
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        8 => Just(Fate::Accepted),
        1 => (100..60_000_u64).prop_map(Fate::RetryAfter),
        1 => Just(Fate::Final),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Unmade),
        1 => (1..900_i64).prop_map(Fate::Late),
    ]
}

fn outside() -> impl Strategy<Value = Outside> {
    select(vec![
        Outside::Starts,
        Outside::Starts,
        Outside::Stops,
        Outside::Stops,
        Outside::Terminates,
        Outside::FallsBack,
        Outside::Hangs,
        Outside::UnitDies,
        Outside::AgentDies,
        Outside::Sickens,
        Outside::Heals,
    ])
}

fn step() -> impl Strategy<Value = Step> {
    let wait = prop_oneof![4 => 0..20_i64, 1 => 0..400_i64, 1 => 0..6_000_i64];
    prop_oneof![
        6 => (ask(), look()).prop_map(|(ask, look)| Step::Ask(ask, look)),
        3 => look().prop_map(Step::Look),
        4 => wait.prop_map(Step::Wait),
        10 => look().prop_map(Step::Wake),
        6 => (fate(), proptest::bool::weighted(0.9)).prop_map(|(fate, now)| Step::Aws(fate, now)),
        1 => Just(Step::Deliver),
        2 => outside().prop_map(Step::Outside),
        1 => proptest::bool::weighted(0.7).prop_map(Step::Bus),
    ]
}

prop_compose! {
    fn make()(
        exclusive in proptest::bool::weighted(0.3),
        max_hold in option::weighted(0.2, 60..5_000_u64),
        idle in any::<bool>(),
        keep_failed in proptest::bool::weighted(0.3),
        unit in any::<bool>(),
        health in proptest::bool::weighted(0.2),
        runs in proptest::bool::weighted(0.2),
        (boots, stops, agent, answers) in (1..12_i64, 1..12_i64, 0..5_i64, 1..4_i64),
    ) -> Make {
        let pace = Pace { boots, stops, agent, answers };
        Make { exclusive, max_hold, idle, keep_failed, unit, health, runs, pace }
    }
}

fn story() -> impl Strategy<Value = (Make, Vec<Step>)> {
    (make(), vec(step(), 0..STEPS_MAX))
}

#[test]
fn whatever_comes_the_holds_are_those_of_the_rules() {
    let happened = RefCell::new(BTreeSet::new());
    check(&story(), |(make, steps)| {
        let mut driver = Driver::new(&make);
        steps.iter().for_each(|step| driver.step(step));
        happened.borrow_mut().extend(driver.happened);
    });
    let happened = happened.into_inner();
    for what in HAPPENS {
        assert!(cases() < CASES || happened.contains(*what), "nowhere: {what}; only {happened:?}");
    }
}

#[test]
fn once_faults_cease_every_target_comes_to_rest() {
    check(&story(), |(make, steps)| {
        let mut driver = Driver::new(&make);
        steps.iter().for_each(|step| driver.step(step));
        driver.come_to_rest(PASSES_TO_REST_MAX);
        // Every end comes, and then nobody wants it who did not say so for ever.
        driver.later(LASTS_SECONDS_MAX);
        driver.come_to_rest(PASSES_TO_REST_MAX);
        let kill = driver.newest(Action::Kill, 0);
        driver.ask(&kill, Look::default());
        driver.come_to_rest(PASSES_TO_REST_MAX);
        assert!(driver.machine.state().is_off() && driver.record.holds.is_empty());
    });
}

#[test]
fn a_look_that_finds_nothing_new_writes_nothing() {
    check_one_in(4, &story(), |(make, steps)| {
        let mut driver = Driver::new(&make);
        steps.iter().for_each(|step| driver.step(step));
        let writes = driver.writes_before_calm(WRITES_MAX + 1);
        assert!(writes <= WRITES_MAX, "{:?}", driver.record);
    });
}

/// Each command's number says when it arrives; it was sent at a time of its own.
fn letters() -> impl Strategy<Value = (Vec<Ask>, Vec<usize>)> {
    let action = prop_oneof![
        6 => Just(Action::Start),
        4 => Just(Action::Stop),
        1 => Just(Action::Kill),
        1 => Just(Action::Pause),
        1 => Just(Action::Resume),
    ];
    let letter = (action, 0..3_u8, 0..60_i64, 0..4_u8, lasts(600));
    let letter = letter.prop_map(|(action, holder, age, tie, lasts)| Ask {
        action,
        holder,
        age,
        tie,
        lasts,
        expires: None,
    });
    vec(letter, 2..8).prop_flat_map(|letters| {
        let order: Vec<usize> = (0..letters.len()).collect();
        (Just(letters), Just(order).prop_shuffle())
    })
}

#[test]
fn the_order_of_arrival_decides_nothing() {
    let strategy = (any::<bool>(), option::weighted(0.2, 60..600_u64), letters(), 1..40_i64);
    check(&strategy, |(runs, max_hold, (letters, order), pause)| {
        let deliver = |order: &[usize]| {
            let pace = Pace { boots: 9, stops: 8, agent: 4, answers: 2 };
            let make = Make { runs, max_hold, pace, ..Make::default() };
            let mut driver = Driver::new(&make);
            let sent: Vec<AcceptedCommand> =
                letters.iter().map(|letter| driver.command(letter)).collect();
            for index in order {
                driver.ask(&sent[*index], Look::default());
                driver.meet(Fate::Accepted, true);
                driver.later(pause);
                driver.pass(None, Look::default());
                driver.meet(Fate::Accepted, true);
            }
            (driver.refused_any_as(Cause::Expired), driver.standing())
        };
        let as_sent: Vec<usize> = (0..letters.len()).collect();
        let ((late, one), (late_too, other)) = (deliver(&as_sent), deliver(&order));
        // Who came too late for its own end was not begun: that may depend on when it came.
        if !late && !late_too {
            assert_eq!(one, other);
        }
    });
}

#[test]
fn a_crowd_stays_within_the_bounds() {
    let sort = prop_oneof![3 => Just(Action::Start), 1 => Just(Action::Stop)];
    let crowd = (1..90_u8, sort).prop_map(|(size, action)| Step::Crowd(size, action));
    let crowd = prop_oneof![1 => crowd, 6 => step()];
    check_one_in(20, &(make(), vec(crowd, 0..STEPS_MAX)), |(make, steps)| {
        let mut driver = Driver::new(&make);
        steps.iter().for_each(|step| driver.step(step));
        driver.come_to_rest(PASSES_TO_REST_MAX);
    });
}
