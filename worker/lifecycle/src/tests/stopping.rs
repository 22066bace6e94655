//! The way down.

use lamplighter_events::{Action, AttentionKind, Cause, Verdict};
use serde_json::json;

use super::Story;
use crate::*;

#[test]
fn a_stop_is_done_only_when_the_machine_is_stopped() {
    let mut story = Story::on("ann");
    story.stop("ann").is(Phase::Stopping, Some(Step::StopInstance)).did(EffectKind::Stop);
    story.accepted().is(Phase::Stopping, Some(Step::WaitStopped)).no_outcome();
    story.after(2).sees(PowerState::Stopping).look().no_outcome();
    story.after(9).sees(PowerState::Stopped).look().is(Phase::Off, None);
    let outcome = story.outcome(Verdict::Done, None);
    assert_eq!(outcome.answer["stopped"], json!(true));
    assert_eq!(outcome.answer["previous_state"], json!("running"));
    assert!(story.record.wake_at.is_some(), "events wait");
    assert_eq!(story.last.as_ref().unwrap().look_when_sent, None, "off costs nothing");
}

#[test]
fn a_stop_of_what_is_off_is_done_at_once_and_calls_nothing() {
    let mut story = Story::new();
    story.stop("ann").did_nothing().is(Phase::Off, None);
    let outcome = story.outcome(Verdict::Done, None);
    assert_eq!(outcome.answer["stopped"], json!(false));
    assert_eq!(outcome.answer["previous_state"], json!("stopped"));
}

#[test]
fn the_last_outcome_stands_in_the_record_and_a_status_does_not_take_its_place() {
    let mut story = Story::on("ann");
    assert!(story.record.is_ready());
    let started = story.record.last_outcome.clone().unwrap();
    assert_eq!((started.action, started.outcome), (Action::Start, Verdict::Done));
    story.stop("bob").did_nothing();
    let stopped = story.record.last_outcome.clone().unwrap();
    assert_eq!((stopped.action, stopped.holder.as_str()), (Action::Stop, "bob"));
    let status = story.command(Action::Status, "ann");
    story.after(5).asks(status);
    assert!(story.record.history.iter().any(|entry| entry.what.contains("status by ann")));
    assert_eq!(story.record.last_outcome, Some(stopped));
}

#[test]
fn a_describe_that_lags_after_a_stop_does_not_stop_twice() {
    let mut story = Story::on("ann");
    story.stop("ann").did(EffectKind::Stop).accepted();
    story.after(2).sees(PowerState::Running).look().did_nothing();
    story.after(4).look().did_nothing();
    // A minute later it is true: the stop did not take, and is made again.
    story.after(54).look().did(EffectKind::Stop);
}

/// A queue may deliver a wake-up twice, and each would go on as a chain of its own for as long as the wait
/// lasts; and each worker's sweep would find the target due every minute (crowd seed 15).
#[test]
fn a_long_wait_is_written_anew_once_a_minute_and_makes_older_wake_ups_void() {
    let mut story = Story::on("ann");
    story.stop("ann").accepted().after(25).sees(PowerState::Stopping).look();
    let rev = story.record.rev;
    for _ in 0..12 {
        story.after(5).look();
        assert_eq!(story.record.rev, rev, "polls write nothing");
    }
    story.after(5).look();
    assert_eq!(story.record.rev, rev + 1);
    assert!(story.record.wake_at.is_some_and(|at| at > story.now));
}

#[test]
fn a_machine_that_does_not_stop_fails_the_stop_and_raises_attention_once() {
    let mut story = Story::on("ann");
    story.stop("ann").accepted().after(10).sees(PowerState::Stopping).look();
    story.effects.clear();
    story.after(289).look().no_outcome();
    story.after(1).look();
    story.outcome(Verdict::Failed, Some(Cause::Deadline));
    story.after(60).look().after(60).look().no_outcome();
    let overdue =
        story.attentions().iter().filter(|kind| **kind == AttentionKind::StopOverdue).count();
    assert_eq!(overdue, 1);
    story.after(60).sees(PowerState::Stopped).look().is(Phase::Off, None);
}

