//! revwatch's worker alone.

use clap::Parser as _;
use revwatch_shared::process::{Process, RoleArgs, prepare};
use revwatch_worker::Worker;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let start = prepare(RoleArgs::parse().config.as_deref())?;
    let process = Process::start(start, "revwatch-worker").await?;
    let worker = Worker::of(&process)?;
    process.started();
    revwatch_worker::run(worker, process.shutdown.clone()).await;
    process.finish().await;
    Ok(())
}
