//! Which text can be the signing secret of an endpoint at Stripe. Pure.

use super::right_values::SIGNING_SECRET as RIGHT;
use super::suspect::{Flaw, flaw_of_secret};

/// Why a text cannot be a signing secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("{0}; give {RIGHT}")]
    Suspect(Flaw),
    #[error("has a space or another character that no signing secret has: give {RIGHT}")]
    ForeignCharacter,
    #[error("begins with WHSEC_ in capitals, so its letters were changed: give {RIGHT}")]
    Case,
    #[error("is not a signing secret, but a key, a token, a URL or an id: give {RIGHT}")]
    OtherKind,
    #[error("holds two secrets: write a comma between them, or one on each line")]
    Joined,
    #[error("is so short that anyone could guess it: give {RIGHT}")]
    Short,
}

/// Stripe's have 38 characters and more. Tools that sign in tests have secrets of their own making.
const MIN_BYTES: usize = 8;

/// `None` if it can be one. An empty text is another fault.
pub(super) fn unfit(secret: &str) -> Option<Unfit> {
    const OTHERS: [&str; 11] = [
        "sk_", "rk_", "pk_", "we_", "ed_", "acct_", "evt_", "xoxb-", "xapp-", "http://", "https://",
    ];
    let is_other = |prefix: &&str| secret.starts_with(*prefix);
    match secret {
        "" => None,
        _ if flaw_of_secret(secret).is_some() => flaw_of_secret(secret).map(Unfit::Suspect),
        _ if OTHERS.iter().any(is_other) => Some(Unfit::OtherKind),
        _ if secret.rfind("whsec_").is_some_and(|at| at > 0) => Some(Unfit::Joined),
        _ if !secret.bytes().all(is_of_secret) => Some(Unfit::ForeignCharacter),
        _ if secret.starts_with("WHSEC_") => Some(Unfit::Case),
        _ if secret.len() < MIN_BYTES => Some(Unfit::Short),
        _ => None,
    }
}

/// Stripe's have letters, digits and `_`; those that others make may be any base64.
fn is_of_secret(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-+/=.".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stripe_may_have_given_is_a_signing_secret() {
        let table = [
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", None),
            ("whsec_old", None),
            ("a_secret_of_localstripe", None),
            ("x", Some(Unfit::Short)),
            ("whsec_MfKQ9r8GKY;whsec_qrTwjUPD8I", Some(Unfit::Joined)),
            ("whsec_MfKQ9r8GKY\\nwhsec_qrTwjUPD8I", Some(Unfit::Joined)),
            ("whsec_", Some(Unfit::Short)),
            ("whsec_a", Some(Unfit::Short)),
            ("whsec_change_me", Some(Unfit::Suspect(Flaw::Placeholder))),
            ("\"whsec_old\"", Some(Unfit::Suspect(Flaw::Quoted))),
            ("sk_live_51MrABC2eZvKYlo2C", Some(Unfit::OtherKind)),
            ("we_1MrABC2eZvKYlo2C", Some(Unfit::OtherKind)),
            ("https://dashboard.stripe.com/", Some(Unfit::OtherKind)),
            ("whsec_old # production", Some(Unfit::ForeignCharacter)),
            ("whsec_öld", Some(Unfit::ForeignCharacter)),
            ("whsec_MfKQ9r8GKYqrTwjUPD8I;", Some(Unfit::ForeignCharacter)),
            ("WHSEC_MFKQ9R8GKYQRTWJUPD8I", Some(Unfit::Case)),
        ];
        for (secret, expected) in table {
            assert_eq!(unfit(secret), expected, "{secret:?}");
        }
    }
}
