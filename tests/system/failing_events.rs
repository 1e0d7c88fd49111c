//! An event at which revwatch panics: the others are applied, and after an upgrade so is it.

use std::sync::Arc;

use revwatch_core::entity::{Entity, EntityKey, Update};
use revwatch_core::event::Event;
use revwatch_core::observe::{ObserveSettings, observe};
use revwatch_storage::ports::{Commit, Committed, Entities as _, EntityWrite, Publish as _};
use revwatch_storage::sqlite::{Open, Sqlite};
use serde_json::{Value, json};

use super::Deployment;
use crate::support::revwatch::{Revwatch, metrics, post, print};
use crate::support::wait::until;

/// All are of one account, so of one partition.
fn event(n: u32, kind: &str, object: &Value) -> String {
    json!({"id": format!("evt_{n}"), "object": "event", "type": kind, "created": 1_790_000_000 + n, "livemode": true,
        "account": "acct_1", "data": {"object": object}, })
    .to_string()
}

fn payout(n: u32) -> String {
    let id = format!("po_{n}");
    let object =
        json!({"id": id, "object": "payout", "status": "paid", "amount": 500, "currency": "usd"});
    event(n, "payout.paid", &object)
}

fn subscription(n: u32) -> String {
    let price = json!({"id": "price_1", "unit_amount": 900, "currency": "usd",
        "recurring": {"interval": "month", "interval_count": 1}});
    let object = json!({"id": "sub_1", "object": "subscription", "status": "active", "currency": "usd",
        "items": {"data": [{"id": "si_1", "quantity": 1, "price": price}]}});
    event(n, "customer.subscription.created", &object)
}

/// A subscription whose MRR is so low that revwatch panics at the next change of it: see `Level::change_to`.
fn panicking() -> (EntityKey, Entity) {
    let body = subscription(0);
    let event = Event::parse(body.as_bytes()).expect("an event");
    let observed = observe(&event, &ObserveSettings::default()).expect("readable");
    let of_it = observed.into_iter().find(|it| it.key.id == "sub_1");
    let mut observation = of_it.expect("of the subscription");
    let Update::Subscription(_, state) = &mut observation.update else {
        panic!("{observation:?}");
    };
    Arc::make_mut(&mut state.facts).recurring_minor = Some(i64::MIN);
    let mut entity = Entity::new(&observation.key);
    entity.merge(&observation);
    (observation.key, entity)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_at_which_revwatch_panics_is_a_dead_letter_until_an_upgrade() {
    let deployment = Deployment::embedded();
    let Deployment::Embedded(folder) = &deployment else {
        panic!("embedded");
    };
    let variables = deployment.variables(&[]);
    let process = Revwatch::serve(&variables, "ingest,worker");
    assert_eq!(metrics(&variables)["events_applied"], 0);
    let store = Sqlite::open(folder.path(), Open::Existing).expect("the store");
    let (key, entity) = panicking();
    let write = async |expected: u64, body: Option<Vec<u8>>| {
        let key = key.clone();
        let write = EntityWrite {
            key,
            expected,
            body,
        };
        let commit = Commit {
            partition: entity.partition(store.partitions()),
            entities: vec![write],
            ..Commit::default()
        };
        let committed = store.commit(&commit).await.expect("committed");
        assert_eq!(committed, Committed::Applied);
    };
    write(0, Some(entity.encode())).await;
    let client = reqwest::Client::new();
    for body in [payout(1), subscription(2), payout(3)] {
        let answer = post(&client, &process.url("/webhooks/stripe"), &body).await;
        assert_eq!(answer.expect("answered"), 200);
    }
    let list = || -> Vec<Value> {
        serde_json::from_str(&print(&variables, &["dead", "list", "--json"])).expect("JSON")
    };
    until("the others are applied", || async {
        (metrics(&variables)["events_applied"] == 2).then_some(())
    })
    .await;
    until("one is a dead letter", || async {
        (list().len() == 1).then_some(())
    })
    .await;
    let letter = &list()[0];
    assert_eq!(letter["event_id"], "evt_2");
    let reason = letter["reason"].as_str().expect("a reason");
    assert!(
        reason.starts_with("revwatch failed on this event (panic at "),
        "{reason}"
    );
    let found = store.entity(&key).await.expect("read").expect("stored");
    assert_eq!(found.body, entity.encode());
    let logged = process.logged("dead letter");
    assert!(
        logged.len() == 1 && logged[0].to_string().contains("evt_2"),
        "{logged:?}"
    );

    // The upgrade.
    write(found.version, None).await;
    let replayed = print(
        &variables,
        &["dead", "replay", "--all", "--reason", "revwatch failed"],
    );
    assert!(replayed.contains("1 requeued"), "{replayed}");
    until("it is applied", || async {
        (metrics(&variables)["events_applied"] == 3).then_some(())
    })
    .await;
    assert!(list().is_empty());
    assert!(store.entity(&key).await.expect("read").is_some());
    process.stop();
}
