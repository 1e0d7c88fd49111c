//! The port of outgoing requests: [`HttpClient`] builds a request, a [`Transport`] sends it. An error
//! never names the URL, which may be a secret.
//!
//! The transport of every process is reqwest, as [`super::EgressClient`] sets it up. The simulation's
//! is a scripted service in memory.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::{Body, IntoUrl, Request, RequestBuilder, Response};
use revwatch_core::clock::Clock;
use revwatch_storage::connection_failure;
use serde::Serialize;

/// Sends requests.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Returns the head of the answer; the body may still be on its way. The limits of the request's
    /// time, and the headers that a client sends with every request, are reqwest's own business.
    async fn send(&self, request: Request) -> Result<Response, HttpError>;
}

/// Builds requests and hands them to a transport.
#[derive(Clone)]
pub struct HttpClient {
    builder: reqwest::Client,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
}

/// A request that is being built.
pub struct HttpRequest {
    builder: RequestBuilder,
    transport: Arc<dyn Transport>,
}

/// There is no answer. Its text names neither the URL nor anything of the request.
#[derive(Debug)]
pub struct HttpError {
    kind: HttpErrorKind,
    /// `None` if the transport is not reqwest.
    inner: Option<reqwest::Error>,
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
    pub(super) fn new(
        builder: reqwest::Client,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            builder,
            transport,
            clock,
        }
    }

    /// The wall clock: requests are signed with the time, and answers hold dates.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A GET request.
    pub fn get(&self, url: impl IntoUrl) -> HttpRequest {
        self.request(self.builder.get(url))
    }

    /// A POST request.
    pub fn post(&self, url: impl IntoUrl) -> HttpRequest {
        self.request(self.builder.post(url))
    }

    fn request(&self, builder: RequestBuilder) -> HttpRequest {
        HttpRequest {
            builder,
            transport: self.transport.clone(),
        }
    }
}

impl HttpRequest {
    /// Adds a header.
    pub fn header(self, name: impl AsRef<str>, value: impl fmt::Display) -> Self {
        self.with(|builder| builder.header(name.as_ref(), value.to_string()))
    }

    /// Adds a bearer token.
    pub fn bearer_auth(self, token: impl fmt::Display) -> Self {
        self.with(|builder| builder.bearer_auth(token))
    }

    /// Adds a user and a password.
    pub fn basic_auth(self, user: impl fmt::Display, password: Option<impl fmt::Display>) -> Self {
        self.with(|builder| builder.basic_auth(user, password))
    }

    /// Sets the body.
    pub fn body(self, body: impl Into<Body>) -> Self {
        self.with(|builder| builder.body(body))
    }

    /// Sets the body and its type.
    pub fn json<T: Serialize + ?Sized>(self, body: &T) -> Self {
        self.with(|builder| builder.json(body))
    }

    /// Limits the time up to the last byte of the answer.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|builder| builder.timeout(timeout))
    }

    /// Sends it.
    pub async fn send(self) -> Result<Response, HttpError> {
        self.transport.send(self.builder.build()?).await
    }

    fn with(self, change: impl FnOnce(RequestBuilder) -> RequestBuilder) -> Self {
        Self {
            builder: change(self.builder),
            transport: self.transport,
        }
    }
}

impl HttpError {
    /// The failure of a transport other than reqwest.
    pub fn new(kind: HttpErrorKind) -> Self {
        Self { kind, inner: None }
    }

    /// The cause in words that say what to do.
    pub fn cause(&self) -> String {
        connection_failure::plain(self)
    }

    /// How far the request came.
    pub fn kind(&self) -> HttpErrorKind {
        self.kind
    }

    /// Whether a time limit ended it.
    pub fn is_timeout(&self) -> bool {
        self.inner.as_ref().is_some_and(reqwest::Error::is_timeout)
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
            inner: Some(error),
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
        self.inner.as_ref().and_then(Error::source)
    }
}

#[async_trait]
impl Transport for reqwest::Client {
    async fn send(&self, request: Request) -> Result<Response, HttpError> {
        Ok(self.execute(request).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::EgressClient;
    use super::*;
    use crate::config::EgressConfig;

    struct Echo;

    #[async_trait]
    impl Transport for Echo {
        async fn send(&self, request: Request) -> Result<Response, HttpError> {
            if request.url().path() == "/down" {
                return Err(HttpError::new(HttpErrorKind::NotConnected));
            }
            let body = request.body().and_then(Body::as_bytes).unwrap_or_default();
            Ok(axum::http::Response::new(body.to_vec()).into())
        }
    }

    #[tokio::test]
    async fn an_error_does_not_name_the_url() {
        let client = EgressClient::new(EgressConfig::default())
            .client()
            .expect("a client");
        let error = client.get("http://127.0.0.1:1/secret").send().await;
        let error = error.expect_err("nothing listens there");
        assert_eq!(error.kind(), HttpErrorKind::NotConnected);
        assert!(!format!("{error} {:?}", error.source()).contains("secret"));
        let error = client.get("not a URL").send().await.expect_err("refused");
        assert_eq!(error.kind(), HttpErrorKind::Invalid);
    }

    #[tokio::test]
    async fn another_transport_answers_without_a_socket() {
        let client = EgressClient::new(EgressConfig::default())
            .with_transport(Arc::new(Echo))
            .client()
            .expect("a client");
        let answer = client.post("https://hooks.example/up").json(&["a"]).send();
        let text = answer.await.expect("an answer").text().await;
        assert_eq!(text.expect("text"), r#"["a"]"#);
        let error = client.get("https://hooks.example/down").send().await;
        let error = error.expect_err("no connection");
        assert_eq!(error.kind(), HttpErrorKind::NotConnected);
    }
}
