//! revwatch's worker as a program of its own.

use revwatch_runtime::backend::Uses;
use revwatch_runtime::config::{Config, ConfigError};
use revwatch_runtime::process::Process;
use revwatch_worker::Worker;
use tokio::task::JoinSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (name, about) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_DESCRIPTION"));
    let process = Process::of_program(name, about, check).await?;
    let backend = process.open().await?;
    let worker = Worker::of(&process, &backend)?;
    process.started();
    let mut roles = JoinSet::new();
    roles.spawn(revwatch_worker::run(worker, process.shutdown.clone()));
    Ok(process.join(roles, backend.queue).await?)
}

/// Whether the role can run with these settings.
fn check(config: &Config) -> Result<(), ConfigError> {
    Uses::QueueAndStore.check(config)
}
