//! revwatch's worker as a program of its own.

use std::process::ExitCode;

use revwatch_runtime::backend::Uses;
use revwatch_runtime::config::{Config, ConfigError};
use revwatch_runtime::failure::exit_code;
use revwatch_runtime::process::Process;
use revwatch_worker::Worker;
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
