//! Slack, in its two forms.
//!
//! With a bot token an alert is one message, posted with `chat.postMessage` and changed in place with
//! `chat.update`. With an incoming webhook it is two: messages sent that way cannot be changed.
//! Sources: <https://docs.slack.dev/reference/methods/chat.postMessage>,
//! <https://docs.slack.dev/reference/methods/chat.update>,
//! <https://docs.slack.dev/apis/web-api/rate-limits>.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Client, Response, StatusCode, header, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::{Habits, Notifier, Outcome};
use crate::message::Message;

/// Posts and updates messages as a Slack app.
pub struct SlackBot {
    client: Client,
    token: SecretString,
    api_base: String,
    channels: BTreeMap<String, String>,
    per_second: f64,
}

/// Posts messages to the one channel of an incoming webhook.
pub struct SlackWebhook {
    client: Client,
    url: SecretString,
    per_second: f64,
}

impl SlackBot {
    /// `channels` by route, with `default` for the rest. Fails when no TLS roots are to be found.
    pub fn new(
        token: SecretString,
        api_base: &str,
        channels: BTreeMap<String, String>,
        per_second: f64,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self { client: client()?, token, api_base: api_base.trim_end_matches('/').to_owned(), channels, per_second })
    }

    fn channel(&self, route: &str) -> &str {
        let listed = self.channels.get(route).or_else(|| self.channels.get("default"));
        listed.map_or("#alerts-critical", String::as_str)
    }
}

impl SlackWebhook {
    /// `url` is the whole secret URL.
    pub fn new(url: SecretString, per_second: f64) -> Result<Self, reqwest::Error> {
        Ok(Self { client: client()?, url, per_second })
    }
}

/// Redirects are not followed: a message goes where the configuration says, or nowhere.
fn client() -> Result<Client, reqwest::Error> {
    Client::builder()
        .timeout(Duration::from_secs(10))
        .connect_timeout(Duration::from_secs(5))
        .redirect(redirect::Policy::none())
        .user_agent(concat!("revwatch/", env!("CARGO_PKG_VERSION")))
        .build()
}

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    error: Option<String>,
    channel: Option<String>,
    ts: Option<String>,
}

#[async_trait]
impl Notifier for SlackBot {
    fn name(&self) -> &'static str {
        "slack"
    }

    fn habits(&self) -> Habits {
        Habits { edits: true, resolves: true }
    }

    fn destination(&self, route: &str) -> String {
        format!("slack {}", self.channel(route))
    }

    fn per_second(&self) -> f64 {
        self.per_second
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        let receipt = message.receipt.as_deref();
        // A receipt is `channel:ts`, the two things that chat.update wants.
        let posted = receipt.and_then(|r| r.split_once(':'));
        let mut body = json!({
            "channel": self.channel(&message.route),
            "text": message.text,
            "blocks": message.blocks,
            "unfurl_links": false,
            "metadata": {"event_type": "revwatch_alert", "event_payload": {"alert_id": message.alert_id, "revision": message.revision}},
        });
        let method = match posted {
            Some((channel, ts)) => {
                body["channel"] = channel.into();
                body["ts"] = ts.into();
                "chat.update"
            }
            None => "chat.postMessage",
        };
        let request = self.client.post(format!("{}/{method}", self.api_base)).json(&body);
        let response = match request.bearer_auth(self.token.expose_secret()).send().await {
            Ok(response) => response,
            Err(error) => return not_sent(&error),
        };
        if let Some(outcome) = refused(&response) {
            return outcome;
        }
        match response.json::<Answer>().await {
            Ok(Answer { ok: true, channel, ts, .. }) => Outcome::Delivered {
                receipt: channel.zip(ts).map(|(channel, ts)| format!("{channel}:{ts}")).or(receipt.map(str::to_owned)),
            },
            Ok(Answer { error, .. }) => api_error(error.as_deref().unwrap_or("no reason given"), posted.is_some()),
            Err(error) => {
                Outcome::Unknown { reason: format!("Slack's answer cannot be read: {}", error.without_url()) }
            }
        }
    }
}

#[async_trait]
impl Notifier for SlackWebhook {
    fn name(&self) -> &'static str {
        "slack"
    }

    fn habits(&self) -> Habits {
        Habits { edits: false, resolves: true }
    }

    fn destination(&self, _route: &str) -> String {
        "slack".to_owned()
    }

    fn per_second(&self) -> f64 {
        self.per_second
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        let body = json!({"text": message.text, "blocks": message.blocks});
        let response = match self.client.post(self.url.expose_secret()).json(&body).send().await {
            Ok(response) => response,
            Err(error) => return not_sent(&error),
        };
        refused(&response).unwrap_or(Outcome::Delivered { receipt: None })
    }
}

/// What the status alone decides.
fn refused(response: &Response) -> Option<Outcome> {
    let status = response.status();
    if status == StatusCode::TOO_MANY_REQUESTS {
        let seconds = response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.trim().parse().ok());
        // Slack always says how long; whoever does not is asked again soon.
        let seconds: i64 = seconds.unwrap_or(5);
        return Some(Outcome::RetryAfter { wait_ms: seconds.clamp(1, 3600) * 1000 });
    }
    if status.is_success() {
        return None;
    }
    let permanent = !status.is_server_error();
    Some(Outcome::Failed { reason: format!("Slack answered {status}"), permanent })
}

/// A connection that was never made told nobody anything; anything later may have.
fn not_sent(error: &reqwest::Error) -> Outcome {
    let mut reason = if error.is_timeout() { "timeout".to_owned() } else { "connection failed".to_owned() };
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        reason = format!("{reason}: {inner}");
        cause = inner.source();
    }
    if error.is_connect() || error.is_builder() {
        Outcome::Failed { reason, permanent: error.is_builder() }
    } else {
        Outcome::Unknown { reason }
    }
}

/// Slack's error words.
fn api_error(word: &str, updating: bool) -> Outcome {
    match word {
        "ratelimited" | "rate_limited" => Outcome::RetryAfter { wait_ms: 30_000 },
        "message_not_found" | "cant_update_message" | "edit_window_closed" if updating => Outcome::Gone,
        "internal_error" | "fatal_error" | "service_unavailable" | "request_timeout" => {
            Outcome::Failed { reason: format!("Slack answered {word}"), permanent: false }
        }
        _ => {
            let fix = match word {
                "invalid_auth" | "not_authed" | "token_revoked" | "account_inactive" => ": check SLACK_BOT_TOKEN",
                "missing_scope" => ": give the app the scope chat:write",
                "channel_not_found" | "not_in_channel" | "is_archived" => {
                    ": check [slack.channels] and invite the app to the channel"
                }
                _ => "",
            };
            Outcome::Failed { reason: format!("Slack answered {word}{fix}"), permanent: true }
        }
    }
}
