//! The pure decisions: which endpoint a request is for, and how to handle its body.
//!
//! Invariant: no I/O and no clock. The signature is verified before anything in the body is parsed.

use std::borrow::Cow;

use bytes::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::{HeaderMap, Method};
use revwatch_core::app_event::{AppEvent, AppEventError};
use revwatch_core::event::{
    EnvelopeError, Event, Head, Keyed, MAX_ID_BYTES, event_id_of, partition_of,
};
use revwatch_core::signature::{self, SignatureError, SigningKey};
use revwatch_core::source::Source;
use revwatch_core::standard_webhooks::{self, StandardHeaders, StandardKey};
use revwatch_runtime::config::{Endpoint, Keys};
use revwatch_runtime::telemetry::{SpanContext, parse_traceparent};

use serde_json::value::RawValue;

use crate::answer::Answer;

/// The routing decision, made from the request's head alone. The endpoint is an index into the
/// configured ones; a refusal names it too, if there is one, for the metric.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Endpoint(usize, Form),
    Refused(Option<usize>, Answer),
}

/// How many events a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    One,
    /// A JSON array of at most [`MAX_EVENTS`].
    Batch,
}

/// How to handle a complete body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Publish(Envelope),
    /// Each event of a batch: its bytes, or why it is refused.
    Batch(Vec<Result<(Bytes, Envelope), Answer>>),
    Refuse(Answer),
}

/// What a verdict depends on, besides endpoint and request.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    /// Unix seconds.
    pub(crate) now_s: i64,
    pub(crate) tolerance_s: i64,
    pub(crate) partitions: u32,
}

/// The most events of a batch.
pub(crate) const MAX_EVENTS: usize = 100;

/// What the path of an endpoint of the application gets for batches.
const BATCH: &str = "/batch";

/// The fields of a verified event that are kept next to its body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) event_id: String,
    pub(crate) event_type: String,
    /// Whether the type is documented. Events of unknown types are stored like any other.
    pub(crate) known_type: bool,
    pub(crate) partition: u32,
}

/// Selects the endpoint by exact path.
pub(crate) fn route(
    endpoints: &[Endpoint],
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> Route {
    // There are few endpoints: comparing is as fast as hashing.
    let of = |path: &str| endpoints.iter().position(|e| e.path == path);
    let batch = || {
        let index = of(path.strip_suffix(BATCH)?)?;
        matches!(endpoints[index].keys, Keys::App(_)).then_some((index, Form::Batch))
    };
    let Some((index, form)) = of(path).map(|index| (index, Form::One)).or_else(batch) else {
        return Route::Refused(None, Answer::UnknownPath);
    };
    if method != Method::POST {
        return Route::Refused(Some(index), Answer::MethodNotAllowed);
    }
    let cloud_events = match (&endpoints[index].keys, form) {
        (Keys::Stripe(_), _) => None,
        (Keys::App(_), Form::One) => Some("application/cloudevents+json"),
        (Keys::App(_), Form::Batch) => Some("application/cloudevents-batch+json"),
    };
    if headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| !is_json(value.as_bytes(), cloud_events))
    {
        return Route::Refused(Some(index), Answer::UnsupportedMediaType { cloud_events });
    }
    Route::Endpoint(index, form)
}

/// The value of a header of signatures. Lines of the same name are one list (RFC 9110, section 5.3), and a proxy may split
/// or join them.
fn joined<'a>(headers: &'a HeaderMap, name: &str, separator: u8) -> Option<Cow<'a, [u8]>> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?.as_bytes();
    Some(lines.fold(Cow::Borrowed(first), |joined, line| {
        Cow::Owned([&joined, line.as_bytes()].join(&separator))
    }))
}

/// Verifies, then reads the envelope, or those of a batch.
pub(crate) fn decide(
    endpoint: &Endpoint,
    form: Form,
    headers: &HeaderMap,
    body: &Bytes,
    terms: Terms,
) -> Verdict {
    match (&endpoint.keys, form) {
        (Keys::Stripe(keys), _) => of_stripe(keys, headers, body, terms),
        (Keys::App(keys), form) => {
            if let Err(refusal) = is_of_app(keys, headers, body, terms) {
                return Verdict::Refuse(Answer::BadSignature(refusal));
            }
            match form {
                Form::One => match of_app(body, terms) {
                    Ok(envelope) => Verdict::Publish(envelope),
                    Err(answer) => Verdict::Refuse(answer),
                },
                Form::Batch => batch(body, terms),
            }
        }
    }
}

