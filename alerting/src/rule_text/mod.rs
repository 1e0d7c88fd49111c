//! The text form of rules: TOML, every field checked, every fault reported with its line and
//! column. Pure: [`crate::rules_file`] reads the files.

mod located;
mod names;
mod rule;
#[cfg(test)]
mod shipped;
mod written;

use std::ops::Range;

use revwatch_runtime::config::{ConfigError, Fault, in_order};
pub use revwatch_runtime::files::NamedText;
use revwatch_runtime::wording;
use toml::de::DeTable;

use self::located::located;
use self::names::Names;
pub use self::written::written;
use crate::rule::Rule;

/// The rules included with revwatch.
pub const DEFAULT_RULES: &str = include_str!("../../../deploy/rules/default.toml");

/// The rules of [`DEFAULT_RULES`].
pub fn built_in() -> Result<Vec<Rule>, ConfigError> {
    parse(&[("built-in rules".to_owned(), DEFAULT_RULES.to_owned())])
}

/// Parses rule files, or finds every fault, with file, line and column. Names of rules are unique across all files,
/// and there is at least one rule.
pub fn parse(files: &[NamedText]) -> Result<Vec<Rule>, ConfigError> {
    let Reading { rules, faults, .. } = read(files);
    ConfigError::none_of(faults).map(|()| rules)
}

/// What rule files say, also if they have faults.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// The rules. Those with faults are among them as far as they can be read, to check what refers to them: if there
    /// is a fault, no rule may be evaluated.
    pub rules: Vec<Rule>,
    /// The names of all rules; `None`: some cannot be read.
    pub names: Option<Vec<String>>,
    /// Every fault, from top to bottom.
    pub faults: Vec<Fault>,
}

