//! Messages posted and changed as a Slack app.
//!
//! Sources: <https://docs.slack.dev/reference/methods/chat.postMessage>,
//! <https://docs.slack.dev/reference/methods/chat.update>,
//! <https://docs.slack.dev/apis/web-api/rate-limits>.

use async_trait::async_trait;
use reqwest::Client;
use revwatch_shared::config::SlackConfig;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout, timeout_at};

use super::super::told::Told;
use super::super::{ANSWER_WITHIN, Habits, Lookup, Notifier, Outcome, Outgoing, SetupError, outgoing};
use super::channels::{Channels, Id};
use super::search::{Search, Stop};
use super::{EVENT_TYPE, WHOSE, text};
use crate::alert::{AlertState, NoticeKind};
use crate::message::Message;

/// Posts and updates messages as a Slack app.
pub struct SlackBot {
    client: Client,
    token: SecretString,
    api_base: String,
    channels: Channels,
    search: Search,
    /// Messages that were found at an earlier state than the one to be told: to be changed, not posted again.
    found: Told,
    per_second: f64,
}

/// Slack's answers hold the message that was posted, in bytes.
const LARGEST_ANSWER: usize = 1 << 20;
/// The one recipient in [`SlackBot::found`].
const CHANNEL: &str = "channel";

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    error: Option<String>,
    channel: Option<String>,
    ts: Option<String>,
}

impl SlackBot {
    /// `None` without a token. `per_second` are messages to one channel.
    pub fn configured(config: &SlackConfig, outgoing: &Outgoing, per_second: f64) -> Result<Option<Self>, SetupError> {
        let Some(token) = &config.bot_token else { return Ok(None) };
        let api_base = outgoing.base("slack.api_base (SLACK_API_BASE)", &config.api_base)?;
        let client = outgoing.client()?;
        let search = Search::new(client.clone(), token.clone(), api_base.clone());
        let channels = Channels::new(config.channels.clone());
        Ok(Some(Self { client, token: token.clone(), api_base, channels, search, found: Told::default(), per_second }))
    }

