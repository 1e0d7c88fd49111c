//! The command line: what there is, and where each command lives.

mod alerts;
mod audit;
mod backfill;
mod config;
mod dead;
mod evidence;
mod export;
mod health;
mod look;
mod pause;
mod replay;
mod rules;
pub mod send;
mod verify;
mod when;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use revwatch_shared::config::Config;
use revwatch_shared::process::prepare;
use tokio::sync::oneshot;

use crate::demo;
use crate::serve::{Role, serve};

/// Revenue state and alerts from Stripe webhooks.
///
/// Without a command, revwatch serves: it takes webhooks, keeps the state of subscriptions, invoices,
/// payouts and connected accounts, and tells Slack when money is at risk.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  revwatch demo                                     see alerts fire and resolve, with nothing set up
  STRIPE_WEBHOOK_SECRET=whsec_… revwatch            serve on 127.0.0.1:8080, state in ./revwatch-data
  revwatch send events.jsonl --secret whsec_…       sign and post events of your own
  revwatch metrics --json                           key figures, while serve runs or not";

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// TOML file with settings; the environment wins over it.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON instead of a table, where something is listed or shown.
    #[arg(long, global = true)]
    json: bool,
}

impl Common {
    fn config(&self) -> anyhow::Result<Config> {
        Ok(Config::from_environment(self.config.as_deref())?)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take webhooks, apply them, alert (the default).
    #[command(after_help = "\
Examples:
  STRIPE_WEBHOOK_SECRET=whsec_… revwatch serve
  revwatch serve --roles worker        one role of a deployment on RabbitMQ and Redis
  REVWATCH_LISTEN=0.0.0.0:8080 revwatch serve --config /etc/revwatch.toml")]
    Serve(ServeArgs),
    /// Watch a simulated business: signed webhooks over HTTP, alerts that fire and resolve.
    #[command(after_help = "\
Examples:
  revwatch demo
  revwatch demo --seconds 20 --seed 7")]
    Demo(demo::DemoArgs),
    /// Sign events and post them to a webhook endpoint.
    #[command(after_help = "\
FILE holds one JSON object, an array of them, or one per line; - is standard input.

Examples:
  revwatch send event.json --secret whsec_…
  generate | revwatch send - --url http://127.0.0.1:8080/webhooks/stripe --rate 100")]
    Send(send::SendArgs),
    /// Show one entity with its history and the events behind it.
    #[command(after_help = "\
Examples:
  revwatch state subscription sub_1MowQVLkdIwHu7ixeRlqHVzs
  revwatch state account acct_1032D82eZvKYlo2C --json")]
    State(look::StateArgs),
    /// Show key figures: MRR, past-due share, payout failures, funnel.
    #[command(after_help = "Example:\n  revwatch metrics --json")]
    Metrics,
    /// Print entities as CSV, sorted by id.
    #[command(after_help = "\
Examples:
  revwatch export subscriptions > subscriptions.csv
  revwatch export payouts | grep failed")]
    Export(export::ExportArgs),
    /// Write down a round of revenue operations: subscriptions, critical cases, scorecard, log of decisions.
    ///
    /// A new folder each time, named after the day; nothing is overwritten. The critical cases are without names.
    #[command(after_help = "\
Examples:
  revwatch evidence
  revwatch evidence --since 2026-03-01 --out /srv/rounds --by ada
  revwatch evidence --pseudonyms                 the log of decisions without names, too")]
    Evidence(evidence::EvidenceArgs),
    /// Look at alerts, answer them, silence them.
    #[command(subcommand)]
    Alerts(alerts::AlertsCommand),
    /// Look at deliveries that cannot be applied; send them again or throw them away.
    #[command(subcommand)]
    Dead(dead::DeadCommand),
    /// Read past events from Stripe's API and apply those that are missing.
    ///
    /// For what no webhook brought: before revwatch was set up, or while it could not be reached for longer than Stripe
    /// repeats. Needs STRIPE_SECRET_KEY. Stripe keeps events for 30 days. What was applied before changes nothing and
    /// is counted as a duplicate. It may run beside `serve`. Cut short, the same command goes on where it was.
    #[command(after_help = "\
Without --account and --all-accounts, the events of the key's own account are read. Stripe lists those of connected
accounts only to who asks as them: name the accounts, or take all.

Examples:
  revwatch backfill --since 2026-03-01 --until 2026-03-03T12:00:00Z
  revwatch backfill --since 7d --all-accounts --rate 20
  revwatch backfill --since 36h --account acct_1032D82eZvKYlo2C --json")]
    Backfill(backfill::BackfillArgs),
    /// Apply again what is in the archive since a time.
    ///
    /// What was applied before is known and changes nothing. It may run beside `serve`.
    #[command(after_help = "\
Examples:
  revwatch replay --from 36h
  revwatch replay --from 2026-03-01T00:00:00Z --json")]
    Replay(replay::ReplayArgs),
    /// Forget all state and make it anew from the archive.
    ///
    /// It may run beside `serve`: deliveries are taken and applied meanwhile, and no rule fires or resolves until
    /// it is done. Alerts, silences and the audit stay. The archive reaches back 35 days.
    #[command(after_help = "Example:\n  revwatch rebuild --yes")]
    Rebuild(replay::RebuildArgs),
    /// Hold back the processing of events: all, those of one mode, or of one connected account.
    ///
    /// Webhooks are still taken and stored; what is held back is applied after `revwatch resume`. What is said of
    /// an account goes before what is said of its mode, and that before what is said of all.
    #[command(after_help = "\
Examples:
  revwatch pause                           hold back everything …
  revwatch resume --mode test              … and go on gradually: test mode,
  revwatch resume --account acct_1032D82e  one account,
  revwatch resume                          and all
  revwatch pause --show")]
    Pause(pause::PauseArgs),
    /// Go on with what `revwatch pause` holds back.
    #[command(after_help = "Examples:\n  revwatch resume --mode test\n  revwatch resume")]
    Resume(pause::PauseArgs),
    /// List who acknowledged, silenced, replayed, paused, exported …
    #[command(
        after_help = "Examples:\n  revwatch audit --limit 20\n  revwatch audit --who ada --json\n  revwatch audit --changes    what became of subscriptions, payments, payouts"
    )]
    Audit(audit::AuditArgs),
    /// Count aggregates and conditions anew from the entities, and compare with what is stored.
    ///
    /// It may run beside `serve`. What differs although nothing was committed meanwhile is reported at once; while
    /// events are applied, what is off by the same in each of ten looks. Sums that change all the time are
    /// then compared with what they were between, so only a quiet moment finds every difference: JSON says
    /// `undisturbed`. Exits with 1 if anything differs.
    #[command(after_help = "\
