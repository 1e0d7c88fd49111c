//! The event that revwatch makes of an object fetched from Stripe's API. It is then handled like
//! any other event: archived, deduplicated, merged by its time.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use revwatch_core::entity::{EntityKey, EntityKind};
use revwatch_core::event::{Event, FETCHED};
use revwatch_core::need::Need;
use revwatch_core::observe::{ObserveSettings, observe};
use revwatch_storage::ports::Delivery;
use revwatch_stripe::API_VERSION;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::task::{Cause, Task};

/// An event, ready to be published.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// `evt_refresh_…`: determined by the object, the event that began the wait for it, and the time.
    pub event_id: String,
    /// One that Stripe itself could send when such an object changes.
    pub event_type: &'static str,
    /// The complete event; `data.object` is Stripe's response, byte for byte.
    pub body: String,
}

/// Why a response is not an object that can be applied. Safe to log: it quotes nothing of the
/// response.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SnapshotError {
    /// It is not JSON, or has no id.
    #[error("the response is not an object with an id")]
    NotAnObject,
    /// It is another object.
    #[error("the response is about another object")]
    Another,
    /// It lacks a field that every such object has.
    #[error("the response cannot be parsed: {0}")]
    Unreadable(String),
}

impl Snapshot {
    /// As ingest would queue it, into its partition. `endpoint` is that of its realm.
    pub fn delivery(
        self,
        endpoint: String,
        partitions: u32,
        id: Uuid,
        received_ms: i64,
    ) -> Result<Delivery, SnapshotError> {
        let event = Event::parse(self.body.as_bytes()).map_err(unreadable)?;
        Ok(Delivery {
            id,
            partition: event.partition(partitions),
            event_id: self.event_id,
            event_type: self.event_type.to_owned(),
            endpoint,
            received_ms,
            traceparent: None,
            body: Bytes::from(self.body),
        })
    }
}

