//! Who and what a crowd consists of: machines and services with their moods, targets, rules, all drawn from
//! a seed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use lamplighter_cloud::queue::Disorder;
use lamplighter_cloud::services::ScalingSeed;
use lamplighter_cloud::{MachineSeed, MachineState, ServiceBehaviour, ServiceSeed, Timings};
use lamplighter_events::{Action, Command, InstanceId, TargetName, TargetRef};
use lamplighter_lifecycle::{
    Bounds, HealthUrl, InstanceRef, InstanceSpec, Place, Resource, ServiceId, ServiceSpec,
    TargetSpec, Timings as Patience, UnitName,
};
use lamplighter_runtime::Fleet;
use serde_json::json;

use super::{Dice, policies};
use crate::checker::Policy;
use crate::crowd::lengths::long;
use crate::world::{Health, INSTANCE, Sim};

/// The rule whose tick kills the first target.
pub(super) const NIGHTLY: &str = "nightly";
/// The rule whose tick wants the first target on for a while.
pub(super) const MORNING: &str = "morning";
/// The rule whose tick asks every target whether it is idle.
pub(super) const IDLE_CHECK: &str = "idle-check";
/// The zone that is impaired where one is.
pub(super) const ZONE_AT_RISK: &str = "b";
/// Where the services are.
const CLUSTER: &str = "prod";

/// A machine that quick tests use, with the spec of seed 000.
pub fn spec() -> TargetSpec {
    TargetSpec {
        name: TargetName::parse("position-keeper").unwrap(),
        place: Place::Instance(InstanceSpec {
            instance: InstanceRef::Id(InstanceId::parse(INSTANCE).unwrap()),
            systemd_unit: Some(UnitName::parse("positionkeeper").unwrap()),
            unit_check_every: None,
        }),
        health: None,
        timings: Patience {
            start_timeout: long("2m"),
            settle: long("10s"),
            ready_timeout: long("2m"),
            health_timeout: long("3m"),
            stop_timeout: long("5m"),
            poll: long("5s"),
        },
        log_group: None,
        exclusive: true,
        max_hold: None,
        keep_failed: false,
        idle: None,
        hours: None,
    }
}

/// A service that quick tests use, with the names of seed 001.
pub fn service_spec() -> TargetSpec {
    let mut spec = spec();
    let service = ServiceId::parse(CLUSTER, "web").unwrap();
    spec.name = TargetName::parse("fluidity").unwrap();
    spec.place = Place::Service(ServiceSpec { service, desired: 1, healthy: false, also: vec![] });
    spec.exclusive = false;
    spec.timings.settle = long("1s");
    spec
}

/// One target of a crowd.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) name: TargetName,
    /// What the fleet names now.
    pub(super) resource: Resource,
    /// Where it may move: its machine is named by a secret.
    pub(super) spare: Option<InstanceId>,
    /// Application Auto Scaling minds it.
    pub(super) scales: bool,
}

/// What a seed draws before anything happens.
pub(super) struct Cast {
    pub(super) members: Vec<Member>,
    pub(super) fleet: Fleet,
    pub(super) resources: BTreeSet<Resource>,
    pub(super) may_fail: bool,
    /// In quiet times the fleet is asked this often whether it is idle.
    pub(super) ticks_every: SignedDuration,
}

/// When a crowd's story begins: mostly on some morning, sometimes just before the clocks of Berlin change.
pub(super) fn beginning(dice: &mut Dice) -> Timestamp {
    let time = match dice.roll(6) {
        0 => "2026-03-29T00:45:00Z",
        1 => "2026-10-25T00:40:00Z",
        _ => "2026-11-20T10:00:00Z",
    };
    time.parse().unwrap()
}

/// One world in ten shows what was so up to a minute ago, and goes back and forth.
pub(super) fn describes_go_back(sim: &Sim, dice: &mut Dice) {
    if !dice.one_in(10) {
        return;
    }
    let lag = dice.seconds(5, 60);
    sim.with_world(|world, _| {
        world.timings.describe_lag = lag;
        world.describes_go_back = true;
    });
}

