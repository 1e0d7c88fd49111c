//! The business metrics as the rows of a table. Their JSON is [`Kpis`] itself.

use std::collections::BTreeMap;

use super::text::NOT_KNOWN;
use crate::amounts::between;
use crate::durations::duration;
use crate::kpi::application::Application;
use crate::kpi::{Billing, Kpis};
use crate::money::Money;

/// The title of the share of subscriptions that are past due.
pub const PAST_DUE: &str = "Past due, of active and past due";

/// The title of the subscriptions whose part of MRR is not exactly known, shown only if there are any.
pub const MRR_INCOMPLETE: &str = "MRR incomplete, subscriptions";

/// The titles of invoices that wait for a retry, and of those whose retries are exhausted, shown only if there are any.
pub const WAITING: [&str; 2] = [
    "Invoices waiting for a retry",
    "Invoices with retries exhausted",
];

/// The title of the objects whose state is not known, shown only if there are any.
pub const NOT_FETCHED: &str = "Changed, not yet fetched from Stripe";

/// The title of a family of events that never came, shown only if there is one.
pub const NOT_SENT: &str = "Not sent by Stripe";

/// The title of the sums that are too large to be known, shown only if there are any.
pub const TOO_LARGE: &str = "Sums too large to be known";

/// The title of an application that is silent, shown only if it is.
pub const SILENT: &str = "Application silent";

/// The metrics that a person reads first: name and value.
pub fn rows(kpis: &Kpis) -> Vec<(String, String)> {
    // Dead-lettered is what happened: those that are requeued and fail again count again.
    let deliveries = format!(
        "{} applied, {} duplicate, {} ignored, {} of the other mode, {} dead-lettered",
        kpis.events_applied,
        kpis.events_duplicate,
        kpis.events_ignored,
        kpis.events_other_mode,
        kpis.events_dead
    );
    let main = &kpis.main;
    let billing = &main.billing;
    let mut rows = vec![row("Deliveries", deliveries), row("MRR", mrr(billing))];
    if !billing.mrr_incomplete.is_empty() {
        rows.push(row(MRR_INCOMPLETE, counts(&billing.mrr_incomplete)));
    }
    rows.extend([
        row("Subscriptions", counts(&billing.subscriptions)),
        row(PAST_DUE, percent(billing.past_due_ratio)),
        row(
            "Churn of subscribers, 30 d",
            percent(billing.churn_rate_30d),
        ),
        row("Invoices", counts(&billing.invoices)),
    ]);
    let waiting = [
        (billing.retry_queue, &billing.retry_queue_minor),
        (
            billing.invoices_uncollected,
            &billing.invoices_uncollected_minor,
        ),
    ];
    for (title, (count, minor)) in WAITING.into_iter().zip(waiting) {
        if count > 0 {
            rows.push(row(title, format!("{count}: {}", amounts(minor))));
        }
    }
    rows.extend([
        row("Payouts", counts(&main.payouts.payouts)),
        row(
            "Payouts failed, 24 h",
            percent(main.payouts.payout_failure_ratio_24h),
        ),
        row("Accounts by risk", counts(&main.accounts.accounts)),
        row("Onboarding reached", counts(&main.accounts.funnel)),
    ]);
    let needing_fetch = &main.objects_needing_fetch;
    if !needing_fetch.is_empty() {
        let fix = "(needs STRIPE_SECRET_KEY; with it, see the log)";
        rows.push(row(NOT_FETCHED, format!("{} {fix}", counts(needing_fetch))));
    }
    if !kpis.sums_unknown.is_empty() {
        let names: Vec<&str> = kpis.sums_unknown.iter().map(String::as_str).collect();
        rows.push(row(TOO_LARGE, names.join(", ")));
    }
    let realms = std::iter::once(main).chain(kpis.realms.values());
    for not_sent in realms.flat_map(|realm| &realm.events_not_sent) {
        rows.push((format!("{NOT_SENT}: {not_sent}"), not_sent.sentence()));
    }
    if let Some(application) = &main.application {
        rows.extend(of_application(application));
    }
    rows.extend(
        others(kpis)
            .into_iter()
            .filter(|(_, value)| value != NOT_KNOWN),
    );
    rows
}

/// What the user's own application says.
fn of_application(it: &Application) -> Vec<(String, String)> {
    let not_known = || NOT_KNOWN.to_owned();
    let mut rows = Vec::new();
    if it.silent {
        let what = "nothing was received for a day: what only it says is not known";
        rows.push(row(SILENT, what.to_owned()));
    }
    rows.extend([
        row("Tickets", counts(&it.tickets)),
        row(
            "First response, mean, 7 d",
            it.first_response_mean_seconds_7d
                .map_or_else(not_known, duration),
        ),
        row(
            "Accounts created, of those tried, 24 h",
            percent(it.account_creation_success_24h),
        ),
        row(
            "Booking fees, 24 h",
            it.booking_fees_minor_24h
                .as_ref()
                .map_or_else(not_known, amounts),
        ),
    ]);
    rows
}

