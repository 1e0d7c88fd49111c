//! The subjects that a test names. An expectation about one that no event makes would prove nothing: it is
//! inactive whatever the rule says. Pure.

use std::collections::BTreeSet;
use std::ops::Range;

use revwatch_alerting::rule::{Rule, RuleKind, known_segments};
use revwatch_core::condition::ConditionKind;
use revwatch_core::counters::UNKNOWN;
use revwatch_core::entity::EntityKind;
use revwatch_runtime::config::closest_match;
use toml::Spanned;

use super::super::scenario::Scenario;
use super::Reader;
use super::made::Made;

/// A subject of a rule, as a test names it.
pub(super) struct NamedSubject {
    /// A silence may name none.
    pub rule: Option<String>,
    pub part: Part,
    pub value: String,
    pub span: Range<usize>,
}

/// What names it: a field, or a label.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Part {
    Subject,
    Account,
    Segment,
    Label(String),
}

impl NamedSubject {
    pub(super) fn of(rule: Option<&String>, part: Part, value: &Spanned<String>) -> Self {
        Self {
            rule: rule.cloned(),
            part,
            value: value.get_ref().clone(),
            span: value.span(),
        }
    }
}

impl Reader<'_> {
    /// Checks what the test names against the rules and against the events of all its steps.
    pub(super) fn check_subjects(&mut self, scenario: &Scenario) {
        let made = std::mem::take(&mut self.made);
        for name in std::mem::take(&mut self.named) {
            let is_named = |rule: &&Rule| name.rule.as_ref() == Some(&rule.name);
            let what = match (&name.part, scenario.rules.iter().find(is_named)) {
                (Part::Label(label), _) => self.fault_of_label(label, &name.value, &made),
                (_, Some(rule)) => fault(rule, &name, &made),
                (_, None) => fault_of_any(&name, &made),
            };
            if let Some(what) = what {
                self.fault(Some(name.span), &what);
            }
        }
    }

    /// Why no alert has this label: it is neither that of a rule nor a segment.
    fn fault_of_label(&self, label: &str, value: &str, made: &Made) -> Option<String> {
        // A rule that cannot be read may have it.
        if !self.are_labels_read {
            return None;
        }
        let of_rules = self.rules.iter().filter_map(|rule| rule.labels.get(label));
        let known: BTreeSet<&str> = of_rules.map(String::as_str).collect();
        if known.contains(value) {
            return None;
        }
        if self.rules.iter().any(|rule| by(rule) == Some(label)) {
            return lacks_segment(made, label, value);
        }
        if known.is_empty() {
            let of_rules = self.rules.iter().flat_map(|rule| rule.labels.keys());
            let segments = self.rules.iter().filter_map(by);
            let names: BTreeSet<&str> = of_rules.map(String::as_str).chain(segments).collect();
            let hint = match names.is_empty() {
                true => "none has any".to_owned(),
                false => listed(label, names),
            };
            return Some(format!("no rule has a label {label:?}; {hint}"));
        }
        let what = format!("no rule has a label {label:?} of {value:?}");
        Some(format!("{what}; {}", listed(value, known)))
    }
}

/// What divides the alerts of the rule.
fn by(rule: &Rule) -> Option<&str> {
    match &rule.kind {
        RuleKind::Condition { .. } => None,
        RuleKind::Metric(metric) => metric.by.as_deref(),
    }
}

/// Why the rule has no such subject in this test.
fn fault(rule: &Rule, name: &NamedSubject, made: &Made) -> Option<String> {
    let kind = rule.kind.name();
    let value = name.value.as_str();
    match (&rule.kind, &name.part, by(rule)) {
        (_, Part::Label(_), _) => None,
        (RuleKind::Condition { condition, .. }, Part::Subject, _) => {
            let kind = value.split(' ').next().unwrap_or_default();
            match kind.parse::<EntityKind>() {
                Ok(kind) if !condition.is_of(kind) => Some(format!(
                    "{value:?} is no subject of {:?}, which has subjects like {:?}",
                    rule.name,
                    format!("{} ID", kinds_of(*condition).join(" ID, "))
                )),
                _ => lacks_subject(made, Some(*condition), value),
            }
        }
        (RuleKind::Condition { condition, .. }, Part::Account, _) => {
            lacks_account(made, Some(*condition), value)
        }
        (RuleKind::Condition { .. }, Part::Segment, _) => Some(format!(
            "`segment` does not apply to {:?}: a rule of kind {kind} has one alert for each object, and none for a \
             segment of the business. Name `subject` or `account`",
            rule.name
        )),
        (RuleKind::Metric(_), Part::Account, _) => Some(format!(
            "`account` does not apply to {:?}: a rule of kind {kind} is about the business, not about one account",
            rule.name
        )),
        (RuleKind::Metric(_), Part::Segment, Some(by)) => lacks_segment(made, by, value),
        (RuleKind::Metric(_), Part::Subject, Some(by)) => match value.strip_prefix(by) {
            Some(rest) => lacks_segment(made, by, rest.trim_start()),
            None => Some(format!(
                "{value:?} is no subject of {:?}, which has one alert for each {by}: name `segment`",
                rule.name
            )),
        },
        (RuleKind::Metric(_), Part::Segment | Part::Subject, None) => Some(format!(
            "{value:?} is no subject of {:?}: without `by`, a rule of kind {kind} has one alert for all of the \
             business. Leave it out",
            rule.name
        )),
    }
}

