//! `alerts show`: one alert in full.

use std::io::Write as _;

use anyhow::Context as _;
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use revwatch_alerting::message::render;
use revwatch_core::alert::{Alert, MessageKey};
use revwatch_core::view::alert_details as view;
use revwatch_storage::ports::StateStore;

use super::stored::{load_alerts, load_silences, unknown_alert};
use crate::cli::completeness::{Partial, Shown};
use crate::cli::global_options::GlobalOptions;
use crate::cli::output;
use crate::cli::time::now_s;

/// Options of `alerts show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The alert, `al_…`.
    id: String,
    #[command(flatten)]
    partial: Partial,
}

/// Runs `alerts show`.
pub async fn run(
    options: &GlobalOptions,
    store: &dyn StateStore,
    args: &ShowArgs,
) -> anyhow::Result<()> {
    let read = async {
        let (members, others) = view::members_of(&args.id, load_alerts(store).await?);
        let alert = others
            .into_iter()
            .find(|alert| alert.id == args.id)
            .with_context(|| unknown_alert(&args.id))?;
        Ok((alert, members, load_silences(store).await?))
    };
    let (alert, members, silences) = args.partial.read(store, Shown::Alerts, read).await?;
    let (text, now_s) = (text(&alert), now_s());
    let mut out = output::stdout();
    if options.json {
        let described = view::describe(&alert, &members, &text, now_s)?;
        writeln!(out, "{described:#}")?;
        return Ok(());
    }
    let mut status = Table::new();
    status.load_style(UTF8_BORDERS_ONLY);
    for (name, value) in view::status(&alert, &silences, now_s) {
        status.add_row([name.to_owned(), value]);
    }
    writeln!(out, "{text}\n\n{status}")?;
    for section in view::sections(&alert, &members) {
        let mut table = Table::new();
        table
            .load_style(UTF8_BORDERS_ONLY)
            .set_header(section.header.iter().copied())
            .add_rows(section.rows);
        writeln!(out, "\n{}\n{table}", section.title)?;
    }
    Ok(())
}

/// The text of the notification, as the alert's first notifier receives it.
fn text(alert: &Alert) -> String {
    let key = MessageKey::main(alert.notifiers.first().map_or("log", String::as_str));
    render(
        alert,
        &key,
        &alert.notifications.get(&key).cloned().unwrap_or_default(),
    )
    .text
}
