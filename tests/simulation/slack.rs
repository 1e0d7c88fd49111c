//! A scripted Slack behind the port [`Transport`], for the production notifier: it accepts, refuses,
//! fails, and loses requests and answers. `tests/support/slack/workspace.rs` has what its methods do.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::http::Response as HttpResponse;
use fastrand::Rng;
use reqwest::header::AUTHORIZATION;
use reqwest::{Body, Request, Response};
use revwatch_core::clock::Clock as _;
use revwatch_runtime::egress::{HttpError, HttpErrorKind, Transport};
use revwatch_storage::memory::{Gate, VirtualClock};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::trace::{Trace, lock};
use crate::support::slack::{Posted, Workspace};

/// The token that it accepts.
pub(super) const TOKEN: &str = "xoxb-simulation";

/// The simulated workspace. It keeps every message, also those of processes that crashed later.
pub(super) struct Slack {
    seed: u64,
    state: Mutex<State>,
    clock: Arc<VirtualClock>,
    /// How far its clock is behind, in seconds: less than the search allows for.
    behind_s: i64,
    trace: Trace,
}

struct State {
    /// How often each call was made.
    calls: BTreeMap<String, u64>,
    /// Whether it misbehaves.
    faulty: bool,
    workspace: Workspace,
}

/// What becomes of a call. "Done" means that it takes effect and the caller does not learn of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    Accept,
    TooMany,
    ServerError { done: bool },
    NotConnected,
    Closed { done: bool },
    Silence { done: bool },
}

/// The workspace as one process reaches it.
pub(super) struct SlackOfProcess {
    pub(super) slack: Arc<Slack>,
    /// A killed process sends nothing.
    pub(super) gate: Gate,
}

/// A request, as Slack reads it.
struct Call {
    method: String,
    parameters: Value,
    is_authorized: bool,
}

impl Slack {
    pub(super) fn new(seed: u64, clock: Arc<VirtualClock>, trace: Trace) -> Arc<Self> {
        let mut rng = Rng::with_seed(seed);
        let mut workspace = Workspace::default();
        workspace.is_unreadable = rng.u8(..4) == 0;
        let behind_s = rng.i64(0..600);
        trace.add(&format!(
            "slack is {behind_s} s behind, unreadable: {}",
            workspace.is_unreadable
        ));
        Arc::new(Self {
            seed,
            state: Mutex::new(State {
                calls: BTreeMap::new(),
                faulty: true,
                workspace,
            }),
            clock,
            behind_s,
            trace,
        })
    }

    /// From now on it accepts everything.
    pub(super) fn behave(&self) {
        lock(&self.state).faulty = false;
    }

    /// By delivery id, each message that was posted for it, oldest first.
    pub(super) fn posts(&self) -> BTreeMap<String, Vec<Posted>> {
        let mut posts: BTreeMap<String, Vec<Posted>> = BTreeMap::new();
        for posted in &lock(&self.state).workspace.messages {
            let id = posted.payload()["delivery_id"].as_str();
            let of_delivery = posts.entry(id.expect("an id").to_owned()).or_default();
            of_delivery.push(posted.clone());
        }
        posts
    }

    /// Drawn for each call by itself, so that the order of calls does not matter.
    fn script(&self, call: &Call) -> (Script, Duration) {
        let state = &mut *lock(&self.state);
        let calls = state.calls.entry(call.name()).or_default();
        *calls += 1;
        let mut hasher = DefaultHasher::new();
        (self.seed, call.name(), *calls).hash(&mut hasher);
        let mut rng = Rng::with_seed(hasher.finish());
        let (delay, done) = (Duration::from_millis(rng.u64(5..300)), rng.bool());
        let script = match rng.u8(..20) {
            _ if !state.faulty => Script::Accept,
            0..=1 => Script::TooMany,
            2..=3 => Script::ServerError { done },
            4 => Script::NotConnected,
            5 => Script::Closed { done },
            6 => Script::Silence { done },
            _ => Script::Accept,
        };
        (script, delay)
    }

    /// The call takes effect; returns the body of the answer.
    fn arrive(&self, call: &Call) -> Value {
        let now_s = self.clock.now_s() - self.behind_s;
        let workspace = &mut lock(&self.state).workspace;
        let answer = match call.is_authorized {
            true => workspace.answer(&call.method, &call.parameters, now_s),
            false => Err("invalid_auth"),
        };
        answer.unwrap_or_else(|error| json!({"ok": false, "error": error}))
    }
}

impl SlackOfProcess {
    /// A request on its way arrives even if its sender dies.
    async fn arrive(&self, call: Call, delay: Duration) -> Value {
        let slack = self.slack.clone();
        let arrival = tokio::spawn(async move {
            sleep(delay).await;
            slack.arrive(&call)
        });
        let answer = arrival.await.expect("no panic");
        sleep(delay).await;
        answer
    }
}

#[async_trait]
impl Transport for SlackOfProcess {
    async fn send(&self, request: Request) -> Result<Response, HttpError> {
        self.gate.pass().await;
        let call = Call::of(&request);
        let (script, delay) = self.slack.script(&call);
        self.slack
            .trace
            .add(&format!("slack {script:?} {}", call.name()));
        let is_done = matches!(
            script,
            Script::Accept
                | Script::ServerError { done: true }
                | Script::Closed { done: true }
                | Script::Silence { done: true }
        );
        let mut answer = Value::Null;
        if is_done {
            answer = self.arrive(call, delay).await;
        } else {
            sleep(delay).await;
        }
        match script {
            Script::Accept => Ok(response(200, answer.to_string())),
            Script::TooMany => Ok(response(429, String::new())),
            Script::ServerError { .. } => Ok(response(500, String::new())),
            Script::NotConnected => Err(HttpError::new(HttpErrorKind::NotConnected)),
            Script::Closed { .. } => Err(HttpError::new(HttpErrorKind::NoAnswer)),
            Script::Silence { .. } => std::future::pending().await,
        }
    }
}

impl Call {
    fn of(request: &Request) -> Self {
        let body = request.body().and_then(Body::as_bytes);
        let query = || {
            let pairs = request.url().query_pairs();
            pairs
                .map(|(name, value)| (name.into_owned(), Value::from(value.into_owned())))
                .collect()
        };
        let path = request.url().path();
        let token = request.headers().get(AUTHORIZATION);
        Self {
            method: path.rsplit('/').next().unwrap_or_default().to_owned(),
            parameters: body.map_or_else(query, |body| serde_json::from_slice(body).expect("JSON")),
            is_authorized: token.is_some_and(|token| *token == format!("Bearer {TOKEN}")),
        }
    }

    /// The same for each repetition of a call. A `ts` is not part of it: it depends on the order of
    /// messages.
    fn name(&self) -> String {
        let Self { parameters: p, .. } = self;
        let payload = &p["metadata"]["event_payload"];
        let parts = [
            &payload["delivery_id"],
            &payload["revision"],
            &p["channel"],
            &p["oldest"],
            &p["cursor"],
        ];
        let parts = parts.iter().filter(|part| !part.is_null());
        let parts: Vec<_> = parts.map(ToString::to_string).collect();
        format!("{} {}", self.method, parts.join(" "))
    }
}

/// 429 names the wait.
fn response(status: u16, body: String) -> Response {
    let builder = HttpResponse::builder().status(status);
    let builder = match status {
        429 => builder.header("retry-after", "1"),
        _ => builder,
    };
    builder.body(body).expect("an answer").into()
}
