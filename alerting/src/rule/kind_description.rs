//! What a kind of rule is. Pure.

use std::fmt;

use super::condition_or_metric::RuleKind;
use super::fields::Fields;

/// A kind of rule, as rule files name it.
pub struct Kind {
    /// The value of `kind`.
    pub name: &'static str,
    /// The fields that it accepts, in addition to those of every rule.
    pub fields: &'static [&'static str],
    /// The conditions or metrics that it evaluates.
    pub evaluates: fn() -> Vec<&'static str>,
    /// The fields of a minimal rule of this kind.
    pub sample: &'static str,
    /// Reads its fields.
    pub(crate) read: fn(&mut Fields<'_>) -> Option<RuleKind>,
}

impl Kind {
    /// A minimal rule of this kind, as text.
    pub fn sample_rule(&self) -> String {
        format!(
            "[[rule]]\nname = \"{name}_sample\"\nkind = \"{name}\"\n{fields}\nseverity = \"high\"\n\
             route = \"default\"\ntitle = \"A sample\"\nactions = [\"Read it.\"]\n",
            name = self.name,
            fields = self.sample
        )
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
