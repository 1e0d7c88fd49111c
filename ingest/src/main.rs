//! revwatch's HTTP edge as a program of its own.

use clap::Parser as _;
use revwatch_ingest::Ingest;
use revwatch_runtime::process::{Process, RoleArgs, prepare};
use tokio::task::JoinSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let start = prepare(RoleArgs::parse().config.as_deref())?;
    start.config.webhook_endpoints()?;
    let process = Process::start(start, "revwatch-ingest").await?;
    let queue = process.open_rabbitmq().await?;
    let ingest = Ingest::of(&process, queue.clone()).await?;
    process.started();
    let mut roles = JoinSet::new();
    roles.spawn(ingest.serve(process.shutdown.clone()));
    Ok(process.play(roles, queue).await?)
}
