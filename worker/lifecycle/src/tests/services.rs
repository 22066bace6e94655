//! ECS services: stories.

use super::*;

impl Story {
    /// A service at 0.
    pub(super) fn service() -> Self {
        let mut story = Self::new();
        let service = ServiceId::parse("fluidity-prod", "fluidity-server-prod").unwrap();
        story.spec.place = Place::Service(ServiceSpec {
            service: service.clone(),
            desired: 1,
            healthy: false,
            also: vec![],
        });
        story.spec.timings.settle = seconds("1ms");
        story.record.kind = story.spec.kind().to_owned();
        story.record.resource = service.into();
        story.counts(0, 0, 0);
        story
    }

    pub(super) fn counts(&mut self, desired: i64, running: i64, pending: i64) -> &mut Self {
        let seen = ServiceSeen::counts(desired, running, pending);
        self.seen = Observed::of(self.now, Seen::Service(seen));
        self
    }

    pub(super) fn ecs(&mut self) -> &mut ServiceSeen {
        match &mut self.seen.seen {
            Seen::Service(service) => service,
            Seen::Instance(_) => panic!("it is a machine"),
        }
    }

    pub(super) fn bounds(&mut self, min: i64, max: i64) -> &mut Self {
        self.ecs().bounds = Some(Bounds { min, max });
        self
    }

    pub(super) fn service_on() -> Self {
        let mut story = Self::service();
        story.start("ann").accepted();
        story.after(6).counts(1, 1, 0).look();
        story.after(1).look().is(Phase::On, None);
        story.outcomes.clear();
        story.effects.clear();
        story
    }

    #[track_caller]
    pub(super) fn sets_desired(&mut self, count: i64) -> &mut Self {
        let effects = std::mem::take(&mut self.effects);
        match effects.as_slice() {
            [Effect::UpdateService { desired, .. }] => assert_eq!(*desired, count),
            other => panic!("{other:?}; {}", self.record.why),
        }
        self
    }

    #[track_caller]
    pub(super) fn sets_bounds(&mut self, min: i64, max: i64) -> &mut Self {
        let effects = std::mem::take(&mut self.effects);
        match effects.as_slice() {
            [Effect::RegisterScalableTarget { bounds, .. }] => {
                assert_eq!((bounds.min, bounds.max), (min, max));
            }
            other => panic!("{other:?}; {}", self.record.why),
        }
        self
    }
}

#[test]
fn a_wake_sets_the_count_and_is_done_when_the_tasks_run() {
    let mut story = Story::service();
    story.start("ann").is(Phase::Starting, Some(Step::StartService)).sets_desired(1).accepted();
    story.after(6).counts(1, 0, 0).look().no_outcome();
    story.after(5).counts(1, 0, 1).look().is(Phase::Starting, Some(Step::WaitRunning));
    story.after(20).counts(1, 1, 0).look();
    story.after(1).look().is(Phase::On, None);
    let outcome = story.outcome(Verdict::Done, None);
    assert_eq!(outcome.answer["status"], "waking");
    assert_eq!(outcome.answer["desiredCount"], 1);
    assert_eq!(outcome.answer["runningCount"], 1);
    assert_eq!(outcome.answer["pendingCount"], 0);
}

#[test]
fn a_wake_of_what_is_up_or_on_its_way_changes_nothing() {
    let mut story = Story::service_on();
    story.start("ben").did_nothing();
    assert_eq!(story.outcome(Verdict::Done, None).answer["status"], "already_running");
    // Somebody else set the count; at first contact that is adopted, and a wake waits for its tasks.
    let mut story = Story::service();
    story.counts(3, 0, 1).start("ann").did_nothing().no_outcome();
    story.after(20).counts(3, 3, 0).look();
    story.after(1).look().is(Phase::On, None).did_nothing();
    let outcome = story.outcome(Verdict::Done, None);
    assert_eq!(
        (&outcome.answer["status"], &outcome.answer["started"]),
        (&"starting".into(), &false.into())
    );
}

