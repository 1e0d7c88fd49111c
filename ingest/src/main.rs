//! revwatch's HTTP edge as a program of its own.

use revwatch_ingest::Ingest;
use revwatch_runtime::process::Process;
use tokio::task::JoinSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let process =
        Process::of_program(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_DESCRIPTION")).await?;
    process.config.webhook_endpoints()?;
    let queue = process.open_rabbitmq().await?;
    let ingest = Ingest::of(&process, queue.clone()).await?;
    process.started();
    let mut roles = JoinSet::new();
    roles.spawn(ingest.serve(process.shutdown.clone()));
    Ok(process.join(roles, queue).await?)
}
