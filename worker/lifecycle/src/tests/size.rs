//! How large a record becomes, whatever comes: the table refuses items above 400 KB, and a record that is
//! refused can no longer end what costs money.

use std::collections::BTreeMap;

use lamplighter_events::{Action, Cause, CommandId, Holder, Verdict};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::properties::check_one_in;
use super::templates::template;
use super::{Story, seconds};
use crate::*;

/// What EC2 says when it has no such machine, in about as many words.
fn shortage(number: usize) -> String {
    let words = "InsufficientInstanceCapacity: We currently do not have sufficient g5.xlarge capacity in the \
                 Availability Zone you requested (us-east-1b). Our system will be working on provisioning \
                 additional capacity. You can currently get g5.xlarge capacity by not specifying an \
                 Availability Zone in your request or choosing us-east-1a, us-east-1c, us-east-1d. ";
    format!("{number:>4} {words:.<380} (request id 01234567-89ab)").chars().take(400).collect()
}

fn stored(record: &TargetRecord) -> usize {
    assert!(serde_json::to_string(record).unwrap().len() < stored_bytes(record));
    stored_bytes(record)
}

/// The largest that the record was.
#[track_caller]
fn refused_until_the_deadline(creates: usize) -> (Story, usize) {
    let mut spec = template();
    spec.subnets = ["subnet-a", "subnet-b", "subnet-c"].map(str::to_owned).to_vec();
    spec.instance_types = vec!["g5.xlarge".to_owned()];
    spec.market = Market::SpotThenOnDemand;
    let mut story = Story::walrus(spec);
    let mut largest = 0;
    for number in 0..creates {
        let parameters = BTreeMap::from([("blob_id".to_owned(), "one".to_owned())]);
        let holder = format!("holder-{number:03}-0af7651916cd43dd8448eb211c80319c");
        let command = AcceptedCommand { parameters, ..story.command(Action::Create, &holder) };
        story.asks(command);
        largest = largest.max(stored(&story.record));
    }
    let mut refusals = 0;
    while story.record.phase == Phase::Starting {
        if story.record.doing.is_some() {
            refusals += 1;
            let message = shortage(refusals);
            let refusal = Refusal::RetryAfter(10_000);
            let cause = Cause::Capacity;
            story.answered(&EffectAnswer::Refused { cause, message, refusal });
            largest = largest.max(stored(&story.record));
        }
        story.after(3).look();
        largest = largest.max(stored(&story.record));
    }
    assert!(refusals > 24, "{refusals}");
    (story, largest)
}

#[test]
fn a_shortage_of_capacity_keeps_the_record_small_however_many_wait() {
    for creates in [1, 3, 8, 64] {
        let (story, largest) = refused_until_the_deadline(creates);
        assert!(largest <= RECORD_BYTES_MAX, "{creates} creates: {largest} bytes");
        assert_eq!(story.outcomes.len(), creates);
        assert_eq!(story.record.phase, Phase::Failed);
    }
}

#[test]
fn holds_with_long_reasons_and_a_bus_that_is_away_keep_the_record_small() {
    let mut story = Story::on("first");
    let mut largest = 0;
    for number in 0..64 {
        let mut start = story.command(Action::Start, &format!("holder-{number}"));
        start.reason = Some("r".repeat(512));
        story.asks(start);
        largest = largest.max(stored(&story.record));
    }
    for number in 0..31 {
        let status = story.command(Action::Status, &format!("asks-{number}"));
        story.asks(status);
        largest = largest.max(stored(&story.record));
    }
    assert!(largest <= RECORD_BYTES_MAX, "{largest} bytes");
}

#[test]
fn parameters_and_a_bus_that_is_away_keep_the_record_small() {
    let mut spec = template();
    let any = Parameter { pattern: Pattern::parse("x*").unwrap(), required: false, default: None };
    for number in 0..30 {
        spec.parameters.insert(format!("p{number}"), any.clone());
    }
    let mut story = Story::walrus(spec);
    for number in 0..24 {
        let mut create = story.command(Action::Create, &format!("holder-{number}"));
        create.parameters = BTreeMap::from([("blob_id".to_owned(), "one".to_owned())]);
        for number in 0..30 {
            create.parameters.insert(format!("p{number}"), "x".repeat(240));
        }
        story.asks(create);
    }
    story.answered(&EffectAnswer::Accepted { id: Some("i-0abc123def4567890".to_owned()) });
    let destroy = story.command(Action::Destroy, "admin");
    story.asks(destroy);
    let largest = stored(&story.record);
    assert!(largest <= RECORD_BYTES_MAX, "{largest} bytes");
}

