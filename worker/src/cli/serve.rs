//! `serve`: the door, HTTP before the queue and the table. And `token`: who may come in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clap::Args;
use lamplighter_aws::dead_letters::{self, Which};
use lamplighter_aws::{Aws, Names, read_secret};
use lamplighter_door::links::{Keys, KeysError};
use lamplighter_door::settings::{Auth, TokenHash, tokens_of_secret};
use lamplighter_door::{Door, Http, Letter, Letters, Replayed};
use lamplighter_events::Holder;
use lamplighter_runtime::REASON_MESSAGE_ATTRIBUTE;
use lamplighter_runtime::ports::{CallError, Ports};
use serde_json::json;
use tokio::net::TcpListener;

use super::{CliError, Context, output};
use crate::config::Config;
use crate::wiring;

/// Whoever takes a token or a key out of its secret shuts out whoever has it after this.
const SECRET_EVERY: Duration = Duration::from_secs(60);
/// The keys of links themselves, where no secret of AWS's holds them.
pub(super) const LINK_KEYS_VARIABLE: &str = "LAMPLIGHTER_LINK_KEYS";
/// Letters a second that a replay sends: what a person replays is not urgent, and must not flood the workers.
const REPLAY_PER_SECOND: u32 = 50;

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen; a load balancer with TLS belongs before what is not this machine alone
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        env = "LAMPLIGHTER_LISTEN",
        default_value = "127.0.0.1:8080"
    )]
    listen: SocketAddr,
}

pub(super) async fn run(context: &Context, args: &ServeArgs) -> Result<ExitCode, CliError> {
    let config = context.config()?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let Some(http) = config.http.clone() else {
        return Err(CliError::Usage(format!(
            "{} has no [http], which says who may come in; expected [http] auth = \"tokens\" and tokens, as \
             `lamplighter token NAME` makes them",
            config.origin
        )));
    };
    if http.auth == Auth::None && http.hosts.is_empty() && !args.listen.ip().is_loopback() {
        return Err(CliError::Usage(format!(
            "{} has [http] auth = \"none\" and no hosts, and --listen {} is reached by other machines: a page in the \
             browser of anybody there could make its own name lead here; expected hosts = [\"door.example.com\"] with \
             the names by which callers reach the door, or auth = \"tokens\"",
            config.origin, args.listen
        )));
    }
    let keys = LinkKeys::find(&http, &context.env)?;
    let shutdown = wiring::shutdown()?;
    let aws = wiring::connect(None).await?;
    let ports = wiring::ports(&aws, &config)?;
    let listener = listen(args.listen).await?;
    let address = listener.local_addr()?;
    tracing::info!(
        fleet = %config.origin, targets = config.fleet.targets.len(), queue = config.commands,
        table = config.table, region = aws.region, %address, "the door is open"
    );
    if !http.wait.is_empty() && http.auth == Auth::Tokens && matches!(keys, LinkKeys::None) {
        tracing::warn!(
            "waiting rooms have no key for links, and a link with a token puts that into the load balancer's log; expected \
             [http] links_secret, or {LINK_KEYS_VARIABLE}"
        );
    }
    let door = Opened::new(&config, &aws, &ports, http, keys).await?;
    door.serve(listener, shutdown).await;
    Ok(ExitCode::SUCCESS)
}

/// Listens, or says who may be there already.
pub(super) async fn listen(address: SocketAddr) -> Result<TcpListener, CliError> {
    TcpListener::bind(address).await.map_err(|error| CliError::Failed {
        what: "cannot listen for HTTP",
        source: format!("{address}: {error}").into(),
    })
}

/// Where the keys of links are.
#[derive(Debug)]
pub(super) enum LinkKeys {
    /// Nowhere: no link is made, and none is taken.
    None,
    /// Here.
    Given(Keys),
    /// In a secret.
    Secret(String),
}

impl LinkKeys {
    /// As the fleet or the environment says.
    pub(super) fn find(http: &Http, env: &BTreeMap<String, String>) -> Result<Self, CliError> {
        let given = env.get(LINK_KEYS_VARIABLE).filter(|text| !text.trim().is_empty());
        match (given, &http.links_secret) {
            (None, None) => Ok(Self::None),
            (None, Some(secret)) => Ok(Self::Secret(secret.clone())),
            (Some(text), None) => Keys::parse(text).map(Self::Given).map_err(|error| {
                CliError::Usage(format!("environment variable {LINK_KEYS_VARIABLE}: {error}"))
            }),
            (Some(_), Some(secret)) => Err(CliError::Usage(format!(
                "environment variable {LINK_KEYS_VARIABLE} holds link keys, and [http] links_secret names others: \
                 {secret}; expected one of them"
            ))),
        }
    }

    /// The keys of a secret.
    pub(super) async fn read(aws: &Aws, secret: &str) -> Result<Keys, CliError> {
        let text = read_secret(aws, secret).await?;
        Keys::parse(&text).map_err(unusable)
    }
}

fn unusable(error: KeysError) -> CliError {
    CliError::Failed { what: "cannot use the link keys", source: Box::new(error) }
}

/// A door, and what keeps its tokens and keys as their secrets have them.
pub(super) struct Opened {
    door: Arc<Door>,
    aws: Aws,
    tokens: Option<String>,
    keys: Option<String>,
    warned: BTreeSet<String>,
}

