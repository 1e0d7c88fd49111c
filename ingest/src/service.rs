//! From a request's head to its answer: reads the body within its limits, has it judged by
//! [`crate::accept`], publishes it, counts and logs.
//!
//! Invariant: every request is counted once, whatever becomes of it ([`Tally`]); and a publish, once
//! begun, does not depend on the sender staying connected.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{HeaderMap, Request, Response};
use revwatch_shared::config::{Endpoint, Limits};
use revwatch_shared::ports::{Delivery, EventQueue, QueueError};
use revwatch_shared::telemetry::Metrics;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::Settings;
use crate::accept::{self, Envelope, Route, Verdict};
use crate::answer::Answer;
use crate::connection::{Progress, Stage};
use crate::deadlines::Deadlines;
use crate::limiter::Limiter;

/// What all connections share.
pub(crate) struct Edge {
    endpoints: Vec<Endpoint>,
    limits: Limits,
    deadlines: Deadlines,
    queue: Arc<dyn EventQueue>,
    metrics: Metrics,
    limiter: Limiter,
    in_flight: Arc<Semaphore>,
    publishes: TaskTracker,
}

/// Counts its request when dropped, so that none is missed: not one whose sender hung up, and not one
/// whose publish panicked.
struct Tally {
    edge: Arc<Edge>,
    endpoint: Option<usize>,
    outcome: &'static str,
}

/// What came of a request before anything was published.
enum Examined {
    Publish(Delivery, Envelope),
    Answer(Answer),
}

/// A publish nobody waits for any longer goes on for this many further deadlines, since giving up a
/// confirm tells nothing about the event; after that it is dropped, so that a queue that never answers
/// cannot hold on to memory.
const ABANDON_AFTER_DEADLINES: u32 = 3;