fn of_stripe(keys: &[SigningKey], headers: &HeaderMap, body: &[u8], terms: Terms) -> Verdict {
    let signature = joined(headers, "stripe-signature", b',');
    let (now_s, tolerance_s) = (terms.now_s, terms.tolerance_s);
    if let Err(refusal) = signature::verify(keys, signature.as_deref(), body, now_s, tolerance_s) {
        return Verdict::Refuse(Answer::BadSignature(refusal));
    }
    let event = match Event::parse_head(body) {
        Ok(event) if event.source() != Source::Stripe => {
            return Verdict::Refuse(Answer::NotAnEvent(EnvelopeError::OwnId));
        }
        Ok(event) => event,
        // Nothing can be kept under such a name, and Stripe gives none. With a name, an object's id may be of any length.
        Err(error @ EnvelopeError::TooLong("id" | "type" | "account")) => {
            return Verdict::Refuse(Answer::NotAnEvent(error));
        }
        // The event is signed and identifies itself as an event, but does not have the documented
        // form. If it were refused, it would be lost once Stripe stops retrying. Accepted, it
        // becomes a dead letter with a reason, and an operator can inspect it.
        Err(error) => {
            let is_stripes =
                |id: &String| id.len() <= MAX_ID_BYTES && Source::of(id) == Source::Stripe;
            let Some(event_id) = event_id_of(body).filter(is_stripes) else {
                return Verdict::Refuse(Answer::NotAnEvent(error));
            };
            let partition = partition_of(&event_id, terms.partitions);
            let event_type = "unreadable".to_owned();
            return Verdict::Publish(Envelope {
                partition,
                known_type: false,
                event_id,
                event_type,
            });
        }
    };
    Verdict::Publish(Envelope::of(event, terms.partitions))
}

/// Whether a holder of a secret signed these bytes after Standard Webhooks.
fn is_of_app(
    keys: &[StandardKey],
    headers: &HeaderMap,
    body: &[u8],
    terms: Terms,
) -> Result<(), SignatureError> {
    let header = |name| headers.get(name).map(|value| value.as_bytes());
    let signatures = joined(headers, standard_webhooks::SIGNATURE, b' ');
    let signed = StandardHeaders {
        id: header(standard_webhooks::ID),
        timestamp: header(standard_webhooks::TIMESTAMP),
        signature: signatures.as_deref(),
    };
    standard_webhooks::verify(keys, signed, body, terms.now_s, terms.tolerance_s)
}

/// An event of the application is complete, or it is refused: its sender can correct it.
fn of_app(body: &[u8], terms: Terms) -> Result<Envelope, Answer> {
    let refuse = |error: AppEventError| Answer::NotAnEvent(error.into());
    let app = AppEvent::parse(body).map_err(refuse)?;
    app.check_time(terms.now_s).map_err(refuse)?;
    let event = Event::<Head<'_>>::of_app(app, Head::of);
    Ok(Envelope::of(event, terms.partitions))
}

/// Each event of a batch is judged by itself.
fn batch(body: &Bytes, terms: Terms) -> Verdict {
    let refuse = |what: String| {
        let error = AppEventError {
            pointer: String::new(),
            what,
        };
        Verdict::Refuse(Answer::NotAnEvent(error.into()))
    };
    let events: Vec<&RawValue> = match serde_json::from_slice(body) {
        Ok(events) => events,
        Err(error) if error.is_data() => return refuse("is no array of events".to_owned()),
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            return refuse(format!("is not valid JSON (line {line}, column {column})"));
        }
    };
    if events.len() > MAX_EVENTS {
        return refuse(format!("has more than {MAX_EVENTS} events"));
    }
    let judged = events.into_iter().map(|event| {
        let event = event.get().as_bytes();
        let envelope = of_app(event, terms)?;
        Ok((body.slice_ref(event), envelope))
    });
    Verdict::Batch(judged.collect())
}