/// The time of the state in Stripe's response, in Unix seconds: the second *before* the request was
/// sent.
///
/// That second is past, so every change that Stripe reports for it happened before the response,
/// and every change that it reports for a later second wins over the response. Of our clock and
/// Stripe's (its `Date`, written at most `took` after the request was sent) the earlier one is
/// used: if ours were ahead, the response would hide later events. The result is never before the
/// event that named the object, because the response certainly includes what that reported.
pub fn observed_at(named_at_s: i64, sent_s: i64, date_s: Option<i64>, took: Duration) -> i64 {
    let took_s = i64::try_from(took.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
    let stripe_s = date_s.map_or(i64::MAX, |date_s| date_s.saturating_sub(took_s));
    sent_s.min(stripe_s).saturating_sub(1).max(named_at_s)
}

/// Makes the events: one for each entity that waits for the object, in the partition of that entity.
pub fn events(
    task: &Task,
    observed_at_s: i64,
    livemode: Option<bool>,
    response: &str,
) -> Result<Vec<Snapshot>, SnapshotError> {
    if task.need.kind == EntityKind::MissingEvent {
        return missing_event(task, observed_at_s, livemode, response);
    }
    let mut subjects = BTreeMap::<&EntityKey, &Cause>::new();
    for (key, cause) in &task.waiting {
        let newest = subjects.entry(&key.subject).or_insert(cause);
        *newest = cause.max(newest);
    }
    let events = subjects.into_iter().map(|(subject, cause)| {
        event(
            &task.need,
            subject,
            cause,
            observed_at_s,
            livemode,
            response,
        )
    });
    events.collect()
}

/// Makes one event and checks that it can be applied; otherwise it would only become a dead letter.
fn event(
    need: &Need,
    subject: &EntityKey,
    cause: &Cause,
    observed_at_s: i64,
    livemode: Option<bool>,
    response: &str,
) -> Result<Snapshot, SnapshotError> {
    let row = need.kind.row();
    let object: &RawValue =
        serde_json::from_str(response).map_err(|_| SnapshotError::NotAnObject)?;
    let head: Head = serde_json::from_str(object.get()).map_err(|_| SnapshotError::NotAnObject)?;
    if head.id != need.id || head.object.is_some_and(|object| object != row.object) {
        return Err(SnapshotError::Another);
    }
    let for_other = (subject.id != need.id || subject.kind != need.kind).then_some(subject);
    let event_id = event_id(need, for_other, cause, observed_at_s);
    let wire = Wire {
        id: &event_id,
        object: "event",
        api_version: API_VERSION,
        created: observed_at_s,
        kind: row.fetched_type,
        account: owner(need),
        livemode,
        pending_webhooks: 0,
        request: None,
        data: Data { object },
        related_object: for_other.map(|subject| Related {
            id: &subject.id,
            object: subject.kind.row().object,
        }),
    };
    let body = serde_json::to_string(&wire).map_err(|_| SnapshotError::NotAnObject)?;
    let event = Event::parse(body.as_bytes()).map_err(unreadable)?;
    observe(&event, &ObserveSettings::default()).map_err(unreadable)?;
    Ok(Snapshot {
        event_id,
        event_type: row.fetched_type,
        body,
    })
}

fn unreadable(error: impl std::fmt::Display) -> SnapshotError {
    SnapshotError::Unreadable(error.to_string())
}

/// The two events of the report about an event that Stripe failed to make: the first names the object, as of the
/// time of the report, the second ends the wait. The first has one id, however often it is made.
fn missing_event(
    task: &Task,
    observed_at_s: i64,
    livemode: Option<bool>,
    response: &str,
) -> Result<Vec<Snapshot>, SnapshotError> {
    let report: Report<'_> =
        serde_json::from_str(response).map_err(|_| SnapshotError::NotAnObject)?;
    let row = task.need.kind.row();
    if report.id != task.need.id || report.kind != row.fetched_type {
        return Err(SnapshotError::Another);
    }
    let cause = task.newest().ok_or(SnapshotError::Another)?;
    let thin = |event_id: String, created, data: Option<_>, related_object| {
        let wire = ThinWire {
            id: &event_id,
            object: row.object,
            kind: row.fetched_type,
            created,
            account: task.need.account.as_deref().filter(|_| data.is_none()),
            livemode,
            data,
            related_object,
        };
        let body = serde_json::to_string(&wire).map_err(|_| SnapshotError::NotAnObject)?;
        Ok(Snapshot {
            event_id,
            event_type: row.fetched_type,
            body,
        })
    };
    let digest = Sha256::digest(format!("{} names its object", task.need.id));
    let naming_id = format!("{FETCHED}{}", hex::encode(&digest[..12]));
    let found = Related {
        id: &task.need.id,
        object: row.object,
    };
    let found_id = event_id(&task.need, None, cause, observed_at_s);
    Ok(vec![
        thin(naming_id, cause.since_s, Some(report.data), None)?,
        thin(found_id, observed_at_s, None, Some(found))?,
    ])
}

/// The events of a connected account name it, as those about its objects do.
fn owner(need: &Need) -> Option<&str> {
    match need.kind {
        EntityKind::Account => Some(&need.id),
        _ => need.account.as_deref(),
    }
}

/// Derived from the event that began the wait and the time of the fetch, so that a repeat has the same id.
fn event_id(
    need: &Need,
    for_other: Option<&EntityKey>,
    cause: &Cause,
    observed_at_s: i64,
) -> String {
    let other = for_other.map_or_else(String::new, |subject| format!(" {subject}"));
    let text = format!("{} {} {observed_at_s}{other}", need.id, cause.event_id);
    let digest = Sha256::digest(text);
    format!("{FETCHED}{}", hex::encode(&digest[..12]))
}

#[derive(Deserialize)]
struct Head {
    id: String,
    object: Option<String>,
}

#[derive(Deserialize)]
struct Report<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Serialize)]
struct ThinWire<'a> {
    id: &'a str,
    object: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    created: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    livemode: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    related_object: Option<Related<'a>>,
}

#[derive(Serialize)]
struct Wire<'a> {
    id: &'a str,
    object: &'a str,
    api_version: &'a str,
    created: i64,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    livemode: Option<bool>,
    pending_webhooks: u32,
    request: Option<()>,
    data: Data<'a>,
    /// The entity that needs the object, if it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    related_object: Option<Related<'a>>,
}

#[derive(Serialize)]
struct Related<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    object: &'a str,
}

#[derive(Serialize)]
struct Data<'a> {
    object: &'a RawValue,
}

#[cfg(test)]
mod tests {
    use revwatch_core::condition::{ConditionKey, ConditionKind};
    use revwatch_core::entity::kind::NEVER_MADE;
    use revwatch_core::event::partition_of;
    use revwatch_core::realm::Realm;

