//! `revwatch app`: for the developers of the application that tells revwatch what Stripe cannot know.

mod simulate;
mod verify;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use revwatch_core::standard_webhooks::{self, StandardKey};
use revwatch_runtime::config::ExposeSecret as _;

use super::global_options::GlobalOptions;
use super::send::{Pace, Signer, events, read, send};

/// Commands of `app`.
#[derive(Debug, Subcommand)]
pub enum AppCommand {
    /// Sign events and post them as your application does.
    #[command(after_help = "\
FILE holds one CloudEvent, an array of them, or one per line; - is standard input.

Examples:
  revwatch app send event.json --secret whsec_…
  generate | revwatch app send - --rate 100")]
    Send(SendArgs),
    /// Check events against the schemas, without sending them.
    ///
    /// Each fault is shown with a JSON pointer. Exits with 1 if an event would be refused.
    #[command(after_help = "\
Examples:
  revwatch app verify events.jsonl
  revwatch app verify - --json < event.json")]
    Verify(verify::VerifyArgs),
    /// Post the events of an invented application: providers, account links, tickets, booking fees.
    #[command(after_help = "\
The same seed gives the same events, but for their times.

Examples:
  revwatch app simulate --secret whsec_…
  revwatch app simulate --providers 100 --seed 7 --print > events.jsonl")]
    Simulate(simulate::SimulateArgs),
}

/// Options of `app send`.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// File of events, or - for standard input.
    file: String,
    #[command(flatten)]
    to: Destination,
}

/// Where events are posted, and how they are signed.
#[derive(Debug, Args)]
pub struct Destination {
    /// URL to post to. It is not taken from the settings, because revwatch may be behind a proxy.
    #[arg(long, default_value = "http://127.0.0.1:8080/webhooks/app")]
    url: String,
    /// Secret of that endpoint; default: the first of `REVWATCH_APP_WEBHOOK_SECRET`, or of its file.
    #[arg(long)]
    secret: Option<String>,
    #[command(flatten)]
    pace: Pace,
}

/// Runs `app`.
pub async fn run(options: &GlobalOptions, command: &AppCommand) -> anyhow::Result<()> {
    match command {
        AppCommand::Send(args) => {
            let text = read(&args.file)?;
            let events = events(&args.file, &text)?;
            args.to.post(options, &events).await
        }
        AppCommand::Verify(args) => verify::run(options, args),
        AppCommand::Simulate(args) => simulate::run(options, args).await,
    }
}

impl Destination {
    async fn post(&self, options: &GlobalOptions, events: &[&str]) -> anyhow::Result<()> {
        let secret = match &self.secret {
            Some(secret) => secret.clone(),
            None => first_secret(options)?,
        };
        let key = StandardKey::new(secret.trim());
        let key =
            key.with_context(|| format!("the secret must be {}", standard_webhooks::SECRET))?;
        send(options, Signer::App(key), &self.url, &self.pace, events).await
    }
}

fn first_secret(options: &GlobalOptions) -> anyhow::Result<String> {
    let config = options.config()?;
    let secrets = config
        .app_webhook_secret
        .context("give --secret whsec_… or set REVWATCH_APP_WEBHOOK_SECRET")?;
    let mut secrets = secrets.expose_secret().split(',');
    Ok(secrets.next().unwrap_or_default().to_owned())
}
