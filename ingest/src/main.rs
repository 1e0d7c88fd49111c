//! revwatch's HTTP edge as a program of its own.

use std::process::ExitCode;

use revwatch_ingest::Ingest;
use revwatch_runtime::backend::{Uses, required_rabbitmq};
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
    let queue = process.open_rabbitmq().await?;
    let ingest = Ingest::of(&process, queue.clone()).await?;
    process.started();
    let mut roles = JoinSet::new();
    roles.spawn(ingest.serve(process.shutdown.clone()));
    Ok(process.join(roles, queue).await?)
}

/// Whether the role can run with these settings.
fn check(config: &Config) -> Result<(), ConfigError> {
    let queue = both(Uses::Queue.check(config), required_rabbitmq(config));
    let listeners = config.check_listeners(true, false);
    both(both(queue, listeners), config.webhook_endpoints()).map(drop)
}
