//! What a thin event says: only that an object changed.
//!
//! Its type says what happened, but not to what: a subscription that became past due may be active again when
//! the event is read. So it changes no fact, and its object is fetched.

use super::account;
use super::record::observation;
use crate::entity::kind::NEVER_MADE;
use crate::entity::{EntityKind, Observation, Update};
use crate::event::Event;

/// The entity that changed, if it is of a kind that revwatch keeps.
pub(super) fn observe(event: &Event<'_>) -> Option<Observation> {
    let kind = event.kind.as_ref();
    if kind.starts_with("v2.core.account") {
        let id = event.related_id.as_deref().or(event.account.as_deref());
        return id
            .filter(|id| id.starts_with("acct_"))
            .map(|id| account::mentioned(event, id));
    }
    if kind == NEVER_MADE {
        return never_made(event);
    }
    let (kind, id) = named(event).filter(|_| kind.starts_with("v1."))?;
    match kind {
        EntityKind::Account => is_connected(event, id).then(|| account::mentioned(event, id)),
        EntityKind::MissingEvent => None,
        kind => Some(mention(event, kind, id)),
    }
}

/// The report about an event that Stripe failed to make. As a webhook, it does not say which object that was
/// about. The API says it, and revwatch makes two events of the answer: one names the object, the other the
/// report.
fn never_made(event: &Event<'_>) -> Option<Observation> {
    match named(event) {
        Some((EntityKind::MissingEvent, id)) => event.is_fetched().then(|| {
            let account = owner(event);
            observation(
                event,
                EntityKind::MissingEvent,
                id,
                Update::Found { account },
            )
        }),
        Some((EntityKind::Account, id)) => {
            is_connected(event, id).then(|| account::mentioned(event, id))
        }
        Some((kind, id)) => Some(mention(event, kind, id)),
        // Of a kind that revwatch does not keep.
        None if event.related_id.is_some() || event.is_fetched() => None,
        None => Some(mention(event, EntityKind::MissingEvent, &event.id)),
    }
}

/// The object that the event names, if it is of a kind that revwatch keeps.
fn named<'a>(event: &'a Event<'_>) -> Option<(EntityKind, &'a str)> {
    let id = event.related_id.as_deref()?;
    let kind = EntityKind::of_object(event.related_type.as_deref()?, id)?;
    Some((kind, id))
}

fn mention(event: &Event<'_>, kind: EntityKind, id: &str) -> Observation {
    let update = Update::Mention {
        account: owner(event),
        event_id: event.id.clone().into_owned(),
    };
    observation(event, kind, id, update)
}

fn owner(event: &Event<'_>) -> Option<String> {
    event.account.as_deref().map(str::to_owned)
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
