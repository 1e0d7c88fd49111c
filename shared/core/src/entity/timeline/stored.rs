//! The stored form of a timeline: compact, because an object may have a thousand states.
//!
//! | bytes | meaning |
//! |---|---|
//! | number | 0, or 1 + the Unix second of the newest dropped state that may have changed something |
//! | number | the length of the next field |
//! | MessagePack | the facts, each once, as an array |
//! | per state | number: seconds since the state before it; number: the place of its facts × 16 + its [`Head`]; the event id as length and text, or its hash in 8 bytes, big endian; if it has `previous_attributes`: the number of changed fields, and for each the place × 2, + 1 and 4 bytes if its former value is known |
//!
//! A number is in base 128, the lowest digit first; a byte above 127 is followed by another.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::changes::{ChangedField, Changes};
use super::event_id::EventId;
use super::format_1::OldState;
use super::recorded::{Facts, RecordedState, Stage};
use super::{Order, Timeline};

/// What a state has, in four bits.
struct Head {
    stage: Stage,
    /// In place of its stage; known from the id if there is one.
    is_fetched: bool,
    has_id: bool,
    has_changes: bool,
}

const HEAD_BITS: u32 = 4;

/// The stage of a state that was fetched; it is an update.
const FETCHED_STAGE: u64 = 3;

impl<F: Serialize + Eq + Hash> Serialize for Timeline<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = write(self).map_err(S::Error::custom)?;
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de, F: Facts + DeserializeOwned> Deserialize<'de> for Timeline<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StoredTimeline(std::marker::PhantomData))
    }
}

struct StoredTimeline<F>(std::marker::PhantomData<F>);

impl<'de, F: Facts + DeserializeOwned> Visitor<'de> for StoredTimeline<F> {
    type Value = Timeline<F>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a timeline")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Timeline<F>, E> {
        read(bytes).map_err(E::custom)
    }

    fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Timeline<F>, E> {
        self.visit_bytes(&bytes)
    }

    /// Format 1: an array of states.
    fn visit_seq<A: SeqAccess<'de>>(self, mut states: A) -> Result<Timeline<F>, A::Error> {
        let mut old = Vec::new();
        while let Some(state) = states.next_element::<OldState<F>>()? {
            old.push(state);
        }
        Ok(super::format_1::timeline(old))
    }
}

fn write<F: Serialize + Eq + Hash>(
    timeline: &Timeline<F>,
) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    let mut facts: Vec<&F> = Vec::new();
    let mut places: HashMap<&F, u64> = HashMap::new();
    let mut rows = Vec::with_capacity(timeline.states.len() * 40);
    let mut before_s = 0;
    for state in &timeline.states {
        let place = *places.entry(state.facts.as_ref()).or_insert_with(|| {
            facts.push(&state.facts);
            facts.len() as u64 - 1
        });
        write_number(unsigned(state.created_s - before_s), &mut rows);
        before_s = state.created_s;
        write_state(state, place, &mut rows);
    }
    let facts = rmp_serde::to_vec(&facts)?;
    let mut bytes = Vec::with_capacity(facts.len() + rows.len() + 4);
    let dropped = timeline.dropped_s.map_or(0, |at_s| unsigned(at_s) + 1);
    write_number(dropped, &mut bytes);
    write_number(facts.len() as u64, &mut bytes);
    bytes.extend(facts);
    bytes.extend(rows);
    Ok(bytes)
}

/// The bytes of one state, to compare it with another of the same event.
pub(super) fn encoded<F: Serialize>(state: &RecordedState<F>) -> Vec<u8> {
    let mut bytes = rmp_serde::to_vec(state.facts.as_ref()).expect("plain structs encode");
    write_state(state, 0, &mut bytes);
    bytes
}

fn write_state<F>(state: &RecordedState<F>, place: u64, bytes: &mut Vec<u8>) {
    let head = Head {
        stage: state.stage,
        is_fetched: state.event_id.is_fetched(),
        has_id: state.event_id.text().is_some(),
        has_changes: state.changes.fields().is_some(),
    };
    write_number(place << HEAD_BITS | head.bits(), bytes);
    match state.event_id.text() {
        Some(id) => {
            write_number(id.len() as u64, bytes);
            bytes.extend(id.as_bytes());
        }
        None => bytes.extend(state.event_id.hash().to_be_bytes()),
    }
    let Some(changed) = state.changes.fields() else {
        return;
    };
    write_number(changed.len() as u64, bytes);
    for (field, former) in changed {
        write_number(u64::from(*field) << 1 | u64::from(former.is_some()), bytes);
        if let Some(former) = former {
            bytes.extend(former.to_be_bytes());
        }
    }
}

