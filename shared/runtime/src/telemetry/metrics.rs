//! The metrics page. There are no statics: each role receives its [`Metrics`].
//!
//! Invariant: labels are bounded, and never hold secrets, card data or personal data.

use std::sync::Arc;

use prometheus::{
    Encoder as _, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Registry, TextEncoder,
};

use super::registrar::{Family, GaugeSet, RatioGauge, Registrar};

/// Declares the fields of [`Metrics`], each with its type and how it is registered: the method of
/// the registrar, the metric's name, its help text, and labels or buckets.
macro_rules! metrics {
    ($($field:ident: $type:ty = $register:ident($name:literal, $help:literal $(, $rest:expr)* $(,)?);)+) => {
        /// Every metric of the process, registered once.
        #[derive(Clone)]
        pub struct Metrics {
            registry: Registry,
            families: Arc<[Family]>,
            $(
                #[doc = concat!("`", $name, "`: ", $help, ".")]
                pub $field: $type,
            )+
        }

        /// In the order of the declaration.
        fn register_all() -> Metrics {
            let registrar = Registrar::default();
            $(let $field = registrar.$register($name, $help $(, $rest)*);)+
            Metrics {
                registry: registrar.registry,
                families: registrar.families.into_inner().into(),
                $($field,)+
            }
        }
    };
}

