//! `serve`: the door, HTTP before the queue and the table. And `token`: who may come in.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clap::Args;
use lamplighter_aws::dead_letters::{self, Which};
use lamplighter_aws::{Aws, Names, read_secret};
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

/// Whoever takes a token out of the secret is shut out after this.
const SECRET_EVERY: Duration = Duration::from_secs(60);
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
    let shutdown = wiring::shutdown()?;
    let aws = wiring::connect(None).await?;
    let ports = wiring::ports(&aws, &config)?;
    let listener = listen(args.listen).await?;
    let address = listener.local_addr()?;
    tracing::info!(
        fleet = %config.origin, targets = config.fleet.targets.len(), queue = config.commands,
        table = config.table, region = aws.region, %address, "the door is open"
    );
    if http.auth == Auth::None && !address.ip().is_loopback() {
        tracing::warn!(
            "without tokens, a page in the browser of anybody who reaches this address reaches it too"
        );
    }
    let door = Opened::new(&config, &aws, &ports, http).await?;
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

/// A door, and what keeps its tokens as the secret has them.
pub(super) struct Opened {
    door: Arc<Door>,
    secret: Option<(Aws, String)>,
}

impl Opened {
    /// Wires a door; tokens that cannot be read are an error, since nobody would get in.
    pub(super) async fn new(
        config: &Config,
        aws: &Aws,
        ports: &Ports,
        http: Http,
    ) -> Result<Self, CliError> {
        let secret = http.tokens_secret.clone().filter(|_| http.auth == Auth::Tokens);
        let letters = DeadLetters { aws: aws.clone(), names: wiring::names(config) };
        let fleet = Arc::new(config.fleet.clone());
        let door = Arc::new(Door::new(fleet, http, ports, Some(Arc::new(letters))));
        let opened = Self { door, secret: secret.map(|secret| (aws.clone(), secret)) };
        opened.learn().await?;
        Ok(opened)
    }

    async fn learn(&self) -> Result<(), CliError> {
        let Some((aws, secret)) = &self.secret else { return Ok(()) };
        let text = read_secret(aws, secret).await?;
        let tokens = tokens_of_secret(&text).map_err(|error| CliError::Failed {
            what: "cannot read the tokens",
            source: Box::new(error),
        })?;
        self.door.learn_tokens(tokens);
        Ok(())
    }

    /// Serves, and keeps the tokens fresh meanwhile. Those that were known stay, where the secret cannot be read.
    pub(super) async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let fresh = async {
            loop {
                tokio::time::sleep(SECRET_EVERY).await;
                if let Err(error) = self.learn().await {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the tokens stay as they were"
                    );
                }
            }
        };
        tokio::select! {
            biased;
            () = Arc::clone(&self.door).serve(listener, shutdown) => {}
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
        Ok(Replayed { replayed: done.replayed, kept: done.kept })
    }
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
         may = [\"read\", \"command\"]              # and \"admin\"; or \"wait\", for a link to the waiting room\n\
         # targets = [\"position-keeper\"]         # all, where nothing is said\n\
         # holder = \"*\"                          # whom it speaks for: itself, where nothing is said\n"
    ));
    Ok(ExitCode::SUCCESS)
}
