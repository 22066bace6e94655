//! How much one caller may ask: a rate for each address and for each token (GCRA, by `governor`), and how many
//! connections there may be.
//!
//! *Crowded connections.* A balancer that gets no answer to `/healthz` has the process replaced, and with it every
//! request that waits. So some connections are accepted beyond the limit: they live for seconds, and answer `/healthz`, or
//! 503 to anything else.
//!
//! *Bounds.* What is remembered of addresses is thrown away once it no longer matters, each minute; an attacker with
//! many addresses costs some memory for that minute and no more.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{HeaderMap, StatusCode};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::Problem;
use crate::settings::{Http, RATE_DEFAULT};

/// A page that opens, or a script that begins, asks much at once and little afterwards.
const BURST_SECONDS: u32 = 10;
/// Connections at once: those that wait (768) or watch (256), and as many as these for everything else. Each is a task
/// and two buffers, about 50 kB with all that belongs to them.
const CONNECTIONS_MAX: usize = WAITS_MAX + WATCHING_MAX + 256;
/// Requests that wait for an outcome at once.
pub(crate) const WAITS_MAX: usize = 768;
/// Requests of one token that wait at once.
pub(crate) const WAITS_PER_TOKEN_MAX: usize = 64;
/// Streams of events at once.
pub(crate) const WATCHING_MAX: usize = 256;
/// Streams of events of one token at once.
pub(crate) const WATCHING_PER_TOKEN_MAX: usize = 64;
/// Connections beyond the limit at once.
const CROWDED_MAX: usize = 128;
/// Connections beyond the limit at once from one address, where no proxy stands before the door.
const CROWDED_PER_ADDRESS_MAX: usize = 32;
/// While fewer connections than one in so many are free, each is closed after its answer: a balancer has several machines,
/// and what rests in the pool of one of them is of no use to the others.
const NEARLY_FULL_SHARE: usize = 5;
/// File descriptors for what is no connection of a caller: the calls to AWS, the listeners, the log.
const OTHER_FILES: usize = 128;
/// Connections at once from one address, where no proxy stands before the door.
const PER_ADDRESS_MAX: usize = 512;
/// Where our proxies write the addresses that they saw.
const FORWARDED: &str = "x-forwarded-for";

/// The counters.
#[derive(Debug)]
pub(crate) struct Limits {
    proxies: usize,
    addresses: DefaultKeyedRateLimiter<IpAddr>,
    tokens: DefaultKeyedRateLimiter<String>,
    connections_max: usize,
    connections: Arc<Semaphore>,
    crowded: Arc<Semaphore>,
    open: Arc<Mutex<BTreeMap<IpAddr, Open>>>,
}

/// The connections of one address.
#[derive(Debug, Clone, Copy, Default)]
struct Open {
    within: usize,
    crowded: usize,
}

/// A connection that is counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    address: IpAddr,
    is_crowded: bool,
    open: Arc<Mutex<BTreeMap<IpAddr, Open>>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// It is beyond the limit.
    pub(crate) fn is_crowded(&self) -> bool {
        self.is_crowded
    }
}

/// How many connections there may be. Each is a file descriptor, and without one left nothing is accepted, `/healthz`
/// included: so the process asks for as many as it may have, and takes fewer connections where that is not enough.
pub(crate) fn connections_max() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = (CONNECTIONS_MAX + CROWDED_MAX + OTHER_FILES) as u64;
    let files = getrlimit(Resource::Nofile);
    let mut may = files.current.unwrap_or(wanted);
    let most = files.maximum.unwrap_or(wanted).min(wanted);
    if may < most {
        let more = Rlimit { current: Some(most), maximum: files.maximum };
        if setrlimit(Resource::Nofile, more).is_ok() {
            may = most;
        }
    }
    if may >= wanted {
        return CONNECTIONS_MAX;
    }
    let left = usize::try_from(may).unwrap_or(CONNECTIONS_MAX);
    let connections = left.saturating_sub(CROWDED_MAX + OTHER_FILES).max(1);
    tracing::warn!(
        files = may,
        wanted,
        connections,
        "the limit on open files bounds the connections; expected `ulimit -n` of at least what is wanted"
    );
    connections
}

