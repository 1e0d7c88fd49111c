//! Goes over the table of kinds: every kind is observed, merged, encoded and found by its names.

mod collection;
mod first_sight;
mod format_1;
mod format_2;
mod gaps;
mod large_amounts;
mod mentions;
mod unknown_account;

use serde_json::{Value, json};

use super::coupon::coupon_key;
use super::kind::{KINDS, NEVER_MADE, row_of_event};
use super::{Entity, EntityKey, EntityKind};
use crate::condition::ConditionKind;
use crate::counters::{Bucket, Counters, Tally};
use crate::event::{Event, known_kinds};
use crate::observe::{ObserveSettings, observe};
use crate::realm::Realm;

/// An event type and object of each kind, and the bytes that are stored of it in encodings 1, 2 as it was at first, 2, 3,
/// 4 and 5.
fn samples() -> Vec<(EntityKind, &'static str, Value, [&'static str; 6])> {
    let money = |mut object: Value| {
        object["amount"] = json!(500);
        object["currency"] = json!("USD");
        object
    };
    let price = json!({"id": "pro", "unit_amount": 2000, "recurring": {"interval": "month", "interval_count": 1}});
    vec![
        (
            EntityKind::Subscription,
            "customer.subscription.created",
            json!({"id": "sub_1", "object": "subscription", "status": "past_due", "customer": "cus_1", "currency": "usd",
                "trial_end": 2000, "items": {"data": [{"price": price, "quantity": 3}]}}),
            [
                "019293c0a56375735f31a37573649195cd03e8a56576745f31009804a8756e6d6170706564cd1770c2c0cd07d0ce06704bef92ce74234e98ce74234e9890",
                "029293c0a56375735f31a3757364c42f0024919804a8756e6d6170706564cd1770c2c0cd07d0ce06704bef92ce74234e98ce74234e98e80704056576745f31",
                "029394c0a56375735f31a3757364c0c42f0024919804a8756e6d6170706564cd1770c2c0cd07d0ce06704bef92ce74234e98ce74234e98e80704056576745f31a0",
                "039395c0a56375735f31a3757364c0c0c4300300e8071400239804a8756e6d6170706564cd1770c2c0cd07d0ce06704bef92ce74234e98ce74234e98056576745f31a0",
                "049496c0a56375735f31a3757364c0c0928080c4320300e8071400259a04a8756e6d6170706564cd1770c2c0cd07d0ce06704bef92ce74234e98ce74234e98c0c0056576745f31a0c0",
                "059498c0a56375735f31a3757364c0c0928080929080c0c4320300e8071400259a04a8756e6d6170706564cd1770c2c0cd07d0ce06704bef92ce74234e98ce74234e98c0c0056576745f31a0c0",
            ],
        ),
        (
            EntityKind::Invoice,
            "invoice.payment_failed",
            json!({"id": "in_1", "object": "invoice", "status": "open", "customer": "cus_1", "subscription": "sub_1",
                "currency": "usd", "amount_due": 500, "amount_paid": 20, "attempt_count": 1}),
            [
                "019294c0a56375735f31a57375625f31a37573649195cd03e8a56576745f31019501cd01f41401c290",
                "029294c0a56375735f31a57375625f31a3757364c4140009919501cd01f41401c2e80705056576745f31",
                "029394c0a56375735f31a57375625f31a3757364c4140009919501cd01f41401c2e80705056576745f31a0",
                "039394c0a56375735f31a57375625f31a3757364c4150300e8071500089501cd01f41401c2056576745f31a0",
                "049595c0a56375735f31a57375625f31a3757364c2c4180300e80715000b9801cd01f41401c2c3c0c0056576745f31a080c0",
                "059596c0a56375735f31a57375625f31a3757364c2c0c4180300e80715000b9801cd01f41401c2c3c0c0056576745f31a080c0",
            ],
        ),
        (
            EntityKind::Payout,
            "payout.failed",
            money(
                json!({"id": "po_1", "object": "payout", "status": "failed", "failure_code": "account_closed"}),
            ),
            [
                "019393c0cd01f4a37573649195cd03e8a56576745f31019303ae6163636f756e745f636c6f736564c090919203a3757364",
                "029393c0cd01f4a3757364c41e0013919303ae6163636f756e745f636c6f736564c0e80705056576745f31919203a3757364",
                "029493c0cd01f4a3757364c41e0013919303ae6163636f756e745f636c6f736564c0e80705056576745f31919203a3757364a0",
                "039493c0cd01f4a3757364c41f0300e8071500129303ae6163636f756e745f636c6f736564c0056576745f31919203a3757364a0",
                "049594c0cd01f4a3757364c0c4200300e8071500139403ae6163636f756e745f636c6f736564c0c0056576745f31919203a3757364a0c0",
                "059594c0cd01f4a3757364c0c4200300e8071500139403ae6163636f756e745f636c6f736564c0c0056576745f31919203a3757364a0c0",
            ],
        ),
        (
            EntityKind::Account,
            "account.updated",
            json!({"id": "acct_1", "object": "account", "country": "DE", "created": 500, "charges_enabled": true,
                "payouts_enabled": false, "details_submitted": false, "external_accounts": {"data": []},
                "requirements": {"currently_due": ["x"], "past_due": [], "disabled_reason": "listed"}}),
            [
                "019aa24445cd01f4cd03e88103cd03e8c0c0809195cd03e8a56576745f310197c3c2c2a66c6973746564010092cecd65ea2cce4f53cda19080c0",
                "029ba24445cd01f4cd03e88103cd03e8c0c080c42400199197c3c2c2a66c6973746564010092cecd65ea2cce4f53cda1e80705056576745f3180c090",
                "029ea24445cd01f4cd03e88103cd03e8c0c080c42400199197c3c2c2a66c6973746564010092cecd65ea2cce4f53cda1e80705056576745f3180c0808301cd03e802cd03e804cd03e8a0c0",
                "039ea24445cd01f4cd03e88103cd03e8c0c080c4260300e80715001998c3c2c2a66c6973746564010092cecd65ea2cce4f53cda1c2056576745f3180c0808301cd03e802cd03e804cd03e8a0c0",
                "04dc0012a24445cd01f4cd03e88103cd03e8c0c080c4260300e80715001998c3c2c2a66c6973746564010092cecd65ea2cce4f53cda1c2056576745f3180c0808301cd03e802cd03e804cd03e8a0c0c0c0c09292cd03e881cecd65ea2c91a17892cd03e880",
                "05dc0016a24445cd01f4cd03e88103cd03e8c0c080c4260300e80715001998c3c2c2a66c6973746564010092cecd65ea2cce4f53cda1c2056576745f3180c0808301cd03e802cd03e804cd03e8a0c0c0c0c09292cd03e881cecd65ea2c91a17892cd03e8808092808090c0",
            ],
        ),
        (
            EntityKind::Payment,
            "payment_intent.payment_failed",
            money(
                json!({"id": "pi_1", "object": "payment_intent", "status": "requires_payment_method", "customer": "cus_1",
                "latest_charge": "ch_1", "last_payment_error": {"code": "card_declined"}}),
            ),
            [
                "019394c0a56375735f31a3757364c09195cd03e8a56576745f310195b772657175697265735f7061796d656e745f6d6574686f64cd01f4ad636172645f6465636c696e6564c3a463685f319092c291cea434dc27",
                "029394c0a56375735f31a3757364c0c43c00319195b772657175697265735f7061796d656e745f6d6574686f64cd01f4ad636172645f6465636c696e6564c3a463685f31e80705056576745f3192c291cea434dc27",
                "029494c0a56375735f31a3757364c0c43c00319195b772657175697265735f7061796d656e745f6d6574686f64cd01f4ad636172645f6465636c696e6564c3a463685f31e80705056576745f3192c291cea434dc27a0",
                "039494c0a56375735f31a3757364c0c43d0300e80715003095b772657175697265735f7061796d656e745f6d6574686f64cd01f4ad636172645f6465636c696e6564c3a463685f31056576745f3192c291cea434dc27a0",
                "049594c0a56375735f31a3757364c0c43e0300e80715003196b772657175697265735f7061796d656e745f6d6574686f64cd01f4ad636172645f6465636c696e6564c3a463685f31c0056576745f3192c291cea434dc27a0c0",
                "059594c0a56375735f31a3757364c0c43f0300e80715003297b772657175697265735f7061796d656e745f6d6574686f64cd01f4ad636172645f6465636c696e6564c3a463685f31c0c0056576745f3192c291cea434dc27a0c0",
            ],
        ),
        (
            EntityKind::Checkout,
            "checkout.session.completed",
            json!({"id": "cs_1", "object": "checkout.session", "status": "complete", "amount_total": 500, "currency": "usd"}),
            [
                "019394c0c0a3757364c09195cd03e8a56576745f310195a8636f6d706c657465cd01f4c0c2c09092c390",
                "029394c0c0a3757364c0c41c00119195a8636f6d706c657465cd01f4c0c2c0e80705056576745f3192c390",
                "029494c0c0a3757364c0c41c00119195a8636f6d706c657465cd01f4c0c2c0e80705056576745f3192c390a0",
                "039494c0c0a3757364c0c41d0300e80715001095a8636f6d706c657465cd01f4c0c2c0056576745f3192c390a0",
                "049594c0c0a3757364c0c41e0300e80715001196a8636f6d706c657465cd01f4c0c2c0c0056576745f3192c390a0c0",
                "059594c0c0a3757364c0c41f0300e80715001297a8636f6d706c657465cd01f4c0c2c0c0c0056576745f3192c390a0c0",
            ],
        ),
        (
            EntityKind::Dispute,
            "charge.dispute.created",
            money(
                json!({"id": "du_1", "object": "dispute", "status": "needs_response", "reason": "fraudulent", "charge": "ch_1"}),
            ),
            [
                "019394c0c0a3757364a463685f319195cd03e8a56576745f310095ae6e656564735f726573706f6e7365cd01f4aa6672617564756c656e74c2c09092c290",
                "029394c0c0a3757364a463685f31c42c00219195ae6e656564735f726573706f6e7365cd01f4aa6672617564756c656e74c2c0e80704056576745f3192c290",
                "029494c0c0a3757364a463685f31c42c00219195ae6e656564735f726573706f6e7365cd01f4aa6672617564756c656e74c2c0e80704056576745f3192c290a0",
                "039494c0c0a3757364a463685f31c42d0300e80714002095ae6e656564735f726573706f6e7365cd01f4aa6672617564756c656e74c2c0056576745f3192c290a0",
                "049594c0c0a3757364a463685f31c42e0300e80714002196ae6e656564735f726573706f6e7365cd01f4aa6672617564756c656e74c2c0c0056576745f3192c290a0c0",
                "059594c0c0a3757364a463685f31c42f0300e80714002297ae6e656564735f726573706f6e7365cd01f4aa6672617564756c656e74c2c0c0c0056576745f3192c290a0c0",
            ],
        ),
        (
            EntityKind::Refund,
            "refund.failed",
            money(
                json!({"id": "re_1", "object": "refund", "status": "failed", "failure_reason": "lost", "charge": "ch_1"}),
            ),
            [
                "019394c0c0a3757364a463685f319195cd03e8a56576745f310195a66661696c6564cd01f4a46c6f7374c2c09092c290",
                "029394c0c0a3757364a463685f31c41e00139195a66661696c6564cd01f4a46c6f7374c2c0e80705056576745f3192c290",
                "029494c0c0a3757364a463685f31c41e00139195a66661696c6564cd01f4a46c6f7374c2c0e80705056576745f3192c290a0",
                "039494c0c0a3757364a463685f31c41f0300e80715001295a66661696c6564cd01f4a46c6f7374c2c0056576745f3192c290a0",
                "049594c0c0a3757364a463685f31c4200300e80715001396a66661696c6564cd01f4a46c6f7374c2c0c0056576745f3192c290a0c0",
                "059594c0c0a3757364a463685f31c4210300e80715001497a66661696c6564cd01f4a46c6f7374c2c0c0c0056576745f3192c290a0c0",
            ],
        ),
        (
            EntityKind::Transfer,
            "transfer.reversed",
            money(
                json!({"id": "tr_1", "object": "transfer", "reversed": true, "amount_reversed": 500, "destination": "acct_1"}),
            ),
            [
                "019394c0c0a3757364a6616363745f319195cd03e8a56576745f310195a87265766572736564cd01f4c0c2c09092c290",
                "029394c0c0a3757364a6616363745f31c41c00119195a87265766572736564cd01f4c0c2c0e80705056576745f3192c290",
                "029494c0c0a3757364a6616363745f31c41c00119195a87265766572736564cd01f4c0c2c0e80705056576745f3192c290a0",
                "039494c0c0a3757364a6616363745f31c41d0300e80715001095a87265766572736564cd01f4c0c2c0056576745f3192c290a0",
                "049594c0c0a3757364a6616363745f31c4200300e80715001396a87265766572736564cd01f4c0c2c0cd01f4056576745f3192c290a0c0",
                "059594c0c0a3757364a6616363745f31c4210300e80715001497a87265766572736564cd01f4c0c2c0cd01f4c0056576745f3192c290a0c0",
            ],
        ),
        (
            EntityKind::Customer,
            "customer.updated",
            json!({"id": "cus_1", "object": "customer", "created": 500, "email": "jane@example.com"}),
            [
                "",
                "029292c0cd01f4c41000059193c2c0c0e80705056576745f31",
                "029393c0cd01f4c0c40e00039191c2e80705056576745f31a0",
                "039393c0cd01f4c0c40f0300e80715000291c2056576745f31a0",
                "049493c0cd01f4c0c40f0300e80715000291c2056576745f31a0c0",
                "059593c0cd01f4c0c40f0300e80715000291c2056576745f31a0c09280c2",
            ],
        ),
        (
            EntityKind::Coupon,
            "coupon.created",
            json!({"id": "SUMMER", "object": "coupon", "duration": "forever", "percent_off": 12.5}),
            [
                "",
                "",
                "",
                "",
                "0492c4180300e80714000b92c294c3a431322e35c0c0056576745f31a0",
                "0592c4180300e80714000b92c294c3a431322e35c0c0056576745f31a0",
            ],
        ),
        (
            EntityKind::MissingEvent,
            NEVER_MADE,
            json!({"id": "evt_1"}),
            [
                "",
                "",
                "",
                "",
                "0494c0c0a092cd03e8a56576745f31",
                "0594c0c0a092cd03e8a56576745f31",
            ],
        ),
    ]
}

