//! What each name and duration takes and refuses, and the bounds that no fixture should hold.

use std::collections::BTreeMap;

use lamplighter_events::{
    Action, BODY_BYTES_MAX, Command, CommandId, Holder, HumanDuration, InstanceId, MalformedKind,
    TargetName, Tick, parse, parse_bytes,
};
use serde_json::json;

#[track_caller]
fn check_duration(text: &str, expected: Option<(u64, &str)>) {
    let found = HumanDuration::parse(text).ok();
    let found = found.map(|duration| (duration.millis(), duration.to_string()));
    assert_eq!(found, expected.map(|(millis, shown)| (millis, shown.to_owned())), "{text}");
}

#[test]
fn durations_are_positive_bounded_and_have_units() {
    check_duration("2h", Some((7_200_000, "2h")));
    check_duration("90s", Some((90_000, "90s")));
    check_duration("1h30m", Some((5_400_000, "90m")));
    check_duration("500ms", Some((500, "500ms")));
    check_duration("1s500ms", Some((1_500, "1500ms")));
    check_duration("24h", Some((86_400_000, "1d")));
    check_duration("1d1m", Some((86_460_000, "1d1m")));
    check_duration("0h1m", Some((60_000, "1m")));
    check_duration("366d", Some((366 * 86_400_000, "366d")));
    for text in [
        "",
        "0s",
        "0d0h",
        "-1h",
        "+1h",
        "1",
        "h",
        "1 h",
        " 1h",
        "1h ",
        "1.5h",
        "1H",
        "30m1h",
        "1h1h",
        "367d",
        "366d1ms",
        "99999999999999999999d",
        "18446744073709551615s",
        "1w",
        "1min",
        "１h",
        "two hours",
        "1h\n",
    ] {
        check_duration(text, None);
    }
}

