//! EC2: describes, starts and stops, shared between the targets that ask at the same moment.
//!
//! *Theory.* EC2 refuses a whole call for one bad entry, and fails a whole describe while one of its ids is in an
//! impaired zone. Such a batch is taken apart: the machines that the message names get the error, the others are
//! asked again; where none is named, the batch is divided by zone, and in halves within a zone, until the bad ones
//! stand alone. A refusal of the caller or the pace concerns all alike and is handed to all.
//!
//! *Invariants.* A describe's time is taken just before its request. No attempt of a start or stop is
//! made after the earliest `act_by` among those who share it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::Instance;
use aws_smithy_types::retry::RetryConfig;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use lamplighter_events::{Cause, InstanceId};
use lamplighter_lifecycle::{InstanceSeen, PowerState};
use lamplighter_runtime::ports::{Applied, CallError, Clock, Disposition};

use crate::attempts::Attempts;
use crate::batch::{Each, Portion, Refused, Shared, apart, halves, in_order};
use crate::timeouts::act_timeouts;

/// With less than this left, an effect is called alone: it must not cut short the call of others.
const SHARED_ACT_MILLIS_MIN: i64 = 3_000;
/// A describe by ids is not paged by EC2; this bounds an endpoint that pages it all the same.
const PAGES_MAX: usize = 20;
/// Machines whose zones are remembered: far more than a fleet has.
const ZONES_MAX: usize = 10_000;

/// The shared DescribeInstances.
pub(crate) struct Describe {
    client: Client,
    clock: Arc<dyn Clock>,
    /// The zone in which each machine was last seen. A machine never changes it.
    zones: Mutex<BTreeMap<InstanceId, String>>,
}

/// One machine, and the time just before it was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    pub(crate) at: Timestamp,
    /// `None`: EC2 does not know the id.
    pub(crate) instance: Option<Instance>,
}

impl Describe {
    pub(crate) fn new(client: Client, clock: Arc<dyn Clock>) -> Self {
        Self { client, clock, zones: Mutex::default() }
    }

    fn remember_zones(&self, found: &Each<InstanceId, Described>) {
        let mut zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        if zones.len() + found.len() > ZONES_MAX {
            zones.clear();
        }
        for (id, described) in found {
            let instance = described.as_ref().ok().and_then(|it| it.instance.as_ref());
            let zone = instance.and_then(|it| it.placement()?.availability_zone());
            if let Some(zone) = zone.filter(|zone| zones.get(id).map(String::as_str) != Some(zone))
            {
                zones.insert(id.clone(), zone.to_owned());
            }
        }
    }

    /// By zone; those of no known zone stand together.
    fn by_zone(&self, ids: &[InstanceId]) -> Vec<Vec<InstanceId>> {
        let zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        let mut parts: BTreeMap<Option<&String>, Vec<InstanceId>> = BTreeMap::new();
        for id in ids {
            parts.entry(zones.get(id)).or_default().push(id.clone());
        }
        parts.into_values().collect()
    }

    async fn request(
        &self,
        ids: &[InstanceId],
        portion: Portion,
    ) -> Result<Each<InstanceId, Described>, Refused> {
        let at = self.clock.now();
        let mut found = BTreeMap::new();
        let mut token: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let call = self
                .client
                .describe_instances()
                .set_instance_ids(Some(ids.iter().map(ToString::to_string).collect()))
                .set_next_token(token);
            let answer = match portion {
                Portion::Whole => call.send().await,
                Portion::Part => {
                    let once = aws_sdk_ec2::Config::builder().retry_config(RetryConfig::disabled());
                    call.customize().config_override(once).send().await
                }
            };
            let answer = answer.map_err(|error| Refused::of(Self::OPERATION, &error))?;
            token = answer.next_token.filter(|token| !token.is_empty());
            for instance in answer
                .reservations
                .into_iter()
                .flatten()
                .flat_map(|r| r.instances.unwrap_or_default())
            {
                let id = instance.instance_id().and_then(|id| InstanceId::parse(id).ok());
                if let Some(id) = id {
                    found.insert(id, Ok(Described { at, instance: Some(instance) }));
                }
            }
            if token.is_none() {
                break;
            }
        }
        self.remember_zones(&found);
        for id in ids {
            found.entry(id.clone()).or_insert(Ok(Described { at, instance: None }));
        }
        Ok(found)
    }
}

