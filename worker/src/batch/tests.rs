mod application;

use bytes::Bytes;
use revwatch_core::counters::Bucket;
use revwatch_core::entity::EntityKind;
use revwatch_core::event::{Event, partition_of};
use revwatch_core::event_settings::BACKFILL;
use revwatch_core::histogram;
use revwatch_core::mode::{LACKS_MODE, Mode, Modes, OTHER_MODE, OtherMode};
use revwatch_core::pauses::Scope;
use revwatch_core::realm::{Realm, Realms, RealmsOfEndpoint};
use revwatch_storage::ports::{ConditionChange, StoredEntity};
use uuid::Uuid;

use super::*;

fn delivery(n: u128, body: &str) -> Delivery {
    Delivery {
        id: Uuid::from_u128(n),
        event_id: "evt_1".into(),
        event_type: "payout.failed".into(),
        partition: 0,
        endpoint: "stripe".into(),
        received_ms: 1_000_000,
        traceparent: None,
        body: Bytes::from(body.to_owned()),
    }
}

/// 90 ms after the deliveries were received, in hour 0.
const NOW_MS: i64 = 1_000_090;

/// When its event was created.
const FAILED_MS: i64 = 7_200_000;

const FAILED: &str = r#"{"id":"evt_1","type":"payout.failed","created":7200,"account":"acct_1","data":{"object":
    {"id":"po_1","object":"payout","status":"failed","amount":500,"currency":"usd","failure_code":"account_closed"}}}"#;

fn decide(deliveries: &[Delivery], dedupe_keys: &[Option<u128>]) -> Decision {
    let batch = Batch::read(Place::ONLY, deliveries, &EventSettings::default());
    let mut dedupe_keys: Vec<_> = dedupe_keys.iter().map(|m| m.map(Uuid::from_u128)).collect();
    dedupe_keys.resize(batch.read_set.dedupe_keys.len(), None);
    batch
        .decide(
            &ReadResult {
                dedupe_keys,
                entities: vec![None; batch.read_set.entities.len()],
            },
            NOW_MS,
        )
        .expect("nothing stored")
}

#[test]
fn a_delivery_that_is_in_a_batch_twice_is_processed_once() {
    let counted = |deliveries: &[Delivery]| {
        let Decision {
            commit, outcomes, ..
        } = decide(deliveries, &[]);
        let keys: HashSet<&str> = commit
            .dedupe_keys
            .iter()
            .map(|dedupe| dedupe.key.as_str())
            .collect();
        assert_eq!(keys.len(), commit.dedupe_keys.len(), "each key once");
        let names: Vec<_> = outcomes.iter().map(Outcome::as_str).collect();
        names.join(" ")
    };
    let (first, second) = (delivery(1, FAILED), delivery(2, FAILED));
    let broken = delivery(3, "{");
    let repeats = [first.clone(), second.clone(), second, first];
    assert_eq!(
        counted(&repeats),
        "applied duplicate redelivered redelivered"
    );
    assert_eq!(counted(&[broken.clone(), broken]), "dead redelivered");
}

#[test]
fn an_event_is_applied_once_and_its_repeats_are_counted_separately() {
    let decision = decide(&[delivery(1, FAILED), delivery(2, FAILED)], &[]);
    assert_eq!(decision.outcomes, [Outcome::Applied, Outcome::Duplicate]);
    let keys: Vec<_> = decision
        .commit
        .dedupe_keys
        .iter()
        .map(|m| m.key.as_str())
        .collect();
    assert_eq!(keys, ["evt_1", "00000000000000000000000000000002"]);
    assert_eq!(
        decision.commit.counters.get(
            Bucket::Current,
            &["main/connected:payouts", "failed", "usd"]
        ),
        1
    );
    assert_eq!(
        decision.commit.counters.get(
            Bucket::Hour(2),
            &["main/connected:payouts_minor", "failed", "usd"]
        ),
        500
    );
    assert_eq!(decision.commit.conditions.len(), 1);
    assert_eq!(
        decision.commit.entities.len(),
        2,
        "the payout and its account"
    );
}

