//! What entities of a batch say about others, and the commit that writes it into them. Pure; see
//! [`revwatch_core::relay`].

use std::collections::{BTreeMap, BTreeSet};

use revwatch_core::counters::Counters;
use revwatch_core::entity::{Entity, EntityKey};
use revwatch_core::relay::Relay;
use revwatch_storage::ports::{Commit, EntityWrite, ReadResult, ReadSet, StoredEntity};

use super::stored_entity;
use crate::guarded::on_entity;

/// Relays, and whether their batch changed what says it. Otherwise the other may have it: the queue has redelivered
/// the change.
#[derive(Debug, Clone, Default)]
pub struct Relays(BTreeMap<Relay, bool>);

/// Relays into one partition.
#[derive(Debug)]
pub struct RelayBatch {
    /// That of the entities that are written.
    pub partition: u32,
    /// What must be read of them.
    pub to: ReadSet,
    relays: Vec<(Relay, bool)>,
}

/// Stored entities of any partition.
pub type Foreign = BTreeMap<EntityKey, Option<StoredEntity>>;

impl Relays {
    /// Adds those of an entity. `is_unsure`: also if nothing changes.
    pub(super) fn add(&mut self, before: &Entity, after: &Entity, is_unsure: bool) {
        let is_sure = before != after && Relay::is_due(before, after);
        if is_sure || is_unsure {
            // Also what it spoke of before: it may have ceased to.
            let all = Relay::all_of(before)
                .into_iter()
                .chain(Relay::all_of(after));
            self.0.extend(all.map(|relay| (relay, is_sure)));
        }
    }

    /// Adds one that may have been written.
    pub fn add_unsure(&mut self, relay: Relay) {
        self.0.entry(relay).or_insert(false);
    }

