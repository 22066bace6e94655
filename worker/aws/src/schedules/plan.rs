//! What has to change so that AWS's schedules are the fleet's. Pure: two lists in, one list out.
//!
//! *Invariants.* What is not ours by its tag is never changed, and stands in the way by name. A state that
//! was found is kept: who switched a schedule off finds it off after every apply, also where it moves
//! from a rule to EventBridge Scheduler or back. Removals come last, and never before what replaces them:
//! two that fire at the same time are one tick, none is a lost one.

use std::collections::BTreeMap;

use serde::Serialize;

/// Where a schedule lives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Home {
    /// A rule of EventBridge, by UTC.
    Rule,
    /// EventBridge Scheduler, by a zone; the group.
    Scheduler(String),
}

impl std::fmt::Display for Home {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rule => f.write_str("rule"),
            Self::Scheduler(group) => write!(f, "schedule of group {group}"),
        }
    }
}

/// What a schedule is made of, by names that people know; what is missing is not there.
pub(crate) type Shape = BTreeMap<&'static str, String>;

/// A schedule as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Desired {
    pub(crate) home: Home,
    pub(crate) name: String,
    /// Where it is made anew.
    pub(crate) enabled: bool,
    pub(crate) shape: Shape,
}

/// A schedule as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) home: Home,
    pub(crate) name: String,
    pub(crate) owner: Owner,
    pub(crate) enabled: bool,
    pub(crate) shape: Shape,
    /// The ids of all its targets.
    pub(crate) targets: Vec<String>,
}

/// Whose something is, by its tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This fleet's.
    Us,
    /// Another fleet's, by the ARN of its queue.
    Other(String),
    /// Not Lamplighter's.
    Nobody,
}

/// One thing about a schedule that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its name: `expression`, `zone`, `queue`, `input`, `role`, …
    pub what: &'static str,
    /// What is there; `None`: nothing.
    pub from: Option<String>,
    /// What should be there; `None`: nothing.
    pub to: Option<String>,
}

/// What has to be done about one schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum Change {
    /// It is not there.
    Add,
    /// It is there, and not as it should be.
    Change {
        /// In what.
        differences: Vec<Difference>,
    },
    /// It is there, and no longer in the fleet.
    Remove,
    /// It is as it should be.
    Unchanged,
    /// One of its name is there that is not this fleet's. Nothing is done.
    NotOurs {
        /// The queue of the fleet that it belongs to, if it is one's.
        owner: Option<String>,
    },
}

/// A schedule and what has to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// The schedule's name.
    pub name: String,
    /// Where it lives.
    pub home: Home,
    /// What has to be done.
    #[serde(flatten)]
    pub change: Change,
    /// Whether it fires, now or once it was added.
    pub enabled: bool,
    /// As it should be, or is where it goes.
    pub expression: Option<String>,
    /// By whose clock; UTC where there is none.
    pub zone: Option<String>,
    /// What it is made of.
    #[serde(skip)]
    pub(crate) shape: Shape,
    /// What sends when it fires, by id.
    #[serde(skip)]
    pub(crate) targets: Vec<String>,
}

/// The changes, in the order in which they are to be made.
pub(crate) fn plan(
    desired: &[Desired],
    found: &[Found],
    groups: &BTreeMap<String, Owner>,
) -> Vec<Planned> {
    let ours = || found.iter().filter(|it| it.owner == Owner::Us);
    let mut plan: Vec<Planned> = Vec::new();
    for wanted in desired {
        let there = found.iter().find(|it| it.home == wanted.home && it.name == wanted.name);
        // Nothing of ours may be made in a group of somebody else's.
        let group = match &wanted.home {
            Home::Scheduler(group) => groups.get(group),
            Home::Rule => None,
        };
        let owner = there.map(|it| &it.owner).or(group).filter(|owner| **owner != Owner::Us);
        let change = match (owner, there) {
            (Some(Owner::Other(queue)), _) => Change::NotOurs { owner: Some(queue.clone()) },
            (Some(_), _) => Change::NotOurs { owner: None },
            (None, None) => Change::Add,
            (None, Some(there)) => match differences(&there.shape, &wanted.shape) {
                differences if differences.is_empty() => Change::Unchanged,
                differences => Change::Change { differences },
            },
        };
        let state = there.or_else(|| ours().find(|it| it.name == wanted.name));
        plan.push(Planned {
            enabled: state.map_or(wanted.enabled, |it| it.enabled),
            targets: there.map(|it| it.targets.clone()).unwrap_or_default(),
            ..planned(&wanted.name, &wanted.home, change, &wanted.shape)
        });
    }
    for there in ours() {
        let stays = desired.iter().any(|it| it.home == there.home && it.name == there.name);
        // What stands in for one that cannot be made stays, too.
        let needed = plan
            .iter()
            .any(|it| it.name == there.name && matches!(it.change, Change::NotOurs { .. }));
        if !stays && !needed {
            plan.push(Planned {
                enabled: there.enabled,
                targets: there.targets.clone(),
                ..planned(&there.name, &there.home, Change::Remove, &there.shape)
            });
        }
    }
    plan
}

