//! The fields that each table of a test file may have. Every unknown one is a fault that names the field that was
//! probably meant, and all that are right there. Pure.

use revwatch_runtime::config::closest_match;
use revwatch_runtime::wording;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::{Item, Reader};

/// How the parser begins what it says of a required field that is not there.
const MISSING: &str = "missing field";

impl Reader<'_> {
    /// Reads a table. Its type has exactly the `known` fields, perhaps without those that were taken out of `item`.
    /// A field that is unknown or cannot be read is a fault, and hides no other one: the table is read without it.
    pub(super) fn table<T: DeserializeOwned>(
        &mut self,
        item: &Item<'_>,
        known: &[&str],
    ) -> Option<T> {
        let is_known = self.is_known(item, known);
        let item = self.known_only(item, known);
        self.fields(item, is_known)
    }

    /// The same without a check of the names; `is_complete` is whether no field was left out.
    pub(super) fn fields<T: DeserializeOwned>(
        &mut self,
        mut item: Item<'_>,
        mut is_complete: bool,
    ) -> Option<T> {
        loop {
            let error = match T::deserialize(ValueDeserializer::from(item.clone())) {
                Ok(read) => return Some(read),
                Err(error) => error,
            };
            // What is missing is misspelled, or cannot be read.
            if !is_complete && error.message().starts_with(MISSING) {
                return None;
            }
            let span = error.span().unwrap_or(item.span());
            self.fault(Some(span.clone()), &wording::plain(error.message()));
            let DeValue::Table(table) = item.get_mut() else {
                return None;
            };
            let holds = |value: &Item<'_>| {
                let at = value.span();
                at.start <= span.start && span.end <= at.end
            };
            let unread = table.iter().find(|(_, value)| holds(value));
            let unread = unread.map(|(key, _)| key.get_ref().clone().into_owned())?;
            table.remove(unread.as_str());
            is_complete = false;
        }
    }

    /// Whether the table has no other than these fields.
    pub(super) fn is_known(&self, item: &Item<'_>, known: &[&str]) -> bool {
        let table = item.get_ref().as_table();
        let mut keys = table.into_iter().flat_map(|table| table.keys());
        keys.all(|key| known.contains(&key.get_ref().as_ref()))
    }

    /// Records that a field is missing, unless one that is there is misspelled.
    pub(super) fn require(&mut self, item: &Item<'_>, name: &str, known: &[&str]) {
        let is_there = item
            .get_ref()
            .as_table()
            .is_none_or(|it| it.contains_key(name));
        if !is_there && self.is_known(item, known) {
            self.fault(Some(item.span()), &format!("`{name}` is missing"));
        }
    }

    /// The table without its unknown fields, which are faults. Anything but a table is left to who reads it.
    fn known_only<'a>(&mut self, item: &Item<'a>, known: &[&str]) -> Item<'a> {
        let DeValue::Table(table) = item.get_ref() else {
            return item.clone();
        };
        let is_known = |name: &str| known.contains(&name);
        for (key, _) in table.iter().filter(|(key, _)| !is_known(key.get_ref())) {
            let what = format!("unknown field `{}`", key.get_ref());
            let hint = hint(key.get_ref(), known);
            self.fault(Some(key.span()), &format!("{what}; {hint}"));
        }
        let (table, _) = parted(table, is_known);
        Spanned::new(item.span(), DeValue::Table(table))
    }
}

/// The fields of which `is_first` holds, and the others.
pub(super) fn parted<'a>(
    table: &DeTable<'a>,
    is_first: impl Fn(&str) -> bool,
) -> (DeTable<'a>, DeTable<'a>) {
    let fields = table.clone().into_iter();
    fields.partition(|(key, _)| is_first(key.get_ref()))
}

/// The field that was probably meant, and all that are right.
pub(super) fn hint(name: &str, known: &[&str]) -> String {
    let listed: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    let listed = listed.join(", ");
    match near(name, known) {
        Some(near) => format!("did you mean `{near}`? There are {listed}"),
        None => format!("there are {listed}"),
    }
}

/// The field that was probably meant: one that is alike, or that begins so, as `amount` for `amount_minor`.
fn near<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let known = || known.iter().copied();
    closest_match(name, known()).or_else(|| known().find(|known| known.starts_with(name)))
}
