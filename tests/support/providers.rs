//! Connected accounts that lose and regain charges, one alert each, and their notifications.

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::revwatch::{Variables, post, print};

/// A single rule, so that every notification belongs to it.
const RULES: &str = r#"
[[rule]]
name = "charges_lost"
kind = "condition"
condition = "charges_lost"
severity = "critical"
route = "alerts-critical"
title = "A provider can no longer take charges"
actions = ["Call the provider."]
"#;

/// A settings file with these lines for `alerting` and that rule; removed on drop.
pub(crate) struct Settings {
    folder: TempDir,
}

impl Settings {
    /// `text` is the settings file.
    pub(crate) fn new(text: &str, rules: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("revwatch.toml"), text).expect("written");
        std::fs::write(folder.path().join("rules.toml"), rules).expect("written");
        Self { folder }
    }

    /// Replaces one of the files, or adds one; returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    }

    /// With the rule of this module.
    pub(crate) fn of_providers(text: &str) -> Self {
        Self::new(text, RULES)
    }

    /// The variables that name its files.
    pub(crate) fn variables(&self, of_deployment: Variables) -> Variables {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let mut variables = of_deployment;
        variables.push(("REVWATCH_CONFIG".into(), file("revwatch.toml")));
        variables.push(("REVWATCH_RULES".into(), file("rules.toml")));
        variables
    }
}

/// `account.updated`: the account can take charges, or cannot for this reason.
pub(crate) fn updated(
    event: &str,
    account: &str,
    created_s: i64,
    charges: bool,
    reason: &str,
) -> String {
    let reason = (!charges).then_some(reason);
    json!({
        "id": event, "object": "event", "api_version": "2025-03-31.basil", "type": "account.updated",
        "created": created_s, "account": account, "livemode": true, "pending_webhooks": 1, "request": null,
        "data": {"object": {"id": account, "object": "account", "country": "PT", "charges_enabled": charges,
            "payouts_enabled": true, "details_submitted": true,
            "requirements": {"currently_due": [], "past_due": [], "disabled_reason": reason}},
            "previous_attributes": {"charges_enabled": !charges}},
    })
    .to_string()
}

/// Posts all events concurrently; each must be answered 200.
pub(crate) async fn post_all(url: &str, bodies: &[String]) {
    let client = reqwest::Client::new();
    let posts = futures_util::stream::iter(bodies).map(|body| post(&client, url, body));
    let answers: Vec<_> = posts.buffer_unordered(16).collect().await;
    assert!(
        answers
            .iter()
            .all(|answer| *answer.as_ref().expect("answered") == 200)
    );
}

/// Every alert ever stored.
pub(crate) fn alerts(variables: &Variables) -> Vec<Value> {
    serde_json::from_str(&print(
        variables,
        &["alerts", "list", "--all", "--members", "--json"],
    ))
    .expect("JSON")
}

/// Whether `alert` is in state `state` and the notification was delivered.
pub(crate) fn is_notified(alert: &Value, state: &str) -> bool {
    is_notified_by("slack", alert, state)
}

/// The same for another notifier.
pub(crate) fn is_notified_by(notifier: &str, alert: &Value, state: &str) -> bool {
    let notification = &alert["notifications"][notifier];
    alert["state"] == state
        && notification["delivered_revision"].as_i64() >= alert["revision"].as_i64()
        && notification["attempting_revision"].is_null()
}
