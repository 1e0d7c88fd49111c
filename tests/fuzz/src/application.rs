//! Events of the user's application, from the signed request through to the state.

mod recipe;

use std::collections::BTreeSet;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use revwatch_core::app_event::{self, AppEvent, AppEventError};
use revwatch_core::entity::EntityKey;
use revwatch_core::event::Event;
use revwatch_core::observe::{ObserveSettings, observe};
use revwatch_core::source::Source;
use revwatch_core::standard_webhooks::{ID, SIGNATURE, StandardKey, TIMESTAMP};
use revwatch_storage::ports::Delivery;
use revwatch_worker::batch::Outcome;
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use self::recipe::Recipe;
use crate::NOW_S;
use crate::edge::{APP, APP_SECRET, EDGE};
use crate::state::{Seen, State, of_state};

/// One event per line: a body, or what a `Recipe` makes.
///
/// Each is posted with a right signature, by itself and in a batch. It is stored if and only if it is after its schema,
/// and then it is observed. What is refused changes nothing, even if a worker meets it. Any order and any repetition of
/// the same events give the same state.
pub fn application(data: &[u8]) {
    let bodies = bodies(data);
    let mut stored = Vec::new();
    for body in &bodies {
        stored.extend(posted(body));
    }
    in_one_batch(&bodies);
    let mut ids = BTreeSet::new();
    // Of an id that comes with two contents, the one that came first counts: there order matters.
    stored.retain(|delivery| ids.insert(delivery.event_id.clone()));
    changes_only_what_is_observed(&stored, &bodies);
    any_order_is_the_same(&stored);
}

/// More are only slower.
const MAX_EVENTS: usize = 64;

fn bodies(data: &[u8]) -> Vec<Vec<u8>> {
    let lines = data.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty()).take(MAX_EVENTS);
    let body = |line: &[u8]| match line.strip_prefix(b"~") {
        Some(recipe) => Recipe::read(recipe).checked_body(),
        None => line.to_vec(),
    };
    lines.map(body).collect()
}

fn judged(body: &[u8]) -> Result<AppEvent<'_>, AppEventError> {
    let event = AppEvent::parse(body)?;
    event.check_time(NOW_S)?;
    Ok(event)
}

fn post(path: &str, body: &[u8]) -> (StatusCode, Value, Vec<Delivery>) {
    let key = StandardKey::new(APP_SECRET).expect("a secret");
    let signed = [
        (ID, "msg_1".to_owned()),
        (TIMESTAMP, NOW_S.to_string()),
        (SIGNATURE, key.sign("msg_1", NOW_S, body)),
    ];
    let headers = signed.map(|(name, value)| {
        let value = HeaderValue::try_from(value).expect("ASCII");
        (name, value)
    });
    EDGE.with(|edge| {
        let (status, answer) = edge.post(path, headers.into_iter(), body);
        let answer = serde_json::from_slice(&answer).expect("an answer is JSON");
        (status, answer, edge.take())
    })
}

/// Posts one body; returns its delivery, if it is accepted.
fn posted(body: &[u8]) -> Option<Delivery> {
    let (status, answer, mut stored) = post(APP, body);
    let judged = judged(body);
    is_answered(&judged, &answer);
    match judged {
        Ok(event) => {
            assert_eq!((status, stored.len()), (StatusCode::OK, 1), "{answer}");
            let delivery = stored.pop().expect("one");
            assert!(delivery.body == body, "the stored body is another");
            assert_eq!(delivery.event_id, event.key());
            assert_eq!(delivery.event_type, event.kind);
            Some(delivery)
        }
        Err(_) => {
            assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
            assert!(stored.is_empty(), "stored, and answered {answer}");
            None
        }
    }
}

/// The answer to one event, by itself or within that to a batch.
fn is_answered(judged: &Result<AppEvent<'_>, AppEventError>, answer: &Value) {
    match judged {
        Ok(_) => assert_eq!(answer["status"], "stored"),
        Err(error) => {
            let pointer = answer["error"]["pointer"].as_str().expect("a pointer");
            assert_eq!(pointer, error.pointer);
            assert!(pointer.is_empty() || pointer.starts_with('/'), "{pointer}");
        }
    }
}

