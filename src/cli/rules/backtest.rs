//! `revwatch rules backtest`.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use revwatch_core::durations::Span;
use revwatch_core::observe::Plans;
use revwatch_core::view::rfc3339;
use revwatch_runtime::backend::Backend;
use revwatch_storage::ports::{Delivery, Replay};
use serde_json::{Value, json};

use super::BacktestArgs;
use crate::cli::global_options::GlobalOptions;
use crate::simulation::backtest::{Fired, Report, RuleReport, backtest};
use crate::simulation::simulator::SimulationConfig;

/// From this many events on, a progress bar is shown on a terminal.
const PROGRESS_MIN_EVENTS: usize = 2_000;
/// Maximum number of alerts in the table. JSON lists all.
const MAX_LISTED: usize = 200;

/// Runs `rules backtest`.
pub async fn run(options: &GlobalOptions, args: &BacktestArgs) -> anyhow::Result<()> {
    let config = options.config()?;
    let since_s = since(&args.since, now_s())?;
    let step: Span = args
        .step
        .parse()
        .map_err(anyhow::Error::msg)
        .context("--step")?;
    let setting = SimulationConfig {
        rules: super::rules(&config, args.rules.as_deref())?,
        policy: super::policy(&config.alerting)?,
        plans: Plans::new(config.plans.clone()),
        restarts: false,
        tick_s: step.0.max(1),
        spacing_s: step.0.max(1),
    };
    let queue = Backend::queue(&config).await?;
    let deliveries = read(queue.as_ref()).await;
    queue.close().await;
    let (deliveries, now_s) = (deliveries?, now_s().max(since_s));
    let progress = bar(deliveries.len());
    let played = backtest(&setting, &deliveries, (since_s, now_s), &mut |played| {
        progress.set_position(played as u64);
    });
    progress.finish_and_clear();
    let report = played?;
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(
            out,
            "{:#}",
            describe(&report, deliveries.len(), (since_s, now_s))
        )?;
        return Ok(());
    }
    let (events, since) = (deliveries.len(), rfc3339(Some(since_s)));
    writeln!(
        out,
        "{events} event(s) of the archive, alerts since {since}"
    )?;
    writeln!(out, "{}", summary(&report.rules))?;
    if !report.alerts.is_empty() {
        writeln!(out, "{}", list(&report.alerts, now_s))?;
    }
    if report.alerts.len() > MAX_LISTED {
        writeln!(
            out,
            "… and {} more: --json lists all",
            report.alerts.len() - MAX_LISTED
        )?;
    }
    Ok(())
}

/// The current second counts as past: events just received are part of the past.
fn now_s() -> i64 {
    Timestamp::now().as_second() + 1
}

/// A time, or an age.
fn since(text: &str, now_s: i64) -> anyhow::Result<i64> {
    if let Ok(span) = text.parse::<Span>() {
        return Ok(now_s - span.0);
    }
    let at: Timestamp = text.parse().ok().with_context(|| {
        format!("--since {text:?} is not a valid time: write it like 2026-03-01T00:00:00Z, or like 7d for seven days ago")
    })?;
    Ok(at.as_second().min(now_s))
}

/// Reads the complete archive, in the order in which it was received.
async fn read(queue: &dyn Replay) -> anyhow::Result<Vec<Delivery>> {
    let mut deliveries = Vec::new();
    let progress = ProgressBar::hidden();
    let mut archive = queue.archive(0).await?;
    loop {
        let page = archive.next(1000).await?;
        if page.is_empty() {
            break;
        }
        let few = deliveries.len() < PROGRESS_MIN_EVENTS;
        deliveries.extend(page);
        if few && deliveries.len() >= PROGRESS_MIN_EVENTS {
            let style =
                ProgressStyle::with_template("{spinner} {human_pos} events read, {per_sec}");
            progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            progress.set_draw_target(ProgressDrawTarget::stderr());
            progress.enable_steady_tick(Duration::from_millis(200));
        }
        progress.set_position(deliveries.len() as u64);
    }
    progress.finish_and_clear();
    // The queue visits one partition after the other.
    deliveries.sort_by_key(|delivery| (delivery.received_ms, delivery.id));
    Ok(deliveries)
}

