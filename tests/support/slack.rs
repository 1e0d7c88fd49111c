//! A simulated Slack on a loopback port: keeps messages like the real one, answers as configured,
//! and injects faults on demand. It implements HTTP by hand, because most faults concern
//! connections.

mod workspace;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) use self::workspace::{Posted, Workspace};

/// One recorded request that changes something.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// `chat.postMessage`, `chat.update`, or `hook`.
    pub(crate) method: String,
    /// The JSON body.
    pub(crate) body: Value,
    /// The authorization header.
    pub(crate) authorization: String,
    /// The status of the response; 0 if Slack returned an error in the body, or no response.
    pub(crate) status: u16,
    /// The time of the request.
    pub(crate) at: Instant,
}

/// Faults of the first responses.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ScriptedFault {
    /// 429 with Retry-After: 1.
    TooMany,
    /// 500.
    ServerError,
    /// 200 with `ok: false` and this error.
    Error(&'static str),
}

/// Faults of any call. "Done" means that the call takes effect and the client does not learn of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// 429 with Retry-After: 1.
    TooMany,
    /// 500, done or not.
    ServerError { done: bool },
    /// `internal_error`, done or not.
    Internal { done: bool },
    /// The connection is closed before anything is read.
    Closed,
    /// The request is read, not done, and the connection is closed.
    DroppedRequest,
    /// Done; then the connection is closed.
    DroppedResponse,
    /// Done; then no response until the client times out.
    Timeout,
    /// Success; but before it, a user deletes one of the app's messages.
    Deleted,
}

const FAULTS: [Fault; 10] = [
    Fault::TooMany,
    Fault::ServerError { done: false },
    Fault::ServerError { done: true },
    Fault::Internal { done: false },
    Fault::Internal { done: true },
    Fault::Closed,
    Fault::DroppedRequest,
    Fault::DroppedResponse,
    Fault::Timeout,
    Fault::Deleted,
];

/// A running Slack.
#[derive(Clone)]
pub(crate) struct Slack {
    addr: SocketAddr,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    calls: Vec<Call>,
    scripted_faults: VecDeque<ScriptedFault>,
    workspace: Workspace,
    rng: Rng,
    /// The percentage of calls that fail.
    percent: u8,
    /// The maximum duration of a call in milliseconds.
    slowness_ms: u64,
    faults: Vec<Fault>,
    deleted: Vec<Posted>,
}

impl Slack {
    /// Starts it; the first responses to requests that change something are `scripted_faults`.
    pub(crate) async fn start(scripted_faults: &[ScriptedFault]) -> Self {
        let (listener, addr) = revwatch_test_servers::listen().await;
        let inner = Inner {
            scripted_faults: scripted_faults.iter().copied().collect(),
            rng: Rng::with_seed(0),
            ..Inner::default()
        };
        let slack = Self {
            addr,
            inner: Arc::new(Mutex::new(inner)),
        };
        let server = slack.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(server.clone(), stream));
            }
        });
        slack
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// From now on this percentage of calls fails, in every possible way, chosen by the seed.
    pub(crate) fn misbehave(&self, seed: u64, percent: u8) {
        let mut inner = self.inner();
        inner.rng = Rng::with_seed(seed);
        inner.percent = percent;
    }

    /// From now on all calls succeed.
    pub(crate) fn behave(&self) {
        self.inner().percent = 0;
    }

    /// From now on a call takes up to this long.
    pub(crate) fn dawdle(&self, seed: u64, most: Duration) {
        let mut inner = self.inner();
        inner.rng = Rng::with_seed(seed);
        inner.slowness_ms = u64::try_from(most.as_millis()).expect("short");
    }

    /// The app lacks the scopes to read channels.
    pub(crate) fn forbid_reading(&self) {
        self.inner().workspace.is_unreadable = true;
    }

    /// Requests that succeeded.
    pub(crate) fn accepted(&self) -> Vec<Call> {
        self.calls()
            .into_iter()
            .filter(|c| c.status == 200)
            .collect()
    }

    /// All requests that change something.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.inner().calls.clone()
    }

    /// Visible messages of its channels, oldest first.
    pub(crate) fn messages(&self) -> Vec<Posted> {
        self.inner().workspace.messages.clone()
    }

    /// The injected faults, in order.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        self.inner().faults.clone()
    }

    /// Deleted messages, with their last content.
    pub(crate) fn deleted(&self) -> Vec<Posted> {
        self.inner().deleted.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The relevant parts of a request.
struct Request {
    /// The last segment of the path.
    method: String,
    authorization: String,
    /// Parameters of the query or of the JSON body.
    parameters: Value,
    is_read: bool,
}

struct Reply {
    status: u16,
    body: String,
}

/// One request and at most one response.
async fn converse(slack: Slack, mut stream: TcpStream) -> Option<()> {
    let (fault, before, after) = {
        let mut inner = slack.inner();
        let fault = inner.draw();
        let most = inner.slowness_ms;
        (fault, inner.rng.u64(..=most), inner.rng.u64(..=most))
    };
    if fault == Some(Fault::Closed) {
        return None;
    }
    let request = read(&mut stream).await?;
    pause(before).await;
    let reply = slack.inner().act(&request, fault);
    pause(after).await;
    match fault {
        Some(Fault::DroppedRequest | Fault::DroppedResponse) => return None,
        Some(Fault::Timeout) => {
            // Until the client closes the connection.
            while stream.read(&mut [0; 64]).await.ok()? > 0 {}
            return None;
        }
        _ => {}
    }
    let Reply { status, body } = reply;
    let more = if status == 429 {
        "retry-after: 1\r\n"
    } else {
        ""
    };
    let kind = if body.starts_with('{') {
        "application/json; charset=utf-8"
    } else {
        "text/plain"
    };
    let head = format!(
        "HTTP/1.1 {status} -\r\ncontent-type: {kind}\r\n{more}content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(body.as_bytes()).await.ok()?;
    stream.shutdown().await.ok()
}

/// Simulated network latency.
async fn pause(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let head_ends = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_ends]).into_owned();
    let mut lines = head.lines();
    let mut parts = lines.next()?.split(' ');
    let (verb, target) = (parts.next()?, parts.next()?);
    let headers: Vec<_> = lines.filter_map(|line| line.split_once(": ")).collect();
    let header = |name: &str| {
        headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    };
    let length: usize = header("content-length")
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    while bytes.len() < head_ends + 4 + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let url = reqwest::Url::parse(&format!("http://slack{target}")).ok()?;
    let is_read = verb == "GET";
    let parameters = if is_read {
        url.query_pairs()
            .map(|(name, value)| (name.into_owned(), Value::from(value.into_owned())))
            .collect()
    } else {
        serde_json::from_slice(&bytes[head_ends + 4..]).unwrap_or_default()
    };
    let method = url.path_segments()?.next_back()?.to_owned();
    Some(Request {
        method,
        authorization: header("authorization").unwrap_or_default().to_owned(),
        parameters,
        is_read,
    })
}