metrics! {
    build_info: IntGaugeVec = gauges(
        "revwatch_build_info",
        "Always 1; the label names the running version",
        &["version"],
    );
    config_last_reload_ok: IntGauge = gauge(
        "revwatch_config_last_reload_ok",
        "1 if the last reload of settings was accepted, 0 if it was refused",
    );
    ingest_requests: IntCounterVec = counters(
        "revwatch_ingest_requests_total",
        "Webhook requests by endpoint and reason of the answer",
        &["endpoint", "outcome"],
    );
    public_requests: IntCounterVec = counters(
        "revwatch_public_requests_total",
        "Requests at the other ports (slack, admin), by outcome: answered, refused, failed (503 of /readyz, too), \
        limited (a client with too many refusals), too_large, incomplete_body, timeout, body_budget (large bodies fill \
        the memory for them), malformed_http, header_too_large, header_timeout, too_many_connections, aborted",
        &["port", "outcome"],
    );
    ingest_publish_seconds: Histogram = seconds(
        "revwatch_ingest_publish_seconds",
        "From verified to durable in the queue",
        FAST,
    );
    worker_events: IntCounterVec = counters(
        "revwatch_worker_events_total",
        "Deliveries processed, by event type and outcome: applied, duplicate, ignored (a type \
        that Stripe does not document), other_mode (an event not of the deployment's mode), dead, paused, moved (to the partition of its object: \
        another version received it)",
        &["type", "outcome"],
    );
    refreshes: IntCounterVec = counters(
        "revwatch_refreshes_total",
        "Objects that events only named, requested from Stripe's API, by outcome: refreshed, known (the \
        store had it, no request), gone (no such object), forbidden (the key may not read it, or the account has \
        disconnected), refused (check the key and the base URL), limited, failed, no_key (only Stripe has it, and STRIPE_SECRET_KEY is not set)",
        &["outcome"],
    );
    event_age_seconds: Histogram = seconds(
        "revwatch_event_age_seconds",
        "From created at Stripe to applied",
        SLOW,
    );
    processing_seconds: Histogram = seconds(
        "revwatch_processing_seconds",
        "From received to applied",
        FAST,
    );
    queue_depth: IntGaugeVec = gauges(
        "revwatch_queue_depth",
        "Deliveries waiting, by partition; on RabbitMQ messages, which under load hold several \
        deliveries each",
        &["partition"],
    );
    dead_letters: IntGauge = gauge(
        "revwatch_dead_letters",
        "Dead letters: deliveries that cannot be applied",
    );
    parked_deliveries: IntGauge = gauge(
        "revwatch_parked_deliveries",
        "Deliveries parked while their account or mode is paused",
    );
    paused: IntGauge = gauge("revwatch_paused", "1 while an operator has paused any processing");
    everything_paused: IntGauge = gauge(
        "revwatch_everything_paused",
        "1 while an operator has paused all processing, so that deliveries stay in their queues",
    );
    partition_failing: IntGaugeVec = gauges(
        "revwatch_partition_failing",
        "1 while the partition's worker is backing off after an error (see its log)",
        &["partition"],
    );
    partition_standing_seconds: IntGaugeVec = gauges(
        "revwatch_partition_standing_seconds",
        "For how long the partition has stood still: its deliveries wait, or its worker is at one batch or one failure, and \
        nothing is applied; 0 while it works, has nothing to do or everything is paused",
        &["partition"],
    );
    partitions_recovering: IntGauge = gauge(
        "revwatch_partitions_recovering",
        "Partitions whose state is being replayed from the archive, or converted",
    );
    recoveries: IntCounterVec = counters(
        "revwatch_recoveries_total",
        "Replays of the archive begun because the store had lost data, by reason",
        &["reason"],
    );
    deliveries_restored: IntCounter = counter(
        "revwatch_deliveries_restored_total",
        "Deliveries that the queue had lost, and that were put back into it from the archive",
    );
    archive_failing: IntGaugeVec = gauges(
        "revwatch_archive_failing",
        "1 while the archive of accepted deliveries cannot be read (use read: what the queue loses is not noticed) or \
        takes nothing (use write: deliveries are accepted without it) (see the log)",
        &["use"],
    );
    archive_gaps: IntGauge = gauge(
        "revwatch_archive_gaps",
        "Gaps of the archive whose deliveries no backfill has read from Stripe (see the audit: archive gap)",
    );
    config_reloads: IntCounterVec = counters(
        "revwatch_config_reloads_total",
        "Reloads of settings, by outcome",
        &["outcome"],
    );
    panics: IntCounter = counter(
        "revwatch_panics_total",
        "Panics in the process: bugs of revwatch",
    );
    log_lines_dropped: IntCounter = counter(
        "revwatch_log_lines_dropped_total",
        "Log lines that were not written: what reads standard error did not keep up",
    );
    spans_dropped: IntCounter = counter(
        "revwatch_spans_dropped_total",
        "Spans that the collector has not: it failed or rejected them, or too many were waiting",
    );
    alerts: GaugeSet = gauge_set(
        "revwatch_alerts",
        "Active alerts, by rule, severity and state",
        &["rule", "severity", "state"],
    );
    alerting_waits_for_deliveries: IntGauge = gauge(
        "revwatch_alerting_waits_for_deliveries",
        "1 while rules wait until deliveries are applied that were queued when alerting began, or \
         during an outage of the workers",
    );
    alerting_other_stores: IntGauge = gauge(
        "revwatch_alerting_other_stores",
        "Other stores whose alerting runs on the same virtual host of RabbitMQ: each alert may be sent twice",
    );
    alerts_overdue: GaugeSet = gauge_set(
        "revwatch_alerts_overdue",
        "Alerts past the deadline to respond (clock respond) or to resolve (clock resolve)",
        &["severity", "clock"],
    );
    alert_acknowledge_seconds: HistogramVec = seconds_by(
        "revwatch_alert_acknowledge_seconds",
        "From the start of the clocks to acknowledged, of alerts for which people were notified; as in revwatch \
        alerts report",
        RESPONSE_TIMES,
        "severity",
    );
    alert_resolve_seconds: HistogramVec = seconds_by(
        "revwatch_alert_resolve_seconds",
        "From the start of the clocks to resolved, of alerts for which people were notified; as in revwatch alerts \
        report",
        RESPONSE_TIMES,
        "severity",
    );
    notifications: IntCounterVec = counters(
        "revwatch_notifications_total",
        "Notification attempts, by notifier and outcome",
        &["notifier", "outcome"],
    );
    rule_evaluation_seconds: Histogram = seconds(
        "revwatch_rule_evaluation_seconds",
        "One evaluation of all rules",
        FAST,
    );
    subscriptions: GaugeSet = gauge_set(
        "revwatch_subscriptions",
        "Subscriptions of the platform by status and plan",
        &["status", "plan"],
    );
    connected_subscriptions: GaugeSet = gauge_set(
        "revwatch_connected_subscriptions",
        "Subscriptions of the connected accounts, all together, by status and plan",
        &["status", "plan"],
    );
    past_due_ratio: RatioGauge = ratio(
        "revwatch_past_due_ratio",
        "Past-due subscriptions as a share of active and past-due ones; absent while no subscription \
        is active or past due",
        &[],
    );
    subscribers: GaugeSet = gauge_set(
        "revwatch_subscribers",
        "Customers of the platform with a subscription that pays",
        &[],
    );
    churn_rate: RatioGauge = ratio(
        "revwatch_churn_rate",
        "Subscribers who ceased to be one in the last 30 days as a share of those 30 days ago and of new ones; \
        absent while there was none",
        &[],
    );
    payouts: GaugeSet = counter_set(
        "revwatch_payouts_total",
        "Payouts of connected accounts that ever reached an outcome, by outcome and currency; one \
        that was paid and then failed counts twice",
        &["outcome", "currency"],
    );
    own_payouts: GaugeSet = counter_set(
        "revwatch_own_payouts_total",
        "Payouts of the platform itself that ever reached an outcome, by outcome and currency",
        &["outcome", "currency"],
    );
    payout_failure_ratio: RatioGauge = ratio(
        "revwatch_payout_failure_ratio",
        "Failed payouts of connected accounts as a share of those that were paid or failed; absent \
        while no payout was",
        &["window"],
    );
    accounts: GaugeSet = gauge_set("revwatch_accounts", "Connected accounts by risk: low, medium, high, critical, unknown; closed ones apart", &["risk"]);
    onboarding_funnel: GaugeSet = gauge_set(
        "revwatch_onboarding_funnel",
        "Connected accounts that reached each onboarding stage, and that took a first payment; providers who registered",
        &["stage"],
    );
    application_silent: GaugeSet = gauge_set(
        "revwatch_application_silent",
        "1 if nothing was received of your own application for 24 hours, else 0; absent if it never sent an event",
        &[],
    );
    tickets: GaugeSet = gauge_set(
        "revwatch_tickets",
        "Support tickets by status: unanswered, responded, closed",
        &["status"],
    );
    first_response_mean_seconds: GaugeSet = gauge_set(
        "revwatch_first_response_mean_seconds",
        "From the opening of a support ticket to the first response, the mean over the responses of 7 days; absent \
        without one, and while the application is silent",
        &[],
    );
    account_creation_success_ratio: RatioGauge = ratio(
        "revwatch_account_creation_success_ratio",
        "Share of the connected accounts of 24 hours that the application could create; absent without one, and while \
        the application is silent",
        &["window"],
    );
    booking_fees_minor: GaugeSet = gauge_set(
        "revwatch_booking_fees_minor",
        "Booking fees that were charged in 24 hours, in the currency's smallest unit; absent while the application is \
        silent",
        &["currency"],
    );
    mrr_minor: GaugeSet = gauge_set(
        "revwatch_mrr_minor",
        "Monthly recurring revenue in the currency's smallest unit: at least this",
        &["currency"],
    );
    mrr_high_minor: GaugeSet = gauge_set(
        "revwatch_mrr_high_minor",
        "The most that monthly recurring revenue may be, in the currency's smallest unit; absent without a bound",
        &["currency"],
    );
    mrr_incomplete: GaugeSet = gauge_set(
        "revwatch_mrr_incomplete_subscriptions",
        "Subscriptions whose part of MRR is not exactly known, by what is not: items, price, amount, quantity, \
        tiers, currency, discount, coupon, tax, cancellation, products",
        &["reason"],
    );
    connected_mrr_minor: GaugeSet = gauge_set(
        "revwatch_connected_mrr_minor",
        "Monthly recurring revenue of the connected accounts in the currency's smallest unit: at least this",
        &["currency"],
    );
    connected_mrr_high_minor: GaugeSet = gauge_set(
        "revwatch_connected_mrr_high_minor",
        "The most that monthly recurring revenue of the connected accounts may be, in the currency's smallest unit; \
        absent without a bound",
        &["currency"],
    );
    connected_mrr_incomplete: GaugeSet = gauge_set(
        "revwatch_connected_mrr_incomplete_subscriptions",
        "Subscriptions of the connected accounts whose part of MRR is not exactly known, by what is not",
        &["reason"],
    );
    onboarding_seconds: GaugeSet = gauge_set(
        "revwatch_onboarding_seconds",
        "From a connected account's creation to enabled charges: p50, p75, p90, p99; at most an \
        eighth too high",
        &["percentile"],
    );
    mrr_past_due_minor: GaugeSet = gauge_set(
        "revwatch_mrr_past_due_minor",
        "Monthly recurring revenue of past-due subscriptions in the currency's smallest unit: at least this",
        &["currency"],
    );
    mrr_past_due_high_minor: GaugeSet = gauge_set(
        "revwatch_mrr_past_due_high_minor",
        "The most that monthly recurring revenue of past-due subscriptions may be, in the currency's smallest unit; \
        absent without a bound",
        &["currency"],
    );
    invoices_open_minor: GaugeSet = gauge_set(
        "revwatch_invoices_open_minor",
        "Amount remaining on open invoices, in the currency's smallest unit",
        &["currency"],
    );
    invoices_uncollected_minor: GaugeSet = gauge_set(
        "revwatch_invoices_uncollected_minor",
        "Amount remaining on open invoices whose retries are exhausted, in the currency's smallest unit",
        &["currency"],
    );
    payout_volume_minor: GaugeSet = gauge_set(
        "revwatch_payout_volume_minor",
        "Payouts paid in the last 30 days, in the currency's smallest unit",
        &["currency"],
    );
    kernel_checkouts: GaugeSet = counter_set(
        "kernel_billing_checkout_total",
        "Checkout sessions that were completed; of realm kernel, or of main if no endpoint is of that realm",
        &[],
    );
    kernel_payments_succeeded: GaugeSet = counter_set(
        "kernel_billing_payment_success_total",
        "Payments that succeeded; of realm kernel, or of main if no endpoint is of that realm",
        &[],
    );
    kernel_payments_failed: GaugeSet = counter_set(
        "kernel_billing_payment_failed_total",
        "Payment attempts that failed; of realm kernel, or of main if no endpoint is of that realm",
        &[],
    );
    kernel_mrr: GaugeSet = gauge_set(
        "kernel_billing_mrr",
        "Monthly recurring revenue in the currency's smallest unit: at least this; of realm kernel, or of main if no \
        endpoint is of that realm",
        &["currency"],
    );
    kernel_mrr_high: GaugeSet = gauge_set(
        "kernel_billing_mrr_high",
        "The most that monthly recurring revenue may be, in the currency's smallest unit; absent without a bound; of \
        realm kernel, or of main if no endpoint is of that realm",
        &["currency"],
    );
    kernel_mrr_incomplete: GaugeSet = gauge_set(
        "kernel_billing_mrr_incomplete_subscriptions",
        "Subscriptions whose part of MRR is not exactly known, by what is not; of realm kernel, or of main if no \
        endpoint is of that realm",
        &["reason"],
    );
    kernel_churn_rate: RatioGauge = ratio(
        "kernel_billing_churn_rate",
        "Churned share of subscribers over 30 days; absent while there was none; \
        of realm kernel, or of main if no endpoint is of that realm",
        &[],
    );
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
        let metrics = register_all();
        let version = env!("CARGO_PKG_VERSION");
        metrics.build_info.with_label_values(&[version]).set(1);
        // The settings at startup were accepted.
        metrics.config_last_reload_ok.set(1);
        metrics
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
