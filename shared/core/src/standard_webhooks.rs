//! Signatures after Standard Webhooks: three headers, and HMAC-SHA256 over `id.timestamp.body` in base64.
//! Source: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::signature::{SignatureError, text, within};

/// The header with the id of the message.
pub const ID: &str = "webhook-id";

/// The header with the time at which it was signed, Unix seconds.
pub const TIMESTAMP: &str = "webhook-timestamp";

/// The header with the signatures, separated by spaces: `v1,<base64>`.
pub const SIGNATURE: &str = "webhook-signature";

/// One secret, with its HMAC key schedule computed once.
#[derive(Clone)]
pub struct StandardKey(Hmac<Sha256>);

/// The headers of one message as they came; `None`: there is no such header.
#[derive(Debug, Default, Clone, Copy)]
pub struct StandardHeaders<'a> {
    /// See [`ID`].
    pub id: Option<&'a [u8]>,
    /// See [`TIMESTAMP`].
    pub timestamp: Option<&'a [u8]>,
    /// See [`SIGNATURE`].
    pub signature: Option<&'a [u8]>,
}

/// What a secret must be, for errors.
pub const SECRET: &str = "whsec_ and 24 to 64 random bytes in base64: create it with `echo whsec_$(openssl rand -base64 32)`";

/// Allowed number of random bytes in a secret.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Rotation never needs more; a longer list would only let an attacker waste CPU time.
const MAX_SIGNATURES: usize = 8;

impl StandardKey {
    /// `None` unless the secret is `whsec_` and enough random bytes in base64.
    pub fn new(secret: &str) -> Option<Self> {
        let bytes = STANDARD.decode(secret.strip_prefix("whsec_")?).ok()?;
        let key = Hmac::new_from_slice(&bytes).ok()?;
        SECRET_BYTES.contains(&bytes.len()).then_some(Self(key))
    }

    /// The value of [`SIGNATURE`] for one message.
    pub fn sign(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        let mac = self.mac(id, &timestamp_s.to_string(), body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in [
            id.as_bytes(),
            b".",
            timestamp.as_bytes(),
            b".".as_slice(),
            body,
        ] {
            mac.update(part);
        }
        mac
    }
}

impl std::fmt::Debug for StandardKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StandardKey(…)")
    }
}

/// Checks a message against every key; `Ok` means that one of them signed exactly this body, under this id. The
/// signature is checked before the age, so that only a holder of the secret can learn about clocks.
pub fn verify(
    keys: &[StandardKey],
    headers: StandardHeaders<'_>,
    body: &[u8],
    now_s: i64,
    tolerance_s: i64,
) -> Result<(), SignatureError> {
    let id = text(ID, headers.id)?;
    let timestamp = text(TIMESTAMP, headers.timestamp)?;
    let signature = text(SIGNATURE, headers.signature)?;
    let signed_s: i64 = timestamp.parse().map_err(|_| NO_TIMESTAMP)?;
    if signed_s > LATEST_S {
        return Err(IN_MILLISECONDS);
    }
    let all: Vec<&str> = signature
        .split([' ', '\t'])
        // A proxy that joins two lines writes a comma between them.
        .filter_map(|it| it.strip_prefix("v1,")?.split(',').next())
        .take(MAX_SIGNATURES)
        .collect();
    if all.is_empty() {
        return Err(SignatureError::NoV1(SIGNATURE));
    }
    let tags: Vec<Vec<u8>> = all
        .into_iter()
        .filter_map(|it| STANDARD.decode(it).ok())
        .collect();
    let is_signed = keys.iter().any(|key| {
        let mac = key.mac(id, timestamp, body);
        tags.iter().any(|tag| mac.clone().verify_slice(tag).is_ok())
    });
    if !is_signed {
        return Err(SignatureError::Mismatch);
    }
    within(now_s.saturating_sub(signed_s), tolerance_s)
}

/// In seconds, the year 5138. In milliseconds, the year 1973: no event is so old.
const LATEST_S: i64 = 100_000_000_000;

const IN_MILLISECONDS: SignatureError = SignatureError::NoTimestamp(
    "webhook-timestamp header is a number of milliseconds: send Unix seconds",
);