impl Envelope {
    fn of<Object: Keyed>(event: Event<'_, Object>, partitions: u32) -> Self {
        Self {
            partition: event.partition(partitions),
            known_type: event.is_known(),
            event_id: event.id.into_owned(),
            event_type: event.kind.into_owned(),
        }
    }
}

/// The sender's trace context, if it is valid.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<SpanContext> {
    parse_traceparent(headers.get("traceparent")?.to_str().ok()?)
}

fn is_json(content_type: &[u8], other: Option<&str>) -> bool {
    let essence = content_type
        .split(|b| *b == b';')
        .next()
        .unwrap_or_default();
    let mut known = ["application/json"].into_iter().chain(other);
    known.any(|known| essence.trim_ascii().eq_ignore_ascii_case(known.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use revwatch_core::signature::{SignatureError, SigningKey};

    fn endpoint(path: &str) -> Endpoint {
        let keys = vec![SigningKey::new("whsec_a").expect("a secret")];
        Endpoint {
            name: path.trim_start_matches('/').to_owned(),
            path: path.to_owned(),
            keys: Keys::Stripe(keys),
        }
    }

    /// A header line with this signature.
    fn headers(signature: Option<&str>) -> HeaderMap {
        let line = |text: &str| {
            (
                "stripe-signature".parse().expect("a name"),
                text.parse().expect("a value"),
            )
        };
        signature.into_iter().map(line).collect()
    }

    #[test]
    fn routes_by_path_then_method_then_content_type() {
        let endpoints = [endpoint("/a"), endpoint("/b")];
        let check = |method: Method, path: &str, content_type: Option<&str>, expected: Route| {
            let mut headers = HeaderMap::new();
            if let Some(value) = content_type {
                headers.insert(CONTENT_TYPE, value.parse().expect("a header value"));
            }
            assert_eq!(
                route(&endpoints, &method, path, &headers),
                expected,
                "{method} {path} {content_type:?}"
            );
        };
        check(Method::POST, "/b", None, Route::Endpoint(1, Form::One));
        check(
            Method::POST,
            "/a",
            Some("application/json"),
            Route::Endpoint(0, Form::One),
        );
        check(
            Method::POST,
            "/a",
            Some("Application/JSON ; charset=utf-8"),
            Route::Endpoint(0, Form::One),
        );
        let media = || {
            let cloud_events = None;
            Route::Refused(Some(0), Answer::UnsupportedMediaType { cloud_events })
        };
        check(Method::POST, "/a", Some("text/plain"), media());
        check(Method::POST, "/a", Some("application/jsonp"), media());
        check(Method::POST, "/a", Some(""), media());
        check(
            Method::GET,
            "/b",
            Some("text/plain"),
            Route::Refused(Some(1), Answer::MethodNotAllowed),
        );
        check(
            Method::POST,
            "/a/",
            None,
            Route::Refused(None, Answer::UnknownPath),
        );
        check(
            Method::GET,
            "/",
            None,
            Route::Refused(None, Answer::UnknownPath),
        );
    }

    #[test]
    fn verifies_the_signature_first_and_takes_events_of_both_modes() {
        let check = |body: &[u8], signed: bool| {
            let header = SigningKey::new("whsec_a")
                .expect("a secret")
                .header(1_000, body);
            decide(
                &endpoint("/a"),
                Form::One,
                &headers(signed.then_some(header.as_str())),
                &Bytes::copy_from_slice(body),
                Terms {
                    now_s: 1_000,
                    tolerance_s: 300,
                    partitions: 1,
                },
            )
        };
        let envelope = || Envelope {
            event_id: "evt_1".to_owned(),
            event_type: "made.up".to_owned(),
            known_type: false,
            partition: 0,
        };
        for livemode in ["true", "false"] {
            let event =
                format!(r#"{{"id":"evt_1","type":"made.up","created":1,"livemode":{livemode}}}"#);
            assert_eq!(check(event.as_bytes(), true), Verdict::Publish(envelope()));
        }
        assert_eq!(
            check(b"junk", false),
            Verdict::Refuse(Answer::BadSignature(SignatureError::NoHeader(
                "Stripe-Signature"
            )))
        );
        assert!(matches!(
            check(b"junk", true),
            Verdict::Refuse(Answer::NotAnEvent(_))
        ));
        for long in [
            format!(r#"{{"id":"{}","object":"event"}}"#, "e".repeat(256)),
            format!(
                r#"{{"id":"{}","type":"made.up","created":1}}"#,
                "e".repeat(256)
            ),
        ] {
            let verdict = check(long.as_bytes(), true);
            assert!(
                matches!(verdict, Verdict::Refuse(Answer::NotAnEvent(_))),
                "{verdict:?}"
            );
        }
        // From the tests of Stripe's own libraries: an event that states only that it is an event.
        let bare = br#"{"id": "evt_test_webhook", "object": "event"}"#;
        assert!(
            matches!(check(bare, true), Verdict::Publish(e) if e.event_id == "evt_test_webhook")
        );
    }

    /// An event is created before it is signed. What is more than a day newer than its receipt would be a dead letter.
    #[test]
    fn no_event_is_from_the_future_of_the_clock_that_received_it() {
        const SENT_S: i64 = 1_800_000_000;
        let key = SigningKey::new("whsec_a").expect("a secret");
        let body = format!(
            r#"{{"id":"evt_1","type":"payout.paid","created":{SENT_S},"data":{{"object":{{"id":"po_1"}}}}}}"#
        );
        let header = key.header(SENT_S, body.as_bytes());
        let event = Event::parse(body.as_bytes()).expect("an event");
        // All that the settings allow.
        for tolerance_s in [1, 300, 86_400] {
            let mut accepted = 0;
            let near = (-310..310).map(|s: i64| SENT_S + s);
            let far = (0..60).flat_map(|n| [SENT_S - (1 << n), SENT_S.saturating_add(1 << n)]);
            for now_s in near.chain(far) {
                let verdict = decide(
                    &endpoint("/a"),
                    Form::One,
                    &headers(Some(&header)),
                    &Bytes::copy_from_slice(body.as_bytes()),
                    Terms {
                        now_s,
                        tolerance_s,
                        partitions: 1,
                    },
                );
                match verdict {
                    Verdict::Batch(_) => panic!("it is one event"),
                    Verdict::Publish(_) => {
                        accepted += 1;
                        assert!(!event.is_created_too_late(now_s * 1000), "{now_s}");
                    }
                    Verdict::Refuse(Answer::BadSignature(SignatureError::FromFuture {
                        ahead_s,
                    })) => assert_eq!(ahead_s, SENT_S - now_s),
                    Verdict::Refuse(answer) => {
                        assert_eq!(answer, Answer::BadSignature(SignatureError::TooOld));
                        assert!(now_s > SENT_S);
                    }
                }
            }
            assert!(accepted > 0);
        }
    }

    #[test]
    fn lines_of_the_signature_header_are_one_list() {
        let check = |lines: &[&str], expected: Option<&[u8]>| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("stripe-signature", line.parse().expect("a header value"));
            }
            let found = joined(&headers, "stripe-signature", b',');
            assert_eq!(found.as_deref(), expected, "{lines:?}");
        };
        check(&[], None);
        check(&["t=1,v1=a"], Some(b"t=1,v1=a"));
        check(&["t=1", "v1=a", "v1=b"], Some(b"t=1,v1=a,v1=b"));
    }

    #[test]
    fn accepts_only_a_valid_traceparent() {
        let check = |text: &str, valid: bool| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", text.parse().expect("a header value"));
            assert_eq!(traceparent(&headers).is_some(), valid, "{text}");
        };
        check(
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            true,
        );
        check(
            "00-4BF92F3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            false,
        );
        check(
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            false,
        );
        check(
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            false,
        );
        check(
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            false,
        );
        check(
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            false,
        );
        check("00-4bf92f35-00f067aa0ba902b7-01", false);
        assert_eq!(traceparent(&HeaderMap::new()), None);
    }
}
