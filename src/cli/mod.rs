//! The command line: all commands, and the module of each.

mod alerts;
mod app;
mod audit;
mod backfill;
mod backup;
mod completeness;
mod config;
mod dead;
mod evidence;
mod export;
mod global_options;
mod health;
mod metrics;
mod output;
mod pause;
mod progress_bar;
mod reference;
mod replay;
mod reports;
mod rules;
pub mod send;
mod state;
mod time;
mod values;
mod verify;

use std::io;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use revwatch_runtime::config::Config;
use revwatch_runtime::failure::exit_code;
use revwatch_runtime::process::prepare;
use tokio::sync::oneshot;

use self::global_options::GlobalOptions;
use crate::demo;
use crate::serve::{self, Role};

/// Revenue state and alerts from Stripe webhooks.
///
/// Without a command, revwatch serves: it receives webhooks, keeps the state of subscriptions,
/// invoices, payouts and connected accounts, and alerts people when revenue is at risk.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    options: GlobalOptions,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  revwatch demo                                     see alerts fire and resolve, without any setup
  STRIPE_WEBHOOK_SECRET=whsec_… revwatch            serve on 127.0.0.1:8080, state in ./revwatch-data
  revwatch send events.jsonl --secret whsec_…       sign and post your own events
  revwatch metrics --json                           key metrics, at any time";

