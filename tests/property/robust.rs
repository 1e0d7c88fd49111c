//! Whatever the shape of an object: no panic, and no silently wrong value.
//!
//! The definition of "not silently wrong": take a complete, valid object and corrupt one field of
//! it.
//!
//! - A value of an undocumented type: the event is refused, or every number and every condition
//!   stays the same or is missing; the counters of what is unknown may grow.
//! - A missing field or null: the same, or the field is in [`UNKNOWN_WHEN_ABSENT`], the list of
//!   fields whose absence has a known meaning, which is then counted.
//!
//! So every value is either derived from a field that was understood, or absent.

mod samples;

use std::collections::BTreeMap;

use revwatch_core::condition::{Condition, ConditionKind};
use revwatch_core::counters::Bucket;
use revwatch_core::entity::{Entity, EntityKey, Observation};
use revwatch_core::event::{Event, known_kinds};
use revwatch_core::observe::{ObserveSettings, observe};
use serde_json::{Value, json};

fn read(kind: &str, object: &Value) -> Result<Vec<Observation>, String> {
    let body = json!({"id": "evt_1", "object": "event", "type": kind, "created": 1_700_000_000, "account": "acct_1",
        "livemode": true, "pending_webhooks": 1, "request": null, "data": {"object": object}});
    let body = body.to_string();
    let event = Event::parse(body.as_bytes()).map_err(|e| e.to_string())?;
    observe(&event, &ObserveSettings::default()).map_err(|e| e.to_string())
}

/// The counters of what is unknown, and of how much more it may be.
const UNKNOWN: [&str; 10] = [
    "unknown",
    "amount_unknown",
    "mrr_incomplete",
    "mrr_extra",
    "mrr_extra_change",
    "mrr_unbounded",
    "mrr_unbounded_change",
    "mrr_past_due_incomplete",
    "mrr_past_due_extra",
    "mrr_past_due_unbounded",
];

/// All values that people and rules see of an event's entities.
#[derive(Debug, PartialEq)]
struct Shown {
    numbers: BTreeMap<(Bucket, String), i64>,
    conditions: Vec<Condition>,
}

impl Shown {
    /// Each number and condition is the same or missing. What is unknown is counted as that.
    fn says_no_more_than(&self, whole: &Self) -> bool {
        let is_unknown = |name: &str| {
            let mut parts = name.split(['|', ':']);
            parts.any(|part| UNKNOWN.contains(&part))
        };
        // A sum that is known to be at least so much.
        let is_bound = |(bucket, name): &(Bucket, String), value: &i64| {
            let is_mrr = ["mrr", "mrr_past_due", "mrr_change"]
                .iter()
                .any(|sum| name.contains(&format!("{sum}|")));
            let of_whole = whole.numbers.get(&(*bucket, name.clone()));
            is_mrr && of_whole.is_some_and(|of_whole| value <= of_whole)
        };
        let same = |(name, value): (&(Bucket, String), &i64)| {
            let is_same = whole.numbers.get(name) == Some(value);
            is_same || is_unknown(&name.1) || is_bound(name, value)
        };
        let is_about_what_is_unknown = |condition: &Condition| {
            let kind = condition.key.kind;
            matches!(
                kind,
                ConditionKind::MrrIncomplete
                    | ConditionKind::InvoiceNeeded
                    | ConditionKind::CouponNeeded
            )
        };
        self.numbers.iter().all(same)
            && self.conditions.iter().all(|condition| {
                is_about_what_is_unknown(condition)
                    || whole.conditions.iter().any(|of_whole| {
                        let mut less = of_whole.clone();
                        let Condition {
                            customer,
                            money,
                            detail,
                            answer_by_s,
                            trial_end_s,
                            further_money,
                            uncertain,
                            ..
                        } = condition;
                        less.customer = less.customer.filter(|_| customer.is_some());
                        less.money = less.money.filter(|_| money.is_some());
                        less.answer_by_s = less.answer_by_s.filter(|_| answer_by_s.is_some());
                        less.trial_end_s = less.trial_end_s.filter(|_| trial_end_s.is_some());
                        less.uncertain.clone_from(uncertain);
                        if further_money.is_empty() {
                            less.further_money.clear();
                        }
                        // A detail that lacks its end says less.
                        let is_part =
                            |whole: &String, part: &String| whole.starts_with(part.as_str());
                        let whole = less.detail.take();
                        let shown = whole.zip(detail.clone());
                        less.detail = shown.map(|(whole, part)| match is_part(&whole, &part) {
                            true => part,
                            false => whole,
                        });
                        *condition == less
                    })
            })
    }
}

