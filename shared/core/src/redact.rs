//! Decides which external text may appear in logs and traces. Ids, types and states come from
//! signed senders, but a sender may write anything there: an e-mail address or a card number in an
//! id field must not be logged.
//!
//! Invariant: text that appears has the form that Stripe sends in that field, and a bounded length.
//! Other text is replaced by a digest, so that lines about the same value can still be matched.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::entity::account::balance::BALANCE_UNKNOWN;
use crate::entity::disabled_reason::explained;
use crate::requirement::{self, Detail};

/// An id: `evt_…`, `acct_…`, `al_…`; for Stripe's limit of 255 characters see
/// <https://docs.stripe.com/upgrades>.
pub fn id(text: &str) -> Cow<'_, str> {
    let prefix = text.split('_').next().unwrap_or_default();
    let is_plain = text.len() <= 255
        && prefix.len() < text.len()
        && prefix
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_lowercase())
        && prefix
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if is_plain && !holds_a_card(text) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(digest(text))
    }
}

/// A Slack user id: `U…` or `W…`, in capitals and digits.
pub fn slack_user(text: &str) -> Cow<'_, str> {
    let is_plain = text.len() <= 40
        && text.starts_with(['U', 'W'])
        && text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        && !holds_a_card(text);
    if is_plain {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(digest(text))
    }
}

/// An error code from a peer, such as `channel_not_found`: the first word of `text`, if it has that
/// form. A peer that echoes its input, tokens included, does not produce such a word.
pub fn word(text: &str) -> &str {
    let text = text.trim();
    let word = text
        .split(|c: char| c.is_whitespace() || c == ':')
        .next()
        .unwrap_or_default();
    let is_word = (1..=60).contains(&word.len())
        && word
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'.');
    if is_word {
        word
    } else {
        "something unreadable"
    }
}

/// An event type: `payout.failed`, `v2.core.account.updated`, or one word.
pub fn kind(text: &str) -> Cow<'_, str> {
    let is_part = |part: &str| {
        part.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_[]".contains(&b))
    };
    let is_plain = text.len() <= 100 && text.split('.').all(is_part);
    if is_plain && !holds_a_card(text) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(digest(text))
    }
}

/// The position of a JSON error. The rest of serde's message may quote the input.
pub fn place(error: &serde_json::Error) -> String {
    format!("line {}, column {}", error.line(), error.column())
}

/// A name of one word: a plan, a currency, a country.
pub fn name(text: &str) -> Cow<'_, str> {
    let is_plain = (1..=60).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        && !has_many_digits(text)
        && !holds_a_card(text);
    if is_plain {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(digest(text))
    }
}

/// A phrase that combines our words and external ones, such as `status active → past_due`. Words
/// that do not have the form of Stripe's words are replaced.
pub fn phrase(text: &str) -> Cow<'_, str> {
    let is_word = |word: &str| {
        let bare = word.trim_matches(['(', ')', ',']);
        word.chars().count() <= 60
            && bare
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-.,→+/:&".contains(c))
            && !has_many_digits(bare)
    };
    // A status is a lower-case word of Stripe's; anything else could be a person's name.
    let is_state = |word: &str| {
        word.bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_()".contains(&b))
    };
    if let Some(states) = text.strip_prefix("status ")
        && !states
            .split_once(" → ")
            .is_some_and(|(from, to)| is_state(from) && is_state(to))
    {
        return Cow::Owned(format!("status {}", digest(states)));
    }
    if text.len() <= 500 && text.split(' ').all(is_word) && !holds_a_card(text) {
        return Cow::Borrowed(text);
    }
    let words = text.split(' ').take(40).map(|word| {
        if is_word(word) {
            word.to_owned()
        } else {
            digest(word)
        }
    });
    let shown = words.collect::<Vec<_>>().join(" ");
    // A card number may be written in groups of digits.
    Cow::Owned(if holds_a_card(&shown) {
        digest(text)
    } else {
        shown
    })
}

/// The detail of a condition: our own words with numbers, a plan, or Stripe's words. What follows
/// the code of a failure is Stripe's sentence, and is replaced.
pub fn detail(text: &str) -> Cow<'_, str> {
    let due = Detail::of(text);
    if due.names().next().is_some() {
        let names = due.names().map(|name| match requirement::is_known(name) {
            true => id_or_kind(name),
            false => Cow::Owned(digest(name)),
        });
        let names: Vec<_> = names.map(Cow::into_owned).collect();
        let reason = match due.reason {
            "" => Cow::Borrowed(""),
            reason => detail(reason),
        };
        return Cow::Owned(Detail::text(&reason, &names, due.unnamed()));
    }
    let parts: Vec<_> = text.split("; ").map(part_of_detail).collect();
    Cow::Owned(parts.join("; "))
}

