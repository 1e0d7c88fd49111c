//! One page of Stripe's List Events, and the deliveries made of it: a pure function of the
//! response.

use std::time::Duration;

use bytes::Bytes;
use revwatch_core::backoff::Backoff;
use revwatch_core::event::{Event, MAX_ID_BYTES, beginning, event_id_of, partition_of};
use revwatch_core::event_settings::BACKFILL;
use revwatch_storage::ports::Delivery;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use revwatch_stripe::ApiErrorKind;

/// Attempts to read one page before the backfill fails. A restarted command continues where it
/// stopped.
pub const MAX_ATTEMPTS: u32 = 8;
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(500),
    max: Duration::from_secs(30),
};

/// A page, newest event first.
/// Source: <https://docs.stripe.com/api/events/list>, <https://docs.stripe.com/api/pagination>.
#[derive(Debug, Deserialize)]
pub struct Page<'a> {
    /// Whether there are older events.
    pub has_more: bool,
    /// The events, each as the bytes in the list.
    #[serde(borrow)]
    pub data: Vec<&'a RawValue>,
}

/// Why a response is not a valid page. It quotes nothing of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// It does not have the documented form.
    #[error("the response is not a list as Stripe documents it")]
    NotAList,
    /// An element has no id, or is another kind of object.
    #[error("the list contains an element that is not an event")]
    NotAnEvent,
    /// `has_more` is set, but the page has no new cursor.
    #[error("the list has more pages but no new cursor: it is empty or repeats the last one")]
    Stuck,
    /// A live event was created after now: as a dead letter it would be lost for a fault of this machine.
    #[error(
        "Stripe lists an event that was created {ahead_s} seconds after this machine's time: its clock is behind; set it (see \
         `timedatectl`), and run the command again, which continues here"
    )]
    FromFuture {
        /// How far it is ahead.
        ahead_s: i64,
    },
}

impl<'a> Page<'a> {
    /// Parses the response to a request for the events after `cursor`.
    pub fn parse(response: &'a str, cursor: Option<&str>) -> Result<Self, PageError> {
        let page: Self = serde_json::from_str(response).map_err(|_| PageError::NotAList)?;
        let last = page
            .data
            .last()
            .map(|raw| event_id_of(raw.get().as_bytes()).ok_or(PageError::NotAnEvent));
        check_cursor(page.has_more, last.transpose()?.as_deref(), cursor)?;
        Ok(page)
    }
}

/// Parses a page of the list of connected accounts: the ids, and whether there are more.
/// Source: <https://docs.stripe.com/api/accounts/list>.
pub fn account_ids(response: &str, cursor: Option<&str>) -> Result<(Vec<String>, bool), PageError> {
    #[derive(Deserialize)]
    struct Accounts {
        has_more: bool,
        data: Vec<Account>,
    }
    #[derive(Deserialize)]
    struct Account {
        id: String,
    }
    let page: Accounts = serde_json::from_str(response).map_err(|_| PageError::NotAList)?;
    let ids: Vec<String> = page.data.into_iter().map(|account| account.id).collect();
    check_cursor(page.has_more, ids.last().map(String::as_str), cursor)?;
    Ok((ids, page.has_more))
}

fn check_cursor(has_more: bool, last: Option<&str>, cursor: Option<&str>) -> Result<(), PageError> {
    match has_more && (last.is_none() || last == cursor) {
        true => Err(PageError::Stuck),
        false => Ok(()),
    }
}

/// Makes a delivery of a listed event, as if it had come by webhook.
///
/// An event listed as a connected account may lack `account` (Connect's webhooks add it), but its
/// partition and its entities depend on it: it is then inserted. Otherwise not a byte is changed.
pub fn delivery(
    listed: &str,
    account: Option<&str>,
    partitions: u32,
    received_ms: i64,
) -> Result<(Delivery, Option<i64>), PageError> {
    let event_id = event_id_of(listed.as_bytes()).ok_or(PageError::NotAnEvent)?;
    let body = match account {
        Some(account) => with_account(listed, account)?,
        None => listed.to_owned(),
    };
    let (partition, event_type, created_s) = match Event::parse(body.as_bytes()) {
        // The time of a test clock may be ahead.
        Ok(event) if event.livemode == Some(true) && event.is_created_too_late(received_ms) => {
            let ahead_s = event.created_s.saturating_sub(received_ms.div_euclid(1000));
            return Err(PageError::FromFuture { ahead_s });
        }
        Ok(event) => (
            event.partition(partitions),
            event.kind.to_string(),
            Some(event.created_s),
        ),
        // As with a webhook: it claims to be an event, so it becomes a dead letter with its reason.
        Err(_) => (
            partition_of(&event_id, partitions),
            "unreadable".to_owned(),
            None,
        ),
    };
    let id = delivery_id(&event_id);
    let delivery = Delivery {
        id,
        // Of the dead letter that a longer one makes.
        event_id: beginning(&event_id, MAX_ID_BYTES).to_owned(),
        event_type,
        partition,
        endpoint: BACKFILL.to_owned(),
        received_ms,
        traceparent: None,
        body: Bytes::from(body),
    };
    Ok((delivery, created_s))
}