/// Shown only on a terminal, and only for many events.
fn bar(length: usize) -> ProgressBar {
    if length < PROGRESS_MIN_EVENTS || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{bar:40} {pos}/{len} events played, {per_sec}, {eta} left");
    ProgressBar::new(length as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn summary(rules: &[RuleReport]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header([
        "rule", "fired", "at start", "open", "messages", "first", "last", "longest", "mean",
    ]);
    let moment =
        |at_s: Option<i64>| at_s.map_or_else(|| "–".to_owned(), |at_s| rfc3339(Some(at_s)));
    let length = |seconds: Option<i64>| seconds.map_or_else(|| "–".to_owned(), lasted);
    for rule in rules {
        table.add_row([
            rule.rule.clone(),
            rule.fired.to_string(),
            rule.at_start.to_string(),
            rule.open.to_string(),
            rule.messages.to_string(),
            moment(rule.first_s),
            moment(rule.last_s),
            length(rule.longest_s),
            length(rule.mean_s),
        ]);
    }
    table
}

fn list(alerts: &[Fired], now_s: i64) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .set_header(["fired", "rule", "subject", "lasted"]);
    for alert in alerts.iter().take(MAX_LISTED) {
        let fired = format!(
            "{}{}",
            rfc3339(Some(alert.fired_s)),
            if alert.at_start { " or before" } else { "" }
        );
        let lasted = lasted(alert.lasted_s(now_s));
        let lasted = if alert.resolved_s.is_none() {
            format!("{lasted}, still firing")
        } else {
            lasted
        };
        table.add_row([fired, alert.rule.clone(), alert.subject.to_string(), lasted]);
    }
    table
}

/// A duration in its two largest units.
fn lasted(seconds: i64) -> String {
    let (days, hours, minutes, rest) = (
        seconds / 86_400,
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60,
    );
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => format!("{minutes}m {rest}s"),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

fn describe(report: &Report, events: usize, (since_s, until_s): (i64, i64)) -> Value {
    let moment = |at_s: Option<i64>| at_s.map(|at_s| rfc3339(Some(at_s)));
    let rule = |r: &RuleReport| {
        json!({
            "rule": r.rule, "fired": r.fired, "at_start": r.at_start, "open": r.open, "messages": r.messages,
            "first": moment(r.first_s), "last": moment(r.last_s), "longest_seconds": r.longest_s,
            "mean_seconds": r.mean_s,
        })
    };
    let alert = |a: &Fired| {
        json!({
            "rule": a.rule, "subject": a.subject.to_string(), "fired": moment(Some(a.fired_s)),
            "resolved": moment(a.resolved_s), "seconds": a.lasted_s(until_s), "at_start": a.at_start,
        })
    };
    json!({
        "since": rfc3339(Some(since_s)), "until": rfc3339(Some(until_s)), "events": events,
        "rules": report.rules.iter().map(rule).collect::<Vec<_>>(),
        "alerts": report.alerts.iter().map(alert).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_an_age() {
        assert_eq!(since("7d", 1_000_000).expect("a span"), 1_000_000 - 604_800);
        assert_eq!(
            since("1970-01-02T00:00:00Z", 1_000_000).expect("a moment"),
            86_400
        );
        assert_eq!(
            since("2970-01-02T00:00:00Z", 1_000_000).expect("a moment"),
            1_000_000,
            "not after now"
        );
        let error = since("yesterday", 0).expect_err("no time").to_string();
        assert!(
            error.contains("--since \"yesterday\"") && error.contains("7d"),
            "{error}"
        );
        assert_eq!(
            [lasted(59), lasted(61), lasted(7200), lasted(90_000)],
            ["59s", "1m 1s", "2h 0m", "1d 1h"]
        );
    }
}
