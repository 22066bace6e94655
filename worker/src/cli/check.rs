//! `check`: is the fleet file right, and with `--aws`: is what it names there, and may we use it?
//!
//! Nothing is started, stopped or written.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lamplighter_aws::check::{Finding, Level, check_common, check_target};
use lamplighter_lifecycle::{TargetSpec, TemplateSpec};
use serde_json::{Value, json};

use super::{CliError, Context, output};
use crate::config::{self, Config};
use crate::wiring;

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The fleet file; it goes before --fleet and LAMPLIGHTER_FLEET
    file: Option<PathBuf>,
    /// Look at what it names in AWS: queues, table, machines, secrets, agents, units, rights
    #[arg(long)]
    aws: bool,
}

/// What was found, and about what.
struct Line {
    about: String,
    finding: Finding,
}

pub(super) async fn run(context: &Context, args: CheckArgs) -> Result<ExitCode, CliError> {
    let path = args.file.as_deref().or(context.fleet.as_deref());
    let config = config::load(path, &context.env)?;
    let mut lines = of_file(&config);
    if args.aws {
        let aws = wiring::connect(None).await?;
        let mut add = |about: &str, findings: Vec<Finding>| {
            let each =
                findings.into_iter().map(|finding| Line { about: about.to_owned(), finding });
            lines.extend(each);
        };
        add("aws", check_common(&aws, &wiring::names(&config)).await);
        for spec in config.fleet.targets.values().chain(config.fleet.templates.values()) {
            add(spec.name.as_str(), check_target(&aws, spec).await);
        }
    }
    if context.json {
        let each: Vec<Value> = lines
            .iter()
            .map(|Line { about, finding }| {
                json!({
                    "about": about, "level": finding.level, "what": finding.what,
                    "hint": finding.hint,
                })
            })
            .collect();
        output::json(&each);
    } else {
        for line in &lines {
            tell(context, line);
        }
    }
    let wrong = lines.iter().any(|line| line.finding.level == Level::Error);
    Ok(ExitCode::from(u8::from(wrong)))
}

/// What the file alone tells. What is wrong in it was refused before.
fn of_file(config: &Config) -> Vec<Line> {
    let line = |about: String, level, what: String, hint: Option<&str>| Line {
        about,
        finding: Finding { level, what, hint: hint.map(str::to_owned) },
    };
    let counted = |count: usize, noun: &str| match count {
        0 => None,
        1 => Some(format!("1 {noun}")),
        _ => Some(format!("{count} {noun}s")),
    };
    let (targets, templates) = (config.fleet.targets.len(), config.fleet.templates.len());
    let parts = [counted(targets, "target"), counted(templates, "template")];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let found = if parts.is_empty() { "no targets".to_owned() } else { parts.join(" and ") };
    let what = format!("{}: {found}", config.origin);
    let mut lines = vec![line("fleet".to_owned(), Level::Ok, what, None)];
    for warning in &config.warnings {
        lines.push(line("fleet".to_owned(), Level::Warn, warning.clone(), None));
    }
    // Idleness ends what a start without an end began; where there is none, somebody must.
    let endless = |spec: &&TargetSpec| spec.max_hold.is_none() && spec.idle.is_none();
    for spec in config.fleet.targets.values().filter(endless) {
        lines.push(line(
            spec.name.to_string(),
            Level::Warn,
            "a start without `for` or `until` keeps it on until somebody releases it".to_owned(),
            Some("set max_hold, such as max_hold = \"12h\", or an idle policy"),
        ));
    }
    for (name, spec) in &config.fleet.templates {
        let Some(template) = spec.template() else { continue };
        lines.push(line(name.to_string(), Level::Ok, described(template), None));
        if !config::ends(spec) {
            lines.push(line(
                name.to_string(),
                Level::Warn,
                "a machine of it lives until somebody destroys it".to_owned(),
                Some("set max_lifetime, such as max_lifetime = \"12h\", or an idle policy"),
            ));
        }
    }
    lines
}

/// A template in a line.
fn described(template: &TemplateSpec) -> String {
    let mut parts = vec![
        format!("{} version {}", template.launch_template, template.version),
        format!("at most {} at once", template.limit),
    ];
    if let Some(bootstrap) = &template.bootstrap {
        parts.push(format!("bootstrap {}", bootstrap.name()));
    }
    let (one_of, parameters) = (&template.one_of, &template.parameters);
    // As a usage line has it: what may be left out in brackets, of which one is needed with a bar.
    let mut asked: Vec<String> = Vec::new();
    if !one_of.is_empty() {
        asked.push(one_of.join("|"));
    }
    asked.extend(
        parameters
            .iter()
            .filter(|(name, _)| !one_of.contains(name))
            .map(|(name, it)| if it.required { name.clone() } else { format!("[{name}]") }),
    );
    if !asked.is_empty() {
        parts.push(format!("takes {}", asked.join(" ")));
    }
    if let Some(lifetime) = template.max_lifetime {
        parts.push(format!("for at most {lifetime}"));
    }
    format!("template of {}", parts.join(", "))
}

fn tell(context: &Context, Line { about, finding }: &Line) {
    let (word, colour) = match finding.level {
        Level::Ok => ("ok", "32"),
        Level::Warn => ("warn", "33"),
        Level::Error => ("error", "31"),
    };
    let word = context.style.paint(colour, &format!("{word:<5}"));
    let hint = finding.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
    output::line(&format!("{word}  {about}: {}{hint}", finding.what));
}
