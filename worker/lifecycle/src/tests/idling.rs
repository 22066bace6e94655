//! What idleness does to a target that is on: stories.

use super::*;
use crate::probe::{
    CommandProbe, CommandReads, Condition, HttpProbe, HttpReads, MetricProbe, MetricReads, Missing,
    Point, Probe, Reading, Round, Statistic,
};

fn http() -> Probe {
    Probe::Http(HttpProbe {
        url: HealthUrl::parse("http://{private_ip}:8000/api/last-activity").unwrap(),
        pointer: "/last_activity".to_owned(),
        reads: HttpReads::Epoch,
        ignore_own: false,
    })
}

impl Story {
    /// A target with an idle policy of a quarter of an hour, on, held by ann without an end.
    fn idling() -> Self {
        Self::idling_with(vec![http()])
    }

    fn idling_with(probes: Vec<Probe>) -> Self {
        let mut story = Self::new();
        story.spec.idle = Some(IdleSpec { probes, ..IdleSpec::after(seconds("15m")) });
        story.start("ann").accepted();
        story.after(6).sees(PowerState::Running).look();
        story.after(10).look().is(Phase::On, None);
        story.outcomes.clear();
        story.effects.clear();
        story
    }

    /// The backend says that somebody was active this long ago.
    #[allow(clippy::cast_precision_loss)]
    fn active(&self, ago: i64) -> Round {
        let last = (self.now - SignedDuration::from_secs(ago)).as_second() as f64;
        self.reads(vec![Some(Reading::Number {
            value: last,
            asked_at: self.now,
            answered_at: self.now,
            ahead_millis: None,
        })])
    }

    fn silent(&self) -> Round {
        let detail = "connection refused".to_owned();
        self.reads(vec![Some(Reading::Unknown { detail, unreachable: true })])
    }

    fn reads(&self, readings: Vec<Option<Reading>>) -> Round {
        Round {
            at: self.now,
            of: Some(self.record.resource.clone()),
            over: IdleOverride::default(),
            readings,
        }
    }

    /// As the runtime does it: where it looks idle, the probes are asked once more before the commit.
    fn told(&mut self, mut inputs: Vec<Input>, rounds: &[Round]) -> &mut Self {
        let (first, rest) = rounds.split_first().unwrap();
        inputs.push(Input::Round(first.clone()));
        let sighting = Ok(self.seen_now());
        let nonce = format!("x{}", self.writes);
        let decision = decide(&self.record, &self.spec, &inputs, &sighting, self.now, &nonce);
        if decision.asks_again {
            assert_eq!(decision.effect, None, "an effect by one round of readings");
            inputs.extend(rest.iter().cloned().map(Input::Round));
        }
        self.pass(&inputs)
    }

    fn seen_now(&self) -> Observed {
        let mut seen = self.seen.clone();
        seen.at = self.now;
        seen
    }

    fn check_idle(&mut self, ago: i64) -> &mut Self {
        let command = self.command(Action::CheckIdle, "rule");
        let round = self.active(ago);
        self.told(vec![Input::Command(Box::new(command))], &[round.clone(), round])
    }
}

#[test]
fn idle_for_long_enough_it_is_stopped_and_the_check_is_answered_when_it_is_off() {
    let mut story = Story::idling();
    story.after(1800).check_idle(900).is(Phase::Stopping, Some(Step::StopInstance));
    story.no_outcome().did(EffectKind::Stop).accepted();
    assert!(story.record.holds.is_empty());
    story.after(20).sees(PowerState::Stopped).look().is(Phase::Off, None);
    let outcome = story.outcome(Verdict::Done, None);
    assert_eq!(outcome.answer["stopped"], true);
    assert_eq!(outcome.answer["threshold_seconds"], 900);
    assert_eq!(outcome.answer["idle_seconds"], 920);
}

#[test]
fn not_idle_it_stays_and_the_check_says_why() {
    let mut story = Story::idling();
    story.after(1800).check_idle(899).is(Phase::On, None).did_nothing();
    let outcome = story.outcome(Verdict::Done, None);
    assert_eq!(outcome.answer["stopped"], false);
    assert_eq!(outcome.answer["idle_seconds"], 899);
    assert!(outcome.message.contains("not yet for 15m"), "{}", outcome.message);
}

#[test]
fn one_round_of_readings_stops_nothing() {
    let mut story = Story::idling();
    let round = story.after(1800).active(1200);
    let sighting = Ok(story.seen_now());
    let inputs = [Input::Round(round)];
    let decision = decide(&story.record, &story.spec, &inputs, &sighting, story.now, "n");
    assert!(decision.asks_again && decision.effect.is_none());
    assert!(decision.next.wanted(story.now));
}

