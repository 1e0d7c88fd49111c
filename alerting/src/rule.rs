//! Rules as data: what a rule file may say, checked when it is parsed. Pure: [`crate::rules_file`] reads
//! the files.

use jiff::tz::TimeZone;
use revwatch_shared::condition::ConditionKind;
use serde::{Deserialize, Serialize};

/// The rules that revwatch ships with.
pub const DEFAULT_RULES: &str = include_str!("../../deploy/rules/default.toml");

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Unique; names the alert in messages, metrics and commands.
    pub name: String,
    /// What it looks at and when that is too much.
    pub kind: RuleKind,
    /// How bad.
    pub severity: Severity,
    /// Whom it tells; a key of `[slack.channels]`.
    pub route: String,
    /// The first line of the message.
    pub title: String,
    /// What to do, in order.
    pub actions: Vec<String>,
    /// Where to read on.
    pub runbook: Option<String>,
    /// It fires after holding for this long.
    pub for_s: i64,
    /// It resolves after being over for this long.
    pub keep_firing_for_s: i64,
}

/// What a rule looks at. Further kinds (count, gauge, drop, percentile, absence) go here: a variant, its
/// fields in `RawRule::kind`, its reading in [`crate::reading`].
#[derive(Debug, Clone, PartialEq)]
pub enum RuleKind {
    /// One alert for every entity that has the condition.
    Condition {
        /// Which.
        condition: ConditionKind,
        /// How long after it began.
        after_s: i64,
    },
    /// A share over a sliding window.
    Ratio {
        /// Of what.
        metric: RatioMetric,
        /// Whole hours.
        window_hours: u32,
        /// When it is too high, and from how many samples on.
        threshold: Threshold,
    },
    /// A share that was too high at the end of several closed days in a row.
    Consecutive {
        /// Of what.
        metric: LevelMetric,
        /// How many days.
        days: u32,
        /// Whose midnight closes a day.
        time_zone: TimeZone,
        /// When it is too high, and from how many samples on.
        threshold: Threshold,
    },
}

/// Shares over a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RatioMetric {
    /// Failed ÷ (paid + failed).
    PayoutFailures,
}

/// Shares at a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LevelMetric {
    /// Past due ÷ (active + past due).
    PastDueShare,
}

/// Fires strictly above `above`, resolves at or below `clear_below`, judges nothing below
/// `min_denominator`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// 0 to 1.
    pub above: f64,
    /// At most `above`.
    pub clear_below: f64,
    /// Samples.
    pub min_denominator: i64,
}

/// How bad an alert is (C13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For the record.
    Low,
    /// May become a loss.
    Medium,
    /// Revenue is impaired.
    High,
    /// Revenue is blocked.
    Critical,
}

/// A rule file that says something that is no rule; the text names file, line and column.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidRule(String);

/// A rule file's name, for messages, and its text.
pub type NamedText = (String, String);

impl Severity {
    /// All, from the least.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The word in rule files and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// The rules of [`DEFAULT_RULES`].
pub fn built_in() -> Result<Vec<Rule>, InvalidRule> {
    parse(&[("built-in rules".to_owned(), DEFAULT_RULES.to_owned())])
}

/// Parses rule files. Names of rules are unique over all of them, and there is at least one rule.
pub fn parse(files: &[NamedText]) -> Result<Vec<Rule>, InvalidRule> {
    let mut rules: Vec<Rule> = Vec::new();
    for (name, text) in files {
        let file: RawFile = toml::from_str(text).map_err(|e| invalid(name, text, e.span(), e.message()))?;
        for spanned in file.rule {
            let span = Some(spanned.span());
            let rule = spanned.into_inner().check().map_err(|what| invalid(name, text, span.clone(), &what))?;
            if rules.iter().any(|r| r.name == rule.name) {
                return Err(invalid(name, text, span, &format!("there are two rules named {:?}", rule.name)));
            }
            rules.push(rule);
        }
    }
    if rules.is_empty() {
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        return Err(InvalidRule(format!("no [[rule]] in {}", names.join(", "))));
    }
    Ok(rules)
}

fn invalid(file: &str, text: &str, span: Option<std::ops::Range<usize>>, what: &str) -> InvalidRule {
    let at = span.map_or(0, |s| s.start).min(text.len());
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    InvalidRule(format!("{file}:{line}:{column}: {what}"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    rule: Vec<toml::Spanned<RawRule>>,
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
    #[expect(dead_code, reason = "for the reader of the file, who wants to know why the rule is there")]
    requirement: Vec<String>,
    #[serde(rename = "for")]
    hold: Option<Span>,
    keep_firing_for: Option<Span>,
    condition: Option<ConditionKind>,
    after: Option<Span>,
    metric: Option<String>,
    window: Option<Span>,
    above: Option<f64>,
    clear_below: Option<f64>,
    min_denominator: Option<i64>,
    days: Option<u32>,
    time_zone: Option<String>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum RawKind {
    Condition,
    Ratio,
    Consecutive,
}

/// Seconds, written like `30s`, `15m`, `24h`, `7d`.
#[derive(Deserialize, Clone, Copy)]
#[serde(try_from = "String")]
struct Span(i64);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];
        let unit = text.chars().last().and_then(|last| units.iter().find(|(u, _)| *u == last));
        let number = unit.and_then(|_| text[..text.len() - 1].parse::<u32>().ok());
        match (number, unit) {
            (Some(number), Some((_, seconds))) => Ok(Self(i64::from(number) * seconds)),
            _ => Err(format!("{text:?} is no time: write it like \"30s\", \"15m\", \"24h\" or \"7d\"")),
        }
    }
}

impl RawRule {
    fn check(self) -> Result<Rule, String> {
        let name = &self.name;
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
            return Err(format!("name {name:?}: use lower-case letters, digits and _"));
        }
        if self.actions.is_empty() {
            return Err(format!("rule {name:?} needs at least one action: what should the reader do?"));
        }
        Ok(Rule {
            kind: self.kind()?,
            severity: self.severity,
            route: self.route,
            title: self.title,
            actions: self.actions,
            runbook: self.runbook,
            for_s: self.hold.map_or(0, |s| s.0),
            keep_firing_for_s: self.keep_firing_for.map_or(0, |s| s.0),
            name: self.name,
        })
    }

