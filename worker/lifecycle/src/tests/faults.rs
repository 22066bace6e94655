//! Lost answers, late effects, and hands off.

use lamplighter_events::{Action, AttentionKind, Cause, Verdict};

use super::Story;
use crate::*;

#[test]
fn while_an_effect_may_be_under_way_nothing_is_concluded() {
    let mut story = Story::new();
    story.start("ann").did(EffectKind::Start);
    story.after(5).sees(PowerState::Running).look().is(Phase::Starting, Some(Step::StartInstance));
    story.after(10).look().did_nothing().no_outcome();
    assert!(story.record.doing.is_some());
}

#[test]
fn a_start_whose_answer_was_lost_is_found_by_looking() {
    let mut story = Story::new();
    story.start("ann").did(EffectKind::Start);
    story.after(16).sees(PowerState::Running).look().is(Phase::Starting, Some(Step::Settle));
    assert_eq!(story.record.unanswered.len(), 1);
    story.after(10).look().is(Phase::On, None).did_nothing();
    assert_eq!(story.outcome(Verdict::Done, None).answer["started"], serde_json::json!(true));
    // It is watched for as long as the lost request could still be accepted.
    assert!(story.record.wake_at.is_some());
    story.after(15 * 60 + 30).look();
    assert!(story.record.unanswered.is_empty());
}

#[test]
fn a_start_whose_answer_was_lost_and_that_does_not_show_is_made_again_after_the_margin() {
    let mut story = Story::new();
    story.start("ann").did(EffectKind::Start);
    story.after(16).look().did_nothing();
    story.after(4).look().did(EffectKind::Start).accepted();
}

#[test]
fn a_lost_start_that_shows_after_the_hold_is_gone_is_ours_and_is_stopped() {
    let mut story = Story::new();
    story.start("ann").did(EffectKind::Start);
    story.after(1).stop("ann");
    story.after(20).sees(PowerState::Stopped).look().is(Phase::Off, None).did_nothing();
    assert!(story.record.wake_at.is_some(), "a late start must be found");
    story.after(60).sees(PowerState::Running).look().did(EffectKind::Stop);
    assert!(story.attentions().is_empty(), "nobody outside did it");
}

#[test]
fn a_stop_whose_answer_was_lost_and_that_comes_late_is_ours_and_it_starts_again() {
    let mut story = Story::on("ann");
    story.stop("ann").did(EffectKind::Stop);
    story.after(1).sees(PowerState::Running).start("bob");
    // The permission is over, the machine still runs: verified, on.
    story.after(20).look().after(10).look().is(Phase::On, None);
    story.outcomes.clear();
    story.effects.clear();
    // Then the request is accepted after all.
    story
        .after(60)
        .sees(PowerState::Stopping)
        .look()
        .is(Phase::Starting, Some(Step::WaitStoppedFirst));
    assert_eq!(story.record.holds.len(), 1, "holds stay");
    story.after(9).sees(PowerState::Stopped).look().did(EffectKind::Start);
    assert!(story.attentions().is_empty());
}

#[test]
fn an_observation_from_before_the_permissions_end_counts_for_nothing() {
    let mut story = Story::new();
    story.start("ann").did(EffectKind::Start);
    let before = story.now;
    story.after(16);
    let mut seen = Observed::bare(before, PowerState::Running);
    seen.at = before;
    let decision = decide(&story.record, &story.spec, &[], &Ok(seen), story.now, "late");
    assert_eq!(decision.next.phase, Phase::Starting);
    assert_eq!(decision.next.step, Some(Step::StartInstance));
    assert_eq!(decision.look_at, Some(story.now));
}

