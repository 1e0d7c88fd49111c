//! The monthly recurring revenue of one subscription, from the data in its events.
//!
//! Per item: quantity × unit amount, less the item's discounts, ÷ the months of its interval (a
//! week is 7 and a day is 1 of the 365/12 days of a month); then the sum, less the subscription's
//! discounts. Only discounts that last `forever` count. Metered and tiered prices, and discounts
//! that the event names only by id, are not in the event: they do not count. If anything else that
//! the amount depends on cannot be read, the amount is unknown.
//! Source: <https://docs.stripe.com/billing/subscriptions/analytics>.

use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, RoundingStrategy};

use super::fields::{MAX_MINOR, Minor};
use super::lenient::Lenient;
use super::prices::{
    CannotBePriced, Coupon, Discount, Discounts, Item, Off, Price, Recurring, Round, Transform,
};
use crate::entity::subscription::MrrUnknown;

/// Why there is no amount.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoAmount {
    /// It depends on a field that cannot be read.
    Unknown(MrrUnknown),
    /// This field is larger than any amount: than so many minor units.
    Beyond(&'static str, i64),
}

/// In minor units, rounded once, half to even. `legacy` is the single discount of old API versions.
pub(super) fn recurring_minor(
    items: &[Lenient<Item>],
    discounts: &Discounts,
    legacy: &Lenient<Discount>,
) -> Result<i64, NoAmount> {
    let mut total = Decimal::ZERO;
    let mut first_interval = None;
    for item in items {
        let item = item.as_known().ok_or(MrrUnknown::Price)?;
        let price = item.price().ok_or(MrrUnknown::Price)?;
        let Some(interval) = Interval::of(price)? else {
            continue;
        };
        let Some(amount) = amount(item, price)? else {
            continue;
        };
        let amount = apply_discounts(amount, &item.discounts, &Lenient::Absent, Some)?;
        let monthly = interval.monthly(amount);
        total = monthly
            .and_then(|monthly| total.checked_add(monthly))
            .ok_or(TOO_MUCH)?;
        first_interval.get_or_insert(interval);
    }
    // A fixed discount is taken from each invoice, so once per interval.
    let interval = first_interval.unwrap_or(Interval {
        months: Decimal::ONE,
        parts: Decimal::ONE,
    });
    let total = apply_discounts(total, discounts, legacy, |off| interval.monthly(off))?;
    let total = total.round_dp_with_strategy(0, RoundingStrategy::MidpointNearestEven);
    let bound = -MAX_MONTHLY_MINOR..=MAX_MONTHLY_MINOR;
    let total = total.to_i64().filter(|minor| bound.contains(minor));
    total.ok_or(TOO_MUCH)
}

/// The largest monthly sum, in minor units. Stripe charges at most 12 digits at once, so this is more than
/// any subscription has, and the sum of 900,000 such subscriptions still fits into 64 bits.
/// Source: <https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts>.
const MAX_MONTHLY_MINOR: i64 = 10_000_000_000_000;

/// The sum is too large, or an intermediate one overflowed.
const TOO_MUCH: NoAmount = NoAmount::Beyond("items", MAX_MONTHLY_MINOR);

/// The amount of an item in one interval; `None` if the event does not have it: tiers.
fn amount(item: &Item, price: &Price) -> Result<Option<Decimal>, NoAmount> {
    // Stripe omits the quantity only for metered items.
    let quantity = item.quantity.as_known().ok_or(MrrUnknown::Quantity)?;
    let Some(unit) = unit_amount(price)? else {
        return Ok(None);
    };
    let quantity = packages(Decimal::from(*quantity), price)?;
    unit.checked_mul(quantity).map(Some).ok_or(TOO_MUCH)
}

/// The decimal form is exact; the other one is null if it could not be.
fn unit_amount(price: &Price) -> Result<Option<Decimal>, NoAmount> {
    let bound = Decimal::from(MAX_MINOR);
    match (&price.unit_amount_decimal, &price.unit_amount) {
        (Lenient::Known(unit), _) if unit.0.abs() > bound => Err(NoAmount::Beyond(
            "items.data.price.unit_amount_decimal",
            MAX_MINOR,
        )),
        (Lenient::Known(unit), _) => Ok(Some(unit.0)),
        (_, Lenient::Known(Minor::Beyond)) => {
            Err(NoAmount::Beyond("items.data.price.unit_amount", MAX_MINOR))
        }
        (_, Lenient::Known(Minor::Within(unit))) => Ok(Some(Decimal::from(*unit))),
        (Lenient::Absent, Lenient::Absent) => Ok(None),
        _ => Err(MrrUnknown::Amount.into()),
    }
}