fn show(observations: &[Observation]) -> Shown {
    let mut entities: BTreeMap<EntityKey, Entity> = BTreeMap::new();
    for observation in observations {
        entities
            .entry(observation.key.clone())
            .or_insert_with(|| Entity::new(&observation.key))
            .merge(observation);
    }
    let mut shown = Shown {
        numbers: BTreeMap::new(),
        conditions: Vec::new(),
    };
    for (key, entity) in entities {
        assert_eq!(
            Entity::decode(&key, &entity.encode()).as_ref(),
            Ok(&entity),
            "an encoded entity can be decoded"
        );
        for (bucket, name, value) in entity.contributions().iter() {
            *shown.numbers.entry((bucket, name.to_owned())).or_default() += value;
        }
        shown.conditions.extend(entity.conditions());
        entity.history();
    }
    shown
}

#[test]
fn every_documented_type_is_read() {
    let mut count = 0;
    for kind in known_kinds() {
        for object in samples::of(kind) {
            let observations = read(kind, &object).unwrap_or_else(|e| panic!("{kind}: {e}"));
            assert!(
                !observations.is_empty(),
                "{kind}: at least the account is seen"
            );
            show(&observations);
        }
        count += 1;
    }
    assert_eq!(count, 268);
}

/// One type of each family that is read, with the fields of its object whose absence is understood.
/// (A path that ends in `*` is a prefix.)
const UNKNOWN_WHEN_ABSENT: &[(&str, &[&str])] = &[
    (
        "account.updated",
        &[
            // Unknown: no country, and no creation time other than the first event.
            "country",
            "created",
            // Stripe sends null if there is none.
            "requirements.disabled_reason",
            // A milestone that is not shown counts as reached when an event shows it.
            "details_submitted",
            "external_accounts",
        ],
    ),
    ("account.external_account.created", &[]),
    ("capability.updated", &[]),
    (
        "customer.subscription.updated",
        &[
            // Amounts of an unknown currency are not added to any.
            "currency",
            // Part of the description of a problem, if known; it changes no number.
            "customer",
            // Stripe sends null if there is none: no discount, a one-off or tiered price.
            "discount",
            "discounts",
            "discount.coupon",
            "discounts.0.source",
            "discounts.0.source.coupon",
            "items.data.0.discounts",
            "items.data.0.discounts.0.source",
            "items.data.0.discounts.0.source.coupon",
            "items.data.0.price.recurring",
            "items.data.1.price.recurring",
            "items.data.0.price.transform_quantity",
        ],
    ),
    (
        "invoice.payment_failed",
        &[
            "currency",
            "customer",
            // Stripe sends null if no attempt is scheduled.
            "next_payment_attempt",
        ],
    ),
    ("invoice_payment.paid", &["currency"]),
    (
        "payment_intent.payment_failed",
        &[
            // The reason is part of a failure: without one, a payment that waits has not failed.
            "last_payment_error",
            "last_payment_error.decline_code",
            // Payments need no customer; the customer is shown if known.
            "customer",
        ],
    ),
    ("checkout.session.completed", &["status"]),
    ("charge.dispute.created", &["reason"]),
    // Absent in the oldest API versions, where every reported refund had succeeded.
    ("refund.updated", &["status", "failure_reason"]),
    ("payout.failed", &["failure_code", "failure_message"]),
    ("transfer.reversed", &[]),
];

/// References and expandable fields: an id in place of an object says the same with less, and is
/// documented.
const EXPANDABLE: &[&str] = &[
    "discount",
    "discounts",
    "items.data.0.discounts",
    "discounts.0",
    "items.data.0.discounts.0",
    "discount.coupon",
    "discounts.0.source.coupon",
    "items.data.0.discounts.0.source.coupon",
];

