//! How the kinds merge facts outside of their timelines.

/// For immutable facts: the greater value wins, so that even contradicting events merge equally in
/// any order.
pub(super) fn keep_greater<T: Ord + Clone>(kept: &mut Option<T>, new: &Option<T>) {
    if *new > *kept {
        kept.clone_from(new);
    }
}

/// The earliest time wins.
pub(super) fn keep_smaller<T: Ord>(kept: &mut Option<T>, new: T) {
    *kept = Some(match kept.take() {
        Some(kept) => kept.min(new),
        None => new,
    });
}
