//! The events that an entity remembers: they answer "did the webhook arrive, and was it applied?".

use super::reports::{Reports, Step};
use super::timeline::{EventId, Facts, Stage, Timeline};

/// One event about an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRef {
    /// Unix seconds, from the event.
    pub created_s: i64,
    /// `evt_…`, or `app_…`
    pub event_id: EventId,
    /// From the event's type; `None` if the type has no stage.
    pub stage: Option<Stage>,
    /// The part of the entity that it is about, such as `capability card_payments`; `None`: the
    /// complete entity.
    pub about: Option<String>,
}

impl EventRef {
    /// What the application says: of each step, the first event and the last.
    pub(super) fn of_reports(reports: &Reports) -> Vec<Self> {
        let named = reports.named().into_iter();
        let event = |(created_s, event_id, step): (i64, &str, Step)| Self {
            created_s,
            event_id: event_id.into(),
            stage: None,
            about: Some(step.as_str().to_owned()),
        };
        named.map(event).collect()
    }

    /// A thin event, which names the entity.
    pub(super) fn of_mention(created_s: i64, event_id: &str) -> Self {
        Self {
            created_s,
            event_id: event_id.into(),
            stage: None,
            about: Some(MENTION.to_owned()),
        }
    }
}

/// What a thin event is about.
pub(super) const MENTION: &str = "a change that only the API shows";

/// The events of one timeline.
pub(super) fn event_refs<F: Facts>(timeline: &Timeline<F>, about: Option<&str>) -> Vec<EventRef> {
    let all = timeline.in_order().into_iter().map(|s| EventRef {
        created_s: s.created_s,
        event_id: s.event_id.clone(),
        stage: Some(s.stage),
        about: about.map(str::to_owned),
    });
    all.collect()
}
