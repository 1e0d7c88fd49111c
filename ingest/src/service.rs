//! From a request's head to its answer: reads the body within its limits, lets [`crate::verify`]
//! decide, publishes, counts and logs.
//!
//! Invariant: every request is counted once, whatever happens to it ([`RequestCounter`]).

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{HeaderMap, Request, Response};
use revwatch_core::clock::{Clock, Ids};
use revwatch_core::signature::SignatureError;
use revwatch_runtime::config::{Endpoint, Limits, TrustedProxies};
use revwatch_runtime::reload::Reloadable;
use revwatch_runtime::telemetry::{Metrics, Tracer};
use revwatch_storage::ports::Delivery;
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::Settings;
use crate::answer::Answer;
use crate::bodies::{Bodies, BodyBudgetError};
use crate::client_address::client_address;
use crate::connection::{Progress, Stage};
use crate::deadlines::Deadlines;
use crate::limiter::Limiter;
use crate::peers::{PeerSlot, Peers};
use crate::publisher::Publisher;
use crate::request_metrics::RequestCounter;
use crate::request_span::RequestSpan;
use crate::verify::{self, Envelope, Route, Verdict};

/// What all connections share.
pub(crate) struct Edge {
    endpoints: Reloadable<Vec<Endpoint>>,
    limits: Limits,
    deadlines: Deadlines,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    metrics: Arc<Metrics>,
    limiter: Limiter,
    trusted_proxies: TrustedProxies,
    peers: Arc<Peers>,
    bodies: Bodies,
    publisher: Arc<Publisher>,
    tracer: Tracer,
}

/// The peer is at its limit of connections.
pub(crate) struct TooManyConnectionsError;

/// The result of a request before anything is published.
enum Examined {
    Publish(Box<Delivery>, Envelope, RequestSpan),
    Answer(Answer),
}

impl Edge {
    pub(crate) fn new(settings: Settings, deadlines: Deadlines) -> Self {
        let Settings {
            endpoints,
            trusted_proxies,
            limits,
            queue,
            clock,
            ids,
            metrics,
            tracer,
            ..
        } = settings;
        let metrics = Arc::new(metrics);
        Self {
            endpoints: Reloadable::new(endpoints),
            deadlines,
            trusted_proxies,
            peers: Peers::new(limits.connections_per_peer),
            bodies: Bodies::new(limits.unfinished_body_bytes, deadlines.body_min_time),
            limiter: Limiter::new(limits.refused_per_second, limits.refused_burst),
            publisher: Publisher::new(
                queue,
                clock.clone(),
                metrics.clone(),
                tracer.clone(),
                limits.in_flight,
                deadlines.publish,
            ),
            clock,
            ids,
            metrics,
            tracer,
            limits,
        }
    }

    /// The webhook endpoints; a reload replaces them.
    pub(crate) fn endpoints(&self) -> Reloadable<Vec<Endpoint>> {
        self.endpoints.clone()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn deadlines(&self) -> Deadlines {
        self.deadlines
    }

    pub(crate) fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// A slot for one more connection of `peer`. Trusted proxies need none: they carry the requests
    /// of all clients.
    pub(crate) fn admit(&self, peer: IpAddr) -> Result<Option<PeerSlot>, TooManyConnectionsError> {
        if self.trusted_proxies.contains(peer) {
            return Ok(None);
        }
        self.peers
            .admit(peer)
            .map(Some)
            .ok_or(TooManyConnectionsError)
    }

    pub(crate) async fn handle<B>(
        &self,
        peer: IpAddr,
        progress: &Progress,
        request: Request<B>,
    ) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        progress.set(Stage::Request);
        let began = self.clock.now().into();
        let mut counter = RequestCounter::new(self.metrics.clone());
        let (head, body) = request.into_parts();
        // Until the body is read completely, the connection cannot serve another request.
        let mut early = !body.is_end_stream();
        let endpoints = self.endpoints.get();
        let examined = match verify::route(&endpoints, &head.method, head.uri.path(), &head.headers)
        {
            Route::Refused(index, answer) => {
                if let Some(index) = index {
                    counter.endpoint = Cow::Owned(endpoints[index].name.clone());
                }
                Examined::Answer(answer)
            }
            Route::Endpoint(index) => {
                let endpoint = &endpoints[index];
                counter.endpoint = Cow::Owned(endpoint.name.clone());
                match timeout(self.deadlines.body, self.read(body)).await {
                    Err(_) => Examined::Answer(Answer::BodyTimeout),
                    Ok(Err(answer)) => Examined::Answer(answer),
                    Ok(Ok(body)) => {
                        early = false;
                        self.examine(&endpoints, index, &head.headers, body, began)
                    }
                }
            }
        };
        let answer = match examined {
            Examined::Publish(delivery, envelope, request_span) => {
                self.publisher
                    .publish(counter, *delivery, envelope, request_span)
                    .await
            }
            Examined::Answer(answer) => {
                self.answer_unpublished(counter, peer, &head.headers, answer)
            }
        };
        progress.set(if early {
            Stage::AnsweredEarly
        } else {
            Stage::Idle
        });
        response(&answer, early)
    }

