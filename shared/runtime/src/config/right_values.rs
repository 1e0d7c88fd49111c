//! What belongs in each setting that has a variable: the example at the end of a fault.

use revwatch_core::standard_webhooks;

/// Completes "give …".
const RIGHT_VALUES: [(&str, &str); 30] = [
    ("listen", "an address and a port, such as 127.0.0.1:8080"),
    (
        "admin_listen",
        "an address and a port, such as 127.0.0.1:9464",
    ),
    (
        "trusted_proxies",
        "addresses or networks, such as 10.0.0.7, fd00::/8",
    ),
    ("data", "a folder, such as /var/lib/revwatch"),
    (
        "amqp_url",
        "a URL like amqp://user:password@host:5672/virtual-host",
    ),
    ("redis_url", "a URL like redis://:password@host:6379/0"),
    ("partitions", "a whole number, such as 8"),
    ("mode", "live or test"),
    ("stripe_webhook_secret", SIGNING_SECRET),
    ("stripe_kernel_webhook_secret", SIGNING_SECRET),
    ("app_webhook_secret", standard_webhooks::SECRET),
    ("endpoints.secrets", SIGNING_SECRET),
    (
        "stripe_secret_key",
        "the `sk_…` or `rk_…` that Stripe's dashboard (Developers, API keys) shows",
    ),
    ("stripe_api_base", "https://api.stripe.com"),
    ("rules", "a file or folder, such as /etc/revwatch/rules"),
    ("alerting.began", "a moment, such as 2026-01-01T00:00:00Z"),
    (
        "slack.webhook_url",
        "the URL that the app's settings (Incoming Webhooks) show, like https://hooks.slack.com/services/…",
    ),
    (
        "slack.bot_token",
        "the `xoxb-…` that the app's settings (OAuth & Permissions → Bot User OAuth Token) show",
    ),
    ("slack.api_base", "https://slack.com/api"),
    (
        "slack.signing_secret",
        "the one that the app's settings (Basic Information → App Credentials → Signing Secret) show",
    ),
    (
        "slack.interactivity_listen",
        "an address and a port, such as 127.0.0.1:8081",
    ),
    (
        "slack.app_token",
        "the `xapp-…` with the scope connections:write that the app's settings (Basic Information → App-Level Tokens) \
         show",
    ),
    (
        "email.smtp_url",
        "a URL like smtps://user:password@host:465",
    ),
    ("sms.account_sid", "the `AC…` that Twilio's console shows"),
    (
        "sms.auth_token",
        "the Auth Token that Twilio's console shows next to the Account SID",
    ),
    (
        "pagerduty.routing_key",
        "the letters and digits that the service's integration (Services → Integrations → Events API V2) shows",
    ),
    ("webhook.url", "a URL like https://host/path"),
    ("webhook.secret", standard_webhooks::SECRET),
    ("traces.endpoint", "a URL like http://localhost:4318"),
    ("traces.headers", "name=value,name=value"),
];

/// Of an endpoint at Stripe.
pub(super) const SIGNING_SECRET: &str = "the `whsec_…` that Stripe's dashboard (Workbench, Webhooks) or `stripe listen --print-secret` shows";

/// What belongs in the setting with this key.
pub(super) fn right_value(key: &str) -> Option<&'static str> {
    let mut known = RIGHT_VALUES.into_iter();
    known.find_map(|(known, value)| (known == key).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::super::variables::definitions;
    use super::*;

    #[test]
    fn every_text_that_a_variable_sets_has_an_example() {
        let without = ["traces.service_name", "traces.sample_ratio"];
        let keys: Vec<String> = definitions().map(|(_, keys, _)| keys.join(".")).collect();
        for key in &keys {
            assert!(
                right_value(key).is_some() || without.contains(&key.as_str()),
                "{key}"
            );
        }
        for (key, _) in RIGHT_VALUES {
            assert!(
                key == "endpoints.secrets" || keys.iter().any(|known| known == key),
                "{key}"
            );
        }
    }
}
