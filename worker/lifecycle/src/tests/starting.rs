//! The way up.

use lamplighter_events::{Action, Cause, Verdict};
use serde_json::json;

use super::{Story, seconds};
use crate::*;

#[test]
fn a_start_waits_settles_and_is_on() {
    let mut story = Story::new();
    story.start("ann").is(Phase::Starting, Some(Step::StartInstance)).did(EffectKind::Start);
    story.no_outcome().accepted().is(Phase::Starting, Some(Step::WaitRunning));
    story.after(3).sees(PowerState::Pending).look().did_nothing();
    story.after(3).sees(PowerState::Running).look().is(Phase::Starting, Some(Step::Settle));
    story.after(9).look().is(Phase::Starting, Some(Step::Settle)).no_outcome();
    story.after(1).look().is(Phase::On, None);
    let outcome = story.outcome(Verdict::Done, None);
    assert_eq!(outcome.answer["started"], json!(true));
    assert_eq!(outcome.answer["current_state"], json!("running"));
    assert_eq!(outcome.took_ms, 16_000);
}

#[test]
fn a_start_with_a_unit_costs_five_writes_before_its_events_are_cleared() {
    let mut story = Story::with_unit();
    story.start("ann").did(EffectKind::Start).accepted();
    assert_eq!(story.writes, 2);
    // Polls while it boots and while its agent comes up write nothing.
    story.after(5).sees(PowerState::Pending).look();
    story.after(5).sees_agent(Agent::Unregistered).look();
    story.after(5).sees_agent(Agent::Offline).look().did_nothing();
    assert_eq!(story.writes, 2);
    story.after(5).sees_agent(Agent::Online).look().did(EffectKind::Send);
    story.is(Phase::Starting, Some(Step::VerifyUnit)).sent("c-1");
    story.after(1).hears(CheckReading::Pending { command_id: Some("c-1".into()) }).look();
    assert_eq!(story.writes, 4);
    story.after(1).said("active").look().is(Phase::On, None);
    assert_eq!(story.writes, 5);
    let outcome = story.outcome(Verdict::Done, None);
    assert_eq!(outcome.answer["status"]["service_state"], json!("active"));
    assert_eq!(outcome.answer["status"]["overall_status"], json!("running"));
}

#[test]
fn the_host_itself_waits_until_it_has_been_up_for_settle() {
    let mut story = Story::with_unit();
    story.start("ann").accepted().after(9).sees_agent(Agent::Online).look();
    let Some(Effect::SendCommand { question: Question::Unit(probe), token, .. }) =
        story.effects.pop()
    else {
        panic!()
    };
    assert_eq!(probe.settle_seconds, 10);
    assert_eq!(token.len(), 32);
}

#[track_caller]
fn check_unit(state: &str, verdict: Verdict, cause: Option<Cause>, phase: Phase) {
    let mut story = Story::with_unit();
    story.start("ann").accepted().after(9).sees_agent(Agent::Online).look().sent("c");
    story.after(1).said(state).look();
    story.outcome(verdict, cause);
    assert_eq!(story.record.phase, phase, "{state}");
}

#[test]
fn a_unit_that_is_not_active_fails_the_start_and_the_machine_is_stopped() {
    check_unit("active", Verdict::Done, None, Phase::On);
    for state in ["failed", "inactive", "activating", "unknown", "deactivating", ""] {
        check_unit(state, Verdict::Failed, Some(Cause::UnitFailed), Phase::Stopping);
    }
}

#[test]
fn a_failed_start_ends_as_failed_once_its_machine_is_off() {
    let mut story = Story::with_unit();
    story.start("ann").accepted().after(9).sees_agent(Agent::Online).look().sent("c");
    story.effects.clear();
    story.after(1).said("failed").look().is(Phase::Stopping, Some(Step::StopInstance));
    story.did(EffectKind::Stop).accepted();
    story.after(6).sees(PowerState::Stopping).look().is(Phase::Stopping, Some(Step::WaitStopped));
    story.after(6).sees(PowerState::Stopped).look().is(Phase::Failed, None);
    assert_eq!(story.record.failure.as_ref().unwrap().cause, Cause::UnitFailed);
    assert!(story.record.holds.is_empty());
    // And the next start tries again.
    story.start("ann").is(Phase::Starting, Some(Step::StartInstance)).did(EffectKind::Start);
    assert!(story.record.failure.is_none());
}

#[test]
fn keep_failed_keeps_the_machine_until_its_hold_goes() {
    let mut story = Story::with_unit();
    story.spec.keep_failed = true;
    story.start("ann").accepted().after(9).sees_agent(Agent::Online).look().sent("c");
    story.effects.clear();
    story.after(1).said("failed").look().is(Phase::Failed, None).did_nothing();
    story.outcome(Verdict::Failed, Some(Cause::UnitFailed));
    story.after(600).sees(PowerState::Running).look().is(Phase::Failed, None).did_nothing();
    story.stop("ann").is(Phase::Stopping, Some(Step::StopInstance)).did(EffectKind::Stop);
}

