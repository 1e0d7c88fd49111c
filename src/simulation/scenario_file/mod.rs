//! The file format of rule tests: TOML. Every field is checked, and every fault has its line and
//! column. Pure; `docs/rules.md` explains the format.

mod checks;
mod fields;
mod made;
mod positions;
mod send;
mod subjects;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::ops::Range;

use revwatch_alerting::engine::Engine;
use revwatch_alerting::metric_value::PipelineStatus;
use revwatch_alerting::rule::Rule;
use revwatch_alerting::rule_text::{self, NamedText, Reading};
use revwatch_core::durations::Span;
use revwatch_runtime::config::{Fault, NOTIFIERS, in_order};
use revwatch_runtime::files::place;
use revwatch_runtime::wording;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use self::made::Made;
use self::subjects::NamedSubject;
use super::scenario::{Check, Moment, Scenario, Want, When};

/// Files that a test file refers to.
pub trait FileSource {
    /// The rule files at `path`, relative to the test file.
    fn rules(&self, path: &str) -> Result<Vec<NamedText>, String>;
    /// The events at `path`, relative to the test file.
    fn events(&self, path: &str) -> Result<String, String>;
}

/// Parses a test file. `in_effect` are the rules of tests that name none.
pub fn parse(
    file: &NamedText,
    in_effect: &[Rule],
    files: &dyn FileSource,
) -> Result<Vec<Scenario>, Vec<Fault>> {
    let mut reader = Reader {
        file,
        faults: Vec::new(),
        named: Vec::new(),
        made: Made::default(),
        only: None,
        rules: Vec::new(),
        names: None,
        are_labels_read: true,
    };
    let scenarios = reader.file(in_effect, files).unwrap_or_default();
    if scenarios.is_empty() && reader.faults.is_empty() {
        let fault = format!("no [[test]] in {}", file.0);
        reader.faults.push(fault.into());
    }
    if reader.faults.is_empty() {
        return Ok(scenarios);
    }
    let missing = scenarios.into_iter().flat_map(|it| it.missing);
    reader.faults.extend(missing.map(|(_, fault)| fault));
    Err(in_order(reader.faults))
}

/// A Monday at midnight UTC, far from clock changes, so that daily windows have no edge at the
/// start.
const DEFAULT_START_S: i64 = 1_767_571_200; // 2026-01-05T00:00:00Z
const DEFAULT_TICK_S: i64 = 300;

type Item<'a> = Spanned<DeValue<'a>>;

