//! Encoding 2 as it was at first: an account listed the milestones that were reached before, and a customer's
//! states had the ids of the platform's own application.

use serde_json::json;

use super::super::account::Milestone;
use super::super::{Entity, EntityKey, EntityKind};
use super::sample_of_change;

fn decoded(key: &EntityKey, hexadecimal: &str) -> Entity {
    let bytes = hex::decode(hexadecimal).expect("hexadecimal");
    Entity::decode(key, &bytes).expect("readable")
}

/// Of two milestones, one is explained by a state, whose event says that nothing changed.
#[test]
fn a_milestone_that_was_reached_before_is_so_still() {
    let key = EntityKey::new(EntityKind::Account, "acct_1");
    let stored = "029ba24445cd01f4cd03e88202cd03e803cd03e8c0c080c42500199197c3c2c2a66c6973746564010092cecd65ea2cce4f53cda1e8070d056576745f310080c0920203";
    let Entity::Account(account) = decoded(&key, stored) else {
        panic!("an account");
    };
    let milestones = [Milestone::ExternalAccountAdded, Milestone::ChargesEnabled];
    assert_eq!(account.milestones, milestones.map(|it| (it, 1000)).into());
    let were_reached_before = account
        .doubts
        .iter()
        .map(|(it, doubt)| (*it, (*doubt).into()));
    assert!(were_reached_before.eq(milestones.map(|it| (it, true))));
    assert_eq!(milestones.map(|it| account.milestone_s(it)), [None; 2]);
}

/// The changed field was `metadata`.
#[test]
fn a_customer_whose_metadata_changed_was_not_deleted() {
    let metadata = json!({"app_id": "shop", "user_id": "7"});
    let object = json!({"id": "cus_1", "object": "customer", "created": 500, "metadata": metadata});
    let previous = json!({"metadata": {"app_id": "other"}});
    let (key, entity) = sample_of_change("customer.updated", &object, Some(&previous));
    let stored = "029292c0cd01f4c41b000a9193c2a473686f70a137e8070d056576745f310101deadbeef";
    let mut all = decoded(&key, stored);
    let Entity::Customer(customer) = &all else {
        panic!("a customer");
    };
    let states = customer.timeline.in_order();
    assert!(states.iter().all(|state| state.changes.are_none()));
    assert_eq!(states.len(), 1);
    assert_eq!(all.contributions(), entity.contributions());
    all.union(&entity);
    assert_eq!(all, entity);
}
