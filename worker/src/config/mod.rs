//! The fleet: from a file, from the seeds' environment variables, or the built-in example.
//!
//! *Theory.* A wrong fleet costs money quietly, so it is refused loudly: with file, line and column,
//! what was found and what was expected. What is valid and has no effect in this release is a warning
//! that says what happens instead.
//!
//! *Order.* `--fleet FILE` (the word `example` is the built-in one), or the file's text itself in
//! `LAMPLIGHTER_FLEET_TOML` (both: refused), else `./lamplighter.toml`, else the seeds' variables
//! (`INSTANCE_ID`, `SECRET_ARN`, `AWS_LAUNCH_TEMPLATE_ID`, or `ECS_CLUSTER_NAME` and `ECS_SERVICE_NAME`).
//! Nothing found is an error of its own, so that the commands which only need the queue and the table may go
//! on with their default names.
//!
//! *Not here.* Whether the machines and secrets exist: `lamplighter check --aws`.

mod bootstrap;
mod environment;
#[cfg(test)]
mod fuzz;
mod hours;
mod http;
mod idle;
#[cfg(feature = "local")]
mod local;
mod parameters;
mod patterns;
mod reader;
mod schedules;
mod targets;
mod templates;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_http;
#[cfg(test)]
mod tests_idle;
#[cfg(test)]
#[cfg(feature = "local")]
mod tests_launch_templates;
#[cfg(test)]
mod tests_parameters;
#[cfg(test)]
mod tests_services;
#[cfg(test)]
mod tests_templates;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lamplighter_door::Http;
use lamplighter_events::TargetName;
use lamplighter_runtime::Fleet;
use toml::Spanned;
use toml::de::DeTable;

#[cfg(feature = "local")]
pub(crate) use local::Local;
use reader::{Reader, Source, one_of};
pub(crate) use schedules::{Schedule, Scheduler};
#[cfg(test)]
pub(crate) use targets::{plain_instance, plain_target};
pub(crate) use templates::{ends, owner};

/// The file that is read where none is named.
pub(crate) const DEFAULT_FILE: &str = "lamplighter.toml";
/// The file's text itself: a container without a file system of its own gets it so.
const TEXT_VARIABLE: &str = "LAMPLIGHTER_FLEET_TOML";
/// The text of `[http]`, beside the seeds' variables: a fleet without a file has its door so.
const HTTP_VARIABLE: &str = "LAMPLIGHTER_HTTP_TOML";
/// The word for the built-in fleet.
pub(crate) const EXAMPLE: &str = "example";
const EXAMPLE_TEXT: &str = include_str!("../example.toml");
/// The command queue where nothing names another.
const COMMANDS: &str = "lamplighter-commands";
/// A fleet file of a thousand targets has some hundred kilobytes; more is a mistaken path.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Why there is no fleet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the fleet file {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file says something that cannot be.
    #[error("{file}:{line}:{column}: {message}")]
    Refused {
        /// Which, as the user named it.
        file: String,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What was found and what was expected.
        message: String,
    },
    /// An environment variable says something that cannot be.
    #[error("{0}")]
    Environment(String),
    /// Nothing says what the fleet is.
    #[error(
        "no fleet: there is no {DEFAULT_FILE} here, --fleet names none, and none of {TEXT_VARIABLE}, \
         INSTANCE_ID, SECRET_ARN, ECS_CLUSTER_NAME and AWS_LAUNCH_TEMPLATE_ID is set"
    )]
    Absent,
}

/// Where a configuration came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A file.
    File(PathBuf),
    /// A file's text in a variable.
    Text,
    /// The seeds' variables.
    Environment,
    /// What is compiled in.
    Example,
    /// Nothing: names only, and no targets.
    Nowhere,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Text => f.write_str(TEXT_VARIABLE),
            Self::Environment => f.write_str("environment variables"),
            Self::Example => f.write_str("the built-in example"),
            Self::Nowhere => f.write_str("no fleet file"),
        }
    }
}