fn planned(name: &str, home: &Home, change: Change, shape: &Shape) -> Planned {
    Planned {
        name: name.to_owned(),
        home: home.clone(),
        change,
        enabled: true,
        expression: shape.get(EXPRESSION).cloned(),
        zone: shape.get(ZONE).cloned(),
        shape: shape.clone(),
        targets: Vec::new(),
    }
}

/// The key of the expression.
pub(crate) const EXPRESSION: &str = "expression";
/// The key of the zone.
pub(crate) const ZONE: &str = "zone";

fn differences(found: &Shape, wanted: &Shape) -> Vec<Difference> {
    let mut keys: Vec<&'static str> = found.keys().chain(wanted.keys()).copied().collect();
    keys.sort_unstable();
    keys.dedup();
    let each = keys.into_iter().filter(|key| found.get(key) != wanted.get(key));
    each.map(|what| Difference {
        what,
        from: found.get(what).cloned(),
        to: wanted.get(what).cloned(),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(expression: &str) -> Shape {
        Shape::from([(EXPRESSION, expression.to_owned()), ("queue", "q".to_owned())])
    }

    fn wanted(home: &Home, name: &str) -> Desired {
        let shape = shape("rate(1 day)");
        Desired { home: home.clone(), name: name.to_owned(), enabled: true, shape }
    }

    fn there(home: &Home, name: &str, owner: Owner, enabled: bool) -> Found {
        Found {
            home: home.clone(),
            name: name.to_owned(),
            owner,
            enabled,
            shape: shape("rate(1 day)"),
            targets: vec!["lamplighter".to_owned()],
        }
    }

    /// The plan in words: name, home, change and state of each.
    #[track_caller]
    fn check_in(groups: &[(&str, Owner)], desired: &[Desired], found: &[Found], expected: &[&str]) {
        let groups =
            groups.iter().map(|(name, owner)| ((*name).to_owned(), owner.clone())).collect();
        let words = |it: &Planned| {
            let change = match &it.change {
                Change::Add => "add".to_owned(),
                Change::Change { differences } => {
                    let text = |it: &Option<String>| it.clone().unwrap_or("-".to_owned());
                    let each = differences
                        .iter()
                        .map(|it| format!("{}:{}>{}", it.what, text(&it.from), text(&it.to)));
                    each.collect::<Vec<_>>().join(" ")
                }
                Change::Remove => "remove".to_owned(),
                Change::Unchanged => "unchanged".to_owned(),
                Change::NotOurs { owner } => {
                    format!("not ours but {}", owner.as_deref().unwrap_or("nobody's"))
                }
            };
            let state = if it.enabled { "on" } else { "off" };
            format!("{} {}: {change}, {state}", it.home, it.name)
        };
        let plan: Vec<String> = plan(desired, found, &groups).iter().map(words).collect();
        assert_eq!(plan, expected);
    }

    #[track_caller]
    fn check(desired: &[Desired], found: &[Found], expected: &[&str]) {
        let groups = [("g", Owner::Us), ("old", Owner::Us), ("theirs", Owner::Nobody)];
        check_in(&groups, desired, found, expected);
    }

    const RULE: Home = Home::Rule;

    fn group(name: &str) -> Home {
        Home::Scheduler(name.to_owned())
    }

    #[test]
    fn what_is_missing_is_added_and_what_is_right_is_left() {
        let off = Desired { enabled: false, ..wanted(&RULE, "b") };
        check(&[wanted(&RULE, "a"), off], &[], &["rule a: add, on", "rule b: add, off"]);
        let found = [there(&RULE, "a", Owner::Us, true)];
        check(&[wanted(&RULE, "a")], &found, &["rule a: unchanged, on"]);
        check(&[], &[], &[]);
    }

    #[test]
    fn what_differs_is_changed_and_named_and_a_half_made_rule_is_completed() {
        let other = Found { shape: shape("rate(2 days)"), ..there(&RULE, "a", Owner::Us, true) };
        let expected = ["rule a: expression:rate(2 days)>rate(1 day), on"];
        check(&[wanted(&RULE, "a")], &[other], &expected);
        // Made with its tags, and nothing after it.
        let bare = Shape::from([(EXPRESSION, "rate(1 day)".to_owned())]);
        let half = Found { shape: bare, targets: vec![], ..there(&RULE, "a", Owner::Us, true) };
        check(&[wanted(&RULE, "a")], &[half], &["rule a: queue:->q, on"]);
        let mut more = there(&RULE, "a", Owner::Us, true);
        more.shape.insert("pattern", "{}".to_owned());
        check(&[wanted(&RULE, "a")], &[more], &["rule a: pattern:{}>-, on"]);
    }

    #[test]
    fn what_somebody_switched_stays_so() {
        let off = there(&RULE, "a", Owner::Us, false);
        check(&[wanted(&RULE, "a")], std::slice::from_ref(&off), &["rule a: unchanged, off"]);
        let other = Found { shape: shape("rate(2 days)"), ..off.clone() };
        let expected = ["rule a: expression:rate(2 days)>rate(1 day), off"];
        check(&[wanted(&RULE, "a")], &[other], &expected);
        // The file's word is for the beginning alone.
        let on = there(&RULE, "a", Owner::Us, true);
        let wanted_off = Desired { enabled: false, ..wanted(&RULE, "a") };
        check(&[wanted_off], &[on], &["rule a: unchanged, on"]);
        // It got a zone.
        let expected = ["schedule of group g a: add, off", "rule a: remove, off"];
        check(&[wanted(&group("g"), "a")], &[off], &expected);
        let off = there(&group("old"), "a", Owner::Us, false);
        let expected = ["schedule of group g a: add, off", "schedule of group old a: remove, off"];
        check(&[wanted(&group("g"), "a")], &[off], &expected);
    }

    #[test]
    fn what_left_the_fleet_is_removed_last() {
        let found =
            [there(&RULE, "a", Owner::Us, true), there(&group("old"), "b", Owner::Us, true)];
        let expected =
            ["rule z: add, on", "rule a: remove, on", "schedule of group old b: remove, on"];
        check(&[wanted(&RULE, "z")], &found, &expected);
    }

    #[test]
    fn what_is_not_ours_is_named_and_never_touched() {
        let other = || Owner::Other("arn:q2".to_owned());
        let found = [
            there(&RULE, "a", Owner::Nobody, true),
            there(&RULE, "b", other(), false),
            there(&RULE, "c", Owner::Nobody, true),
        ];
        let expected = ["rule a: not ours but nobody's, on", "rule b: not ours but arn:q2, off"];
        check(&[wanted(&RULE, "a"), wanted(&RULE, "b")], &found, &expected);
        // Whoever's rule stands in the way, what fires now goes on.
        let found = [there(&RULE, "a", other(), true), there(&group("g"), "a", Owner::Us, true)];
        check(&[wanted(&RULE, "a")], &found, &["rule a: not ours but arn:q2, on"]);
    }

    #[test]
    fn nothing_is_made_in_a_group_that_is_not_ours() {
        let expected = ["schedule of group theirs a: not ours but nobody's, on"];
        check(&[wanted(&group("theirs"), "a")], &[], &expected);
        check(&[wanted(&group("new"), "a")], &[], &["schedule of group new a: add, on"]);
    }
}