/// What another field or event says instead if these cannot be read: the first event when the
/// account began, a later one that the milestone was reached (its time then counts from the milestone
/// before), and the less exact code of a failure.
const LESS_EXACT: &[&str] = &[
    "created",
    "details_submitted",
    "failure_code",
    "failure_message",
    "last_payment_error.decline_code",
];

#[test]
fn a_corrupt_field_is_refused_or_makes_something_unknown() {
    let mut faults = Vec::new();
    for (kind, unknown) in UNKNOWN_WHEN_ABSENT {
        for object in samples::of(kind) {
            let expected = show(&read(kind, &object).expect("readable"));
            for path in paths(&object) {
                let dotted = path.join(".");
                for (what, corrupted) in corruptions(&object, &path) {
                    let absent = matches!(what, "absent" | "null" | "empty object" | "object");
                    if absent && unknown.contains(&dotted.as_str())
                        || matches!(what, "text" | "list") && EXPANDABLE.contains(&dotted.as_str())
                    {
                        // The meaning is documented; it must not cause a panic.
                        let _ = read(kind, &corrupted).map(|observations| show(&observations));
                        continue;
                    }
                    if let Ok(observations) = read(kind, &corrupted) {
                        let shown = show(&observations);
                        if !shown.says_no_more_than(&expected)
                            && !is_acceptable(&object, &path, what)
                            && !LESS_EXACT.contains(&dotted.as_str())
                        {
                            faults.push(format!("{kind}: {dotted} {what}"));
                        }
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "silently wrong:\n{}", faults.join("\n"));
}

/// A value of the documented type is accepted: another string in place of a string, a negative
/// number where Stripe documents amounts that may be negative.
fn is_acceptable(object: &Value, path: &[String], what: &str) -> bool {
    let old = path.iter().try_fold(object, |at, step| child(at, step));
    match old {
        Some(Value::Null) => true,
        Some(Value::String(_)) => what == "text",
        Some(Value::Array(_)) => matches!(what, "no list" | "list"),
        Some(Value::Bool(_)) => what == "yes",
        Some(Value::Number(n)) => {
            matches!(what, "number" | "negative") || n.is_f64() && what == "fraction"
        }
        _ => false,
    }
}

fn child<'a>(at: &'a Value, step: &str) -> Option<&'a Value> {
    match at {
        Value::Object(fields) => fields.get(step),
        Value::Array(list) => list.get(step.parse::<usize>().ok()?),
        _ => None,
    }
}

/// The paths of all fields and elements.
fn paths(object: &Value) -> Vec<Vec<String>> {
    let children: Vec<(String, &Value)> = match object {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), value))
            .collect(),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(i, value)| (i.to_string(), value))
            .collect(),
        _ => Vec::new(),
    };
    let mut found = Vec::new();
    for (step, value) in children {
        found.push(vec![step.clone()]);
        found.extend(
            paths(value)
                .into_iter()
                .map(|rest| [vec![step.clone()], rest].concat()),
        );
    }
    found
}

/// The object with the field at `path` corrupted in every way, with the name of each way.
fn corruptions(object: &Value, path: &[String]) -> Vec<(&'static str, Value)> {
    let values = [
        ("null", Value::Null),
        ("text", json!("no | such word")),
        ("number", json!(7)),
        ("fraction", json!(1.5)),
        ("negative", json!(-1)),
        ("huge", json!(i64::MAX)),
        ("larger than any integer", json!(1e300)),
        ("yes", json!(true)),
        ("no list", json!([])),
        ("list", json!(["x"])),
        ("list of lists", json!([[]])),
        ("empty object", json!({})),
        ("object", json!({"unheard": "of"})),
    ];
    let (last, parents) = path.split_last().expect("a path has steps");
    let pointer: String = parents.iter().map(|step| format!("/{step}")).collect();
    let mut found = Vec::new();
    for (what, value) in values {
        let mut corrupted = object.clone();
        match corrupted
            .pointer_mut(&pointer)
            .expect("the path is the object's own")
        {
            Value::Array(list) => list[last.parse::<usize>().expect("an index")] = value,
            parent => parent[last] = value,
        }
        found.push((what, corrupted));
    }
    let mut without = object.clone();
    if let Some(Value::Object(fields)) = without.pointer_mut(&pointer) {
        fields.remove(last);
        found.push(("absent", without));
    }
    found
}
