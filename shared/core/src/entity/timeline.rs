//! The recorded states of one object, as a set that does not depend on the order or repetition of
//! events, and the order in which they happened.
//!
//! Stripe's `created` has one-second resolution and there is no version field. Across seconds,
//! `created` decides. Within one second: the kind of event (created, updated, deleted), then the
//! object's lifecycle (values that never go back), then `previous_attributes` (an update whose old
//! values are another's current ones follows it), and last the hash of the event id, which is arbitrary but
//! the same everywhere.
//!
//! Invariant: a timeline is a function of the *set* of states inserted. `retention` says which are kept.

mod before;
mod bytes;
mod canonical;
mod changes;
mod event_id;
mod facts_delta;
mod features;
mod fingerprint;
mod first_order;
mod format_1;
mod format_2;
mod recorded;
mod retention;
mod stored;
mod tie_break;

use std::sync::{Arc, OnceLock};

use serde::Serialize;

pub use self::before::has_elements;
pub use self::changes::{Before, ChangedField, Changes};
pub use self::event_id::EventId;
pub(super) use self::fingerprint::value_fingerprint;
pub use self::fingerprint::{fingerprint, json_fingerprint};
pub use self::recorded::{Facts, RecordedState, Stage};
pub use self::retention::{HORIZON_S, KEPT, KEPT_CHANGES, KEPT_IN_HORIZON};
use self::stored::encoded;

/// See the module documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline<F> {
    /// Sorted by `created_s`, then the hash of the event id.
    states: Vec<RecordedState<F>>,
    /// When the newest of the dropped states happened that may have changed something.
    dropped_s: Option<i64>,
    order: Order,
}

/// Indices of `states` in the true order, computed on first use: it can be expensive, and a batch
/// needs it several times. It is derived from `states`, so all values compare equal.
#[derive(Debug, Clone, Default)]
struct Order(OnceLock<Vec<usize>>);

impl PartialEq for Order {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Order {}

impl<F> Default for Timeline<F> {
    fn default() -> Self {
        Self {
            states: Vec::new(),
            dropped_s: None,
            order: Order::default(),
        }
    }
}

impl<F: Facts> Timeline<F> {
    /// Adds a state; one that is already there changes nothing.
    pub fn insert(&mut self, state: RecordedState<F>) {
        let Err(at) = self.place(&state) else {
            return;
        };
        self.states.insert(at, state);
        self.order = Order::default();
        self.dropped_s = retention::drop_old(&mut self.states, self.dropped_s);
    }

    /// Adds what another timeline of the same object knows. If both have the state of one event, as two
    /// versions of revwatch read it, the one that is greater when encoded stays: the same in any order.
    pub(super) fn union(&mut self, other: &Self)
    where
        F: Clone + Serialize,
    {
        for state in &other.states {
            match self.place(state) {
                Ok(at) if encoded(state) > encoded(&self.states[at]) => {
                    self.states[at] = state.clone();
                }
                Ok(_) => {}
                Err(at) => self.states.insert(at, state.clone()),
            }
        }
        self.order = Order::default();
        let dropped_s = self.dropped_s.max(other.dropped_s);
        self.dropped_s = retention::drop_old(&mut self.states, dropped_s);
    }

    /// Corrects what an earlier version stored.
    pub(super) fn correct_facts(&mut self, correct: impl Fn(&mut F))
    where
        F: Clone,
    {
        for state in &mut self.states {
            correct(Arc::make_mut(&mut state.facts));
        }
        self.order = Order::default();
    }

    /// Where the state of the same event is, or would be.
    fn place(&self, state: &RecordedState<F>) -> Result<usize, usize> {
        let key = |s: &RecordedState<F>| (s.created_s, s.event_id.hash());
        self.states.binary_search_by_key(&key(state), key)
    }

    /// All kept states, in the order in which they happened.
    pub fn in_order(&self) -> Vec<&RecordedState<F>> {
        self.order().iter().map(|&i| &self.states[i]).collect()
    }