/// The fields of a file, of a test and of a step; [`Reader::take`] reads some of them separately.
const FILE: [&str; 6] = ["rules", "start", "began", "tick", "test", "rule"];
const TEST: [&str; 6] = ["name", "start", "began", "tick", "only", "step"];
const STEP: [&str; 6] = ["at", "pipeline", "send", "command", "expect", "expect_none"];
const PIPELINE: [&str; 5] = [
    "queue_depth",
    "dead_letters",
    "parked",
    "stalled",
    "broken_notifiers",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    rules: Option<Spanned<String>>,
    start: Option<Spanned<When>>,
    began: Option<When>,
    tick: Option<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTest {
    name: Option<String>,
    start: Option<Spanned<When>>,
    began: Option<When>,
    tick: Option<Span>,
    /// The rules under test; other rules are left out.
    only: Option<Spanned<Vec<Spanned<String>>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    at: Option<When>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPipeline {
    queue_depth: Option<i64>,
    dead_letters: Option<i64>,
    parked: Option<i64>,
    stalled: Option<Span>,
    broken_notifiers: Option<Vec<Spanned<String>>>,
}

struct Reader<'f> {
    file: &'f NamedText,
    faults: Vec<Fault>,
    /// The subjects that the current test names.
    named: Vec<NamedSubject>,
    /// What the events of the current test are about.
    made: Made,
    /// The rules that the current test needs.
    only: Option<Vec<String>>,
    /// All rules of the file, whichever a test leaves out, as far as they can be read.
    rules: Vec<Rule>,
    /// Their names; `None`: some cannot be read.
    names: Option<Vec<String>>,
    /// Each of them could be read with its labels.
    are_labels_read: bool,
}

/// What all tests of a file have in common, unless they say otherwise.
struct Defaults {
    start_s: i64,
    began: Option<When>,
    tick_s: i64,
}

impl Reader<'_> {
    fn file(&mut self, in_effect: &[Rule], files: &dyn FileSource) -> Option<Vec<Scenario>> {
        let file = self.file;
        let (table, errors) = DeTable::parse_recoverable(&file.1);
        // What follows a syntax error is not what was meant.
        if let Some(error) = errors.first() {
            self.fault(error.span(), &wording::syntax(error.message()));
            return None;
        }
        let mut head = table.get_ref().clone();
        let tests = head.remove("test");
        let inline = head.remove("rule");
        let head = Spanned::new(table.span(), DeValue::Table(head));
        let raw: RawFile = self.table(&head, &FILE)?;
        let inline = inline.map(|_| only_rules(&file.1, table.get_ref()));
        let Reading {
            rules,
            names,
            faults,
        } = self.rules(inline, raw.rules, in_effect, files);
        let is_unread = |fault: &Fault| fault.what.contains("`labels`");
        self.are_labels_read =
            names.as_ref().map(Vec::len) == Some(rules.len()) && !faults.iter().any(is_unread);
        // The tests may have mistakes of their own.
        self.faults.extend(faults);
        (self.rules, self.names) = (rules, names);
        let tests = tests?;
        let defaults = Defaults {
            start_s: self.start_s(raw.start, DEFAULT_START_S),
            began: raw.began,
            tick_s: raw.tick.map_or(DEFAULT_TICK_S, |tick| tick.0),
        };
        let DeValue::Array(items) = tests.get_ref() else {
            self.fault(Some(tests.span()), "tests are written as [[test]]");
            return None;
        };
        let mut scenarios: Vec<Scenario> = Vec::new();
        for item in items.iter() {
            let Some(scenario) = self.test(item, &defaults, files) else {
                continue;
            };
            if scenarios.iter().any(|other| other.name == scenario.name) {
                self.fault(
                    Some(item.span()),
                    &format!("there are two tests named {:?}", scenario.name),
                );
            }
            scenarios.push(scenario);
        }
        Some(scenarios)
    }

    /// The rules of the tests: those in the file, those that it names, or those in effect.
    fn rules(
        &mut self,
        inline: Option<String>,
        path: Option<Spanned<String>>,
        in_effect: &[Rule],
        files: &dyn FileSource,
    ) -> Reading {
        match (inline, path) {
            (Some(text), path) => {
                let mut reading = rule_text::read(&[(self.file.0.clone(), text)]);
                if let Some(path) = path {
                    let what = "`rules` and [[rule]] exclude each other";
                    self.fault(Some(path.span()), what);
                    reading.names = None;
                }
                reading
            }
            (None, Some(path)) => match files.rules(path.get_ref()) {
                Ok(texts) => rule_text::read(&texts),
                Err(why) => {
                    self.fault(Some(path.span()), &why);
                    Reading::default()
                }
            },
            (None, None) => Reading {
                rules: in_effect.to_vec(),
                names: Some(in_effect.iter().map(|rule| rule.name.clone()).collect()),
                faults: Vec::new(),
            },
        }
    }

    fn start_s(&mut self, start: Option<Spanned<When>>, default_s: i64) -> i64 {
        let Some(start) = start else {
            return default_s;
        };
        let When::At(start_s) = *start.get_ref() else {
            let what = "`start` must be a time, like \"2026-03-01T09:00:00Z\"";
            self.fault(Some(start.span()), what);
            return default_s;
        };
        start_s
    }

    fn test(
        &mut self,
        item: &Item<'_>,
        defaults: &Defaults,
        files: &dyn FileSource,
    ) -> Option<Scenario> {
        let mut item = item.clone();
        let steps = self.take(&mut item, "step");
        self.note_unread(&item, &TEST);
        let raw: RawTest = self.table(&item, &TEST)?;
        self.require(&item, "name", &TEST);
        let start_s = self.start_s(raw.start, defaults.start_s);
        let began = raw.began.or(defaults.began);
        let mut scenario = Scenario {
            name: raw.name.unwrap_or_default(),
            place: place(self.file, Some(item.span())).to_string(),
            start_s,
            is_beginning_given: began.is_some(),
            began_s: began.map_or(Engine::beginning_s(start_s * 1000), |began| {
                began.second(start_s, start_s)
            }),
            tick_s: raw.tick.map_or(defaults.tick_s, |tick| tick.0).max(1),
            rules: self.rules.clone(),
            missing: Vec::new(),
            warnings: Vec::new(),
            moments: BTreeMap::new(),
        };
        self.only = None;
        if let Some(only) = &raw.only {
            if only.get_ref().is_empty() {
                let what = "`only` is empty, so nothing is tested: name the rules that the test needs, or leave it out";
                self.fault(Some(only.span()), what);
            }
            let only = only.get_ref();
            for name in only {
                self.note_rule(&mut scenario, name);
            }
            let only: Vec<String> = only.iter().map(|name| name.get_ref().clone()).collect();
            scenario.rules.retain(|rule| only.contains(&rule.name));
            self.only = Some(only);
        }
        let steps = items_of(steps.as_ref());
        if steps.is_empty() && self.is_known(&item, &TEST) {
            self.fault(
                Some(item.span()),
                &format!("test {:?} has no [[test.step]]", scenario.name),
            );
        }
        let (mut seq, mut before_s) = (0, start_s);
        for step in steps {
            self.step(step, &mut scenario, &mut seq, &mut before_s, files);
        }
        self.check_subjects(&scenario);
        Some(scenario)
    }

    fn step(
        &mut self,
        item: &Item<'_>,
        scenario: &mut Scenario,
        seq: &mut u64,
        before_s: &mut i64,
        files: &dyn FileSource,
    ) -> Option<()> {
        let mut template = item.clone();
        let sends = self.take(&mut template, "send");
        let commands = self.take(&mut template, "command");
        let expects = self.take(&mut template, "expect");
        let quiet = self.take(&mut template, "expect_none");
        let pipeline = self.take(&mut template, "pipeline");
        self.note_unread(&template, &STEP);
        let raw: RawStep = self.table(&template, &STEP)?;
        self.require(&template, "at", &STEP);
        let at_s = raw.at.map_or(*before_s, |at| {
            self.step_time(at, item, scenario.start_s, *before_s)
        });
        *before_s = at_s;
        let has_some = |part: &Option<Item<'_>>| !items_of(part.as_ref()).is_empty();
        if ![&pipeline, &sends, &commands, &expects, &quiet]
            .map(has_some)
            .contains(&true)
            && self.is_known(&template, &STEP)
        {
            let what = "nothing happens in this step, and nothing is checked: give it `send`, `command`, `expect`, \
                        `expect_none` or `pipeline`, or leave it out";
            self.fault(Some(item.span()), what);
        }
        if let Some(pipeline) = pipeline {
            moment(scenario, at_s).pipeline = self.pipeline(&pipeline);
        }
        for send in items_of(sends.as_ref()) {
            self.send(send, scenario, seq, at_s, files);
        }
        for command in items_of(commands.as_ref()) {
            if let Some(order) = self.command(command, scenario) {
                moment(scenario, at_s).orders.push(order);
            }
        }
        for expect in items_of(expects.as_ref()) {
            let want = self.expect(expect, scenario);
            self.add_check(expect, want, at_s, scenario);
        }
        if let Some(quiet) = quiet {
            let want = self.quiet(&quiet, scenario);
            self.add_check(&quiet, want, at_s, scenario);
        }
        Some(())
    }

    fn pipeline(&mut self, item: &Item<'_>) -> Option<PipelineStatus> {
        let RawPipeline {
            queue_depth,
            dead_letters,
            parked,
            stalled,
            broken_notifiers,
        } = self.table(item, &PIPELINE)?;
        for name in broken_notifiers.iter().flatten() {
            if !NOTIFIERS.contains(&name.get_ref().as_str()) {
                let must = wording::one_of(&NOTIFIERS, name.get_ref());
                let what = format!("a name in `broken_notifiers` {must}");
                self.fault(Some(name.span()), &what);
            }
        }
        let broken_notifiers = broken_notifiers.into_iter().flatten();
        Some(PipelineStatus {
            queue_depth,
            dead_letters,
            parked,
            stalled_s: stalled.map_or(0, |span| span.0),
            // A test says that they are broken, not why.
            broken_notifiers: broken_notifiers
                .map(|name| (name.into_inner(), String::new()))
                .collect(),
        })
    }

    /// The Unix second of a step, which must not be before the step above.
    fn step_time(&mut self, at: When, step: &Item<'_>, start_s: i64, before_s: i64) -> i64 {
        let fault = match at {
            When::Before(_) => "`at` must be a time, or an offset from the start like \"+1h\"",
            at => match at.second(start_s, start_s) {
                at_s if at_s >= before_s => return at_s,
                _ => "`at` is before the start, or before the step above",
            },
        };
        self.fault(Some(step.span()), fault);
        before_s
    }

    fn add_check(&self, item: &Item<'_>, want: Option<Want>, at_s: i64, scenario: &mut Scenario) {
        let checks = want.map(|want| Check {
            place: place(self.file, Some(item.span())).to_string(),
            want,
        });
        moment(scenario, at_s).checks.extend(checks);
    }

    /// Notes what unknown fields hold: one may be a misspelled `send`.
    fn note_unread(&mut self, item: &Item<'_>, known: &[&str]) {
        for (key, value) in item.get_ref().as_table().into_iter().flatten() {
            if !known.contains(&key.get_ref().as_ref()) {
                self.made.unread(value, false);
            }
        }
    }

    /// Takes a field out of a table, to be read separately.
    fn take<'a>(&mut self, item: &mut Item<'a>, field: &str) -> Option<Item<'a>> {
        match item.get_mut() {
            DeValue::Table(table) => table.remove(field),
            _ => None,
        }
    }

    fn fault(&mut self, span: Option<Range<usize>>, what: &str) {
        self.faults.push(Fault::at(place(self.file, span), what));
    }
}

