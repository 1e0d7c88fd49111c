//! What the settings say about events: which are applied, which realm they are of, and how to read them.

use crate::mode::Modes;
use crate::observe::ObserveSettings;
use crate::realm::{Realm, Realms};

/// The `endpoint` of deliveries that a backfill publishes.
pub const BACKFILL: &str = "backfill";

/// The `endpoint` of deliveries that carry objects fetched from Stripe's API, in the realm of its key.
pub const REFRESH: &str = "refresh";

/// The `endpoint` of deliveries that carry objects of a realm which the store had, or Stripe's API.
pub fn refresh_endpoint(realm: &Realm, of_key: &Realm) -> String {
    if realm == of_key {
        REFRESH.to_owned()
    } else {
        format!("{REFRESH}/{realm}")
    }
}

/// Whether revwatch itself publishes the deliveries of this `endpoint`. No webhook has such a name.
pub fn is_own_endpoint(name: &str) -> bool {
    let of_realm = name.strip_prefix(REFRESH);
    [BACKFILL, REFRESH].contains(&name) || of_realm.is_some_and(|rest| rest.starts_with('/'))
}

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
