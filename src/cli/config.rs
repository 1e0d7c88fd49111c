//! `revwatch config`.

use std::io::Write as _;

use clap::Subcommand;
use revwatch_alerting::policy::Policy;
use revwatch_alerting::{notify, rules_file};
use revwatch_shared::config::DEFAULTS;

use super::Common;

/// Subcommands of `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check settings and rules without starting anything.
    #[command(after_help = "Example:\n  revwatch config check --config /etc/revwatch.toml")]
    Check,
    /// Print the commented file of defaults, to start your own from.
    #[command(after_help = "Example:\n  revwatch config print > revwatch.toml")]
    Print,
}

/// Runs `config`.
pub fn run(common: &Common, command: &ConfigCommand) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match command {
        ConfigCommand::Print => out.write_all(DEFAULTS.as_bytes())?,
        ConfigCommand::Check => {
            let config = common.config()?;
            let endpoints = config.webhook_endpoints()?;
            let rules = rules_file::load(config.rules.as_deref())?;
            let notifiers = notify::configured(&config)?;
            let mut names: Vec<&str> = notifiers.iter().map(|notifier| notifier.name()).collect();
            // The log is there for when nothing else is.
            if names.len() > 1 {
                names.retain(|name| *name != "log");
            }
            let habits = notifiers.iter().map(|notifier| (notifier.name().to_owned(), notifier.habits())).collect();
            Policy::new(&config.alerting, habits)?;
            let backend = if config.servers().is_some() { "RabbitMQ and Redis" } else { "embedded store" };
            if common.json {
                let endpoints: Vec<_> = endpoints
                    .iter()
                    .map(|e| serde_json::json!({"name": e.name, "path": e.path, "secrets": e.keys.len()}))
                    .collect();
                let value = serde_json::json!({
                    "ok": true, "listen": config.listen, "admin_listen": config.admin_listen, "backend": backend,
                    "endpoints": endpoints, "rules": rules.len(), "alerts_to": names,
                });
                writeln!(out, "{value:#}")?;
                return Ok(());
            }
            writeln!(out, "webhooks  http://{}", config.listen)?;
            for endpoint in &endpoints {
                writeln!(out, "          {} ({} secret(s))", endpoint.path, endpoint.keys.len())?;
            }
            writeln!(out, "admin     http://{}/metrics", config.admin_listen)?;
            writeln!(out, "backend   {backend}")?;
            writeln!(out, "rules     {}", rules.len())?;
            writeln!(out, "alerts to {}", names.join(", "))?;
            writeln!(out, "The configuration is valid.")?;
        }
    }
    Ok(())
}