    fn kind(&self) -> Result<RuleKind, String> {
        // Every optional field, whether it is there, and the kinds that know it.
        let fields = [
            ("for", self.hold.is_some(), "ratio consecutive"),
            ("keep_firing_for", self.keep_firing_for.is_some(), "ratio consecutive"),
            ("condition", self.condition.is_some(), "condition"),
            ("after", self.after.is_some(), "condition"),
            ("metric", self.metric.is_some(), "ratio consecutive"),
            ("window", self.window.is_some(), "ratio"),
            ("above", self.above.is_some(), "ratio consecutive"),
            ("clear_below", self.clear_below.is_some(), "ratio consecutive"),
            ("min_denominator", self.min_denominator.is_some(), "ratio consecutive"),
            ("days", self.days.is_some(), "consecutive"),
            ("time_zone", self.time_zone.is_some(), "consecutive"),
        ];
        let kind = match self.kind {
            RawKind::Condition => "condition",
            RawKind::Ratio => "ratio",
            RawKind::Consecutive => "consecutive",
        };
        if let Some((field, ..)) = fields.iter().find(|(_, set, kinds)| *set && !kinds.split(' ').any(|k| k == kind)) {
            return Err(format!("`{field}` means nothing to a rule of kind {kind}"));
        }
        let missing = |field: &str| format!("a rule of kind {kind} needs `{field}`");
        match self.kind {
            RawKind::Condition => Ok(RuleKind::Condition {
                condition: self.condition.ok_or_else(|| missing("condition"))?,
                after_s: self.after.map_or(0, |s| s.0),
            }),
            RawKind::Ratio => {
                let window = self.window.ok_or_else(|| missing("window"))?.0;
                let hours = u32::try_from(window / 3600).ok().filter(|h| *h > 0 && window % 3600 == 0 && *h <= 24 * 31);
                Ok(RuleKind::Ratio {
                    metric: self.metric(&[("payout_failures", RatioMetric::PayoutFailures)])?,
                    window_hours: hours.ok_or("`window` must be whole hours, from 1h to 31d")?,
                    threshold: self.threshold(missing)?,
                })
            }
            RawKind::Consecutive => {
                let zone = self.time_zone.as_deref().unwrap_or("UTC");
                Ok(RuleKind::Consecutive {
                    metric: self.metric(&[("past_due_share", LevelMetric::PastDueShare)])?,
                    days: self.days.filter(|d| (1..=31).contains(d)).ok_or("`days` must be 1 to 31")?,
                    time_zone: TimeZone::get(zone)
                        .map_err(|_| format!("`time_zone` {zone:?} is unknown: use a name such as Europe/Lisbon"))?,
                    threshold: self.threshold(missing)?,
                })
            }
        }
    }

    fn metric<M: Copy>(&self, known: &[(&str, M)]) -> Result<M, String> {
        let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        let wanted = self.metric.as_deref().unwrap_or("");
        known
            .iter()
            .find(|(name, _)| *name == wanted)
            .map(|(_, metric)| *metric)
            .ok_or_else(|| format!("metric {wanted:?} is unknown here: use one of {}", names.join(", ")))
    }

    fn threshold(&self, missing: impl Fn(&str) -> String) -> Result<Threshold, String> {
        let above = self.above.ok_or_else(|| missing("above"))?;
        let clear_below = self.clear_below.unwrap_or(above);
        let min_denominator = self.min_denominator.unwrap_or(1);
        if !(0.0..=1.0).contains(&above) || !(0.0..=above).contains(&clear_below) {
            return Err("`above` is a share from 0 to 1, and `clear_below` is not greater".into());
        }
        if min_denominator < 1 {
            return Err("`min_denominator` must be at least 1".into());
        }
        Ok(Threshold { above, clear_below, min_denominator })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_rules_are_valid() {
        let rules = built_in().expect("valid");
        let names: Vec<_> = rules.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["payout_failure_rate", "past_due_share", "provider_lost_charges"]);
    }

    #[test]
    fn the_shipped_file_lists_every_condition() {
        for kind in ConditionKind::ALL {
            assert!(DEFAULT_RULES.contains(kind.as_str()), "{} is not explained", kind.as_str());
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
                "f.toml:10:1: unknown field `below`",
            ),
            (rule("kind = \"gauge\""), "f.toml:8:8: unknown variant `gauge`"),
            (rule("kind = \"condition\""), "f.toml:2:1: a rule of kind condition needs `condition`"),
            (rule("kind = \"condition\"\ncondition = \"x\""), "f.toml:9:13: unknown variant `x`"),
            (rule("kind = \"condition\"\ncondition = \"past_due\"\nabove = 0.5"), "f.toml:2:1: `above` means nothing"),
            (rule(ratio), "needs `above`"),
            (rule(&format!("{ratio}above = 1.5")), "share from 0 to 1"),
            (rule(&format!("{ratio}above = 0.1\nclear_below = 0.2")), "not greater"),
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
