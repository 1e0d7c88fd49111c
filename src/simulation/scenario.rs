//! A rule test: inputs over time and expectations. Pure; [`super::scenario_file`] defines the file
//! format.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use revwatch_alerting::alert::Subject;
use revwatch_alerting::metric_value::PipelineStatus;
use revwatch_alerting::rule::Rule;
use revwatch_alerting::stage::Stage;
use revwatch_core::durations::Span;
use revwatch_runtime::config::Fault;
use revwatch_storage::ports::Delivery;
use serde::Deserialize;

/// One test.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Shown to people; unique in its file.
    pub name: String,
    /// File, line and column.
    pub place: String,
    /// Unix seconds.
    pub start_s: i64,
    /// When the simulated revwatch began, Unix seconds: what was wrong before was wrong already.
    pub began_s: i64,
    /// The test says when it began: then it has received deliveries since.
    pub is_beginning_given: bool,
    /// See [`super::simulator::SimulationConfig::tick_s`].
    pub tick_s: i64,
    /// The rules under test.
    pub rules: Vec<Rule>,
    /// Rules that the test names and that do not exist, each with its place.
    pub missing: Vec<(String, Fault)>,
    /// What may be a mistake in it.
    pub warnings: Vec<Fault>,
    /// Keyed by Unix second.
    pub moments: BTreeMap<i64, Moment>,
}

/// The inputs and checks of one second, in this order.
#[derive(Debug, Clone, Default)]
pub struct Moment {
    /// The new state of the pipeline.
    pub pipeline: Option<PipelineStatus>,
    /// Deliveries that arrive.
    pub arrivals: Vec<Arrival>,
    /// Commands, submitted after a tick.
    pub orders: Vec<Order>,
    /// Checks, made after that.
    pub checks: Vec<Check>,
}

/// A delivery that arrives.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The delivery.
    pub delivery: Delivery,
    /// File, line and column of the `send` that it is of.
    pub place: Arc<str>,
}

/// A command of a person.
#[derive(Debug, Clone)]
pub struct Order {
    /// The person.
    pub by: String,
    /// The command.
    pub what: OrderKind,
    /// File, line and column.
    pub place: String,
}

/// The kinds of commands.
#[derive(Debug, Clone)]
pub enum OrderKind {
    /// Acknowledge.
    Acknowledge(SubjectMatch),
    /// Resolve.
    Resolve(SubjectMatch),
    /// Silence.
    Silence {
        /// Alerts of this rule.
        rule: Option<String>,
        /// Alerts on this connected account.
        account: Option<String>,
        /// Alerts with these labels.
        labels: BTreeMap<String, String>,
        /// Duration in seconds.
        for_s: i64,
        /// The reason.
        reason: String,
    },
}

/// A rule, optionally limited to some of its subjects.
#[derive(Debug, Clone, Default)]
pub struct SubjectMatch {
    /// The rule's name.
    pub rule: String,
    /// For example `payout po_1`.
    pub subject: Option<String>,
    /// The connected account.
    pub account: Option<String>,
    /// The part of the business, for example `usd`.
    pub segment: Option<String>,
}

/// An expectation with its place.
#[derive(Debug, Clone)]
pub struct Check {
    /// File, line and column.
    pub place: String,
    /// The expectation.
    pub want: Want,
}

/// The kinds of expectations.
#[derive(Debug, Clone)]
pub enum Want {
    /// About a rule and its subjects.
    Expect(Expect),
    /// Nothing is pending, fires or is acknowledged for these rules (`None`: for all).
    Quiet(Option<Vec<String>>),
}

/// An expectation about a rule and subjects. All given parts must hold.
#[derive(Debug, Clone, Default)]
pub struct Expect {
    /// The rule and subjects.
    pub subject: SubjectMatch,
    /// All of them are in this stage, or `count` of them. No subject at all counts as inactive.
    pub stage: Option<Stage>,
    /// The number of subjects in the stage.
    pub count: Option<usize>,
    /// The number of alerts (or groups) notified so far.
    pub notified: Option<usize>,
    /// The number of deadline warnings, breaches and escalations notified so far.
    pub notices: Option<usize>,
    /// Text that the latest notification contains.
    pub says: Option<String>,
}

/// A time in a test file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum When {
    /// A Unix second.
    At(i64),
    /// Seconds after the start.
    After(i64),
    /// Seconds before the event arrives, or before the start.
    Before(i64),
}

