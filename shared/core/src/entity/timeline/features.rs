//! By what the states of one second are compared.

use std::collections::HashMap;

use super::changes::Before;
use super::recorded::{Facts, RecordedState};

/// The features by which states are compared.
pub(super) struct Features {
    /// Equal for states with the same fields and changes.
    pub(super) equivalence: usize,
    /// The values of the tracked fields.
    pub(super) fields: Vec<u32>,
    /// The values of the tracked fields before its event; `None` if unknown.
    pub(super) values_before: Vec<Option<u32>>,
    /// Whether its event changed a tracked field.
    pub(super) changed: bool,
}

impl Features {
    /// Which of the values before its event are known.
    pub(super) fn mask(&self) -> Vec<bool> {
        self.values_before.iter().map(Option::is_some).collect()
    }

    /// The known values before its event: those that its predecessor has.
    pub(super) fn required(&self) -> Vec<u32> {
        self.values_before.iter().copied().flatten().collect()
    }

    /// The values of the tracked fields in a mask.
    pub(super) fn masked(&self, mask: &[bool]) -> Vec<u32> {
        let known = self.fields.iter().zip(mask).filter(|(_, known)| **known);
        known.map(|(value, _)| *value).collect()
    }
}

/// Extracts the features of each state once.
pub(super) fn features<'a, F: Facts + 'a>(
    states: impl Iterator<Item = &'a RecordedState<F>>,
) -> Vec<Features> {
    let mut equivalence = HashMap::new();
    let features_of = |state: &'a RecordedState<F>| {
        let fields = state.facts.values();
        let mut changed = false;
        let mut value_before = |(field, value): (usize, &u32)| match state.changes.before(field) {
            Before::Nothing | Before::NotSaid | Before::Same => Some(*value),
            Before::Was(before) => {
                changed = true;
                Some(before)
            }
            Before::Unknown => None,
        };
        let values_before = fields.iter().enumerate().map(&mut value_before).collect();
        let next = equivalence.len();
        let equivalence = *equivalence
            .entry((fields.clone(), &state.changes))
            .or_insert(next);
        Features {
            equivalence,
            fields,
            values_before,
            changed,
        }
    };
    states.map(features_of).collect()
}
