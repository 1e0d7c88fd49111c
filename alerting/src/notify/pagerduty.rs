//! PagerDuty's Events API v2: an alert is one incident, identified by its dedup_key. Sending the
//! same event twice changes nothing.
//!
//! Sources: <https://developer.pagerduty.com/docs/events-api-v2-overview>,
//! <https://developer.pagerduty.com/docs/send-alert-event>,
//! <https://github.com/PagerDuty/api-schema/blob/main/reference/events-v2/openapiv3.json>.

use async_trait::async_trait;
use jiff::Timestamp;
use revwatch_runtime::config::PagerDutyConfig;
use revwatch_runtime::egress::HttpClient;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{Capabilities, EgressClient, Lookup, Notifier, Outcome, SetupError, http_outcome};
use crate::alert::AlertState;
use crate::message::Message;
use crate::rule::Severity;

/// Triggers, acknowledges and resolves incidents.
pub struct PagerDuty {
    client: HttpClient,
    routing_key: SecretString,
    url: String,
    per_second: f64,
}

/// Maximum number of characters.
const MAX_SUMMARY_CHARS: usize = 1024;
const PROVIDER: &str = "PagerDuty";

impl PagerDuty {
    /// `None` without a routing key. `per_second` are events.
    pub fn configured(
        config: &PagerDutyConfig,
        egress: &EgressClient,
        per_second: f64,
    ) -> Result<Option<Self>, SetupError> {
        let Some(routing_key) = config.routing_key.clone() else {
            return Ok(None);
        };
        let url = format!(
            "{}/v2/enqueue",
            egress.base("pagerduty.api_base", &config.api_base)?
        );
        Ok(Some(Self {
            client: egress.client()?,
            routing_key,
            url,
            per_second,
        }))
    }

    fn event(&self, message: &Message) -> Value {
        // A late notice must not reopen a resolved incident.
        let action = match (message.state, message.notice) {
            (AlertState::Resolved, _) => "resolve",
            (AlertState::Acknowledged, None) => "acknowledge",
            _ => "trigger",
        };
        let severity = match message.severity {
            Severity::Critical => "critical",
            Severity::High => "error",
            Severity::Medium => "warning",
            Severity::Low => "info",
        };
        let runbook = message.details.get("runbook").and_then(Value::as_str);
        let runbook =
            runbook.filter(|link| link.starts_with("https://") || link.starts_with("http://"));
        let links: Vec<_> = runbook
            .map(|href| json!({"href": href, "text": "Runbook"}))
            .into_iter()
            .collect();
        json!({
            "routing_key": self.routing_key.expose_secret().trim(),
            "event_action": action,
            "dedup_key": message.alert_id,
            "client": "revwatch",
            "links": links,
            "payload": {
                "summary": http_outcome::clamp(&message.headline, MAX_SUMMARY_CHARS),
                "source": "revwatch",
                "severity": severity,
                "timestamp": Timestamp::from_second(message.fired_s).ok().map(|at| at.to_string()),
                "class": message.rule,
                "custom_details": message.details,
            },
        })
    }
}

#[async_trait]
impl Notifier for PagerDuty {
    fn name(&self) -> &'static str {
        "pagerduty"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            edits: true,
            resolves: true,
        }
    }

    fn destination(&self, _route: &str) -> String {
        "pagerduty".to_owned()
    }

    fn per_second(&self) -> f64 {
        self.per_second
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        let response = match self
            .client
            .post(&self.url)
            .json(&self.event(message))
            .send()
            .await
        {
            Ok(response) => response,
            Err(error) => return http_outcome::no_answer(PROVIDER, &error),
        };
        let settings = "pagerduty.routing_key (PAGERDUTY_ROUTING_KEY) and pagerduty.api_base";
        http_outcome::refused(
            PROVIDER,
            response.status(),
            response.headers(),
            settings,
            self.client.now(),
        )
        .unwrap_or_else(|| Outcome::Delivered {
            receipt: Some(message.alert_id.clone()),
        })
    }

    /// Events cannot be queried with a routing key, and need not be: sending the same event again
    /// changes nothing.
    async fn find(&self, _message: &Message) -> Lookup {
        Lookup::Absent
    }
}

#[cfg(test)]
mod tests {
    use revwatch_runtime::config::EgressConfig;

    use super::super::stub::{Reply, Stub, message};
    use super::*;
    use crate::alert::NoticeKind;

    fn pagerduty(base: &str) -> PagerDuty {
        let config = PagerDutyConfig {
            routing_key: Some("hidden".to_owned().into()),
            api_base: base.to_owned(),
        };
        let egress = EgressClient::new(EgressConfig::default());
        PagerDuty::configured(&config, &egress, 1.0)
            .expect("valid")
            .expect("configured")
    }

    #[tokio::test]
    async fn responses_map_to_outcomes() {
        let table = [
            (
                Reply::ok(r#"{"status":"success"}"#).with_status(202),
                "delivered",
                "",
            ),
            (Reply::status(429), "retry_after", ""),
            (Reply::status(500), "failed", "500"),
            (
                Reply::ok(r#"{"errors":["routing_key hidden"]}"#).with_status(400),
                "permanent",
                "PAGERDUTY_ROUTING_KEY",
            ),
            (Reply::status(404), "permanent", "pagerduty.api_base"),
            (Reply::silence(), "unknown", ""),
        ];
        for (reply, expected, part) in table {
            let answer = reply.clone();
            let stub = Stub::answering(move |_| answer.clone()).await;
            let outcome = pagerduty(&stub.url()).deliver(&message()).await;
            let outcome_text = format!("{outcome:?}");
            assert_eq!(outcome.as_str(), expected, "{reply:?}: {outcome_text}");
            assert!(
                outcome_text.contains(part) && !outcome_text.contains("hidden"),
                "{outcome_text}"
            );
        }
        let closed = pagerduty("http://127.0.0.1:1").deliver(&message()).await;
        assert_eq!(closed.as_str(), "failed");
        assert_eq!(
            pagerduty("http://127.0.0.1:1").find(&message()).await,
            Lookup::Absent
        );
    }

    #[tokio::test]
    async fn the_incident_follows_the_alert() {
        use AlertState::{Acknowledged, Firing, Resolved};
        let notice = Some(NoticeKind::ResolveSoon);
        let table = [
            (Firing, None, "trigger"),
            (Firing, notice, "trigger"),
            (Acknowledged, None, "acknowledge"),
            (Acknowledged, notice, "trigger"),
            (Resolved, None, "resolve"),
            (Resolved, notice, "resolve"),
        ];
        let stub = Stub::answering(|_| Reply::status(202)).await;
        let pagerduty = pagerduty(&stub.url());
        for (state, notice, expected) in table {
            let message = Message {
                state,
                notice,
                headline: "x".repeat(2000),
                ..message()
            };
            let outcome = pagerduty.deliver(&message).await;
            assert_eq!(
                outcome,
                Outcome::Delivered {
                    receipt: Some("al_1".into())
                }
            );
            let event = stub.requests().pop().expect("a request").json();
            assert_eq!(
                (&event["event_action"], &event["dedup_key"]),
                (&json!(expected), &json!("al_1"))
            );
            assert_eq!(event["payload"]["severity"], "error");
            assert_eq!(
                event["payload"]["summary"]
                    .as_str()
                    .map(|s| s.chars().count()),
                Some(1024)
            );
            assert_eq!(
                event["links"][0]["href"],
                "https://runbooks.example/payouts"
            );
            assert_eq!(event["payload"]["custom_details"], message.details);
        }
        assert_eq!(stub.requests()[0].path, "/v2/enqueue");
    }
}
