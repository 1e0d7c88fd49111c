//! One page of Stripe's List Events, and the deliveries made of it: a function of the answer. Pure.

use std::time::Duration;

use bytes::Bytes;
use revwatch_core::event::{Event, event_id_of, partition_of};
use revwatch_storage::ports::Delivery;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use revwatch_stripe::ApiErrorKind;

/// The endpoint that deliveries bear which came by a backfill.
pub const ENDPOINT: &str = "backfill";

/// How often one page is asked for before the command gives up. It can be begun again where it stopped.
pub const MAX_ATTEMPTS: u32 = 8;

/// A page, newest event first. Source: <https://docs.stripe.com/api/events/list>, <https://docs.stripe.com/api/pagination>.
#[derive(Debug, Deserialize)]
pub struct Page<'a> {
    /// Whether there are older ones.
    pub has_more: bool,
    /// The events, each as the bytes it has in the list.
    #[serde(borrow)]
    pub data: Vec<&'a RawValue>,
}

/// Why an answer is no page. It quotes nothing of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// It is not what Stripe documents.
    #[error("the answer is not a list as Stripe documents it")]
    NotAList,
    /// Something in it has no id, or says of itself that it is no event.
    #[error("the list holds something that is no event")]
    NotAnEvent,
    /// There is to be more, but nothing says after what.
    #[error(
        "the list does not go on: it is empty, or repeats its cursor, and says that there is more"
    )]
    Stuck,
}

impl<'a> Page<'a> {
    /// Reads the answer to a request for what comes after `cursor`.
    pub fn parse(answer: &'a str, cursor: Option<&str>) -> Result<Self, PageError> {
        let page: Self = serde_json::from_str(answer).map_err(|_| PageError::NotAList)?;
        let last = page
            .data
            .last()
            .map(|raw| event_id_of(raw.get().as_bytes()).ok_or(PageError::NotAnEvent));
        goes_on(page.has_more, last.transpose()?.as_deref(), cursor)?;
        Ok(page)
    }
}

/// The ids on a page of the list of connected accounts, and whether there are more.
/// Source: <https://docs.stripe.com/api/accounts/list>.
pub fn account_ids(answer: &str, cursor: Option<&str>) -> Result<(Vec<String>, bool), PageError> {
    #[derive(Deserialize)]
    struct Accounts {
        has_more: bool,
        data: Vec<Account>,
    }
    #[derive(Deserialize)]
    struct Account {
        id: String,
    }
    let page: Accounts = serde_json::from_str(answer).map_err(|_| PageError::NotAList)?;
    let ids: Vec<String> = page.data.into_iter().map(|account| account.id).collect();
    goes_on(page.has_more, ids.last().map(String::as_str), cursor)?;
    Ok((ids, page.has_more))
}

fn goes_on(has_more: bool, last: Option<&str>, cursor: Option<&str>) -> Result<(), PageError> {
    match has_more && (last.is_none() || last == cursor) {
        true => Err(PageError::Stuck),
        false => Ok(()),
    }
}

/// An event of a list as if it had come by a webhook.
///
/// What is listed as a connected account need not say so (`account` is what Connect's webhooks add), but its partition
/// and its entities hang on it: it is then put in. Otherwise not a byte is changed.
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
        Ok(event) => (
            event.partition(partitions),
            event.kind.to_string(),
            Some(event.created_s),
        ),
        // As with a webhook: by its own word an event, so it becomes a dead letter with its reason.
        Err(_) => (
            partition_of(&event_id, partitions),
            "unreadable".to_owned(),
            None,
        ),
    };
    let delivery = Delivery {
        id: delivery_id(&event_id),
        event_id,
        event_type,
        partition,
        endpoint: ENDPOINT.to_owned(),
        received_ms,
        traceparent: None,
        body: Bytes::from(body),
    };
    Ok((delivery, created_s))
}

/// How long to wait before the page is asked for again; `None`: not at all. `tries` have failed so far.
pub fn wait(why: ApiErrorKind, tries: u32) -> Option<Duration> {
    let backoff =
        Duration::from_millis(500) * 2_u32.saturating_pow(tries.saturating_sub(1)).min(60);
    match why {
        _ if tries >= MAX_ATTEMPTS => None,
        ApiErrorKind::Limited { wait: Some(wait) } => Some(wait),
        ApiErrorKind::Limited { wait: None } | ApiErrorKind::Failed => Some(backoff),
        ApiErrorKind::WrongKey
        | ApiErrorKind::Forbidden
        | ApiErrorKind::NotThere
        | ApiErrorKind::Refused => None,
    }
}

/// Made from the event's id: however often its page is read, it is one delivery.
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
    let word = serde_json::to_string(account).map_err(|_| PageError::NotAnEvent)?;
    match head.account.map(RawValue::get) {
        None => {
            let (before, after) = listed.split_once('{').ok_or(PageError::NotAnEvent)?;
            // It has an id, so something follows.
            Ok(format!("{before}{{\"account\":{word},{after}"))
        }
        Some(null @ "null") => {
            // Borrowed from `listed`: where it stands is the difference.
            let at = null.as_ptr() as usize - listed.as_ptr() as usize;
            Ok(format!(
                "{}{word}{}",
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

/// `null` is something, too.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{ "id":"evt_1", "object":"event","created":1700000000, "type":"payout.paid","livemode":true,
        "data":{"object":{"id":"po_1","object":"payout"}} }"#;

    #[test]
    fn an_event_listed_as_a_connected_account_is_that_accounts() {
        let of = |listed: &str, account| delivery(listed, account, 64, 5).expect("an event").0;
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
        let there = EVENT.replacen("\"id\"", "\"account\":\"acct_1\",\"id\"", 1);
        assert_eq!(of(&there, Some("acct_1")).body, there.as_bytes());
        let read = Event::parse(&connected.body).expect("an event");
        assert_eq!(
            (read.account.as_deref(), read.livemode),
            (Some("acct_1"), true)
        );
        // An `account` within the object is another one.
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

    #[test]
    fn what_cannot_be_read_goes_on_to_be_a_dead_letter() {
        let strange = r#"{"id":"evt_1","object":"event","type":7}"#;
        let (delivery, created_s) =
            delivery(strange, Some("acct_1"), 8, 5).expect("by its own word an event");
        assert_eq!(
            (delivery.event_type.as_str(), created_s),
            ("unreadable", None)
        );
        assert!(super::delivery(r#"{"id":"po_1","object":"payout"}"#, None, 8, 5).is_err());
    }

    #[test]
    fn a_page_says_where_to_go_on_or_is_none() {
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
        for (answer, cursor, expected) in table {
            let found = Page::parse(&answer, cursor).map(|page| page.data.len());
            assert_eq!(found, expected, "{answer}");
        }
    }

    #[test]
    fn accounts_are_listed_by_id() {
        let answer = r#"{"object":"list","has_more":true,"data":[{"id":"acct_2","email":"x"},{"id":"acct_1"}]}"#;
        assert_eq!(
            account_ids(answer, None),
            Ok((vec!["acct_2".to_owned(), "acct_1".to_owned()], true))
        );
        assert_eq!(account_ids(answer, Some("acct_1")), Err(PageError::Stuck));
        assert_eq!(account_ids("{}", None), Err(PageError::NotAList));
    }

    #[test]
    fn only_what_may_pass_is_tried_again_and_not_for_ever() {
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
            (ApiErrorKind::NotThere, 1, None),
            (ApiErrorKind::Refused, 1, None),
        ];
        for (why, tries, expected) in table {
            assert_eq!(wait(why, tries), expected, "{why:?} {tries}");
        }
    }
}
