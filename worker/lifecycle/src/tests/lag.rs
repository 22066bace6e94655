//! Descriptions that come late and go back: what shows up minutes after an accepted start or stop is ours.

use lamplighter_events::{AttentionKind, Cause, Verdict};

use super::Story;
use crate::*;

#[test]
fn a_start_that_shows_after_a_minute_is_neither_bounced_nor_adopted() {
    let mut story = Story::new();
    story.start("ann").did(EffectKind::Start).accepted();
    for _ in 0..9 {
        story.after(6).sees(PowerState::Stopped).look();
        story.is(Phase::Starting, Some(Step::WaitRunning)).no_outcome();
    }
    story.after(5).sees(PowerState::Running).look();
    story.after(10).look().is(Phase::On, None).did_nothing();
    story.outcome(Verdict::Done, None);
}

#[test]
fn a_start_that_shows_after_it_was_given_up_is_ours_and_is_stopped() {
    let mut story = Story::new();
    story.start("ann").did(EffectKind::Start).accepted();
    story.after(6).sees(PowerState::Stopped).look();
    story.after(FELL_BACK_SECONDS).look().is(Phase::Failed, None);
    story.outcome(Verdict::Failed, Some(Cause::Bounced));
    assert!(
        story.record.wake_at.is_some_and(|at| at <= story.now + jiff::SignedDuration::from_mins(1)),
        "it is looked for"
    );
    story.after(240).sees(PowerState::Running).look().did(EffectKind::Stop).accepted();
    story.after(9).sees(PowerState::Stopped).look().is(Phase::Failed, None);
    assert!(story.attentions().is_empty(), "nobody outside started it");
    assert!(story.record.holds.is_empty());
}

#[test]
fn a_start_of_somebody_else_after_ours_was_given_up_is_adopted() {
    let mut story = Story::new();
    story.start("ann").accepted().after(6).sees(PowerState::Stopped).look();
    story.after(FELL_BACK_SECONDS).look().is(Phase::Failed, None);
    story.effects.clear();
    // EC2's launch time is newer than the start that it accepted from us.
    story.after(120).sees_it_started_outside(PowerState::Running).look();
    story.after(6).look().is(Phase::On, None).did_nothing();
    assert_eq!(story.attentions(), [AttentionKind::StartedOutside]);
    assert_eq!(story.record.holds[0].kind, HoldKind::Adopted);
}

#[test]
fn a_stop_of_ours_that_shows_after_it_was_turned_back_ends_nobodys_hold() {
    let mut story = Story::on("ann");
    story.after(600).stop("ann").did(EffectKind::Stop).accepted();
    story.after(2).sees(PowerState::Running).start("bob");
    story.is(Phase::Starting, Some(Step::WaitStoppedFirst)).did_nothing();
    story.after(50).look().is(Phase::Starting, Some(Step::WaitStoppedFirst));
    // It lags for longer than anybody should wait.
    story.after(10).look().after(10).look().is(Phase::On, None);
    story.outcomes.clear();
    story.after(60).sees(PowerState::Stopped).look().did(EffectKind::Start).accepted();
    assert_eq!(story.record.holds.len(), 1, "{}", story.record.why);
    assert!(story.attentions().is_empty(), "nobody outside stopped it");
    story.after(20).sees(PowerState::Running).look().after(10).look().is(Phase::On, None);
}

#[test]
fn a_newer_stop_by_somebody_else_counts_although_we_stopped_it_minutes_ago() {
    let mut story = Story::on("ann");
    story.after(600).stop("ann").accepted();
    story.after(2).sees(PowerState::Running).start("bob");
    story.after(60).look().after(10).look().is(Phase::On, None);
    story.effects.clear();
    story.after(60).sees_it_stopped_outside(PowerState::Stopped).look();
    story.after(6).look().is(Phase::Off, None).did_nothing();
    assert_eq!(story.attentions(), [AttentionKind::StoppedOutside]);
    assert!(story.record.holds.is_empty());
}

