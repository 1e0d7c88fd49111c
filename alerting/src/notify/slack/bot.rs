//! Posts and updates messages as a Slack app.
//!
//! Sources: <https://docs.slack.dev/reference/methods/chat.postMessage>,
//! <https://docs.slack.dev/reference/methods/chat.update>,
//! <https://docs.slack.dev/apis/web-api/rate-limits>.

#[cfg(test)]
mod tests;

use async_trait::async_trait;
use revwatch_runtime::config::SlackConfig;
use revwatch_runtime::egress::HttpClient;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout, timeout_at};

use super::super::http_outcome::{self, NoProof};
use super::super::{
    ATTEMPT_TIMEOUT, Capabilities, EgressClient, Lookup, Notifier, Outcome, SetupError,
};
use super::channels::{Channels, Id};
use super::search::{Search, SearchError};
use super::{API_BASE, EVENT_TYPE, PROVIDER, blocks, id, is_interactive, text};
use crate::alert::{AlertState, NoticeKind};
use crate::message::Message;

/// The notifier for a Slack app.
pub struct SlackBot {
    client: HttpClient,
    token: SecretString,
    api_base: String,
    channels: Channels,
    search: Search,
    per_second: f64,
    /// Whether interactions with its messages are received.
    interactive: bool,
}

const POST: &str = "chat.postMessage";
const UPDATE: &str = "chat.update";

/// Maximum size of Slack's answers, which contain the posted message.
const MAX_RESPONSE_BYTES: usize = 1 << 20;

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    error: Option<String>,
    channel: Option<String>,
    ts: Option<String>,
}

impl SlackBot {
    /// `None` without a token. `per_second` are messages to one channel.
    pub fn configured(
        config: &SlackConfig,
        egress: &EgressClient,
        per_second: f64,
    ) -> Result<Option<Self>, SetupError> {
        let Some(token) = &config.bot_token else {
            return Ok(None);
        };
        let api_base = egress.base(API_BASE, &config.api_base)?;
        let client = egress.client()?;
        let search = Search::new(client.clone(), token.clone(), api_base.clone());
        let channels = Channels::new(config.channels.clone());
        Ok(Some(Self {
            client,
            token: token.clone(),
            api_base,
            channels,
            search,
            per_second,
            interactive: is_interactive(config),
        }))
    }

