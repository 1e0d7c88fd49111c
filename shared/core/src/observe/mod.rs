//! Derives from an event what it says about which entities. Both forms of Stripe's objects (up to
//! acacia, and from 2025-03-31.basil on) are parsed here and nowhere else.
//!
//! No event costs more than the field it lacks: a field that is absent, null or of another type than
//! Stripe documents is unknown, and the rest of the event is applied. An event cannot be applied
//! without its object's id and status, or with an amount beyond the bound of `fields.rs`. An account has
//! no status: whether it may take charges and be paid out stands for it. For a transfer, it is what was
//! reversed.
//!
//! The fields of each object are written down once. `ways.rs` reads them in one pass, and only if
//! that fails, leniently.

mod account;
mod amounts;
mod app;
mod bounds;
mod charges;
mod coupon;
mod coupons;
mod customer;
mod fields;
mod invoice;
mod invoice_lines;
mod lenient;
mod metadata;
mod movements;
mod object;
mod payout;
mod plans;
mod prices;
mod record;
mod settings;
mod subscription;
mod thin;
mod ways;

#[cfg(test)]
mod tests;

pub use self::metadata::MetadataKeys;
pub use self::object::ObserveError;
pub use self::plans::{Plans, UNMAPPED_PLAN};
pub use self::settings::ObserveSettings;
use crate::entity::Observation;
use crate::entity::kind::{EntityKind, row_of_event};
use crate::event::{Event, PartOf};
use crate::source::Source;

/// The observations of `event`, one per entity. Types that change no entity give none.
pub fn observe(
    event: &Event<'_>,
    settings: &ObserveSettings,
) -> Result<Vec<Observation>, ObserveError> {
    if event.source() == Source::App {
        return Ok(app::observe(event).into_iter().collect());
    }
    if event.is_thin() {
        return Ok(thin::observe(event).into_iter().collect());
    }
    let mut observations = Vec::new();
    observations.extend(account::seen(event));
    if event.part_of() == PartOf::Subscription {
        observations.extend(coupon::discount(event, settings)?);
    } else if event.is_fetched_for("subscription") && event.kind == "coupon.updated" {
        observations.extend(coupon::for_subscription(event)?);
    } else if event.is_fetched_for("subscription") && event.kind == "invoice.updated" {
        observations.extend(invoice::for_subscription(event)?);
    } else if let Some(row) = row_of_event(&event.kind) {
        observations.extend(reader(row.kind)(event, settings)?);
    }
    Ok(observations)
}

/// Reads the events of one kind of object: what the event says about the object, if anything.
type Observe = fn(&Event<'_>, &ObserveSettings) -> Result<Option<Observation>, ObserveError>;

fn reader(kind: EntityKind) -> Observe {
    match kind {
        EntityKind::Subscription => subscription::observe,
        EntityKind::Invoice => invoice::observe,
        EntityKind::Payout => payout::observe,
        EntityKind::Account => account::observe,
        EntityKind::Payment => movements::payment,
        EntityKind::Checkout => movements::checkout,
        EntityKind::Dispute => movements::dispute,
        EntityKind::Refund => movements::refund,
        EntityKind::Transfer => movements::transfer,
        EntityKind::Customer => customer::observe,
        EntityKind::Coupon => coupon::observe,
        // Its events are thin ones, and those of the others are the application's.
        EntityKind::MissingEvent
        | EntityKind::Ticket
        | EntityKind::Provider
        | EntityKind::BookingFee
        | EntityKind::Member => |_, _| Ok(None),
    }
}
