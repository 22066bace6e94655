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
//! - Nothing waits without a deadline, and every bound on what a stranger may make long has a name.
//!
//! *Code map.* `server`: connections. `routes`: every address, with what documents it. `access`, `limits`: who, how
//! much. `commands`: from a request to the queue. `outcomes`, `live`: waiting and watching. `targets`: what is seen.
//! `compat`: the seeds' own paths. `waiting_room`, `assets`: for people.
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
mod live;
mod metrics;
mod openapi;
mod outcomes;
mod problem;
mod routes;
mod server;
pub mod settings;
mod targets;
mod templates;
mod waiting_room;

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lamplighter_runtime::Fleet;
use lamplighter_runtime::ports::{Clock, Ports, Queue, Store};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use access::Access;
pub use letters::{Letter, Letters, Replayed};
use limits::Limits;
use live::Live;
use metrics::Metrics;
use outcomes::Outcomes;
pub use settings::Http;
use settings::Token;

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
    metrics: Metrics,
    /// `/openapi.json`
    document: OnceLock<String>,
    /// Only this machine reaches it.
    loopback: AtomicBool,
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
            limits: Limits::new(&http),
            outcomes: Arc::default(),
            live: Live::default(),
            metrics: Metrics::default(),
            document: OnceLock::new(),
            loopback: AtomicBool::new(false),
            closing: watch::Sender::new(false),
            queue: Arc::clone(&ports.queue),
            store: Arc::clone(&ports.store),
            clock: Arc::clone(&ports.clock),
            fleet,
            http,
            letters,
        }
    }

    /// Takes the tokens of the secret, in place of those that it had before.
    pub fn learn_tokens(&self, of_secret: Vec<Token>) {
        self.access.learn(of_secret);
    }

    /// Serves until `shutdown` completes; what waits is answered then, and what streams ends.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let loopback = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
        self.loopback.store(loopback, Ordering::Relaxed);
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

    pub(crate) fn loopback(&self) -> bool {
        self.loopback.load(Ordering::Relaxed)
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
