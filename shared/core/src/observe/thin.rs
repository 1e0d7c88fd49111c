//! What a thin event says: only that an object changed.
//!
//! Its type says what happened, but not to what: a subscription that became past due may be active again when
//! the event is read. So it changes no fact, and its object is fetched.

use super::account;
use super::record::observation;
use crate::entity::{EntityKind, Observation, Update};
use crate::event::{Event, NEVER_MADE};

/// The entity that changed, if it is of a kind that revwatch keeps.
pub(super) fn observe(event: &Event<'_>) -> Option<Observation> {
    let kind = event.kind.as_ref();
    if kind.starts_with("v2.core.account") {
        let id = event.related_id.as_deref().or(event.account.as_deref());
        return id
            .filter(|id| id.starts_with("acct_"))
            .map(|id| account::mentioned(event, id));
    }
    if !kind.starts_with("v1.") && kind != NEVER_MADE {
        return None;
    }
    let id = event.related_id.as_deref()?;
    match EntityKind::of_object(event.related_type.as_deref()?, id)? {
        EntityKind::Account => is_connected(event, id).then(|| account::mentioned(event, id)),
        kind => {
            let update = Update::Mention {
                account: event.account.as_deref().map(str::to_owned),
                event_id: event.id.clone().into_owned(),
            };
            Some(observation(event, kind, id, update))
        }
    }
}

/// Whether the account of an event of v1 is a connected one: as in snapshot events, the event then names it as
/// its origin. An event about the platform's own account names none, or only an object.
/// Source: <https://docs.stripe.com/changelog/basil/2025-04-30/additional-context-organization-events>.
fn is_connected(event: &Event<'_>, id: &str) -> bool {
    let context = event.context.as_deref().into_iter();
    let mut named = context
        .filter_map(|context| context.rsplit('/').next())
        .chain(event.account.as_deref());
    named.any(|account| account == id)
}
