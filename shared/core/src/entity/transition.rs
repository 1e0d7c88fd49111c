//! The changes that an entity remembers.

use super::timeline::{Before, EventId, Facts, Timeline};

/// A change worth a log line and an audit entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Transition {
    /// Unix seconds.
    pub at_s: i64,
    /// The event that caused it.
    pub event_id: EventId,
    /// For example `status active → past_due`.
    pub what: String,
    /// Whether the documented lifecycle of such an object has this change (K3); otherwise it is
    /// flagged.
    pub expected: bool,
}

/// What the first remembered state of an object follows, for display.
pub(super) fn beginning(before: Before) -> &'static str {
    match before {
        Before::Nothing | Before::NotSaid => "(new)",
        Before::Same | Before::Was(_) | Before::Unknown => "(first seen)",
    }
}

/// Every change of a status without forbidden transitions, oldest first. `field` is where Stripe's object has it;
/// `began_s` is when the object began, if that is known.
pub(super) fn status_changes<F: Facts>(
    timeline: &Timeline<F>,
    field: &str,
    began_s: Option<i64>,
    status: impl Fn(&F) -> &str,
) -> Vec<Transition> {
    let mut before: Option<&str> = None;
    let mut found = Vec::new();
    for state in timeline.in_order() {
        let now = status(&state.facts);
        if before != Some(now) {
            let was = before.unwrap_or_else(|| beginning(state.before_in_life(field, began_s)));
            found.push(Transition {
                at_s: state.created_s,
                event_id: state.event_id.clone(),
                what: format!("status {was} → {now}"),
                expected: true,
            });
        }
        before = Some(now);
    }
    found
}
