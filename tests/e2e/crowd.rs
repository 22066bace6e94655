//! A crowd of callers, and what must hold for each of their commands.
//!
//! *Theory.* Every target goes through rounds: several holders start it at once, some messages twice,
//! beside a stranger's stop and a question; when all have their outcome, all holders stop it, and when
//! those have theirs the next round begins. So a round turns each machine on once and off once, whatever
//! dies or fails meanwhile, and the endpoint's own counts tell whether it was so: the machines' counters,
//! the call log, what really ran on the hosts. Outcomes are heard as anybody hears them, by a rule on the
//! bus and a queue of the crowd's own.
//!
//! *Not here.* Who works, and what goes wrong meanwhile: the tests'.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use aws_sdk_sqs::types::{
    DeleteMessageBatchRequestEntry, QueueAttributeName, SendMessageBatchRequestEntry,
};
use serde_json::{Value, json};

use crate::harness::{Local, http, sdk_of};

const HOLDERS: [&str; 3] = ["ann", "bob", "cleo"];
/// Where the crowd hears its outcomes.
const TOLD: &str = "told";
/// Longer than any single wait of the rules (a permission of 15 s, a margin, a growing pause), on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(400);

/// A fleet of quick machines; every third has a unit.
pub(crate) fn fleet(count: usize) -> String {
    let mut fleet = String::new();
    for number in 0..count {
        fleet.push_str(&format!(
            "[targets.{}]\nkind = \"ec2-instance\"\ninstance_id = \"{}\"\nsettle = \"1s\"\n\
             poll = \"1s\"\nunit_check_every = \"off\"\n",
            target(number),
            instance(number)
        ));
        if has_unit(number) {
            fleet.push_str("systemd_unit = \"keeper\"\n");
        }
    }
    fleet.push_str("[local]\nboot = \"300ms\"\nagent = \"200ms\"\nstop = \"300ms\"\n");
    fleet
}

fn target(number: usize) -> String {
    format!("box-{number}")
}

/// Short, so that a call about all of them has each in its summary.
fn instance(number: usize) -> String {
    format!("i-000000{number:02x}")
}

fn has_unit(number: usize) -> bool {
    number.is_multiple_of(3)
}

/// How far a target's round is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Starting,
    Stopping,
    Done,
}

/// One target and its callers.
#[derive(Debug)]
struct Lane {
    number: usize,
    stage: Stage,
    /// What the machine's own counters must say in the end.
    starts: u64,
    stops: u64,
    waiting: BTreeSet<String>,
}

pub(crate) struct Crowd {
    runtime: tokio::runtime::Runtime,
    sqs: aws_sdk_sqs::Client,
    endpoint: String,
    commands: String,
    told_url: String,
    lanes: Vec<Lane>,
    rounds: u64,
    /// Rounds go on beyond their number until this is false.
    pub(crate) goes_on: bool,
    asked: BTreeSet<String>,
    /// By command, by event: its outcome.
    told: BTreeMap<String, BTreeMap<String, Value>>,
    attentions: BTreeMap<String, Value>,
    pub(crate) calls: Vec<Value>,
    seq: u64,
}

impl Crowd {
    /// For `count` targets of [`fleet`], that many rounds each; every second one stays on in the end.
    pub(crate) fn new(local: &Local, count: usize, rounds: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let config = runtime.block_on(sdk_of(&local.endpoint));
        let sqs = aws_sdk_sqs::Client::new(&config);
        let events = aws_sdk_eventbridge::Client::new(&config);
        let told_url = runtime.block_on(listen(&sqs, &events));
        let lane = |number| Lane {
            number,
            stage: Stage::Stopping,
            starts: 0,
            stops: 0,
            waiting: BTreeSet::new(),
        };
        Self {
            runtime,
            sqs,
            endpoint: local.endpoint.clone(),
            commands: local.queue.clone(),
            told_url,
            lanes: (0..count).map(lane).collect(),
            rounds,
            goes_on: false,
            asked: BTreeSet::new(),
            told: BTreeMap::new(),
            attentions: BTreeMap::new(),
            calls: Vec::new(),
            seq: 0,
        }
    }

