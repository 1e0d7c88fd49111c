//! Signed webhooks to a program of the user's, as specified by Standard Webhooks. Source:
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.
//!
//! The `webhook-id` identifies one state of one message. All attempts to deliver a state have the
//! same id, so a receiver that remembers ids processes each state once; the next state has another
//! id.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use reqwest::header::CONTENT_TYPE;
use revwatch_runtime::config::WebhookConfig;
use revwatch_runtime::egress::HttpClient;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Capabilities, EgressClient, Notifier, Outcome, SetupError, complete, http_outcome};
use crate::alert::AlertState;
use crate::message::Message;

/// Posts signed webhooks.
pub struct Webhook {
    client: HttpClient,
    url: SecretString,
    keys: Vec<Key>,
    per_second: f64,
}

/// One secret, with its HMAC key schedule computed once.
struct Key(Hmac<Sha256>);

const URL: &str = "webhook.url (REVWATCH_WEBHOOK_URL)";
const SECRET: &str = "webhook.secret (REVWATCH_WEBHOOK_SECRET)";
const PROVIDER: &str = "the webhook's receiver";
/// Allowed number of random bytes in a secret.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

impl Webhook {
    /// `None` if neither URL nor secret is set. `per_second` are webhooks.
    pub fn configured(
        config: &WebhookConfig,
        egress: &EgressClient,
        per_second: f64,
    ) -> Result<Option<Self>, SetupError> {
        complete(
            "the webhook",
            &[
                (URL, config.url.is_some()),
                (SECRET, config.secret.is_some()),
            ],
        )?;
        let (Some(url), Some(secrets)) = (&config.url, &config.secret) else {
            return Ok(None);
        };
        let url = SecretString::from(String::from(egress.url(URL, url.expose_secret())?));
        let secrets = secrets
            .expose_secret()
            .split([',', ' ', '\t', '\r', '\n'])
            .filter(|secret| !secret.is_empty());
        let keys = secrets
            .map(Key::new)
            .collect::<Option<Vec<_>>>()
            .filter(|keys| !keys.is_empty());
        let keys = keys.ok_or_else(|| {
            SetupError::Invalid(format!(
                "{SECRET} must be whsec_ and 24 to 64 random bytes in base64: create it with `openssl rand -base64 32`"
            ))
        })?;
        Ok(Some(Self {
            client: egress.client()?,
            url,
            keys,
            per_second,
        }))
    }

    fn signatures(&self, id: &str, timestamp_s: i64, body: &str) -> String {
        let signatures: Vec<_> = self
            .keys
            .iter()
            .map(|key| key.sign(id, timestamp_s, body))
            .collect();
        signatures.join(" ")
    }
}

impl Key {
    fn new(secret: &str) -> Option<Self> {
        let bytes = STANDARD.decode(secret.strip_prefix("whsec_")?).ok()?;
        let key = Hmac::new_from_slice(&bytes).ok()?;
        SECRET_BYTES.contains(&bytes.len()).then_some(Self(key))
    }

    fn sign(&self, id: &str, timestamp_s: i64, body: &str) -> String {
        let mut mac = self.0.clone();
        mac.update(format!("{id}.{timestamp_s}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[async_trait]
impl Notifier for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            edits: true,
            resolves: true,
        }
    }

    fn destination(&self, _route: &str) -> String {
        "webhook".to_owned()
    }

    fn per_second(&self) -> f64 {
        self.per_second
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        let (id, now) = (id(message), self.client.now());
        let body = body(message, now).to_string();
        let request = self
            .client
            .post(self.url.expose_secret())
            .header(CONTENT_TYPE, "application/json");
        let request = request
            .header("webhook-timestamp", now.as_second())
            .header(
                "webhook-signature",
                self.signatures(&id, now.as_second(), &body),
            )
            .header("webhook-id", &id);
        let response = match request.body(body).send().await {
            Ok(response) => response,
            Err(error) => return http_outcome::no_answer(PROVIDER, &error),
        };
        let settings =
            "webhook.url (REVWATCH_WEBHOOK_URL) and webhook.secret (REVWATCH_WEBHOOK_SECRET)";
        http_outcome::refused(
            PROVIDER,
            response.status(),
            response.headers(),
            settings,
            self.client.now(),
        )
        .unwrap_or(Outcome::Delivered { receipt: Some(id) })
    }
}

/// Full stops separate the signed parts, so an id must not contain any.
fn id(message: &Message) -> String {
    format!("{}_{}", message.delivery_id, message.revision).replace('.', "-")
}

fn body(message: &Message, now: Timestamp) -> Value {
    let kind = match (message.notice, message.state) {
        (Some(_), _) => "alert.notice",
        (None, AlertState::Resolved) => "alert.resolved",
        (None, AlertState::Acknowledged) => "alert.acknowledged",
        (None, AlertState::Firing) if message.receipt.is_some() => "alert.changed",
        (None, AlertState::Firing) => "alert.firing",
    };
    // The time of firing is known. The time of the change is not, but the webhook follows within
    // seconds.
    let fired = Timestamp::from_second(message.fired_s)
        .ok()
        .filter(|_| kind == "alert.firing");
    let mut data = match &message.details {
        Value::Object(details) => Value::Object(details.clone()),
        other => json!({"details": other}),
    };
    data["alert_id"] = message.alert_id.as_str().into();
    data["revision"] = message.revision.into();
    data["headline"] = message.headline.as_str().into();
    data["text"] = message.text.as_str().into();
    data["possible_duplicate"] = message.possible_duplicate.into();
    if let Some(notice) = message.notice {
        data["notice"] = json!(notice);
    }
    json!({"type": kind, "timestamp": fired.unwrap_or(now).to_string(), "data": data})
}

#[cfg(test)]
mod tests {
    use revwatch_runtime::config::EgressConfig;

