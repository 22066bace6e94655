//! What EC2 says, read; and one bad id among good ones.

use std::cell::RefCell;
use std::time::Duration;

use aws_sdk_ec2::types::{InstanceState, InstanceStateName, StateReason};

use super::*;
use crate::batch::{PARTS_CALLS_MAX, remaining};
use crate::disposition::own_error;

fn id(n: u32) -> InstanceId {
    InstanceId::parse(&format!("i-{n:08x}")).unwrap()
}

#[track_caller]
fn check_reason(reason: &str, expected: Option<&str>) {
    assert_eq!(user_stopped_at(reason).map(|at| at.to_string()).as_deref(), expected, "{reason:?}");
}

#[test]
fn the_time_of_a_stop_is_read_only_where_a_user_did_it() {
    check_reason("User initiated (2026-11-20 10:00:00 GMT)", Some("2026-11-20T10:00:00Z"));
    check_reason("User initiated", None);
    check_reason("Server.SpotInstanceTermination (2026-11-20 10:00:00 GMT)", None);
    check_reason("User initiated (yesterday GMT)", None);
    check_reason("", None);
}

#[test]
fn a_describe_is_told_in_our_words() {
    let instance = Instance::builder()
        .instance_id("i-01f5d046c86e4f36e")
        .state(InstanceState::builder().name(InstanceStateName::Stopped).build())
        .state_transition_reason("User initiated (2026-11-20 10:00:00 GMT)")
        .state_reason(
            StateReason::builder()
                .code("Client.UserInitiatedShutdown")
                .message("Client.UserInitiatedShutdown: User initiated shutdown")
                .build(),
        )
        .private_ip_address("10.0.0.1")
        .build();
    let seen = seen(Some(&instance));
    assert_eq!(seen.state, PowerState::Stopped);
    assert_eq!(
        seen.reason.as_deref(),
        Some("Client.UserInitiatedShutdown: User initiated shutdown")
    );
    assert!(seen.user_stopped_at.is_some());
    assert_eq!(seen.private_ip.as_deref(), Some("10.0.0.1"));
    assert_eq!(super::seen(None).state, PowerState::Missing);
}

fn refusal(cause: Cause, disposition: Disposition, message: &str) -> CallError {
    own_error("ec2:Test", cause, disposition, Applied::No, message)
}

/// Asks for ten machines of which `bad` are refused, and returns who was refused and how many calls it took.
async fn ask(bad: &[u32], message: impl Fn(&[InstanceId]) -> String) -> (Vec<InstanceId>, usize) {
    let bad: Vec<InstanceId> = bad.iter().map(|n| id(*n)).collect();
    let ids: Vec<InstanceId> = (0..10).map(id).collect();
    let calls = RefCell::new(0);
    let answers = apart(
        &ids,
        |error| error.disposition == Disposition::Fail,
        names,
        halves,
        |group: Vec<InstanceId>, _| {
            *calls.borrow_mut() += 1;
            let hit: Vec<InstanceId> =
                group.iter().filter(|id| bad.contains(id)).cloned().collect();
            std::future::ready(if hit.is_empty() {
                Ok(group.into_iter().map(|id| (id, Ok(()))).collect())
            } else {
                Err(refusal(Cause::NotFound, Disposition::Fail, &message(&hit)).into())
            })
        },
    )
    .await;
    assert_eq!(answers.len(), 10);
    let refused =
        answers.into_iter().filter(|(_, answer)| answer.is_err()).map(|(id, _)| id).collect();
    (refused, calls.into_inner())
}

#[tokio::test]
async fn bad_ids_that_are_named_are_taken_out_and_harm_no_other() {
    let (refused, calls) = ask(&[3, 7], |bad| {
        let ids: Vec<&str> = bad.iter().map(InstanceId::as_str).collect();
        format!("The instance IDs '{}' do not exist", ids.join(", "))
    })
    .await;
    assert_eq!(refused, [id(3), id(7)]);
    assert_eq!(calls, 2);
}

#[tokio::test]
async fn a_bad_id_that_is_not_named_is_found_by_halving() {
    let (refused, calls) = ask(&[3], |_| "You are not authorized".to_owned()).await;
    assert_eq!(refused, [id(3)]);
    assert!(calls <= 9, "{calls}");
}

#[tokio::test]
async fn a_refused_pace_is_everyones_and_asked_once() {
    let calls = RefCell::new(0);
    let ids: Vec<InstanceId> = (0..10).map(id).collect();
    let answers: BTreeMap<_, Result<(), _>> = apart(
        &ids,
        |error| error.disposition == Disposition::Fail,
        names,
        halves,
        |_, _| {
            *calls.borrow_mut() += 1;
            std::future::ready(Err(refusal(Cause::Throttled, Disposition::Retry, "slower").into()))
        },
    )
    .await;
    assert_eq!(calls.into_inner(), 1);
    assert!(answers.values().all(Result::is_err));
}