Left out: counters of deliveries (no entity knows them) and hours of more than 400 days ago (Redis forgets them).

Examples:
  revwatch verify
  revwatch verify --json || echo 'the store needs attention'")]
    Verify,
    /// Ask the process on this machine whether it is ready; exits with 1 if it is not.
    ///
    /// It asks /readyz where REVWATCH_ADMIN_LISTEN says that the process listens.
    #[command(after_help = "\
Examples:
  revwatch health
  REVWATCH_ADMIN_LISTEN=127.0.0.1:9465 revwatch health --json")]
    Health,
    /// List, check and try out rules.
    #[command(subcommand)]
    Rules(rules::RulesCommand),
    /// Check or show the configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// Which roles this process plays.
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = Role::ALL)]
    roles: Vec<Role>,
}

/// Runs the command; its error goes to standard error, for a person.
pub async fn run(cli: Cli) -> ExitCode {
    let Cli { common, command } = cli;
    let result = match command {
        None => run_serve(&common, &Role::ALL).await,
        Some(Command::Serve(args)) => run_serve(&common, &args.roles).await,
        Some(Command::Demo(args)) => demo::run(args).await,
        Some(Command::Send(args)) => send::run(&common, &args).await,
        Some(Command::State(args)) => look::state(&common, &args).await,
        Some(Command::Metrics) => look::metrics(&common).await,
        Some(Command::Export(args)) => export::run(&common, &args).await,
        Some(Command::Evidence(args)) => evidence::run(&common, &args).await,
        Some(Command::Alerts(command)) => alerts::run(&common, &command).await,
        Some(Command::Dead(command)) => dead::run(&common, &command).await,
        Some(Command::Backfill(args)) => backfill::run(&common, &args).await,
        Some(Command::Replay(args)) => replay::run(&common, &args).await,
        Some(Command::Rebuild(args)) => replay::rebuild(&common, &args).await,
        Some(Command::Pause(args)) => pause::run(&common, &args, true).await,
        Some(Command::Resume(args)) => pause::run(&common, &args, false).await,
        Some(Command::Audit(args)) => audit::run(&common, &args).await,
        Some(Command::Verify) => verify::run(&common).await,
        Some(Command::Health) => health::run(&common).await,
        Some(Command::Rules(command)) => rules::run(&common, &command).await,
        Some(Command::Config(command)) => config::run(&common, &command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("revwatch: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run_serve(common: &Common, roles: &[Role]) -> anyhow::Result<()> {
    let (started, _) = oneshot::channel();
    serve(prepare(common.config.as_deref())?, roles, |_| {}, started).await
}

/// `revwatch export … | head` is no failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