/// Crowd seed 4000014940: the fleet names another machine, which somebody asks, while the old one is up.
#[test]
fn what_was_asked_of_another_machine_says_nothing_of_this_one() {
    let mut story = Story::idling();
    let mut round = story.after(1800).active(1200);
    round.of = Some(Resource::parse("i-0abc123def456").unwrap());
    let before = story.record.idle.clone();
    story.pass(&[Input::Asked(round.clone())]);
    story.pass(&[Input::Round(round.clone()), Input::Round(round)]);
    story.is(Phase::On, None).did_nothing();
    assert_eq!(story.record.idle, before);
}

#[test]
fn whoever_comes_back_between_the_two_rounds_keeps_it() {
    let mut story = Story::idling();
    story.after(1800);
    let rounds = [story.active(1200), story.active(0)];
    story.told(vec![], &rounds).is(Phase::On, None).did_nothing();
    assert_eq!(story.record.holds.len(), 1);
}

#[test]
fn a_start_that_comes_with_the_verdict_keeps_it() {
    let mut story = Story::idling();
    story.after(1800);
    let start = story.command(Action::Start, "ben");
    let round = story.active(1200);
    story.told(vec![Input::Command(Box::new(start))], &[round.clone(), round]);
    story.is(Phase::On, None).did_nothing();
    assert!(story.record.wanted(story.now));
}

#[test]
fn a_slow_boot_and_a_late_start_are_not_idle() {
    let mut story = Story::idling();
    // Active last long before it was started.
    story.after(800).check_idle(100_000).is(Phase::On, None);
    story.outcomes.clear();
    story.after(99).start("ben");
    story.outcomes.clear();
    story.after(800).check_idle(100_000).is(Phase::On, None);
    story.outcomes.clear();
    story.after(100).check_idle(100_000).is(Phase::Stopping, Some(Step::StopInstance));
}

#[test]
fn a_firm_hold_stays_and_the_idle_bounded_beside_it_ends() {
    let mut story = Story::idling();
    let mut firm = story.command(Action::Start, "ben");
    firm.hold_for = Some(seconds("8h"));
    story.asks(firm);
    story.outcomes.clear();
    story.after(1800).check_idle(1000).is(Phase::On, None).did_nothing();
    let outcome = story.outcome(Verdict::Done, None);
    assert_eq!(outcome.answer["held_by"], serde_json::json!(["ben"]));
    let holders: Vec<&str> = story.record.holds.iter().map(|it| it.holder.as_str()).collect();
    assert_eq!(holders, ["ben"]);
}

#[test]
fn an_exclusive_holder_is_not_put_out_by_idleness() {
    let mut story = Story::idling();
    story.spec.exclusive = true;
    story.after(1800).check_idle(1000).is(Phase::On, None).did_nothing();
    let outcome = story.outcome(Verdict::Done, None);
    assert!(outcome.message.contains("idleness does not end"), "{}", outcome.message);
}

#[test]
fn an_adopted_machine_is_stopped_once_it_was_idle_here() {
    let mut story = Story::new();
    story.spec.idle = Some(IdleSpec { probes: vec![http()], ..IdleSpec::after(seconds("15m")) });
    story.sees(PowerState::Running).look().is(Phase::On, None);
    story.after(899).check_idle(100_000).is(Phase::On, None);
    story.outcomes.clear();
    story.after(1).check_idle(100_000).is(Phase::Stopping, Some(Step::StopInstance));
}

#[test]
fn a_keep_alive_counts_from_its_sending() {
    let mut story = Story::idling();
    let mut alive = story.after(1000).command(Action::KeepAlive, "ann");
    alive.sent_at = story.now - SignedDuration::from_secs(100);
    story.asks(alive);
    story.outcome(Verdict::Done, None);
    story.after(799).check_idle(100_000).is(Phase::On, None);
    story.outcomes.clear();
    story.after(1).check_idle(100_000).is(Phase::Stopping, Some(Step::StopInstance));
}

#[test]
fn a_check_of_what_is_off_stops_and_asks_nothing() {
    let mut story = Story::new();
    story.spec.idle = Some(IdleSpec { probes: vec![http()], ..IdleSpec::after(seconds("15m")) });
    story.look();
    let command = story.command(Action::CheckIdle, "rule");
    let inputs = [Input::Command(Box::new(command.clone()))];
    assert!(!probes_are_due(&story.record, &story.spec, &inputs, &Ok(story.seen_now()), story.now));
    story.asks(command).is(Phase::Off, None).did_nothing();
    assert_eq!(story.outcome(Verdict::Done, None).answer["stopped"], false);
}

