//! What the events of a test are about, as the worker reads them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use revwatch_core::condition::ConditionKind;
use revwatch_core::entity::EntityKind;
use revwatch_core::event_settings::EventSettings;
use revwatch_storage::ports::Delivery;
use revwatch_worker::batch::{Place, observed};
use serde_json::Value;
use toml::de::DeValue;

use super::super::template::PLACEHOLDERS;
use super::Item;

/// The subjects of the events so far.
#[derive(Default)]
pub(super) struct Made {
    /// The settings under which a rule test applies events.
    settings: EventSettings,
    /// For example `payout po_1`.
    subjects: BTreeSet<String>,
    /// By what divides the business: `currency`, `country` or `source`.
    segments: BTreeMap<&'static str, BTreeSet<String>>,
    /// The accounts that events about objects of a kind name.
    accounts: BTreeMap<EntityKind, BTreeSet<String>>,
    unread: Unread,
}

/// What could not be read: it explains what is missing.
#[derive(Default)]
struct Unread {
    /// Their words, in lower case.
    words: Vec<String>,
    /// An event was not made at all: it may have had the defaults.
    may_be_default: bool,
    /// Nothing is known of it.
    may_be_anything: bool,
}

/// The fields of events that name a connected account.
const NAMING: [&str; 3] = ["account", "context", "destination"];

/// The fields in which the words of other fields mean nothing, or are past.
const NOT_NAMING: [&str; 2] = ["metadata", "previous_attributes"];

impl Made {
    /// Adds what an event says, or finds why it cannot be applied.
    pub(super) fn add(&mut self, delivery: &Delivery) -> Result<(), String> {
        let observed = observed(Place::ONLY, delivery, &self.settings).inspect_err(|why| {
            // It would make something else with another id.
            self.unread.may_be_anything |= why.contains(": data.object.id:");
            self.unread.add(&String::from_utf8_lossy(&delivery.body));
        })?;
        let body: Value = serde_json::from_slice(&delivery.body).unwrap_or_default();
        let mut accounts = BTreeSet::new();
        note_accounts(&body, &mut accounts);
        for key in observed.into_iter().map(|observation| observation.key) {
            let of_kind = self.accounts.entry(key.kind).or_default();
            of_kind.extend(accounts.iter().cloned());
            if key.kind == EntityKind::Account {
                of_kind.insert(key.id.to_string());
            }
            let named = segment(&body["data"]["object"], key.kind);
            for (of, name) in named.into_iter().chain(segments_of_app(&body["data"])) {
                self.segments.entry(of).or_default().insert(name);
            }
            self.subjects.insert(key.to_string());
        }
        Ok(())
    }

    /// Notes what cannot be read, or not completely; `is_made` is whether it nevertheless made an event.
    pub(super) fn unread(&mut self, item: &Item<'_>, is_made: bool) {
        self.unread.may_be_default |= !is_made;
        note_texts(item, &mut |text| self.unread.add(text));
    }

    /// The same of the text of an event.
    pub(super) fn unread_text(&mut self, text: &str) {
        self.unread.add(text);
    }

    /// Notes that there may be any event.
    pub(super) fn unknown(&mut self) {
        self.unread.may_be_anything = true;
    }

    /// The subjects that are there, unless `subject` is one of them, or may be one.
    pub(super) fn subjects_without(&self, subject: &str) -> Option<impl Iterator<Item = &str>> {
        let id = subject.rsplit(' ').next().unwrap_or_default();
        let is_there = self.subjects.contains(subject) || self.unread.may_name(id);
        (!is_there).then(|| self.subjects.iter().map(String::as_str))
    }

    /// The accounts of objects that can have the condition, or of any, unless `account` is one of them, or may be.
    pub(super) fn accounts_without(
        &self,
        condition: Option<ConditionKind>,
        account: &str,
    ) -> Option<Vec<&str>> {
        let is_of = |kind: EntityKind| condition.is_none_or(|condition| condition.is_of(kind));
        let of_kind = self.accounts.iter().filter(|(kind, _)| is_of(**kind));
        let known: BTreeSet<&str> = of_kind
            .flat_map(|(_, accounts)| accounts.iter().map(String::as_str))
            .collect();
        let is_there = known.contains(account) || self.unread.may_name(account);
        (!is_there).then(|| known.into_iter().collect())
    }