/// How long to wait before the page is requested again, after `attempts` failures; `None` to give
/// up.
pub fn wait(kind: ApiErrorKind, attempts: u32) -> Option<Duration> {
    let backoff = BACKOFF.wait(attempts.saturating_sub(1));
    match kind {
        _ if attempts >= MAX_ATTEMPTS => None,
        ApiErrorKind::Limited { wait: Some(wait) } => Some(wait),
        ApiErrorKind::Limited { wait: None } | ApiErrorKind::Failed => Some(backoff),
        ApiErrorKind::WrongKey
        | ApiErrorKind::Forbidden
        | ApiErrorKind::NotFound
        | ApiErrorKind::Refused => None,
    }
}

/// Derived from the event's id: the event is one delivery no matter how often its page is read.
fn delivery_id(event_id: &str) -> uuid::Uuid {
    let digest = Sha256::new()
        .chain_update("event listed by Stripe")
        .chain_update(event_id)
        .finalize();
    let head: [u8; 16] = digest[..16].try_into().expect("a digest has 32 bytes");
    uuid::Builder::from_custom_bytes(head).into_uuid()
}

fn with_account(listed: &str, account: &str) -> Result<String, PageError> {
    let head: Head<'_> = serde_json::from_str(listed).map_err(|_| PageError::NotAnEvent)?;
    let quoted = serde_json::to_string(account).map_err(|_| PageError::NotAnEvent)?;
    match head.account.map(RawValue::get) {
        None => {
            let (before, after) = listed.split_once('{').ok_or(PageError::NotAnEvent)?;
            // It has an id, so a field follows.
            Ok(format!("{before}{{\"account\":{quoted},{after}"))
        }
        Some(null @ "null") => {
            // Borrowed from `listed`: the difference of the addresses is its position.
            let at = null.as_ptr() as usize - listed.as_ptr() as usize;
            Ok(format!(
                "{}{quoted}{}",
                &listed[..at],
                &listed[at + null.len()..]
            ))
        }
        Some(_) => Ok(listed.to_owned()),
    }
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    account: Option<&'a RawValue>,
}

