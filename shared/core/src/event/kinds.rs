//! The types of events that Stripe documents.

use std::collections::HashSet;
use std::sync::LazyLock;

/// The newest API version whose events revwatch is tested with: that of the list of types.
pub const NEWEST_API_VERSION: &str = "2026-10-28.endive";

/// Whether Stripe documents this event type (268 snapshot types, and the thin families).
pub fn is_known_kind(kind: &str) -> bool {
    KNOWN.contains(kind) || thin_family(kind).is_some()
}

/// The type itself if it is a documented snapshot type, `v1` or `v2` for a thin one, else `other`.
pub fn kind_label(kind: &str) -> &str {
    match KNOWN.get(kind) {
        Some(known) => known,
        None => thin_family(kind).unwrap_or("other"),
    }
}

/// `v1` or `v2` for the type of a thin event. Those of v1 are the snapshot types with a prefix, and about 50
/// more, such as `v1.customer.subscription.past_due`. Source:
/// <https://docs.stripe.com/changelog/endive/2026-09-30/thin-events-for-api-v1-resources-generally-available>,
/// <https://docs.stripe.com/changelog/endive/2026-10-28/semantic-thin-events-subscriptions-invoicing-financial-connections>.
pub(crate) fn thin_family(kind: &str) -> Option<&'static str> {
    let families = ["v1", "v2"].into_iter();
    let mut of_kind = families.filter(|family| {
        let rest = kind.strip_prefix(family);
        rest.is_some_and(|rest| rest.starts_with('.'))
    });
    of_kind.next()
}

/// All documented snapshot event types, sorted. The file names its source and the API version.
pub fn known_kinds() -> impl Iterator<Item = &'static str> {
    let lines = include_str!("../event_types.txt").lines();
    lines.filter(|line| !line.starts_with('#'))
}

static KNOWN: LazyLock<HashSet<&'static str>> = LazyLock::new(|| known_kinds().collect());