#[test]
fn an_observation_from_within_the_margin_is_within_it_however_late_it_is_decided() {
    let mut story = Story::on("ann");
    story.after(60).sees_it_stopped_outside(PowerState::Stopped).look().is(Phase::On, None);
    let early = story.now + jiff::SignedDuration::from_secs(1);
    story.after(30);
    let seen = Observed { at: early, ..story.seen.clone() };
    let decision = decide(&story.record, &story.spec, &[], &Ok(seen), story.now, "late");
    assert_eq!(decision.next.phase, Phase::On);
    assert!(decision.look_at.is_some_and(|at| at <= story.now));
}

#[test]
fn a_worker_whose_clock_is_behind_looks_again_when_its_own_clock_says_so() {
    let mut story = Story::new();
    story.start("ann");
    let ahead = story.now + jiff::SignedDuration::from_secs(25);
    let nonce = story.record.doing.as_ref().unwrap().nonce.clone();
    let answer = EffectAnswer::Accepted { id: None };
    let ApplyAnswer::Commit(answered) =
        apply_answer(&story.record, &story.spec, &nonce, &answer, &[], ahead)
    else {
        panic!("the answer was stale")
    };
    story.record = answered.next;
    story.after(1).sees(PowerState::Pending).look();
    assert_eq!(story.last.as_ref().unwrap().look_at, Some(ahead));
}

#[test]
fn an_answer_that_comes_after_a_new_decision_only_says_that_nothing_is_outstanding() {
    let mut story = Story::new();
    story.start("ann").did(EffectKind::Start);
    let nonce = story.record.doing.as_ref().unwrap().nonce.clone();
    story.after(16).sees(PowerState::Running).look();
    let answer = EffectAnswer::Accepted { id: None };
    let applied = apply_answer(&story.record, &story.spec, &nonce, &answer, &[], story.now);
    let ApplyAnswer::Commit(decision) = applied else { panic!() };
    assert!(decision.next.unanswered.is_empty());
    assert_eq!(decision.next.step, story.record.step);
    let again = apply_answer(&decision.next, &story.spec, &nonce, &answer, &[], story.now);
    assert_eq!(again, ApplyAnswer::Stale);
}

#[test]
fn a_question_whose_answer_was_lost_is_found_by_its_token() {
    let mut story = Story::with_unit();
    story.start("ann").accepted().after(9).sees_agent(Agent::Online).look();
    story.effects.clear();
    story.after(16).hears(CheckReading::Pending { command_id: Some("c-9".into()) }).look();
    story.did_nothing();
    assert_eq!(story.record.attempt.check.as_ref().unwrap().command_id.as_deref(), Some("c-9"));
    story.after(1).said("active").look().is(Phase::On, None);
}

#[test]
fn a_question_that_never_arrived_is_asked_again_under_the_same_token() {
    let mut story = Story::with_unit();
    story.start("ann").accepted().after(9).sees_agent(Agent::Online).look();
    let token = story.record.attempt.check.as_ref().unwrap().token.clone();
    story.effects.clear();
    story.after(16).hears(CheckReading::Absent).look().did_nothing();
    story.after(5).hears(CheckReading::Absent).look().did(EffectKind::Send);
    assert_eq!(story.record.attempt.check.as_ref().unwrap().token, token);
}

#[test]
fn paused_means_observe_only() {
    let mut story = Story::new();
    let pause = story.command(Action::Pause, "admin");
    story.asks(pause);
    story.outcomes.clear();
    story.after(1).start("ann").did_nothing().no_outcome();
    assert!(story.record.why.contains("paused by holder admin"), "{}", story.record.why);
    assert!(story.record.wanted(story.now), "its hold is recorded all the same");
    story.after(3600).look().did_nothing();
    let resume = story.command(Action::Resume, "admin");
    story.asks(resume).did(EffectKind::Start);
}