/// The entity after one event about it.
fn sample(event_type: &str, object: &Value) -> (EntityKey, Entity) {
    sample_of_change(event_type, object, None)
}

/// The same, after one with these `previous_attributes`.
fn sample_of_change(
    event_type: &str,
    object: &Value,
    previous: Option<&Value>,
) -> (EntityKey, Entity) {
    let account = object["id"].as_str().filter(|id| id.starts_with("acct_"));
    let mut body = json!({"id": "evt_1", "type": event_type, "created": 1000, "account": account, "data": {"object": object}});
    if let Some(previous) = previous {
        body["data"]["previous_attributes"] = previous.clone();
    }
    let body = body.to_string();
    let event = Event::parse(body.as_bytes()).expect("an event");
    let observations = observe(&event, &ObserveSettings::default()).expect("readable");
    let key = observations.last().expect("an observation").key.clone();
    let mut entity = Entity::new(&key);
    for observation in &observations {
        assert_eq!(observation.key, key, "{event_type} is about one entity");
        entity.merge(observation);
    }
    (key, entity)
}

fn key_of(kind: EntityKind, object: &Value) -> EntityKey {
    let id = object["id"].as_str().expect("an id");
    match kind {
        EntityKind::Coupon => coupon_key(Realm::main(), None, id),
        kind => EntityKey::new(kind, id),
    }
}

