//! The endpoint: one listener on 127.0.0.1, the gateway behind it, a clock and a saver beside it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use awsim_core::{
    AppState, RequestContext, RequestDetailStore, ServiceHandler, gateway::dispatch_request,
};
use awsim_dynamodb::DynamoDbService;
use awsim_secretsmanager::SecretsManagerService;
use awsim_sts::StsService;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, Response, Uri};
use jiff::Timestamp;
use lamplighter_cloud::World;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::calls::CallLog;
use crate::control;
use crate::cut::Cut;
use crate::decorator::{CUT_STATUS, Decorated, Desk};
use crate::faults::{Faults, zones_out};
use crate::iam::Policies;
use crate::options::{LocalError, Options, SecretSeed};
use crate::persist::Store;
use crate::services::{
    dynamodb::DynamoDb, ec2::Ec2, ecs::Ecs, events::Events, logs::Logs, metrics::Metrics,
    scaling::Scaling, scheduler::Scheduler, sqs::Sqs, ssm::Ssm,
};
use crate::shared::Shared;
use crate::wire;

/// The largest request: a batch of 1 MiB with every character escaped in JSON.
const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Between two saves: a crash loses at most so much of the world.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// How long open requests may take when the endpoint closes; long polls end at once.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// A running endpoint.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
    saver: Option<Saver>,
}

/// Who keeps the world, and how it is told that nothing changes any more.
#[derive(Debug)]
struct Saver {
    task: JoinHandle<()>,
    last: watch::Sender<bool>,
}

/// The letters of a region's zones, given to the subnets in turn.
const ZONES: [&str; 3] = ["a", "b", "c"];

/// The stored world, or a new one, with what the fleet file seeds.
fn seeded(stored: Option<World>, options: &Options, seed: u64, now: Timestamp) -> World {
    let mut world = stored.unwrap_or_else(|| {
        World::new(&options.account, &options.region, options.timings.clone(), seed, now)
    });
    world.timings = options.timings.clone();
    world.resume(now);
    for machine in &options.machines {
        world.seed_machine(now, machine);
    }
    for template in &options.launch_templates {
        world.seed_launch_template(now, template);
    }
    world.launches.subnets = options.subnets.iter().cloned().collect();
    // In the order in which they are named, as the subnets of a network are most often made.
    world.launches.zones = options
        .subnets
        .iter()
        .cloned()
        .zip(ZONES.iter().cycle().map(ToString::to_string))
        .collect();
    for document in &options.documents {
        world.commands.insert_document(document);
    }
    for service in &options.services {
        world.seed_service(now, service);
    }
    for group in &options.log_groups {
        world.log_groups.insert(group);
    }
    world
}

/// The policy that callers are held to from the beginning, if any.
fn policies(options: &Options) -> Result<Policies, LocalError> {
    let policies = Policies::default();
    if let Some(path) = &options.policy {
        let text = std::fs::read_to_string(path).map_err(|source| LocalError::File {
            verb: "read",
            path: path.clone(),
            source,
        })?;
        policies.put(None, &text).map_err(|error| LocalError::Policy {
            path: path.clone(),
            reason: error.to_string(),
        })?;
    }
    Ok(policies)
}

/// Every service behind one port.
fn gateway(
    desk: &Arc<Desk>,
    dynamodb: Arc<dyn ServiceHandler>,
    secrets: Arc<SecretsManagerService>,
    options: &Options,
    address: SocketAddr,
) -> AppState {
    let ours = || Arc::clone(&desk.shared);
    let handlers: Vec<Arc<dyn ServiceHandler>> = vec![
        Arc::new(Sqs { shared: ours() }),
        Arc::new(Ec2 { shared: ours() }),
        Arc::new(Ssm { shared: ours() }),
        Arc::new(Events { shared: ours() }),
        Arc::new(Scheduler { shared: ours() }),
        Arc::new(Logs { shared: ours() }),
        Arc::new(Ecs { shared: ours() }),
        Arc::new(Scaling { shared: ours() }),
        Arc::new(Metrics { shared: ours() }),
        Arc::new(DynamoDb { inner: dynamodb }),
        secrets,
        Arc::new(StsService::new()),
    ];
    let mut gateway = AppState::new(options.region.clone(), options.account.clone());
    // The gateway would keep recent bodies in memory; nobody here looks at them.
    gateway.request_details = RequestDetailStore::new(1, 0);
    gateway.listen_authority = Some(address.to_string());
    for inner in handlers {
        let routes = inner.routes();
        gateway.register(Arc::new(Decorated { inner, desk: Arc::clone(desk) }), routes);
    }
    gateway
}