/// Asks for `count` machines of which `bad` are in an impaired zone, and returns who was not seen, how many calls it
/// took, and how many of them were made with the SDK's retries.
async fn ask_impaired(
    count: u32,
    bad: impl Fn(u32) -> bool,
    cut: impl Fn(&[InstanceId]) -> Vec<Vec<InstanceId>>,
    refused: impl Fn() -> Refused,
) -> (Vec<InstanceId>, usize, usize) {
    let ids: Vec<InstanceId> = (0..count).map(id).collect();
    let bad: Vec<InstanceId> = (0..count).filter(|n| bad(*n)).map(id).collect();
    let portions = RefCell::new(Vec::new());
    let answers: Each<InstanceId, ()> = apart(
        &ids,
        |error| error.applied == Applied::No && error.disposition == Disposition::Fail,
        names,
        cut,
        |group: Vec<InstanceId>, portion| {
            portions.borrow_mut().push(portion);
            std::future::ready(match group.iter().any(|id| bad.contains(id)) {
                false => Ok(group.into_iter().map(|id| (id, Ok(()))).collect()),
                true => Err(refused()),
            })
        },
    )
    .await;
    assert_eq!(answers.len(), ids.len());
    let portions = portions.into_inner();
    let whole = portions.iter().filter(|it| **it == Portion::Whole).count();
    let unseen = answers.into_iter().filter(|(_, it)| it.is_err()).map(|(id, _)| id).collect();
    (unseen, portions.len(), whole)
}

fn impaired() -> Refused {
    own_error("ec2:Test", Cause::Deadline, Disposition::Retry, Applied::Perhaps, "Unavailable")
        .into()
}

#[tokio::test]
async fn one_machine_in_an_impaired_zone_hides_no_other() {
    let (unseen, calls, whole) = ask_impaired(500, |n| n == 333, halves, impaired).await;
    assert_eq!(unseen, [id(333)]);
    // The whole, and two halves nine times; only the whole is tried again by the SDK.
    assert!(calls <= 19, "{calls}");
    assert_eq!(whole, 1);
}

#[tokio::test]
async fn a_zone_that_is_out_is_cut_off_and_costs_a_bounded_number_of_calls() {
    let zone = |id: &InstanceId| id.as_str().ends_with(['0', '3', '6', '9', 'c', 'f']);
    let by_zone = |ids: &[InstanceId]| {
        let (out, well): (Vec<_>, Vec<_>) = ids.iter().cloned().partition(zone);
        vec![out, well].into_iter().filter(|part| !part.is_empty()).collect()
    };
    let (unseen, calls, _) = ask_impaired(500, |n| zone(&id(n)), by_zone, impaired).await;
    assert_eq!(unseen, (0..500).map(id).filter(zone).collect::<Vec<_>>());
    assert!(calls <= PARTS_CALLS_MAX, "{calls}");
    // Without the zones: the bound holds as well, and what it leaves unseen is said so.
    let (unseen, calls, _) = ask_impaired(500, |n| n % 3 == 0, halves, impaired).await;
    assert!(unseen.len() >= 167 && calls <= PARTS_CALLS_MAX, "{} {calls}", unseen.len());
}

#[tokio::test]
async fn silence_is_nobodys_in_particular_and_takes_no_batch_apart() {
    let silent = || Refused { answered: false, ..impaired() };
    let (unseen, calls, _) = ask_impaired(10, |n| n == 3, halves, silent).await;
    assert_eq!((unseen.len(), calls), (10, 1));
}

#[tokio::test]
async fn a_part_of_a_call_that_may_have_been_made_may_have_been_made() {
    let ids = [id(1), id(2)];
    let answers: Each<InstanceId, ()> = apart(
        &ids,
        |_| true,
        names,
        halves,
        |group: Vec<InstanceId>, _| {
            std::future::ready(match group.len() {
                2 => Err(impaired()),
                _ => Err(refusal(Cause::Capacity, Disposition::Retry, "no room").into()),
            })
        },
    )
    .await;
    for answer in answers.values() {
        assert_eq!(answer.as_ref().unwrap_err().applied, Applied::Perhaps);
    }
}

#[test]
fn ids_are_read_whole_from_a_message() {
    let check = |message: &str, expected: [bool; 2]| {
        let error = refusal(Cause::NotFound, Disposition::Fail, message);
        let ids = ["i-0000aaaa", "i-0000bbbb"].map(|id| InstanceId::parse(id).unwrap());
        assert_eq!(ids.map(|id| names(&error, &id)), expected, "{message}");
    };
    check("The instance IDs 'i-0000aaaa, i-0000bbbb' do not exist", [true, true]);
    check("on resource: arn:aws:ec2:eu-central-1:1:instance/i-0000aaaa", [true, false]);
    check("Invalid id: \"i-0000aaaab\"", [false, false]);
}

#[test]
fn an_effect_is_not_called_after_its_limit() {
    let at = |s| Timestamp::from_second(s).unwrap();
    assert_eq!(remaining("ec2:X", at(10), at(15)).unwrap(), Duration::from_secs(5));
    assert_eq!(remaining("ec2:X", at(15), at(15)).unwrap_err().applied, Applied::No);
    assert!(remaining("ec2:X", at(16), at(15)).is_err());
}
