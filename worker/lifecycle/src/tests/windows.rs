//! Office hours: stories. Every time is UTC; the hours are 08:00 to 18:00 on weekdays, and a story begins on
//! Friday at ten.

use super::*;

impl Story {
    fn in_the_office() -> Self {
        let mut story = Self::new();
        story.spec.hours = Some(Hours::parse("Mon-Fri 08:00-18:00", "UTC", []).unwrap());
        story
    }

    fn open() -> Self {
        let mut story = Self::in_the_office();
        story.look().accepted();
        story.after(6).sees(PowerState::Running).look();
        story.after(10).look().is(Phase::On, None);
        story.effects.clear();
        story
    }

    /// Once its events are sent.
    fn next_look(&self) -> String {
        self.last.as_ref().unwrap().look_when_sent.unwrap().to_string()
    }

    fn until(&mut self, time: &str) -> &mut Self {
        self.now = time.parse().unwrap();
        self
    }
}

#[test]
fn in_its_hours_it_is_on_and_after_them_off() {
    let mut story = Story::in_the_office();
    story.look().is(Phase::Starting, Some(Step::StartInstance)).did(EffectKind::Start).accepted();
    story.after(6).sees(PowerState::Running).look();
    story.after(10).look().is(Phase::On, None);
    assert_eq!(story.record.holds[0].kind, HoldKind::Window);
    assert_eq!(story.next_look(), "2026-11-20T18:00:00Z");
    story.until("2026-11-20T17:59:59Z").look().is(Phase::On, None);
    story.until("2026-11-20T18:00:00Z").look().is(Phase::Stopping, Some(Step::StopInstance));
    story.did(EffectKind::Stop).accepted();
    story.after(20).sees(PowerState::Stopped).look().is(Phase::Off, None);
    // Monday comes by itself.
    assert_eq!(story.next_look(), "2026-11-23T08:00:00Z");
    story.until("2026-11-23T08:00:00Z").look().is(Phase::Starting, Some(Step::StartInstance));
}

#[test]
fn a_stop_suppresses_the_window_until_its_end_and_not_the_next() {
    let mut story = Story::open();
    story.after(60).stop("ann").did(EffectKind::Stop).accepted();
    story.after(20).sees(PowerState::Stopped).look().is(Phase::Off, None);
    story.outcome(Verdict::Done, None);
    story.after(3600).look().is(Phase::Off, None).did_nothing();
    story.until("2026-11-23T08:00:00Z").look().is(Phase::Starting, Some(Step::StartInstance));
}

#[test]
fn a_stop_that_was_sent_before_the_window_began_does_not_end_it() {
    let mut story = Story::open();
    let mut late = story.command(Action::Stop, "ann");
    late.sent_at = "2026-11-20T07:59:59Z".parse().unwrap();
    story.asks(late).is(Phase::On, None).did_nothing();
    let outcome = story.outcome(Verdict::Done, None);
    assert_eq!(outcome.answer["held_by"], serde_json::json!(["office-hours"]));
}

#[test]
fn a_kill_and_a_stop_outside_suppress_it_too() {
    let mut killed = Story::open();
    killed.after(60).kill().did(EffectKind::Stop);
    assert!(killed.record.suppressed_until.is_some());
    let mut stopped = Story::open();
    stopped.after(60).sees_it_stopped_outside(PowerState::Stopped).look();
    stopped.after(6).look();
    assert_eq!(stopped.attentions(), [AttentionKind::StoppedOutside]);
    assert!(stopped.record.suppressed_until.is_some() && !stopped.record.wanted(stopped.now));
}

#[test]
fn a_users_hold_outlives_the_window() {
    let mut story = Story::open();
    story.after(60).start("ann");
    story.until("2026-11-20T18:00:00Z").look().is(Phase::On, None).did_nothing();
    story.after(60).stop("ann").is(Phase::Stopping, Some(Step::StopInstance));
}

#[test]
fn a_window_whose_start_failed_tries_again_while_it_lasts() {
    let mut story = Story::in_the_office();
    story.look().did(EffectKind::Start).refused(Cause::Invalid, Refusal::Final);
    story.is(Phase::Failed, None);
    story.after(10).look().is(Phase::Failed, None).did_nothing();
    story.after(WINDOW_RETRY_SECONDS).look().did(EffectKind::Start).accepted();
    story.after(6).sees(PowerState::Running).look();
    story.after(10).look().is(Phase::On, None);
}

#[test]
fn hours_that_change_or_go_take_their_window_with_them() {
    let mut story = Story::open();
    story.spec.hours = Some(Hours::parse("Mon-Fri 08:00-12:00", "UTC", []).unwrap());
    story.after(60).look().is(Phase::On, None);
    assert_eq!(story.record.holds[0].until, Some("2026-11-20T12:00:00Z".parse().unwrap()));
    story.spec.hours = None;
    story.after(60).look().is(Phase::Stopping, Some(Step::StopInstance));
}

#[test]
fn found_running_in_its_hours_it_is_adopted_and_held_by_them() {
    let mut story = Story::in_the_office();
    story.sees(PowerState::Running).look().is(Phase::On, None).did_nothing();
    let kinds: Vec<HoldKind> = story.record.holds.iter().map(|hold| hold.kind).collect();
    assert_eq!(kinds, [HoldKind::Adopted, HoldKind::Window]);
}
