//! Who wants it, in DESIGN.md §4's words.

use jiff::SignedDuration;
use lamplighter_events::{Action, AttentionKind, Cause, Verdict};
use serde_json::json;

use super::{Story, seconds};
use crate::*;

#[test]
fn the_same_holder_again_is_done_without_a_start() {
    let mut story = Story::on("ann");
    story.after(60).start("ann").did_nothing();
    assert_eq!(story.outcome(Verdict::Done, None).answer["started"], json!(false));
    assert_eq!(story.record.holds.len(), 1);
}

#[test]
fn the_newest_start_decides_the_end_whatever_the_order_of_arrival() {
    let mut story = Story::on("ann");
    story.after(60);
    let mut newer = story.command(Action::Start, "ann");
    newer.hold_for = Some(seconds("1h"));
    let mut older = story.command(Action::Start, "ann");
    older.hold_for = Some(seconds("5h"));
    older.sent_at -= SignedDuration::from_secs(10);
    let end = newer.sent_at + SignedDuration::from_hours(1);
    story.asks(newer).after(1).asks(older);
    assert_eq!(story.record.holds[0].until, Some(end));
    assert_eq!(story.record.holds[0].kind, HoldKind::Firm);
}

#[test]
fn the_newest_start_decided_the_end_even_once_that_end_has_come() {
    let mut story = Story::on("ann");
    story.after(60);
    let mut older = story.command(Action::Start, "ann");
    older.hold_for = Some(seconds("5h"));
    let mut newer = story.after(1).command(Action::Start, "ann");
    newer.hold_for = Some(seconds("1m"));
    newer.id = lamplighter_events::CommandId::parse("newer").unwrap();
    story.asks(newer).after(60).look().did(EffectKind::Stop);
    story.outcomes.clear();
    story.asks(older).did_nothing();
    story.outcome(Verdict::Rejected, Some(Cause::Superseded));
    assert!(story.record.holds.is_empty());
}

#[test]
fn an_exclusive_target_refuses_a_second_holder_and_names_the_first() {
    let mut story = Story::on("ann");
    story.spec.exclusive = true;
    story.after(5).start("bob").did_nothing();
    let outcome = story.outcome(Verdict::Rejected, Some(Cause::Conflict));
    assert_eq!(outcome.answer["holder"], json!("ann"));
    assert_eq!(outcome.answer["expires_at"], json!(null));
    // A hold that ended frees it: no row blocks for ever.
    story.after(5).stop("ann").accepted().after(9).sees(PowerState::Stopped).look();
    story.outcomes.clear();
    story.effects.clear();
    story.after(1).start("bob").did(EffectKind::Start);
}

#[test]
fn an_expired_hold_frees_an_exclusive_target() {
    let mut story = Story::new();
    story.spec.exclusive = true;
    let mut command = story.command(Action::Start, "ann");
    command.hold_for = Some(seconds("1m"));
    story.asks(command).accepted().after(61).sees(PowerState::Running);
    story.effects.clear();
    story.start("bob");
    assert_eq!(story.record.holds.len(), 1);
    assert_eq!(story.record.holds[0].holder.as_str(), "bob");
}

#[test]
fn a_stop_drops_the_callers_hold_only() {
    let mut story = Story::on("ann");
    story.after(5).start("bob");
    story.outcomes.clear();
    story.after(5).stop("ann").did_nothing().is(Phase::On, None);
    let outcome = story.outcome(Verdict::Done, None);
    assert_eq!(outcome.answer["stopped"], json!(false));
    assert_eq!(outcome.answer["held_by"], json!(["bob"]));
    story.after(5).stop("bob").did(EffectKind::Stop);
}

#[test]
fn a_strangers_stop_takes_nobodys_hold() {
    let mut story = Story::on("ann");
    story.after(5).stop("mallory").did_nothing();
    assert_eq!(story.outcome(Verdict::Done, None).answer["held_by"], json!(["ann"]));
}

#[test]
fn a_kill_drops_all() {
    let mut story = Story::on("ann");
    story.after(5).start("bob");
    story.after(5).kill().did(EffectKind::Stop);
    assert!(story.record.holds.is_empty());
}