    /// Counts and logs a connection that is closed because its peer is at the limit.
    pub(crate) fn connection_refused(&self, peer: IpAddr) {
        self.no_request(peer, "too_many_connections");
    }

    /// Counts and logs a connection that ended without becoming a request. It sends no answer: the
    /// HTTP layer has already sent one where that was possible.
    pub(crate) fn connection_failed(&self, peer: IpAddr, error: &hyper::Error, stage: Stage) {
        // A request that reached the service is counted there; an idle connection is not a request.
        if stage != Stage::Head {
            return;
        }
        let outcome = if error.is_parse_too_large() {
            "header_too_large"
        } else if error.is_parse() {
            "malformed_http"
        } else if error.is_timeout() {
            "header_timeout"
        } else {
            "aborted"
        };
        self.no_request(peer, outcome);
    }

    fn no_request(&self, peer: IpAddr, outcome: &'static str) {
        if self.limiter.refused(peer).is_ok() {
            warn!(outcome, %peer, "refused an incomplete HTTP request");
        }
        RequestCounter::new(self.metrics.clone()).outcome = outcome;
    }

    /// Reads a body, but never more than `limits.body_bytes` of it, and nothing of one that
    /// declares a larger size.
    async fn read<B>(&self, mut body: B) -> Result<Bytes, Answer>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let limit_bytes = self.limits.body_bytes;
        let too_large = Answer::TooLarge { limit_bytes };
        let declared = body.size_hint();
        if declared.lower() > limit_bytes as u64 {
            return Err(too_large);
        }
        let max_bytes = declared
            .exact()
            .and_then(|exact| usize::try_from(exact).ok())
            .unwrap_or(limit_bytes);
        let mut unfinished = self.bodies.begin(max_bytes);
        while let Some(frame) = body.frame().await {
            // Frames without data are trailers.
            let Ok(data) = frame.map_err(|_| Answer::IncompleteBody)?.into_data() else {
                continue;
            };
            if unfinished.len() + data.len() > limit_bytes {
                return Err(too_large);
            }
            // Most events arrive in one piece, which is kept as it is. A piece of a larger body
            // must be copied: a few bytes of it would keep the connection's complete read buffer
            // alive.
            if unfinished.len() == 0 && body.is_end_stream() {
                return Ok(data);
            }
            unfinished
                .push(&data, Instant::now())
                .map_err(|BodyBudgetError| Answer::BodyBudget)?;
        }
        unfinished
            .finish()
            .map(Bytes::from)
            .map_err(|BodyBudgetError| Answer::BodyBudget)
    }

    /// `seen` are the endpoints by which the head was routed; `index` is the endpoint of this
    /// request.
    fn examine(
        &self,
        seen: &Arc<Vec<Endpoint>>,
        index: usize,
        headers: &HeaderMap,
        body: Bytes,
        began: SystemTime,
    ) -> Examined {
        let endpoint = &seen[index];
        let now = self.clock.now();
        let signature = verify::signature_header(headers);
        let signature = signature.as_deref();
        let tolerance_s = self.limits.signature_tolerance_seconds;
        let decide = |endpoint: &Endpoint| {
            verify::decide(
                endpoint,
                signature,
                &body,
                now.as_second(),
                tolerance_s,
                self.publisher.partitions(),
            )
        };
        match decide_by_latest(seen, &self.endpoints, endpoint, decide) {
            Verdict::Refuse(answer) => Examined::Answer(answer),
            Verdict::Publish(envelope) => {
                let request_span = RequestSpan::new(&envelope.event_id, headers, began);
                let delivery = Delivery {
                    id: self.ids.fresh(),
                    event_id: envelope.event_id.clone(),
                    event_type: envelope.event_type.clone(),
                    partition: envelope.partition,
                    endpoint: endpoint.name.clone(),
                    received_ms: now.as_millisecond(),
                    traceparent: Some(request_span.traceparent(&self.tracer)),
                    body,
                };
                Examined::Publish(Box::new(delivery), envelope, request_span)
            }
        }
    }

    /// Counts a request of which nothing is published. Returns `answer`, or 429 instead of a refusal if the address is
    /// over its limit.
    fn answer_unpublished(
        &self,
        mut counter: RequestCounter,
        peer: IpAddr,
        headers: &HeaderMap,
        answer: Answer,
    ) -> Answer {
        let peer = client_address(&self.trusted_proxies, peer, headers);
        let answer = match answer
            .refuses_unauthenticated()
            .then(|| self.limiter.refused(peer))
        {
            // Not logged: a flood of requests must not flood the log.
            Some(Err(retry_after_seconds)) => Answer::Limited {
                retry_after_seconds,
            },
            refused => {
                if refused.is_some() || matches!(answer, Answer::NotAnEvent(_)) {
                    warn!(endpoint = %counter.endpoint, reason = answer.outcome(), %peer, "refused a webhook");
                }
                answer
            }
        };
        counter.outcome = answer.outcome();
        answer
    }
}

