//! The bounds of what an event may say.

/// The longest id or type. Queues and stores keep them as keys and headers, which have bounds of their own.
/// Source: <https://docs.stripe.com/upgrades>: no id that Stripe makes has more than 255 characters.
pub const MAX_ID_BYTES: usize = 255;

/// So long after a delivery was received, its event may have been created: clocks differ. What was created later
/// is no state: it would be newer than all that happens until then.
pub const FUTURE_MARGIN_S: i64 = 86_400;

/// The last second of the year 9999: our calendar arithmetic is not meant to work beyond it.
pub const MAX_S: i64 = 253_402_300_799;
