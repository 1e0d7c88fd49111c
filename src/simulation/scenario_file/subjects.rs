//! The subjects that a test names. An expectation about one that no event makes would prove nothing: it is
//! inactive whatever the rule says. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use revwatch_alerting::rule::{Rule, RuleKind};
use revwatch_core::counters::UNKNOWN;
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
struct Made {
    /// For example `payout po_1`.
    subjects: BTreeSet<String>,
    /// What is said in the fields [`NAMING`], by what it names.
    named: BTreeMap<&'static str, BTreeSet<String>>,
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
    /// Checks what the test names against the rules and against the events of all its steps.
    pub(super) fn check_subjects(&mut self, scenario: &Scenario, named: &[NamedSubject]) {
        if named.is_empty() {
            return;
        }
        let made = Made::by(scenario);
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
        (RuleKind::Condition { .. }, Part::Subject, _) => made.lacks_subject(value),
        (RuleKind::Condition { .. }, Part::Account, _) => made.lacks(ACCOUNT, value),
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

impl Made {
    fn by(scenario: &Scenario) -> Self {
        let arrivals = scenario.moments.values().flat_map(|m| &m.arrivals);
        let deliveries: Vec<Delivery> = arrivals.map(|a| a.delivery.clone()).collect();
        // The settings under which a rule test applies events.
        let observed = observations(Place::ONLY, &deliveries, &EventSettings::default());
        let mut made = Self {
            subjects: observed.iter().map(|o| o.key.to_string()).collect(),
            named: BTreeMap::new(),
        };
        let accounts = made.subjects.iter();
        let accounts = accounts.filter_map(|subject| subject.strip_prefix("account "));
        let accounts = accounts.map(str::to_owned).collect();
        made.named.insert(ACCOUNT, accounts);
        for delivery in &deliveries {
            if let Ok(body) = serde_json::from_slice(&delivery.body) {
                made.note(&body);
            }
        }
        made
    }

    /// Notes what an event, or a part of it, names.
    fn note(&mut self, part: &Value) {
        match part {
            Value::Array(items) => items.iter().for_each(|item| self.note(item)),
            Value::Object(fields) => {
                for (field, value) in fields {
                    let of = NAMING.iter().find(|(naming, _)| naming == field);
                    // Stripe names an object by its id, or shows all of it.
                    let text = value.as_str().or_else(|| value["id"].as_str());
                    if let (Some((_, of)), Some(text)) = (of, text) {
                        let names = text.split('/').map(|name| segment_of(of, name));
                        self.named.entry(of).or_default().extend(names);
                    }
                    self.note(value);
                }
            }
            _ => {}
        }
    }

    /// Why no event made this entity.
    fn lacks_subject(&self, subject: &str) -> Option<String> {
        if self.subjects.contains(subject) {
            return None;
        }
        // Those of its kind, if there are any: `payout po_1` for `payout po_2`, and for `po_1`.
        let kind = subject.split(' ').next().unwrap_or_default();
        let of_kind = |known: &&&str| known.split(' ').any(|word| word == kind);
        let all: Vec<&str> = self.subjects.iter().map(String::as_str).collect();
        let alike: Vec<&str> = all.iter().filter(of_kind).copied().collect();
        let known = if alike.is_empty() { all } else { alike };
        let of_id = |known: &&&str| known.ends_with(&format!(" {subject}"));
        let hint = match known.iter().find(of_id) {
            Some(known) => format!("did you mean {known:?}?"),
            None => listed(subject, &known),
        };
        Some(format!("no event of this test makes {subject:?}; {hint}"))
    }

    /// Why no event names this account or segment. Of dimensions that events do not name, every value may come up.
    fn lacks(&self, of: &str, value: &str) -> Option<String> {
        let is_noted = NAMING.iter().any(|(_, named)| *named == of);
        let known: Vec<&str> = self
            .named
            .get(of)
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        if !is_noted || known.contains(&value) || of != ACCOUNT && value == UNKNOWN {
            return None;
        }
        Some(format!(
            "no event of this test names the {of} {value:?}; {}",
            listed(value, &known)
        ))
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
    match closest_match(wanted, known.iter().copied()) {
        Some(near) => format!("did you mean {near:?}? There are {list}"),
        None => format!("there are {list}"),
    }
}
