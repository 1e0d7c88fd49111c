//! The metrics page. There are no statics: each role receives its [`Metrics`].
//!
//! Invariant: labels are bounded, and never hold secrets, card data or personal data.

use std::sync::Arc;

use prometheus::{
    Encoder as _, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::registrar::{Family, GaugeSet, Registrar};

/// Every metric of the process, registered once.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    families: Arc<[Family]>,
    /// `revwatch_ingest_requests_total{endpoint,outcome}`
    pub ingest_requests: IntCounterVec,
    /// `revwatch_ingest_publish_seconds`
    pub ingest_publish_seconds: Histogram,
    /// `revwatch_worker_events_total{type,outcome}`
    pub worker_events: IntCounterVec,
    /// `revwatch_refreshes_total{outcome}`
    pub refreshes: IntCounterVec,
    /// `revwatch_event_age_seconds`: created → applied
    pub event_age_seconds: Histogram,
    /// `revwatch_processing_seconds`: received → applied
    pub processing_seconds: Histogram,
    /// `revwatch_queue_depth{partition}`
    pub queue_depth: IntGaugeVec,
    /// `revwatch_dead_letters`
    pub dead_letters: IntGauge,
    /// `revwatch_parked_deliveries`: parked while their account or mode is paused
    pub parked_deliveries: IntGauge,
    /// `revwatch_paused`: 1 while an operator has paused any processing
    pub paused: IntGauge,
    /// `revwatch_partition_failing{partition}`: 1 while its worker is backing off after an error
    partition_failing: IntGaugeVec,
    /// `revwatch_partitions_recovering`: partitions whose state is being replayed from the archive
    pub partitions_recovering: IntGauge,
    /// `revwatch_recoveries_total{reason}`
    pub recoveries: IntCounterVec,
    /// `revwatch_config_reloads_total{outcome}`
    pub config_reloads: IntCounterVec,
    /// `revwatch_config_last_reload_ok`: 0 after a reload that was refused
    pub config_last_reload_ok: IntGauge,
    /// `revwatch_panics_total`: bugs of revwatch, anywhere in the process
    pub panics: IntCounter,
    /// `revwatch_spans_dropped_total`: spans not delivered to the collector
    pub spans_dropped: IntCounter,
    /// `revwatch_alerts{rule,severity,state}`
    pub alerts: GaugeSet,
    /// `revwatch_alerting_waits_for_deliveries`: while it is above 0, only rules about the pipeline are evaluated
    pub alerting_waits_for_deliveries: IntGauge,
    /// `revwatch_alerts_overdue{severity,clock}`: past their deadline to respond or to resolve
    pub alerts_overdue: GaugeSet,
    /// `revwatch_alert_acknowledge_seconds{severity}`: fired → acknowledged
    pub alert_acknowledge_seconds: HistogramVec,
    /// `revwatch_alert_resolve_seconds{severity}`: fired → resolved
    pub alert_resolve_seconds: HistogramVec,
    /// `revwatch_notifications_total{notifier,outcome}`
    pub notifications: IntCounterVec,
    /// `revwatch_rule_evaluation_seconds`
    pub rule_evaluation_seconds: Histogram,
    /// `revwatch_subscriptions{status,plan}`
    pub subscriptions: GaugeSet,
    /// `revwatch_past_due_ratio`
    pub past_due_ratio: prometheus::Gauge,
    /// `revwatch_payouts_total{outcome,currency}`: payouts that ever reached that outcome
    pub payouts: GaugeSet,
    /// `revwatch_payout_failure_ratio{window}`
    pub payout_failure_ratio: GaugeVec,
    /// `revwatch_accounts{risk}`
    pub accounts: GaugeSet,
    /// `revwatch_onboarding_funnel{stage}`
    pub onboarding_funnel: GaugeSet,
    /// `revwatch_onboarding_seconds{percentile}`: from created to charges enabled
    pub onboarding_seconds: GaugeSet,
    /// `revwatch_mrr_minor{currency}`
    pub mrr_minor: GaugeSet,
    /// `revwatch_mrr_past_due_minor{currency}`
    pub mrr_past_due_minor: GaugeSet,
    /// `revwatch_invoices_open_minor{currency}`
    pub invoices_open_minor: GaugeSet,
    /// `revwatch_payout_volume_minor{currency}`: paid out in the last 30 days
    pub payout_volume_minor: GaugeSet,
    /// `kernel_billing_checkout_total`: completed checkout sessions (K11)
    pub kernel_checkouts: GaugeSet,
    /// `kernel_billing_payment_success_total`
    pub kernel_payments_succeeded: GaugeSet,
    /// `kernel_billing_payment_failed_total`
    pub kernel_payments_failed: GaugeSet,
    /// `kernel_billing_mrr{currency}`, in minor units
    pub kernel_mrr: GaugeSet,
    /// `kernel_billing_churn_rate`, over 30 days
    pub kernel_churn_rate: prometheus::Gauge,
}