#[test]
fn a_kept_machine_that_was_off_since_is_kept_no_more() {
    let mut story = Story::with_unit();
    story.spec.keep_failed = true;
    story.start("ann").accepted().after(9).sees_agent(Agent::Online).look().sent("c");
    story.after(1).said("failed").look().is(Phase::Failed, None);
    story.after(600).sees(PowerState::Stopped).look().stop("ann");
    story.effects.clear();
    // Whoever starts it now is somebody else: theirs is adopted and not stopped.
    story.after(600).sees(PowerState::Running).look().after(5).look();
    story.is(Phase::On, None).did_nothing();
}

#[test]
fn a_machine_that_falls_back_is_bounced_with_ec2s_reason() {
    let mut story = Story::new();
    story.start("ann").did(EffectKind::Start).accepted();
    story.after(3).sees(PowerState::Pending).look();
    story.after(10).sees(PowerState::Stopped);
    story.machine().reason = Some("Client.InternalError: Client error on launch".into());
    // First seen: it might be a describe that lags.
    story.look().is(Phase::Starting, Some(Step::WaitRunning)).no_outcome();
    story.after(FELL_BACK_SECONDS - 1).look().no_outcome();
    story.after(1).look().is(Phase::Failed, None).did_nothing();
    let outcome = story.outcome(Verdict::Failed, Some(Cause::Bounced));
    assert!(outcome.message.contains("Client.InternalError"), "{}", outcome.message);
}

#[test]
fn a_describe_that_lags_does_not_bounce_a_start() {
    let mut story = Story::new();
    story.start("ann").accepted();
    story.after(1).sees(PowerState::Stopped).look().after(3).look();
    story.is(Phase::Starting, Some(Step::WaitRunning)).no_outcome();
    story.after(2).sees(PowerState::Pending).look().after(3).sees(PowerState::Running).look();
    story.is(Phase::Starting, Some(Step::Settle));
}

#[test]
fn a_start_while_stopping_starts_again_afterwards() {
    let mut story = Story::on("ann");
    story.stop("ann").did(EffectKind::Stop).accepted();
    story.after(2).sees(PowerState::Stopping).look().is(Phase::Stopping, Some(Step::WaitStopped));
    story.after(1).start("bob").is(Phase::Starting, Some(Step::WaitStoppedFirst)).did_nothing();
    // Ann's stop is answered in the same commit: somebody holds it again.
    let stopped = story.outcome(Verdict::Done, None);
    assert_eq!(stopped.answer["stopped"], json!(false));
    assert_eq!(stopped.answer["held_by"], json!(["bob"]));
    story.after(5).sees(PowerState::Stopping).look().did_nothing();
    story.after(5).sees(PowerState::Stopped).look().did(EffectKind::Start).accepted();
    story.after(6).sees(PowerState::Running).look().after(10).look().is(Phase::On, None);
    assert_eq!(story.outcome(Verdict::Done, None).answer["started"], json!(true));
}

#[test]
fn a_describe_that_lags_behind_our_stop_is_no_way_up() {
    for lagging in [PowerState::Pending, PowerState::Running] {
        let mut story = Story::on("ann");
        story.stop("ann").did(EffectKind::Stop).accepted();
        story.after(1).sees(lagging).start("bob");
        story.is(Phase::Starting, Some(Step::WaitStoppedFirst)).did_nothing();
        story.after(8).sees(PowerState::Stopped);
        story.machine().user_stopped_at = Some(story.now - jiff::SignedDuration::from_secs(9));
        story.look().did(EffectKind::Start);
        assert_eq!(story.record.holds.len(), 1, "bob's start is not lost");
    }
}

#[test]
fn a_start_of_a_machine_that_somebody_is_stopping_is_not_lost() {
    let mut story = Story::new();
    story.sees(PowerState::Stopping).start("ann");
    story.is(Phase::Starting, Some(Step::WaitStoppedFirst)).did_nothing();
    story.after(20).sees(PowerState::Stopped).look().did(EffectKind::Start);
}

#[track_caller]
fn check_refusal(cause: Cause, refusal: Refusal, phase: Phase) {
    let mut story = Story::new();
    story.start("ann").refused(cause, refusal);
    assert_eq!(story.record.phase, phase, "{cause}");
    match refusal {
        Refusal::Final => drop(story.outcome(Verdict::Failed, Some(cause))),
        Refusal::RetryAfter(_) => drop(story.no_outcome()),
    }
}

