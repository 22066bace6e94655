//! A crowd of requests: machines that are launched, bootstrapped and ended, by workers whose every call may fail.
//!
//! *Theory.* Two templates: `walrus` (one machine for each blob, with a bootstrap) and `gpu` (spot, in two subnets,
//! none). People create, destroy and hold; EC2 has no room, takes spot machines back, and does not know what it has
//! just launched; somebody terminates at the console; agents never come; bootstraps fail and hang. Afterwards no
//! machine is left that no record minds, nobody's was launched twice, and no limit was ever passed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use lamplighter_cloud::launch_templates::{LaunchTemplateSeed, TemplateData};
use lamplighter_cloud::launches::{Scarce, Shortage, TemplateRef};
use lamplighter_cloud::queue::Disorder;
use lamplighter_cloud::{Behaviour, Timings};
use lamplighter_events::{Action, Command, CommandId, InstanceId, TargetName};
use lamplighter_lifecycle::{
    Bootstrap, Market, Parameter, Pattern, Place as Kind, Resource, TargetSpec, TemplateSpec,
};
use lamplighter_runtime::{Fleet, WorkerOptions};
use serde_json::{Value, json};

use super::{COMMANDS_MAX, Dice, LAST_WORD, Play, Report, SLOTS, cast, spec, unrest};
use crate::checker::{Ending, Said};
use crate::crowd::lengths::long;
use crate::fault::Chaos;
use crate::launched::token_of;
use crate::staff::{Place, run};
use crate::tale;
use crate::world::Sim;

/// A signature's life, a look at what is off, some sweeps; and the longest start, which may begin with a hold.
const REPAIR_BOUND: Duration = Duration::from_secs(50 * 60);
/// How many finished commands are sent once more in the end.
const REPLAYS: usize = 6;
const OWNER: &str = "commands";
const WALRUS: &str = "lt-0123456789abcdef0";
const GPU: &str = "lt-0123456789abcdef1";
const SUBNETS: [&str; 2] = ["subnet-0a", "subnet-0b"];

/// The template of seed 004.
pub fn walrus_spec() -> TargetSpec {
    let parameter = |pattern: &str| Parameter {
        pattern: Pattern::parse(pattern).unwrap(),
        required: false,
        default: None,
    };
    let mut spec = spec();
    spec.name = TargetName::parse("walrus").unwrap();
    spec.exclusive = false;
    spec.timings.start_timeout = long("300s");
    spec.timings.ready_timeout = long("300s");
    spec.timings.settle = long("1ms");
    spec.place = Kind::Template(Box::new(TemplateSpec {
        template: spec.name.clone(),
        owner: OWNER.to_owned(),
        launch_template: WALRUS.to_owned(),
        version: "$Default".to_owned(),
        subnets: Vec::new(),
        instance_types: Vec::new(),
        market: Market::OnDemand,
        tags: BTreeMap::new(),
        name_prefix: "walrus-vm".to_owned(),
        wait_for_public_ip: true,
        limit: 2,
        max_lifetime: None,
        keep_failed_for: None,
        // DynamoDB deletes days late, so in a crowd's hour never: what has expired is still read.
        retention: long("10m"),
        dedupe: Some("blob_id".to_owned()),
        parameters: BTreeMap::from([
            ("blob_id".to_owned(), parameter("[a-z0-9]{1,20}")),
            ("object_id".to_owned(), parameter("[a-z0-9]{1,20}")),
        ]),
        one_of: vec!["blob_id".to_owned(), "object_id".to_owned()],
        bootstrap: Some(Bootstrap::Script {
            name: "walrus".to_owned(),
            script: "exit 0".to_owned(),
            check: String::new(),
        }),
        bootstrap_timeout: long("150s"),
        systemd_unit: None,
        unit_check_every: None,
        price_per_hour_millionths: None,
    }));
    spec
}

/// A machine that is launched from it, in a world that has its launch template.
pub fn seed_walrus(sim: &Sim, data: TemplateData) {
    seed_template(sim, WALRUS, "walrus", data);
}

