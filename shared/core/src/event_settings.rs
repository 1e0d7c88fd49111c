//! What the settings say about events: which are applied, which realm they are of, and how to read them.

use crate::mode::Modes;
use crate::observe::ObserveSettings;
use crate::realm::Realms;

/// The `endpoint` of deliveries that a backfill publishes.
pub const BACKFILL: &str = "backfill";

/// The `endpoint` of deliveries that carry objects fetched from Stripe's API.
pub const REFRESH: &str = "refresh";

/// What decides what an event changes, besides the event and its endpoint.
#[derive(Debug, Clone, Default)]
pub struct EventSettings {
    /// Which events are applied.
    pub modes: Modes,
    /// Which of the platform's own Stripe accounts an endpoint is of.
    pub realms: Realms,
    /// How objects are read.
    pub observe: ObserveSettings,
}
