//! The port to the backends' addresses and to CloudWatch: one round of an idle policy's probes.
//!
//! Each question is a call like any other, so that any fault can strike it; a call that failed is a reading
//! that nobody can use. The checker is told of each question, and whether it was answered.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lamplighter_cloud::metrics::{MetricQuery, Statistic as CloudStatistic};
use lamplighter_events::InstanceId;
use lamplighter_lifecycle::{
    CheckReading, HttpProbe, HttpReads, MetricProbe, Point, Probe, ProbePlan, Reading, Resource,
    Round,
};
use lamplighter_runtime::ports::Clock;

use super::Sim;
use crate::backends;
use crate::backends::{NoNumber, Trouble};
use crate::breakage::Breakage;
use crate::checker::Sample;

/// An address that has not answered by then is given up.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(5);
/// A worker that takes what was used just before its question for the question looks so far past it.
const OVERLOOKED_SECONDS: f64 = 150.0;
/// A worker that is too sure of itself takes its last readings for new ones this long.
const TAKEN_FOR_NEW: SignedDuration = SignedDuration::from_mins(10);

/// What a backend said, and what was so when it said it.
struct Answer {
    value: f64,
    busy: bool,
    sound: bool,
    at: Timestamp,
    /// Its clock, in whole seconds, as HTTP's `Date` has it.
    date: i64,
}

fn unknown(detail: impl Into<String>, unreachable: bool) -> Reading {
    Reading::Unknown { detail: detail.into(), unreachable }
}

/// A report without what was used in the last minutes.
fn overlook_recent(reads: HttpReads, value: f64, date: i64) -> f64 {
    let ago = match reads {
        HttpReads::Epoch => date as f64 - value,
        HttpReads::IdleSeconds => value,
        HttpReads::Count => return value,
    };
    let overlooked = 5.0 < ago && ago < OVERLOOKED_SECONDS;
    match reads {
        HttpReads::Epoch if overlooked => value - 3600.0,
        HttpReads::IdleSeconds if overlooked => value + 3600.0,
        _ => value,
    }
}

impl Sim {
    /// One round.
    pub(super) async fn ask_all(&self, plan: &ProbePlan) -> Round {
        let key = (self.worker(), plan.resource.clone());
        let began = self.true_now();
        if self.broken(Breakage::AsksOnce) {
            let last = self.inspect(|state| state.rounds.remove(&key));
            if let Some((_, round)) = last.filter(|(at, _)| began < *at + TAKEN_FOR_NEW) {
                return round;
            }
        }
        let at = Clock::now(self);
        let mut readings = vec![None; plan.probes.len()];
        let metrics = (0..plan.probes.len()).filter(|place| !plan.http_order.contains(place));
        let mut gone = false;
        for index in plan.http_order.iter().copied().chain(metrics) {
            let probe = &plan.probes[index];
            let reading = match probe {
                Probe::Http(_) if gone => Some(unknown("another address did not answer", false)),
                Probe::Http(http) => Some(self.ask_http(&plan.resource, index, http).await),
                Probe::Metric(metric) => Some(self.ask_metric(&plan.resource, index, metric).await),
                Probe::Command(_) => None,
            };
            gone |= matches!(reading, Some(Reading::Unknown { unreachable: true, .. }));
            readings[index] = match reading {
                Some(Reading::Unknown { .. }) if self.broken(Breakage::TakesUnknownForIdle) => {
                    Some(self.make_idle_up(probe, at))
                }
                reading => reading,
            };
        }
        let round = Round { at, of: Some(plan.resource.clone()), over: plan.over, readings };
        self.inspect(|state| state.rounds.insert(key, (began, round.clone())));
        round
    }

    /// What a worker that takes silence for idleness reads.
    fn make_idle_up(&self, probe: &Probe, at: Timestamp) -> Reading {
        let hour_ago = at - SignedDuration::from_hours(1);
        match probe {
            Probe::Metric(metric) => {
                let period = metric.period();
                let newest = at.as_second().div_euclid(period) * period;
                let points = (0..60).map(|ago| Point {
                    at: Timestamp::from_second(newest - ago * period).unwrap(),
                    value: 0.0,
                });
                Reading::Series { points: points.collect() }
            }
            Probe::Http(http) => {
                let value = match http.reads {
                    lamplighter_lifecycle::HttpReads::Epoch => hour_ago.as_second() as f64,
                    lamplighter_lifecycle::HttpReads::IdleSeconds => 3600.0,
                    lamplighter_lifecycle::HttpReads::Count => 0.0,
                };
                Reading::Number { value, asked_at: at, answered_at: at, ahead_millis: None }
            }
            Probe::Command(_) => unknown("not asked here", false),
        }
    }

