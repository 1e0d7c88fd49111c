//! Fingerprints of values: enough to see that a value changed, without storing it.

use serde::Serialize;
use sha2::{Digest, Sha256};

/// A short fingerprint of a value's canonical JSON text.
pub fn fingerprint(json: &str) -> u32 {
    let digest = Sha256::digest(json.as_bytes());
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// The fingerprint of a value in Stripe's JSON.
pub(in crate::entity) fn value_fingerprint<T: Serialize>(value: T) -> u32 {
    fingerprint(&serde_json::to_string(&value).unwrap_or_default())
}
