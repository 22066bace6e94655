//! What people, schedules and chance do in a crowd.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lamplighter_cloud::ServiceBehaviour;
use lamplighter_cloud::services::ServiceUpdate;
use lamplighter_events::{Action, CommandId, Tick};
use lamplighter_lifecycle::{Bounds, IdleOverride, ObservePlan, Resource, ServiceId, plan_probes};
use lamplighter_runtime::asked_message;
use serde_json::json;

use super::cast::{IDLE_CHECK, MORNING, NIGHTLY};
use super::{Crowd, cast};
use crate::backends::Trouble;
use crate::breakage::Breakage;
use crate::checker::Said;

impl Crowd {
    pub(super) fn somebody_acts(&mut self) {
        let target = self.dice.roll(self.members.len() as u64) as usize;
        let holder = ["ann", "bob", "cyd"][self.dice.roll(3) as usize];
        match self.dice.roll(190) {
            0..40 => {
                let long = match self.dice.roll(5) {
                    0 => Some("20s"),
                    1 => Some("90s"),
                    2 => Some("4m"),
                    _ => None,
                };
                self.say(Action::Start, target, holder, long);
            }
            40..65 => self.say(Action::Stop, target, holder, None),
            65..70 => self.say(Action::Kill, target, holder, None),
            70..75 => self.say(Action::Status, target, holder, None),
            75..78 => self.say(Action::Pause, target, holder, None),
            78..82 => self.say(Action::Resume, target, holder, None),
            82..88 if !self.sent.is_empty() => {
                let again = self.dice.roll(self.sent.len() as u64) as usize;
                let body = self.sent[again].clone();
                self.tell(format!("again: {body}"));
                self.sim.say(&body);
                let now = self.sim.true_now();
                let said = self.ending.said.iter_mut().find(|it| body["id"] == it.id.as_str());
                said.expect("it was sent before").sent.push(now);
            }
            88..94 => self.lose_a_worker(),
            94..100 if self.console => self.somebody_at_the_console(target),
            100..104 => self.a_schedule_ticks(),
            104..108 => self.old_news(target),
            108..111 => self.poison(),
            111..114 => self.the_machine_moves(target),
            114..116 if self.bad_clocks => {
                let ahead = self.dice.seconds(0, 56) - SignedDuration::from_secs(28);
                self.tell(format!("the clocks jump to {ahead:#}"));
                self.sim.jump_clocks(ahead);
            }
            116..118 => self.units_and_capacity(target),
            118..138 => self.somebody_uses_it(target),
            138..152 => self.say(Action::KeepAlive, target, holder, None),
            152..158 => self.somebody_checks(target, holder),
            158..174 => self.a_backend_changes(target),
            174..180 if self.console => self.somebody_scales(target),
            180..186 => self.somebody_probes(target),
            186..188 => self.metrics_lag(),
            _ => {}
        }
    }

    fn lose_a_worker(&mut self) {
        let place = self.dice.roll(self.places.len() as u64) as usize;
        self.set_clocks();
        if self.dice.one_in(3) {
            self.tell(format!("place {place} gets a new worker"));
            self.places[place].deploy();
        } else {
            self.tell(format!("the worker in place {place} is killed"));
            self.places[place].kill();
        }
    }

    fn somebody_at_the_console(&mut self, target: usize) {
        let resource = self.members[target].resource.clone();
        let Resource::Instance(instance) = &resource else { return self.somebody_scales(target) };
        let ids = [instance.to_string()];
        let start = self.dice.one_in(2);
        let changed = self.sim.with_world(|world, now| match start {
            true => world.start_machines(now, &ids, false),
            false => world.stop_machines(now, &ids, false),
        });
        if changed.is_ok_and(|it| it.iter().any(|it| it.previous != it.current)) {
            self.tell(format!("console: {} {instance}", if start { "start" } else { "stop" }));
            let now = self.sim.true_now();
            self.sim.inspect(|state| match start {
                true => state.watch.started_by_somebody(&resource, now),
                false => state.watch.stopped_by_somebody(&resource, now),
            });
        }
    }

