//! revwatch's alerting alone.

use revwatch_alerting::Alerting;
use revwatch_runtime::backend::Uses;
use revwatch_runtime::config::{Config, ConfigError, both};
use revwatch_runtime::process::Process;
use tokio::task::JoinSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (name, about) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_DESCRIPTION"));
    let process = Process::of_program(name, about, check).await?;
    let backend = process.open().await?;
    let alerting = Alerting::of(&process, &backend).await?;
    process.started();
    let mut roles = JoinSet::new();
    roles.spawn(revwatch_alerting::run(alerting, process.shutdown.clone()));
    Ok(process.join(roles, backend.queue).await?)
}

/// Whether the role can run with these settings.
fn check(config: &Config) -> Result<(), ConfigError> {
    both(Uses::QueueAndStore.check(config), Alerting::check(config)).map(drop)
}
