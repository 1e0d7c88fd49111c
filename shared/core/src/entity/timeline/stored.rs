//! The stored form of a timeline: compact, because an object may have a thousand states.
//!
//! | bytes | meaning |
//! |---|---|
//! | 1 byte | [`FORM`] |
//! | number | 0, or 1 + the Unix second of the newest dropped state that may have changed something |
//! | per state | number: seconds since the state before it; 1 byte: its [`Head`]; its facts, if not those of the state before; its event id; what it changed |
//! | facts | number: how many others were stored before them; of new ones nothing but what `facts_delta` describes |
//! | event id | its length as a number, and text; or its hash in 6 bytes, big endian |
//! | what it changed | see [`Changed`]: number: a bit for each changed field; number: a bit for each whose former value is known; 4 bytes for each of these |
//!
//! The form of numbers is described in `bytes`.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::bytes::{Reader, TimelineError, write_number};
use super::changes::{ChangedField, Changes};
use super::event_id::{EventId, HASH_BYTES};
use super::facts_delta::NewestFacts;
use super::format_1::OldState;
use super::recorded::{Facts, RecordedState, Stage};
use super::{Order, Timeline, format_1, format_2};

/// The first byte. The form before began with 0 or with a number of more than one byte.
pub(super) const FORM: u8 = 3;

/// What follows, in seven bits.
#[derive(Clone, Copy)]
struct Head {
    stage: Stage,
    /// In place of its stage; known from the id if there is one.
    is_fetched: bool,
    has_id: bool,
    facts: Place,
    changed: Changed,
}

/// Where the facts of a state are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// They are those of the state before.
    AsBefore = 0,
    /// They were stored earlier: a number follows.
    Earlier = 1,
    /// They follow.
    Here = 2,
}

/// What is stored of what a state changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Changed {
    /// Its event does not say it: nothing.
    NotSaid = 0,
    /// The fields, and the former values.
    Values = 1,
    /// The fields; the former values are those of the state before.
    Fields = 2,
    /// Nothing: the fields are those that the state before changed, with a known former value or without. The
    /// known ones are those of the state before.
    AsBefore = 3,
}

/// The stage of a state that was fetched; it is an update.
const FETCHED_STAGE: u8 = 3;

/// The first bytes of a hash, which are 0.
const UNKEPT_BYTES: usize = size_of::<u64>() - HASH_BYTES;

impl<F: Facts + Serialize + Eq + Hash> Serialize for Timeline<F> {
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
        match bytes.split_first() {
            Some((&FORM, bytes)) => read(bytes).map_err(E::custom),
            _ => format_2::read(bytes).map_err(E::custom),
        }
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
        Ok(format_1::timeline(old))
    }
}

fn write<F: Facts + Serialize + Eq + Hash>(
    timeline: &Timeline<F>,
) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    let mut bytes = Vec::with_capacity(timeline.states.len().saturating_mul(40).saturating_add(64));
    bytes.push(FORM);
    let dropped = timeline
        .dropped_s
        .map_or(0, |at_s| unsigned(at_s).saturating_add(1));
    write_number(dropped, &mut bytes);
    let mut places: HashMap<&F, u64> = HashMap::new();
    let mut newest_facts = NewestFacts::default();
    let mut before: Option<&RecordedState<F>> = None;
    for (later, state) in (0..timeline.states.len()).rev().zip(&timeline.states) {
        let before_s = before.map_or(0, |before| before.created_s);
        write_number(
            unsigned(state.created_s.saturating_sub(before_s)),
            &mut bytes,
        );
        let is_as_before = before.is_some_and(|before| before.facts == state.facts);
        let known = match is_as_before {
            true => None,
            false => places.get(state.facts.as_ref()).copied(),
        };
        let place = match known {
            _ if is_as_before => Place::AsBefore,
            Some(_) => Place::Earlier,
            None => Place::Here,
        };
        let head = Head::new(state, before, place);
        bytes.push(head.byte());
        if let Some(place) = known {
            write_number(place, &mut bytes);
        } else if place == Place::Here {
            newest_facts.write(state.facts.as_ref(), &mut bytes)?;
            // Most entities have one state: nothing is compared with it.
            if later > 0 {
                places.insert(state.facts.as_ref(), places.len() as u64);
            }
        }
        write_id(&state.event_id, &mut bytes);
        write_changes(head.changed, &state.changes, &mut bytes);
        before = Some(state);
    }
    Ok(bytes)
}

