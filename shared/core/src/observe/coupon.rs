//! What an event says about a coupon, and about the discount of a subscription.

use serde::Deserialize;

use super::coupons::{AppliesToIs, BeyondAnyAmount, Coupon, FullDiscount, Source};
use super::fields::{Expandable, MAX_MINOR, beyond};
use super::lenient::Lenient;
use super::object::{ObserveError, read};
use super::record::{observation, recorded_state};
use super::settings::ObserveSettings;
use crate::entity::coupon::{CouponFacts, coupon_key};
use crate::entity::recurring::KnownDiscounts;
use crate::entity::subscription::SubscriptionOrigin;
use crate::entity::{EntityKind, Observation, Update};
use crate::event::Event;
use crate::realm::Realm;

/// The coupon of a `coupon.*` event, or the one that a `promotion_code.*` event shows.
pub(super) fn observe(
    event: &Event<'_>,
    _: &ObserveSettings,
) -> Result<Option<Observation>, ObserveError> {
    if !event.kind.starts_with("promotion_code.") {
        let object: Coupon = read(event)?;
        let deleted = event.kind == "coupon.deleted";
        return coupon(event, object, deleted).map(Some);
    }
    let object: PromotionCodeObject = read(event)?;
    let coupon_of = match object.promotion {
        Lenient::Known(promotion) => promotion.coupon,
        Lenient::Absent | Lenient::Odd => object.coupon,
    };
    match coupon_of {
        Lenient::Known(Expandable::Object(shown)) => coupon(event, shown, false).map(Some),
        // Only its id: nothing is learned of it.
        Lenient::Known(Expandable::Id(_)) | Lenient::Absent | Lenient::Odd => Ok(None),
    }
}

fn coupon(event: &Event<'_>, coupon: Coupon, deleted: bool) -> Result<Observation, ObserveError> {
    let terms = coupon
        .terms(AppliesToIs::LeftOut)
        .map_err(|e| too_much(event, e))?;
    let account = event.account.as_deref();
    let key = coupon_key(Realm::main(), account, &coupon.id.id(event)?);
    let state = recorded_state(event, CouponFacts { deleted, terms });
    let update = Update::Coupon(account.map(str::to_owned), state);
    Ok(observation(event, EntityKind::Coupon, key.id, update))
}

/// What a `customer.discount.*` event shows of a discount of a subscription. One of a customer as such is no
/// part of MRR.
/// Source: <https://support.stripe.com/questions/metric-configurations>.
pub(super) fn discount(
    event: &Event<'_>,
    _: &ObserveSettings,
) -> Result<Option<Observation>, ObserveError> {
    let object: FullDiscount = read(event)?;
    let known = object
        .known(AppliesToIs::LeftOut)
        .map_err(|e| too_much(event, e))?;
    let id = object.id.id(event)?;
    let Lenient::Known(subscription) = object.subscription else {
        return Ok(None);
    };
    let mut discounts = KnownDiscounts::default();
    discounts.add(&id, &known);
    Ok(Some(discounts_of(event, subscription, discounts)))
}

/// What a coupon that was fetched for a subscription is to the subscription that needs it.
pub(super) fn for_subscription(event: &Event<'_>) -> Result<Option<Observation>, ObserveError> {
    let object: Coupon = read(event)?;
    let terms = object
        .terms(AppliesToIs::LeftOut)
        .map_err(|e| too_much(event, e))?;
    let mut discounts = KnownDiscounts::default();
    discounts.add_coupon(&object.id.id(event)?, &terms);
    let Some(subscription) = event.related_id.as_deref() else {
        return Ok(None);
    };
    Ok(Some(discounts_of(event, subscription, discounts)))
}

/// The discounts become known to the subscription with this id.
fn discounts_of(
    event: &Event<'_>,
    subscription: impl Into<String>,
    discounts: KnownDiscounts,
) -> Observation {
    let origin = SubscriptionOrigin {
        account: event.account.as_deref().map(str::to_owned),
        discounts,
        ..SubscriptionOrigin::default()
    };
    let update = Update::SubscriptionOrigin(origin);
    observation(event, EntityKind::Subscription, subscription, update)
}

fn too_much(event: &Event<'_>, _: BeyondAnyAmount) -> ObserveError {
    beyond(event, "coupon.amount_off", MAX_MINOR)
}

/// Since 2025-09-30.clover, the coupon is below `promotion`.
/// Source: <https://docs.stripe.com/api/promotion_codes/object>.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct PromotionCodeObject {
    coupon: Lenient<Expandable<Coupon>>,
    promotion: Lenient<Source>,
}