#[derive(Debug, Subcommand)]
enum Command {
    /// Receive webhooks, apply them and alert (the default).
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
    /// For the developers of your own application: send, check and simulate its events.
    #[command(subcommand)]
    App(app::AppCommand),
    /// Show one entity with its history and the events behind it.
    #[command(after_help = "\
Examples:
  revwatch state subscription sub_1MowQVLkdIwHu7ixeRlqHVzs
  revwatch state account acct_1032D82eZvKYlo2C --json")]
    State(state::StateArgs),
    /// Show key metrics: MRR, churn, past-due share and recovery, payments, payouts, disputes,
    /// onboarding.
    ///
    /// With --json it prints all of them.
    #[command(after_help = "Example:\n  revwatch metrics --json")]
    Metrics(metrics::MetricsArgs),
    /// Show how many registered providers reached each stage up to their first payment, and where they were lost.
    ///
    /// The registration is what your own application reports (docs/application.md). Without it the funnel
    /// begins with the connected account. Those who began in the period are counted; each share has its
    /// target and its floor, and a stage below its floor says what to do.
    #[command(after_help = "\
Examples:
  revwatch funnel                                    those of the last 7 days
  revwatch funnel --since 2026-03-01 --until 2026-04-01 --by source
  revwatch funnel --since 30d --by country --json")]
    Funnel(reports::funnel::FunnelArgs),
    /// Show the round of the day: who is past due, who canceled, which tickets wait, which booking fees were charged.
    #[command(after_help = "\
Examples:
  revwatch daily
  revwatch daily --since 2026-03-01 --json")]
    Daily(reports::daily::DailyArgs),
    /// Show the review of the week: trials that became paid, downgrades, losses, the funnel, tickets.
    #[command(after_help = "Example:\n  revwatch weekly --json")]
    Weekly(reports::weekly::WeeklyArgs),
    /// Print entities as CSV, sorted by id.
    #[command(after_help = "\
Examples:
  revwatch export subscriptions > subscriptions.csv
  revwatch export payouts | grep failed")]
    Export(export::ExportArgs),
    /// Write the evidence of a revenue-operations review: subscriptions, critical cases, scorecard,
    /// decision log.
    ///
    /// Each run makes a new folder, named after the day. Nothing is overwritten. The critical cases
    /// hold no names.
    #[command(after_help = "\
Examples:
  revwatch evidence
  revwatch evidence --since 2026-03-01 --out /srv/reviews --by ada
  revwatch evidence --pseudonyms                 no names in the decision log either")]
    Evidence(evidence::EvidenceArgs),
    /// List, acknowledge, resolve and silence alerts.
    #[command(subcommand)]
    Alerts(alerts::AlertsCommand),
    /// List dead letters (deliveries that cannot be applied), requeue or discard them.
    #[command(subcommand)]
    Dead(dead::DeadCommand),
    /// Read past events from Stripe's API and apply those that are missing.
    ///
    /// For events that no webhook delivered: from before revwatch was set up, or from an outage
    /// longer than Stripe retries. Needs STRIPE_SECRET_KEY. Stripe keeps events for 30 days. An
    /// event that was applied before changes nothing and is counted as a duplicate. It is safe
    /// while `serve` runs. After an interruption the same command continues where it stopped.
    #[command(after_help = "\
Without --account and --all-accounts, the events of the key's own account are read. Stripe lists the events of a
connected account only in requests made for that account: name the accounts, or use --all-accounts.

Examples:
  revwatch backfill --since 2026-03-01 --until 2026-03-03T12:00:00Z
  revwatch backfill --since 7d --all-accounts --rate 20
  revwatch backfill --since 36h --account acct_1032D82eZvKYlo2C --json")]
    Backfill(backfill::BackfillArgs),
    /// Apply archived events again, from a given time on.
    ///
    /// Events that were applied before are recognised and change nothing. It is safe while `serve`
    /// runs.
    #[command(after_help = "\
Examples:
  revwatch replay --from 36h
  revwatch replay --from 2026-03-01T00:00:00Z --json")]
    Replay(replay::ReplayArgs),
    /// Drop all state and rebuild it from the archive.
    ///
    /// It is safe while `serve` runs: deliveries are still received and applied, and no rule fires
    /// or resolves until the rebuild is done. Alerts, silences and the audit are kept. The archive
    /// reaches back 35 days: older state is lost.
    ///
    /// Events are applied under the mode in `REVWATCH_MODE`, which must be that of the workers: otherwise the
    /// command is refused.
    #[command(after_help = "Example:\n  revwatch rebuild --yes")]
    Rebuild(replay::RebuildArgs),
    /// Write a copy of the embedded store to a new file.
    ///
    /// It is safe while `serve` runs. The copy is complete as of one moment: state, alerts, waiting
    /// deliveries and the archive. It was checked when the command ends, and only its owner can read it. A
    /// deployment on RabbitMQ and Redis backs up those.
    #[command(after_help = "\
Examples:
  revwatch backup /var/backups/revwatch-$(date +%F).sqlite3
  revwatch backup /mnt/backups/revwatch.sqlite3 --by cron --json")]
    Backup(backup::BackupArgs),
    /// Put a backup in the place of the embedded store.
    ///
    /// Stop `serve` first. The backup is checked before anything changes. A store that is there is
    /// replaced only with --force, and is kept under another name. Afterwards `revwatch backfill` reads what
    /// was received since the backup from Stripe, which keeps events for 30 days.
    #[command(after_help = "\
Examples:
  revwatch restore /var/backups/revwatch-2026-11-20.sqlite3
  revwatch restore /var/backups/revwatch-2026-11-20.sqlite3 --force")]
    Restore(backup::RestoreArgs),
    /// Pause the processing of events: all, those of one mode, or those of one connected account.
    ///
    /// Webhooks are still received and stored, and nothing is lost. Paused events are applied after
    /// `revwatch resume`. The setting for an account overrides the one for its mode,
    /// which overrides the one for everything.
    #[command(after_help = "\
Examples:
  revwatch pause                           pause everything,
  revwatch resume --mode test              then resume step by step: test mode,
  revwatch resume --account acct_1032D82e  one account,
  revwatch resume                          everything
  revwatch pause --show")]
    Pause(pause::PauseArgs),
    /// Resume processing after `revwatch pause`.
    #[command(after_help = "Examples:\n  revwatch resume --mode test\n  revwatch resume")]
    Resume(pause::PauseArgs),
    /// List who acknowledged, resolved, silenced, paused, replayed, rebuilt or exported, and when.
    #[command(
        after_help = "Examples:\n  revwatch audit --limit 20\n  revwatch audit --who ada --json\n  revwatch audit --changes    state changes of subscriptions, payments, payouts …"
    )]
    Audit(audit::AuditArgs),
    /// Recount aggregates and conditions from the entities and compare them with the store.
    ///
    /// It is safe while `serve` runs. If nothing is committed during the recount, one recount finds
    /// every difference; JSON then has `"undisturbed": true`. While events are applied, a difference
    /// is reported if it is the same in each of ten recounts. A sum that changes all the time is
    /// only compared with the range in which it moved, so a small difference in it may be missed.
    /// An object that is there twice, or in another partition than its events, is reported, too.
    /// Exits with 1 if anything differs.
    #[command(after_help = "\
Not compared: counters of deliveries (they belong to no entity) and hours older than 400 days (stores drop them).

Examples:
  revwatch verify
  revwatch verify --json || echo 'the store needs attention'")]
    Verify,
    /// Check whether the process on this machine is ready; exits with 1 if it is not.
    ///
    /// It requests /readyz at REVWATCH_ADMIN_LISTEN.
    #[command(after_help = "\