/// Distinguishes `null` from an absent field.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    const EVENT: &str = r#"{ "id":"evt_1", "object":"event","created":1700000000, "type":"payout.paid","livemode":true,
        "data":{"object":{"id":"po_1","object":"payout"}} }"#;

    #[test]
    fn an_event_listed_as_a_connected_account_belongs_to_that_account() {
        let of = |listed: &str, account| delivery(listed, account, 64, NOW_MS).expect("an event").0;
        let plain = of(EVENT, None);
        assert_eq!(plain.body, EVENT.as_bytes(), "not a byte is changed");
        let connected = of(EVENT, Some("acct_1"));
        assert_eq!(
            connected.body,
            EVENT
                .replacen("{ ", "{\"account\":\"acct_1\", ", 1)
                .as_bytes()
        );
        assert_eq!(connected.partition, partition_of("acct_1", 64));
        let null = EVENT.replacen("\"id\"", "\"account\": null , \"id\"", 1);
        assert_eq!(
            of(&null, Some("acct_1")).body,
            null.replace("null", "\"acct_1\"").as_bytes()
        );
        let present_already = EVENT.replacen("\"id\"", "\"account\":\"acct_1\",\"id\"", 1);
        assert_eq!(
            of(&present_already, Some("acct_1")).body,
            present_already.as_bytes()
        );
        let read = Event::parse(&connected.body).expect("an event");
        assert_eq!(
            (read.account.as_deref(), read.livemode),
            (Some("acct_1"), Some(true))
        );
        // An `account` inside the object does not count.
        let inner = EVENT.replace("\"id\":\"po_1\"", "\"account\":\"acct_9\"");
        assert_eq!(
            of(&inner, Some("acct_1")).partition,
            partition_of("acct_1", 64)
        );
        assert_eq!(
            (connected.id, &*connected.endpoint, &*connected.event_type),
            (plain.id, "backfill", "payout.paid")
        );
        assert_ne!(of(&EVENT.replace("evt_1", "evt_2"), None).id, plain.id);
    }

    /// But for one of test mode, which may follow a test clock.
    #[test]
    fn a_clock_that_is_behind_makes_no_dead_letters() {
        let listed = |event: &str, behind_s: i64| {
            delivery(event, None, 8, NOW_MS - behind_s * 1000)
                .map(|(delivery, _)| delivery.event_id)
        };
        let of_test = EVENT.replace("\"livemode\":true", "\"livemode\":false");
        for (event, behind_s, expected) in [
            (EVENT, 86_400, Ok("evt_1".to_owned())),
            (
                EVENT,
                86_401,
                Err(PageError::FromFuture { ahead_s: 86_401 }),
            ),
            (&of_test, 86_401, Ok("evt_1".to_owned())),
        ] {
            assert_eq!(listed(event, behind_s), expected);
        }
    }

    #[test]
    fn an_unreadable_event_is_delivered_and_becomes_a_dead_letter() {
        let strange = r#"{"id":"evt_1","object":"event","type":7}"#;
        let (delivery, created_s) =
            delivery(strange, Some("acct_1"), 8, NOW_MS).expect("it claims to be an event");
        assert_eq!(
            (delivery.event_type.as_str(), created_s),
            ("unreadable", None)
        );
        assert!(super::delivery(r#"{"id":"po_1","object":"payout"}"#, None, 8, NOW_MS).is_err());
    }

    #[test]
    fn a_page_needs_events_and_a_new_cursor() {
        let page = |data: &str, more| {
            format!(r#"{{"object":"list","url":"/v1/events","has_more":{more},"data":[{data}]}}"#)
        };
        let table = [
            (page(EVENT, true), None, Ok(1)),
            (page(EVENT, true), Some("evt_0"), Ok(1)),
            (page(EVENT, true), Some("evt_1"), Err(PageError::Stuck)),
            (page("", true), None, Err(PageError::Stuck)),
            (page("", false), None, Ok(0)),
            (
                page(r#"{"id":"po_1","object":"payout"}"#, false),
                None,
                Err(PageError::NotAnEvent),
            ),
            ("<html>".to_owned(), None, Err(PageError::NotAList)),
            (r#"{"data":[]}"#.to_owned(), None, Err(PageError::NotAList)),
        ];
        for (response, cursor, expected) in table {
            let found = Page::parse(&response, cursor).map(|page| page.data.len());
            assert_eq!(found, expected, "{response}");
        }
    }

    #[test]
    fn accounts_are_listed_by_id() {
        let response = r#"{"object":"list","has_more":true,"data":[{"id":"acct_2","email":"x"},{"id":"acct_1"}]}"#;
        assert_eq!(
            account_ids(response, None),
            Ok((vec!["acct_2".to_owned(), "acct_1".to_owned()], true))
        );
        assert_eq!(account_ids(response, Some("acct_1")), Err(PageError::Stuck));
        assert_eq!(account_ids("{}", None), Err(PageError::NotAList));
    }

    #[test]
    fn only_transient_errors_are_retried_and_not_forever() {
        let seven = Some(Duration::from_secs(7));
        let table = [
            (ApiErrorKind::Failed, 1, Some(Duration::from_millis(500))),
            (ApiErrorKind::Failed, 3, Some(Duration::from_secs(2))),
            (ApiErrorKind::Failed, 7, Some(Duration::from_secs(30))),
            (ApiErrorKind::Failed, MAX_ATTEMPTS, None),
            (ApiErrorKind::Limited { wait: seven }, 1, seven),
            (
                ApiErrorKind::Limited { wait: None },
                2,
                Some(Duration::from_secs(1)),
            ),
            (ApiErrorKind::Limited { wait: seven }, MAX_ATTEMPTS, None),
            (ApiErrorKind::WrongKey, 1, None),
            (ApiErrorKind::Forbidden, 1, None),
            (ApiErrorKind::NotFound, 1, None),
            (ApiErrorKind::Refused, 1, None),
        ];
        for (kind, attempts, expected) in table {
            assert_eq!(wait(kind, attempts), expected, "{kind:?} {attempts}");
        }
    }
}