fn seed_template(sim: &Sim, id: &str, name: &str, data: TemplateData) {
    let seed = LaunchTemplateSeed {
        id: id.to_owned(),
        name: name.to_owned(),
        versions: BTreeMap::from([(1, data)]),
        ..LaunchTemplateSeed::default()
    };
    sim.with_world(|world, now| world.seed_launch_template(now, &seed));
}

fn gpu_spec(dice: &mut Dice) -> TargetSpec {
    let mut spec = walrus_spec();
    spec.name = TargetName::parse("gpu").unwrap();
    if let Kind::Template(template) = &mut spec.place {
        template.template = spec.name.clone();
        template.launch_template = GPU.to_owned();
        template.subnets = SUBNETS.map(ToOwned::to_owned).to_vec();
        template.market = [Market::Spot, Market::SpotThenOnDemand][dice.roll(2) as usize];
        template.dedupe = None;
        template.one_of.clear();
        template.bootstrap = None;
        template.wait_for_public_ip = false;
        template.limit = 1 + dice.roll(3) as u32;
    }
    spec
}

/// What can be wrong with what is launched.
fn trouble(dice: &mut Dice) -> Behaviour {
    let mut behaviour = Behaviour::default();
    match dice.roll(7) {
        0 => behaviour.agent_never = true,
        1 => behaviour.bootstrap_exit = Some(22),
        2 => behaviour.bootstrap_hangs = true,
        3 => behaviour.bounce = Some(SignedDuration::from_secs(5)),
        4 => behaviour.boot = Some(SignedDuration::from_hours(1)),
        5 => behaviour.bootstrap = Some(SignedDuration::from_secs(200)),
        _ => behaviour.public_ip_after = Some(SignedDuration::from_secs(100)),
    }
    behaviour
}

struct Requests {
    seed: u64,
    sim: Sim,
    dice: Dice,
    fleet: Arc<Fleet>,
    places: Vec<Place>,
    ending: Ending,
    sent: Vec<Value>,
    story: Vec<(jiff::Timestamp, String)>,
    loud: bool,
    may_fail: bool,
    console: bool,
}

/// Plays the crowd of a seed.
pub fn play_requests(seed: u64, how: Play) -> Report {
    run(|| async move {
        let mut crowd = Requests::new(seed, how);
        crowd.live().await;
        crowd.end().await
    })
}

