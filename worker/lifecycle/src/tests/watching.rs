//! The unit of a target that is on.

use lamplighter_events::{Action, AttentionKind, Verdict};
use serde_json::json;

use super::{Story, seconds};
use crate::*;

fn on_with_unit() -> Story {
    let mut story = Story::with_unit();
    story.instance().unit_check_every = Some(seconds("5m"));
    story.start("ann").accepted().after(9).sees_agent(Agent::Online).look().sent("c-1");
    story.after(1).said("active").look().is(Phase::On, None);
    story.outcomes.clear();
    story.effects.clear();
    story
}

#[test]
fn a_unit_that_dies_while_on_raises_attention_and_shows_as_error() {
    let mut story = on_with_unit();
    story.after(299).sees_agent(Agent::Online).look().did_nothing();
    story.after(1).look().did(EffectKind::Send).sent("c-2");
    story.after(1).said("failed").look().is(Phase::On, None);
    assert_eq!(story.attentions(), vec![AttentionKind::UnitDied]);
    let view = StatusView::of(&story.record, &story.spec, story.now);
    assert_eq!(view.overall_status, "error");
    assert_eq!(view.service_state, "failed");
    // Said once; and once it is back, the error is gone.
    story.after(300).sees_agent(Agent::Online).look().did(EffectKind::Send).sent("c-3");
    story.after(1).said("failed").look();
    assert_eq!(story.attentions().len(), 1);
    story.after(300).sees_agent(Agent::Online).look().did(EffectKind::Send).sent("c-4");
    story.after(1).said("active").look();
    assert_eq!(StatusView::of(&story.record, &story.spec, story.now).overall_status, "running");
}

#[test]
fn a_unit_that_flaps_while_the_bus_is_away_does_not_fill_the_record() {
    let mut story = on_with_unit();
    for _ in 0..OUTBOX_MAX {
        for word in ["failed", "active"] {
            story.after(300).sees_agent(Agent::Online).look().sent("c");
            story.after(1).said(word).look();
        }
    }
    assert_eq!(story.record.outbox.len(), OUTBOX_MAX);
    // What happened last is still told, and so is every outcome.
    assert_eq!(story.attentions().len(), OUTBOX_MAX - 1);
    let first = &story.record.outbox[0].body;
    assert!(matches!(first, lamplighter_events::EventBody::CommandCompleted { .. }), "{first:?}");
}

#[test]
fn a_status_of_what_is_on_asks_the_host_and_answers_in_the_seeds_words() {
    let mut story = on_with_unit();
    story.after(60).sees_agent(Agent::Online);
    let status = story.command(Action::Status, "ann");
    story.asks(status).no_outcome().did(EffectKind::Send).sent("c-2");
    story.after(1).said("active").look();
    let answer = story.outcome(Verdict::Done, None).answer;
    assert_eq!(answer["lock_status"], json!("running"));
    assert_eq!(
        answer["instance_status"],
        json!({"ec2_state": "running", "service_state": "active", "overall_status": "running"})
    );
}

#[test]
fn a_status_of_what_is_off_costs_no_call() {
    let mut story = Story::with_unit();
    let status = story.command(Action::Status, "ann");
    story.asks(status).did_nothing();
    let answer = story.outcome(Verdict::Done, None).answer;
    assert_eq!(answer["lock_status"], json!("idle"));
    assert_eq!(
        answer["instance_status"],
        json!({"ec2_state": "stopped", "service_state": "n/a", "overall_status": "stopped"})
    );
}

#[test]
fn an_agent_that_went_away_is_unknown_not_dead() {
    let mut story = on_with_unit();
    story.after(300).sees_agent(Agent::Offline).look().did_nothing();
    assert_eq!(story.record.up.unit.as_ref().unwrap().state, "unknown");
    assert!(story.attentions().is_empty());
    assert!(!story.record.up.unit_down);
}

#[test]
fn a_start_while_the_unit_is_down_verifies_again() {
    let mut story = on_with_unit();
    story.after(300).sees_agent(Agent::Online).look().did(EffectKind::Send).sent("c-2");
    story.after(1).said("failed").look();
    story.after(5).sees_agent(Agent::Online).start("bob");
    story.is(Phase::Starting, Some(Step::VerifyUnit)).did(EffectKind::Send).sent("c-3");
    story.after(1).said("active").look().is(Phase::On, None);
    assert_eq!(story.outcome(Verdict::Done, None).answer["started"], json!(false));
}

#[test]
fn a_stop_during_a_question_stops_the_machine() {
    let mut story = on_with_unit();
    story.after(300).sees_agent(Agent::Online).look().did(EffectKind::Send);
    story.after(1).stop("ann").did_nothing().sent("c-2");
    story.after(1).sees(PowerState::Running).look().did(EffectKind::Stop);
    assert!(story.record.attempt.check.is_none());
}

#[test]
fn what_is_to_be_stopped_is_not_asked_how_it_is() {
    let mut story = on_with_unit();
    story.after(300);
    assert!(plan_observation(&story.record, &story.spec, &[], story.now).agent);
    let stop = Input::Command(Box::new(story.command(Action::Stop, "ann")));
    assert!(!plan_observation(&story.record, &story.spec, &[stop], story.now).agent);
    // Nor later, while its hold is gone and the stop is yet to be made.
    story.record.holds.clear();
    assert!(!plan_observation(&story.record, &story.spec, &[], story.now).agent);
}

#[test]
fn a_start_while_the_unit_is_down_and_being_asked_for_waits_for_the_verdict() {
    let mut story = on_with_unit();
    story.after(300).sees_agent(Agent::Online).look().did(EffectKind::Send).sent("c-2");
    story.after(1).said("failed").look();
    story.after(300).sees_agent(Agent::Online).look().did(EffectKind::Send).sent("c-3");
    story.after(1).hears(CheckReading::Pending { command_id: Some("c-3".into()) }).start("bob");
    story.no_outcome();
    story.after(1).said("failed").look();
    story.after(1).sees_agent(Agent::Online).look().did(EffectKind::Send).sent("c-4");
    story.is(Phase::Starting, Some(Step::VerifyUnit)).after(1).said("failed").look();
    story.outcome(Verdict::Failed, Some(lamplighter_events::Cause::UnitFailed));
}

#[test]
fn a_restart_outside_voids_what_the_unit_said() {
    let mut story = on_with_unit();
    story.after(10).sees(PowerState::Stopping).look().is(Phase::On, None);
    assert!(story.record.up.unit.is_none());
    story.after(4).sees_agent(Agent::Online).look().did(EffectKind::Send);
}
