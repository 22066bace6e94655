//! `local`: an AWS endpoint on this machine, and the same worker against it.
//!
//! The worker gets an endpoint, a region and credentials as it would get AWS's, and knows nothing
//! else: what is set up here is what `setup` and `run` would set up anywhere.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;
use lamplighter_aws::{ConnectOptions, StaticCredentials};
use lamplighter_door::Http;
use lamplighter_door::settings::{Auth, Right, SpeaksFor, Targets, Token, TokenHash};
use lamplighter_events::Holder;
use lamplighter_local::{Endpoint, Fault, Latency, Options, SecretSeed};
use lamplighter_runtime::Worker;
use serde_json::{Map, Value, json};

use super::run::RunArgs;
use super::serve::{LinkKeys, Opened};
use super::{CliError, Context, output, schedule, serve, setup};
use crate::config::{self, Config, ConfigError, Local};
use crate::wiring;

/// Any credentials are taken; these are easy to type.
const CREDENTIAL: &str = "local";
const REGION: &str = "us-east-1";

#[derive(Debug, Args)]
pub(crate) struct LocalArgs {
    /// The endpoint's port on 127.0.0.1; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 4566)]
    aws_port: u16,
    /// The door's port on 127.0.0.1; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    http_port: u16,
    /// Serve the endpoint and the door alone
    #[arg(long)]
    no_worker: bool,
    /// Keep everything in this directory across restarts, machines too
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Allow only what this IAM policy document allows
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Make calls fail: kind=before|throttle|after|cut|hold|slow and any of service, operation, access_key,
    /// probability, count, code, message, status, hold, separated by commas; or kind=zone-out,zone=us-east-1b for an
    /// impaired zone; or the same as JSON
    #[arg(long = "fault", value_name = "SPEC", value_parser = parse_fault)]
    faults: Vec<Fault>,
    /// Let every call take so long, milliseconds
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(0..=60_000))]
    latency: Option<u32>,
    #[command(flatten)]
    worker: RunArgs,
}

/// Takes `kind=throttle,service=ec2,count=3`, or a JSON object.
fn parse_fault(spec: &str) -> Result<Fault, String> {
    let fault = read_fault(spec)?;
    fault.check()?;
    Ok(fault)
}

fn read_fault(spec: &str) -> Result<Fault, String> {
    if spec.trim_start().starts_with('{') {
        return serde_json::from_str(spec).map_err(|error| error.to_string());
    }
    let mut fields = Map::new();
    for pair in spec.split(',') {
        let (name, text) = pair.split_once('=').ok_or_else(|| {
            format!("{pair:?} is not NAME=VALUE, as in kind=throttle,service=ec2")
        })?;
        let number = || {
            let number: Option<Value> = match name {
                "probability" => text.parse::<f64>().ok().map(Value::from),
                _ => text.parse::<u64>().ok().map(Value::from),
            };
            number.ok_or_else(|| format!("{name}: {text:?} is not a number"))
        };
        let value = match name {
            "probability" | "count" | "status" => number()?,
            _ => Value::from(text),
        };
        fields.insert(name.to_owned(), value);
    }
    serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())
}