    fn order(&self) -> &[usize] {
        self.order.0.get_or_init(|| self.find_order())
    }

    fn find_order(&self) -> Vec<usize> {
        let mut ordered: Vec<usize> = Vec::with_capacity(self.states.len());
        for second in self.states.chunk_by(|a, b| a.created_s == b.created_s) {
            let first = ordered.len();
            if let [_] = second {
                ordered.push(first);
                continue;
            }
            let key = |&i: &usize| {
                let states = &self.states[i];
                (
                    states.stage,
                    states.facts.progress(),
                    states.event_id.hash(),
                )
            };
            let mut group: Vec<usize> = (first..).take(second.len()).collect();
            group.sort_by_key(key);
            let is_one_class = |a: &usize, b: &usize| (key(a).0, key(a).1) == (key(b).0, key(b).1);
            for class in group.chunk_by(is_one_class) {
                let before = ordered.last().map(|&i| &self.states[i]);
                let states: Vec<&RecordedState<F>> =
                    class.iter().map(|&i| &self.states[i]).collect();
                ordered.extend(
                    tie_break::order(before, &states)
                        .into_iter()
                        .map(|i| class[i]),
                );
            }
        }
        ordered
    }

    /// Since when the newest state is known: Unix seconds.
    pub fn newest_s(&self) -> Option<i64> {
        self.states.last().map(|state| state.created_s)
    }

    /// The newest state.
    pub fn last(&self) -> Option<&RecordedState<F>> {
        match self.states.as_slice() {
            [] => None,
            [.., before, last] if before.created_s == last.created_s => self.in_order().pop(),
            [.., last] => Some(last),
        }
    }

    /// The first of the newest unbroken run of states for which `holds`: the start of the current
    /// condition. `held_before` is what an event says of the time before it. If it did not hold then, the
    /// run starts with that event: the one that ended an earlier run was not delivered.
    pub fn since(
        &self,
        holds: impl Fn(&F) -> bool,
        held_before: impl Fn(&RecordedState<F>) -> Option<bool>,
    ) -> Option<&RecordedState<F>> {
        let newest_first = self.in_order().into_iter().rev();
        start_of_run(newest_first.take_while(|s| holds(&s.facts)), held_before)
    }

    /// Whether states may have been dropped that changed something: then the oldest one kept is not the first.
    pub fn is_cut(&self) -> bool {
        self.dropped_s.is_some()
    }

    /// How many states are kept.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether there are no states.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }
}

/// See [`Timeline::since`]: of the states of the run, newest first, the oldest that belongs to it.
pub(super) fn start_of_run<'a, F: 'a>(
    newest_first: impl Iterator<Item = &'a RecordedState<F>>,
    held_before: impl Fn(&RecordedState<F>) -> Option<bool>,
) -> Option<&'a RecordedState<F>> {
    let mut first = None;
    for state in newest_first {
        first = Some(state);
        if held_before(state) == Some(false) {
            break;
        }
    }
    first
}

/// Counts of the work of ordering: tests count work instead of measuring time.
#[cfg(test)]
mod work {
    use std::cell::Cell;
    use std::thread::LocalKey;

