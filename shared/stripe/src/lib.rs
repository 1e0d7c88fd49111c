//! A client for Stripe's API. A request returns a response, or an error with its kind.
//!
//! Invariant: the key is sent only to the configured address; neither it nor a response is ever
//! logged.

mod endpoints;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::header::{DATE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{StatusCode, Url};
use revwatch_core::clock::Clock;
use revwatch_core::mode::Mode;
use revwatch_runtime::config::{Config, EgressConfig, ExposeSecret as _, SecretString};
use revwatch_runtime::egress::{EgressClient, HttpClient, HttpError, http_date, retry_after};

pub use self::endpoints::{EventEndpoints, event_endpoints, has_connected_accounts};

/// The version of the returned objects. It is pinned because otherwise the default version of the
/// Stripe account applies, and every user of the dashboard can change that. Events are not
/// affected: they keep the version in force when they were created.
pub const API_VERSION: &str = "2025-03-31.basil";

/// Stripe's API with a key.
pub struct StripeApi {
    client: HttpClient,
    key: SecretString,
    base: String,
    egress: EgressConfig,
    /// The key's mode; `None` if the key does not name it.
    pub mode: Option<Mode>,
}

/// A GET request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// For example `/v1/events`.
    pub path: &'a str,
    /// Names and values.
    pub query: &'a [(&'a str, &'a str)],
    /// Makes the request as this connected account. Source:
    /// <https://docs.stripe.com/connect/authentication>.
    pub account: Option<&'a str>,
    /// The largest accepted body. Stripe never sends more.
    pub max_bytes: usize,
    /// The time limit up to the last byte.
    pub timeout: Duration,
}

/// Stripe's response.
pub struct Response {
    /// The body, unchanged.
    pub body: String,
    /// Our clock before the request was sent, Unix seconds.
    pub sent_s: i64,
    /// Stripe's clock when it answered, Unix seconds.
    pub date_s: Option<i64>,
    /// From sending to the head of the response.
    pub took: Duration,
}

/// Why there is no response. Safe to log: it quotes nothing that Stripe sent.
#[derive(Debug)]
pub struct ApiError {
    /// The kind, for decisions.
    pub kind: ApiErrorKind,
    /// A message for operators.
    pub reason: String,
}

/// The kinds of error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiErrorKind {
    /// The key is not valid.
    WrongKey,
    /// The key has no permission.
    Forbidden,
    /// The object does not exist, or not for this key.
    NotFound,
    /// Too many requests.
    Limited {
        /// From `Retry-After`.
        wait: Option<Duration>,
    },
    /// Stripe or the connection failed; a retry may help.
    Failed,
    /// A retry cannot help until the configuration or the request changes.
    Refused,
}

impl StripeApi {
    /// Creates a client from a validated `config`; `None` without a key. Fails if no TLS roots are
    /// found.
    pub fn of(config: &Config, clock: Arc<dyn Clock>) -> Result<Option<Self>, reqwest::Error> {
        let Some(key) = &config.stripe_secret_key else {
            return Ok(None);
        };
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static("stripe-version"),
            HeaderValue::from_static(API_VERSION),
        )]);
        Ok(Some(Self {
            client: EgressClient::new(config.egress)
                .with_clock(clock)
                .client_with(headers)?,
            key: key.clone(),
            base: base(config),
            egress: config.egress,
            mode: Mode::of_key(key.expose_secret()),
        }))
    }

    /// Whether `config` would create the same client.
    pub fn matches(&self, config: &Config) -> bool {
        let key = config
            .stripe_secret_key
            .as_ref()
            .map(|key| key.expose_secret());
        self.base == base(config)
            && key == Some(self.key.expose_secret())
            && self.egress == config.egress
    }

    /// Sends one GET request, without retries.
    pub async fn get(&self, request: Request<'_>) -> Result<Response, ApiError> {
        let Request {
            path,
            query,
            account,
            max_bytes,
            timeout,
        } = request;
        let (sent_s, sent) = (self.client.now().as_second(), Instant::now());
        let url = format!("{}{path}", self.base);
        let url = if query.is_empty() {
            Url::parse(&url)
        } else {
            Url::parse_with_params(&url, query)
        };
        let url =
            url.map_err(|_| ApiError::refused("the URL is not valid: check STRIPE_API_BASE"))?;
        let mut request = self.client.get(url).timeout(timeout);
        request = request.bearer_auth(sendable(&self.key)?);
        if let Some(account) = account {
            request = request.header("stripe-account", account);
        }
        let mut response = request.send().await.map_err(|e| ApiError::failed(&e))?;
        let took = sent.elapsed();
        let status = response.status();
        if status != StatusCode::OK {
            return Err(ApiError::of(status, response.headers(), self.client.now()));
        }
        let date_s = response
            .headers()
            .get(DATE)
            .and_then(|value| http_date(value.to_str().ok()?))
            .map(Timestamp::as_second);
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|e| ApiError::failed(&e.into()))?
        {
            if body.len() + chunk.len() > max_bytes {
                return Err(ApiError::refused("the response is too large"));
            }
            body.extend_from_slice(&chunk);
        }
        let body =
            String::from_utf8(body).map_err(|_| ApiError::refused("the response is not UTF-8"))?;
        Ok(Response {
            body,
            sent_s,
            date_s,
            took,
        })
    }
}

