//! How long things take in the model; the fleet file's `[local]` table has the same keys.

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serialize};

/// Durations of the model, written as `"3s"`, `"300ms"` or `"1m 30s"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timings {
    /// From an accepted start to `running`.
    #[serde(deserialize_with = "not_negative")]
    pub boot: SignedDuration,
    /// From an accepted stop to `stopped`.
    #[serde(deserialize_with = "not_negative")]
    pub stop: SignedDuration,
    /// From an accepted termination to `terminated`.
    #[serde(deserialize_with = "not_negative")]
    pub terminate: SignedDuration,
    /// From `running` to the agent being online.
    #[serde(deserialize_with = "not_negative")]
    pub agent: SignedDuration,
    /// From pending to the public address, where there is one.
    #[serde(deserialize_with = "not_negative")]
    pub public_ip_after: SignedDuration,
    /// How long after its launch a description of a machine by its id finds nothing.
    #[serde(deserialize_with = "not_negative")]
    pub not_found_for: SignedDuration,
    /// From the warning that a spot machine is taken back to its termination.
    #[serde(deserialize_with = "not_negative")]
    pub spot_notice: SignedDuration,
    /// How long a bootstrap runs on a new machine.
    #[serde(deserialize_with = "not_negative")]
    pub bootstrap: SignedDuration,
    /// How long a remote command runs.
    #[serde(deserialize_with = "not_negative")]
    pub command: SignedDuration,
    /// How long after it was sent a command's invocation cannot be found yet.
    #[serde(deserialize_with = "not_negative")]
    pub invocation: SignedDuration,
    /// How far a description of machines, services and tasks lags behind the truth.
    #[serde(deserialize_with = "not_negative")]
    pub describe_lag: SignedDuration,
    /// From a change of a service (its desired count, the end of a task) to its scheduler's next look.
    #[serde(deserialize_with = "not_negative")]
    pub placement: SignedDuration,
    /// From a task's placing to `RUNNING`.
    #[serde(deserialize_with = "not_negative")]
    pub task_start: SignedDuration,
    /// From the decision to stop a task to `STOPPED`.
    #[serde(deserialize_with = "not_negative")]
    pub task_stop: SignedDuration,
    /// From `RUNNING` to the first verdict of a container's health check, where one is configured.
    #[serde(deserialize_with = "not_negative")]
    pub health: SignedDuration,
    /// From a desired count outside a scalable target's bounds to its being put back.
    #[serde(deserialize_with = "not_negative")]
    pub scaling: SignedDuration,
    /// How long after it was put a metric's data point is not seen yet.
    #[serde(deserialize_with = "not_negative")]
    pub metric_lag: SignedDuration,
    /// How much longer it may take, each point as chance has it: of two, the later may be seen first.
    #[serde(deserialize_with = "not_negative")]
    pub metric_scatter: SignedDuration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            boot: SignedDuration::from_secs(3),
            stop: SignedDuration::from_secs(2),
            terminate: SignedDuration::from_secs(2),
            agent: SignedDuration::from_secs(2),
            public_ip_after: SignedDuration::ZERO,
            not_found_for: SignedDuration::ZERO,
            spot_notice: SignedDuration::from_mins(2),
            bootstrap: SignedDuration::from_secs(3),
            command: SignedDuration::from_millis(300),
            invocation: SignedDuration::from_millis(100),
            describe_lag: SignedDuration::ZERO,
            placement: SignedDuration::from_millis(500),
            task_start: SignedDuration::from_secs(4),
            task_stop: SignedDuration::from_secs(2),
            health: SignedDuration::from_secs(1),
            scaling: SignedDuration::from_secs(2),
            metric_lag: SignedDuration::ZERO,
            metric_scatter: SignedDuration::ZERO,
        }
    }
}

/// A duration that is not negative: the model's clock does not run backwards.
pub(crate) fn not_negative<'de, D: Deserializer<'de>>(from: D) -> Result<SignedDuration, D::Error> {
    let text = String::deserialize(from)?;
    text.parse::<SignedDuration>().ok().filter(|duration| !duration.is_negative()).ok_or_else(
        || {
            serde::de::Error::custom(format!(
                "expected a duration of zero or more, such as \"3s\" or \"1m 30s\"; got \"{text}\""
            ))
        },
    )
}

/// The same for a duration that may be left out.
pub(crate) fn maybe_not_negative<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<SignedDuration>, D::Error> {
    #[derive(Deserialize)]
    struct Wrapped(#[serde(deserialize_with = "not_negative")] SignedDuration);
    Ok(Option::<Wrapped>::deserialize(from)?.map(|wrapped| wrapped.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: Result<SignedDuration, &str>) {
        match (serde_json::from_str::<Timings>(json), expected) {
            (Ok(timings), Ok(boot)) => assert_eq!(timings.boot, boot),
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{error} lacks {part}");
            }
            (got, expected) => panic!("{json}: got {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn timings_are_humane_and_strict() {
        check("{}", Ok(SignedDuration::from_secs(3)));
        check(r#"{"boot":"300ms"}"#, Ok(SignedDuration::from_millis(300)));
        check(r#"{"boot":"1m 30s"}"#, Ok(SignedDuration::from_secs(90)));
        check(r#"{"boot":"-1s"}"#, Err("zero or more"));
        check(r#"{"boots":"1s"}"#, Err("unknown field `boots`"));
        check(r#"{"boot":"soon"}"#, Err("soon"));
    }

    #[test]
    fn timings_survive_being_written() {
        let timings = Timings { boot: SignedDuration::from_millis(1500), ..Timings::default() };
        let text = serde_json::to_string(&timings).unwrap();
        assert_eq!(serde_json::from_str::<Timings>(&text).unwrap(), timings);
    }
}
