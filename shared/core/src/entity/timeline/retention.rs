//! Which states of an object are kept. Without a limit, an object that changes often would grow for ever.
//!
//! Invariant: what is kept is a function of the set of states, so that it does not depend on the order
//! in which they came: each limit counts from the newest state on, and the newest of a union are among
//! the newest of its parts. Of a second, all states are kept or none: their order is found together.

use super::recorded::{Facts, RecordedState};

/// Within this time before the newest state, all states are kept: Stripe delivers no event later than
/// 30 days after it happened, and each may be the first with its facts.
pub const HORIZON_S: i64 = 40 * 86_400;

/// How many states within the horizon are kept, and how many of those that may have changed something.
pub const KEPT_IN_HORIZON: usize = 1024;

/// How many states are kept that may have changed something, however old they are.
pub const KEPT_CHANGES: usize = 256;

/// How many states are kept in any case, and of how many that may have changed something the event id
/// is kept.
pub const KEPT: usize = 32;

/// Drops what is not kept, and the ids that are not. `states` are sorted by time. Returns when the newest
/// of the dropped ones happened that may have changed something.
pub(super) fn drop_old<F: Facts>(
    states: &mut Vec<RecordedState<F>>,
    dropped_before_s: Option<i64>,
) -> Option<i64> {
    if states.len() <= KEPT {
        return dropped_before_s;
    }
    let limits = Limits::of(states);
    let may_have_changed = states.iter().filter(|s| s.may_have_changed());
    let dropped_s = may_have_changed
        .filter(|s| !limits.keep(s))
        .map(|s| s.created_s)
        .max()
        .max(dropped_before_s);
    // The first state says since when the object is as it is at least, unless something changed in
    // between that is not known any more.
    let first_s = states.first().map(|s| s.created_s);
    let is_first = |s: &RecordedState<F>| dropped_s.is_none() && Some(s.created_s) == first_s;
    states.retain(|s| limits.keep(s) || is_first(s));
    for state in states.iter_mut().filter(|s| !limits.keep_id(s)) {
        state.event_id.forget();
    }
    dropped_s
}

/// The oldest times that are kept, by what is counted.
struct Limits {
    horizon_s: i64,
    newest_s: i64,
    newest_in_horizon_s: i64,
    /// Of those that may have changed something.
    named_s: i64,
    changes_s: i64,
    changes_in_horizon_s: i64,
}

impl Limits {
    fn of<F: Facts>(states: &[RecordedState<F>]) -> Self {
        let (mut all, mut changes) = (Ranks::default(), Ranks::default());
        for state in states.iter().rev() {
            all.count(state.created_s);
            if state.may_have_changed() {
                changes.count(state.created_s);
            }
        }
        let newest_s = states.last().map_or(0, |s| s.created_s);
        Self {
            horizon_s: newest_s.saturating_sub(HORIZON_S),
            newest_s: all.kept_s,
            newest_in_horizon_s: all.kept_in_horizon_s,
            named_s: changes.kept_s,
            changes_s: changes.kept_changes_s,
            changes_in_horizon_s: changes.kept_in_horizon_s,
        }
    }

    fn keep<F: Facts>(&self, state: &RecordedState<F>) -> bool {
        let at_s = state.created_s;
        let is_recent = at_s >= self.horizon_s;
        at_s >= self.newest_s
            || is_recent && at_s >= self.newest_in_horizon_s
            || state.may_have_changed()
                && (at_s >= self.changes_s || is_recent && at_s >= self.changes_in_horizon_s)
    }

    fn keep_id<F: Facts>(&self, state: &RecordedState<F>) -> bool {
        let at_s = state.created_s;
        at_s >= self.newest_s || state.may_have_changed() && at_s >= self.named_s
    }
}

/// The times of the states at each limit, counted from the newest on; before all time while there are
/// fewer.
struct Ranks {
    counted: usize,
    kept_s: i64,
    kept_changes_s: i64,
    kept_in_horizon_s: i64,
}

impl Default for Ranks {
    fn default() -> Self {
        Self {
            counted: 0,
            kept_s: i64::MIN,
            kept_changes_s: i64::MIN,
            kept_in_horizon_s: i64::MIN,
        }
    }
}

impl Ranks {
    fn count(&mut self, created_s: i64) {
        self.counted = self.counted.saturating_add(1);
        match self.counted {
            KEPT => self.kept_s = created_s,
            KEPT_CHANGES => self.kept_changes_s = created_s,
            KEPT_IN_HORIZON => self.kept_in_horizon_s = created_s,
            _ => {}
        }
    }
}