    /// The segments by `of`, unless `name` is one of them, or may be.
    pub(super) fn segments_without(&self, of: &str, name: &str) -> Option<Vec<&str>> {
        let known = self.segments.get(of).into_iter().flatten();
        let known: Vec<&str> = known.map(String::as_str).collect();
        let is_there = known.contains(&name) || self.unread.may_name(name);
        (!is_there).then_some(known)
    }
}

impl Unread {
    /// Adds the words of a text, which may be JSON.
    fn add(&mut self, text: &str) {
        let words = text.split(|c: char| c.is_whitespace() || "\",:".contains(c));
        let words = words.filter(|word| !word.is_empty());
        self.words.extend(words.map(str::to_ascii_lowercase));
    }

    /// Whether it may name this id or segment.
    fn may_name(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        let plain_name = plain(&name);
        let names = |word: &String| {
            word.contains(&name) || word.contains('{') && plain(word).contains(&plain_name)
        };
        self.may_be_anything
            || self.may_be_default && is_default(&name)
            || self.words.iter().any(names)
    }
}

/// Whether an event without this field may have this name: `po_1`, `usd`.
fn is_default(name: &str) -> bool {
    let numbered = name.split_once('_').is_some_and(|(_, number)| {
        !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    });
    numbered || ["usd", "us"].contains(&name)
}

/// The text without what a placeholder may stand for: a number.
fn plain(text: &str) -> String {
    let unfilled = PLACEHOLDERS.iter().fold(text.to_owned(), |text, name| {
        text.replace(&format!("{{{name}}}"), "")
    });
    unfilled.replace(|c: char| c.is_ascii_digit(), "")
}

/// The segment that an object of the kind is in: its own currency or country, as alerts have it.
fn segment(object: &Value, kind: EntityKind) -> Option<(&'static str, String)> {
    if kind != EntityKind::Account {
        let currency = object["currency"].as_str()?;
        return Some(("currency", currency.to_ascii_lowercase()));
    }
    // Not that of its bank account.
    let account = Some(object).filter(|object| object["object"] == "account")?;
    Some(("country", account["country"].as_str()?.to_ascii_uppercase()))
}

/// The segments that an event of the application names.
fn segments_of_app(data: &Value) -> impl Iterator<Item = (&'static str, String)> {
    let text = |of| Some((of, data[of].as_str()?));
    let named = ["currency", "country", "source"]
        .into_iter()
        .filter_map(text);
    named.map(|(of, name)| {
        let name = match of {
            "currency" => name.to_ascii_lowercase(),
            "country" => name.to_ascii_uppercase(),
            _ => name.to_owned(),
        };
        (of, name)
    })
}

/// Notes the accounts that an event, or a part of it, names.
fn note_accounts(part: &Value, accounts: &mut BTreeSet<String>) {
    match part {
        Value::Array(items) => items.iter().for_each(|it| note_accounts(it, accounts)),
        Value::Object(fields) => {
            let naming = fields
                .iter()
                .filter(|(field, _)| !NOT_NAMING.contains(&field.as_str()));
            for (field, value) in naming {
                // Stripe names an object by its id, or shows all of it.
                let text = value.as_str().or_else(|| value["id"].as_str());
                if let Some(text) = text.filter(|_| NAMING.contains(&field.as_str())) {
                    accounts.extend(text.split('/').map(str::to_owned));
                }
                note_accounts(value, accounts);
            }
        }
        _ => {}
    }
}

fn note_texts(item: &Item<'_>, note: &mut dyn FnMut(&str)) {
    match item.get_ref() {
        DeValue::String(text) => note(text),
        DeValue::Array(items) => items.iter().for_each(|it| note_texts(it, note)),
        DeValue::Table(table) => table.values().for_each(|it| note_texts(it, note)),
        _ => {}
    }
}
