//! Amounts in a currency's smallest unit, as Stripe sends them, and their display with the
//! currency.
//!
//! Invariant: amounts of different currencies are never added.

use serde::{Deserialize, Serialize};

/// An amount in the currency's smallest unit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Money {
    /// Minor units: cents, or whole units in a zero-decimal currency.
    pub minor: i64,
    /// Stripe's three-letter code, lower case.
    pub currency: String,
}

impl Money {
    /// `currency` in any case.
    pub fn new(minor: i64, currency: &str) -> Self {
        Self {
            minor,
            currency: currency.to_ascii_lowercase(),
        }
    }

    /// An amount is no money without its currency.
    pub fn known(minor: Option<i64>, currency: Option<&str>) -> Option<Self> {
        let (minor, currency) = minor.zip(currency)?;
        Some(Self::new(minor, currency))
    }
}

/// How many decimals Stripe's amounts in this currency have. Not ISO 4217: Stripe has its own list.
/// Source: <https://docs.stripe.com/currencies#zero-decimal>, `#three-decimal`, `#special-cases`.
pub fn decimals(currency: &str) -> usize {
    match currency.to_ascii_lowercase().as_str() {
        "bif" | "clp" | "djf" | "gnf" | "jpy" | "kmf" | "krw" | "mga" | "pyg" | "rwf" | "vnd"
        | "vuv" | "xaf" | "xof" | "xpf" => 0,
        "bhd" | "jod" | "kwd" | "omr" | "tnd" => 3,
        _ => 2,
    }
}

/// For example `USD 1,234.50`, `JPY 500`; ISK and UGX are sent in hundredths and shown in whole units.
/// Source: <https://docs.stripe.com/currencies#special-cases>.
impl std::fmt::Display for Money {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let decimals = decimals(&self.currency);
        let digits = format!(
            "{:0width$}",
            self.minor.unsigned_abs(),
            width = decimals.saturating_add(1)
        );
        let (whole, fraction) = digits.split_at(digits.len().saturating_sub(decimals));
        write!(f, "{} ", self.currency.to_ascii_uppercase())?;
        if self.minor < 0 {
            f.write_str("-")?;
        }
        let left = (1..=whole.len()).rev();
        for (left, digit) in left.zip(whole.chars()) {
            if left < whole.len() && left.is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        let is_whole = fraction.bytes().all(|digit| digit == b'0');
        let has_no_fractions = matches!(self.currency.as_str(), "isk" | "ugx") && is_whole;
        if fraction.is_empty() || has_no_fractions {
            return Ok(());
        }
        write!(f, ".{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_formatted_by_its_currency() {
        let table = [
            (123_450, "usd", "USD 1,234.50"),
            (5, "EUR", "EUR 0.05"),
            (0, "brl", "BRL 0.00"),
            (-250, "usd", "USD -2.50"),
            (500, "jpy", "JPY 500"),
            (1_234_567, "krw", "KRW 1,234,567"),
            (1_500, "kwd", "KWD 1.500"),
            (150_000, "ugx", "UGX 1,500"),
            (150_050, "ugx", "UGX 1,500.50"),
            (500_000, "isk", "ISK 5,000"),
            (15_000_000_000_000, "idr", "IDR 150,000,000,000.00"),
            (2_500, "usdc", "USDC 25.00"),
            (i64::MIN, "usd", "USD -92,233,720,368,547,758.08"),
        ];
        for (minor, currency, expected) in table {
            assert_eq!(Money::new(minor, currency).to_string(), expected);
        }
    }
}
