//! `link`: a link to a target's waiting room, signed with the fleet's own key.
//!
//! *Not here.* A token: whoever may read the key may make links, and AWS says who that is. Without that right,
//! `POST /v1/links` makes one for a token that may.

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use lamplighter_door::links::{Grant, Purpose};
use lamplighter_door::settings::Destination;
use lamplighter_events::{FieldError, Holder, HumanDuration, TargetName};
use serde_json::json;

use super::serve::{LINK_KEYS_VARIABLE, LinkKeys};
use super::{CliError, Context, output};
use crate::wiring;

#[derive(Debug, Args)]
pub(crate) struct LinkArgs {
    /// The target that the link wakes; [http.wait.TARGET] of the fleet file says where it may lead
    target: String,
    /// How long the link lasts, up to 30d [default: 1d]
    #[arg(long = "for", value_name = "DURATION", value_parser = HumanDuration::parse)]
    lifetime: Option<HumanDuration>,
    /// Where it leads once the target is on [default: the first address of [http.wait.TARGET]]
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// In whose name it wakes the target [default: waiting-room]
    #[arg(long, value_name = "NAME")]
    holder: Option<Holder>,
    /// The address of the HTTP server, such as https://door.example.com
    #[arg(long, value_name = "URL", env = "LAMPLIGHTER_DOOR", default_value = "http://127.0.0.1:8080", value_parser = Destination::parse)]
    door: Destination,
}

pub(super) async fn run(context: &Context, args: LinkArgs) -> Result<ExitCode, CliError> {
    let config = context.config()?;
    let usage = |error: FieldError| CliError::Usage(error.to_string());
    let http = config.http.as_ref().ok_or_else(|| {
        CliError::Usage(format!("{} has no [http]; expected [http.wait.TARGET]", config.origin))
    })?;
    let target = TargetName::parse(&args.target).map_err(usage)?;
    let to = http.leads(&target, args.to.as_deref()).ok_or_else(|| {
        let known: Vec<&str> = http.wait.keys().map(|name| name.as_str()).collect();
        let known = if known.is_empty() { "none yet".to_owned() } else { known.join(", ") };
        CliError::Usage(format!(
            "{} has no [http.wait.{target}]; expected a target with a waiting room: {known}",
            config.origin
        ))
    })?;
    let to = to.map_err(usage)?;
    let now = Timestamp::now();
    let grant =
        Grant::new(Purpose::Wait, target, args.holder, args.lifetime, now).map_err(usage)?;
    let keys = match LinkKeys::find(http, &context.env)? {
        LinkKeys::Given(keys) => keys,
        LinkKeys::Secret(secret) => {
            let aws = wiring::connect(None).await?;
            LinkKeys::read(&aws, &secret).await?
        }
        LinkKeys::None => {
            return Err(CliError::Usage(format!(
                "{} names no key for links; expected [http] links_secret, or the environment variable \
                 {LINK_KEYS_VARIABLE}",
                config.origin
            )));
        }
    };
    // A path of its own before ours is a proxy's.
    let link =
        format!("{}{}", args.door.as_str().trim_end_matches('/'), keys.wait_path(&grant, &to));
    if context.json {
        output::json(&json!({
            "link": link, "target": grant.target, "holder": grant.holder, "to": to.as_str(),
            "expires_at": grant.expires,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    output::line(&link);
    eprintln!("whoever has it may wake {} until {}", grant.target, grant.expires);
    Ok(ExitCode::SUCCESS)
}
