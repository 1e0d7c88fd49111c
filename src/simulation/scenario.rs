//! A rule test: what happens when, and what must have come of it. Pure; how it is written is in
//! [`super::scenario_file`].

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use revwatch_alerting::alert::Subject;
use revwatch_alerting::lifecycle::Stage;
use revwatch_alerting::metric_value::PipelineStatus;
use revwatch_alerting::rule::Rule;
use revwatch_core::span::Span;
use revwatch_storage::ports::Delivery;
use serde::Deserialize;

/// One test.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// For people; unique in its file.
    pub name: String,
    /// File, line and column.
    pub place: String,
    /// Unix seconds.
    pub start_s: i64,
    /// See [`super::simulator::SimulationConfig::tick_s`].
    pub tick_s: i64,
    /// The rules that are tried.
    pub rules: Vec<Rule>,
    /// Rules that it names and that are not there, each with its place.
    pub missing: Vec<(String, String)>,
    /// By Unix second.
    pub moments: BTreeMap<i64, Moment>,
}

/// What happens in one second, in this order.
#[derive(Debug, Clone, Default)]
pub struct Moment {
    /// What the pipeline says of itself from now on.
    pub pipeline: Option<PipelineStatus>,
    /// What arrives.
    pub deliveries: Vec<Delivery>,
    /// What people ask, after a tick.
    pub orders: Vec<Order>,
    /// What must be true after that.
    pub checks: Vec<Check>,
}

/// What somebody asks.
#[derive(Debug, Clone)]
pub struct Order {
    /// Who.
    pub by: String,
    /// What.
    pub what: OrderKind,
    /// File, line and column.
    pub place: String,
}

/// What can be asked.
#[derive(Debug, Clone)]
pub enum OrderKind {
    /// "I have it."
    Acknowledge(SubjectMatch),
    /// "It is over."
    Resolve(SubjectMatch),
    /// Tell nobody for a while.
    Silence {
        /// Of this rule.
        rule: Option<String>,
        /// Of this connected account.
        account: Option<String>,
        /// With these labels.
        labels: BTreeMap<String, String>,
        /// Seconds.
        for_s: i64,
        /// Why.
        reason: String,
    },
}

/// A rule and, if anything is given beside it, some of its subjects.
#[derive(Debug, Clone, Default)]
pub struct SubjectMatch {
    /// The rule's name.
    pub rule: String,
    /// For example `payout po_1`.
    pub subject: Option<String>,
    /// The connected account concerned.
    pub account: Option<String>,
    /// The part of the business, for example `usd`.
    pub segment: Option<String>,
}

/// What must be true.
#[derive(Debug, Clone)]
pub struct Check {
    /// File, line and column.
    pub place: String,
    /// What.
    pub want: Want,
}

/// What can be expected.
#[derive(Debug, Clone)]
pub enum Want {
    /// Of some rule and subjects.
    Expect(Expect),
    /// Of these rules (`None`: of all) nothing is pending, fires or is acknowledged.
    Quiet(Option<Vec<String>>),
}

/// What can be expected of a rule and subjects. All that is given must be true.
#[derive(Debug, Clone, Default)]
pub struct Expect {
    /// Whose.
    pub whom: SubjectMatch,
    /// All of them are in this stage, or as many as `count` says; none at all counts as inactive.
    pub stage: Option<Stage>,
    /// How many are in the stage.
    pub count: Option<usize>,
    /// How many alerts (or groups of them) people have been told of so far.
    pub notified: Option<usize>,
    /// How many warnings, breaches and escalations they have been told so far.
    pub notices: Option<usize>,
    /// What their latest message says.
    pub says: Option<String>,
}

/// A time as tests write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum When {
    /// This Unix second.
    At(i64),
    /// So many seconds after the start.
    After(i64),
    /// So many seconds before the event arrives.
    Before(i64),
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
                "{text:?} is no time: write it like \"2026-03-01T09:00:00Z\" or \"+1d12h\" (after the start); a time \
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

/// Seconds of one or more spans in a row, for example `1d12h`.
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
    /// Whether it speaks of this subject.
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

    /// Whether it speaks of all of the rule's subjects.
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
                whom,
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
                write!(f, "{whom}: {}", parts.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_moments_or_distances() {
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
