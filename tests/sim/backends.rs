//! What runs on the targets and is used: the truth of who was active when, and what a probe is told of it.
//!
//! *Theory.* A use is a stretch of time. A backend knows when it was last used; it may take a probe at any of its
//! addresses for a use (before it answers, or after), its clock may be ahead, and for a time it may hang, be
//! unreachable, or answer with garbage. Its metrics are published once a minute, or at the end of a longer period for
//! all of that, if at all: the publisher may die while the backend is used on.
//!
//! Not here: what the answers mean. The checker reads the uses themselves.

use jiff::{SignedDuration, Timestamp};
use lamplighter_cloud::metrics::{Datum, MetricName, StatisticSet};
use lamplighter_cloud::services::TaskStatus;
use lamplighter_cloud::{MachineState, World};
use lamplighter_lifecycle::{HttpReads, Resource};

/// How often metrics are published.
pub const PUBLISHED_EVERY: SignedDuration = SignedDuration::from_mins(1);
/// The namespace of what is published.
pub const NAMESPACE: &str = "Backends";
/// How many used it in the last minute, at most at once.
pub const CONNECTIONS: &str = "ActiveConnections";
/// When it was last used.
pub const LAST_ACTIVITY: &str = "LastActivityEpochSeconds";

/// Whether a probe counts as a use there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    /// It does not.
    No,
    /// Before it is answered: the answer names the probe itself.
    Before,
    /// After it was answered: the next answer names it.
    After,
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It takes the request and does not answer.
    Hangs,
    /// Nobody listens.
    Unreachable,
    /// It answers with an error page, a missing field, a 0, milliseconds.
    Garbage(u64),
}

/// One backend.
#[derive(Debug, Clone)]
pub struct Backend {
    /// Whether a probe counts as a use.
    pub marks: Marks,
    /// How far its clock is ahead of the true time.
    pub ahead: SignedDuration,
    /// What is wrong with it now.
    pub trouble: Option<Trouble>,
    /// Its metrics are not published now.
    pub silent: bool,
    /// From then on they are not, for good.
    pub dies_at: Option<Timestamp>,
    /// From then on nobody reaches it, for good.
    pub unreachable_from: Option<Timestamp>,
    began: Timestamp,
    uses: Vec<(Timestamp, Timestamp)>,
    /// The last probe that it took for a use.
    own: Option<Timestamp>,
    /// It publishes so often, at the end of each such period.
    every: SignedDuration,
    /// Up to when what was so was published, each time.
    published: Vec<Timestamp>,
}

/// Why there is no number.
pub(crate) struct NoNumber {
    pub(crate) detail: &'static str,
    pub(crate) unreachable: bool,
}

impl Backend {
    /// One that nobody has used yet.
    pub fn new(began: Timestamp, marks: Marks, ahead: SignedDuration) -> Self {
        Self {
            marks,
            ahead,
            trouble: None,
            silent: false,
            dies_at: None,
            unreachable_from: None,
            began,
            uses: Vec::new(),
            own: None,
            every: PUBLISHED_EVERY,
            published: Vec::new(),
        }
    }

    /// It publishes at the end of each period of this length, for all of it.
    #[must_use]
    pub fn publishing_every(mut self, every: SignedDuration) -> Self {
        self.every = every;
        self
    }

    /// How often it publishes while its publisher lives.
    pub(crate) fn publishes_every(&self) -> SignedDuration {
        self.every
    }

    /// Somebody uses it for a while.
    pub fn use_it(&mut self, from: Timestamp, until: Timestamp) {
        self.uses.push((from, until));
    }

    /// The uses that began by `at`, each as far as it has come.
    pub(crate) fn uses_by(&self, at: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let begun = self.uses.iter().filter(move |(from, _)| *from <= at);
        begun.map(move |(from, until)| (*from, (*until).min(at)))
    }

    /// Up to when what was so was published, each time, oldest first.
    pub(crate) fn published(&self) -> &[Timestamp] {
        &self.published
    }

