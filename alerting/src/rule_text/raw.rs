//! A rule as written, and the constraints between its fields.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use revwatch_core::condition::ConditionKind;
use revwatch_core::histogram::PROCESSING_BOUNDS_MS;
use revwatch_core::span::Span;
use revwatch_runtime::config::Clock;
use serde::Deserialize;

use crate::alert::{Side, Unit};
use crate::metric::{
    CountMetric, DurationMetric, GaugeMetric, LevelMetric, Named, RatioMetric, ShareMetric,
};
use crate::rule::{
    ClosedDays, Fall, Measure, MetricRule, NoData, Rule, RuleKind, Severity, SlaOverride,
    Threshold, Window,
};

/// A rule as written. Which fields belong to which kind is checked afterwards, so that the message
/// can name it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    name: String,
    kind: RawKind,
    severity: Severity,
    route: String,
    title: String,
    actions: Vec<String>,
    runbook: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    requirement: Vec<String>,
    #[serde(default)]
    inhibited_by: Vec<String>,
    respond: Option<Span>,
    resolve: Option<Span>,
    clock: Option<Clock>,
    #[serde(rename = "for")]
    hold: Option<Span>,
    keep_firing_for: Option<Span>,
    condition: Option<ConditionKind>,
    after: Option<Span>,
    metric: Option<String>,
    by: Option<String>,
    window: Option<Span>,
    delay: Option<Span>,
    above: Option<f64>,
    below: Option<f64>,
    clear_below: Option<f64>,
    clear_above: Option<f64>,
    min_denominator: Option<i64>,
    no_data: Option<NoData>,
    fresh_within: Option<Span>,
    days: Option<u32>,
    time_zone: Option<String>,
    percentile: Option<RawPercentile>,
    absolute: Option<bool>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum RawKind {
    Condition,
    Ratio,
    Count,
    Gauge,
    Drop,
    Consecutive,
    Percentile,
    Absence,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(untagged)]
enum RawPercentile {
    Percent(i64),
    Mean(Mean),
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Mean {
    Mean,
}

impl RawKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Condition => "condition",
            Self::Ratio => "ratio",
            Self::Count => "count",
            Self::Gauge => "gauge",
            Self::Drop => "drop",
            Self::Consecutive => "consecutive",
            Self::Percentile => "percentile",
            Self::Absence => "absence",
        }
    }
}

/// The longest window: metric values are computed from hours, all of which are read.
const MAX_HOURS: i64 = 24 * 62;

/// Faults; each quotes the field it refers to first.
type Faults = Vec<String>;

/// Records the fault, if there is one.
fn keep<T>(faults: &mut Faults, checked: Result<T, String>) -> Option<T> {
    checked.map_err(|what| faults.push(what)).ok()
}

impl RawRule {
    /// The rule, or all its faults.
    pub(super) fn check(self) -> Result<Rule, Faults> {
        let mut faults = self.text_faults();
        let kind = self.kind(&mut faults);
        match kind.filter(|_| faults.is_empty()) {
            None => Err(faults),
            Some(kind) => Ok(Rule {
                kind,
                severity: self.severity,
                route: self.route,
                labels: self.labels,
                title: self.title,
                actions: self.actions,
                runbook: self.runbook,
                for_s: self.hold.map_or(0, |s| s.0),
                keep_firing_for_s: self.keep_firing_for.map_or(0, |s| s.0),
                fresh_within_s: self.fresh_within.map(|s| s.0),
                sla: SlaOverride {
                    respond_s: self.respond.map(|s| s.0),
                    resolve_s: self.resolve.map(|s| s.0),
                    clock: self.clock,
                },
                inhibited_by: self.inhibited_by,
                requirement: self.requirement,
                name: self.name,
            }),
        }
    }