    /// Hears what was told, and lets whoever has all outcomes ask for more.
    pub(crate) fn step(&mut self) {
        self.hear();
        self.read_calls();
        let mut bodies = Vec::new();
        for lane in &mut self.lanes {
            lane.waiting.retain(|id| !self.told.contains_key(id));
            if lane.waiting.is_empty() && lane.stage != Stage::Done {
                lane.next(self.goes_on || lane.stops < self.rounds, &mut bodies);
            }
        }
        for body in &bodies {
            self.asked.insert(body["id"].as_str().expect("it has an id").to_owned());
        }
        self.send(&bodies);
    }

    /// Goes on for so long.
    pub(crate) fn step_for(&mut self, long: Duration) {
        let until = Instant::now() + long;
        loop {
            self.step();
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    /// Until this is so.
    #[track_caller]
    pub(crate) fn step_until(&mut self, what: &str, mut probe: impl FnMut(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !probe(self) {
            assert!(Instant::now() < until, "never: {what}; {}", self.missing());
            self.step_for(Duration::from_millis(50));
        }
    }

    /// Until every command has its outcome and every round is over.
    #[track_caller]
    pub(crate) fn finish(&mut self) {
        self.goes_on = false;
        self.step_until("every command has an outcome", |crowd| {
            crowd.lanes.iter().all(|lane| lane.stage == Stage::Done)
        });
    }

    fn missing(&self) -> String {
        let lanes = self.lanes.iter().filter(|lane| lane.stage != Stage::Done);
        let lanes: Vec<String> = lanes
            .map(|lane| format!("{} waits for {:?}", target(lane.number), lane.waiting))
            .collect();
        lanes.join("; ")
    }

    /// How many commands were sent.
    pub(crate) fn asked(&self) -> usize {
        self.asked.len()
    }

    /// How many whole rounds every target has behind it.
    pub(crate) fn rounds_over(&self) -> u64 {
        let over = |lane: &Lane| match lane.stage {
            Stage::Stopping if !lane.waiting.is_empty() => lane.stops - 1,
            _ => lane.stops,
        };
        self.lanes.iter().map(over).min().unwrap_or(0)
    }

    /// Each command has one outcome, each machine did what it was asked and is where it should be, and
    /// nothing is left in a queue.
    #[track_caller]
    pub(crate) fn check(&mut self) {
        // Wake-ups that are delayed lie there for as long as something is watched.
        self.step_until("nothing waits in the command queue", |crowd| crowd.in_queue() == (0, 0));
        self.check_outcomes();
    }

    /// As `check`; but a repeat of what is done may still be on its way.
    #[track_caller]
    pub(crate) fn check_outcomes(&mut self) {
        let dead = self.commands.replace("lamplighter-commands", "lamplighter-dead-letters");
        assert_eq!(self.count(&dead), (0, 0), "dead letters");
        // What was doubled by a late message would show by now.
        self.hear();
        self.read_calls();
        let told: BTreeSet<String> = self.told.keys().cloned().collect();
        assert_eq!(told, self.asked, "who asked and who was told");
        for (id, outcomes) in &self.told {
            assert_eq!(outcomes.len(), 1, "{id} has several outcomes: {outcomes:?}");
            let outcome = outcomes.values().next().expect("there is one");
            assert_eq!(outcome["outcome"], "done", "{id}: {outcome}");
        }
        assert!(self.attentions.is_empty(), "nobody else was here: {:?}", self.attentions);
        let machines = self.control("machines")["machines"].as_array().cloned();
        let machines = machines.expect("a list of machines");
        for lane in &self.lanes {
            let id = instance(lane.number);
            let machine = machines.iter().find(|machine| machine["id"] == *id);
            let machine = machine.expect("every target has a machine");
            let state = if lane.starts > lane.stops { "running" } else { "stopped" };
            assert_eq!(
                (&machine["state"], &machine["starts"], &machine["stops"]),
                (&json!(state), &json!(lane.starts), &json!(lane.stops)),
                "{}: {machine}",
                target(lane.number)
            );
        }
        let executions = self.control("executions");
        let executions = executions.as_object().expect("counts by token");
        for (token, times) in executions {
            assert_eq!(*times, json!(1), "{token} ran more than once");
        }
        let verified = self.lanes.iter().filter(|lane| has_unit(lane.number));
        let verified: u64 = verified.map(|lane| lane.starts).sum();
        let ran = u64::try_from(executions.len()).expect("a small number");
        assert!(ran >= verified, "{ran} checks ran for {verified} starts of machines with a unit");
    }

    /// By the call log: the calls that EC2 carried out are as many as the machines' turns, so none was
    /// made for nothing; and no question was put to SSM twice.
    #[track_caller]
    pub(crate) fn check_calls(&mut self) {
        self.read_calls();
        for lane in &self.lanes {
            let id = instance(lane.number);
            for (operation, expected) in
                [("StartInstances", lane.starts), ("StopInstances", lane.stops)]
            {
                let calls = self.done(operation);
                let calls = calls.filter(|call| names(call, &id)).count() as u64;
                assert_eq!(calls, expected, "{operation} of {}", target(lane.number));
            }
        }
        let ran = self.control("executions").as_object().map_or(0, serde_json::Map::len);
        assert_eq!(self.done("SendCommand").count(), ran, "questions asked and checks that ran");
    }

    /// The calls of an operation that the endpoint carried out.
    pub(crate) fn done<'a>(&'a self, operation: &'a str) -> impl Iterator<Item = &'a Value> {
        let all = self.calls.iter();
        all.filter(move |call| call["operation"] == operation && call["done"] == true)
    }

    /// Messages of the command queue that can be received, and that somebody has in hand.
    pub(crate) fn in_queue(&self) -> (u64, u64) {
        self.count(&self.commands)
    }

    fn count(&self, queue: &str) -> (u64, u64) {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let ask = self.sqs.get_queue_attributes().queue_url(queue);
        let ask = ask.set_attribute_names(Some(names.to_vec()));
        let answer = self.runtime.block_on(ask.send()).expect("SQS knows the queue");
        let all = answer.attributes().cloned().unwrap_or_default();
        let number = |name| all.get(name).and_then(|text| text.parse().ok()).unwrap_or(0);
        (number(&names[0]), number(&names[1]))
    }

    fn hear(&mut self) {
        loop {
            let receive = self.sqs.receive_message().queue_url(&self.told_url);
            let receive = receive.max_number_of_messages(10).wait_time_seconds(0).send();
            let answer = self.runtime.block_on(receive).expect("SQS answers");
            let messages = answer.messages.unwrap_or_default();
            if messages.is_empty() {
                return;
            }
            let mut entries = Vec::new();
            for (at, message) in messages.iter().enumerate() {
                let event: Value = serde_json::from_str(message.body().unwrap_or_default())
                    .expect("an event is JSON");
                self.take(&event["detail"]);
                let entry = DeleteMessageBatchRequestEntry::builder()
                    .id(at.to_string())
                    .receipt_handle(message.receipt_handle().unwrap_or_default());
                entries.push(entry.build().expect("a whole entry"));
            }
            let delete = self.sqs.delete_message_batch().queue_url(&self.told_url);
            let delete = delete.set_entries(Some(entries)).send();
            self.runtime.block_on(delete).expect("SQS deletes");
        }
    }

    fn take(&mut self, event: &Value) {
        let id = event["id"].as_str().expect("an event has an id").to_owned();
        match event.get("outcome") {
            Some(outcome) => {
                let command = outcome["command"].as_str().expect("an outcome names its command");
                let events = self.told.entry(command.to_owned()).or_default();
                events.insert(id, outcome.clone());
            }
            None => {
                self.attentions.insert(id, event.clone());
            }
        }
    }

    fn read_calls(&mut self) {
        let answer = self.control(&format!("calls?since={}", self.seq));
        let calls = answer["calls"].as_array().cloned().expect("a call log");
        if let Some(last) = calls.last() {
            self.seq = last["seq"].as_u64().expect("a number");
        }
        // The crowd's own are no news.
        self.calls.extend(calls.into_iter().filter(|call| call["access_key"] != "test"));
    }

    /// The endpoint begins a new log when it starts.
    pub(crate) fn forget_calls(&mut self) {
        self.seq = 0;
    }

    fn control(&self, path: &str) -> Value {
        let (status, body) = http(&self.endpoint, "GET", &format!("/_lamplighter/{path}"), "");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("the endpoint's own paths answer JSON")
    }

    fn send(&self, bodies: &[Value]) {
        // Every third message comes twice.
        let twice = bodies.iter().step_by(3);
        let all: Vec<String> = bodies.iter().chain(twice).map(ToString::to_string).collect();
        for batch in all.chunks(10) {
            let entries = batch.iter().enumerate().map(|(at, body)| {
                let entry = SendMessageBatchRequestEntry::builder();
                entry.id(at.to_string()).message_body(body).build().expect("a whole entry")
            });
            let send = self.sqs.send_message_batch().queue_url(&self.commands);
            let send = send.set_entries(Some(entries.collect())).send();
            let answer = self.runtime.block_on(send).expect("SQS takes messages");
            assert!(answer.failed().is_empty(), "{:?}", answer.failed());
        }
    }
}

fn names(call: &Value, id: &str) -> bool {
    call["target"].as_str().is_some_and(|target| target.split(", ").any(|named| named == id))
}

/// A queue of one's own for what Lamplighter tells the world about commands, and for alarms.
async fn listen(sqs: &aws_sdk_sqs::Client, events: &aws_sdk_eventbridge::Client) -> String {
    let queue = sqs.create_queue().queue_name(TOLD).send().await.expect("a queue");
    let pattern = json!({"source": ["lamplighter"],
        "detail-type": ["Command Completed", "Command Rejected", "Attention"]});
    let rule = events.put_rule().name(TOLD).event_pattern(pattern.to_string());
    rule.send().await.expect("a rule");
    let target = aws_sdk_eventbridge::types::Target::builder().id(TOLD);
    let target = target.arn(format!("arn:aws:sqs:us-east-1:000000000000:{TOLD}")).build();
    let targets = events.put_targets().rule(TOLD).targets(target.expect("a whole target"));
    targets.send().await.expect("its target");
    queue.queue_url.expect("a queue has a URL")
}

impl Lane {
    /// All were told: what they ask next.
    fn next(&mut self, again: bool, bodies: &mut Vec<Value>) {
        match self.stage {
            Stage::Starting if again || self.rests() => {
                self.stage = Stage::Stopping;
                self.stops += 1;
                let name = format!("stop{}", self.stops);
                for holder in HOLDERS {
                    self.ask("stop", holder, &name, bodies);
                }
            }
            Stage::Stopping if again || !self.rests() => {
                self.stage = Stage::Starting;
                self.starts += 1;
                let name = format!("start{}", self.starts);
                for holder in HOLDERS {
                    self.ask("start", holder, &name, bodies);
                }
                self.ask("stop", "stranger", &format!("stray{}", self.starts), bodies);
                self.ask("status", "stranger", &format!("look{}", self.starts), bodies);
            }
            _ => self.stage = Stage::Done,
        }
    }

    /// An even one is off in the end, an odd one on.
    fn rests(&self) -> bool {
        self.number.is_multiple_of(2)
    }

    fn ask(&mut self, action: &str, holder: &str, name: &str, bodies: &mut Vec<Value>) {
        let target = target(self.number);
        let id = format!("{target}-{name}-{holder}");
        bodies.push(json!({"action": action, "target": target, "holder": holder, "id": id}));
        self.waiting.insert(id);
    }
}
