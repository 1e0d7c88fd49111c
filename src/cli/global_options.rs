//! The options that every command takes.

use std::path::PathBuf;

use clap::Args;
use revwatch_runtime::config::Config;

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
pub struct GlobalOptions {
    /// TOML file with settings; environment variables override it.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long, global = true)]
    pub json: bool,
}

impl GlobalOptions {
    /// The settings in effect.
    pub fn config(&self) -> anyhow::Result<Config> {
        Ok(Config::from_environment(self.config.as_deref())?)
    }
}