/// Why bytes are not a timeline.
#[derive(Debug)]
enum TimelineError {
    Truncated,
    NoSuchFacts,
    Facts(rmp_serde::decode::Error),
    Text,
}

impl fmt::Display for TimelineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("a timeline is truncated"),
            Self::NoSuchFacts => f.write_str("a state of a timeline has no facts"),
            Self::Facts(error) => write!(f, "the facts of a timeline: {error}"),
            Self::Text => f.write_str("an event id in a timeline is not text"),
        }
    }
}

fn read<F: Facts + DeserializeOwned>(bytes: &[u8]) -> Result<Timeline<F>, TimelineError> {
    let mut reader = Reader(bytes);
    let dropped_s = reader.number()?.checked_sub(1).map(signed);
    let length = reader.number()?;
    let facts: Vec<F> =
        rmp_serde::from_slice(reader.bytes(length)?).map_err(TimelineError::Facts)?;
    let facts: Vec<Arc<F>> = facts.into_iter().map(Arc::new).collect();
    let mut states = Vec::new();
    let mut created_s = 0_i64;
    while !reader.0.is_empty() {
        created_s = created_s.saturating_add(signed(reader.number()?));
        states.push(reader.state(created_s, &facts)?);
    }
    Ok(Timeline {
        states,
        dropped_s,
        order: Order::default(),
    })
}

/// What is left of the bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: u64) -> Result<&'a [u8], TimelineError> {
        let length = usize::try_from(length).map_err(|_| TimelineError::Truncated)?;
        let (found, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(TimelineError::Truncated)?;
        self.0 = rest;
        Ok(found)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TimelineError> {
        let (found, rest) = self.0.split_first_chunk().ok_or(TimelineError::Truncated)?;
        self.0 = rest;
        Ok(*found)
    }

    fn number(&mut self) -> Result<u64, TimelineError> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let [digit] = self.array()?;
            number |= u64::from(digit & 0x7f) << shift;
            if digit < 0x80 {
                return Ok(number);
            }
        }
        Err(TimelineError::Truncated)
    }

    fn state<F: Facts>(
        &mut self,
        created_s: i64,
        facts: &[Arc<F>],
    ) -> Result<RecordedState<F>, TimelineError> {
        let number = self.number()?;
        let head = Head::of(number);
        let place = usize::try_from(number >> HEAD_BITS).ok();
        let facts = place
            .and_then(|place| facts.get(place))
            .ok_or(TimelineError::NoSuchFacts)?;
        let event_id = if head.has_id {
            let length = self.number()?;
            let id = std::str::from_utf8(self.bytes(length)?).map_err(|_| TimelineError::Text)?;
            EventId::from(id)
        } else {
            EventId::forgotten(u64::from_be_bytes(self.array()?), head.is_fetched)
        };
        let changes = if head.has_changes {
            let count = self.number()?;
            Some(
                (0..count)
                    .map(|_| self.changed_field())
                    .collect::<Result<_, _>>()?,
            )
        } else {
            None
        };
        Ok(RecordedState {
            created_s,
            event_id,
            stage: head.stage,
            facts: facts.clone(),
            changes: Changes::new(changes),
        })
    }

    fn changed_field(&mut self) -> Result<ChangedField, TimelineError> {
        let number = self.number()?;
        let field = u8::try_from(number >> 1).map_err(|_| TimelineError::Truncated)?;
        let former = match number & 1 {
            0 => None,
            _ => Some(u32::from_be_bytes(self.array()?)),
        };
        Ok((field, former))
    }
}

impl Head {
    fn of(number: u64) -> Self {
        Self {
            stage: Stage::from((number & FETCHED_STAGE) as u8),
            is_fetched: number & FETCHED_STAGE == FETCHED_STAGE,
            has_id: number & 4 != 0,
            has_changes: number & 8 != 0,
        }
    }

    fn bits(&self) -> u64 {
        let stage = match self.is_fetched {
            true => FETCHED_STAGE,
            false => u8::from(self.stage).into(),
        };
        stage | u64::from(self.has_id) << 2 | u64::from(self.has_changes) << 3
    }
}

fn write_number(number: u64, bytes: &mut Vec<u8>) {
    let digit = (number & 0x7f).to_le_bytes()[0];
    let rest = number >> 7;
    if rest == 0 {
        bytes.push(digit);
    } else {
        bytes.push(digit | 0x80);
        write_number(rest, bytes);
    }
}

/// Events are not created before 1970, and states are sorted by time.
fn unsigned(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0)
}

fn signed(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