    /// The message whose thread `message` belongs into, as channel and ts: that of its alert, if it is in the
    /// channel that the message is for.
    fn thread<'a>(&self, message: &'a Message) -> Option<(&'a str, &'a str)> {
        message.notice?;
        let (id, ts) = message.thread.as_deref()?.split_once(':')?;
        let channel = self.channels.of_route(&message.route);
        let is_there = match self.channels.id(channel) {
            Id::Is(known) => known == id,
            // The same channel for all routes is the alert's too.
            _ => self.channels.is_one(),
        };
        is_there.then_some((id, ts))
    }

    /// One call of the API. Answers within what is left of `until`.
    async fn call(&self, method: &str, body: &Value, until: Instant) -> Result<Answer, Outcome> {
        let request = self.client.post(format!("{}/{method}", self.api_base)).json(body);
        let sending = async {
            let sent = request.bearer_auth(self.token.expose_secret()).send().await;
            let response = sent.map_err(|error| outgoing::no_answer(WHOSE, &error))?;
            let settings = "slack.api_base (SLACK_API_BASE)";
            if let Some(outcome) = outgoing::refused(WHOSE, response.status(), response.headers(), settings) {
                return Err(outcome);
            }
            let read = outgoing::json(response, LARGEST_ANSWER).await;
            read.map_err(|what| Outcome::Unknown { reason: format!("{WHOSE}: {what}") })
        };
        let answered = timeout_at(until, sending).await;
        answered.unwrap_or_else(|_| Err(Outcome::Unknown { reason: format!("{WHOSE}: no answer in time") }))
    }

    async fn look(&self, message: &Message) -> Result<Lookup, Stop> {
        let mut hit = None;
        if let Some((id, ts)) = self.thread(message) {
            hit = self.search.in_thread(message, id, ts).await?;
        }
        if hit.is_none() {
            let channel = self.channels.of_route(&message.route);
            let Some(id) = self.search.id(&self.channels, channel).await? else { return Ok(Lookup::CannotTell) };
            hit = self.search.in_channel(message, &id).await?;
        }
        Ok(match hit {
            Some(hit) if hit.revision >= message.revision => Lookup::Found { receipt: Some(hit.receipt) },
            Some(hit) => {
                self.found.remember(&message.delivery_id, CHANNEL, hit.receipt);
                Lookup::Absent
            }
            None => Lookup::Absent,
        })
    }
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
        format!("slack {}", self.channels.of_route(route))
    }

    fn per_second(&self) -> f64 {
        self.per_second
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        let until = Instant::now() + ANSWER_WITHIN;
        let found = self.found.of(&message.delivery_id).remove(CHANNEL);
        // A receipt is `channel:ts`, the two things that chat.update wants.
        let posted = message.receipt.as_deref().or(found.as_deref()).and_then(|r| r.split_once(':'));
        let channel = self.channels.of_route(&message.route);
        let mut body = json!({
            "channel": channel,
            "text": text(&message.text),
            "blocks": message.blocks,
            "unfurl_links": false,
            "metadata": {"event_type": EVENT_TYPE, "event_payload": {
                "delivery_id": message.delivery_id,
                "alert_id": message.alert_id,
                "revision": message.revision,
            }},
        });
        let method = match posted {
            Some((channel, ts)) => {
                body["channel"] = channel.into();
                body["ts"] = ts.into();
                "chat.update"
            }
            None => "chat.postMessage",
        };
        if posted.is_none()
            && let Some((id, ts)) = self.thread(message)
        {
            body["channel"] = id.into();
            body["thread_ts"] = ts.into();
            // An escalation is for everybody in the channel to see; who follows the thread sees the rest.
            if let Some(NoticeKind::Escalated(_)) = message.notice
                && message.state != AlertState::Resolved
            {
                body["reply_broadcast"] = true.into();
            }
        }
        let mut answer = self.call(method, &body, until).await;
        // Somebody deleted the alert's message: the notice stands alone. Nobody has seen it so far.
        if let (Ok(Answer { ok: false, error: Some(word), .. }), Some(fields)) = (&answer, body.as_object_mut())
            && matches!(word.as_str(), "thread_not_found" | "message_not_found" | "cannot_reply_to_message")
            && fields.remove("thread_ts").is_some()
        {
            fields.remove("reply_broadcast");
            answer = self.call(method, &body, until).await;
        }
        match answer {
            Ok(Answer { ok: true, channel: id, ts, .. }) => {
                self.found.forget(&message.delivery_id);
                if let Some(id) = &id
                    && body["channel"] == channel
                {
                    self.channels.learn(channel, id);
                }
                let receipt = id.zip(ts).map(|(id, ts)| format!("{id}:{ts}"));
                Outcome::Delivered { receipt: receipt.or_else(|| message.receipt.clone()) }
            }
            Ok(Answer { error, .. }) => {
                let word = outgoing::word(&error.unwrap_or_default());
                let outcome = failed(&word, posted.is_some());
                if outcome == Outcome::Gone {
                    self.found.forget(&message.delivery_id);
                }
                outcome
            }
            Err(outcome) => outcome,
        }
    }

    async fn find(&self, message: &Message) -> Lookup {
        // A change in place can be made again.
        if message.receipt.is_some() {
            return Lookup::Absent;
        }
        match timeout(ANSWER_WITHIN, self.look(message)).await {
            Ok(Ok(lookup)) => lookup,
            Ok(Err(Stop::Later(reason))) => Lookup::Later { reason },
            Ok(Err(Stop::Never)) => Lookup::CannotTell,
            Err(_) => Lookup::Later { reason: format!("{WHOSE}: no answer in time") },
        }
    }
}

/// Slack's words on what goes wrong.
fn failed(word: &str, is_update: bool) -> Outcome {
    let reason = format!("{WHOSE} answered {word}");
    let fix = match word {
        "ratelimited" | "rate_limited" => return Outcome::RetryAfter { wait_ms: 30_000 },
        "message_not_found" | "cant_update_message" | "edit_window_closed" if is_update => return Outcome::Gone,
        "service_unavailable" | "request_timeout" => return Outcome::Failed { reason, permanent: false },
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
        "channel_not_found" | "not_in_channel" | "is_archived" | "restricted_action" => {
            "check [slack.channels] and invite the app to the channel"
        }
        _ => "see the errors of chat.postMessage and chat.update in Slack's documentation, and check [slack]",
    };
    Outcome::Failed { reason: format!("{reason}: {fix}"), permanent: true }
}
