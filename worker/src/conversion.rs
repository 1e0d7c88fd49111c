//! Converts the state of a store to this version's format, [`STATE_FORMAT`]: entities get the present
//! encoding, an entity that is in several partitions is joined in its own, and counters and conditions
//! become what the entities add up to.
//!
//! It works in two passes with a barrier between them. The first writes: older encodings in the present one,
//! what is in a foreign partition also into its own, then the realms that the archive says, and in customers what
//! their subscriptions say. The second
//! deletes what is in a foreign partition, adds up the rest, and adds to the stored aggregates what they
//! lack, until they agree.
//!
//! Invariant: it may end at any point and be begun again. While it runs the store takes no commits but
//! its own, no partition is complete, and nothing is decided from the store. No entity is deleted
//! before its union is durable in its own partition.

mod archive;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use revwatch_core::bucket::Buckets;
use revwatch_core::correction::{Correction, Sums};
use revwatch_core::counters::Counters;
use revwatch_core::entity::{Entity, EntityKey, EntityKind, Observation, STATE_FORMAT};
use revwatch_core::recount::compared;
use revwatch_core::relay::Relay;
use revwatch_storage::ports::{
    Commit, Committed, ConditionChange, EntityCursor, EntityWrite, Health, ReadSet, ShardEntity,
    StoredEntity,
};
use tokio::time::Instant;

pub use self::archive::Archived;
use crate::Worker;
use crate::guarded::on_entity;
use crate::partition::{MAX_CONFLICTS, PartitionError};

/// How long Redis may take until what it has confirmed survives its crash.
const DURABLE_AFTER: Duration = Duration::from_secs(5);

/// Shards that are read at the same time.
const SHARDS_AT_ONCE: usize = 4;

/// Partitions whose objects get their realms at the same time.
const PARTITIONS_AT_ONCE: usize = 4;

/// Entities, and conditions, of one commit.
const ENTITIES_PER_COMMIT: usize = 500;

/// Counters of one commit.
const COUNTERS_PER_COMMIT: usize = 2_000;

/// How often a correction is repeated. A commit that was sent twice is corrected the next time.
const MAX_CORRECTIONS: usize = 5;

/// How often progress is logged.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);

struct Conversion<'a> {
    worker: &'a Worker,
    id: String,
    partitions: u32,
    archived: &'a Archived,
    /// What is corrected of the counters.
    compared: Buckets,
    progress: Mutex<Progress>,
}

struct Progress {
    began: Instant,
    logged: Instant,
    entities: u64,
}

/// Reads the entities of a shard.
struct Pages<'a> {
    conversion: &'a Conversion<'a>,
    shard: u32,
    kinds: std::slice::Iter<'static, EntityKind>,
    kind: Option<EntityKind>,
    after: Option<EntityCursor>,
    /// Partition and id, of the present kind: Redis repeats some while a hash grows or shrinks.
    seen: HashSet<(u32, String)>,
}

/// A stored entity and where it belongs.
struct Found {
    at: ShardEntity,
    /// `None`: nowhere.
    home: Option<Home>,
}

#[derive(Clone)]
struct Home {
    partition: u32,
    key: EntityKey,
    entity: Entity,
}

/// What one commit changes.
#[derive(Default)]
struct Part {
    entities: Vec<EntityWrite>,
    counters: Counters,
    conditions: Vec<ConditionChange>,
}

/// Converts all partitions, which have this `health`. `archived` keeps what the archive says for the next
/// attempt.
pub async fn convert(
    worker: &Worker,
    health: &[Health],
    archived: &mut Option<Archived>,
) -> Result<(), PartitionError> {
    let from_format = health.iter().map(|it| it.state_format).min();
    let from_format = from_format.unwrap_or(STATE_FORMAT);
    tracing::info!(
        from_format,
        to_format = STATE_FORMAT,
        "converting the state"
    );
    let now = Instant::now();
    let archived = match archived {
        Some(known) => known,
        None => archived.insert(archive::read(worker).await?),
    };
    let conversion = Conversion {
        worker,
        id: worker.ids.fresh().simple().to_string(),
        partitions: worker.queue.partitions(),
        archived,
        compared: compared(worker.clock.now_s()),
        progress: Mutex::new(Progress {
            began: now,
            logged: now,
            entities: 0,
        }),
    };
    conversion.run().await
}