#[async_trait]
impl Shared for Describe {
    type Item = InstanceId;
    type Answer = Described;
    const OPERATION: &'static str = "ec2:DescribeInstances";
    /// EC2 takes a thousand; half of them keep the answer, a kilobyte or two each, within the time that a call may
    /// take, and a full part of a tick (`IdleShard::TARGETS_MAX`) is two full calls.
    const ITEMS_MAX: usize = 500;

    async fn call(&self, items: Vec<InstanceId>) -> Vec<Result<Described, CallError>> {
        // Who may describe, may describe all: a refusal concerns one machine only by its id.
        let concerns_one = |error: &CallError| {
            error.applied == Applied::No
                && error.disposition == Disposition::Fail
                && matches!(error.cause, Cause::NotFound | Cause::Invalid)
        };
        let started = self.clock.now();
        let request =
            |ids: Vec<InstanceId>, portion| async move { self.request(&ids, portion).await };
        let cut = |ids: &[InstanceId]| self.by_zone(ids);
        let mut answers = apart(&items, concerns_one, names, cut, request).await;
        for answer in answers.values_mut() {
            if answer.as_ref().is_err_and(|error| {
                error.cause == Cause::NotFound && error.disposition == Disposition::Fail
            }) {
                *answer = Ok(Described { at: started, instance: None });
            }
        }
        in_order(Self::OPERATION, &items, |id| answers.get(id).cloned())
    }
}

/// Start or stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// The shared StartInstances.
pub(crate) struct Start(pub(crate) Switch);
/// The shared StopInstances.
pub(crate) struct Stop(pub(crate) Switch);

/// What both have in common.
pub(crate) struct Switch {
    pub(crate) client: Client,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Switch {
    async fn request(
        &self,
        direction: Direction,
        ids: &[InstanceId],
        act_by: Timestamp,
        portion: Portion,
    ) -> Result<Each<InstanceId, ()>, Refused> {
        let operation = direction.operation();
        let attempts = Attempts::default();
        let limits = aws_sdk_ec2::Config::builder().timeout_config(act_timeouts(
            operation,
            self.clock.now(),
            act_by,
        )?);
        let limits = match portion {
            Portion::Whole => limits,
            Portion::Part => limits.retry_config(RetryConfig::disabled()),
        };
        let ids_text = Some(ids.iter().map(ToString::to_string).collect());
        let result = match direction {
            Direction::Up => self
                .client
                .start_instances()
                .set_instance_ids(ids_text)
                .customize()
                .config_override(limits)
                .interceptor(attempts.clone())
                .send()
                .await
                .map(drop)
                .map_err(|error| Refused::of(operation, &error)),
            Direction::Down => self
                .client
                .stop_instances()
                .set_instance_ids(ids_text)
                .customize()
                .config_override(limits)
                .interceptor(attempts.clone())
                .send()
                .await
                .map(drop)
                .map_err(|error| Refused::of(operation, &error)),
        };
        result.map_err(|it| Refused { error: attempts.correct(it.error), ..it })?;
        Ok(ids.iter().map(|id| (id.clone(), Ok(()))).collect())
    }

    async fn call(
        &self,
        direction: Direction,
        items: &[(InstanceId, Timestamp)],
    ) -> Vec<Result<(), CallError>> {
        let now = self.clock.now();
        let hurried =
            |by: &Timestamp| by.as_millisecond() - now.as_millisecond() < SHARED_ACT_MILLIS_MIN;
        // The same machine twice: the earlier limit holds for both.
        let mut limits: BTreeMap<InstanceId, Timestamp> = BTreeMap::new();
        for (id, by) in items {
            limits.entry(id.clone()).and_modify(|known| *known = (*known).min(*by)).or_insert(*by);
        }
        let concerns_one = |error: &CallError| {
            error.applied == Applied::No && error.disposition != Disposition::Retry
        };
        let mut answers = BTreeMap::new();
        for (id, by) in limits.iter().filter(|(_, by)| hurried(by)) {
            let one = std::slice::from_ref(id);
            let answer = self.request(direction, one, *by, Portion::Whole).await;
            answers.insert(id.clone(), answer.map(drop).map_err(|refused| refused.error));
        }
        let shared: Vec<InstanceId> =
            limits.iter().filter(|(_, by)| !hurried(by)).map(|(id, _)| id.clone()).collect();
        let request = |ids: Vec<InstanceId>, portion| {
            let by = ids.iter().filter_map(|id| limits.get(id)).min().copied().unwrap_or(now);
            async move { self.request(direction, &ids, by, portion).await }
        };
        answers.extend(apart(&shared, concerns_one, names, halves, request).await);
        in_order(direction.operation(), items, |(id, _)| answers.get(id).cloned())
    }
}

impl Direction {
    fn operation(self) -> &'static str {
        match self {
            Self::Up => Start::OPERATION,
            Self::Down => Stop::OPERATION,
        }
    }
}