    /// How many use it.
    pub(crate) fn busy_at(&self, at: Timestamp) -> usize {
        self.uses.iter().filter(|(from, until)| *from <= at && at < *until).count()
    }

    fn last_use(&self, at: Timestamp) -> Timestamp {
        self.uses_by(at).map(|(_, until)| until).fold(self.began, Timestamp::max)
    }

    /// What it tells a probe at `now`.
    pub(crate) fn answer(
        &mut self,
        reads: HttpReads,
        up_since: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<f64, NoNumber> {
        let garbage = |detail| Err(NoNumber { detail, unreachable: false });
        let reached = self.trouble != Some(Trouble::Unreachable)
            && self.unreachable_from.is_none_or(|from| now < from);
        let Some(up_since) = up_since.filter(|_| reached) else {
            return Err(NoNumber { detail: "connection refused", unreachable: true });
        };
        if self.marks == Marks::Before {
            self.own = Some(now);
        }
        let own = self.own;
        if self.marks == Marks::After {
            self.own = Some(now);
        }
        if let Some(Trouble::Garbage(sort)) = self.trouble {
            return match sort % 4 {
                0 => garbage("503 Service Unavailable"),
                1 => garbage("no number at the pointer"),
                // A missing field that its own code reads as 0; as a count it would be a lie.
                2 if reads == HttpReads::Epoch => Ok(0.0),
                3 if reads == HttpReads::Epoch => Ok(now.as_millisecond() as f64),
                _ => Ok(-1.0),
            };
        }
        // It begins with its own beginning.
        let last = self.last_use(now).max(own.unwrap_or(self.began));
        let last = last.max(up_since.min(now));
        Ok(match reads {
            HttpReads::Epoch => (last + self.ahead).as_millisecond() as f64 / 1000.0,
            HttpReads::IdleSeconds => now.duration_since(last).as_secs_f64(),
            HttpReads::Count => self.busy_at(now) as f64,
        })
    }

    /// What it puts into CloudWatch, asked each minute: of the last minute, with the time of its end; or, at the end of a
    /// longer period, of that period, with the time of its beginning.
    pub(crate) fn publish(&mut self, resource: &Resource, now: Timestamp) -> Vec<Datum> {
        let (before, end, time) = if self.every == PUBLISHED_EVERY {
            (now - PUBLISHED_EVERY, now, now)
        } else {
            let every = self.every.as_secs();
            let end = Timestamp::from_second(now.as_second().div_euclid(every) * every).unwrap();
            (end - self.every, end, end - self.every)
        };
        if self.silent
            || self.dies_at.is_some_and(|at| at <= now)
            || self.published.last() == Some(&end)
        {
            return Vec::new();
        }
        let busy = self.uses_by(end).filter(|(_, until)| *until > before).count();
        let last = self.last_use(end);
        self.published.push(end);
        let datum = |name: &str, value: f64| Datum {
            metric: metric_name(resource, name),
            time: Some(time),
            unit: None,
            set: StatisticSet::of(value, 1.0),
        };
        let epoch = last.as_millisecond() as f64 / 1000.0;
        vec![datum(CONNECTIONS, busy as f64), datum(LAST_ACTIVITY, epoch)]
    }
}

/// A metric of a backend's.
pub(crate) fn metric_name(resource: &Resource, name: &str) -> MetricName {
    MetricName {
        namespace: NAMESPACE.to_owned(),
        name: name.to_owned(),
        dimensions: [("Backend".to_owned(), resource.to_string())].into(),
    }
}

/// Since when what a target is made of runs, if it does.
pub(crate) fn up_since(world: &World, resource: &Resource) -> Option<Timestamp> {
    match resource {
        Resource::Instance(id) => {
            let machine = world.machines.get(id.as_str())?;
            machine.running_since.filter(|_| machine.state() == MachineState::Running)
        }
        Resource::Launch(_) => None,
        Resource::Service(id) => {
            let tasks = world.services.get(id.cluster(), id.service())?.tasks();
            let running = tasks.filter(|task| task.view.status == TaskStatus::Running);
            running.filter_map(|task| task.view.started).min()
        }
    }
}