    /// The thread of `message`, as channel and ts: that of its alert, if it is in the channel of
    /// this message.
    fn thread<'a>(&self, message: &'a Message) -> Option<(&'a str, &'a str)> {
        message.notice?;
        let (id, ts) = message.thread.as_deref()?.split_once(':')?;
        let channel = self.channels.for_route(&message.route);
        let is_there = match self.channels.id(channel) {
            Id::Is(known) => known == id,
            // If all routes share one channel, it is the alert's too.
            _ => self.channels.is_one(),
        };
        is_there.then_some((id, ts))
    }

    /// The method that delivers `message`, and its arguments.
    fn request(&self, message: &Message) -> (&'static str, Value) {
        let mut body = json!({
            "channel": self.channels.for_route(&message.route),
            "text": text(&message.text),
            "blocks": blocks(message, self.interactive),
            "unfurl_links": false,
            "metadata": {"event_type": EVENT_TYPE, "event_payload": {
                "delivery_id": id(message),
                "alert_id": message.alert_id,
                "revision": message.revision,
            }},
        });
        // A receipt is `channel:ts`, the two values that chat.update needs.
        let posted = message.receipt.as_deref().and_then(|r| r.split_once(':'));
        if let Some((channel, ts)) = posted {
            body["channel"] = channel.into();
            body["ts"] = ts.into();
            return (UPDATE, body);
        }
        if let Some((id, ts)) = self.thread(message) {
            body["channel"] = id.into();
            body["thread_ts"] = ts.into();
            // An escalation, and what happened again, is also shown in the channel; other notices only in the thread.
            if let Some(NoticeKind::Escalated(_) | NoticeKind::Again(_)) = message.notice
                && message.state != AlertState::Resolved
            {
                body["reply_broadcast"] = true.into();
            }
        }
        (POST, body)
    }

    /// A channel that does not exist yet, as in a new installation, must not hide an alert: it is posted where the
    /// other routes are, and says so with the fix. Returns whether there is such a channel.
    fn post_in_default(&self, message: &Message, body: &mut Value, fix: &str) -> bool {
        let (wanted, default) = (
            self.channels.for_route(&message.route),
            self.channels.default(),
        );
        if body["channel"] != wanted || wanted == default {
            return false;
        }
        let fix = format!(
            "This is for {wanted}: {fix}, or list another channel for the route {} in [slack.channels].",
            message.route
        );
        body["channel"] = default.into();
        body["text"] = text(&format!("{}\n{fix}", message.text)).into();
        let note = json!({"type": "plain_text", "text": fix});
        if let Some(blocks) = body["blocks"].as_array_mut() {
            blocks.push(json!({"type": "context", "elements": [note]}));
        }
        true
    }

    /// The outcome of a call that succeeded; learns the channel's id from it.
    fn delivered(&self, message: &Message, body: &Value, answer: Answer) -> Outcome {
        let channel = self.channels.for_route(&message.route);
        if let Some(id) = &answer.channel
            && body["channel"] == channel
        {
            self.channels.learn(channel, id);
        }
        // Slack's answer names the message; without that, a search must find it.
        match answer.channel.zip(answer.ts) {
            Some((id, ts)) => Outcome::Delivered {
                receipt: Some(format!("{id}:{ts}")),
            },
            None => http_outcome::unproved(PROVIDER, &NoProof::Unclear, API_BASE),
        }
    }

    /// Calls the API once. Returns within the time left of `until`.
    async fn call(&self, method: &str, body: &Value, until: Instant) -> Result<Answer, Outcome> {
        let request = self
            .client
            .post(format!("{}/{method}", self.api_base))
            .json(body);
        let sending = async {
            let sent = request.bearer_auth(self.token.expose_secret()).send().await;
            let response =
                sent.map_err(|error| http_outcome::no_answer(PROVIDER, &error, API_BASE))?;
            let refused = http_outcome::refused(
                PROVIDER,
                response.status(),
                response.headers(),
                API_BASE,
                self.client.now(),
            );
            if let Some(outcome) = refused {
                return Err(outcome);
            }
            let read = http_outcome::json(response, MAX_RESPONSE_BYTES).await;
            read.map_err(|why| http_outcome::unproved(PROVIDER, &why, API_BASE))
        };
        let answered = timeout_at(until, sending).await;
        answered.unwrap_or_else(|_| {
            Err(Outcome::Unknown {
                reason: format!("{PROVIDER}: no answer in time"),
            })
        })
    }

    async fn search_message(&self, message: &Message) -> Result<Lookup, SearchError> {
        let mut hit = None;
        if let Some((id, ts)) = self.thread(message) {
            hit = self.search.in_thread(message, id, ts).await?;
        }
        if hit.is_none() {
            let channel = self.channels.for_route(&message.route);
            let id = self.search.id(&self.channels, channel).await?;
            hit = self.search.in_channel(message, &id).await?;
        }
        Ok(match hit {
            Some(hit) => Lookup::Found {
                receipt: Some(hit.receipt),
                revision: Some(hit.revision),
            },
            None => Lookup::Absent,
        })
    }
}

#[async_trait]
impl Notifier for SlackBot {
    fn name(&self) -> &'static str {
        "slack"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            edits: true,
            resolves: true,
        }
    }

    fn destination(&self, route: &str) -> String {
        format!("slack {}", self.channels.for_route(route))
    }

    fn per_second(&self) -> f64 {
        self.per_second
    }

    async fn probe(&self) -> Option<Result<(), String>> {
        let until = Instant::now() + ATTEMPT_TIMEOUT;
        Some(match self.call("auth.test", &json!({}), until).await {
            Ok(answer) if answer.ok => Ok(()),
            Ok(Answer { error, .. }) => {
                let code = http_outcome::word(&error.unwrap_or_default());
                Err(format!(
                    "{PROVIDER} answered {code}: check slack.bot_token (SLACK_BOT_TOKEN)"
                ))
            }
            Err(outcome) => Err(outcome.reason()),
        })
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        let until = Instant::now() + ATTEMPT_TIMEOUT;
        let (method, mut body) = self.request(message);
        let mut answer = self.call(method, &body, until).await;
        // The alert's message was deleted, so the notice is posted on its own. It was not delivered
        // so far.
        if is_thread_missing(&answer) && leave_thread(&mut body) {
            answer = self.call(method, &body, until).await;
        }
        let mut first = None;
        if let Some(fix) = channel_fix(&answer)
            && self.post_in_default(message, &mut body, fix)
        {
            first = answer.ok().and_then(|answer| answer.error);
            answer = self.call(method, &body, until).await;
        }
        let outcome = match answer {
            Ok(answer) if answer.ok => return self.delivered(message, &body, answer),
            Ok(Answer { error, .. }) => {
                let code = http_outcome::word(&error.unwrap_or_default());
                let channel = body["channel"].as_str().unwrap_or_default();
                failed(&code, channel, method == UPDATE)
            }
            Err(outcome) => outcome,
        };
        let channel = self.channels.for_route(&message.route);
        match (first, outcome) {
            (Some(code), Outcome::Failed { reason, permanent }) => Outcome::Failed {
                reason: format!(
                    "{}; then {reason}",
                    failed(&http_outcome::word(&code), channel, false).reason()
                ),
                permanent,
            },
            (_, outcome) => outcome,
        }
    }

    async fn find(&self, message: &Message) -> Lookup {
        // An update in place can be repeated.
        if message.receipt.is_some() {
            return Lookup::Repeatable;
        }
        match timeout(ATTEMPT_TIMEOUT, self.search_message(message)).await {
            Ok(Ok(lookup)) => lookup,
            Ok(Err(SearchError::Later(reason))) => Lookup::Later { reason },
            Ok(Err(SearchError::Never)) => Lookup::Inconclusive,
            Err(_) => Lookup::Later {
                reason: format!("{PROVIDER}: no answer in time"),
            },
        }
    }
}