#[test]
fn a_kill_sets_it_to_zero_at_any_time_and_is_done_when_no_task_is_left() {
    for (running, pending) in [(1, 0), (0, 1)] {
        let mut story = Story::service_on();
        story.after(60).counts(1, running, pending).kill().sets_desired(0).accepted();
        story.after(6).counts(0, 1, 0).look().no_outcome();
        story.after(30).counts(0, 0, 0).look().is(Phase::Off, None);
        let outcome = story.outcome(Verdict::Done, None);
        assert_eq!(outcome.answer["status"], "killed");
        assert_eq!(outcome.answer["desiredCount"], 0);
    }
}

#[test]
fn a_wake_while_its_tasks_go_turns_it_at_once() {
    let mut story = Story::service_on();
    story.after(60).stop("ann").sets_desired(0).accepted();
    story.after(6).counts(0, 1, 0).start("ben").sets_desired(1);
}

#[test]
fn scaling_is_suspended_on_the_way_down_and_set_again_on_the_way_up() {
    let mut story = Story::service_on();
    story.after(60).bounds(2, 6).stop("ann");
    story.sets_bounds(0, 0).is(Phase::Stopping, Some(Step::SuspendScaling)).accepted();
    assert_eq!(story.record.bounds, Some(Bounds { min: 2, max: 6 }));
    // Within the margin the old bounds may still show.
    story.after(1).look().sets_desired(0).accepted();
    story.after(6).counts(0, 0, 0).bounds(0, 0).look().is(Phase::Off, None);
    story.outcomes.clear();
    story.after(60).start("ann").sets_bounds(2, 6).accepted();
    story.after(6).bounds(2, 6).look().sets_desired(2).accepted();
    story.after(6).counts(2, 2, 0).bounds(2, 6).look();
    story.after(1).look().is(Phase::On, None);
    // For some minutes the suspension may show once more.
    assert_eq!(story.record.bounds, Some(Bounds { min: 2, max: 6 }));
    story.after(OWN_CHANGE_SECONDS).look();
    assert_eq!(story.record.bounds, None);
}

#[test]
fn bounds_that_somebody_changed_meanwhile_are_theirs() {
    let mut story = Story::service_on();
    story.after(60).bounds(2, 6).stop("ann").sets_bounds(0, 0).accepted();
    story.after(6).counts(1, 1, 0).bounds(0, 0).look().sets_desired(0).accepted();
    story.after(6).counts(0, 0, 0).bounds(0, 0).look().is(Phase::Off, None);
    story.after(60).counts(0, 0, 0).bounds(1, 9).start("ann").sets_desired(1);
    assert_eq!(story.record.bounds, Some(Bounds { min: 1, max: 9 }), "no more 2 to 6");
}

#[test]
fn a_suspension_whose_answer_was_lost_is_undone_while_it_is_wanted() {
    let mut story = Story::service_on();
    story.after(60).bounds(2, 6).stop("ann").sets_bounds(0, 0);
    // The worker died; the call comes true though the service is wanted again.
    story.after(20).counts(2, 2, 0).bounds(0, 0).start("ben");
    story.after(6).look();
    story.sets_bounds(2, 6);
}

#[test]
fn tasks_that_stop_at_once_fail_the_start_with_ecs_own_reason() {
    let mut story = Story::service();
    story.start("ann").accepted();
    story.effects.clear();
    let reason = "CannotPullContainerError: pull image manifest: not found";
    let stopped = |story: &Story| TaskStopped {
        at: story.now,
        code: Some("TaskFailedToStart".to_owned()),
        reason: reason.to_owned(),
    };
    let first = stopped(story.after(10));
    story.counts(1, 0, 0).ecs().stopped = vec![first.clone()];
    story.look().no_outcome();
    let second = stopped(story.after(20));
    story.counts(1, 0, 1).ecs().stopped = vec![second, first];
    story.look().is(Phase::Stopping, Some(Step::StopService)).sets_desired(0);
    let outcome = story.outcome(Verdict::Failed, Some(Cause::NotFound));
    assert!(outcome.message.contains(reason), "{}", outcome.message);
    story.accepted().after(6).counts(0, 0, 0).look().is(Phase::Failed, None);
}