#[test]
fn a_machine_that_is_on_and_shows_as_before_its_start_stays_on() {
    let mut story = Story::on("ann");
    for _ in 0..4 {
        story.after(6).sees(PowerState::Stopped).look().is(Phase::On, None);
        story.after(6).sees(PowerState::Running).look().is(Phase::On, None);
    }
    assert!(story.attentions().is_empty());
    assert_eq!(story.record.holds.len(), 1);
}

#[test]
fn a_machine_that_is_off_and_shows_as_before_its_stop_is_not_adopted() {
    let mut story = Story::on("ann");
    story.after(900).stop("ann").accepted();
    story.after(9).sees(PowerState::Stopped).look().is(Phase::Off, None);
    story.effects.clear();
    for _ in 0..4 {
        story.after(6).sees(PowerState::Running).look();
        story.is(Phase::Off, None).did_nothing();
    }
    assert!(story.attentions().is_empty());
    // A machine that somebody stopped is known by that, too.
    let mut story = Story::on("ann");
    story.after(900).sees_it_stopped_outside(PowerState::Stopped).look();
    story.after(6).look().is(Phase::Off, None);
    let told = story.attentions();
    for _ in 0..4 {
        story.after(6).sees(PowerState::Running).look().is(Phase::Off, None);
    }
    assert_eq!(story.attentions(), told);
}

#[test]
fn a_wake_just_after_a_stop_is_not_done_by_what_ran_before() {
    let mut story = Story::on("ann");
    story.after(900).stop("ann").accepted();
    story.after(9).sees(PowerState::Stopped).look().is(Phase::Off, None);
    story.outcomes.clear();
    let before = story.launched_at;
    story.after(5).start("bob").accepted();
    for _ in 0..4 {
        story.after(6).sees(PowerState::Running);
        story.machine().launched_at = before;
        story.look().is(Phase::Starting, Some(Step::WaitRunning)).no_outcome();
    }
    story.after(6).sees(PowerState::Running).look().after(10).look().is(Phase::On, None);
}

#[test]
fn a_stop_that_is_accepted_and_does_not_show_is_not_done_by_what_was_before_the_start() {
    let mut story = Story::new();
    let launched_at = story.launched_at;
    story.start("ann").accepted().after(6).sees(PowerState::Running).look();
    story.after(10).look().is(Phase::On, None);
    story.outcomes.clear();
    let before = (story.user_stopped_at, launched_at);
    story.stop("ann").accepted();
    story.after(6).sees(PowerState::Stopped);
    (story.machine().user_stopped_at, story.machine().launched_at) = before;
    story.look().is(Phase::Stopping, Some(Step::WaitStopped)).no_outcome();
    story.after(6).sees(PowerState::Stopped).look().is(Phase::Off, None);
    story.outcome(Verdict::Done, None);
}

#[test]
fn a_stop_within_a_second_of_its_start_is_known_by_the_launch_that_ec2_shows() {
    let mut story = Story::new();
    story.start("ann").accepted().sees(PowerState::Running).after(1).stop("ann").accepted();
    story.outcomes.clear();
    story.after(6).sees(PowerState::Stopped);
    // EC2's times are whole seconds: this stop may be one from before the start.
    story.machine().user_stopped_at = story.machine().launched_at;
    story.look().is(Phase::Off, None);
    story.outcome(Verdict::Done, None);
}

#[test]
fn a_start_in_the_second_of_a_stop_is_known_by_another_launch() {
    let mut story = Story::on("ann");
    story.after(900).stop("ann").accepted();
    let stopped = story.now;
    story.after(6).sees(PowerState::Stopped).look().is(Phase::Off, None);
    story.outcomes.clear();
    story.start("bob").accepted().after(6).sees(PowerState::Running);
    story.machine().launched_at = Some(stopped);
    story.look().after(10).look().is(Phase::On, None);
    story.outcome(Verdict::Done, None);
}

