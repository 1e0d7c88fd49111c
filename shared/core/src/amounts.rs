//! Amounts of money that are perhaps known only between bounds, or not at all.
//!
//! Invariant: amounts of different currencies are never added.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::condition::Condition;
use crate::counters::UNKNOWN;
use crate::entity::recurring::{Monthly, MrrUnknown};
use crate::money::Money;
use crate::redact;

/// The reason of an amount that the event does not have, or that cannot be read.
pub const NOT_READABLE: &str = "not_readable";

/// The reason of a sum that is too large to be known.
pub const TOO_LARGE: &str = "too_large";

/// The reason of a fall from an amount that was not exactly known.
pub const EARLIER: &str = "earlier";

/// Sums of money, one for each currency.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amounts {
    /// At least this.
    pub money: Vec<Money>,
    /// How much more it may be.
    pub doubt: MoneyDoubt,
}

/// How much more sums of money may be than what is known of them, and why. It adds up, as they do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoneyDoubt {
    /// At most so much more, by currency.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_minor: BTreeMap<String, i64>,
    /// How many amounts have no upper bound, by currency, which may be unknown.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unbounded: BTreeMap<String, i64>,
    /// How many amounts are not exactly known, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<String, i64>,
}

/// One amount that is not exactly known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UncertainMoney {
    /// Lower case; `None`: it is not known.
    pub currency: Option<String>,
    /// In minor units: at least this.
    pub low_minor: i64,
    /// At most this; `None`: there is no bound.
    pub high_minor: Option<i64>,
    /// Why, in a word that [`in_words`] explains.
    pub reason: String,
}

impl UncertainMoney {
    /// An amount of an event; `None`: it is exactly known. At most `high_minor`, if that is known.
    pub fn read(
        minor: Option<i64>,
        high_minor: Option<i64>,
        currency: Option<&str>,
    ) -> Option<Self> {
        let is_known = minor.is_some() && currency.is_some();
        (!is_known).then(|| Self {
            currency: currency.map(str::to_owned),
            low_minor: minor.unwrap_or(0),
            high_minor: minor.or(high_minor),
            reason: NOT_READABLE.to_owned(),
        })
    }

    /// What is charged each month; `None`: it is exactly known.
    pub fn monthly(monthly: Monthly, currency: Option<&str>) -> Option<Self> {
        let lacks_currency = currency.is_none() && monthly.may_be_positive();
        let reason = monthly
            .reason
            .or(lacks_currency.then_some(MrrUnknown::Currency))?;
        Some(Self {
            currency: currency.map(str::to_owned),
            low_minor: monthly.low_minor,
            high_minor: monthly.high_minor,
            reason: reason.as_str().to_owned(),
        })
    }
}

impl MoneyDoubt {
    /// Whether all is known.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Adds `times` another one.
    pub fn add(&mut self, other: &Self, times: i64) {
        let sums = [
            (&mut self.extra_minor, &other.extra_minor),
            (&mut self.unbounded, &other.unbounded),
            (&mut self.reasons, &other.reasons),
        ];
        for (sums, others) in sums {
            for (name, value) in others {
                let sum = sums.entry(name.clone()).or_default();
                *sum = sum.saturating_add(value.saturating_mul(times));
            }
            sums.retain(|_, sum| *sum != 0);
        }
    }

    /// As it may be logged: text that is no currency is replaced.
    pub fn redact(&mut self) {
        for sums in [&mut self.extra_minor, &mut self.unbounded] {
            let named = std::mem::take(sums).into_iter();
            *sums = named
                .map(|(name, sum)| (redact::name(&name).into_owned(), sum))
                .collect();
        }
    }

    /// Why, in words; the most frequent reason first.
    pub fn why(&self) -> String {
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let text = |(reason, count): (&String, &i64)| match *count {
            1 => in_words(reason).to_owned(),
            count => format!("{count} × {}", in_words(reason)),
        };
        reasons.into_iter().map(text).collect::<Vec<_>>().join("; ")
    }
}

impl Amounts {
    /// Adds `times` others.
    pub fn add(&mut self, others: &Self, times: i64) {
        for amount in &others.money {
            add(&mut self.money, amount, times);
        }
        self.doubt.add(&others.doubt, times);
    }

