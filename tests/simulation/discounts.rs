//! Subscriptions whose discounts are only ids in their own events: other events have the discounts, and others
//! their coupons, in other partitions.

use fastrand::Rng;
use revwatch_core::condition::ConditionKind;
use revwatch_core::event::partition_of;
use revwatch_storage::memory::Memory;
use revwatch_storage::ports::{ConditionFeed as _, Entities as _, ReadSet};
use serde_json::{Value, json};

use super::world::{PARTITIONS, START_S};

const SUBSCRIPTIONS: u32 = 3;
/// Their coupons are shared.
const COUPONS: u32 = 2;
const CREATED_S: i64 = START_S - 900;

/// Their events, and those of the discounts and coupons.
pub(super) fn events(rng: &mut Rng) -> Vec<String> {
    let mut events = Vec::new();
    for n in 0..SUBSCRIPTIONS {
        let price = json!({"id": "price_1", "currency": "usd", "unit_amount": 1000 * (n + 1),
            "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}});
        let subscription = json!({"id": format!("sub_discounted_{n}"), "object": "subscription",
            "customer": format!("cus_discounted_{n}"), "currency": "usd", "status": "active",
            "discounts": [format!("di_{n}")],
            "items": {"object": "list", "data": [{"id": format!("si_{n}"), "quantity": 1, "price": price}]}});
        let discount = json!({"id": format!("di_{n}"), "object": "discount",
            "subscription": format!("sub_discounted_{n}"), "coupon": format!("coupon_{}", n % COUPONS)});
        events.push(event(
            &format!("evt_discounted_{n}"),
            "customer.subscription.created",
            &subscription,
        ));
        events.push(event(
            &format!("evt_discount_{n}"),
            "customer.discount.created",
            &discount,
        ));
    }
    for n in 0..COUPONS {
        let coupon = json!({"id": format!("coupon_{n}"), "object": "coupon", "duration": "forever",
            "percent_off": rng.u8(1..100)});
        events.push(event(&format!("evt_coupon_{n}"), "coupon.created", &coupon));
    }
    events
}

/// How many of them are incomplete although the store has all that they lack.
pub(super) async fn unmet(memory: &Memory) -> usize {
    let open = memory.conditions().await.expect("read");
    let mut unmet = 0;
    for n in 0..SUBSCRIPTIONS {
        let subscription = format!("sub_discounted_{n}");
        let is_incomplete = open.iter().any(|condition| {
            condition.key.kind == ConditionKind::MrrIncomplete
                && condition.key.subject.id == subscription
        });
        let has_all = is_applied(memory, &format!("evt_discount_{n}"), &subscription).await
            && is_applied(
                memory,
                &format!("evt_coupon_{}", n % COUPONS),
                &format!("coupon_{}", n % COUPONS),
            )
            .await;
        unmet += usize::from(is_incomplete && has_all);
    }
    unmet
}

/// Whether the event, about an object with this id, is applied.
async fn is_applied(memory: &Memory, event: &str, object: &str) -> bool {
    let want = ReadSet {
        dedupe_keys: vec![(revwatch_core::event::day_of(CREATED_S), event.to_owned())],
        entities: Vec::new(),
    };
    let found = memory.read(partition_of(object, PARTITIONS), &want).await;
    found.expect("read").dedupe_keys[0].is_some()
}

fn event(id: &str, kind: &str, object: &Value) -> String {
    let event = json!({"id": id, "object": "event", "type": kind, "created": CREATED_S, "livemode": true,
        "data": {"object": object}});
    event.to_string()
}
