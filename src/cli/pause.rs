//! `revwatch pause` and `revwatch resume`: hold processing back without losing events (K15).

use std::io::Write as _;

use clap::{Args, ValueEnum};
use revwatch_core::mode::Mode;
use revwatch_core::pauses::{Pauses, Scope};
use revwatch_runtime::backend::Backend;
use revwatch_storage::ports::{EventQueue, HoldingQueue};
use revwatch_storage::system::{SystemClock, SystemIds};
use revwatch_worker::recovery::{change_pauses, pauses};

use super::audit::{By, note};
use super::global_options::GlobalOptions;
use super::output;
use super::values::account;

/// Options of `pause` and `resume`.
#[derive(Debug, Args)]
pub struct PauseArgs {
    /// Only events of this mode.
    #[arg(long, conflicts_with = "account")]
    mode: Option<ModeArg>,
    /// Only events of this connected account.
    #[arg(long, value_name = "ACCT", value_parser = account)]
    account: Option<String>,
    /// Only show the pauses, and how many deliveries wait and are parked.
    #[arg(long, conflicts_with_all = ["mode", "account"])]
    show: bool,
    /// The reason, for the audit.
    #[arg(long, value_name = "TEXT", conflicts_with = "show")]
    reason: Option<String>,
    #[command(flatten)]
    by: By,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModeArg {
    Live,
    Test,
}

/// Runs `pause` (`paused`) or `resume`.
pub async fn run(options: &GlobalOptions, args: &PauseArgs, paused: bool) -> anyhow::Result<()> {
    if !args.show {
        args.by.name()?;
    }
    let config = options.config()?;
    let Backend { queue, store } = Backend::existing(&config).await?;
    let now = if args.show {
        pauses(queue.as_ref(), store.as_ref()).await?
    } else {
        let scope = match (args.mode, &args.account) {
            (Some(ModeArg::Live), _) => Scope::Mode(Mode::Live),
            (Some(ModeArg::Test), _) => Scope::Mode(Mode::Test),
            (None, Some(account)) => Scope::Account(account.clone()),
            (None, None) => Scope::All,
        };
        // The audit entry comes first: it is there even if the reply is lost.
        let reason = args
            .reason
            .as_ref()
            .map_or_else(String::new, |reason| format!(": {reason}"));
        let action = if paused { "pause" } else { "resume" };
        note(
            queue.as_ref(),
            &args.by,
            action,
            &format!("{scope}{reason}"),
        )
        .await?;
        change_pauses(
            queue.as_ref(),
            store.as_ref(),
            &scope,
            paused,
            (&SystemClock, &SystemIds),
        )
        .await?
    };
    let result = show(options, queue.as_ref(), &now, !args.show).await;
    queue.close().await;
    result
}

/// `changed`: the command has just changed them.
async fn show(
    options: &GlobalOptions,
    queue: &dyn EventQueue,
    now: &Pauses,
    changed: bool,
) -> anyhow::Result<()> {
    let (waiting, parked) = (
        queue.depth().await?,
        queue.held_count(HoldingQueue::Parked).await?,
    );
    let waiting: u64 = waiting.iter().sum();
    let mut out = output::stdout();
    if options.json {
        let mut value = serde_json::to_value(now)?;
        value["waiting"] = waiting.into();
        value["parked"] = parked.into();
        writeln!(out, "{value:#}")?;
        return Ok(());
    }
    if now.is_any_paused() {
        writeln!(out, "Processing: {now}.")?;
    } else {
        writeln!(out, "Nothing is paused.")?;
    }
    let note = if changed {
        " Workers follow within seconds; nothing is lost."
    } else {
        ""
    };
    writeln!(out, "{waiting} deliveries waiting, {parked} parked.{note}")?;
    Ok(())
}
