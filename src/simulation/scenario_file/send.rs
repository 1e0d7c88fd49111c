//! Events to send: from a template, from text, or from a file; copied and spread over time. Pure.

use std::ops::Range;

use bytes::Bytes;
use revwatch_core::durations::Span;
use revwatch_core::event::Event;
use revwatch_storage::ports::Delivery;
use serde::Deserialize;
use toml::Spanned;
use toml::de::DeValue;
use uuid::Uuid;

use super::super::scenario::{Scenario, When};
use super::super::template::{Instance, Template};
use super::{FileSource, Item, Reader};

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

const COPY_FIELDS: [&str; 8] = [
    "count", "first", "every", "created", "took", "json", "file", "arrive",
];

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum RawArrive {
    At,
    Created,
}

/// What a `send` sends.
enum Source {
    /// An event made from fields.
    Template(Box<Template>),
    /// Complete events, each with the position of its text or file.
    Texts(Vec<(String, Range<usize>)>),
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
    ) -> Option<()> {
        let (of_copies, of_template) = split_send(item);
        let raw: RawCopies = self.read(&of_copies)?;
        if let Some(count) = raw
            .count
            .as_ref()
            .filter(|count| *count.get_ref() > MAX_COPIES)
        {
            let what = format!("`count` must be at most {MAX_COPIES}");
            self.fault(Some(count.span()), &what);
            return None;
        }
        let source = self.source(item, &raw, &of_template, files)?;
        let took_s = raw.took.map_or(0, |took| took.0);
        let every_s = raw.every.map_or(0, |every| every.0);
        let first = u64::from(raw.first.unwrap_or(1));
        let count = raw.count.as_ref().map_or(1, |count| *count.get_ref());
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
            match &source {
                Source::Template(template) => {
                    *seq += 1;
                    instance.seq = *seq;
                    let body = template.body(&instance);
                    push(scenario, &instance, took_s, &template.event, body);
                }
                Source::Texts(texts) => {
                    for (text, span) in texts {
                        *seq += 1;
                        instance.seq = *seq;
                        let body = instance.fill(text);
                        let (kind, arrives_s) = self.event(&raw, &instance, span, &body)?;
                        let arriving = Instance {
                            at_s: arrives_s,
                            ..instance
                        };
                        push(scenario, &arriving, took_s, &kind, body);
                    }
                }
            }
        }
        Some(())
    }

    fn source(
        &mut self,
        item: &Item<'_>,
        raw: &RawCopies,
        of_template: &Item<'_>,
        files: &dyn FileSource,
    ) -> Option<Source> {
        let template = of_template.get_ref().as_table();
        let is_template = template.is_none_or(|table| !table.is_empty());
        match (&raw.json, &raw.file, is_template) {
            (Some(json), None, false) => {
                Some(Source::Texts(vec![(json.get_ref().clone(), json.span())]))
            }
            (None, Some(path), false) => match files.events(path.get_ref()) {
                Ok(text) => {
                    let lines = text.lines().filter(|line| !line.trim().is_empty());
                    let texts = lines.map(|line| (line.to_owned(), path.span()));
                    Some(Source::Texts(texts.collect()))
                }
                Err(why) => {
                    self.fault(Some(path.span()), &why);
                    None
                }
            },
            (None, None, true) => {
                let template: Template = self.read(of_template)?;
                if let Err(what) = template.check() {
                    self.fault(Some(place_of(of_template, &what)), &what);
                    return None;
                }
                Some(Source::Template(Box::new(template)))
            }
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
        raw: &RawCopies,
        instance: &Instance,
        span: &Range<usize>,
        body: &str,
    ) -> Option<(String, i64)> {
        match Event::parse(body.as_bytes()) {
            Ok(event) => {
                let arrives_s = match raw.arrive {
                    Some(RawArrive::Created) => event.created_s.max(instance.start_s),
                    Some(RawArrive::At) | None => instance.at_s,
                };
                Some((event.kind.clone().into_owned(), arrives_s))
            }
            Err(error) => {
                self.fault(Some(span.clone()), &format!("not an event: {error}"));
                None
            }
        }
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
