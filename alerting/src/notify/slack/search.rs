//! Searches a channel or a thread for a message, by the metadata it was posted with.
//!
//! Sources: <https://docs.slack.dev/reference/methods/conversations.history>,
//! <https://docs.slack.dev/reference/methods/conversations.replies>,
//! <https://docs.slack.dev/reference/methods/conversations.list>,
//! <https://docs.slack.dev/messaging/message-metadata>,
//! <https://docs.slack.dev/apis/web-api/pagination>.

use std::sync::{Mutex, PoisonError};

use reqwest::StatusCode;
use revwatch_runtime::egress::HttpClient;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::{Outcome, http_outcome};
use super::channels::{Channels, Id, Listed};
use super::{API_BASE, EVENT_TYPE, PROVIDER, id};
use crate::message::Message;

/// Reads channels as a Slack app.
pub struct Search {
    client: HttpClient,
    token: SecretString,
    api_base: String,
    /// What was last logged to fix, so that Slack can be searched.
    logged_fix: Mutex<Option<String>>,
}

/// A message that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// `channel:ts`.
    pub receipt: String,
    /// The alert's revision that it shows.
    pub revision: u32,
}

/// Why the search has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SearchError {
    /// Temporary failure.
    Later(String),
    /// Impossible with these settings.
    Never,
}

/// Slack recommends no more than 200 a page.
const PER_PAGE: &str = "200";
/// Maximum pages of a channel's messages since the alert fired.
const MAX_PAGES: usize = 5;
/// Maximum pages of a workspace's channels.
const MAX_CHANNEL_PAGES: usize = 10;
/// Maximum bytes of a page of messages with blocks.
const MAX_RESPONSE_BYTES: usize = 8 << 20;

/// The common part of all answers.
#[derive(Deserialize)]
struct Page<T> {
    ok: bool,
    error: Option<String>,
    #[serde(alias = "messages", alias = "channels")]
    items: Option<Vec<T>>,
    response_metadata: Option<Next>,
}

#[derive(Deserialize)]
struct Next {
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Posted {
    ts: String,
    /// Other apps' metadata can have any form.
    #[serde(default)]
    metadata: Value,
}

#[derive(Deserialize)]
struct Channel {
    id: String,
    name: Option<String>,
}

/// The error that Slack returned instead of a page.
enum ApiError {
    Stop(SearchError),
    Code(String),
}

impl Search {
    /// `api_base` without a trailing slash.
    pub fn new(client: HttpClient, token: SecretString, api_base: String) -> Self {
        Self {
            client,
            token,
            api_base,
            logged_fix: Mutex::default(),
        }
    }

    /// Searches for `message` in the channel with this id, outside of threads.
    pub async fn in_channel(
        &self,
        message: &Message,
        id: &str,
    ) -> Result<Option<Hit>, SearchError> {
        self.messages("conversations.history", message, id, &[])
            .await
    }

    /// Searches for `message` in the thread of the message at `ts`. A deleted thread contains
    /// nothing.
    pub async fn in_thread(
        &self,
        message: &Message,
        id: &str,
        ts: &str,
    ) -> Result<Option<Hit>, SearchError> {
        self.messages("conversations.replies", message, id, &[("ts", ts)])
            .await
    }

    /// The id of a configured channel. Slack's list is not read again within some minutes.
    pub async fn id(&self, channels: &Channels, channel: &str) -> Result<String, SearchError> {
        let fix = "give the app of SLACK_BOT_TOKEN the scope channels:read (for private channels groups:read), and \
                   invite it to the channel";
        if channels.id(channel) == Id::NotListedYet {
            // Without groups:read, private channels cannot be requested.
            let listed = match self.list(channels, "public_channel,private_channel").await {
                Err(ApiError::Code(code)) if code == "missing_scope" => {
                    self.list(channels, "public_channel").await
                }
                other => other,
            };
            listed.map_err(|problem| self.search_error(problem, fix))?;
        }
        match channels.id(channel) {
            Id::Is(id) => Ok(id),
            Id::Unknown(Listed::Partly) => Err(self.search_error(
                ApiError::Code("with more channels than are read".to_owned()),
                "write the channel's id instead of its name in [slack.channels]",
            )),
            _ => Err(self.search_error(ApiError::Code("without the channel".to_owned()), fix)),
        }
    }

    async fn messages(
        &self,
        method: &str,
        message: &Message,
        channel: &str,
        more: &[(&str, &str)],
    ) -> Result<Option<Hit>, SearchError> {
        let oldest = http_outcome::searched_since_s(message).to_string();
        let mut parameters = vec![
            ("channel", channel),
            ("oldest", oldest.as_str()),
            ("inclusive", "true"),
            ("include_all_metadata", "true"),
            ("limit", PER_PAGE),
        ];
        parameters.extend_from_slice(more);
        let mut cursor = String::new();
        for _ in 0..MAX_PAGES {
            let (page, next) = match self.page::<Posted>(method, &parameters, &cursor).await {
                Err(ApiError::Code(code)) if code == "thread_not_found" => return Ok(None),
                other => other.map_err(|problem| {
                    self.search_error(
                        problem,
                        "give the app of SLACK_BOT_TOKEN the scope channels:history (for private channels \
                         groups:history), and invite it to the channel",
                    )
                })?,
            };
            if let Some(hit) = page
                .iter()
                .find_map(|posted| posted.shows(message, channel))
            {
                return Ok(Some(hit));
            }
            let Some(next) = next else { return Ok(None) };
            cursor = next;
        }
        // It may be on a later page.
        Err(SearchError::Never)
    }

