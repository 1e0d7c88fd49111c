//! Recomputes counters and conditions from all entities and compares them with a store.
//!
//! A store in use cannot be read in one instant: a commit may happen between reading its entities
//! and reading its sums. The sums are therefore read before and after the entities. If both are
//! equal, nothing was committed in between, and every difference is an error. If not, values
//! between the two are accepted. A difference caused only by a sum that rose and fell in between
//! does not have the same amount in repeated comparisons.
//!
//! One Stripe object is one entity, in the partition that its events have: an entity that is in two partitions counts
//! twice in every sum, and agrees with them.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::RangeInclusive;

use crate::bucket::{Bucket, Buckets, HOURS_KEPT_DAYS, MINUTES_READ_HOURS, hour_of};
use crate::condition::{Condition, ConditionKey};
use crate::counters::Counters;
use crate::entity::{Entity, EntityKey};

/// The counters and conditions of all added entities.
#[derive(Debug)]
pub struct Recount {
    /// How many entities were added.
    pub entities: u64,
    /// How many partitions there are.
    partitions: u32,
    /// Where each entity is, by the hash of its key: there may be millions.
    places: HashMap<u64, u32>,
    misplaced: Vec<Misplaced>,
    counters: Counters,
    /// An entity that is in two partitions contributes two versions.
    conditions: BTreeMap<ConditionKey, Vec<Condition>>,
}

/// An entity in a partition where it does not belong, or also in another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misplaced {
    /// Which entity.
    pub key: EntityKey,
    /// The partition in which it was found.
    pub partition: u32,
    /// What is wrong.
    pub why: Misplacement,
}

/// What is wrong with an entity's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misplacement {
    /// Its events are in this partition.
    Foreign(u32),
    /// It is in this partition, too.
    Twice(u32),
}

/// The aggregates of a store, read at one time.
#[derive(Debug, Clone, Default)]
pub struct StoredAggregates {
    /// The current counters and those of the buckets that are [`compared`].
    pub counters: Counters,
    /// All open conditions.
    pub conditions: Vec<Condition>,
}

/// The result of one comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// How many counters were compared.
    pub counters: usize,
    /// How many conditions were compared.
    pub conditions: usize,
    /// Nothing was committed during the comparison: every difference is an error, and there are no
    /// others.
    pub undisturbed: bool,
    /// What differs between the store and its entities.
    pub differences: Vec<Difference>,
    /// Entities in a partition where they do not belong, and entities that are there twice.
    pub misplaced: Vec<Misplaced>,
}

/// A difference between a store and its entities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// A sum is wrong.
    Counter {
        /// Parts joined by `|`.
        name: String,
        /// The bucket of the counter.
        bucket: Bucket,
        /// The stored value; 0 if there is none.
        stored: i64,
        /// The value computed from the entities.
        recomputed: i64,
        /// The range of the store's error, because the stored value changed during the comparison.
        excess: RangeInclusive<i64>,
    },
    /// An entity has this condition, and the store does not have it.
    MissingCondition(Condition),
    /// The store has a condition that no entity has.
    LeftOverCondition(Condition),
    /// Both have the condition, with different details.
    OtherCondition {
        /// The store's version.
        stored: Box<Condition>,
        /// The entity's version.
        recomputed: Box<Condition>,
    },
}

/// The first hour to compare: every store keeps the hours of [`HOURS_KEPT_DAYS`], including today.
pub fn first_hour(now_s: i64) -> u32 {
    let first_day = (hour_of(now_s) / 24).saturating_sub(HOURS_KEPT_DAYS - 1);
    first_day.saturating_mul(24)
}

/// What is compared of the counters: what every store keeps. Hours do not end with the present one, because Stripe's
/// clock may be ahead of this one.
pub fn compared(now_s: i64) -> Buckets {
    let hour = hour_of(now_s);
    Buckets {
        hours: first_hour(now_s)..=u32::MAX,
        minutes_of: (hour.saturating_sub(MINUTES_READ_HOURS - 1)..=hour).collect(),
    }
}