fn part_of_detail(text: &str) -> Cow<'_, str> {
    if text == BALANCE_UNKNOWN || is_count(text) || are_amounts(text) {
        return Cow::Borrowed(text);
    }
    if let Some(payout) = text.strip_prefix("reverses ") {
        return Cow::Owned(format!("reverses {}", id(payout)));
    }
    if let Some(plan) = text.strip_prefix("plan ") {
        return Cow::Owned(format!("plan {}", name(plan)));
    }
    if let Some(step) = text.strip_prefix("reached ") {
        return Cow::Owned(format!("reached {}", kind(step)));
    }
    if let Some((capability, reason)) = text.split_once(": ").filter(|(_, r)| is_explained(r)) {
        return Cow::Owned(format!("{}: {reason}", kind(capability)));
    }
    if let Some((code, sentence)) = text.split_once(": ") {
        return Cow::Owned(format!("{}: {}", kind(code), digest(sentence)));
    }
    let words: Vec<_> = text.split(", ").map(kind).collect();
    Cow::Owned(words.join(", "))
}

/// A requirement, such as `external_account` or `person_1A2b.dob.day`.
fn id_or_kind(name: &str) -> Cow<'_, str> {
    match name
        .split_once('.')
        .filter(|(first, _)| first.starts_with("person_"))
    {
        Some((person, field)) => Cow::Owned(format!("{}.{}", id(person), kind(field))),
        None => kind(name),
    }
}

/// `3 attempt(s)`, `2 due` or `2 due, 1 overdue`.
fn is_count(text: &str) -> bool {
    let number = |text: &str| text.parse::<u32>().is_ok();
    match text.split(' ').collect::<Vec<_>>()[..] {
        [attempts, "attempt(s)"] => number(attempts),
        [due, "due"] => number(due),
        [due, "due,", overdue, "overdue"] => number(due) && number(overdue),
        _ => false,
    }
}

/// For example `USD 3.00 of USD 50.00, USD 2.00 of it last`, or `EUR 5.00 + JPY 500`.
fn are_amounts(text: &str) -> bool {
    let is_currency =
        |text: &str| (3..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_uppercase());
    let is_number = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || b".,-".contains(&b))
    };
    let text = text.strip_suffix(" of it last").unwrap_or(text);
    let amounts = text.split(", ").flat_map(|text| text.split(" of "));
    let mut amounts = amounts.flat_map(|text| text.split(" + "));
    amounts.all(|amount| {
        let parts = amount.split_once(' ');
        parts.is_some_and(|(currency, number)| is_currency(currency) && is_number(number))
    })
}

/// Whether it is a `disabled_reason` with our explanation.
fn is_explained(text: &str) -> bool {
    let (reason, rest) = text.split_once(' ').unwrap_or((text, ""));
    !rest.is_empty() && explained(reason) == text
}

/// Whether it could contain a telephone or account number.
fn has_many_digits(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_digit())
        .any(|digits| digits.len() >= 9)
}

/// The replacement of a redacted value.
fn digest(text: &str) -> String {
    format!("unusual-{}", hex::encode(&Sha256::digest(text)[..6]))
}

/// Whether 13 to 19 consecutive or grouped digits have the check digit of a card number (ISO/IEC
/// 7812-1, annex B).
fn holds_a_card(text: &str) -> bool {
    if text.bytes().filter(u8::is_ascii_digit).count() < 13 {
        return false;
    }
    let mut run: Vec<u8> = Vec::new();
    for byte in text.bytes().chain([b'.']) {
        match byte {
            b'0'..=b'9' => run.push(byte.saturating_sub(b'0')),
            b' ' | b'-' => {}
            _ => {
                if run.len() >= 13 && (13..=19).any(|len| run.windows(len).any(passes_luhn)) {
                    return true;
                }
                run.clear();
            }
        }
    }
    false
}

