//! `revwatch config check --connect`: what the endpoints at Stripe send.

use std::io::Write;
use std::sync::Arc;

use revwatch_core::event_endpoint::{EventEndpoint, Findings, judge};
use revwatch_runtime::config::Config;
use revwatch_storage::system::SystemClock;
use revwatch_stripe::{ApiError, ApiErrorKind, StripeApi, event_endpoints, has_connected_accounts};

/// The endpoints of the key's account, in the key's mode.
#[derive(Default)]
pub(super) struct StripeEndpoints {
    pub(super) endpoints: Vec<EventEndpoint>,
    pub(super) findings: Findings,
    /// The realm of the key, the only one of which endpoints can be read.
    realm: String,
}

impl StripeEndpoints {
    /// What cannot be read is a fault: nothing is known of it.
    pub(super) async fn read(config: &Config) -> Self {
        let read = Self::of(config).await;
        read.unwrap_or_else(|fault| Self {
            findings: Findings {
                faults: vec![fault],
                ..Findings::default()
            },
            ..Self::default()
        })
    }

    async fn of(config: &Config) -> Result<Self, String> {
        if let Some(other_mode) = config.key_of_other_mode(config.mode) {
            return Err(format!(
                "{other_mode}. Its endpoints are those of the other mode, and are not read"
            ));
        }
        let api = StripeApi::of(config, Arc::new(SystemClock))
            .map_err(|error| format!("cannot set up HTTPS for Stripe's API: {error}"))?;
        let Some(api) = api else {
            let mut findings = Findings::default();
            findings.warnings.push(
                "the webhook endpoints at Stripe are not checked: set STRIPE_SECRET_KEY (a restricted key that may read \
                 webhook endpoints is enough)"
                    .to_owned(),
            );
            return Ok(Self {
                findings,
                ..Self::default()
            });
        };
        let listed = event_endpoints(&api)
            .await
            .map_err(|error| unreadable("webhook endpoints", &error))?;
        let accounts = has_connected_accounts(&api).await;
        let mut findings = judge(&listed.endpoints, accounts.as_ref().ok().copied());
        if let Some(error) = &listed.destinations_error {
            findings.warnings.push(format!(
                "{}. So only webhook endpoints of API v1 are judged, which do not say whether they get events of connected \
                 accounts",
                unreadable("event destinations", error)
            ));
        }
        if let Err(error) = &accounts {
            findings.warnings.push(format!(
                "{}. So types of connected accounts that are missing are only warnings",
                unreadable("connected accounts", error)
            ));
        }
        Ok(Self {
            endpoints: listed.endpoints,
            findings,
            realm: config.stripe_secret_key_realm.to_string(),
        })
    }

    /// Every endpoint with what it gets.
    pub(super) fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        if self.endpoints.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "at Stripe, realm {} (all that are enabled are judged together; which lead here cannot be seen):",
            self.realm
        )?;
        for endpoint in &self.endpoints {
            writeln!(out, "          {}", describe(endpoint))?;
        }
        Ok(())
    }
}

/// Stripe's words for the permissions of restricted keys. Source: <https://docs.stripe.com/keys/restricted-api-keys>.
fn unreadable(what: &str, error: &ApiError) -> String {
    let fix = match error.kind {
        ApiErrorKind::Forbidden => format!(
            ". Give the restricted key in STRIPE_SECRET_KEY the permission to read {what}, in Stripe's dashboard, \
             API keys"
        ),
        _ => String::new(),
    };
    format!("cannot read the {what} at Stripe: {}{fix}", error.reason)
}

fn describe(endpoint: &EventEndpoint) -> String {
    let state = if endpoint.enabled {
        "enabled"
    } else {
        "disabled"
    };
    let types = match endpoint.types.as_slice() {
        [all] if all == "*" => "all types".to_owned(),
        types => format!("{} types", types.len()),
    };
    let version = endpoint.api_version.as_deref();
    let version = version.map_or_else(String::new, |version| format!(", API version {version}"));
    let whose = match (endpoint.own, endpoint.connected) {
        (Some(true), Some(true)) => ", own and connected accounts",
        (_, Some(true)) => ", connected accounts",
        (Some(true), _) => ", own account",
        _ => "",
    };
    format!(
        "{} {} ({state}, {types}{version}{whose})",
        endpoint.id,
        endpoint.place()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_permission_is_named_and_other_errors_say_their_reason() {
        let error = |kind| ApiError {
            kind,
            reason: "Stripe answered so".to_owned(),
        };
        let forbidden = unreadable("webhook endpoints", &error(ApiErrorKind::Forbidden));
        assert!(
            forbidden.contains("the permission to read webhook endpoints"),
            "{forbidden}"
        );
        let failed = unreadable("webhook endpoints", &error(ApiErrorKind::Failed));
        assert_eq!(
            failed,
            "cannot read the webhook endpoints at Stripe: Stripe answered so"
        );
    }

    #[test]
    fn an_endpoint_is_one_line() {
        let endpoint = EventEndpoint {
            id: "ed_1".to_owned(),
            url: Some("https://example.com/hook".to_owned()),
            enabled: true,
            types: vec!["*".to_owned()],
            api_version: Some("2025-03-31.basil".to_owned()),
            own: Some(false),
            connected: Some(true),
        };
        assert_eq!(
            describe(&endpoint),
            "ed_1 https://example.com/hook (enabled, all types, API version 2025-03-31.basil, connected accounts)"
        );
    }
}