#[test]
fn the_stored_bytes_of_each_kind_do_not_change() {
    let mut changed = Vec::new();
    for (kind, event_type, object, expected) in samples() {
        let (key, entity) = sample(event_type, &object);
        assert_eq!(key, key_of(kind, &object));
        let [
            encoding_1,
            first_encoding_2,
            encoding_2,
            encoding_3,
            encoding_4,
            encoding_5,
        ] = expected.map(|bytes| hex::decode(bytes).expect("hexadecimal"));
        if entity.encode() != encoding_5 {
            changed.push(format!("{key}: {}", hex::encode(entity.encode())));
            continue;
        }
        assert!(!Entity::has_older_encoding(&encoding_5));
        let older = [
            &encoding_1,
            &first_encoding_2,
            &encoding_2,
            &encoding_3,
            &encoding_4,
        ];
        // There were no such objects in the encodings without bytes.
        for bytes in older.into_iter().filter(|bytes| !bytes.is_empty()) {
            assert!(Entity::has_older_encoding(bytes));
            let before = Entity::decode(&key, bytes).expect("older encodings are read");
            // Their realm was added in encoding 2, later than its first form.
            let has_realm = bytes[0] != 1 && bytes != &first_encoding_2;
            assert_eq!(before.realm(), has_realm.then_some(&Realm::MAIN));
            if kind != EntityKind::Transfer {
                assert_eq!(before.contributions(), entity.contributions(), "{key}");
            }
            let mut all = before;
            all.union(&entity);
            assert_eq!(all, entity);
        }
        assert_eq!(Entity::decode(&key, &encoding_5).as_ref(), Ok(&entity));
    }
    assert!(changed.is_empty(), "{changed:#?}");
}

