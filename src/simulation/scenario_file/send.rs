//! Events to send: from a template, from text, or from a file; copied and spread over time. Pure.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use revwatch_core::app_event::is_known_type;
use revwatch_core::durations::Span;
use revwatch_core::event::{EnvelopeError, Event, is_known_kind};
use revwatch_core::source::{APP, Source};
use revwatch_runtime::config::Fault;
use revwatch_runtime::files::place;
use revwatch_storage::ports::Delivery;
use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;
use toml::de::{DeString, DeValue};
use uuid::Uuid;

use super::super::scenario::{Arrival, Scenario, When};
use super::super::template::{
    Instance, PLACEHOLDERS, Template, field_setting, fields_of, unknown_placeholders,
};
use super::fields::{hint, parted};
use super::positions::{begin_of, field_in, offset_of, syntax_error_in};
use super::values::undocumented;
use super::{FileSource, Item, Reader, moment};

/// The maximum `count` of one `send`.
const MAX_COPIES: u32 = 100_000;

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

/// The fields of every `send`.
const COPIES: [&str; 5] = ["count", "first", "every", "created", "took"];
/// Those of a `send` of complete events.
const TEXTS: [&str; 3] = ["json", "file", "arrive"];

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum RawArrive {
    At,
    Created,
}

/// What a `send` sends.
enum Content {
    /// An event made from fields.
    Template(Box<Template>),
    /// Complete events.
    Texts(Vec<Text>),
}

/// The text of a complete event.
struct Text {
    body: String,
    /// Of the text, or of the name of its file.
    span: Range<usize>,
    /// The offset in the test file at which it begins, if it is written there as it is read.
    begin: Option<usize>,
    /// For example ` (line 2 of events.jsonl)`; empty if it is in no file.
    line: String,
}

