//! The door: HTTP for people, and for the clients that the five systems already have.
//!
//! *Theory.* The queue is where work comes in, the table is where it is seen. The door turns a request into a command on
//! the queue, and an item of the table into an answer; between them it waits. It holds no state that it could lose, so
//! there may be any number of doors, and one that dies takes nothing with it but its callers' patience: the command
//! goes on, and its id finds it again. It decides nothing: what a body means is read by crate events, whom it
//! addresses by the fleet, and everything else by the worker.
//!
//! *Invariants.*
//! - The only effect is a message on the command queue (and, for whoever may, a dead letter sent there again).
//! - What was authorised is what is sent: the target is resolved first, and stands in the command by its name.
//! - Whoever is told "sent" can find out: every answer that is no outcome carries the command's id.
//! - Nothing waits without a deadline, and every bound on what a stranger may make long, or many, has a name.
//! - `/healthz` is answered, however many others ask.
//!
//! *Code map.* `server`: connections. `routes`: every address, with what documents it. `access`, `limits`, `places`: who, how
//! much. `commands`: from a request to the queue. `outcomes`, `live`: waiting and watching. `targets`: what is seen.
//! `compat`: the seeds' own paths. `waiting_room`, `links`, `assets`: for people.
//!
//! *Not here.* TLS: the load balancer's. Rights on AWS: the role's (`infra/door-policy.json`).

mod access;
mod api;
mod assets;
mod commands;
mod compat;
mod inbound;
mod letters;
mod limits;
pub mod links;
mod live;
mod metrics;
mod openapi;
mod outcomes;
mod parse;
mod patient;
mod places;
mod problem;
mod query;
mod route;
mod routes;
mod server;
pub mod settings;
mod targets;
mod templates;
mod waiting_room;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use lamplighter_runtime::Fleet;
use lamplighter_runtime::ports::{Clock, Ports, Queue, Store};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

use access::Access;
pub use letters::{Letter, Letters, Replayed};
use limits::{Limits, WAITS_MAX, WAITS_PER_TOKEN_MAX};
use links::{Keys, KeysError};
use live::Live;
use metrics::Metrics;
use outcomes::Outcomes;
use places::Places;
pub use settings::Http;
use settings::Token;
use targets::Targets;

/// Between two clean-ups of what is remembered of callers.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// Everything that requests share.
pub struct Door {
    fleet: Arc<Fleet>,
    http: Http,
    queue: Arc<dyn Queue>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    letters: Option<Arc<dyn Letters>>,
    access: Access,
    limits: Limits,
    outcomes: Arc<Outcomes>,
    live: Live,
    /// Those who wait for outcomes.
    waits: Places,
    metrics: Metrics,
    /// When the table was last found readable, or not.
    ready: Mutex<Option<(Instant, bool)>>,
    /// The last look at all targets.
    looked: Mutex<Option<(Instant, Arc<Targets>)>>,
    /// `/openapi.json`
    document: OnceLock<String>,
    /// The keys of links, where there are any.
    link_keys: RwLock<Option<Arc<Keys>>>,
    /// The names of the tokens that came in a URL: the log says it once for each.
    tokens_in_urls: std::sync::Mutex<BTreeSet<String>>,
    closing: watch::Sender<bool>,
}

impl Door {
    /// A door of this fleet. Of the ports it uses the queue (to send), the table (to read) and the clock.
    #[must_use]
    pub fn new(
        fleet: Arc<Fleet>,
        http: Http,
        ports: &Ports,
        letters: Option<Arc<dyn Letters>>,
    ) -> Self {
        Self {
            access: Access::new(&http),
            limits: Limits::new(&http, limits::connections_max()),
            outcomes: Arc::default(),
            live: Live::default(),
            waits: Places::new("waits", WAITS_PER_TOKEN_MAX, WAITS_MAX),
            metrics: Metrics::default(),
            ready: Mutex::default(),
            looked: Mutex::default(),
            document: OnceLock::new(),
            link_keys: RwLock::default(),
            tokens_in_urls: std::sync::Mutex::default(),
            closing: watch::Sender::new(false),
            queue: Arc::clone(&ports.queue),
            store: Arc::clone(&ports.store),
            clock: Arc::clone(&ports.clock),
            fleet,
            http,
            letters,
        }
    }

    /// Takes the tokens of the secret, in place of those that it had before, and returns what to warn of.
    pub fn learn_tokens(&self, of_secret: Vec<Token>) -> Vec<String> {
        let each = of_secret.into_iter().map(|token| self.http.with_legacy_rights(token));
        let (tokens, warnings): (Vec<Token>, Vec<Option<String>>) = each.unzip();
        self.access.learn(tokens);
        warnings.into_iter().flatten().collect()
    }

    /// Takes the keys of links, in place of those that it had before.
    ///
    /// # Errors
    /// Where others than the doors can read them.
    pub fn learn_link_keys(&self, keys: Keys) -> Result<(), KeysError> {
        self.access.refuse_known(&keys)?;
        *self.link_keys.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(keys));
        Ok(())
    }

    fn link_keys(&self) -> Option<Arc<Keys>> {
        self.link_keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Serves until `shutdown` completes; what waits is answered then, and what streams ends.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let mut tasks = JoinSet::new();
        let door = Arc::clone(&self);
        tasks.spawn(async move { door.outcomes.look(&*door.store).await });
        let door = Arc::clone(&self);
        tasks.spawn(async move { live::watch(&door).await });
        let door = Arc::clone(&self);
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(FORGET_EVERY).await;
                door.limits.forget();
            }
        });
        let router = routes::router(&self);
        // None of them ends. Without one of them everybody would wait in vain: better no door than that, since
        // whoever minds the process starts another.
        let over = async {
            tokio::select! {
                biased;
                () = shutdown => {}
                Some(ended) = tasks.join_next() => {
                    tracing::error!(?ended, "a part of the door ended; it closes");
                }
            }
        };
        server::serve(self, listener, router, over).await;
        tasks.shutdown().await;
    }

    /// From now on nothing waits.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Completes when nothing is to wait any more.
    pub(crate) async fn closed(&self) {
        let mut closing = self.closing.subscribe();
        let _ = closing.wait_for(|closing| *closing).await;
    }
}
