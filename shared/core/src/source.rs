//! Who an event is from. The id under which it is kept says it, and thus its delivery, the archive and the dedupe keys.

/// Where an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Stripe sent it, or lists it.
    Stripe,
    /// The user's own application sent it.
    App,
    /// revwatch made it of an object that it fetched from Stripe's API.
    Snapshot,
}

/// Begins the ids of the events that revwatch makes of objects that it fetched from Stripe's API. They
/// say what is, not what happened.
pub const FETCHED: &str = "evt_refresh_";

/// Begins the ids under which events of the application are kept: see [`crate::app_event::AppEvent::key`].
pub const APP: &str = "app_";

impl Source {
    /// The source of the event that is kept under this id.
    ///
    /// Invariant: no webhook endpoint accepts an event of Stripe's with an id that another source makes.
    pub fn of(event_id: &str) -> Self {
        match event_id {
            _ if event_id.starts_with(APP) => Self::App,
            _ if event_id.starts_with(FETCHED) => Self::Snapshot,
            _ => Self::Stripe,
        }
    }
}