impl Reader<'_> {
    /// Reads one `send`. `seq` counts the events of the test.
    pub(super) fn send(
        &mut self,
        item: &Item<'_>,
        scenario: &mut Scenario,
        seq: &mut u64,
        at_s: i64,
        files: &dyn FileSource,
    ) {
        let (faults, before) = (self.faults.len(), *seq);
        self.events_of(item, scenario, seq, at_s, files);
        if self.faults.len() > faults {
            self.made.unread(item, *seq > before);
        }
    }

    fn events_of(
        &mut self,
        item: &Item<'_>,
        scenario: &mut Scenario,
        seq: &mut u64,
        at_s: i64,
        files: &dyn FileSource,
    ) -> Option<()> {
        let known = known_fields(item);
        let is_known = self.is_known(item, &known);
        let (of_copies, of_template) = self.split_send(item, &known);
        let raw: RawCopies = self.fields(of_copies, is_known)?;
        let count = raw.count.as_ref().map_or(1, |count| *count.get_ref());
        let wrong_count = match count {
            0 => Some("`count` must be at least 1: leave the `send` out".to_owned()),
            count if count > MAX_COPIES => Some(format!("`count` must be at most {MAX_COPIES}")),
            _ => None,
        };
        if let Some(what) = &wrong_count {
            self.fault(raw.count.as_ref().map(Spanned::span), what);
        }
        self.check_placeholders(&of_template);
        if let Some((_, json)) = field(item, "json") {
            self.check_placeholders(json);
        }
        let content = self.content(item, &raw, of_template, is_known, files)?;
        if wrong_count.is_some() {
            return None;
        }
        let place: Arc<str> = place(self.file, Some(item.span())).to_string().into();
        let took_s = raw.took.map_or(0, |took| took.0);
        let every_s = raw.every.map_or(0, |every| every.0);
        let first = u64::from(raw.first.unwrap_or(1));
        for copy in 0..count {
            let arrives_s = at_s + every_s * i64::from(copy);
            let created_s = raw.created.map_or(arrives_s, |created| {
                created.second(scenario.start_s, arrives_s)
            });
            let mut instance = Instance {
                n: first + u64::from(copy),
                seq: 0,
                start_s: scenario.start_s,
                at_s: arrives_s,
                created_s,
            };
            match &content {
                Content::Template(template) => {
                    *seq += 1;
                    instance.seq = *seq;
                    let body = template.body(&instance);
                    let kind = (template.source(), template.event.as_str());
                    let delivery = delivery(&instance, took_s, kind, body);
                    if let Err(why) = self.made.add(&delivery) {
                        let span = span_of_field(item, &why);
                        self.fault(
                            Some(span),
                            &format!("an event that cannot be applied: {why}"),
                        );
                    }
                    push(scenario, arrives_s, delivery, &place);
                }
                Content::Texts(texts) => {
                    for text in texts {
                        *seq += 1;
                        instance.seq = *seq;
                        let body = instance.fill(&text.body);
                        let source = source_of(&body);
                        let read = self.event(source, &raw, &instance, text, &body);
                        let Some((kind, arrives_s)) = read else {
                            continue;
                        };
                        let arriving = Instance {
                            at_s: arrives_s,
                            ..instance
                        };
                        let delivery = delivery(&arriving, took_s, (source, &kind), body);
                        self.add_text(&delivery, text);
                        if text.line.is_empty() {
                            self.warn_of_values(&delivery, text, scenario);
                        }
                        push(scenario, arrives_s, delivery, &place);
                    }
                }
            }
        }
        Some(())
    }

    /// Splits a `send` into the fields about copies and those of the template. A field that neither has is a fault.
    fn split_send<'a>(&mut self, item: &Item<'a>, known: &[&str]) -> (Item<'a>, Item<'a>) {
        let DeValue::Table(table) = item.get_ref() else {
            return (item.clone(), item.clone());
        };
        for (key, _) in table {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let what = format!("{}; {}", misplaced(item, name), hint(name, known));
                self.fault(Some(key.span()), &what);
            }
        }
        let (table, _) = parted(table, |name| known.contains(&name));
        let is_of_copies = |name: &str| COPIES.contains(&name) || TEXTS.contains(&name);
        let (copies, template) = parted(&table, is_of_copies);
        let spanned = |table| Spanned::new(item.span(), DeValue::Table(table));
        (spanned(copies), spanned(template))
    }

    /// A misspelled placeholder would stay as it is, and every copy would be the same.
    fn check_placeholders(&mut self, item: &Item<'_>) {
        match item.get_ref() {
            DeValue::String(text) => {
                let begin = begin_of(&self.file.1, &item.span(), text);
                for name in unknown_placeholders(text) {
                    let listed = PLACEHOLDERS.map(|known| format!("{{{known}}}")).join(", ");
                    let what = format!("there is no placeholder {{{name}}}; there are {listed}");
                    // With its brace.
                    let at = begin.map(|begin| begin + offset_of(name, text) - 1);
                    self.fault(Some(at.map_or(item.span(), |at| at..at)), &what);
                }
            }
            DeValue::Array(items) => items.iter().for_each(|it| self.check_placeholders(it)),
            DeValue::Table(table) => table.values().for_each(|it| self.check_placeholders(it)),
            _ => {}
        }
    }

    fn content(
        &mut self,
        item: &Item<'_>,
        raw: &RawCopies,
        of_template: Item<'_>,
        is_known: bool,
        files: &dyn FileSource,
    ) -> Option<Content> {
        let template = of_template.get_ref().as_table();
        let is_template = template.is_none_or(|table| !table.is_empty());
        match (&raw.json, &raw.file, is_template) {
            (Some(json), None, false) => {
                let text = Text {
                    body: json.get_ref().clone(),
                    span: json.span(),
                    begin: begin_of(&self.file.1, &json.span(), json.get_ref()),
                    line: String::new(),
                };
                Some(Content::Texts(vec![text]))
            }
            (None, Some(path), false) => match files.events(path.get_ref()) {
                Ok(text) => {
                    let lines = text.lines().zip(1..);
                    let lines = lines.filter(|(line, _)| !line.trim().is_empty());
                    let texts = lines.map(|(line, n)| Text {
                        body: line.to_owned(),
                        span: path.span(),
                        begin: None,
                        line: format!(" (line {n} of {})", path.get_ref()),
                    });
                    Some(Content::Texts(texts.collect()))
                }
                Err(why) => {
                    self.fault(Some(path.span()), &why);
                    self.made.unknown();
                    None
                }
            },
            (None, None, true) => {
                let event = field(&of_template, "event").map(|(key, _)| key.span());
                let given = of_template.clone();
                let template: Template = self.fields(of_template, is_known)?;
                if let Err(what) = template.check() {
                    self.fault(event, &what);
                    return None;
                }
                self.check_values(&given, &template.event);
                Some(Content::Template(Box::new(template)))
            }
            _ if !is_known => None,
            _ => {
                let what = "a `send` needs either `event` and its fields, or `json`, or `file`";
                self.fault(Some(item.span()), what);
                None
            }
        }
    }

    /// The type of a complete event, and the second at which it arrives.
    fn event(
        &mut self,
        source: Source,
        raw: &RawCopies,
        instance: &Instance,
        text: &Text,
        body: &str,
    ) -> Option<(String, i64)> {
        match Event::read(source, body.as_bytes()) {
            Ok(event) => {
                let arrives_s = match raw.arrive {
                    Some(RawArrive::Created) => event.created_s.max(instance.start_s),
                    Some(RawArrive::At) | None => instance.at_s,
                };
                Some((event.kind.clone().into_owned(), arrives_s))
            }
            Err(error) => {
                let what = format!("not an event{}: {error}", text.line);
                let at = match &error {
                    EnvelopeError::InvalidJson { .. } => syntax_error_in(&text.body),
                    EnvelopeError::App(error) => field_in(&text.body, &path_of(&error.pointer)),
                    error => error.field().and_then(|field| field_in(&text.body, field)),
                };
                self.fault(Some(text.span_at(at)), &what);
                self.made.unread_text(body);
                None
            }
        }
    }

    /// Adds a complete event to what the test makes.
    fn add_text(&mut self, delivery: &Delivery, text: &Text) {
        let Err(why) = self.made.add(delivery) else {
            return;
        };
        let what = format!("an event that cannot be applied{}: {why}", text.line);
        let at = path_in(&why).and_then(|path| field_in(&text.body, path));
        self.fault(Some(text.span_at(at)), &what);
    }

    /// Stripe may send values that it does not document yet, so they are only warned of.
    fn warn_of_values(&mut self, delivery: &Delivery, text: &Text, scenario: &mut Scenario) {
        for (path, what) in undocumented(&delivery.event_type, &delivery.body) {
            let at = field_in(&text.body, &format!("data.object.{path}"));
            let place = place(self.file, Some(text.span_at(at)));
            let warning = Fault::at(place, what);
            if !scenario.warnings.contains(&warning) {
                scenario.warnings.push(warning);
            }
        }
    }
}

