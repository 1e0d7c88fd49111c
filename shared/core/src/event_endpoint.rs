//! What the endpoints at Stripe send, compared with what state is made of. Pure.
//!
//! Which of them lead to this deployment cannot be seen: proxies rewrite URLs. So all that are enabled are judged
//! together, and each is shown.

use serde::Serialize;

use crate::event::NEWEST_API_VERSION;
use crate::event_family::{EventFamily, FAMILIES, is_enabled};

/// A webhook endpoint, or a destination of another kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EventEndpoint {
    /// `we_…` or `ed_…`
    pub id: String,
    /// Where it leads to, without a query; `None`: no webhook, but for instance Amazon EventBridge.
    pub url: Option<String>,
    /// Whether Stripe sends to it.
    pub enabled: bool,
    /// The types that Stripe sends; `*` is all.
    pub types: Vec<String>,
    /// The version of the objects in its events; `None`: that of the account, or its events are thin.
    pub api_version: Option<String>,
    /// Whether it gets events of the account itself; `None`: API v1 does not say it.
    pub own: Option<bool>,
    /// Whether it gets events of connected accounts; `None`: API v1 does not say it.
    pub connected: Option<bool>,
}

/// What is wrong with the endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Metrics are unknown because of it.
    pub faults: Vec<String>,
    /// It may be intended.
    pub warnings: Vec<String>,
}

/// Judges all endpoints of one Stripe account. Whether accounts are connected to it may be unknown.
pub fn judge(endpoints: &[EventEndpoint], has_connected: Option<bool>) -> Findings {
    let mut findings = Findings::default();
    for endpoint in endpoints {
        findings.warnings.extend(endpoint.is_disabled());
        findings.warnings.extend(endpoint.has_foreign_version());
    }
    let used: Vec<&EventEndpoint> = endpoints.iter().filter(|it| it.sends()).collect();
    if used.is_empty() {
        findings.faults.push(
            "Stripe has no enabled webhook endpoint for the account and the mode of the key: add one that leads to \
             revwatch"
                .to_owned(),
        );
        return findings;
    }
    let own = used.iter().filter(|it| it.own != Some(false));
    findings.add_own(&own.copied().collect::<Vec<_>>());
    if has_connected != Some(false) {
        let connected = used.iter().filter(|it| it.connected != Some(false));
        let connected: Vec<_> = connected.copied().collect();
        findings.add_connected(&connected, has_connected == Some(true));
    }
    findings
}

impl Findings {
    fn add_own(&mut self, used: &[&EventEndpoint]) {
        if used.is_empty() {
            self.faults.push(
                "no enabled endpoint gets events of your own account: add one that does".to_owned(),
            );
            return;
        }
        for family in FAMILIES.iter().filter(|family| !family.of_connected) {
            match missing(family, used) {
                Some(Missing::All(text)) => self.faults.push(text),
                Some(Missing::Some(text)) => self.warnings.push(text),
                None => {}
            }
        }
    }

    /// Of connected accounts, a platform may not need what customers pay them.
    fn add_connected(&mut self, used: &[&EventEndpoint], is_certain: bool) {
        if used.is_empty() && is_certain {
            self.faults.push(
                "accounts are connected, but no enabled endpoint gets events of connected accounts: add one that does"
                    .to_owned(),
            );
        }
        if used.is_empty() {
            return;
        }
        for family in FAMILIES.iter().filter(|family| family.of_connected) {
            match missing(family, used) {
                Some(Missing::All(text)) if is_certain => self.faults.push(text),
                Some(Missing::All(text) | Missing::Some(text)) => self.warnings.push(text),
                None => {}
            }
        }
        // What API v1 does not tell apart was said of your own account.
        let says_nothing = used.iter().any(|it| it.connected.is_none());
        let is_missing = |family: &&EventFamily| {
            !family.of_connected
                && !says_nothing
                && matches!(missing(family, used), Some(Missing::All(_)))
        };
        let types: Vec<_> = FAMILIES
            .iter()
            .filter(is_missing)
            .map(EventFamily::types)
            .collect();
        if !types.is_empty() {
            self.warnings.push(format!(
                "no enabled endpoint gets these of connected accounts, so their metrics are unknown: {}",
                types.join(", ")
            ));
        }
    }
}

enum Missing {
    All(String),
    Some(String),
}

fn missing(family: &EventFamily, used: &[&EventEndpoint]) -> Option<Missing> {
    let is_sent = |kind: &&str| {
        let mut of_any = used.iter().flat_map(|it| &it.types).map(String::as_str);
        is_enabled(kind, &mut of_any)
    };
    let (sent, missing): (Vec<_>, Vec<_>) = family.kinds().partition(is_sent);
    let (types, shows) = (family.types(), family.shows);
    match missing.len() {
        0 => None,
        _ if sent.is_empty() => Some(Missing::All(format!(
            "no enabled endpoint gets {types}. Unknown without: {shows}"
        ))),
        n => Some(Missing::Some(format!(
            "no enabled endpoint gets {n} types of {types}: {}. Perhaps incomplete: {shows}",
            missing.join(", ")
        ))),
    }
}

impl EventEndpoint {
    /// Where it leads to, or what it is.
    pub fn place(&self) -> &str {
        self.url.as_deref().unwrap_or("not a webhook")
    }

    /// Whether revwatch may get its events.
    fn sends(&self) -> bool {
        self.enabled && self.url.is_some()
    }

