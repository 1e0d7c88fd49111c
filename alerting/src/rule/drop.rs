//! `drop`: how much a level has fallen. Pure.

use std::collections::{BTreeMap, BTreeSet};

use revwatch_core::amounts::{Amounts, EARLIER, MoneyDoubt, add};
use revwatch_core::bucket::Bucket;
use revwatch_core::counters::{MRR, MRR_INCOMPLETE, UNKNOWN, name};
use revwatch_core::kpi::Ratio;
use revwatch_core::money::Money;
use serde_json::{Value, json};

use super::condition_or_metric::{MetricRule, RuleKind};
use super::fields::Fields;
use super::kind_description::Kind;
use super::measure::{Measure, MeasureNames};
use super::metric::{Named, metrics};
use super::mrr_bounds::{MrrBounds, minor};
use super::threshold::Bounds;
use super::window::{History, Window};
use crate::alert::Unit;
use crate::metric_value::{MetricQuery, Sample, Samples, number};

/// See [`Drop`].
pub const KIND: Kind = Kind {
    name: "drop",
    fields: &[
        "metric",
        "by",
        "window",
        "absolute",
        "above",
        "clear_below",
        "min_denominator",
        "no_data",
        "for",
        "owner",
        "realm",
    ],
    evaluates: LevelMetric::names,
    sample: "metric = \"mrr\"\nby = \"currency\"\nwindow = \"24h\"\nabove = 0.2",
    read,
};

metrics! {
    /// Levels that are also known for earlier hours.
    LevelMetric {
        /// Monthly recurring revenue.
        Mrr = "mrr" of Billing by ["currency"],
        /// Connected accounts that may accept charges.
        AccountsCharging = "accounts_charging" of Accounts by [],
        /// Active and past-due subscriptions.
        ActiveBase = "active_base" of Billing by [],
        /// Subscriptions with MRR.
        Paying = "paying" of Billing by [],
        /// Customers with a subscription that pays.
        Subscribers = "subscribers" of Billing by [],
    }
}

/// The changes of MRR, by currency.
const MRR_CHANGE: &str = "mrr_change";

/// How much a level has fallen.
#[derive(Debug)]
pub struct Drop {
    metric: LevelMetric,
    /// Compared with the level before it.
    window: Window,
    /// In units instead of as a share of the earlier level.
    absolute: bool,
}

fn read(fields: &mut Fields<'_>) -> Option<RuleKind> {
    let (metric, window) = (fields.metric(), Window::read(fields));
    let absolute = fields.optional("absolute").unwrap_or(false);
    let measure = metric.map(|metric| Drop {
        metric,
        window,
        absolute,
    });
    MetricRule::read(fields, measure)
}

impl Measure for Drop {
    fn names(&self) -> MeasureNames {
        MeasureNames::of(KIND.name, self.metric)
    }

    fn unit(&self) -> Unit {
        match (self.absolute, self.metric) {
            (false, _) => Unit::Share,
            (true, LevelMetric::Mrr) => Unit::Minor,
            (true, _) => Unit::Count,
        }
    }

    fn is_money(&self) -> bool {
        self.metric == LevelMetric::Mrr
    }

    fn bounds(&self) -> Bounds {
        if self.absolute {
            Bounds::Any
        } else {
            Bounds::Share
        }
    }

    fn history(&self) -> History {
        self.window.history(match self.metric {
            LevelMetric::Mrr => MRR_CHANGE,
            LevelMetric::AccountsCharging => "charging_change",
            LevelMetric::ActiveBase | LevelMetric::Paying | LevelMetric::Subscribers => "base",
        })
    }

    fn samples(&self, query: MetricQuery<'_>) -> Samples {
        let same = |name: &[&str]| self.fallen(query, name, name).alone();
        match self.metric {
            LevelMetric::AccountsCharging => self
                .fallen(query, &["accounts_charging"], &["charging_change"])
                .alone(),
            LevelMetric::ActiveBase => same(&["base", "all"]),
            LevelMetric::Paying => same(&["base", "paying"]),
            LevelMetric::Subscribers => same(&["base", "subscribers"]),
            LevelMetric::Mrr => self.mrr(query),
        }
    }

    fn missing(&self) -> Sample {
        nothing_fell()
    }

    fn fields(&self) -> Vec<(&'static str, Value)> {
        let absolute = ("absolute", json!(self.absolute));
        let window = self.window.fields().into_iter();
        // The level before a window, as it is now: nothing is left out.
        let window = window.filter(|(name, _)| *name != "delay");
        window.chain([absolute]).collect()
    }