    use super::*;

    fn account(id: &str) -> Need {
        Need {
            kind: EntityKind::Account,
            id: id.to_owned(),
            account: None,
            realm: Realm::MAIN,
        }
    }

    fn cause(event_id: &str) -> Cause {
        Cause {
            since_s: 100,
            event_id: event_id.to_owned(),
        }
    }

    /// The event that the object itself waits for.
    fn of(
        need: &Need,
        event_id: &str,
        at_s: i64,
        livemode: Option<bool>,
        response: &str,
    ) -> Result<Snapshot, SnapshotError> {
        let task = Task {
            need: need.clone(),
            waiting: [(waiting(need.kind, &need.id), cause(event_id))].into(),
        };
        let mut made = events(&task, at_s, livemode, response)?;
        assert_eq!(made.len(), 1);
        Ok(made.remove(0))
    }

    fn waiting(kind: EntityKind, id: &str) -> ConditionKey {
        ConditionKey {
            kind: ConditionKind::StateNeeded,
            subject: EntityKey::new(kind, id),
        }
    }

    /// The event of an account, observed at 120.
    fn of_account(livemode: Option<bool>, response: &str) -> Result<Snapshot, SnapshotError> {
        of(&account("acct_1"), "evt_1", 120, livemode, response)
    }

    #[test]
    fn the_object_is_stripes_response_byte_for_byte() {
        let response =
            "{ \"id\":\"acct_1\",\n \"object\": \"account\", \"charges_enabled\":true ,\"payouts_enabled\":false,
            \"unknown\": 1.50e1, \"name\": \"caf\\u00e9\" }";
        let snapshot = of_account(Some(true), &format!("{response}\n")).expect("an account");
        let read = Event::parse(snapshot.body.as_bytes()).expect("an event");
        assert_eq!(read.object.expect("an object").get(), response);
        assert_eq!(
            (read.id.as_ref(), read.kind.as_ref(), read.created_s),
            (snapshot.event_id.as_str(), "account.updated", 120)
        );
        assert_eq!(
            (read.account.as_deref(), read.livemode),
            (Some("acct_1"), Some(true))
        );
    }

    #[test]
    fn ids_depend_on_account_event_and_time() {
        let id = event_id(&account("acct_1"), None, &cause("evt_1"), 120);
        assert_eq!(id, "evt_refresh_9fbc8edb2272449c1483af80");
        let others = [
            event_id(&account("acct_2"), None, &cause("evt_1"), 120),
            event_id(&account("acct_1"), None, &cause("evt_2"), 120),
            event_id(&account("acct_1"), None, &cause("evt_1"), 121),
        ];
        assert!(!others.contains(&id));
    }

    #[test]
    fn a_response_that_is_not_an_account_is_not_published() {
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
        for (response, expected) in table {
            assert_eq!(of_account(None, response), Err(expected), "{response}");
        }
        let error = of_account(
            None,
            r#"{"id":"acct_1","object":"account","payouts_enabled":true}"#,
        );
        assert!(
            error
                .expect_err("incomplete")
                .to_string()
                .contains("charges_enabled")
        );
    }

    /// Each names its owner as Stripe's events do, and says that something changed, not what.
    #[test]
    fn the_event_of_each_kind_is_an_update_of_the_object_in_its_partition() {
        let kinds = EntityKind::ALL.into_iter();
        let named = kinds.filter(|kind| kind.is_known_by_id());
        for kind in named.filter(|kind| *kind != EntityKind::MissingEvent) {
            let row = kind.row();
            let id = format!("{}1", row.id_prefixes[0]);
            let response = serde_json::json!({"id": id, "object": row.object, "status": "open", "reversed": false,
                "amount_reversed": 0, "charges_enabled": true, "payouts_enabled": true});
            for account in [None, Some("acct_1")] {
                let need = Need {
                    kind,
                    id: id.clone(),
                    account: account.map(str::to_owned),
                    realm: Realm::MAIN,
                };
                let made = of(&need, "evt_1", 120, None, &response.to_string());
                let made = made.expect("an object");
                let read = Event::parse(made.body.as_bytes()).expect("an event");
                assert!(
                    read.is_fetched() && read.kind.ends_with(".updated"),
                    "{kind:?}"
                );
                let observed = observe(&read, &ObserveSettings::default()).expect("readable");
                let last = observed.last().expect("an observation");
                assert_eq!((last.key.kind, last.key.id.as_str()), (kind, id.as_str()));
                let owner = account.filter(|_| kind != EntityKind::Account);
                let partition = partition_of(owner.unwrap_or(&id), 64);
                assert_eq!(last.partition(64), partition, "{kind:?} {account:?}");
                assert_eq!(read.partition(64), partition, "{kind:?} {account:?}");
            }
        }
    }