#[test]
fn a_redelivery_is_not_counted_again() {
    assert_eq!(
        decide(&[delivery(1, FAILED)], &[Some(1), None]).outcomes,
        [Outcome::Redelivered]
    );
    assert_eq!(
        decide(&[delivery(2, FAILED)], &[Some(1), Some(2)]).outcomes,
        [Outcome::Redelivered]
    );
    let repeat = decide(&[delivery(2, FAILED)], &[Some(1), None]);
    assert_eq!(repeat.outcomes, [Outcome::Duplicate]);
    assert!(repeat.commit.entities.is_empty());
    assert!(decide(&[delivery(1, FAILED)], &[Some(1), None]).is_empty());
}

#[test]
fn events_are_counted_by_the_hours_of_creation_and_of_receipt_and_by_processing_time() {
    let unknown = r#"{"id":"evt_9","type":"a.new.type","created":3600}"#;
    let mut late = delivery(4, &FAILED.replace("evt_1", "evt_2"));
    // The clock of the machine that received it is ahead.
    late.received_ms = NOW_MS + 5000;
    let mut fetched = delivery(6, &FAILED.replace("evt_1", "evt_3"));
    fetched.endpoint = BACKFILL.to_owned();
    let deliveries = [
        delivery(1, FAILED),
        delivery(2, FAILED),
        delivery(3, unknown),
        late,
        delivery(5, "{"),
        fetched,
    ];
    let counters = decide(&deliveries, &[]).commit.counters;
    let event_counters: Vec<_> = counters
        .iter()
        .filter(|(bucket, name, _)| *bucket != Bucket::Current && name.starts_with("events|"))
        .collect();
    let took = |ms| format!("events|processing|{}", histogram::processing_bound_ms(ms));
    let expected = [
        (Bucket::Hour(0), &*took(0), 1),
        (Bucket::Hour(0), &*took(90), 2),
        (Bucket::Hour(0), "events|received", 3),
        (Bucket::Hour(1), "events|created", 1),
        (Bucket::Hour(2), "events|created", 3),
    ];
    assert_eq!(
        event_counters, expected,
        "neither repeats nor dead letters are counted"
    );
    let again = decide(&deliveries[..1], &[Some(1), None]).commit.counters;
    assert!(again.is_empty(), "{again:?}");
}

#[test]
fn the_object_of_a_paused_delivery_is_not_read() {
    let mut pauses = Pauses::default();
    pauses.set(&Scope::Account("acct_1".into()), true);
    let unreadable = delivery(1, &FAILED.replace("\"failed\"", "true"));
    for (history, paused) in [(pauses, true), (Pauses::default(), false)] {
        let deliveries = std::slice::from_ref(&unreadable);
        let settings = EventSettings::default();
        let batch = Batch::read_under(&history.into(), Place::ONLY, deliveries, &settings);
        let found = ReadResult {
            dedupe_keys: vec![None; 2],
            entities: vec![None; batch.read_set.entities.len()],
        };
        let decision = batch.decide(&found, NOW_MS).expect("nothing stored");
        assert_eq!(
            matches!(&decision.outcomes[..], [Outcome::Paused(_)]),
            paused,
            "{:?}",
            decision.outcomes
        );
    }
}

