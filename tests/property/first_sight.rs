//! Histories whose first events never arrive: what is not known of the time before is not counted.
//! Whatever is counted in an hour, the complete history counts in that hour too.

use std::collections::BTreeMap;

use fastrand::Rng;
use revwatch_core::counters::{Bucket, Counters};
use revwatch_core::entity::{Entity, Observation};
use revwatch_core::event::Event;
use revwatch_core::observe::{ObserveSettings, observe};
use serde_json::{Value, json};

use super::orders::apply;

const START_S: i64 = 1_699_999_200;
const EVENTS: usize = 9;

/// An object and the patches that may happen to it, after its creation.
struct Life {
    created: &'static str,
    updated: &'static str,
    object: Value,
    patches: Vec<Value>,
    /// An event that does not say what it changed, if the object says when it began.
    silent: Option<&'static str>,
}

fn subscription() -> Life {
    let items = |quantity: u64| {
        json!({"data": [{"id": "si_1", "quantity": quantity, "price": {"id": "price_1",
            "unit_amount": 1000, "recurring": {"interval": "month", "interval_count": 1}}}]})
    };
    let mut patches: Vec<Value> = ["active", "past_due", "trialing", "unpaid", "canceled"]
        .map(|status| json!({"status": status}))
        .into();
    patches.extend([
        json!({"items": items(1)}),
        json!({"items": items(3)}),
        json!({"status": "active", "items": items(2)}),
        json!({"cancel_at_period_end": true}),
        json!({"cancel_at_period_end": false}),
        json!({"cancel_at": 1_800_000_000}),
        json!({"cancel_at": null}),
        json!({"metadata": {"seat": "a"}}),
        json!({"latest_invoice": "in_2"}),
    ]);
    Life {
        created: "customer.subscription.created",
        updated: "customer.subscription.updated",
        object: json!({"id": "sub_1", "object": "subscription", "customer": "cus_1", "currency": "usd",
            "start_date": START_S, "status": "trialing", "cancel_at_period_end": false, "cancel_at": null, "trial_end": null,
            "latest_invoice": "in_1", "metadata": {}, "items": items(1)}),
        patches,
        silent: Some("customer.subscription.pending_update_applied"),
    }
}

/// Its holder loses nothing: of one who gets charges back, no event says that it is not the first
/// time.
fn account() -> Life {
    Life {
        created: "account.updated",
        updated: "account.updated",
        object: json!({"id": "acct_1", "object": "account", "country": "DE", "created": START_S - 50,
            "charges_enabled": false, "payouts_enabled": false, "details_submitted": false, "email": "a@example.com",
            "external_accounts": {"data": [], "total_count": 0},
            "requirements": {"disabled_reason": null, "currently_due": [], "past_due": []}}),
        patches: vec![
            json!({"details_submitted": true}),
            json!({"charges_enabled": true}),
            json!({"payouts_enabled": true}),
            json!({"payouts_enabled": true, "charges_enabled": true}),
            json!({"external_accounts": {"data": [{"id": "ba_1"}], "total_count": 1}}),
            json!({"requirements": {"currently_due": ["a"]}}),
            json!({"requirements": {"currently_due": [], "past_due": ["a"]}}),
            json!({"email": "b@example.com"}),
        ],
        silent: Some("account.updated"),
    }
}

fn capability() -> Life {
    Life {
        created: "capability.updated",
        updated: "capability.updated",
        object: json!({"id": "transfers", "object": "capability", "account": "acct_1", "status": "unrequested",
            "requested": false}),
        patches: vec![
            json!({"status": "pending"}),
            json!({"status": "active"}),
            json!({"status": "inactive"}),
            json!({"requested": true}),
        ],
        silent: None,
    }
}