/// The bytes of one state, to compare it with another of the same event.
pub(super) fn encoded<F: Facts + Serialize>(state: &RecordedState<F>) -> Vec<u8> {
    let mut bytes = rmp_serde::to_vec(state.facts.as_ref()).expect("plain structs encode");
    let head = Head::new(state, None, Place::Here);
    bytes.push(head.byte());
    write_id(&state.event_id, &mut bytes);
    write_changes(head.changed, &state.changes, &mut bytes);
    bytes
}

fn write_id(id: &EventId, bytes: &mut Vec<u8>) {
    if let Some(text) = id.text() {
        write_number(text.len() as u64, bytes);
        bytes.extend(text.as_bytes());
    } else {
        let hash = id.hash().to_be_bytes();
        bytes.extend(&hash[UNKEPT_BYTES..]);
    }
}

fn write_changes(form: Changed, changes: &Changes, bytes: &mut Vec<u8>) {
    let (changed, known) = masks(changes);
    if matches!(form, Changed::Values | Changed::Fields) {
        write_number(changed, bytes);
    }
    if form == Changed::Values {
        write_number(known, bytes);
        let fields = changes.fields().unwrap_or_default().iter();
        let former = fields.filter_map(|(_, former)| *former);
        former.for_each(|former| bytes.extend(former.to_be_bytes()));
    }
}

/// A bit for each field.
fn mask(fields: impl Iterator<Item = u8>) -> u64 {
    fields.fold(0, |mask, field| mask | 1 << field)
}

/// Bits of the changed fields, and of those whose former values are known.
fn masks(changes: &Changes) -> (u64, u64) {
    let fields = changes.fields().unwrap_or_default();
    let known = fields.iter().filter(|(_, former)| former.is_some());
    let known = mask(known.map(|(field, _)| *field));
    (mask(fields.iter().map(|(field, _)| *field)), known)
}

fn read<F: Facts + DeserializeOwned>(bytes: &[u8]) -> Result<Timeline<F>, TimelineError> {
    let mut reader = Reader::new(bytes);
    let dropped_s = reader.number()?.checked_sub(1).map(signed);
    let mut all_facts: Vec<Arc<F>> = Vec::new();
    let mut newest_facts = NewestFacts::default();
    let mut states: Vec<RecordedState<F>> = Vec::new();
    while !reader.is_at_end() {
        let before = states.last();
        let before_s = before.map_or(0, |before| before.created_s);
        let created_s = before_s.saturating_add(signed(reader.number()?));
        let [head] = reader.array()?;
        let head = Head::of(head);
        let facts = match head.facts {
            Place::AsBefore => before.map(|before| before.facts.clone()),
            Place::Earlier => {
                let place = usize::try_from(reader.number()?).ok();
                place.and_then(|place| all_facts.get(place).cloned())
            }
            Place::Here => {
                all_facts.push(Arc::new(newest_facts.read(&mut reader)?));
                all_facts.last().cloned()
            }
        };
        let event_id = if head.has_id {
            EventId::from(reader.text()?)
        } else {
            EventId::forgotten(read_hash(&mut reader)?, head.is_fetched)
        };
        let state = RecordedState {
            created_s,
            event_id,
            stage: head.stage,
            facts: facts.ok_or(TimelineError::NoSuchFacts)?,
            changes: read_changes(head.changed, before, &mut reader)?,
        };
        states.push(state);
    }
    Ok(Timeline {
        states,
        dropped_s,
        order: Order::default(),
    })
}