/// Encoding 4 was at first without the last field of a movement's facts.
#[test]
fn a_field_that_was_added_since_is_unknown_of_what_is_stored() {
    let stored = "049594c0c0a3757364a463685f31c42e0300e80714002196ae6e656564735f726573706f6e7365cd01f4aa6672617564756c656e74c2c0c0056576745f3192c290a0c0";
    let key = EntityKey::new(EntityKind::Dispute, "du_1");
    let stored = hex::decode(stored).expect("hexadecimal");
    let stored = Entity::decode(&key, &stored).expect("readable");
    let dispute = |more: Value| {
        let mut object = json!({"id": "du_1", "object": "dispute", "status": "needs_response", "amount": 500,
            "currency": "usd", "reason": "fraudulent", "charge": "ch_1"});
        let fields = more.as_object().expect("fields").clone();
        object.as_object_mut().expect("an object").extend(fields);
        sample("charge.dispute.created", &object).1
    };
    assert_eq!(stored, dispute(json!({})));
    let kinds = |entity: &Entity| -> Vec<_> {
        let conditions = entity.conditions().into_iter();
        conditions.map(|c| (c.key.kind, c.due_s)).collect()
    };
    let open = (ConditionKind::DisputeOpen, 1000);
    assert_eq!(kinds(&stored), [open]);
    // The event comes again, as this version reads it.
    let mut all = stored;
    all.union(&dispute(json!({"evidence_details": {"due_by": 900_000}})));
    let three_days_before = (ConditionKind::DisputeEvidenceDue, 900_000 - 3 * 86_400);
    assert_eq!(kinds(&all), [open, three_days_before]);
}

