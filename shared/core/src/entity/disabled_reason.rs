//! `requirements.disabled_reason` of accounts and capabilities: what each value means. The set is
//! open: an unknown value is kept as text.
//!
//! Sources: <https://docs.stripe.com/api/accounts/object#account_object-requirements-disabled_reason>,
//! <https://docs.stripe.com/api/capabilities/object#capability_object-requirements-disabled_reason>; with
//! `_` in place of the first `.`, the rejections of
//! <https://docs.stripe.com/changelog/endive/2026-09-30/rejected-accounts-v2-capabilities>.

use super::timeline::value_fingerprint;

/// One of each kind that decides something: no reason, one that the holder can resolve, a deadline that
/// has passed, a rejection.
pub(super) const ANY_REASON: &[Option<&str>] = &[
    None,
    Some("requirements.past_due"),
    Some("requirements.fields_needed"),
    Some("rejected.other"),
];

/// Every known value, and what it means in plain words.
const REASONS: &[(&str, &str)] = &[
    (
        "action_required.requested_capabilities",
        "a capability must be requested",
    ),
    (
        "listed",
        "Stripe checks whether it is on a list of prohibited persons or companies",
    ),
    ("other", "Stripe reviews it"),
    ("paused.inactivity", "it was not used for long"),
    ("pending.onboarding", "it is being set up"),
    ("pending.review", "Stripe reviews it"),
    ("platform_disabled", "the platform disabled it"),
    ("platform_paused", "the platform paused it"),
    ("rejected.fraud", "Stripe suspects fraud"),
    ("rejected.inactivity", "it was not used for long"),
    (
        "rejected.incomplete_verification",
        "the verification was not completed in time",
    ),
    (
        "rejected.listed",
        "it is on a list of prohibited persons or companies",
    ),
    ("rejected.other", "Stripe gives no reason"),
    ("rejected.platform_fraud", "the platform suspects fraud"),
    ("rejected.platform_other", "the platform gives no reason"),
    (
        "rejected.platform_terms_of_service",
        "it violates the platform's terms of service",
    ),
    (
        "rejected.terms_of_service",
        "it violates Stripe's terms of service",
    ),
    (
        "rejected.unsupported_business",
        "the payment method does not support this business",
    ),
    ("requirements.fields_needed", "information is missing"),
    (
        "requirements.past_due",
        "information is missing and its deadline has passed",
    ),
    (
        "requirements.pending_verification",
        "Stripe verifies what was submitted",
    ),
    ("under_review", "Stripe reviews it"),
];

/// The reason with this fingerprint. One that Stripe added since may be like any.
pub(super) fn reasons_with(fingerprint: u32) -> Vec<Option<&'static str>> {
    let known = REASONS.iter().map(|(reason, _)| Some(*reason));
    let mut known = known.chain([None]);
    let was = known.find(|reason| value_fingerprint(reason) == fingerprint);
    was.map_or_else(|| ANY_REASON.to_vec(), |reason| vec![reason])
}

/// Whether it is final: nothing that is submitted changes it.
pub(super) fn is_rejection(reason: &str) -> bool {
    reason.starts_with("rejected.") || reason.starts_with("rejected_")
}

/// Whether the account's holder can resolve it. The others are a decision or a review by Stripe or the
/// platform.
pub(super) fn is_resolvable(reason: &str) -> bool {
    reason.starts_with("requirements.") || reason.starts_with("action_required.")
}

/// The value, with its meaning if that is known.
pub fn explained(reason: &str) -> String {
    let is_it = |(known, _): &&(&str, &str)| match known.split_once('.') {
        Some(("rejected", what)) => reason.strip_prefix("rejected_") == Some(what),
        _ => false,
    };
    let same = REASONS.iter().find(|(known, _)| *known == reason);
    match same.or_else(|| REASONS.iter().find(is_it)) {
        Some((_, meaning)) => format!("{reason} ({meaning})"),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_explained_in_both_spellings_and_an_unknown_one_is_kept() {
        let table = [
            (
                "requirements.fields_needed",
                "requirements.fields_needed (information is missing)",
            ),
            ("rejected.fraud", "rejected.fraud (Stripe suspects fraud)"),
            ("rejected_fraud", "rejected_fraud (Stripe suspects fraud)"),
            (
                "requirements.past_due",
                "requirements.past_due (information is missing and its deadline has passed)",
            ),
            (
                "action_required.requested_capabilities",
                "action_required.requested_capabilities (a capability must be requested)",
            ),
            ("rejected.added_later", "rejected.added_later"),
            ("2 due, 1 overdue", "2 due, 1 overdue"),
            (
                "account_closed: Rejected. Try again",
                "account_closed: Rejected. Try again",
            ),
            ("", ""),
        ];
        for (reason, expected) in table {
            assert_eq!(explained(reason), expected);
        }
        assert!(REASONS.is_sorted(), "each once, in order");
    }
}
