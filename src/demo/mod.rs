//! `revwatch demo`.

use clap::Args;

/// Options of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {}

/// Runs `demo`.
pub async fn run(_args: DemoArgs) -> anyhow::Result<()> {
    anyhow::bail!("being written")
}
