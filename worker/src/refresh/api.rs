//! The one question that is asked of Stripe's API: how does this account stand?

use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, StatusCode, redirect};
use revwatch_shared::config::{ExposeSecret as _, SecretString};

use super::agenda::Outcome;
use super::snapshot::API_VERSION;

/// Asks Stripe's API. The key is in its headers, marked as not to be shown.
pub struct Api {
    client: Client,
    key: SecretString,
    base: String,
    /// Whether the key is one of live mode.
    pub livemode: bool,
}

/// Stripe's word on an account.
pub struct Answer {
    /// The account, as it came.
    pub body: String,
    /// Our own clock before the request was sent, Unix seconds.
    pub sent_s: i64,
    /// Stripe's clock when it answered, Unix seconds.
    pub date_s: Option<i64>,
    /// From sending to the head of the answer.
    pub took: Duration,
}

/// No account, and why: for the log, without a word of the answer.
pub struct NoAnswer {
    /// What follows from it.
    pub outcome: Outcome,
    /// For people.
    pub reason: String,
}

/// An account has some kilobytes; whoever answers with more than this is not Stripe.
const LARGEST_ANSWER: usize = 1 << 20;

impl Api {
    /// `base` was checked with the settings. Fails when no TLS roots are to be found.
    pub fn new(key: &SecretString, base: &str) -> Result<Self, reqwest::Error> {
        let mut headers = HeaderMap::new();
        // The settings hold no key that does not fit into a header.
        if let Ok(mut bearer) = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret())) {
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        headers.insert(HeaderName::from_static("stripe-version"), HeaderValue::from_static(API_VERSION));
        let client = Client::builder()
            .default_headers(headers)
            .timeout(Duration::from_secs(20))
            .connect_timeout(Duration::from_secs(5))
            // The key goes where the configuration says, or nowhere.
            .redirect(redirect::Policy::none())
            .user_agent(concat!("revwatch/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let livemode = key.expose_secret().contains("_live_");
        Ok(Self { client, key: key.clone(), base: base.trim_end_matches('/').to_owned(), livemode })
    }

    /// Whether it asks with this key, and there.
    pub fn is_for(&self, key: &SecretString, base: &str) -> bool {
        self.key.expose_secret() == key.expose_secret() && self.base == base.trim_end_matches('/')
    }

    /// `GET /v1/accounts/{id}`. Source: <https://docs.stripe.com/api/accounts/retrieve>.
    pub async fn account(&self, id: &str) -> Result<Answer, NoAnswer> {
        let (sent_s, sent) = (Timestamp::now().as_second(), Instant::now());
        let request = self.client.get(format!("{}/v1/accounts/{id}", self.base));
        let mut response = request.send().await.map_err(|e| NoAnswer::failed(&e))?;
        let took = sent.elapsed();
        let status = response.status();
        if status != StatusCode::OK {
            return Err(NoAnswer::of(status, response.headers()));
        }
        let date_s = response.headers().get(DATE).and_then(|v| date(v.to_str().ok()?));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| NoAnswer::failed(&e))? {
            if body.len() + chunk.len() > LARGEST_ANSWER {
                return Err(NoAnswer::refused("the answer is too large for an account"));
            }
            body.extend_from_slice(&chunk);
        }
        let body = String::from_utf8(body).map_err(|_| NoAnswer::refused("the answer is not UTF-8"))?;
        Ok(Answer { body, sent_s, date_s, took })
    }
}

impl NoAnswer {
    /// Trying again will not help before somebody changes something.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self { outcome: Outcome::Refused { all: false }, reason: reason.into() }
    }

    /// What a status means. Source: <https://docs.stripe.com/api/errors>.
    fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        let (outcome, hint) = match status {
            StatusCode::UNAUTHORIZED => (Outcome::Refused { all: true }, ": check STRIPE_SECRET_KEY"),
            // What the key may not see is answered like what does not exist.
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                (Outcome::Gone, ": there is no such account, or not for this key")
            }
            StatusCode::TOO_MANY_REQUESTS => (Outcome::Limited { wait: retry_after(headers) }, ""),
            StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT | StatusCode::TOO_EARLY => (Outcome::Failed, ""),
            _ if status.is_server_error() => (Outcome::Failed, ""),
            _ if status.is_redirection() => (Outcome::Refused { all: false }, ": check STRIPE_API_BASE"),
            _ => (Outcome::Refused { all: false }, ""),
        };
        Self { outcome, reason: format!("Stripe answered {status}{hint}") }
    }

    /// Nothing of the request is told: its causes speak of addresses and TLS only.
    fn failed(error: &reqwest::Error) -> Self {
        let mut reason = if error.is_timeout() { "timeout" } else { "connection failed" }.to_owned();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            reason = format!("{reason}: {inner}");
            cause = inner.source();
        }
        Self { outcome: Outcome::Failed, reason }
    }
}

/// Stripe documents no `Retry-After`; what stands between may send one all the same. An hour is the most
/// that is believed.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.clamp(1, 3600)))
}

/// HTTP writes dates as e-mail does. The zone's name is understood by few and always the same.
fn date(text: &str) -> Option<i64> {
    let text = text.trim().strip_suffix("GMT").map_or_else(|| text.trim().to_owned(), |rest| format!("{rest}+0000"));
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(&text).ok().map(Timestamp::as_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_status_means() {
        let table = [
            (401, Outcome::Refused { all: true }),
            (403, Outcome::Gone),
            (404, Outcome::Gone),
            (409, Outcome::Failed),
            (429, Outcome::Limited { wait: Some(Duration::from_secs(7)) }),
            (500, Outcome::Failed),
            (503, Outcome::Failed),
            (400, Outcome::Refused { all: false }),
            (302, Outcome::Refused { all: false }),
            (204, Outcome::Refused { all: false }),
        ];
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("7"))]);
        for (status, expected) in table {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(NoAnswer::of(status, &headers).outcome, expected, "{status}");
        }
    }

    #[test]
    fn waits_are_bounded_and_dates_are_read() {
        for (text, expected) in [("0", Some(1)), ("99999", Some(3600)), ("soon", None), ("-1", None)] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            assert_eq!(retry_after(&headers), expected.map(Duration::from_secs), "{text}");
        }
        assert_eq!(date("Wed, 30 Sep 2026 10:00:00 GMT"), Some(1_790_762_400));
        assert_eq!(date("today"), None);
    }
}