/// Reads rule files as [`parse`] does, and keeps what can be read.
pub fn read(files: &[NamedText]) -> Reading {
    let mut rules: Vec<Rule> = Vec::new();
    let mut faults = Vec::new();
    let mut names = Names::default();
    let mut is_toml = true;
    for file in files {
        let mut fault =
            |span: Option<Range<usize>>, what: &str| faults.push(located(file, span, what));
        let (table, errors) = DeTable::parse_recoverable(&file.1);
        // What follows a syntax error is not what was meant.
        if let Some(error) = errors.first() {
            fault(error.span(), &wording::syntax(error.message()));
            is_toml = false;
            continue;
        }
        for (key, value) in table.get_ref() {
            if key.get_ref() != "rule" {
                fault(
                    Some(key.span()),
                    &format!(
                        "unknown field `{}`: rules are written as [[rule]]",
                        key.get_ref()
                    ),
                );
            } else if !value.get_ref().is_array() {
                fault(Some(value.span()), "rules are written as [[rule]]");
            }
        }
        let items = table
            .get_ref()
            .get("rule")
            .and_then(|value| value.get_ref().as_array());
        for item in items.into_iter().flatten() {
            names.record(file, item, &mut fault);
            let (rule, found) = rule::read(item);
            rules.extend(rule);
            found
                .iter()
                .for_each(|found| fault(Some(found.span.clone()), &found.what));
        }
    }
    // Rules that are named may be in a file that cannot be read.
    if is_toml {
        names.check(&mut faults);
    }
    if rules.is_empty() && faults.is_empty() {
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        faults.push(Fault::from(format!("no [[rule]] in {}", names.join(", "))));
    }
    Reading {
        rules,
        names: names.all().filter(|_| is_toml),
        faults: in_order(faults),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_rules_are_valid_and_name_their_requirements() {
        let rules = built_in().expect("valid");
        for rule in &rules {
            assert!(
                !rule.requirement.is_empty() && rule.runbook.is_some(),
                "{}",
                rule.name
            );
        }
    }

    #[test]
    fn faults_are_reported_with_line_and_column() {
        let rule = |lines: &str| {
            format!(
                "\n[[rule]]\nname = \"r\"\nseverity = \"high\"\nroute = \"x\"\ntitle = \"t\"\nactions = [\"a\"]\n{lines}\n"
            )
        };
        let ratio = "kind = \"ratio\"\nmetric = \"payout_failures\"\nwindow = \"24h\"\n";
        let table = [
            (
                rule("kind = \"condition\"\ncondition = \"charges_lost\"\nbelow = 1"),
                "f.toml:10:1: `below` does not apply to a rule of kind condition; there are `name`, `kind`, ",
            ),
            (
                rule("kind = \"condition\"\ncondition = \"charges_lost\"\nfresh_within = \"401d\""),
                "f.toml:10:1: `fresh_within` must be at most 400d: older hours are not kept",
            ),
            (
                rule(
                    "kind = \"condition\"\ncondition = \"past_due\"\nafter = \"31d\"\nafter_clock = \"business_hours\"",
                ),
                "f.toml:10:1: `after` must be at most 30d if `after_clock`",
            ),
            (
                rule("kind = \"condition\"\ncondition = \"charges_lost\"\naftr = \"1h\""),
                "f.toml:10:1: unknown field `aftr`; did you mean `after`? There are `name`, `kind`, ",
            ),
            (
                rule("kind = \"gage\""),
                "f.toml:8:8: `kind` must be one of: condition,",
            ),
            (
                rule("kind = \"condition\""),
                "a rule of kind condition needs `condition`",
            ),
            (
                rule("kind = \"condition\"\ncondition = \"x\""),
                "f.toml:9:13: `condition` must be one of: ",
            ),
            (
                rule("kind = \"condition\"\ncondition = \"past_due\"\nabove = 0.5"),
                "f.toml:10:1: `above` does not apply",
            ),
            (
                rule(&format!(
                    "{}above = 0.1",
                    ratio.replace("payout_failures", "payout_failure")
                )),
                "but is \"payout_failure\"; did you mean \"payout_failures\"?",
            ),
            (
                rule("kind = \"condition\"\ncondition = \"past_deu\""),
                "but is \"past_deu\"; did you mean \"past_due\"?",
            ),
            (
                rule("kind = \"condition\"\ncondition = \"past_due\"\nnotify = [\"slak\"]"),
                "but is \"slak\"; did you mean \"slack\"?",
            ),
            (
                rule("kind = \"condition\"\ncondition = \"past_due\"")
                    .replace("route = \"x\"", "route = \"\""),
                "f.toml:5:1: `route` must be the name of a route",
            ),
            (
                rule("kind = \"condition\"\ncondition = \"past_due\"\nrequirement = [\"\"]"),
                "f.toml:10:1: `requirement` must be names",
            ),
            (
                rule(ratio),
                "f.toml:2:1: a rule of kind ratio needs `above` or `below`",
            ),
            (
                rule("kind = \"drop\"\nmetric = \"paying\"\nwindow = \"24h\""),
                "f.toml:2:1: a rule of kind drop needs `above`",
            ),
            (rule(&format!("{ratio}above = 1.5")), "share is from 0 to 1"),
            (
                rule(&format!("{ratio}above = 0.1\nclear_below = 0.2")),
                "not be greater",
            ),
            (
                rule(&format!("{}above = 0.1", ratio.replace("24h", "90m"))),
                "whole hours",
            ),
            (
                rule(&format!("{}above = 0.1", ratio.replace("24h", "soon"))),
                "f.toml:10:10: `window`: \"soon\" is not a duration",
            ),
            (
                rule(&format!(
                    "{}above = 0.1",
                    ratio.replace("payout_failures", "luck")
                )),
                "f.toml:9:10: `metric` of a rule of kind ratio must be one of: payout_failures, ",
            ),
            (
                rule(
                    "kind = \"consecutive\"\nmetric = \"past_due_share\"\nabove = 0.1\ndays = 2\ntime_zone = \"Mars\"",
                ),
                "Mars",
            ),
            (
                rule("kind = \"consecutive\"\nmetric = \"past_due_share\"\nabove = 0.1\ndays = 0"),
                "1 to 31",
            ),
            ("[[rule]".to_owned(), "f.toml:1:"),
            (String::new(), "no [[rule]]"),
        ];
        for (text, expected) in table {
            let error = parse(&[("f.toml".to_owned(), text)])
                .expect_err("faulty")
                .to_string();
            assert!(
                error.contains(expected),
                "{error:?} should contain {expected:?}"
            );
        }
        let twice = rule("kind = \"condition\"\ncondition = \"charges_lost\"").repeat(2);
        let error = parse(&[("f.toml".to_owned(), twice)])
            .expect_err("faulty")
            .to_string();
        assert_eq!(
            error,
            "f.toml:12:8: there are two rules named \"r\"; the first is at f.toml:3:8"
        );
    }

    #[test]
    fn after_a_syntax_error_nothing_else_is_reported_of_that_file() {
        let valid = |name: &str, more: &str| {
            format!(
                "[[rule]]\nname = \"{name}\"\nkind = \"condition\"\ncondition = \"past_due\"\nseverity = \"low\"\n\
                 route = \"x\"\ntitle = \"t\"\nactions = [\"a\"]\n{more}\n"
            )
        };
        let files = [
            ("one.toml".to_owned(), valid("a", "inhibited_by = [\"b\"]")),
            ("two.toml".to_owned(), valid("b", "luck: 1\nroute: 2")),
        ];
        let faults = parse(&files).expect_err("no TOML").faults;
        assert_eq!(faults.len(), 1, "{faults:#?}");
        assert!(
            faults[0].to_string().starts_with("two.toml:9:"),
            "{faults:#?}"
        );
    }

    #[test]
    fn a_rule_without_a_name_of_its_own_does_not_hide_what_it_names() {
        let rule = |name: &str| {
            format!(
                "[[rule]]\n{name}\nkind = \"condition\"\ncondition = \"past_due\"\nseverity = \"low\"\nroute = \"x\"\n\
                 title = \"t\"\nactions = [\"a\"]\ninhibited_by = [\"gone\"]\n"
            )
        };
        let text = rule("name = \"a\"") + &rule("") + &rule("name = \"a\"");
        let faults = parse(&[("f.toml".to_owned(), text)])
            .expect_err("faulty")
            .faults;
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        let gone = "`inhibited_by` names \"gone\", which is not a rule";
        let expected = [
            format!("f.toml:9:17: {gone}"),
            "f.toml:10:1: a rule needs `name`".to_owned(),
            format!("f.toml:18:17: {gone}"),
            "f.toml:20:8: there are two rules named \"a\"; the first is at f.toml:2:8".to_owned(),
            format!("f.toml:27:17: {gone}"),
        ];
        assert_eq!(faults, expected);
    }

    #[test]
    fn a_rule_with_a_fault_is_read_as_far_as_it_can_be() {
        let rule = |name: &str, condition: &str, more: &str| {
            format!(
                "[[rule]]\n{name}\nkind = \"condition\"\ncondition = {condition:?}\nseverity = \"low\"\n{more}\n"
            )
        };
        let named = |text: String| {
            let reading = read(&[("f.toml".to_owned(), text)]);
            let rules = reading.rules.into_iter().map(|rule| rule.name);
            (
                rules.collect::<Vec<_>>(),
                reading.names,
                reading.faults.len(),
            )
        };
        let names = |names: &[&str]| names.iter().map(|&it| it.to_owned()).collect::<Vec<_>>();
        // Both lack route, title and actions; the second has no such condition.
        let two = rule("name = \"a\"", "past_due", "") + &rule("name = \"b\"", "late", "");
        assert_eq!(
            named(two.clone()),
            (names(&["a"]), Some(names(&["a", "b"])), 7)
        );
        assert_eq!(
            named(two + &rule("", "past_due", "")).1,
            None,
            "one has no name"
        );
        assert_eq!(named("[[rule".to_owned()), (Vec::new(), None, 1));
    }

    #[test]
    fn every_fault_is_reported_and_no_fault_causes_another() {
        let first = "[[rule]]\nname = \"Six six\"\nkind = \"ratio\"\nmetric = \"nonsense\"\nwindow = \"90m\"\nabove = 7\n\
                     min_denominator = 0\nseverity = \"dire\"\nroute = 5\ntitle = \" \"\nactions = []\nluck = 1\n";
        let second = "[[rule]]\nname = \"a\"\nkind = \"condition\"\ncondition = \"past_due\"\nseverity = \"low\"\nroute = \"x\"\n\
                      title = \"t\"\nactions = [\"a\"]\ninhibited_by = [\"gone\", \"b\"]\n\
                      [[rule]]\nname = \"b\"\nkind = \"percentile\"\nmetric = \"processing_seconds\"\npercentile = \"mean\"\nwindow = \"1h\"\n\
                      above = 20\nrespond = \"5h\"\nresolve = \"1h\"\nseverity = \"low\"\nroute = \"x\"\ntitle = \"t\"\nactions = [\"a\"]\n\
                      inhibited_by = [\"a\"]\n";
        let files = [
            ("one.toml".to_owned(), first.to_owned()),
            ("two.toml".to_owned(), second.to_owned()),
        ];
        let faults = parse(&files).expect_err("faulty").faults;
        let places: Vec<_> = faults
            .iter()
            .map(|fault| fault.place.as_ref().expect("a place").to_string())
            .collect();
        let expected = [
            "one.toml:2:1",   // name
            "one.toml:4:10",  // metric
            "one.toml:5:1",   // window
            "one.toml:7:1",   // min_denominator
            "one.toml:8:12",  // severity
            "one.toml:9:9",   // route
            "one.toml:10:1",  // title
            "one.toml:11:1",  // actions
            "one.toml:12:1",  // luck
            "two.toml:9:17",  // gone
            "two.toml:9:25",  // b, which leads back
            "two.toml:14:1",  // a mean
            "two.toml:16:1",  // no bound
            "two.toml:18:1",  // resolve before respond
            "two.toml:23:17", // a, which leads back
        ];
        for expected in expected {
            let times = places.iter().filter(|place| **place == expected).count();
            assert_eq!(times, 1, "{expected} in {faults:#?}");
        }
        let mut wanted = expected.iter();
        let in_order = places
            .iter()
            .filter(|place| expected.contains(&place.as_str()));
        assert!(
            in_order.eq(wanted.by_ref()),
            "from top to bottom: {faults:#?}"
        );
        let second = second.replace("\"gone\", \"b\"", "");
        let all = parse(&[("two.toml".to_owned(), second)])
            .expect_err("faulty")
            .faults;
        assert_eq!(all.len(), 3, "a alone explains no other rule: {all:#?}");
    }
}
