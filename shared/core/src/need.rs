//! Needs: what an entity lacks that its events do not say, and which object has it. Each need is a condition,
//! so it is durable; the worker's resolver meets it from the store or from Stripe's API, with an event.

use crate::condition::{Condition, ConditionKind};
use crate::entity::coupon::coupon_key;
use crate::entity::invoice::Invoice;
use crate::entity::recurring::MrrUnknown;
use crate::entity::{Entity, EntityKey, EntityKind};
use crate::realm::Realm;

/// An object of which an entity lacks something. Entities that lack it of the same object have one need.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// What the object is.
    pub kind: EntityKind,
    /// Stripe's id.
    pub id: String,
    /// The connected account that it belongs to: Stripe is asked as this account.
    pub account: Option<String>,
    /// Which of the platform's own Stripe accounts it is of.
    pub realm: Realm,
}

/// What the store says of a need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// Nothing lacks it any more, because an event came in the meantime; or there is nothing to have yet.
    Met,
    /// The object, as Stripe would answer.
    Object(String),
    /// It may be in what the store has of these.
    In(Vec<Need>),
    /// Only Stripe knows.
    Unknown,
}

impl Need {
    /// What a condition says that its entity needs. Most conditions are about something else.
    pub fn of(condition: &Condition) -> Vec<Self> {
        let subject = &condition.key.subject;
        let of = |kind: EntityKind, id: &str, account: Option<String>| Self {
            kind,
            id: id.to_owned(),
            account,
            realm: condition.realm.clone(),
        };
        let account = match condition.key.kind {
            // The platform asks for an account as itself.
            ConditionKind::AccountStale => None,
            ConditionKind::StateNeeded
            | ConditionKind::CouponNeeded
            | ConditionKind::AttemptUnreported => condition.account.clone(),
            ConditionKind::MrrIncomplete if is_fetched(condition.detail.as_deref()) => {
                condition.account.clone()
            }
            ConditionKind::InvoiceNeeded => {
                let invoices = condition.detail.iter().flat_map(|ids| ids.split(','));
                let invoices =
                    invoices.map(|id| of(EntityKind::Invoice, id, condition.account.clone()));
                return invoices.collect();
            }
            _ => return Vec::new(),
        };
        vec![of(subject.kind, &subject.id, account)]
    }

    /// The object in the store.
    pub fn key(&self) -> EntityKey {
        match self.kind {
            EntityKind::Coupon => coupon_key(&self.realm, self.account.as_deref(), &self.id),
            kind => EntityKey::new(kind, &self.id),
        }
    }

    /// What determines the partition of the object, as [`crate::event::Event::partition`] has it.
    pub fn partition_key(&self) -> &str {
        self.account.as_deref().unwrap_or(&self.id)
    }

    /// What the object itself says in the store, as `entity`, to those that need it: itself or others.
    pub fn resolve(&self, entity: &Entity, by_others: bool) -> Stored {
        let conditions = entity.conditions();
        // What became of its attempt does not matter to others.
        let is_of_others =
            |kind: ConditionKind| !by_others || kind != ConditionKind::AttemptUnreported;
        let lacks_it = conditions
            .iter()
            .filter(|condition| is_of_others(condition.key.kind))
            .flat_map(Self::of)
            .any(|need| need == *self);
        match entity {
            Entity::Coupon(coupon) => coupon
                .as_stripe_object()
                .map_or(Stored::Unknown, |object| Stored::Object(object.to_string())),
            // What it lacks, only Stripe knows.
            Entity::Invoice(invoice) if by_others && !lacks_it => of_invoice(invoice),
            _ if !lacks_it => Stored::Met,
            Entity::Subscription(subscription) => {
                let coupons = subscription.coupons_needed().into_iter();
                let coupons: Vec<_> = coupons.map(|id| self.of_coupon(id)).collect();
                if coupons.is_empty() {
                    Stored::Unknown
                } else {
                    Stored::In(coupons)
                }
            }
            _ => Stored::Unknown,
        }
    }

