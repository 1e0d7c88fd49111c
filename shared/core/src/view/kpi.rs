//! The business metrics as the rows of a table. Their JSON is [`Kpis`] itself.

use std::collections::BTreeMap;

use super::text::NOT_KNOWN;
use crate::kpi::Kpis;
use crate::money::Money;

/// The title of the share of subscriptions that are past due.
pub const PAST_DUE: &str = "Past due, of active and past due";

/// The title of the subscriptions that MRR lacks, shown only if there are any.
pub const MRR_INCOMPLETE: &str = "Not in MRR, amount unknown";

/// The metrics that a person reads first: name and value.
pub fn rows(kpis: &Kpis) -> Vec<(&'static str, String)> {
    // Dead-lettered is what happened: those that are requeued and fail again count again.
    let deliveries = format!(
        "{} applied, {} duplicate, {} ignored, {} of the other mode, {} dead-lettered",
        kpis.events_applied,
        kpis.events_duplicate,
        kpis.events_ignored,
        kpis.events_other_mode,
        kpis.events_dead
    );
    let mrr = kpis.mrr_minor.iter();
    let mrr = mrr.map(|(currency, minor)| Money::new(*minor, currency).to_string());
    let mut rows = vec![("Deliveries", deliveries), ("MRR", list(mrr))];
    if !kpis.mrr_incomplete.is_empty() {
        rows.push((MRR_INCOMPLETE, counts(&kpis.mrr_incomplete)));
    }
    rows.extend([
        ("Subscriptions", counts(&kpis.subscriptions)),
        (PAST_DUE, percent(kpis.past_due_ratio)),
        ("Invoices", counts(&kpis.invoices)),
        ("Payouts", counts(&kpis.payouts)),
        (
            "Payouts failed, 24 h",
            percent(kpis.payout_failure_ratio_24h),
        ),
        ("Accounts by risk", counts(&kpis.accounts)),
        ("Onboarding reached", counts(&kpis.funnel)),
    ]);
    rows
}

fn counts(counts: &BTreeMap<String, i64>) -> String {
    list(counts.iter().map(|(name, count)| format!("{name} {count}")))
}

fn list(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<_> = parts.collect();
    if parts.is_empty() {
        NOT_KNOWN.to_owned()
    } else {
        parts.join(", ")
    }
}

fn percent(ratio: Option<f64>) -> String {
    ratio.map_or_else(
        || NOT_KNOWN.to_owned(),
        |ratio| format!("{:.2} %", ratio * 100.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_a_dash() {
        let rows = rows(&Kpis::default());
        assert_eq!(
            rows[0].1,
            "0 applied, 0 duplicate, 0 ignored, 0 of the other mode, 0 dead-lettered"
        );
        assert!(
            rows[1..].iter().all(|(_, value)| value == NOT_KNOWN),
            "{rows:?}"
        );
    }

    #[test]
    fn shares_are_percent_and_amounts_have_their_currency() {
        let kpis = Kpis {
            mrr_minor: BTreeMap::from([("eur".to_owned(), 150), ("usd".to_owned(), 2000)]),
            past_due_ratio: Some(0.125),
            invoices: BTreeMap::from([("open".to_owned(), 2)]),
            mrr_incomplete: BTreeMap::from([("coupon".to_owned(), 1), ("price".to_owned(), 2)]),
            ..Kpis::default()
        };
        let rows: BTreeMap<_, _> = rows(&kpis).into_iter().collect();
        assert_eq!(rows["Past due, of active and past due"], "12.50 %");
        assert_eq!(rows["Invoices"], "open 2");
        let mrr = [(150, "eur"), (2000, "usd")].map(|(minor, c)| Money::new(minor, c).to_string());
        assert_eq!(rows["MRR"], mrr.join(", "));
        assert_eq!(rows[MRR_INCOMPLETE], "coupon 1, price 2");
    }
}
