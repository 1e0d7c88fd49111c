//! Reads dedupe keys, entities, counters and the audit trail.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use async_trait::async_trait;
use redis::streams::StreamRangeReply;
use redis::{Cmd, Value};
use revwatch_core::counters::{Bucket, Counters};
use revwatch_core::entity::{EntityKey, EntityKind};
use revwatch_core::redact;
use uuid::Uuid;

use super::handle::RedisStore;
use super::keys;
use crate::ports::{
    Aggregates, AuditEntry, AuditTrail, Commit, Committed, Entities, EntityCursor, EntityFilter,
    EntityPage, MAX_ENTITIES_EXAMINED, ReadResult, ReadSet, StoreError, StoredEntity,
};

/// The number of fields requested per scan step: some hundred kilobytes of entities.
const SCAN: usize = 1_000;

/// The most days that are read by name; for more, the existing days are read first.
const DAYS_BY_NAME: u32 = 62;

#[async_trait]
impl Entities for RedisStore {
    async fn read(&self, partition: u32, read_set: &ReadSet) -> Result<ReadResult, StoreError> {
        let marks = positions(
            read_set
                .dedupe_keys
                .iter()
                .map(|(day, key)| (*day, key.as_str())),
        );
        let entities = positions(
            read_set
                .entities
                .iter()
                .map(|key| (key.kind, key.id.as_str())),
        );
        let mut found = ReadResult {
            dedupe_keys: vec![None; read_set.dedupe_keys.len()],
            entities: vec![None; read_set.entities.len()],
        };
        if marks.is_empty() && entities.is_empty() {
            return Ok(found);
        }
        let mut pipeline = redis::pipe();
        for (day, wanted) in &marks {
            pipeline.add_command(hmget(keys::marks(partition, *day), wanted));
        }
        for (kind, wanted) in &entities {
            pipeline.add_command(hmget(keys::entities(partition, *kind), wanted));
        }
        let mut answers = self
            .link
            .pipeline::<Vec<Vec<Option<Vec<u8>>>>>(&pipeline)
            .await?
            .into_iter();
        for wanted in marks.values() {
            for ((at, _), value) in wanted.iter().zip(answers.next().unwrap_or_default()) {
                found.dedupe_keys[*at] = value.map(|bytes| delivery(&bytes)).transpose()?;
            }
        }
        for wanted in entities.values() {
            for ((at, _), value) in wanted.iter().zip(answers.next().unwrap_or_default()) {
                found.entities[*at] = value
                    .map(|bytes| {
                        let key = &read_set.entities[*at];
                        stored(key.kind, &key.id, &bytes)
                    })
                    .transpose()?;
            }
        }
        Ok(found)
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, StoreError> {
        self.commit_batch(commit).await
    }

    /// The partition of an entity follows from its event, not from its id: all are read.
    async fn entity(&self, key: &EntityKey) -> Result<Option<StoredEntity>, StoreError> {
        let answers = self
            .each_partition(|partition| async move {
                let mut cmd = redis::cmd("HGET");
                cmd.arg(keys::entities(partition, key.kind)).arg(&key.id);
                self.link.run::<Option<Vec<u8>>>(&cmd).await
            })
            .await?;
        answers
            .into_iter()
            .flatten()
            .next()
            .map(|bytes| stored(key.kind, &key.id, &bytes))
            .transpose()
    }

    async fn entities(
        &self,
        kind: EntityKind,
        each: &mut (dyn for<'a, 'b> FnMut(&'a str, &'b [u8]) + Send),
    ) -> Result<(), StoreError> {
        for partition in 0..self.partitions {
            let mut scan = Scan::new(keys::entities(partition, kind));
            while let Some(page) = self.next_page(&mut scan).await? {
                for (id, value) in page {
                    each(&id, &stored(kind, &id, &value)?.body);
                }
            }
        }
        Ok(())
    }

    /// Complete steps of HSCAN: resuming within a step could miss entities when the hash shrinks.
    async fn entity_page(
        &self,
        kind: EntityKind,
        filter: EntityFilter,
        after: Option<&EntityCursor>,
        limit: usize,
    ) -> Result<EntityPage, StoreError> {
        let (mut partition, mut cursor) = after.map_or(Ok((0, 0)), EntityCursor::parts)?;
        let (mut page, mut examined) = (EntityPage::default(), 0);
        let step = limit.clamp(1, SCAN);
        while partition < self.partitions {
            if page.entities.len() >= limit.max(1) || examined >= MAX_ENTITIES_EXAMINED {
                page.next = Some(EntityCursor::new(partition, cursor));
                break;
            }
            let mut cmd = redis::cmd("HSCAN");
            cmd.arg(keys::entities(partition, kind)).arg(cursor);
            cmd.arg("COUNT").arg(step);
            let (next, found): (u64, Vec<(String, Vec<u8>)>) = self.link.run(&cmd).await?;
            examined += found.len().max(1);
            for (id, value) in found {
                let entity = stored(kind, &id, &value)?;
                if filter(&id, &entity.body) {
                    page.entities.push((id, entity));
                }
            }
            cursor = next;
            partition += u32::from(next == 0);
        }
        Ok(page)
    }
}

#[async_trait]
impl Aggregates for RedisStore {
    async fn counters(&self, from_hour: u32, to_hour: u32) -> Result<Counters, StoreError> {
        let partitions = self
            .each_partition(|partition| async move {
                let days = self.days_between(partition, from_hour, to_hour).await?;
                let mut pipeline = redis::pipe();
                pipeline.cmd("HGETALL").arg(keys::counters(partition));
                for day in &days {
                    pipeline.cmd("HGETALL").arg(keys::hours(partition, *day));
                }
                let answers: Vec<BTreeMap<String, i64>> = self.link.pipeline(&pipeline).await?;
                Ok((days, answers))
            })
            .await?;
        let mut sum = Counters::default();
        for (days, answers) in partitions {
            let mut answers = answers.into_iter();
            for (name, value) in answers.next().unwrap_or_default() {
                sum.add_named(Bucket::Current, name, value);
            }
            for (day, counters) in days.into_iter().zip(answers) {
                for (field, value) in counters {
                    let (hour, name) = hour_and_name(day, &field)?;
                    if (from_hour..=to_hour).contains(&hour) {
                        sum.add_named(Bucket::Hour(hour), name.to_owned(), value);
                    }
                }
            }
        }
        Ok(sum)
    }

