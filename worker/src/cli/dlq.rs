//! `dlq`: what could not be worked on, why, and again.
//!
//! A body is shown to whoever asks for that one message, and never listed or logged.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use lamplighter_aws::dead_letters::{DeadLetter, LISTED_MAX, Which, list, replay, show};
use lamplighter_runtime::REASON_MESSAGE_ATTRIBUTE;
use serde_json::{Value, json};

use super::{CliError, Context, output};
use crate::wiring;

#[derive(Debug, Subcommand)]
pub(crate) enum DlqVerb {
    /// List the messages, oldest first; they are out of sight for some seconds meanwhile
    List {
        /// No more than so many
        #[arg(long, value_name = "MESSAGES", default_value_t = 1_000)]
        limit: usize,
    },
    /// Show one message, with its body
    Show {
        /// The message's id, or the command's
        id: String,
    },
    /// Send messages to the command queue again, with their ids and their times of sending
    Replay(ReplayArgs),
}

#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// No more than so many a second
    #[arg(long, value_name = "PER_SECOND", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
}

/// Exactly one of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct WhichArgs {
    /// All that are there now
    #[arg(long)]
    all: bool,
    /// The one with this message id or command id
    #[arg(long)]
    id: Option<String>,
    /// Those whose reason contains this, such as unknown-target
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl WhichArgs {
    fn which(self) -> Which {
        match (self.id, self.reason) {
            (Some(id), _) => Which::Id(id),
            (None, Some(reason)) => Which::Reason(reason),
            (None, None) => Which::All,
        }
    }
}

pub(super) async fn run(context: &Context, verb: DlqVerb) -> Result<ExitCode, CliError> {
    let config = context.config_or_names()?;
    let names = wiring::names(&config);
    let aws = wiring::connect(None).await?;
    match verb {
        DlqVerb::List { limit } => {
            let limit = limit.min(LISTED_MAX);
            // One more than is shown tells whether there are more.
            let mut letters = list(&aws, &names, limit.saturating_add(1)).await?;
            let more = letters.len() > limit || letters.len() == LISTED_MAX;
            letters.truncate(limit);
            told_list(context, &letters);
            if more && !context.json {
                output::line(&shown_only(letters.len()));
            }
            Ok(ExitCode::SUCCESS)
        }
        DlqVerb::Show { id } => match show(&aws, &names, &id).await? {
            Some(letter) => {
                told_one(context, &letter);
                Ok(ExitCode::SUCCESS)
            }
            None => Err(CliError::Missing(format!(
                "no dead letter has the id {id:?}; one that was just looked at comes into sight again \
                 within a minute"
            ))),
        },
        DlqVerb::Replay(args) => {
            let rate = args.rate;
            let which = args.which.which();
            let one = matches!(which, Which::Id(_));
            let done = replay(&aws, &names, &which, rate, |so_far| {
                tracing::debug!(replayed = so_far.replayed, "replaying");
            })
            .await?;
            if context.json {
                output::json(&done);
            } else {
                output::line(&format!("replayed {}", done.replayed));
                if done.late > 0 {
                    output::line(&format!(
                        "left {} that arrived after the replay had begun; replay again to take them",
                        done.late
                    ));
                }
            }
            let code = if one && done.replayed == 0 { 1 } else { 0 };
            Ok(ExitCode::from(code))
        }
    }
}

/// A list that ends at its limit must not look complete.
fn shown_only(shown: usize) -> String {
    if shown >= LISTED_MAX {
        format!("{shown} are shown, which is the most; there may be more")
    } else {
        format!("{shown} are shown, and there are more: see --limit")
    }
}

fn told_list(context: &Context, letters: &[DeadLetter]) {
    if context.json {
        let each: Vec<Value> = letters.iter().map(summary).collect();
        return output::json(&each);
    }
    if letters.is_empty() {
        return output::line("no dead letters");
    }
    let rows: Vec<Vec<String>> = letters
        .iter()
        .map(|letter| {
            let why = match (&letter.reason, letter.attributes.get(REASON_MESSAGE_ATTRIBUTE)) {
                (Some(reason), Some(message)) => format!("{reason}: {message}"),
                (Some(reason), None) => reason.clone(),
                (None, _) => {
                    "none given: moved by SQS after too many receives, or too large to carry one"
                        .to_owned()
                }
            };
            let id = letter.id.clone().unwrap_or_else(|| "-".to_owned());
            vec![letter.message_id.clone(), id, output::time(letter.sent_at), why]
        })
        .collect();
    let header = ["MESSAGE", "COMMAND", "SENT", "REASON"];
    output::print(&output::table(&header, &rows, |_, _, cell| cell.to_owned()));
}

/// All but the body.
fn summary(letter: &DeadLetter) -> Value {
    json!({
        "message_id": letter.message_id, "id": letter.id, "reason": letter.reason,
        "message": letter.attributes.get(REASON_MESSAGE_ATTRIBUTE), "sent_at": letter.sent_at,
        "bytes": letter.body.len(),
    })
}

fn told_one(context: &Context, letter: &DeadLetter) {
    if context.json {
        return output::json(letter);
    }
    output::line(&format!("{:<10} {}", "message", letter.message_id));
    output::line(&format!("{:<10} {}", "sent", output::time(letter.sent_at)));
    for (name, value) in &letter.attributes {
        output::line(&format!("{name:<10} {value}"));
    }
    output::line("");
    output::line(&letter.body);
}
