//! Signed events that are made to cost much: what becomes of them. `tests/bench` measures what they cost.

use super::*;
use crate::entity::Update;
use crate::entity::subscription::SubscriptionFacts;
use crate::entity::timeline::{Changes, RecordedState};

const BYTES: usize = 512 * 1024;

/// A body of about half a megabyte whose `what` repeats `element`.
fn repeated(begin: &str, element: &str, end: &str) -> String {
    let count = (BYTES - begin.len() - end.len()) / (element.len() + 1);
    let all = vec![element; count].join(",");
    format!("{begin}{all}{end}")
}

fn subscription(object: &str, previous: &str) -> String {
    format!(
        r#"{{"id":"evt_1","type":"customer.subscription.updated","created":1000,"data":{{"object":
            {{"id":"sub_1","object":"subscription","status":"active"{object}}},"previous_attributes":{previous}}}}}"#
    )
}

fn observed(body: &str) -> Result<Vec<Observation>, ObserveError> {
    let event = Event::parse(body.as_bytes()).expect("an event");
    observe(&event, &ObserveSettings::default())
}

fn state(observations: &[Observation]) -> &RecordedState<SubscriptionFacts> {
    let mut states = observations.iter().filter_map(|it| match &it.update {
        Update::Subscription(_, state) => Some(state),
        _ => None,
    });
    states.next().expect("a state")
}

/// revwatch kept a copy of the long name for each of the values under it, although it does not track that field.
#[test]
fn of_previous_attributes_only_what_is_tracked_is_read() {
    let long_name = "k".repeat(100_000);
    let leaves: Vec<_> = (0..5_000).map(|n| format!("\"{n}\":1")).collect();
    let leaves = leaves.join(",");
    let previous =
        format!(r#"{{"{long_name}":{{{leaves}}},"status":"past_due","items":{{{leaves}}}}}"#);
    let observations = observed(&subscription("", &previous)).expect("an event");
    let expected = Changes::read(r#"{"status":"past_due"}"#, &["status"]);
    assert_eq!(
        state(&observations).changes.fields(),
        expected.as_ref().and_then(Changes::fields)
    );
}

#[test]
fn an_object_of_very_many_short_values_is_not_read() {
    for (begin, element, end) in [
        (r#","items":{"data":["#, "{}", "]}"),
        (r#","items":{"data":[{"discounts":["#, "{}", "]}]}"),
        (r#","discounts":["#, "null", "]"),
        (",", r#""a":0"#, ""),
    ] {
        let object = repeated(begin, element, end);
        let error = observed(&subscription(&object, "{}")).expect_err("too dense");
        assert!(error.to_string().contains("too many values"), "{error}");
    }
}

#[test]
fn a_list_that_is_too_long_is_unknown() {
    let element = format!(r#"{{"id":"{}"}}"#, "x".repeat(100));
    let object = repeated(r#","items":{"data":["#, &element, "]}");
    let body = subscription(&object, "{}");
    let unknown = |body: &str| {
        let observed = observed(body).expect("an event");
        state(&observed).facts.mrr_unknown
    };
    let odd = unknown(&subscription(r#","items":{"data":7}"#, "{}"));
    assert!(odd.is_some(), "of no MRR");
    assert_eq!(unknown(&body), odd);
    let none = unknown(&subscription(r#","items":{"data":[]}"#, "{}"));
    assert_ne!(none, odd);
}
