//! The fields that each table of a test file may have. Every unknown one is a fault that names the field that was
//! probably meant, and all that are right there. Pure.

use revwatch_runtime::config::closest_match;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::{Item, Reader};

/// How the parser begins what it says of a required field that is not there.
const MISSING: &str = "missing field";

impl Reader<'_> {
    /// Reads a table. Its type has exactly the `known` fields, perhaps without those that were taken out of `item`.
    pub(super) fn table<T: DeserializeOwned>(
        &mut self,
        item: &Item<'_>,
        known: &[&str],
    ) -> Option<T> {
        let faults = self.faults.len();
        let item = self.known_only(item, known);
        let all_known = self.faults.len() == faults;
        match T::deserialize(ValueDeserializer::from(item.clone())) {
            Ok(read) => Some(read).filter(|_| all_known),
            // What is missing is misspelled.
            Err(error) if !all_known && error.message().starts_with(MISSING) => None,
            Err(error) => {
                self.unread(&item, &error);
                None
            }
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
