//! What of others' words may be shown in logs and traces. Ids, types and states come from signed senders, but a sender
//! may write anything there: an id that is an email address or a card number must not be logged for being an id.
//!
//! Invariant: what is shown looks like what Stripe sends in that place, and is of bounded length. The rest is replaced
//! by a digest, so that lines about the same thing still show that they are.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

/// An id: `evt_…`, `acct_…`, `al_…`; for Stripe's bound of 255 characters see <https://docs.stripe.com/upgrades>.
pub fn id(text: &str) -> Cow<'_, str> {
    let prefix = text.split('_').next().unwrap_or_default();
    let looks_right = text.len() <= 255
        && prefix.len() < text.len()
        && prefix.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && prefix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if looks_right && !holds_a_card(text) { Cow::Borrowed(text) } else { Cow::Owned(digest(text)) }
}

/// Slack's id of a user: `U…` or `W…`, in capitals and digits.
pub fn slack_user(text: &str) -> Cow<'_, str> {
    let looks_right = text.len() <= 40
        && text.starts_with(['U', 'W'])
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        && !holds_a_card(text);
    if looks_right { Cow::Borrowed(text) } else { Cow::Owned(digest(text)) }
}

/// A type of event: `payout.failed`, `v2.core.account.updated`, or one word.
pub fn kind(text: &str) -> Cow<'_, str> {
    let is_part = |part: &str| {
        part.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_[]".contains(&b))
    };
    let looks_right = text.len() <= 100 && text.split('.').all(is_part);
    if looks_right && !holds_a_card(text) { Cow::Borrowed(text) } else { Cow::Owned(digest(text)) }
}

/// A phrase of ours with others' words in it, such as `status active → past_due`: words that could be more than a word
/// of Stripe's are replaced.
pub fn phrase(text: &str) -> Cow<'_, str> {
    let is_word = |word: &str| {
        let bare = word.trim_matches(['(', ')', ',']);
        word.chars().count() <= 60
            && bare.chars().all(|c| c.is_ascii_alphanumeric() || "_-.,→+/:&".contains(c))
            && bare.split(|c: char| !c.is_ascii_digit()).all(|digits| digits.len() < 9)
    };
    if text.len() <= 500 && text.split(' ').all(is_word) && !holds_a_card(text) {
        return Cow::Borrowed(text);
    }
    let words = text.split(' ').take(40).map(|word| if is_word(word) { word.to_owned() } else { digest(word) });
    let shown = words.collect::<Vec<_>>().join(" ");
    // Digits in groups are a card number, too.
    Cow::Owned(if holds_a_card(&shown) { digest(text) } else { shown })
}

/// Stands for what is not shown.
fn digest(text: &str) -> String {
    format!("unusual-{}", hex::encode(&Sha256::digest(text)[..6]))
}

/// Whether 13 to 19 digits in a row, or in groups, add up as those of a card do (ISO/IEC 7812-1, annex B).
fn holds_a_card(text: &str) -> bool {
    let mut run: Vec<u8> = Vec::new();
    for byte in text.bytes().chain([b'.']) {
        match byte {
            b'0'..=b'9' => run.push(byte - b'0'),
            b' ' | b'-' => {}
            _ => {
                if run.len() >= 13 && (13..=19).any(|len| run.windows(len).any(adds_up)) {
                    return true;
                }
                run.clear();
            }
        }
    }
    false
}

fn adds_up(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(n, digit)| match (u32::from(*digit), n % 2) {
            (digit, 0) => digit,
            (digit, _) => digit * 2 / 10 + digit * 2 % 10,
        })
        .sum();
    sum.is_multiple_of(10) && digits.iter().any(|digit| *digit != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stripe_sends_is_shown_as_it_is() {
        for text in ["evt_1", "evt_1NG8Du2eZvKYlo2CUI79vXWy", "evt_refresh_0a1b", "evt_test_65RM8sQH2oXneb", "al_0f"] {
            assert_eq!(id(text), text);
        }
        for text in ["payout.failed", "v2.core.account[requirements].updated", "unreadable", "made.up"] {
            assert_eq!(kind(text), text);
        }
        for text in ["status (new) → past_due", "downgrade pro (USD 1,234.50 a month) → starter (USD 9.00)"] {
            assert_eq!(phrase(text), text);
        }
    }

    #[test]
    fn what_it_does_not_is_replaced_and_stays_recognisable() {
        let long = format!("evt_{}", "a".repeat(300));
        for text in
            ["", "Jane", "jane@example.com", "evt_jane@example.com", "evt_4242424242424242", "+351912345678", &long]
        {
            let shown = id(text);
            assert!(shown.starts_with("unusual-") && shown.len() == 20, "{text} → {shown}");
            assert_eq!(shown, id(text));
        }
        for text in ["Payout", "payout failed", "jane@example.com", "4242424242424242", "payout..failed", "a\nb"] {
            assert!(kind(text).starts_with("unusual-"), "{text}");
        }
        assert!(phrase("status active → jane@example.com").starts_with("status active → unusual-"));
        assert!(phrase("status active → 4242 4242 4242 4242").starts_with("unusual-"));
        assert!(phrase("status active → a\nb").starts_with("status active → unusual-"));
    }
}
