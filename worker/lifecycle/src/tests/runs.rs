//! When a target was up, told by its runs.

use jiff::{SignedDuration, Timestamp};
use lamplighter_events::Cause;
use serde_json::json;

use super::Story;
use crate::*;

/// What must hold of every record.
#[track_caller]
pub(super) fn check(record: &TargetRecord) {
    let runs = &record.runs;
    assert!(runs.len() <= RUNS_MAX, "{} runs", runs.len());
    let open = runs.last().is_some_and(|run| run.until.is_none());
    assert_eq!(open, record.is_up(), "{:?}: {runs:?}", record.phase);
    let times: Vec<Timestamp> =
        runs.iter().flat_map(|run| [Some(run.from), run.ready, run.until]).flatten().collect();
    assert!(times.is_sorted(), "{runs:?}");
    let ended = runs.iter().rev().skip(1).all(|run| run.until.is_some());
    assert!(ended, "only the last one can be open: {runs:?}");
}

/// A run by the seconds of the story: from, ready, until.
type Told = (i64, Option<i64>, Option<i64>);

impl Story {
    #[track_caller]
    fn ran(&mut self, expected: &[Told]) -> &mut Self {
        check(&self.record);
        let began: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        let after = |at: Timestamp| at.duration_since(began).as_secs();
        let runs = self.record.runs.iter();
        let told: Vec<Told> =
            runs.map(|run| (after(run.from), run.ready.map(after), run.until.map(after))).collect();
        assert_eq!(told, expected, "{}", self.record.why);
        self
    }
}

#[test]
fn a_run_begins_with_its_start_and_ends_when_it_is_seen_off() {
    let mut story = Story::new();
    story.look().ran(&[]);
    story.start("ann").ran(&[(0, None, None)]).accepted();
    story.after(6).sees(PowerState::Running).look().ran(&[(0, None, None)]);
    story.after(10).look().ran(&[(0, Some(16), None)]);
    story.after(60).stop("ann").accepted().ran(&[(0, Some(16), None)]);
    story.after(9).sees(PowerState::Stopped).look().ran(&[(0, Some(16), Some(85))]);
    story.after(900).look().ran(&[(0, Some(16), Some(85))]);
}

#[test]
fn a_start_that_falls_back_is_a_run_that_was_never_ready() {
    let mut story = Story::new();
    story.start("ann").accepted();
    story.after(13).sees(PowerState::Stopped).look().ran(&[(0, None, None)]);
    story.after(FELL_BACK_SECONDS).look().is(Phase::Failed, None).ran(&[(0, None, Some(73))]);
    story.after(60).start("bob").ran(&[(0, None, Some(73)), (133, None, None)]);
}

#[test]
fn a_start_that_fails_before_anything_was_asked_is_no_run() {
    let mut story = Story::new();
    let start = story.command(lamplighter_events::Action::Start, "ann");
    story.cannot_look(Cause::Invalid, &[Input::Command(Box::new(start))]);
    story.is(Phase::Failed, None).ran(&[]);
}

#[test]
fn what_was_found_up_is_ready_at_once() {
    let mut story = Story::new();
    story.sees(PowerState::Running).look().is(Phase::On, None).ran(&[(0, Some(0), None)]);
    story.kill().accepted().after(9).sees(PowerState::Stopped).look();
    // Somebody else starts it: it counts from when that is sure.
    story.after(91).sees(PowerState::Running).look().after(5).look().is(Phase::On, None);
    story.ran(&[(0, Some(0), Some(9)), (105, Some(105), None)]);
}

#[test]
fn one_that_is_wanted_again_while_it_stops_ends_its_run_when_it_is_started() {
    let mut story = Story::on("ann");
    story.after(44).stop("ann").accepted().after(2).sees(PowerState::Stopping).look();
    story.after(1).start("bob").is(Phase::Starting, Some(Step::WaitStoppedFirst));
    story.ran(&[(0, Some(16), None)]);
    story
        .after(10)
        .sees(PowerState::Stopped)
        .look()
        .ran(&[(0, Some(16), Some(73)), (73, None, None)]);
    story.accepted().after(6).sees(PowerState::Running).look().after(10).look();
    story.ran(&[(0, Some(16), Some(73)), (73, Some(89), None)]);
}

#[test]
fn one_that_is_wanted_again_before_its_stop_was_made_was_never_off() {
    let mut story = Story::on("ann");
    story.stop("ann").refused(Cause::Throttled, Refusal::RetryAfter(5000));
    story.after(1).sees(PowerState::Running).start("bob").after(10).look().is(Phase::On, None);
    story.ran(&[(0, Some(16), None)]);
}

#[test]
fn one_that_somebody_stopped_and_that_is_wanted_still_begins_a_new_run() {
    let mut story = Story::on("ann");
    story.after(44).sees(PowerState::Stopped);
    story.machine().user_stopped_at = Some(story.now);
    story.look().after(1).start("bob").after(4).look();
    story.is(Phase::Starting, Some(Step::StartInstance));
    story.ran(&[(0, Some(16), Some(65)), (65, None, None)]);
}

#[test]
fn a_failed_machine_that_is_kept_still_runs_until_it_is_seen_off() {
    let mut story = Story::with_unit();
    story.spec.keep_failed = true;
    story.start("ann").accepted().after(9).sees_agent(Agent::Online).look().sent("c");
    story.after(1).said("failed").look().is(Phase::Failed, None).ran(&[(0, None, None)]);
    story.after(590).sees(PowerState::Running).look().ran(&[(0, None, None)]);
    story.after(60).sees(PowerState::Stopped).look().ran(&[(0, None, Some(660))]);
}