#[test]
fn a_refused_start_fails_at_once_only_where_it_can_never_be_accepted() {
    check_refusal(Cause::Invalid, Refusal::Final, Phase::Failed);
    check_refusal(Cause::NotFound, Refusal::Final, Phase::Failed);
    check_refusal(Cause::Capacity, Refusal::RetryAfter(2000), Phase::Starting);
    check_refusal(Cause::Throttled, Refusal::RetryAfter(2000), Phase::Starting);
}

#[test]
fn a_denied_start_is_tried_for_a_minute_and_then_fails() {
    let mut story = Story::new();
    story.start("ann");
    let mut tries = 0;
    while story.record.phase == Phase::Starting {
        story.did(EffectKind::Start).no_outcome().refused(Cause::Denied, Refusal::Final);
        tries += 1;
        story.after(5).look();
    }
    // Each five seconds for a minute, and the one that is final.
    assert_eq!(tries, 13);
    story.is(Phase::Failed, None).outcome(Verdict::Failed, Some(Cause::Denied));
}

#[test]
fn rights_that_arrive_within_the_minute_lose_no_start() {
    let mut story = Story::new();
    story.start("ann").refused(Cause::Denied, Refusal::Final).no_outcome();
    story.after(5).look().refused(Cause::Denied, Refusal::Final).no_outcome();
    story.after(5).look().accepted().after(6).sees(PowerState::Running).look();
    story.after(10).look().is(Phase::On, None);
    story.outcome(Verdict::Done, None);
}

#[test]
fn missing_capacity_is_retried_until_the_deadline_and_then_is_the_cause() {
    let mut story = Story::new();
    story.start("ann");
    let mut tries = 0;
    while story.record.phase == Phase::Starting {
        story.refused(Cause::Capacity, Refusal::RetryAfter(15_000));
        tries += 1;
        story.after(7).look().after(8).look();
    }
    assert_eq!(tries, 8);
    story.is(Phase::Failed, None);
    story.outcome(Verdict::Failed, Some(Cause::Capacity));
}

#[test]
fn a_machine_that_never_runs_meets_its_deadline_and_is_stopped() {
    let mut story = Story::new();
    story.start("ann").accepted();
    story.after(119).sees(PowerState::Pending).look().is(Phase::Starting, Some(Step::WaitRunning));
    story.effects.clear();
    story.after(1).look().is(Phase::Stopping, Some(Step::WaitStoppable)).did_nothing();
    story.outcome(Verdict::Failed, Some(Cause::Deadline));
    story.after(30).sees(PowerState::Running).look().did(EffectKind::Stop);
}

#[test]
fn an_agent_that_never_comes_is_unreachable() {
    let mut story = Story::with_unit();
    story.start("ann").accepted().after(10).sees_agent(Agent::Unregistered).look();
    story.after(229).look().no_outcome();
    story.after(1).look();
    let outcome = story.outcome(Verdict::Failed, Some(Cause::AgentUnreachable));
    assert!(outcome.message.contains("AmazonSSMManagedInstanceCore"), "{}", outcome.message);
}

#[test]
fn a_question_that_the_host_never_answers_is_asked_again_and_then_unreachable() {
    let mut story = Story::with_unit();
    story.start("ann").accepted().after(10).sees_agent(Agent::Online).look().sent("c-1");
    let first = story.effects.clone();
    story.after(1).hears(CheckReading::Undelivered { detail: "Delivery Timed Out".into() }).look();
    story.is(Phase::Starting, Some(Step::WaitRunning)).no_outcome();
    story.effects.clear();
    story.after(5).sees_agent(Agent::Online).look().did(EffectKind::Send).sent("c-2");
    assert_ne!(story.record.attempt.check.as_ref().unwrap().token, token_of(&first));
    story.after(230).hears(CheckReading::Broken { detail: "Execution Timed Out".into() }).look();
    story.outcome(Verdict::Failed, Some(Cause::AgentUnreachable));
}

fn token_of(effects: &[Effect]) -> String {
    let token = effects.iter().find_map(|effect| match effect {
        Effect::SendCommand { token, .. } => Some(token.clone()),
        _ => None,
    });
    token.unwrap()
}

#[test]
fn health_is_asked_until_it_answers_or_its_time_is_over() {
    for (healthy, cause) in [(true, None), (false, Some(Cause::Unhealthy))] {
        let mut story = Story::new();
        story.spec.health = Some(HealthUrl::parse("http://{private_ip}:8000/health").unwrap());
        story.start("ann").accepted().after(6).sees(PowerState::Running).look();
        story.after(10).look().is(Phase::Starting, Some(Step::VerifyHealth));
        assert!(plan_observation(&story.record, &story.spec, &[], story.now).health.is_some());
        story.seen.health = Some(HealthReading::Unhealthy { detail: "HTTP 503".into() });
        story.after(5).look().no_outcome();
        if healthy {
            story.seen.health = Some(HealthReading::Healthy);
            story.after(5).look();
            story.outcome(Verdict::Done, None);
        } else {
            story.after(174).look().no_outcome();
            story.after(1).look();
            let outcome = story.outcome(Verdict::Failed, cause);
            assert!(outcome.message.contains("HTTP 503"), "{}", outcome.message);
        }
    }
}