    /// A tick that comes on time or late, once, twice or never; in an incident hours late, when it must do nothing any
    /// more.
    fn a_schedule_ticks(&mut self) {
        let mut now = self.sim.true_now();
        if self.forger.one_in(4) {
            now -= self.forger.seconds(40 * 60, 3 * 3600);
        }
        let (rule, action, holder) = match self.dice.one_in(3) {
            true => (NIGHTLY, Action::Kill, "default"),
            false => (MORNING, Action::Start, MORNING),
        };
        let tick = Tick { rule: rule.to_owned(), scheduled: now, command: None };
        let times = [0, 1, 1, 2][self.dice.roll(4) as usize];
        self.tell(format!("{rule} ticks {times} times"));
        for _ in 0..times {
            let delay = self.dice.one_in(3).then(|| self.dice.roll(60) as i64);
            self.sim.say_with(&tick.to_json().to_string(), &BTreeMap::new(), delay);
        }
        let id = tick.command_id();
        if times == 0 || self.ending.said.iter().any(|one| one.id == id) {
            return;
        }
        let target = self.members[0].name.clone();
        let hold_for = (action == Action::Start).then(|| SignedDuration::from_secs(90));
        self.ending.said.push(Said {
            id,
            hold_for: self.bounded(&target, hold_for),
            target,
            action,
            holder: holder.to_owned(),
            sent: vec![now],
        });
    }

    /// A signal of AWS's that says something that is no longer so.
    fn old_news(&mut self, target: usize) {
        let Resource::Instance(instance) = &self.members[target].resource else { return };
        let state = ["running", "stopping", "stopped"][self.dice.roll(3) as usize];
        let body = json!({
            "version": "0", "id": "00000000-0000-0000-0000-000000000001",
            "detail-type": "EC2 Instance State-change Notification", "source": "aws.ec2",
            "account": "000000000000", "time": "2026-11-20T10:00:00Z", "region": "eu-central-1",
            "resources": [], "detail": {"instance-id": instance, "state": state}
        });
        self.tell(format!("old news: {instance} {state}"));
        self.sim.say(&body);
    }

    fn poison(&mut self) {
        let number = self.dice.roll(u64::MAX);
        let body = match self.dice.roll(5) {
            0 => format!("poison {number}"),
            1 => {
                // Whoever brought an id is told by it.
                let id = format!("poison-{number}");
                self.ending.refused.insert(CommandId::parse(&id).unwrap());
                format!("{{\"action\":\"dance\",\"id\":\"{id}\"}}")
            }
            2 => format!("{{\"action\":\"dance\",\"reason\":\"{number}\"}}"),
            3 => format!("{{\"action\":\"start\",\"target\":\"nobody-{number}\"}}"),
            _ => format!("[{number}]"),
        };
        self.tell(format!("poison: {body}"));
        self.sim.say_raw(&body);
        self.sim.inspect(|state| state.watch.poison.insert(body));
    }

    /// The secret names another machine from now on.
    fn the_machine_moves(&mut self, target: usize) {
        let Some(spare) = self.members[target].spare.clone() else { return };
        let member = &mut self.members[target];
        let old = std::mem::replace(&mut member.resource, Resource::Instance(spare.clone()));
        member.spare = old.instance().cloned();
        let name = member.name.clone();
        self.tell(format!("{name} is {spare} from now on"));
        self.sim.set_secret(name.as_str(), &spare);
    }

    /// A unit dies or comes back; capacity comes back.
    fn units_and_capacity(&mut self, target: usize) {
        if !self.sim.inspect(|state| state.watch.may_fail) {
            return;
        }
        let what = self.dice.roll(3);
        let instance = match self.members[target].resource.clone() {
            Resource::Instance(instance) => instance,
            Resource::Launch(_) => return,
            Resource::Service(service) => {
                let behaviour = match what {
                    0 => cast::service_trouble(&mut self.dice),
                    _ => ServiceBehaviour::default(),
                };
                self.tell(format!("{service}: {behaviour:?}"));
                self.sim.with_world(|world, now| {
                    let (cluster, name) = (service.cluster(), service.service());
                    if what == 1 {
                        world.kill_tasks(now, cluster, name);
                    }
                    world.set_behaviour(now, cluster, name, behaviour)
                });
                return;
            }
        };
        self.tell(format!(
            "{instance}: {}",
            ["a unit dies", "a unit is repaired", "capacity"][what as usize]
        ));
        self.sim.with_world(|world, now| match what {
            0 => drop(world.kill_unit(now, instance.as_str(), "positionkeeper")),
            1 => drop(world.repair_unit(now, instance.as_str(), "positionkeeper")),
            _ => {
                if let Some(machine) = world.machines.get_mut(instance.as_str()) {
                    machine.behaviour.no_capacity = false;
                }
            }
        });
    }