pub(super) async fn run(context: &Context, args: LocalArgs) -> Result<ExitCode, CliError> {
    let config = match config::load(context.fleet.as_deref(), &context.env) {
        Err(ConfigError::Absent) => Config::example()?,
        other => other?,
    };
    context.warn(&config);
    let shutdown = wiring::shutdown()?;
    let region = ["AWS_REGION", "AWS_DEFAULT_REGION"]
        .into_iter()
        .filter_map(|name| context.env.get(name))
        .find(|region| !region.is_empty())
        .map_or(REGION, String::as_str)
        .to_owned();
    let liveness = args.worker.liveness()?;
    let listener = serve::listen(([127, 0, 0, 1], args.http_port).into()).await?;
    let door_url = format!("http://{}", listener.local_addr()?);
    let (http, token) = http(&config);
    let (keys, secret) = match LinkKeys::find(&http, &context.env)? {
        LinkKeys::None => (LinkKeys::Given(serve::new_keys()), None),
        // `lamplighter link` finds keys there, as it would in an account.
        LinkKeys::Secret(id) => {
            let value = serve::new_keys().to_json();
            (LinkKeys::Secret(id.clone()), Some(SecretSeed { id, value }))
        }
        given @ LinkKeys::Given(_) => (given, None),
    };
    let endpoint = Endpoint::start(options(&config, &region, &args, secret)).await?;
    let connect = ConnectOptions {
        region: Some(region.clone()),
        profile: None,
        endpoint_url: Some(endpoint.url()),
        static_credentials: Some(StaticCredentials {
            access_key_id: CREDENTIAL.to_owned(),
            secret_access_key: CREDENTIAL.to_owned(),
        }),
    };
    let aws = wiring::connect(Some(connect)).await?;
    let steps = setup::set_up(&aws, &config).await?;
    tracing::debug!(steps = steps.len(), "set up");
    schedule::apply_quietly(&aws, &config).await?;
    let queue = queue_url(&endpoint.url(), &config.commands);
    let ports = wiring::ports(&aws, &config)?;
    let door = Opened::new(&config, &aws, &ports, http, keys).await?;
    let told = Told { endpoint: endpoint.url(), queue, region, door: door_url, token };
    tell(context, &config, &told, args.no_worker);
    // Both end by the one signal.
    let (ending, ended) = tokio::sync::watch::channel(false);
    let of = |mut ended: tokio::sync::watch::Receiver<bool>| async move {
        drop(ended.wait_for(|ended| *ended).await);
    };
    let work = async {
        if args.no_worker {
            of(ended.clone()).await;
        } else {
            let mut options = args.worker.options();
            if args.worker.unknown_wait.is_none() {
                // Its worker is the only one, so no other has a newer fleet file.
                options.unknown_wait = Duration::ZERO;
            }
            let fleet = Arc::new(config.fleet);
            let worker = Worker::new(ports, fleet, options).with_liveness(liveness);
            worker.run(of(ended.clone())).await;
        }
    };
    let signal = async {
        shutdown.await;
        ending.send_replace(true);
    };
    tokio::join!(signal, work, door.serve(listener, of(ended.clone())));
    endpoint.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

/// As the endpoint itself would tell it.
fn queue_url(endpoint: &str, queue: &str) -> String {
    let name = queue.rsplit('/').next().unwrap_or(queue);
    format!("{endpoint}/{}/{name}", Options::default().account)
}

fn options(
    config: &Config,
    region: &str,
    args: &LocalArgs,
    link_keys: Option<SecretSeed>,
) -> Options {
    let secrets = config.local.secrets(&config.fleet);
    let secrets = secrets.into_iter().map(|(id, value)| SecretSeed { id, value });
    let secrets = secrets.chain(link_keys).collect();
    let all = config.fleet.targets.values().chain(config.fleet.templates.values());
    let log_groups = all.filter_map(|spec| spec.log_group.clone()).collect();
    let latency = args.latency.map(|millis| Latency {
        base: SignedDuration::from_millis(i64::from(millis)),
        jitter: SignedDuration::ZERO,
    });
    Options {
        port: args.aws_port,
        region: region.to_owned(),
        machines: config.local.machines(&config.fleet),
        services: config.local.services(&config.fleet),
        launch_templates: config.local.launch_templates_of(&config.fleet),
        subnets: Local::subnets(&config.fleet),
        documents: Local::documents(&config.fleet),
        secrets,
        log_groups,
        timings: config.local.timings.clone(),
        data: args.data.clone(),
        policy: args.policy.clone(),
        faults: args.faults.clone(),
        latency,
        ..Options::default()
    }
}

/// The door's settings; where the fleet says nothing of it, or keeps its tokens in a secret, a token is made for this
/// run.
fn http(config: &Config) -> (Http, Option<String>) {
    let mut http = match &config.http {
        Some(http) if http.tokens_secret.is_none() => return (http.clone(), None),
        // The secret is in an account; here a token of this run stands for its tokens.
        Some(http) => Http { tokens_secret: None, ..http.clone() },
        None => Http::new(Auth::Tokens),
    };
    let token = serve::new_token();
    http.tokens.extend(Holder::parse(CREDENTIAL).ok().map(|name| Token {
        name,
        hash: TokenHash::of(&token),
        may: BTreeSet::from(Right::ALL),
        targets: vec![Targets::Prefix(String::new())],
        speaks_for: SpeaksFor::Anyone,
    }));
    (http, Some(token))
}

/// What whoever starts it needs to know.
struct Told {
    endpoint: String,
    queue: String,
    region: String,
    door: String,
    token: Option<String>,
}

fn tell(context: &Context, config: &Config, told: &Told, no_worker: bool) {
    let Told { endpoint: url, queue, region, door, token } = told;
    if context.json {
        let ready = json!({
            "ready": true, "endpoint": url, "queue": queue, "region": region, "http": door,
            "token": token, "fleet": config.origin.to_string(), "worker": !no_worker,
        });
        // One line, so that a reader need not guess where it ends.
        output::line(&ready.to_string());
        return;
    }
    let targets: Vec<&str> = config.fleet.targets.keys().map(|name| name.as_str()).collect();
    output::line(&format!("endpoint  {url}"));
    output::line(&format!("queue     {queue}"));
    match token {
        // What stands after the # is sent to nobody: the page takes it out of the address.
        Some(token) => output::line(&format!("page      {door}/#token={token}")),
        None => output::line(&format!("page      {door}")),
    }
    output::line(&format!("fleet     {} ({})", config.origin, targets.join(", ")));
    let templates: Vec<&str> = config.fleet.templates.keys().map(|name| name.as_str()).collect();
    if !templates.is_empty() {
        output::line(&format!("templates {}", templates.join(", ")));
    }
    output::line(&context.style.paint("32", "ready"));
    let Some(first) = targets.first() else { return };
    let fleet = match &config.origin {
        config::Origin::Example => " LAMPLIGHTER_FLEET=example".to_owned(),
        config::Origin::File(path) if path.as_os_str() != config::DEFAULT_FILE => {
            format!(" LAMPLIGHTER_FLEET={}", path.display())
        }
        _ => String::new(),
    };
    output::print(&format!(
        "\nIn another terminal:\n  \
         export AWS_ENDPOINT_URL={url} AWS_REGION={region} AWS_ACCESS_KEY_ID={CREDENTIAL} \
         AWS_SECRET_ACCESS_KEY={CREDENTIAL}{fleet}\n  \
         lamplighter send start {first} --holder me --wait\n  \
         lamplighter status\n  \
         aws --endpoint-url {url} sqs send-message --queue-url {queue} --message-body \
         '{{\"action\":\"stop\",\"target\":\"{first}\",\"holder\":\"me\"}}'\n\n"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_taken_in_short_and_as_json() {
        let short = parse_fault(
            "kind=before,service=ec2,operation=StartInstances,count=2,status=503,hold=2s",
        );
        let json = parse_fault(
            r#"{"kind":"before","service":"ec2","operation":"StartInstances","count":2,"status":503,"hold":"2s"}"#,
        );
        assert_eq!(short.unwrap(), json.unwrap());
        assert!(parse_fault("kind").unwrap_err().contains("NAME=VALUE"));
        assert!(parse_fault("kind=after,count=x").unwrap_err().contains("count"));
        assert!(parse_fault("kind=after,when=now").unwrap_err().contains("unknown field `when`"));
    }
}
