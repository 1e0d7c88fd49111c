//! A rule as rule files write it, for programs. Pure.

use revwatch_core::durations::Span;
use serde_json::{Map, Value, json};

use super::rule::known_fields;
use crate::rule::{KINDS, Rule, SlaOverride, duration_field};

/// Every field that a rule of its kind may have, with its value in this rule; null where it has none.
pub fn written(rule: &Rule) -> Map<String, Value> {
    let kind = KINDS.into_iter().find(|kind| kind.name == rule.kind.name());
    let unset = known_fields(kind).into_iter();
    let mut fields: Map<String, Value> =
        unset.map(|field| (field.to_owned(), Value::Null)).collect();
    // What a kind of rule does not have says nothing of it, such as the smallest number of samples of a count.
    for (field, value) in rule.kind.fields().into_iter().chain(common(rule)) {
        if let Some(unset) = fields.get_mut(field) {
            *unset = value;
        }
    }
    fields
}

/// The fields that do not depend on what is evaluated.
fn common(rule: &Rule) -> Vec<(&'static str, Value)> {
    // Without `..`, so that no field is forgotten.
    let Rule {
        name,
        kind,
        severity,
        route,
        notifiers,
        labels,
        title,
        actions,
        runbook,
        for_s,
        keep_firing_for_s,
        reopen_within_s,
        fresh_within_s,
        sla:
            SlaOverride {
                respond_s,
                resolve_s,
                clock,
            },
        inhibited_by,
        requirement,
    } = rule;
    vec![
        ("name", json!(name)),
        ("kind", json!(kind.name())),
        ("severity", json!(severity)),
        ("respond", json!(respond_s.map(Span))),
        ("resolve", json!(resolve_s.map(Span))),
        ("clock", json!(clock)),
        ("notify", json!(notifiers)),
        ("route", json!(route)),
        ("labels", json!(labels)),
        ("title", json!(title)),
        ("actions", json!(actions)),
        ("runbook", json!(runbook)),
        ("inhibited_by", json!(inhibited_by)),
        ("requirement", json!(requirement)),
        ("for", json!(duration_field(*for_s))),
        ("keep_firing_for", json!(duration_field(*keep_firing_for_s))),
        ("reopen_within", json!(duration_field(*reopen_within_s))),
        ("fresh_within", json!(fresh_within_s.map(Span))),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::rule_text::{built_in, parse};

    const COMMON: &str = "severity = \"high\"\nroute = \"x\"\ntitle = \"t\"\nactions = [\"a\"]\nrespond = \"1h\"\n\
        resolve = \"2h\"\nclock = \"business_hours\"\nnotify = [\"email\"]\nlabels = { team = \"growth\" }\n\
        runbook = \"docs/x.md\"\ninhibited_by = []\nrequirement = [\"C1\"]\nkeep_firing_for = \"3m\"\n\
        reopen_within = \"4m\"\nfresh_within = \"5d\"\n";

    /// A rule of each kind with every field that it may have; of those that exclude each other, with one pair.
    const COMPLETE: [(&str, &str); 8] = [
        (
            "condition",
            "condition = \"past_due\"\nafter = \"7d\"\nafter_clock = \"business_hours\"\n",
        ),
        (
            "ratio",
            "metric = \"payout_failures\"\nby = \"currency\"\nwindow = \"24h\"\ndelay = \"2h\"\nabove = 0.1\n\
             clear_below = 0.05\nmin_denominator = 7\n",
        ),
        (
            "count",
            "metric = \"payouts_failed\"\nby = \"currency\"\nwindow = \"24h\"\ndelay = \"2h\"\nabove = 5\n\
             clear_below = 3\n",
        ),
        (
            "gauge",
            "metric = \"mrr\"\nby = \"currency\"\nbelow = 100\nclear_above = 200\n",
        ),
        (
            "drop",
            "metric = \"mrr\"\nby = \"currency\"\nwindow = \"24h\"\nabsolute = true\nabove = 100\nclear_below = 50\n\
             min_denominator = 7\n",
        ),
        (
            "consecutive",
            "metric = \"past_due_share\"\ndays = 3\ntime_zone = \"Europe/Lisbon\"\nabove = 0.08\n\
             clear_below = 0.07\nmin_denominator = 7\n",
        ),
        (
            "percentile",
            "metric = \"onboarding_seconds\"\npercentile = 90\nwindow = \"7d\"\ndelay = \"1h\"\nabove = 3600\n\
             clear_below = 1800\nmin_denominator = 7\n",
        ),
        (
            "absence",
            "metric = \"payouts_paid\"\nwindow = \"24h\"\ndelay = \"1h\"\n",
        ),
    ];

    fn parsed(text: &str) -> Rule {
        let rules = parse(&[("f.toml".to_owned(), text.to_owned())]);
        rules
            .unwrap_or_else(|error| panic!("{error}\n{text}"))
            .remove(0)
    }

    /// The text of a rule, from what was written of it.
    fn text(fields: &Map<String, Value>) -> String {
        let set = fields.iter().filter(|(_, value)| !value.is_null());
        let set: Map<String, Value> = set.map(|(k, v)| (k.clone(), v.clone())).collect();
        let rule = toml::to_string(&json!({"rule": [set]}));
        rule.expect("TOML")
    }

    fn complete(kind: &str, fields: &str) -> Rule {
        let metric = "for = \"2m\"\nno_data = \"clear\"\n";
        let scope = "owner = \"any\"\nrealm = \"kernel\"\n";
        let more = match (kind, fields) {
            ("condition", _) => scope.to_owned(),
            (_, of_accounts) if of_accounts.contains("onboarding") => {
                format!("{metric}realm = \"kernel\"\n")
            }
            _ => format!("{metric}{scope}"),
        };
        parsed(&format!(
            "[[rule]]\nname = \"r\"\nkind = \"{kind}\"\n{COMMON}{fields}{more}"
        ))
    }

    #[test]
    fn every_field_of_every_kind_is_written() {
        let kinds: BTreeSet<&str> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(kinds, COMPLETE.iter().map(|(kind, _)| *kind).collect());
        for (kind, fields) in COMPLETE {
            let written = written(&complete(kind, fields));
            let unset = written.iter().filter(|(_, value)| value.is_null());
            let unset: BTreeSet<&str> = unset.map(|(field, _)| field.as_str()).collect();
            // They exclude the others, or do not apply to accounts.
            let may_lack = ["above", "clear_below", "below", "clear_above", "owner"];
            let lacking: Vec<_> = unset.iter().filter(|it| !may_lack.contains(it)).collect();
            assert!(lacking.is_empty(), "{kind}: {lacking:?}");
        }
    }

    #[test]
    fn what_is_written_is_the_same_rule() {
        let complete = COMPLETE.map(|(kind, fields)| complete(kind, fields));
        for rule in complete.into_iter().chain(built_in().expect("valid")) {
            let fields = written(&rule);
            let mut alone = fields.clone();
            // Of the rules that it names, none is in this file.
            alone.insert("inhibited_by".to_owned(), json!([]));
            let again = parsed(&text(&alone));
            assert_eq!(written(&again), alone, "{}", rule.name);
            assert_eq!(again.describe(), rule.describe());
            assert_eq!(format!("{:?}", again.kind), format!("{:?}", rule.kind));
        }
    }
}