#[test]
fn paused_it_says_what_it_would_do() {
    let mut story = Story::idling();
    let pause = story.command(Action::Pause, "ops");
    story.asks(pause);
    story.outcomes.clear();
    story.after(1800).check_idle(1000).is(Phase::On, None).did_nothing();
    let outcome = story.outcome(Verdict::Done, None);
    assert!(outcome.message.contains("it would be stopped"), "{}", outcome.message);
    assert!(story.record.wanted(story.now));
}

#[test]
fn wanted_again_on_the_way_down_the_check_says_so() {
    let mut story = Story::idling();
    story.after(1800).check_idle(1000).did(EffectKind::Stop).accepted();
    story.after(2).sees(PowerState::Stopping).start("ben");
    let outcome = story.outcome(Verdict::Done, None);
    assert_eq!(
        (outcome.action, &outcome.answer["stopped"]),
        (Some(Action::CheckIdle), &false.into())
    );
}

#[test]
fn out_of_reach_for_too_long_is_said_once_and_stops_only_if_so_configured() {
    for stops in [false, true] {
        let mut story = Story::idling();
        let idle = story.spec.idle.as_mut().unwrap();
        idle.unreachable_after = Some(seconds("10m"));
        idle.stop_unreachable = stops;
        for _ in 0..4 {
            let round = story.after(300).silent();
            story.told(vec![], &[round.clone(), round]);
        }
        let said = story.attentions();
        let told = said.iter().filter(|it| **it == AttentionKind::BackendUnreachable).count();
        assert_eq!(told, 1, "{said:?}");
        match stops {
            false => story.is(Phase::On, None).did_nothing(),
            true => story.is(Phase::Stopping, Some(Step::StopInstance)),
        };
    }
}

/// Crowd seed 8000006542.
#[test]
fn what_another_probe_shows_in_use_is_not_stopped_for_a_backend_out_of_reach() {
    let mut other = http();
    let Probe::Http(probe) = &mut other else { panic!("it is HTTP") };
    probe.url = HealthUrl::parse("http://{private_ip}:9000/other").unwrap();
    let mut story = Story::idling_with(vec![http(), other]);
    let idle = story.spec.idle.as_mut().unwrap();
    idle.unreachable_after = Some(seconds("10m"));
    idle.stop_unreachable = true;
    let reads = |story: &Story, ago: i64| {
        let (silent, used) = (story.silent(), story.active(ago));
        story.reads(silent.readings.into_iter().chain(used.readings).collect())
    };
    for _ in 0..8 {
        story.after(300);
        let round = reads(&story, 600);
        story.told(vec![], &[round.clone(), round]).is(Phase::On, None).did_nothing();
    }
    assert_eq!(story.attentions(), [AttentionKind::BackendUnreachable]);
    story.after(300);
    let round = reads(&story, 900);
    story.told(vec![], &[round.clone(), round]).is(Phase::Stopping, Some(Step::StopInstance));
}

#[test]
fn a_metric_that_falls_silent_keeps_its_target_on_and_is_said_once_until_it_is_heard() {
    let metric = Probe::Metric(MetricProbe {
        namespace: "Backends".to_owned(),
        name: "ActiveConnections".to_owned(),
        dimensions: BTreeMap::new(),
        statistic: Statistic::Maximum,
        period_seconds: 60,
        look_back: None,
        lag: seconds("3m"),
        missing: Missing::Unknown,
        reads: MetricReads::IdleWhen(Condition::parse("== 0").unwrap()),
    });
    let mut story = Story::idling_with(vec![metric]);
    let since = story.now;
    // Its publisher dies at once, after an hour of zeros.
    let zeros = |until: Timestamp, now: Timestamp| {
        let minute = until.as_second().div_euclid(60) * 60;
        let points = (0..60).map(|ago| Timestamp::from_second(minute - ago * 60).unwrap());
        let points = points.filter(|at| *at <= now).map(|at| Point { at, value: 0.0 });
        vec![Some(Reading::Series { points: points.collect() })]
    };
    for _ in 0..12 {
        let round = story.after(300);
        let round = round.reads(zeros(since, round.now));
        story.told(vec![], &[round.clone(), round]).is(Phase::On, None).did_nothing();
    }
    assert_eq!(story.attentions(), [AttentionKind::MetricSilent]);
    assert!(story.record.idle.silent_said_at.is_some());
    // It is heard again; so the hour of silence is still unknown.
    let round = story.after(300);
    let round = round.reads({
        let mut readings = zeros(round.now, round.now);
        if let Some(Some(Reading::Series { points })) = readings.first_mut() {
            points.truncate(5);
        }
        readings
    });
    story.told(vec![], &[round.clone(), round]).is(Phase::On, None).did_nothing();
    assert_eq!(story.record.idle.silent_said_at, None);
    let round = story.after(1200);
    let round = round.reads(zeros(round.now, round.now));
    story.told(vec![], &[round.clone(), round]).is(Phase::Stopping, Some(Step::StopInstance));
    assert_eq!(story.attentions(), [AttentionKind::MetricSilent]);
}

