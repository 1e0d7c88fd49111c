//! The expected result of a history: the values that `revwatch metrics --json` shows.

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub(crate) type Counts = BTreeMap<String, i64>;

/// The expected state. Values that a history does not cover stay empty, and are expected to be
/// empty.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Expected {
    pub(crate) subscriptions: Counts,
    pub(crate) mrr_minor: Counts,
    pub(crate) mrr_past_due_minor: Counts,
    pub(crate) invoices: Counts,
    pub(crate) invoices_open_minor: Counts,
    pub(crate) retry_queue_minor: Counts,
    pub(crate) invoices_uncollected_minor: Counts,
    pub(crate) payouts: Counts,
    pub(crate) payment_intents: Counts,
    pub(crate) payment_attempts: Counts,
    pub(crate) disputes: Counts,
    pub(crate) refunds: Counts,
    pub(crate) transfers: Counts,
    pub(crate) accounts: Counts,
    pub(crate) funnel: Counts,
    pub(crate) charging_accounts: i64,
    /// Numerator and denominator by the name of the metric, for metrics that the history covers.
    pub(crate) rates: BTreeMap<&'static str, Share>,
}

/// A ratio; without a denominator no ratio is shown.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) part: u32,
    pub(crate) total: u32,
}

impl Share {
    pub(crate) fn count(&mut self, is_part: bool) {
        self.total += 1;
        self.part += u32::from(is_part);
    }

    fn shown(self) -> Value {
        if self.total == 0 {
            Value::Null
        } else {
            (f64::from(self.part) / f64::from(self.total)).into()
        }
    }
}

pub(super) fn add(counts: &mut Counts, name: &str, by: i64) {
    *counts.entry(name.to_owned()).or_default() += by;
}

impl Expected {
    /// The covered part of `revwatch metrics --json`.
    pub(crate) fn assert_shown(&self, shown: &Value) {
        for (key, counts) in [
            ("subscriptions", &self.subscriptions),
            ("mrr_minor", &self.mrr_minor),
            ("mrr_past_due_minor", &self.mrr_past_due_minor),
            ("invoices", &self.invoices),
            ("invoices_open_minor", &self.invoices_open_minor),
            ("retry_queue_minor", &self.retry_queue_minor),
            (
                "invoices_uncollected_minor",
                &self.invoices_uncollected_minor,
            ),
            ("payouts", &self.payouts),
            ("payment_intents", &self.payment_intents),
            ("payment_attempts", &self.payment_attempts),
            ("disputes", &self.disputes),
            ("refunds", &self.refunds),
            ("transfers", &self.transfers),
            ("accounts", &self.accounts),
            ("funnel", &self.funnel),
        ] {
            // A sum that is zero is not shown.
            let counts: BTreeMap<_, _> = counts.iter().filter(|(_, count)| **count != 0).collect();
            assert_eq!(shown[key], json!(counts), "{key}");
        }
        assert_eq!(
            shown["accounts_charging"], self.charging_accounts,
            "accounts_charging"
        );
        for (key, share) in &self.rates {
            assert_eq!(shown[key], share.shown(), "{key}: {share:?}");
        }
    }
}