impl Inner {
    fn draw(&mut self) -> Option<Fault> {
        if self.rng.u8(..100) >= self.percent {
            return None;
        }
        let fault = self.rng.choice(FAULTS);
        self.faults.extend(fault);
        fault
    }

    /// Carries out the call, as far as the fault allows, and records it.
    fn act(&mut self, request: &Request, fault: Option<Fault>) -> Reply {
        let scripted = if request.is_read {
            None
        } else {
            self.scripted_faults.pop_front()
        };
        let plain = |status: u16, body: &str| Reply {
            status,
            body: body.to_owned(),
        };
        let error_reply = |error: &str| Reply {
            status: 200,
            body: json!({"ok": false, "error": error}).to_string(),
        };
        let (reply, status) = match (scripted, fault) {
            (Some(ScriptedFault::TooMany), _) | (None, Some(Fault::TooMany)) => {
                (plain(429, "slow down"), 429)
            }
            (Some(ScriptedFault::ServerError), _)
            | (None, Some(Fault::ServerError { done: false })) => (plain(500, ""), 500),
            // An error, although the HTTP status is 200.
            (Some(ScriptedFault::Error(error)), _) => (error_reply(error), 0),
            (None, Some(Fault::Internal { done: false })) => (error_reply("internal_error"), 0),
            (None, Some(Fault::DroppedRequest | Fault::Closed)) => (plain(0, ""), 0),
            (None, Some(Fault::ServerError { done: true })) => {
                let _ = self.answer(request);
                (plain(500, ""), 500)
            }
            (None, Some(Fault::Internal { done: true })) => {
                let _ = self.answer(request);
                (error_reply("internal_error"), 0)
            }
            (None, Some(Fault::DroppedResponse | Fault::Timeout)) => {
                let _ = self.answer(request);
                (plain(0, ""), 0)
            }
            (None, None | Some(Fault::Deleted)) => {
                if fault.is_some() && !self.workspace.messages.is_empty() {
                    let n = self.rng.usize(..self.workspace.messages.len());
                    let message = self.workspace.messages.remove(n);
                    self.deleted.push(message);
                }
                match self.answer(request) {
                    Ok(Value::String(text)) => (plain(200, &text), 200),
                    Ok(answer) => (
                        Reply {
                            status: 200,
                            body: answer.to_string(),
                        },
                        200,
                    ),
                    Err(error) => (error_reply(error), 0),
                }
            }
        };
        if !request.is_read {
            self.calls.push(Call {
                method: request.method.clone(),
                body: request.parameters.clone(),
                authorization: request.authorization.clone(),
                status,
                at: Instant::now(),
            });
        }
        reply
    }

    fn answer(&mut self, request: &Request) -> Result<Value, &'static str> {
        let now_s = jiff::Timestamp::now().as_second();
        self.workspace
            .answer(&request.method, &request.parameters, now_s)
    }
}
