//! What one item costs in one interval.

use rust_decimal::Decimal;

use super::fields::{DecimalText, MAX_MINOR, Minor};
use super::lenient::Lenient;
use super::prices::{Amounts, Price, Round, Tier, TiersMode, Transform};
use crate::entity::recurring::MrrUnknown;

/// Why there is no amount.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beyond {
    /// It depends on something that the event does not have.
    NotKnown(MrrUnknown),
    /// This field is larger than any amount.
    Amount(&'static str),
    /// A product of two fields is.
    Sum,
}

/// What so many of a price cost, in minor units.
pub(super) fn amount(
    price: &Price,
    amounts: Amounts<'_>,
    quantity: u64,
) -> Result<Decimal, Beyond> {
    let names = [
        "items.data.price.unit_amount_decimal",
        "items.data.price.unit_amount",
    ];
    match minor(names, amounts.unit_amount_decimal, amounts.unit_amount)? {
        Some(unit) => {
            let quantity = packages(Decimal::from(quantity), price)?;
            unit.checked_mul(quantity).ok_or(Beyond::Sum)
        }
        // Every price with tiers has a mode.
        None if price.tiers_mode == Lenient::Absent => Err(MrrUnknown::Amount.into()),
        // Events do not have the tiers.
        None => tiered(price, amounts, quantity),
    }
}

/// The decimal form is exact; the other one is null if it could not be.
fn minor(
    [exact_name, name]: [&'static str; 2],
    exact: &Lenient<DecimalText>,
    whole: &Lenient<Minor>,
) -> Result<Option<Decimal>, Beyond> {
    let bound = Decimal::from(MAX_MINOR);
    match (exact, whole) {
        (Lenient::Known(exact), _) if exact.0.abs() > bound => Err(Beyond::Amount(exact_name)),
        (Lenient::Known(exact), _) => Ok(Some(exact.0)),
        (_, Lenient::Known(Minor::Beyond)) => Err(Beyond::Amount(name)),
        (_, Lenient::Known(Minor::Within(whole))) => Ok(Some(Decimal::from(*whole))),
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

/// Source: <https://docs.stripe.com/products-prices/pricing-models#tiered-pricing>.
fn tiered(price: &Price, amounts: Amounts<'_>, quantity: u64) -> Result<Decimal, Beyond> {
    let (Lenient::Known(tiers), Lenient::Known(mode)) = (amounts.tiers, &price.tiers_mode) else {
        return Err(MrrUnknown::Tiers.into());
    };
    let (mut sum, mut below) = (Decimal::ZERO, 0);
    for tier in tiers {
        let tier = tier.as_known().ok_or(MrrUnknown::Tiers)?;
        let up_to = match tier.up_to {
            Lenient::Known(up_to) => up_to,
            Lenient::Absent => u64::MAX,
            Lenient::Odd => return Err(MrrUnknown::Tiers.into()),
        };
        let is_last = quantity <= up_to;
        match mode {
            TiersMode::Volume if is_last => return cost(tier, quantity),
            TiersMode::Volume => {}
            TiersMode::Graduated => {
                let in_tier = quantity.min(up_to).saturating_sub(below);
                let cost = cost(tier, in_tier)?;
                sum = sum.checked_add(cost).ok_or(Beyond::Sum)?;
                if is_last {
                    return Ok(sum);
                }
            }
        }
        below = up_to;
    }
    // More than the last tier has.
    Err(MrrUnknown::Tiers.into())
}

fn cost(tier: &Tier, quantity: u64) -> Result<Decimal, Beyond> {
    let names = ["items.data.price.tiers"; 2];
    let unit = minor(names, &tier.unit_amount_decimal, &tier.unit_amount)?;
    let flat = minor(names, &tier.flat_amount_decimal, &tier.flat_amount)?;
    let units = unit.unwrap_or_default().checked_mul(quantity.into());
    units
        .and_then(|units| units.checked_add(flat.unwrap_or_default()))
        .ok_or(Beyond::Sum)
}

impl From<MrrUnknown> for Beyond {
    fn from(reason: MrrUnknown) -> Self {
        Self::NotKnown(reason)
    }
}
