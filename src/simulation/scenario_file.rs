//! The file format of rule tests: TOML. Every field is checked, and every fault has its line and
//! column. Pure; `docs/rules.md` explains the format.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use revwatch_alerting::lifecycle::Stage;
use revwatch_alerting::metric_value::PipelineStatus;
use revwatch_alerting::rule::Rule;
use revwatch_alerting::rule_text::{self, NamedText};
use revwatch_core::event::Event;
use revwatch_core::span::Span;
use revwatch_runtime::files::place;
use revwatch_storage::ports::Delivery;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use uuid::Uuid;

use super::scenario::{Check, Expect, Order, OrderKind, Scenario, SubjectMatch, Want, When};
use super::template::{Instance, Template};

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
) -> Result<Vec<Scenario>, Vec<String>> {
    let mut reader = Reader {
        file,
        faults: Vec::new(),
    };
    let scripts = reader.file(in_effect, files);
    if scripts.is_empty() && reader.faults.is_empty() {
        reader.faults.push(format!("no [[test]] in {}", file.0));
    }
    if reader.faults.is_empty() {
        Ok(scripts)
    } else {
        Err(reader.faults)
    }
}

/// A Monday at midnight UTC, far from clock changes, so that daily windows have no edge at the
/// start.
const DEFAULT_START_S: i64 = 1_767_571_200; // 2026-01-05T00:00:00Z
const DEFAULT_TICK_S: i64 = 300;
/// The maximum `count` of one `send`.
const MAX_COPIES: u32 = 100_000;

type Item<'a> = Spanned<DeValue<'a>>;

