//! The recorded states of one object, as a set that does not depend on the order or repetition of
//! events, and the order in which they happened.
//!
//! Stripe's `created` has one-second resolution and there is no version field. Across seconds,
//! `created` decides. Within one second: the kind of event (created, updated, deleted), then the
//! object's lifecycle (values that never go back), then `previous_attributes` (an update whose old
//! values are another's current ones follows it), and last the event id, which is arbitrary but the
//! same everywhere.
//!
//! Invariant: a timeline is a function of the *set* of states inserted. It keeps the newest
//! [`KEEP`], and the newest [`KEEP`] of those that may have changed a tracked field: many updates of
//! other fields, such as metadata, do not displace the one with which a condition began. Of each
//! kind it keeps complete seconds. This is such a function too: the newest of a union are among the
//! newest of its parts.

mod fingerprint;
mod recorded;
mod tie_break;

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::fingerprint::fingerprint;
pub(super) use self::fingerprint::value_fingerprint;
pub use self::recorded::{Change, Facts, RecordedState, Stage};
use self::tie_break::encloses;

/// How many states of each kind are kept; older ones are dropped. Stripe delivers no event later
/// than 30 days after it happened, so this matters only to objects that change more often than that.
pub const KEEP: usize = 32;

/// See the module documentation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeline<F> {
    /// Sorted by `created_s`, then event id.
    states: Vec<RecordedState<F>>,
    #[serde(skip)]
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
            order: Order::default(),
        }
    }
}

impl<F: Facts> Timeline<F> {
    /// Adds a state; one that is already there changes nothing.
    pub fn insert(&mut self, state: RecordedState<F>) {
        let key = (state.created_s, state.event_id.as_str());
        let Err(at) = self
            .states
            .binary_search_by(|s| (s.created_s, s.event_id.as_str()).cmp(&key))
        else {
            return;
        };
        self.states.insert(at, state);
        self.order = Order::default();
        self.drop_old();
    }

    /// Drops what is neither among the newest states nor among the newest that may have changed
    /// something.
    fn drop_old(&mut self) {
        let Some(oldest_kept_s) = nth_newest_s(self.states.iter(), KEEP) else {
            return;
        };
        let tracked = self.states[0].facts.fields();
        let significant = self.states.iter().filter(|s| may_have_changed(s, &tracked));
        let oldest_significant_s = nth_newest_s(significant, KEEP);
        self.states.retain(|s| {
            s.created_s >= oldest_kept_s
                || oldest_significant_s.is_none_or(|oldest_s| s.created_s >= oldest_s)
                    && may_have_changed(s, &tracked)
        });
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
                    states.event_id.as_str(),
                )
            };
            let mut group: Vec<usize> = (first..first + second.len()).collect();
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

    /// The newest state.
    pub fn last(&self) -> Option<&RecordedState<F>> {
        match self.states.as_slice() {
            [] => None,
            [.., before, last] if before.created_s == last.created_s => self.in_order().pop(),
            [.., last] => Some(last),
        }
    }

    /// The first of the newest unbroken run of states for which `holds`: the start of the current
    /// condition.
    pub fn since(&self, holds: impl Fn(&F) -> bool) -> Option<&RecordedState<F>> {
        self.in_order()
            .into_iter()
            .rev()
            .take_while(|s| holds(&s.facts))
            .last()
    }

    /// Whether states may have been dropped: then the oldest one kept is not the first.
    pub fn is_cut(&self) -> bool {
        self.states.len() >= KEEP
            && self
                .order()
                .first()
                .is_some_and(|&i| self.states[i].stage != Stage::Created)
    }

    /// Whether there are no states.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }
}

/// When the `n`th newest state happened, if there are more.
fn nth_newest_s<'a, F: 'a>(
    states: impl DoubleEndedIterator<Item = &'a RecordedState<F>>,
    n: usize,
) -> Option<i64> {
    let mut newest = states.rev().skip(n - 1);
    let nth = newest.next()?;
    newest.next().map(|_| nth.created_s)
}

