//! The pure decisions: which endpoint a request is for, and how to handle its body.
//!
//! Invariant: no I/O and no clock. The signature is verified before anything in the body is parsed.

use std::borrow::Cow;

use hyper::header::CONTENT_TYPE;
use hyper::{HeaderMap, Method};
use revwatch_core::event::{
    EnvelopeError, Event, MAX_ID_BYTES, event_id_of, is_known_kind, partition_of,
};
use revwatch_core::signature;
use revwatch_runtime::config::Endpoint;
use revwatch_runtime::telemetry::{SpanContext, parse_traceparent};

use crate::answer::Answer;

/// The routing decision, made from the request's head alone. The endpoint is an index into the
/// configured ones; a refusal names it too, if there is one, for the metric.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Endpoint(usize),
    Refused(Option<usize>, Answer),
}

/// How to handle a complete body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Publish(Envelope),
    Refuse(Answer),
}

/// The fields of a verified event that are kept next to its body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) event_id: String,
    pub(crate) event_type: String,
    /// Whether Stripe documents the type. Events of unknown types are stored like any other.
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

/// The value of the signature header. Lines of the same name are one list (RFC 9110, section 5.3), and a
/// proxy may split or join them.
pub(crate) fn signature_header(headers: &HeaderMap) -> Option<Cow<'_, [u8]>> {
    let mut lines = headers.get_all("stripe-signature").iter();
    let first = lines.next()?.as_bytes();
    Some(lines.fold(Cow::Borrowed(first), |joined, line| {
        Cow::Owned([&joined, line.as_bytes()].join(&b','))
    }))
}

/// Verifies, then reads the envelope. `signature` is the raw header; times are Unix seconds.
pub(crate) fn decide(
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
        // Nothing can be kept under such a name, and Stripe gives none. With a name, an object's id may be of any length.
        Err(error @ EnvelopeError::TooLong("id" | "type" | "account")) => {
            return Verdict::Refuse(Answer::NotAnEvent(error));
        }
        // The event is signed and identifies itself as an event, but does not have the documented
        // form. If it were refused, it would be lost once Stripe stops retrying. Accepted, it
        // becomes a dead letter with a reason, and an operator can inspect it.
        Err(error) => {
            let id = event_id_of(body).filter(|id| id.len() <= MAX_ID_BYTES);
            let Some(event_id) = id else {
                return Verdict::Refuse(Answer::NotAnEvent(error));
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
    Verdict::Publish(Envelope {
        partition: event.partition(partitions),
        known_type: is_known_kind(&event.kind),
        event_id: event.id.into_owned(),
        event_type: event.kind.into_owned(),
    })
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
    use super::*;
    use revwatch_core::signature::{SignatureError, SigningKey};

    fn endpoint(path: &str) -> Endpoint {
        let keys = vec![SigningKey::new("whsec_a").expect("a secret")];
        Endpoint {
            name: path.trim_start_matches('/').to_owned(),
            path: path.to_owned(),
            keys,
        }
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
    fn verifies_the_signature_first_and_takes_events_of_both_modes() {
        let check = |body: &[u8], signed: bool| {
            let header = SigningKey::new("whsec_a")
                .expect("a secret")
                .header(1_000, body);
            decide(
                &endpoint("/a"),
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
        for livemode in ["true", "false"] {
            let event =
                format!(r#"{{"id":"evt_1","type":"made.up","created":1,"livemode":{livemode}}}"#);
            assert_eq!(check(event.as_bytes(), true), Verdict::Publish(envelope()));
        }
        assert_eq!(
            check(b"junk", false),
            Verdict::Refuse(Answer::BadSignature(SignatureError::NoHeader))
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
                    Some(header.as_bytes()),
                    body.as_bytes(),
                    now_s,
                    tolerance_s,
                    1,
                );
                match verdict {
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
            assert_eq!(signature_header(&headers).as_deref(), expected, "{lines:?}");
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
