//! Posts messages to the one channel of an incoming webhook. Source:
//! <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>.

use async_trait::async_trait;
use revwatch_runtime::config::SlackConfig;
use revwatch_runtime::egress::HttpClient;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::super::http_outcome::{self, NoProof};
use super::super::{Capabilities, EgressClient, Notifier, Outcome, SetupError};
use super::{PROVIDER, blocks, is_interactive, text};
use crate::message::Message;

/// The notifier for an incoming webhook.
pub struct SlackWebhook {
    client: HttpClient,
    url: SecretString,
    per_second: f64,
    /// Whether interactions with its messages are received.
    interactive: bool,
}

/// Slack's error texts are a few bytes.
const MAX_RESPONSE_BYTES: usize = 4096;

const SETTING: &str = "slack.webhook_url (SLACK_WEBHOOK_URL)";

impl SlackWebhook {
    /// `None` without a URL. `per_second` are messages.
    pub fn configured(
        config: &SlackConfig,
        egress: &EgressClient,
        per_second: f64,
    ) -> Result<Option<Self>, SetupError> {
        let Some(url) = &config.webhook_url else {
            return Ok(None);
        };
        let url = egress.url(SETTING, url.expose_secret())?;
        Ok(Some(Self {
            client: egress.client()?,
            url: SecretString::from(String::from(url)),
            per_second,
            interactive: is_interactive(config),
        }))
    }
}

#[async_trait]
impl Notifier for SlackWebhook {
    fn name(&self) -> &'static str {
        "slack"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            edits: false,
            resolves: true,
        }
    }

    fn destination(&self, _route: &str) -> String {
        "slack".to_owned()
    }

    fn per_second(&self) -> f64 {
        self.per_second
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        let body = json!({"text": text(&message.text), "blocks": blocks(message, self.interactive), "unfurl_links": false});
        let response = match self
            .client
            .post(self.url.expose_secret())
            .json(&body)
            .send()
            .await
        {
            Ok(response) => response,
            Err(error) => return http_outcome::no_answer(PROVIDER, &error, SETTING),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let answer = http_outcome::body(response, MAX_RESPONSE_BYTES).await;
        let answer = answer.map(|body| String::from_utf8_lossy(&body).into_owned());
        let text = answer.as_deref().unwrap_or_default();
        let refused = failed(&http_outcome::word(text)).or_else(|| {
            http_outcome::refused(PROVIDER, status, &headers, SETTING, self.client.now())
        });
        let proof = match answer {
            Ok(text) if text.trim() == "ok" => Ok(Outcome::Delivered { receipt: None }),
            Ok(_) => Err(NoProof::Foreign),
            Err(why) => Err(why),
        };
        refused.unwrap_or_else(|| {
            proof.unwrap_or_else(|why| http_outcome::unproved(PROVIDER, &why, SETTING))
        })
    }
}

/// Error texts in Slack's answers, whatever the status. Source:
/// <https://docs.slack.dev/changelog/2016-05-17-changes-to-errors-for-incoming-webhooks>.
fn failed(word: &str) -> Option<Outcome> {
    let fix = match word {
        "no_service"
        | "no_service_id"
        | "no_team"
        | "team_disabled"
        | "no_active_hooks"
        | "invalid_token"
        | "channel_not_found"
        | "channel_is_archived"
        | "action_prohibited"
        | "user_not_found"
        | "posting_to_general_channel_denied" => {
            "the webhook or its channel was deleted or closed: create a new one for"
        }
        "invalid_payload" | "invalid_blocks" | "invalid_blocks_format" | "no_text" => {
            "this is a bug of revwatch, or the URL is not an incoming webhook of Slack:"
        }
        _ => return None,
    };
    Some(Outcome::Failed {
        reason: format!("{PROVIDER} answered {word}: {fix} {SETTING}"),
        permanent: true,
    })
}

#[cfg(test)]
mod tests {
    use revwatch_runtime::config::{Config, EgressConfig};

