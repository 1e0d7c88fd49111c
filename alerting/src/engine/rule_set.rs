//! The rules, and how an input finds those that it concerns.

use std::collections::{BTreeSet, HashMap};

use revwatch_core::bucket::{Buckets, hour_of};
use revwatch_core::condition::{Condition, ConditionKind};
use revwatch_runtime::config::Clock;

use crate::alert::Alert;
use crate::rule::{Delay, Rule, RuleKind};

/// The rules, and how an input finds those that it concerns. The order of the rules is that of their files.
pub(super) struct RuleSet {
    rules: Vec<Rule>,
    /// Of each rule, what decides which subjects it watches.
    fingerprints: Vec<String>,
    /// Indexes of the rules on each kind of condition.
    by_condition: HashMap<ConditionKind, Vec<usize>>,
    hours_needed: u32,
    /// How many hours before now the hours are whose minutes the rules need.
    ages_of_minutes: BTreeSet<u32>,
}

impl RuleSet {
    /// `business_hours` changes when the calendar does.
    pub fn new(rules: Vec<Rule>, business_hours: &str) -> Self {
        let mut by_condition = HashMap::<ConditionKind, Vec<usize>>::new();
        for (index, rule) in rules.iter().enumerate() {
            if let RuleKind::Condition { condition, .. } = rule.kind {
                by_condition.entry(condition).or_default().push(index);
            }
        }
        Self {
            fingerprints: rules
                .iter()
                .map(|rule| fingerprint(rule, business_hours))
                .collect(),
            hours_needed: rules.iter().map(hours_needed).max().unwrap_or(0),
            ages_of_minutes: rules.iter().flat_map(ages_of_minutes).collect(),
            rules,
            by_condition,
        }
    }

    pub fn all(&self) -> &[Rule] {
        &self.rules
    }

    pub fn position(&self, name: &str) -> Option<usize> {
        self.rules.iter().position(|rule| rule.name == name)
    }