    /// Until then the fleet is asked, now and then, whether it is idle; in quiet times on time, else as it
    /// comes: never, twice, late by minutes, or an hour late.
    pub(super) async fn ticks_until(&mut self, until: Timestamp, quiet: bool) {
        loop {
            let next = self.next_tick.min(until);
            let left = next.duration_since(self.sim.true_now());
            tokio::time::sleep(Duration::try_from(left).unwrap_or(Duration::ZERO)).await;
            if self.next_tick > until {
                return;
            }
            self.next_tick = self.sim.true_now() + self.ticks_every;
            self.the_fleet_is_asked(quiet);
            // In some fleets somebody looks again and again.
            if quiet && self.is_watched {
                for target in 0..self.members.len() {
                    self.somebody_probes(target);
                }
            }
            if quiet && self.sim.broken(Breakage::LooksAtOldHolds) {
                // What this one overlooks is whoever comes just after a tick; else that is a rare meeting.
                tokio::time::sleep(Duration::from_secs(4)).await;
                for target in 0..self.members.len() {
                    self.say(Action::Start, target, "late", Some("20s"));
                }
            }
        }
    }

    fn the_fleet_is_asked(&mut self, quiet: bool) {
        let now = self.sim.true_now();
        let (mut times, mut delay, mut scheduled) = (1, None, now);
        if !quiet {
            times = [0, 1, 1, 1, 2][self.dice.roll(5) as usize];
            delay = self.dice.one_in(4).then(|| self.dice.roll(120) as i64);
            if self.dice.one_in(8) {
                scheduled = now - SignedDuration::from_hours(1);
            }
        }
        let tick = Tick { rule: IDLE_CHECK.to_owned(), scheduled, command: None };
        let late = if scheduled < now { ", an hour late" } else { "" };
        self.tell(format!("{IDLE_CHECK} ticks {times} times{late}"));
        for _ in 0..times {
            self.sim.say_with(&tick.to_json().to_string(), &BTreeMap::new(), delay);
        }
        if times == 0 {
            return;
        }
        self.ending.said.push(Said {
            id: tick.command_id(),
            hold_for: None,
            target: self.members[0].name.clone(),
            action: Action::CheckIdle,
            holder: "default".to_owned(),
            sent: vec![now],
        });
    }

    /// A user comes to the backend, if it is there.
    fn somebody_uses_it(&mut self, target: usize) {
        let resource = self.members[target].resource.clone();
        let seconds = [0, 5, 30, 120][self.dice.roll(4) as usize];
        if !self.sim.is_up(&resource) {
            return;
        }
        let now = self.sim.true_now();
        let until = now + SignedDuration::from_secs(seconds);
        // Too much for its publisher, perhaps.
        let dies = self.dice.one_in(4);
        let used = self.sim.with_backend(&resource, |backend| {
            backend.silent |= dies;
            backend.use_it(now, until);
        });
        if used.is_some() {
            let dies = if dies { ", and its publisher dies" } else { "" };
            self.tell(format!("somebody uses {resource} for {seconds} s{dies}"));
        }
    }

    /// Somebody asks a target's probes by hand, and tells the workers of it, as `lamplighter probe` does.
    fn somebody_probes(&mut self, target: usize) {
        let member = &self.members[target];
        let (name, resource) = (member.name.clone(), member.resource.clone());
        let Some(spec) = self.fleet.targets.get(&name).filter(|it| it.idle.is_some()).cloned()
        else {
            return;
        };
        self.tell(format!("somebody probes {name}"));
        let sim = self.sim.for_worker();
        tokio::spawn(async move {
            let ports = sim.ports();
            let Ok(Some(record)) = ports.store.load(&name).await else { return };
            let plans = [ObservePlan::bare(resource.clone())];
            let seen = ports.cloud.observe(&plans).await;
            let Some(Ok(Ok(seen))) = seen.into_iter().next() else { return };
            let over = IdleOverride::default();
            let plan = plan_probes(&spec, &seen, &resource, &record.idle, over);
            let round = ports.cloud.probe(&plan.expect("it has a policy")).await;
            let _ = ports.queue.send(&asked_message(&name, &resource, &round)).await;
        });
    }

    /// CloudWatch is late by minutes.
    fn metrics_lag(&mut self) {
        let lag = self.dice.seconds(60, 600);
        self.tell(format!("metrics are {lag:#} late from now on"));
        self.sim.with_world(|world, _| {
            world.timings.metric_lag = lag;
            world.timings.metric_scatter = SignedDuration::ZERO;
        });
    }

    /// One target is asked, perhaps with a threshold of the caller's own.
    fn somebody_checks(&mut self, target: usize, holder: &str) {
        let own = self.dice.one_in(4);
        let more = if own { json!({"idle_threshold_mins": 1}) } else { json!({}) };
        if own {
            let (name, minute) = (self.members[target].name.clone(), SignedDuration::from_mins(1));
            self.sim.inspect(|state| state.watch.brought_threshold(&name, minute));
        }
        self.say_more(Action::CheckIdle, target, holder, None, &more);
    }

