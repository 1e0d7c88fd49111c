//! Requests of the HTTP client, and why one has no answer: an error never names the URL, which may be
//! a secret.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Body, IntoUrl, RequestBuilder, Response};
use revwatch_core::clock::Clock;
use serde::Serialize;

/// Builds requests.
#[derive(Clone)]
pub struct HttpClient {
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
}

/// A request that is being built.
pub struct HttpRequest(RequestBuilder);

/// There is no answer. Its text names neither the URL nor anything of the request.
#[derive(Debug)]
pub struct HttpError {
    kind: HttpErrorKind,
    inner: reqwest::Error,
}

/// How far the request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpErrorKind {
    /// It is not a valid request.
    Invalid,
    /// No connection was made, so nothing was sent.
    NotConnected,
    /// It may have arrived.
    NoAnswer,
}

impl HttpClient {
    pub(super) fn new(client: reqwest::Client, clock: Arc<dyn Clock>) -> Self {
        Self { client, clock }
    }

    /// The wall clock: requests are signed with the time, and answers hold dates.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A GET request.
    pub fn get(&self, url: impl IntoUrl) -> HttpRequest {
        HttpRequest(self.client.get(url))
    }

    /// A POST request.
    pub fn post(&self, url: impl IntoUrl) -> HttpRequest {
        HttpRequest(self.client.post(url))
    }
}

impl HttpRequest {
    /// Adds a header.
    pub fn header(self, name: impl AsRef<str>, value: impl fmt::Display) -> Self {
        Self(self.0.header(name.as_ref(), value.to_string()))
    }

    /// Adds a bearer token.
    pub fn bearer_auth(self, token: impl fmt::Display) -> Self {
        Self(self.0.bearer_auth(token))
    }

    /// Adds a user and a password.
    pub fn basic_auth(self, user: impl fmt::Display, password: Option<impl fmt::Display>) -> Self {
        Self(self.0.basic_auth(user, password))
    }

    /// Sets the body.
    pub fn body(self, body: impl Into<Body>) -> Self {
        Self(self.0.body(body))
    }

    /// Sets the body and its type.
    pub fn json<T: Serialize + ?Sized>(self, body: &T) -> Self {
        Self(self.0.json(body))
    }

    /// Limits the time up to the last byte of the answer.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self(self.0.timeout(timeout))
    }

    /// Sends it.
    pub async fn send(self) -> Result<Response, HttpError> {
        Ok(self.0.send().await?)
    }
}

impl HttpError {
    /// How far the request came.
    pub fn kind(&self) -> HttpErrorKind {
        self.kind
    }

    /// Whether a time limit ended it.
    pub fn is_timeout(&self) -> bool {
        self.inner.is_timeout()
    }
}

impl From<reqwest::Error> for HttpError {
    fn from(error: reqwest::Error) -> Self {
        Self {
            kind: match () {
                () if error.is_builder() => HttpErrorKind::Invalid,
                () if error.is_connect() => HttpErrorKind::NotConnected,
                () => HttpErrorKind::NoAnswer,
            },
            inner: error,
        }
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            _ if self.is_timeout() => "no answer in time",
            HttpErrorKind::Invalid => "the request is not valid",
            HttpErrorKind::NotConnected => "the connection failed",
            HttpErrorKind::NoAnswer => "the connection ended without an answer",
        })
    }
}

impl Error for HttpError {
    /// Not reqwest's own text, which names the URL.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.inner.source()
    }
}

#[cfg(test)]
mod tests {
    use revwatch_storage::system::SystemClock;

    use super::*;

    #[tokio::test]
    async fn an_error_does_not_name_the_url() {
        let client = HttpClient::new(reqwest::Client::new(), Arc::new(SystemClock));
        let error = client.get("http://127.0.0.1:1/secret").send().await;
        let error = error.expect_err("nothing listens there");
        assert_eq!(error.kind(), HttpErrorKind::NotConnected);
        assert!(!format!("{error} {:?}", error.source()).contains("secret"));
        let error = client.get("not a URL").send().await.expect_err("refused");
        assert_eq!(error.kind(), HttpErrorKind::Invalid);
    }
}