impl Conversion<'_> {
    async fn run(&self) -> Result<(), PartitionError> {
        let store = &self.worker.store;
        // All, before anything is read: from now on only this conversion changes the store.
        let mut run_ids = Vec::new();
        for partition in 0..self.partitions {
            run_ids.push(store.begin_conversion(partition, &self.id).await?);
        }
        let gathering = stream::iter(0..store.shards()).map(|shard| self.gather(shard));
        let gathered: Vec<u64> = gathering
            .buffer_unordered(SHARDS_AT_ONCE)
            .try_collect()
            .await?;
        let moved: u64 = gathered.into_iter().sum();
        self.give_realms().await?;
        let informing = stream::iter(0..store.shards()).map(|shard| self.write_relays(shard));
        informing
            .buffer_unordered(SHARDS_AT_ONCE)
            .try_collect::<()>()
            .await?;
        if moved > 0 {
            self.wait_until_durable(&run_ids).await?;
        }
        let adding = stream::iter(0..store.shards()).map(|shard| self.add_up(shard));
        let counted: Vec<u64> = adding
            .buffer_unordered(SHARDS_AT_ONCE)
            .try_collect()
            .await?;
        let entities: u64 = counted.into_iter().sum();
        for (partition, run_id) in (0..).zip(&run_ids) {
            let ended = store.end_conversion(partition, &self.id, run_id).await?;
            if !ended {
                return Err(PartitionError::ConversionInterrupted);
            }
        }
        let seconds = lock(&self.progress).began.elapsed().as_secs_f64();
        tracing::info!(entities, moved, seconds, "the state is converted");
        Ok(())
    }

    /// The first pass. Returns how many entities are not at home.
    async fn gather(&self, shard: u32) -> Result<u64, PartitionError> {
        let (mut pages, mut moved) = (self.pages(shard), 0);
        while let Some(page) = pages.next().await? {
            let mut here = BTreeMap::<u32, Vec<Found>>::new();
            let mut elsewhere = Vec::new();
            for found in page {
                if !found.is_at_home() {
                    moved += 1;
                    elsewhere.extend(found.home);
                } else if Entity::has_older_encoding(&found.at.stored.body) {
                    here.entry(found.at.partition).or_default().push(found);
                }
            }
            for (partition, found) in here {
                for part in found.chunks(ENTITIES_PER_COMMIT) {
                    self.encode_again(partition, part).await?;
                }
            }
            self.join(elsewhere).await?;
        }
        Ok(moved)
    }

    /// Writes what entities say about others: earlier versions wrote no relays.
    async fn write_relays(&self, shard: u32) -> Result<(), PartitionError> {
        let mut pages = Pages {
            kinds: Relay::FROM.iter(),
            ..self.pages(shard)
        };
        while let Some(page) = pages.next().await? {
            let mut by_partition = BTreeMap::<u32, BTreeMap<EntityKey, Vec<Observation>>>::new();
            for home in page
                .iter()
                .filter(|it| it.is_at_home())
                .flat_map(|it| &it.home)
            {
                for relay in Relay::all_of(&home.entity) {
                    let content = on(&home.key, || relay.observe(Some(&home.entity)))?;
                    let partition = relay.to_partition(self.partitions);
                    let others = by_partition.entry(partition).or_default();
                    let contents = others.entry(relay.to.clone()).or_default();
                    contents.extend(content);
                }
            }
            for (partition, others) in by_partition {
                let all: Vec<_> = others.into_iter().collect();
                for part in all.chunks(ENTITIES_PER_COMMIT) {
                    let merge =
                        |key: &_, contents: &Vec<_>, present| self.merged(key, contents, present);
                    self.write_in(partition, part, merge).await?;
                }
            }
        }
        Ok(())
    }

    /// What is stored of an entity with these observations, if they change it.
    fn merged(
        &self,
        key: &EntityKey,
        contents: &[Observation],
        present: Option<StoredEntity>,
    ) -> Result<Option<EntityWrite>, PartitionError> {
        let before = match &present {
            Some(stored) => self.read(key, stored)?.map(|(_, entity)| entity),
            None => None,
        };
        let before = before.unwrap_or_else(|| Entity::new(key));
        let mut after = before.clone();
        let body = on(key, || {
            contents.iter().for_each(|content| after.merge(content));
            after.encode()
        })?;
        Ok((after != before).then(|| EntityWrite {
            key: key.clone(),
            expected: present.map_or(0, |it| it.version),
            body: Some(body),
        }))
    }

    /// The second pass. Returns how many entities are at home.
    async fn add_up(&self, shard: u32) -> Result<u64, PartitionError> {
        let (mut pages, mut sums, mut count) = (self.pages(shard), Sums::default(), 0);
        while let Some(page) = pages.next().await? {
            let mut foreign = Vec::new();
            for found in page {
                match &found.home {
                    Some(home) if found.is_at_home() => {
                        on(&home.key, || sums.add(&home.entity))?;
                        count += 1;
                    }
                    _ => foreign.push(found),
                }
            }
            self.delete(foreign).await?;
        }
        self.correct(shard, &sums).await?;
        Ok(count)
    }

    fn pages(&self, shard: u32) -> Pages<'_> {
        Pages {
            conversion: self,
            shard,
            kinds: EntityKind::ALL.iter(),
            kind: None,
            after: None,
            seen: HashSet::new(),
        }
    }

    fn find_home(&self, at: ShardEntity) -> Result<Found, PartitionError> {
        let home = match self.read(&at.key, &at.stored)? {
            Some((key, entity)) => Some(Home {
                partition: on(&key, || entity.partition(self.partitions))?,
                key,
                entity,
            }),
            None => None,
        };
        Ok(Found { at, home })
    }

    /// The entity without what format 1 has wrong.
    fn read(
        &self,
        key: &EntityKey,
        stored: &StoredEntity,
    ) -> Result<Option<(EntityKey, Entity)>, PartitionError> {
        let decoded = on(key, || Entity::decode(key, &stored.body))?;
        let entity = decoded.map_err(PartitionError::Unreadable)?;
        match Entity::is_of_format_1(&stored.body) {
            true => on(key, || self.archived.accounts.correct(key.clone(), entity)),
            false => Ok(Some((key.clone(), entity))),
        }
    }

    async fn encode_again(&self, partition: u32, found: &[Found]) -> Result<(), PartitionError> {
        let homes = || found.iter().filter_map(|it| Some((it, it.home.as_ref()?)));
        let writes = homes().map(|(found, home)| {
            Ok(EntityWrite {
                key: home.key.clone(),
                expected: found.at.stored.version,
                body: Some(on(&home.key, || home.entity.encode())?),
            })
        });
        let part = Part {
            entities: writes.collect::<Result<_, PartitionError>>()?,
            ..Part::default()
        };
        if self.commit(partition, part).await? == Committed::Conflict {
            // Sent twice, or joined with what another shard had of it.
            self.join(homes().map(|(_, home)| home.clone()).collect())
                .await?;
        }
        Ok(())
    }

    /// Makes each entity part of what its own partition has of it. Returns whether that changed anything.
    async fn join(&self, entities: Vec<Home>) -> Result<bool, PartitionError> {
        let mut by_partition = BTreeMap::<u32, BTreeMap<EntityKey, Entity>>::new();
        for Home {
            partition,
            key,
            entity,
        } in entities
        {
            let joined = by_partition.entry(partition).or_default();
            match joined.entry(key) {
                Entry::Vacant(slot) => drop(slot.insert(entity)),
                Entry::Occupied(mut slot) => {
                    let key = slot.key().clone();
                    on(&key, || slot.get_mut().union(&entity))?;
                }
            }
        }
        let mut changed = false;
        for (partition, entities) in by_partition {
            let all: Vec<_> = entities.into_iter().collect();
            for part in all.chunks(ENTITIES_PER_COMMIT) {
                let join = |key: &_, entity: &_, present| self.joined(key, entity, present);
                changed |= self.write_in(partition, part, join).await?;
            }
        }
        Ok(changed)
    }

    /// Writes what `write` makes of each item and what is stored of its entity. Returns whether that changed
    /// anything.
    async fn write_in<T>(
        &self,
        partition: u32,
        items: &[(EntityKey, T)],
        write: impl Fn(
            &EntityKey,
            &T,
            Option<StoredEntity>,
        ) -> Result<Option<EntityWrite>, PartitionError>,
    ) -> Result<bool, PartitionError> {
        let read_set = ReadSet {
            entities: items.iter().map(|(key, _)| key.clone()).collect(),
            ..ReadSet::default()
        };
        for _ in 0..MAX_CONFLICTS {
            let present = self.worker.store.read(partition, &read_set).await?.entities;
            let mut part = Part::default();
            for ((key, item), present) in items.iter().zip(present) {
                part.entities.extend(write(key, item, present)?);
            }
            if part.entities.is_empty() {
                return Ok(false);
            }
            if self.commit(partition, part).await? != Committed::Conflict {
                return Ok(true);
            }
        }
        Err(PartitionError::Contended)
    }

    /// The union of an entity with what is stored of it, unless that is it already.
    fn joined(
        &self,
        key: &EntityKey,
        entity: &Entity,
        present: Option<StoredEntity>,
    ) -> Result<Option<EntityWrite>, PartitionError> {
        let mut union = entity.clone();
        if let Some(stored) = &present
            && let Some((present_key, present)) = self.read(key, stored)?
            && present_key == *key
        {
            on(key, || union.union(&present))?;
        }
        let body = on(key, || union.encode())?;
        let is_new = present.as_ref().is_none_or(|it| it.body != body);
        Ok(is_new.then(|| EntityWrite {
            key: key.clone(),
            expected: present.map_or(0, |it| it.version),
            body: Some(body),
        }))
    }

    /// Deletes entities that are not at home. What they know is at home already.
    async fn delete(&self, foreign: Vec<Found>) -> Result<(), PartitionError> {
        let mut deletions = BTreeMap::<u32, Vec<EntityWrite>>::new();
        let mut homes = Vec::new();
        for Found { at, home } in foreign {
            homes.extend(home);
            let deletion = EntityWrite {
                key: at.key,
                expected: at.stored.version,
                body: None,
            };
            deletions.entry(at.partition).or_default().push(deletion);
        }
        // Otherwise it was written after the first pass, or its union belongs elsewhere: once more.
        if self.join(homes).await? {
            return Err(PartitionError::ConversionInterrupted);
        }
        for (partition, deletions) in deletions {
            for part in deletions.chunks(ENTITIES_PER_COMMIT) {
                let part = Part {
                    entities: part.to_vec(),
                    ..Part::default()
                };
                if self.commit(partition, part).await? == Committed::Conflict {
                    return Err(PartitionError::ConversionInterrupted);
                }
            }
        }
        Ok(())
    }

    /// Adds to the stored aggregates of a shard what they lack.
    async fn correct(&self, shard: u32, sums: &Sums) -> Result<(), PartitionError> {
        for _ in 0..MAX_CORRECTIONS {
            let stored = self.worker.store.shard_aggregates(shard, &self.compared);
            let correction = sums.correction(&stored.await?, &self.compared);
            if correction.is_empty() {
                return Ok(());
            }
            for part in Part::of(correction) {
                self.commit(shard, part).await?;
            }
        }
        Err(PartitionError::ConversionInterrupted)
    }

    async fn commit(&self, partition: u32, part: Part) -> Result<Committed, PartitionError> {
        let commit = Commit {
            partition,
            entities: part.entities,
            counters: part.counters,
            conditions: part.conditions,
            conversion: Some(self.id.clone()),
            ..Commit::default()
        };
        Ok(self.worker.store.commit(&commit).await?)
    }

    /// Redis may confirm what its crash loses: then its run id is another one.
    async fn wait_until_durable(&self, run_ids: &[String]) -> Result<(), PartitionError> {
        tokio::time::sleep(DURABLE_AFTER).await;
        let health = self.worker.store.health().await?;
        let same = health.iter().map(|it| &it.server_run_id).eq(run_ids);
        match same {
            true => Ok(()),
            false => Err(PartitionError::ConversionInterrupted),
        }
    }

    fn log_progress(&self, entities: usize) {
        let mut progress = lock(&self.progress);
        progress.entities += entities as u64;
        if progress.logged.elapsed() > PROGRESS_INTERVAL {
            progress.logged = Instant::now();
            tracing::info!(
                entities_read = progress.entities,
                "converting the state; each entity is read twice, subscriptions three times"
            );
        }
    }
}

