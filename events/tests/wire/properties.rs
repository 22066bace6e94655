//! Whatever comes in gives a value or an error; whatever goes out comes back.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lamplighter_events::{
    Action, AttentionKind, Cause, Command, CommandId, EventBody, Holder, HumanDuration, IdleShard,
    Inbound, InstanceId, LifecycleEvent, Outcome, TargetName, TargetRef, Thresholds, Tick, Verdict,
    WakeUp, parse, parse_bytes, schemas,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn action() -> impl Strategy<Value = Action> {
    proptest::sample::select(&Action::ALL[..])
}

fn cause() -> impl Strategy<Value = Cause> {
    proptest::sample::select(&Cause::ALL[..])
}

fn target_name() -> impl Strategy<Value = TargetName> {
    "[a-z0-9][a-z0-9._-]{0,62}".prop_map(|text| TargetName::parse(&text).unwrap())
}

fn command_id() -> impl Strategy<Value = CommandId> {
    "[!-~]([ -~]{0,60}[!-~])?".prop_map(|text| CommandId::parse(&text).unwrap())
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    (0..253_402_207_200_i64, 0..1_000_000_000_i32)
        .prop_map(|(second, nanosecond)| Timestamp::new(second, nanosecond).unwrap())
}

fn duration() -> impl Strategy<Value = HumanDuration> {
    prop_oneof![
        (1..366 * 86_400_000_u64).prop_map(|millis| HumanDuration::from_millis(millis).unwrap()),
        (1..366 * 24_u64).prop_map(|hours| HumanDuration::from_seconds(hours * 3_600).unwrap()),
    ]
}

fn target_ref() -> impl Strategy<Value = TargetRef> {
    prop_oneof![
        target_name().prop_map(TargetRef::Name),
        "i-[0-9a-f]{8}([0-9a-f]{9})?"
            .prop_map(|id| TargetRef::Instance(InstanceId::parse(&id).unwrap())),
        ("[a-zA-Z0-9_-]{1,80}", "[a-zA-Z0-9_:/-]{1,80}")
            .prop_map(|(cluster, service)| TargetRef::EcsService { cluster, service }),
    ]
}