    /// Adds one that is not exactly known.
    pub fn add_uncertain(&mut self, one: &UncertainMoney) {
        let currency = one.currency.as_deref();
        let mut doubt = MoneyDoubt::default();
        doubt.reasons.insert(one.reason.clone(), 1);
        let low = Money::known(Some(one.low_minor), currency);
        match (&low, one.high_minor) {
            (Some(_), Some(high_minor)) => {
                let extra_minor = high_minor.saturating_sub(one.low_minor);
                doubt
                    .extra_minor
                    .insert(currency.unwrap_or(UNKNOWN).to_owned(), extra_minor);
            }
            _ => drop(
                doubt
                    .unbounded
                    .insert(currency.unwrap_or(UNKNOWN).to_owned(), 1),
            ),
        }
        let money = low.filter(|low| low.minor != 0).into_iter().collect();
        self.add(&Self { money, doubt }, 1);
    }

    /// One text for each currency, for instance `USD 5.00`, `USD 5.00 to USD 8.00` or `at least USD 5.00`.
    pub fn texts(&self) -> Vec<String> {
        let bounds = self.bounds();
        let is_alone = bounds.len() == 1;
        let text =
            |(currency, low_minor, high_minor): (Option<&str>, i64, Option<i64>)| match currency {
                Some(currency) if low_minor != 0 || high_minor.is_some() => {
                    between(currency, low_minor, high_minor)
                }
                _ if is_alone => "unknown".to_owned(),
                Some(currency) => format!("{} unknown", currency.to_ascii_uppercase()),
                None => "an unknown amount".to_owned(),
            };
        bounds.into_iter().map(text).collect()
    }

    /// For JSON: of each currency what is known at least and at most, and under `key` the amount, if both are the same.
    pub fn json(&self, key: &str) -> Vec<Value> {
        let bounds = self.bounds().into_iter();
        bounds
            .map(|(currency, low_minor, high_minor)| {
                let amount_minor = high_minor.filter(|high_minor| *high_minor == low_minor);
                json!({
                    "currency": currency, key: amount_minor, "low_minor": low_minor, "high_minor": high_minor,
                })
            })
            .collect()
    }

    /// Currency, lower and upper bound; without a currency, those of which none is known.
    fn bounds(&self) -> Vec<(Option<&str>, i64, Option<i64>)> {
        let MoneyDoubt {
            extra_minor,
            unbounded,
            ..
        } = &self.doubt;
        let money: Vec<&String> = self.money.iter().map(|money| &money.currency).collect();
        let others: BTreeSet<&String> = extra_minor.keys().chain(unbounded.keys()).collect();
        let others = others.into_iter().filter(|it| !money.contains(it));
        let currencies: Vec<&String> = money.iter().copied().chain(others).collect();
        let bounds = currencies.into_iter().map(|currency| {
            let mut sums = self.money.iter().filter(|it| it.currency == *currency);
            let low_minor = sums.next().map_or(0, |money| money.minor);
            let extra_minor = extra_minor.get(currency).copied().unwrap_or(0);
            let high_minor = low_minor.saturating_add(extra_minor);
            let is_bounded = !unbounded.contains_key(currency);
            let currency = Some(currency.as_str()).filter(|currency| *currency != UNKNOWN);
            (currency, low_minor, is_bounded.then_some(high_minor))
        });
        bounds.collect()
    }
}

/// For instance `USD 5.00 + EUR 2.00 to EUR 3.00: a discount is named only by its id`.
impl std::fmt::Display for Amounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.texts().join(" + "))?;
        match self.doubt.why() {
            why if why.is_empty() => Ok(()),
            why => write!(f, ": {why}"),
        }
    }
}

impl From<&Condition> for Amounts {
    fn from(condition: &Condition) -> Self {
        let mut amounts = Self {
            money: condition.all_money().cloned().collect(),
            ..Self::default()
        };
        if let Some(uncertain) = &condition.uncertain {
            amounts.add_uncertain(uncertain);
        }
        amounts
    }
}

/// Adds `times` an amount to the sum of its currency.
pub fn add(sums: &mut Vec<Money>, amount: &Money, times: i64) {
    let minor = amount.minor.saturating_mul(times);
    match sums.iter_mut().find(|m| m.currency == amount.currency) {
        Some(sum) => sum.minor = sum.minor.saturating_add(minor),
        None => sums.push(Money::new(minor, &amount.currency)),
    }
    sums.retain(|m| m.minor != 0);
    sums.sort_by(|a, b| a.currency.cmp(&b.currency));
}