    fn describe(&self) -> String {
        format!("fall of {} within {}", self.metric(), self.window)
    }
}

impl Drop {
    fn fallen(&self, query: MetricQuery<'_>, current: &[&str], change: &[&str]) -> Sample {
        let (first, last) = query.minutes(self.window, &name(change)).into_inner();
        let before = query.level_before(first, current, change);
        if before <= 0 {
            return nothing_fell();
        }
        let now = query.level_before(last.saturating_add(1), current, change);
        let share = Ratio {
            part: before.saturating_sub(now),
            total: before,
        };
        let value = if self.absolute {
            Some(number(share.part))
        } else {
            share.value()
        };
        Sample {
            value,
            samples: before,
            parts: Some((share.part, share.total)),
            ..Sample::default()
        }
    }

    fn mrr(&self, query: MetricQuery<'_>) -> Samples {
        let figures = query.figures;
        // A currency whose MRR fell to zero exists in the changes only.
        let changed = query.family(self.window, MRR_CHANGE);
        let current = MRR.into_iter();
        let current = current.flat_map(|family| figures.under(Bucket::Current, family));
        let all = changed.map(|(_, rest, _)| rest[0]);
        let all = all.chain(current.map(|(rest, _)| rest[0]));
        let currencies: BTreeSet<&str> = all.filter(|name| *name != UNKNOWN).collect();
        let (first, last) = query.minutes(self.window, MRR_CHANGE).into_inner();
        let before = |currency: &str| MrrBounds::before(query, first, currency);
        let now = |currency: &str| MrrBounds::before(query, last.saturating_add(1), currency);
        let reasons = query.current_mrr(MRR, MRR_INCOMPLETE).doubt.reasons;
        let sample = |currency: &str| {
            let fallen = self.fallen(query, &["mrr", currency], &[MRR_CHANGE, currency]);
            let (before, now) = (before(currency), now(currency));
            match before.fallen_to(now, self.absolute) {
                Some(range) => bounded(currency, range, before, now, &reasons),
                None => Sample {
                    money: Amounts {
                        money: vec![Money::new(fallen.parts.map_or(0, |it| it.0), currency)],
                        ..Amounts::default()
                    },
                    ..fallen
                },
            }
        };
        currencies
            .into_iter()
            .map(|currency| (currency.to_owned(), sample(currency)))
            .collect()
    }
}

/// What fell of MRR that is known only to be between bounds: the value, the parts and the money are the least that
/// is certain.
fn bounded(
    currency: &str,
    range: (f64, f64),
    before: MrrBounds,
    now: MrrBounds,
    reasons: &BTreeMap<String, i64>,
) -> Sample {
    let lost = before.fallen_to(now, true);
    let (least, most) = lost.map_or((None, None), |(least, most)| (minor(least), minor(most)));
    let mut money = Amounts::default();
    // Without a lower bound, it may have risen by any amount.
    if let Some(least) = least {
        add(&mut money.money, &Money::new(least, currency), 1);
    }
    let doubt = match least.zip(most) {
        Some((least, most)) if least == most => MoneyDoubt::default(),
        Some((least, most)) => MoneyDoubt {
            extra_minor: BTreeMap::from([(currency.to_owned(), most.saturating_sub(least))]),
            ..MoneyDoubt::default()
        },
        None => MoneyDoubt {
            unbounded: BTreeMap::from([(currency.to_owned(), 1)]),
            ..MoneyDoubt::default()
        },
    };
    let reasons = match now.range() {
        Some(_) => reasons.clone(),
        None => BTreeMap::from([(EARLIER.to_owned(), 1)]),
    };
    money.doubt = MoneyDoubt { reasons, ..doubt };
    let (low, high) = range;
    Sample {
        value: [low, high].into_iter().find(|end| end.is_finite()),
        // As where nothing was: nothing can drop, however few samples that is.
        samples: match before.low_minor() {
            ..=0 => i64::MAX,
            low_minor => low_minor,
        },
        parts: least.map(|least| (least, before.low_minor())),
        parts_high: Some((most, before.high_minor())),
        money,
        range: Some(range),
        reason: None,
    }
}

/// Where there was nothing, nothing can drop, however few samples that is.
fn nothing_fell() -> Sample {
    Sample {
        value: Some(0.0),
        samples: i64::MAX,
        ..Sample::default()
    }
}