impl Endpoint {
    /// Loads or makes the world, binds the port and serves until [`Endpoint::shutdown`].
    pub async fn start(options: Options) -> Result<Self, LocalError> {
        let now = Timestamp::now();
        let seed = options.seed.unwrap_or_else(|| u64::try_from(now.as_nanosecond()).unwrap_or(1));
        // The port first: a taken one must leave the data directory of its owner alone.
        let listener = listen(options.port).await?;
        let address = listener
            .local_addr()
            .map_err(|source| LocalError::Listen { port: options.port, source })?;

        let mut store = options.data.as_deref().map(Store::open).transpose()?;
        let stored = match &store {
            Some(store) => store.world(&options.account, &options.region)?,
            None => None,
        };
        let shared = Arc::new(Shared::new(seeded(stored, &options, seed, now)));

        let dynamodb = match &store {
            Some(store) => store.dynamodb()?,
            None => DynamoDbService::new(),
        };
        let dynamodb: Arc<dyn ServiceHandler> = Arc::new(dynamodb);
        let secrets = Arc::new(SecretsManagerService::new());
        if let Some(store) = &mut store {
            store.services = vec![
                ("dynamodb.json", Arc::clone(&dynamodb)),
                ("secrets.json", Arc::clone(&secrets) as Arc<dyn ServiceHandler>),
            ];
            store.restore_services()?;
        }
        for secret in &options.secrets {
            seed_secret(&secrets, secret, &options).await?;
        }

        let policies = policies(&options)?;
        shared.with(|world, _| world.machines.zones_out = zones_out(&options.faults));
        let desk = Arc::new(Desk {
            shared: Arc::clone(&shared),
            calls: CallLog::default(),
            faults: Faults::new(options.faults.clone(), options.latency.clone(), seed),
            policies,
            region: options.region.clone(),
        });
        let gateway = gateway(&desk, dynamodb, secrets, &options, address);
        let app = Router::new()
            .nest("/_lamplighter", control::router(&desk))
            .fallback(answer)
            .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
            .with_state(Arc::new(gateway));
        let mut closing = shared.subscribe_closing();
        let server = async move {
            let closed = async move {
                // An error means the endpoint is gone, which is as good as closed.
                let _ = closing.wait_for(|closing| *closing).await;
            };
            if let Err(error) = axum::serve(listener, app).with_graceful_shutdown(closed).await {
                tracing::error!(%error, "the local endpoint stopped serving");
            }
        };
        let tasks = vec![tokio::spawn(server), tokio::spawn(run_clock(Arc::clone(&shared)))];
        let saver = store.map(|store| {
            let last = watch::Sender::new(false);
            let task =
                tokio::spawn(run_saver(Arc::new(store), Arc::clone(&shared), last.subscribe()));
            Saver { task, last }
        });
        Ok(Self { address, shared, tasks, saver })
    }

    /// `http://127.0.0.1:PORT`, to be given as `AWS_ENDPOINT_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Looks at the world, or changes it, as a test would; it is advanced to now.
    pub fn world<R>(&self, look: impl FnOnce(&mut World, Timestamp) -> R) -> R {
        self.shared.with(look)
    }

