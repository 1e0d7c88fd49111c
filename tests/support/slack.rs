//! A Slack of our own on a loopback port: takes what the real one takes, answers as told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// One request, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// `chat.postMessage`, `chat.update`, or `hook`.
    pub(crate) method: String,
    /// The JSON body.
    pub(crate) body: Value,
    /// The authorization header.
    pub(crate) authorization: String,
    /// The status it was answered with.
    pub(crate) answered: u16,
}

/// What the stub answers before it answers well.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trouble {
    /// 429 with Retry-After: 1.
    TooMany,
    /// 500.
    Broken,
    /// 200 with `ok: false` and this word.
    Error(&'static str),
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Slack {
    addr: SocketAddr,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    calls: Vec<Call>,
    troubles: VecDeque<Trouble>,
}

impl Slack {
    /// Listens; the first answers are those of `troubles`.
    pub(crate) async fn start(troubles: &[Trouble]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let inner = Arc::new(Mutex::new(Inner { troubles: troubles.iter().copied().collect(), ..Inner::default() }));
        let slack = Self { addr, inner };
        let router = Router::new().route("/{method}", axum::routing::post(answer)).with_state(slack.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        slack
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What it was sent and answered well.
    pub(crate) fn accepted(&self) -> Vec<Call> {
        self.calls().into_iter().filter(|c| c.answered == 200).collect()
    }

    /// Everything it was sent.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).calls.clone()
    }
}

async fn answer(State(slack): State<Slack>, Path(method): Path<String>, headers: HeaderMap, body: String) -> Response {
    let mut inner = slack.inner.lock().unwrap_or_else(PoisonError::into_inner);
    let authorization = headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let trouble = inner.troubles.pop_front();
    let answered = match trouble {
        Some(Trouble::TooMany) => 429,
        Some(Trouble::Broken) => 500,
        // Not an acceptance, although HTTP says 200.
        Some(Trouble::Error(_)) => 0,
        None => 200,
    };
    let ts = body["ts"].as_str().map_or_else(|| format!("1700000000.{:06}", inner.calls.len()), str::to_owned);
    let is_hook = method == "hook";
    inner.calls.push(Call { method, body, authorization, answered });
    match trouble {
        Some(Trouble::TooMany) => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")], "slow down").into_response(),
        Some(Trouble::Broken) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Some(Trouble::Error(word)) => axum::Json(json!({"ok": false, "error": word})).into_response(),
        None if is_hook => "ok".into_response(),
        None => axum::Json(json!({"ok": true, "channel": "C0123456789", "ts": ts})).into_response(),
    }
}