    async fn current_counters(&self, names: &[&str]) -> Result<i64, StoreError> {
        let partitions = self
            .each_partition(|partition| async move {
                let mut cmd = redis::cmd("HMGET");
                cmd.arg(keys::counters(partition)).arg(names);
                self.link.run::<Vec<Option<i64>>>(&cmd).await
            })
            .await?;
        Ok(partitions.into_iter().flatten().flatten().sum())
    }
}

#[async_trait]
impl AuditTrail for RedisStore {
    /// The newest entry is the one committed last; within a millisecond, the one that happened last according to Stripe.
    async fn audit(&self, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let partitions = self
            .each_partition(|partition| async move {
                let mut cmd = redis::cmd("XREVRANGE");
                cmd.arg(keys::audit(partition))
                    .arg("+")
                    .arg("-")
                    .arg("COUNT")
                    .arg(limit);
                self.link.run::<StreamRangeReply>(&cmd).await
            })
            .await?;
        let mut entries = Vec::new();
        for line in partitions.into_iter().flat_map(|reply| reply.ids) {
            let (millisecond, number) = stream_id(&line.id)?;
            let entry: AuditEntry = from_json(&line.map, "an audit entry")?;
            entries.push(((millisecond, entry.at_s, number), entry));
        }
        entries.sort_by_key(|(order, _)| std::cmp::Reverse(*order));
        Ok(entries
            .into_iter()
            .map(|(_, entry)| entry)
            .take(limit)
            .collect())
    }
}

impl RedisStore {
    /// One page of a hash, without the fields that were in earlier pages: Redis repeats some when the
    /// hash is resized in between.
    pub(super) async fn next_page(
        &self,
        scan: &mut Scan,
    ) -> Result<Option<Vec<(String, Vec<u8>)>>, StoreError> {
        let Some(cursor) = scan.cursor else {
            return Ok(None);
        };
        let mut cmd = redis::cmd("HSCAN");
        cmd.arg(&scan.key).arg(cursor).arg("COUNT").arg(SCAN);
        let (next, page): (u64, Vec<(String, Vec<u8>)>) = self.link.run(&cmd).await?;
        scan.cursor = (next != 0).then_some(next);
        Ok(Some(
            page.into_iter()
                .filter(|(field, _)| scan.seen.insert(field.clone()))
                .collect(),
        ))
    }