/// Verifies against `endpoint`, one of those `seen` when the head was read. If the signature does
/// not match and a reload has replaced the endpoints since then, verifies against its successor
/// too: the secret may be new.
fn decide_by_latest(
    seen: &Arc<Vec<Endpoint>>,
    current: &Reloadable<Vec<Endpoint>>,
    endpoint: &Endpoint,
    decide: impl Fn(&Endpoint) -> Verdict,
) -> Verdict {
    let verdict = decide(endpoint);
    if !matches!(
        verdict,
        Verdict::Refuse(Answer::BadSignature(SignatureError::Mismatch))
    ) {
        return verdict;
    }
    let latest = current.get();
    if Arc::ptr_eq(seen, &latest) {
        return verdict;
    }
    latest
        .iter()
        .find(|new| new.path == endpoint.path)
        .map_or(verdict, decide)
}

/// `early`: the body was not read completely, so the sender must use a new connection.
fn response(answer: &Answer, early: bool) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(answer.json()));
    *response.status_mut() = answer.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if *answer == Answer::MethodNotAllowed {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
    if let Some(seconds) = answer.retry_after_seconds() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if early {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn endpoint(name: &str, path: &str) -> Endpoint {
        Endpoint {
            name: name.to_owned(),
            path: path.to_owned(),
            keys: Vec::new(),
        }
    }

    #[test]
    fn a_mismatch_is_verified_again_only_if_the_endpoints_were_replaced() {
        let current = Reloadable::new(vec![endpoint("old", "/a")]);
        let seen = current.get();
        let decided_by = |refusal: SignatureError| {
            let by = RefCell::new(Vec::new());
            let decide = |endpoint: &Endpoint| {
                by.borrow_mut().push(endpoint.name.clone());
                Verdict::Refuse(Answer::BadSignature(refusal))
            };
            decide_by_latest(&seen, &current, &seen[0], decide);
            by.into_inner()
        };
        assert_eq!(
            decided_by(SignatureError::Mismatch),
            ["old"],
            "nothing was reloaded"
        );
        current.set(vec![endpoint("other", "/b"), endpoint("new", "/a")]);
        assert_eq!(decided_by(SignatureError::Mismatch), ["old", "new"]);
        assert_eq!(
            decided_by(SignatureError::NoHeader),
            ["old"],
            "no secret would help"
        );
        current.set(vec![endpoint("other", "/b")]);
        assert_eq!(
            decided_by(SignatureError::Mismatch),
            ["old"],
            "its path is gone"
        );
    }
}
