//! A connected account: can it take charges, can it be paid out, is it still connected?

pub mod balance;
mod conditions;
mod contributions;
pub mod facts;
pub mod milestone;
mod requirement_names;
mod state;
#[cfg(test)]
mod tests;

pub use self::facts::{AccountFacts, AccountUpdate, CapabilityFacts, ExternalAccount, Shown};
pub use self::milestone::Milestone;
pub use self::requirement_names::RequirementNames;
pub use self::state::Account;
use super::events::{EventRef, MENTION, event_refs};
use super::key::EntityKey;
use super::mention::Mention;
use super::state::EntityState;
use super::timeline::Before;
use super::transition::{Transition, beginning};
use crate::class::{Class, Owner};
use crate::condition::Condition;
use crate::counters::Tally;

impl EntityState for Account {
    fn set_key(&mut self, key: &EntityKey) {
        self.id.clone_from(&key.id);
    }

    fn partition_key(&self) -> &str {
        &self.id
    }

    fn account(&self) -> Option<&str> {
        Some(&self.id)
    }

    fn unanswered(&self) -> Option<&Mention> {
        self.thin.as_ref().filter(|_| self.is_stale())
    }

    /// The account itself is the platform's.
    fn class(&self) -> Class<'_> {
        Class::of(self.realm.as_ref(), Owner::Platform)
    }

    fn contributions(&self, tally: &mut Tally) {
        contributions::add(self, tally);
    }

    fn conditions(&self) -> Vec<Condition> {
        conditions::of(self)
    }

    /// Every change for the audit trail, oldest first.
    fn transitions(&self) -> Vec<Transition> {
        let mut found = Vec::new();
        let mut before: Option<&AccountFacts> = None;
        for recorded in self.timeline.in_order() {
            let facts = &recorded.facts;
            let flags = [
                (
                    "charges_enabled",
                    before.map(|b| b.charges_enabled),
                    facts.charges_enabled,
                ),
                (
                    "payouts_enabled",
                    before.map(|b| b.payouts_enabled),
                    facts.payouts_enabled,
                ),
            ];
            for (name, was, is) in flags.into_iter().filter(|(_, was, is)| *was != Some(*is)) {
                let at_first = recorded.before_in_life(name, self.created_s);
                let was = was.or(matches!(at_first, Before::Was(_)).then_some(!is));
                found.push(Transition {
                    at_s: recorded.created_s,
                    event_id: recorded.event_id.clone(),
                    what: format!(
                        "{name} {} → {is}",
                        was.map_or_else(|| beginning(at_first).to_owned(), |was| was.to_string())
                    ),
                    expected: was != Some(true),
                });
            }
            before = Some(facts);
        }
        // In this order: within one second, the removal is the later one.
        for (latest, what) in [
            (&self.authorized, "connected"),
            (&self.deauthorized, "disconnected"),
            (&self.closed, "closed"),
        ] {
            if let Some((at_s, event_id)) = latest {
                found.push(Transition {
                    at_s: *at_s,
                    event_id: event_id.as_str().into(),
                    what: what.to_owned(),
                    expected: what == "connected",
                });
            }
        }
        found.sort_by_key(|transition| transition.at_s);
        found
    }

    fn events(&self) -> Vec<EventRef> {
        let mut found = event_refs(&self.timeline, None);
        for (name, timeline) in &self.capabilities {
            found.extend(event_refs(timeline, Some(&format!("capability {name}"))));
        }
        let external = self
            .external_accounts
            .iter()
            .map(|(id, view)| (&view.last_event, format!("external account {id}")));
        let balance = self.balance.as_ref().map(|b| b.last_event.clone());
        let single = [
            (&self.authorized, "authorization"),
            (&self.deauthorized, "deauthorization"),
            (&self.thin, MENTION),
            (&self.closed, "its closing"),
            (&balance, "its balance"),
        ];
        let single = single
            .into_iter()
            .filter_map(|(event, about)| Some((event.as_ref()?, about.to_owned())));
        found.extend(
            external
                .chain(single)
                .map(|((created_s, event_id), about)| EventRef {
                    created_s: *created_s,
                    event_id: event_id.as_str().into(),
                    stage: None,
                    about: Some(about),
                }),
        );
        found.extend(EventRef::of_reports(&self.reports));
        found.sort_by_key(|t| t.created_s);
        found
    }
}
