//! From a configuration to ports, and from signals to a shutdown.

use std::future::Future;

use lamplighter_aws::schedules::{Wanted, Wish};
use lamplighter_aws::{Aws, ConnectError, ConnectOptions, Names};
use lamplighter_runtime::ports::Ports;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, Schedule};

/// What a shell shows for a process that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Connects as every AWS tool does; `embedded` is an endpoint of our own, which takes any credentials.
pub(crate) async fn connect(embedded: Option<ConnectOptions>) -> Result<Aws, ConnectError> {
    let aws = lamplighter_aws::connect(&embedded.unwrap_or_default()).await?;
    // An empty variable is one that is not set, to AWS's tools; the SDK takes it for a region.
    if aws.region.trim().is_empty() {
        return Err(ConnectError::NoRegion);
    }
    Ok(aws)
}

/// The names of a configuration.
pub(crate) fn names(config: &Config) -> Names {
    Names {
        commands: config.commands.clone(),
        dead_letters: config.dead_letters.clone(),
        table: config.table.clone(),
        bus: config.bus.clone(),
    }
}

/// The schedules of a configuration.
pub(crate) fn wish(config: &Config) -> Wish {
    let wanted = |(name, schedule): (&String, &Schedule)| Wanted {
        name: name.clone(),
        expression: schedule.text.clone(),
        zone: schedule.zone_name().map(str::to_owned),
        enabled: schedule.enabled,
    };
    Wish {
        schedules: config.schedules.iter().map(wanted).collect(),
        group: config.scheduler.group.clone(),
        role: config.scheduler.role.clone(),
    }
}

/// The ports of the runtime.
pub(crate) fn ports(aws: &Aws, config: &Config) -> Result<Ports, ConnectError> {
    aws.ports(&names(config))
}

/// Completes at the first SIGTERM or SIGINT; a second one ends the process at once. Listening begins
/// with the call, so that no signal is lost before the future is awaited.
pub(crate) fn shutdown() -> std::io::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("finishing what is in hand; a second signal ends at once");
        tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            std::process::exit(INTERRUPTED);
        });
    })
}
