//! The id of an event, or what is left of it.

use std::fmt;
use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};

use crate::source::FETCHED;

/// So many bytes tell the events of one object in one second apart: two have the same by a chance of
/// 1 in 3·10¹⁴. They are compared only with those of the same second.
pub(super) const HASH_BYTES: usize = 6;

/// The id of an event. Of old events of an object with very many, only a hash of the id is kept: it
/// recognises the event when it is delivered again, and is equal to the id itself.
#[derive(Debug, Clone)]
pub struct EventId {
    hash: u64,
    text: Option<String>,
    is_fetched: bool,
}

impl EventId {
    /// The id of an event of which only the hash was kept.
    pub(super) fn forgotten(hash: u64, is_fetched: bool) -> Self {
        Self {
            hash,
            text: None,
            is_fetched,
        }
    }

    pub(super) fn forget(&mut self) {
        self.text = None;
    }

    /// `evt_…`; `None`: only the hash was kept.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// `evt_…`; empty if only the hash was kept.
    pub fn as_str(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    /// Whether the event is one that was made of an object that was fetched from Stripe's API.
    pub fn is_fetched(&self) -> bool {
        self.is_fetched
    }

    /// The first six bytes of the SHA-256 of the id.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

impl From<String> for EventId {
    fn from(text: String) -> Self {
        let digest = Sha256::digest(text.as_bytes());
        let hash = digest[..HASH_BYTES].iter();
        Self {
            hash: hash.fold(0, |hash, byte| hash << 8 | u64::from(*byte)),
            is_fetched: text.starts_with(FETCHED),
            text: Some(text),
        }
    }
}

impl From<&str> for EventId {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// The id, empty if only the hash was kept.
impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq for EventId {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for EventId {}

impl Hash for EventId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}
