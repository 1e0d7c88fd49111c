//! The subjects that a test names. An expectation about one that no event makes would prove nothing: it is
//! inactive whatever the rule says. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use revwatch_alerting::rule::{Rule, RuleKind, known_segments};
use revwatch_core::condition::ConditionKind;
use revwatch_core::counters::UNKNOWN;
use revwatch_core::entity::EntityKind;
use revwatch_core::event_settings::EventSettings;
use revwatch_runtime::config::closest_match;
use revwatch_storage::ports::Delivery;
use revwatch_worker::batch::{Place, observations};
use serde_json::Value;

use super::super::scenario::Scenario;
use super::Reader;

/// A subject of a rule, as a test names it.
pub(super) struct NamedSubject {
    pub rule: String,
    pub part: Part,
    pub value: String,
    pub span: Range<usize>,
}

/// The field that names it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Subject,
    Account,
    Segment,
}

/// What the events of a test are about.
#[derive(Default)]
struct Made {
    /// For example `payout po_1`.
    subjects: BTreeSet<String>,
    /// What is said in the fields [`NAMING`], by what it names.
    named: BTreeMap<&'static str, BTreeSet<String>>,
    /// The accounts that events about objects of a kind name.
    accounts: BTreeMap<EntityKind, BTreeSet<String>>,
    /// Some events are not known: what is not made may be made by them.
    is_partial: bool,
}

/// The fields of events that name a connected account or a segment, and what they name.
const NAMING: [(&str, &str); 5] = [
    ("account", ACCOUNT),
    ("context", ACCOUNT),
    ("destination", ACCOUNT),
    ("currency", "currency"),
    ("country", "country"),
];
const ACCOUNT: &str = "account";

impl Reader<'_> {
    /// Checks what the test names against the rules and, if all could be read, against the events of all its steps.
    pub(super) fn check_subjects(
        &mut self,
        scenario: &Scenario,
        named: &[NamedSubject],
        are_all_read: bool,
    ) {
        if named.is_empty() {
            return;
        }
        let made = Made {
            is_partial: !are_all_read,
            ..Made::by(scenario)
        };
        for name in named {
            let rule = scenario.rules.iter().find(|rule| rule.name == name.rule);
            if let Some(what) = rule.and_then(|rule| fault(rule, name, &made)) {
                self.fault(Some(name.span.clone()), &what);
            }
        }
    }
}