#[test]
fn launches_without_an_answer_keep_the_record_small() {
    let mut spec = template();
    for number in 0..8 {
        spec.tags.insert(format!("tag-{number}"), "t".repeat(200));
    }
    let mut story = Story::walrus(spec);
    story.spec.timings.start_timeout = seconds("30m");
    let parameters = BTreeMap::from([("blob_id".to_owned(), "one".to_owned())]);
    let create = AcceptedCommand { parameters, ..story.command(Action::Create, "a") };
    story.asks(create);
    let (mut largest, mut lost) = (0, 0);
    for _ in 0..60 {
        // Nobody hears what EC2 says.
        lost += usize::from(story.record.doing.is_some());
        story.after(21).look();
        largest = largest.max(stored(&story.record));
    }
    assert!(lost > 30, "{lost} launches");
    assert!(largest <= RECORD_BYTES_MAX, "{largest} bytes");
}

#[test]
fn a_line_of_history_has_at_most_three_hundred_characters() {
    let (story, _) = refused_until_the_deadline(2);
    let longest = story.record.history.iter().map(|entry| entry.what.chars().count()).max();
    assert!(longest <= Some(300), "{longest:?}");
    for outcome in &story.outcomes {
        assert!(outcome.message.chars().count() <= 500, "{}", outcome.message);
    }
}

/// What is long in a command.
#[derive(Debug, Clone)]
struct Long {
    action: Action,
    holder: u8,
    id: usize,
    name: usize,
    reason: usize,
    wide: bool,
    blob: usize,
}

#[derive(Debug, Clone)]
enum Happens {
    Asks(Long),
    /// So many of them.
    Crowd(Long, u8),
    Refuses(Cause, usize),
    Accepts,
    Loses,
    Shows(PowerState, usize),
    Waits(i64),
}

fn long() -> impl Strategy<Value = Long> {
    let action = select(vec![
        Action::Start,
        Action::Start,
        Action::Create,
        Action::Create,
        Action::Stop,
        Action::Kill,
        Action::Destroy,
        Action::Pause,
        Action::Resume,
        Action::Status,
        Action::CheckIdle,
        Action::KeepAlive,
    ]);
    let short_or = |max: usize| prop_oneof![1 => Just(0), 1 => Just(max)];
    (
        action,
        any::<u8>(),
        short_or(200),
        short_or(100),
        short_or(512),
        any::<bool>(),
        short_or(7_900),
    )
        .prop_map(|(action, holder, id, name, reason, wide, blob)| Long {
            action,
            holder,
            id,
            name,
            reason,
            wide,
            blob,
        })
}

fn happens() -> impl Strategy<Value = Happens> {
    let states = vec![
        PowerState::Missing,
        PowerState::Pending,
        PowerState::Running,
        PowerState::Running,
        PowerState::Stopped,
        PowerState::Terminated,
    ];
    prop_oneof![
        6 => long().prop_map(Happens::Asks),
        2 => (long(), 1..90_u8).prop_map(|(long, size)| Happens::Crowd(long, size)),
        4 => (select(vec![Cause::Capacity, Cause::Throttled, Cause::Denied]), 0..5_000_usize)
            .prop_map(|(cause, words)| Happens::Refuses(cause, words)),
        2 => Just(Happens::Accepts),
        2 => Just(Happens::Loses),
        3 => (select(states), 0..3_000_usize).prop_map(|(state, words)| Happens::Shows(state, words)),
        2 => (0..900_i64).prop_map(Happens::Waits),
    ]
}

/// No event is ever taken by the bus.
struct Large(Story, u64);

