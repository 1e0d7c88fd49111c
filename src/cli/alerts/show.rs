//! `alerts show`: one alert in full.

use std::io::Write as _;

use anyhow::Context as _;
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use revwatch_alerting::alert::{Alert, MessageKey, Silence};
use revwatch_alerting::message::{duration, render};
use revwatch_alerting::report::{Verdict, counts, resolution, response};
use revwatch_core::view::alert as view;
use revwatch_core::view::rfc3339;
use revwatch_storage::ports::Documents;
use serde_json::{Value, json};

use super::stored::{load_alerts, load_silences, unknown_alert};
use super::{Common, now_s};

/// Options of `alerts show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The alert, `al_…`.
    id: String,
}

/// Runs `alerts show`.
pub async fn run(common: &Common, store: &dyn Documents, args: &ShowArgs) -> anyhow::Result<()> {
    let (mut members, rest): (Vec<_>, Vec<_>) = load_alerts(store)
        .await?
        .into_iter()
        .partition(|alert| alert.part_of.as_ref() == Some(&args.id));
    let alert = rest
        .iter()
        .find(|alert| alert.id == args.id)
        .with_context(|| unknown_alert(&args.id))?;
    members.sort_by_key(|a| (a.is_resolved(), a.since_s, a.id.clone()));
    let silences = load_silences(store).await?;
    let now_s = now_s();
    let mut out = std::io::stdout().lock();
    if common.json {
        writeln!(out, "{:#}", describe(alert, &members, now_s)?)?;
        return Ok(());
    }
    writeln!(out, "{}\n", text(alert))?;
    writeln!(out, "{}", status(alert, &silences, now_s))?;
    let tables = [
        ("Upcoming deadlines", deadlines(alert)),
        ("Follow-up notices", notices(alert)),
        ("Messages", messages(alert)),
        (
            "Members",
            table(
                &["id", "state", "subject", "money", "since"],
                members.iter().map(member),
            ),
        ),
    ];
    for (title, table) in tables.into_iter().filter(|(_, table)| !table.is_empty()) {
        writeln!(out, "\n{title}\n{table}")?;
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

/// The alert's state, its times and its deadlines.
fn status(alert: &Alert, silences: &[Silence], now_s: i64) -> Table {
    let done = |at_s: i64, by: Option<&String>| {
        let by = by.map_or_else(String::new, |by| format!(" by {by}"));
        format!(
            "{}, after {}{by}",
            rfc3339(Some(at_s)),
            duration(at_s - alert.fired_s)
        )
    };
    let mut rows = vec![("State", view::state(alert))];
    if let Some(mute) = alert.muted.as_ref().filter(|_| !alert.is_resolved()) {
        rows.push(("Muted", view::mute_reason(mute, silences)));
    }
    if let Some(group_id) = &alert.part_of {
        rows.push(("Notified by group", group_id.clone()));
    }
    rows.push(("Fired", rfc3339(Some(alert.fired_s))));
    if let Some(at_s) = alert.acknowledged_s {
        rows.push(("Acknowledged", done(at_s, alert.acknowledged_by.as_ref())));
    }
    if let Some(at_s) = alert.resolved_s {
        rows.push(("Resolved", done(at_s, alert.resolved_by.as_ref())));
    }
    if let Some(at_s) = alert.clear_since_s.filter(|_| !alert.is_resolved()) {
        rows.push(("Clear since", rfc3339(Some(at_s))));
    }
    if counts(alert) {
        let clock = |due_s: i64, verdict: Verdict| {
            format!("{} ({})", rfc3339(Some(due_s)), verdict_text(verdict))
        };
        rows.push((
            "Respond by",
            clock(alert.sla.respond_due_s, response(alert, now_s)),
        ));
        rows.push((
            "Resolve by",
            clock(alert.sla.resolve_due_s, resolution(alert, now_s)),
        ));
    }
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    for (name, value) in rows {
        table.add_row([name.to_owned(), value]);
    }
    table
}

fn deadlines(alert: &Alert) -> Table {
    let upcoming = alert.sla.upcoming.iter().filter(|_| !alert.is_resolved());
    table(
        &["at", "what"],
        upcoming.map(|(at_s, kind)| vec![rfc3339(Some(*at_s)), view::notice(*kind)]),
    )
}

fn notices(alert: &Alert) -> Table {
    let rows = alert.notices.iter().map(|notice| {
        vec![
            notice.number.to_string(),
            rfc3339(Some(notice.at_s)),
            view::notice(notice.kind),
            notice.route.clone(),
            notice.notifiers.join(", "),
        ]
    });
    table(&["number", "at", "what", "route", "by"], rows)
}

fn messages(alert: &Alert) -> Table {
    let rows = alert.notifications.iter().map(|(key, message)| {
        let delivered = match message.delivered_revision {
            0 => "nothing yet".to_owned(),
            revision => format!("revision {revision} of {}", alert.revision),
        };
        let mut remarks = Vec::new();
        if let Some(revision) = message.attempting_revision {
            remarks.push(format!("revision {revision} is being sent"));
        }
        if message.attempts > 0 {
            remarks.push(format!("{} attempt(s) failed", message.attempts));
        }
        if message.possible_duplicate {
            remarks.push("possible duplicate".to_owned());
        }
        remarks.extend(
            message
                .broken
                .as_ref()
                .map(|reason| format!("broken: {reason}")),
        );
        vec![
            key.to_string(),
            delivered,
            message.receipt.clone().unwrap_or_default(),
            remarks.join("; "),
        ]
    });
    table(&["key", "delivered", "receipt", "remarks"], rows)
}

fn member(alert: &Alert) -> Vec<String> {
    vec![
        alert.id.clone(),
        view::state(alert),
        view::subject(alert),
        view::money(alert),
        rfc3339(Some(alert.since_s)),
    ]
}

fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .set_header(header.iter().copied());
    table.add_rows(rows);
    table
}

fn verdict_text(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Within => "kept",
        Verdict::Breached => "breached",
        Verdict::Open => "running",
    }
}

/// The stored alert, its text, its deadlines and its members.
fn describe(alert: &Alert, members: &[Alert], now_s: i64) -> anyhow::Result<Value> {
    let judged = counts(alert);
    let mut value = serde_json::to_value(alert)?;
    value["text"] = json!(text(alert));
    value["response"] = json!(judged.then(|| response(alert, now_s)));
    value["resolution"] = json!(judged.then(|| resolution(alert, now_s)));
    value["members"] = serde_json::to_value(members)?;
    Ok(value)
}