pub(super) fn timings(dice: &mut Dice) -> Timings {
    // In some worlds points take a while, and some longer than others; what is more than a minute, policies know.
    let (metric_lag, metric_scatter) = match dice.roll(4) {
        0 | 1 => (SignedDuration::ZERO, SignedDuration::ZERO),
        2 => (dice.seconds(0, 40), dice.seconds(0, 20)),
        _ => (dice.seconds(40, 120), dice.seconds(1, 60)),
    };
    Timings {
        boot: dice.seconds(1, 40),
        stop: dice.seconds(1, 20),
        agent: dice.seconds(1, 10),
        invocation: dice.seconds(0, 2),
        describe_lag: if dice.one_in(2) { SignedDuration::ZERO } else { dice.seconds(0, 3) },
        placement: dice.seconds(0, 4),
        task_start: dice.seconds(1, 40),
        task_stop: dice.seconds(1, 30),
        scaling: dice.seconds(1, 20),
        metric_lag,
        metric_scatter,
        ..Timings::default()
    }
}

impl Cast {
    pub(super) fn draw(sim: &Sim, dice: &mut Dice) -> Self {
        let may_fail = dice.one_in(4);
        let mut cast = Self {
            members: Vec::new(),
            fleet: Fleet::default(),
            resources: BTreeSet::new(),
            may_fail,
            ticks_every: dice.seconds(50, 160),
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
        describes_go_back(sim, dice);
        // AWS's signals never come, or only those of some services.
        for service in ["ec2", "ssm", "ecs"] {
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
        let (mut spec, member) = match dice.roll(5) {
            0..3 => self.enlist_machine(sim, dice, name, number),
            _ => self.enlist_service(sim, dice, name, number),
        };
        let backs = [Some(&member.resource).cloned(), member.spare.clone().map(Resource::Instance)];
        if !dice.one_in(3) {
            spec.idle = Some(policies::idleness(sim, dice, backs.iter().flatten()));
        }
        let mut windows = Vec::new();
        if dice.one_in(3) {
            let (hours, drawn) = policies::office_hours(dice, sim.true_now());
            (spec.hours, windows) = (Some(hours), drawn);
        }
        let policy = Policy { spec: spec.clone(), windows, ticks_every: self.ticks_every };
        sim.inspect(|state| state.watch.set_policy(policy));
        self.fleet.targets.insert(member.name.clone(), spec);
        self.members.push(member);
    }

    fn enlist_machine(
        &mut self,
        sim: &Sim,
        dice: &mut Dice,
        name: TargetName,
        number: u64,
    ) -> (TargetSpec, Member) {
        let id = InstanceId::parse(&format!("i-01f5d046c86e4f3{number:02}")).unwrap();
        self.machine(sim, dice, &id);
        let mut instance = InstanceRef::Id(id.clone());
        let mut spare = None;
        if dice.one_in(4) {
            let other = InstanceId::parse(&format!("i-0abc123def4560{number:02}")).unwrap();
            self.machine(sim, dice, &other);
            // Named as the target, so that a broken worker finds it.
            sim.set_secret(name.as_str(), &id);
            instance = InstanceRef::Secret { secret: name.to_string(), key: "INSTANCE".to_owned() };
            spare = Some(other);
        }
        let spec = draw_spec(dice, name.clone(), instance);
        (spec, Member { name, resource: Resource::Instance(id), spare, scales: false })
    }

    fn enlist_service(
        &mut self,
        sim: &Sim,
        dice: &mut Dice,
        name: TargetName,
        number: u64,
    ) -> (TargetSpec, Member) {
        let id = ServiceId::parse(CLUSTER, &format!("web-{number}")).unwrap();
        let runs = dice.one_in(4);
        let desired = 1 + dice.roll(2) as i64;
        let scales = dice.one_in(2);
        let bounds = scales.then(|| Bounds {
            // One that is off at first is not pulled up.
            min: if runs { dice.roll(2) as i64 } else { 0 },
            max: 2 + dice.roll(3) as i64,
        });
        let behaviour = match self.may_fail && dice.one_in(2) {
            true => service_trouble(dice),
            false => ServiceBehaviour::default(),
        };
        let seed = ServiceSeed {
            cluster: CLUSTER.to_owned(),
            name: id.service().to_owned(),
            desired: if runs { desired as u32 } else { 0 },
            health_check: dice.one_in(3),
            circuit_breaker: dice.one_in(3),
            scaling: bounds.map(|it| ScalingSeed { min: it.min as u32, max: it.max as u32 }),
            behaviour,
            ..ServiceSeed::default()
        };
        sim.with_world(|world, now| world.seed_service(now, &seed));
        if let Some(bounds) = bounds {
            sim.inspect(|state| state.watch.bounds_at_first(&id, bounds));
        }
        let mut spec = service_spec();
        spec.name = name.clone();
        let healthy = seed.health_check && dice.one_in(2);
        spec.place =
            Place::Service(ServiceSpec { service: id.clone(), desired, healthy, also: vec![] });
        spec.exclusive = dice.one_in(4);
        spec.keep_failed = dice.one_in(4);
        if dice.one_in(8) {
            spec.max_hold = Some(long("10m"));
        }
        let resource = Resource::Service(id);
        self.resources.insert(resource.clone());
        (spec, Member { name, resource, spare: None, scales })
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
        let zone = if id.as_str().ends_with(['1', '3']) { ZONE_AT_RISK } else { "a" };
        let seeded: MachineSeed = serde_json::from_value(json!({
            "id": id, "units": {"positionkeeper": unit}, "behaviour": behaviour, "state": state,
            "zone": zone
        }))
        .unwrap();
        sim.with_world(|world, now| world.seed_machine(now, &seeded));
        let never = self.may_fail && dice.one_in(4);
        let resource = Resource::Instance(id.clone());
        sim.set_health(&resource, Health { after: dice.seconds(0, 30), never });
        self.resources.insert(resource);
    }

    /// What schedules ask of the first target, and of all.
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
        let check = rule(json!({"action": Action::CheckIdle.as_str()}));
        self.fleet.rules.insert(IDLE_CHECK.to_owned(), check);
    }
}

/// What can be wrong with a service.
pub(super) fn service_trouble(dice: &mut Dice) -> ServiceBehaviour {
    let fails = "ResourceInitializationError: unable to pull secrets";
    match dice.roll(6) {
        0 => ServiceBehaviour { no_image: true, ..ServiceBehaviour::default() },
        1 => ServiceBehaviour { no_capacity: true, ..ServiceBehaviour::default() },
        2 => ServiceBehaviour { never_settles: true, ..ServiceBehaviour::default() },
        3 => ServiceBehaviour { fails_to_start: Some(fails.into()), ..ServiceBehaviour::default() },
        4 => ServiceBehaviour { never_healthy: true, ..ServiceBehaviour::default() },
        _ => ServiceBehaviour {
            exits_after: Some(dice.seconds(2, 60)),
            ..ServiceBehaviour::default()
        },
    }
}

fn draw_spec(dice: &mut Dice, name: TargetName, instance: InstanceRef) -> TargetSpec {
    let mut spec = spec();
    spec.name = name;
    spec.exclusive = dice.one_in(4);
    spec.keep_failed = dice.one_in(4);
    let mut systemd_unit = Some(UnitName::parse("positionkeeper").unwrap());
    let mut unit_check_every = None;
    if dice.one_in(2) {
        systemd_unit = None;
    } else if dice.one_in(3) {
        unit_check_every = Some(long("30s"));
    }
    spec.place = Place::Instance(InstanceSpec { instance, systemd_unit, unit_check_every });
    if dice.one_in(4) {
        let url = HealthUrl::parse("http://{private_ip}:8000/health").unwrap();
        spec.health = Some(url);
    }
    if dice.one_in(8) {
        spec.max_hold = Some(long("10m"));
    }
    spec
}
