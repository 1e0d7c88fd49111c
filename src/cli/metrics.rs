//! `revwatch metrics`: the business metrics.

use std::io::Write as _;

use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use jiff::Timestamp;
use revwatch_core::kpi::{Kpis, buckets_needed};
use revwatch_core::view;
use revwatch_runtime::backend::Backend;
use revwatch_worker::mode_of_workers;

use super::completeness::{Partial, Shown};
use super::global_options::GlobalOptions;
use super::output;

/// Options of `metrics`.
#[derive(Debug, Args)]
pub struct MetricsArgs {
    #[command(flatten)]
    partial: Partial,
}

/// Runs `metrics`.
pub async fn run(options: &GlobalOptions, args: &MetricsArgs) -> anyhow::Result<()> {
    let config = options.config()?;
    let store = Backend::store(&config).await?;
    let now_s = Timestamp::now().as_second();
    let buckets = buckets_needed(now_s);
    let counters = async { Ok(store.counters(&buckets).await?) };
    let counters = args
        .partial
        .read(store.as_ref(), Shown::Entities, counters)
        .await?;
    let kpis = Kpis::compute(&counters, now_s);
    if options.json {
        // What is shown is of the workers' mode, whatever this command is given.
        let of_workers = mode_of_workers(store.as_ref(), config.mode).await?;
        let mode = of_workers.unwrap_or(config.mode);
        let mut shown = kpis.json();
        shown["mode"] = mode.as_str().into();
        writeln!(output::stdout(), "{shown:#}")?;
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    for (name, value) in view::kpi::rows(&kpis) {
        table.add_row([name, value]);
    }
    writeln!(output::stdout(), "{table}")?;
    Ok(())
}