/// Crowd seed 1000002903.
#[test]
fn a_start_whose_answer_was_lost_and_that_shows_is_one_that_may_lag() {
    let mut story = Story::service();
    story.start("ann").sets_desired(1);
    story.after(25).counts(1, 0, 1).look().is(Phase::Starting, Some(Step::WaitRunning));
    for _ in 0..4 {
        story.after(6).counts(0, 0, 0).look().is(Phase::Starting, Some(Step::WaitRunning));
    }
    assert!(story.attentions().is_empty());
    story.after(6).counts(1, 1, 0).look().after(1).look().is(Phase::On, None);
}

/// Crowd seed 2000006108: somebody starts it before the first contact, and ECS goes back to before that.
#[test]
fn a_service_whose_description_goes_back_behind_an_event_was_not_stopped() {
    let mut story = Story::service();
    let (before, started) = (story.now, story.now + jiff::SignedDuration::from_secs(9));
    story.after(10).counts(1, 0, 1);
    story.ecs().newest_event_at = Some(started);
    story.start("ann").is(Phase::Starting, Some(Step::WaitRunning));
    for _ in 0..4 {
        story.after(6).counts(0, 0, 0);
        story.ecs().newest_event_at = Some(before);
        story.look().is(Phase::Starting, Some(Step::WaitRunning));
    }
    assert!(story.attentions().is_empty());
    // An event of later tells that somebody set it to 0.
    story.after(6).counts(0, 0, 0);
    story.ecs().newest_event_at = Some(story.now);
    story.look().after(6).look().is(Phase::Off, None);
    assert_eq!(story.attentions(), [AttentionKind::StoppedOutside]);
}

/// Crowd seed 3000004481: scaling carries out our suspension, and by then it is on again.
#[test]
fn a_lost_start_that_shows_late_does_not_hide_that_we_suspended_its_scaling_since() {
    let mut story = Story::service();
    story.bounds(0, 2).start("ann").sets_desired(1);
    story.after(20).counts(0, 0, 0).bounds(0, 2).stop("ann").sets_bounds(0, 0).accepted();
    story.after(6).counts(0, 0, 0).bounds(0, 0).look().is(Phase::Off, None);
    story.after(10).counts(1, 1, 0).bounds(0, 0).start("cyd").sets_bounds(0, 2).accepted();
    story.after(1).counts(1, 1, 0).bounds(0, 2).look().after(1).look().is(Phase::On, None);
    story.after(40).counts(0, 0, 0).bounds(0, 2);
    story.ecs().newest_event_at = Some(story.now);
    story.look();
    assert!(story.attentions().is_empty(), "nobody outside stopped it");
    story.sets_desired(1);
}

#[test]
fn a_service_with_an_event_after_its_stop_is_seen_as_it_is() {
    let mut story = Story::service_on();
    story.after(900).stop("ann").sets_desired(0).accepted();
    let stopped = story.now;
    story.after(1).counts(0, 0, 0).look().after(5).look().is(Phase::Off, None);
    story.start("ben").sets_desired(1).accepted();
    story.outcomes.clear();
    story.after(6).counts(1, 1, 0);
    story.ecs().newest_event_at = Some(stopped);
    story.look().is(Phase::Starting, Some(Step::WaitRunning)).no_outcome();
    story.after(6).counts(1, 1, 0);
    story.ecs().newest_event_at = Some(story.now);
    story.look().after(1).look().is(Phase::On, None);
    story.outcome(Verdict::Done, None);
}

