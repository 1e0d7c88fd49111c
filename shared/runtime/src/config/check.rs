//! Validates values against each other. Pure: nothing is opened, no server is contacted.

use std::path::Path;

use secrecy::ExposeSecret as _;

use super::channels::check_credential;
use super::error::{Fault, Faults};
use super::settings::Config;
use super::signing_secret::{Unfit, unfit};

impl Config {
    /// All faults among readable values; each names the setting and the fix.
    pub(super) fn check(&self) -> Vec<Fault> {
        let mut faults = Faults::default();
        // RabbitMQ alone is enough for `ingest`; other needs are checked by the roles.
        faults.of(self.queue_server());
        if !(1..=1024).contains(&self.partitions) {
            let what = format!("must be 1 to 1024, but is {}", self.partitions);
            faults.add(Fault::of("partitions (REVWATCH_PARTITIONS)", what));
        }
        let rules = self.rules.as_deref().unwrap_or(Path::new(""));
        for (setting, path) in [
            ("data (REVWATCH_DATA)", &*self.data),
            ("rules (REVWATCH_RULES)", rules),
        ] {
            let text = path.to_string_lossy();
            // A folder that is really named so can be written as ./~ or ./$.
            if let Some(first @ ('~' | '$')) = text.chars().next() {
                let what = format!(
                    "begins with {first}, which only a shell replaces: write the path in full, not {path:?}"
                );
                faults.add(Fault::of(setting, what));
            }
        }
        // The key is sent with every request.
        let base = "stripe_api_base (STRIPE_API_BASE)";
        faults.of(self.egress.base(base, &self.stripe_api_base));
        self.check_stripe_credentials(&mut faults);
        self.check_limits(&mut faults);
        if self.alerting.lease_seconds < 2.0 * self.alerting.tick_seconds {
            let what = "must be at least twice alerting.tick_seconds: it is renewed by ticks";
            let fault = Fault::of("alerting.lease_seconds", what);
            faults.add(fault.about(["alerting.tick_seconds"]));
        }
        for channel in [
            self.slack.check(&self.egress),
            self.sms.check(&self.egress),
            self.pagerduty.check(&self.egress),
            self.webhook.check(&self.egress),
        ] {
            faults.of(channel);
        }
        faults.of(self.traces.check());
        faults.into()
    }

    fn check_stripe_credentials(&self, faults: &mut Faults) {
        faults.of(check_credential(
            "stripe_secret_key (STRIPE_SECRET_KEY)",
            self.stripe_secret_key.as_ref(),
            |key| key.starts_with("sk_") || key.starts_with("rk_"),
            "is not a secret key: give the `sk_…` or `rk_…` that Stripe's dashboard (Developers, API keys) shows",
        ));
        for (setting, secrets) in [
            (
                "stripe_webhook_secret (STRIPE_WEBHOOK_SECRET)",
                &self.stripe_webhook_secret,
            ),
            (
                "stripe_kernel_webhook_secret (STRIPE_KERNEL_WEBHOOK_SECRET)",
                &self.stripe_kernel_webhook_secret,
            ),
        ] {
            let secrets = secrets.as_ref().map(|secrets| secrets.expose_secret());
            let secrets = secrets.into_iter().flat_map(|secrets| secrets.split(','));
            for (secret, number) in secrets.zip(1..) {
                match unfit(secret) {
                    // Found in the values as they are written, with their places.
                    None | Some(Unfit::Suspect(_)) => {}
                    Some(unfit) if number == 1 => faults.add(Fault::of(setting, unfit)),
                    Some(unfit) => {
                        let what = format!("{setting}: secret {number} {unfit}");
                        faults.add(Fault::from(what).about([setting]));
                    }
                }
            }
        }
    }

    fn check_limits(&self, faults: &mut Faults) {
        if !(1..=86_400).contains(&self.limits.signature_tolerance_seconds) {
            let what = "must be 1 to 86400; Stripe's own default is 300";
            faults.add(Fault::of("limits.signature_tolerance_seconds", what));
        }
        if self.limits.unfinished_body_bytes < self.limits.body_bytes {
            let what =
                "must be at least limits.body_bytes: a body of that size could never be taken";
            let fault = Fault::of("limits.unfinished_body_bytes", what);
            faults.add(fault.about(["limits.body_bytes"]));
        }
        for (key, value) in self.seconds() {
            if !(0.001..=86_400.0).contains(&value) {
                let what = format!("must be between 0.001 and 86400, but is {value}");
                faults.add(Fault::of(key, what));
            }
        }
        for (key, value) in self.counts() {
            if value == 0 {
                faults.add(Fault::of(key, "must be at least 1"));
            }
        }
    }

    fn seconds(&self) -> [(&'static str, f64); 12] {
        [
            ("limits.header_seconds", self.limits.header_seconds),
            ("limits.idle_seconds", self.limits.idle_seconds),
            ("limits.body_seconds", self.limits.body_seconds),
            ("limits.publish_seconds", self.limits.publish_seconds),
            ("limits.drain_seconds", self.limits.drain_seconds),
            ("worker.member_seconds", self.worker.member_seconds),
            (
                "worker.recovery_margin_seconds",
                self.worker.recovery_margin_seconds,
            ),
            ("worker.comparison_seconds", self.worker.comparison_seconds),
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