    /// It hangs, is unreachable, talks nonsense, says nothing more, or is well again.
    fn a_backend_changes(&mut self, target: usize) {
        let resource = self.members[target].resource.clone();
        let (what, sort) = (self.dice.roll(7), self.dice.roll(4));
        let changed = self.sim.with_backend(&resource, |backend| match what {
            0 => backend.trouble = Some(Trouble::Hangs),
            1 => backend.trouble = Some(Trouble::Unreachable),
            2 => backend.trouble = Some(Trouble::Garbage(sort)),
            3 => backend.silent = true,
            4 => backend.silent = false,
            _ => backend.trouble = None,
        });
        if changed.is_some() {
            let words = ["hangs", "is unreachable", "talks nonsense", "says nothing", "says all"];
            let word = words.get(what as usize).copied().unwrap_or("is well");
            self.tell(format!("the backend of {resource} {word}"));
        }
    }

    pub(super) fn backends_heal(&mut self) {
        let (lag, scatter) = self.metric_timings;
        let late = self.sim.with_world(|world, _| {
            let late = world.timings.metric_lag;
            world.timings.metric_lag = lag;
            world.timings.metric_scatter = scatter;
            late
        });
        let flows = self.sim.true_now() + late;
        self.sim.inspect(|state| state.watch.metrics_flow_from(flows));
        // Some publishers die later, and for good, while the backend is used on.
        let now = self.sim.true_now();
        for target in 0..self.members.len() {
            if !self.dice.one_in(3) {
                continue;
            }
            let dies = now + self.dice.seconds(60, 600);
            let until = dies + self.dice.seconds(60, 900);
            let resource = self.members[target].resource.clone();
            self.sim.with_backend(&resource, |backend| {
                backend.dies_at = Some(dies);
                backend.use_it(dies + SignedDuration::from_secs(5), until);
            });
            self.tell(format!("{resource} is used from {dies} until {until}, unpublished"));
        }
        // One can be reached no more, while it is used on.
        if self.forger.one_in(8) {
            let target = self.forger.roll(self.members.len() as u64) as usize;
            let from = now + self.forger.seconds(0, 300);
            let until = from + self.forger.seconds(60, 900);
            let resource = self.members[target].resource.clone();
            self.sim.with_backend(&resource, |backend| {
                backend.unreachable_from = Some(from);
                backend.use_it(from, until);
            });
            self.tell(format!("{resource} is unreachable from {from}, and used until {until}"));
        }
        for member in &self.members {
            let spare = member.spare.clone().map(Resource::Instance);
            for resource in [Some(member.resource.clone()), spare].into_iter().flatten() {
                self.sim.with_backend(&resource, |backend| {
                    backend.trouble = None;
                    backend.silent = false;
                });
            }
        }
    }

    /// Somebody sets a service's count, deploys it, or changes the bounds of its scaling.
    fn somebody_scales(&mut self, target: usize) {
        let member = &self.members[target];
        let (resource, scales) = (member.resource.clone(), member.scales);
        let Resource::Service(service) = &resource else { return };
        match self.dice.roll(6) {
            0..3 => self.somebody_counts(service, &resource),
            3 => {
                self.tell(format!("console: {service} is deployed"));
                let update = ServiceUpdate { force: true, ..ServiceUpdate::default() };
                let _ = self.sim.with_world(|world, now| {
                    world.update_service(now, service.cluster(), service.service(), &update)
                });
            }
            _ if scales => {
                let bounds =
                    Bounds { min: self.dice.roll(3) as i64, max: 2 + self.dice.roll(3) as i64 };
                self.tell(format!("console: {service} from {} to {}", bounds.min, bounds.max));
                self.sim.set_bounds(service, bounds);
                let now = self.sim.true_now();
                self.sim.inspect(|state| {
                    state.watch.bounds_by_somebody(service, bounds, now);
                    // What is off is pulled up by it.
                    if bounds.min > 0 {
                        state.watch.started_by_somebody(&resource, now);
                    }
                });
            }
            _ => {}
        }
    }

    fn somebody_counts(&mut self, service: &ServiceId, resource: &Resource) {
        let desired = self.dice.roll(3) as i64;
        let (cluster, name) = (service.cluster(), service.service());
        let update = ServiceUpdate { desired: Some(desired), ..ServiceUpdate::default() };
        let before = self.sim.with_world(|world, now| {
            let service = world.services.get(cluster, name).expect("it is there");
            let before = i64::from(service.view.desired);
            world.update_service(now, cluster, name, &update).expect("it is there");
            before
        });
        if before == desired {
            return;
        }
        self.tell(format!("console: {service} to {desired}"));
        let now = self.sim.true_now();
        self.sim.inspect(|state| match desired {
            0 => state.watch.stopped_by_somebody(resource, now),
            _ if before == 0 => state.watch.started_by_somebody(resource, now),
            _ => {}
        });
    }
}