/// Whether a counter is a sum over entities. The others count deliveries and requests.
pub fn is_of_entities(name: &str) -> bool {
    !name.starts_with("events|")
}

impl Recount {
    /// Of a store with so many partitions.
    pub fn new(partitions: u32) -> Self {
        Self {
            entities: 0,
            partitions,
            places: HashMap::new(),
            misplaced: Vec::new(),
            counters: Counters::default(),
            conditions: BTreeMap::new(),
        }
    }

    /// Adds the contributions of one entity, found in this partition.
    pub fn add(&mut self, partition: u32, key: &EntityKey, entity: &Entity) {
        self.entities = self.entities.saturating_add(1);
        self.misplaced
            .extend(self.misplacement(partition, key, entity));
        self.places.insert(hash(key), partition);
        self.counters.merge(entity.contributions(), 1);
        for condition in entity.conditions() {
            self.conditions
                .entry(condition.key.clone())
                .or_default()
                .push(condition);
        }
    }

    fn misplacement(&self, partition: u32, key: &EntityKey, entity: &Entity) -> Option<Misplaced> {
        let elsewhere = |other: &u32| *other != partition;
        let other = self.places.get(&hash(key)).copied().filter(elsewhere);
        let own = Some(entity.partition(self.partitions)).filter(elsewhere);
        let why = other
            .map(Misplacement::Twice)
            .or(own.map(Misplacement::Foreign))?;
        let key = key.clone();
        Some(Misplaced {
            key,
            partition,
            why,
        })
    }

    /// Compares these buckets of the store's aggregates before and after the entities were read. Counters of deliveries and requests are left out: an entity does not know
    /// how many deliveries reached it.
    pub fn compare(
        &self,
        before: &StoredAggregates,
        after: &StoredAggregates,
        buckets: &Buckets,
    ) -> Comparison {
        // Every commit counts the events that it applied.
        let mut comparison = Comparison {
            undisturbed: before.counters == after.counters,
            misplaced: self.misplaced.clone(),
            ..Comparison::default()
        };
        self.compare_counters(&before.counters, &after.counters, buckets, &mut comparison);
        self.compare_conditions(&before.conditions, &after.conditions, &mut comparison);
        comparison
    }

    fn compare_counters(
        &self,
        before: &Counters,
        after: &Counters,
        buckets: &Buckets,
        comparison: &mut Comparison,
    ) {
        let mut all: BTreeMap<(Bucket, &str), [i64; 3]> = BTreeMap::new();
        for (i, counters) in [before, &self.counters, after].into_iter().enumerate() {
            for (bucket, name, value) in counters.iter() {
                if buckets.contains(bucket) && is_of_entities(name) {
                    all.entry((bucket, name)).or_default()[i] = value;
                }
            }
        }
        comparison.counters = all.len();
        for ((bucket, name), [before, recomputed, after]) in all {
            let excess = before.min(after).saturating_sub(recomputed)
                ..=before.max(after).saturating_sub(recomputed);
            if !excess.contains(&0) {
                let name = name.to_owned();
                comparison.differences.push(Difference::Counter {
                    name,
                    bucket,
                    stored: after,
                    recomputed,
                    excess,
                });
            }
        }
    }