    pub fn named(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    /// Changes when a rule is added, removed, or watches other subjects.
    pub fn fingerprints(&self) -> &[String] {
        &self.fingerprints
    }

    /// Indexes of the rules on a kind of condition.
    pub fn on_condition(&self, kind: ConditionKind) -> Vec<usize> {
        self.by_condition.get(&kind).cloned().unwrap_or_default()
    }

    /// How long before its rule may fire a condition must hold: 0 when there is no such rule.
    pub fn for_s(&self, name: &str) -> i64 {
        self.named(name).map_or(0, |rule| rule.for_s)
    }

    /// How long an alert keeps firing that is clear since `clear_since_s`: 0 when its rule is gone.
    pub fn keep_firing_for_s(&self, alert: &Alert, clear_since_s: i64) -> i64 {
        self.named(&alert.rule).map_or(0, |rule| {
            let returned_s = alert.returned_s.unwrap_or(i64::MIN);
            let least_s = returned_s.saturating_add(rule.reopen_within_s);
            rule.keep_firing_for_s
                .max(least_s.saturating_sub(clear_since_s))
        })
    }

    /// Until when a resolved alert may return, in Unix seconds; `None`: it is over. What a person resolved is, and
    /// the messages of groups are never about one problem alone.
    pub fn may_return_until_s(&self, alert: &Alert) -> Option<i64> {
        let within_s = self.named(&alert.rule)?.reopen_within_s;
        let is_over = alert.resolved_by.is_some() || alert.group.is_some() || within_s == 0;
        let resolved_s = alert.resolved_s.filter(|_| !is_over)?;
        Some(resolved_s.saturating_add(within_s))
    }

    /// Whether alerts of this rule inhibit those of another.
    pub fn is_inhibitor(&self, name: &str) -> bool {
        let names_it = |rule: &Rule| rule.inhibited_by.iter().any(|by| by == name);
        self.rules.iter().any(names_it)
    }

    /// How long after a condition falls due its rules evaluate it.
    pub fn delays(&self) -> BTreeSet<Delay> {
        let delays = self.rules.iter().filter_map(rule_delay);
        delays.map(|(_, delay)| delay).collect()
    }

    /// How many hours of counters the rules need.
    pub fn hours_needed(&self) -> u32 {
        self.hours_needed
    }

    /// The counters that the rules need at a time.
    pub fn buckets_needed(&self, now_s: i64) -> Buckets {
        let now = hour_of(now_s);
        let ago = |age: &u32| now.saturating_sub(*age);
        Buckets {
            hours: ago(&self.hours_needed)..=now,
            minutes_of: self.ages_of_minutes.iter().map(ago).collect(),
        }
    }
}

/// The condition that a rule evaluates, and how long after it falls due.
pub(super) fn rule_delay(rule: &Rule) -> Option<(ConditionKind, Delay)> {
    match rule.kind {
        RuleKind::Condition {
            condition, after, ..
        } => Some((condition, after)),
        RuleKind::Metric(_) => None,
    }
}

/// Whether a rule is about the entities of this condition's class.
pub(super) fn is_in_scope(rule: &Rule, condition: &Condition) -> bool {
    match &rule.kind {
        RuleKind::Condition { scope, .. } => scope.includes(condition.class()),
        RuleKind::Metric(_) => false,
    }
}

/// How many hours of counters a rule needs.
fn hours_needed(rule: &Rule) -> u32 {
    let fresh = rule
        .fresh_within_s
        .map_or(0, |s| u32::try_from(s / 3600 + 1).unwrap_or(u32::MAX));
    match &rule.kind {
        RuleKind::Metric(metric) => metric.measure.hours_needed().max(fresh),
        RuleKind::Condition { .. } => fresh,
    }
}

/// How many hours before now the hours are whose minutes a rule needs.
fn ages_of_minutes(rule: &Rule) -> BTreeSet<u32> {
    match &rule.kind {
        RuleKind::Metric(metric) => metric.measure.ages_of_minutes(),
        RuleKind::Condition { .. } => BTreeSet::new(),
    }
}

/// What decides which subjects a rule watches. An evaluator that finds other fingerprints than its own evaluates all open
/// conditions: "due" is in them because earlier evaluators, which did not write it, left alerts firing whose time had
/// moved into the future.
fn fingerprint(rule: &Rule, business_hours: &str) -> String {
    match &rule.kind {
        RuleKind::Condition {
            condition,
            after,
            scope,
        } => {
            let condition = condition.as_str();
            let hours = match after.clock {
                Clock::Always => String::new(),
                Clock::BusinessHours => format!(" within {business_hours}"),
            };
            format!(
                "{} {condition} due {}{hours} of {scope:?}",
                rule.name, after.seconds
            )
        }
        RuleKind::Metric(metric) => format!(
            "{} by {}",
            rule.name,
            metric.by.as_deref().unwrap_or("nothing")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::rules;
    use super::*;
    use crate::alert::{Evidence, Subject};

    #[test]
    fn a_condition_finds_its_rules_and_a_name_finds_its_rule() {
        let set = RuleSet::new(rules(), "");
        let lost = set.position("lost").expect("it is in the file");
        assert_eq!(set.on_condition(ConditionKind::ChargesLost), [lost]);
        assert!(set.on_condition(ConditionKind::DisputeOpen).is_empty());
        let delay = |seconds| Delay {
            seconds,
            clock: Clock::Always,
        };
        assert_eq!(set.delays(), [0, 3600].map(delay).into());
        assert_eq!((set.for_s("failures"), set.for_s("gone")), (60, 0));
        let mut alert = Alert::fire(
            &set.all()[0],
            &Subject::Business,
            0,
            100,
            Evidence::default(),
        );
        assert_eq!(set.keep_firing_for_s(&alert, 130), 0);
        alert.rule = "payout".into();
        assert_eq!(set.keep_firing_for_s(&alert, 130), 60);
        alert.rule = "gone".into();
        assert_eq!(set.keep_firing_for_s(&alert, 130), 0);
        assert!(set.is_inhibitor("lost") && !set.is_inhibitor("payout"));
    }

    #[test]
    fn a_fingerprint_changes_with_the_subjects_and_not_with_the_threshold() {
        let fingerprints = |change: fn(&mut Rule)| {
            let mut rules = rules();
            rules.iter_mut().for_each(change);
            RuleSet::new(rules, "").fingerprints().to_vec()
        };
        let before = fingerprints(|_| {});
        assert_eq!(fingerprints(|rule| rule.for_s = 7), before);
        let other_segments = fingerprints(|rule| {
            if let RuleKind::Metric(metric) = &mut rule.kind {
                metric.by = Some("country".into());
            }
        });
        assert_ne!(other_segments, before);
        // What was due in other hours must be evaluated again; rules that count all hours are not concerned.
        let of_calendar = |clock, business_hours| {
            let mut rules = rules();
            for rule in &mut rules {
                if let RuleKind::Condition { after, .. } = &mut rule.kind {
                    after.clock = clock;
                }
            }
            RuleSet::new(rules, business_hours).fingerprints().to_vec()
        };
        let changes = |clock| of_calendar(clock, "9 to 5") != of_calendar(clock, "9 to 6");
        assert!(changes(Clock::BusinessHours) && !changes(Clock::Always));
    }
}
