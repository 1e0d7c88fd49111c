//! revwatch's alerting alone.

use clap::Parser as _;
use revwatch_alerting::Alerting;
use revwatch_runtime::process::{Process, RoleArgs, prepare};
use tokio::task::JoinSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let start = prepare(RoleArgs::parse().config.as_deref())?;
    let process = Process::start(start, "revwatch-alerting").await?;
    let backend = process.open().await?;
    let alerting = Alerting::of(&process, &backend).await?;
    process.started();
    let mut roles = JoinSet::new();
    roles.spawn(revwatch_alerting::run(alerting, process.shutdown.clone()));
    Ok(process.play(roles, backend.queue).await?)
}
