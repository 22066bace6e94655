//! Places that requests take while they wait for outcomes or watch for changes: so many for each token, and so many
//! in all.
//!
//! *Theory.* Such a request holds its connection for minutes, so the rate limits do not bound how many there are at once.
//! Whoever gets no place is answered at once, and told which bound it met.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;

use crate::problem::Problem;

/// Places become free as outcomes come, most of them within a start's time.
const RETRY_SECONDS: u64 = 5;

#[derive(Debug, Default)]
struct Taken {
    in_all: usize,
    by_token: BTreeMap<String, usize>,
}

/// The places for one sort of request.
#[derive(Debug)]
pub(crate) struct Places {
    /// What holds them, in the plural.
    what: &'static str,
    per_token: usize,
    in_all: usize,
    taken: Arc<Mutex<Taken>>,
}

/// A place that is taken until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    token: Option<String>,
    taken: Arc<Mutex<Taken>>,
}

impl Places {
    pub(crate) fn new(what: &'static str, per_token: usize, in_all: usize) -> Self {
        Self { what, per_token, in_all, taken: Arc::default() }
    }

    /// Takes a place. Where no tokens are asked for, only the bound on all of them counts.
    pub(crate) fn take(&self, token: Option<&str>) -> Result<Place, Problem> {
        let (what, per_token, in_all) = (self.what, self.per_token, self.in_all);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = token
            && taken.by_token.get(token).is_some_and(|count| *count >= per_token)
        {
            let detail = format!("this token has {per_token} {what} open, which is the limit");
            let status = StatusCode::TOO_MANY_REQUESTS;
            let problem = Problem::new(status, "too-many-requests", detail);
            return Err(problem.retry_after(RETRY_SECONDS));
        }
        if taken.in_all >= in_all {
            let detail = format!("{in_all} {what} are open, which is the limit for all callers");
            return Err(Problem::unavailable(detail).retry_after(RETRY_SECONDS));
        }
        taken.in_all += 1;
        if let Some(token) = token {
            *taken.by_token.entry(token.to_owned()).or_default() += 1;
        }
        Ok(Place { token: token.map(str::to_owned), taken: Arc::clone(&self.taken) })
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).in_all
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.in_all -= 1;
        let Some(token) = &self.token else { return };
        if let Some(count) = taken.by_token.get_mut(token) {
            *count -= 1;
            if *count == 0 {
                taken.by_token.remove(token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_its_share_and_all_have_theirs() {
        let places = Places::new("waits", 2, 4);
        let mut held: Vec<Place> =
            [Some("a"), Some("a"), None].map(|token| places.take(token).unwrap()).into();
        let refused = places.take(Some("a")).unwrap_err();
        assert_eq!(refused.status(), 429);
        assert!(refused.detail.contains("this token has 2 waits"), "{}", refused.detail);
        held.push(places.take(Some("b")).unwrap());
        for token in [Some("a"), Some("b"), Some("c"), None] {
            let expected = if token == Some("a") { 429 } else { 503 };
            assert_eq!(places.take(token).unwrap_err().status(), expected, "{token:?}");
        }
        drop(held);
        assert_eq!(places.taken(), 0);
        assert!(places.taken.lock().unwrap().by_token.is_empty(), "no name is remembered");
        assert!(places.take(Some("a")).is_ok());
    }
}