    async fn list(&self, channels: &Channels, types: &str) -> Result<(), ApiError> {
        let parameters = [
            ("types", types),
            ("exclude_archived", "true"),
            ("limit", PER_PAGE),
        ];
        let mut cursor = String::new();
        for _ in 0..MAX_CHANNEL_PAGES {
            let (page, next) = self
                .page::<Channel>("conversations.list", &parameters, &cursor)
                .await?;
            for Channel { id, name } in page {
                channels.learn(&name.unwrap_or_default(), &id);
            }
            let Some(next) = next else {
                channels.listed(Listed::ToItsEnd);
                return Ok(());
            };
            cursor = next;
        }
        channels.listed(Listed::Partly);
        Ok(())
    }

    /// One page, and the cursor of the next.
    async fn page<T: DeserializeOwned>(
        &self,
        method: &str,
        parameters: &[(&str, &str)],
        cursor: &str,
    ) -> Result<(Vec<T>, Option<String>), ApiError> {
        let later = |reason: String| ApiError::Stop(SearchError::Later(reason));
        let mut parameters = parameters.to_vec();
        if !cursor.is_empty() {
            parameters.push(("cursor", cursor));
        }
        let request = self.client.get(format!(
            "{}/{method}?{}",
            self.api_base,
            http_outcome::encoded(&parameters)
        ));
        let sent = request.bearer_auth(self.token.expose_secret()).send().await;
        let response =
            sent.map_err(
                |error| match http_outcome::no_answer(PROVIDER, &error, API_BASE) {
                    Outcome::Failed { reason, .. } | Outcome::Unknown { reason } => later(reason),
                    other => later(other.as_str().to_owned()),
                },
            )?;
        match response.status() {
            StatusCode::TOO_MANY_REQUESTS => {
                return Err(later("Slack limits how often it may be read".into()));
            }
            status if status.is_server_error() => {
                return Err(later(format!("{PROVIDER} answered {status}")));
            }
            status if !status.is_success() => {
                return Err(ApiError::Code(status.as_str().to_owned()));
            }
            _ => {}
        }
        let page: Page<T> = http_outcome::json(response, MAX_RESPONSE_BYTES)
            .await
            .map_err(|what| later(format!("{PROVIDER}: {what}")))?;
        match (page.ok, page.items) {
            (true, Some(items)) => {
                let next = page
                    .response_metadata
                    .and_then(|m| m.next_cursor)
                    .filter(|cursor| !cursor.is_empty());
                Ok((items, next))
            }
            // Slack always sends a list, even if it is empty: any other answer proves nothing.
            (true, None) => Err(ApiError::Code("without a list".to_owned())),
            (false, _) => Err(ApiError::Code(http_outcome::word(
                &page.error.unwrap_or_default(),
            ))),
        }
    }

    /// Whether `fix` is another one than was last logged; notes it.
    fn is_new_fix(&self, fix: &str) -> bool {
        let mut logged = self
            .logged_fix
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_new = logged.as_deref() != Some(fix);
        *logged = Some(fix.to_owned());
        is_new
    }

    fn search_error(&self, problem: ApiError, fix: &str) -> SearchError {
        let code = match problem {
            ApiError::Stop(stop) => return stop,
            ApiError::Code(code) => code,
        };
        match code.as_str() {
            "ratelimited"
            | "rate_limited"
            | "internal_error"
            | "fatal_error"
            | "service_unavailable"
            | "request_timeout" => SearchError::Later(format!("{PROVIDER} answered {code}")),
            _ => {
                if self.is_new_fix(fix) {
                    tracing::warn!(
                        answer = code,
                        "cannot check with Slack whether a message arrived, so one may be sent twice after a failure: \
                         {fix}"
                    );
                }
                SearchError::Never
            }
        }
    }
}

impl Posted {
    fn shows(&self, message: &Message, channel: &str) -> Option<Hit> {
        let payload = &self.metadata["event_payload"];
        let is_it =
            self.metadata["event_type"] == EVENT_TYPE && payload["delivery_id"] == id(message);
        let revision = payload["revision"]
            .as_u64()
            .and_then(|r| u32::try_from(r).ok())
            .unwrap_or(0);
        is_it.then(|| Hit {
            receipt: format!("{channel}:{}", self.ts),
            revision,
        })
    }
}

#[cfg(test)]
mod tests {
    use revwatch_runtime::config::EgressConfig;
    use revwatch_runtime::egress::EgressClient;

    use super::*;

    #[test]
    fn a_fix_is_logged_again_when_another_one_was_needed_since() {
        let egress = EgressClient::new(EgressConfig::default());
        let client = egress.client().expect("a client");
        let search = Search::new(client, String::from("xoxb-1").into(), String::new());
        let fixes = ["scope", "scope", "id", "id", "scope"];
        let logged = fixes.map(|fix| search.is_new_fix(fix));
        assert_eq!(logged, [true, false, true, false, true]);
    }
}
