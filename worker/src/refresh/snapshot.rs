//! The event that revwatch makes of an account fetched from Stripe's API, so that it goes the way of all
//! events: archived, recognised when it repeats, merged by its time.
use std::time::Duration;

use revwatch_core::event::Event;
use revwatch_core::observe::{Plans, observe};
use revwatch_stripe::API_VERSION;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::agenda::ThinMention;

/// An event, ready to be published.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// `evt_refresh_…`: the same for the same account, thin event and time.
    pub event_id: String,
    /// The whole event; `data.object` is what Stripe answered, byte for byte.
    pub body: String,
}

/// Why an answer is no account that can be applied. Safe to log: it quotes nothing of the answer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SnapshotError {
    /// It is not JSON, or has no id.
    #[error("the answer is not an object with an id")]
    NotAnObject,
    /// It is about something else.
    #[error("the answer is about another object")]
    Another,
    /// It lacks what every account has.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
}

/// When Stripe saw the account as it answered, in Unix seconds: the second *before* the request was sent.
///
/// That second is over, so whatever Stripe tells of it has happened before the answer, and whatever it
/// tells of later ones wins against the answer. Of our own clock and Stripe's (its `Date`, which is
/// written at most `took` after the request was sent) the earlier counts: were ours ahead, the answer
/// would hide events to come. It is never before the thin event, which the answer surely includes.
pub fn seen_at(told_s: i64, sent_s: i64, date_s: Option<i64>, took: Duration) -> i64 {
    let took_s = i64::try_from(took.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
    let stripes_s = date_s.map_or(i64::MAX, |date_s| date_s.saturating_sub(took_s));
    sent_s.min(stripes_s).saturating_sub(1).max(told_s)
}

/// Makes the event, and sees that it can be applied: one that cannot would only become a dead letter.
pub fn event(
    told: &ThinMention,
    seen_at_s: i64,
    livemode: bool,
    answer: &str,
) -> Result<Snapshot, SnapshotError> {
    let object: &RawValue = serde_json::from_str(answer).map_err(|_| SnapshotError::NotAnObject)?;
    let head: Head = serde_json::from_str(object.get()).map_err(|_| SnapshotError::NotAnObject)?;
    if head.id != told.account || head.object.is_some_and(|kind| kind != "account") {
        return Err(SnapshotError::Another);
    }
    let event_id = event_id(told, seen_at_s);
    let wire = Wire {
        id: &event_id,
        object: "event",
        api_version: API_VERSION,
        created: seen_at_s,
        kind: KIND,
        account: &told.account,
        livemode,
        pending_webhooks: 0,
        request: None,
        data: Data { object },
    };
    let body = serde_json::to_string(&wire).map_err(|_| SnapshotError::NotAnObject)?;
    let event =
        Event::parse(body.as_bytes()).map_err(|e| SnapshotError::Unreadable(e.to_string()))?;
    observe(&event, &Plans::default()).map_err(|e| SnapshotError::Unreadable(e.to_string()))?;
    Ok(Snapshot { event_id, body })
}

/// The type of event that a snapshot poses as: what Stripe itself sends when an account changes.
pub const KIND: &str = "account.updated";

/// What a thin event tells is fetched at some time; both make the id, so that a repeat is a repeat.
fn event_id(told: &ThinMention, seen_at_s: i64) -> String {
    let digest = Sha256::digest(format!("{} {} {seen_at_s}", told.account, told.event_id));
    format!("evt_refresh_{}", hex::encode(&digest[..12]))
}

#[derive(Deserialize)]
struct Head {
    id: String,
    object: Option<String>,
}

#[derive(Serialize)]
struct Wire<'a> {
    id: &'a str,
    object: &'a str,
    api_version: &'a str,
    created: i64,
    #[serde(rename = "type")]
    kind: &'a str,
    account: &'a str,
    livemode: bool,
    pending_webhooks: u32,
    request: Option<()>,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    object: &'a RawValue,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> ThinMention {
        ThinMention {
            account: "acct_1".into(),
            told_s: 100,
            event_id: "evt_1".into(),
        }
    }

    #[test]
    fn the_object_is_what_stripe_answered_byte_for_byte() {
        let answer =
            "{ \"id\":\"acct_1\",\n \"object\": \"account\", \"charges_enabled\":true ,\"payouts_enabled\":false,
            \"unknown\": 1.50e1, \"name\": \"caf\\u00e9\" }";
        let made = event(&told(), 120, true, &format!("{answer}\n")).expect("an account");
        let read = Event::parse(made.body.as_bytes()).expect("an event");
        assert_eq!(read.object.expect("an object").get(), answer);
        assert_eq!(
            (read.id.as_ref(), read.kind.as_ref(), read.created_s),
            (made.event_id.as_str(), KIND, 120)
        );
        assert_eq!(
            (read.account.as_deref(), read.livemode),
            (Some("acct_1"), true)
        );
    }

    #[test]
    fn ids_repeat_only_with_account_event_and_time() {
        let id = event_id(&told(), 120);
        assert_eq!(id, "evt_refresh_9fbc8edb2272449c1483af80");
        let others = [
            event_id(
                &ThinMention {
                    account: "acct_2".into(),
                    ..told()
                },
                120,
            ),
            event_id(
                &ThinMention {
                    event_id: "evt_2".into(),
                    ..told()
                },
                120,
            ),
            event_id(&told(), 121),
        ];
        assert!(!others.contains(&id));
    }

    #[test]
    fn what_is_no_account_is_not_published() {
        let table = [
            ("", SnapshotError::NotAnObject),
            ("<html>", SnapshotError::NotAnObject),
            (r#"{"object":"account"}"#, SnapshotError::NotAnObject),
            (
                r#"{"id":"acct_2","object":"account"}"#,
                SnapshotError::Another,
            ),
            (r#"{"id":"acct_1","object":"list"}"#, SnapshotError::Another),
        ];
        for (answer, expected) in table {
            assert_eq!(
                event(&told(), 120, false, answer),
                Err(expected),
                "{answer}"
            );
        }
        let error = event(
            &told(),
            120,
            false,
            r#"{"id":"acct_1","object":"account","payouts_enabled":true}"#,
        );
        assert!(
            error
                .expect_err("incomplete")
                .to_string()
                .contains("charges_enabled")
        );
    }

    #[test]
    fn the_earlier_clock_counts_but_never_before_the_thin_event() {
        let took = Duration::from_millis(300);
        // told, sent, Stripe's date → seen
        let table = [
            (100, 120, Some(120), 118),
            (100, 120, Some(121), 119),
            (100, 120, None, 119),
            (100, 500, Some(120), 118), // ours is ahead
            (100, 50, Some(120), 100),  // ours is behind
            (100, 101, Some(101), 100),
        ];
        for (told_s, sent_s, date_s, expected) in table {
            assert_eq!(
                seen_at(told_s, sent_s, date_s, took),
                expected,
                "{told_s} {sent_s} {date_s:?}"
            );
        }
    }
}
