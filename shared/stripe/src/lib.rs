//! Asks Stripe's API, and says what becomes of it: an answer, or why there is none.
//!
//! Invariant: the key goes where the configuration says, or nowhere; neither it nor an answer is ever logged.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};
use revwatch_runtime::config::{Config, EgressConfig, ExposeSecret as _, SecretString};
use revwatch_runtime::egress::EgressClient;

/// The shape of object that is asked for. Pinned, because otherwise the default version of the Stripe
/// account decides, and anybody with access to the dashboard can change that. Events are not concerned: they
/// keep the shape of the time at which they were made.
pub const API_VERSION: &str = "2025-03-31.basil";

/// Asks Stripe's API. The key is in its headers, marked as not to be shown.
pub struct StripeApi {
    client: Client,
    key: SecretString,
    base: String,
    egress: EgressConfig,
    /// Whether the key is one of live mode.
    pub livemode: bool,
}

/// What to ask.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// For example `/v1/events`.
    pub path: &'a str,
    /// Names and values.
    pub query: &'a [(&'a str, &'a str)],
    /// Asked as this connected account. Source: <https://docs.stripe.com/connect/authentication>.
    pub account: Option<&'a str>,
    /// Whoever answers with more bytes than this is not Stripe.
    pub largest: usize,
    /// How long it may take to the last byte.
    pub within: Duration,
}

/// Stripe's word.
pub struct Response {
    /// As it came.
    pub body: String,
    /// Our own clock before the request was sent, Unix seconds.
    pub sent_s: i64,
    /// Stripe's clock when it answered, Unix seconds.
    pub date_s: Option<i64>,
    /// From sending to the head of the answer.
    pub took: Duration,
}

/// No answer, and why: for the log, without a word of what Stripe said.
#[derive(Debug)]
pub struct ApiError {
    /// What follows from it.
    pub why: ApiErrorKind,
    /// For people.
    pub reason: String,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiErrorKind {
    /// The key is not one of Stripe's.
    WrongKey,
    /// The key may not see this.
    Forbidden,
    /// There is no such thing, or not for this key.
    NotThere,
    /// Too many requests.
    Limited {
        /// From `Retry-After`.
        wait: Option<Duration>,
    },
    /// Stripe or the way to it is not well: try again.
    Failed,
    /// Trying again will not help before somebody changes something.
    Refused,
}

impl StripeApi {
    /// As `config` says, which was checked; `None` without a key. Fails when no TLS roots are to be found.
    pub fn of(config: &Config) -> Result<Option<Self>, reqwest::Error> {
        let Some(key) = &config.stripe_secret_key else {
            return Ok(None);
        };
        let mut headers = HeaderMap::new();
        // The settings hold no key that does not fit into a header.
        if let Ok(mut bearer) = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret())) {
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        headers.insert(
            HeaderName::from_static("stripe-version"),
            HeaderValue::from_static(API_VERSION),
        );
        Ok(Some(Self {
            client: EgressClient::new(config.egress).client_with(headers)?,
            key: key.clone(),
            base: config.stripe_api_base.trim_end_matches('/').to_owned(),
            egress: config.egress,
            livemode: key.expose_secret().contains("_live_"),
        }))
    }

    /// Whether `config` would make the same.
    pub fn is_of(&self, config: &Config) -> bool {
        let key = config
            .stripe_secret_key
            .as_ref()
            .map(|key| key.expose_secret());
        let is_same_place = self.base == config.stripe_api_base.trim_end_matches('/');
        is_same_place && key == Some(self.key.expose_secret()) && self.egress == config.egress
    }