/// Those that are JSON, in one request: each is judged as by itself.
fn in_one_batch(bodies: &[Vec<u8>]) {
    let events = bodies.iter().filter_map(|body| {
        let event: &RawValue = serde_json::from_slice(body).ok()?;
        Some(event.get())
    });
    let events: Vec<&str> = events.collect();
    let batch = format!("[{}]", events.join(","));
    let (status, answer, stored) = post(&format!("{APP}/batch"), batch.as_bytes());
    assert_eq!(status, StatusCode::OK, "{answer}");
    let answers = answer["events"].as_array().expect("a list");
    assert_eq!(answers.len(), events.len());
    let mut accepted = BTreeSet::new();
    for (event, answer) in events.iter().zip(answers) {
        let judged = judged(event.as_bytes());
        is_answered(&judged, answer);
        accepted.extend(judged.is_ok().then_some(event.as_bytes()));
    }
    let stored: BTreeSet<&[u8]> = stored.iter().map(|it| it.body.as_ref()).collect();
    assert_eq!(stored, accepted);
}

/// What was accepted is applied to the object that it is about, and to no other. A body that is refused is a dead letter,
/// if another version accepted it.
fn changes_only_what_is_observed(stored: &[Delivery], bodies: &[Vec<u8>]) {
    let mut state = State::default();
    let mut observed = BTreeSet::new();
    for (delivery, outcome) in stored.iter().zip(state.apply(stored)) {
        let key = observed_key(delivery);
        let expected = match key {
            Some(_) => Outcome::Applied,
            None => Outcome::Ignored,
        };
        assert_eq!(outcome, expected, "{}", delivery.event_type);
        observed.extend(key);
    }
    let before = state.seen();
    let keys: BTreeSet<EntityKey> = before.entities.keys().cloned().collect();
    assert!(keys.is_subset(&observed), "{keys:?} of {observed:?}");
    let refused = bodies.iter().filter(|body| AppEvent::parse(body).is_err());
    for (body, number) in refused.zip(1..) {
        let delivery = Delivery {
            id: Uuid::from_u128(u128::MAX - number),
            event_id: app_event::key("/refused", &number.to_string()),
            event_type: "unreadable".to_owned(),
            partition: 0,
            endpoint: "app".to_owned(),
            received_ms: NOW_S * 1000,
            traceparent: None,
            body: body.clone().into(),
        };
        let outcome = state.apply(&[delivery]).pop();
        assert!(matches!(outcome, Some(Outcome::Dead(_))), "{outcome:?}");
    }
    let after = state.seen();
    assert_eq!(after.entities, before.entities);
    assert_eq!(of_entities(&after), of_entities(&before));
    after.show();
}

/// Which object an event is observed to be about.
fn observed_key(delivery: &Delivery) -> Option<EntityKey> {
    let event = Event::read(Source::App, &delivery.body).expect("it was accepted");
    let mut observations = observe(&event, &ObserveSettings::default()).expect("readable");
    assert!(observations.len() <= 1, "an event is about one object");
    let observation = observations.pop()?;
    assert_eq!(observation.partition(8), delivery.partition);
    Some(observation.key)
}

fn any_order_is_the_same(stored: &[Delivery]) {
    let mut together = State::default();
    together.apply(stored);
    let expected = together.seen();
    let again = |delivery: &Delivery| Delivery {
        id: Uuid::from_u128(!delivery.id.as_u128()),
        ..delivery.clone()
    };
    let mut reversed = State::default();
    for delivery in stored.iter().rev() {
        reversed.apply(std::slice::from_ref(delivery));
        // At once, and below all of them once more.
        let outcome = reversed.apply(&[again(delivery)]);
        assert_eq!(outcome, [Outcome::Duplicate]);
    }
    let repeated: Vec<Delivery> = stored.iter().map(again).collect();
    reversed.apply(&repeated);
    let seen = reversed.seen();
    assert_eq!(seen.entities, expected.entities, "another order");
    assert_eq!(of_entities(&seen), of_entities(&expected), "another order");
}

/// The counters of the state, without those of the deliveries, of which there are more with every repeat.
fn of_entities(seen: &Seen) -> Vec<(String, i64)> {
    let mut all = of_state(&seen.counters);
    all.retain(|(name, _)| !name.contains(" events|"));
    all
}