#[test]
fn a_start_that_was_refused_for_now_begins_once() {
    let mut story = Story::new();
    story.start("ann").did(EffectKind::Start);
    story
        .refused(Cause::Capacity, Refusal::RetryAfter(5000))
        .after(10)
        .look()
        .did(EffectKind::Start)
        .ran(&[(0, None, None)]);
}

#[test]
fn the_oldest_runs_are_forgotten_first() {
    let mut story = Story::new();
    for _ in 0..=RUNS_MAX {
        story.start("ann").accepted().after(6).sees(PowerState::Running).look();
        story.after(10).look().stop("ann").accepted();
        story.after(4).sees(PowerState::Stopped).look();
    }
    check(&story.record);
    let from: Vec<i64> = story.record.runs.iter().map(|run| run.from.as_second()).collect();
    assert_eq!((from.len(), from[0]), (RUNS_MAX, story.now.as_second() - 20 * 60));
}

#[test]
fn a_clock_that_is_behind_ends_no_run_before_it_began() {
    let mut story = Story::on("ann");
    story.stop("ann").accepted().after(9).sees(PowerState::Stopped).look();
    story.after(-20).start("bob").ran(&[(0, Some(16), Some(25)), (25, None, None)]);
}

#[test]
fn a_record_of_before_there_were_runs_gets_them_with_its_next_news() {
    let mut story = Story::on("ann");
    let mut old = serde_json::to_value(&story.record).unwrap();
    old.as_object_mut().unwrap().remove("runs").unwrap();
    story.record = serde_json::from_value(old).unwrap();
    let rev = story.record.rev;
    story.after(60).sees(PowerState::Running).look();
    assert_eq!(story.record.rev, rev, "no reason to write");
    // How long its start took is not known: it was on at 16.
    story.stop("ann").ran(&[(16, Some(16), None)]).accepted();
    story.after(9).sees(PowerState::Stopped).look().ran(&[(16, Some(16), Some(85))]);
    assert_eq!(usual_start_seconds(&story.record.runs), None);
}

#[test]
fn runs_are_written_as_few_numbers_and_read_back_as_they_were() {
    let mut story = Story::new();
    // Between two seconds: what is read back is what was written all the same.
    story.now += SignedDuration::from_millis(700);
    assert!(!serde_json::to_string(&story.record).unwrap().contains("runs"), "none cost nothing");
    story.start("ann").accepted().after(6).sees(PowerState::Running).look().after(10).look();
    story.stop("ann").accepted().after(9).sees(PowerState::Stopped).look();
    story.after(60).start("ann");
    let written = serde_json::to_value(&story.record).unwrap();
    assert_eq!(written["runs"], json!([[1_795_168_800, 16, 25], [1_795_168_885, null, null]]));
    let read: TargetRecord = serde_json::from_value(written).unwrap();
    assert_eq!(read, story.record);
    assert!(serde_json::from_value::<Run>(json!([i64::MAX, 1, 1])).is_err());
}

/// Runs, each by how long its start took (0: it was found up; none: it never was ready).
#[track_caller]
fn check_usual(starts: &[Option<i64>], expected: Option<u64>) {
    let at = |second: i64| Timestamp::from_second(second).unwrap();
    let run = |(index, took): (usize, &Option<i64>)| {
        let from = 10_000 * i64::try_from(index).unwrap();
        let ready = took.map(|took| at(from + took));
        Run { from: at(from), ready, until: Some(at(from + 9_000)) }
    };
    let runs: Vec<Run> = starts.iter().enumerate().map(run).collect();
    assert_eq!(usual_start_seconds(&runs), expected, "{starts:?}");
}

#[test]
fn the_usual_start_is_the_median_of_the_last_ones_that_were_made() {
    check_usual(&[], None);
    check_usual(&[None, Some(0)], None);
    check_usual(&[Some(40)], Some(40));
    check_usual(&[Some(40), None, Some(0), Some(50)], Some(45));
    check_usual(&[Some(30), Some(900), Some(50)], Some(50));
    // A new machine type is noticed: ten later ones are all that counts.
    let slow = [Some(600); 20];
    let quick = [Some(20); 10];
    check_usual(&[&slow[..], &quick[..]].concat(), Some(20));
}

#[test]
fn a_service_that_is_turned_while_its_tasks_go_was_never_off() {
    let mut story = Story::service_on();
    story.stop("ann").did(EffectKind::Stop).accepted();
    story.after(6).counts(0, 1, 0).start("ben").did(EffectKind::Start);
    assert_eq!(story.record.runs.len(), 1);
    check(&story.record);
}

#[test]
fn each_machine_of_a_template_is_a_run_of_its_target() {
    let mut story = Story::walrus(super::templates::template());
    story.ready().ran(&[(0, Some(11), None)]);
    // EC2 takes it back, and somebody holds it: another machine.
    for _ in 0..2 {
        story.after(60).sees(PowerState::Terminated);
        story.machine().reason = Some("Server.SpotInstanceTermination: taken back".to_owned());
        story.look();
    }
    story.ran(&[(0, Some(11), Some(131)), (131, None, None)]);
}
