//! What the binary's own help names: its verbs and their flags.

use std::collections::BTreeSet;

use crate::harness::{Answer, lamplighter};

pub(crate) fn help_of(verb: &str) -> String {
    let words = verb.split(' ').filter(|word| !word.is_empty());
    Answer::of(lamplighter().args(words).arg("--help")).is(0).stdout.clone()
}

/// The long flags of a help: each stands first on its line, but for a short one before it.
pub(crate) fn flags_in(help: &str) -> BTreeSet<String> {
    let first = |line: &str| {
        let line = line.trim_start();
        let long = match line.split_once(", ") {
            Some((short, rest)) if short.len() == 2 && short.starts_with('-') => rest,
            _ => line,
        };
        let flag = long.split([' ', '=']).next().unwrap_or_default();
        flag.starts_with("--").then(|| flag.to_owned())
    };
    help.lines().filter_map(first).collect()
}

/// The verbs of a help, those of verbs included: `dlq list`.
pub(crate) fn verbs_in(help: &str, before: &str) -> BTreeSet<String> {
    let mut verbs = BTreeSet::new();
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    for line in lines.take_while(|line| !line.is_empty()) {
        // A description that is too long goes on further to the right.
        let Some(name) = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')) else {
            continue;
        };
        let name = name.split(' ').next().unwrap_or_default();
        if name == "help" {
            continue;
        }
        let verb = format!("{before} {name}").trim().to_owned();
        let below = verbs_in(&help_of(&verb), &verb);
        if below.is_empty() {
            verbs.insert(verb);
        } else {
            verbs.extend(below);
        }
    }
    verbs
}