prop_compose! {
    fn command()(
        action in action(),
        target in option::of(target_ref()),
        id in option::of(command_id()),
        holder in option::of("\\PC{1,60}"),
        long in option::of(prop_oneof![
            duration().prop_map(|long| (Some(long), None)),
            timestamp().prop_map(|until| (None, Some(until))),
        ]),
        reason in option::of("\\PC{0,100}"),
        expires in option::of(timestamp()),
        idle_threshold_mins in option::of(1..=527_040_u32),
        lookback_period_mins in option::of(1..=527_040_u32),
        template in option::of(target_name()),
        // With a word before them that no field begins with: these are parameters whatever they are.
        parameters in proptest::collection::btree_map("p_[a-z0-9][a-z0-9_]{0,20}", "\\PC{0,60}", 0..5),
    ) -> Command {
        let (hold_for, until) = long.unwrap_or_default();
        let holder = holder.map(|holder| Holder::parse(&holder).unwrap());
        let thresholds = Thresholds { idle_threshold_mins, lookback_period_mins };
        let creates = action == Action::Create;
        Command {
            action,
            target,
            id,
            holder,
            hold_for,
            until,
            reason,
            expires,
            thresholds,
            template: template.filter(|_| creates),
            parameters: if creates { parameters } else { BTreeMap::new() },
        }
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        proptest::sample::select(vec![
            "action",
            "Action",
            "target",
            "id",
            "holder",
            "for",
            "until",
            "expires",
            "reason",
            "cluster",
            "serviceName",
            "instance_id",
            "lamplighter",
            "rule",
            "scheduled",
            "command",
            "detail-type",
            "source",
            "detail",
            "time",
            "resources",
            "body",
            "rawPath",
            "path",
            "headers",
            "requestContext",
            "isBase64Encoded",
            "rev",
            "at",
            "x-current-user-id",
        ])
        .prop_map(str::to_owned),
        ".{0,12}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        proptest::sample::select(vec![
            "start",
            "tick",
            "wake-up",
            "2h",
            "-1h",
            "/pyelli/start",
            "/../start",
            "{}",
            "e30=",
            "[",
            "aws.ec2",
            "aws.events",
            "Scheduled Event",
            "EC2 Instance State-change Notification",
            "2026-12-01T18:00:00Z",
            "arn:aws:events:::rule/x",
            "pyelli",
            "i-abcd1111",
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 8, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(key.clone(), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn answer() -> impl Strategy<Value = Map<String, Value>> {
    // Floats aside: not every one of them is read back to the last bit.
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    btree_map("[a-z_]{1,12}", leaf, 0..5).prop_map(|map| map.into_iter().collect())
}

prop_compose! {
    fn outcome()(
        command in command_id(),
        target in option::of(target_name()),
        action in option::of(action()),
        outcome in proptest::sample::select(vec![Verdict::Done, Verdict::Rejected, Verdict::Failed]),
        cause in option::of(cause()),
        message in ".{0,80}",
        answer in answer(),
        at in timestamp(),
        took_ms in any::<u64>(),
    ) -> Outcome {
        Outcome { command, target, action, outcome, cause, message, answer, at, took_ms }
    }
}

fn event_body() -> impl Strategy<Value = EventBody> {
    let words = || ".{0,30}";
    prop_oneof![
        (
            words(),
            words(),
            words(),
            option::of(words()),
            option::of(cause()),
            words(),
            option::of(words())
        )
            .prop_map(|(kind, from, to, step, cause, why, instance)| {
                EventBody::TargetStateChanged { kind, from, to, step, cause, why, instance }
            }),
        outcome().prop_map(|outcome| EventBody::CommandCompleted { outcome }),
        outcome().prop_map(|outcome| EventBody::CommandRejected { outcome }),
        (words(), option::of(words())).prop_map(|(message, instance)| EventBody::Attention {
            attention: AttentionKind::StopOverdue,
            message,
            instance
        }),
    ]
}

fn parse_bare(body: &str) -> Inbound {
    parse(body, &BTreeMap::new(), &BTreeMap::new()).unwrap()
}

proptest! {
    #[test]
    fn any_bytes_give_a_value_or_an_error(bytes in vec(any::<u8>(), 0..512)) {
        let _ = parse_bytes(&bytes, &BTreeMap::new(), &BTreeMap::new());
    }

    #[test]
    fn any_json_gives_a_value_or_an_error(value in json_value()) {
        let rules = BTreeMap::from([("x".to_owned(), Command::new(Action::CheckIdle))]);
        if let Err(malformed) = parse(&value.to_string(), &BTreeMap::new(), &rules) {
            prop_assert!(!malformed.message.is_empty());
            prop_assert!(malformed.message.chars().count() < 1_000, "{malformed}");
            prop_assert!(!malformed.message.chars().any(char::is_control), "{malformed}");
        }
        let _ = Command::from_json(&value);
        let _ = serde_json::from_value::<LifecycleEvent>(value);
    }

    #[test]
    fn any_attributes_give_a_value_or_an_error(
        value in ".{0,300}",
        name in proptest::sample::select(vec!["action", "id", "target", "holder", "other"]),
    ) {
        let attributes = BTreeMap::from([(name.to_owned(), value)]);
        let _ = parse("{\"action\":\"start\"}", &attributes, &BTreeMap::new());
    }

    #[test]
    fn the_body_is_never_told(secret in "[a-z]{20}") {
        // In a place where it is wrong, a secret is not repeated, unless it is a name or a time.
        for body in [
            json!({ "action": "start", "reason": [secret] }).to_string(),
            json!({ "action": "start", "reason": format!("{secret}\0") }).to_string(),
            json!({ "action": "start", "password": secret }).to_string(),
            json!({ "action": "start", "holder": { "name": secret } }).to_string(),
            json!({ "rawPath": "/start", "body": secret }).to_string(),
            format!("{{\"action\":\"start\",\"reason\":{secret}}}"),
            secret.clone(),
        ] {
            let malformed = parse(&body, &BTreeMap::new(), &BTreeMap::new()).unwrap_err();
            prop_assert!(!malformed.message.contains(&secret), "{malformed}");
        }
    }

    #[test]
    fn a_command_reads_back(command in command()) {
        let body = command.to_json();
        prop_assert_eq!(parse_bare(&body.to_string()), Inbound::Command(command.clone()));
        prop_assert_eq!(&Command::from_json(&body).unwrap(), &command);
        prop_assert_eq!(serde_json::from_value::<Command>(body).unwrap(), command);
    }

    #[test]
    fn a_duration_reads_back_from_no_more_than_it_must(duration in duration()) {
        let shown = duration.to_string();
        prop_assert_eq!(HumanDuration::parse(&shown).unwrap(), duration);
        let longest = format!("{}ms", duration.millis());
        prop_assert!(shown.len() <= longest.len(), "{shown}");
    }

    #[test]
    fn a_tick_reads_back(
        rule in "[a-zA-Z0-9._-]{1,64}",
        scheduled in timestamp(),
        command in command(),
    ) {
        let tick = Tick { rule, scheduled, command: Some(command) };
        prop_assert_eq!(parse_bare(&tick.to_json().to_string()), Inbound::Tick(tick));
    }

    #[test]
    fn an_idle_shard_reads_back(
        targets in proptest::collection::vec(target_name(), 1..20), minutes in option::of(1u32..100),
    ) {
        let thresholds = Thresholds { idle_threshold_mins: minutes, lookback_period_mins: None };
        let notes = targets.iter().map(|_| json!({ "floor": 1 })).collect();
        let shard = IdleShard { targets, notes, thresholds };
        prop_assert_eq!(parse_bare(&shard.to_json().to_string()), Inbound::IdleShard(shard));
    }

    #[test]
    fn a_wake_up_reads_back(target in target_name(), rev in any::<u64>(), at in timestamp()) {
        let wake_up = WakeUp { target, rev, at };
        prop_assert_eq!(parse_bare(&wake_up.to_json().to_string()), Inbound::WakeUp(wake_up));
    }

    #[test]
    fn an_outcome_reads_back(outcome in outcome()) {
        let text = serde_json::to_string(&outcome).unwrap();
        prop_assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), outcome);
    }

    #[test]
    fn an_event_reads_back(
        id in ".{0,30}", at in timestamp(), target in option::of(target_name()), body in event_body(),
    ) {
        let event = LifecycleEvent { id, at, target, body };
        let text = serde_json::to_string(&event).unwrap();
        prop_assert_eq!(serde_json::from_str::<LifecycleEvent>(&text).unwrap(), event);
    }
}

#[test]
fn what_is_written_is_valid_by_its_schema() {
    let validator = |name: &str| jsonschema::draft202012::new(&schemas()[name]).unwrap();
    let commands = validator("command.schema.json");
    let wake_ups = validator("wake-up.schema.json");
    let events = validator("lifecycle-event.schema.json");
    proptest!(ProptestConfig::with_cases(64), |(
        command in command(), target in target_name(), at in timestamp(), body in event_body(),
    )| {
        prop_assert!(commands.is_valid(&command.to_json()), "{}", command.to_json());
        let wake_up = WakeUp { target: target.clone(), rev: 1, at }.to_json();
        prop_assert!(wake_ups.is_valid(&wake_up), "{}", wake_up);
        let event = LifecycleEvent { id: "x:1:0".to_owned(), at, target: Some(target), body };
        let event = serde_json::to_value(&event).unwrap();
        prop_assert!(events.is_valid(&event), "{}", event);
    });
}
