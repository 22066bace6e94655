//! Drills: one command, in a world where nothing else goes wrong, with faults at calls that are named by
//! their number.
//!
//! A drill without faults tells how many calls the command takes; every one of them is then struck, with
//! each sort of fault, alone and in pairs. Whatever was struck, the command must come to its end, the
//! machine must be where it was wanted, and [`crate::checker`] must find nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use lamplighter_cloud::launch_templates::TemplateData;
use lamplighter_cloud::services::ScalingSeed;
use lamplighter_cloud::{ServiceSeed, Timings};
use lamplighter_events::{Action, CommandId, HumanDuration, Verdict};
use lamplighter_lifecycle::{
    Bounds, CommandProbe, CommandReads, Condition, HealthUrl, HttpProbe, HttpReads, IdleSpec, Kind,
    MetricProbe, MetricReads, Missing, Phase, Probe, Resource, Statistic, TargetSpec,
};
use lamplighter_runtime::{Fleet, WorkerOptions};
use serde_json::json;

use crate::backends::{Backend, CONNECTIONS, Marks, NAMESPACE};
use crate::checker::{Ending, Policy, Said};
use crate::crowd::{seed_walrus, service_spec, spec, walrus_spec};
use crate::fault::Fault;
use crate::rule::{Finding, Rule};
use crate::staff::{Place, run};
use crate::tale;
use crate::world::Sim;

/// One seed is enough: what varies are the faults.
const SEED: u64 = 7;
/// In a drill nothing waits longer than a lost message's visibility and a few retries.
const PATIENCE: Duration = Duration::from_secs(400);
/// How often it is looked whether all is at rest.
const LOOK: Duration = Duration::from_secs(2);
/// Until a lost answer can no longer come true (15 min and the skew bound), and a look each minute has
/// found it so.
const AFTERMATH: Duration = Duration::from_secs(19 * 60);
/// Slots of the one worker.
const SLOTS: usize = 4;

/// In a drill of idleness the fleet is asked again this often, and so many times.
const AGAIN_EVERY: Duration = Duration::from_secs(60);
const AGAIN_TIMES: usize = 6;

/// One command to one sort of target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exercise {
    /// To a target of this kind.
    pub kind: Kind,
    /// Which.
    pub action: Action,
    /// It has an idle policy, and nobody uses it.
    pub idle: bool,
}

const fn of(kind: Kind, action: Action, idle: bool) -> Exercise {
    Exercise { kind, action, idle }
}

/// Every action that these kinds can do; where the kind makes no difference, to one of them.
pub const EXERCISES: [Exercise; 17] = [
    of(Kind::Instance, Action::Start, false),
    of(Kind::Instance, Action::Stop, false),
    of(Kind::Instance, Action::Kill, false),
    of(Kind::Instance, Action::Status, false),
    of(Kind::Instance, Action::CheckIdle, false),
    of(Kind::Instance, Action::Pause, false),
    of(Kind::Instance, Action::Resume, false),
    of(Kind::Instance, Action::CheckIdle, true),
    of(Kind::Instance, Action::KeepAlive, true),
    of(Kind::Service, Action::Start, false),
    of(Kind::Service, Action::Stop, false),
    of(Kind::Service, Action::Kill, false),
    of(Kind::Service, Action::Status, false),
    of(Kind::Service, Action::CheckIdle, true),
    of(Kind::Service, Action::Resume, false),
    of(Kind::Launched, Action::Create, false),
    of(Kind::Launched, Action::Destroy, false),
];

/// Those whose faults are tried in pairs: what changes something.
pub const IN_PAIRS: [Exercise; 9] = [
    of(Kind::Instance, Action::Start, false),
    of(Kind::Instance, Action::Stop, false),
    of(Kind::Instance, Action::Kill, false),
    of(Kind::Instance, Action::CheckIdle, true),
    of(Kind::Service, Action::Start, false),
    of(Kind::Service, Action::Stop, false),
    of(Kind::Service, Action::CheckIdle, true),
    of(Kind::Launched, Action::Create, false),
    of(Kind::Launched, Action::Destroy, false),
];

impl Exercise {
    /// For people.
    pub fn name(&self) -> String {
        let idle = if self.idle { "idle " } else { "" };
        format!("{} of an {idle}{}", self.action.as_str(), self.kind)
    }

    /// Whether it is on before the command comes, and after it.
    fn before_and_after(&self) -> (bool, bool) {
        match self.action {
            Action::Start | Action::Create => (false, true),
            Action::Stop | Action::Kill | Action::Destroy => (true, false),
            Action::CheckIdle if self.idle => (true, false),
            _ => (true, true),
        }
    }