    use super::super::stub::{Reply, Stub, message};
    use super::*;
    use crate::alert::NoticeKind;

    /// From the specification's own tests.
    const SECRET_OF_SPEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn configured(url: &str, secret: &str) -> Result<Option<Webhook>, SetupError> {
        let some = |text: &str| (!text.is_empty()).then(|| SecretString::from(text.to_owned()));
        let config = WebhookConfig {
            url: some(url),
            secret: some(secret),
        };
        Webhook::configured(&config, &EgressClient::new(EgressConfig::default()), 1.0)
    }

    fn webhook(url: &str, secret: &str) -> Webhook {
        configured(url, secret).expect("valid").expect("configured")
    }

    /// <https://github.com/standard-webhooks/standard-webhooks/blob/main/libraries/go/webhook_test.go>
    #[test]
    fn the_signature_matches_the_specification() {
        let webhook = webhook("https://hooks.example", SECRET_OF_SPEC);
        let signature = webhook.signatures(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[tokio::test]
    async fn attempts_share_an_id_states_have_their_own_and_every_secret_signs() {
        let stub = Stub::answering(|_| Reply::status(204)).await;
        let other = format!("whsec_{}", STANDARD.encode([7; 32]));
        let webhook = webhook(&stub.url(), &format!("{SECRET_OF_SPEC}, {other}"));
        let changed = Message {
            revision: 2,
            receipt: Some("x".into()),
            ..message()
        };
        let resolved = Message {
            revision: 3,
            state: AlertState::Resolved,
            ..changed.clone()
        };
        let taken = Message {
            revision: 3,
            state: AlertState::Acknowledged,
            ..changed.clone()
        };
        let notice = Message {
            delivery_id: "al_1-1".into(),
            notice: Some(NoticeKind::Escalated(0)),
            ..message()
        };
        for message in [message(), message(), changed, resolved, taken, notice] {
            let outcome = webhook.deliver(&message).await;
            assert_eq!(
                outcome,
                Outcome::Delivered {
                    receipt: Some(id(&message))
                }
            );
        }
        let requests = stub.requests();
        let of = |name: &str| -> Vec<String> {
            requests
                .iter()
                .map(|r| r.header(name).expect("there").to_owned())
                .collect()
        };
        assert_eq!(
            of("webhook-id"),
            [
                "al_1-0_1", "al_1-0_1", "al_1-0_2", "al_1-0_3", "al_1-0_3", "al_1-1_1"
            ]
        );
        let kinds: Vec<_> = requests
            .iter()
            .map(|r| r.json()["type"].as_str().map(str::to_owned))
            .collect();
        let expected = [
            "firing",
            "firing",
            "changed",
            "resolved",
            "acknowledged",
            "notice",
        ];
        assert_eq!(kinds, expected.map(|kind| Some(format!("alert.{kind}"))));
        for request in &requests {
            let (id, at) = (
                request.header("webhook-id").expect("id"),
                request.header("webhook-timestamp").expect("time"),
            );
            let expected = webhook.signatures(id, at.parse().expect("seconds"), &request.body);
            assert_eq!(request.header("webhook-signature"), Some(expected.as_str()));
            assert_eq!(expected.split(' ').count(), 2);
            assert_eq!(request.json()["data"]["text"], message().text);
        }
        assert_eq!(requests[0].json()["timestamp"], "2025-11-20T10:00:00Z");
    }

    #[tokio::test]
    async fn responses_map_to_outcomes() {
        let table = [
            (Reply::ok("thanks"), "delivered"),
            (Reply::status(429).header("retry-after", "9"), "retry_after"),
            (Reply::status(502), "failed"),
            (Reply::status(408), "failed"),
            (Reply::status(301).header("location", "/x"), "permanent"),
            (Reply::status(401), "permanent"),
            (Reply::status(410), "permanent"),
            (Reply::silence(), "unknown"),
        ];
        for (reply, expected) in table {
            let answer = reply.clone();
            let stub = Stub::answering(move |_| answer.clone()).await;
            let outcome = webhook(&format!("{}/hidden", stub.url()), SECRET_OF_SPEC)
                .deliver(&message())
                .await;
            let outcome_text = format!("{outcome:?}");
            assert_eq!(outcome.as_str(), expected, "{reply:?}: {outcome_text}");
            assert!(
                !outcome_text.contains("hidden")
                    && (expected != "permanent" || outcome_text.contains("REVWATCH_WEBHOOK_URL"))
            );
        }
    }

    #[test]
    fn a_partial_configuration_and_weak_secrets_are_refused() {
        assert!(configured("", "").expect("valid").is_none());
        let table = [
            (
                "https://hooks.example",
                "",
                "webhook.secret (REVWATCH_WEBHOOK_SECRET) is missing",
            ),
            (
                "",
                SECRET_OF_SPEC,
                "webhook.url (REVWATCH_WEBHOOK_URL) is missing",
            ),
            ("https://hooks.example", "whsec_aGlkZGVu", "24 to 64"),
            ("https://hooks.example", "hidden", "24 to 64"),
            ("https://hooks.example", ",", "24 to 64"),
            ("https://10.0.0.1/hidden", SECRET_OF_SPEC, "private"),
        ];
        for (url, secret, expected) in table {
            let Err(error) = configured(url, secret) else {
                panic!("{url} {secret}")
            };
            let error = error.to_string();
            assert!(
                error.contains(expected) && !error.contains("hidden"),
                "{error}"
            );
        }
    }
}
