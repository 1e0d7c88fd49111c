//! Stripe's webhook signature: `Stripe-Signature: t=<unix s>,v1=<hex>[,v1=<hex>…]`.
//!
//! HMAC-SHA256 over `t` + `.` + raw body, keyed with the complete `whsec_…` text; compared in
//! constant time. Source: <https://docs.stripe.com/webhooks#verify-manually>. Where Stripe's
//! libraries differ, this module accepts what any of them accepts, as long as that is safe: spaces
//! around elements, upper-case hex, several `t` (each is verified with its own value).
//!
//! Stripe's libraries accept timestamps in the future. This module does not: only a holder of the secret can sign one,
//! so it is our clock that is behind, and what is received by such a clock is not known to be older than what it says.

use hmac::digest::CtOutput;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Stripe's libraries refuse signatures older than this; an age of exactly this is accepted.
pub const DEFAULT_TOLERANCE_S: i64 = 300;

/// One signing secret, with its HMAC key schedule computed once.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

/// Why a delivery was refused. `reason` is the machine-readable word in the response and the
/// metric.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum SignatureError {
    /// There is no such header.
    #[error("there is no {0} header")]
    NoHeader(&'static str),
    /// The header is not text, or is too long.
    #[error("the {0} header cannot be read")]
    Unreadable(&'static str),
    /// The header with the time of signing has none, or no number.
    #[error("the {0}")]
    NoTimestamp(&'static str),
    /// The header has no `v1`; `v0` is Stripe's fake scheme for test events.
    #[error("the {0} header has no v1 signature")]
    NoV1(&'static str),
    /// No `v1` matches any secret of the endpoint.
    #[error(
        "no v1 signature matches: check that this endpoint has the signing secret of its sender, for Stripe the one that it shows for the endpoint"
    )]
    Mismatch,
    /// The signature is correct but too old: a replay, or a wrong clock.
    #[error(
        "the signature is older than the tolerance: a replay, or this machine's clock is wrong"
    )]
    TooOld,
    /// The signature is correct, and its time has not come: this machine's clock is behind.
    #[error(
        "the signature is from the future by {ahead_s} seconds: this machine's clock is behind; send it again later"
    )]
    FromFuture {
        /// How far it is ahead of this machine's clock.
        ahead_s: i64,
    },
}

impl SignatureError {
    /// The machine-readable reason.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoHeader(_) => "signature_missing",
            Self::Unreadable(_) => "signature_unreadable",
            Self::NoTimestamp(_) => "signature_without_timestamp",
            Self::NoV1(_) => "signature_without_v1",
            Self::Mismatch => "signature_mismatch",
            Self::TooOld => "signature_too_old",
            Self::FromFuture { .. } => "signature_from_future",
        }
    }
}