/// Everything that the fleet file says.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Where it came from.
    pub(crate) origin: Origin,
    /// `[queue] commands`: name or URL.
    pub(crate) commands: String,
    /// `[queue] dead_letters`: name or URL.
    pub(crate) dead_letters: String,
    /// `[store] table`
    pub(crate) table: String,
    /// `[events] bus`
    pub(crate) bus: String,
    /// The targets, and what the schedules' ticks mean.
    pub(crate) fleet: Fleet,
    /// `[schedules]`: when they fire.
    pub(crate) schedules: BTreeMap<String, Schedule>,
    /// `[scheduler]`
    pub(crate) scheduler: Scheduler,
    /// `[http]`
    pub(crate) http: Option<Http>,
    /// `[local]`
    #[cfg(feature = "local")]
    pub(crate) local: Local,
    /// What is valid and will surprise: one sentence each.
    pub(crate) warnings: Vec<String>,
}

impl Config {
    /// The default names, and no targets: enough for whoever only sends or reads.
    pub(crate) fn nameless() -> Self {
        Self {
            origin: Origin::Nowhere,
            commands: COMMANDS.to_owned(),
            dead_letters: "lamplighter-dead-letters".to_owned(),
            table: "lamplighter".to_owned(),
            bus: "default".to_owned(),
            fleet: Fleet::default(),
            schedules: BTreeMap::new(),
            scheduler: Scheduler::default(),
            http: None,
            #[cfg(feature = "local")]
            local: Local::default(),
            warnings: Vec::new(),
        }
    }

    /// The built-in fleet of `lamplighter local`.
    pub(crate) fn example() -> Result<Self, ConfigError> {
        let mut config = parse("example.toml (built in)", EXAMPLE_TEXT)?;
        config.origin = Origin::Example;
        Ok(config)
    }
}

/// Reads the fleet; `env` are the environment's variables.
pub(crate) fn load(
    path: Option<&Path>,
    env: &BTreeMap<String, String>,
) -> Result<Config, ConfigError> {
    let text = env.get(TEXT_VARIABLE).filter(|text| !text.trim().is_empty());
    if let (Some(path), Some(_)) = (path, text) {
        return Err(ConfigError::Environment(format!(
            "environment variable {TEXT_VARIABLE} holds a fleet file, and another is named: {}; \
             expected one of them",
            path.display()
        )));
    }
    if let Some(text) = text {
        let mut config = parse(TEXT_VARIABLE, text)?;
        environment::override_fleet(env, TEXT_VARIABLE, &mut config.fleet, &mut config.warnings)?;
        config.origin = Origin::Text;
        return Ok(config);
    }
    let path = match path {
        Some(word) if word == Path::new(EXAMPLE) => return Config::example(),
        Some(path) => path,
        None if Path::new(DEFAULT_FILE).is_file() => Path::new(DEFAULT_FILE),
        None => {
            let mut config = Config::nameless();
            let fleet = environment::fleet(env, &mut config.warnings)?;
            config.fleet = fleet.ok_or(ConfigError::Absent)?;
            config.origin = Origin::Environment;
            if let Some(text) = env.get(HTTP_VARIABLE).filter(|text| !text.trim().is_empty()) {
                read_http(text, &mut config)?;
            }
            return Ok(config);
        }
    };
    let name = path.display().to_string();
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut config = parse_beside(folder, &name, &read(path)?)?;
    environment::override_fleet(env, &name, &mut config.fleet, &mut config.warnings)?;
    config.origin = Origin::File(path.to_owned());
    Ok(config)
}

/// Reads `[http]` alone, for a fleet that is read already.
fn read_http(text: &str, config: &mut Config) -> Result<(), ConfigError> {
    let source = Source { file: HTTP_VARIABLE.to_owned(), text, folder: Path::new("") };
    let document = table(&source)?;
    let top = Reader::top(&source, document.get_ref(), &["http"])?;
    if let Some(item) = top.get("http") {
        config.http = Some(http::http(&item, &config.fleet, &mut config.warnings)?);
    }
    Ok(())
}