    /// Ends long polls, finishes what is under way, writes everything and stops every task.
    pub async fn shutdown(mut self) {
        self.shared.close();
        for task in &mut self.tasks {
            if tokio::time::timeout(CLOSE_WITHIN, &mut *task).await.is_err() {
                task.abort();
            }
        }
        if let Some(saver) = &mut self.saver {
            // Only now: what was answered while the server closed is in the last save. That one is
            // never cut short; it fails or ends by itself.
            saver.last.send_replace(true);
            let _ = (&mut saver.task).await;
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.shared.close();
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn listen(port: u16) -> Result<TcpListener, LocalError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|source| {
        if source.kind() == std::io::ErrorKind::AddrInUse {
            LocalError::PortTaken { port, source }
        } else {
            LocalError::Listen { port, source }
        }
    })
}

/// Lets things happen in the world when they are due.
async fn run_clock(shared: Arc<Shared>) {
    let mut closing = shared.subscribe_closing();
    loop {
        let due = shared.arm();
        let nap = due.map(|due| {
            let wait = Duration::try_from(due.duration_since(Timestamp::now()));
            // A timer is as fine as a millisecond: one more, so that it does not wake just before.
            wait.unwrap_or_default() + Duration::from_millis(1)
        });
        let sleep = async {
            match nap {
                Some(nap) => tokio::time::sleep(nap).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => return,
            () = shared.rearm.notified() => {}
            () = sleep => {}
        }
    }
}

/// Saves when something changed, at most once in [`SAVE_EVERY`], and a last time when it is told to.
async fn run_saver(store: Arc<Store>, shared: Arc<Shared>, mut last: watch::Receiver<bool>) {
    loop {
        let ends = tokio::select! {
            biased;
            _ = last.wait_for(|last| *last) => true,
            () = shared.dirty.notified() => false,
        };
        let (at, world) = (Arc::clone(&store), Arc::clone(&shared));
        match tokio::task::spawn_blocking(move || at.save(&world)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the world could not be saved; it is tried again");
            }
            Err(error) => tracing::error!(%error, "saving the world ended badly"),
        }
        if ends {
            return;
        }
        tokio::select! {
            biased;
            _ = last.wait_for(|last| *last) => {}
            () = tokio::time::sleep(SAVE_EVERY) => {}
        }
    }
}

/// Every AWS request.
async fn answer(
    State(gateway): State<Arc<AppState>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let dialect = wire::Dialect::of(&headers, uri.path());
    let (headers, body) = match wire::unpack(headers, body, REQUEST_BYTES_MAX) {
        Ok(unpacked) => unpacked,
        Err(refusal) => return *refusal,
    };
    let (response, _) = dispatch_request(&gateway, method, uri, headers, body).await;
    if response.status().as_u16() == CUT_STATUS {
        return Response::new(Body::new(Cut));
    }
    dialect.finish(response).await
}

/// Makes a secret, or leaves the one that exists. An ARN with its suffix is kept to the letter, since
/// callers name the secret by it.
async fn seed_secret(
    service: &SecretsManagerService,
    seed: &SecretSeed,
    options: &Options,
) -> Result<(), LocalError> {
    let name = match seed.id.split_once(":secret:") {
        Some((_, named)) => match named.rsplit_once('-') {
            Some((name, suffix)) if suffix.len() == 6 => name,
            _ => named,
        },
        None => &seed.id,
    };
    let mut ctx = RequestContext::new("secretsmanager", options.region.clone());
    ctx.account_id.clone_from(&options.account);
    let state = service.store().get(&options.account, &options.region);
    if !state.secrets.contains_key(name) {
        let input = json!({"Name": name, "SecretString": seed.value});
        service.handle("CreateSecret", input, &ctx).await.map_err(|error| LocalError::Secret {
            id: seed.id.clone(),
            reason: error.to_string(),
        })?;
    }
    if seed.id.starts_with("arn:")
        && let Some(mut secret) = state.secrets.get_mut(name)
    {
        secret.arn.clone_from(&seed.id);
    }
    Ok(())
}
