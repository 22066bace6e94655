//! Workers on the ports of a world: employed, drained, killed, replaced.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lamplighter_runtime::{Fleet, Worker, WorkerOptions};
use tokio::sync::Notify;

use crate::world::Sim;

/// It takes up to so long until a worker that died is replaced, seconds.
const REPLACED_WITHIN_SECONDS: u64 = 20;

/// Runs a story on a paused clock.
pub fn run<F: Future>(story: impl FnOnce() -> F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime needs nothing that could be missing")
        .block_on(story())
}

/// A worker at work.
pub struct Running {
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
    ports: Sim,
}

/// Puts a worker to work on these ports.
pub fn employ(ports: Sim, fleet: Arc<Fleet>, options: WorkerOptions) -> Running {
    let worker = Worker::new(ports.ports(), fleet, options);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        worker
            .run(async {
                let _ = stopped.await;
            })
            .await;
    });
    Running { stop, task, ports }
}

impl Running {
    /// Its number.
    pub fn number(&self) -> u64 {
        self.ports.worker()
    }

    /// As by SIGTERM.
    pub async fn drain(self) {
        let _ = self.stop.send(());
        self.task.await.expect("the worker ends without a panic");
    }

    /// As by `kill -9`.
    pub fn kill(self) {
        self.ports.kill();
        self.bury();
    }

    /// Its tasks end; whatever it had in hand is nobody's.
    fn bury(self) {
        let worker = self.number();
        self.ports.inspect(|state| state.watch.died(worker));
        self.task.abort();
    }
}

/// A place in which there is always a worker: one that dies or is drained is replaced.
pub struct Place {
    keeper: tokio::task::JoinHandle<()>,
    close: tokio::sync::oneshot::Sender<()>,
    deploy: Arc<Notify>,
    /// The ports of the worker that is here now.
    here: Arc<Mutex<Option<Sim>>>,
}

impl Place {
    /// Employs a worker here, and the next one whenever one goes.
    pub fn open(sim: &Sim, fleet: &Arc<Fleet>, options: &WorkerOptions) -> Self {
        let (here, deploy) = (Arc::new(Mutex::new(None)), Arc::new(Notify::new()));
        let (close, closed) = tokio::sync::oneshot::channel();
        let keeper = tokio::spawn(keep(
            sim.clone(),
            Arc::clone(fleet),
            options.clone(),
            closed,
            Arc::clone(&deploy),
            Arc::clone(&here),
        ));
        Self { keeper, close, deploy, here }
    }

    /// The number of the worker that is here now.
    pub fn working(&self) -> Option<u64> {
        self.here.lock().unwrap().as_ref().map(Sim::worker)
    }

    /// Kills who is here, if anybody is.
    pub fn kill(&self) {
        if let Some(ports) = &*self.here.lock().unwrap() {
            ports.kill();
        }
    }

    /// Drains who is here, as a deployment does.
    pub fn deploy(&self) {
        self.deploy.notify_one();
    }

    /// The worker finishes, and nobody follows.
    pub async fn close(self) {
        let _ = self.close.send(());
        self.keeper.await.expect("a worker ends without a panic");
    }
}

async fn keep(
    sim: Sim,
    fleet: Arc<Fleet>,
    options: WorkerOptions,
    mut closed: tokio::sync::oneshot::Receiver<()>,
    deploy: Arc<Notify>,
    here: Arc<Mutex<Option<Sim>>>,
) {
    loop {
        let ports = sim.for_worker();
        let worker = employ(ports.clone(), Arc::clone(&fleet), options.clone());
        *here.lock().unwrap() = Some(ports.clone());
        let ended = tokio::select! {
            biased;
            _ = &mut closed => true,
            () = deploy.notified() => false,
            () = ports.death() => {
                *here.lock().unwrap() = None;
                worker.bury();
                let pause = 500 + sim.draw() % (REPLACED_WITHIN_SECONDS * 1000);
                tokio::time::sleep(Duration::from_millis(pause)).await;
                continue;
            }
        };
        *here.lock().unwrap() = None;
        // A drain, too, can be cut short.
        tokio::select! {
            biased;
            () = ports.death() => {}
            () = worker.drain() => {}
        }
        if ended {
            return;
        }
    }
}
