//! Signatures as specified by Standard Webhooks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Allowed number of random bytes in a secret.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// One secret, with its HMAC key schedule computed once.
pub struct Key(Hmac<Sha256>);

impl Key {
    /// `None` unless the secret is `whsec_` and enough random bytes in base64.
    pub fn new(secret: &str) -> Option<Self> {
        let bytes = STANDARD.decode(secret.strip_prefix("whsec_")?).ok()?;
        let key = Hmac::new_from_slice(&bytes).ok()?;
        SECRET_BYTES.contains(&bytes.len()).then_some(Self(key))
    }

    /// The signature of one webhook.
    pub fn sign(&self, id: &str, timestamp_s: i64, body: &str) -> String {
        let mut mac = self.0.clone();
        mac.update(format!("{id}.{timestamp_s}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}