struct Reader<'f> {
    file: &'f NamedText,
    faults: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    rules: Option<Spanned<String>>,
    start: Option<When>,
    tick: Option<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTest {
    name: String,
    start: Option<When>,
    tick: Option<Span>,
    /// The rules under test; other rules are left out.
    only: Option<Vec<Spanned<String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    at: When,
    pipeline: Option<RawPipeline>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPipeline {
    queue_depth: Option<i64>,
    dead_letters: Option<i64>,
    parked: Option<i64>,
    stalled: Option<Span>,
    #[serde(default)]
    broken_notifiers: Vec<String>,
}

/// The fields of a `send` about its copies; the others form a [`Template`].
#[derive(Deserialize)]
struct RawCopies {
    count: Option<Spanned<u32>>,
    first: Option<u32>,
    every: Option<Span>,
    created: Option<When>,
    took: Option<Span>,
    json: Option<Spanned<String>>,
    file: Option<Spanned<String>>,
    arrive: Option<RawArrive>,
}

const COPY_FIELDS: [&str; 8] = [
    "count", "first", "every", "created", "took", "json", "file", "arrive",
];

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum RawArrive {
    At,
    Created,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCommand {
    acknowledge: Option<RawWhom>,
    resolve: Option<RawWhom>,
    silence: Option<RawSilence>,
    by: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWhom {
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
    #[serde(default = "default_person")]
    reason: String,
}

fn default_person() -> String {
    "a rule test".to_owned()
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
    fn file(&mut self, in_effect: &[Rule], files: &dyn FileSource) -> Vec<Scenario> {
        let file = self.file;
        let (table, errors) = DeTable::parse_recoverable(&file.1);
        for error in &errors {
            self.fault(error.span(), error.message());
        }
        let mut head = table.get_ref().clone();
        let tests = head.remove("test");
        let inline = head.remove("rule");
        let all = 0..0;
        let head = Spanned::new(table.span(), DeValue::Table(head));
        let Some(raw) = self.read::<RawFile>(&head) else {
            return Vec::new();
        };
        let rules = match (inline, raw.rules) {
            (Some(_), Some(rules)) => {
                self.fault(
                    Some(rules.span()),
                    "`rules` and [[rule]] exclude each other",
                );
                return Vec::new();
            }
            (Some(_), None) => {
                rule_text::parse(&[(file.0.clone(), only_rules(&file.1, table.get_ref()))])
            }
            (None, Some(path)) => match files.rules(path.get_ref()) {
                Ok(texts) => rule_text::parse(&texts),
                Err(why) => {
                    self.fault(Some(path.span()), &why);
                    return Vec::new();
                }
            },
            (None, None) => Ok(in_effect.to_vec()),
        };
        let rules = match rules {
            Ok(rules) => rules,
            Err(invalid) => {
                self.faults.extend(invalid.faults);
                return Vec::new();
            }
        };
        let Some(tests) = tests else {
            return Vec::new();
        };
        let start_s = match raw.start {
            None => DEFAULT_START_S,
            Some(When::At(start_s)) => start_s,
            Some(_) => {
                self.fault(
                    Some(all),
                    "`start` must be a time, like \"2026-03-01T09:00:00Z\"",
                );
                return Vec::new();
            }
        };
        let DeValue::Array(items) = tests.get_ref() else {
            self.fault(Some(tests.span()), "tests are written as [[test]]");
            return Vec::new();
        };
        let mut scripts: Vec<Scenario> = Vec::new();
        for item in items.iter() {
            let tick_s = raw.tick.map_or(DEFAULT_TICK_S, |tick| tick.0);
            let Some(scenario) = self.test(item, &rules, start_s, tick_s, files) else {
                continue;
            };
            if scripts.iter().any(|other| other.name == scenario.name) {
                self.fault(
                    Some(item.span()),
                    &format!("there are two tests named {:?}", scenario.name),
                );
            }
            scripts.push(scenario);
        }
        scripts
    }

    fn test(
        &mut self,
        item: &Item<'_>,
        rules: &[Rule],
        start_s: i64,
        tick_s: i64,
        files: &dyn FileSource,
    ) -> Option<Scenario> {
        let mut item = item.clone();
        let steps = self.take(&mut item, "step");
        let raw: RawTest = self.read(&item)?;
        let start_s = match raw.start {
            None => start_s,
            Some(When::At(start_s)) => start_s,
            Some(_) => {
                self.fault(
                    Some(item.span()),
                    "`start` must be a time, like \"2026-03-01T09:00:00Z\"",
                );
                return None;
            }
        };
        let mut scenario = Scenario {
            name: raw.name,
            place: place(self.file, Some(item.span())),
            start_s,
            tick_s: raw.tick.map_or(tick_s, |tick| tick.0).max(1),
            rules: rules.to_vec(),
            missing: Vec::new(),
            moments: BTreeMap::new(),
        };
        if let Some(only) = &raw.only {
            for name in only {
                self.note_rule(&mut scenario, name);
            }
            scenario
                .rules
                .retain(|rule| only.iter().any(|name| *name.get_ref() == rule.name));
        }
        let steps = items_of(steps.as_ref());
        if steps.is_empty() {
            self.fault(
                Some(item.span()),
                &format!("test {:?} has no [[test.step]]", scenario.name),
            );
        }
        let (mut seq, mut before_s) = (0, start_s);
        for step in steps {
            self.step(step, &mut scenario, &mut seq, &mut before_s, files);
        }
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
        let raw: RawStep = self.read(&template)?;
        let at_s = match raw.at {
            When::Before(_) => {
                self.fault(
                    Some(item.span()),
                    "`at` must be a time, or an offset from the start like \"+1h\"",
                );
                return None;
            }
            at => at.second(scenario.start_s, scenario.start_s),
        };
        if at_s < *before_s {
            self.fault(
                Some(item.span()),
                "`at` is before the start, or before the step above",
            );
            return None;
        }
        *before_s = at_s;
        let moment = scenario.moments.entry(at_s).or_default();
        if let Some(RawPipeline {
            queue_depth,
            dead_letters,
            parked,
            stalled,
            broken_notifiers,
        }) = raw.pipeline
        {
            let stalled_s = stalled.map_or(0, |span| span.0);
            moment.pipeline = Some(PipelineStatus {
                queue_depth,
                dead_letters,
                parked,
                stalled_s,
                broken_notifiers,
            });
        }
        for send in items_of(sends.as_ref()) {
            self.send(send, scenario, seq, at_s, files);
        }
        for command in items_of(commands.as_ref()) {
            if let Some(order) = self.command(command, scenario) {
                scenario.moments.entry(at_s).or_default().orders.push(order);
            }
        }
        for expect in items_of(expects.as_ref()) {
            if let Some(want) = self.expect(expect, scenario) {
                let check = Check {
                    place: place(self.file, Some(expect.span())),
                    want,
                };
                scenario.moments.entry(at_s).or_default().checks.push(check);
            }
        }
        if let Some(quiet) = quiet
            && let Some(want) = self.quiet(&quiet, scenario)
        {
            let check = Check {
                place: place(self.file, Some(quiet.span())),
                want,
            };
            scenario.moments.entry(at_s).or_default().checks.push(check);
        }
        Some(())
    }

    fn send(
        &mut self,
        item: &Item<'_>,
        scenario: &mut Scenario,
        seq: &mut u64,
        at_s: i64,
        files: &dyn FileSource,
    ) -> Option<()> {
        let (of_copies, of_template) = split_send(item);
        let raw: RawCopies = self.read(&of_copies)?;
        let is_template = of_template
            .get_ref()
            .as_table()
            .is_none_or(|table| !table.is_empty());
        let (ways, all) = (
            [raw.json.is_some(), raw.file.is_some(), is_template],
            item.span(),
        );
        if ways.iter().filter(|way| **way).count() != 1 {
            self.fault(
                Some(all),
                "a `send` needs either `event` and its fields, or `json`, or `file`",
            );
            return None;
        }
        if let Some(count) = raw
            .count
            .as_ref()
            .filter(|count| *count.get_ref() > MAX_COPIES)
        {
            self.fault(
                Some(count.span()),
                &format!("`count` must be at most {MAX_COPIES}"),
            );
            return None;
        }
        let mut texts: Vec<(String, Range<usize>)> = Vec::new();
        let mut template = None;
        if let Some(path) = &raw.file {
            match files.events(path.get_ref()) {
                Ok(text) => {
                    let lines = text.lines().filter(|line| !line.trim().is_empty());
                    texts.extend(lines.map(|line| (line.to_owned(), path.span())));
                }
                Err(why) => {
                    self.fault(Some(path.span()), &why);
                    return None;
                }
            }
        } else if let Some(json) = &raw.json {
            texts.push((json.get_ref().clone(), json.span()));
        } else {
            let read: Template = self.read(&of_template)?;
            if let Err(what) = read.check() {
                self.fault(Some(place_of(&of_template, &what)), &what);
                return None;
            }
            template = Some(read);
        }
        let (first, every_s) = (
            u64::from(raw.first.unwrap_or(1)),
            raw.every.map_or(0, |every| every.0),
        );
        let took_s = raw.took.map_or(0, |took| took.0);
        for copy in 0..u64::from(raw.count.map_or(1, Spanned::into_inner)) {
            let arrives_s = at_s + every_s * i64::try_from(copy).unwrap_or(0);
            let created_s = raw.created.map_or(arrives_s, |created| {
                created.second(scenario.start_s, arrives_s)
            });
            let mut instance = Instance {
                n: first + copy,
                seq: 0,
                start_s: scenario.start_s,
                at_s: arrives_s,
                created_s,
            };
            if let Some(template) = &template {
                *seq += 1;
                instance.seq = *seq;
                push(
                    scenario,
                    &instance,
                    took_s,
                    &template.event,
                    template.body(&instance),
                );
            }
            for (text, span) in &texts {
                *seq += 1;
                instance.seq = *seq;
                let body = instance.fill(text);
                let (kind, event_s) = match Event::parse(body.as_bytes()) {
                    Ok(event) => (event.kind.clone().into_owned(), event.created_s),
                    Err(why) => {
                        self.fault(Some(span.clone()), &format!("not an event: {why}"));
                        return None;
                    }
                };
                let is_own_time = raw.arrive == Some(RawArrive::Created);
                let arrives_s = if is_own_time {
                    event_s.max(scenario.start_s)
                } else {
                    arrives_s
                };
                push(
                    scenario,
                    &Instance {
                        at_s: arrives_s,
                        ..instance
                    },
                    took_s,
                    &kind,
                    body,
                );
            }
        }
        Some(())
    }

    fn command(&mut self, item: &Item<'_>, scenario: &mut Scenario) -> Option<Order> {
        let raw: RawCommand = self.read(item)?;
        let by = raw.by.unwrap_or_else(|| "a rule test".to_owned());
        let what = match (raw.acknowledge, raw.resolve, raw.silence) {
            (Some(whom), None, None) => OrderKind::Acknowledge(self.whom(whom, scenario)),
            (None, Some(whom), None) => OrderKind::Resolve(self.whom(whom, scenario)),
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
            place: place(self.file, Some(item.span())),
        })
    }

    fn expect(&mut self, item: &Item<'_>, scenario: &mut Scenario) -> Option<Want> {
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
        let whom = self.whom(
            RawWhom {
                rule,
                subject,
                account,
                segment,
            },
            scenario,
        );
        Some(Want::Expect(Expect {
            whom,
            stage,
            count,
            notified,
            notices,
            says,
        }))
    }

    fn quiet(&mut self, item: &Item<'_>, scenario: &mut Scenario) -> Option<Want> {
        match item.get_ref() {
            DeValue::Boolean(true) => Some(Want::Quiet(None)),
            DeValue::Array(_) => {
                let names =
                    Vec::<Spanned<String>>::deserialize(ValueDeserializer::from(item.clone()));
                let names = names
                    .map_err(|error| self.fault(error.span(), error.message()))
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

    fn whom(&mut self, raw: RawWhom, scenario: &mut Scenario) -> SubjectMatch {
        self.note_rule(scenario, &raw.rule);
        SubjectMatch {
            rule: raw.rule.into_inner(),
            subject: raw.subject,
            account: raw.account,
            segment: raw.segment,
        }
    }

    /// Records a rule that is named but does not exist.
    fn note_rule(&mut self, scenario: &mut Scenario, name: &Spanned<String>) {
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

    fn read<T: DeserializeOwned>(&mut self, item: &Item<'_>) -> Option<T> {
        let read = T::deserialize(ValueDeserializer::from(item.clone()));
        read.map_err(|error| self.fault(error.span().or(Some(item.span())), error.message()))
            .ok()
    }

    /// Takes a field out of a table, to be read separately.
    fn take<'a>(&mut self, item: &mut Item<'a>, field: &str) -> Option<Item<'a>> {
        match item.get_mut() {
            DeValue::Table(table) => table.remove(field),
            _ => None,
        }
    }

    fn fault(&mut self, span: Option<Range<usize>>, what: &str) {
        self.faults
            .push(format!("{}: {what}", place(self.file, span)));
    }
}

/// Splits a `send` into the fields about copies and the others.
fn split_send<'a>(item: &Item<'a>) -> (Item<'a>, Item<'a>) {
    let (mut copies, mut template) = (item.clone(), item.clone());
    if let (DeValue::Table(copies), DeValue::Table(template)) =
        (copies.get_mut(), template.get_mut())
    {
        let names: Vec<String> = template
            .keys()
            .map(|key| key.get_ref().to_string())
            .collect();
        for name in names {
            let other = if COPY_FIELDS.contains(&name.as_str()) {
                &mut *template
            } else {
                &mut *copies
            };
            other.remove(name.as_str());
        }
    }
    (copies, template)
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

/// An event is applied when it arrives; it waited in the queue until then.
fn push(scenario: &mut Scenario, of: &Instance, took_s: i64, kind: &str, body: String) {
    scenario
        .moments
        .entry(of.at_s)
        .or_default()
        .deliveries
        .push(Delivery {
            id: Uuid::from_u128(u128::from(of.seq)),
            event_id: format!("evt_{}", of.seq),
            event_type: kind.to_owned(),
            partition: 0,
            endpoint: "test".to_owned(),
            received_ms: (of.at_s - took_s).saturating_mul(1000),
            traceparent: None,
            body: Bytes::from(body),
        });
}

/// The place of the field that the error quotes first, or of the table.
fn place_of(item: &Item<'_>, what: &str) -> Range<usize> {
    let quoted = what.split('`').nth(1).unwrap_or_default();
    let field = item
        .get_ref()
        .as_table()
        .and_then(|table| table.iter().find(|(key, _)| key.get_ref() == quoted));
    field.map_or_else(|| item.span(), |(key, _)| key.span())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Provides `events.jsonl` and nothing else.
    struct OnlyEvents;

    impl FileSource for OnlyEvents {
        fn rules(&self, path: &str) -> Result<Vec<NamedText>, String> {
            Err(format!("{path} is not there"))
        }

        fn events(&self, path: &str) -> Result<String, String> {
            match path {
                "events.jsonl" => {
                    Ok("{\"id\":\"evt_a\",\"type\":\"x\",\"created\":1767574800}\n\n{\"id\":\"evt_b\",\"type\":\"x\",\"created\":5}\n".into())
                }
                _ => Err(format!("{path} is not there")),
            }
        }
    }

    fn read(text: &str) -> Result<Vec<Scenario>, Vec<String>> {
        let rules = rule_text::built_in().expect("valid");
        parse(&("t.toml".to_owned(), text.to_owned()), &rules, &OnlyEvents)
    }

    fn step(fields: &str) -> String {
        format!("[[test]]\nname = \"t\"\n[[test.step]]\nat = \"+1h\"\n{fields}\n")
    }

    #[test]
    fn copies_are_spread_numbered_and_may_arrive_late() {
        let text = step(
            "send = [{ event = \"payout.paid\", count = 3, first = 7, every = \"1h\", created = \"-30m\", took = \"9s\" },\n\
             { json = '{\"id\":\"evt_{seq}_{n}\",\"type\":\"x\",\"created\":{created_s}}' }]",
        );
        let scripts = read(&text).expect("valid");
        let hour = |n: i64| scripts[0].start_s + n * 3600;
        let bodies: Vec<_> = scripts[0]
            .moments
            .iter()
            .flat_map(|(at_s, m)| {
                m.deliveries
                    .iter()
                    .map(move |d| (*at_s, String::from_utf8_lossy(&d.body).into_owned()))
            })
            .collect();
        let times: Vec<_> = bodies.iter().map(|(at_s, _)| *at_s).collect();
        assert_eq!(times, [hour(1), hour(1), hour(2), hour(3)]);
        assert!(
            bodies[0].1.contains("acct_7") && bodies[0].1.contains(&(hour(1) - 1800).to_string()),
            "{bodies:?}"
        );
        assert_eq!(
            bodies[1].1,
            format!(
                "{{\"id\":\"evt_4_1\",\"type\":\"x\",\"created\":{}}}",
                hour(1)
            )
        );
        assert!(bodies[3].1.contains("acct_9"), "{bodies:?}");
        let received: Vec<_> = scripts[0]
            .moments
            .values()
            .map(|m| m.deliveries[0].received_ms / 1000)
            .collect();
        assert_eq!(received, [hour(1) - 9, hour(2) - 9, hour(3) - 9]);
    }

    #[test]
    fn events_of_a_file_arrive_together_or_when_created() {
        let together = read(&step("send = { file = \"events.jsonl\" }")).expect("valid");
        assert_eq!(
            together[0]
                .moments
                .values()
                .map(|m| m.deliveries.len())
                .collect::<Vec<_>>(),
            [2]
        );
        let apart = read(&step(
            "send = { file = \"events.jsonl\", arrive = \"created\" }",
        ))
        .expect("valid");
        let counts: Vec<_> = apart[0]
            .moments
            .iter()
            .map(|(at_s, m)| (*at_s, m.deliveries.len()))
            .collect();
        assert_eq!(
            counts,
            [(DEFAULT_START_S, 1), (DEFAULT_START_S + 3600, 1)],
            "not before the start"
        );
    }

    #[test]
    fn inline_rules_report_faults_at_their_place() {
        let rule = "[[rule]]\nname = \"r\"\nkind = \"condition\"\ncondition = \"past_due\"\nseverity = \"high\"\n\
                    route = \"x\"\ntitle = \"t\"\nactions = [\"a\"]\n[rule.labels]\nteam = \"x\"\n";
        let text = format!(
            "{}\n{rule}",
            step("expect = { rule = \"r\", state = \"inactive\" }")
        );
        let scripts = read(&text).expect("valid");
        assert_eq!((scripts[0].rules.len(), scripts[0].missing.len()), (1, 0));
        let faults = read(&text.replace("\"past_due\"", "\"x\"")).expect_err("no such condition");
        assert!(
            faults[0].starts_with("t.toml:10:13: unknown variant `x`"),
            "{faults:?}"
        );
    }

    #[test]
    fn every_fault_has_its_line_and_column() {
        let send = |fields: &str| step(&format!("send = {{ {fields} }}"));
        let table = [
            (String::new(), "no [[test]] in t.toml"),
            ("[[test]".to_owned(), "t.toml:1:"),
            ("x = 1".to_owned(), "t.toml:1:1: unknown field `x`"),
            (
                "rules = \"r.toml\"\n[[test]]\nname = \"t\"".to_owned(),
                "t.toml:1:9: r.toml is not there",
            ),
            (
                "[[test]]\nname = \"t\"".to_owned(),
                "test \"t\" has no [[test.step]]",
            ),
            (step("wait = 1"), "t.toml:5:1: unknown field `wait`"),
            (
                step("").replace("+1h", "soon"),
                "t.toml:4:6: \"soon\" is not a valid time",
            ),
            (
                format!("{}[[test.step]]\nat = \"+1m\"", step("")),
                "before the step above",
            ),
            (
                send("event = \"payout.lost\""),
                "t.toml:5:10: `event` \"payout.lost\" is not a Stripe event type",
            ),
            (
                send("event = \"payout.paid\", attempts = 2"),
                "t.toml:5:33: `attempts` does not apply",
            ),
            (
                send("event = \"payout.paid\", colour = 2"),
                "unknown field `colour`",
            ),
            (
                send("event = \"payout.paid\", file = \"events.jsonl\""),
                "either `event` and its fields",
            ),
            (
                send("file = \"other.jsonl\""),
                "t.toml:5:17: other.jsonl is not there",
            ),
            (send("json = \"{}\""), "t.toml:5:17: not an event"),
            (
                send("event = \"payout.paid\", count = 1000000"),
                "`count` must be at most",
            ),
            (
                step("expect = { rule = \"past_due_share\" }"),
                "needs `state`, `notified`",
            ),
            (
                step("expect = { rule = \"past_due_share\", state = \"on\" }"),
                "unknown variant `on`",
            ),
            (
                step("expect = { rule = \"past_due_share\", notified = 1, count = 1 }"),
                "`count` needs `state`",
            ),
            (
                step("expect_none = false"),
                "t.toml:5:15: `expect_none` must be true",
            ),
            (
                step("command = { silence = { for = \"1h\" } }"),
                "a silence needs",
            ),
            (step("command = {}"), "a command must be one of"),
        ];
        for (text, expected) in table {
            let faults = read(&text).expect_err(expected).join("\n");
            assert!(
                faults.contains(expected),
                "{faults:?} should contain {expected:?}"
            );
        }
        let two = step(
            "send = [{ event = \"x\" }, { event = \"payout.paid\", id = 5 }]\nexpect = { rule = 1 }",
        );
        assert_eq!(read(&two).expect_err("three faults").len(), 3);
        let scripts =
            read(&step("expect = { rule = \"gone\", state = \"inactive\" }")).expect("valid");
        assert_eq!(
            scripts[0].missing[0].1,
            "t.toml:5:19: there is no rule \"gone\" here"
        );
    }
}
