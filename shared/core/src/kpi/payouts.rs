//! Payouts of one owner.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Ratio;
use super::sums::{by_first, by_two, of_last, volume};
use crate::counters::{Figures, hour_of};

/// Payouts. What takes money back from a bank account (a reversal, or another payout with a negative amount) is
/// none: it has figures of its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Payouts {
    /// By outcome.
    pub payouts: BTreeMap<String, i64>,
    /// Those that ever reached an outcome, by outcome and currency: these never decrease.
    #[serde(skip)]
    pub payouts_reached: Vec<(String, String, i64)>,
    /// Failed share of the payouts that were paid or failed in the last 24 hours; `null` if there
    /// were none.
    pub payout_failure_ratio_24h: Option<f64>,
    /// Volume of payouts paid in the last 30 days, by currency.
    pub payout_volume_minor_30d: BTreeMap<String, i64>,
    /// The same of the 30 days before (C11: month over month).
    pub payout_volume_minor_previous_30d: BTreeMap<String, i64>,
    /// Reversals, by outcome.
    pub payout_reversals: BTreeMap<String, i64>,
    /// What reversals took back in the last 30 days, by currency. It is not subtracted from the volume.
    pub payout_reversed_minor_30d: BTreeMap<String, i64>,
}

/// Failed ÷ (paid + failed) over the payouts whose current outcome was reached in the last `hours`.
pub fn payout_failures(figures: &Figures<'_>, now_s: i64, hours: u32) -> Ratio {
    let failed = of_last(figures, "payouts|failed", hours, now_s);
    let paid = of_last(figures, "payouts|paid", hours, now_s);
    Ratio {
        part: failed,
        total: failed.saturating_add(paid),
    }
}

impl Payouts {
    pub(super) fn compute(figures: &Figures<'_>, now_s: i64) -> Self {
        let now_hour = hour_of(now_s);
        let month_ago = now_hour.saturating_sub(30 * 24);
        let month = month_ago..=now_hour;
        let month_before = now_hour.saturating_sub(60 * 24)..=month_ago.saturating_sub(1);
        Self {
            payouts: by_first(figures, "payouts"),
            payouts_reached: by_two(figures, "payouts_reached"),
            payout_failure_ratio_24h: payout_failures(figures, now_s, 24).value(),
            payout_volume_minor_30d: volume(figures, month.clone(), ["payouts_minor", "paid"]),
            payout_volume_minor_previous_30d: volume(
                figures,
                month_before,
                ["payouts_minor", "paid"],
            ),
            payout_reversals: by_first(figures, "payout_reversals"),
            payout_reversed_minor_30d: volume(figures, month, ["payout_reversals_minor", "paid"]),
        }
    }
}

/// The same under names of their own, for the platform's.
pub(super) mod own {
    use serde::{Serialize, Serializer};

    use super::{BTreeMap, Payouts};

    #[derive(Serialize)]
    struct Own<'a> {
        own_payouts: &'a BTreeMap<String, i64>,
        own_payout_failure_ratio_24h: Option<f64>,
        own_payout_volume_minor_30d: &'a BTreeMap<String, i64>,
        own_payout_volume_minor_previous_30d: &'a BTreeMap<String, i64>,
        own_payout_reversals: &'a BTreeMap<String, i64>,
        own_payout_reversed_minor_30d: &'a BTreeMap<String, i64>,
    }

    pub fn serialize<S: Serializer>(own: &Payouts, serializer: S) -> Result<S::Ok, S::Error> {
        let own = Own {
            own_payouts: &own.payouts,
            own_payout_failure_ratio_24h: own.payout_failure_ratio_24h,
            own_payout_volume_minor_30d: &own.payout_volume_minor_30d,
            own_payout_volume_minor_previous_30d: &own.payout_volume_minor_previous_30d,
            own_payout_reversals: &own.payout_reversals,
            own_payout_reversed_minor_30d: &own.payout_reversed_minor_30d,
        };
        own.serialize(serializer)
    }
}
