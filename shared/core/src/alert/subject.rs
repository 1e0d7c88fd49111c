//! The subject of an alert: the business, a segment of it, or an entity.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::entity::key::EntityKey;
use crate::redact;

/// What an alert is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The complete business.
    #[default]
    Business,
    /// A part of it, for example the currency `usd`.
    Segment {
        /// What it is divided by.
        by: String,
        /// Which part.
        value: String,
    },
    /// One entity.
    Entity(EntityKey),
}

impl Subject {
    /// The entity, if it is one.
    pub fn entity(&self) -> Option<&EntityKey> {
        match self {
            Self::Entity(key) => Some(key),
            _ => None,
        }
    }

    /// The notifier that cannot deliver, if it is one.
    pub fn broken_notifier(&self) -> Option<&str> {
        match self {
            Self::Segment { by, value } if by == "notifier" => Some(value),
            _ => None,
        }
    }

    /// As it may be logged.
    pub fn redacted(&self) -> Self {
        match self {
            Self::Business => Self::Business,
            Self::Segment { by, value } => Self::Segment {
                by: by.clone(),
                value: redact::name(value).into_owned(),
            },
            Self::Entity(key) => Self::Entity(EntityKey::new(key.kind, redact::id(&key.id))),
        }
    }
}

/// For example `account acct_1` or `currency usd`; empty for the complete business.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Business => Ok(()),
            Self::Segment { by, value } => write!(f, "{by} {value}"),
            Self::Entity(key) => write!(f, "{key}"),
        }
    }
}
