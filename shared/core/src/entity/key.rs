//! What identifies an entity.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::kind::EntityKind;

/// Identifies an entity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EntityKey {
    /// The kind.
    pub kind: EntityKind,
    /// Stripe's id.
    pub id: String,
}

impl EntityKey {
    /// `id` is Stripe's id.
    pub fn new(kind: EntityKind, id: impl Into<String>) -> Self {
        Self {
            kind,
            id: id.into(),
        }
    }
}

impl fmt::Display for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.id)
    }
}
