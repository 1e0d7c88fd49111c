//! Names that stand for people and things in files that others may read.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Gives the same name to the same thing within a round, and another one in the next.
///
/// The key is drawn for one round and never written. Stripe's ids are long, but whoever has a list
/// of them could hash them all and compare: without the key a plain hash would hide nothing. As
/// each round has its own, two rounds cannot be joined to follow somebody through time.
pub struct Pseudonyms {
    key: [u8; 32],
}

impl Pseudonyms {
    /// For a new round.
    pub fn draw() -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self { key })
    }

    /// For example `account-0f1e2d3c4b5a6978`. Things of different kinds have different names.
    pub fn of(&self, kind: &str, name: &str) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("a key of any length will do");
        mac.update(kind.as_bytes());
        mac.update(&[0]);
        mac.update(name.as_bytes());
        format!("{kind}-{}", hex::encode(&mac.finalize().into_bytes()[..8]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stable_within_a_round_only() {
        let (one, other) = (
            Pseudonyms::draw().expect("chance"),
            Pseudonyms::draw().expect("chance"),
        );
        assert_eq!(one.of("account", "acct_1"), one.of("account", "acct_1"));
        assert_ne!(one.of("account", "acct_1"), one.of("account", "acct_2"));
        assert_ne!(one.of("account", "acct_1"), other.of("account", "acct_1"));
        assert_ne!(one.of("account", "x")[7..], one.of("person", "x")[6..]);
        let name = one.of("account", "acct_1");
        assert!(
            name.starts_with("account-") && name.len() == 8 + 16,
            "{name}"
        );
    }
}