/// For instance `USD 5.00`, `USD 5.00 to USD 8.00`, or `at least USD 5.00` without an upper bound.
pub fn between(currency: &str, low_minor: i64, high_minor: Option<i64>) -> String {
    let low = Money::new(low_minor, currency);
    match high_minor {
        Some(high_minor) if high_minor == low_minor => low.to_string(),
        Some(high_minor) => format!("{low} to {}", Money::new(high_minor, currency)),
        None => format!("at least {low}"),
    }
}

/// Why an amount is not exactly known, in words.
pub fn in_words(reason: &str) -> &str {
    match reason {
        NOT_READABLE => return "the event has no readable amount or currency",
        TOO_LARGE => return "the sum is too large to be known",
        EARLIER => return "how much it was before is not exactly known",
        _ => {}
    }
    let known = MrrUnknown::ALL.into_iter();
    let mut known = known.filter(|it| it.as_str() == reason);
    known.next().map_or(reason, |it| it.in_words())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uncertain(currency: Option<&str>, low_minor: i64, high_minor: Option<i64>) -> Amounts {
        let mut amounts = Amounts::default();
        amounts.add_uncertain(&UncertainMoney {
            currency: currency.map(str::to_owned),
            low_minor,
            high_minor,
            reason: "discount".into(),
        });
        amounts
    }

    #[test]
    fn an_amount_is_shown_with_what_is_known_of_it_and_why_it_is_not_exact() {
        for (amounts, expected) in [
            (
                uncertain(Some("eur"), 4000, Some(12_000)),
                "EUR 40.00 to EUR 120.00",
            ),
            (
                uncertain(Some("eur"), 0, Some(8000)),
                "EUR 0.00 to EUR 80.00",
            ),
            (uncertain(Some("eur"), 4000, None), "at least EUR 40.00"),
            (uncertain(Some("eur"), 0, None), "unknown"),
            (uncertain(None, 500, Some(500)), "unknown"),
        ] {
            let why = "a discount is named only by its id";
            assert_eq!(amounts.to_string(), format!("{expected}: {why}"));
        }
        let exact = Amounts {
            money: vec![Money::new(500, "jpy")],
            ..Amounts::default()
        };
        assert_eq!(exact.to_string(), "JPY 500");
    }

    #[test]
    fn what_is_not_known_adds_up_and_nothing_is_left_of_it() {
        let exact = Amounts {
            money: vec![Money::new(100, "usd")],
            ..Amounts::default()
        };
        let all = [
            uncertain(Some("usd"), 100, Some(300)),
            uncertain(Some("eur"), 0, None),
            uncertain(None, 0, None),
            exact,
        ];
        let mut sum = Amounts::default();
        all.iter().for_each(|amounts| sum.add(amounts, 1));
        assert_eq!(
            sum.to_string(),
            "USD 2.00 to USD 4.00 + EUR unknown + an unknown amount: 3 × a discount is named only by its id"
        );
        let json = json!([
            {"currency": "usd", "amount_minor": null, "low_minor": 200, "high_minor": 400},
            {"currency": "eur", "amount_minor": null, "low_minor": 0, "high_minor": null},
            {"currency": null, "amount_minor": null, "low_minor": 0, "high_minor": null},
        ]);
        assert_eq!(Value::from(sum.json("amount_minor")), json);
        sum.add(&all[1], -1);
        sum.add(&all[2], -1);
        sum.add(&all[0], -1);
        assert_eq!(sum, all[3]);
    }

    #[test]
    fn every_reason_has_words() {
        let codes = MrrUnknown::ALL.map(MrrUnknown::as_str);
        for code in codes.into_iter().chain([NOT_READABLE, EARLIER]) {
            assert!(in_words(code).contains(' '), "{code}");
        }
        assert_eq!(in_words("of_a_later_version"), "of_a_later_version");
    }

    #[test]
    fn amounts_add_up_by_currency_and_nothing_is_left_of_zero() {
        let mut sums = Vec::new();
        add(&mut sums, &Money::new(5, "usd"), 1);
        add(&mut sums, &Money::new(7, "eur"), 2);
        assert_eq!(sums, [Money::new(14, "eur"), Money::new(5, "usd")]);
        add(&mut sums, &Money::new(5, "usd"), -1);
        assert_eq!(sums, [Money::new(14, "eur")]);
    }
}
