//! The monthly recurring revenue of one subscription, from the data in its events.
//!
//! Per item: quantity × unit amount, less the item's discounts, ÷ the months of its interval (a
//! week is 7 and a day is 1 of the 365/12 days of a month); then the sum, less the subscription's
//! discounts. Only discounts that last `forever` count. Metered and tiered prices, and discounts
//! that the event names only by id, are not in the event: they do not count.
//! Source: <https://docs.stripe.com/billing/subscriptions/analytics>.

use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, RoundingStrategy};

use super::fields::Minor;
use super::prices::{Coupon, CouponValue, Discount, Item, Price, Transform};

/// In minor units, rounded once, half to even. `legacy` is the single discount of old API versions.
pub(super) fn recurring_minor(
    items: &[Item],
    discounts: &[Discount],
    legacy: Option<&Discount>,
) -> Result<i64, &'static str> {
    let licensed = |item: &&Item| Interval::of(&item.price).is_some();
    // Stripe omits the quantity only for metered items.
    if items
        .iter()
        .filter(licensed)
        .any(|item| item.quantity.is_none())
    {
        return Err("quantity missing");
    }
    sum_minor(items, discounts, legacy).ok_or("amounts overflow")
}

fn sum_minor(items: &[Item], discounts: &[Discount], legacy: Option<&Discount>) -> Option<i64> {
    let mut total = Decimal::ZERO;
    let mut first_interval = None;
    for item in items {
        let Some(interval) = Interval::of(&item.price) else {
            continue;
        };
        let Some(amount) = amount(item, &item.price)? else {
            continue;
        };
        let amount = apply_discounts(amount, &item.discounts.0, None, Some)?;
        total = total.checked_add(interval.monthly(amount)?)?;
        first_interval.get_or_insert(interval);
    }
    // A fixed discount is taken from each invoice, so once per interval.
    let interval = first_interval.unwrap_or(Interval {
        months: Decimal::ONE,
        parts: Decimal::ONE,
    });
    let total = apply_discounts(total, discounts, legacy, |amount_off| {
        interval.monthly(amount_off)
    })?;
    let total = total
        .round_dp_with_strategy(0, RoundingStrategy::MidpointNearestEven)
        .to_i64()?;
    Minor::try_from(total).ok().map(|minor| minor.0)
}

/// The amount of an item in one interval; `Some(None)` if the event does not have it.
fn amount(item: &Item, price: &Price) -> Option<Option<Decimal>> {
    let unit = price
        .unit_amount_decimal
        .as_ref()
        .map(|d| d.0)
        .or(price.unit_amount.map(Decimal::from));
    let Some(unit) = unit else { return Some(None) };
    let mut quantity = Decimal::from(item.quantity.unwrap_or(1));
    if let Some(Transform { divide_by, round }) = &price.transform_quantity {
        let packages = quantity.checked_div(Decimal::from(*divide_by))?;
        quantity = if round == "up" {
            packages.ceil()
        } else {
            packages.floor()
        };
    }
    Some(Some(unit.checked_mul(quantity)?))
}

/// `months` ÷ `parts` months; kept separate so that a twelfth of a yearly price stays exact.
#[derive(Clone, Copy)]
struct Interval {
    months: Decimal,
    parts: Decimal,
}

impl Interval {
    /// `None` if the price is not licensed and recurring: one-off and metered prices, unknown
    /// intervals.
    fn of(price: &Price) -> Option<Self> {
        let recurring = price.recurring.as_ref()?;
        if recurring.usage_type.as_deref() == Some("metered") {
            return None;
        }
        let count = u64::from(recurring.interval_count.max(1));
        let (months, parts) = match recurring.interval.as_str() {
            "month" => (count, 1),
            "year" => (count * 12, 1),
            "week" => (count * 7 * 12, 365),
            "day" => (count * 12, 365),
            _ => return None,
        };
        Some(Self {
            months: months.into(),
            parts: parts.into(),
        })
    }

    fn monthly(&self, amount: Decimal) -> Option<Decimal> {
        amount.checked_mul(self.parts)?.checked_div(self.months)
    }
}

/// Subtracts every permanent discount in turn. `legacy` is the single `discount` of old API
/// versions, which repeats one of `discounts`: it counts only if those are ids.
fn apply_discounts(
    mut amount: Decimal,
    discounts: &[Discount],
    legacy: Option<&Discount>,
    per_month: impl Fn(Decimal) -> Option<Decimal>,
) -> Option<Decimal> {
    let expanded: Vec<&Coupon> = discounts.iter().filter_map(Discount::coupon).collect();
    let coupons = if expanded.is_empty() {
        legacy.and_then(Discount::coupon).into_iter().collect()
    } else {
        expanded
    };
    for coupon in coupons.into_iter().filter(|c| c.lasts_forever) {
        amount = match coupon.off {
            CouponValue::Percent(percent) => amount
                .checked_mul(Decimal::ONE_HUNDRED - percent)?
                .checked_div(Decimal::ONE_HUNDRED)?,
            CouponValue::Minor(amount_off) => amount
                .checked_sub(per_month(Decimal::from(amount_off))?)?
                .max(Decimal::ZERO),
        };
    }
    Some(amount)
}