fn quota(per_second: u32) -> Quota {
    let rate =
        NonZeroU32::new(per_second).or(NonZeroU32::new(RATE_DEFAULT)).unwrap_or(NonZeroU32::MIN);
    let burst = rate.saturating_mul(NonZeroU32::new(BURST_SECONDS).unwrap_or(NonZeroU32::MIN));
    Quota::per_second(rate).allow_burst(burst)
}

impl Limits {
    pub(crate) fn new(http: &Http, connections: usize) -> Self {
        Self {
            proxies: http.proxies,
            addresses: RateLimiter::keyed(quota(http.per_address)),
            tokens: RateLimiter::keyed(quota(http.per_token)),
            connections_max: connections,
            connections: Arc::new(Semaphore::new(connections)),
            crowded: Arc::new(Semaphore::new(CROWDED_MAX)),
            open: Arc::default(),
        }
    }

    /// Counts a connection; `None` where there is no room even for a crowded one.
    pub(crate) fn connection(&self, peer: SocketAddr) -> Option<Connection> {
        let address = network(peer.ip());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.get(&address).copied().unwrap_or_default();
        let may_have = |count, most| self.proxies > 0 || count < most;
        let within = match may_have(count.within, PER_ADDRESS_MAX) {
            true => Arc::clone(&self.connections).try_acquire_owned().ok(),
            false => None,
        };
        let is_crowded = within.is_none();
        let permit = match within {
            Some(permit) => permit,
            None if may_have(count.crowded, CROWDED_PER_ADDRESS_MAX) => {
                Arc::clone(&self.crowded).try_acquire_owned().ok()?
            }
            None => return None,
        };
        let count = open.entry(address).or_default();
        match is_crowded {
            true => count.crowded += 1,
            false => count.within += 1,
        }
        Some(Connection { address, is_crowded, open: Arc::clone(&self.open), _permit: permit })
    }

    /// Few connections are left.
    pub(crate) fn is_nearly_full(&self) -> bool {
        self.connections.available_permits() < self.connections_max / NEARLY_FULL_SHARE
    }

    /// Whose request it is: the peer's, or as the outermost of our proxies saw it. What stands further to the left
    /// the caller has written itself.
    pub(crate) fn address(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        network(self.said_address(peer, headers))
    }

    fn said_address(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let forwarded = headers.get_all(FORWARDED).iter().filter_map(|value| value.to_str().ok());
        let mut hops: Vec<&str> =
            forwarded.flat_map(|value| value.split(',')).map(str::trim).collect();
        match self.proxies {
            0 => peer.ip(),
            proxies => {
                let ours = hops.split_off(hops.len().saturating_sub(proxies));
                ours.first().and_then(|hop| hop.parse().ok()).unwrap_or_else(|| peer.ip())
            }
        }
    }

    /// Counts a request of an address.
    pub(crate) fn request(&self, address: IpAddr) -> Result<(), Problem> {
        self.addresses.check_key(&address).map_err(|not_until| too_many("address", &not_until))
    }

    /// Counts a request with a token.
    pub(crate) fn token(&self, name: &str) -> Result<(), Problem> {
        self.tokens.check_key(&name.to_owned()).map_err(|not_until| too_many("token", &not_until))
    }

    /// Forgets who has not asked for a while.
    pub(crate) fn forget(&self) {
        self.addresses.retain_recent();
        self.addresses.shrink_to_fit();
        self.tokens.retain_recent();
    }
}

/// What one caller has of addresses: of IPv6 a /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(long) => match long.to_ipv4_mapped() {
            Some(short) => IpAddr::V4(short),
            None => IpAddr::V6((u128::from(long) & !u128::from(u64::MAX)).into()),
        },
    }
}

