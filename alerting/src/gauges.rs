//! The metrics of the business and its alerts.

use std::collections::BTreeMap;
use std::time::Duration;

use revwatch_core::kpi::{Kpis, RealmKpis, buckets_needed};
use revwatch_core::realm::KERNEL;
use revwatch_runtime::telemetry::GaugeSet;
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
        self.set_kpis(&Kpis::compute(&self.store.counters(&buckets).await?, now_s));
        Ok(())
    }

    pub(crate) fn set_kpis(&self, kpis: &Kpis) {
        let m = &self.metrics;
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
        let bounded = billing.mrr_high_minor.iter();
        let bounded = bounded.filter_map(|(currency, high)| Some((currency.clone(), (*high)?)));
        one(&bounded.collect(), &m.mrr_high_minor);
        one(&billing.mrr_incomplete, &m.mrr_incomplete);
        one(&billing.mrr_past_due_minor, &m.mrr_past_due_minor);
        one(&billing.invoices_open_minor, &m.invoices_open_minor);
        one(
            &billing.invoices_uncollected_minor,
            &m.invoices_uncollected_minor,
        );
        m.past_due_ratio.show(&[], billing.past_due_ratio);
        let subscribers = (!main.is_unknown("subscribers")).then_some(billing.subscribers);
        m.subscribers.show(subscribers.map(|count| (vec![], count)));
        m.churn_rate.show(&[], billing.churn_rate_30d);
        let connected = &main.connected;
        two(&connected.subscriptions_by_plan, &m.connected_subscriptions);
        one(&connected.mrr_minor, &m.connected_mrr_minor);
        let payouts = &main.payouts;
        two(&payouts.payouts_reached, &m.payouts);
        one(&payouts.payout_volume_minor_30d, &m.payout_volume_minor);
        m.payout_failure_ratio
            .show(&["24h"], payouts.payout_failure_ratio_24h);
        two(&main.own_payouts.payouts_reached, &m.own_payouts);
        one(&accounts.accounts, &m.accounts);
        one(&accounts.funnel, &m.onboarding_funnel);
        one(&accounts.onboarding_seconds, &m.onboarding_seconds);
        match kpis.realms.get(KERNEL) {
            Some(kernel) => self.set_kernel(kernel),
            None if self.has_kernel => self.set_kernel(&RealmKpis::default()),
            None => self.set_kernel(main),
        }
    }

    /// What the kernel bills: in a realm of its own, or, without such an endpoint, in the main one. What Stripe
    /// does not send is absent.
    fn set_kernel(&self, realm: &RealmKpis) {
        let (m, billing) = (&self.metrics, &realm.billing);
        m.kernel_checkouts
            .show([(vec![], billing.checkouts_reached)]);
        let is_known = !realm.is_unknown("payment_attempts");
        let total = |outcome| {
            let reached = billing.payments_reached.get(outcome).copied();
            is_known.then(|| (vec![], reached.unwrap_or(0)))
        };
        m.kernel_payments_succeeded.show(total("succeeded"));
        m.kernel_payments_failed.show(total("failed"));
        m.kernel_mrr.show(by_label(&billing.mrr_minor));
        m.kernel_churn_rate.show(&[], billing.churn_rate_30d);
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

fn by_label(counts: &BTreeMap<String, i64>) -> impl Iterator<Item = (Vec<&str>, i64)> {
    let labelled = counts.iter();
    labelled.map(|(label, count)| (vec![label.as_str()], *count))
}
