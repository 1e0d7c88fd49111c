//! The closed set of answers: status, machine-readable reason, and the message for the sender.
//! Pure.
//!
//! Invariant: an answer never contains any part of the request's body, its signature or a secret.

use bytes::Bytes;
use hyper::StatusCode;
use revwatch_core::event::EnvelopeError;
use revwatch_core::signature::SignatureError;
use serde_json::{Value, json};

/// One answer to one request. The table in the crate's documentation says when each is given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Stored,
    /// Each event of a batch, once all that are accepted are durable.
    Batch(Vec<Answer>),
    BadSignature(SignatureError),
    NotAnEvent(EnvelopeError),
    IncompleteBody,
    UnknownPath,
    MethodNotAllowed,
    BodyTimeout,
    TooLarge {
        limit_bytes: usize,
    },
    UnsupportedMediaType {
        cloud_events: Option<&'static str>,
    },
    Limited {
        retry_after_seconds: u64,
    },
    Unavailable,
    Overloaded,
    BodyBudget,
}

impl Answer {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Stored | Self::Batch(_) => StatusCode::OK,
            // It is not the sender's fault.
            Self::BadSignature(SignatureError::FromFuture { .. }) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::BadSignature(_) | Self::NotAnEvent(_) | Self::IncompleteBody => {
                StatusCode::BAD_REQUEST
            }
            Self::UnknownPath => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Limited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable | Self::Overloaded | Self::BodyBudget => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// The `reason` of the answer and the `outcome` of the metric: one of a bounded set.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Stored | Self::Batch(_) => "stored",
            Self::BadSignature(refusal) => refusal.reason(),
            Self::NotAnEvent(EnvelopeError::InvalidJson { .. }) => "invalid_json",
            Self::NotAnEvent(_) => "not_an_event",
            Self::IncompleteBody => "incomplete_body",
            Self::UnknownPath => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BodyTimeout => "timeout",
            Self::TooLarge { .. } => "too_large",
            Self::UnsupportedMediaType { .. } => "unsupported_media_type",
            Self::Limited { .. } => "limited",
            Self::Unavailable => "unavailable",
            Self::Overloaded => "overloaded",
            Self::BodyBudget => "body_budget",
        }
    }

    /// Whether it refuses a sender who has not proven that it knows a secret. Only these refusals
    /// count against an address, and only these can become [`Answer::Limited`].
    pub(crate) fn refuses_unauthenticated(&self) -> bool {
        match self {
            Self::BadSignature(SignatureError::FromFuture { .. }) => false,
            Self::BadSignature(_)
            | Self::IncompleteBody
            | Self::UnknownPath
            | Self::MethodNotAllowed
            | Self::BodyTimeout
            | Self::TooLarge { .. }
            | Self::UnsupportedMediaType { .. }
            | Self::BodyBudget => true,
            Self::Stored
            | Self::Batch(_)
            | Self::NotAnEvent(_)
            | Self::Limited { .. }
            | Self::Unavailable
            | Self::Overloaded => false,
        }
    }

    pub(crate) fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::Limited {
                retry_after_seconds,
            } => Some(*retry_after_seconds),
            Self::Unavailable => Some(5),
            Self::BadSignature(SignatureError::FromFuture { .. }) => Some(60),
            Self::Overloaded | Self::BodyBudget => Some(1),
            _ => None,
        }
    }

    /// The body, as JSON.
    pub(crate) fn json(&self) -> Bytes {
        match self {
            Self::Stored => Bytes::from_static(br#"{"status":"stored"}"#),
            _ => self.value().to_string().into(),
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::Stored => json!({ "status": "stored" }),
            Self::Batch(answers) => {
                let events: Vec<Value> = answers.iter().map(Self::value).collect();
                json!({ "events": events })
            }
            _ => {
                let mut error = json!({ "reason": self.outcome(), "message": self.message() });
                if let Self::NotAnEvent(EnvelopeError::App(fault)) = self {
                    error["pointer"] = json!(fault.pointer);
                }
                json!({ "error": error })
            }
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Stored | Self::Batch(_) => String::new(),
            Self::BadSignature(refusal) => refusal.to_string(),
            Self::NotAnEvent(why) => why.to_string(),
            Self::IncompleteBody => {
                "the body ended before it was complete, or its chunks are malformed".to_owned()
            }
            Self::UnknownPath => {
                "no webhook endpoint has this path: compare it with the URL registered at Stripe, or in your application"
                    .to_owned()
            }
            Self::MethodNotAllowed => "webhooks are sent with POST".to_owned(),
            Self::BodyTimeout => "the body did not arrive in time".to_owned(),
            Self::TooLarge { limit_bytes } => {
                format!("the body is larger than {limit_bytes} bytes (limits.body_bytes)")
            }
            Self::UnsupportedMediaType { cloud_events: None } => {
                "the content type must be application/json".to_owned()
            }
            Self::UnsupportedMediaType {
                cloud_events: Some(or),
            } => format!("the content type must be {or} or application/json"),
            Self::Limited { .. } => "too many refused requests from this address".to_owned(),
            Self::Unavailable => "the event could not be stored in time: retry".to_owned(),
            Self::Overloaded => "too many events are being stored at this moment: retry".to_owned(),
            Self::BodyBudget => {
                "too many large bodies are arriving at this moment: retry".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its sender has a secret, and Stripe must send it again.
    #[test]
    fn a_clock_that_is_behind_is_not_the_senders_fault() {
        let answer = Answer::BadSignature(SignatureError::FromFuture { ahead_s: 90_000 });
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.outcome(), "signature_from_future");
        assert!(!answer.refuses_unauthenticated());
        assert!(answer.retry_after_seconds().is_some());
        let json = String::from_utf8_lossy(&answer.json()).into_owned();
        assert!(
            json.contains("by 90000 seconds") && json.contains("clock is behind"),
            "{json}"
        );
    }

    #[test]
    fn answers_are_json_with_a_reason() {
        assert_eq!(Answer::Stored.json(), r#"{"status":"stored"}"#);
        assert_eq!(
            Answer::MethodNotAllowed.json(),
            r#"{"error":{"message":"webhooks are sent with POST","reason":"method_not_allowed"}}"#
        );
    }
}
