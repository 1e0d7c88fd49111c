//! The result of one delivery, and how it follows from those before.

use std::collections::HashSet;

use revwatch_core::mode::{OTHER_MODE, OtherMode};

use super::item::Item;

/// The result of one delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its event has a known type and was merged, whether or not that changed state.
    Applied,
    /// Its event was applied before.
    Duplicate,
    /// Stripe does not document its type.
    Ignored,
    /// Its event is of the other mode, for this reason. It changes nothing.
    OtherMode(OtherMode),
    /// It can never be applied, for this reason.
    Dead(String),
    /// The queue redelivered it after it was processed. It is not counted again.
    Redelivered,
    /// An operator's pause holds it back, for this reason. It leaves no state until the pause ends.
    Paused(String),
    /// It belongs to this other partition: another version computed its partition. It leaves no state here.
    Moved(u32),
}

/// What the batch contains so far. Within a batch, as between batches, the first delivery of an
/// event wins, and a delivery that is there twice was delivered again.
#[derive(Default)]
pub(super) struct Seen<'a> {
    deliveries: HashSet<uuid::Uuid>,
    /// As the dedupe keys: by the day of creation, and id.
    applied: HashSet<(u32, &'a str)>,
}

impl Outcome {
    /// The name in logs and traces.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Paused(_) => "paused",
            Self::Moved(_) => "moved",
            other => other.counter().unwrap_or("redelivered"),
        }
    }

    /// Whether later deliveries of the event are duplicates. What one endpoint ignores may be applied
    /// when it comes to another.
    pub fn decides_event(&self) -> bool {
        matches!(
            self,
            Self::Applied | Self::Ignored | Self::OtherMode(OtherMode::OfDeployment)
        )
    }

    /// The label under which it is counted; `None` if it is not counted.
    pub fn counter(&self) -> Option<&'static str> {
        match self {
            Self::Applied => Some("applied"),
            Self::Duplicate => Some("duplicate"),
            Self::Ignored => Some("ignored"),
            Self::OtherMode(_) => Some(OTHER_MODE),
            Self::Dead(_) => Some("dead"),
            Self::Redelivered | Self::Paused(_) | Self::Moved(_) => None,
        }
    }
}

impl<'a> Seen<'a> {
    /// The outcome of the next delivery, given why it is of another realm than its objects, if it is,
    /// and the deliveries that stored the dedupe keys of its event and of itself.
    pub(super) fn outcome(
        &mut self,
        item: &'a Item,
        other_realm: Option<String>,
        by_event: Option<uuid::Uuid>,
        by_delivery: Option<uuid::Uuid>,
    ) -> Outcome {
        if let Some(partition) = item.elsewhere {
            return Outcome::Moved(partition);
        }
        let was_processed = by_delivery.is_some() || by_event == Some(item.delivery_id);
        if !self.deliveries.insert(item.delivery_id) || was_processed {
            return Outcome::Redelivered;
        }
        let content = match &item.content {
            Ok(content) => content,
            Err(reason) => return Outcome::Dead(reason.clone()),
        };
        // Also if the event was applied: it came to endpoints of two realms.
        if let Some(reason) = other_realm {
            return Outcome::Dead(reason);
        }
        if by_event.is_some() || self.applied.contains(&(item.day, item.event_id.as_str())) {
            return Outcome::Duplicate;
        }
        if let Some(reason) = &item.pause_reason {
            return Outcome::Paused(reason.clone());
        }
        match (item.other_mode, content.known) {
            (Some(reason), _) => Outcome::OtherMode(reason),
            (None, true) => Outcome::Applied,
            (None, false) => Outcome::Ignored,
        }
    }

    /// Notes the final outcome of that delivery.
    pub(super) fn add(&mut self, item: &'a Item, outcome: &Outcome) {
        if outcome.decides_event() {
            self.applied.insert((item.day, &item.event_id));
        }
    }
}