#[test]
fn tasks_that_stopped_before_this_start_do_not_count() {
    let mut story = Story::service();
    let at = story.now - SignedDuration::from_secs(60);
    let old = TaskStopped { at, code: None, reason: "Essential container exited".to_owned() };
    story.start("ann").accepted();
    story.after(10).counts(1, 0, 1).ecs().stopped = vec![old.clone(), old];
    story.look().is(Phase::Starting, Some(Step::WaitRunning)).no_outcome();
}

#[test]
fn a_task_that_cannot_be_placed_is_waited_for_until_the_deadline() {
    let mut story = Story::service();
    story.start("ann").accepted();
    story.effects.clear();
    let words =
        "(service x) was unable to place a task. Reason: Capacity is unavailable".to_owned();
    let at = story.after(30).now;
    story.counts(1, 0, 0).ecs().unplaced = Some((at, words.clone()));
    story.look().is(Phase::Starting, Some(Step::WaitRunning)).no_outcome();
    assert!(
        story.record.why.contains("Capacity is unavailable")
            || story.last.as_ref().unwrap().why.contains("Capacity")
    );
    story.after(120).look();
    let outcome = story.outcome(Verdict::Failed, Some(Cause::Capacity));
    assert!(outcome.message.contains(&words), "{}", outcome.message);
    story.sets_desired(0);
}

#[test]
fn a_deployment_that_was_given_up_fails_at_once() {
    let mut story = Story::service();
    story.start("ann").accepted();
    story.after(10).counts(1, 0, 0).ecs().rollout_failed = Some("tasks failed to start".to_owned());
    story.look();
    story.outcome(Verdict::Failed, Some(Cause::UnitFailed));
}

#[test]
fn running_and_not_healthy_is_not_on() {
    let mut story = Story::service();
    if let Place::Service(service) = &mut story.spec.place {
        service.healthy = true;
    }
    story.start("ann").accepted();
    story.after(10).counts(1, 1, 0).ecs().healthy = Some(0);
    story.look().is(Phase::Starting, Some(Step::WaitRunning)).no_outcome();
    story.after(120).look();
    story.outcome(Verdict::Failed, Some(Cause::Unhealthy));
}

#[test]
fn a_service_that_does_not_exist_is_not_found() {
    let mut story = Story::service();
    story.seen = Observed::of(story.now, Seen::Service(ServiceSeen::default()));
    story.start("ann");
    story.after(6).look();
    let outcome = story.outcome(Verdict::Failed, Some(Cause::NotFound));
    assert!(outcome.message.contains("fluidity-server-prod"), "{}", outcome.message);
    story.did_nothing();
}

#[test]
fn set_to_zero_outside_its_holds_end() {
    let mut story = Story::service_on();
    story.after(60).counts(0, 1, 0).look().is(Phase::On, None);
    story.after(6).look().is(Phase::Stopping, Some(Step::WaitStopped)).did_nothing();
    assert_eq!(story.attentions(), [AttentionKind::StoppedOutside]);
    assert!(story.record.holds.is_empty());
}

#[test]
fn set_up_outside_it_is_adopted_though_its_tasks_never_settle() {
    let mut story = Story::service();
    story.look().is(Phase::Off, None);
    story.after(60).counts(1, 0, 1).look();
    story.after(6).look().is(Phase::On, None);
    assert_eq!(story.record.holds[0].kind, HoldKind::Adopted);
    assert_eq!(story.attentions(), [AttentionKind::StartedOutside]);
}

