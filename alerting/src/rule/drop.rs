//! `drop`: how much a level has fallen. Pure.

use std::collections::BTreeSet;

use revwatch_core::counters::{Bucket, UNKNOWN};
use revwatch_core::kpi::Ratio;
use revwatch_core::money::Money;

use super::condition_or_metric::{MetricRule, RuleKind};
use super::fields::Fields;
use super::kind_description::Kind;
use super::measure::{Measure, MeasureNames};
use super::metric::{Named, metrics};
use super::mrr_bounds::MrrBounds;
use super::threshold::Bounds;
use super::window::{History, Window, hours_span, trend_step_hours};
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
    }
}

/// How much a level has fallen.
#[derive(Debug)]
pub struct Drop {
    metric: LevelMetric,
    /// Compared with the level this many hours ago.
    hours: u32,
    /// In units instead of as a share of the earlier level.
    absolute: bool,
}

fn read(fields: &mut Fields<'_>) -> Option<RuleKind> {
    let (metric, window) = (fields.metric(), Window::read(fields));
    let absolute = fields.optional("absolute").unwrap_or(false);
    let measure = metric.map(|metric| Drop {
        metric,
        hours: window.hours,
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
        History {
            hours: self.hours,
            trend_step_hours: Some(trend_step_hours(self.hours)),
            edges_hours: vec![self.hours],
        }
    }

    fn samples(&self, query: MetricQuery<'_>) -> Samples {
        let same = |name: &[&str]| self.fallen(query, name, name).alone();
        match self.metric {
            LevelMetric::AccountsCharging => self
                .fallen(query, &["accounts_charging"], &["charging_change"])
                .alone(),
            LevelMetric::ActiveBase => same(&["base", "all"]),
            LevelMetric::Paying => same(&["base", "paying"]),
            LevelMetric::Mrr => self.mrr(query),
        }
    }

    fn missing(&self) -> Sample {
        nothing_fell()
    }

    fn describe(&self) -> String {
        format!(
            "fall of {} within {}",
            self.metric(),
            hours_span(self.hours)
        )
    }
}

impl Drop {
    fn before_hour(&self, query: MetricQuery<'_>) -> u32 {
        query.hour.saturating_sub(self.hours)
    }

    fn fallen(&self, query: MetricQuery<'_>, current: &[&str], change: &[&str]) -> Sample {
        let before = query.level_at(self.before_hour(query), current, change);
        if before <= 0 {
            return nothing_fell();
        }
        let now = query.level_at(query.hour, current, change);
        let share = Ratio {
            part: before.saturating_sub(now),
            total: before,
        };
        let value = if self.absolute {
            Some(number(before.saturating_sub(now)))
        } else {
            share.value()
        };
        Sample {
            value,
            samples: before,
            parts: Some((now, before)),
            ..Sample::default()
        }
    }

    fn mrr(&self, query: MetricQuery<'_>) -> Samples {
        let figures = query.figures;
        // A currency whose MRR fell to zero exists in the changes only.
        let changed = (self.before_hour(query)..=query.now_hour())
            .flat_map(|hour| figures.under(Bucket::Hour(hour), "mrr_change"));
        let current = ["mrr", "mrr_extra", "mrr_unbounded"];
        let current = current.into_iter();
        let current = current.flat_map(|family| figures.under(Bucket::Current, family));
        let all = current
            .chain(changed)
            .filter(|(rest, _)| rest[0] != UNKNOWN);
        let currencies: BTreeSet<&str> = all.map(|(rest, _)| rest[0]).collect();
        let before = |currency: &str| MrrBounds::at(query, self.before_hour(query), currency);
        let now = |currency: &str| MrrBounds::at(query, query.hour, currency);
        let sample = |currency: &str| {
            let fallen = self.fallen(query, &["mrr", currency], &["mrr_change", currency]);
            let lost = fallen
                .parts
                .map_or(0, |(now, before)| before.saturating_sub(now));
            Sample {
                money: vec![Money::new(lost, currency)],
                range: before(currency).fallen_to(now(currency), self.absolute),
                ..fallen
            }
        };
        currencies
            .into_iter()
            .map(|currency| (currency.to_owned(), sample(currency)))
            .collect()
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