impl ApiError {
    /// A retry cannot help until the configuration or the request changes.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self {
            kind: ApiErrorKind::Refused,
            reason: reason.into(),
        }
    }

    /// Maps a status. Source: <https://docs.stripe.com/api/errors>.
    fn of(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Self {
        let (kind, hint) = match status {
            StatusCode::UNAUTHORIZED => (ApiErrorKind::WrongKey, ": check STRIPE_SECRET_KEY"),
            StatusCode::FORBIDDEN => (
                ApiErrorKind::Forbidden,
                ": the key in STRIPE_SECRET_KEY has no permission for this",
            ),
            StatusCode::NOT_FOUND => (
                ApiErrorKind::NotFound,
                ": it does not exist, or not for this key",
            ),
            StatusCode::TOO_MANY_REQUESTS => (
                // Stripe documents no `Retry-After`, but a proxy in between may send one.
                ApiErrorKind::Limited {
                    wait: retry_after(headers, now),
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
            kind,
            reason: format!("Stripe answered {status}{hint}"),
        }
    }

    /// The message has nothing of the request: the error's causes contain only addresses and TLS
    /// details.
    fn failed(error: &HttpError) -> Self {
        Self {
            kind: ApiErrorKind::Failed,
            reason: format!(
                "no answer of Stripe's API (check the network and STRIPE_API_BASE): {}",
                error.cause()
            ),
        }
    }
}

/// The key, if it fits into a header. Otherwise the request would be sent without it, or would fail as
/// if the connection had.
fn sendable(key: &SecretString) -> Result<&str, ApiError> {
    let text = key.expose_secret();
    match HeaderValue::from_str(text) {
        Ok(_) => Ok(text),
        Err(_) => Err(ApiError {
            kind: ApiErrorKind::WrongKey,
            reason: "STRIPE_SECRET_KEY has a character that cannot be sent: copy the key again"
                .to_owned(),
        }),
    }
}

/// The address as its check reads it: without spaces around it and without a slash at its end.
fn base(config: &Config) -> String {
    let text = &config.stripe_api_base;
    // Validation guarantees that it is a URL.
    config
        .egress
        .base("stripe_api_base (STRIPE_API_BASE)", text)
        .unwrap_or_else(|_| text.clone())
}

#[cfg(test)]
mod tests {
    use reqwest::header::RETRY_AFTER;

    use super::*;

    #[test]
    fn each_status_has_its_kind() {
        let table = [
            (401, ApiErrorKind::WrongKey),
            (403, ApiErrorKind::Forbidden),
            (404, ApiErrorKind::NotFound),
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
        let now = Timestamp::UNIX_EPOCH;
        for (status, expected) in table {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(
                ApiError::of(status, &headers, now).kind,
                expected,
                "{status}"
            );
        }
    }

    struct Epoch;

    impl Clock for Epoch {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }
    }

    #[test]
    fn a_key_that_fits_into_no_header_is_an_error_that_does_not_quote_it() {
        let key = SecretString::from("sk_test_x");
        assert_eq!(sendable(&key).ok(), Some("sk_test_x"));
        let error = sendable(&SecretString::from("sk_test_x\n")).expect_err("refused");
        assert_eq!(error.kind, ApiErrorKind::WrongKey);
        assert!(
            error.reason.contains("STRIPE_SECRET_KEY") && !error.reason.contains("sk_test"),
            "{}",
            error.reason
        );
    }

    #[test]
    fn the_address_is_the_checked_one_and_an_equal_one_keeps_the_client() {
        let config = |base: &str| {
            let lookup = |name: &str| match name {
                "STRIPE_SECRET_KEY" => Some("sk_test_x".to_owned()),
                "STRIPE_API_BASE" => Some(base.to_owned()),
                _ => None,
            };
            Config::load(None, &lookup).expect("valid")
        };
        let written = config(" HTTPS://api.stripe.com/ ");
        let api = StripeApi::of(&written, Arc::new(Epoch)).expect("a client");
        let api = api.expect("there is a key");
        assert_eq!(api.base, "https://api.stripe.com");
        assert!(api.matches(&config("https://api.stripe.com")));
        assert!(!api.matches(&config("https://api.stripe.example")));
    }
}
