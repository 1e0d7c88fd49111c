//! The metrics of the business and its alerts.

use std::collections::BTreeMap;
use std::time::Duration;

use revwatch_core::kpi::application::Application;
use revwatch_core::kpi::{Kpis, RealmKpis, buckets_needed};
use revwatch_core::realm::KERNEL;
use revwatch_runtime::telemetry::{GaugeSet, Metrics};
use revwatch_storage::ports::StoreError;

use crate::Alerting;
use crate::alert::report::overdue;
use crate::engine::{Engine, TransitionEvent};
use crate::rule::Severity;
use crate::stage::Stage;

impl Alerting {
    /// Shows the KPIs on the metrics page.
    pub(crate) async fn show_kpis(&self) -> Result<(), StoreError> {
        let now_s = self.clock.now_s();
        let buckets = buckets_needed(now_s);
        let kpis = Kpis::compute(&self.store.counters(&buckets).await?, now_s);
        show(&self.metrics, &kpis, self.has_kernel);
        Ok(())
    }

    /// Shows how many alerts are overdue. It reads all of them: not in every tick.
    pub(crate) fn show_overdue(&self, engine: &Engine) {
        let mut counts: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        for severity in Severity::ALL {
            counts.extend(["respond", "resolve"].map(|clock| ((severity.as_str(), clock), 0)));
            // A histogram that exists before its first value shows that value as an increase.
            for histogram in [
                &self.metrics.alert_acknowledge_seconds,
                &self.metrics.alert_resolve_seconds,
            ] {
                histogram.with_label_values(&[severity.as_str()]);
            }
        }
        let now_s = self.clock.now_s();
        for alert in engine.alerts() {
            for clock in overdue(alert, now_s) {
                *counts.entry((alert.severity.as_str(), clock)).or_default() += 1;
            }
        }
        let counts = counts
            .into_iter()
            .map(|((severity, clock), count)| (vec![severity, clock], count));
        self.metrics.alerts_overdue.show(counts);
    }

    /// Notes how long an alert took to be acknowledged or resolved.
    pub(crate) fn observe_response_time(&self, transition: &TransitionEvent) {
        let histogram = match transition.to {
            Stage::Acknowledged => &self.metrics.alert_acknowledge_seconds,
            Stage::Resolved => &self.metrics.alert_resolve_seconds,
            _ => return,
        };
        if let Some((severity, seconds)) = transition.clocked {
            let seconds = Duration::from_secs(seconds.unsigned_abs()).as_secs_f64();
            histogram
                .with_label_values(&[severity.as_str()])
                .observe(seconds);
        }
    }

    pub(crate) fn show_alerts(&self, engine: &Engine) {
        let mut counts: BTreeMap<(&str, &str, &str), i64> = BTreeMap::new();
        for rule in &self.rules {
            counts.insert(
                (&rule.name, rule.severity.as_str(), Stage::Firing.as_str()),
                0,
            );
        }
        for (rule, severity, stage, count) in engine.counts() {
            counts.insert((rule, severity, stage.as_str()), count);
        }
        let counts = counts
            .into_iter()
            .map(|((rule, severity, state), count)| (vec![rule, severity, state], count));
        self.metrics.alerts.show(counts);
    }
}