/// Buckets in seconds.
const FAST: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
const SLOW: &[f64] = &[
    0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 86_400.0, 259_200.0,
];
// Includes the deadlines of the default severities.
const RESPONSE_TIMES: &[f64] = &[
    60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0, 86_400.0, 259_200.0, 604_800.0,
];

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A fresh set, all at zero.
    pub fn new() -> Self {
        let r = Registrar::default();
        r.gauges(
            "revwatch_build_info",
            "Always 1; the label names the running version",
            &["version"],
        )
        .with_label_values(&[env!("CARGO_PKG_VERSION")])
        .set(1);
        let config_last_reload_ok = r.register(IntGauge::new(
            "revwatch_config_last_reload_ok",
            "1 if the last reload of settings was accepted, 0 if it was refused",
        ));
        // The settings at startup were accepted.
        config_last_reload_ok.set(1);
        Self {
            ingest_requests: r.counters(
                "revwatch_ingest_requests_total",
                "Webhook requests by endpoint and reason of the answer",
                &["endpoint", "outcome"],
            ),
            ingest_publish_seconds: r.seconds(
                "revwatch_ingest_publish_seconds",
                "From verified to durable in the queue",
                FAST,
            ),
            worker_events: r.counters(
                "revwatch_worker_events_total",
                "Deliveries processed, by event type and outcome: applied, duplicate, ignored (a type that Stripe does not \
                 document), dead",
                &["type", "outcome"],
            ),
            refreshes: r.counters(
                "revwatch_refreshes_total",
                "Accounts requested from Stripe's API, by outcome: refreshed, gone (no such account, or not visible to this \
                 key), refused (check the key and the base URL), limited, failed",
                &["outcome"],
            ),
            event_age_seconds: r.seconds(
                "revwatch_event_age_seconds",
                "From created at Stripe to applied",
                SLOW,
            ),
            processing_seconds: r.seconds(
                "revwatch_processing_seconds",
                "From received to applied",
                FAST,
            ),
            queue_depth: r.gauges(
                "revwatch_queue_depth",
                "Deliveries waiting, by partition; on RabbitMQ messages, which under load hold several deliveries each",
                &["partition"],
            ),
            dead_letters: r.register(IntGauge::new(
                    "revwatch_dead_letters",
                    "Dead letters: deliveries that cannot be applied",
                ),
            ),
            parked_deliveries: r.register(IntGauge::new(
                    "revwatch_parked_deliveries",
                    "Deliveries parked while their account or mode is paused",
                ),
            ),
            paused: r.register(IntGauge::new(
                    "revwatch_paused",
                    "1 while an operator has paused any processing",
                ),
            ),
            partition_failing: r.gauges(
                "revwatch_partition_failing",
                "1 while the partition's worker is backing off after an error (see its log)",
                &["partition"],
            ),
            partitions_recovering: r.register(IntGauge::new(
                    "revwatch_partitions_recovering",
                    "Partitions whose state is being replayed from the archive",
                ),
            ),
            recoveries: r.counters(
                "revwatch_recoveries_total",
                "Replays of the archive begun because the store had lost data, by reason",
                &["reason"],
            ),
            config_reloads: r.counters(
                "revwatch_config_reloads_total",
                "Reloads of settings, by outcome",
                &["outcome"],
            ),
            config_last_reload_ok,
            panics: r.register(IntCounter::new(
                    "revwatch_panics_total",
                    "Panics in the process: bugs of revwatch",
                ),
            ),
            spans_dropped: r.register(IntCounter::new(
                    "revwatch_spans_dropped_total",
                    "Spans that did not reach the collector: it failed, or too many were waiting",
                ),
            ),
            alerts: r.gauge_set(
                "revwatch_alerts",
                "Active alerts, by rule, severity and state",
                &["rule", "severity", "state"],
            ),
            alerting_waits_for_deliveries: r.register(IntGauge::new(
                    "revwatch_alerting_waits_for_deliveries",
                    "Deliveries received before alerting began, or during an outage, that must be applied before \
                     rules are evaluated",
                ),
            ),
            alerts_overdue: r.gauge_set(
                "revwatch_alerts_overdue",
                "Alerts past the deadline to respond (clock respond) or to resolve (clock resolve)",
                &["severity", "clock"],
            ),
            alert_acknowledge_seconds: r.seconds_by(
                "revwatch_alert_acknowledge_seconds",
                "From firing to acknowledged, of alerts for which people were notified; as in revwatch alerts report",
                RESPONSE_TIMES,
                "severity",
            ),
            alert_resolve_seconds: r.seconds_by(
                "revwatch_alert_resolve_seconds",
                "From firing to resolved, of alerts for which people were notified; as in revwatch alerts report",
                RESPONSE_TIMES,
                "severity",
            ),
            notifications: r.counters(
                "revwatch_notifications_total",
                "Notification attempts, by notifier and outcome",
                &["notifier", "outcome"],
            ),
            rule_evaluation_seconds: r.seconds(
                "revwatch_rule_evaluation_seconds",
                "One evaluation of all rules",
                FAST,
            ),
            subscriptions: r.gauge_set(
                "revwatch_subscriptions",
                "Subscriptions by status and plan",
                &["status", "plan"],
            ),
            past_due_ratio: r.register(prometheus::Gauge::new(
                    "revwatch_past_due_ratio",
                    "Past-due subscriptions as a share of active and past-due ones",
                ),
            ),
            payouts: r.counter_set(
                "revwatch_payouts_total",
                "Payouts that ever reached an outcome, by outcome and currency; one that was paid and then failed counts twice",
                &["outcome", "currency"],
            ),
            payout_failure_ratio: r.register(GaugeVec::new(
                    Opts::new(
                        "revwatch_payout_failure_ratio",
                        "Failed payouts as a share of those that were paid or failed",
                    ),
                    &["window"],
                ),
            ),
            accounts: r.gauge_set("revwatch_accounts", "Connected accounts by risk", &["risk"]),
            onboarding_funnel: r.gauge_set(
                "revwatch_onboarding_funnel",
                "Connected accounts that reached each onboarding stage",
                &["stage"],
            ),
            mrr_minor: r.gauge_set(
                "revwatch_mrr_minor",
                "Monthly recurring revenue in the currency's smallest unit",
                &["currency"],
            ),
            onboarding_seconds: r.gauge_set(
                "revwatch_onboarding_seconds",
                "From a connected account's creation to enabled charges: p50, p75, p90, p99; at most an eighth too high",
                &["percentile"],
            ),
            mrr_past_due_minor: r.gauge_set(
                "revwatch_mrr_past_due_minor",
                "Monthly recurring revenue of past-due subscriptions in the currency's smallest unit",
                &["currency"],
            ),
            invoices_open_minor: r.gauge_set(
                "revwatch_invoices_open_minor",
                "Amount remaining on open invoices, in the currency's smallest unit",
                &["currency"],
            ),
            payout_volume_minor: r.gauge_set(
                "revwatch_payout_volume_minor",
                "Payouts paid in the last 30 days, in the currency's smallest unit",
                &["currency"],
            ),
            kernel_checkouts: r.counter_set(
                "kernel_billing_checkout_total",
                "Checkout sessions that were completed",
                &[],
            ),
            kernel_payments_succeeded: r.counter_set(
                "kernel_billing_payment_success_total",
                "Payments that succeeded",
                &[],
            ),
            kernel_payments_failed: r.counter_set(
                "kernel_billing_payment_failed_total",
                "Payment attempts that failed",
                &[],
            ),
            kernel_mrr: r.gauge_set(
                "kernel_billing_mrr",
                "Monthly recurring revenue in the currency's smallest unit",
                &["currency"],
            ),
            kernel_churn_rate: r.register(prometheus::Gauge::new(
                    "kernel_billing_churn_rate",
                    "Churned share of paying subscriptions over 30 days",
                ),
            ),
            registry: r.registry,
            families: r.families.into_inner().into(),
        }
    }

    /// Every metric that this process registers, in the order of registration.
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// Sets whether the worker of a partition is failing.
    pub fn partition_fails(&self, partition: u32, is_failing: bool) {
        self.partition_failing
            .with_label_values(&[&partition.to_string()])
            .set(i64::from(is_failing));
    }

    /// Renders the text exposition format, version 0.0.4.
    pub fn render(&self) -> String {
        let mut buffer = Vec::new();
        // Writing to a Vec cannot fail; a family that cannot be encoded is omitted.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut buffer);
        String::from_utf8_lossy(&buffer).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_series_becomes_zero() {
        let metrics = Metrics::new();
        metrics.accounts.show([(vec!["low"], 2), (vec!["high"], 1)]);
        metrics.accounts.show([(vec!["low"], 3)]);
        let page = metrics.render();
        assert!(page.contains("revwatch_accounts{risk=\"low\"} 3"), "{page}");
        assert!(
            page.contains("revwatch_accounts{risk=\"high\"} 0"),
            "{page}"
        );
    }

    #[test]
    fn a_monotonic_value_is_a_counter_and_is_absent_before_the_first_read() {
        let metrics = Metrics::new();
        assert!(!metrics.render().contains("kernel_billing_checkout_total"));
        metrics.kernel_checkouts.show([(vec![], 3)]);
        metrics.payouts.show([(vec!["paid", "eur"], 2)]);
        let page = metrics.render();
        let expected =
            "# TYPE kernel_billing_checkout_total counter\nkernel_billing_checkout_total 3\n";
        assert!(page.contains(expected), "{page}");
        assert!(
            page.contains("# TYPE revwatch_payouts_total counter"),
            "{page}"
        );
        assert!(
            page.contains("revwatch_payouts_total{currency=\"eur\",outcome=\"paid\"} 2"),
            "{page}"
        );
    }
}