#[test]
fn a_paused_target_that_is_full_of_starts_can_still_be_resumed_or_killed() {
    for way_out in [Action::Resume, Action::Kill] {
        let mut story = Story::new();
        let pause = story.command(Action::Pause, "admin");
        story.asks(pause);
        for number in 0..OPEN_COMMANDS_MAX {
            story.after(1).start(&format!("holder-{number}"));
        }
        assert_eq!(story.record.open.len(), OPEN_COMMANDS_MAX);
        story.outcomes.clear();
        story.after(1).start("one-too-many");
        story.outcome(Verdict::Rejected, Some(Cause::Conflict));
        let command = story.after(1).command(way_out, "admin");
        let id = command.id.clone();
        story.asks(command);
        let told = story.outcomes.iter().find(|outcome| outcome.command == id).unwrap();
        assert_eq!(told.outcome, Verdict::Done, "{}", told.message);
    }
}

#[test]
fn a_paused_target_that_would_ask_for_its_unit_writes_nothing_at_each_look() {
    let mut story = Story::with_unit();
    story.start("ann").accepted();
    let pause = story.command(Action::Pause, "admin");
    story.asks(pause).after(300).sees_agent(Agent::Online).look();
    // What waits to be told is looked at, and written, for its own sake.
    story.record.outbox.clear();
    story.after(300).sees_agent(Agent::Online).look();
    let writes = story.writes;
    for _ in 0..3 {
        story.after(300).sees_agent(Agent::Online).look();
    }
    assert_eq!((story.writes, story.record.checks), (writes, 0));
}

#[test]
fn a_poll_that_finds_nothing_new_writes_nothing() {
    let mut story = Story::new();
    story.start("ann").accepted();
    let writes = story.writes;
    for _ in 0..3 {
        story.after(5).sees(PowerState::Pending).look();
    }
    assert_eq!(story.writes, writes);
    // A long wait tells people once what it sees.
    for _ in 0..10 {
        story.after(5).sees(PowerState::Pending).look();
    }
    assert_eq!(story.writes, writes + 1);
    assert_eq!(story.record.why, "EC2 is starting the machine");
}

#[test]
fn a_stop_by_somebody_while_it_starts_counts_as_stopped_outside() {
    let mut story = Story::new();
    story.start("ann").accepted().after(6).sees(PowerState::Running).look();
    story.effects.clear();
    story.after(2).sees(PowerState::Stopped);
    story.machine().user_stopped_at = Some(story.now);
    story.look().after(5).look().is(Phase::Off, None).did_nothing();
    assert_eq!(story.attentions(), vec![AttentionKind::StoppedOutside]);
    story.outcome(Verdict::Rejected, Some(Cause::Superseded));
}

#[test]
fn events_stay_until_they_are_acknowledged_one_by_one() {
    let story = Story::on("ann");
    let ids: Vec<String> = story.record.outbox.iter().map(|event| event.id.clone()).collect();
    assert!(ids.len() > 2);
    let decision = {
        let sent = Input::EventsSent(vec![ids[0].clone()]);
        let seen: Sighting = Ok(Observed::bare(story.now, PowerState::Running));
        decide(&story.record, &story.spec, &[sent], &seen, story.now, "n")
    };
    assert!(decision.changed);
    assert_eq!(decision.next.outbox.len(), ids.len() - 1);
    let cleared = clear_sent(&decision, &ids[1..]);
    assert!(cleared.outbox.is_empty());
    assert_eq!(cleared.rev, decision.next.rev + 1);
    assert_eq!(cleared.wake_at, None, "nothing else to wake for");
}

#[test]
fn a_start_on_the_way_down_is_answered_even_if_nothing_can_be_seen() {
    let mut story = Story::on("ann");
    story.stop("ann").accepted().after(2).sees(PowerState::Stopping).look();
    let start = story.command(Action::Start, "bob");
    story.after(1).cannot_look(Cause::Invalid, &[Input::Command(Box::new(start))]);
    let verdicts: Vec<Verdict> = story.outcomes.drain(..).map(|outcome| outcome.outcome).collect();
    assert!(verdicts.contains(&Verdict::Failed), "{verdicts:?}");
    assert!(story.record.open.is_empty());
    // Once it can be seen again, it is wound down to its end.
    story.after(60).sees(PowerState::Stopped).look();
    assert!(matches!(story.record.phase, Phase::Failed | Phase::Off), "{:?}", story.record.phase);
}

