//! Fingerprints of values: enough to see that a value changed, without storing it.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::canonical::canonical;

/// A short fingerprint of a value's canonical JSON text.
pub fn fingerprint(json: &str) -> u32 {
    of_bytes(json.as_bytes())
}

/// The fingerprint of a JSON text that need not be canonical.
pub fn json_fingerprint(json: &str) -> u32 {
    // The most frequent ones.
    if matches!(json, "null" | "[]") {
        return fingerprint(json);
    }
    // Unless it has too many levels.
    canonical(json).map_or_else(|_| fingerprint(json), |text| of_bytes(&text))
}

/// The fingerprint of a value in Stripe's JSON.
pub(in crate::entity) fn value_fingerprint<T: Serialize>(value: T) -> u32 {
    of_bytes(&serde_json::to_vec(&value).unwrap_or_default())
}

fn of_bytes(bytes: &[u8]) -> u32 {
    let digest = Sha256::digest(bytes);
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}
