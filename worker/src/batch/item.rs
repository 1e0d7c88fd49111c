//! One delivery, parsed: what it is, where it belongs, and what it says of which entities.

use std::borrow::Cow;

use revwatch_core::entity::Observation;
use revwatch_core::event::{Event, day_of};
use revwatch_core::event_settings::{EventSettings, is_own_endpoint};
use revwatch_core::mode::OtherMode;
use revwatch_core::observe::observe;
use revwatch_core::pauses::PauseHistory;
use revwatch_core::realm::Realm;
use revwatch_core::source::Source;
use revwatch_storage::ports::Delivery;

use crate::guarded::on_event;

/// A partition, and how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// From 0.
    pub partition: u32,
    /// At least 1.
    pub partitions: u32,
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) delivery_id: uuid::Uuid,
    pub(super) event_id: String,
    pub(super) day: u32,
    pub(super) received_ms: i64,
    /// It came by webhook: revwatch did not fetch it.
    pub(super) is_webhook: bool,
    pub(super) source: Source,
    /// The other partition that it belongs to.
    pub(super) elsewhere: Option<u32>,
    pub(super) other_mode: Option<OtherMode>,
    /// The event does not say its mode.
    pub(super) lacks_mode: bool,
    pub(super) pause_reason: Option<String>,
    pub(super) content: Result<Content, String>,
}

#[derive(Debug)]
pub(super) struct Content {
    pub(super) known: bool,
    pub(super) created_s: i64,
    pub(super) observations: Vec<Observation>,
}

impl Place {
    /// The only partition.
    pub const ONLY: Self = Self {
        partition: 0,
        partitions: 1,
    };
}

/// Why an event of the future is dead. A webhook of one whose machine has the wrong time has no valid signature; a
/// backfill asks for no signature.
const CREATED_TOO_LATE: &str = "created: more than 24 hours after the delivery was received, so it is not applied; if \
                                the clock of this machine was wrong then, set it and run `revwatch backfill`";

/// Parses a delivery.
pub(super) fn read(
    delivery: &Delivery,
    place: Place,
    pauses: &PauseHistory,
    settings: &EventSettings,
) -> Item {
    read_by(delivery, || parse(delivery, place, pauses, settings))
}

/// A delivery as `parse` parses it. If it panics, the delivery cannot be read, and no other waits for it.
pub(super) fn read_by(delivery: &Delivery, parse: impl FnOnce() -> Item) -> Item {
    on_event(parse).unwrap_or_else(|reason| unreadable(delivery, reason))
}

pub(super) fn parse(
    delivery: &Delivery,
    place: Place,
    pauses: &PauseHistory,
    settings: &EventSettings,
) -> Item {
    let event = match delivery.event() {
        Ok(event) => event,
        Err(reason) => return unreadable(delivery, reason.to_string()),
    };
    let realm = settings.realms.of(&delivery.endpoint, event.own_account());
    let other_mode = settings.modes.judge(&delivery.endpoint, event.livemode);
    let event = event.in_deployment(settings.modes.deployment);
    let pause_reason = pauses.hold(&event, delivery.received_ms);
    let known = event.is_known();
    // What is paused is parked as it was received. Of a type that Stripe does not document, nothing is known of what
    // its object says: it may be a preview.
    let is_state = pause_reason.is_none() && other_mode.is_none();
    if is_state && event.is_created_too_late(delivery.received_ms) {
        return unreadable(delivery, CREATED_TOO_LATE.to_owned());
    }
    let observed = match is_state {
        true if known => observations(&event, realm, settings),
        _ => Ok(Vec::new()),
    };
    // To find the key of the object in its JSON costs as much as to parse the object.
    let partition = match observed.as_ref().ok().and_then(|all| all.last()) {
        Some(observation) => observation.partition(place.partitions),
        None => event.partition(place.partitions),
    };
    let elsewhere = (partition != place.partition).then_some(partition);
    let content = match observed {
        Ok(observations) => Ok(Content {
            known,
            created_s: event.created_s,
            observations: observations.into_iter().map(|o| o.of(realm)).collect(),
        }),
        Err(reason) => Err(reason),
    };
    Item {
        delivery_id: delivery.id,
        event_id: event.id.clone().into_owned(),
        day: event.created_day(),
        received_ms: delivery.received_ms,
        is_webhook: !is_own_endpoint(&delivery.endpoint),
        source: event.source(),
        elsewhere,
        other_mode,
        lacks_mode: event.livemode.is_none(),
        pause_reason,
        content,
    }
}

/// What an event says, or why it is dead. An account of one's own is no connected account: events of it
/// that say so are another copy of those that come to the endpoint of its own events, and would make a second
/// entity of each object.
fn observations(
    event: &Event<'_>,
    realm: &Realm,
    settings: &EventSettings,
) -> Result<Vec<Observation>, String> {
    let own_realm = |id: &Option<Cow<'_, str>>| settings.realms.of_own_account(id.as_deref()?);
    if event.object.is_none() && own_realm(&event.related_id).is_some() {
        return Ok(Vec::new());
    }
    // An application may speak of any account.
    let own_realm = own_realm(&event.account).filter(|_| event.source() != Source::App);
    match own_realm {
        Some(own_realm) => Err(format!(
            "came as an event of a connected account to an endpoint of realm {realm}, but its account is one of \
             your own, of realm {own_realm} (`own_accounts`): the event comes to the endpoint of the account's own \
             events, too"
        )),
        None => observe(event, &settings.observe).map_err(|reason| reason.to_string()),
    }
}

/// A delivery of which only what ingest read is known.
fn unreadable(delivery: &Delivery, reason: String) -> Item {
    Item {
        delivery_id: delivery.id,
        event_id: delivery.event_id.clone(),
        day: day_of(delivery.received_ms.div_euclid(1000)),
        received_ms: delivery.received_ms,
        is_webhook: !is_own_endpoint(&delivery.endpoint),
        source: Source::of(&delivery.event_id),
        elsewhere: None,
        other_mode: None,
        lacks_mode: false,
        pause_reason: None,
        content: Err(reason),
    }
}