    fn is_disabled(&self) -> Option<String> {
        (!self.enabled && self.url.is_some()).then(|| {
            format!(
                "{} ({}) is disabled: Stripe sends nothing to it. Enable it in Stripe's dashboard if it leads to \
                 revwatch",
                self.id,
                self.place()
            )
        })
    }

    /// Versions begin with their date. Previews are not documented for good.
    fn has_foreign_version(&self) -> Option<String> {
        let version = self.api_version.as_deref().filter(|_| self.sends())?;
        let is_old = version.get(..10) <= NEWEST_API_VERSION.get(..10);
        let is_version = version.starts_with(|c: char| c.is_ascii_digit());
        let is_tested = is_version && is_old && !version.ends_with(".preview");
        (!is_tested).then(|| {
            format!(
                "{} ({}) sends objects of API version {version}: revwatch is tested up to {NEWEST_API_VERSION}. Fields \
                 that it cannot read are unknown",
                self.id,
                self.place()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(types: &[&str]) -> EventEndpoint {
        EventEndpoint {
            id: "we_1".to_owned(),
            url: Some("https://example.com/webhooks/stripe".to_owned()),
            enabled: true,
            types: types.iter().map(|it| (*it).to_owned()).collect(),
            ..EventEndpoint::default()
        }
    }

    fn all_but(family: &str) -> Vec<&'static str> {
        let others = FAMILIES.iter().filter(|row| row.name != family);
        others.flat_map(EventFamily::kinds).collect()
    }

    #[test]
    fn all_types_in_any_number_of_endpoints_are_enough() {
        let all = endpoint(&["*"]);
        assert_eq!(judge(&[all], Some(true)), Findings::default());
        let invoices = EventFamily::named("invoice").expect("a row");
        let invoices: Vec<_> = invoices.kinds().collect();
        let two = [endpoint(&all_but("invoice")), endpoint(&invoices)];
        assert_eq!(judge(&two, Some(true)), Findings::default());
    }

    #[test]
    fn a_family_that_none_gets_is_a_fault_and_single_types_are_a_warning() {
        let found = judge(&[endpoint(&all_but("invoice"))], Some(true));
        assert_eq!(found.warnings, [""; 0]);
        assert_eq!(found.faults.len(), 1, "{found:?}");
        assert!(
            found.faults[0]
                .starts_with("no enabled endpoint gets invoice.*. Unknown without: invoices")
        );
        let mut most = all_but("payout");
        most.extend(["payout.paid", "payout.failed", "payout.created"]);
        let found = judge(&[endpoint(&most)], Some(true));
        assert_eq!((found.faults.len(), found.warnings.len()), (0, 1));
        let text = &found.warnings[0];
        assert!(
            text.contains("payout.canceled") && !text.contains("payout.paid"),
            "{text}"
        );
    }

    #[test]
    fn types_of_connected_accounts_matter_if_accounts_are_connected() {
        let of = |has_connected| {
            let found = judge(&[endpoint(&all_but("account"))], has_connected);
            (found.faults.len(), found.warnings.len())
        };
        assert_eq!(of(Some(true)), (1, 0));
        assert_eq!(of(Some(false)), (0, 0));
        assert_eq!(of(None), (0, 1));
        let own = EventEndpoint {
            own: Some(true),
            connected: Some(false),
            ..endpoint(&["*"])
        };
        let none = judge(std::slice::from_ref(&own), Some(false));
        assert_eq!(none, Findings::default());
        let found = judge(std::slice::from_ref(&own), Some(true));
        assert!(found.faults[0].contains("no enabled endpoint gets events of connected accounts"));
        let unknown = endpoint(&["*"]);
        assert_eq!(
            judge(&[own.clone(), unknown], Some(true)),
            Findings::default()
        );
        let connected = EventEndpoint {
            own: Some(false),
            connected: Some(true),
            ..endpoint(&all_but("payout"))
        };
        let found = judge(&[own, connected.clone()], Some(true));
        assert_eq!(found.faults, [""; 0]);
        assert!(
            found.warnings[0].ends_with("metrics are unknown: payout.*"),
            "{found:?}"
        );
        let found = judge(&[connected], Some(true));
        assert!(found.faults[0].contains("of your own account"), "{found:?}");
    }

    #[test]
    fn disabled_endpoints_and_other_destinations_send_nothing() {
        let mut disabled = endpoint(&["*"]);
        disabled.enabled = false;
        let mut bus = endpoint(&["*"]);
        bus.url = None;
        let found = judge(&[disabled, bus], None);
        assert!(found.faults[0].starts_with("Stripe has no enabled webhook endpoint"));
        assert_eq!(found.warnings.len(), 1, "{found:?}");
        assert!(found.warnings[0].contains("is disabled"));
    }

    #[test]
    fn newer_versions_and_previews_are_foreign() {
        for (version, expected) in [
            ("2019-02-19", 0),
            ("2025-03-31.basil", 0),
            (NEWEST_API_VERSION, 0),
            ("2025-04-30.preview", 1),
            ("2099-01-01.zebra", 1),
            ("odd", 1),
        ] {
            let mut of_version = endpoint(&["*"]);
            of_version.api_version = Some(version.to_owned());
            let found = judge(&[of_version], None);
            assert_eq!(found.warnings.len(), expected, "{version}");
        }
    }
}