    /// Faults in texts and times.
    fn text_faults(&self) -> Faults {
        let mut faults = Faults::new();
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if self.name.is_empty() || self.name.len() > 100 || !self.name.chars().all(is_plain) {
            faults.push("`name` must be 1 to 100 lower-case letters, digits and _".into());
        }
        let is_line = |text: &str| !text.trim().is_empty() && !text.contains('\n');
        if !is_line(&self.title) {
            faults.push("`title` must be one line that describes the problem".into());
        }
        if self.actions.is_empty() || !self.actions.iter().all(|action| is_line(action)) {
            faults.push(
                "`actions` must have at least one line; each tells the reader what to do".into(),
            );
        }
        if self.labels.keys().any(|name| name.trim().is_empty()) {
            faults.push("`labels` must have names".into());
        }
        let is_place = |url: &str| url.starts_with("https://") || url.starts_with("docs/");
        if !self.runbook.as_deref().is_none_or(is_place) {
            faults.push(
                "`runbook` must begin with https://, or with docs/ for a page of revwatch".into(),
            );
        }
        for (field, span) in [
            ("fresh_within", self.fresh_within),
            ("respond", self.respond),
            ("resolve", self.resolve),
        ] {
            if span == Some(Span(0)) {
                faults.push(format!("`{field}` must be longer than 0"));
            }
        }
        if let (Some(respond), Some(resolve)) = (self.respond, self.resolve)
            && resolve < respond
        {
            faults.push("`resolve` must not be shorter than `respond`".into());
        }
        faults
    }

    fn kind(&self, faults: &mut Faults) -> Option<RuleKind> {
        const WITH_METRIC: &str = "ratio count gauge drop consecutive percentile absence";
        const WITH_LIMIT: &str = "ratio count gauge drop consecutive percentile";
        const WITH_WINDOW: &str = "ratio count percentile absence drop";
        // Every field that is specific to some kinds, whether it is set, and the kinds that accept
        // it.
        let fields = [
            ("for", self.hold.is_some(), WITH_METRIC),
            ("condition", self.condition.is_some(), "condition"),
            ("after", self.after.is_some(), "condition"),
            ("metric", self.metric.is_some(), WITH_METRIC),
            ("by", self.by.is_some(), "ratio count gauge drop percentile"),
            ("window", self.window.is_some(), WITH_WINDOW),
            (
                "delay",
                self.delay.is_some(),
                "ratio count percentile absence",
            ),
            ("above", self.above.is_some(), WITH_LIMIT),
            (
                "below",
                self.below.is_some(),
                "ratio count gauge percentile consecutive",
            ),
            ("clear_below", self.clear_below.is_some(), WITH_LIMIT),
            (
                "clear_above",
                self.clear_above.is_some(),
                "ratio count gauge percentile consecutive",
            ),
            (
                "min_denominator",
                self.min_denominator.is_some(),
                "ratio percentile drop consecutive",
            ),
            ("no_data", self.no_data.is_some(), WITH_METRIC),
            ("days", self.days.is_some(), "consecutive"),
            ("time_zone", self.time_zone.is_some(), "consecutive"),
            ("percentile", self.percentile.is_some(), "percentile"),
            ("absolute", self.absolute.is_some(), "drop"),
        ];
        let kind = self.kind.as_str();
        let misplaced = fields
            .iter()
            .filter(|(_, set, kinds)| *set && !kinds.split(' ').any(|k| k == kind));
        faults.extend(
            misplaced
                .map(|(field, ..)| format!("`{field}` does not apply to a rule of kind {kind}")),
        );
        if self.kind == RawKind::Condition {
            let condition = keep(
                faults,
                self.condition.ok_or_else(|| self.missing("condition")),
            )?;
            return Some(RuleKind::Condition {
                condition,
                after_s: self.after.map_or(0, |s| s.0),
            });
        }
        let measure = self.measure(faults);
        if let Some(measure) = &measure {
            self.division(measure, faults);
        }
        let threshold = self.threshold(measure.as_ref(), faults);
        Some(RuleKind::Metric(Box::new(MetricRule {
            measure: measure?,
            by: self.by.clone(),
            threshold: threshold?,
            no_data: self.no_data.unwrap_or_default(),
        })))
    }

    fn missing(&self, field: &str) -> String {
        format!("a rule of kind {} needs `{field}`", self.kind.as_str())
    }

