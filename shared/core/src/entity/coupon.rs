//! A coupon: what a discount takes off that an event names only by its id.
//!
//! Merchants choose the ids of their coupons, so two accounts may have the same. The id of this entity is
//! therefore a path: realm, owner and Stripe's id, for example `main/platform/SUMMER`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value, json};

use super::events::{EventRef, event_refs};
use super::key::EntityKey;
use super::kind::EntityKind;
use super::mention::Mention;
use super::recurring::Terms;
use super::state::EntityState;
use super::timeline::{Facts, RecordedState, Timeline, value_fingerprint};
use super::transition::{Transition, status_changes};
use crate::class::{Class, Owner};
use crate::condition::Condition;
use crate::counters::{Bucket, Tally};
use crate::realm::Realm;

/// The state of a coupon, as known from its events and those of its promotion codes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coupon {
    /// See the module documentation.
    #[serde(skip)]
    pub id: String,
    /// The recorded states.
    pub timeline: Timeline<CouponFacts>,
    /// Which of the platform's own Stripe accounts it is of.
    pub realm: Option<Realm>,
}

/// The state of a coupon in one event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CouponFacts {
    /// Whether it was deleted. Discounts that were made of it before stay.
    /// Source: <https://docs.stripe.com/api/coupons/delete>.
    pub deleted: bool,
    /// What it takes off.
    pub terms: Terms,
}

/// The key of the coupon of this id; `account`: of this connected account.
pub fn coupon_key(realm: &Realm, account: Option<&str>, id: &str) -> EntityKey {
    let owner = account.unwrap_or(PLATFORM);
    let path = format!("{}/{owner}/{id}", realm.as_str());
    EntityKey::new(EntityKind::Coupon, path)
}

/// The key of a coupon of which only Stripe's id is given, or its path.
pub fn coupon_key_of(text: &str) -> EntityKey {
    match text.splitn(3, '/').count() {
        3 => EntityKey::new(EntityKind::Coupon, text),
        _ => coupon_key(Realm::main(), None, text),
    }
}

/// The owner in a path.
const PLATFORM: &str = "platform";

impl Coupon {
    /// Merges one event.
    pub fn merge(&mut self, state: RecordedState<CouponFacts>) {
        self.timeline.insert(state);
    }

    pub(super) fn union(&mut self, other: &Self) {
        self.timeline.union(&other.timeline);
    }

    /// The current state.
    pub fn current(&self) -> Option<&CouponFacts> {
        self.timeline.last().map(|s| &*s.facts)
    }

    /// The coupon as Stripe would show it, as far as it is known. `None`: nothing is, or it was deleted and made again
    /// with other terms, so that its id does not say which ones a discount has.
    pub fn as_stripe_object(&self) -> Option<Value> {
        let mut terms = self.current()?.terms.clone();
        for state in self.timeline.in_order() {
            let shown = &state.facts.terms;
            if !terms.agrees_with(shown) {
                return None;
            }
            terms.merge(shown);
        }
        let duration = if terms.is_forever { "forever" } else { "once" };
        let percent = terms.percent_off.map(|percent| percent.to_string());
        let percent = percent.and_then(|text| text.parse::<Number>().ok());
        let off = terms.amount_off.as_ref();
        let options = off.map(|off| &off.currency_options);
        let options = options.filter(|options| !options.is_empty());
        let products: Option<Vec<String>> = terms.products.into();
        Some(json!({
            "id": self.stripe_id(), "object": "coupon", "duration": duration, "percent_off": percent,
            "amount_off": off.map(|off| off.minor), "currency": off.and_then(|off| off.currency.as_ref()),
            "currency_options": options.map(as_stripe_options),
            "applies_to": products.map(|products| json!({"products": products})),
        }))
    }

    /// Stripe's id.
    pub fn stripe_id(&self) -> &str {
        self.path().1
    }

    /// The connected account that it belongs to.
    pub fn owner_account(&self) -> Option<&str> {
        Some(self.path().0).filter(|owner| *owner != PLATFORM)
    }

    /// Owner and Stripe's id, which may contain anything.
    fn path(&self) -> (&str, &str) {
        let rest = self.id.split_once('/').map_or("", |(_, rest)| rest);
        rest.split_once('/').unwrap_or((PLATFORM, &self.id))
    }
}

fn as_stripe_options(options: &BTreeMap<String, i64>) -> Value {
    let option =
        |(currency, minor): (&String, &i64)| (currency.clone(), json!({"amount_off": minor}));
    Value::Object(options.iter().map(option).collect())
}

impl EntityState for Coupon {
    fn set_key(&mut self, key: &EntityKey) {
        self.id.clone_from(&key.id);
    }

