//! Thin events: they name an object that changed, and only Stripe's API says how it is now. They change no
//! fact of an entity. One that no later state answers is a need, which the worker's resolver meets.

use super::key::EntityKey;
use crate::condition::{Condition, ConditionKey, ConditionKind};
use crate::realm::Realm;

/// A thin event that names an entity: Unix seconds and id. Only the newest is kept.
pub type Mention = (i64, String);

/// The mention, unless the entity has a state of its second or later.
pub(super) fn unanswered(mention: Option<&Mention>, newest_s: Option<i64>) -> Option<&Mention> {
    mention.filter(|(named_s, _)| newest_s.is_none_or(|newest_s| newest_s < *named_s))
}

/// The condition of an entity whose state has to be fetched.
pub(super) fn condition(
    subject: EntityKey,
    account: Option<&str>,
    realm: Option<&Realm>,
    (named_s, event_id): &Mention,
) -> Condition {
    let kind = ConditionKind::StateNeeded;
    Condition {
        key: ConditionKey { kind, subject },
        since_s: *named_s,
        began_before: None,
        due_s: *named_s,
        account: account.map(str::to_owned),
        realm: realm.cloned().unwrap_or_default(),
        customer: None,
        money: None,
        detail: None,
        event_id: event_id.clone(),
        times: None,
        answer_by_s: None,
        trial_end_s: None,
        further_money: Vec::new(),
        uncertain: None,
    }
}