    fn compare_conditions(
        &self,
        before: &[Condition],
        after: &[Condition],
        comparison: &mut Comparison,
    ) {
        let mut all: BTreeMap<&ConditionKey, [Option<&Condition>; 2]> = BTreeMap::new();
        for (i, held) in [before, after].into_iter().enumerate() {
            for condition in held {
                all.entry(&condition.key).or_default()[i] = Some(condition);
            }
        }
        for key in self.conditions.keys() {
            all.entry(key).or_default();
        }
        comparison.conditions = all.len();
        for (key, held) in all {
            let recomputed = self
                .conditions
                .get(key)
                .map_or(&[] as &[Condition], Vec::as_slice);
            let agrees = held.iter().any(|held| match held {
                Some(held) => recomputed.contains(held),
                None => recomputed.is_empty(),
            });
            if agrees {
                continue;
            }
            comparison
                .differences
                .extend(match (held[1].or(held[0]), recomputed.first()) {
                    (Some(stored), Some(recomputed)) => Some(Difference::OtherCondition {
                        stored: stored.clone().into(),
                        recomputed: recomputed.clone().into(),
                    }),
                    (None, Some(recomputed)) => {
                        Some(Difference::MissingCondition(recomputed.clone()))
                    }
                    (Some(stored), None) => Some(Difference::LeftOverCondition(stored.clone())),
                    (None, None) => None,
                });
        }
    }
}

