//! What messages show of the problem: the metric value, the money, who is concerned, and the events.

use serde::{Deserialize, Serialize};

use crate::amounts::{Amounts, MoneyDoubt};
use crate::condition::Condition;
use crate::money::Money;

/// What a message shows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The value compared, for rules on metrics.
    #[serde(default, alias = "figure", skip_serializing_if = "Option::is_none")]
    pub metric_value: Option<MetricValue>,
    /// The money concerned, one entry per currency: at least this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub money: Vec<Money>,
    /// How much more it may be.
    #[serde(default, skip_serializing_if = "MoneyDoubt::is_none")]
    pub money_doubt: MoneyDoubt,
    /// The connected account concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The customer concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// Stripe's reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Unix seconds from which the condition counts for the rule, if that has moved into the future.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_s: Option<i64>,
    /// Its recent values, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trend: Vec<Point>,
    /// It began at an unknown time before that of the alert.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub began_before: bool,
    /// How many times it has happened, as far as those who know of it were notified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Unix seconds by which it must be answered at Stripe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_by_s: Option<i64>,
    /// Unix seconds at which the trial ends that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_end_s: Option<i64>,
    /// The events that show it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_ids: Vec<String>,
}

/// The value of a metric, and what it was compared with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MetricValue {
    /// The value.
    pub value: f64,
    /// The limit that it must not be above (or below).
    pub threshold: f64,
    /// The side of the threshold on which the problem is.
    pub side: Side,
    /// How to print it.
    pub unit: Unit,
    /// Between which values it is, if it is not exactly known; `None`: there is no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<(Option<f64>, Option<f64>)>,
    /// A share's parts: how many, of how many; at least so many, if that is not exactly known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<(i64, i64)>,
    /// At most so many, if that is not exactly known; `None`: there is no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts_high: Option<(Option<i64>, Option<i64>)>,
    /// The parts are amounts, in the smallest unit of the segment's currency.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub are_parts_money: bool,
}

/// The side of a threshold on which the problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Too much.
    Above,
    /// Too little.
    Below,
}

/// How a metric value is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// 0.05 is 5 %.
    Share,
    /// A number of occurrences.
    Count,
    /// A duration.
    Seconds,
    /// The smallest unit of the segment's currency.
    Minor,
}

/// One point of a trend.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Unix seconds.
    pub at_s: i64,
    /// In the metric's unit; `None`: too little was known.
    pub value: Option<f64>,
}

impl Evidence {
    /// The money concerned.
    pub fn amounts(&self) -> Amounts {
        Amounts {
            money: self.money.clone(),
            doubt: self.money_doubt.clone(),
        }
    }

    /// Sets the money concerned.
    pub fn set_amounts(&mut self, amounts: Amounts) {
        (self.money, self.money_doubt) = (amounts.money, amounts.doubt);
    }

    /// Adds `times` an amount to the money concerned.
    pub fn add_amounts(&mut self, amounts: &Amounts, times: i64) {
        let mut sum = self.amounts();
        sum.add(amounts, times);
        self.set_amounts(sum);
    }
}

impl From<&Condition> for Evidence {
    fn from(condition: &Condition) -> Self {
        let Amounts { money, doubt } = Amounts::from(condition);
        Self {
            money,
            money_doubt: doubt,
            account: condition.account.clone(),
            customer: condition.customer.clone(),
            detail: condition.detail.clone(),
            began_before: condition.began_before.is_some(),
            times: condition.times,
            answer_by_s: condition.answer_by_s,
            trial_end_s: condition.trial_end_s,
            // Of a beginning that is long ago, the id may have been forgotten.
            event_ids: Some(condition.event_id.clone())
                .into_iter()
                .filter(|id| !id.is_empty())
                .collect(),
            ..Self::default()
        }
    }
}
