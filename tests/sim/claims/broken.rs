//! The checker can fail: each mistake that is made on purpose is found, by the name of what it breaks.

use lamplighter_sim::breakage::Breakage;
use lamplighter_sim::crowd::{Play, play, play_releases, play_requests, play_without_bus};
use lamplighter_sim::rule::Rule;

/// Within so many crowds each mistake must be found. Most are in the first few; an effect must be lost,
/// and come true very late, and be wanted by nobody then, for the rarest.
const SEEDS: u64 = 2000;

/// `LAMPLIGHTER_SIM_BREAKAGE` tries one mistake alone, by its name.
fn is_chosen(breakage: Breakage) -> bool {
    let name = std::env::var("LAMPLIGHTER_SIM_BREAKAGE");
    name.map_or(true, |name| name == format!("{breakage:?}"))
}

/// The first thing that is found in the first crowd in which anything is (but for what the mistake is known to
/// break besides).
fn find(breakage: Breakage, name: Rule) -> Result<(), String> {
    for seed in 0..SEEDS {
        let how = Play { breakage: Some(breakage), loud: false };
        let report = match breakage.is_of_launches() {
            _ if breakage == Breakage::ReadsNewerFormats => play_releases(seed, how),
            true => play_requests(seed, how),
            false if breakage.is_of_the_bus() => play_without_bus(seed, how),
            false => play(seed, how),
        };
        let Some(first) = report.findings.iter().find(|it| it.rule < Rule::Section3) else {
            continue;
        };
        if Breakage::ALSO.contains(&(breakage, first.rule)) {
            continue;
        }
        println!("{breakage:?}: seed {seed}: {first}");
        return match first.rule == name {
            true => Ok(()),
            false => Err(format!("{breakage:?}, seed {seed}: {first}; expected {name:?}")),
        };
    }
    Err(format!("{breakage:?} was not found within {SEEDS} seeds"))
}

/// All of them are tried before any is complained of.
#[track_caller]
fn check(which: impl Fn(Rule) -> bool) {
    let wrong: Vec<String> = Breakage::EACH
        .into_iter()
        .filter(|(breakage, name)| which(*name) && is_chosen(*breakage))
        .filter_map(|(breakage, name)| find(breakage, name).err())
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_mistake_with_targets_is_found_and_named() {
    check(|rule| rule <= Rule::D5);
}

#[test]
fn each_mistake_with_messages_is_found_and_named() {
    check(|rule| Rule::D5 < rule && rule <= Rule::D10);
}

#[test]
fn each_mistake_with_idleness_and_hours_and_scaling_and_places_is_found_and_named() {
    check(|rule| Rule::D10 < rule);
}

#[test]
fn each_rule_has_a_mistake_that_it_names() {
    use Rule::{B1, D1, D2, D3, D4, D5, D6, D7, D8, D9, D10, I1, I2, I3, L1, R1, R2, W1};
    for rule in [D1, D2, D3, D4, D5, D6, D7, D8, D9, D10, I1, I2, I3, W1, B1, L1, R1, R2] {
        assert!(Breakage::EACH.iter().any(|(_, name)| *name == rule), "nothing breaks {rule:?}");
    }
}
