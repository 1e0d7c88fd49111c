//! What an account could be paid out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::money::{Money, decimals};

/// The available balance in one event. The newest is the greatest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Balance {
    /// The event: Unix seconds and id.
    pub last_event: (i64, String),
    /// Minor units by currency.
    pub available_minor: BTreeMap<String, i64>,
}

/// The detail of a condition that depends on it.
pub const BALANCE_UNKNOWN: &str = "the balance is unknown";

/// What may wait without anybody being reminded of it: 100.00 of each currency (C9).
const SMALL: i64 = 100;

impl Balance {
    /// The amounts that are more than a small one.
    pub fn large(&self) -> Vec<Money> {
        let amounts = self.available_minor.iter();
        let amounts = amounts.map(|(currency, minor)| Money::new(*minor, currency));
        let is_large = |money: &Money| {
            let places = u32::try_from(decimals(&money.currency)).unwrap_or(0);
            money.minor > SMALL.saturating_mul(10_i64.saturating_pow(places))
        };
        amounts.filter(is_large).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_a_hundred_of_a_currency_is_large() {
        let minor = [
            ("usd", 10_000),
            ("eur", 10_001),
            ("jpy", 101),
            ("kwd", 100_000),
            ("brl", -1),
        ];
        let balance = Balance {
            last_event: (1, "evt_1".to_owned()),
            available_minor: minor
                .map(|(currency, minor)| (currency.to_owned(), minor))
                .into(),
        };
        let large = balance.large();
        assert_eq!(large, [Money::new(10_001, "eur"), Money::new(101, "jpy")]);
    }
}
