//! `revwatch alerts`: reads alerts from the store, and stores commands for the evaluator.

mod history;
mod list;
mod report;
mod show;
mod silence;
mod silences;
pub mod stored;
mod submit;

use clap::Subcommand;
use revwatch_runtime::backend::Backend;

use self::submit::Submission;
use super::completeness::explain;
use super::global_options::GlobalOptions;

/// Subcommands of `alerts`.
#[derive(Debug, Subcommand)]
pub enum AlertsCommand {
    /// List open alerts, most severe and oldest first.
    #[command(after_help = "\
Many alerts of one rule become one group. A group is listed as one line, unless --members or --group is given.

What was wrong already when revwatch began is one group, too: the digest.

With --json each alert has id, rule, severity, state, muted, subject, account, money, events, group, part_of,
pre_existing, began_before, since, fired_at, acknowledged_at, acknowledged_by, resolved_at, resolved_by, respond_by,
resolve_by, revision and notifications (by notifier: delivered_revision, attempting_revision, attempts,
possible_duplicate, broken).

Examples:
  revwatch alerts list
  revwatch alerts list --severity critical --state firing
  revwatch alerts list --account acct_1032D82eZvKYlo2C --all
  revwatch alerts list --group al_5f0c6a1e2b3d4c59 --json")]
    List(list::ListArgs),
    /// Show one alert: its text, deadlines, messages and members.
    #[command(after_help = "Example:\n  revwatch alerts show al_5f0c6a1e2b3d4c59")]
    Show(show::ShowArgs),
    /// Acknowledge alerts: you work on them, and escalation stops. A group includes its members.
    #[command(after_help = "\
Examples:
  revwatch alerts ack al_5f0c6a1e2b3d4c59
  revwatch alerts ack al_5f0c6a1e2b3d4c59 al_0a1b2c3d4e5f6071 --by ana")]
    Ack(submit::AlertIds),
    /// Resolve alerts by hand. They fire again only after their condition has cleared.
    #[command(after_help = "Example:\n  revwatch alerts resolve al_5f0c6a1e2b3d4c59")]
    Resolve(submit::AlertIds),
    /// Suppress notifications until a time. Alerts that still fire then are sent.
    #[command(after_help = "\
All criteria must match: --rule R --account A means that rule's alerts on that account.

Examples:
  revwatch alerts silence al_5f0c6a1e2b3d4c59 --for 4h --reason 'the bank is fixing it'
  revwatch alerts silence --account acct_1032D82eZvKYlo2C --for 2d --reason migration
  revwatch alerts silence --label team=growth --until 2026-12-24T18:00:00Z --reason 'planned work'")]
    Silence(silence::SilenceArgs),
    /// End a silence early.
    #[command(after_help = "Example:\n  revwatch alerts unsilence si_a1b2c3d4e5f60718")]
    Unsilence(silence::UnsilenceArgs),
    /// List silences.
    #[command(
        after_help = "Examples:\n  revwatch alerts silences\n  revwatch alerts silences --all --json"
    )]
    Silences(silences::SilencesArgs),
    /// List resolved alerts, newest first: who acknowledged, after how long, and whether deadlines
    /// were met.
    #[command(after_help = "\
Examples:
  revwatch alerts history
  revwatch alerts history --since 7d --rule provider_lost_charges --json")]
    History(history::HistoryArgs),
    /// Report response and resolution times by month and severity: shares in time, means, open
    /// breaches.
    #[command(after_help = "\
A group counts as one alert. Alerts that were muted all the time do not count. An alert that resolves before its
response deadline counts as acknowledged in time.

Examples:
  revwatch alerts report
  revwatch alerts report --months 12 --json")]
    Report(report::ReportArgs),
}

/// Runs `alerts`.
pub async fn run(options: &GlobalOptions, command: &AlertsCommand) -> anyhow::Result<()> {
    if let Some(submission) = command.submission() {
        submission.by.name()?;
    }
    let store = Backend::store(&options.config()?).await?;
    let store = store.as_ref();
    let acted = match command {
        AlertsCommand::List(args) => return list::run(options, store, args).await,
        AlertsCommand::Show(args) => return show::run(options, store, args).await,
        AlertsCommand::Silences(args) => return silences::run(options, store, args).await,
        AlertsCommand::History(args) => return history::run(options, store, args).await,
        AlertsCommand::Report(args) => return report::run(options, store, args).await,
        AlertsCommand::Ack(args) => submit::acknowledge(options, store, args).await,
        AlertsCommand::Resolve(args) => submit::resolve(options, store, args).await,
        AlertsCommand::Silence(args) => silence::silence(options, store, args).await,
        AlertsCommand::Unsilence(args) => silence::unsilence(options, store, args).await,
    };
    // Commands on alerts are carried out during a recovery as well. What they do not find may have
    // been lost.
    match acted {
        Ok(()) => Ok(()),
        Err(error) => Err(explain(store, error).await),
    }
}

impl AlertsCommand {
    /// Of the commands that change something. They need a name, before anything is opened.
    fn submission(&self) -> Option<&Submission> {
        match self {
            Self::Ack(args) | Self::Resolve(args) => Some(&args.submission),
            Self::Silence(args) => Some(&args.submission),
            Self::Unsilence(args) => Some(&args.submission),
            Self::List(_)
            | Self::Show(_)
            | Self::Silences(_)
            | Self::History(_)
            | Self::Report(_) => None,
        }
    }
}