/// Why the rule has no such subject in this test.
fn fault(rule: &Rule, name: &NamedSubject, made: &Made) -> Option<String> {
    let kind = rule.kind.name();
    let by = match &rule.kind {
        RuleKind::Condition { .. } => None,
        RuleKind::Metric(metric) => metric.by.as_deref(),
    };
    let value = name.value.as_str();
    match (&rule.kind, name.part, by) {
        (RuleKind::Condition { condition, .. }, Part::Subject, _) => {
            let kind = value.split(' ').next().unwrap_or_default();
            match kind.parse::<EntityKind>() {
                Ok(kind) if !condition.is_of(kind) => Some(format!(
                    "{value:?} is no subject of {:?}, which has subjects like {:?}",
                    rule.name,
                    format!("{} ID", kinds_of(*condition).join(" ID, "))
                )),
                _ => made.lacks_subject(*condition, value),
            }
        }
        (RuleKind::Condition { condition, .. }, Part::Account, _) => {
            made.lacks_account(*condition, value)
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
        (RuleKind::Metric(_), Part::Segment, Some(by)) => made.lacks(by, value),
        (RuleKind::Metric(_), Part::Subject, Some(by)) => match value.strip_prefix(by) {
            Some(rest) => made.lacks(by, rest.trim_start()),
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

/// The names of the objects that can have a condition.
fn kinds_of(condition: ConditionKind) -> Vec<&'static str> {
    let kinds = EntityKind::ALL.into_iter();
    let kinds = kinds.filter(|kind| condition.is_of(*kind));
    kinds.map(EntityKind::as_str).collect()
}

impl Made {
    fn by(scenario: &Scenario) -> Self {
        let arrivals = scenario.moments.values().flat_map(|m| &m.arrivals);
        let deliveries: Vec<Delivery> = arrivals.map(|a| a.delivery.clone()).collect();
        // The settings under which a rule test applies events.
        let settings = EventSettings::default();
        let mut made = Self::default();
        for delivery in &deliveries {
            let mut named = BTreeMap::new();
            if let Ok(body) = serde_json::from_slice(&delivery.body) {
                note(&body, &mut named);
            }
            for observed in observations(Place::ONLY, std::slice::from_ref(delivery), &settings) {
                let of_kind = made.accounts.entry(observed.key.kind).or_default();
                of_kind.extend(named.get(ACCOUNT).into_iter().flatten().cloned());
                if observed.key.kind == EntityKind::Account {
                    of_kind.insert(observed.key.id.to_string());
                }
                made.subjects.insert(observed.key.to_string());
            }
            for (of, names) in named {
                made.named.entry(of).or_default().extend(names);
            }
        }
        made
    }

    /// Why no event made this entity.
    fn lacks_subject(&self, condition: ConditionKind, subject: &str) -> Option<String> {
        if self.is_partial || self.subjects.contains(subject) {
            return None;
        }
        // Those that the rule can have: `payout po_1` for `payout po_2`, and for `po_1`.
        let kinds = kinds_of(condition);
        let is_of_kind = |known: &&str| {
            known
                .split(' ')
                .next()
                .is_some_and(|it| kinds.contains(&it))
        };
        let all = self.subjects.iter().map(String::as_str);
        let known: Vec<&str> = all.filter(is_of_kind).collect();
        let of_id = |known: &&&str| known.ends_with(&format!(" {subject}"));
        let hint = match known.iter().find(of_id) {
            Some(known) => format!("did you mean {known:?}?"),
            None => listed(subject, &known),
        };
        Some(format!("no event of this test makes {subject:?}; {hint}"))
    }

    /// Why no event of this account is about an object that can have the condition.
    fn lacks_account(&self, condition: ConditionKind, account: &str) -> Option<String> {
        let of_kind = self
            .accounts
            .iter()
            .filter(|(kind, _)| condition.is_of(**kind));
        let known: BTreeSet<&str> = of_kind
            .flat_map(|(_, accounts)| accounts.iter().map(String::as_str))
            .collect();
        if self.is_partial || known.contains(account) {
            return None;
        }
        let known: Vec<&str> = known.into_iter().collect();
        let what = match kinds_of(condition).as_slice() {
            ["account"] => "names",
            [kind] => &format!("is about any {kind} of"),
            _ => "is about any object of",
        };
        Some(format!(
            "no event of this test {what} the account {account:?}; {}",
            listed(account, &known)
        ))
    }

    /// Why this is no segment of the dimension, or no event names it.
    fn lacks(&self, of: &str, value: &str) -> Option<String> {
        if let Some(known) = known_segments(of) {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let is_known = known.contains(&value);
            return (!is_known).then(|| {
                format!(
                    "there is no segment {value:?} by {of}; {}",
                    listed(value, &known)
                )
            });
        }
        let known = self.named.get(of).into_iter().flatten();
        let known: Vec<&str> = known.map(String::as_str).collect();
        if self.is_partial || known.contains(&value) || value == UNKNOWN {
            return None;
        }
        Some(format!(
            "no event of this test names the {of} {value:?}; {}",
            listed(value, &known)
        ))
    }
}

/// Notes what an event, or a part of it, names.
fn note(part: &Value, named: &mut BTreeMap<&'static str, BTreeSet<String>>) {
    match part {
        Value::Array(items) => items.iter().for_each(|item| note(item, named)),
        Value::Object(fields) => {
            for (field, value) in fields {
                let of = NAMING.iter().find(|(naming, _)| naming == field);
                // Stripe names an object by its id, or shows all of it.
                let text = value.as_str().or_else(|| value["id"].as_str());
                if let (Some((_, of)), Some(text)) = (of, text) {
                    let names = text.split('/').map(|name| segment_of(of, name));
                    named.entry(of).or_default().extend(names);
                }
                note(value, named);
            }
        }
        _ => {}
    }
}

/// The name as alerts have it: currencies in lower case, countries in capitals.
fn segment_of(of: &str, name: &str) -> String {
    match of {
        "currency" => name.to_ascii_lowercase(),
        "country" => name.to_ascii_uppercase(),
        _ => name.to_owned(),
    }
}

/// What there is instead, and what was probably meant.
fn listed(wanted: &str, known: &[&str]) -> String {
    const MAX_LISTED: usize = 20;
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
