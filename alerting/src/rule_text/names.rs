//! The names of rules across all files. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use revwatch_runtime::config::Fault;
use revwatch_runtime::files::{NamedText, place};
use toml::Spanned;
use toml::de::DeValue;

use super::located::located;

/// The names of rules, and the names that rules refer to.
#[derive(Default)]
pub(super) struct Names<'a> {
    /// The first position of each rule.
    first: BTreeMap<String, String>,
    /// The names in each rule's `inhibited_by`, and their positions.
    inhibited_by: BTreeMap<String, Vec<InhibitingRule<'a>>>,
    /// The same of rules that have no name of their own: a fault of another kind.
    of_unnamed: Vec<InhibitingRule<'a>>,
    /// Some rule has no name.
    is_unnamed: bool,
}

/// A rule that explains another: its name, and the position where it is named.
type InhibitingRule<'a> = (String, &'a NamedText, Range<usize>);

impl<'a> Names<'a> {
    /// Also records rules that are otherwise faulty.
    pub(super) fn record(
        &mut self,
        file: &'a NamedText,
        item: &Spanned<DeValue<'_>>,
        fault: &mut dyn FnMut(Option<Range<usize>>, &str),
    ) {
        let Some(table) = item.get_ref().as_table() else {
            return;
        };
        let inhibiting = table
            .get("inhibited_by")
            .and_then(|value| value.get_ref().as_array());
        let inhibiting = inhibiting
            .into_iter()
            .flatten()
            .filter_map(|value| Some((value.get_ref().as_str()?.to_owned(), file, value.span())));
        let Some(name) = table.get("name").filter(|name| name.get_ref().is_str()) else {
            self.of_unnamed.extend(inhibiting);
            self.is_unnamed = true;
            return;
        };
        let (text, span) = (
            name.get_ref().as_str().unwrap_or_default().to_owned(),
            name.span(),
        );
        if let Some(first) = self.first.get(&text) {
            fault(
                Some(span),
                &format!("there are two rules named {text:?}; the first is at {first}"),
            );
            self.of_unnamed.extend(inhibiting);
            return;
        }
        self.first
            .insert(text.clone(), place(file, Some(span)).to_string());
        self.inhibited_by.insert(text, inhibiting.collect());
    }

    /// The names of all rules, unless some cannot be read.
    pub(super) fn all(&self) -> Option<Vec<String>> {
        (!self.is_unnamed).then(|| self.first.keys().cloned().collect())
    }

    /// Checks that inhibiting rules exist, and that none explains itself: two rules that explain
    /// each other would mute each other.
    pub(super) fn check(&self, faults: &mut Vec<Fault>) {
        let named = self.inhibited_by.values().flatten();
        for (name, file, span) in named.chain(&self.of_unnamed) {
            if !self.first.contains_key(name) {
                let what = format!("`inhibited_by` names {name:?}, which is not a rule");
                faults.push(located(file, Some(span.clone()), &what));
            }
        }
        for (rule, inhibited_by) in &self.inhibited_by {
            for (name, file, span) in inhibited_by {
                if self.leads_to(name, rule) {
                    let what = format!(
                        "`inhibited_by` leads from {rule:?} via {name:?} back to {rule:?}: no notification would be sent"
                    );
                    faults.push(located(file, Some(span.clone()), &what));
                }
            }
        }
    }

    /// Whether `from` is `to`, or is explained by it, directly or through other rules.
    fn leads_to(&self, from: &str, to: &str) -> bool {
        let mut seen = BTreeSet::new();
        let mut ahead = vec![from];
        while let Some(rule) = ahead.pop() {
            if rule == to {
                return true;
            }
            if seen.insert(rule) {
                ahead.extend(
                    self.inhibited_by
                        .get(rule)
                        .into_iter()
                        .flatten()
                        .map(|(name, ..)| name.as_str()),
                );
            }
        }
        false
    }
}