impl Large {
    fn ask(&mut self, long: &Long) {
        let Self(story, number) = self;
        *number += 1;
        let pad = |text: String, by: usize, with: &str| text + &with.repeat(by);
        let letter = if long.wide { "∞" } else { "\"" };
        let before = story.record.clone();
        let command = AcceptedCommand {
            id: CommandId::parse(&pad(format!("{number}-"), long.id, "\\")).unwrap(),
            holder: Holder::parse(&pad(format!("{}-", long.holder), long.name, letter)).unwrap(),
            reason: (long.reason > 0).then(|| letter.repeat(long.reason)),
            trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
            parameters: BTreeMap::from([("blob_id".to_owned(), "x".repeat(long.blob + 1))]),
            sent_at: story.now,
            ..story.command(long.action, "x")
        };
        let id = command.id.clone();
        let sent = command.sent();
        story.asks(command);
        let decision = story.last.clone().unwrap();
        assert!(decision.changed && decision.accepted.is_some_and(|it| it.id == id));
        self.check(&before);
        let record = &self.0.record;
        let ends_all = match long.action {
            Action::Kill => true,
            Action::Destroy => record.kind.takes(Action::Destroy),
            _ => false,
        };
        if ends_all {
            let left: Vec<&Hold> = record.holds.iter().filter(|hold| hold.sent < sent).collect();
            assert!(left.is_empty(), "{left:?}");
            let outcome = self.0.outcomes.iter().find(|outcome| outcome.command == id);
            let refused = |outcome: &lamplighter_events::Outcome| {
                outcome.outcome == Verdict::Rejected && before.open.len() < OPEN_COMMANDS_MAX
            };
            assert!(!outcome.is_some_and(refused), "{outcome:?}");
        }
    }

    fn check(&self, before: &TargetRecord) {
        let record = &self.0.record;
        let bytes = stored(record);
        assert!(
            bytes <= RECORD_BYTES_MAX,
            "{bytes} bytes, before {}: {} holds, {} open, {} events, {} unanswered, {} releases",
            stored(before),
            record.holds.len(),
            record.open.len(),
            record.outbox.len(),
            record.unanswered.len(),
            record.releases.len(),
        );
    }

    fn happens(&mut self, what: &Happens) {
        let before = self.0.record.clone();
        let story = &mut self.0;
        match what {
            Happens::Asks(long) => return self.ask(long),
            Happens::Crowd(long, size) => {
                for holder in 0..*size {
                    self.ask(&Long { holder, ..long.clone() });
                }
                return;
            }
            Happens::Refuses(cause, words) if story.record.doing.is_some() => {
                let refusal = match cause {
                    Cause::Denied => Refusal::Final,
                    _ => Refusal::RetryAfter(1_000),
                };
                let message = "w".repeat(*words);
                story.answered(&EffectAnswer::Refused { cause: *cause, message, refusal });
            }
            Happens::Accepts if story.record.doing.is_some() => {
                let id = Some("i-0abc123def4567890".to_owned());
                story.answered(&EffectAnswer::Accepted { id });
            }
            Happens::Refuses(..) | Happens::Accepts => return,
            Happens::Loses => {
                story.after(16).look();
            }
            Happens::Shows(state, words) => {
                story.sees(*state);
                let machine = story.machine();
                machine.reason = Some("w".repeat(*words));
                machine.public_ip = Some("203.0.113.7".to_owned());
                story.seen.agent = Some(Agent::Online);
                story.look();
            }
            Happens::Waits(seconds) => {
                story.after(*seconds).look();
            }
        }
        self.check(&before);
    }
}

#[test]
fn whatever_comes_the_record_stays_within_its_bound_and_what_ends_cost_is_taken() {
    check_one_in(40, &(any::<bool>(), vec(happens(), 0..60)), |(launches, steps)| {
        let story = match launches {
            true => {
                let mut spec = template();
                let any = Pattern::parse("x*").unwrap();
                let blob = Parameter { pattern: any, required: true, default: None };
                spec.parameters.insert("blob_id".to_owned(), blob);
                spec.subnets = (0..16).map(|number| format!("subnet-{number:017}")).collect();
                spec.market = Market::SpotThenOnDemand;
                let tag = |number: usize| (format!("tag-{number}"), "t".repeat(180));
                spec.tags = (0..20).map(tag).collect();
                Story::walrus(spec)
            }
            false => Story::with_unit(),
        };
        let mut large = Large(story, 0);
        steps.iter().for_each(|step| large.happens(step));
    });
}