fn hash(key: &EntityKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

impl Comparison {
    /// Whether the store and its entities agree, and each entity is one, in its partition.
    pub fn agrees(&self) -> bool {
        self.differences.is_empty() && self.misplaced.is_empty()
    }

    /// Reduces the `later` comparison to the differences that may be the same as in this one. If
    /// nothing was committed during the later one, it stands as it is.
    #[must_use]
    pub fn confirmed_by(self, later: Self) -> Self {
        if later.undisturbed {
            return later;
        }
        let known = self.differences;
        let confirmed = |later| {
            known
                .iter()
                .find_map(|earlier| earlier.confirmed_by(&later))
        };
        Self {
            differences: later
                .differences
                .into_iter()
                .filter_map(confirmed)
                .collect(),
            ..later
        }
    }
}

impl Difference {
    /// The later difference, if it may be the same as this one.
    fn confirmed_by(&self, later: &Self) -> Option<Self> {
        match (self, later) {
            (
                Self::Counter {
                    name,
                    bucket,
                    excess,
                    ..
                },
                Self::Counter {
                    name: later_name,
                    bucket: later_bucket,
                    excess: later_excess,
                    stored,
                    recomputed,
                },
            ) => {
                let both = *excess.start().max(later_excess.start())
                    ..=*excess.end().min(later_excess.end());
                let same = name == later_name && bucket == later_bucket && !both.is_empty();
                same.then(|| Self::Counter {
                    name: name.clone(),
                    bucket: *bucket,
                    stored: *stored,
                    recomputed: *recomputed,
                    excess: both,
                })
            }
            _ => (self.condition().is_some() && self.condition() == later.condition())
                .then(|| later.clone()),
        }
    }

    fn condition(&self) -> Option<&ConditionKey> {
        match self {
            Self::Counter { .. } => None,
            Self::MissingCondition(condition) | Self::LeftOverCondition(condition) => {
                Some(&condition.key)
            }
            Self::OtherCondition { stored, .. } => Some(&stored.key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::payout::{PayoutFacts, PayoutOrigin};
    use crate::entity::timeline::{Changes, RecordedState, Stage};
    use crate::entity::{EntityKey, EntityKind, Observation, Update};

    fn all() -> Buckets {
        from_hour(0)
    }

    /// With the minutes of the hours that tests have payouts in.
    fn from_hour(hour: u32) -> Buckets {
        Buckets {
            hours: hour..=u32::MAX,
            minutes_of: [hour, 100].into(),
        }
    }

    /// One payout that failed in the given hour, and a store that has it.
    fn failed_payout(hour: u32) -> (Recount, StoredAggregates) {
        let key = EntityKey::new(EntityKind::Payout, "po_1");
        let created_s = i64::from(hour) * 3600;
        let origin = PayoutOrigin {
            account: None,
            amount_minor: Some(500),
            currency: Some("usd".into()),
            original: None,
        };
        let facts = PayoutFacts {
            status: "failed".to_owned().into(),
            failure_code: None,
            failure_message: None,
            reversed_by: None,
        };
        let state = RecordedState {
            created_s,
            event_id: "evt_1".into(),
            stage: Stage::Updated,
            facts: facts.into(),
            changes: Changes::default(),
        };
        let mut entity = Entity::new(&key);
        entity.merge(&Observation {
            key: key.clone(),
            created_s,
            realm: crate::realm::Realm::MAIN,
            update: Update::Payout(origin, state),
        });
        let mut recount = Recount::new(1);
        recount.add(0, &key, &entity);
        let mut held = StoredAggregates {
            counters: entity.contributions(),
            conditions: entity.conditions(),
        };
        held.counters
            .add(Bucket::Current, &["events", "applied"], 7);
        (recount, held)
    }

    #[test]
    fn a_consistent_store_has_no_differences_and_deliveries_are_left_out() {
        let (recount, held) = failed_payout(100);
        assert_eq!(
            recount.compare(&held, &held, &all()),
            Comparison {
                counters: 6,
                conditions: 1,
                undisturbed: true,
                ..Comparison::default()
            }
        );
        assert_eq!(recount.entities, 1);
    }

    #[test]
    fn an_entity_that_is_there_twice_or_in_a_foreign_partition_is_misplaced() {
        let key = EntityKey::new(EntityKind::Payout, "po_1");
        let entity = Entity::new(&key);
        let own = entity.partition(8);
        let (other, third) = ((own + 1) % 8, (own + 2) % 8);
        let found = |partitions: &[u32]| {
            let mut recount = Recount::new(8);
            for partition in partitions {
                recount.add(*partition, &key, &entity);
            }
            let places = recount.misplaced.into_iter();
            let places: Vec<_> = places.map(|it| (it.partition, it.why)).collect();
            places
        };
        assert_eq!(found(&[own]), []);
        assert_eq!(found(&[own, own]), [], "a scan may return it twice");
        assert_eq!(found(&[other]), [(other, Misplacement::Foreign(own))]);
        assert_eq!(found(&[own, other]), [(other, Misplacement::Twice(own))]);
        assert_eq!(
            found(&[other, third]),
            [
                (other, Misplacement::Foreign(own)),
                (third, Misplacement::Twice(other))
            ]
        );
    }

    #[test]
    fn every_wrong_counter_is_reported_with_both_values() {
        let (recount, mut held) = failed_payout(100);
        held.counters
            .add(Bucket::Current, &["payouts", "failed", "usd"], 1);
        held.counters
            .add(Bucket::Hour(100), &["payouts", "failed", "usd"], -1);
        held.counters
            .add(Bucket::Hour(7), &["payouts", "paid", "eur"], 3);
        let counter = |name: &str, bucket, stored, recomputed| Difference::Counter {
            name: name.to_owned(),
            bucket,
            stored,
            recomputed,
            excess: stored - recomputed..=stored - recomputed,
        };
        let expected = [
            counter("payouts|failed|usd", Bucket::Current, 2, 1),
            counter("payouts|paid|eur", Bucket::Hour(7), 3, 0),
            counter("payouts|failed|usd", Bucket::Hour(100), 0, 1),
        ];
        assert_eq!(recount.compare(&held, &held, &all()).differences, expected);
        // What a store may have deleted is not compared.
        assert_eq!(
            recount.compare(&held, &held, &from_hour(8)).differences,
            [expected[0].clone(), expected[2].clone()]
        );
    }

    #[test]
    fn conditions_can_be_missing_left_over_or_different() {
        let (recount, held) = failed_payout(100);
        let stored = &held.conditions[0];
        let empty = StoredAggregates {
            conditions: Vec::new(),
            ..held.clone()
        };
        assert_eq!(
            recount.compare(&empty, &empty, &all()).differences,
            [Difference::MissingCondition(stored.clone())]
        );
        let mut late = held.clone();
        late.conditions[0].since_s += 1;
        assert_eq!(
            recount.compare(&late, &late, &all()).differences,
            [Difference::OtherCondition {
                stored: late.conditions[0].clone().into(),
                recomputed: stored.clone().into()
            }]
        );
        let left_over = StoredAggregates {
            counters: Counters::default(),
            conditions: held.conditions.clone(),
        };
        assert_eq!(
            Recount::new(1)
                .compare(&left_over, &left_over, &all())
                .differences,
            [Difference::LeftOverCondition(stored.clone())]
        );
    }

    #[test]
    fn a_concurrent_commit_is_not_a_difference_and_vanished_differences_are_not_confirmed() {
        let (recount, held) = failed_payout(100);
        let empty = StoredAggregates::default();
        let disturbed = recount.compare(&empty, &held, &all());
        assert!(
            disturbed.differences.is_empty(),
            "committed after the first read"
        );
        assert!(!disturbed.undisturbed && recount.compare(&empty, &empty, &all()).undisturbed);
        assert!(
            Recount::new(1)
                .compare(&empty, &held, &all())
                .differences
                .is_empty(),
            "committed after the entities were read"
        );
        let mut wrong = held;
        wrong.counters.add(Bucket::Current, &["mrr", "usd"], 5);
        let lagging = recount.compare(&empty, &empty, &all());
        let certain = recount.compare(&wrong, &wrong, &all());
        let both = Comparison {
            undisturbed: false,
            ..certain.clone()
        };
        assert_eq!(lagging.clone().confirmed_by(both.clone()).differences, []);
        assert_eq!(both.clone().confirmed_by(both.clone()), both);
        assert_eq!(lagging.confirmed_by(certain.clone()), certain);
    }

    /// A sum that rises and falls while events are applied differs in many comparisons, each time
    /// by another amount.
    #[test]
    fn only_differences_of_the_same_amount_are_confirmed() {
        let (recount, held) = failed_payout(100);
        let off_by = |before, after| {
            let with = |by| {
                let mut held = held.clone();
                held.counters
                    .add(Bucket::Current, &["payouts", "failed", "usd"], by);
                held
            };
            Comparison {
                undisturbed: false,
                ..recount.compare(&with(before), &with(after), &all())
            }
        };
        let excess = |comparison: &Comparison| match comparison.differences.as_slice() {
            [Difference::Counter { excess, .. }] => Some(excess.clone()),
            _ => None,
        };
        assert_eq!(excess(&off_by(2, 5)), Some(2..=5));
        assert_eq!(
            excess(&off_by(2, 5).confirmed_by(off_by(7, 4))),
            Some(4..=5)
        );
        assert_eq!(excess(&off_by(2, 5).confirmed_by(off_by(7, 6))), None);
        assert_eq!(
            excess(
                &off_by(2, 5)
                    .confirmed_by(off_by(7, 4))
                    .confirmed_by(off_by(3, 2))
            ),
            None
        );
        assert_eq!(excess(&off_by(2, 2).confirmed_by(off_by(-2, -2))), None);
    }

    #[test]
    fn only_days_that_every_store_keeps_are_compared() {
        assert_eq!(first_hour(0), 0);
        let day = 20_000;
        assert_eq!(first_hour(day * 86_400 + 5), (20_000 - 399) * 24);
        assert_eq!(first_hour(day * 86_400 + 86_399), (20_000 - 399) * 24);
        let hour = 20_000 * 24;
        let compared = compared(day * 86_400 + 5);
        let minute_of = |hour: u32| compared.contains(Bucket::Minute(hour * 60));
        assert_eq!(
            [hour - 48, hour - 47, hour, hour + 1].map(minute_of),
            [false, true, true, false]
        );
        assert!(
            compared.contains(Bucket::Hour(hour + 1))
                && !compared.contains(Bucket::Hour(first_hour(day * 86_400) - 1))
        );
    }
}
