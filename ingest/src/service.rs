//! From a request's head to its answer: asks for the body, lets [`crate::verify`] decide, publishes,
//! counts and logs.
//!
//! Invariant: every request is counted once, whatever happens to it ([`RequestCounter`]).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{HeaderMap, Response};
use revwatch_core::clock::{Clock, Ids};
use revwatch_core::signature::SignatureError;
use revwatch_runtime::config::{Endpoint, Limits};
use revwatch_runtime::public::{BodyError, Received, Service};
use revwatch_runtime::reload::Reloadable;
use revwatch_runtime::telemetry::{LimitedLog, Metrics, Tracer};
use revwatch_storage::ports::Delivery;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::Settings;
use crate::answer::Answer;
use crate::publisher::{Accepted, Publisher};
use crate::request_metrics::RequestCounter;
use crate::request_span::RequestSpan;
use crate::verify::{self, Envelope, Form, Route, Terms, Verdict};

/// What all requests share.
pub(crate) struct Edge {
    endpoints: Reloadable<Vec<Endpoint>>,
    limits: Limits,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    metrics: Arc<Metrics>,
    publisher: Arc<Publisher>,
    tracer: Tracer,
    refusals: LimitedLog,
    clock_faults: LimitedLog,
}

/// Lines about refused webhooks in ten seconds.
const REFUSAL_LINES: u32 = 100;

/// The result of a request before anything is published.
enum Examined {
    Publish(Box<Accepted>),
    /// Each event of a batch, or why it is refused.
    Batch(Vec<Result<Accepted, Answer>>),
    Answer(Answer),
}

/// A request that was routed.
#[derive(Clone, Copy)]
struct Routed {
    index: usize,
    form: Form,
    began: SystemTime,
}

impl Edge {
    /// `publish`: how long the queue has to confirm.
    pub(crate) fn new(settings: Settings, publish: Duration) -> Self {
        let Settings {
            endpoints,
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
            publisher: Publisher::new(
                queue,
                clock.clone(),
                metrics.clone(),
                tracer.clone(),
                limits.in_flight,
                publish,
            ),
            clock,
            ids,
            metrics,
            tracer,
            limits,
            refusals: LimitedLog::new(REFUSAL_LINES),
            clock_faults: LimitedLog::new(1),
        }
    }

    /// The webhook endpoints; a reload replaces them.
    pub(crate) fn endpoints(&self) -> Reloadable<Vec<Endpoint>> {
        self.endpoints.clone()
    }

    pub(crate) fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    async fn read<B>(&self, received: &mut Received<'_, B>) -> Result<Bytes, Answer>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let limit_bytes = self.limits.body_bytes;
        let body = received.body(limit_bytes).await;
        body.map_err(|error| match error {
            BodyError::TooLarge => Answer::TooLarge { limit_bytes },
            BodyError::Incomplete => Answer::IncompleteBody,
            BodyError::Timeout => Answer::BodyTimeout,
            BodyError::Budget => Answer::BodyBudget,
        })
    }

