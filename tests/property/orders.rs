//! Every order of seven events, with a duplicate added: whatever arrives first, the final state is
//! the same to the byte, and it is the correct one.
//!
//! A scenario is the sequence of changes as they happened. Event ids sort against that sequence, so
//! that the last tie-break cannot give the right result by accident.

mod accounts;
mod billing;
mod movements;

use std::collections::BTreeMap;

use revwatch_core::class::Scope;
use revwatch_core::counters::Bucket;
use revwatch_core::entity::{Entity, EntityKey, EntityKind, Observation};
use revwatch_core::event::Event;
use revwatch_core::observe::{ObserveSettings, observe};
use serde_json::{Value, json};

/// Seven events have 5,040 orders.
const EVENTS: usize = 7;
/// The start of all scenarios; 472,222 hours exactly, so that all their seconds are in the same hour.
const START_S: i64 = 1_699_999_200;

/// One event: seconds after the start, its type, and the patch of the object (whose old values an
/// `*.updated` event carries). A type of [`REPEAT`] repeats the previous event under another id.
type Step = (i64, &'static str, Value);

const REPEAT: &str = "again";

struct Scenario {
    name: &'static str,
    key: EntityKey,
    account: Option<&'static str>,
    object: Value,
}

impl Scenario {
    fn of(name: &'static str, kind: EntityKind, object: Value) -> Self {
        let id = object["id"].as_str().expect("an id").to_owned();
        Self {
            name,
            key: EntityKey::new(kind, id),
            account: None,
            object,
        }
    }

    fn on(mut self, account: &'static str) -> Self {
        self.account = Some(account);
        self
    }

    /// Applies the steps in every order. Some counters have an expected value; the
    /// conditions are all expected ones, each with its start in seconds after the start of the
    /// scenario.
    fn check(
        &self,
        steps: &[Step; EVENTS],
        expected_counters: &[(&str, i64)],
        expected_conditions: &[(&str, i64)],
    ) {
        let bodies = self.bodies(steps);
        // Ids that sort with the sequence, against it, and mixed: only the ids change.
        let ids: [fn(usize) -> usize; 3] = [|i| EVENTS - i, |i| i, |i| i * 3 % EVENTS];
        for (round, rank) in ids.into_iter().enumerate() {
            let observed: Vec<Vec<Observation>> = bodies
                .iter()
                .enumerate()
                .map(|(i, body)| {
                    let mut body = body.clone();
                    body["id"] = format!("evt_{}", rank(i)).into();
                    self.observed(&body)
                })
                .collect();
            let mut expected = Entity::new(&self.key);
            observed
                .iter()
                .flatten()
                .for_each(|observation| expected.merge(observation));
            self.check_end(&expected, expected_counters, expected_conditions);
            if round == 0 {
                let mut orders = Orders {
                    observed: &observed,
                    expected: &expected,
                    visited: 0,
                };
                orders.walk(&Entity::new(&self.key), &mut Vec::new());
                assert_eq!(
                    orders.visited,
                    (1..=EVENTS).product::<usize>(),
                    "{}",
                    self.name
                );
            }
        }
    }

    fn bodies(&self, steps: &[Step]) -> Vec<Value> {
        let mut object = self.object.clone();
        let mut bodies: Vec<Value> = Vec::new();
        for (after_s, kind, patch) in steps {
            if *kind == REPEAT {
                bodies.push(bodies.last().expect("something to repeat").clone());
                continue;
            }
            let previous = apply(&mut object, patch);
            let mut data = json!({"object": patch.get("!object").unwrap_or(&object)});
            if kind.ends_with(".updated") {
                data["previous_attributes"] = patch.get("!previous").unwrap_or(&previous).clone();
            }
            let thin = ["v1.", "v2."].iter().any(|family| kind.starts_with(family));
            let mut body = json!({"type": kind, "created": START_S + after_s, "account": self.account, "data": data});
            if thin {
                body["data"].take();
                body["related_object"] =
                    json!({"id": self.key.id, "type": self.key.kind.row().object});
            }
            bodies.push(body);
        }
        bodies
    }

    fn observed(&self, body: &Value) -> Vec<Observation> {
        let text = body.to_string();
        let event = Event::parse(text.as_bytes()).expect("an event");
        let mut observations = observe(&event, &ObserveSettings::default()).expect("readable");
        observations.retain(|o| o.key == self.key);
        assert!(
            !observations.is_empty(),
            "{}: {} is not empty",
            self.name,
            event.kind
        );
        observations
    }

    fn check_end(
        &self,
        end: &Entity,
        expected_counters: &[(&str, i64)],
        expected_conditions: &[(&str, i64)],
    ) {
        let counters = end.contributions();
        // Of any owner.
        let figures = counters.of(&Scope {
            realm: None,
            owner: None,
        });
        for (counter, expected) in expected_counters {
            let parts: Vec<&str> = counter.split('|').collect();
            assert_eq!(
                figures.get(Bucket::Current, &parts),
                *expected,
                "{}: {counter} of {end:#?}",
                self.name
            );
        }
        let found: BTreeMap<&str, i64> = end
            .conditions()
            .iter()
            .map(|c| (c.key.kind.as_str(), c.since_s - START_S))
            .collect();
        assert_eq!(
            found,
            expected_conditions.iter().copied().collect(),
            "{}: conditions of {end:#?}",
            self.name
        );
    }
}

/// A walk through all orders that shares common prefixes.
struct Orders<'a> {
    observed: &'a [Vec<Observation>],
    expected: &'a Entity,
    visited: usize,
}

impl Orders<'_> {
    fn walk(&mut self, known: &Entity, order: &mut Vec<usize>) {
        if order.len() == EVENTS {
            self.visited += 1;
            // Bytes, counters and conditions are functions of this value alone; some are checked
            // anyway.
            assert_eq!(known, self.expected, "order {order:?}");
            if self.visited.is_multiple_of(360) {
                assert_eq!(known.encode(), self.expected.encode(), "order {order:?}");
                assert_eq!(
                    known.contributions(),
                    self.expected.contributions(),
                    "order {order:?}"
                );
                assert_eq!(
                    known.conditions(),
                    self.expected.conditions(),
                    "order {order:?}"
                );
            }
            return;
        }
        for next in (0..EVENTS)
            .filter(|i| !order.contains(i))
            .collect::<Vec<_>>()
        {
            let mut entity = known.clone();
            self.observed[next]
                .iter()
                .for_each(|observation| entity.merge(observation));
            // One of the earlier events is repeated; which one differs from order to order.
            if let Some(&again) = order.get(next % EVENTS.min(order.len().max(1))) {
                self.observed[again]
                    .iter()
                    .for_each(|observation| entity.merge(observation));
            }
            order.push(next);
            self.walk(&entity, order);
            order.pop();
        }
    }
}

/// Applies `patch` to `object` and returns the previous values like `previous_attributes`: of
/// nested objects the changed fields, of lists the complete list. Keys that begin with `!` are not
/// fields.
pub(super) fn apply(object: &mut Value, patch: &Value) -> Value {
    let mut previous = json!({});
    for (name, value) in patch
        .as_object()
        .expect("a patch is an object")
        .iter()
        .filter(|(n, _)| !n.starts_with('!'))
    {
        let old = object.get(name).cloned().unwrap_or(Value::Null);
        if old.is_object() && value.is_object() {
            previous[name] = apply(&mut object[name], value);
        } else {
            object[name] = value.clone();
            previous[name] = old;
        }
    }
    previous
}