    thread_local! {
        /// Searches.
        pub(super) static SEARCHED: Cell<usize> = const { Cell::new(0) };
        /// Pairs of states compared.
        pub(super) static COMPARED: Cell<usize> = const { Cell::new(0) };
        /// States tried as the next of an order.
        pub(super) static TRIED: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn count(what: &'static LocalKey<Cell<usize>>) {
        what.set(what.get() + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Level(u64, &'static str);

    impl Facts for Level {
        const FIELDS: &'static [&'static str] = &["status"];

        fn progress(&self) -> u64 {
            self.0
        }

        fn value(&self, _: usize) -> u32 {
            value_fingerprint(self.1)
        }
    }

    fn state_at(
        created_s: i64,
        id: &str,
        stage: Stage,
        facts: Level,
        from: Option<&str>,
    ) -> RecordedState<Level> {
        let changed = from.map(|from| vec![(0, Some(value_fingerprint(from)))]);
        RecordedState {
            created_s,
            event_id: id.into(),
            stage,
            facts: facts.into(),
            changes: Changes::new(changed),
        }
    }

    /// Inserts in every order and expects the same event ids in the same true order.
    fn check(states: &[RecordedState<Level>], expected: &[&str]) {
        let mut orders = vec![Vec::<usize>::new()];
        for _ in 0..states.len() {
            let longer = |o: &Vec<usize>| {
                let o = o.clone();
                (0..states.len())
                    .filter(move |i| !o.contains(i))
                    .map(|i| (i, ()))
                    .collect::<Vec<_>>()
            };
            orders = orders
                .iter()
                .flat_map(|o| {
                    longer(o)
                        .into_iter()
                        .map(move |(i, ())| [o.clone(), vec![i]].concat())
                })
                .collect();
        }
        let mut first = None;
        for order in orders {
            let mut timeline = Timeline::default();
            for &i in order.iter().chain(order.first()) {
                timeline.insert(states[i].clone());
            }
            let ids: Vec<_> = timeline
                .in_order()
                .iter()
                .map(|s| s.event_id.to_string())
                .collect();
            assert_eq!(ids, expected, "inserted in order {order:?}");
            assert_eq!(
                timeline.last().map(|s| s.event_id.to_string()).as_deref(),
                expected.last().copied()
            );
            let first = first.get_or_insert_with(|| timeline.clone());
            assert_eq!(*first, timeline);
        }
    }

    #[test]
    fn the_second_decides_first() {
        check(
            &[
                state_at(2, "a", Stage::Created, Level(9, "x"), None),
                state_at(1, "b", Stage::Deleted, Level(0, "y"), None),
                state_at(3, "0", Stage::Updated, Level(0, "z"), None),
            ],
            &["b", "a", "0"],
        );
    }

    #[test]
    fn within_a_second_the_kind_decides_then_the_lifecycle_then_the_hash_of_the_id() {
        check(
            &[
                state_at(1, "a", Stage::Deleted, Level(1, "x"), None),
                state_at(1, "b", Stage::Updated, Level(2, "x"), None),
                state_at(1, "d", Stage::Updated, Level(1, "x"), None),
                state_at(1, "c", Stage::Updated, Level(1, "x"), None),
                state_at(1, "z", Stage::Created, Level(1, "x"), None),
            ],
            &["z", "d", "c", "b", "a"],
        );
    }

    #[test]
    fn updates_within_a_second_are_chained_by_previous_attributes() {
        check(
            &[
                state_at(1, "z", Stage::Created, Level(1, "s0"), None),
                state_at(1, "y", Stage::Updated, Level(1, "s1"), Some("s0")),
                state_at(1, "b", Stage::Updated, Level(1, "s2"), Some("s1")),
                state_at(1, "x", Stage::Updated, Level(1, "s1"), Some("s2")),
                state_at(1, "a", Stage::Updated, Level(1, "s3"), Some("s1")),
            ],
            &["z", "y", "b", "x", "a"],
        );
    }

    #[test]
    fn the_state_before_the_second_decides_where_a_cycle_begins() {
        check(
            &[
                state_at(1, "o", Stage::Updated, Level(1, "active"), None),
                state_at(2, "a", Stage::Updated, Level(1, "active"), Some("past_due")),
                state_at(2, "b", Stage::Updated, Level(1, "past_due"), Some("active")),
            ],
            &["o", "b", "a"],
        );
    }

    #[test]
    fn a_long_chain_within_a_second_is_ordered() {
        let names = [
            "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11",
        ];
        let mut timeline = Timeline::default();
        for i in (1..names.len()).rev() {
            timeline.insert(state_at(
                1,
                &format!("{}", 99 - i),
                Stage::Updated,
                Level(1, names[i]),
                Some(names[i - 1]),
            ));
        }
        let ids: Vec<_> = timeline.in_order().iter().map(|s| s.facts.1).collect();
        assert_eq!(ids, names[1..]);
    }
}