impl Pages<'_> {
    /// The next entities; none that was on an earlier page.
    async fn next(&mut self) -> Result<Option<Vec<Found>>, PartitionError> {
        let kind = match self.kind {
            Some(kind) => kind,
            None => match self.kinds.next() {
                Some(kind) => *self.kind.insert(*kind),
                None => return Ok(None),
            },
        };
        let store = &self.conversion.worker.store;
        let page = store.shard_page(self.shard, kind, self.after.as_ref());
        let page = page.await?;
        self.conversion.log_progress(page.entities.len());
        let entities = page.entities.into_iter();
        let new = entities.filter(|it| self.seen.insert((it.partition, it.key.id.clone())));
        let found: Result<_, _> = new.map(|it| self.conversion.find_home(it)).collect();
        self.after = page.next;
        if self.after.is_none() {
            self.kind = None;
            self.seen.clear();
        }
        found.map(Some)
    }
}

impl Found {
    fn is_at_home(&self) -> bool {
        let here = |home: &Home| home.partition == self.at.partition && home.key == self.at.key;
        self.home.as_ref().is_some_and(here)
    }
}

impl Part {
    /// A correction in parts.
    fn of(correction: Correction) -> Vec<Self> {
        let mut parts = Vec::new();
        let counters: Vec<_> = correction.counters.iter().collect();
        for some in counters.chunks(COUNTERS_PER_COMMIT) {
            let mut part = Self::default();
            for (bucket, name, by) in some {
                part.counters.add_named(*bucket, (*name).to_owned(), *by);
            }
            parts.push(part);
        }
        let opened = correction.opened.into_iter().map(ConditionChange::Open);
        let closed = correction.closed.into_iter().map(ConditionChange::Close);
        let conditions: Vec<_> = opened.chain(closed).collect();
        for some in conditions.chunks(ENTITIES_PER_COMMIT) {
            parts.push(Self {
                conditions: some.to_vec(),
                ..Self::default()
            });
        }
        parts
    }
}

/// Runs `work` on one entity. The error names it, so that it can be found among all others.
fn on<T>(key: &EntityKey, work: impl FnOnce() -> T) -> Result<T, PartitionError> {
    on_entity(key, work).map_err(PartitionError::Unreadable)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