    fn spec(&self) -> TargetSpec {
        let mut spec = match self.kind {
            Kind::Instance => spec(),
            Kind::Service => service_spec(),
            Kind::Launched => walrus_spec(),
        };
        if self.idle {
            spec.exclusive = false;
            spec.idle = Some(self.policy());
        }
        spec
    }

    /// One probe of each sort that this kind can have.
    fn policy(&self) -> IdleSpec {
        let http = |path: &str, reads| {
            Probe::Http(HttpProbe {
                url: HealthUrl::parse(&format!("http://backend.internal:8000/{path}")).unwrap(),
                pointer: "/it".to_owned(),
                reads,
                ignore_own: true,
            })
        };
        let last = match self.kind {
            Kind::Instance | Kind::Launched => Probe::Command(CommandProbe {
                script: "exit 0".to_owned(),
                reads: CommandReads::ExitCode,
                timeout_seconds: 20,
            }),
            Kind::Service => Probe::Metric(MetricProbe {
                namespace: NAMESPACE.to_owned(),
                name: CONNECTIONS.to_owned(),
                dimensions: BTreeMap::new(),
                statistic: Statistic::Maximum,
                period_seconds: 60,
                look_back: None,
                lag: HumanDuration::from_seconds(1).unwrap(),
                missing: Missing::Unknown,
                reads: MetricReads::IdleWhen(Condition::parse("== 0").unwrap()),
            }),
        };
        // A host's word counts from its first time; so it must not take long.
        let after = if self.kind == Kind::Instance { "5s" } else { "1m" };
        let mut idle = IdleSpec::after(HumanDuration::parse(after).unwrap());
        idle.probes = vec![http("last-activity", HttpReads::Epoch), last];
        idle
    }
}

/// What a drill came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What may never be, and was.
    pub findings: Vec<Finding>,
    /// How many calls were made since the command was sent, until all was at rest.
    pub calls: usize,
    /// How many calls were made in all.
    pub steps: usize,
    /// How many faults struck.
    pub faults: usize,
    /// All of it, in the order of time.
    pub tale: String,
}

/// How many calls a command takes when nothing goes wrong.
pub fn length(exercise: Exercise) -> usize {
    drill(exercise, &[]).calls
}

/// One command, with these faults at these calls, counted from its sending.
pub fn drill(exercise: Exercise, faults: &[(usize, Fault)]) -> Report {
    run(|| play(exercise, faults))
}

async fn play(exercise: Exercise, faults: &[(usize, Fault)]) -> Report {
    let sim = Sim::new(SEED, Timings::default());
    sim.inspect(|state| state.watch.limit_slots(SLOTS));
    let mut fleet = Fleet::default();
    let spec = exercise.spec();
    let target = match exercise.kind {
        Kind::Launched => {
            seed_walrus(&sim, TemplateData::default());
            sim.inspect(|state| state.watch.limit_machines("commands", [(spec.name.clone(), 1)]));
            let id = CommandId::parse("it").unwrap();
            let template = spec.template().expect("it is one");
            let parameters = BTreeMap::from([("blob_id".to_owned(), "blob".to_owned())]);
            let target = template.target_of(&id, &parameters).unwrap();
            fleet.templates.insert(spec.name.clone(), spec.clone());
            target
        }
        Kind::Instance | Kind::Service => {
            let resource = spec.resource().expect("it is named outright");
            prepare(&sim, &spec, &resource);
            fleet.targets.insert(spec.name.clone(), spec.clone());
            spec.name.clone()
        }
    };
    let options = WorkerOptions { slots: SLOTS, ..WorkerOptions::default() };
    let place = Place::open(&sim, &Arc::new(fleet), &options);
    let mut ending = Ending::default();
    ending.resources.extend(spec.resource());
    let mut say = |action: Action, id: &str| {
        let target = &target;
        let mut body = json!({"action": action.as_str(), "id": id, "holder": "ann"});
        match action {
            Action::Create => body["blob_id"] = json!("blob"),
            _ => body["target"] = json!(target.as_str()),
        }
        sim.say(&body);
        ending.said.push(Said {
            id: CommandId::parse(id).unwrap(),
            target: target.clone(),
            action,
            holder: "ann".to_owned(),
            hold_for: None,
            sent: vec![sim.true_now()],
        });
    };
    let (on_before, on_after) = exercise.before_and_after();
    if on_before {
        let request = exercise.kind == Kind::Launched;
        say(if request { Action::Create } else { Action::Start }, "before");
        rest(&sim).await;
    }
    if exercise.action == Action::Resume {
        say(Action::Pause, "pause");
        rest(&sim).await;
    }
    let ends_idle = exercise.idle && exercise.action == Action::CheckIdle;
    if ends_idle {
        published(&sim, AGAIN_EVERY * 2).await;
        // The first word of a host begins its count.
        say(Action::CheckIdle, "first");
        rest(&sim).await;
        published(&sim, Duration::from_secs(20)).await;
    }
    let first = sim.calls_made();
    for (number, fault) in faults {
        sim.plan(first + number, *fault);
    }
    say(exercise.action, "it");
    rest(&sim).await;
    let calls = sim.calls_made() - first;
    if ends_idle && !faults.is_empty() {
        // A reading that failed is no idleness: the next tick is to find it.
        for number in 0..AGAIN_TIMES {
            published(&sim, AGAIN_EVERY).await;
            say(Action::CheckIdle, &format!("again-{number}"));
        }
        rest(&sim).await;
    }
    if !faults.is_empty() {
        tokio::time::sleep(AFTERMATH).await;
    }
    let mut findings = match exercise.action {
        // A paused target is left alone, and that is all there is to say of it.
        Action::Pause => Vec::new(),
        _ => sim.check_the_end(&ending),
    };
    findings.extend(check(&sim, on_after));
    drop(place);
    Report {
        findings,
        calls,
        steps: sim.calls_made(),
        faults: sim.faults(),
        tale: tale::tell(&[], &sim.calls()),
    }
}

