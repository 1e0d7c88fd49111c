//! `alerts history`.

use std::cmp::Reverse;
use std::io::Write as _;

use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use revwatch_alerting::alert::Alert;
use revwatch_alerting::message::duration;
use revwatch_alerting::report::{Verdict, counts, resolution, response};
use revwatch_core::span::Span;
use revwatch_core::view::alert as view;
use revwatch_core::view::rfc3339;
use revwatch_storage::ports::Documents;
use serde_json::{Value, json};

use super::stored::load_alerts;
use super::{Common, now_s};

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
}

/// Runs `alerts history`.
pub async fn run(common: &Common, store: &dyn Documents, args: &HistoryArgs) -> anyhow::Result<()> {
    let now_s = now_s();
    let mut alerts = load_alerts(store).await?;
    alerts.retain(|alert| {
        alert
            .resolved_s
            .is_some_and(|at_s| at_s >= now_s - args.since.0)
            && args.rule.as_ref().is_none_or(|rule| alert.rule == *rule)
            && (args.members || alert.part_of.is_none())
    });
    alerts.sort_by_key(|alert| (Reverse(alert.resolved_s), alert.id.clone()));
    alerts.truncate(args.limit);
    let mut out = std::io::stdout().lock();
    if common.json {
        let rows: Vec<Value> = alerts.iter().map(|alert| describe(alert, now_s)).collect();
        writeln!(out, "{:#}", Value::Array(rows))?;
        return Ok(());
    }
    if alerts.is_empty() {
        writeln!(out, "No alerts ended within {}.", args.since)?;
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header([
        "id",
        "severity",
        "rule",
        "subject",
        "fired",
        "acknowledged",
        "resolved",
        "in time",
    ]);
    for alert in &alerts {
        table.add_row([
            alert.id.as_str(),
            alert.severity.as_str(),
            &alert.rule,
            &view::subject(alert),
            &rfc3339(Some(alert.fired_s)),
            &step(
                alert,
                alert.acknowledged_s,
                alert.acknowledged_by.as_deref(),
            ),
            &step(alert, alert.resolved_s, alert.resolved_by.as_deref()),
            in_time(alert, now_s),
        ]);
    }
    writeln!(out, "{table}")?;
    Ok(())
}

/// For example `after 3 min 5 s by ana`.
fn step(alert: &Alert, at_s: Option<i64>, by: Option<&str>) -> String {
    let Some(at_s) = at_s else {
        return "–".to_owned();
    };
    let by = by.map_or_else(String::new, |by| format!(" by {by}"));
    format!("after {}{by}", duration(at_s - alert.fired_s))
}

fn in_time(alert: &Alert, now_s: i64) -> &'static str {
    if !counts(alert) {
        return "–";
    }
    match (response(alert, now_s), resolution(alert, now_s)) {
        (Verdict::Breached, Verdict::Breached) => "no: acknowledged and resolved late",
        (Verdict::Breached, _) => "no: acknowledged late",
        (_, Verdict::Breached) => "no: resolved late",
        _ => "yes",
    }
}

fn describe(alert: &Alert, now_s: i64) -> Value {
    let after = |at_s: Option<i64>| at_s.map(|at_s| at_s - alert.fired_s);
    let at = |at_s: Option<i64>| at_s.map(|at_s| rfc3339(Some(at_s)));
    let judged = counts(alert);
    json!({
        "id": alert.id, "rule": alert.rule, "severity": alert.severity, "subject": alert.subject_text(),
        "account": alert.account(), "money": alert.evidence.money, "group": alert.group.as_ref().map(|g| g.joined),
        "part_of": alert.part_of, "since": at(Some(alert.since_s)), "fired_at": at(Some(alert.fired_s)),
        "acknowledged_at": at(alert.acknowledged_s), "acknowledged_by": alert.acknowledged_by,
        "acknowledged_after_seconds": after(alert.acknowledged_s),
        "resolved_at": at(alert.resolved_s), "resolved_by": alert.resolved_by,
        "resolved_after_seconds": after(alert.resolved_s),
        "response": judged.then(|| response(alert, now_s)), "resolution": judged.then(|| resolution(alert, now_s)),
    })
}