impl Opened {
    /// Wires a door. Tokens or keys that cannot be read are an error: it would be another door than the file says.
    pub(super) async fn new(
        config: &Config,
        aws: &Aws,
        ports: &Ports,
        http: Http,
        keys: LinkKeys,
    ) -> Result<Self, CliError> {
        let tokens = http.tokens_secret.clone().filter(|_| http.auth == Auth::Tokens);
        let letters = DeadLetters { aws: aws.clone(), names: wiring::names(config) };
        let fleet = Arc::new(config.fleet.clone());
        let door = Arc::new(Door::new(fleet, http, ports, Some(Arc::new(letters))));
        let (given, keys) = match keys {
            LinkKeys::None => (None, None),
            LinkKeys::Given(keys) => (Some(keys), None),
            LinkKeys::Secret(secret) => (None, Some(secret)),
        };
        let mut opened = Self { door, aws: aws.clone(), tokens, keys, warned: BTreeSet::new() };
        opened.learn_tokens().await?;
        if let Some(keys) = given {
            opened.door.learn_link_keys(keys).map_err(unusable)?;
        }
        opened.learn_keys().await?;
        Ok(opened)
    }

    async fn learn_tokens(&mut self) -> Result<(), CliError> {
        let Some(secret) = &self.tokens else { return Ok(()) };
        let text = read_secret(&self.aws, secret).await?;
        let tokens = tokens_of_secret(&text).map_err(|error| CliError::Failed {
            what: "cannot read the tokens",
            source: Box::new(error),
        })?;
        // The secret is read each minute; each warning is worth one line.
        let warnings: BTreeSet<String> = self.door.learn_tokens(tokens).into_iter().collect();
        for warning in warnings.difference(&self.warned) {
            tracing::warn!("[http] tokens_secret: {warning}");
        }
        self.warned = warnings;
        Ok(())
    }

    async fn learn_keys(&self) -> Result<(), CliError> {
        let Some(secret) = &self.keys else { return Ok(()) };
        let keys = LinkKeys::read(&self.aws, secret).await?;
        self.door.learn_link_keys(keys).map_err(unusable)
    }

    /// Serves, and keeps tokens and keys fresh meanwhile. Those that were known stay, where a secret cannot be read.
    pub(super) async fn serve(mut self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let door = Arc::clone(&self.door);
        let fresh = async {
            loop {
                tokio::time::sleep(SECRET_EVERY).await;
                let tokens = self.learn_tokens().await;
                for (what, learnt) in [("tokens", tokens), ("link keys", self.learn_keys().await)] {
                    if let Err(error) = learnt {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "the {what} stay as they were"
                        );
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = door.serve(listener, shutdown) => {}
            () = fresh => {}
        }
    }
}

struct DeadLetters {
    aws: Aws,
    names: Names,
}

#[async_trait]
impl Letters for DeadLetters {
    async fn list(&self, limit: usize) -> Result<Vec<Letter>, CallError> {
        let letters = dead_letters::list(&self.aws, &self.names, limit).await?;
        let letter = |letter: dead_letters::DeadLetter| Letter {
            message: letter.attributes.get(REASON_MESSAGE_ATTRIBUTE).cloned(),
            message_id: letter.message_id,
            id: letter.id,
            reason: letter.reason,
            sent_at: letter.sent_at,
            bytes: letter.body.len(),
        };
        Ok(letters.into_iter().map(letter).collect())
    }

    async fn replay(&self, id: Option<&str>) -> Result<Replayed, CallError> {
        let which = id.map_or(Which::All, |id| Which::Id(id.to_owned()));
        let done =
            dead_letters::replay(&self.aws, &self.names, &which, REPLAY_PER_SECOND, |_| {}).await?;
        Ok(Replayed { replayed: done.replayed, kept: done.kept, late: done.late })
    }
}

/// Keys of links for one run: 244 random bits.
#[cfg(feature = "local")]
pub(super) fn new_keys() -> Keys {
    let mut bytes = [0; 32];
    for half in bytes.chunks_mut(16) {
        half.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    }
    Keys::of_bytes(bytes)
}

/// A token that nobody guesses: 244 random bits.
pub(super) fn new_token() -> String {
    format!("lamp_{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}

/// `token NAME`
pub(super) fn token(context: &Context, name: &str) -> Result<ExitCode, CliError> {
    let name = Holder::parse(name).map_err(|error| CliError::Usage(error.to_string()))?;
    let token = new_token();
    let hash = TokenHash::of(&token);
    if context.json {
        output::json(&json!({ "name": name, "token": token, "sha256": hash.to_string() }));
        return Ok(ExitCode::SUCCESS);
    }
    // A key of TOML in quotes takes every name; JSON's escapes are TOML's.
    let key = serde_json::Value::from(name.as_str());
    output::print(&format!(
        "token  {token}\n\n\
         It is shown this once. The fleet file gets its hash:\n\n\
         [http.tokens.{key}]\n\
         sha256 = \"{hash}\"\n\
         may = [\"read\", \"command\", \"kill\"]      # and \"link\", or \"admin\" for everything\n\
         # targets = [\"position-keeper\"]         # all, where nothing is said\n\
         # holder = \"*\"                          # whom it speaks for: itself, where nothing is said\n"
    ));
    Ok(ExitCode::SUCCESS)
}