    /// A fault is recorded and a placeholder is used, so that the other fields can be checked.
    fn measure(&self, faults: &mut Faults) -> Option<Measure> {
        match self.kind {
            RawKind::Condition => None,
            RawKind::Ratio => {
                let (metric, window) = (
                    keep(faults, self.metric(RatioMetric::ALL)),
                    self.window(faults),
                );
                Some(Measure::Ratio(metric?, window))
            }
            RawKind::Count => {
                let (metric, window) = (
                    keep(faults, self.metric(CountMetric::ALL)),
                    self.window(faults),
                );
                Some(Measure::Count(metric?, window))
            }
            RawKind::Absence => {
                let (metric, window) = (
                    keep(faults, self.metric(CountMetric::ALL)),
                    self.window(faults),
                );
                Some(Measure::Absence(metric?, window))
            }
            RawKind::Gauge => keep(faults, self.metric(GaugeMetric::ALL)).map(Measure::Gauge),
            RawKind::Drop => {
                let (metric, window) = (
                    keep(faults, self.metric(LevelMetric::ALL)),
                    self.window(faults),
                );
                let fall = Fall {
                    hours: window.hours,
                    absolute: self.absolute.unwrap_or(false),
                };
                Some(Measure::Drop(metric?, fall))
            }
            RawKind::Consecutive => {
                let (metric, days) = (
                    keep(faults, self.metric(ShareMetric::ALL)),
                    self.closed_days(faults),
                );
                Some(Measure::Consecutive(metric?, days))
            }
            RawKind::Percentile => {
                let metric: Option<DurationMetric> = keep(faults, self.metric(DurationMetric::ALL));
                let percent = keep(faults, self.percent(metric)).unwrap_or(Some(50));
                let window = self.window(faults);
                Some(Measure::Percentile(metric?, percent, window))
            }
        }
    }

    fn closed_days(&self, faults: &mut Faults) -> ClosedDays {
        let days = self
            .days
            .filter(|d| (1..=31).contains(d))
            .ok_or_else(|| "`days` must be 1 to 31".to_owned());
        let name = self.time_zone.as_deref().unwrap_or("UTC");
        let zone = TimeZone::get(name).map_err(|_| {
            format!("`time_zone` {name:?} is unknown: use a name such as Europe/Lisbon")
        });
        let (days, time_zone) = (keep(faults, days), keep(faults, zone));
        ClosedDays {
            days: days.unwrap_or(1),
            time_zone: time_zone.unwrap_or(TimeZone::UTC),
        }
    }

    /// `None`: the mean.
    fn percent(&self, metric: Option<DurationMetric>) -> Result<Option<i64>, String> {
        match self.percentile {
            None => Err(self.missing("percentile")),
            Some(RawPercentile::Percent(percent)) if (1..=100).contains(&percent) => {
                Ok(Some(percent))
            }
            Some(RawPercentile::Percent(_)) => {
                Err("`percentile` must be 1 to 100, or \"mean\"".into())
            }
            Some(RawPercentile::Mean(Mean::Mean))
                if metric.is_some_and(|metric| !metric.has_mean()) =>
            {
                Err("`percentile` must be 1 to 100: no mean is kept for this metric".into())
            }
            Some(RawPercentile::Mean(Mean::Mean)) => Ok(None),
        }
    }

    fn window(&self, faults: &mut Faults) -> Window {
        let hours = |field: &str, span: Span, min_hours: i64| {
            let whole = span.0 % 3600 == 0 && (min_hours..=MAX_HOURS).contains(&(span.0 / 3600));
            let hours = u32::try_from(span.0 / 3600).ok().filter(|_| whole);
            hours.ok_or_else(|| {
                format!(
                    "`{field}` must be whole hours, from {min_hours}h to {}d",
                    MAX_HOURS / 24
                )
            })
        };
        let window = self
            .window
            .ok_or_else(|| self.missing("window"))
            .and_then(|window| hours("window", window, 1));
        let delay = self.delay.map_or(Ok(0), |delay| hours("delay", delay, 0));
        let (window, delay) = (keep(faults, window), keep(faults, delay));
        Window {
            hours: window.unwrap_or(1),
            delay_hours: delay.unwrap_or(0),
        }
    }

    fn metric<M: Named>(&self, known: &'static [M]) -> Result<M, String> {
        let names: Vec<_> = known.iter().map(|metric| metric.name()).collect();
        let Some(name) = self.metric.as_deref() else {
            return Err(self.missing("metric"));
        };
        let found = known.iter().find(|metric| metric.name() == name);
        found.copied().ok_or_else(|| {
            format!(
                "`metric` {name:?} is unknown here: use one of {}",
                names.join(", ")
            )
        })
    }

