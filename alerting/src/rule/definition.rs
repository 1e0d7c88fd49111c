//! One rule, of whatever kind. Pure.

use std::collections::BTreeMap;

use revwatch_core::durations::Span;
use revwatch_runtime::config::Clock;

use super::condition_or_metric::RuleKind;
use crate::alert::{AlertTemplate, Severity};

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Unique; names the alert in messages, metrics and commands.
    pub name: String,
    /// What it evaluates, and when it fires.
    pub kind: RuleKind,
    /// The severity.
    pub severity: Severity,
    /// Selects the channels and addresses that are notified.
    pub route: String,
    /// The notifiers that deliver its alerts, instead of its severity's; no others do, also when they
    /// escalate (C14).
    pub notifiers: Option<Vec<String>>,
    /// Labels for routing and silencing.
    pub labels: BTreeMap<String, String>,
    /// The first line of the message.
    pub title: String,
    /// What the reader should do, in order.
    pub actions: Vec<String>,
    /// Where to read more.
    pub runbook: Option<String>,
    /// It fires after being true for this long.
    pub for_s: i64,
    /// It resolves after being false for this long.
    pub keep_firing_for_s: i64,
    /// If it is true again within this time after its alert resolved, that alert returns, and then stays for this
    /// time at least: a problem that comes and goes is one alert.
    pub reopen_within_s: i64,
    /// While the newest event is older than this, metrics and missing events are not evaluated: the
    /// event that would change the result may be on its way.
    pub fresh_within_s: Option<i64>,
    /// Deadlines that replace its severity's (C13: an alert may override its own SLA).
    pub sla: SlaOverride,
    /// Rules whose alerts on the same account explain this one: while one fires, this one sends no
    /// notifications.
    pub inhibited_by: Vec<String>,
    /// The requirements it covers.
    pub requirement: Vec<String>,
}

/// What replaces the severity's deadlines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlaOverride {
    /// Seconds.
    pub respond_s: Option<i64>,
    /// Seconds.
    pub resolve_s: Option<i64>,
    /// Which hours are counted.
    pub clock: Option<Clock>,
}

impl Rule {
    /// When it fires and when it resolves, in words.
    pub fn describe(&self) -> String {
        let mut text = self.kind.describe();
        for (words, seconds) in [
            ("for", self.for_s),
            ("resolves after", self.keep_firing_for_s),
        ] {
            if seconds > 0 {
                text.push_str(&format!(", {words} {}", Span(seconds)));
            }
        }
        if let Some(within_s) = self.fresh_within_s {
            text.push_str(&format!(", events not older than {}", Span(within_s)));
        }
        text
    }
}

impl From<&Rule> for AlertTemplate {
    fn from(rule: &Rule) -> Self {
        Self {
            rule: rule.name.clone(),
            severity: rule.severity,
            route: rule.route.clone(),
            labels: rule.labels.clone(),
            title: rule.title.clone(),
            actions: rule.actions.clone(),
            runbook: rule.runbook.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn built_in_rules_are_described_in_words() {
        let rules = crate::rule_text::built_in().expect("valid");
        let described = |name: &str| {
            let rule = rules.iter().find(|rule| rule.name == name);
            let rule = rule.expect("a built-in rule");
            (rule.kind.name(), rule.describe())
        };
        assert_eq!(
            described("payout_failure_rate"),
            (
                "ratio",
                "payout_failures in 1d above 5 %, resolved when at most 4 %, of at least 20"
                    .to_owned()
            )
        );
        assert_eq!(
            described("provider_lost_charges"),
            ("condition", "charges_lost".to_owned())
        );
    }
}