#[test]
fn target_names_are_short_lower_case_and_on_one_line() {
    for good in ["a", "0", "position-keeper", "a.b_c-d", &"x".repeat(63)] {
        assert_eq!(TargetName::parse(good).unwrap().as_str(), good);
    }
    for bad in ["", "-a", ".a", "A", "a b", "a\n", "\na", "a/b", "..", "ä", &"x".repeat(64)] {
        assert!(TargetName::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn ids_are_printable_and_bounded() {
    for good in ["k", "a b", "tick:nightly:2026-11-20T23:00:00Z", &"x".repeat(256)] {
        assert_eq!(CommandId::parse(good).unwrap().as_str(), good);
    }
    for bad in ["", " a", "a ", "a\tb", "a\u{7f}", "ä", &"x".repeat(257)] {
        assert!(CommandId::parse(bad).is_err(), "{bad:?}");
    }
    assert!(Holder::parse(&"ä".repeat(128)).is_ok());
    assert!(Holder::parse(&"ä".repeat(129)).is_err());
    assert!(Holder::parse("a\u{85}").is_err());
    assert_eq!(Holder::parse("default").unwrap(), Holder::shared());
    for good in ["i-abcd1111", "i-0abc123def456", "i-01f5d046c86e4f36e"] {
        assert!(InstanceId::parse(good).is_ok(), "{good}");
    }
    for bad in
        ["", "i-", "i-abcd111", "i-01f5d046c86e4f36e0", "i-ABCD1111", "mi-abcd1111", "i-abcd111g"]
    {
        assert!(InstanceId::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn names_that_are_none_do_not_come_in_by_deserialising() {
    assert!(serde_json::from_value::<TargetName>(json!("a\nb")).is_err());
    assert!(serde_json::from_value::<CommandId>(json!("")).is_err());
    assert!(serde_json::from_value::<HumanDuration>(json!("-1h")).is_err());
    assert!(serde_json::from_value::<HumanDuration>(json!(5)).is_err());
    assert_eq!(serde_json::to_value(HumanDuration::parse("120s").unwrap()).unwrap(), json!("2m"));
}

#[test]
fn actions_are_taken_in_every_case_and_by_their_other_names() {
    for (text, action) in [
        ("start", Action::Start),
        ("WAKE", Action::Start),
        ("release", Action::Stop),
        ("check_idle", Action::CheckIdle),
        ("checkIdle", Action::CheckIdle),
        ("CHECK-IDLE", Action::CheckIdle),
        ("CheckIdle", Action::CheckIdle),
        ("sleep", Action::CheckIdle),
        ("keepAlive", Action::KeepAlive),
        ("delete", Action::Destroy),
    ] {
        assert_eq!(Action::parse(text), Ok(action), "{text}");
    }
    for action in Action::ALL {
        assert_eq!(Action::parse(action.as_str()), Ok(action));
    }
    for bad in ["", "restart", "start ", "s-t-a-r-t", "check idle", "check--idle", "ſtart"] {
        assert!(Action::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_fingerprint_is_of_what_is_asked_not_of_how_or_under_which_id() {
    let fingerprint = |value| Command::from_json(&value).unwrap().fingerprint();
    let asked = fingerprint(json!({ "action": "start", "target": "pyelli", "for": "2h" }));
    assert_eq!(asked.len(), 64);
    assert_eq!(
        asked,
        fingerprint(json!({ "for": "120m", "Action": "WAKE", "id": "k", "target": "pyelli" }))
    );
    assert_ne!(asked, fingerprint(json!({ "action": "start", "target": "pyelli" })));
    assert_ne!(asked, fingerprint(json!({ "action": "stop", "target": "pyelli", "for": "2h" })));
}

#[test]
fn a_tick_has_the_same_id_each_time_it_comes() {
    let scheduled = "2026-11-20T23:00:00Z".parse().unwrap();
    let tick = Tick { rule: "nightly".to_owned(), scheduled, command: None };
    assert_eq!(tick.command_id().as_str(), "tick:nightly:2026-11-20T23:00:00Z");
    // The fields are public, so any rule may stand there; its id is an id all the same.
    let tick = Tick { rule: "ä\n".repeat(500), scheduled, command: None };
    assert!(CommandId::parse(tick.command_id().as_str()).is_ok());
}

#[track_caller]
fn check_refused(body: &str, kind: MalformedKind, told: &str) {
    let malformed = parse(body, &BTreeMap::new(), &BTreeMap::new()).unwrap_err();
    assert_eq!(malformed.kind, kind);
    assert!(malformed.message.contains(told), "{malformed}");
    assert!(malformed.message.len() < 1_000, "{} bytes", malformed.message.len());
}

#[test]
fn what_is_too_large_is_refused_in_few_words() {
    let id = json!({ "action": "start", "id": "k".repeat(10_000) }).to_string();
    check_refused(&id, MalformedKind::InvalidField, "id: \"kkk");
    check_refused(&id, MalformedKind::InvalidField, "(10000 characters)");
    // The full mebibyte is read; what stands in it is what is wrong.
    let field = "x".repeat(BODY_BYTES_MAX - "{\"\":1}".len());
    let full = format!("{{\"{field}\":1}}");
    assert_eq!(full.len(), BODY_BYTES_MAX);
    check_refused(&full, MalformedKind::UnknownField, "unknown field");
    check_refused(&format!("{full} "), MalformedKind::TooLarge, "1048577 bytes");
    let reason = json!({ "action": "start", "reason": "x".repeat(1_000_000) }).to_string();
    check_refused(&reason, MalformedKind::InvalidField, "reason: has 1000000 characters");
    check_refused(&"[".repeat(BODY_BYTES_MAX), MalformedKind::TooDeep, "deeper than 32");
}

#[test]
fn a_full_body_of_unknown_fields_is_refused_soon() {
    let mut body = String::from("{");
    for index in 0.. {
        if body.len() > BODY_BYTES_MAX - 16 {
            break;
        }
        body += &format!("\"x{index}\":1,");
    }
    body += "\"y\":1}";
    check_refused(&body, MalformedKind::UnknownField, "unknown field \"x0\"");
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let malformed = parse_bytes(b"{\"a\":\xff}", &BTreeMap::new(), &BTreeMap::new()).unwrap_err();
    assert_eq!(malformed.kind, MalformedKind::NotUtf8);
    assert_eq!(malformed.message, "the body is not UTF-8 after byte 5; expected JSON");
}

#[test]
fn a_body_that_is_no_json_still_has_the_id_of_its_attribute() {
    let attributes = BTreeMap::from([("id".to_owned(), "k-1".to_owned())]);
    let malformed = parse("{", &attributes, &BTreeMap::new()).unwrap_err();
    assert_eq!(malformed.kind, MalformedKind::NotJson);
    assert_eq!(malformed.command, Some(CommandId::parse("k-1").unwrap()));
}

#[test]
fn every_kind_of_mistake_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<&str> =
        MalformedKind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(names.len(), MalformedKind::ALL.len());
}