    /// Checks the dimension that divides the business.
    fn division(&self, measure: &Measure, faults: &mut Faults) {
        let Some(by) = &self.by else {
            if measure.is_money() {
                let metric = self.metric.as_deref().unwrap_or_default();
                faults.push(format!(
                    "`metric` {metric:?} is money, and amounts of different currencies are never added: set `by = \"currency\"`"
                ));
            }
            return;
        };
        let known = measure.segments();
        if !known.contains(&by.as_str()) {
            let fix = match known {
                [] => "leave it out".to_owned(),
                known => format!("use one of {}", known.join(", ")),
            };
            faults.push(format!("`by` {by:?} is unknown to this metric: {fix}"));
        }
    }

    fn threshold(&self, measure: Option<&Measure>, faults: &mut Faults) -> Option<Threshold> {
        if self.kind == RawKind::Absence {
            return Some(Threshold {
                side: Side::Below,
                limit: 1.0,
                clear: 1.0,
                min_samples: 0,
            });
        }
        let known = faults.len();
        let min_samples = self.min_denominator.unwrap_or(1);
        if min_samples < 1 {
            faults.push("`min_denominator` must be at least 1".into());
        }
        let (side, field, limit, clear) = match (self.above, self.below) {
            (Some(above), None) => (
                Side::Above,
                "above",
                above,
                self.clear_below.unwrap_or(above),
            ),
            (None, Some(below)) => (
                Side::Below,
                "below",
                below,
                self.clear_above.unwrap_or(below),
            ),
            (Some(_), Some(_)) => {
                faults.push("`above` and `below` exclude each other: write two rules".into());
                return None;
            }
            (None, None) => {
                faults.push(self.missing("above"));
                return None;
            }
        };
        match side {
            Side::Above if self.clear_above.is_some() => {
                faults.push("`clear_above` requires `below`".into());
            }
            Side::Below if self.clear_below.is_some() => {
                faults.push("`clear_below` requires `above`".into());
            }
            Side::Above if clear > limit => {
                faults.push("`clear_below` must not be greater than `above`".into());
            }
            Side::Below if clear < limit => {
                faults.push("`clear_above` must not be less than `below`".into());
            }
            _ => {}
        }
        if let Some(measure) = measure
            && let Some(what) = out_of_range(measure, side, field, limit, clear)
        {
            faults.push(what);
        }
        (faults.len() == known).then_some(Threshold {
            side,
            limit,
            clear,
            min_samples,
        })
    }
}

/// A threshold that a metric value can never exceed, or exceeds nearly always.
fn out_of_range(
    measure: &Measure,
    side: Side,
    field: &str,
    limit: f64,
    clear: f64,
) -> Option<String> {
    if !limit.is_finite() || !clear.is_finite() {
        return Some(format!("`{field}` must be a number"));
    }
    if measure.unit() == Unit::Share {
        let possible = match side {
            Side::Above => (0.0..1.0).contains(&limit) && clear >= 0.0,
            Side::Below => limit > 0.0 && limit <= 1.0 && clear <= 1.0,
        };
        return (!possible).then(|| {
            format!("`{field}` of a share is from 0 to 1, and it must be possible: 5 % is 0.05")
        });
    }
    let may_fall = matches!(
        measure,
        Measure::Drop(..) | Measure::Gauge(GaugeMetric::Mrr | GaugeMetric::MrrPastDue)
    );
    if !may_fall && (limit < 0.0 || (side == Side::Below && limit == 0.0)) {
        return Some(format!(
            "`{field}` must be possible: this metric is never below 0"
        ));
    }
    if let Measure::Percentile(DurationMetric::Processing, ..) = measure {
        let bounds: Vec<f64> = PROCESSING_BOUNDS_MS
            .iter()
            .map(|ms| f64::from(*ms) / 1000.0)
            .collect();
        let is_bound = |value: f64| bounds.iter().any(|bound| (bound - value).abs() < 1e-9);
        if !is_bound(limit) || !is_bound(clear) {
            let known = bounds
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ");
            return Some(format!(
                "`{field}` of this metric, and where it clears, must be one of {known} (seconds): it is counted by those"
            ));
        }
    }
    None
}