/// What the world needs for it.
fn prepare(sim: &Sim, spec: &TargetSpec, resource: &Resource) {
    if let Resource::Service(id) = resource {
        let seed = ServiceSeed {
            cluster: id.cluster().to_owned(),
            name: id.service().to_owned(),
            scaling: Some(ScalingSeed { min: 0, max: 3 }),
            ..ServiceSeed::default()
        };
        sim.with_world(|world, now| world.seed_service(now, &seed));
        sim.inspect(|state| state.watch.bounds_at_first(id, Bounds { min: 0, max: 3 }));
    }
    let (marks, ahead) = (Marks::After, SignedDuration::from_secs(40));
    sim.set_backend(resource, Backend::new(sim.true_now(), marks, ahead));
    // Nobody asks a target that is only kept alive.
    let ticks_every = SignedDuration::from_hours(1);
    let policy = Policy { spec: spec.clone(), windows: Vec::new(), ticks_every };
    sim.inspect(|state| state.watch.set_policy(policy));
}

/// Time passes, and what runs publishes its metrics.
async fn published(sim: &Sim, long: Duration) {
    let until = tokio::time::Instant::now() + long;
    while tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_secs(20)).await;
        sim.publish();
    }
}

/// Until the last command has its outcome and nothing is under way.
async fn rest(sim: &Sim) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while tokio::time::Instant::now() < until {
        tokio::time::sleep(LOOK).await;
        let open = sim.inspect(|state| {
            let open = state.table.commands.values().any(|command| command.outcome.is_none());
            let busy = state.table.records().any(|record| {
                !record.open.is_empty() || record.doing.is_some() || !record.outbox.is_empty()
            });
            open || busy || state.table.commands.is_empty()
        });
        if !open && sim.queued(crate::world::COMMANDS) <= 1 {
            return;
        }
    }
}

/// The command is done, and the target is where it was wanted.
fn check(sim: &Sim, on: bool) -> Vec<Finding> {
    let at = sim.true_now();
    let wrong = |what: String| Finding { rule: Rule::D3, at, what };
    let mut findings = Vec::new();
    let outcome = sim.command("it").and_then(|command| command.outcome);
    if outcome.as_ref().map(|outcome| outcome.outcome) != Some(Verdict::Done) {
        findings.push(wrong(format!("it came to {outcome:?}")));
    }
    let resource = sim.record().map(|record| record.resource);
    let (phase, up) = (sim.phase(), resource.is_some_and(|it| sim.is_up(&it)));
    let expected = if on { Phase::On } else { Phase::Off };
    if (phase, up) != (Some(expected), on) {
        findings.push(wrong(format!("it is {phase:?} and up: {up}; expected {expected:?}")));
    }
    let record = sim.record();
    let looks = record.as_ref().and_then(|record| record.wake_at);
    if looks.is_some_and(|wake_at| wake_at < at - SignedDuration::from_mins(2)) {
        findings.push(wrong(format!("due since {looks:?}")));
    }
    findings
}