fn payout() -> Life {
    Life {
        created: "payout.created",
        updated: "payout.updated",
        object: json!({"id": "po_1", "object": "payout", "status": "pending", "amount": 500, "currency": "usd",
            "metadata": {}}),
        patches: vec![
            json!({"status": "in_transit"}),
            json!({"status": "paid"}),
            json!({"status": "failed", "failure_code": "account_closed"}),
            json!({"metadata": {"a": "1"}}),
        ],
        silent: None,
    }
}

impl Life {
    /// A history of this object, with at most one event in an hour: two may cancel each other out.
    fn history(&self, rng: &mut Rng) -> Vec<Vec<Observation>> {
        let mut object = self.object.clone();
        let mut at_s = START_S;
        let mut history = Vec::new();
        for n in 0..EVENTS {
            at_s += rng.i64(3600..20_000);
            let patch = rng.choice(&self.patches).filter(|_| n > 0);
            let mut data = json!({});
            if let Some(patch) = patch {
                data["previous_attributes"] = changed(&mut object, patch);
            }
            data["object"] = object.clone();
            let silent = self.silent.filter(|_| n > 0 && rng.u8(..4) == 0);
            if silent.is_some() {
                data["previous_attributes"].take();
            }
            let updated = silent.unwrap_or(self.updated);
            let kind = if n == 0 { self.created } else { updated };
            let mut body =
                json!({"id": format!("evt_{n}"), "type": kind, "created": at_s, "data": data});
            if self.updated != "customer.subscription.updated" && self.updated != "payout.updated" {
                body["account"] = "acct_1".into();
            }
            let text = body.to_string();
            let event = Event::parse(text.as_bytes()).expect("an event");
            history.push(observe(&event, &ObserveSettings::default()).expect("readable"));
        }
        history
    }
}

/// Applies a patch and returns the previous values of what it changed: Stripe names no field that
/// stayed as it was.
pub(super) fn changed(object: &mut Value, patch: &Value) -> Value {
    let before = object.clone();
    let mut previous = apply(object, patch);
    if let Some(fields) = previous.as_object_mut() {
        fields.retain(|name, _| before[name] != object[name]);
    }
    previous
}

pub(super) fn merged<'a>(observations: impl Iterator<Item = &'a Vec<Observation>>) -> Entity {
    let mut entity: Option<Entity> = None;
    for observation in observations.flatten() {
        let entity = entity.get_or_insert_with(|| Entity::new(&observation.key));
        entity.merge(observation);
    }
    entity.expect("an observation")
}

/// What is counted in hours.
fn hourly(entity: &Entity) -> BTreeMap<(Bucket, String), i64> {
    let counters: Counters = entity.contributions();
    counters
        .iter()
        .filter(|(bucket, ..)| matches!(bucket, Bucket::Hour(_)))
        .map(|(bucket, name, by)| ((bucket, name.to_owned()), by))
        .collect()
}

#[test]
fn what_is_counted_of_a_history_without_its_beginning_is_counted_of_the_complete_one() {
    let first = fastrand::u64(..u64::MAX / 2);
    eprintln!("seeds from {first}");
    let mut counted = 0;
    for seed in first..first + 400 {
        let mut rng = Rng::with_seed(seed);
        for life in [subscription(), account(), capability(), payout()] {
            let history = life.history(&mut rng);
            let complete = hourly(&merged(history.iter()));
            for cut in 1..EVENTS {
                let known = &history[cut..];
                let entity = merged(known.iter());
                for (counter, by) in hourly(&entity) {
                    counted += 1;
                    let is_of_the_start = counter.1.starts_with("cohort|");
                    let full = complete.get(&counter).copied().unwrap_or(0);
                    assert!(
                        full == by || (is_of_the_start && full >= by),
                        "seed {seed}, from event {cut}: {counter:?} is {by}, completely {full}: {entity:#?}"
                    );
                }
                let mut shuffled: Vec<_> = known.iter().collect();
                rng.shuffle(&mut shuffled);
                assert_eq!(merged(shuffled.into_iter()).encode(), entity.encode());
            }
        }
    }
    assert!(counted > 1000, "the histories count something: {counted}");
}