    /// Asks once.
    pub async fn ask(&self, question: Request<'_>) -> Result<Response, ApiError> {
        let Request {
            path,
            query,
            account,
            largest,
            within,
        } = question;
        let (sent_s, sent) = (Timestamp::now().as_second(), Instant::now());
        let url = format!("{}{path}", self.base);
        let url = if query.is_empty() {
            Url::parse(&url)
        } else {
            Url::parse_with_params(&url, query)
        };
        let url =
            url.map_err(|_| ApiError::refused("the address is no URL: check STRIPE_API_BASE"))?;
        let mut request = self.client.get(url).timeout(within);
        if let Some(account) = account {
            request = request.header("stripe-account", account);
        }
        let mut response = request.send().await.map_err(|e| ApiError::failed(&e))?;
        let took = sent.elapsed();
        let status = response.status();
        if status != StatusCode::OK {
            return Err(ApiError::of(status, response.headers()));
        }
        let date_s = response
            .headers()
            .get(DATE)
            .and_then(|v| date(v.to_str().ok()?));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| ApiError::failed(&e))? {
            if body.len() + chunk.len() > largest {
                return Err(ApiError::refused("the answer is too large"));
            }
            body.extend_from_slice(&chunk);
        }
        let body =
            String::from_utf8(body).map_err(|_| ApiError::refused("the answer is not UTF-8"))?;
        Ok(Response {
            body,
            sent_s,
            date_s,
            took,
        })
    }
}

impl ApiError {
    /// Trying again will not help before somebody changes something.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self {
            why: ApiErrorKind::Refused,
            reason: reason.into(),
        }
    }

    /// What a status means. Source: <https://docs.stripe.com/api/errors>.
    fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        let (why, hint) = match status {
            StatusCode::UNAUTHORIZED => (ApiErrorKind::WrongKey, ": check STRIPE_SECRET_KEY"),
            StatusCode::FORBIDDEN => (
                ApiErrorKind::Forbidden,
                ": the key in STRIPE_SECRET_KEY may not see this",
            ),
            StatusCode::NOT_FOUND => (
                ApiErrorKind::NotThere,
                ": there is no such thing, or not for this key",
            ),
            StatusCode::TOO_MANY_REQUESTS => (
                ApiErrorKind::Limited {
                    wait: retry_after(headers),
                },
                "",
            ),
            StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT | StatusCode::TOO_EARLY => {
                (ApiErrorKind::Failed, "")
            }
            _ if status.is_server_error() => (ApiErrorKind::Failed, ""),
            _ if status.is_redirection() => (ApiErrorKind::Refused, ": check STRIPE_API_BASE"),
            _ => (ApiErrorKind::Refused, ""),
        };
        Self {
            why,
            reason: format!("Stripe answered {status}{hint}"),
        }
    }

    /// Nothing of the request is told: its causes speak of addresses and TLS only.
    fn failed(error: &reqwest::Error) -> Self {
        let mut reason = if error.is_timeout() {
            "timeout"
        } else {
            "connection failed"
        }
        .to_owned();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            reason = format!("{reason}: {inner}");
            cause = inner.source();
        }
        Self {
            why: ApiErrorKind::Failed,
            reason,
        }
    }
}

/// Stripe documents no `Retry-After`; what stands between may send one all the same. An hour is the most
/// that is believed.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds.clamp(1, 3600)))
}

/// HTTP writes dates as e-mail does. The zone's name is understood by few and always the same.
fn date(text: &str) -> Option<i64> {
    let text = text
        .trim()
        .strip_suffix("GMT")
        .map_or_else(|| text.trim().to_owned(), |rest| format!("{rest}+0000"));
    jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(&text)
        .ok()
        .map(Timestamp::as_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_status_means() {
        let table = [
            (401, ApiErrorKind::WrongKey),
            (403, ApiErrorKind::Forbidden),
            (404, ApiErrorKind::NotThere),
            (409, ApiErrorKind::Failed),
            (
                429,
                ApiErrorKind::Limited {
                    wait: Some(Duration::from_secs(7)),
                },
            ),
            (500, ApiErrorKind::Failed),
            (503, ApiErrorKind::Failed),
            (400, ApiErrorKind::Refused),
            (302, ApiErrorKind::Refused),
            (204, ApiErrorKind::Refused),
        ];
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("7"))]);
        for (status, expected) in table {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(ApiError::of(status, &headers).why, expected, "{status}");
        }
    }

    #[test]
    fn waits_are_bounded_and_dates_are_read() {
        for (text, expected) in [
            ("0", Some(1)),
            ("99999", Some(3600)),
            ("soon", None),
            ("-1", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            assert_eq!(
                retry_after(&headers),
                expected.map(Duration::from_secs),
                "{text}"
            );
        }
        assert_eq!(date("Wed, 30 Sep 2026 10:00:00 GMT"), Some(1_790_762_400));
        assert_eq!(date("today"), None);
    }
}
