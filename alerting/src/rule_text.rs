//! How rules are written: TOML, every field checked, every fault named with its line and column. Pure:
//! [`crate::rules_file`] reads the files.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::tz::TimeZone;
use revwatch_shared::condition::ConditionKind;
use revwatch_shared::config::Clock;
use revwatch_shared::span::Span;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::alert::{Side, Unit};
use crate::metric::{CountMetric, DurationMetric, GaugeMetric, LevelMetric, Named, RatioMetric, ShareMetric};
use crate::rule::{
    ClosedDays, Fall, FigureRule, Measure, NoData, Rule, RuleKind, Severity, SlaOverride, Threshold, Window,
};

/// The rules that revwatch ships with.
pub const DEFAULT_RULES: &str = include_str!("../../deploy/rules/default.toml");

/// A rule file's name, for messages, and its text.
pub type NamedText = (String, String);

/// Rule files that say what is no rule: every fault with file, line and column.
#[derive(Debug, thiserror::Error)]
#[error("{}", faults.join("\n"))]
pub struct InvalidRules {
    /// One line each, in the order of the files.
    pub faults: Vec<String>,
}

/// The rules of [`DEFAULT_RULES`].
pub fn built_in() -> Result<Vec<Rule>, InvalidRules> {
    parse(&[("built-in rules".to_owned(), DEFAULT_RULES.to_owned())])
}

/// Parses rule files. Names of rules are unique over all of them, and there is at least one rule.
pub fn parse(files: &[NamedText]) -> Result<Vec<Rule>, InvalidRules> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut faults = Vec::new();
    // Where each rule's `inhibited_by` stands: whether its names exist is known at the end.
    let mut explained: Vec<(&NamedText, Range<usize>, Rule)> = Vec::new();
    for file in files {
        let mut fault = |span: Option<Range<usize>>, what: &str| faults.push(placed(file, span, what));
        let (table, errors) = DeTable::parse_recoverable(&file.1);
        for error in &errors {
            fault(error.span(), error.message());
        }
        for (key, value) in table.get_ref() {
            if key.get_ref() != "rule" {
                fault(Some(key.span()), &format!("unknown field `{}`, expected [[rule]]", key.get_ref()));
            } else if !value.get_ref().is_array() {
                fault(Some(value.span()), "rules are written as [[rule]]");
            }
        }
        let items = table.get_ref().get("rule").and_then(|value| value.get_ref().as_array());
        for item in items.into_iter().flatten() {
            let Some(rule) = read(item, &mut fault) else { continue };
            if rules.iter().any(|r| r.name == rule.name) {
                fault(Some(item.span()), &format!("there are two rules named {:?}", rule.name));
                continue;
            }
            if !rule.inhibited_by.is_empty() {
                explained.push((file, item.span(), rule.clone()));
            }
            rules.push(rule);
        }
    }
    for (file, span, rule) in explained {
        for name in rule.inhibited_by.iter().filter(|name| !rules.iter().any(|r| r.name == **name)) {
            faults.push(placed(file, Some(span.clone()), &format!("inhibited_by names {name:?}, which is no rule")));
        }
    }
    if rules.is_empty() && faults.is_empty() {
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        faults.push(format!("no [[rule]] in {}", names.join(", ")));
    }
    if faults.is_empty() { Ok(rules) } else { Err(InvalidRules { faults }) }
}

/// Reads one rule, naming every fault: what cannot be read is taken out, and the rest is looked at again.
fn read(item: &Spanned<DeValue<'_>>, fault: &mut dyn FnMut(Option<Range<usize>>, &str)) -> Option<Rule> {
    let mut rest = item.clone();
    let mut is_whole = true;
    loop {
        match RawRule::deserialize(ValueDeserializer::from(rest.clone())) {
            Ok(raw) => {
                // Only where all was readable: else the complaint would be about what was taken out.
                let checked = is_whole.then(|| raw.check())?;
                return checked.map_err(|what| fault(Some(place_of(item, &what)), &what)).ok();
            }
            Err(error) => {
                let span = error.span();
                let taken = span.as_ref().and_then(|span| take_out(&mut rest, span));
                if is_whole || taken.is_some() {
                    fault(span, error.message());
                }
                is_whole = false;
                taken?;
            }
        }
    }
}