/// What many deployments do not have: subscriptions of connected accounts, payouts of the platform
/// itself, other realms.
fn others(kpis: &Kpis) -> Vec<(String, String)> {
    let mut rows = vec![
        row("MRR of connected accounts", mrr(&kpis.main.connected)),
        row(
            "MRR of connected accounts incomplete",
            counts(&kpis.main.connected.mrr_incomplete),
        ),
        row("Own payouts", counts(&kpis.main.own_payouts.payouts)),
    ];
    for (name, realm) in &kpis.realms {
        let of_realm = |what: &str, value| (format!("{what}, realm {name}"), value);
        rows.push(of_realm("MRR", mrr(&realm.billing)));
        let incomplete = counts(&realm.billing.mrr_incomplete);
        rows.push(of_realm("MRR incomplete", incomplete));
        rows.push(of_realm(
            "Subscriptions",
            counts(&realm.billing.subscriptions),
        ));
        rows.push(of_realm("Payouts", counts(&realm.payouts.payouts)));
    }
    rows
}

fn row(name: &str, value: String) -> (String, String) {
    (name.to_owned(), value)
}

/// MRR by currency: exactly, or its bounds.
pub fn mrr(billing: &Billing) -> String {
    let of_currency = |(currency, low_minor): (&String, &i64)| {
        let high_minor = billing.mrr_high_minor.get(currency).copied().flatten();
        between(currency, *low_minor, high_minor)
    };
    list(billing.mrr_minor.iter().map(of_currency))
}

fn amounts(minor: &BTreeMap<String, i64>) -> String {
    let of_currency = |(currency, minor): (&String, &i64)| Money::new(*minor, currency).to_string();
    list(minor.iter().map(of_currency))
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
    use crate::kpi::RealmKpis;
    use crate::money::Money;

    #[test]
    fn what_is_not_known_of_mrr_makes_a_bound() {
        let mut billing = Billing {
            mrr_minor: BTreeMap::from([("usd".to_owned(), 2000)]),
            mrr_high_minor: BTreeMap::from([("usd".to_owned(), Some(2500))]),
            ..Billing::default()
        };
        assert_eq!(mrr(&billing), "USD 20.00 to USD 25.00");
        billing.mrr_high_minor.insert("usd".to_owned(), None);
        assert_eq!(mrr(&billing), "at least USD 20.00");
    }

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
        let billing = Billing {
            mrr_minor: BTreeMap::from([("eur".to_owned(), 150), ("usd".to_owned(), 2000)]),
            mrr_high_minor: BTreeMap::from([
                ("eur".to_owned(), Some(150)),
                ("usd".to_owned(), Some(2000)),
            ]),
            past_due_ratio: Some(0.125),
            invoices: BTreeMap::from([("open".to_owned(), 2)]),
            invoices_uncollected: 2,
            invoices_uncollected_minor: BTreeMap::from([("usd".to_owned(), 6000)]),
            mrr_incomplete: BTreeMap::from([("coupon".to_owned(), 1), ("price".to_owned(), 2)]),
            ..Billing::default()
        };
        let main = RealmKpis {
            connected: billing.clone(),
            billing,
            objects_needing_fetch: BTreeMap::from([("payouts".to_owned(), 2)]),
            ..RealmKpis::default()
        };
        let kpis = Kpis {
            realms: BTreeMap::from([("kernel".to_owned(), main.clone())]),
            main,
            ..Kpis::default()
        };
        let rows: BTreeMap<_, _> = rows(&kpis).into_iter().collect();
        assert_eq!(rows["Past due, of active and past due"], "12.50 %");
        assert_eq!(rows["Invoices"], "open 2");
        assert!(!rows.contains_key(WAITING[0]), "none waits");
        assert_eq!(rows[WAITING[1]], "2: USD 60.00");
        let mrr = [(150, "eur"), (2000, "usd")].map(|(minor, c)| Money::new(minor, c).to_string());
        for name in ["MRR", "MRR of connected accounts", "MRR, realm kernel"] {
            assert_eq!(rows[name], mrr.join(", "), "{name}");
        }
        assert_eq!(rows[MRR_INCOMPLETE], "coupon 1, price 2");
        let fetch = "payouts 2 (needs STRIPE_SECRET_KEY; with it, see the log)";
        assert_eq!(rows[NOT_FETCHED], fetch);
        assert!(!rows.contains_key("Own payouts"), "it has none");
    }
}
