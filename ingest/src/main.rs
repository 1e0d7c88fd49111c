//! revwatch's HTTP edge alone.

use clap::Parser as _;
use revwatch_ingest::Ingest;
use revwatch_shared::process::{Process, RoleArgs, prepare};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let start = prepare(RoleArgs::parse().config.as_deref())?;
    start.config.webhook_endpoints()?;
    let process = Process::start(start, "revwatch-ingest").await?;
    let ingest = Ingest::of(&process).await?;
    process.started();
    ingest.serve(process.shutdown.clone()).await;
    process.finish().await;
    Ok(())
}