#[test]
fn a_host_that_is_asked_answers_before_anything_is_stopped() {
    let command = Probe::Command(CommandProbe {
        script: "! pgrep -x backtest".to_owned(),
        reads: CommandReads::ExitCode,
        timeout_seconds: 30,
    });
    let mut story = Story::idling_with(vec![http(), command]);
    let check = story.after(1800).command(Action::CheckIdle, "rule");
    let idle = |story: &Story| {
        let mut round = story.active(1200);
        round.readings.push(None);
        round
    };
    let round = idle(&story);
    story.seen.agent = Some(Agent::Online);
    story.told(vec![Input::Command(Box::new(check))], &[round]);
    story.no_outcome().did(EffectKind::Send).sent("c-1");
    story.after(2).hears(CheckReading::Exited { code: 1, output: String::new() });
    assert!(probes_are_due(&story.record, &story.spec, &[], &Ok(story.seen_now()), story.now));
    let round = idle(&story);
    story.told(vec![], &[round]).is(Phase::On, None).did_nothing();
    let outcome = story.outcome(Verdict::Done, None);
    assert!(outcome.message.contains("exited with 1"), "{}", outcome.message);
}

/// Crowd seed 8000010846: nobody read what the host said for two minutes.
#[test]
fn what_a_host_said_minutes_ago_is_asked_anew() {
    let command = Probe::Command(CommandProbe {
        script: "! pgrep -x backtest".to_owned(),
        reads: CommandReads::ExitCode,
        timeout_seconds: 30,
    });
    let mut story = Story::idling_with(vec![http(), command]);
    story.seen.agent = Some(Agent::Online);
    let idle = |story: &Story| {
        let mut round = story.active(1200);
        round.readings.push(None);
        round
    };
    let round = idle(story.after(1800));
    story.told(vec![], &[round]).did(EffectKind::Send).sent("c-1");
    story.after(150).hears(CheckReading::Exited { code: 0, output: String::new() });
    story.seen.agent = Some(Agent::Online);
    let round = idle(&story);
    story.told(vec![], &[round.clone(), round]).is(Phase::On, None);
    assert!(story.record.attempt.check.is_some(), "{}", story.record.why);
    story.did(EffectKind::Send);
}

#[test]
fn a_host_that_never_answers_is_unknown_and_the_check_is_answered() {
    let command = Probe::Command(CommandProbe {
        script: "sleep 3600".to_owned(),
        reads: CommandReads::ExitCode,
        timeout_seconds: 30,
    });
    let mut story = Story::idling_with(vec![command]);
    let check = story.after(1800).command(Action::CheckIdle, "rule");
    let round = story.reads(vec![None]);
    story.seen.agent = Some(Agent::Online);
    story.told(vec![Input::Command(Box::new(check))], &[round]);
    story.did(EffectKind::Send).sent("c-1");
    story.after(61).hears(CheckReading::Pending { command_id: None }).look();
    let round = story.reads(vec![None]);
    story.after(1).told(vec![], &[round]).is(Phase::On, None).did_nothing();
    let outcome = story.outcome(Verdict::Done, None);
    assert!(outcome.message.contains("unknown is not idle"), "{}", outcome.message);
}

#[test]
fn whoever_started_it_lately_is_not_cut_off_from_what_cannot_be_reached() {
    let mut story = Story::idling();
    let idle = story.spec.idle.as_mut().unwrap();
    idle.unreachable_after = Some(seconds("10m"));
    idle.stop_unreachable = true;
    for minutes in 0..5 {
        if minutes == 3 {
            story.start("ben");
        }
        let round = story.after(300).silent();
        story.told(vec![], &[round.clone(), round]);
        // Ben came a quarter of an hour in, and has the policy's quarter from then on.
        assert_eq!(story.record.phase, Phase::On, "after {} minutes", (minutes + 1) * 5);
    }
    let round = story.after(300).silent();
    story.told(vec![], &[round.clone(), round]).is(Phase::Stopping, Some(Step::StopInstance));
}
