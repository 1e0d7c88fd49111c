//! Packs a [`Commit`] for `commit.lua`, which applies it completely or not at all.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use revwatch_core::bucket::{Bucket, hour_of_minute};
use revwatch_core::counters::Counters;
use revwatch_core::entity::{EntityKind, STATE_FORMAT};
use serde::Serialize;

use super::handle::RedisStore;
use super::keys;
use super::script::{Call, Script};
use crate::ports::{Commit, Committed, ConditionChange, DedupeKey, EntityWrite, StoreError};

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/commit.lua")));

/// The arguments of a commit's script: the batch, and the byte strings that it refers to.
/// Public for benchmarks.
#[doc(hidden)]
pub fn packed(commit: &Commit) -> Result<(Vec<u8>, Vec<Vec<u8>>), StoreError> {
    let mut params = Params::of(commit.partition);
    let batch = pack(commit, &mut params)?;
    Ok((batch, params.bytes))
}

impl RedisStore {
    pub(super) async fn commit_batch(&self, commit: &Commit) -> Result<Committed, StoreError> {
        assert!(
            commit.partition < self.partitions,
            "there is no partition {}",
            commit.partition
        );
        let mut params = Params::of(commit.partition);
        let packed = pack(commit, &mut params)?;
        let call = params
            .bytes
            .into_iter()
            .fold(SCRIPT.on(params.keys).arg(packed), Call::arg);
        let answer: String = self.link.call(&call).await?;
        match answer.as_str() {
            "applied" => Ok(Committed::Applied),
            "already applied" => Ok(Committed::AlreadyApplied),
            "conflict" => Ok(Committed::Conflict),
            "unconverted" => Err(StoreError::Unconverted),
            "fenced" => Err(StoreError::Fenced),
            other => Err(StoreError::Corrupt(format!(
                "commit.lua answered {other:?}"
            ))),
        }
    }
}

/// The batch as the script reads it. Redis's MessagePack has no type for bytes, so they are separate arguments.
#[derive(Serialize)]
struct Batch<'a> {
    marks: Vec<Marks<'a>>,
    entities: Vec<Entities<'a>>,
    counters: Vec<Sums<'a>>,
    conditions: Vec<Change>,
    audit: Vec<String>,
    mark_seconds: u64,
    changes_kept: u64,
    audit_kept: u64,
    stream_field: &'static str,
    high_watermark_ms: i64,
    /// As text, as Redis has it.
    state_format: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversion: Option<&'a str>,
}

/// Dedupe keys of one day.
#[derive(Serialize)]
struct Marks<'a> {
    /// Index into KEYS, from 1.
    key: usize,
    fields: Vec<&'a str>,
    /// Index into ARGV before that of the first field's bytes.
    bytes: usize,
}

/// Entities of one kind.
#[derive(Serialize)]
struct Entities<'a> {
    key: usize,
    fields: Vec<&'a str>,
    /// The present version of each, 0 if absent.
    expected: Vec<u64>,
    bytes: usize,
}

/// Current counters, those of one day's hours, or those of one hour's minutes.
#[derive(Serialize)]
struct Sums<'a> {
    key: usize,
    fields: Vec<&'a str>,
    /// As text, because Lua's numbers lose precision at 2^53.
    deltas: Vec<String>,
    /// How long they are kept, where they are not kept for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<u32>,
}

/// The counters that are in one hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Current,
    HoursOf { day: u32 },
    MinutesOf { hour: u32 },
}

#[derive(Serialize)]
struct Change {
    member: String,
    /// The open condition; absent when it closes.
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<i64>,
    /// The complete change, for alerting.
    change: String,
}

/// The script's other parameters: the keys that it may access, in the order that it expects, and byte strings.
struct Params {
    partition: u32,
    keys: Vec<String>,
    bytes: Vec<Vec<u8>>,
}

impl Params {
    fn of(partition: u32) -> Self {
        let keys = vec![
            keys::conditions(partition),
            keys::due(partition),
            keys::changes(partition),
            keys::audit(partition),
            keys::days(partition),
            keys::health(partition),
        ];
        Self {
            partition,
            keys,
            bytes: Vec::new(),
        }
    }

    /// Adds a key and returns its index, from 1.
    fn key(&mut self, name: String) -> usize {
        self.keys.push(name);
        self.keys.len()
    }

    /// The index in ARGV before that of the bytes added next; the batch itself is ARGV[1].
    fn bytes_before_next(&self) -> usize {
        1 + self.bytes.len()
    }
}