#[test]
fn an_answer_to_the_repeat_of_a_lost_request_does_not_forget_the_first() {
    let mut story = Story::new();
    story.start("ann").did(EffectKind::Start);
    story.after(20).look().did(EffectKind::Start);
    let nonce = story.record.doing.as_ref().unwrap().nonce.clone();
    // The repeat's time is over as well, and then its worker says that it was never made.
    story.after(16).stop("ann");
    let answer = EffectAnswer::NotMade;
    let applied = apply_answer(&story.record, &story.spec, &nonce, &answer, &[], story.now);
    let ApplyAnswer::Commit(decision) = applied else { panic!("the answer was stale") };
    story.record = decision.next;
    assert_eq!(story.record.unanswered.len(), 1, "the first request may still be accepted");
    story.after(10).look().is(Phase::Off, None);
    story.after(60).sees(PowerState::Running).look().did(EffectKind::Stop);
    assert!(story.attentions().is_empty(), "nobody outside started it");
}

#[test]
fn a_start_that_cannot_be_seen_any_more_is_wound_down_and_not_taken_for_off() {
    let mut story = Story::new();
    story.start("ann").accepted();
    story.effects.clear();
    // What was seen last, `stopped`, is from before the start.
    story.after(CONSISTENCY_MARGIN_SECONDS).cannot_look(Cause::Invalid, &[]);
    story.outcome(Verdict::Failed, Some(Cause::Invalid));
    assert_eq!(story.record.phase, Phase::Stopping);
    // Nor after another start that nobody can see.
    let again = story.command(Action::Start, "bob");
    let again = Input::Command(Box::new(again));
    story.cannot_look(Cause::Invalid, &[again]);
    story.outcome(Verdict::Failed, Some(Cause::Invalid));
    assert_eq!(story.record.phase, Phase::Stopping);
    story.after(60).sees(PowerState::Running).look().did(EffectKind::Stop);
    assert!(story.attentions().is_empty(), "nobody outside started it");
}

#[test]
fn a_kept_machine_that_does_not_show_yet_is_still_kept_and_not_adopted() {
    let mut story = Story::new();
    story.spec.keep_failed = true;
    story.start("ann").accepted();
    story.cannot_look(Cause::Invalid, &[]).is(Phase::Failed, None);
    // A describe that lags, within the margin of the start.
    story.after(1).sees(PowerState::Stopped).look();
    story.after(9).sees(PowerState::Running).look().after(5).look().is(Phase::Failed, None);
    assert!(story.record.up.kept && story.attentions().is_empty(), "{}", story.record.why);
    story.effects.clear();
    story.stop("ann").did(EffectKind::Stop);
}

#[test]
fn a_permission_that_ran_out_unused_is_no_refusal_and_costs_no_time() {
    let mut story = Story::new();
    story.start("ann").did(EffectKind::Start);
    // The commit itself took three minutes, more than the start may take in all.
    story.after(180).answered(&EffectAnswer::NotMade).no_outcome();
    assert_eq!(story.record.attempt.refusals, 0);
    assert_eq!(story.last.as_ref().unwrap().look_at, Some(story.now));
    story.look().did(EffectKind::Start).accepted();
    story.after(6).sees(PowerState::Running).look().after(10).look().is(Phase::On, None);
    let mut asked = Story::with_unit();
    asked.start("ann").accepted().after(9).sees_agent(Agent::Online).look();
    asked.after(20).answered(&EffectAnswer::NotMade).is(Phase::Starting, Some(Step::WaitRunning));
    asked.effects.clear();
    asked.sees_agent(Agent::Online).look().did(EffectKind::Send);
}