fn passes_luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(n, digit)| match (u32::from(*digit), n % 2) {
            (digit, 0) => digit,
            (digit, _) => {
                let doubled = digit.saturating_mul(2);
                (doubled / 10).saturating_add(doubled % 10)
            }
        })
        .sum();
    sum.is_multiple_of(10) && digits.iter().any(|digit| *digit != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_values_are_shown_unchanged() {
        for text in [
            "evt_1",
            "evt_1NG8Du2eZvKYlo2CUI79vXWy",
            "evt_refresh_0a1b",
            "evt_test_65RM8sQH2oXneb",
            "al_0f",
        ] {
            assert_eq!(id(text), text);
        }
        for text in [
            "payout.failed",
            "v2.core.account[requirements].updated",
            "unreadable",
            "made.up",
        ] {
            assert_eq!(kind(text), text);
        }
        for text in [
            "status (new) → past_due",
            "downgrade pro (USD 1,234.50 a month) → starter (USD 9.00)",
        ] {
            assert_eq!(phrase(text), text);
        }
    }

    #[test]
    fn of_a_detail_our_own_words_and_those_of_stripe_are_shown() {
        for text in [
            "3 attempt(s)",
            "2 due, 1 overdue",
            "plan PRO",
            "reached onboarding_started",
            "2 due",
            "2 due, 1 overdue; needs external_account, person_1A2b.dob.day, +3",
            "requirements.past_due; needs tos_acceptance.date",
            "; needs external_account",
            "requirements.past_due",
            "card_payments, transfers",
            "card_payments, transfers; card_payments: rejected.fraud (Stripe suspects fraud)",
            "reverses po_1; account_closed",
            "USD 3.00 of USD 1,050.00, USD 2.00 of it last",
            "EUR 5.00 + JPY 500",
            "the balance is unknown",
        ] {
            assert_eq!(detail(text), text);
        }
        for (text, shown) in [
            ("account_closed: Jane's account", "account_closed: unusual-"),
            ("plan Jane Doe", "plan unusual-"),
            ("Jane Doe", "unusual-"),
            ("jane doe", "unusual-"),
            ("jane attempt(s)", "unusual-"),
            ("transfers, Jane", "transfers, unusual-"),
            ("transfers: rejected.jane (Jane)", "transfers: unusual-"),
            ("reverses Jane", "reverses unusual-"),
            ("account_closed; Jane", "account_closed; unusual-"),
            ("Jane 5 of Jane 6", "unusual-"),
            ("1 due; needs jane", "1 due; needs unusual-"),
            (
                "1 due; needs person_1.jane doe",
                "1 due; needs person_1.unusual-",
            ),
            ("Jane; needs external_account", "unusual-"),
        ] {
            let redacted = detail(text);
            assert!(redacted.starts_with(shown), "{redacted}");
            assert!(!redacted.to_lowercase().contains("jane"), "{redacted}");
        }
    }

    #[test]
    fn only_a_plain_error_code_of_a_peer_is_shown() {
        assert_eq!(word("channel_not_found\nX: y"), "channel_not_found");
        for text in [
            "",
            "<html>",
            "xoxb-1-a",
            "token1",
            "Bearer",
            "jane@example.com",
        ] {
            assert_eq!(word(text), "something unreadable", "{text}");
        }
    }

    #[test]
    fn other_values_are_replaced_by_a_stable_digest() {
        let long = format!("evt_{}", "a".repeat(300));
        for text in [
            "",
            "Jane",
            "jane@example.com",
            "evt_jane@example.com",
            "evt_4242424242424242",
            "+351912345678",
            &long,
        ] {
            let shown = id(text);
            assert!(
                shown.starts_with("unusual-") && shown.len() == 20,
                "{text} → {shown}"
            );
            assert_eq!(shown, id(text));
        }
        for text in [
            "Payout",
            "payout failed",
            "jane@example.com",
            "4242424242424242",
            "payout..failed",
            "a\nb",
        ] {
            assert!(kind(text).starts_with("unusual-"), "{text}");
        }
        for state in [
            "jane@example.com",
            "Jane Doe",
            "jane doe",
            "4242 4242 4242 4242",
            "+351912345678",
            "a\nb",
        ] {
            let shown = phrase(&format!("status active → {state}")).into_owned();
            assert!(
                shown.starts_with("status unusual-") && !shown.contains(state),
                "{shown}"
            );
        }
        assert!(
            phrase("upgrade jane@example.com (USD 1.00 a month)").starts_with("upgrade unusual-")
        );
        assert!(phrase("plan 4242 4242 4242 4242").starts_with("unusual-"));
        assert!(
            name("usd") == "usd" && name("PT") == "PT" && name("Jane Doe").starts_with("unusual-")
        );
    }
}