    async fn days_between(
        &self,
        partition: u32,
        from_hour: u32,
        to_hour: u32,
    ) -> Result<Vec<u32>, StoreError> {
        if from_hour > to_hour {
            return Ok(Vec::new());
        }
        let days = from_hour / 24..=to_hour / 24;
        if days.end() - days.start() < DAYS_BY_NAME {
            return Ok(days.collect());
        }
        let mut cmd = redis::cmd("SMEMBERS");
        cmd.arg(keys::days(partition));
        let exist: BTreeSet<u32> = self.link.run(&cmd).await?;
        Ok(exist.into_iter().filter(|day| days.contains(day)).collect())
    }
}

/// The position in a hash.
pub(super) struct Scan {
    key: String,
    cursor: Option<u64>,
    seen: HashSet<String>,
}

impl Scan {
    pub(super) fn new(key: String) -> Self {
        Self {
            key,
            cursor: Some(0),
            seen: HashSet::new(),
        }
    }
}

/// Both parts of a stream's id.
pub(super) fn stream_id(id: &str) -> Result<(u64, u64), StoreError> {
    id.split_once('-')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
        .ok_or_else(|| StoreError::Corrupt(format!("{id:?} is not the id of a stream entry")))
}

/// The value of a stream entry.
pub(super) fn from_json<T: serde::de::DeserializeOwned>(
    entry: &std::collections::HashMap<String, Value>,
    what: &str,
) -> Result<T, StoreError> {
    let text = match entry.get(keys::STREAM_FIELD) {
        Some(Value::BulkString(bytes)) => bytes.as_slice(),
        _ => return Err(StoreError::Corrupt(format!("{what} without a text"))),
    };
    serde_json::from_slice(text)
        .map_err(|err| StoreError::Corrupt(format!("{what}, {}", redact::place(&err))))
}

/// Groups requested fields by hash, and records the position of each in the result.
fn positions<'a, K: Ord>(
    wanted: impl Iterator<Item = (K, &'a str)>,
) -> BTreeMap<K, Vec<(usize, &'a str)>> {
    let mut groups: BTreeMap<K, Vec<(usize, &str)>> = BTreeMap::new();
    for (at, (group, field)) in wanted.enumerate() {
        groups.entry(group).or_default().push((at, field));
    }
    groups
}

fn hmget(key: String, wanted: &[(usize, &str)]) -> Cmd {
    let mut cmd = redis::cmd("HMGET");
    cmd.arg(key);
    for (_, field) in wanted {
        cmd.arg(*field);
    }
    cmd
}

fn delivery(bytes: &[u8]) -> Result<Uuid, StoreError> {
    Uuid::from_slice(bytes).map_err(|err| {
        StoreError::Corrupt(format!("a dedupe key's value is not a delivery id: {err}"))
    })
}

fn stored(kind: EntityKind, id: &str, bytes: &[u8]) -> Result<StoredEntity, StoreError> {
    let (version, body) = bytes.split_first_chunk::<8>().ok_or_else(|| {
        StoreError::Corrupt(format!(
            "{} {id} has {} bytes, too few for a version",
            kind.as_str(),
            bytes.len()
        ))
    })?;
    Ok(StoredEntity {
        version: u64::from_be_bytes(*version),
        body: body.to_vec(),
    })
}

fn hour_and_name(day: u32, field: &str) -> Result<(u32, &str), StoreError> {
    field
        .split_once('|')
        .and_then(|(hour, name)| {
            Some((day.checked_mul(24)?.checked_add(hour.parse().ok()?)?, name))
        })
        .ok_or_else(|| StoreError::Corrupt(format!("{field:?} is not a counter of an hour")))
}