    /// Adds all of another batch.
    pub fn append(&mut self, other: Self) {
        for (relay, is_sure) in other.0 {
            *self.0.entry(relay).or_insert(false) |= is_sure;
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// By the partition that they are written in, of `partitions`: at most `limit` in each batch.
    pub fn batches(self, partitions: u32, limit: usize) -> Vec<RelayBatch> {
        let mut by_partition = BTreeMap::<u32, Vec<(Relay, bool)>>::new();
        for (relay, is_sure) in self.0 {
            let partition = relay.to_partition(partitions);
            let relays = by_partition.entry(partition).or_default();
            relays.push((relay, is_sure));
        }
        let mut batches = Vec::new();
        for (partition, relays) in by_partition {
            for relays in relays.chunks(limit.max(1)) {
                batches.push(RelayBatch::of(partition, relays.to_vec()));
            }
        }
        batches
    }
}

impl RelayBatch {
    fn of(partition: u32, relays: Vec<(Relay, bool)>) -> Self {
        let keys: BTreeSet<_> = relays.iter().map(|(relay, _)| relay.to.clone()).collect();
        let to = ReadSet {
            entities: keys.into_iter().collect(),
            ..ReadSet::default()
        };
        Self {
            partition,
            to,
            relays,
        }
    }

    /// What must be read, after those, of each partition of `partitions`.
    pub fn from(&self, partitions: u32) -> BTreeMap<u32, ReadSet> {
        let mut read_sets = BTreeMap::<u32, ReadSet>::new();
        for (relay, _) in &self.relays {
            let partition = relay.from_partition(partitions);
            let entities = &mut read_sets.entry(partition).or_default().entities;
            // Relays of one entity are neighbours.
            if entities.last() != Some(&relay.from) {
                entities.push(relay.from.clone());
            }
        }
        read_sets
    }

    /// The commit, and why entities do not get what was relayed: revwatch panics. Fails if this version cannot decode
    /// one.
    pub fn decide(&self, to: &ReadResult, from: &Foreign) -> Result<(Commit, Vec<String>), String> {
        let stored = self.to.entities.iter().zip(&to.entities);
        let changes = stored.map(|(key, stored)| Ok((key, Change::of(key, stored.as_ref())?)));
        let mut changes: Changes<'_> = changes.collect::<Result<_, String>>()?;
        for (relay, is_sure) in &self.relays {
            let from = read(&relay.from, from)?;
            if let Some(change) = changes.get_mut(&relay.to) {
                change.relayed.push((relay, from, *is_sure));
            }
        }
        let mut commit = Commit {
            partition: self.partition,
            ..Commit::default()
        };
        let mut faults = Vec::new();
        for (key, change) in changes {
            match on_entity(key, || change.write(key)) {
                Ok(Some((write, counters))) => {
                    commit.entities.push(write);
                    commit.counters.merge(counters, 1);
                }
                Ok(None) => {}
                Err(fault) => faults.push(fault),
            }
        }
        Ok((commit, faults))
    }
}

/// An entity, and what others say about it.
struct Change<'a> {
    /// The stored version.
    expected: u64,
    before: Entity,
    relayed: Vec<(&'a Relay, Option<Entity>, bool)>,
}

type Changes<'a> = BTreeMap<&'a EntityKey, Change<'a>>;

impl Change<'_> {
    fn of(key: &EntityKey, stored: Option<&StoredEntity>) -> Result<Self, String> {
        let (expected, before) = stored_entity(key, stored)?;
        Ok(Self {
            expected,
            before,
            relayed: Vec::new(),
        })
    }

    /// What is written, and what that changes in the counters. Customers and providers have no
    /// conditions.
    fn write(self, key: &EntityKey) -> Option<(EntityWrite, Counters)> {
        let mut after = self.before.clone();
        let mut must_write = false;
        for (relay, from, is_sure) in &self.relayed {
            if let Some(observation) = relay.observe(from.as_ref()) {
                after.merge(&observation);
                // If it is as before, a slower worker may be about to write what was true in between.
                must_write |= is_sure;
            }
        }
        let mut counters = Counters::default();
        if after != self.before {
            counters.add_difference(&self.before.tally(), &after.tally());
        } else if !must_write {
            return None;
        }
        let write = EntityWrite {
            key: key.clone(),
            expected: self.expected,
            body: Some(after.encode()),
        };
        Some((write, counters))
    }
}

fn read(key: &EntityKey, foreign: &Foreign) -> Result<Option<Entity>, String> {
    let Some(stored) = foreign.get(key).and_then(Option::as_ref) else {
        return Ok(None);
    };
    on_entity(key, || Entity::decode(key, &stored.body))?.map(Some)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use revwatch_core::entity::EntityKind;
    use revwatch_core::event_settings::EventSettings;
    use revwatch_storage::ports::Delivery;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use crate::batch::{Batch, Decision, Outcome, Place};

    fn subscription(n: u8, status: &str, with: &Value) -> Delivery {
        let mut object = json!({"id": "sub_1", "status": status, "customer": "cus_1", "currency": "usd",
            "items": {"data": [{"quantity": 1, "price": {"unit_amount": 1000,
            "recurring": {"interval": "month", "interval_count": 1}}}]}});
        let fields = with.as_object().expect("fields").clone();
        object.as_object_mut().expect("an object").extend(fields);
        let body = json!({"id": format!("evt_{n}"), "object": "event", "created": 100 + i64::from(n),
            "type": "customer.subscription.updated", "data": {"object": object}});
        Delivery {
            id: Uuid::from_u128(n.into()),
            event_id: format!("evt_{n}"),
            event_type: "customer.subscription.updated".to_owned(),
            partition: 0,
            endpoint: "stripe".to_owned(),
            received_ms: 1,
            traceparent: None,
            body: Bytes::from(body.to_string()),
        }
    }

    fn is(n: u8, status: &str) -> Delivery {
        subscription(n, status, &json!({}))
    }

    /// A store.
    #[derive(Default)]
    struct Stored(Foreign);

    impl Stored {
        fn find(&self, read_set: &ReadSet, by: Option<Uuid>) -> ReadResult {
            let entities = read_set.entities.iter();
            ReadResult {
                dedupe_keys: vec![by; read_set.dedupe_keys.len()],
                entities: entities
                    .map(|key| self.0.get(key).cloned().flatten())
                    .collect(),
            }
        }

        /// `by` stored the dedupe keys.
        fn decide(&self, delivery: Delivery, by: Option<Uuid>) -> Decision {
            let batch = Batch::read(Place::ONLY, &[delivery], &EventSettings::default());
            let found = self.find(&batch.read_set, by);
            batch.decide(&found, 1).expect("readable")
        }

        fn write(&mut self, commit: &Commit) {
            for write in &commit.entities {
                let body = write.body.clone().expect("no deletion");
                let version = write.expected + 1;
                self.0
                    .insert(write.key.clone(), Some(StoredEntity { version, body }));
            }
        }

        fn applied(&mut self, delivery: Delivery) -> Relays {
            let decision = self.decide(delivery, None);
            self.write(&decision.commit);
            decision.relays
        }

        fn relayed(&self, relays: Relays) -> Commit {
            let [batch] = relays.batches(1, 100).try_into().expect("one partition");
            let found = self.find(&batch.to, None);
            let decided = batch.decide(&found, &self.0);
            let (commit, faults) = decided.expect("readable");
            assert!(faults.is_empty(), "{faults:?}");
            commit
        }

        fn paying(&self, customer: &str) -> usize {
            let key = EntityKey::new(EntityKind::Customer, customer);
            match read(&key, &self.0).expect("readable") {
                Some(Entity::Customer(customer)) => customer.subscriptions.paying(),
                _ => 0,
            }
        }
    }

    #[test]
    fn the_customer_has_what_the_subscription_says_when_the_relay_is_applied() {
        let mut stored = Stored::default();
        let began = stored.applied(is(1, "active"));
        let commit = stored.relayed(began.clone());
        assert!(commit.dedupe_keys.is_empty(), "it is no event");
        stored.write(&commit);
        assert_eq!(stored.paying("cus_1"), 1);
        let ended = stored.applied(is(2, "canceled"));
        // The second relay, then the first again.
        for relays in [ended, began] {
            stored.write(&stored.relayed(relays));
            assert_eq!(stored.paying("cus_1"), 0);
        }
    }

    /// Otherwise a slower worker could write what the subscription said in between.
    #[test]
    fn a_relay_of_a_change_conflicts_with_others_even_if_the_customer_stays_the_same() {
        let mut stored = Stored::default();
        let relays = stored.applied(is(1, "active"));
        stored.write(&stored.relayed(relays.clone()));
        let again = stored.relayed(relays);
        assert_eq!((again.entities.len(), again.entities[0].expected), (1, 1));
        assert!(again.counters.is_empty());
    }

    #[test]
    fn what_changes_nothing_for_the_customer_is_not_relayed() {
        let mut stored = Stored::default();
        stored.applied(is(1, "active"));
        for status in ["active", "past_due"] {
            assert!(stored.applied(is(2, status)).is_empty(), "{status}");
        }
    }

    /// The worker that committed it may have stopped before the customer got it.
    #[test]
    fn a_redelivered_delivery_relays_again_and_writes_only_what_the_customer_lacks() {
        let mut stored = Stored::default();
        stored.applied(is(1, "active"));
        let by = Some(Uuid::from_u128(1));
        let again = stored.decide(is(1, "active"), by);
        assert_eq!(again.outcomes, [Outcome::Redelivered]);
        stored.write(&stored.relayed(again.relays.clone()));
        assert_eq!(stored.paying("cus_1"), 1);
        assert_eq!(stored.relayed(again.relays).entities, []);
    }

    #[test]
    fn a_subscription_that_is_not_stored_says_nothing() {
        let relays = Stored::default().applied(is(1, "active"));
        assert_eq!(Stored::default().relayed(relays).entities, []);
    }

    /// What the application says that it created for a user.
    fn created_for(n: u8, user: &str) -> Delivery {
        let body = json!({"specversion": "1.0", "id": n.to_string(), "source": "/app",
            "type": "account.created_by_user", "time": format!("1970-01-01T00:00:{n:02}Z"),
            "data": {"account": "acct_1", "user": user}});
        Delivery {
            event_id: revwatch_core::app_event::key("/app", &n.to_string()),
            event_type: "account.created_by_user".to_owned(),
            endpoint: "app".to_owned(),
            body: Bytes::from(body.to_string()),
            ..is(n, "active")
        }
    }

    /// In either order, and if the worker stops between the commit and the relay.
    #[test]
    fn an_account_is_that_of_the_user_whom_the_newest_event_names() {
        let has_account = |stored: &Stored, user: &str| {
            let key = EntityKey::new(EntityKind::Provider, user);
            let provider = read(&key, &stored.0).expect("readable");
            provider.is_some_and(|it| it != Entity::new(&key))
        };
        for order in [[1, 2], [2, 1]] {
            let user = |n: u8| if n == 1 { "u_1" } else { "u_2" };
            let mut stored = Stored::default();
            for n in order {
                let relays = stored.applied(created_for(n, user(n)));
                stored.write(&stored.relayed(relays));
            }
            let both = [has_account(&stored, "u_1"), has_account(&stored, "u_2")];
            assert_eq!(both, [false, true], "{order:?}");
            let mut stopped = Stored::default();
            let first = stopped.applied(created_for(1, "u_1"));
            stopped.write(&stopped.relayed(first));
            stopped.applied(created_for(2, "u_2"));
            let again = stopped.decide(created_for(2, "u_2"), Some(Uuid::from_u128(2)));
            stopped.write(&stopped.relayed(again.relays));
            assert!(!has_account(&stopped, "u_1") && has_account(&stopped, "u_2"));
        }
    }

    /// Of very many users, not all are remembered: one that is forgotten has been asked to forget the account, too.
    #[test]
    fn a_user_who_is_forgotten_with_the_change_loses_the_account() {
        let mut stored = Stored::default();
        let mut create = |n: u8, user: &str| {
            let relays = stored.applied(created_for(n, user));
            stored.write(&stored.relayed(relays));
        };
        for n in 1..=16 {
            create(n, &format!("a_{n:02}"));
        }
        create(17, "z");
        create(18, "b");
        let has_account = |user: &str| {
            let key = EntityKey::new(EntityKind::Provider, user);
            let provider = read(&key, &stored.0).expect("readable");
            provider.is_some_and(|it| it != Entity::new(&key))
        };
        assert!(has_account("b") && !has_account("z"));
    }

    #[test]
    fn a_subscription_whose_customer_was_an_account_is_of_the_customer() {
        let account = json!({"customer": null, "customer_account": "acct_1"});
        let mut stored = Stored::default();
        let relays = stored.applied(subscription(1, "active", &account));
        stored.write(&stored.relayed(relays));
        assert_eq!(stored.paying("acct_1"), 1);
        stored.applied(is(2, "active"));
        let by = Some(Uuid::from_u128(2));
        let redelivered = stored.decide(is(2, "active"), by).relays;
        stored.write(&stored.relayed(redelivered));
        assert_eq!((stored.paying("acct_1"), stored.paying("cus_1")), (0, 1));
    }
}