    /// `seen` are the endpoints by which the head was routed.
    fn examine(
        &self,
        seen: &Arc<Vec<Endpoint>>,
        routed: Routed,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Examined {
        let endpoint = &seen[routed.index];
        let now = self.clock.now();
        let terms = Terms {
            now_s: now.as_second(),
            tolerance_s: self.limits.signature_tolerance_seconds,
            partitions: self.publisher.partitions(),
        };
        let decide =
            |endpoint: &Endpoint| verify::decide(endpoint, routed.form, headers, &body, terms);
        let accept = |body: Bytes, event: Envelope| {
            let span = RequestSpan::new(&event.event_id, headers, routed.began);
            let delivery = Delivery {
                id: self.ids.fresh(),
                event_id: event.event_id.clone(),
                event_type: event.event_type.clone(),
                partition: event.partition,
                endpoint: endpoint.name.clone(),
                received_ms: now.as_millisecond(),
                traceparent: Some(span.traceparent(&self.tracer)),
                body,
            };
            Accepted {
                delivery,
                event,
                span,
            }
        };
        match decide_by_latest(seen, &self.endpoints, endpoint, decide) {
            Verdict::Refuse(answer) => Examined::Answer(answer),
            Verdict::Publish(event) => Examined::Publish(Box::new(accept(body, event))),
            Verdict::Batch(judged) => {
                let judged = judged.into_iter();
                let accepted = judged.map(|each| each.map(|(body, event)| accept(body, event)));
                Examined::Batch(accepted.collect())
            }
        }
    }

    /// Publishes what is accepted of a batch. If the queue did not confirm all of it, the sender must send the batch again.
    /// Each event counts as a request of its own.
    async fn publish_batch(
        &self,
        mut counter: RequestCounter,
        judged: Vec<Result<Accepted, Answer>>,
    ) -> Answer {
        let mut refused = Vec::new();
        let (mut answers, mut accepted) = (Vec::new(), Vec::new());
        for each in judged {
            answers.push(match each {
                Ok(event) => {
                    accepted.push(event);
                    Answer::Stored
                }
                Err(answer) => {
                    refused.push(counter.another(answer.outcome()));
                    answer
                }
            });
        }
        if let Some(first) = answers.iter().find(|it| **it != Answer::Stored)
            && let Some(unlogged) = self.refusals.one_more(Instant::now())
        {
            let (events, refused) = (answers.len(), refused.len());
            let reason = first.outcome();
            warn!(endpoint = %counter.endpoint, reason, refused, events, unlogged, "refused events of a batch");
        }
        if accepted.is_empty() {
            // Its events are counted; without any, the request is.
            counter.outcome = match answers.is_empty() {
                true => Answer::Stored.outcome(),
                false => RequestCounter::NONE,
            };
            return Answer::Batch(answers);
        }
        match self.publisher.publish_all(counter, accepted).await {
            Answer::Stored => Answer::Batch(answers),
            unstored => unstored,
        }
    }

    /// Counts a request of which nothing is published. Returns `answer`, or 429 instead of a refusal if the address is
    /// over its limit.
    fn answer_unpublished<B>(
        &self,
        mut counter: RequestCounter,
        received: &Received<'_, B>,
        answer: Answer,
    ) -> Answer
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if let Answer::BadSignature(SignatureError::FromFuture { ahead_s }) = answer
            && let Some(unlogged) = self.clock_faults.one_more(Instant::now())
        {
            error!(
                endpoint = %counter.endpoint,
                behind_seconds = ahead_s,
                unlogged,
                "this machine's clock is behind, or the sender's is ahead: webhooks are refused until it is right (run `timedatectl` or `chronyc tracking`, \
                 and let it be set by NTP); Stripe sends them again"
            );
        }
        let refused = answer
            .refuses_unauthenticated()
            .then(|| received.refused())
            .transpose();
        let answer = match refused {
            // Not logged: a flood of requests must not flood the log.
            Err(retry_after_seconds) => Answer::Limited {
                retry_after_seconds,
            },
            Ok(refused) => {
                if (refused.is_some() || matches!(answer, Answer::NotAnEvent(_)))
                    && let Some(unlogged) = self.refusals.one_more(Instant::now())
                {
                    let (reason, peer) = (answer.outcome(), received.client());
                    warn!(endpoint = %counter.endpoint, reason, %peer, unlogged, "refused a webhook");
                }
                answer
            }
        };
        counter.outcome = answer.outcome();
        answer
    }
}

impl Service for Edge {
    type Body = Full<Bytes>;

    async fn answer<B>(&self, received: &mut Received<'_, B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Send + Unpin,
    {
        let began = self.clock.now().into();
        let mut counter = RequestCounter::new(self.metrics.clone());
        counter.eviction = received.eviction();
        let endpoints = self.endpoints.get();
        let head = &received.head;
        let examined = match verify::route(&endpoints, &head.method, head.uri.path(), &head.headers)
        {
            Route::Refused(index, answer) => {
                if let Some(index) = index {
                    counter.endpoint = Cow::Owned(endpoints[index].name.clone());
                }
                Examined::Answer(answer)
            }
            Route::Endpoint(index, form) => {
                let endpoint = &endpoints[index];
                counter.endpoint = Cow::Owned(endpoint.name.clone());
                match self.read(received).await {
                    Err(answer) => Examined::Answer(answer),
                    Ok(body) => {
                        let routed = Routed { index, form, began };
                        self.examine(&endpoints, routed, &received.head.headers, body)
                    }
                }
            }
        };
        let answer = match examined {
            Examined::Publish(accepted) => self.publisher.publish(counter, *accepted).await,
            Examined::Batch(judged) => self.publish_batch(counter, judged).await,
            Examined::Answer(answer) => self.answer_unpublished(counter, received, answer),
        };
        response(&answer)
    }

    fn count_unserved(&self, outcome: &'static str) {
        RequestCounter::new(self.metrics.clone()).outcome = outcome;
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

fn response(answer: &Answer) -> Response<Full<Bytes>> {
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
    response
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use revwatch_runtime::config::Keys;

    use super::*;

    fn endpoint(name: &str, path: &str) -> Endpoint {
        Endpoint {
            name: name.to_owned(),
            path: path.to_owned(),
            keys: Keys::Stripe(Vec::new()),
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
            decided_by(SignatureError::NoHeader("Stripe-Signature")),
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
