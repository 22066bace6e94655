//! Who and what a crowd consists of: machines with their moods, targets, rules, all drawn from a seed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use lamplighter_cloud::queue::Disorder;
use lamplighter_cloud::{MachineSeed, MachineState, Timings};
use lamplighter_events::{Action, Command, HumanDuration, InstanceId, TargetName, TargetRef};
use lamplighter_lifecycle::{Ec2Spec, HealthUrl, InstanceRef, TargetSpec, UnitName};
use lamplighter_runtime::Fleet;
use serde_json::json;

use super::Dice;
use crate::world::{Health, INSTANCE, Sim};

/// The rule whose tick kills the first target.
pub(super) const NIGHTLY: &str = "nightly";
/// The rule whose tick wants the first target on for a while.
pub(super) const MORNING: &str = "morning";

/// A machine that quick tests use, with the spec of seed 000.
pub fn spec() -> TargetSpec {
    let long = |text| HumanDuration::parse(text).unwrap();
    TargetSpec {
        name: TargetName::parse("position-keeper").unwrap(),
        ec2: Ec2Spec {
            instance: InstanceRef::Id(InstanceId::parse(INSTANCE).unwrap()),
            systemd_unit: Some(UnitName::parse("positionkeeper").unwrap()),
            health: None,
            start_timeout: long("2m"),
            settle: long("10s"),
            ready_timeout: long("2m"),
            health_timeout: long("3m"),
            stop_timeout: long("5m"),
            poll: long("5s"),
            unit_check_every: None,
            log_group: None,
        },
        exclusive: true,
        max_hold: None,
        keep_failed: false,
        idle: None,
    }
}

/// One target of a crowd.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) name: TargetName,
    /// The machine that the fleet names now.
    pub(super) instance: InstanceId,
    /// Where it may move: its machine is named by a secret.
    pub(super) spare: Option<InstanceId>,
}

/// What a seed draws before anything happens.
pub(super) struct Cast {
    pub(super) members: Vec<Member>,
    pub(super) fleet: Fleet,
    pub(super) machines: BTreeSet<InstanceId>,
    pub(super) may_fail: bool,
}

pub(super) fn timings(dice: &mut Dice) -> Timings {
    Timings {
        boot: dice.seconds(1, 40),
        stop: dice.seconds(1, 20),
        agent: dice.seconds(1, 10),
        invocation: dice.seconds(0, 2),
        describe_lag: if dice.one_in(2) { SignedDuration::ZERO } else { dice.seconds(0, 3) },
        ..Timings::default()
    }
}

impl Cast {
    pub(super) fn draw(sim: &Sim, dice: &mut Dice) -> Self {
        let may_fail = dice.one_in(4);
        let mut cast = Self {
            members: Vec::new(),
            fleet: Fleet::default(),
            machines: BTreeSet::new(),
            may_fail,
        };
        for number in 0..=dice.roll(3) {
            cast.enlist(sim, dice, number);
        }
        if dice.one_in(2) {
            sim.with_world(|world, _| {
                world.queues.disorder = Disorder { shuffle: true, duplicate_per_mille: 100 };
            });
        }
        if dice.one_in(2) {
            sim.set_index_lag(dice.seconds(0, 3));
        }
        // AWS's signals never come, or only those of one service.
        for service in ["ec2", "ssm"] {
            if dice.one_in(5) {
                let silence = |world: &mut lamplighter_cloud::World, _| {
                    world.bus.rule_mut("default", service).map(|rule| rule.enabled = false)
                };
                sim.with_world(silence).expect("the rule is there");
            }
        }
        cast.rules();
        cast
    }

    fn enlist(&mut self, sim: &Sim, dice: &mut Dice, number: u64) {
        let name = TargetName::parse(&format!("t{number}")).unwrap();
        let instance = InstanceId::parse(&format!("i-01f5d046c86e4f3{number:02}")).unwrap();
        self.machine(sim, dice, &instance);
        let mut spec = draw_spec(dice, name.clone(), instance.clone());
        let mut spare = None;
        if dice.one_in(4) {
            let other = InstanceId::parse(&format!("i-0abc123def4560{number:02}")).unwrap();
            self.machine(sim, dice, &other);
            // Named as the target, so that a broken worker finds it.
            sim.set_secret(name.as_str(), &instance);
            let (secret, key) = (name.to_string(), "INSTANCE".to_owned());
            spec.ec2.instance = InstanceRef::Secret { secret, key };
            spare = Some(other);
        }
        self.fleet.targets.insert(name.clone(), spec);
        self.members.push(Member { name, instance, spare });
    }

    fn machine(&mut self, sim: &Sim, dice: &mut Dice, id: &InstanceId) {
        let mut behaviour = json!({});
        let mut unit = json!({});
        if self.may_fail && dice.one_in(2) {
            behaviour = match dice.roll(5) {
                0 => json!({"no_capacity": true}),
                1 => json!({"bounce": "5s"}),
                2 => json!({"agent_never": true}),
                // Late, and as good as never.
                3 => json!({"boot": "100s", "agent": "90s"}),
                _ => json!({"boot": "1h"}),
            };
        }
        if self.may_fail && dice.one_in(3) {
            unit = json!({"after_boot": "failed"});
        }
        let runs = dice.one_in(6);
        let state = if runs { MachineState::Running } else { MachineState::Stopped };
        let seeded: MachineSeed = serde_json::from_value(json!({
            "id": id, "units": {"positionkeeper": unit}, "behaviour": behaviour, "state": state
        }))
        .unwrap();
        sim.with_world(|world, now| world.seed_machine(now, &seeded));
        let never = self.may_fail && dice.one_in(4);
        sim.set_health(id, Health { after: dice.seconds(0, 30), never });
        self.machines.insert(id.clone());
    }

    /// What schedules ask of the first target.
    fn rules(&mut self) {
        let Some(first) = self.members.first().map(|member| member.name.clone()) else { return };
        let rule = |body: serde_json::Value| {
            let parsed = lamplighter_events::parse(
                &body.to_string(),
                &BTreeMap::new(),
                &BTreeMap::<String, Command>::new(),
            );
            match parsed {
                Ok(lamplighter_events::Inbound::Command(command)) => command,
                other => panic!("a rule's command is one: {other:?}"),
            }
        };
        let night = rule(json!({"action": Action::Kill.as_str(), "target": first.as_str()}));
        let morning = rule(json!({
            "action": Action::Start.as_str(), "target": first.as_str(),
            "holder": MORNING, "for": "90s"
        }));
        debug_assert_eq!(night.target, Some(TargetRef::Name(first)));
        self.fleet.rules.insert(NIGHTLY.to_owned(), night);
        self.fleet.rules.insert(MORNING.to_owned(), morning);
    }
}

fn draw_spec(dice: &mut Dice, name: TargetName, instance: InstanceId) -> TargetSpec {
    let mut spec = spec();
    spec.name = name;
    spec.ec2.instance = InstanceRef::Id(instance);
    spec.exclusive = dice.one_in(4);
    spec.keep_failed = dice.one_in(4);
    if dice.one_in(2) {
        spec.ec2.systemd_unit = None;
    } else if dice.one_in(3) {
        spec.unit_check_every() = Some(HumanDuration::parse("30s").unwrap());
    }
    if dice.one_in(4) {
        let url = HealthUrl::parse("http://{private_ip}:8000/health").unwrap();
        spec.health = Some(url);
    }
    if dice.one_in(8) {
        spec.max_hold = Some(HumanDuration::parse("10m").unwrap());
    }
    spec
}
