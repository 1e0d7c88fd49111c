//! revwatch's alerting alone.

use std::process::ExitCode;

use revwatch_alerting::Alerting;
use revwatch_runtime::backend::Uses;
use revwatch_runtime::config::{Config, ConfigError, both};
use revwatch_runtime::failure::exit_code;
use revwatch_runtime::process::Process;
use tokio::task::JoinSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NAME: &str = env!("CARGO_PKG_NAME");

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(NAME, run().await)
}

async fn run() -> anyhow::Result<()> {
    let process = Process::of_program(NAME, env!("CARGO_PKG_DESCRIPTION"), check).await?;
    let backend = process.open().await?;
    let alerting = Alerting::of(&process, &backend).await?;
    process.started();
    let mut roles = JoinSet::new();
    roles.spawn(revwatch_alerting::run(alerting, process.shutdown.clone()));
    Ok(process.join(roles, backend.queue).await?)
}

/// Whether the role can run with these settings.
fn check(config: &Config) -> Result<(), ConfigError> {
    let listeners = config.check_listeners(false, true);
    let own = both(Alerting::check(config), listeners);
    both(Uses::QueueAndStore.check(config), own).map(drop)
}