#[test]
fn a_terminated_machine_never_comes_back() {
    let mut story = Story::walrus(super::templates::template());
    story.ready();
    story.after(60).sees_it_stopped_outside(PowerState::Terminated).look();
    story.after(6).look().is(Phase::Off, None);
    story.effects.clear();
    story.after(6).sees(PowerState::Running).look().is(Phase::Off, None).did_nothing();
    assert!(!story.record.provision.seated);
    // Crowd of requests 98: who asks meanwhile is refused where the template has no place left, and waits for nothing.
    let create = story.create_command("b", "blob");
    let inputs = [Input::Command(Box::new(create)), Input::NoSeat];
    story.outcomes.clear();
    story.pass(&inputs);
    story.outcome(Verdict::Rejected, Some(Cause::Capacity));
    assert!(story.record.open.is_empty());
}

/// Crowd of requests 7100000056: a machine that EC2 forgets again keeps no place, and takes none.
#[test]
fn a_machine_that_has_ended_and_is_not_known_for_a_moment_stays_gone() {
    let mut story = Story::walrus(super::templates::template());
    story.ready();
    story.after(1).sees_it_stopped_outside(PowerState::Terminated).look();
    story.after(6).look().is(Phase::Off, None);
    story.effects.clear();
    story.after(1).sees(PowerState::Missing);
    let create = story.create_command("b", "blob");
    let inputs = [Input::Command(Box::new(create)), Input::NoSeat];
    story.outcomes.clear();
    story.pass(&inputs);
    story.outcome(Verdict::Rejected, Some(Cause::Capacity));
    story.is(Phase::Off, None).did_nothing();
    assert!(!story.record.provision.seated);
}

/// Crowd of requests 11500004064: workers' clocks differ by a second, so the end of the machine before seems to be seen
/// after the next one's launch.
#[test]
fn the_end_of_the_machine_before_is_not_that_of_the_next_one() {
    let mut story = Story::walrus(super::templates::template());
    story.ready();
    story.after(1).sees_it_stopped_outside(PowerState::Terminated).look();
    story.after(6).look().is(Phase::Off, None);
    (story.outcomes, story.effects) = Default::default();
    let create = story.create_command("b", "blob");
    story.asks(create).did(EffectKind::Start).after(-1).launched();
    story.after(10).sees(PowerState::Pending).look();
    story.after(10).look().is(Phase::Starting, Some(Step::WaitMachine));
    story.no_outcome();
}

#[test]
fn an_answer_that_comes_late_still_says_whose_stop_it_was() {
    let mut story = Story::on("ann");
    story.after(600).stop("ann").did(EffectKind::Stop);
    let nonce = story.record.doing.as_ref().unwrap().nonce.clone();
    story.after(1).sees(PowerState::Running).start("bob");
    story.after(20).look().after(10).look().is(Phase::On, None);
    let answer = EffectAnswer::Accepted { id: None };
    let late = apply_answer(&story.record, &story.spec, &nonce, &answer, &[], story.now);
    let ApplyAnswer::Commit(late) = late else { panic!("it was not stale") };
    story.take(*late);
    assert!(story.record.unanswered.is_empty());
    story.after(60).sees(PowerState::Stopped).look().did(EffectKind::Start);
    assert_eq!(story.record.holds.len(), 1, "{}", story.record.why);
}

#[test]
fn a_service_that_shows_its_count_late_is_neither_stopped_outside_nor_adopted() {
    // Woken: the count of before shows for a while, and once more when it is on.
    let mut story = Story::service();
    story.start("ann").accepted();
    for _ in 0..8 {
        story.after(6).counts(0, 0, 0).look().is(Phase::Starting, Some(Step::WaitRunning));
    }
    story.after(6).counts(1, 1, 0).look().after(1).look().is(Phase::On, None);
    story.after(4).counts(0, 0, 0).look().after(6).look().is(Phase::On, None);
    story.after(6).counts(1, 1, 0).look();
    assert!(story.attentions().is_empty());
    // Stopped: so does the count of before.
    story.after(900).stop("ann").accepted();
    story.effects.clear();
    story.after(6).counts(0, 0, 0).look().is(Phase::Off, None);
    for _ in 0..3 {
        story.after(6).counts(1, 1, 0).look().is(Phase::Off, None).did_nothing();
    }
    assert!(story.attentions().is_empty());
}

