//! `alerts history`.

use std::io::Write as _;

use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use revwatch_core::durations::Span;
use revwatch_core::view::alert_history::{self as view, HistorySelection};
use revwatch_storage::ports::StateStore;
use serde_json::Value;

use super::stored::load_alerts;
use crate::cli::completeness::{Partial, Shown};
use crate::cli::global_options::GlobalOptions;
use crate::cli::output;
use crate::cli::time::now_s;

/// Options of `alerts history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Alerts that ended within this time, for instance 12h or 30d.
    #[arg(long, value_name = "TIME", default_value = "30d")]
    since: Span,
    /// Only alerts of this rule.
    #[arg(long)]
    rule: Option<String>,
    /// Maximum number of alerts.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Also list the members of groups.
    #[arg(long)]
    members: bool,
    #[command(flatten)]
    partial: Partial,
}

/// Runs `alerts history`.
pub async fn run(
    options: &GlobalOptions,
    store: &dyn StateStore,
    args: &HistoryArgs,
) -> anyhow::Result<()> {
    let alerts = args
        .partial
        .read(store, Shown::Alerts, load_alerts(store))
        .await?;
    let now_s = now_s();
    let selection = HistorySelection {
        since_s: now_s - args.since.0,
        rule: args.rule.clone(),
        limit: args.limit,
        members: args.members,
    };
    let alerts = selection.of(alerts);
    let mut out = output::stdout();
    if options.json {
        let described = alerts.iter().map(|alert| view::describe(alert, now_s));
        writeln!(out, "{:#}", Value::Array(described.collect()))?;
        return Ok(());
    }
    if alerts.is_empty() {
        writeln!(out, "No alerts ended within {}.", args.since)?;
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(view::HEADER);
    table.add_rows(alerts.iter().map(|alert| view::row(alert, now_s)));
    writeln!(out, "{table}")?;
    Ok(())
}