/// Whether a state may be the first with its tracked facts: its event created or deleted the object,
/// does not say what it changed, or changed one of these fields.
fn may_have_changed<F>(state: &RecordedState<F>, tracked: &[(&'static str, u32)]) -> bool {
    let concerns = |change: &Change, field: &str| {
        change.path == field || encloses(&change.path, field) || encloses(field, &change.path)
    };
    state.stage != Stage::Updated
        || state.changes.is_empty()
        || state
            .changes
            .iter()
            .any(|change| tracked.iter().any(|(field, _)| concerns(change, field)))
}

/// The fields that an event changed: each leaf of `previous_attributes` with the object's current
/// value at that path. Of nested objects, `previous_attributes` has only the changed fields; a
/// changed array appears completely. If there are very many changes, those of `tracked` fields are
/// kept first: without them these fields would seem unchanged.
pub fn changes(previous: &Value, object: &Value, tracked: &[(&'static str, u32)]) -> Vec<Change> {
    let mut found = Vec::new();
    leaves("", previous, object, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    let (mut kept, others): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|c| tracked.iter().any(|(path, _)| *path == c.path));
    let room = MAX_CHANGES.saturating_sub(kept.len());
    kept.extend(others.into_iter().take(room));
    kept
}

/// Enough to distinguish neighbours; further changes are other fields of the same update.
const MAX_CHANGES: usize = 12;

fn leaves(path: &str, previous: &Value, object: &Value, found: &mut Vec<Change>) {
    match previous {
        // A former object with another type now changed as one value.
        Value::Object(fields) if !fields.is_empty() && (object.is_object() || path.is_empty()) => {
            for (name, value) in fields {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                leaves(
                    &path,
                    value,
                    object.get(name).unwrap_or(&Value::Null),
                    found,
                );
            }
        }
        leaf => found.push(Change {
            path: path.to_owned(),
            from: fingerprint(&leaf.to_string()),
            to: fingerprint(&object.to_string()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Level(u64, &'static str);

    impl Facts for Level {
        fn progress(&self) -> u64 {
            self.0
        }

        fn fields(&self) -> Vec<(&'static str, u32)> {
            vec![("status", fingerprint(&format!("\"{}\"", self.1)))]
        }
    }

    fn state_at(
        created_s: i64,
        id: &str,
        stage: Stage,
        facts: Level,
        from: Option<&str>,
    ) -> RecordedState<Level> {
        let changes = from.map_or_else(Vec::new, |from| {
            changes(
                &serde_json::json!({ "status": from }),
                &serde_json::json!({ "status": facts.1 }),
                &facts.fields(),
            )
        });
        RecordedState {
            created_s,
            event_id: id.to_owned(),
            stage,
            facts,
            changes,
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
                .map(|s| s.event_id.clone())
                .collect();
            assert_eq!(ids, expected, "inserted in order {order:?}");
            assert_eq!(
                timeline.last().map(|s| s.event_id.clone()).as_deref(),
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
    fn within_a_second_the_kind_decides_then_the_lifecycle_then_the_id() {
        check(
            &[
                state_at(1, "a", Stage::Deleted, Level(1, "x"), None),
                state_at(1, "b", Stage::Updated, Level(2, "x"), None),
                state_at(1, "d", Stage::Updated, Level(1, "x"), None),
                state_at(1, "c", Stage::Updated, Level(1, "x"), None),
                state_at(1, "z", Stage::Created, Level(1, "x"), None),
            ],
            &["z", "c", "d", "b", "a"],
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

    #[test]
    fn the_newest_states_are_kept_in_any_order_of_insertion() {
        let all: Vec<_> = (0..100)
            .map(|i| {
                state_at(
                    i / 2,
                    &format!("{i:03}"),
                    Stage::Updated,
                    Level(1, "x"),
                    None,
                )
            })
            .collect();
        let build = |order: &mut dyn Iterator<Item = usize>| {
            let mut timeline = Timeline::default();
            order.for_each(|i| timeline.insert(all[i].clone()));
            timeline
        };
        let forwards = build(&mut (0..100));
        assert_eq!(forwards, build(&mut (0..100).rev()));
        assert_eq!(forwards, build(&mut (0..100).map(|i| i * 37 % 100)));
        assert_eq!(forwards.in_order().len(), KEEP);
    }

    /// An update that changed only a field that is not tracked.
    fn of_metadata(created_s: i64, status: &'static str) -> RecordedState<Level> {
        let id = format!("m{created_s}");
        let mut state = state_at(created_s, &id, Stage::Updated, Level(1, status), None);
        let (previous, object) = (
            serde_json::json!({"metadata": {"usage": 1}}),
            serde_json::json!({"metadata": {"usage": 2}}),
        );
        state.changes = changes(&previous, &object, &state.facts.fields());
        state
    }

    #[test]
    fn updates_of_other_fields_do_not_displace_where_a_status_began() {
        let late = |created_s| {
            let (id, facts) = (format!("s{created_s}"), Level(1, "past_due"));
            state_at(created_s, &id, Stage::Updated, facts, Some("active"))
        };
        let mut all = vec![
            state_at(0, "c", Stage::Created, Level(1, "active"), None),
            late(10),
        ];
        all.extend((11..200).map(|at_s| of_metadata(at_s, "past_due")));
        let build = |order: &mut dyn Iterator<Item = usize>| {
            let mut timeline = Timeline::default();
            order.for_each(|i| timeline.insert(all[i].clone()));
            timeline
        };
        let forwards = build(&mut (0..all.len()));
        let since = forwards.since(|facts| facts.1 == "past_due");
        assert_eq!(since.map(|state| state.created_s), Some(10));
        assert_eq!(forwards.in_order().len(), 2 + KEEP);
        assert!(!forwards.is_cut(), "the first state is known");
        assert_eq!(forwards, build(&mut (0..all.len()).rev()));
        assert_eq!(
            forwards,
            build(&mut (0..all.len()).map(|i| i * 37 % all.len()))
        );
    }

    #[test]
    fn nested_changes_are_read_leaf_by_leaf() {
        let previous =
            serde_json::json!({"requirements": {"currently_due": ["a"]}, "charges_enabled": true});
        let object = serde_json::json!({"requirements": {"currently_due": [], "past_due": []}, "charges_enabled": false});
        let paths: Vec<_> = changes(&previous, &object, &[])
            .into_iter()
            .map(|c| c.path)
            .collect();
        assert_eq!(paths, ["charges_enabled", "requirements.currently_due"]);
    }
}