#[test]
fn a_start_of_a_running_machine_verifies_it_and_starts_nothing() {
    let mut story = Story::with_unit();
    story.sees_agent(Agent::Online).start("ann");
    // First contact: it is adopted, and so it is on.
    story.is(Phase::On, None).did_nothing();
    assert_eq!(story.outcome(Verdict::Done, None).answer["started"], json!(false));
    assert_eq!(story.record.holds.len(), 2);
}

#[test]
fn an_instance_that_is_gone_is_not_found() {
    for state in [PowerState::Terminated, PowerState::Missing] {
        let mut story = Story::new();
        story.sees(state).start("ann").after(5).look().did_nothing();
        story.outcome(Verdict::Failed, Some(Cause::NotFound));
        story.is(Phase::Failed, None);
    }
}

#[test]
fn what_cannot_be_observed_fails_its_start_with_the_cause() {
    let mut story = Story::new();
    let command = story.command(Action::Start, "ann");
    story.cannot_look(Cause::Invalid, &[Input::Command(Box::new(command))]);
    story.outcome(Verdict::Failed, Some(Cause::Invalid));
    story.is(Phase::Failed, None).did_nothing();
}

#[test]
fn what_may_not_be_observed_is_looked_at_for_a_minute_before_its_start_fails() {
    let mut story = Story::new();
    let command = story.command(Action::Start, "ann");
    story.cannot_look(Cause::Denied, &[Input::Command(Box::new(command))]);
    story.is(Phase::Starting, Some(Step::StartInstance)).no_outcome();
    assert_eq!(
        story.record.wake_at,
        Some(story.now + jiff::SignedDuration::from_secs(RIGHTS_RETRY_SECONDS))
    );
    story.after(59).cannot_look(Cause::Denied, &[]).no_outcome();
    story.after(1).cannot_look(Cause::Denied, &[]).is(Phase::Failed, None);
    story.outcome(Verdict::Failed, Some(Cause::Denied));
}

#[test]
fn a_look_that_is_allowed_within_the_minute_goes_on_with_the_start() {
    let mut story = Story::new();
    let command = story.command(Action::Start, "ann");
    story.cannot_look(Cause::Denied, &[Input::Command(Box::new(command))]);
    story.after(5).look().did(EffectKind::Start).no_outcome();
}

#[test]
fn a_hold_that_ends_before_the_machine_is_on_ends_the_start() {
    let mut story = Story::new();
    let mut command = story.command(Action::Start, "ann");
    command.hold_for = Some(seconds("30s"));
    story.asks(command).accepted();
    story.effects.clear();
    story.after(31).sees(PowerState::Running).look().did(EffectKind::Stop);
    story.outcome(Verdict::Failed, Some(Cause::Expired));
}

#[test]
fn a_kill_during_a_start_supersedes_it_and_winds_it_down() {
    let mut story = Story::new();
    story.start("ann").did(EffectKind::Start);
    // While the call is under way nothing is concluded, but the holds change.
    story.after(1).kill().did_nothing();
    assert!(story.record.holds.is_empty());
    let outcome = story.outcome(Verdict::Rejected, Some(Cause::Superseded));
    assert_eq!(outcome.action, Some(Action::Start));
    story.accepted();
    assert_eq!(story.last.as_ref().unwrap().look_at, Some(story.now));
    story.after(1).sees(PowerState::Stopped).look().is(Phase::Stopping, Some(Step::StopInstance));
    story.no_outcome();
    story.after(5).sees(PowerState::Pending).look().did_nothing();
    story.after(9).sees(PowerState::Running).look().did(EffectKind::Stop).accepted();
    story.after(9).sees(PowerState::Stopped).look().is(Phase::Off, None);
    assert_eq!(story.outcome(Verdict::Done, None).answer["stopped"], json!(true));
}

/// Crowd seed 21615: refused once, then paused for longer than it may be retried, it failed on resume.
#[test]
fn a_pause_does_not_use_up_the_time_of_a_start_that_was_refused() {
    let mut story = Story::new();
    story.start("ann").did(EffectKind::Start);
    story.refused(Cause::Throttled, Refusal::RetryAfter(1000));
    let pause = story.command(Action::Pause, "bob");
    story.after(1).asks(pause).outcome(Verdict::Done, None);
    story.after(200).look().did_nothing();
    let resume = story.command(Action::Resume, "bob");
    story.asks(resume).did(EffectKind::Start).outcome(Verdict::Done, None);
    story.accepted().is(Phase::Starting, Some(Step::WaitRunning));
}