/// Encoding 5 was at first without the last two fields of an account.
#[test]
fn an_account_that_is_stored_without_its_last_fields_needs_nothing_for_a_capability() {
    let stored = "05dc0012a24445cd01f4cd03e88103cd03e8c0c080c4260300e80715001998c3c2c2a66c6973746564010092cecd65ea2cce4f53cda1c2056576745f3180c0808301cd03e802cd03e804cd03e8a0c0c0c0c09292cd03e881cecd65ea2c91a17892cd03e880";
    let key = EntityKey::new(EntityKind::Account, "acct_1");
    let stored = hex::decode(stored).expect("hexadecimal");
    let Ok(Entity::Account(account)) = Entity::decode(&key, &stored) else {
        panic!("readable");
    };
    assert_eq!(account.country.as_deref(), Some("DE"));
    assert!(account.capability_needs.is_empty() && account.reports.is_empty());
}

#[test]
fn a_row_of_the_table_is_found_by_its_kind_its_name_and_its_events() {
    for (index, row) in KINDS.iter().enumerate() {
        let name = row.name;
        assert_eq!(
            row.kind as usize, index,
            "{name} is in the order of the enum"
        );
        assert_eq!(name.parse(), Ok(row.kind));
        let json = serde_json::to_string(&row.kind).expect("JSON");
        assert_eq!(json, format!("{name:?}"));
        assert_eq!(
            serde_json::from_str::<EntityKind>(&json).expect("JSON"),
            row.kind
        );
        assert_eq!(row.plural, format!("{name}s"));
        if row.kind.is_of_app() {
            assert_eq!(EntityKind::of_object("", ""), None);
            continue;
        }
        assert_eq!(
            EntityKind::of_object(row.object, &format!("{}1", row.id_prefixes[0])),
            Some(row.kind).filter(|kind| kind.is_known_by_id())
        );
        // The events about missing events are thin.
        let fetched = row_of_event(row.fetched_type).map(|row| row.kind);
        let expected = Some(row.kind).filter(|kind| *kind != EntityKind::MissingEvent);
        assert_eq!(fetched, expected);
        for family in row.event_families {
            let mut types = known_kinds().filter(|known| {
                known
                    .rsplit_once('.')
                    .is_some_and(|(start, _)| start == *family)
            });
            let event_type = types
                .next()
                .unwrap_or_else(|| panic!("Stripe has events {family}.*"));
            assert_eq!(row_of_event(event_type).map(|row| row.kind), Some(row.kind));
        }
    }
    let schedule = EntityKind::of_object("subscription_schedule", "sub_sched_1");
    assert_eq!(schedule, None, "its id begins as that of a subscription");
    for unknown in [
        "balance_settings.updated",
        "v2.core.event_destination.ping",
        "",
        "payout",
    ] {
        let found = row_of_event(unknown).map(|row| row.name);
        assert_eq!(
            found,
            (unknown == "payout").then_some("payout"),
            "{unknown}"
        );
    }
}

