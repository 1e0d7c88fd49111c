//! Slack's request signature: `X-Slack-Signature: v0=<hex>`, `X-Slack-Request-Timestamp: <unix s>`.
//! Pure.
//!
//! HMAC-SHA256 over `v0:` + timestamp + `:` + raw body, keyed with the app's signing secret;
//! compared in constant time. A request more than five minutes from the local time is refused: it
//! may be a replay. Source: <https://docs.slack.dev/authentication/verifying-requests-from-slack>.

use revwatch_core::signature::SigningKey;

/// Slack's recommendation; a difference of exactly this much passes.
pub const TOLERANCE_S: i64 = 300;

/// Why a request was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum SignatureError {
    /// One of the two headers is missing.
    #[error("the X-Slack-Signature or the X-Slack-Request-Timestamp header is missing")]
    Missing,
    /// One of them does not have the form that Slack sends.
    #[error("the X-Slack-Signature or the X-Slack-Request-Timestamp header is unreadable")]
    Unreadable,
    /// No secret matches.
    #[error(
        "the signature does not match: check that SLACK_SIGNING_SECRET is the one of this Slack app"
    )]
    Mismatch,
    /// The signature is valid, but its time is not.
    #[error(
        "the signature is too old or from the future: a replay, or this machine's clock is wrong"
    )]
    WrongTime,
}

impl SignatureError {
    /// The machine-readable reason.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "signature_missing",
            Self::Unreadable => "signature_unreadable",
            Self::Mismatch => "signature_mismatch",
            Self::WrongTime => "signature_of_another_time",
        }
    }
}

/// The keys of comma-separated secrets; `None` if one of them is empty.
pub fn keys(secrets: &str) -> Option<Vec<SigningKey>> {
    secrets.split(',').map(SigningKey::new).collect()
}

/// Checks the two headers against every key; `Ok` means that one of them signed this body at about
/// this time.
///
/// The signature is verified before the time, so that only a holder of the secret can learn about
/// our clock.
pub fn verify(
    keys: &[SigningKey],
    timestamp: Option<&[u8]>,
    signature: Option<&[u8]>,
    body: &[u8],
    now_s: i64,
) -> Result<(), SignatureError> {
    let (timestamp, signature) = timestamp.zip(signature).ok_or(SignatureError::Missing)?;
    let signed_s = std::str::from_utf8(timestamp)
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let signed_s: i64 = signed_s
        .and_then(|text| text.parse().ok())
        .ok_or(SignatureError::Unreadable)?;
    let mut tag = [0; 32];
    let hex = signature
        .strip_prefix(b"v0=")
        .ok_or(SignatureError::Unreadable)?;
    hex::decode_to_slice(hex, &mut tag).map_err(|_| SignatureError::Unreadable)?;
    let parts = [b"v0:", timestamp, b":", body];
    if !keys.iter().any(|key| key.has_signed(&parts, &tag)) {
        return Err(SignatureError::Mismatch);
    }
    if now_s.abs_diff(signed_s) > TOLERANCE_S.unsigned_abs() {
        return Err(SignatureError::WrongTime);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of Slack's documentation (see the module).
    const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
    const SIGNED_S: i64 = 1_531_420_618;
    const BODY: &[u8] =
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&\
        channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&\
        response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&\
        trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    const SIGNATURE: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";

    /// The case's name, the two headers, the request's age, and the expected result.
    type Case<'a> = (
        &'a str,
        Option<&'a str>,
        Option<&'a str>,
        i64,
        Result<(), SignatureError>,
    );

    #[test]
    fn accepts_slacks_signatures_and_refuses_all_others() {
        let upper = SIGNATURE.to_uppercase().replace("V0", "v0");
        let signed = SIGNED_S.to_string();
        let other = keys("other").expect("a key")[0].sign(&[b"v0:", signed.as_bytes(), b":", BODY]);
        let other = format!("v0={other}");
        let at = Some(signed.as_str());
        let table: &[Case<'_>] = &[
            ("Slack's own example", at, Some(SIGNATURE), 0, Ok(())),
            ("upper-case hex", at, Some(&upper), 0, Ok(())),
            ("five minutes old", at, Some(SIGNATURE), 300, Ok(())),
            (
                "older",
                at,
                Some(SIGNATURE),
                301,
                Err(SignatureError::WrongTime),
            ),
            (
                "of the future",
                at,
                Some(SIGNATURE),
                -301,
                Err(SignatureError::WrongTime),
            ),
            (
                "another secret",
                at,
                Some(&other),
                0,
                Err(SignatureError::Mismatch),
            ),
            (
                "another secret, and old",
                at,
                Some(&other),
                301,
                Err(SignatureError::Mismatch),
            ),
            (
                "another time",
                Some("1531420619"),
                Some(SIGNATURE),
                0,
                Err(SignatureError::Mismatch),
            ),
            (
                "another spelling of the time",
                Some("01531420618"),
                Some(SIGNATURE),
                0,
                Err(SignatureError::Mismatch),
            ),
            ("no signature", at, None, 0, Err(SignatureError::Missing)),
            (
                "no time",
                None,
                Some(SIGNATURE),
                0,
                Err(SignatureError::Missing),
            ),
            ("neither", None, None, 0, Err(SignatureError::Missing)),
            (
                "an empty time",
                Some(""),
                Some(SIGNATURE),
                0,
                Err(SignatureError::Unreadable),
            ),
            (
                "a negative time",
                Some("-1"),
                Some(SIGNATURE),
                0,
                Err(SignatureError::Unreadable),
            ),
            (
                "no number",
                Some("soon"),
                Some(SIGNATURE),
                0,
                Err(SignatureError::Unreadable),
            ),
            (
                "a number too large",
                Some("99999999999999999999"),
                Some(SIGNATURE),
                0,
                Err(SignatureError::Unreadable),
            ),
            (
                "another version",
                at,
                Some(&SIGNATURE.replace("v0", "v1")),
                0,
                Err(SignatureError::Unreadable),
            ),
            (
                "cut off",
                at,
                Some(&SIGNATURE[..65]),
                0,
                Err(SignatureError::Unreadable),
            ),
            (
                "no hex",
                at,
                Some("v0=potato"),
                0,
                Err(SignatureError::Unreadable),
            ),
        ];
        // The second secret is the one being rotated out.
        let keys = keys(&format!("new, {SECRET}")).expect("two keys");
        for (case, timestamp, signature, age_s, expected) in table {
            let [timestamp, signature] =
                [timestamp, signature].map(|header| header.map(str::as_bytes));
            assert_eq!(
                verify(&keys, timestamp, signature, BODY, SIGNED_S + age_s,),
                *expected,
                "{case}"
            );
            assert!(
                verify(&keys, timestamp, signature, b"", SIGNED_S + age_s).is_err(),
                "{case}, another body"
            );
            assert!(
                verify(&[], timestamp, signature, BODY, SIGNED_S + age_s).is_err(),
                "{case}, no secret"
            );
        }
    }

    #[test]
    fn an_empty_secret_is_refused_because_anyone_could_sign() {
        assert!(keys("").is_none() && keys("a,,b").is_none() && keys("a,").is_none());
    }
}
