//! An amount each month, and why it is not known exactly.

use serde::{Deserialize, Serialize};

/// An amount each month, in minor units: not less than `low_minor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Monthly {
    /// The lower bound.
    pub low_minor: i64,
    /// The upper bound; `None`: there is none.
    pub high_minor: Option<i64>,
    /// Why the two are not the same.
    pub reason: Option<MrrUnknown>,
}

/// Why an amount is not known exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MrrUnknown {
    /// The list of its items, or the rest of it: the event has only the first page.
    Items,
    /// An item, or its price.
    Price,
    /// The unit amount of a price.
    Amount,
    /// How many of an item.
    Quantity,
    /// A coupon that cannot be priced: for example one that a script computes.
    Coupon,
    /// Whether a cancellation is scheduled.
    Cancellation,
    /// The currency, or the amount of a price in it.
    Currency,
    /// The terms of a discount that is only named by its id.
    Discount,
    /// The tiers of a price: events do not have them.
    Tiers,
    /// How much of a price is tax.
    Tax,
    /// To which of the subscription's products a coupon applies.
    Products,
}

impl Monthly {
    /// An amount that is known.
    pub const fn exactly(minor: i64) -> Self {
        Self {
            low_minor: minor,
            high_minor: Some(minor),
            reason: None,
        }
    }

    /// Nothing is known of the amount.
    pub const fn unknown(reason: MrrUnknown) -> Self {
        Self {
            low_minor: 0,
            high_minor: None,
            reason: Some(reason),
        }
    }

    /// At most this, perhaps nothing.
    pub const fn at_most(minor: i64, reason: MrrUnknown) -> Self {
        Self {
            low_minor: 0,
            high_minor: Some(minor),
            reason: Some(reason),
        }
    }

    /// The amount, if it is known exactly.
    pub fn known(self) -> Option<i64> {
        let is_exact = self.high_minor == Some(self.low_minor) && self.reason.is_none();
        is_exact.then_some(self.low_minor)
    }

    /// How much more than the lower bound it may be, if that is bounded, and 1 if it is not.
    pub fn beyond_low(self) -> (i64, i64) {
        match self.high_minor {
            Some(high_minor) => (high_minor.saturating_sub(self.low_minor), 0),
            None => (0, 1),
        }
    }

    /// Whether it may be more than nothing.
    pub fn may_be_positive(self) -> bool {
        self.high_minor.is_none_or(|minor| minor > 0)
    }
}

impl MrrUnknown {
    /// All.
    pub const ALL: [Self; 11] = [
        Self::Items,
        Self::Price,
        Self::Amount,
        Self::Quantity,
        Self::Coupon,
        Self::Cancellation,
        Self::Currency,
        Self::Discount,
        Self::Tiers,
        Self::Tax,
        Self::Products,
    ];

    /// What is not known.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Items => "events have only the first page of its items",
            Self::Price => "a price cannot be read",
            Self::Amount => "the amount of a price cannot be read",
            Self::Quantity => "a quantity cannot be read",
            Self::Coupon => "a coupon cannot be priced",
            Self::Cancellation => "whether its cancellation is scheduled cannot be read",
            Self::Currency => "its currency, or what a price costs in it, is not known",
            Self::Discount => "a discount is named only by its id",
            Self::Tiers => "events do not have the tiers of a price",
            Self::Tax => "how much of a price is tax is not known",
            Self::Products => "events do not have the products to which a coupon applies",
        }
    }

    /// The word that counters, metrics and JSON use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Items => "items",
            Self::Price => "price",
            Self::Amount => "amount",
            Self::Quantity => "quantity",
            Self::Coupon => "coupon",
            Self::Cancellation => "cancellation",
            Self::Currency => "currency",
            Self::Discount => "discount",
            Self::Tiers => "tiers",
            Self::Tax => "tax",
            Self::Products => "products",
        }
    }
}