/// The quantity that is billed.
fn packages(quantity: Decimal, price: &Price) -> Result<Decimal, MrrUnknown> {
    match &price.transform_quantity {
        Lenient::Absent => Ok(quantity),
        Lenient::Known(Transform { divide_by, round }) => {
            let packages = quantity.checked_div(Decimal::from(*divide_by));
            let packages = packages.ok_or(MrrUnknown::Price)?;
            Ok(match round {
                Round::Up => packages.ceil(),
                Round::Down => packages.floor(),
            })
        }
        Lenient::Odd => Err(MrrUnknown::Price),
    }
}

/// `months` ÷ `parts` months; kept separate so that a twelfth of a yearly price stays exact.
#[derive(Clone, Copy)]
struct Interval {
    months: Decimal,
    parts: Decimal,
}

impl Interval {
    /// `None` if the price is not licensed and recurring: one-off and metered prices.
    fn of(price: &Price) -> Result<Option<Self>, MrrUnknown> {
        let Recurring {
            interval,
            interval_count,
            usage_type,
        } = match &price.recurring {
            Lenient::Known(recurring) => recurring,
            Lenient::Absent => return Ok(None),
            Lenient::Odd => return Err(MrrUnknown::Price),
        };
        if usage_type.as_deref() == Some("metered") {
            return Ok(None);
        }
        let count = u64::from((*interval_count).max(1));
        let (months, parts) = match interval.as_str() {
            "month" => (count, 1),
            "year" => (count * 12, 1),
            "week" => (count * 7 * 12, 365),
            "day" => (count * 12, 365),
            _ => return Err(MrrUnknown::Price),
        };
        Ok(Some(Self {
            months: months.into(),
            parts: parts.into(),
        }))
    }

    fn monthly(&self, amount: Decimal) -> Option<Decimal> {
        amount.checked_mul(self.parts)?.checked_div(self.months)
    }
}

/// Subtracts every permanent discount in turn.
fn apply_discounts(
    mut amount: Decimal,
    discounts: &Discounts,
    legacy: &Lenient<Discount>,
    per_month: impl Fn(Decimal) -> Option<Decimal>,
) -> Result<Decimal, NoAmount> {
    for coupon in coupons(discounts, legacy)? {
        amount = match coupon.forever_off()? {
            None => amount,
            Some(Off::Percent(percent)) => amount
                .checked_mul(Decimal::ONE_HUNDRED - percent)
                .and_then(|amount| amount.checked_div(Decimal::ONE_HUNDRED))
                .ok_or(TOO_MUCH)?,
            Some(Off::Minor(Minor::Within(off))) => per_month(Decimal::from(off))
                .and_then(|off| amount.checked_sub(off))
                .ok_or(TOO_MUCH)?
                .max(Decimal::ZERO),
            Some(Off::Minor(Minor::Beyond)) => {
                return Err(NoAmount::Beyond("discounts.coupon.amount_off", MAX_MINOR));
            }
        };
    }
    Ok(amount)
}

/// The coupons that the event has. `legacy` is the single `discount` of old API versions, which
/// repeats one of `discounts`: it counts only if those are ids.
fn coupons<'a>(
    discounts: &'a Discounts,
    legacy: &'a Lenient<Discount>,
) -> Result<Vec<&'a Coupon>, CannotBePriced> {
    if discounts.is_odd() {
        return Err(CannotBePriced);
    }
    let mut coupons = Vec::new();
    for discount in discounts.as_known().into_iter().flatten() {
        coupons.extend(discount.as_known().ok_or(CannotBePriced)?.coupon()?);
    }
    if coupons.is_empty() {
        match legacy {
            Lenient::Absent => {}
            Lenient::Known(discount) => coupons.extend(discount.coupon()?),
            Lenient::Odd => return Err(CannotBePriced),
        }
    }
    Ok(coupons)
}

impl From<MrrUnknown> for NoAmount {
    fn from(reason: MrrUnknown) -> Self {
        Self::Unknown(reason)
    }
}

impl From<CannotBePriced> for NoAmount {
    fn from(_: CannotBePriced) -> Self {
        MrrUnknown::Coupon.into()
    }
}