/// What is unknown is absent, as it is null in the JSON of `revwatch metrics`.
fn show(m: &Metrics, kpis: &Kpis, has_kernel: bool) {
    let one = |counts: &BTreeMap<String, i64>, gauge: &GaugeSet| gauge.show(by_label(counts));
    let two = |counts: &[(String, String, i64)], gauge: &GaugeSet| {
        gauge.show(
            counts
                .iter()
                .map(|(a, b, count)| (vec![a.as_str(), b], *count)),
        );
    };
    let main = &kpis.main;
    let (billing, accounts) = (&main.billing, &main.accounts);
    two(&billing.subscriptions_by_plan, &m.subscriptions);
    one(&billing.mrr_minor, &m.mrr_minor);
    let [of_any_currency, past_due_of_any_currency] = billing.has_mrr_of_any_currency;
    show_high(&billing.mrr_high_minor, of_any_currency, &m.mrr_high_minor);
    one(&billing.mrr_incomplete, &m.mrr_incomplete);
    one(&billing.mrr_past_due_minor, &m.mrr_past_due_minor);
    show_high(
        &billing.mrr_past_due_high_minor,
        past_due_of_any_currency,
        &m.mrr_past_due_high_minor,
    );
    one(&billing.invoices_open_minor, &m.invoices_open_minor);
    one(
        &billing.invoices_uncollected_minor,
        &m.invoices_uncollected_minor,
    );
    m.past_due_ratio.show(&[], billing.past_due_ratio);
    let subscribers = (!main.is_unknown("subscribers")).then_some(billing.subscribers);
    m.subscribers.show_known([(vec![], subscribers)], None);
    m.churn_rate.show(&[], billing.churn_rate_30d);
    let connected = &main.connected;
    two(&connected.subscriptions_by_plan, &m.connected_subscriptions);
    one(&connected.mrr_minor, &m.connected_mrr_minor);
    show_high(
        &connected.mrr_high_minor,
        connected.has_mrr_of_any_currency[0],
        &m.connected_mrr_high_minor,
    );
    one(&connected.mrr_incomplete, &m.connected_mrr_incomplete);
    let payouts = &main.payouts;
    two(&payouts.payouts_reached, &m.payouts);
    one(&payouts.payout_volume_minor_30d, &m.payout_volume_minor);
    m.payout_failure_ratio
        .show(&["24h"], payouts.payout_failure_ratio_24h);
    two(&main.own_payouts.payouts_reached, &m.own_payouts);
    one(&accounts.accounts, &m.accounts);
    one(&accounts.funnel, &m.onboarding_funnel);
    show_application(m, main.application.as_ref());
    // A percentile of no account is unknown.
    let seconds = by_label(&accounts.onboarding_seconds).map(|(label, s)| (label, Some(s)));
    m.onboarding_seconds.show_known(seconds, None);
    match kpis.realms.get(KERNEL) {
        Some(kernel) => show_kernel(m, kernel),
        None if has_kernel => show_kernel(m, &RealmKpis::default()),
        None => show_kernel(m, main),
    }
}

/// What the user's own application says. Of a silent one, what happened lately is unknown.
fn show_application(m: &Metrics, application: Option<&Application>) {
    let silent = application.map(|it| i64::from(it.silent));
    m.application_silent.show_known([(vec![], silent)], None);
    let tickets = application.into_iter().flat_map(|it| by_label(&it.tickets));
    m.tickets.show(tickets);
    let mean = application.and_then(|it| it.first_response_mean_seconds_7d);
    m.first_response_mean_seconds
        .show_known([(vec![], mean)], None);
    let success = application.and_then(|it| it.account_creation_success_24h);
    m.account_creation_success_ratio.show(&["24h"], success);
    let fees = application.and_then(|it| it.booking_fees_minor_24h.as_ref());
    let of_none = fees.map(|_| 0);
    let fees = fees.into_iter().flat_map(by_label);
    let fees = fees.map(|(currency, minor)| (currency, Some(minor)));
    m.booking_fees_minor.show_known(fees, of_none);
}

/// What the kernel bills: in a realm of its own, or, without such an endpoint, in the main one.
fn show_kernel(m: &Metrics, realm: &RealmKpis) {
    let billing = &realm.billing;
    m.kernel_checkouts
        .show([(vec![], billing.checkouts_reached)]);
    let is_known = !realm.is_unknown("payment_attempts");
    let total = |outcome| {
        let reached = billing.payments_reached.get(outcome).copied();
        [(vec![], is_known.then(|| reached.unwrap_or(0)))]
    };
    m.kernel_payments_succeeded
        .show_known(total("succeeded"), None);
    m.kernel_payments_failed.show_known(total("failed"), None);
    m.kernel_mrr.show(by_label(&billing.mrr_minor));
    show_high(
        &billing.mrr_high_minor,
        billing.has_mrr_of_any_currency[0],
        &m.kernel_mrr_high,
    );
    m.kernel_mrr_incomplete
        .show(by_label(&billing.mrr_incomplete));
    m.kernel_churn_rate.show(&[], billing.churn_rate_30d);
}

/// Upper bounds of MRR, where there are. That of a currency without subscriptions is 0, unless one may be of it.
fn show_high(bounds: &BTreeMap<String, Option<i64>>, is_of_any_currency: bool, gauge: &GaugeSet) {
    let bounds = bounds.iter();
    let bounds = bounds.map(|(currency, high)| (vec![currency.as_str()], *high));
    let of_none = (!is_of_any_currency).then_some(0);
    gauge.show_known(bounds, of_none);
}

