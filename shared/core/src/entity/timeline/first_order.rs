//! The order of so many states of one second that they cannot all be compared with each other: the first one that
//! the search in `tie_break.rs` finds. Each state is followed by its likeliest successor of those that are left.
//!
//! Invariant: what is done for each state does not grow with their number, only with how many different sets of former
//! values they know: of the few fields that an object has.

use std::collections::HashMap;

use super::features::Features;
#[cfg(test)]
use super::work;

/// Orders the first `count` states; the one after them, if there is one, precedes them all.
pub(super) fn first_order(features: &[Features], count: usize) -> Vec<usize> {
    let mut left = Left::new(&features[..count]);
    let mut ordered = Vec::with_capacity(count);
    let mut next = match features.get(count) {
        Some(before) => left.successor(before),
        None => left.beginning(&features[..count]),
    };
    while let Some(state) = next {
        left.taken[state] = true;
        ordered.push(state);
        next = left.successor(&features[state]);
    }
    ordered
}

/// The states that are not in the order yet.
struct Left {
    taken: Vec<bool>,
    all: Ascending,
    /// By which former values are known, and by these.
    by_former: HashMap<Vec<bool>, HashMap<Vec<u32>, Followers>>,
    by_equivalence: HashMap<usize, Ascending>,
}

/// The states that follow from one with certain values.
#[derive(Default)]
struct Followers {
    /// Something changed: it is clear that they follow.
    changed: Ascending,
    unchanged: Ascending,
}

/// States in ascending order, the first at the end.
#[derive(Default)]
struct Ascending(Vec<usize>);

impl Ascending {
    /// The first that is not taken.
    fn first(&mut self, taken: &[bool]) -> Option<usize> {
        while let Some(first) = self.0.last() {
            #[cfg(test)]
            work::count(&work::TRIED);
            if !taken[*first] {
                return Some(*first);
            }
            self.0.pop();
        }
        None
    }
}

impl Left {
    fn new(features: &[Features]) -> Self {
        let mut left = Self {
            taken: vec![false; features.len()],
            all: Ascending((0..features.len()).rev().collect()),
            by_former: HashMap::new(),
            by_equivalence: HashMap::new(),
        };
        for (state, of_state) in features.iter().enumerate().rev() {
            let by_values = left.by_former.entry(of_state.mask()).or_default();
            let followers = by_values.entry(of_state.required()).or_default();
            let of_kind = match of_state.changed {
                true => &mut followers.changed,
                false => &mut followers.unchanged,
            };
            of_kind.0.push(state);
            let equal = left.by_equivalence.entry(of_state.equivalence);
            equal.or_default().0.push(state);
        }
        left
    }

    /// The likeliest successor: one that follows, else one that reports the same change, else any.
    fn successor(&mut self, of: &Features) -> Option<usize> {
        let (mut changed, mut unchanged) = (None, None);
        for (mask, by_values) in &mut self.by_former {
            if let Some(followers) = by_values.get_mut(&of.masked(mask)) {
                changed = least(changed, followers.changed.first(&self.taken));
                unchanged = least(unchanged, followers.unchanged.first(&self.taken));
            }
        }
        let taken = &self.taken;
        let mut repeated = || self.by_equivalence.get_mut(&of.equivalence)?.first(taken);
        let follows = changed.or(unchanged);
        let known = follows.or_else(&mut repeated);
        known.or_else(|| self.all.first(taken))
    }

    /// The likeliest first one: one that follows from no other, else one that only repeats another, else any.
    fn beginning(&self, features: &[Features]) -> Option<usize> {
        let mut known: HashMap<&[bool], HashMap<Vec<u32>, usize>> = HashMap::new();
        for mask in self.by_former.keys() {
            let by_values = known.entry(mask).or_default();
            for of_state in features {
                let states: &mut usize = by_values.entry(of_state.masked(mask)).or_default();
                *states = states.saturating_add(1);
            }
        }
        let likelihood = |of_state: &Features| {
            let (mask, required) = (of_state.mask(), of_state.required());
            let itself = usize::from(of_state.masked(&mask) == required);
            let equal = &known[mask.as_slice()];
            let follows = equal.get(&required).is_some_and(|states| *states > itself);
            match (follows, of_state.changed) {
                (true, true) => 3,
                (true, false) => 2,
                _ => u8::from(self.by_equivalence[&of_state.equivalence].0.len() > 1),
            }
        };
        let all = features.iter().enumerate();
        let first = all.min_by_key(|(state, of_state)| (likelihood(of_state), *state));
        first.map(|(state, _)| state)
    }
}

fn least(a: Option<usize>, b: Option<usize>) -> Option<usize> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
