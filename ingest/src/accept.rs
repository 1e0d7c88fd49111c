//! The pure decisions: which endpoint a request is for, and what is to be done with its body.
//!
//! Invariant: no I/O and no clock; the signature is judged before anything in the body is looked at.

use hyper::header::CONTENT_TYPE;
use hyper::{HeaderMap, Method};
use revwatch_core::event::{Event, event_id_of, is_known_kind, partition_of};
use revwatch_core::signature;
use revwatch_runtime::config::Endpoint;
use revwatch_runtime::telemetry::{SpanContext, parse_traceparent};

use crate::answer::Answer;

/// Where a request goes by its head alone. The endpoint is an index into the configured ones; a
/// refusal names it too, where there is one, for the metric.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Endpoint(usize),
    Refused(Option<usize>, Answer),
}

/// What is to be done with a body that has been read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Publish(Envelope),
    /// The event is genuine, but not for this endpoint.
    Ignore(Envelope),
    Refuse(Answer),
}

/// What is kept of a verified event besides its body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) event_id: String,
    pub(crate) event_type: String,
    /// Whether Stripe documents the type. One it does not is stored like any other.
    pub(crate) known_type: bool,
    pub(crate) partition: u32,
}

/// Chooses the endpoint by exact path.
pub(crate) fn route(
    endpoints: &[Endpoint],
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> Route {
    // A handful of endpoints: comparing is as fast as hashing.
    let Some(index) = endpoints.iter().position(|e| e.path == path) else {
        return Route::Refused(None, Answer::UnknownPath);
    };
    if method != Method::POST {
        return Route::Refused(Some(index), Answer::MethodNotAllowed);
    }
    if headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| !is_json(value.as_bytes()))
    {
        return Route::Refused(Some(index), Answer::UnsupportedMediaType);
    }
    Route::Endpoint(index)
}

/// Verifies, then reads the envelope. `signature` is the raw header; times are Unix seconds.
pub(crate) fn judge(
    endpoint: &Endpoint,
    signature: Option<&[u8]>,
    body: &[u8],
    now_s: i64,
    tolerance_s: i64,
    partitions: u32,
) -> Verdict {
    if let Err(refusal) = signature::verify(&endpoint.keys, signature, body, now_s, tolerance_s) {
        return Verdict::Refuse(Answer::BadSignature(refusal));
    }
    let event = match Event::parse_head(body) {
        Ok(event) => event,
        // Signed, and by its own word an event, but not as documented. Refused, it would be lost once Stripe
        // gives up; taken, it becomes a dead letter with its reason, and can be looked at.
        Err(why) => {
            let Some(event_id) = event_id_of(body) else {
                return Verdict::Refuse(Answer::NotAnEvent(why));
            };
            let partition = partition_of(&event_id, partitions);
            let event_type = "unreadable".to_owned();
            return Verdict::Publish(Envelope {
                partition,
                known_type: false,
                event_id,
                event_type,
            });
        }
    };
    let envelope = Envelope {
        partition: event.partition(partitions),
        known_type: is_known_kind(&event.kind),
        event_id: event.id.into_owned(),
        event_type: event.kind.into_owned(),
    };
    if endpoint.mode.takes(event.livemode) {
        Verdict::Publish(envelope)
    } else {
        Verdict::Ignore(envelope)
    }
}

/// The sender's trace context, if it is valid.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<SpanContext> {
    parse_traceparent(headers.get("traceparent")?.to_str().ok()?)
}

fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type
        .split(|b| *b == b';')
        .next()
        .unwrap_or_default();
    essence
        .trim_ascii()
        .eq_ignore_ascii_case(b"application/json")
}

#[cfg(test)]
mod tests {
    use revwatch_core::signature::{SignatureError, SigningKey};
    use revwatch_runtime::config::Mode;

    use super::*;

    fn endpoint(path: &str, mode: Mode) -> Endpoint {
        let keys = vec![SigningKey::new("whsec_a").expect("a secret")];
        Endpoint {
            name: path.trim_start_matches('/').to_owned(),
            path: path.to_owned(),
            keys,
            mode,
        }
    }

    #[test]
    fn routes_by_path_then_method_then_content_type() {
        let endpoints = [endpoint("/a", Mode::Any), endpoint("/b", Mode::Any)];
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
        check(Method::POST, "/b", None, Route::Endpoint(1));
        check(
            Method::POST,
            "/a",
            Some("application/json"),
            Route::Endpoint(0),
        );
        check(
            Method::POST,
            "/a",
            Some("Application/JSON ; charset=utf-8"),
            Route::Endpoint(0),
        );
        let media = || Route::Refused(Some(0), Answer::UnsupportedMediaType);
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
    fn judges_the_signature_first_and_the_mode_last() {
        let event = br#"{"id":"evt_1","type":"made.up","created":1,"livemode":true}"#;
        let check = |mode: Mode, body: &[u8], signed: bool| {
            let header = SigningKey::new("whsec_a")
                .expect("a secret")
                .header(1_000, body);
            judge(
                &endpoint("/a", mode),
                signed.then_some(header.as_bytes()),
                body,
                1_000,
                300,
                1,
            )
        };
        let envelope = || Envelope {
            event_id: "evt_1".to_owned(),
            event_type: "made.up".to_owned(),
            known_type: false,
            partition: 0,
        };
        assert_eq!(check(Mode::Any, event, true), Verdict::Publish(envelope()));
        assert_eq!(check(Mode::Live, event, true), Verdict::Publish(envelope()));
        assert_eq!(check(Mode::Test, event, true), Verdict::Ignore(envelope()));
        assert_eq!(
            check(Mode::Test, b"junk", false),
            Verdict::Refuse(Answer::BadSignature(SignatureError::NoHeader))
        );
        assert!(matches!(
            check(Mode::Any, b"junk", true),
            Verdict::Refuse(Answer::NotAnEvent(_))
        ));
        // As in the tests of Stripe's own libraries: an event that says no more than that it is one.
        let bare = br#"{"id": "evt_test_webhook", "object": "event"}"#;
        assert!(
            matches!(check(Mode::Any, bare, true), Verdict::Publish(e) if e.event_id == "evt_test_webhook")
        );
    }

    #[test]
    fn takes_only_a_valid_traceparent() {
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