fn by_label(counts: &BTreeMap<String, i64>) -> impl Iterator<Item = (Vec<&str>, i64)> {
    let labelled = counts.iter();
    labelled.map(|(label, count)| (vec![label.as_str()], *count))
}

#[cfg(test)]
mod tests {
    use revwatch_core::counters::{Bucket, Counters};

    use super::*;

    const NOW_S: i64 = 1000 * 86_400;

    /// The page after each of these states in turn.
    fn pages(states: &[&[(&str, i64)]]) -> Vec<String> {
        let metrics = Metrics::new();
        let page = |state: &&[(&str, i64)]| {
            let mut counters = Counters::default();
            // Webhooks have come for long: what has not come by now does not.
            let long_ago = Bucket::hour_of(NOW_S - 40 * 86_400);
            counters.add(long_ago, &["events", "received"], 1);
            for (name, value) in *state {
                let parts: Vec<&str> = name.split('|').collect();
                counters.add(Bucket::Current, &parts, *value);
            }
            show(&metrics, &Kpis::compute(&counters, NOW_S), false);
            metrics.render()
        };
        states.iter().map(page).collect()
    }

    #[test]
    fn a_bound_that_is_no_more_is_absent_and_that_of_nothing_is_0() {
        let pages = pages(&[
            &[("mrr|usd", 10_000)],
            &[("mrr|usd", 10_000), ("mrr_unbounded|usd", 1)],
            &[],
            &[("mrr_unbounded|unknown", 1)],
        ]);
        let high = |page: &String| {
            let prefix = "revwatch_mrr_high_minor{currency=\"usd\"} ";
            let mut lines = page.lines();
            lines
                .find_map(|line| line.strip_prefix(prefix))
                .map(str::to_owned)
        };
        let found: Vec<_> = pages.iter().map(high).collect();
        let known = |value: &str| Some(value.to_owned());
        assert_eq!(found, [known("10000"), None, known("0"), None]);
        let low = "revwatch_mrr_minor{currency=\"usd\"} 10000\n";
        assert!(pages[1].contains(low), "{}", pages[1]);
    }

    #[test]
    fn the_mrr_of_every_owner_has_bounds_and_reasons() {
        let counts = [
            ("main/connected:mrr|usd", 10),
            ("main/connected:mrr_extra|usd", 5),
            ("main/connected:mrr_incomplete|discount", 1),
            ("mrr|eur", 20),
            ("mrr_unbounded|eur", 1),
            ("mrr_incomplete|items", 2),
            ("mrr_past_due|usd", 3),
            ("mrr_past_due_extra|usd", 4),
        ];
        let page = pages(&[&counts]).remove(0);
        for line in [
            "revwatch_connected_mrr_minor{currency=\"usd\"} 10",
            "revwatch_connected_mrr_high_minor{currency=\"usd\"} 15",
            "revwatch_connected_mrr_incomplete_subscriptions{reason=\"discount\"} 1",
            "kernel_billing_mrr{currency=\"eur\"} 20",
            "kernel_billing_mrr_incomplete_subscriptions{reason=\"items\"} 2",
            "revwatch_mrr_past_due_minor{currency=\"usd\"} 3",
            "revwatch_mrr_past_due_high_minor{currency=\"usd\"} 7",
        ] {
            assert!(page.lines().any(|it| it == line), "{line}: {page}");
        }
        assert!(!page.contains("kernel_billing_mrr_high{"), "{page}");
    }

    /// The values of what Stripe does not send were 0 as long as nothing implied it.
    #[test]
    fn a_value_that_became_unknown_is_absent() {
        let names = [
            "revwatch_subscribers",
            "kernel_billing_payment_success_total",
            "kernel_billing_payment_failed_total",
            "revwatch_onboarding_seconds{percentile=\"p50\"}",
        ];
        let shown = |page: &String| {
            let has = |name: &str| {
                page.lines()
                    .any(|line| line.starts_with(&format!("{name} ")))
            };
            names.map(has)
        };
        let bills = ("invoices_of_subscriptions", 1);
        let paid = [("subscriptions|active|pro", 1), ("base|paying", 1)];
        let states: [&[(&str, i64)]; 3] = [&[("onboarding|10", 1)], &[bills], &paid];
        let found: Vec<_> = pages(&states).iter().map(shown).collect();
        assert_eq!(
            found,
            [
                [true, true, true, true],
                [false, true, true, false],
                [true, false, false, false]
            ]
        );
    }
}