const NO_TIMESTAMP: SignatureError =
    SignatureError::NoTimestamp("webhook-timestamp header is no number of Unix seconds");

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: i64 = 1_700_000_000;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    fn key(secret: &str) -> StandardKey {
        StandardKey::new(secret).expect("a secret")
    }

    /// The example of the specification's libraries: `msg_p5jXN8AQM9LWM0D4loKWxJek` at 1614265330.
    #[test]
    fn agrees_with_the_example_of_the_official_libraries() {
        let signature = key(SECRET).sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, BODY);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn secrets_have_their_prefix_and_enough_bytes_and_are_never_shown() {
        for wrong in [
            "",
            "whsec_",
            "whsec_short",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa*w",
        ] {
            assert!(StandardKey::new(wrong).is_none(), "{wrong}");
        }
        assert_eq!(format!("{:?}", key(SECRET)), "StandardKey(…)");
    }

    #[test]
    fn what_a_holder_of_a_secret_signed_in_time_is_accepted() {
        let keys = [key(SECRET), key(OTHER)];
        let sign = |secret: &str, age_s: i64| {
            let signed_s = NOW_S.saturating_sub(age_s);
            (
                signed_s.to_string(),
                key(secret).sign("msg_1", signed_s, BODY),
            )
        };
        let check = |id: &str, (timestamp, signature): (String, String)| {
            let headers = StandardHeaders {
                id: Some(id.as_bytes()),
                timestamp: Some(timestamp.as_bytes()),
                signature: Some(signature.as_bytes()),
            };
            verify(&keys, headers, BODY, NOW_S, 300)
        };
        for secret in [SECRET, OTHER] {
            for age_s in [0, 300, -300] {
                assert_eq!(check("msg_1", sign(secret, age_s)), Ok(()), "{age_s}");
            }
        }
        let with = |change: fn(String) -> String| {
            let (timestamp, signature) = sign(SECRET, 0);
            check("msg_1", (timestamp, change(signature)))
        };
        assert_eq!(with(|it| format!("v1a,abc v1,AAAA {it} v2,x")), Ok(()));
        let nine = |it| format!("{} {it}", "v1,AAAA ".repeat(8));
        let strange = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        for (case, got, expected) in [
            ("too many", with(nine), SignatureError::Mismatch),
            (
                "cut",
                with(|it| it[..20].to_owned()),
                SignatureError::Mismatch,
            ),
            (
                "another scheme",
                with(|it| it.replace("v1,", "v1a,")),
                SignatureError::NoV1(SIGNATURE),
            ),
            (
                "another id",
                check("msg_2", sign(SECRET, 0)),
                SignatureError::Mismatch,
            ),
            (
                "another secret",
                check("msg_1", sign(strange, 0)),
                SignatureError::Mismatch,
            ),
            (
                "another time",
                check("msg_1", (NOW_S.to_string(), sign(SECRET, 1).1)),
                SignatureError::Mismatch,
            ),
            (
                "no time",
                check("msg_1", ("now".to_owned(), sign(SECRET, 0).1)),
                NO_TIMESTAMP,
            ),
            (
                "old",
                check("msg_1", sign(SECRET, 301)),
                SignatureError::TooOld,
            ),
            (
                "of the future",
                check("msg_1", sign(SECRET, -301)),
                SignatureError::FromFuture { ahead_s: 301 },
            ),
            (
                "in milliseconds",
                check("msg_1", ((NOW_S * 1000).to_string(), sign(SECRET, 0).1)),
                IN_MILLISECONDS,
            ),
        ] {
            assert_eq!(got, Err(expected), "{case}");
        }
    }

    #[test]
    fn a_missing_header_is_named() {
        let (timestamp, signature) = (NOW_S.to_string(), key(SECRET).sign("msg_1", NOW_S, BODY));
        let all = StandardHeaders {
            id: Some(b"msg_1"),
            timestamp: Some(timestamp.as_bytes()),
            signature: Some(signature.as_bytes()),
        };
        for (name, headers) in [
            (ID, StandardHeaders { id: None, ..all }),
            (
                TIMESTAMP,
                StandardHeaders {
                    timestamp: None,
                    ..all
                },
            ),
            (
                SIGNATURE,
                StandardHeaders {
                    signature: None,
                    ..all
                },
            ),
        ] {
            let got = verify(&[key(SECRET)], headers, BODY, NOW_S, 300);
            assert_eq!(got, Err(SignatureError::NoHeader(name)));
        }
    }
}