fn too_many(
    what: &str,
    not_until: &governor::NotUntil<<DefaultClock as governor::clock::Clock>::Instant>,
) -> Problem {
    let wait = not_until.wait_time_from(DefaultClock::default().now());
    let detail = format!("this {what} asks too often; wait as Retry-After says");
    // A second is the least that the header can say.
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", detail)
        .retry_after(wait.as_secs() + 1)
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            match self.is_crowded {
                true => count.crowded -= 1,
                false => count.within -= 1,
            }
            if count.within + count.crowded == 0 {
                open.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Auth;

    fn limits(proxies: usize, per_address: u32) -> Limits {
        Limits::new(&Http { proxies, per_address, ..Http::new(Auth::None) }, CONNECTIONS_MAX)
    }

    #[track_caller]
    fn address(proxies: usize, forwarded: &[&str], expected: &str) {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED, value.parse().unwrap());
        }
        let peer = "10.0.0.9:1".parse().unwrap();
        let found = limits(proxies, 1).address(peer, &headers);
        assert_eq!(found.to_string(), expected, "{proxies} proxies, {forwarded:?}");
    }

    #[test]
    fn only_what_our_proxies_wrote_is_believed() {
        address(0, &["1.1.1.1"], "10.0.0.9");
        address(1, &["1.1.1.1"], "1.1.1.1");
        address(1, &["6.6.6.6, 1.1.1.1"], "1.1.1.1");
        address(1, &["6.6.6.6", "1.1.1.1"], "1.1.1.1");
        address(2, &["6.6.6.6, 1.1.1.1, 10.0.0.7"], "1.1.1.1");
        address(2, &["1.1.1.1"], "1.1.1.1");
        address(1, &[], "10.0.0.9");
        address(1, &["6.6.6.6, unknown"], "10.0.0.9");
        address(1, &["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::");
        address(1, &["::ffff:1.1.1.1"], "1.1.1.1");
    }

    #[test]
    fn who_asks_too_often_is_told_when_to_come_again() {
        let limits = limits(0, 2);
        let (one, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        for _ in 0..20 {
            assert!(limits.request(one).is_ok(), "within the burst");
        }
        assert_eq!(limits.request(one).unwrap_err().status(), 429);
        assert!(limits.request(other).is_ok(), "another's share is its own");
    }

    #[test]
    fn connections_are_counted_until_they_end() {
        let limits = limits(0, 1);
        let peer: SocketAddr = "10.0.0.1:1".parse().unwrap();
        let count = PER_ADDRESS_MAX + CROWDED_PER_ADDRESS_MAX;
        let held: Vec<_> = (0..count).map_while(|_| limits.connection(peer)).collect();
        let crowded = held.iter().filter(|one| one.is_crowded()).count();
        assert_eq!((held.len(), crowded), (count, CROWDED_PER_ADDRESS_MAX));
        assert!(limits.connection(peer).is_none());
        let other = limits.connection("10.0.0.2:1".parse().unwrap()).unwrap();
        assert!(!other.is_crowded(), "another's share is its own");
        drop((held, other));
        assert!(!limits.connection(peer).unwrap().is_crowded());
        assert!(limits.open.lock().unwrap().is_empty(), "no address is remembered");
    }

    #[test]
    fn beyond_the_limit_some_more_are_taken_for_the_balancers_question() {
        // Behind a proxy all of them have its address.
        let limits = limits(1, 1);
        let peer: SocketAddr = "10.0.0.1:1".parse().unwrap();
        let all = CONNECTIONS_MAX + CROWDED_MAX;
        let mut held: Vec<_> = (0..all).map_while(|_| limits.connection(peer)).collect();
        assert_eq!(held.len(), all);
        assert_eq!(held.iter().filter(|one| one.is_crowded()).count(), CROWDED_MAX);
        assert!(limits.connection(peer).is_none());
        held.remove(0);
        assert!(
            !limits.connection(peer).unwrap().is_crowded(),
            "what is free again is whole again"
        );
    }
}