    fn of_coupon(&self, id: &str) -> Self {
        Self {
            kind: EntityKind::Coupon,
            id: id.to_owned(),
            ..self.clone()
        }
    }
}

/// The lines of a draft may change: an event will say that it is final.
fn of_invoice(invoice: &Invoice) -> Stored {
    if invoice.is_draft() {
        return Stored::Met;
    }
    let object = invoice.as_stripe_object();
    object.map_or(Stored::Unknown, |object| Stored::Object(object.to_string()))
}

/// Whether Stripe's API, or another object in the store, has what an incomplete amount lacks.
fn is_fetched(reason: Option<&str>) -> bool {
    use MrrUnknown::{Currency, Discount, Items, Products, Tiers};
    let fetched = [Items, Tiers, Currency, Discount, Products];
    fetched.iter().any(|it| Some(it.as_str()) == reason)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::condition::ConditionKey;
    use crate::entity::Observation;
    use crate::event::Event;
    use crate::observe::{ObserveSettings, observe};

    fn after(bodies: &[serde_json::Value]) -> Entity {
        let mut entity: Option<Entity> = None;
        for body in bodies {
            let body = body.to_string();
            let event = Event::parse(body.as_bytes()).expect("an event");
            let observed = observe(&event, &ObserveSettings::default()).expect("readable");
            let is_payout = |o: &&Observation| o.key.kind == EntityKind::Payout;
            for observation in observed.iter().filter(is_payout) {
                let entity = entity.get_or_insert_with(|| Entity::new(&observation.key));
                entity.merge(observation);
            }
        }
        entity.expect("an observation")
    }

    #[test]
    fn a_need_is_met_once_a_state_that_is_new_enough_is_stored() {
        let thin = json!({"id": "evt_1", "type": "v1.payout.failed", "created": "1970-01-01T00:00:09Z",
            "context": "acct_P/acct_1", "related_object": {"id": "po_1", "type": "payout"}});
        let state = |at_s: i64| {
            json!({"id": "evt_2", "type": "payout.failed", "created": at_s, "account": "acct_1",
                "data": {"object": {"id": "po_1", "status": "failed"}}})
        };
        let need = Need {
            kind: EntityKind::Payout,
            id: "po_1".to_owned(),
            account: Some("acct_1".to_owned()),
            realm: Realm::MAIN,
        };
        let named = after(std::slice::from_ref(&thin));
        let needs: Vec<_> = named.conditions().iter().flat_map(Need::of).collect();
        assert_eq!(needs, std::slice::from_ref(&need));
        assert_eq!(need.partition_key(), named.state().partition_key());
        assert_eq!(need.resolve(&named, false), Stored::Unknown);
        assert_eq!(
            need.resolve(&after(&[thin.clone(), state(8)]), false),
            Stored::Unknown
        );
        assert_eq!(need.resolve(&after(&[thin, state(9)]), false), Stored::Met);
    }

    #[test]
    fn an_account_is_asked_for_as_the_platform_and_other_conditions_are_no_needs() {
        let mut condition = Condition {
            key: ConditionKey {
                kind: ConditionKind::AccountStale,
                subject: EntityKey::new(EntityKind::Account, "acct_1"),
            },
            since_s: 1,
            began_before: None,
            due_s: 1,
            account: Some("acct_1".to_owned()),
            realm: Realm::kernel(),
            customer: None,
            money: None,
            detail: None,
            event_id: "evt_1".to_owned(),
            times: None,
            answer_by_s: None,
            trial_end_s: None,
            further_money: Vec::new(),
            uncertain: None,
        };
        let [need] = Need::of(&condition).try_into().expect("one");
        assert_eq!((need.account, need.realm), (None, Realm::kernel()));
        condition.key.kind = ConditionKind::ChargesLost;
        assert_eq!(Need::of(&condition), []);
    }
}
