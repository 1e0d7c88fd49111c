//! `alerts silences`.

use std::io::Write as _;

use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use revwatch_alerting::alert::{Mute, Silence};
use revwatch_core::view::alert::matcher;
use revwatch_core::view::rfc3339;
use revwatch_storage::ports::StateStore;
use serde_json::{Value, json};

use super::stored::{load_alerts, load_pending_silences, load_silences};
use crate::cli::completeness::{Partial, Shown};
use crate::cli::global_options::GlobalOptions;
use crate::cli::output;
use crate::cli::time::now_s;

/// Options of `alerts silences`.
#[derive(Debug, Args)]
pub struct SilencesArgs {
    /// Also silences that ended recently.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    partial: Partial,
}

/// Runs `alerts silences`.
pub async fn run(
    options: &GlobalOptions,
    store: &dyn StateStore,
    args: &SilencesArgs,
) -> anyhow::Result<()> {
    let now_s = now_s();
    let read = async {
        Ok((
            load_pending_silences(store).await?,
            load_silences(store).await?,
            load_alerts(store).await?,
        ))
    };
    let (pending, stored, alerts) = args.partial.read(store, Shown::Alerts, read).await?;
    let mut rows: Vec<(Silence, &str)> = pending
        .into_iter()
        .filter(|silence| stored.iter().all(|applied| applied.id != silence.id))
        .map(|silence| (silence, "pending"))
        .collect();
    rows.extend(stored.into_iter().map(|silence| {
        let state = if silence.is_active(now_s) {
            "active"
        } else {
            "ended"
        };
        (silence, state)
    }));
    rows.retain(|(_, state)| args.all || *state != "ended");
    rows.sort_by_key(|(silence, _)| (silence.end_s(now_s), silence.id.clone()));
    let mutes = |silence: &Silence| {
        let by = Some(Mute::Silence(silence.id.clone()));
        alerts
            .iter()
            .filter(|alert| !alert.is_resolved() && alert.muted == by)
            .count()
    };
    let mut out = output::stdout();
    if options.json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|(silence, state)| {
                json!({
                    "id": silence.id, "state": state, "matches": silence.matches, "from": rfc3339(Some(silence.from_s)),
                    "until": rfc3339(Some(silence.end_s(now_s))), "reason": silence.reason, "by": silence.by,
                    "mutes": mutes(silence),
                })
            })
            .collect();
        writeln!(out, "{:#}", Value::Array(rows))?;
        return Ok(());
    }
    if rows.is_empty() {
        writeln!(out, "No silences.")?;
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(["id", "state", "silences", "until", "mutes", "by", "reason"]);
    for (silence, state) in &rows {
        table.add_row([
            silence.id.as_str(),
            state,
            &matcher(&silence.matches),
            &rfc3339(Some(silence.end_s(now_s))),
            &mutes(silence).to_string(),
            &silence.by,
            &silence.reason,
        ]);
    }
    writeln!(out, "{table}")?;
    Ok(())
}
