//! The checker can fail: each mistake that is made on purpose is found, by the name of what it breaks.

use lamplighter_sim::breakage::Breakage;
use lamplighter_sim::checker::Rule;
use lamplighter_sim::crowd::{Play, play};

/// Within so many crowds each mistake must be found.
const SEEDS: u64 = 60;

#[track_caller]
fn check(breakage: Breakage, names: &[Rule]) {
    for seed in 0..SEEDS {
        let report = play(seed, Play { breakage: Some(breakage), loud: false });
        if let Some(first) = report.findings.iter().min_by_key(|finding| finding.at) {
            assert!(
                names.contains(&first.rule),
                "seed {seed}, {breakage:?}: {first}, expected {names:?}"
            );
            println!("{breakage:?}: seed {seed}: {first}");
            return;
        }
    }
    panic!("{breakage:?} was not found within {SEEDS} seeds");
}

#[test]
fn each_mistake_is_found_and_named() {
    for (breakage, names) in Breakage::EACH {
        check(breakage, names);
    }
}

#[test]
fn each_of_d1_to_d10_has_a_mistake_that_it_names() {
    use Rule::{D1, D2, D3, D4, D5, D6, D7, D8, D9, D10};
    for rule in [D1, D2, D3, D4, D5, D6, D7, D8, D9, D10] {
        let names = |(_, rules): &(Breakage, &[Rule])| rules.first() == Some(&rule);
        assert!(Breakage::EACH.iter().any(|it| names(it)), "nothing breaks {rule:?}");
    }
}
