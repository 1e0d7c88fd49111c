//! Timelines of format 2, in which all facts stood before the states.
//!
//! | bytes | meaning |
//! |---|---|
//! | number | 0, or 1 + the Unix second of the newest dropped state that may have changed something |
//! | number | the length of the next field |
//! | MessagePack | the facts, each once, as an array |
//! | per state | number: seconds since the state before it; number: the place of its facts × 16, + its stage (3: it was fetched), + 4 if it has its event id, + 8 if it says what it changed; the event id as length and text, or its hash in 8 bytes, big endian; if it says what it changed: the number of changed fields, and for each the place × 2, + 1 and 4 bytes if its former value is known |

use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::bytes::{Reader, TimelineError};
use super::changes::{ChangedField, Changes};
use super::event_id::{EventId, HASH_BYTES};
use super::recorded::{Facts, RecordedState, Stage};
use super::stored::signed;
use super::{Order, Timeline};

pub(super) fn read<F: Facts + DeserializeOwned>(
    bytes: &[u8],
) -> Result<Timeline<F>, TimelineError> {
    let mut reader = Reader::new(bytes);
    let dropped_s = reader.number()?.checked_sub(1).map(signed);
    let length = reader.number()?;
    let facts: Vec<F> =
        rmp_serde::from_slice(reader.bytes(length)?).map_err(TimelineError::Facts)?;
    let facts: Vec<Arc<F>> = facts.into_iter().map(Arc::new).collect();
    let mut states = Vec::new();
    let mut created_s = 0_i64;
    while !reader.is_at_end() {
        created_s = created_s.saturating_add(signed(reader.number()?));
        states.push(read_state(&mut reader, created_s, &facts)?);
    }
    Ok(Timeline {
        states,
        dropped_s,
        order: Order::default(),
    })
}

fn read_state<F: Facts>(
    reader: &mut Reader<'_>,
    created_s: i64,
    facts: &[Arc<F>],
) -> Result<RecordedState<F>, TimelineError> {
    let number = reader.number()?;
    let place = usize::try_from(number >> 4).ok();
    let facts = place
        .and_then(|place| facts.get(place))
        .ok_or(TimelineError::NoSuchFacts)?;
    let event_id = if number & 4 != 0 {
        EventId::from(reader.text()?)
    } else {
        let hash = u64::from_be_bytes(reader.array()?) >> (64 - 8 * HASH_BYTES);
        EventId::forgotten(hash, number & 3 == 3)
    };
    let changed = if number & 8 == 0 {
        None
    } else {
        let count = reader.number()?;
        let fields = (0..count).filter_map(|_| changed_field::<F>(reader).transpose());
        Some(fields.collect::<Result<_, _>>()?)
    };
    Ok(RecordedState {
        created_s,
        event_id,
        stage: Stage::from((number & 3) as u8),
        facts: facts.clone(),
        changes: Changes::new(changed),
    })
}

/// `None`: the field is not tracked any more.
fn changed_field<F: Facts>(reader: &mut Reader<'_>) -> Result<Option<ChangedField>, TimelineError> {
    let number = reader.number()?;
    let former = match number & 1 {
        0 => None,
        _ => Some(u32::from_be_bytes(reader.array()?)),
    };
    let place = usize::try_from(number >> 1).ok();
    let field = place.and_then(|place| F::FIELDS_OF_FORMAT_2.get(place));
    let field = field.ok_or(TimelineError::NoSuchField)?;
    let place = (0..).zip(F::FIELDS).find(|(_, tracked)| *tracked == field);
    Ok(place.map(|(place, _)| (place, former)))
}
