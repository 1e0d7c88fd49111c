//! Events of the user's own application: what Stripe cannot know. The envelope is a CloudEvent in JSON, its `data` is
//! after the schema of its type in `docs/events/`. Source: <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>.
//!
//! An event of a type without a schema is kept and changes nothing, and so is an unknown field.

mod envelope;
mod schema;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

pub use self::schema::{AppEventType, TYPES};
use crate::event_bounds::{FUTURE_MARGIN_S, MAX_ID_BYTES};
use crate::source::APP;

/// An event of the application, borrowed from its body.
#[derive(Debug)]
pub struct AppEvent<'a> {
    /// Unique within its source.
    pub id: Cow<'a, str>,
    /// Which program of the user's made it: a URI reference, such as `/billing`.
    pub source: Cow<'a, str>,
    /// For example `ticket.opened`.
    pub kind: Cow<'a, str>,
    /// When it happened, Unix milliseconds.
    pub time_ms: i64,
    /// What its type says of it.
    pub data: Option<&'a RawValue>,
    /// The object whose state it changes; `None`: its type has no schema.
    pub subject: Option<(Subject, String)>,
}

/// Why a body is not an event of the application, and where. The text is safe to show and to log: it quotes nothing of
/// the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppEventError {
    /// A JSON pointer (RFC 6901); empty: the body.
    pub pointer: String,
    /// What is wrong there.
    pub what: String,
}

/// What an event is about: where its `data` has the id of the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A connected account.
    Account,
    /// A user.
    User,
    /// A ticket.
    Ticket,
    /// A booking.
    Booking,
    /// A member of an organisation.
    Member,
}

impl<'a> AppEvent<'a> {
    /// Reads the envelope, and judges `data` by the schema of the type.
    pub fn parse(body: &'a [u8]) -> Result<Self, AppEventError> {
        let (mut event, row) = envelope::read(body)?;
        if let Some(row) = row {
            let data = row.judged(event.data)?;
            event.subject = Some((row.subject, row.subject.id_in(&data)?));
        }
        Ok(event)
    }

    /// Refuses an event that is later than its receipt by more than the margin: it would be newer than all that happens
    /// until then.
    pub fn check_time(&self, received_s: i64) -> Result<(), AppEventError> {
        if self.time_ms.div_euclid(1000) > received_s.saturating_add(FUTURE_MARGIN_S) {
            let what = "is more than 24 hours after the event was received";
            return Err(AppEventError::at("/time", what));
        }
        Ok(())
    }

    /// The id under which it is kept: unique over all sources, whatever they are named.
    pub fn key(&self) -> String {
        key(&self.source, &self.id)
    }
}

/// The id under which the event `id` of a source is kept. The source is hashed with its length: no two pairs are alike.
pub fn key(source: &str, id: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(source.len().to_string());
    for part in ["\0", source, id] {
        hash.update(part);
    }
    let digest = hash.finalize();
    format!("{APP}{}", hex::encode(&digest[..KEY_BYTES]))
}

/// Of a SHA-256: enough that two are never alike by accident, or on purpose.
const KEY_BYTES: usize = 20;

impl Subject {
    /// The field of `data` that has its id, or the first of two.
    pub fn field(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::User => "user",
            Self::Ticket => "ticket",
            Self::Booking => "source_id",
            Self::Member => "organization",
        }
    }

    fn id_in(self, data: &Value) -> Result<String, AppEventError> {
        let id = match self {
            Self::Member => member_id(self.text(data), text(data, "user")),
            _ => self.text(data).to_owned(),
        };
        if id.len() > MAX_ID_BYTES {
            let pointer = format!("/data/{}", self.field());
            let what = match self {
                Self::Member => {
                    format!("and /data/user are longer than {MAX_ID_BYTES} bytes together")
                }
                _ => format!("is longer than {MAX_ID_BYTES} bytes"),
            };
            return Err(AppEventError { pointer, what });
        }
        Ok(id)
    }

    fn text(self, data: &Value) -> &str {
        text(data, self.field())
    }
}

fn text<'a>(data: &'a Value, field: &str) -> &'a str {
    data.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The id of a member: of its organisation and of the user. No two pairs are alike.
pub fn member_id(organization: &str, user: &str) -> String {
    let organization = organization.replace('%', "%25").replace('/', "%2F");
    format!("{organization}/{user}")
}

/// Whether this type of event has a schema.
pub fn is_known_type(name: &str) -> bool {
    TYPES.iter().any(|row| row.name == name)
}

impl AppEventError {
    pub(crate) fn at(pointer: &str, what: &str) -> Self {
        Self {
            pointer: pointer.to_owned(),
            what: what.to_owned(),
        }
    }
}

impl fmt::Display for AppEventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pointer.as_str() {
            "" => write!(f, "the body {}", self.what),
            pointer => write!(f, "{pointer} {}", self.what),
        }
    }
}

impl std::error::Error for AppEventError {}