fn read_hash(reader: &mut Reader<'_>) -> Result<u64, TimelineError> {
    let bytes: [u8; HASH_BYTES] = reader.array()?;
    Ok(bytes
        .iter()
        .fold(0, |hash, byte| hash << 8 | u64::from(*byte)))
}

fn read_changes<F: Facts>(
    form: Changed,
    before: Option<&RecordedState<F>>,
    reader: &mut Reader<'_>,
) -> Result<Changes, TimelineError> {
    let (changed, known) = match form {
        Changed::NotSaid => return Ok(Changes::default()),
        Changed::Values => (reader.number()?, reader.number()?),
        Changed::Fields => {
            let changed = reader.number()?;
            (changed, changed)
        }
        Changed::AsBefore => before.map_or((0, 0), |before| masks(&before.changes)),
    };
    if changed >> F::FIELDS.len() != 0 {
        return Err(TimelineError::NoSuchField);
    }
    let mut fields: Vec<ChangedField> = Vec::new();
    for (field, place) in (0..).zip(0..F::FIELDS.len()) {
        let former = match before {
            _ if changed >> field & 1 == 0 => continue,
            _ if known >> field & 1 == 0 => None,
            _ if form == Changed::Values => Some(u32::from_be_bytes(reader.array()?)),
            Some(before) => Some(before.facts.value(place)),
            None => return Err(TimelineError::NoSuchFacts),
        };
        fields.push((field, former));
    }
    Ok(Changes::new(Some(fields)))
}

impl Head {
    fn new<F: Facts>(
        state: &RecordedState<F>,
        before: Option<&RecordedState<F>>,
        facts: Place,
    ) -> Self {
        Self {
            stage: state.stage,
            is_fetched: state.event_id.is_fetched(),
            has_id: state.event_id.text().is_some(),
            facts,
            changed: Changed::of(state, before),
        }
    }

    fn of(byte: u8) -> Self {
        Self {
            stage: Stage::from(byte & FETCHED_STAGE),
            is_fetched: byte & FETCHED_STAGE == FETCHED_STAGE,
            has_id: byte & 4 != 0,
            facts: match byte >> 3 & 3 {
                0 => Place::AsBefore,
                1 => Place::Earlier,
                _ => Place::Here,
            },
            changed: match byte >> 5 & 3 {
                0 => Changed::NotSaid,
                1 => Changed::Values,
                2 => Changed::Fields,
                _ => Changed::AsBefore,
            },
        }
    }

    fn byte(self) -> u8 {
        let stage = match self.is_fetched {
            true => FETCHED_STAGE,
            false => u8::from(self.stage),
        };
        stage | u8::from(self.has_id) << 2 | (self.facts as u8) << 3 | (self.changed as u8) << 5
    }
}

impl Changed {
    /// Former values are compared with the state before only without an id: most objects have only states
    /// with one, and the comparison computes fingerprints.
    fn of<F: Facts>(state: &RecordedState<F>, before: Option<&RecordedState<F>>) -> Self {
        let Some(fields) = state.changes.fields() else {
            return Self::NotSaid;
        };
        let before_masks = before.map_or((0, 0), |before| masks(&before.changes));
        let of_state = masks(&state.changes);
        let is_of_before = |(field, former): &ChangedField| {
            let value = before.map(|before| before.facts.value(usize::from(*field)));
            former.is_none() || *former == value
        };
        match state.event_id.text() {
            _ if of_state == (0, 0) && before_masks == (0, 0) => Self::AsBefore,
            Some(_) => Self::Values,
            None if !fields.iter().all(is_of_before) => Self::Values,
            None if of_state == before_masks => Self::AsBefore,
            None if of_state.0 == of_state.1 => Self::Fields,
            None => Self::Values,
        }
    }
}

/// Events are not created before 1970, and states are sorted by time.
fn unsigned(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0)
}

pub(super) fn signed(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
