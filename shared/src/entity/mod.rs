//! Entities.

use serde::{Deserialize, Serialize};

/// The kinds of things revwatch keeps the state of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntityKind {
    /// `sub_…`
    Subscription,
    /// `in_…`
    Invoice,
    /// `po_…`
    Payout,
    /// `acct_…`
    Account,
}

impl EntityKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Subscription, Self::Invoice, Self::Payout, Self::Account];

    /// The name commands and keys use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subscription => "subscription",
            Self::Invoice => "invoice",
            Self::Payout => "payout",
            Self::Account => "account",
        }
    }
}

impl std::str::FromStr for EntityKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            format!("unknown kind {text:?}: one of {known}")
        })
    }
}

/// Which entity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EntityKey {
    /// What it is.
    pub kind: EntityKind,
    /// Stripe's id.
    pub id: String,
}

impl EntityKey {
    /// `id` is Stripe's.
    pub fn new(kind: EntityKind, id: impl Into<String>) -> Self {
        Self { kind, id: id.into() }
    }
}

impl std::fmt::Display for EntityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.id)
    }
}