#[test]
fn a_paused_delivery_changes_nothing_and_an_applied_one_is_still_recognised() {
    let mut pauses = Pauses::default();
    pauses.set(&Scope::Account("acct_1".into()), true);
    let unreadable = delivery(3, "{");
    let batch = Batch::read_under(
        &pauses.into(),
        Place::ONLY,
        &[delivery(1, FAILED), unreadable],
        &EventSettings::default(),
    );
    let mut found = ReadResult {
        dedupe_keys: vec![None; 4],
        entities: vec![None; batch.read_set.entities.len()],
    };
    let decision = batch.decide(&found, NOW_MS).expect("nothing stored");
    assert!(
        matches!(&decision.outcomes[..], [Outcome::Paused(reason), Outcome::Dead(_)] if reason.contains("acct_1"))
    );
    assert_eq!(
        (
            decision.commit.dedupe_keys.len(),
            decision.commit.entities.len()
        ),
        (1, 0),
        "the dedupe key of the dead letter"
    );
    found.dedupe_keys[0] = Some(Uuid::from_u128(1));
    assert_eq!(
        batch
            .decide(&found, NOW_MS)
            .expect("nothing stored")
            .outcomes[0],
        Outcome::Redelivered
    );
}

#[test]
fn a_delivery_in_another_partition_than_that_of_its_object_leaves_no_state() {
    let partition = Event::parse(FAILED.as_bytes())
        .expect("an event")
        .partition(8);
    let outcome = |place| {
        let batch = Batch::read(place, &[delivery(1, FAILED)], &EventSettings::default());
        let found = ReadResult {
            // Even if a version that computed another partition has applied it here.
            dedupe_keys: vec![Some(Uuid::from_u128(1)), None],
            entities: vec![None; batch.read_set.entities.len()],
        };
        let decision = batch.decide(&found, NOW_MS).expect("nothing stored");
        assert!(decision.is_empty() && decision.commit.counters.is_empty());
        decision.outcomes
    };
    let place = |partition| Place {
        partition,
        partitions: 8,
    };
    assert_eq!(outcome(place(partition)), [Outcome::Redelivered]);
    let other = (partition + 1) % 8;
    assert_eq!(outcome(place(other)), [Outcome::Moved(partition)]);
}

#[test]
fn deliveries_from_the_archive_are_not_timed() {
    let batch = Batch::read(
        Place::ONLY,
        &[delivery(1, FAILED)],
        &EventSettings::default(),
    )
    .untimed();
    let found = ReadResult {
        dedupe_keys: vec![None; 2],
        entities: vec![None; batch.read_set.entities.len()],
    };
    let commit = batch.decide(&found, NOW_MS).expect("nothing stored").commit;
    assert!(
        !commit
            .counters
            .iter()
            .any(|(_, name, _)| name.starts_with("events|processing"))
    );
    assert_eq!(commit.high_watermark_ms, 1_000_000);
}

/// A replay of old events would fill a store with what it deletes again.
#[test]
fn minutes_that_no_store_keeps_are_not_committed() {
    let deliveries = [delivery(1, FAILED)];
    let batch = Batch::read(Place::ONLY, &deliveries, &EventSettings::default()).untimed();
    for (after_ms, expected) in [
        (0, [1, 1]),
        (49 * 3_600_000 + 59_999, [1, 1]),
        (49 * 3_600_000 + 60_000, [1, 0]),
    ] {
        assert_eq!(counted(&batch, after_ms), expected, "{after_ms} ms later");
    }
}

#[test]
fn a_clock_that_is_ahead_drops_no_minutes_of_what_was_just_received() {
    let late_ms = 49 * 3_600_000 + 60_000;
    for (received_ms, expected) in [(FAILED_MS, [1, 1]), (FAILED_MS + late_ms, [1, 0])] {
        let received = Delivery {
            received_ms,
            ..delivery(1, FAILED)
        };
        let batch = Batch::read(Place::ONLY, &[received], &EventSettings::default());
        let year_ms = 365 * 86_400_000;
        assert_eq!(counted(&batch, year_ms), expected, "{received_ms}");
    }
}

/// How often the failed payout is counted in its hour and in its minute, if the batch is decided that much later.
fn counted(batch: &Batch, after_ms: i64) -> [i64; 2] {
    let found = ReadResult {
        dedupe_keys: vec![None; 2],
        entities: vec![None; batch.read_set.entities.len()],
    };
    let decision = batch.decide(&found, FAILED_MS + after_ms);
    let counters = decision.expect("nothing stored").commit.counters;
    let name = ["main/connected:payouts", "failed", "usd"];
    [Bucket::Hour(2), Bucket::Minute(120)].map(|bucket| counters.get(bucket, &name))
}