    fn partition_key(&self) -> &str {
        let (owner, id) = self.path();
        if owner == PLATFORM { id } else { owner }
    }

    fn account(&self) -> Option<&str> {
        self.owner_account()
    }

    fn unanswered(&self) -> Option<&Mention> {
        None
    }

    fn class(&self) -> Class<'_> {
        Class::of(self.realm.as_ref(), Owner::of(self.owner_account()))
    }

    fn contributions(&self, tally: &mut Tally) {
        let Some(facts) = self.current() else { return };
        tally.add(Bucket::Current, &["coupons", facts.status()], 1);
    }

    fn conditions(&self) -> Vec<Condition> {
        Vec::new()
    }

    /// Its creation and its deletion.
    fn transitions(&self) -> Vec<Transition> {
        status_changes(&self.timeline, "deleted", None, |facts| facts.status())
    }

    fn events(&self) -> Vec<EventRef> {
        event_refs(&self.timeline, None)
    }
}

impl CouponFacts {
    /// `active` or `deleted`.
    pub fn status(&self) -> &'static str {
        if self.deleted { "deleted" } else { "active" }
    }
}

impl Facts for CouponFacts {
    const FIELDS: &'static [&'static str] = &["deleted"];

    fn progress(&self) -> u64 {
        self.deleted.into()
    }

    fn value(&self, _: usize) -> u32 {
        value_fingerprint(self.deleted)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::recurring::{AmountOff, Products};
    use super::super::timeline::{Changes, EventId, Stage};
    use super::*;

    #[test]
    fn an_id_alone_is_that_of_the_platforms_coupon() {
        for text in ["SUMMER", "main/platform/SUMMER"] {
            assert_eq!(coupon_key_of(text).id, "main/platform/SUMMER");
        }
        assert_eq!(coupon_key_of("kernel/platform/a").id, "kernel/platform/a");
    }

    fn off(products: Option<&[&str]>, options: &[(&str, i64)]) -> Terms {
        let options = options
            .iter()
            .map(|(currency, minor)| ((*currency).to_owned(), *minor));
        Terms {
            is_forever: true,
            amount_off: Some(AmountOff {
                minor: 5000,
                currency: Some("usd".to_owned()),
                currency_options: options.collect(),
            }),
            products: products.map_or(Products::NotShown, |all| {
                Products::Only(all.iter().map(|it| (*it).to_owned()).collect())
            }),
            ..Terms::default()
        }
    }

    /// What events with these terms, one each second, make known.
    fn shown(all: &[Terms]) -> Option<Value> {
        let mut coupon = Coupon::default();
        for (at_s, terms) in (1..).zip(all) {
            coupon.merge(RecordedState {
                event_id: EventId::from(format!("evt_{at_s}")),
                created_s: at_s,
                stage: Stage::Updated,
                facts: Arc::new(CouponFacts {
                    deleted: false,
                    terms: terms.clone(),
                }),
                changes: Changes::default(),
            });
        }
        coupon.as_stripe_object()
    }

    #[test]
    fn it_has_every_currency_that_an_event_has_shown() {
        let (yen, euro) = (
            off(None, &[("jpy", 700)]),
            off(None, &[("eur", 40), ("jpy", 700)]),
        );
        let orders = [
            [off(None, &[]), yen.clone(), euro.clone()],
            [euro, off(None, &[]), yen.clone()],
        ];
        for all in orders {
            let object = shown(&all).expect("one coupon");
            let expected = json!({"eur": {"amount_off": 40}, "jpy": {"amount_off": 700}});
            assert_eq!(object["currency_options"], expected);
        }
        assert_eq!(
            shown(&[off(None, &[])]).expect("one")["currency_options"],
            Value::Null
        );
        // It was made again.
        assert_eq!(shown(&[yen.clone(), off(None, &[("jpy", 800)])]), None);
        let of_one = off(Some(&["prod_1"]), &[]);
        assert_eq!(shown(&[of_one.clone(), off(Some(&["prod_2"]), &[])]), None);
        // Events do not have the products.
        let object = shown(&[yen, of_one]).expect("one coupon");
        assert_eq!(object["applies_to"]["products"], json!(["prod_1"]));
    }

    #[test]
    fn the_key_says_whose_it_is() {
        let kernel = Realm::named("kernel").expect("a name");
        for (realm, account, id) in [
            (Realm::main(), None, "SUMMER"),
            (&kernel, None, "a/b/c"),
            (Realm::main(), Some("acct_1"), "SUMMER"),
        ] {
            let mut coupon = Coupon::default();
            coupon.set_key(&coupon_key(realm, account, id));
            assert_eq!((coupon.owner_account(), coupon.stripe_id()), (account, id));
            assert_eq!(coupon.partition_key(), account.unwrap_or(id));
        }
    }
}
