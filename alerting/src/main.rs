//! revwatch's alerting alone.

use clap::Parser as _;
use revwatch_alerting::Alerting;
use revwatch_shared::process::{Process, RoleArgs, prepare};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let start = prepare(RoleArgs::parse().config.as_deref())?;
    let process = Process::start(start, "revwatch-alerting").await?;
    let alerting = Alerting::of(&process).await?;
    process.started();
    revwatch_alerting::run(alerting, process.shutdown.clone()).await;
    process.finish().await;
    Ok(())
}