impl Text {
    /// The place of an offset in the text, else its own.
    fn span_at(&self, offset: Option<usize>) -> Range<usize> {
        let at = self.begin.zip(offset).map(|(begin, at)| begin + at);
        at.map_or_else(|| self.span.clone(), |at| at..at)
    }
}

/// Whose complete event this is: one of the application is a CloudEvent.
fn source_of(body: &str) -> Source {
    let fields: Option<BTreeMap<String, IgnoredAny>> = serde_json::from_str(body).ok();
    match fields.is_some_and(|fields| fields.contains_key("specversion")) {
        true => Source::App,
        false => Source::Stripe,
    }
}

/// `data.topic` of the pointer `/data/topic`.
fn path_of(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

/// The field that an event cannot be applied for, such as `data.object.status`.
fn path_in(why: &str) -> Option<&str> {
    let begin = why.find("data.object")?;
    why[begin..].split(':').next()
}

/// The field of a `send` that sets it, else the `send`.
fn span_of_field(item: &Item<'_>, why: &str) -> Range<usize> {
    let path = path_in(why).and_then(|path| path.strip_prefix("data.object."));
    let Some(path) = path else {
        return item.span();
    };
    let given = format!("object.{path}");
    let fields = [given.as_str(), field_setting(path)];
    let mut spans = fields.map(|_| None);
    note_fields(item, "", &mut |noted, span| {
        if let Some(n) = fields.iter().position(|field| *field == noted) {
            spans[n] = Some(span);
        }
    });
    spans.into_iter().flatten().next().unwrap_or(item.span())
}

/// An event is applied when it arrives; it waited in the queue until then.
fn delivery(of: &Instance, took_s: i64, (source, kind): (Source, &str), body: String) -> Delivery {
    let begin = match source {
        Source::App => APP,
        Source::Stripe | Source::Snapshot => "evt_",
    };
    Delivery {
        id: Uuid::from_u128(u128::from(of.seq)),
        event_id: format!("{begin}{}", of.seq),
        event_type: kind.to_owned(),
        partition: 0,
        endpoint: "test".to_owned(),
        received_ms: (of.at_s - took_s).saturating_mul(1000),
        traceparent: None,
        body: Bytes::from(body),
    }
}

fn push(scenario: &mut Scenario, at_s: i64, delivery: Delivery, place: &Arc<str>) {
    moment(scenario, at_s).arrivals.push(Arrival {
        delivery,
        place: Arc::clone(place),
    });
}

/// The type of the events, if Stripe documents it, or it is one of the application's.
fn event_type<'i>(item: &'i Item<'_>) -> Option<&'i str> {
    let (_, event) = field(item, "event")?;
    event
        .get_ref()
        .as_str()
        .filter(|event| is_known_kind(event) || is_known_type(event))
}

/// The fields that this `send` may have: those of its type, those of complete events, or all while it is neither.
fn known_fields(item: &Item<'_>) -> Vec<&'static str> {
    let is_made = field(item, "event").is_some();
    let is_complete = field(item, "json").or(field(item, "file")).is_some();
    let mut known = match is_complete {
        true if !is_made => Vec::new(),
        _ => fields_of(event_type(item)),
    };
    if is_complete || !is_made {
        known.extend(TEXTS);
    }
    known.extend(COPIES);
    known
}

/// Says why this `send` cannot have the field.
fn misplaced(item: &Item<'_>, name: &str) -> String {
    let exists = fields_of(None).contains(&name) || TEXTS.contains(&name);
    match event_type(item) {
        Some(event) if exists => {
            format!("`{name}` does not apply to an event of type {event}")
        }
        None if exists => format!("`{name}` does not apply to complete events"),
        _ => format!("unknown field `{name}`"),
    }
}

/// A field of a table.
fn field<'i, 'a>(
    item: &'i Item<'a>,
    name: &str,
) -> Option<(&'i Spanned<DeString<'a>>, &'i Item<'a>)> {
    item.get_ref().as_table()?.get_key_value(name)
}

/// Notes the fields of a table, and those of the tables in it.
fn note_fields(item: &Item<'_>, path: &str, note: &mut dyn FnMut(String, Range<usize>)) {
    for (key, value) in item.get_ref().as_table().into_iter().flatten() {
        let path = match path {
            "" => key.get_ref().to_string(),
            path => format!("{path}.{}", key.get_ref()),
        };
        note_fields(value, &path, note);
        note(path, key.span());
    }
}
