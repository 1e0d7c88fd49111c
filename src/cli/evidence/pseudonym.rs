//! Pseudonyms for people and objects, in files that may be handed on.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Gives the same pseudonym to the same name within a review, and another in the next.
///
/// The key is drawn for one review and never written. A plain hash would hide nothing: with a list
/// of Stripe ids, all of them could be hashed and compared. Since each review has its own key, two
/// reviews cannot be joined to follow one person through time.
pub struct Pseudonyms {
    key: [u8; 32],
}

impl Pseudonyms {
    /// Draws the key of a new review.
    pub fn draw() -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self { key })
    }

    /// For example `account-0f1e2d3c4b5a6978`. Names of different kinds have different pseudonyms.
    pub fn of(&self, kind: &str, name: &str) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
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
    fn pseudonyms_are_stable_within_one_review_only() {
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