impl Edge {
    pub(crate) fn new(settings: Settings, deadlines: Deadlines) -> Self {
        let limits = settings.limits;
        Self {
            endpoints: settings.endpoints,
            deadlines,
            queue: settings.queue,
            metrics: settings.metrics,
            limiter: Limiter::new(limits.refused_per_second, limits.refused_burst),
            in_flight: Arc::new(Semaphore::new(limits.in_flight.min(Semaphore::MAX_PERMITS))),
            publishes: TaskTracker::new(),
            limits,
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn deadlines(&self) -> Deadlines {
        self.deadlines
    }

    /// How many publishes are under way.
    pub(crate) fn publishing(&self) -> usize {
        self.publishes.len()
    }

    /// Waits for publishes under way, as long as one may take.
    pub(crate) async fn finish_publishes(&self) {
        self.publishes.close();
        if timeout(self.deadlines.publish, self.publishes.wait()).await.is_err() {
            warn!(publishes = self.publishes.len(), "stopping with publishes unconfirmed; Stripe sends those again");
        }
    }

    pub(crate) async fn handle(
        self: Arc<Self>,
        from: IpAddr,
        progress: &Progress,
        request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        progress.set(Stage::Request);
        let mut tally = Tally { edge: self.clone(), endpoint: None, outcome: "aborted" };
        let (head, body) = request.into_parts();
        // Until the body has been read to its end, the connection cannot be used for another request.
        let mut early = !body.is_end_stream();
        let examined = match accept::route(&self.endpoints, &head.method, head.uri.path(), &head.headers) {
            Route::Refused(endpoint, answer) => {
                tally.endpoint = endpoint;
                Examined::Answer(answer)
            }
            Route::Endpoint(index) => {
                tally.endpoint = Some(index);
                match timeout(self.deadlines.body, read(body, self.limits.body_bytes)).await {
                    Err(_) => Examined::Answer(Answer::BodyTimeout),
                    Ok(Err(answer)) => Examined::Answer(answer),
                    Ok(Ok(body)) => {
                        early = false;
                        self.examine(&self.endpoints[index], &head.headers, body)
                    }
                }
            }
        };
        let answer = match examined {
            Examined::Publish(delivery, envelope) => self.publish(tally, delivery, envelope).await,
            Examined::Answer(answer) => self.refuse(tally, from, answer),
        };
        progress.set(if early { Stage::AnsweredEarly } else { Stage::Idle });
        response(&answer, early)
    }

    /// Counts and logs a connection that ended without becoming a request. There is nobody to answer:
    /// the HTTP layer has already said what could be said.
    pub(crate) fn connection_failed(self: &Arc<Self>, from: IpAddr, error: &hyper::Error, stage: Stage) {
        // A request that got as far as the service is counted there; an idle connection is no request.
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
        if self.limiter.refused(from).is_ok() {
            warn!(outcome, peer = %from, "refused what is no complete HTTP request");
        }
        drop(Tally { edge: self.clone(), endpoint: None, outcome });
    }

    fn examine(&self, endpoint: &Endpoint, headers: &HeaderMap, body: Bytes) -> Examined {
        let now = jiff::Timestamp::now();
        let signature = headers.get("stripe-signature").map(HeaderValue::as_bytes);
        let tolerance_s = self.limits.signature_tolerance_seconds;
        match accept::judge(endpoint, signature, &body, now.as_second(), tolerance_s, self.queue.partitions()) {
            Verdict::Refuse(answer) => Examined::Answer(answer),
            Verdict::Ignore(event) => {
                info!(
                    endpoint = endpoint.name,
                    outcome = "ignored",
                    event_id = event.event_id,
                    event_type = event.event_type,
                    bytes = body.len(),
                    "webhook"
                );
                Examined::Answer(Answer::Ignored)
            }
            Verdict::Publish(envelope) => {
                let delivery = Delivery {
                    id: Uuid::now_v7(),
                    event_id: envelope.event_id.clone(),
                    event_type: envelope.event_type.clone(),
                    partition: envelope.partition,
                    endpoint: endpoint.name.clone(),
                    received_ms: now.as_millisecond(),
                    traceparent: accept::traceparent(headers),
                    body,
                };
                Examined::Publish(delivery, envelope)
            }
        }
    }

    /// Gives `answer`, or 429 in its place where the address is over its limit.
    fn refuse(&self, mut tally: Tally, from: IpAddr, answer: Answer) -> Answer {
        let answer = match answer.refuses_a_stranger().then(|| self.limiter.refused(from)) {
            // Not logged: whoever floods the port must not flood the log.
            Some(Err(retry_after_seconds)) => Answer::Limited { retry_after_seconds },
            refused => {
                if refused.is_some() || matches!(answer, Answer::NotAnEvent(_)) {
                    warn!(endpoint = tally.endpoint_name(), reason = answer.outcome(), peer = %from, "refused a webhook");
                }
                answer
            }
        };
        tally.outcome = answer.outcome();
        answer
    }

    /// Publishes in a task of its own: a sender that hangs up must not take its event with it.
    async fn publish(self: &Arc<Self>, mut tally: Tally, delivery: Delivery, envelope: Envelope) -> Answer {
        let Ok(permit) = self.in_flight.clone().try_acquire_owned() else {
            tally.outcome = Answer::Overloaded.outcome();
            warn!(
                endpoint = delivery.endpoint,
                event_id = delivery.event_id,
                "too many events are being stored at once (limits.in_flight)"
            );
            return Answer::Overloaded;
        };
        let (tell, told) = oneshot::channel();
        self.publishes.spawn(self.clone().store(tally, permit, delivery, envelope, tell));
        // The task ends without a word only if the queue's adapter panicked.
        told.await.unwrap_or(Answer::Unavailable)
    }

    async fn store(
        self: Arc<Self>,
        mut tally: Tally,
        permit: OwnedSemaphorePermit,
        delivery: Delivery,
        event: Envelope,
        tell: oneshot::Sender<Answer>,
    ) {
        let (delivery_id, bytes) = (delivery.id, delivery.body.len());
        let endpoint = delivery.endpoint.clone();
        let started = Instant::now();
        tally.outcome = Answer::Unavailable.outcome();
        let mut publishing = self.queue.publish(delivery);
        let in_time = timeout(self.deadlines.publish, &mut publishing).await;
        let answer = match &in_time {
            Ok(Ok(())) => {
                self.metrics.ingest_publish_seconds.observe(started.elapsed().as_secs_f64());
                info!(
                    %endpoint, outcome = "stored", event_id = event.event_id, event_type = event.event_type,
                    known_type = event.known_type, %delivery_id, bytes, "webhook"
                );
                Answer::Stored
            }
            Ok(Err(why @ QueueError::Unavailable(_))) => {
                warn!(%endpoint, outcome = "unavailable", event_id = event.event_id, %delivery_id, error = %why, "webhook not stored");
                Answer::Unavailable
            }
            Ok(Err(why @ QueueError::Misconfigured(_))) => {
                error!(%endpoint, outcome = "unavailable", event_id = event.event_id, %delivery_id, error = %why, "webhook not stored");
                Answer::Unavailable
            }
            Err(_) => {
                warn!(%endpoint, outcome = "unavailable", event_id = event.event_id, %delivery_id, "webhook not confirmed within limits.publish_seconds");
                Answer::Unavailable
            }
        };
        tally.outcome = answer.outcome();
        drop(tally);
        let late = in_time.is_err();
        let permit = if late {
            Some(permit)
        } else {
            drop(permit);
            None
        };
        // The sender may be gone; the event is dealt with all the same.
        let _ = tell.send(answer);
        if late {
            let grace = self.deadlines.publish * ABANDON_AFTER_DEADLINES;
            if let Ok(Ok(())) = timeout(grace, publishing).await {
                self.metrics.ingest_publish_seconds.observe(started.elapsed().as_secs_f64());
                info!(%endpoint, event_id = event.event_id, %delivery_id, "stored after the answer; the repeat Stripe sends is dropped as a duplicate");
            }
        }
        drop(permit);
    }
}

impl Tally {
    fn endpoint_name(&self) -> &str {
        self.endpoint.map_or("none", |index| &self.edge.endpoints[index].name)
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.edge.metrics.ingest_requests.with_label_values(&[self.endpoint_name(), self.outcome]).inc();
    }
}

/// Reads a body, but never more than `limit_bytes` of it, and nothing of one that says it is larger.
async fn read(mut body: Incoming, limit_bytes: usize) -> Result<Bytes, Answer> {
    let too_large = Answer::TooLarge { limit_bytes };
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > limit_bytes {
        return Err(too_large);
    }
    // Most events arrive in one piece, which is then kept as it is.
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // What is no data is trailers.
        let Ok(data) = frame.map_err(|_| Answer::IncompleteBody)?.into_data() else { continue };
        if first.len().max(rest.len()) + data.len() > limit_bytes {
            return Err(too_large);
        }
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.reserve(declared.max(first.len() + data.len()));
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// `early`: the body has not been read to its end, and the sender is told to use a new connection.
fn response(answer: &Answer, early: bool) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.json())));
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