#[async_trait]
impl Shared for Start {
    type Item = (InstanceId, Timestamp);
    type Answer = ();
    const OPERATION: &'static str = "ec2:StartInstances";
    /// A few dozen: one refusal then costs few calls to take apart.
    const ITEMS_MAX: usize = 50;
    async fn call(&self, items: Vec<Self::Item>) -> Vec<Result<(), CallError>> {
        self.0.call(Direction::Up, &items).await
    }
}

#[async_trait]
impl Shared for Stop {
    type Item = (InstanceId, Timestamp);
    type Answer = ();
    const OPERATION: &'static str = "ec2:StopInstances";
    /// As for starts.
    const ITEMS_MAX: usize = 50;
    async fn call(&self, items: Vec<Self::Item>) -> Vec<Result<(), CallError>> {
        self.0.call(Direction::Down, &items).await
    }
}

/// Whether a message of AWS names the machine.
pub(crate) fn names(error: &CallError, id: &InstanceId) -> bool {
    let mut words = error.message.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words.any(|word| word == id.as_str())
}

/// A describe in our words.
pub(crate) fn seen(instance: Option<&Instance>) -> InstanceSeen {
    let Some(instance) = instance else {
        return InstanceSeen::state(PowerState::Missing);
    };
    let name = instance.state().and_then(|state| state.name()).map_or("", |name| name.as_str());
    // A word that EC2 may add one day is none that we can act on: pending is waited out.
    let state = PowerState::parse(name).unwrap_or(PowerState::Pending);
    let transition = instance.state_transition_reason().filter(|reason| !reason.is_empty());
    let reason = instance.state_reason().and_then(|reason| {
        let text = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(ToOwned::to_owned);
        match (text(reason.code()), text(reason.message())) {
            (Some(code), Some(message)) if !message.starts_with(&code) => {
                Some(format!("{code}: {message}"))
            }
            (code, message) => message.or(code),
        }
    });
    InstanceSeen {
        id: None,
        state,
        reason: reason.or_else(|| transition.map(ToOwned::to_owned)),
        user_stopped_at: transition.and_then(user_stopped_at),
        launched_at: launched_at(instance),
        private_ip: instance.private_ip_address().map(ToOwned::to_owned),
        public_ip: instance.public_ip_address().map(ToOwned::to_owned),
    }
}

/// When it was last started.
pub(crate) fn launched_at(instance: &Instance) -> Option<Timestamp> {
    instance.launch_time().and_then(|at| Timestamp::from_second(at.secs()).ok())
}

/// The time in "User initiated (2026-11-20 10:00:00 GMT)".
fn user_stopped_at(reason: &str) -> Option<Timestamp> {
    let time = reason.strip_prefix("User initiated (")?.strip_suffix(" GMT)")?;
    let time: DateTime = time.parse().ok()?;
    time.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests;
