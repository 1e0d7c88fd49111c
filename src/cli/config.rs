//! `revwatch config`.

mod endpoints;
mod servers;

use std::io::Write as _;
use std::sync::Arc;

use anyhow::bail;
use clap::{Args, Subcommand};
use revwatch_alerting::AlertingSettings;
use revwatch_alerting::notify::Notifier;
use revwatch_runtime::backend::{Uses, check_embedded};
use revwatch_runtime::config::{
    Config, ConfigError, DEFAULTS, Effective, Endpoint, unknown_in_environment,
};
use serde_json::{Value, json};

use self::endpoints::StripeEndpoints;
use super::global_options::GlobalOptions;
use super::output;
use crate::serve::{self, Role};

/// Subcommands of `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// List every mistake in settings, secret files, rules and the embedded store that `serve` would refuse. Starts
    /// nothing.
    #[command(after_help = "\
Exits with 1 if there is a mistake. Without --connect no server is contacted, so logins, keys and tokens are not tried.
With --connect, RabbitMQ, Redis, the mail server and Slack (with a bot token) are asked whether they answer and accept
the login. Nothing is created and no message is sent, so Twilio, PagerDuty and webhooks are not asked. Stripe's API lists
the account's webhook endpoints and event destinations. Types that
metrics need and no enabled endpoint gets are mistakes; disabled endpoints and API versions that revwatch is
not tested with are warnings. The key needs the permission to read webhook endpoints.

Examples:
  revwatch config check --connect            do all servers answer, and what does Stripe not send?
  revwatch config check --config /etc/revwatch.toml
  revwatch config check --roles worker       for a process with one role
  revwatch config check && kill -HUP PID     before a running revwatch reloads its settings")]
    Check(CheckArgs),
    /// Print the settings in effect, with secrets masked and the source of each value.
    #[command(after_help = "\
Examples:
  revwatch config print                              defaults, file and environment together
  revwatch config print --defaults > revwatch.toml   the commented defaults, to start your own file from")]
    Print(PrintArgs),
}

/// Options of `config check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The roles that the process will run.
    #[arg(long, value_delimiter = ',', value_enum, default_value = Role::ALL_NAMES)]
    roles: Vec<Role>,
    /// Also ask the servers that the settings name, and read from Stripe's API, with STRIPE_SECRET_KEY, what the webhook
    /// endpoints there send.
    #[arg(long)]
    connect: bool,
}

/// Options of `config print`.
#[derive(Debug, Args)]
pub struct PrintArgs {
    /// Print the commented file of defaults instead.
    #[arg(long)]
    defaults: bool,
}

/// Runs `config`.
pub async fn run(options: &GlobalOptions, command: &ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Print(args) => print(options, args),
        ConfigCommand::Check(args) => check(options, args).await,
    }
}

fn print(options: &GlobalOptions, args: &PrintArgs) -> anyhow::Result<()> {
    let mut out = output::stdout();
    if args.defaults {
        return Ok(out.write_all(DEFAULTS.as_bytes())?);
    }
    let effective = Effective::from_environment(options.config.as_deref())?;
    if options.json {
        writeln!(out, "{:#}", effective.json())?;
    } else {
        out.write_all(effective.toml().as_bytes())?;
    }
    Ok(())
}

