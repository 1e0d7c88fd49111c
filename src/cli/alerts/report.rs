//! `alerts report`.

use std::io::Write as _;

use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use revwatch_core::alert::report::report;
use revwatch_core::view::alert_report as view;
use revwatch_storage::ports::StateStore;

use super::stored::load_alerts;
use crate::cli::completeness::{Partial, Shown};
use crate::cli::global_options::GlobalOptions;
use crate::cli::output;
use crate::cli::time::now_s;

/// Options of `alerts report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Number of calendar months (UTC), including this one.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..))]
    months: u32,
    #[command(flatten)]
    partial: Partial,
}

/// Runs `alerts report`.
pub async fn run(
    options: &GlobalOptions,
    store: &dyn StateStore,
    args: &ReportArgs,
) -> anyhow::Result<()> {
    let alerts = args
        .partial
        .read(store, Shown::Alerts, load_alerts(store))
        .await?;
    let lines = report(&alerts, args.months, now_s());
    let mut out = output::stdout();
    if options.json {
        writeln!(out, "{:#}", serde_json::to_value(&lines)?)?;
        return Ok(());
    }
    if lines.is_empty() {
        writeln!(out, "No alerts in {} month(s).", args.months)?;
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(view::HEADER);
    table.add_rows(lines.iter().map(view::row));
    writeln!(out, "{table}")?;
    Ok(())
}
