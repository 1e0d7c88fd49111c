//! revwatch's worker as a program of its own.

use revwatch_runtime::process::Process;
use revwatch_worker::Worker;
use tokio::task::JoinSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let process =
        Process::of_program(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_DESCRIPTION")).await?;
    let backend = process.open().await?;
    let worker = Worker::of(&process, &backend)?;
    process.started();
    let mut roles = JoinSet::new();
    roles.spawn(revwatch_worker::run(worker, process.shutdown.clone()));
    Ok(process.join(roles, backend.queue).await?)
}