fn pack(commit: &Commit, params: &mut Params) -> Result<Vec<u8>, StoreError> {
    let counters = named_counters(&commit.counters);
    let batch = Batch {
        marks: pack_marks(&commit.dedupe_keys, params),
        entities: pack_entities(&commit.entities, params),
        counters: pack_counters(&counters, params),
        conditions: commit
            .conditions
            .iter()
            .map(pack_change)
            .collect::<Result<_, _>>()?,
        audit: commit.audit.iter().map(json).collect::<Result<_, _>>()?,
        mark_seconds: keys::MARK_SECONDS,
        changes_kept: keys::CHANGES_KEPT,
        audit_kept: keys::AUDIT_KEPT,
        stream_field: keys::STREAM_FIELD,
        high_watermark_ms: commit.high_watermark_ms,
        state_format: STATE_FORMAT.to_string(),
        conversion: commit.conversion.as_deref(),
    };
    rmp_serde::to_vec_named(&batch)
        .map_err(|err| StoreError::Corrupt(format!("a commit cannot be packed: {err}")))
}

fn pack_marks<'a>(marks: &'a [DedupeKey], params: &mut Params) -> Vec<Marks<'a>> {
    let mut days: BTreeMap<u32, Vec<&DedupeKey>> = BTreeMap::new();
    for mark in marks {
        days.entry(mark.day).or_default().push(mark);
    }
    let mut packed = Vec::with_capacity(days.len());
    for (day, marks) in days {
        let key = params.key(keys::marks(params.partition, day));
        let fields = marks.iter().map(|mark| mark.key.as_str()).collect();
        packed.push(Marks {
            key,
            fields,
            bytes: params.bytes_before_next(),
        });
        params
            .bytes
            .extend(marks.iter().map(|mark| mark.delivery.as_bytes().to_vec()));
    }
    packed
}

fn pack_entities<'a>(writes: &'a [EntityWrite], params: &mut Params) -> Vec<Entities<'a>> {
    let mut kinds: BTreeMap<EntityKind, Vec<&EntityWrite>> = BTreeMap::new();
    for write in writes {
        kinds.entry(write.key.kind).or_default().push(write);
    }
    let mut packed = Vec::with_capacity(kinds.len());
    for (kind, writes) in kinds {
        let key = params.key(keys::entities(params.partition, kind));
        let fields = writes.iter().map(|write| write.key.id.as_str()).collect();
        let expected = writes.iter().map(|write| write.expected).collect();
        packed.push(Entities {
            key,
            fields,
            expected,
            bytes: params.bytes_before_next(),
        });
        params
            .bytes
            .extend(writes.iter().map(|write| match &write.body {
                Some(body) => versioned(write.expected + 1, body),
                None => Vec::new(),
            }));
    }
    packed
}

/// How an entity is stored: its version in 8 bytes, big endian, then its body.
fn versioned(version: u64, body: &[u8]) -> Vec<u8> {
    [&version.to_be_bytes(), body].concat()
}

/// Counters by their hash, and by their field in it.
fn named_counters(counters: &Counters) -> BTreeMap<Group, Vec<(String, i64)>> {
    let mut named: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (bucket, name, delta) in counters.iter() {
        let (group, name) = match bucket {
            Bucket::Current => (Group::Current, name.to_owned()),
            Bucket::Hour(hour) => {
                let day = hour / 24;
                (Group::HoursOf { day }, format!("{}|{name}", hour % 24))
            }
            Bucket::Minute(minute) => {
                let hour = hour_of_minute(minute);
                (Group::MinutesOf { hour }, format!("{}|{name}", minute % 60))
            }
        };
        named.entry(group).or_default().push((name, delta));
    }
    named
}

fn pack_counters<'a>(
    named: &'a BTreeMap<Group, Vec<(String, i64)>>,
    params: &mut Params,
) -> Vec<Sums<'a>> {
    let partition = params.partition;
    let mut packed = Vec::with_capacity(named.len());
    for (group, counters) in named {
        let (key, seconds, day) = match *group {
            Group::Current => (keys::counters(partition), None, None),
            Group::HoursOf { day } => {
                let key = keys::hours(partition, day);
                (key, Some(keys::HOUR_SECONDS), Some(day))
            }
            Group::MinutesOf { hour } => {
                let key = keys::minutes(partition, hour);
                (key, Some(keys::MINUTE_SECONDS), None)
            }
        };
        let fields = counters.iter().map(|(name, _)| name.as_str()).collect();
        let deltas = counters
            .iter()
            .map(|(_, delta)| delta.to_string())
            .collect();
        packed.push(Sums {
            key: params.key(key),
            fields,
            deltas,
            seconds,
            day,
        });
    }
    packed
}

fn pack_change(change: &ConditionChange) -> Result<Change, StoreError> {
    let (key, open) = match change {
        ConditionChange::Open(condition) => (&condition.key, Some(condition)),
        ConditionChange::Close(key) => (key, None),
    };
    Ok(Change {
        member: keys::condition_member(key),
        condition: open.map(json).transpose()?,
        due: open.map(|condition| condition.due_s),
        change: json(change)?,
    })
}

fn json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|err| StoreError::Corrupt(format!("a commit cannot be packed: {err}")))
}
