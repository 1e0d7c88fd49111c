//! Commands of people, and expectations. Pure.

use std::collections::BTreeMap;

use revwatch_alerting::stage::Stage;
use revwatch_core::durations::Span;
use revwatch_runtime::files::place;
use revwatch_runtime::wording;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use super::super::scenario::{Expect, Order, OrderKind, Scenario, SubjectMatch, Want};
use super::{Item, Reader};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCommand {
    acknowledge: Option<RawSubject>,
    resolve: Option<RawSubject>,
    silence: Option<RawSilence>,
    by: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSubject {
    rule: Spanned<String>,
    subject: Option<String>,
    account: Option<String>,
    segment: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSilence {
    rule: Option<Spanned<String>>,
    account: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(rename = "for")]
    lasts: Span,
    #[serde(default = "default_text")]
    reason: String,
}

/// The person, or the reason, of a command that names none.
const DEFAULT_TEXT: &str = "a rule test";

fn default_text() -> String {
    DEFAULT_TEXT.to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExpect {
    rule: Spanned<String>,
    subject: Option<String>,
    account: Option<String>,
    segment: Option<String>,
    state: Option<RawStage>,
    count: Option<usize>,
    #[serde(alias = "told")]
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
        let raw: RawCommand = self.read(item)?;
        let by = raw.by.unwrap_or_else(default_text);
        let what = match (raw.acknowledge, raw.resolve, raw.silence) {
            (Some(subject), None, None) => OrderKind::Acknowledge(self.subject(subject, scenario)),
            (None, Some(subject), None) => OrderKind::Resolve(self.subject(subject, scenario)),
            (
                None,
                None,
                Some(RawSilence {
                    rule,
                    account,
                    labels,
                    lasts,
                    reason,
                }),
            ) => {
                if let Some(rule) = &rule {
                    self.note_rule(scenario, rule);
                }
                if rule.is_none() && account.is_none() && labels.is_empty() {
                    self.fault(
                        Some(item.span()),
                        "a silence needs `rule`, `account` or `labels`",
                    );
                    return None;
                }
                let rule = rule.map(Spanned::into_inner);
                OrderKind::Silence {
                    rule,
                    account,
                    labels,
                    for_s: lasts.0,
                    reason,
                }
            }
            _ => {
                self.fault(
                    Some(item.span()),
                    "a command must be one of `acknowledge`, `resolve`, `silence`",
                );
                return None;
            }
        };
        Some(Order {
            by,
            what,
            place: place(self.file, Some(item.span())).to_string(),
        })
    }

    pub(super) fn expect(&mut self, item: &Item<'_>, scenario: &mut Scenario) -> Option<Want> {
        let raw: RawExpect = self.read(item)?;
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
        if state.is_none() && notified.is_none() && notices.is_none() && says.is_none() {
            self.fault(
                Some(item.span()),
                "an expectation needs `state`, `notified`, `notices` or `says`",
            );
            return None;
        }
        if count.is_some() && state.is_none() {
            self.fault(
                Some(item.span()),
                "`count` needs `state`: it is the number of subjects in it",
            );
            return None;
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
        SubjectMatch {
            rule: raw.rule.into_inner(),
            subject: raw.subject,
            account: raw.account,
            segment: raw.segment,
        }
    }

    /// Records a rule that is named but does not exist.
    pub(super) fn note_rule(&mut self, scenario: &mut Scenario, name: &Spanned<String>) {
        if !scenario
            .rules
            .iter()
            .any(|rule| rule.name == *name.get_ref())
        {
            let what = format!("there is no rule {:?} here", name.get_ref());
            let place = format!("{}: {what}", place(self.file, Some(name.span())));
            scenario.missing.push((name.get_ref().clone(), place));
        }
    }
}
