//! The events that an entity remembers: they answer "did the webhook arrive, and was it applied?".

use super::Entity;
use super::account::Account;
use super::timeline::{Facts, Stage, Timeline};

/// One event about an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRef {
    /// Unix seconds, from the event.
    pub created_s: i64,
    /// `evt_…`
    pub event_id: String,
    /// From the event's type; `None` if the type has no stage.
    pub stage: Option<Stage>,
    /// The part of the entity that it is about, such as `capability card_payments`; `None`: the
    /// complete entity.
    pub about: Option<String>,
}

impl Entity {
    /// Every remembered event, whether it changed anything or not, in the order in which things
    /// happened. Where only the latest event counts (authorization, a bank account), only that one.
    pub fn events(&self) -> Vec<EventRef> {
        match self {
            Self::Subscription(s) => event_refs(&s.timeline, None),
            Self::Invoice(i) => event_refs(&i.timeline, None),
            Self::Payout(p) => event_refs(&p.timeline, None),
            Self::Movement(m) => event_refs(&m.timeline, None),
            Self::Account(a) => of_account(a),
        }
    }
}

fn event_refs<F: Facts>(timeline: &Timeline<F>, about: Option<&str>) -> Vec<EventRef> {
    let all = timeline.in_order().into_iter().map(|s| EventRef {
        created_s: s.created_s,
        event_id: s.event_id.clone(),
        stage: Some(s.stage),
        about: about.map(str::to_owned),
    });
    all.collect()
}

fn of_account(account: &Account) -> Vec<EventRef> {
    let mut found = event_refs(&account.timeline, None);
    for (name, timeline) in &account.capabilities {
        found.extend(event_refs(timeline, Some(&format!("capability {name}"))));
    }
    let external = account
        .external_accounts
        .iter()
        .map(|(id, view)| (&view.last_event, format!("external account {id}")));
    let single = [
        (&account.authorized, "authorization"),
        (&account.deauthorized, "deauthorization"),
        (&account.thin, "a change that only the API shows"),
    ];
    let single = single
        .into_iter()
        .filter_map(|(event, about)| Some((event.as_ref()?, about.to_owned())));
    found.extend(
        external
            .chain(single)
            .map(|((created_s, event_id), about)| EventRef {
                created_s: *created_s,
                event_id: event_id.clone(),
                stage: None,
                about: Some(about),
            }),
    );
    found.sort_by_key(|t| t.created_s);
    found
}