    use super::super::super::stub::{Reply, Stub, message};
    use super::*;

    fn webhook(url: &str) -> SlackWebhook {
        let config = SlackConfig {
            webhook_url: Some(SecretString::from(url.to_owned())),
            ..Config::load(None, &|_| None).expect("the defaults").slack
        };
        let egress = EgressClient::new(EgressConfig::default());
        SlackWebhook::configured(&config, &egress, 1.0)
            .expect("valid")
            .expect("configured")
    }

    #[tokio::test]
    async fn responses_map_to_outcomes() {
        let permanent = |part: &'static str| (Some(true), part);
        let table = [
            (Reply::ok("ok"), (None, "delivered")),
            (
                Reply::status(429).header("retry-after", "3"),
                (None, "retry_after"),
            ),
            (Reply::status(503), (None, "unknown")),
            (Reply::status(408), (Some(false), "408")),
            (
                Reply::ok("invalid_token").with_status(403),
                permanent("SLACK_WEBHOOK_URL"),
            ),
            (
                Reply::ok("no_service").with_status(404),
                permanent("SLACK_WEBHOOK_URL"),
            ),
            (
                Reply::ok("channel_not_found").with_status(500),
                permanent("channel_not_found"),
            ),
            (
                Reply::ok("channel_is_archived").with_status(410),
                permanent("SLACK_WEBHOOK_URL"),
            ),
            (
                Reply::ok("<html>who are you").with_status(403),
                permanent("SLACK_WEBHOOK_URL"),
            ),
            (
                Reply::ok("invalid_blocks").with_status(400),
                permanent("invalid_blocks"),
            ),
            (
                Reply::status(302).header("location", "/x"),
                permanent("redirects"),
            ),
            (Reply::silence(), (None, "unknown")),
            // Something else answers in Slack's place.
            (
                Reply::ok("<html><title>Please log in</title></html>"),
                permanent("SLACK_WEBHOOK_URL"),
            ),
            (Reply::status(200), permanent("not its own")),
            (Reply::ok("{\"ok\":true}"), permanent("not its own")),
            (
                Reply::ok(&"ok ".repeat(MAX_RESPONSE_BYTES)),
                permanent("not its own"),
            ),
        ];
        for (reply, expected) in table {
            let answer = reply.clone();
            let stub = Stub::answering(move |_| answer.clone()).await;
            let outcome = webhook(&format!("{}/T0/hidden", stub.url()))
                .deliver(&message())
                .await;
            match (&outcome, expected) {
                (Outcome::Failed { reason, permanent }, (Some(is), part)) => {
                    assert!(
                        *permanent == is && reason.contains(part),
                        "{reply:?}: {outcome:?}"
                    );
                }
                (other, (None, word)) => assert_eq!(other.as_str(), word, "{reply:?}: {outcome:?}"),
                _ => panic!("{reply:?}: {outcome:?}"),
            }
            assert!(!format!("{outcome:?}").contains("hidden"), "{outcome:?}");
            assert_eq!(stub.requests().len(), 1);
        }
        let closed = webhook("http://127.0.0.1:1/hidden")
            .deliver(&message())
            .await;
        assert!(
            matches!(&closed, Outcome::Failed { permanent: false, reason } if !reason.contains("hidden"))
        );
    }

    #[tokio::test]
    async fn posts_text_and_blocks() {
        let stub = Stub::answering(|_| Reply::ok("ok")).await;
        let long = Message {
            text: "x".repeat(MAX_CHARS + 5),
            ..message()
        };
        let outcome = webhook(&stub.url()).deliver(&long).await;
        assert_eq!(outcome, Outcome::Delivered { receipt: None });
        let body = stub.requests()[0].json();
        assert_eq!(
            body["text"].as_str().map(|t| t.chars().count()),
            Some(MAX_CHARS)
        );
        assert_eq!(body["blocks"], message().blocks);
    }

    const MAX_CHARS: usize = super::super::MAX_TEXT_CHARS;
}