    #[test]
    fn the_report_about_a_missing_event_names_the_object_and_is_answered() {
        let need = Need {
            kind: EntityKind::MissingEvent,
            ..account("evt_1")
        };
        let task = Task {
            waiting: [(waiting(need.kind, &need.id), cause("evt_1"))].into(),
            need,
        };
        let report = |id: &str| {
            serde_json::json!({"id": id, "object": "v2.core.event", "type": NEVER_MADE, "created": "1970-01-01T00:01:40Z",
                "data": {"impact": {"context": "acct_1", "event_type": "payout.paid",
                "related_object": {"id": "po_1", "type": "payout", "url": "/v1/payouts/po_1"}}}})
            .to_string()
        };
        let made = events(&task, 120, None, &report("evt_1")).expect("a report");
        let observed = |snapshot: &Snapshot| {
            let event = Event::parse(snapshot.body.as_bytes()).expect("an event");
            let observed = observe(&event, &ObserveSettings::default()).expect("readable");
            let [observation] = observed.try_into().expect("one");
            assert_eq!(event.partition(64), observation.partition(64));
            observation
        };
        let [naming, found] = made.as_slice() else {
            panic!("{made:?}")
        };
        let payout = observed(naming);
        assert_eq!(payout.key, EntityKey::new(EntityKind::Payout, "po_1"));
        assert_eq!(
            (payout.created_s, payout.partition(64)),
            (100, partition_of("acct_1", 64))
        );
        let answered = observed(found);
        assert_eq!(
            answered.key,
            EntityKey::new(EntityKind::MissingEvent, "evt_1")
        );
        assert_eq!(answered.created_s, 120);
        let again = events(&task, 130, None, &report("evt_1")).expect("a report");
        assert_eq!(again[0], made[0], "it is applied once");
        let other = events(&task, 120, None, &report("evt_2"));
        assert_eq!(other, Err(SnapshotError::Another));
    }

    #[test]
    fn each_entity_that_waits_for_another_object_gets_an_event_in_its_partition() {
        let need = Need {
            kind: EntityKind::Customer,
            ..account("cus_1")
        };
        let subjects = ["sub_1", "sub_2", "sub_1"].into_iter().zip([100, 100, 110]);
        let kinds = [ConditionKind::StateNeeded, ConditionKind::PastDue].into_iter();
        let waiting = subjects.zip(kinds.cycle()).map(|((id, since_s), kind)| {
            let key = ConditionKey {
                kind,
                ..waiting(EntityKind::Subscription, id)
            };
            let event_id = format!("evt_{since_s}");
            (key, Cause { since_s, event_id })
        });
        let task = Task {
            waiting: waiting.collect(),
            need,
        };
        let made = events(&task, 120, None, r#"{"id": "cus_1", "object": "customer"}"#);
        let made = made.expect("a customer");
        assert_eq!(made.len(), 2);
        assert_ne!(made[0].event_id, made[1].event_id);
        for (made, id) in made.iter().zip(["sub_1", "sub_2"]) {
            let read = Event::parse(made.body.as_bytes()).expect("an event");
            assert_eq!(read.related_id.as_deref(), Some(id));
            assert_eq!(read.partition(64), partition_of(id, 64));
        }
    }

    #[test]
    fn the_earlier_clock_is_used_but_never_before_the_event_that_named_the_object() {
        let took = Duration::from_millis(300);
        // named at, sent, Stripe's date → observed at
        let table = [
            (100, 120, Some(120), 118),
            (100, 120, Some(121), 119),
            (100, 120, None, 119),
            (100, 500, Some(120), 118), // our clock is ahead
            (100, 50, Some(120), 100),  // our clock is behind
            (100, 101, Some(101), 100),
        ];
        for (named_at_s, sent_s, date_s, expected) in table {
            assert_eq!(
                observed_at(named_at_s, sent_s, date_s, took),
                expected,
                "{named_at_s} {sent_s} {date_s:?}"
            );
        }
    }
}