#[test]
fn unreadable_deliveries_are_dead_and_unknown_types_are_ignored() {
    let dead = decide(
        &[
            delivery(1, "{"),
            delivery(2, &FAILED.replace("\"failed\"", "true")),
        ],
        &[],
    );
    assert!(
        dead.outcomes.iter().all(|o| matches!(o, Outcome::Dead(_))),
        "{:?}",
        dead.outcomes
    );
    assert_eq!(
        dead.commit
            .counters
            .get(Bucket::Current, &["events", "dead"]),
        2
    );
    let unknown = decide(
        &[delivery(
            1,
            r#"{"id":"evt_9","type":"a.new.type","created":5}"#,
        )],
        &[],
    );
    assert_eq!(unknown.outcomes, [Outcome::Ignored]);
    let of_a_payout = FAILED.replace("payout.failed", "payout.foreseen");
    let unknown = decide(&[delivery(1, &of_a_payout)], &[]);
    assert_eq!(unknown.outcomes, [Outcome::Ignored]);
    assert!(
        unknown.commit.entities.is_empty(),
        "the payout may not be so"
    );
}

/// The present decides nothing: the replay of a rebuild judges alike.
#[test]
fn an_event_created_a_day_after_its_receipt_is_dead() {
    let received_s = 1_000;
    let outcome = |created_s: i64, livemode: bool| {
        let created = format!(r#""livemode":{livemode},"created":{created_s}"#);
        let body = FAILED.replace(r#""created":7200"#, &created);
        let batch = Batch::read(
            Place::ONLY,
            &[delivery(1, &body)],
            &EventSettings::default(),
        );
        let decide = |now_ms| {
            let found = ReadResult {
                dedupe_keys: vec![None; 2],
                entities: vec![None; batch.read_set.entities.len()],
            };
            batch.decide(&found, now_ms).expect("nothing stored")
        };
        let decision = decide(NOW_MS);
        assert_eq!(decision.outcomes, decide(i64::MAX).outcomes);
        if let Outcome::Dead(reason) = &decision.outcomes[0] {
            assert!(
                reason.starts_with("created: more than 24 hours"),
                "{reason}"
            );
            let dead = ["events", "dead"];
            assert_eq!(decision.commit.counters.get(Bucket::Current, &dead), 1);
            assert!(decision.commit.entities.is_empty());
            assert_eq!(
                decision.commit.dedupe_keys[0].day, 0,
                "kept as others of its receipt"
            );
        }
        decision.outcomes[0].as_str()
    };
    assert_eq!(outcome(received_s + 86_400, true), "applied");
    assert_eq!(outcome(received_s + 86_401, true), "dead");
    assert_eq!(outcome(253_402_300_799, true), "dead");
    assert_eq!(
        outcome(253_402_300_799, false),
        OTHER_MODE,
        "it changes nothing"
    );
}

/// Live and test events of one connected account at one endpoint. The last object is unreadable.
fn of_both_modes() -> [Delivery; 4] {
    let of = |n: u128, livemode: &str| {
        let body = FAILED
            .replace("evt_1", &format!("evt_{n}"))
            .replace("po_1", &format!("po_{n}"));
        let mode = format!(r#","livemode":{livemode},"data""#);
        body.replace(r#","data""#, &mode)
    };
    [
        delivery(1, &of(1, "true")),
        delivery(2, &of(2, "false")),
        delivery(3, &of(2, "false")),
        delivery(4, &of(4, "false").replace("500", "true")),
    ]
}

fn decide_in(modes: &Modes, deliveries: &[Delivery]) -> Decision {
    let settings = EventSettings {
        modes: modes.clone(),
        ..EventSettings::default()
    };
    let batch = Batch::read(Place::ONLY, deliveries, &settings);
    let found = ReadResult {
        dedupe_keys: vec![None; deliveries.len() * 2],
        entities: vec![None; batch.read_set.entities.len()],
    };
    batch.decide(&found, NOW_MS).expect("nothing stored")
}

#[test]
fn events_of_the_other_mode_are_counted_and_change_nothing() {
    let deliveries = of_both_modes();
    let other = Outcome::OtherMode(OtherMode::OfDeployment);
    let decision = decide_in(&Modes::default(), &deliveries);
    // An object that is not read makes no dead letter.
    let expected = [Outcome::Applied, other.clone(), Outcome::Duplicate, other];
    assert_eq!(decision.outcomes, expected);

    let alone = decide_in(&Modes::default(), &deliveries[..1]).commit;
    let mut commit = decision.commit;
    for (outcome, times) in [(OTHER_MODE, 2), ("duplicate", 1)] {
        let name = ["events", outcome];
        assert_eq!(commit.counters.get(Bucket::Current, &name), times);
        commit.counters.add(Bucket::Current, &name, -times);
    }
    assert_eq!(commit.counters, alone.counters, "nothing else is counted");
    assert_eq!(commit.entities, alone.entities);
    assert_eq!(commit.conditions, alone.conditions);
    assert_eq!(commit.audit, alone.audit);
    let keys: Vec<_> = commit.dedupe_keys.iter().map(|k| k.key.as_str()).collect();
    let repeat = Uuid::from_u128(3).simple().to_string();
    assert_eq!(keys, ["evt_1", "evt_2", &repeat, "evt_4"]);
}

#[test]
fn a_deployment_of_test_mode_applies_the_opposite() {
    let [live, test, ..] = of_both_modes();
    let decision = decide_in(&Modes::new(Mode::Test, []), &[live, test]);
    let other = Outcome::OtherMode(OtherMode::OfDeployment);
    assert_eq!(decision.outcomes, [other, Outcome::Applied]);
    let written: Vec<_> = decision.commit.entities.iter().map(|e| &e.key.id).collect();
    assert_eq!(written, ["po_2", "acct_1"]);
}

#[test]
fn what_one_endpoint_ignores_is_applied_when_it_comes_to_another() {
    let modes = Modes::new(Mode::Live, [("narrow".to_owned(), Mode::Test)]);
    let [live, ..] = of_both_modes();
    let narrow = Delivery {
        id: Uuid::from_u128(9),
        endpoint: "narrow".into(),
        ..live.clone()
    };
    let ignored = Outcome::OtherMode(OtherMode::OfEndpoint);
    let decision = decide_in(&modes, &[narrow, live]);
    assert_eq!(decision.outcomes, [ignored, Outcome::Applied]);
}

/// Endpoint `k` is of realm `kernel`.
fn of_two_realms() -> EventSettings {
    let kernel = Realm::named("kernel").expect("a name");
    EventSettings {
        realms: Realms::new([("k".to_owned(), kernel.into())]),
        ..EventSettings::default()
    }
}

fn at(endpoint: &str, delivery: Delivery) -> Delivery {
    let endpoint = endpoint.to_owned();
    Delivery {
        endpoint,
        ..delivery
    }
}

#[test]
fn an_event_at_endpoints_of_two_realms_is_a_dead_letter_that_names_both() {
    for (first, second) in [("stripe", "k"), ("k", "stripe")] {
        let deliveries = [
            at(first, delivery(1, FAILED)),
            at(second, delivery(2, FAILED)),
        ];
        let batch = Batch::read(Place::ONLY, &deliveries, &of_two_realms());
        let found = ReadResult {
            dedupe_keys: vec![None; batch.read_set.dedupe_keys.len()],
            entities: vec![None; batch.read_set.entities.len()],
        };
        let together = batch.decide(&found, NOW_MS).expect("nothing stored");
        assert_eq!(together.outcomes[0], Outcome::Applied);
        // The same when the first one was committed before, and when the second is another event.
        let batch = Batch::read(Place::ONLY, &deliveries[1..], &of_two_realms());
        let stored = |key: &EntityKey| {
            let mut writes = together.commit.entities.iter();
            let write = writes.find(|write| write.key == *key).expect("written");
            let body = write.body.clone().expect("not deleted");
            Some(StoredEntity { version: 1, body })
        };
        let entities: Vec<_> = batch.read_set.entities.iter().map(stored).collect();
        for by_event in [Some(Uuid::from_u128(1)), None] {
            let found = ReadResult {
                dedupe_keys: vec![by_event, None],
                entities: entities.clone(),
            };
            let later = batch.decide(&found, NOW_MS).expect("readable");
            assert_eq!(later.outcomes[0], together.outcomes[1]);
            assert!(later.commit.entities.is_empty());
            let Outcome::Dead(reason) = &later.outcomes[0] else {
                panic!("{later:?}");
            };
            for named in ["realm main", "realm kernel", "acct_1", "rebuild"] {
                assert!(reason.contains(named), "{reason}");
            }
        }
    }
}

#[test]
fn what_comes_to_an_endpoint_counts_for_its_realm() {
    let own = FAILED.replace(r#""account":"acct_1","#, "");
    let deliveries = [
        at("k", delivery(1, FAILED)),
        at("k", delivery(2, &own.replace("_1", "_2"))),
    ];
    let batch = Batch::read(Place::ONLY, &deliveries, &of_two_realms());
    let found = ReadResult {
        dedupe_keys: vec![None; batch.read_set.dedupe_keys.len()],
        entities: vec![None; batch.read_set.entities.len()],
    };
    let commit = batch.decide(&found, NOW_MS).expect("nothing stored").commit;
    let payouts = |class: &str| {
        let family = format!("{class}payouts");
        let parts = [family.as_str(), "failed", "usd"];
        commit.counters.get(Bucket::Current, &parts)
    };
    assert_eq!(
        ["kernel/connected:", "kernel/platform:"].map(payouts),
        [1, 1]
    );
    assert_eq!(["", "main/connected:"].map(payouts), [0, 0]);
    let realms = commit.conditions.iter().map(|change| match change {
        ConditionChange::Open(condition) => condition.realm.as_str(),
        ConditionChange::Close(_) => panic!("{change:?}"),
    });
    assert_eq!(realms.collect::<Vec<_>>(), ["kernel"; 2]);
}

/// An event that does not say its mode is applied, and counted as such.
#[test]
fn applied_events_without_a_mode_are_counted() {
    let silent = FAILED.replace(r#""livemode":true,"#, "");
    let count = |body: &str| {
        let commit = decide_in(&Modes::default(), &[delivery(1, body), delivery(2, body)]).commit;
        commit
            .counters
            .get(Bucket::Current, &["events", "lacks_mode"])
    };
    assert!(!silent.contains("livemode"));
    let spoken = silent.replacen('{', r#"{"livemode":true,"#, 1);
    assert_eq!(
        (count(&silent), count(&spoken)),
        (1, 0),
        "once, not the repeat"
    );
    for odd in [r#""true""#, "1", "null", "[true]", "{}"] {
        let odd = silent.replacen('{', &format!(r#"{{"livemode":{odd},"#), 1);
        assert_eq!(count(&odd), 1, "{odd}");
    }
}

/// An organisation's endpoint: the account that made the event decides the realm.
#[test]
fn the_context_decides_the_realm_at_an_organisations_endpoint() {
    let realm = |name| Realm::named(name).expect("a name");
    let of_organisation = RealmsOfEndpoint {
        realm: Realm::MAIN,
        own_accounts: [("acct_Q".to_owned(), realm("eu"))].into(),
    };
    let settings = EventSettings {
        realms: Realms::new([("org".to_owned(), of_organisation)]),
        ..EventSettings::default()
    };
    let own = FAILED.replace(r#""account":"acct_1","#, "");
    let of = |context: &str| own.replacen('{', &format!(r#"{{"context":"{context}","#), 1);
    for (context, expected) in [
        ("org_O/acct_Q", "eu"),
        ("acct_Q", "eu"),
        ("org_O/acct_X", "unknown"),
    ] {
        let deliveries = [at("org", delivery(1, &of(context)))];
        let batch = Batch::read(Place::ONLY, &deliveries, &settings);
        let found = ReadResult {
            dedupe_keys: vec![None; 2],
            entities: vec![None; batch.read_set.entities.len()],
        };
        let commit = batch.decide(&found, NOW_MS).expect("nothing stored").commit;
        let family = format!("{expected}/platform:payouts");
        let parts = [family.as_str(), "failed", "usd"];
        assert_eq!(commit.counters.get(Bucket::Current, &parts), 1, "{context}");
    }
}

/// One of the platform's own accounts is connected to another: its events come twice, and make each object
/// once.
#[test]
fn an_event_of_an_own_account_that_came_as_one_of_a_connected_account_is_dead() {
    let of_organisation = RealmsOfEndpoint {
        realm: Realm::MAIN,
        own_accounts: [("acct_1".to_owned(), Realm::named("eu").expect("a name"))].into(),
    };
    let settings = EventSettings {
        realms: Realms::new([("org".to_owned(), of_organisation)]),
        ..EventSettings::default()
    };
    let outcome = |body: &str| {
        let deliveries = [at("stripe", delivery(1, body))];
        let batch = Batch::read(Place::ONLY, &deliveries, &settings);
        let found = ReadResult {
            dedupe_keys: vec![None; 2],
            entities: vec![None; batch.read_set.entities.len()],
        };
        let decision = batch.decide(&found, NOW_MS).expect("nothing stored");
        assert_eq!(decision.commit.entities, [], "{body}");
        decision.outcomes.into_iter().next().expect("an outcome")
    };
    let path = FAILED.replace(r#""account":"acct_1""#, r#""context":"acct_P/acct_1""#);
    for body in [FAILED, &path] {
        let Outcome::Dead(reason) = outcome(body) else {
            panic!("{body} is applied");
        };
        for named in ["realm main", "realm eu", "own_accounts"] {
            assert!(reason.contains(named), "{reason}");
        }
    }
    let thin = r#"{"id":"evt_2","object":"v2.core.event","type":"v2.core.account.updated","created":1,
        "context":"acct_1","related_object":{"id":"acct_1","type":"v2.core.account","url":"/"}}"#;
    assert_eq!(outcome(thin), Outcome::Applied);
}

/// Stripe sends one object with its customer in several forms, by API version.
#[test]
fn a_subscription_is_one_entity_whatever_its_events_say_of_the_customer() {
    let event = |n: u32, customer: &str| {
        format!(
            r#"{{"id":"evt_{n}","type":"customer.subscription.updated","created":{n},"data":{{"object":{{
                "id":"sub_1","object":"subscription","status":"active",{customer}"currency":"usd",
                "items":{{"data":[]}}}}}}}}"#
        )
    };
    let place = Place {
        partition: partition_of("sub_1", 64),
        partitions: 64,
    };
    for customer in [
        r#""customer":"cus_1","#,
        r#""customer":null,"customer_account":"acct_C","#,
        r#""customer":7,"#,
        "",
    ] {
        let deliveries = [delivery(1, &event(1, customer))];
        let batch = Batch::read(place, &deliveries, &EventSettings::default());
        let found = ReadResult {
            dedupe_keys: vec![None; 2],
            entities: vec![None; batch.read_set.entities.len()],
        };
        let decision = batch.decide(&found, NOW_MS).expect("nothing stored");
        assert_eq!(decision.outcomes, [Outcome::Applied], "{customer}");
    }
}