Examples:
  revwatch health
  REVWATCH_ADMIN_LISTEN=127.0.0.1:9465 revwatch health --json")]
    Health,
    /// List, check, test and backtest rules.
    #[command(subcommand)]
    Rules(rules::RulesCommand),
    /// Check or show the configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print a page of docs/reference.
    #[command(
        hide = true,
        after_help = "Example:\n  revwatch reference settings > docs/reference/settings.md"
    )]
    Reference(reference::ReferenceArgs),
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// The roles that this process runs.
    #[arg(long, value_delimiter = ',', value_enum, default_value = Role::ALL_NAMES)]
    roles: Vec<Role>,
}

/// Runs the command. Its error goes to standard error.
pub async fn run(cli: Cli) -> ExitCode {
    let Cli { options, command } = cli;
    let result = match command {
        None => run_serve(&options, &Role::ALL).await,
        Some(Command::Serve(args)) => run_serve(&options, &args.roles).await,
        Some(Command::Demo(args)) => demo::run(args).await,
        Some(Command::Send(args)) => send::run(&options, &args).await,
        Some(Command::App(command)) => app::run(&options, &command).await,
        Some(Command::State(args)) => state::run(&options, &args).await,
        Some(Command::Metrics(args)) => metrics::run(&options, &args).await,
        Some(Command::Funnel(args)) => reports::funnel::run(&options, &args).await,
        Some(Command::Daily(args)) => reports::daily::run(&options, &args).await,
        Some(Command::Weekly(args)) => reports::weekly::run(&options, &args).await,
        Some(Command::Export(args)) => export::run(&options, &args).await,
        Some(Command::Evidence(args)) => evidence::run(&options, &args).await,
        Some(Command::Alerts(command)) => alerts::run(&options, &command).await,
        Some(Command::Dead(command)) => dead::run(&options, &command).await,
        Some(Command::Backfill(args)) => backfill::run(&options, &args).await,
        Some(Command::Replay(args)) => replay::run(&options, &args).await,
        Some(Command::Rebuild(args)) => replay::rebuild(&options, &args).await,
        Some(Command::Backup(args)) => backup::run(&options, &args).await,
        Some(Command::Restore(args)) => backup::restore(&options, &args).await,
        Some(Command::Pause(args)) => pause::run(&options, &args, true).await,
        Some(Command::Resume(args)) => pause::run(&options, &args, false).await,
        Some(Command::Audit(args)) => audit::run(&options, &args).await,
        Some(Command::Verify) => verify::run(&options).await,
        Some(Command::Health) => health::run(&options).await,
        Some(Command::Rules(command)) => rules::run(&options, &command).await,
        Some(Command::Config(command)) => config::run(&options, &command).await,
        Some(Command::Reference(args)) => reference::run(&args),
    };
    match result {
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        result => exit_code("revwatch", result),
    }
}

async fn run_serve(options: &GlobalOptions, roles: &[Role]) -> anyhow::Result<()> {
    let (started, _) = oneshot::channel();
    let accept = |config: &Config| serve::check(config, roles).map(drop);
    let start = prepare(options.config.as_deref(), accept)?;
    serve::serve(start, roles, |_| {}, started).await
}

/// `revwatch export … | head` is not a failure. Only the outermost error counts: a command writes to
/// standard output without adding context. Further inside, a broken pipe is a lost connection to a
/// server.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let Some(outermost) = error.chain().next() else {
        return false;
    };
    let io = outermost.downcast_ref::<io::Error>();
    io.is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn only_a_closed_standard_output_is_no_failure() {
        let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_closed_pipe(&closed().into()));

        let lost = Err::<(), _>(closed()).context("cannot post to http://127.0.0.1:1");
        assert!(!is_closed_pipe(&lost.expect_err("a lost connection")));
        let wrapped = io::Error::new(io::ErrorKind::ConnectionReset, closed());
        assert!(!is_closed_pipe(&wrapped.into()));
        assert!(!is_closed_pipe(&anyhow::anyhow!("not ready")));
    }

    #[test]
    fn the_default_roles_are_shown_as_they_are_written() {
        let cli = Cli::try_parse_from(["revwatch", "serve"]).expect("valid");
        let Some(Command::Serve(args)) = cli.command else {
            panic!("another command")
        };
        assert_eq!(args.roles, Role::ALL);
        let mut command = Cli::command();
        let serve = command.find_subcommand_mut("serve").expect("a command");
        let help = serve.render_long_help().to_string();
        assert!(help.contains("[default: ingest,worker,alerting]"), "{help}");
    }
}
