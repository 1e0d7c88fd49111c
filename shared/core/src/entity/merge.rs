//! How the kinds merge facts outside of their timelines.

/// For immutable facts: the greater value wins, so that even contradicting events merge equally in
/// any order.
pub(super) fn keep_greater<T: Ord + Clone>(kept: &mut Option<T>, new: &Option<T>) {
    if *new > *kept {
        kept.clone_from(new);
    }
}

/// The earliest time wins.
pub(super) fn keep_smaller(kept: &mut Option<i64>, new: i64) {
    *kept = Some(kept.map_or(new, |k| k.min(new)));
}