/// The text as TOML.
fn table<'t>(source: &Source<'t>) -> Result<Spanned<DeTable<'t>>, ConfigError> {
    DeTable::parse(source.text).map_err(|error| {
        let at = error.span().unwrap_or(0..0);
        source.refuse(&at, format!("this is not TOML: {}", error.message().replace('\n', ", ")))
    })
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > FILE_BYTES_MAX {
        let message = format!("it has {bytes} bytes; a fleet file has at most {FILE_BYTES_MAX}");
        return Err(unreadable(std::io::Error::other(message)));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

/// Parses a fleet file's text; `file` is what errors call it. Files that it names are here.
pub(crate) fn parse(file: &str, text: &str) -> Result<Config, ConfigError> {
    parse_beside(Path::new(""), file, text)
}

/// The same, where the files that it names are in a folder.
fn parse_beside(folder: &Path, file: &str, text: &str) -> Result<Config, ConfigError> {
    let source = Source { file: file.to_owned(), text, folder };
    let document = table(&source)?;
    let sections = [
        "queue",
        "store",
        "events",
        "defaults",
        "targets",
        "templates",
        "schedules",
        "scheduler",
        "http",
        "local",
    ];
    let top = Reader::top(&source, document.get_ref(), &sections)?;
    let mut config = Config::nameless();
    if let Some(item) = top.get("queue") {
        let queue = item.table(&["commands", "dead_letters"])?;
        config.commands = queue.string_or("commands", &config.commands)?;
        config.dead_letters = queue.string_or("dead_letters", &config.dead_letters)?;
        if config.commands == config.dead_letters {
            return Err(item.refuse(
                &format!("commands and dead_letters are both \"{}\"", config.commands),
                "two queues",
            ));
        }
    }
    if let Some(item) = top.get("store") {
        config.table = item.table(&["table"])?.string_or("table", &config.table)?;
    }
    if let Some(item) = top.get("events") {
        config.bus = item.table(&["bus"])?.string_or("bus", &config.bus)?;
    }
    read_fleet(&source, &top, &mut config)?;
    if let Some(item) = top.get("defaults")
        && let Some(item) = item.table(&["target"])?.get("target")
    {
        let name = item.parse(TargetName::EXPECTED, TargetName::parse)?;
        if config.fleet.templates.contains_key(&name) {
            let problem = format!("{name} is a template");
            return Err(
                item.refuse(&problem, "a target: a create without a template means the only one")
            );
        }
        if !config.fleet.targets.contains_key(&name) {
            let known: Vec<&str> = config.fleet.targets.keys().map(|name| name.as_str()).collect();
            return Err(item.refuse(&format!("no target is named \"{name}\""), &one_of(&known)));
        }
        config.fleet.default_target = Some(name);
    }
    if let Some(item) = top.get("scheduler") {
        config.scheduler = schedules::scheduler(&item)?;
    }
    if let Some(item) = top.get("schedules") {
        let tables = item.open_table()?;
        for item in tables.items() {
            let (schedule, command) = schedules::schedule(&item, &config.fleet, &config.scheduler)?;
            config.fleet.rules.insert(item.key.to_owned(), command);
            config.schedules.insert(item.key.to_owned(), schedule);
        }
    }
    config.warnings.extend(schedules::warnings(&config.schedules, &config.fleet));
    if let Some(item) = top.get("http") {
        config.http = Some(http::http(&item, &config.fleet, &mut config.warnings)?);
    }
    #[cfg(feature = "local")]
    if let Some(item) = top.get("local") {
        config.local = local::read(&item, &config.fleet)?;
    }
    if config.fleet.targets.is_empty() && config.fleet.templates.is_empty() {
        config.warnings.push("the fleet has no targets: every command will be rejected".to_owned());
    }
    Ok(config)
}

/// `[targets]` and `[templates]`, which share their names.
fn read_fleet(
    source: &Source<'_>,
    top: &Reader<'_>,
    config: &mut Config,
) -> Result<(), ConfigError> {
    let mut taken = BTreeMap::new();
    let (mut of_targets, mut of_templates) = (templates::Places::new(), templates::Places::new());
    if let Some(item) = top.get("targets") {
        for item in item.open_table()?.items() {
            let spec = targets::target(&item, &mut taken, &mut config.warnings)?;
            of_targets.insert(spec.name.clone(), item.key_at.start);
            config.fleet.targets.insert(spec.name.clone(), spec);
        }
    }
    if let Some(item) = top.get("templates") {
        for item in item.open_table()?.items() {
            let (commands, warnings) = (&config.commands, &mut config.warnings);
            let spec = templates::template(&item, commands, &mut taken, warnings)?;
            of_templates.insert(spec.name.clone(), item.key_at.start);
            config.fleet.templates.insert(spec.name.clone(), spec);
        }
    }
    templates::check_names(source, &config.fleet, &of_targets, &of_templates)
}