fn is_thread_missing(answer: &Result<Answer, Outcome>) -> bool {
    const CODES: [&str; 3] = [
        "thread_not_found",
        "message_not_found",
        "cannot_reply_to_message",
    ];
    is_error(answer, &CODES)
}

/// What to do about a channel that takes no messages.
const CHANNEL_FIXES: [(&str, &str); 4] = [
    (
        "channel_not_found",
        "create that channel and invite the app",
    ),
    ("not_in_channel", "invite the app to that channel"),
    ("is_archived", "unarchive that channel and invite the app"),
    ("restricted_action", "let the app post in that channel"),
];

/// The fix if the channel takes no messages.
fn channel_fix(answer: &Result<Answer, Outcome>) -> Option<&'static str> {
    let fixes = CHANNEL_FIXES.into_iter();
    let mut fixes = fixes.filter(|(code, _)| is_error(answer, &[*code]));
    fixes.next().map(|(_, fix)| fix)
}

fn is_error(answer: &Result<Answer, Outcome>, codes: &[&str]) -> bool {
    let Ok(Answer {
        ok: false,
        error: Some(code),
        ..
    }) = answer
    else {
        return false;
    };
    codes.contains(&code.as_str())
}

/// Makes it a message of its own. Returns whether it was to be posted in a thread.
fn leave_thread(body: &mut Value) -> bool {
    let Some(fields) = body.as_object_mut() else {
        return false;
    };
    fields.remove("reply_broadcast");
    fields.remove("thread_ts").is_some()
}

/// Slack's error codes, for a message to `channel`.
fn failed(code: &str, channel: &str, is_update: bool) -> Outcome {
    let reason = format!("{PROVIDER} answered {code} for the channel {channel}");
    if let Some((_, fix)) = CHANNEL_FIXES.iter().find(|(known, _)| *known == code) {
        return Outcome::Failed {
            reason: format!("{reason}: {fix}, or change [slack.channels]"),
            permanent: true,
        };
    }
    let fix = match code {
        "ratelimited" | "rate_limited" => return Outcome::RetryAfter { wait_ms: 30_000 },
        "message_not_found" | "cant_update_message" | "edit_window_closed" if is_update => {
            return Outcome::Gone;
        }
        "service_unavailable" | "request_timeout" => {
            return Outcome::Failed {
                reason,
                permanent: false,
            };
        }
        // "It's possible some aspect of the operation succeeded before the error was raised."
        "internal_error" | "fatal_error" => return Outcome::Unknown { reason },
        "invalid_auth"
        | "not_authed"
        | "token_revoked"
        | "token_expired"
        | "account_inactive"
        | "no_permission"
        | "not_allowed_token_type" => "check slack.bot_token (SLACK_BOT_TOKEN)",
        "missing_scope" => "give the app of SLACK_BOT_TOKEN the scope chat:write",
        _ => {
            "see the errors of chat.postMessage and chat.update in Slack's documentation, and check [slack]"
        }
    };
    Outcome::Failed {
        reason: format!("{reason}: {fix}"),
        permanent: true,
    }
}