#[test]
fn a_stop_that_waited_for_a_start_which_was_refused_is_answered_soon() {
    let mut story = Story::new();
    story.start("ann").did(EffectKind::Start);
    story.after(1).stop("ann");
    story.outcome(Verdict::Rejected, Some(Cause::Superseded));
    story.after(1).refused(Cause::Invalid, Refusal::Final).is(Phase::Failed, None).no_outcome();
    assert_eq!(story.record.wake_at, Some(story.now), "somebody waits for an answer");
    story.look().did_nothing();
    assert_eq!(story.outcome(Verdict::Done, None).answer["stopped"], json!(true));
}

#[test]
fn a_stop_that_is_refused_for_good_fails_and_is_tried_again_each_minute() {
    let mut story = Story::on("ann");
    story.stop("ann").did(EffectKind::Stop).refused(Cause::Invalid, Refusal::Final);
    story.outcome(Verdict::Failed, Some(Cause::Invalid));
    story.after(30).sees(PowerState::Running).look().did_nothing();
    story.after(30).look().did(EffectKind::Stop);
}

#[test]
fn a_stop_that_is_denied_is_tried_for_a_minute_before_it_fails() {
    let mut story = Story::on("ann");
    story.stop("ann");
    for _ in 0..12 {
        story.did(EffectKind::Stop).refused(Cause::Denied, Refusal::Final).no_outcome();
        story.after(5).sees(PowerState::Running).look();
    }
    assert!(story.attentions().is_empty(), "nobody is called before the minute is over");
    story.did(EffectKind::Stop).refused(Cause::Denied, Refusal::Final);
    story.outcome(Verdict::Failed, Some(Cause::Denied));
    assert_eq!(story.attentions(), [AttentionKind::StopOverdue]);
}

#[test]
fn a_stop_of_what_may_not_be_observed_fails_after_a_minute_however_many_follow() {
    let mut story = Story::on("ann");
    let stop = story.command(Action::Stop, "ann");
    story.cannot_look(Cause::Denied, &[Input::Command(Box::new(stop))]).no_outcome();
    let other = story.after(30).command(Action::Stop, "bob");
    story.cannot_look(Cause::Denied, &[Input::Command(Box::new(other))]).no_outcome();
    story.after(30).cannot_look(Cause::Denied, &[]);
    let verdicts: Vec<_> = story.outcomes.drain(..).map(|outcome| outcome.cause).collect();
    assert_eq!(verdicts, [Some(Cause::Denied), Some(Cause::Denied)]);
}

#[test]
fn a_new_hold_before_the_stop_is_made_keeps_it_on() {
    let mut story = Story::on("ann");
    story.stop("ann").did(EffectKind::Stop).refused(Cause::Throttled, Refusal::RetryAfter(5000));
    story.after(1).sees(PowerState::Running).start("bob").did_nothing();
    let stopped = story.outcome(Verdict::Done, None);
    assert_eq!(stopped.answer["stopped"], json!(false));
    story.is(Phase::Starting, Some(Step::Settle));
    story.after(10).look().is(Phase::On, None).did_nothing();
    assert_eq!(story.outcome(Verdict::Done, None).answer["started"], json!(false));
}

#[test]
fn an_expired_hold_stops_the_machine_at_its_end() {
    let mut story = Story::new();
    let mut command = story.command(lamplighter_events::Action::Start, "ann");
    command.hold_for = Some(super::seconds("1h"));
    let end = story.now + jiff::SignedDuration::from_hours(1);
    story.asks(command).accepted().after(6).sees(PowerState::Running).look().after(10).look();
    story.is(Phase::On, None);
    story.effects.clear();
    assert_eq!(story.last.as_ref().unwrap().look_when_sent, Some(end));
    story.now = end - jiff::SignedDuration::from_secs(1);
    story.look().did_nothing();
    story.after(1).look().did(EffectKind::Stop);
}
