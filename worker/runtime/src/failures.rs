//! Failures of single steps in a round that goes on.
//!
//! A round over many targets does not end at the first failed call: it notes the failure, goes on with the rest, and
//! reports at its end that something failed.

use crate::ports::CallError;

/// The failures of one round: how many, and the first of them.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    first: Option<CallError>,
    count: usize,
}

impl Failures {
    /// What the call returned, unless it failed.
    pub(crate) fn note<T>(&mut self, result: Result<T, CallError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::debug!(%error, "noted; the round goes on");
                self.count += 1;
                self.first.get_or_insert(error);
                None
            }
        }
    }

    /// The first failure, if there was one, with the number of the others.
    pub(crate) fn end(self) -> Result<(), CallError> {
        let Some(error) = self.first else { return Ok(()) };
        let message = match self.count - 1 {
            0 => error.message,
            1 => format!("{} (and 1 more failure)", error.message),
            more => format!("{} (and {more} more failures)", error.message),
        };
        Err(CallError { message, ..error })
    }
}

#[cfg(test)]
mod tests {
    use lamplighter_events::Cause;

    use super::*;
    use crate::ports::{Applied, Disposition};

    fn failure(message: &str) -> CallError {
        CallError {
            operation: "test:X",
            cause: Cause::Deadline,
            message: message.to_owned(),
            disposition: Disposition::Retry,
            applied: Applied::No,
        }
    }

    #[test]
    fn a_round_reports_its_first_failure_and_how_many_followed() {
        let mut failures = Failures::default();
        assert_eq!(failures.note(Ok(1)), Some(1));
        assert_eq!(failures.note::<u8>(Err(failure("one"))), None);
        assert_eq!(failures.note(Ok(2)), Some(2));
        failures.note::<u8>(Err(failure("two")));
        failures.note::<u8>(Err(failure("three")));
        assert_eq!(failures.end().unwrap_err().message, "one (and 2 more failures)");
        assert_eq!(Failures::default().end(), Ok(()));
    }
}