#[test]
fn a_service_that_is_wanted_again_is_set_to_its_count_whatever_still_shows() {
    let mut story = Story::service_on();
    story.after(900).stop("ann").sets_desired(0).accepted();
    story.after(2).counts(1, 1, 0).start("ben").sets_desired(1).accepted();
    story.outcomes.clear();
    // These tasks may be those that are being stopped.
    story.after(6).counts(1, 1, 0).look().is(Phase::Starting, Some(Step::WaitRunning)).no_outcome();
    story.after(60).look().after(1).look().is(Phase::On, None);
}

#[test]
fn a_stale_read_of_our_own_suspension_is_never_taken_for_somebodys_bounds() {
    let mut story = Story::service_on();
    story.after(60).bounds(2, 6).stop("ann").sets_bounds(0, 0).accepted();
    story.after(6).counts(1, 1, 0).bounds(0, 0).look().sets_desired(0).accepted();
    story.after(6).counts(0, 0, 0).bounds(0, 0).look().is(Phase::Off, None);
    story.after(60).start("ann").sets_bounds(2, 6).accepted();
    story.after(6).bounds(2, 6).look().sets_desired(2).accepted();
    story.after(6).counts(2, 2, 0).bounds(2, 6).look().after(1).look().is(Phase::On, None);
    // It goes back, and nothing is set to the configured count.
    story.after(10).bounds(0, 0).look().did_nothing();
    // Late, it is set to what somebody gave it.
    story.after(120).look().sets_bounds(2, 6).accepted();
    // A stop in the meantime suspends what is in force, not what shows.
    story.after(6).bounds(0, 0).stop("ann").sets_bounds(0, 0);
    assert_eq!(story.record.bounds, Some(Bounds { min: 2, max: 6 }));
}

/// Crowd seed 520079: a lost restoration, and then a description from before the suspension.
#[test]
fn bounds_are_remembered_while_a_change_of_them_has_no_answer() {
    let mut story = Story::service_on();
    story.after(60).bounds(0, 4).stop("ann").sets_bounds(0, 0).accepted();
    story.after(6).start("ben").sets_bounds(0, 4);
    // Nobody made that call. The bounds of before show, and then those that are in force.
    story.after(30).counts(1, 1, 0).bounds(0, 4).look();
    story.after(6).bounds(0, 0).look().sets_bounds(0, 4);
}

#[test]
fn bounds_of_before_our_suspension_do_not_suspend_twice() {
    let mut story = Story::service_on();
    story.after(60).bounds(2, 6).stop("ann").sets_bounds(0, 0).accepted();
    story.after(10).bounds(2, 6).look().sets_desired(0).accepted();
    story.after(10).counts(0, 0, 0).bounds(2, 6).look().is(Phase::Off, None).did_nothing();
}

#[test]
fn a_machine_with_a_start_that_may_show_keeps_its_place_when_the_fleet_names_another() {
    let mut story = Story::new();
    story.start("ann").accepted().after(6).sees(PowerState::Stopped).look();
    story.after(FELL_BACK_SECONDS).look().is(Phase::Failed, None);
    let other = Resource::parse("i-0abc123def456").unwrap();
    assert_ne!(align(story.record.clone(), &other, story.now).resource, other);
    story.after(OWN_CHANGE_SECONDS);
    let aligned = align(story.record.clone(), &other, story.now);
    assert_eq!((aligned.resource, aligned.accepted), (other, AcceptedChanges::default()));
}

#[test]
fn a_record_of_the_release_before_is_read() {
    let story = Story::on("ann");
    let mut json = serde_json::to_value(&story.record).unwrap();
    json.as_object_mut().unwrap().remove("accepted");
    let read: TargetRecord = serde_json::from_value(json).unwrap();
    assert!(read.accepted.is_none() && read.holds == story.record.holds);
}
