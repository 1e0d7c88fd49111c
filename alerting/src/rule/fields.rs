//! The fields of one rule, read one by one, so that every fault is found. Pure.

use std::ops::Range;

use revwatch_runtime::wording;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, ValueDeserializer};

use super::metric::Named;

/// The fields of a rule, as written.
pub(crate) struct Fields<'t> {
    table: &'t DeTable<'t>,
    span: Range<usize>,
    /// `None` until the kind has been read.
    kind: Option<KindFields>,
    faults: Vec<Fault>,
}

/// The kind of the rule: its name, and the fields that it accepts.
#[derive(Clone, Copy)]
struct KindFields {
    name: &'static str,
    fields: &'static [&'static str],
}

/// A fault and its position.
pub(crate) struct Fault {
    /// The field, the value, or the rule.
    pub span: Range<usize>,
    /// It quotes the field that it refers to.
    pub what: String,
}

impl<'t> Fields<'t> {
    pub(crate) fn new(table: &'t DeTable<'t>, span: Range<usize>) -> Self {
        Self {
            table,
            span,
            kind: None,
            faults: Vec::new(),
        }
    }

    /// From here on the fields of this kind are read.
    pub(crate) fn of_kind(&mut self, name: &'static str, fields: &'static [&'static str]) {
        self.kind = Some(KindFields { name, fields });
    }

    /// The names of all fields, with their positions.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&'t str, Range<usize>)> + use<'t> {
        self.table
            .keys()
            .map(|key| (key.get_ref().as_ref(), key.span()))
    }

    pub(crate) fn into_faults(self) -> Vec<Fault> {
        self.faults
    }

    /// Whether the field is written, even if its value has a fault.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// Whether rules of this kind have the field.
    pub(crate) fn accepts(&self, name: &str) -> bool {
        self.kind.is_none_or(|kind| kind.fields.contains(&name))
    }

    /// A field that may be left out. `None` also after a fault, and if the kind does not accept it.
    pub(crate) fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let value = self.table.get(name).filter(|_| self.accepts(name))?;
        let span = value.span();
        T::deserialize(ValueDeserializer::from(value.clone()))
            .map_err(|error| {
                self.faults.push(Fault {
                    span: error.span().unwrap_or(span),
                    what: wording::complaint(&format!("`{name}`"), error.message()),
                });
            })
            .ok()
    }

    /// A field that must be given. `None` also after a fault.
    pub(crate) fn required<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        if !self.has(name) {
            self.fault_missing(name);
        }
        self.optional(name)
    }

    /// The metric, by its name.
    pub(crate) fn metric<M: Named>(&mut self) -> Option<M> {
        let name: Spanned<String> = self.required("metric")?;
        let metric = M::ALL.iter().find(|metric| metric.name() == name.get_ref());
        if metric.is_none() {
            let must = wording::one_of(&M::names(), name.get_ref());
            let what = match self.kind {
                Some(kind) => format!("`metric` of a rule of kind {} {must}", kind.name),
                None => format!("`metric` {must}"),
            };
            self.fault_at(name.span(), what);
        }
        metric.copied()
    }

    /// Records a fault of a field, which may be missing.
    pub(crate) fn fault(&mut self, name: &str, what: String) {
        let key = self.table.keys().find(|key| key.get_ref() == name);
        let span = key.map_or_else(|| self.span.clone(), |key| key.span());
        self.fault_at(span, what);
    }

    /// Records that a field is missing.
    pub(crate) fn fault_missing(&mut self, name: &str) {
        self.fault_missing_one_of(&format!("`{name}`"));
    }

    /// Records that of these fields, as they are written, none is there.
    pub(crate) fn fault_missing_one_of(&mut self, names: &str) {
        let what = match self.kind {
            Some(kind) => format!("a rule of kind {} needs {names}", kind.name),
            None => format!("a rule needs {names}"),
        };
        self.fault_at(self.span.clone(), what);
    }

    pub(crate) fn fault_at(&mut self, span: Range<usize>, what: String) {
        self.faults.push(Fault { span, what });
    }
}