#[test]
fn each_sample_has_an_id_of_its_kind_and_covers_the_table() {
    let samples = samples();
    let of_stripe = EntityKind::ALL.into_iter().filter(|kind| !kind.is_of_app());
    assert!(samples.iter().map(|(kind, ..)| *kind).eq(of_stripe));
    for (kind, event_type, object, _) in samples {
        let id = key_of(kind, &object).id;
        let row = kind.row();
        assert!(
            row.id_prefixes.iter().any(|prefix| id.starts_with(prefix)),
            "{id}"
        );
        let (_, entity) = sample(event_type, &object);
        assert_eq!(entity.events().len(), 1, "{id}");
        let is_row = |name: &str| name.split('|').any(|part| part == row.plural);
        let counters = entity.contributions();
        assert!(
            counters.iter().any(|(_, name, _)| is_row(name)),
            "{id} counts as {}",
            row.plural
        );
        assert!(
            entity
                .conditions()
                .iter()
                .all(|condition| condition.key.subject.kind == kind)
        );
        let has_no_states = kind == EntityKind::MissingEvent;
        assert_eq!(entity.history().is_empty(), has_no_states, "{id}");
    }
}

#[test]
fn an_object_with_a_page_in_the_dashboard_has_a_link() {
    let table = [
        (
            EntityKind::Payout,
            "po_1",
            Some("acct_1"),
            Some("/acct_1/payouts/po_1"),
        ),
        (EntityKind::Payment, "pi_1", None, Some("/payments/pi_1")),
        (
            EntityKind::Account,
            "acct_1",
            None,
            Some("/connect/accounts/acct_1"),
        ),
        (
            EntityKind::Account,
            "acct_1",
            Some("acct_1"),
            Some("/connect/accounts/acct_1"),
        ),
        (EntityKind::Refund, "re_1", None, None),
        (EntityKind::Payout, "po_1/../x", None, None),
        (EntityKind::Payout, "po_1", Some("a?b"), None),
        (EntityKind::Payout, "", None, None),
    ];
    for (kind, id, account, path) in table {
        let expected = path.map(|path| format!("https://dashboard.stripe.com{path}"));
        assert_eq!(kind.dashboard_url(id, account), expected, "{kind:?} {id}");
    }
}

#[test]
fn a_status_that_this_version_does_not_know_counts_as_other() {
    let count = |status: &str| {
        let object = json!({"id": "re_1", "object": "refund", "status": status, "amount": 500, "currency": "usd"});
        let (_, entity) = sample("refund.updated", &object);
        let mut tally = Tally::default();
        entity.state().contributions(&mut tally);
        let counters = Counters::from(&tally);
        ["pending", "jane_doe", "other"]
            .map(|name| counters.get(Bucket::Current, &["refunds", name]))
    };
    assert_eq!(count("pending"), [1, 0, 0]);
    assert_eq!(count("jane_doe"), [0, 0, 1]);
}