/// The same of no rule, or of one that is not known: only objects and accounts can be checked.
fn fault_of_any(name: &NamedSubject, made: &Made) -> Option<String> {
    let value = name.value.as_str();
    let kind = value.split(' ').next().unwrap_or_default();
    match name.part {
        Part::Subject if kind.parse::<EntityKind>().is_ok() => lacks_subject(made, None, value),
        Part::Account => lacks_account(made, None, value),
        Part::Subject | Part::Segment | Part::Label(_) => None,
    }
}

/// The names of the objects that can have a condition.
fn kinds_of(condition: ConditionKind) -> Vec<&'static str> {
    let kinds = EntityKind::ALL.into_iter();
    let kinds = kinds.filter(|kind| condition.is_of(*kind));
    kinds.map(EntityKind::as_str).collect()
}

/// Why no event made this entity; `condition`: only those that can have it are listed.
fn lacks_subject(made: &Made, condition: Option<ConditionKind>, subject: &str) -> Option<String> {
    let all = made.subjects_without(subject)?;
    // Those that the rule can have: `payout po_1` for `payout po_2`, and for `po_1`.
    let kinds = condition.map(kinds_of);
    let is_of_kind = |known: &&str| {
        let kind = known.split(' ').next().unwrap_or_default();
        kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
    };
    let known: BTreeSet<&str> = all.filter(is_of_kind).collect();
    let of_id = |known: &&&str| known.ends_with(&format!(" {subject}"));
    let hint = match known.iter().find(of_id) {
        Some(known) => format!("did you mean {known:?}?"),
        None => listed(subject, known),
    };
    Some(format!("no event of this test makes {subject:?}; {hint}"))
}

/// Why no event of this account is about an object that can have the condition, or about any.
fn lacks_account(made: &Made, condition: Option<ConditionKind>, account: &str) -> Option<String> {
    let known = made.accounts_without(condition, account)?;
    let what = match condition.map(kinds_of).unwrap_or_default().as_slice() {
        ["account"] | [] => "names",
        [kind] => &format!("is about any {kind} of"),
        _ => "is about any object of",
    };
    Some(format!(
        "no event of this test {what} the account {account:?}; {}",
        listed(account, known)
    ))
}

/// Why this is no segment of the dimension, or no object of the test is in it.
fn lacks_segment(made: &Made, of: &str, value: &str) -> Option<String> {
    if let Some(known) = known_segments(of) {
        let is_known = known.iter().any(|known| known == value);
        let hint = listed(value, known.iter().map(String::as_str));
        return (!is_known).then(|| format!("there is no segment {value:?} by {of}; {hint}"));
    }
    if value == UNKNOWN {
        return None;
    }
    let known = made.segments_without(of, value)?;
    Some(format!(
        "no event of this test is about an object of the {of} {value:?}; {}",
        listed(value, known)
    ))
}

/// What there is instead, and what was probably meant.
fn listed<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    const MAX_LISTED: usize = 20;
    let known: Vec<&str> = known.into_iter().collect();
    if known.is_empty() {
        return "its events make none".to_owned();
    }
    let more = match known.len().saturating_sub(MAX_LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let list = known.iter().take(MAX_LISTED).copied();
    let list = list.collect::<Vec<_>>().join(", ") + &more;
    // `mondy` is more like `mon` than like the others.
    let begins = |known: &&&str| wanted.starts_with(**known);
    let near = closest_match(wanted, known.iter().copied());
    match near.or_else(|| known.iter().find(begins).copied()) {
        Some(near) => format!("did you mean {near:?}? There are {list}"),
        None => format!("there are {list}"),
    }
}