async fn check(options: &GlobalOptions, args: &CheckArgs) -> anyhow::Result<()> {
    let roles = &args.roles;
    let mut warnings = unknown_in_environment();
    let checked = Effective::accepted_from_environment(options.config.as_deref(), |config| {
        Checked::of(config, roles)
    });
    let mut faults: Vec<String> = match &checked {
        Ok(_) => Vec::new(),
        Err(error) => error.faults.iter().map(ToString::to_string).collect(),
    };
    if let Ok((_, checked)) = &checked {
        warnings.extend(checked.warning(roles));
        let alerting = checked.alerting.iter();
        warnings.extend(alerting.flat_map(|it| it.warnings.iter().cloned()));
        faults.extend(
            check_embedded(&checked.config)
                .err()
                .map(|error| error.to_string()),
        );
    }
    let (at_stripe, asked) = match &checked {
        Ok((_, checked)) if args.connect => {
            let servers = servers::ask(&checked.config, checked.uses, checked.all_notifiers());
            let (at_stripe, asked) = tokio::join!(StripeEndpoints::read(&checked.config), servers);
            (Some(at_stripe), asked)
        }
        _ => (None, Vec::new()),
    };
    faults.extend(asked.iter().filter_map(servers::Asked::fault));
    warnings.extend(
        asked
            .iter()
            .flat_map(|asked| asked.warnings.iter().cloned()),
    );
    if let Some(at_stripe) = &at_stripe {
        faults.extend(at_stripe.findings.faults.iter().cloned());
        warnings.extend(at_stripe.findings.warnings.iter().cloned());
    }
    let mut out = output::stdout();
    if options.json {
        let mut value = json!({"ok": faults.is_empty(), "faults": faults, "warnings": warnings});
        if let (Ok((_, checked)), Value::Object(value)) = (&checked, &mut value) {
            value.extend(checked.describe());
        }
        if let Some(at_stripe) = &at_stripe {
            value["stripe_endpoints"] = json!(at_stripe.endpoints);
            value["servers"] = asked.iter().map(servers::Asked::json).collect();
        }
        writeln!(out, "{value:#}")?;
    } else {
        for warning in &warnings {
            writeln!(out, "warning: {warning}")?;
        }
        for fault in &faults {
            writeln!(out, "{fault}")?;
        }
        if let Ok((_, checked)) = &checked {
            checked.print(&mut out)?;
        }
        servers::print(&asked, &mut out)?;
        if let Some(at_stripe) = &at_stripe {
            at_stripe.print(&mut out)?;
        }
        if faults.is_empty() {
            writeln!(out, "The configuration is valid.")?;
        }
    }
    match faults.len() {
        0 => Ok(()),
        1 => bail!("1 fault found"),
        n => bail!("{n} faults found"),
    }
}

fn secrets(count: usize) -> String {
    match count {
        1 => "1 secret".to_owned(),
        _ => format!("{count} secrets"),
    }
}

/// The settings as the roles use them.
struct Checked {
    config: Config,
    uses: Uses,
    endpoints: Vec<Endpoint>,
    alerting: Option<AlertingSettings>,
}

impl Checked {
    fn of(config: &Config, roles: &[Role]) -> Result<Self, ConfigError> {
        let settings = serve::check(config, roles)?;
        Ok(Self {
            config: config.clone(),
            uses: Role::uses(roles),
            endpoints: settings.endpoints.unwrap_or_default(),
            alerting: settings.alerting,
        })
    }

    /// Only workers read with the key.
    fn warning(&self, roles: &[Role]) -> Option<String> {
        let reads = roles.contains(&Role::Worker);
        self.config
            .key_of_other_mode(self.config.mode)
            .filter(|_| reads)
    }

    fn backend(&self) -> &'static str {
        match self.uses {
            _ if self.config.amqp_url.is_none() => "embedded store",
            Uses::Queue => "RabbitMQ",
            Uses::QueueAndStore => "RabbitMQ and Redis",
        }
    }

    fn notifiers(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self
            .alerting
            .iter()
            .flat_map(|setup| setup.notifiers.iter().map(|n| n.name()))
            .collect();
        // The log is used only if no other notifier is configured.
        if names.len() > 1 {
            names.retain(|name| *name != "log");
        }
        names
    }

    fn all_notifiers(&self) -> &[Arc<dyn Notifier>] {
        self.alerting
            .as_ref()
            .map_or(&[], |setup| setup.notifiers.as_slice())
    }

    fn rules(&self) -> usize {
        self.alerting.as_ref().map_or(0, |setup| setup.rules.len())
    }

    fn describe(&self) -> serde_json::Map<String, Value> {
        let endpoint =
            |e: &Endpoint| json!({"name": e.name, "path": e.path, "secrets": e.keys.count()});
        let endpoints: Vec<_> = self.endpoints.iter().map(endpoint).collect();
        let value = json!({
            "listen": self.config.listen, "admin_listen": self.config.admin_listen,
            "mode": self.config.mode.as_str(), "backend": self.backend(),
            "endpoints": endpoints, "rules": self.rules(), "notifiers": self.notifiers(),
        });
        value.as_object().cloned().unwrap_or_default()
    }

    fn print(&self, out: &mut impl std::io::Write) -> std::io::Result<()> {
        if !self.endpoints.is_empty() {
            writeln!(out, "webhooks  http://{}", self.config.listen)?;
        }
        for endpoint in &self.endpoints {
            writeln!(
                out,
                "          {} ({})",
                endpoint.path,
                secrets(endpoint.keys.count())
            )?;
        }
        writeln!(out, "admin     http://{}/metrics", self.config.admin_listen)?;
        writeln!(out, "mode      {}", self.config.mode)?;
        writeln!(out, "backend   {}", self.backend())?;
        if self.alerting.is_some() {
            writeln!(out, "rules     {}", self.rules())?;
            writeln!(out, "notifiers {}", self.notifiers().join(", "))?;
        }
        Ok(())
    }
}