    async fn ask_http(&self, resource: &Resource, index: usize, http: &HttpProbe) -> Reading {
        let (asked_at, asked) = (Clock::now(self), self.true_now());
        let hangs = self.inspect(|state| {
            let backend = state.backends.get(resource);
            backend.is_some_and(|backend| backend.trouble == Some(Trouble::Hangs))
        });
        let what = || format!("{resource} {}", http.url.as_str());
        let call = self.call("http:Probe", what, |state, now| {
            state.world.advance(now);
            let up_since = backends::up_since(&state.world, resource);
            let Some(backend) = state.backends.get_mut(resource) else {
                return Ok(Err(NoNumber { detail: "nobody lives there", unreachable: true }));
            };
            let (busy, sound) = (backend.busy_at(now) > 0, backend.trouble.is_none());
            let date = (now + backend.ahead).as_second();
            let value = backend.answer(http.reads, up_since, now);
            Ok(value.map(|value| Answer { value, busy, sound, at: now, date }))
        });
        let answered = tokio::time::timeout(GIVEN_UP_AFTER, async {
            let answer = call.await;
            if hangs {
                tokio::time::sleep(GIVEN_UP_AFTER * 2).await;
            }
            answer
        })
        .await;
        self.die_if_killed().await;
        let (answered_at, done) = (Clock::now(self), self.true_now());
        let mut sample = Sample {
            worker: self.worker(),
            probe: index,
            asked,
            answered: done,
            at: asked,
            readable: false,
            busy: None,
        };
        let reading = match answered {
            Err(_) => unknown("no answer in time", true),
            Ok(Err(error)) => unknown(error.message, true),
            Ok(Ok(Err(no))) => unknown(no.detail, no.unreachable),
            Ok(Ok(Ok(Answer { value, busy, sound, at, date }))) => {
                sample.at = at;
                sample.readable = sound;
                sample.busy = Some(busy);
                let middle = (asked_at.as_millisecond() + answered_at.as_millisecond()) / 2;
                let ahead_millis = Some(date * 1000 + 500 - middle);
                let value = match self.broken(Breakage::WidensItsQuestions) {
                    true => overlook_recent(http.reads, value, date),
                    false => value,
                };
                Reading::Number { value, asked_at, answered_at, ahead_millis }
            }
        };
        self.inspect(|state| state.watch.sampled(resource, sample));
        reading
    }

    async fn ask_metric(&self, resource: &Resource, index: usize, metric: &MetricProbe) -> Reading {
        let asked = self.true_now();
        let what = || format!("{resource} {}", metric.name);
        let look_back = metric.look_back.expect("a plan says how far back each metric is read");
        let call = self.call("cloudwatch:GetMetricData", what, |state, now| {
            let query = MetricQuery {
                id: "it".to_owned(),
                metric: backends::metric_name(resource, &metric.name),
                period: i64::from(metric.period_seconds),
                statistic: CloudStatistic::parse(metric.statistic.as_str()).unwrap(),
                unit: None,
            };
            let span = (now - SignedDuration::from_secs(metric.span_seconds(look_back)), now);
            let series = state.world.get_metric_data(now, &[query], span, false).unwrap();
            let points = series.into_iter().flatten().map(|(at, value)| Point { at, value });
            Ok((points.collect::<Vec<Point>>(), now))
        });
        let mut answer = call.await;
        if let (true, Ok((points, now))) =
            (self.broken(Breakage::ForgetsTimesOfPoints), &mut answer)
        {
            // What is there counts as the newest, and for what is missing.
            if let Some(oldest) = points.last().copied() {
                points.resize(points.len().max(60), oldest);
            }
            let period = metric.period();
            let newest = now.as_second().div_euclid(period) * period;
            for (ago, point) in (0..).zip(points) {
                point.at = Timestamp::from_second(newest - ago * period).unwrap();
            }
        }
        let readable = answer.as_ref().is_ok_and(|(points, _)| !points.is_empty());
        let at = answer.as_ref().map_or(asked, |(_, at)| *at);
        let sample = Sample {
            worker: self.worker(),
            probe: index,
            asked,
            answered: self.true_now(),
            at,
            readable,
            busy: None,
        };
        self.inspect(|state| state.watch.sampled(resource, sample));
        match answer {
            Ok((points, _)) => Reading::Series { points },
            Err(error) => unknown(error.message, false),
        }
    }

    /// What the fleet's own script said on a host: the one that ran, whichever call brought it.
    pub(super) fn read_idleness(
        &self,
        instance: &InstanceId,
        comment: &str,
        ended: Timestamp,
    ) -> CheckReading {
        let resource = Resource::Instance(instance.clone());
        self.inspect(|state| {
            let asked = state.world.commands.newest_first().filter(|it| it.comment == comment);
            let ran = asked.filter_map(|it| it.invocations.get(instance.as_str())?.ended).min();
            let at = ran.unwrap_or(ended).min(ended);
            let busy = state.backends.get(&resource).is_some_and(|it| it.busy_at(at) > 0);
            state.watch.host_said(&resource, self.worker(), at, busy);
            CheckReading::Exited { code: i64::from(busy), output: String::new() }
        })
    }
}