impl Scenario {
    /// When the first delivery of all is received, in Unix milliseconds.
    pub fn first_delivery_ms(&self) -> Option<i64> {
        let arrivals = self.moments.values().flat_map(|moment| &moment.arrivals);
        let received = arrivals.map(|arrival| arrival.delivery.received_ms);
        let began_ms = self.began_s.saturating_mul(1000);
        let before_all = Some(began_ms).filter(|_| self.is_beginning_given);
        received.chain(before_all).min()
    }
}

impl When {
    /// The Unix second, for a test that starts at `start_s` and an event that arrives at `at_s`.
    pub fn second(self, start_s: i64, at_s: i64) -> i64 {
        match self {
            Self::At(second) => second,
            Self::After(seconds) => start_s.saturating_add(seconds),
            Self::Before(seconds) => at_s.saturating_sub(seconds),
        }
    }
}

impl TryFrom<String> for When {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not a valid time: write it like \"2026-03-01T09:00:00Z\" or \"+1d12h\" (after the start); a time \
                 of an event also like \"-2h\" (before it arrives)"
            )
        };
        match text.split_at_checked(1) {
            Some(("+", rest)) => spans(rest).map(Self::After).ok_or_else(wrong),
            Some(("-", rest)) => spans(rest).map(Self::Before).ok_or_else(wrong),
            _ => text
                .parse::<Timestamp>()
                .map(|at| Self::At(at.as_second()))
                .map_err(|_| wrong()),
        }
    }
}

/// The sum of one or more spans in seconds, for example `1d12h`.
fn spans(text: &str) -> Option<i64> {
    let parts = text.split_inclusive(|c: char| !c.is_ascii_digit());
    let seconds: Option<Vec<i64>> = parts
        .map(|part| part.parse::<Span>().ok().map(|span| span.0))
        .collect();
    seconds
        .filter(|all| !all.is_empty())
        .map(|all| all.iter().sum())
}

impl SubjectMatch {
    /// Whether this matches the subject.
    pub fn fits(&self, rule: &str, subject: &Subject, account: Option<&str>) -> bool {
        let segment = match subject {
            Subject::Segment { value, .. } => Some(value.as_str()),
            _ => None,
        };
        self.rule == rule
            && self
                .subject
                .as_ref()
                .is_none_or(|wanted| subject.to_string() == *wanted)
            && self
                .account
                .as_deref()
                .is_none_or(|wanted| account == Some(wanted))
            && self
                .segment
                .as_deref()
                .is_none_or(|wanted| segment == Some(wanted))
    }

    /// Whether this matches all subjects of the rule.
    pub fn is_all(&self) -> bool {
        self.subject.is_none() && self.account.is_none() && self.segment.is_none()
    }
}

impl fmt::Display for SubjectMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rule)?;
        let given = [
            ("", &self.subject),
            ("account ", &self.account),
            ("segment ", &self.segment),
        ];
        for (word, value) in given
            .into_iter()
            .filter_map(|(word, value)| Some((word, value.as_ref()?)))
        {
            write!(f, " ({word}{value})")?;
        }
        Ok(())
    }
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quiet(None) => f.write_str("nothing is pending or fires"),
            Self::Quiet(Some(rules)) => {
                write!(f, "nothing of {} is pending or fires", rules.join(", "))
            }
            Self::Expect(Expect {
                subject,
                stage,
                count,
                notified,
                notices,
                says,
            }) => {
                let mut parts = Vec::new();
                match (stage, count) {
                    (Some(stage), Some(count)) => parts.push(format!("{count} {}", stage.as_str())),
                    (Some(stage), None) => parts.push(stage.as_str().to_owned()),
                    (None, _) => {}
                }
                parts.extend(notified.map(|n| format!("notified {n}")));
                parts.extend(notices.map(|n| format!("notices {n}")));
                parts.extend(says.as_ref().map(|text| format!("says {text:?}")));
                write!(f, "{subject}: {}", parts.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_relative() {
        for (text, expected) in [
            ("2026-03-01T00:00:00+01:00", When::At(1_772_319_600)),
            ("+0s", When::After(0)),
            ("+1d12h30m5s", When::After(131_405)),
            ("-2h", When::Before(7200)),
        ] {
            assert_eq!(When::try_from(text.to_owned()), Ok(expected), "{text}");
        }
        assert_eq!(When::After(5).second(100, 900), 105);
        assert_eq!(When::Before(5).second(100, 900), 895);
        for text in [
            "",
            "+",
            "soon",
            "24h",
            "+1",
            "+h",
            "+1h5",
            "2026-03-01",
            "é",
        ] {
            assert!(When::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
