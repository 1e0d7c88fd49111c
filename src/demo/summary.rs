//! The text about the values: the status line during the demo, the tables at its end, and the
//! comparison with the values that the simulator expects.

use std::collections::BTreeMap;

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use revwatch_core::bucket::Bucket;
use revwatch_core::class::Scope;
use revwatch_core::counters::Counters;
use revwatch_core::kpi::Kpis;
use revwatch_core::money::Money;
use revwatch_core::view::kpi::mrr;

use super::poster::Poster;
use super::scenario::{RULES, Scenario};
use super::simulator::{Delivery, Simulator};

/// What revwatch has counted.
pub struct Counted {
    pub kpis: Kpis,
    /// By status.
    tickets: BTreeMap<String, i64>,
}

impl Counted {
    pub fn new(counters: &Counters, now_s: i64) -> Self {
        let platforms = counters.of(&Scope::PLATFORM);
        let tickets = platforms.under(Bucket::Current, "tickets");
        let tickets = tickets.map(|(status, count)| (status.join("|"), count));
        Self {
            kpis: Kpis::compute(counters, now_s),
            tickets: tickets.filter(|(_, count)| *count != 0).collect(),
        }
    }
}

/// The status line.
pub fn status(scenario: &Scenario, poster: &Poster, kpis: &Kpis) -> String {
    let firing = firing(scenario);
    format!(
        "{} · past due {} · payouts failing {} · posted {} · applied {} · duplicates {} · MRR {}",
        if firing.is_empty() {
            "no alerts".to_owned()
        } else {
            format!("FIRING {}", firing.join(", "))
        },
        percent(kpis.main.billing.past_due_ratio),
        percent(kpis.main.payouts.payout_failure_ratio_24h),
        poster.accepted(),
        kpis.events_applied,
        kpis.events_duplicate,
        mrr(&kpis.main.billing),
    )
}

/// The tables at the end; `difference`: the first value that differs from the simulator's, if any.
pub fn text(
    scenario: &Scenario,
    poster: &Poster,
    delivery: &Delivery,
    difference: Option<&str>,
    Counted { kpis, tickets }: &Counted,
) -> String {
    let mut alerts = Table::new();
    alerts.load_style(UTF8_BORDERS_ONLY).set_header([
        "Alert",
        "Fired after",
        "Resolved after",
        "Lasted",
    ]);
    for alert in scenario.alerts() {
        let seconds = |s: f64| format!("{s:.1} s");
        let open = || "still firing".to_owned();
        alerts.add_row([
            alert.rule.clone(),
            seconds(alert.fired_s),
            alert.resolved_s.map_or_else(open, seconds),
            alert
                .resolved_s
                .map_or_else(open, |s| seconds(s - alert.fired_s)),
        ]);
    }
    let mut metrics = Table::new();
    metrics.load_style(UTF8_BORDERS_ONLY);
    let agrees = match difference {
        None => "yes, despite disorder and duplicates".to_owned(),
        Some(difference) => format!("NO: {difference}"),
    };
    for (name, value) in [
        (
            "Webhooks posted",
            format!(
                "{}, shuffled, {} of them twice",
                poster.accepted(),
                delivery.duplicates()
            ),
        ),
        (
            "Events",
            format!(
                "{} applied, {} of undocumented types",
                kpis.events_applied, kpis.events_ignored
            ),
        ),
        ("Duplicates", kpis.events_duplicate.to_string()),
        ("Dead letters", kpis.events_dead.to_string()),
        ("MRR", mrr(&kpis.main.billing)),
        ("Past due", percent(kpis.main.billing.past_due_ratio)),
        (
            "Payouts failed in 24 h",
            percent(kpis.main.payouts.payout_failure_ratio_24h),
        ),
        ("Support tickets", counts(tickets)),
        ("Agrees with the simulator", agrees),
    ] {
        metrics.add_row([name, &value]);
    }
    format!("\n{alerts}\n\n{metrics}")
}

/// The first value that differs from the simulator's, if any.
pub fn difference(
    simulator: &Simulator,
    events: u64,
    Counted { kpis, tickets }: &Counted,
) -> Option<String> {
    let counted: BTreeMap<_, _> = kpis
        .main
        .billing
        .mrr_minor
        .iter()
        .filter(|(_, minor)| **minor != 0)
        .collect();
    let expected = simulator.mrr_minor();
    if counted != expected.iter().collect() {
        return Some(format!(
            "MRR {} instead of {}",
            mrr(&kpis.main.billing),
            amounts(&expected)
        ));
    }
    let (past_due, base) = simulator.past_due();
    let expected = (base > 0).then(|| past_due as f64 / base as f64);
    if kpis.main.billing.past_due_ratio != expected {
        return Some(format!(
            "past due {} instead of {}",
            percent(kpis.main.billing.past_due_ratio),
            percent(expected)
        ));
    }
    let expected = by_status(simulator.tickets());
    if *tickets != expected {
        return Some(format!(
            "tickets {} instead of {}",
            counts(tickets),
            counts(&expected)
        ));
    }
    let counted = kpis.events_applied + kpis.events_ignored;
    if u64::try_from(counted) != Ok(events) {
        return Some(format!("{counted} events instead of {events}"));
    }
    (kpis.events_dead > 0).then(|| format!("{} dead letters", kpis.events_dead))
}

/// The rules of the scenario that fire now.
fn firing(scenario: &Scenario) -> Vec<&'static str> {
    RULES
        .into_iter()
        .filter(|rule| scenario.firing().any(|firing| firing == *rule))
        .collect()
}

fn amounts(minor: &BTreeMap<String, i64>) -> String {
    let amounts: Vec<_> = minor
        .iter()
        .map(|(currency, minor)| Money::new(*minor, currency).to_string())
        .collect();
    if amounts.is_empty() {
        "–".to_owned()
    } else {
        amounts.join(", ")
    }
}

fn by_status(tickets: BTreeMap<&'static str, usize>) -> BTreeMap<String, i64> {
    let tickets = tickets.into_iter();
    tickets
        .map(|(status, count)| (status.to_owned(), i64::try_from(count).unwrap_or(i64::MAX)))
        .collect()
}

/// For example `12 closed, 4 unanswered`.
fn counts(tickets: &BTreeMap<String, i64>) -> String {
    let counts = tickets
        .iter()
        .map(|(status, count)| format!("{count} {status}"));
    counts.collect::<Vec<_>>().join(", ")
}

fn percent(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "–".to_owned(), |r| format!("{:.1} %", r * 100.0))
}
