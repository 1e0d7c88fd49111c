//! Requests to Twilio's API.
//!
//! Sources: <https://www.twilio.com/docs/messaging/api/message-resource>,
//! <https://www.twilio.com/docs/usage/twilios-response>, <https://www.twilio.com/docs/api/errors/20429>.

use jiff::fmt::rfc2822;
use reqwest::StatusCode;
use revwatch_runtime::egress::{HttpClient, HttpRequest};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::super::{Lookup, Outcome, http_outcome};
use super::config::{ACCOUNT_SID, AUTH_TOKEN};
use super::{PROVIDER, names};
use crate::message::Message;

/// One account at Twilio.
pub struct Twilio {
    pub client: HttpClient,
    pub account_sid: String,
    pub auth_token: SecretString,
    pub from: String,
    pub api_base: String,
}

const SETTING: &str = "sms.api_base";
/// Page size when searching the messages to one number, newest first.
const PER_PAGE: &str = "100";
const MAX_PAGES: usize = 3;
/// Maximum bytes of a page of messages.
const MAX_RESPONSE_BYTES: usize = 1 << 20;

#[derive(Deserialize)]
struct Sent {
    sid: String,
}

#[derive(Deserialize)]
struct TwilioError {
    code: Option<i64>,
}

#[derive(Deserialize)]
struct Page {
    messages: Vec<Listed>,
    next_page_uri: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    sid: String,
    body: Option<String>,
    status: Option<String>,
    date_created: Option<String>,
}

impl Twilio {
    /// The path of the account's messages.
    fn path(&self) -> String {
        format!("/2010-04-01/Accounts/{}/Messages.json", self.account_sid)
    }

    fn signed(&self, request: HttpRequest) -> HttpRequest {
        request.basic_auth(
            &self.account_sid,
            Some(self.auth_token.expose_secret().trim()),
        )
    }

    /// Sends one message to one number of the list; returns its sid.
    pub async fn send(&self, body: &str, number: &str, list: &str) -> Result<String, Outcome> {
        let sender = if self.from.starts_with("MG") {
            "MessagingServiceSid"
        } else {
            "From"
        };
        let form = http_outcome::encoded(&[("To", number), (sender, &self.from), ("Body", body)]);
        let request = self
            .client
            .post(format!("{}{}", self.api_base, self.path()));
        let request = self
            .signed(request)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        let response = request
            .send()
            .await
            .map_err(|error| http_outcome::no_answer(PROVIDER, &error, SETTING))?;
        let settings = match response.status() {
            StatusCode::UNAUTHORIZED => format!("{ACCOUNT_SID} and {AUTH_TOKEN}"),
            StatusCode::NOT_FOUND => format!("{ACCOUNT_SID} and sms.api_base"),
            _ => format!("sms.from and the numbers of [sms.to] {list}"),
        };
        let refused = http_outcome::refused(
            PROVIDER,
            response.status(),
            response.headers(),
            &settings,
            self.client.now(),
        );
        if let Some(outcome) = refused {
            // Only the code: Twilio's message quotes the number.
            let error_reply = http_outcome::json::<TwilioError>(response, MAX_RESPONSE_BYTES)
                .await
                .ok();
            let code = error_reply.and_then(|error_reply| error_reply.code);
            return Err(match code {
                Some(code) => with_code(outcome, code),
                None => outcome,
            });
        }
        let sent = http_outcome::json::<Sent>(response, MAX_RESPONSE_BYTES).await;
        sent.map(|sent| sent.sid)
            .map_err(|why| http_outcome::unproved(PROVIDER, &why, SETTING))
    }

    /// The sid of the message to one number that contains the delivery's id.
    pub async fn search(&self, message: &Message, number: &str) -> Result<Option<String>, Lookup> {
        let later = |reason: String| Lookup::Later { reason };
        let query = http_outcome::encoded(&[("To", number), ("PageSize", PER_PAGE)]);
        let mut uri = format!("{}?{query}", self.path());
        for _ in 0..MAX_PAGES {
            let request = self.signed(self.client.get(format!("{}{uri}", self.api_base)));
            let response = request.send().await.map_err(|error| {
                match http_outcome::no_answer(PROVIDER, &error, SETTING) {
                    Outcome::Failed { reason, .. } | Outcome::Unknown { reason } => later(reason),
                    other => later(other.as_str().to_owned()),
                }
            })?;
            match response.status() {
                status if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
                    return Err(later(format!("{PROVIDER} answered {status}")));
                }
                status if !status.is_success() => return Err(Lookup::Inconclusive),
                _ => {}
            }
            let page = http_outcome::json::<Page>(response, MAX_RESPONSE_BYTES).await;
            let page = page.map_err(|why| later(format!("{PROVIDER}: {why}")))?;
            if let Some(found) = page
                .messages
                .iter()
                .find(|listed| listed.is_delivered(&message.delivery_id))
            {
                return Ok(Some(found.sid.clone()));
            }
            // Newest first: the following messages are older than the alert.
            let is_before = page
                .messages
                .last()
                .is_some_and(|listed| listed.is_before(http_outcome::searched_since_s(message)));
            match page
                .next_page_uri
                .filter(|next| !is_before && !next.is_empty())
            {
                None => return Ok(None),
                // The request carries the credentials, so the path must be our own.
                Some(next) if next.starts_with(&format!("{}?", self.path())) => uri = next,
                Some(_) => return Err(Lookup::Inconclusive),
            }
        }
        // It may be on a later page.
        Err(Lookup::Inconclusive)
    }
}

/// Names the page about an error code in the reason.
fn with_code(outcome: Outcome, code: i64) -> Outcome {
    let explained =
        |reason: String| format!("{reason} (see https://www.twilio.com/docs/api/errors/{code})");
    match outcome {
        Outcome::Failed { reason, permanent } => Outcome::Failed {
            reason: explained(reason),
            permanent,
        },
        Outcome::Unknown { reason } => Outcome::Unknown {
            reason: explained(reason),
        },
        other => other,
    }
}

impl Listed {
    /// Whether it is the message of this delivery, and did not fail on its way.
    fn is_delivered(&self, delivery_id: &str) -> bool {
        let is_lost = self
            .status
            .as_deref()
            .is_some_and(|s| matches!(s, "failed" | "undelivered" | "canceled"));
        !is_lost
            && self
                .body
                .as_deref()
                .is_some_and(|body| names(body, delivery_id))
    }

    fn is_before(&self, unix_s: i64) -> bool {
        let created = self
            .date_created
            .as_deref()
            .and_then(|date| rfc2822::parse(date).ok());
        created.is_some_and(|created| created.timestamp().as_second() < unix_s)
    }
}