#[test]
fn an_older_command_never_undoes_a_newer_one() {
    // An older stop does not end a newer hold.
    let mut story = Story::on("ann");
    let mut stop = story.command(Action::Stop, "ann");
    stop.sent_at -= SignedDuration::from_secs(600);
    story.after(5).asks(stop).did_nothing().is(Phase::On, None);
    assert_eq!(story.outcome(Verdict::Done, None).answer["stopped"], json!(false));
    // Nor an older kill.
    let mut kill = story.command(Action::Kill, "admin");
    kill.sent_at -= SignedDuration::from_secs(600);
    story.asks(kill).did_nothing().is(Phase::On, None);
    story.outcomes.clear();
    // An older start does not undo a newer stop, nor a newer kill.
    let mut late = story.command(Action::Start, "ann");
    story.after(5).stop("ann").accepted().after(9).sees(PowerState::Stopped).look();
    story.outcomes.clear();
    story.effects.clear();
    late.id = lamplighter_events::CommandId::parse("late").unwrap();
    story.asks(late.clone()).did_nothing().is(Phase::Off, None);
    story.outcome(Verdict::Rejected, Some(Cause::Superseded));
    story.kill();
    story.outcomes.clear();
    late.holder = lamplighter_events::Holder::parse("bob").unwrap();
    late.id = lamplighter_events::CommandId::parse("late-bob").unwrap();
    story.asks(late).did_nothing();
    story.outcome(Verdict::Rejected, Some(Cause::Superseded));
}

#[test]
fn an_older_pause_does_not_undo_a_newer_resume_nor_the_other_way_round() {
    let mut story = Story::new();
    let pause = story.command(Action::Pause, "admin");
    story.after(10);
    let resume = story.command(Action::Resume, "admin");
    story.asks(resume.clone());
    story.outcome(Verdict::Done, None);
    story.asks(pause.clone());
    story.outcome(Verdict::Rejected, Some(Cause::Superseded));
    assert!(story.record.paused.is_none());
    let mut newest = pause;
    newest.sent_at = story.now + SignedDuration::from_secs(5);
    story.after(10).asks(newest);
    story.outcome(Verdict::Done, None);
    story.asks(resume);
    story.outcome(Verdict::Rejected, Some(Cause::Superseded));
    assert!(story.record.paused.is_some());
}

#[track_caller]
fn check_kind(idle: bool, firm: bool, kind: HoldKind) {
    let mut story = Story::new();
    story.spec.idle = idle.then(|| IdleSpec::after(seconds("15m")));
    let mut command = story.command(Action::Start, "ann");
    command.hold_for = firm.then(|| seconds("2h"));
    story.asks(command);
    assert_eq!(story.record.holds[0].kind, kind);
}

#[test]
fn a_start_is_firm_idle_bounded_or_until_released() {
    check_kind(false, false, HoldKind::UntilReleased);
    check_kind(true, false, HoldKind::IdleBounded);
    check_kind(false, true, HoldKind::Firm);
    check_kind(true, true, HoldKind::Firm);
}

#[test]
fn max_hold_bounds_every_requested_hold() {
    for (asked, end) in [(None, 3600), (Some("5h"), 3600), (Some("10m"), 600)] {
        let mut story = Story::new();
        story.spec.max_hold = Some(seconds("1h"));
        let mut command = story.command(Action::Start, "ann");
        command.hold_for = asked.map(seconds);
        let until = command.sent_at + SignedDuration::from_secs(end);
        story.asks(command);
        assert_eq!(story.record.holds[0].until, Some(until), "{asked:?}");
    }
}

#[test]
fn a_command_that_comes_too_late_is_expired_not_done() {
    let mut story = Story::new();
    let mut command = story.command(Action::Start, "ann");
    command.expires = Some(story.now);
    story.asks(command).did_nothing();
    story.outcome(Verdict::Rejected, Some(Cause::Expired));
    // A replay of an old start does not stretch its hold.
    let mut replayed = story.command(Action::Start, "ann");
    replayed.hold_for = Some(seconds("2h"));
    replayed.sent_at -= SignedDuration::from_hours(5);
    story.asks(replayed).did_nothing();
    story.outcome(Verdict::Rejected, Some(Cause::Expired));
}

