//! Validates values against each other. Pure: nothing is opened, no server is contacted.

use secrecy::ExposeSecret as _;

use super::settings::Config;

impl Config {
    /// All faults among readable values; each names the setting and the fix.
    pub(super) fn check(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut add_fault = |text: String| faults.push(text);
        // RabbitMQ alone is enough for `ingest`; other needs are checked when a role opens its
        // backend.
        if let Err(error) = self.queue_server() {
            error.faults.into_iter().for_each(&mut add_fault);
        }
        if !(1..=1024).contains(&self.partitions) {
            add_fault(format!(
                "partitions (REVWATCH_PARTITIONS) must be 1 to 1024, but is {}",
                self.partitions
            ));
        }
        if !(1..=86_400).contains(&self.limits.signature_tolerance_seconds) {
            add_fault("limits.signature_tolerance_seconds must be 1 to 86400; Stripe's own default is 300".into());
        }
        // The key is sent with every request.
        if let Err(error) = self
            .egress
            .base("stripe_api_base (STRIPE_API_BASE)", &self.stripe_api_base)
        {
            error.faults.into_iter().for_each(&mut add_fault);
        }
        if self.limits.unfinished_body_bytes < self.limits.body_bytes {
            add_fault(
                "limits.unfinished_body_bytes must be at least limits.body_bytes: a body of that size could never be \
                 taken"
                    .into(),
            );
        }
        self.channel_faults().into_iter().for_each(&mut add_fault);
        if let Err(error) = self.traces.check() {
            error.faults.into_iter().for_each(&mut add_fault);
        }
        let key = self
            .stripe_secret_key
            .as_ref()
            .map(|key| key.expose_secret());
        if key
            .is_some_and(|key| !key.bytes().all(|b| b.is_ascii_graphic()) || key.starts_with("pk_"))
        {
            add_fault(
                "STRIPE_SECRET_KEY is not a secret key: give the `sk_…` or `rk_…` that Stripe's dashboard \
                 (Developers → API keys) shows, without spaces"
                    .into(),
            );
        }
        for (key, value) in self.seconds() {
            if !(0.001..=86_400.0).contains(&value) {
                add_fault(format!(
                    "{key} must be between 0.001 and 86400, but is {value}"
                ));
            }
        }
        if self.alerting.lease_seconds < 2.0 * self.alerting.tick_seconds {
            add_fault("alerting.lease_seconds must be at least twice alerting.tick_seconds: it is renewed by ticks".into());
        }
        for (key, value) in self.counts() {
            if value == 0 {
                add_fault(format!("{key} must be at least 1"));
            }
        }
        faults
    }

    fn channel_faults(&self) -> Vec<String> {
        [
            self.slack.check(&self.egress),
            self.sms.check(&self.egress),
            self.pagerduty.check(&self.egress),
            self.webhook.check(&self.egress),
        ]
        .concat()
    }

    fn seconds(&self) -> [(&'static str, f64); 10] {
        [
            ("limits.header_seconds", self.limits.header_seconds),
            ("limits.body_seconds", self.limits.body_seconds),
            ("limits.publish_seconds", self.limits.publish_seconds),
            ("limits.drain_seconds", self.limits.drain_seconds),
            ("worker.member_seconds", self.worker.member_seconds),
            (
                "worker.recovery_margin_seconds",
                self.worker.recovery_margin_seconds,
            ),
            (
                "worker.refreshes_per_second",
                self.worker.refreshes_per_second,
            ),
            ("alerting.tick_seconds", self.alerting.tick_seconds),
            ("alerting.lease_seconds", self.alerting.lease_seconds),
            (
                "alerting.messages_per_second",
                self.alerting.messages_per_second,
            ),
        ]
    }

    fn counts(&self) -> [(&'static str, usize); 7] {
        [
            ("limits.body_bytes", self.limits.body_bytes),
            ("limits.connections", self.limits.connections),
            (
                "limits.connections_per_peer",
                self.limits.connections_per_peer,
            ),
            ("limits.in_flight", self.limits.in_flight),
            ("worker.batch", self.worker.batch),
            (
                "limits.refused_per_second",
                self.limits.refused_per_second as usize,
            ),
            ("limits.refused_burst", self.limits.refused_burst as usize),
        ]
    }
}
