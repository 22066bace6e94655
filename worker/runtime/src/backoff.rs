//! Growing, jittered pauses. `backon` only supplies the growth; the jitter comes through the port, so
//! that a simulated run repeats byte for byte.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use jiff::SignedDuration;
use lamplighter_lifecycle::{NEWER_MAX, REDELIVERY_MAX, REDELIVERY_MIN, REFUSAL_MAX, REFUSAL_MIN};

/// The pause before what failed the `nth` time is tried again, seconds.
pub(crate) fn retry_seconds(nth: u32, jitter: f64) -> u32 {
    let pause = grown(REDELIVERY_MIN, REDELIVERY_MAX, nth, jitter);
    u32::try_from(pause.as_secs()).unwrap_or(u32::MAX).max(1)
}

/// The pause before a message of this age that was received so often is seen again, seconds. Receives
/// also count lost answers, dead workers and bounces, which are no failures of its own: nobody waits
/// longer for the next look than for all that came before it.
pub(crate) fn redelivery_seconds(receives: u32, age: SignedDuration, jitter: f64) -> u32 {
    let age = u32::try_from(age.as_secs().max(0)).unwrap_or(u32::MAX);
    retry_seconds(receives, jitter).min(age.max(retry_seconds(1, jitter)))
}

/// The same for a message that only a newer release may work on: its workers are there soon, or not for days.
pub(crate) fn newer_seconds(receives: u32, age: SignedDuration, jitter: f64) -> u32 {
    let pause = grown(REDELIVERY_MIN, NEWER_MAX, receives, jitter);
    let seconds = u32::try_from(pause.as_secs()).unwrap_or(u32::MAX).max(1);
    let age = u32::try_from(age.as_secs().max(0)).unwrap_or(u32::MAX);
    seconds.min(age.max(retry_seconds(1, jitter)))
}

/// The pause before an effect that was refused `refusals` times before is tried again, milliseconds.
pub(crate) fn refusal_millis(refusals: u32, jitter: f64) -> u64 {
    let pause = grown(REFUSAL_MIN, REFUSAL_MAX, refusals + 1, jitter);
    u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)
}

/// The `nth` (from 1) pause, between half of it and the whole.
fn grown(min: Duration, max: Duration, nth: u32, jitter: f64) -> Duration {
    let mut pauses = ExponentialBuilder::default()
        .with_min_delay(min)
        .with_max_delay(max)
        .with_factor(2.0)
        .without_max_times()
        .build();
    // Past the cap every pause is the same: no need to walk thousands of them.
    let index = usize::try_from(nth.saturating_sub(1)).unwrap_or(usize::MAX).min(32);
    pauses.nth(index).unwrap_or(max).mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(receives: u32, jitter: f64, seconds: u32) {
        assert_eq!(retry_seconds(receives, jitter), seconds, "{receives} {jitter}");
    }

    #[test]
    fn redelivery_grows_is_jittered_and_bounded() {
        check(0, 1.0, 2);
        check(1, 1.0, 2);
        check(1, 0.0, 1);
        check(2, 1.0, 4);
        check(5, 1.0, 32);
        check(9, 1.0, 300);
        check(1000, 1.0, 300);
        check(1000, 0.0, 150);
        assert_eq!(refusal_millis(0, 1.0), 2000);
        assert_eq!(refusal_millis(9, 0.0), 10_000);
    }

    #[track_caller]
    fn check_age(receives: u32, age_seconds: i64, seconds: u32) {
        let age = SignedDuration::from_secs(age_seconds);
        assert_eq!(redelivery_seconds(receives, age, 1.0), seconds, "{receives} {age_seconds}");
    }

    #[test]
    fn a_message_for_a_newer_release_lives_out_its_life_without_becoming_a_dead_letter() {
        const LIFE: i64 = 14 * 24 * 3600;
        for jitter in [0.0, 0.5, 1.0] {
            let (mut age, mut receives) = (0, 0);
            while age < LIFE {
                receives += 1;
                age += i64::from(newer_seconds(receives, SignedDuration::from_secs(age), jitter));
            }
            assert!(receives < 1_000, "{receives} receives with a jitter of {jitter}");
        }
        assert_eq!(newer_seconds(1, SignedDuration::from_secs(3600), 1.0), 2);
    }

    #[test]
    fn a_message_waits_no_longer_than_it_is_old() {
        check_age(9, 10, 10);
        check_age(9, 0, 2);
        check_age(9, -5, 2);
        check_age(3, 10, 8);
        check_age(9, 86_400, 300);
    }
}
