//! What has to be fetched, and for which conditions. Only plain ids become part of a request. Pure.

use std::collections::BTreeMap;

use revwatch_core::condition::{Condition, ConditionKey};
use revwatch_core::need::Need;
use revwatch_core::realm::Realm;

/// An object to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The object. Its id and its account are plain: they become part of a request.
    pub need: Need,
    /// The conditions that wait for it; at least one.
    pub waiting: BTreeMap<ConditionKey, Cause>,
}

/// Why a condition waits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    /// Since when, Unix seconds: an answer from before is no answer.
    pub since_s: i64,
    /// The event that began it.
    pub event_id: String,
}

impl Task {
    /// What these conditions wait for.
    pub fn all_of(conditions: &[Condition]) -> Vec<Self> {
        let mut tasks = BTreeMap::<Need, BTreeMap<ConditionKey, Cause>>::new();
        for condition in conditions {
            for need in needs_of(condition) {
                let waiting = tasks.entry(need).or_default();
                waiting.insert(condition.key.clone(), Cause::of(condition));
            }
        }
        let task = |(need, waiting)| Self { need, waiting };
        tasks.into_iter().map(task).collect()
    }

    /// The newest cause: the answer must be at least as new.
    pub fn newest(&self) -> Option<&Cause> {
        self.waiting.values().max()
    }

    /// The same for the entities that are not the object itself, if there are any: what the store has of it is
    /// new to them only.
    pub fn by_others(&self) -> Option<Self> {
        let own = self.need.key();
        let mut others = self.clone();
        others.waiting.retain(|key, _| key.subject != own);
        (!others.waiting.is_empty()).then_some(others)
    }
}

impl Cause {
    pub(super) fn of(condition: &Condition) -> Self {
        Self {
            since_s: condition.since_s,
            event_id: condition.event_id.clone(),
        }
    }
}

/// What the condition waits for. Nothing is asked about an account that an organisation's endpoint does not know.
pub(super) fn needs_of(condition: &Condition) -> Vec<Need> {
    let mut needs = Need::of(condition);
    needs.retain(|need| need.realm != *Realm::unknown() && is_plain(need));
    needs
}

/// Whether the ids of a need are those of Stripe: letters, digits and underscores, after the kind's prefix.
fn is_plain(need: &Need) -> bool {
    let prefixes = need.kind.row().id_prefixes;
    let is_id = |id: &str, prefixes: &[&str]| {
        let mut rest = prefixes.iter().filter_map(|prefix| id.strip_prefix(prefix));
        rest.any(|rest| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            !rest.is_empty() && rest.len() <= 250 && rest.bytes().all(is_plain)
        })
    };
    let account = need.account.as_deref();
    is_id(&need.id, prefixes) && account.is_none_or(|account| is_id(account, &["acct_"]))
}