/// What happens at a second.
fn moment(scenario: &mut Scenario, at_s: i64) -> &mut Moment {
    scenario.moments.entry(at_s).or_default()
}

/// A single value, or each item of a list.
fn items_of<'i, 'a>(item: Option<&'i Item<'a>>) -> Vec<&'i Item<'a>> {
    match item {
        None => Vec::new(),
        Some(item) => match item.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![item],
        },
    }
}

/// The text with everything but its `[[rule]]`s blanked, so that rules keep their line numbers.
fn only_rules(text: &str, table: &DeTable<'_>) -> String {
    let starts = |name: &str| -> Vec<usize> {
        let items = table.get(name).and_then(|value| value.get_ref().as_array());
        items
            .into_iter()
            .flatten()
            .map(|item| item.span().start)
            .collect()
    };
    let rules = starts("rule");
    let mut others = starts("test");
    let tests = table
        .get("test")
        .and_then(|value| value.get_ref().as_array());
    for test in tests.into_iter().flatten() {
        let steps = test
            .get_ref()
            .as_table()
            .and_then(|t| t.get("step")?.get_ref().as_array());
        others.extend(steps.into_iter().flatten().map(|step| step.span().start));
    }
    let mut sections: Vec<(usize, bool)> = rules.into_iter().map(|at| (at, true)).collect();
    sections.extend(others.into_iter().map(|at| (at, false)));
    sections.sort_unstable();
    let blank = |part: &str| {
        part.chars()
            .map(|c| if c == '\n' { '\n' } else { ' ' })
            .collect::<String>()
    };
    let mut kept = blank(&text[..sections.first().map_or(text.len(), |(at, _)| *at)]);
    for (n, (at, is_rule)) in sections.iter().enumerate() {
        let part = &text[*at..sections.get(n + 1).map_or(text.len(), |(next, _)| *next)];
        kept.push_str(&if *is_rule {
            part.to_owned()
        } else {
            blank(part)
        });
    }
    kept
}
