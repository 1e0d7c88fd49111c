//! `revwatch rules backtest`.

use std::io::Write as _;

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use indicatif::ProgressBar;
use jiff::Timestamp;
use revwatch_alerting::engine::Engine;
use revwatch_core::durations::duration;
use revwatch_core::view::rfc3339;
use revwatch_runtime::backend::Backend;
use revwatch_storage::ports::{Delivery, Replay};
use serde_json::{Value, json};

use super::BacktestArgs;
use crate::cli::global_options::GlobalOptions;
use crate::cli::output;
use crate::cli::progress_bar;
use crate::cli::time::past;
use crate::simulation::backtest::{Fired, Report, RuleReport, backtest};
use crate::simulation::simulator::SimulationConfig;

/// From this many events on, a progress bar is shown on a terminal.
const PROGRESS_MIN_EVENTS: usize = 2_000;
/// Maximum number of alerts in the table. JSON lists all.
const MAX_LISTED: usize = 200;

/// Runs `rules backtest`.
pub async fn run(options: &GlobalOptions, args: &BacktestArgs) -> anyhow::Result<()> {
    let config = options.config()?;
    let since_s = past("--since", &args.since, Timestamp::from_second(now_s())?)?.as_second();
    let mut setting = SimulationConfig {
        rules: super::rules(&config, args.rules.as_deref())?,
        policy: super::policy(&config.alerting)?,
        events: config.event_settings(),
        restarts: false,
        tick_s: args.step.0,
        spacing_s: args.step.0,
    };
    let queue = Backend::queue(&config).await?;
    let deliveries = read(queue.as_ref()).await;
    queue.close().await;
    let (deliveries, now_s) = (deliveries?, now_s().max(since_s));
    // As a revwatch that began with this archive, unless the setting says when.
    let first_ms = deliveries.first().map(|delivery| delivery.received_ms);
    setting.policy.drop_future_beginning(now_s);
    let began_s = setting.policy.began_s.or(first_ms.map(Engine::beginning_s));
    setting.policy.began_s = began_s;
    let progress = progress_bar::bar(deliveries.len(), PROGRESS_MIN_EVENTS, "events played");
    let played = backtest(&setting, &deliveries, (since_s, now_s), &mut |played| {
        progress.set_position(played as u64);
    });
    progress.finish_and_clear();
    let report = played?;
    let mut out = output::stdout();
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
            progress_bar::reveal(&progress, "events read, {per_sec}");
        }
        progress.set_position(deliveries.len() as u64);
    }
    progress.finish_and_clear();
    // The queue visits one partition after the other.
    deliveries.sort_by_key(|delivery| (delivery.received_ms, delivery.id));
    Ok(deliveries)
}

fn summary(rules: &[RuleReport]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header([
        "rule", "fired", "at start", "open", "messages", "first", "last", "longest", "mean",
    ]);
    let moment =
        |at_s: Option<i64>| at_s.map_or_else(|| "–".to_owned(), |at_s| rfc3339(Some(at_s)));
    let length = |seconds: Option<i64>| seconds.map_or_else(|| "–".to_owned(), duration);
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
            if alert.at_start || alert.pre_existing {
                " or before"
            } else {
                ""
            }
        );
        let lasted = duration(alert.lasted_s(now_s));
        let lasted = if alert.resolved_s.is_none() {
            format!("{lasted}, still firing")
        } else {
            lasted
        };
        table.add_row([fired, alert.rule.clone(), alert.subject.to_string(), lasted]);
    }
    table
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
            "pre_existing": a.pre_existing,
        })
    };
    json!({
        "since": rfc3339(Some(since_s)), "until": rfc3339(Some(until_s)), "events": events,
        "rules": report.rules.iter().map(rule).collect::<Vec<_>>(),
        "alerts": report.alerts.iter().map(alert).collect::<Vec<_>>(),
    })
}