#[test]
fn first_contact_with_a_running_machine_adopts_it_and_anyones_stop_ends_that() {
    let mut story = Story::new();
    story.sees(PowerState::Running).look().is(Phase::On, None).did_nothing();
    assert_eq!(story.record.holds[0].kind, HoldKind::Adopted);
    story.after(300).look().did_nothing();
    story.stop("anyone").did(EffectKind::Stop);
}

#[test]
fn the_first_command_may_be_the_stop_of_a_running_machine() {
    let mut story = Story::new();
    story.sees(PowerState::Running).after(1).stop("ann");
    story.is(Phase::Stopping, Some(Step::StopInstance)).did(EffectKind::Stop);
}

#[test]
fn a_stop_that_lay_in_the_queue_before_the_adoption_ends_it_all_the_same() {
    let mut story = Story::new();
    let stop = story.command(Action::Stop, "ann");
    story.after(3).sees(PowerState::Running).asks(stop).did(EffectKind::Stop);
    // Nor does it matter that somebody else's start was noticed only after the stop was sent.
    let mut story = Story::new();
    story.look();
    story.after(900).sees(PowerState::Running).look();
    let stop = story.command(Action::Stop, "ann");
    story.after(5).look().is(Phase::On, None);
    story.after(1).asks(stop).did(EffectKind::Stop);
}

#[test]
fn a_machine_started_outside_is_adopted_once_that_is_sure() {
    let mut story = Story::new();
    story.look();
    story.after(900).sees(PowerState::Running).look().is(Phase::Off, None).did_nothing();
    story.after(5).look().is(Phase::On, None).did_nothing();
    assert_eq!(story.record.holds[0].kind, HoldKind::Adopted);
    assert_eq!(story.attentions(), vec![AttentionKind::StartedOutside]);
}

#[test]
fn a_machine_stopped_outside_ends_the_holds_that_are_older() {
    let mut story = Story::on("ann");
    story.after(600).sees_it_stopped_outside(PowerState::Stopping);
    story.look().is(Phase::On, None).no_outcome();
    story.after(5).look().is(Phase::Stopping, Some(Step::WaitStopped)).did_nothing();
    assert!(story.record.holds.is_empty());
    assert_eq!(story.attentions(), vec![AttentionKind::StoppedOutside]);
    story.after(9).sees(PowerState::Stopped).look().is(Phase::Off, None);
}

#[test]
fn a_hold_newer_than_the_stop_outside_starts_it_again() {
    let mut story = Story::on("ann");
    story.after(600).sees(PowerState::Stopped);
    story.machine().user_stopped_at = Some(story.now - SignedDuration::from_secs(5));
    story.start("bob").did_nothing().no_outcome();
    story.after(5).look().did(EffectKind::Start);
    let holders: Vec<&str> = story.record.holds.iter().map(|hold| hold.holder.as_str()).collect();
    assert_eq!(holders, ["bob"]);
}

#[test]
fn more_holds_than_the_bound_are_refused() {
    let mut story = Story::on("holder-0");
    for holder in 1..HOLDS_MAX {
        story.after(1).start(&format!("holder-{holder}"));
        // The bus takes the events, or history gives way to them.
        story.record.outbox.clear();
    }
    story.outcomes.clear();
    story.after(1).start("one-too-many");
    story.outcome(Verdict::Rejected, Some(Cause::Conflict));
    assert_eq!(story.record.holds.len(), HOLDS_MAX);
    assert_eq!(story.record.history.len(), HISTORY_MAX);
}

#[test]
fn what_a_kind_cannot_do_is_invalid() {
    for action in [Action::Create, Action::Destroy] {
        let mut story = Story::new();
        let command = story.command(action, "ann");
        story.asks(command).did_nothing();
        story.outcome(Verdict::Rejected, Some(Cause::Invalid));
    }
}