impl SigningKey {
    /// `secret` is the complete text that Stripe shows, including the prefix. `None` if it is
    /// empty: with an empty secret anyone could sign.
    pub fn new(secret: &str) -> Option<Self> {
        let secret = secret.trim();
        (!secret.is_empty()).then(|| {
            Self(Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length"))
        })
    }

    /// The header value that Stripe would send with `body` at `timestamp_s`.
    pub fn header(&self, timestamp_s: i64, body: &[u8]) -> String {
        format!(
            "t={timestamp_s},v1={}",
            self.sign(&[timestamp_s.to_string().as_bytes(), b".", body])
        )
    }

    /// HMAC-SHA256 over the concatenated parts, in hex.
    pub fn sign(&self, parts: &[&[u8]]) -> String {
        hex::encode(self.mac(parts).finalize().into_bytes())
    }

    /// Whether `tag` is the HMAC-SHA256 over the concatenated parts; compared in constant time.
    pub fn has_signed(&self, parts: &[&[u8]], tag: &[u8; 32]) -> bool {
        self.mac(parts).verify_slice(tag).is_ok()
    }

    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

/// Checks `header` against every key; `Ok` means that one of them signed exactly this body.
///
/// The signature is checked before the age, so that only a holder of the secret can learn about
/// clocks.
pub fn verify(
    keys: &[SigningKey],
    header: Option<&[u8]>,
    body: &[u8],
    now_s: i64,
    tolerance_s: i64,
) -> Result<(), SignatureError> {
    let header = text(HEADER, header)?;
    let mut timestamps: Vec<(&str, i64)> = Vec::with_capacity(1);
    let mut signatures: Vec<[u8; 32]> = Vec::with_capacity(2);
    let mut has_v1 = false;
    for element in header.split(',') {
        match element.trim().split_once('=') {
            Some(("t", value)) => timestamps.extend(value.parse().ok().map(|t| (value, t))),
            Some(("v1", value)) => {
                has_v1 = true;
                let mut tag = [0; 32];
                if hex::decode_to_slice(value, &mut tag).is_ok() {
                    signatures.push(tag);
                }
            }
            _ => {}
        }
    }
    if timestamps.is_empty() {
        return Err(NO_TIMESTAMP);
    }
    if !has_v1 {
        return Err(SignatureError::NoV1(HEADER));
    }
    // Rotation never needs more; a longer list would only let an attacker waste CPU time.
    timestamps.truncate(2);
    signatures.truncate(8);
    // It does not matter which secret matches: the first match is enough.
    let is_signed = |text: &str| {
        keys.iter().any(|key| {
            let mac = key.mac(&[text.as_bytes(), b".", body]).finalize();
            signatures
                .iter()
                .any(|tag| mac == CtOutput::new((*tag).into()))
        })
    };
    // That which is nearest to now counts: proxies may repeat the header of an earlier request.
    let age_s = timestamps
        .into_iter()
        .filter(|(text, _)| is_signed(text))
        .map(|(_, t)| now_s.saturating_sub(t))
        .min_by_key(|age_s| age_s.unsigned_abs());
    within(age_s.ok_or(SignatureError::Mismatch)?, tolerance_s)
}

/// Stripe's header.
const HEADER: &str = "Stripe-Signature";

const NO_TIMESTAMP: SignatureError =
    SignatureError::NoTimestamp("Stripe-Signature header has no timestamp t=<unix seconds>");

/// A header with two secrets has about 170 bytes.
const MAX_HEADER_BYTES: usize = 4096;

/// The text of a header of this name.
pub(crate) fn text<'a>(
    name: &'static str,
    header: Option<&'a [u8]>,
) -> Result<&'a str, SignatureError> {
    let header = header.ok_or(SignatureError::NoHeader(name))?;
    let is_long = header.len() > MAX_HEADER_BYTES;
    let text = std::str::from_utf8(header).ok().filter(|_| !is_long);
    text.ok_or(SignatureError::Unreadable(name))
}