/// Removes the field that a fault at `span` is about.
fn take_out(rule: &mut Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<()> {
    let DeValue::Table(table) = rule.get_mut() else { return None };
    let concerned = table
        .iter()
        .find(|(key, value)| key.span() == *span || value.span().start <= span.start && span.end <= value.span().end);
    let key = concerned.map(|(key, _)| key.get_ref().to_string())?;
    table.remove(key.as_str()).map(drop)
}

/// The field that a complaint quotes first, else the rule itself.
fn place_of(rule: &Spanned<DeValue<'_>>, what: &str) -> Range<usize> {
    let table = rule.get_ref().as_table();
    let quoted = what.split('`').skip(1).step_by(2);
    let field = quoted.filter_map(|name| table?.iter().find(|(key, _)| key.get_ref() == name)).next();
    field.map_or_else(|| rule.span(), |(key, _)| key.span())
}

fn placed((file, text): &NamedText, span: Option<Range<usize>>, what: &str) -> String {
    let at = span.map_or(0, |s| s.start).min(text.len());
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    format!("{file}:{line}:{column}: {what}")
}

/// A rule as written: which fields belong to which kind is checked afterwards, so that the message can
/// say so.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
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

/// The longest window: figures are made of hours, all of which are read.
const MOST_HOURS: i64 = 24 * 62;

impl RawRule {
    fn check(self) -> Result<Rule, String> {
        let name = &self.name;
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
            return Err(format!("name {name:?}: use lower-case letters, digits and _"));
        }
        if self.actions.is_empty() {
            return Err(format!("rule {name:?} needs at least one action: what should the reader do?"));
        }
        let is_place = |url: &str| url.starts_with("https://") || url.starts_with("docs/");
        if let Some(runbook) = self.runbook.as_ref().filter(|url| !is_place(url)) {
            return Err(format!(
                "`runbook` {runbook:?} must begin with https://, or with docs/ for a page of revwatch"
            ));
        }
        Ok(Rule {
            kind: self.kind()?,
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
        })
    }

    fn kind(&self) -> Result<RuleKind, String> {
        const FIGURES: &str = "ratio count gauge drop consecutive percentile absence";
        const LIMITS: &str = "ratio count gauge drop consecutive percentile";
        const WINDOWS: &str = "ratio count percentile absence drop";
        // Every field that does not belong to all kinds, whether it is there, and the kinds that know it.
        let fields = [
            ("for", self.hold.is_some(), FIGURES),
            ("condition", self.condition.is_some(), "condition"),
            ("after", self.after.is_some(), "condition"),
            ("metric", self.metric.is_some(), FIGURES),
            ("by", self.by.is_some(), "ratio count gauge drop percentile"),
            ("window", self.window.is_some(), WINDOWS),
            ("delay", self.delay.is_some(), "ratio count percentile absence"),
            ("above", self.above.is_some(), LIMITS),
            ("below", self.below.is_some(), "ratio count gauge percentile consecutive"),
            ("clear_below", self.clear_below.is_some(), LIMITS),
            ("clear_above", self.clear_above.is_some(), "ratio count gauge percentile consecutive"),
            ("min_denominator", self.min_denominator.is_some(), "ratio percentile drop consecutive"),
            ("no_data", self.no_data.is_some(), FIGURES),
            ("days", self.days.is_some(), "consecutive"),
            ("time_zone", self.time_zone.is_some(), "consecutive"),
            ("percentile", self.percentile.is_some(), "percentile"),
            ("absolute", self.absolute.is_some(), "drop"),
        ];
        let kind = self.kind.as_str();
        if let Some((field, ..)) = fields.iter().find(|(_, set, kinds)| *set && !kinds.split(' ').any(|k| k == kind)) {
            return Err(format!("`{field}` means nothing to a rule of kind {kind}"));
        }
        let missing = |field: &str| format!("a rule of kind {kind} needs `{field}`");
        if self.kind == RawKind::Condition {
            return Ok(RuleKind::Condition {
                condition: self.condition.ok_or_else(|| missing("condition"))?,
                after_s: self.after.map_or(0, |s| s.0),
            });
        }
        let measure = self.measure(missing)?;
        if let Some(by) = &self.by {
            let known = measure.segments();
            if !known.contains(&by.as_str()) {
                let fix = match known {
                    [] => "leave `by` out".to_owned(),
                    known => format!("use one of {}", known.join(", ")),
                };
                return Err(format!(
                    "`by` {by:?} is unknown to metric {:?}: {fix}",
                    self.metric.as_deref().unwrap_or("")
                ));
            }
        } else if measure.is_money() {
            return Err("amounts of different currencies are never added: set `by = \"currency\"`".into());
        }
        Ok(RuleKind::Figure(Box::new(FigureRule {
            threshold: self.threshold(&measure, missing)?,
            measure,
            by: self.by.clone(),
            no_data: self.no_data.unwrap_or_default(),
        })))
    }

    fn measure(&self, missing: impl Fn(&str) -> String) -> Result<Measure, String> {
        Ok(match self.kind {
            RawKind::Condition | RawKind::Ratio => {
                Measure::Ratio(self.metric(RatioMetric::ALL)?, self.window(missing)?)
            }
            RawKind::Count => Measure::Count(self.metric(CountMetric::ALL)?, self.window(missing)?),
            RawKind::Absence => Measure::Absence(self.metric(CountMetric::ALL)?, self.window(missing)?),
            RawKind::Gauge => Measure::Gauge(self.metric(GaugeMetric::ALL)?),
            RawKind::Drop => {
                let fall = Fall { hours: self.window(missing)?.hours, absolute: self.absolute.unwrap_or(false) };
                Measure::Drop(self.metric(LevelMetric::ALL)?, fall)
            }
            RawKind::Consecutive => {
                let zone = self.time_zone.as_deref().unwrap_or("UTC");
                let days = ClosedDays {
                    days: self.days.filter(|d| (1..=31).contains(d)).ok_or("`days` must be 1 to 31")?,
                    time_zone: TimeZone::get(zone)
                        .map_err(|_| format!("`time_zone` {zone:?} is unknown: use a name such as Europe/Lisbon"))?,
                };
                Measure::Consecutive(self.metric(ShareMetric::ALL)?, days)
            }
            RawKind::Percentile => {
                let percent = match self.percentile.ok_or_else(|| missing("percentile"))? {
                    RawPercentile::Percent(percent) if (1..=100).contains(&percent) => Some(percent),
                    RawPercentile::Percent(_) => return Err("`percentile` must be 1 to 100, or \"mean\"".into()),
                    RawPercentile::Mean(Mean::Mean) => None,
                };
                let metric: DurationMetric = self.metric(DurationMetric::ALL)?;
                if percent.is_none() && !metric.has_mean() {
                    return Err("this metric has no mean: set `percentile` to 1 to 100".into());
                }
                Measure::Percentile(metric, percent, self.window(missing)?)
            }
        })
    }

    fn window(&self, missing: impl Fn(&str) -> String) -> Result<Window, String> {
        let hours = |field: &str, span: Span, least: i64| {
            let whole = span.0 % 3600 == 0 && (least..=MOST_HOURS).contains(&(span.0 / 3600));
            let hours = u32::try_from(span.0 / 3600).ok().filter(|_| whole);
            hours.ok_or_else(|| format!("`{field}` must be whole hours, from {least}h to {}d", MOST_HOURS / 24))
        };
        Ok(Window {
            hours: hours("window", self.window.ok_or_else(|| missing("window"))?, 1)?,
            delay_hours: self.delay.map_or(Ok(0), |delay| hours("delay", delay, 0))?,
        })
    }

    fn metric<M: Named>(&self, known: &'static [M]) -> Result<M, String> {
        let names: Vec<_> = known.iter().map(|metric| metric.name()).collect();
        let wanted = self.metric.as_deref().unwrap_or("");
        let found = known.iter().find(|metric| metric.name() == wanted);
        found.copied().ok_or_else(|| format!("metric {wanted:?} is unknown here: use one of {}", names.join(", ")))
    }

    fn threshold(&self, measure: &Measure, missing: impl Fn(&str) -> String) -> Result<Threshold, String> {
        if self.kind == RawKind::Absence {
            return Ok(Threshold { side: Side::Below, limit: 1.0, clear: 1.0, min_samples: 0 });
        }
        let (side, limit, clear) = match (self.above, self.below) {
            (Some(above), None) => (Side::Above, above, self.clear_below.unwrap_or(above)),
            (None, Some(below)) => (Side::Below, below, self.clear_above.unwrap_or(below)),
            (Some(_), Some(_)) => return Err("`above` and `below` exclude each other: write two rules".into()),
            (None, None) => return Err(missing("above")),
        };
        match side {
            Side::Above if self.clear_above.is_some() => return Err("`clear_above` goes with `below`".into()),
            Side::Below if self.clear_below.is_some() => return Err("`clear_below` goes with `above`".into()),
            Side::Above if clear > limit => return Err("`clear_below` must not be greater than `above`".into()),
            Side::Below if clear < limit => return Err("`clear_above` must not be less than `below`".into()),
            _ => {}
        }
        if !limit.is_finite() || !clear.is_finite() {
            return Err("a threshold must be a number".into());
        }
        if measure.unit() == Unit::Share && !((0.0..=1.0).contains(&limit) && (0.0..=1.0).contains(&clear)) {
            return Err("`above` or `below` of a share is from 0 to 1: 5 % is 0.05".into());
        }
        let min_samples = self.min_denominator.unwrap_or(1);
        if min_samples < 1 {
            return Err("`min_denominator` must be at least 1".into());
        }
        Ok(Threshold { side, limit, clear, min_samples })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_rules_are_valid_and_each_says_what_it_answers_to() {
        let rules = built_in().expect("valid");
        for rule in &rules {
            assert!(!rule.requirement.is_empty() && rule.runbook.is_some(), "{}", rule.name);
        }
        // The ten of C14.
        let named = rules.iter().filter(|r| r.requirement.iter().any(|id| id == "C14")).map(|r| r.name.as_str());
        assert_eq!(
            named.collect::<Vec<_>>(),
            [
                "provider_lost_charges",
                "account_deauthorized",
                "account_restricted",
                "onboarding_not_complete_48_hours",
                "onboarding_abandonment",
                "onboarding_conversion_drop",
                "milestone_reached",
                "payout_failure_rate",
                "payout_sent",
                "stripe_api_error_spike"
            ]
        );
    }

    #[test]
    fn the_shipped_file_lists_every_condition_and_metric() {
        for kind in ConditionKind::ALL {
            assert!(DEFAULT_RULES.contains(kind.as_str()), "{} is not explained", kind.as_str());
        }
        let metrics = [
            RatioMetric::ALL.iter().map(|m| m.name()).collect::<Vec<_>>(),
            CountMetric::ALL.iter().map(|m| m.name()).collect(),
            GaugeMetric::ALL.iter().map(|m| m.name()).collect(),
            LevelMetric::ALL.iter().map(|m| m.name()).collect(),
            DurationMetric::ALL.iter().map(|m| m.name()).collect(),
        ];
        for name in metrics.into_iter().flatten() {
            assert!(DEFAULT_RULES.contains(name), "{name} is not explained");
        }
    }

    #[test]
    fn faults_are_named_with_line_and_column() {
        let rule = |lines: &str| {
            format!(
                "\n[[rule]]\nname = \"r\"\nseverity = \"high\"\nroute = \"x\"\ntitle = \"t\"\nactions = [\"a\"]\n{lines}\n"
            )
        };
        let ratio = "kind = \"ratio\"\nmetric = \"payout_failures\"\nwindow = \"24h\"\n";
        let table = [
            (
                rule("kind = \"condition\"\ncondition = \"charges_lost\"\nbelow = 1"),
                "f.toml:10:1: `below` means nothing",
            ),
            (rule("kind = \"gage\""), "f.toml:8:8: unknown variant `gage`"),
            (rule("kind = \"condition\""), "a rule of kind condition needs `condition`"),
            (rule("kind = \"condition\"\ncondition = \"x\""), "f.toml:9:13: unknown variant `x`"),
            (rule("kind = \"condition\"\ncondition = \"past_due\"\nabove = 0.5"), "f.toml:10:1: `above` means nothing"),
            (rule(ratio), "needs `above`"),
            (rule(&format!("{ratio}above = 1.5")), "share is from 0 to 1"),
            (rule(&format!("{ratio}above = 0.1\nclear_below = 0.2")), "not be greater"),
            (rule(&format!("{}above = 0.1", ratio.replace("24h", "90m"))), "whole hours"),
            (rule(&format!("{}above = 0.1", ratio.replace("24h", "soon"))), "f.toml:10:10: \"soon\" is no time"),
            (rule(&format!("{}above = 0.1", ratio.replace("payout_failures", "luck"))), "metric \"luck\" is unknown"),
            (
                rule(
                    "kind = \"consecutive\"\nmetric = \"past_due_share\"\nabove = 0.1\ndays = 2\ntime_zone = \"Mars\"",
                ),
                "Mars",
            ),
            (rule("kind = \"consecutive\"\nmetric = \"past_due_share\"\nabove = 0.1\ndays = 0"), "1 to 31"),
            ("[[rule]".to_owned(), "f.toml:1:"),
            (String::new(), "no [[rule]]"),
        ];
        for (text, expected) in table {
            let error = parse(&[("f.toml".to_owned(), text)]).expect_err("faulty").to_string();
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
        let twice = rule("kind = \"condition\"\ncondition = \"charges_lost\"").repeat(2);
        let error = parse(&[("f.toml".to_owned(), twice)]).expect_err("faulty").to_string();
        assert!(error.contains("two rules named"), "{error}");
    }
}