impl Requests {
    fn new(seed: u64, how: Play) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x2545_F491_4F6C_DD1D));
        let not_found_for = match dice.one_in(2) {
            true => SignedDuration::ZERO,
            false => dice.seconds(0, 20),
        };
        let timings = Timings { not_found_for, ..cast::timings(&mut dice) };
        let sim = Sim::new(seed, timings);
        sim.break_it(how.breakage);
        if how.loud {
            sim.set_loud();
        }
        let may_fail = dice.one_in(3);
        for (id, name) in [(WALRUS, "walrus"), (GPU, "gpu")] {
            let behaviour = match may_fail && dice.one_in(2) {
                true => trouble(&mut dice),
                false => Behaviour::default(),
            };
            seed_template(&sim, id, name, TemplateData { behaviour, ..TemplateData::default() });
        }
        let mut walrus = walrus_spec();
        if may_fail && dice.one_in(3) {
            walrus.keep_failed = true;
            if let Kind::Template(template) = &mut walrus.place {
                template.keep_failed_for = Some(long("10m"));
            }
        }
        let gpu = gpu_spec(&mut dice);
        let limits = [&walrus, &gpu].map(|spec| {
            let limit = spec.template().map_or(0, |template| template.limit);
            (spec.name.clone(), limit as usize)
        });
        sim.inspect(|state| {
            state.watch.may_fail = may_fail;
            state.watch.limit_slots(SLOTS);
            state.watch.describe_lag = state.world.timings.describe_lag;
            state.watch.limit_machines(OWNER, limits);
        });
        if dice.one_in(2) {
            sim.with_world(|world, _| {
                world.queues.disorder = Disorder { shuffle: true, duplicate_per_mille: 100 };
            });
        }
        if dice.one_in(2) {
            sim.set_index_lag(dice.seconds(0, 3));
        }
        cast::describes_go_back(&sim, &mut dice);
        for service in ["ec2", "ssm"] {
            if dice.one_in(5) {
                sim.with_world(|world, _| {
                    let rule = world.bus.rule_mut("default", service);
                    rule.expect("the rule is there").enabled = false;
                });
            }
        }
        sim.with_world(|world, _| world.deliveries.unrest = unrest(&mut Dice(!seed)));
        let templates = [walrus, gpu].into_iter().map(|spec| (spec.name.clone(), spec)).collect();
        let console = dice.one_in(3);
        Self {
            seed,
            sim,
            dice,
            fleet: Arc::new(Fleet { templates, ..Fleet::default() }),
            places: Vec::new(),
            ending: Ending::default(),
            sent: Vec::new(),
            story: Vec::new(),
            loud: how.loud,
            may_fail,
            console,
        }
    }

    fn tell(&mut self, what: impl Into<String>) {
        let (at, what) = (self.sim.true_now(), what.into());
        if self.loud {
            println!("{at:.3} {what}");
        }
        self.story.push((at, what));
    }

    /// Sends a command, and remembers to which target it goes.
    fn say(&mut self, action: Action, holder: &str, more: &Value) {
        let id = format!("c{:03}", self.ending.said.len());
        let mut body = json!({"action": action.as_str(), "id": id, "holder": holder});
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        let command = Command::from_json(&body).expect("it is one");
        let id = CommandId::parse(&id).unwrap();
        let target = match action {
            Action::Create => self.fleet.address_create(&command, &id).map(|it| it.name.clone()),
            _ => {
                let owner = match &command.target {
                    Some(lamplighter_events::TargetRef::Instance(it)) => self.owner_of(it),
                    _ => None,
                };
                self.fleet.address(&command, owner.as_ref()).map(|it| it.name.clone())
            }
        };
        let Ok(target) = target else { return };
        let delay = self.dice.one_in(5).then(|| self.dice.roll(15) as i64);
        self.tell(format!(
            "{body} ({target}{})",
            delay.map(|s| format!(", {s} s")).unwrap_or_default()
        ));
        self.sim.say_with(&body.to_string(), &BTreeMap::new(), delay);
        self.sent.push(body);
        if self.fleet.spec(&target).is_some_and(|spec| spec.keep_failed) {
            self.ending.keep_failed.insert(target.clone());
        }
        self.ending.said.push(Said {
            id,
            target,
            action,
            holder: holder.to_owned(),
            hold_for: command.hold_for.map(|long| long.as_signed()),
            sent: vec![self.sim.true_now()],
        });
    }

    fn owner_of(&self, instance: &InstanceId) -> Option<TargetName> {
        let resource = Resource::Instance(instance.clone());
        let owner = |record: &&lamplighter_lifecycle::TargetRecord| record.resource == resource;
        self.sim.inspect(|state| state.table.records().find(owner).map(|it| it.target.clone()))
    }

    /// One of the targets that somebody has asked for.
    fn some_target(&mut self) -> Option<TargetName> {
        let all: BTreeSet<TargetName> =
            self.ending.said.iter().map(|it| it.target.clone()).collect();
        let at = self.dice.roll(all.len().max(1) as u64) as usize;
        all.into_iter().nth(at)
    }

    /// A machine that some record has, and what it is launched from.
    fn some_machine(&mut self) -> Option<(InstanceId, bool)> {
        let all: Vec<(InstanceId, bool)> = self.sim.inspect(|state| {
            let machines = state.table.records().filter_map(|it| it.resource.instance().cloned());
            let spot = |id: &InstanceId| {
                let launch = state.world.machines.get(id.as_str()).and_then(|it| it.launch.clone());
                launch.is_some_and(|launch| launch.spot)
            };
            machines.map(|id| (id.clone(), spot(&id))).collect()
        });
        let at = self.dice.roll(all.len().max(1) as u64) as usize;
        all.into_iter().nth(at)
    }

    fn somebody_acts(&mut self) {
        let holder = ["ann", "bob", "cyd"][self.dice.roll(3) as usize];
        let long = [None, None, Some("90s"), Some("4m")][self.dice.roll(4) as usize];
        let mut more = json!({});
        if let Some(long) = long {
            more["for"] = json!(long);
        }
        match self.dice.roll(120) {
            0..45 => {
                match self.dice.roll(6) {
                    0..3 => {
                        more["template"] = json!("walrus");
                        more["blob_id"] = json!(format!("blob{}", self.dice.roll(3)));
                    }
                    3 => {
                        more["template"] = json!("walrus");
                        more["object_id"] = json!("0xff");
                    }
                    _ => more["template"] = json!("gpu"),
                }
                self.say(Action::Create, holder, &more);
            }
            45..70 => {
                let Some(target) = self.some_target() else { return };
                let action = match self.dice.roll(8) {
                    0..3 => Action::Destroy,
                    3..5 => Action::Stop,
                    5 => Action::Kill,
                    6 => Action::Start,
                    _ => Action::Status,
                };
                let mut more = json!({"target": target.as_str()});
                if let (Action::Start, Some(long)) = (action, long) {
                    more["for"] = json!(long);
                }
                self.say(action, holder, &more);
            }
            70..76 => {
                let Some((machine, _)) = self.some_machine() else { return };
                self.say(Action::Destroy, holder, &json!({"instance_id": machine.as_str()}));
            }
            76..82 if !self.sent.is_empty() => {
                let again = self.dice.roll(self.sent.len() as u64) as usize;
                let body = self.sent[again].clone();
                self.tell(format!("again: {body}"));
                self.sim.say(&body);
                let now = self.sim.true_now();
                let said = self.ending.said.iter_mut().find(|it| body["id"] == it.id.as_str());
                said.expect("it was sent before").sent.push(now);
            }
            82..90 => {
                let place = self.dice.roll(self.places.len() as u64) as usize;
                match self.dice.one_in(3) {
                    true => self.places[place].deploy(),
                    false => self.places[place].kill(),
                }
                self.tell(format!("the worker in place {place} goes"));
            }
            90..96 if self.console => self.somebody_at_the_console(),
            96..104 => {
                let Some((machine, true)) = self.some_machine() else { return };
                if self.sim.with_world(|world, now| world.interrupt_spot(now, machine.as_str())) {
                    self.tell(format!("EC2 takes {machine} back"));
                }
            }
            104..112 => self.room_changes(),
            112..116 if self.may_fail => {
                let which = [WALRUS, GPU][self.dice.roll(2) as usize];
                let behaviour = match self.dice.one_in(2) {
                    true => Behaviour::default(),
                    false => trouble(&mut self.dice),
                };
                self.tell(format!("{which}: {behaviour:?}"));
                self.sim.with_world(|world, _| {
                    let template = world.launch_templates.get_mut(&TemplateRef::new(which));
                    let versions = &mut template.expect("it is there").versions;
                    versions.get_mut(&1).expect("it is there").data.behaviour = behaviour;
                });
            }
            _ => {}
        }
    }

    fn somebody_at_the_console(&mut self) {
        let Some((machine, _)) = self.some_machine() else { return };
        let ids = [machine.to_string()];
        let stop = self.dice.one_in(3);
        let changed = self.sim.with_world(|world, now| match stop {
            true => world.stop_machines(now, &ids, false),
            false => world.terminate_machines(now, &ids, false),
        });
        if changed.is_ok_and(|it| it.iter().any(|it| it.previous != it.current)) {
            self.tell(format!("console: {} {machine}", if stop { "stop" } else { "terminate" }));
            let (now, resource) = (self.sim.true_now(), Resource::Instance(machine));
            self.sim.inspect(|state| state.watch.stopped_by_somebody(&resource, now));
        }
    }

    /// EC2 has no room here or there, for a while; in fleets that may fail also for good.
    fn room_changes(&mut self) {
        let of = match self.dice.roll(4) {
            0 => Scarce::Spot,
            1 => Scarce::Subnet(SUBNETS[0].to_owned()),
            2 => Scarce::Subnet(SUBNETS[1].to_owned()),
            _ => Scarce::Everything,
        };
        let times = match self.may_fail && self.dice.one_in(4) {
            true => None,
            false => Some(1 + self.dice.roll(3) as u32),
        };
        let shortages = match self.dice.one_in(3) {
            true => Vec::new(),
            false => vec![Shortage { times, ..Shortage::of(of) }],
        };
        self.tell(format!("room: {shortages:?}"));
        self.sim.with_world(|world, _| world.launches.shortages = shortages);
    }

    async fn live(&mut self) {
        for _ in 0..2 + self.dice.roll(3) {
            let options = WorkerOptions { slots: SLOTS, ..WorkerOptions::default() };
            self.places.push(Place::open(&self.sim, &self.fleet, &options));
        }
        let minutes = 3 + self.dice.roll(8) as i64;
        let per_mille = [0, 20, 50, 100, 200][self.dice.roll(5) as usize];
        let deaths_per_mille = [0, 20, 100][self.dice.roll(3) as usize];
        let until = self.sim.true_now() + SignedDuration::from_mins(minutes);
        self.sim.unleash(Chaos { until, per_mille, deaths_per_mille });
        self.tell(format!("{per_mille} of 1000 calls fail until {until}"));
        let pause = [2, 10, 30, 60][self.dice.roll(4) as usize];
        while self.sim.true_now() < until && self.ending.said.len() < COMMANDS_MAX {
            let pause = 1 + self.dice.roll(pause * 2000);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.somebody_acts();
        }
        let left = until.duration_since(self.sim.true_now());
        tokio::time::sleep(Duration::try_from(left).unwrap_or(Duration::ZERO)).await;
        self.tell("the faults cease, and there is room");
        self.sim.with_world(|world, _| world.launches.shortages.clear());
        let calm = self.sim.true_now() + SignedDuration::from_mins(2);
        self.sim.inspect(|state| state.watch.calm(calm));
    }

    async fn end(mut self) -> Report {
        tokio::time::sleep(REPAIR_BOUND - Duration::try_from(LAST_WORD).unwrap()).await;
        self.ending.working = self.places.iter().filter_map(Place::working).collect();
        let mut findings = self.sim.check_the_end(&self.ending);
        if findings.is_empty() {
            findings = self.replay().await;
        }
        for place in self.places.drain(..) {
            let _ = tokio::time::timeout(Duration::from_secs(60), place.close()).await;
        }
        Report {
            seed: self.seed,
            findings,
            steps: self.sim.calls_made(),
            faults: self.sim.faults(),
            commands: self.ending.said.len(),
            tale: tale::tell(&self.story, &self.sim.calls()),
        }
    }

    async fn replay(&mut self) -> Vec<crate::rule::Finding> {
        let mut before = BTreeMap::new();
        let launched = self.launched();
        for _ in 0..REPLAYS.min(self.ending.said.len()) {
            let again = self.dice.roll(self.ending.said.len() as u64) as usize;
            let one = self.ending.said[again].clone();
            let body = self.sent.iter().find(|body| body["id"] == one.id.as_str()).cloned();
            let Some(command) = self.sim.command(one.id.as_str()) else { continue };
            let (Some(body), Some(outcome)) = (body, command.outcome) else { continue };
            self.tell(format!("replayed: {body}"));
            self.sim.say(&body);
            before.insert(one.id, outcome);
        }
        tokio::time::sleep(Duration::from_secs(90)).await;
        let mut findings = self.sim.check_the_replay(&before);
        // Those that ended an hour ago are forgotten meanwhile.
        if !self.launched().is_subset(&launched) {
            findings.push(crate::rule::Finding {
                rule: crate::rule::Rule::D10,
                at: self.sim.true_now(),
                what: "a replay of what was finished launched a machine".to_owned(),
            });
        }
        findings
    }

    fn launched(&self) -> BTreeSet<String> {
        self.sim.inspect(|state| {
            state.world.machines.iter().map(|it| token_of(it).to_owned()).collect()
        })
    }
}
