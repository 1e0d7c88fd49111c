//! The types of events that Stripe documents.

use std::collections::HashSet;
use std::sync::LazyLock;

/// Whether Stripe documents this event type (268 snapshot types, and the v2 families).
pub fn is_known_kind(kind: &str) -> bool {
    KNOWN.contains(kind) || kind.starts_with("v2.")
}

/// The type itself if it is a documented snapshot type, `v2` for a thin one, else `other`.
pub fn kind_label(kind: &str) -> &str {
    match KNOWN.get(kind) {
        Some(known) => known,
        None if kind.starts_with("v2.") => "v2",
        None => "other",
    }
}

/// All documented snapshot event types, sorted. The file names its source and the API version.
pub fn known_kinds() -> impl Iterator<Item = &'static str> {
    let lines = include_str!("../event_types.txt").lines();
    lines.filter(|line| !line.starts_with('#'))
}

static KNOWN: LazyLock<HashSet<&'static str>> = LazyLock::new(|| known_kinds().collect());