/// Whether a correct signature is neither too old nor from the future.
pub(crate) fn within(age_s: i64, tolerance_s: i64) -> Result<(), SignatureError> {
    match age_s {
        _ if age_s > tolerance_s => Err(SignatureError::TooOld),
        _ if age_s < tolerance_s.saturating_neg() => Err(SignatureError::FromFuture {
            ahead_s: age_s.saturating_neg(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: i64 = 1_700_000_000;
    const BODY: &[u8] = br#"{"id":"evt_1"}"#;

    fn tag(secret: &str, timestamp: &str, body: &[u8]) -> String {
        let key = SigningKey::new(secret).expect("a secret");
        key.sign(&[timestamp.as_bytes(), b".", body])
    }

    /// Every accepted and refused case that Stripe documents or its libraries implement.
    #[test]
    fn accepts_what_any_of_stripes_libraries_accepts() {
        let right = tag("whsec_a", "1700000000", BODY);
        let second = tag("whsec_b", "1700000000", BODY);
        let wrong = tag("whsec_other", "1700000000", BODY);
        let other_body = tag("whsec_a", "1700000000", b"{}");
        let old = |age: i64| {
            let t = (NOW_S - age).to_string();
            format!("t={t},v1={}", tag("whsec_a", &t, BODY))
        };
        let table: Vec<(&str, Option<String>, Result<(), SignatureError>)> = vec![
            ("one v1", Some(format!("t=1700000000,v1={right}")), Ok(())),
            (
                "order does not matter",
                Some(format!("v1={right},t=1700000000")),
                Ok(()),
            ),
            (
                "the second secret of a rotation",
                Some(format!("t=1700000000,v1={second}")),
                Ok(()),
            ),
            (
                "several v1, one right",
                Some(format!("t=1700000000,v1={wrong},v1={right}")),
                Ok(()),
            ),
            (
                "a non-hex v1 next to a correct one",
                Some(format!("t=1700000000,v1=potato,v1={right}")),
                Ok(()),
            ),
            (
                "an unknown scheme next to v1",
                Some(format!("t=1700000000,v9=abc,v1={right},v0={wrong}")),
                Ok(()),
            ),
            (
                "spaces after commas (Ruby)",
                Some(format!("t=1700000000, v1={right}")),
                Ok(()),
            ),
            (
                "upper-case hex (Go)",
                Some(format!("t=1700000000,v1={}", right.to_uppercase())),
                Ok(()),
            ),
            (
                "first t right (Python, Ruby)",
                Some(format!("t=1700000000,t=12,v1={right}")),
                Ok(()),
            ),
            (
                "last t right (Go, Node)",
                Some(format!("t=12,t=1700000000,v1={right}")),
                Ok(()),
            ),
            ("exactly at the tolerance", Some(old(300)), Ok(())),
            ("a clock that is a little behind", Some(old(-300)), Ok(())),
            (
                "a clock that is further behind",
                Some(old(-301)),
                Err(SignatureError::FromFuture { ahead_s: 301 }),
            ),
            (
                "a clock that is years behind",
                Some(old(-NOW_S)),
                Err(SignatureError::FromFuture { ahead_s: NOW_S }),
            ),
            (
                "one from the future without its secret",
                Some(format!("t=1800000000,v1={wrong}")),
                Err(SignatureError::Mismatch),
            ),
            (
                "one from the future, and one of now",
                Some(format!("{},{}", old(-86_400), old(0))),
                Ok(()),
            ),
            ("no header", None, Err(SignatureError::NoHeader(HEADER))),
            ("an empty header", Some(String::new()), Err(NO_TIMESTAMP)),
            ("no t", Some(format!("v1={right}")), Err(NO_TIMESTAMP)),
            (
                "an empty t",
                Some(format!("t=,v1={right}")),
                Err(NO_TIMESTAMP),
            ),
            (
                "t is not a number",
                Some(format!("t=soon,v1={right}")),
                Err(NO_TIMESTAMP),
            ),
            (
                "t overflows",
                Some(format!("t=99999999999999999999,v1={right}")),
                Err(NO_TIMESTAMP),
            ),
            (
                "no v1",
                Some("t=1700000000".to_owned()),
                Err(SignatureError::NoV1(HEADER)),
            ),
            (
                "only v0",
                Some(format!("t=1700000000,v0={right}")),
                Err(SignatureError::NoV1(HEADER)),
            ),
            (
                "an upper-case scheme",
                Some(format!("t=1700000000,V1={right}")),
                Err(SignatureError::NoV1(HEADER)),
            ),
            (
                "wrong secret",
                Some(format!("t=1700000000,v1={wrong}")),
                Err(SignatureError::Mismatch),
            ),
            (
                "another body",
                Some(format!("t=1700000000,v1={other_body}")),
                Err(SignatureError::Mismatch),
            ),
            (
                "another time",
                Some(format!("t=1699999999,v1={right}")),
                Err(SignatureError::Mismatch),
            ),
            (
                "a cut-off tag",
                Some(format!("t=1700000000,v1={}", &right[..62])),
                Err(SignatureError::Mismatch),
            ),
            (
                "an empty v1",
                Some("t=1700000000,v1=".to_owned()),
                Err(SignatureError::Mismatch),
            ),
            (
                "a second too old",
                Some(old(301)),
                Err(SignatureError::TooOld),
            ),
            (
                "old and wrong",
                Some(format!("t=12,v1={wrong}")),
                Err(SignatureError::Mismatch),
            ),
            (
                "a giant header",
                Some("t=1,".repeat(4096)),
                Err(SignatureError::Unreadable(HEADER)),
            ),
        ];
        let keys = ["whsec_a", "whsec_b"].map(|s| SigningKey::new(s).expect("a secret"));
        for (case, header, expected) in table {
            let got = verify(
                &keys,
                header.as_deref().map(str::as_bytes),
                BODY,
                NOW_S,
                DEFAULT_TOLERANCE_S,
            );
            assert_eq!(got, expected, "{case}");
        }
    }

    #[test]
    fn a_body_that_is_not_text_is_verified() {
        let key = SigningKey::new("whsec_a").expect("a secret");
        let body = b"\xff\x00{\"id\"";
        assert_eq!(
            verify(
                std::slice::from_ref(&key),
                Some(key.header(NOW_S, body).as_bytes()),
                body,
                NOW_S,
                300
            ),
            Ok(())
        );
        assert_eq!(
            verify(&[key], Some(b"t=\xff"), body, NOW_S, 300),
            Err(SignatureError::Unreadable(HEADER))
        );
    }

    #[test]
    fn agrees_with_a_signature_made_by_openssl() {
        // printf '12345.{}' | openssl dgst -sha256 -hmac whsec_test_secret
        let header = SigningKey::new("whsec_test_secret")
            .expect("a secret")
            .header(12_345, b"{}");
        assert_eq!(header, format!("t=12345,v1={OPENSSL_TAG}"));
    }

    const OPENSSL_TAG: &str = "c9a60c1eb8eee7a6d5d12198b186729a423ee2768f853894ec8806ca74610d05";

    #[test]
    fn an_empty_secret_is_refused_and_secrets_are_never_shown() {
        assert!(SigningKey::new("").is_none() && SigningKey::new("  ").is_none());
        assert_eq!(
            format!("{:?}", SigningKey::new("whsec_a")),
            "Some(SigningKey(…))"
        );
    }
}
