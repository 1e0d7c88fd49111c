//! `revwatch metrics`: the business metrics.

use std::io::Write as _;

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use jiff::Timestamp;
use revwatch_core::kpi::{Kpis, hours_needed};
use revwatch_core::view;
use revwatch_runtime::backend::Backend;

use super::global_options::GlobalOptions;

/// Runs `metrics`.
pub async fn run(options: &GlobalOptions) -> anyhow::Result<()> {
    let store = Backend::store(&options.config()?).await?;
    let now_s = Timestamp::now().as_second();
    let (from, to) = hours_needed(now_s);
    let kpis = Kpis::compute(&store.counters(from, to).await?, now_s);
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{:#}", serde_json::to_value(&kpis)?)?;
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    for (name, value) in view::kpi::rows(&kpis) {
        table.add_row([name.to_owned(), value]);
    }
    writeln!(out, "{table}")?;
    Ok(())
}
