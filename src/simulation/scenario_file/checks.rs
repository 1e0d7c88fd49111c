//! Commands of people, and expectations. Pure.

use std::collections::BTreeMap;

use revwatch_alerting::alert::DIGEST;
use revwatch_alerting::stage::Stage;
use revwatch_core::durations::Span;
use revwatch_runtime::config::{Fault, closest_match};
use revwatch_runtime::files::place;
use revwatch_runtime::wording;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use super::super::scenario::{Expect, Order, OrderKind, Scenario, SubjectMatch, Want};
use super::subjects::{NamedSubject, Part};
use super::{Item, Reader};

/// The fields of a command, of the alerts that one is about, of a silence and of an expectation.
const COMMAND: [&str; 4] = ["acknowledge", "resolve", "silence", "by"];
const SUBJECT: [&str; 4] = ["rule", "subject", "account", "segment"];
const SILENCE: [&str; 5] = ["rule", "account", "labels", "for", "reason"];
const EXPECT: [&str; 9] = [
    "rule", "subject", "account", "segment", "state", "count", "notified", "notices", "says",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCommand {
    by: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSubject {
    rule: Spanned<String>,
    subject: Option<Spanned<String>>,
    account: Option<Spanned<String>>,
    segment: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSilence {
    rule: Option<Spanned<String>>,
    account: Option<Spanned<String>>,
    #[serde(default)]
    labels: BTreeMap<String, Spanned<String>>,
    #[serde(rename = "for")]
    lasts: Span,
    reason: Option<String>,
}

/// The person, or the reason, of a command that names none.
const DEFAULT_TEXT: &str = "a rule test";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExpect {
    rule: Spanned<String>,
    subject: Option<Spanned<String>>,
    account: Option<Spanned<String>>,
    segment: Option<Spanned<String>>,
    state: Option<RawStage>,
    count: Option<usize>,
    notified: Option<usize>,
    notices: Option<usize>,
    says: Option<String>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum RawStage {
    Inactive,
    Pending,
    Firing,
    Acknowledged,
    Resolved,
}

impl Reader<'_> {
    pub(super) fn command(&mut self, item: &Item<'_>, scenario: &mut Scenario) -> Option<Order> {
        let mut head = item.clone();
        let acknowledge = self.take(&mut head, "acknowledge");
        let resolve = self.take(&mut head, "resolve");
        let silence = self.take(&mut head, "silence");
        let raw: RawCommand = self.table(&head, &COMMAND)?;
        let by = raw.by.unwrap_or_else(|| DEFAULT_TEXT.to_owned());
        let what = match (acknowledge, resolve, silence) {
            (Some(alerts), None, None) => OrderKind::Acknowledge(self.alerts(&alerts, scenario)?),
            (None, Some(alerts), None) => OrderKind::Resolve(self.alerts(&alerts, scenario)?),
            (None, None, Some(silence)) => self.silence(&silence, scenario)?,
            _ => {
                if self.is_known(item, &COMMAND) {
                    let what = "a command must be one of `acknowledge`, `resolve`, `silence`";
                    self.fault(Some(item.span()), what);
                }
                return None;
            }
        };
        Some(Order {
            by,
            what,
            place: place(self.file, Some(item.span())).to_string(),
        })
    }

    /// The alerts that a command is about.
    fn alerts(&mut self, item: &Item<'_>, scenario: &mut Scenario) -> Option<SubjectMatch> {
        let raw: RawSubject = self.table(item, &SUBJECT)?;
        Some(self.subject(raw, scenario))
    }

    fn silence(&mut self, item: &Item<'_>, scenario: &mut Scenario) -> Option<OrderKind> {
        let RawSilence {
            rule,
            account,
            labels,
            lasts,
            reason,
        } = self.table(item, &SILENCE)?;
        if let Some(rule) = &rule {
            self.note_rule(scenario, rule);
        }
        if rule.is_none() && account.is_none() && labels.is_empty() {
            if !self.is_known(item, &SILENCE) {
                return None;
            }
            self.fault(
                Some(item.span()),
                "a silence needs `rule`, `account` or `labels`",
            );
            return None;
        }
        let rule = rule.map(Spanned::into_inner);
        let account_named = account.iter().map(|account| (Part::Account, account));
        let labels_named = labels.iter();
        let labels_named = labels_named.map(|(label, value)| (Part::Label(label.clone()), value));
        let named = account_named.chain(labels_named);
        self.named
            .extend(named.map(|(part, value)| NamedSubject::of(rule.as_ref(), part, value)));
        let labels = labels.into_iter();
        Some(OrderKind::Silence {
            rule,
            account: account.map(Spanned::into_inner),
            labels: labels
                .map(|(label, value)| (label, value.into_inner()))
                .collect(),
            for_s: lasts.0,
            reason: reason.unwrap_or_else(|| DEFAULT_TEXT.to_owned()),
        })
    }

    pub(super) fn expect(&mut self, item: &Item<'_>, scenario: &mut Scenario) -> Option<Want> {
        let item = &with_new_names(item);
        let faults = self.faults.len();
        let raw: RawExpect = self.table(item, &EXPECT)?;
        // What seems to be missing may be what cannot be read.
        let is_read = self.faults.len() == faults;
        let RawExpect {
            rule,
            subject,
            account,
            segment,
            state,
            count,
            notified,
            notices,
            says,
        } = raw;
        let expects_nothing =
            state.is_none() && notified.is_none() && notices.is_none() && says.is_none();
        let what = match (count, state) {
            (Some(_), None) => Some("`count` needs `state`: it is the number of subjects in it"),
            _ if expects_nothing => {
                Some("an expectation needs `state`, `notified`, `notices` or `says`")
            }
            (_, Some(_)) if *rule.get_ref() == DIGEST => Some(
                "the digest of what was wrong already has no `state`: expect `notified`, `notices` or `says`",
            ),
            _ => None,
        };
        if let Some(what) = what.filter(|_| is_read) {
            self.fault(Some(item.span()), what);
        }
        let stage = state.map(|state| match state {
            RawStage::Inactive => Stage::Inactive,
            RawStage::Pending => Stage::Pending,
            RawStage::Firing => Stage::Firing,
            RawStage::Acknowledged => Stage::Acknowledged,
            RawStage::Resolved => Stage::Resolved,
        });
        let subject = self.subject(
            RawSubject {
                rule,
                subject,
                account,
                segment,
            },
            scenario,
        );
        Some(Want::Expect(Expect {
            subject,
            stage,
            count,
            notified,
            notices,
            says,
        }))
    }

    pub(super) fn quiet(&mut self, item: &Item<'_>, scenario: &mut Scenario) -> Option<Want> {
        match item.get_ref() {
            DeValue::Boolean(true) => Some(Want::Quiet(None)),
            DeValue::Array(_) => {
                let names =
                    Vec::<Spanned<String>>::deserialize(ValueDeserializer::from(item.clone()));
                let names = names
                    .map_err(|error| self.fault(error.span(), &wording::plain(error.message())))
                    .ok()?;
                for name in &names {
                    self.note_rule(scenario, name);
                }
                Some(Want::Quiet(Some(
                    names.into_iter().map(Spanned::into_inner).collect(),
                )))
            }
            _ => {
                self.fault(
                    Some(item.span()),
                    "`expect_none` must be true, or a list of rules",
                );
                None
            }
        }
    }

    fn subject(&mut self, raw: RawSubject, scenario: &mut Scenario) -> SubjectMatch {
        self.note_rule(scenario, &raw.rule);
        let rule = raw.rule.into_inner();
        let given = [
            (Part::Subject, &raw.subject),
            (Part::Account, &raw.account),
            (Part::Segment, &raw.segment),
        ];
        for (part, value) in given {
            let named = value.as_ref();
            let named = named.map(|value| NamedSubject::of(Some(&rule), part, value));
            self.named.extend(named);
        }
        SubjectMatch {
            rule,
            subject: raw.subject.map(Spanned::into_inner),
            account: raw.account.map(Spanned::into_inner),
            segment: raw.segment.map(Spanned::into_inner),
        }
    }

    /// Records a rule that is named but does not exist, or that `only` leaves out.
    pub(super) fn note_rule(&mut self, scenario: &mut Scenario, name: &Spanned<String>) {
        let known = || scenario.rules.iter().map(|rule| rule.name.as_str());
        let wanted = name.get_ref();
        if wanted == DIGEST || known().any(|known| known == wanted) {
            return;
        }
        // If the names cannot be read, it is unknown which are missing.
        let Some(names) = &self.names else {
            return;
        };
        if names.contains(wanted) {
            let only = self.only.as_ref();
            if only.is_some_and(|only| !only.contains(wanted)) {
                let what = format!("`only` of this test leaves out the rule {wanted:?}");
                self.fault(Some(name.span()), &what);
            }
            return;
        }
        let hint = closest_match(wanted, names.iter().map(String::as_str))
            .map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
        let what = format!("there is no rule {wanted:?} here{hint}");
        let fault = Fault::at(place(self.file, Some(name.span())), what);
        scenario.missing.push((wanted.clone(), fault));
    }
}

/// An expectation with today's names: `told` is the earlier one of `notified`.
fn with_new_names<'a>(item: &Item<'a>) -> Item<'a> {
    let mut item = item.clone();
    if let DeValue::Table(table) = item.get_mut()
        && !table.contains_key("notified")
        && let Some((key, value)) = table.remove_entry("told")
    {
        table.insert(Spanned::new(key.span(), "notified".into()), value);
    }
    item
}