#[test]
fn short_of_tasks_while_on_is_said_once_and_over_when_they_are_back() {
    let mut story = Story::service_on();
    story.after(60).counts(1, 0, 1).look().is(Phase::On, None);
    assert!(story.attentions().is_empty());
    for _ in 0..5 {
        story.after(60).look().is(Phase::On, None).did_nothing();
    }
    assert_eq!(story.attentions(), [AttentionKind::UnitDied]);
    story.after(60).counts(1, 1, 0).look().is(Phase::On, None);
    assert!(!story.record.up.unit_down);
}

#[test]
fn a_suspension_that_comes_true_late_gives_back_the_bounds_that_were() {
    let mut story = Story::service_on();
    story.after(60).bounds(2, 6).stop("ann").sets_bounds(0, 0);
    // Its answer was lost, and it does not show: wanted again, the bounds are as they were.
    story.after(20).counts(2, 2, 0).bounds(2, 6).start("ben");
    story.after(6).look();
    story.after(6).look().is(Phase::On, None).did_nothing();
    // Minutes later it comes true.
    story.after(120).counts(2, 2, 0).bounds(0, 0).look();
    story.sets_bounds(2, 6);
}

#[test]
fn a_task_that_runs_for_a_moment_is_not_on() {
    let mut story = Story::service();
    story.spec.timings.settle = seconds("5s");
    story.start("ann").accepted();
    story.effects.clear();
    let gone = |story: &Story| TaskStopped {
        at: story.now,
        code: Some("EssentialContainerExited".to_owned()),
        reason: "Essential container in task exited (exit code 3)".to_owned(),
    };
    story.after(10).counts(1, 1, 0).look().is(Phase::Starting, Some(Step::Settle)).no_outcome();
    let first = gone(story.after(1));
    story.counts(1, 0, 0).ecs().stopped = vec![first.clone()];
    story.look().is(Phase::Starting, Some(Step::WaitRunning)).no_outcome();
    // The next one begins anew, though the first one's time is over.
    story.after(10).counts(1, 1, 0).look().is(Phase::Starting, Some(Step::Settle)).no_outcome();
    let second = gone(story.after(1));
    story.counts(1, 0, 0).ecs().stopped = vec![second, first];
    story.look();
    let outcome = story.outcome(Verdict::Failed, Some(Cause::UnitFailed));
    assert!(outcome.message.contains("exit code 3"), "{}", outcome.message);
}

/// Found by a crowd: its scaling, still suspended, put the service to 0 again, and that passed for somebody's stop.
#[test]
fn a_window_that_opens_asks_for_the_bounds_before_it_sets_the_count() {
    let mut story = Story::service();
    story.spec.hours = Some(Hours::parse("Mon-Fri 08:00-18:00", "UTC", []).unwrap());
    let asks = |story: &Story, time: &str| {
        plan_observation(&story.record, &story.spec, &[], time.parse().unwrap()).bounds
    };
    assert!(!asks(&story, "2026-11-23T07:00:00Z"), "what rests costs one description");
    assert!(asks(&story, "2026-11-23T07:59:50Z"), "it may be open by the decision");
    assert!(asks(&story, "2026-11-23T08:00:00Z"));
    story.record.suppressed_until = Some("2026-11-23T18:00:00Z".parse().unwrap());
    assert!(!asks(&story, "2026-11-23T08:00:00Z"), "a window that was ended early starts nothing");
}

/// Crowd seed 9000004790.
#[test]
fn a_check_of_a_service_that_never_has_its_tasks_again_is_answered() {
    let mut story = Story::service_on();
    story.spec.idle = Some(IdleSpec::after(seconds("15m")));
    story.after(60).counts(1, 0, 0).look();
    let check = story.command(Action::CheckIdle, "rule");
    story.pass(&[Input::Command(Box::new(check))]);
    story.no_outcome();
    story.after(3600).look().is(Phase::On, None).did_nothing();
    let outcome = story.outcome(Verdict::Done, None);
    assert!(outcome.message.contains("short of tasks"), "{}", outcome.message);
    assert_eq!(outcome.answer["stopped"], false);
}
