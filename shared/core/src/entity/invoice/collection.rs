//! How far the collection of an open invoice is: which attempts have failed, and whether Stripe will try again.
//!
//! An attempt with a bank debit, a boleto or Pix is under way for days: the invoice is open then, its attempt counts,
//! and no event says that it failed. Such an attempt has neither failed nor does it wait for a retry.
//! Source: <https://docs.stripe.com/billing/subscriptions/overview> (`open_payment_pending`, `processing`).

use super::{Invoice, InvoiceFacts, NextAttempt};
use crate::entity::stripe_enums::{CollectionMethod, InvoiceStatus};
use crate::entity::timeline::{Before, RecordedState, start_of_run, value_fingerprint};

/// Whether Stripe will try to collect an open invoice again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// All attempts so far have failed, and the next one is scheduled.
    Scheduled,
    /// All attempts so far have failed, no other is scheduled, and something is owed.
    Exhausted,
    /// No attempt has failed, the last one may be under way, nothing is owed, or it is not known.
    Other,
}

/// An attempt of which no event says how it ended.
pub(super) struct Unreported<'a> {
    /// The state since which that is so.
    pub(super) first: &'a RecordedState<InvoiceFacts>,
    /// From when on an event should have said it, Unix seconds.
    pub(super) due_s: i64,
    /// The fields that Stripe would change with it.
    fields: &'static [&'static str],
}

impl Unreported<'_> {
    /// Whether an event says that it was so before it.
    pub(super) fn was_so(&self, state: &RecordedState<InvoiceFacts>) -> Option<bool> {
        state.all_unchanged(self.fields)
    }
}

/// One state while the invoice is open, with what was known then.
pub(super) struct OpenState<'a> {
    pub(super) state: &'a RecordedState<InvoiceFacts>,
    /// Attempts that had failed until then, at least: they never become fewer.
    pub(super) failed: u32,
    /// Attempts that were made until then.
    pub(super) attempts: u32,
}

impl Invoice {
    /// Its states since it is open, oldest first; none if it is not.
    pub(super) fn open_states(&self) -> Vec<OpenState<'_>> {
        let newest_first = self.timeline.in_order().into_iter().rev();
        let mut open: Vec<_> = newest_first.take_while(|s| s.facts.is_open()).collect();
        open.reverse();
        let (mut failed, mut attempts) = (0, 0);
        let with_attempts = open.into_iter().map(|state| {
            failed = state.facts.failed_attempts().max(failed);
            attempts = state.facts.attempts.unwrap_or(0).max(attempts);
            OpenState {
                state,
                failed,
                attempts,
            }
        });
        with_attempts.collect()
    }

    /// Whether Stripe will try again, as of a state.
    pub(super) fn retry(&self, open: &OpenState<'_>) -> Retry {
        let facts = &open.state.facts;
        let is_under_way = open.failed < open.attempts || facts.status != InvoiceStatus::Open;
        if open.failed == 0 || is_under_way || self.remaining_minor(open.state) == Some(0) {
            return Retry::Other;
        }
        match facts.next_attempt {
            NextAttempt::At(_) => Retry::Scheduled,
            // The customer pays a sent invoice, and has 23 hours for the first of a subscription: no retries.
            // Source: https://docs.stripe.com/billing/subscriptions/overview#subscription-lifecycle
            NextAttempt::Never
                if facts.collection_method == Some(CollectionMethod::ChargeAutomatically)
                    && !self.origin.starts_subscription =>
            {
                Retry::Exhausted
            }
            NextAttempt::Never | NextAttempt::Unknown => Retry::Other,
        }
    }

    /// The state since which all retries are exhausted, of all since it is open.
    pub(super) fn exhausted_since<'a>(
        &self,
        open: &[OpenState<'a>],
    ) -> Option<&'a RecordedState<InvoiceFacts>> {
        let newest_first = open.iter().rev();
        let run = newest_first.take_while(|open| self.retry(open) == Retry::Exhausted);
        start_of_run(run.map(|open| open.state), was_exhausted)
    }

    /// The retry that Stripe planned, or the attempt that is under way. What is known from after it should have ended
    /// is good for a day.
    pub(super) fn unreported<'a>(&'a self, open: &[OpenState<'a>]) -> Option<Unreported<'a>> {
        let newest = open.last()?;
        let facts = &newest.state.facts;
        let mut unreported = match facts.next_attempt {
            NextAttempt::At(at_s) if self.retry(newest) == Retry::Scheduled => {
                let is_planned =
                    |f: &InvoiceFacts| f.is_open() && f.next_attempt == facts.next_attempt;
                let fields = &["status", "next_payment_attempt"];
                Unreported {
                    first: self
                        .timeline
                        .since(is_planned, |s| s.all_unchanged(fields))?,
                    due_s: at_s.saturating_add(AFTER_PLANNED_S),
                    fields,
                }
            }
            _ if newest.failed < newest.attempts
                && self.remaining_minor(newest.state) != Some(0) =>
            {
                let has_begun = |it: &&OpenState<'_>| it.attempts >= newest.attempts;
                let first = open.iter().find(has_begun)?.state;
                Unreported {
                    first,
                    due_s: first.created_s.saturating_add(AFTER_BEGINNING_S),
                    fields: &["status", "attempt_count"],
                }
            }
            _ => return None,
        };
        let known_s = newest.state.created_s;
        if known_s >= unreported.due_s {
            unreported.due_s = known_s.saturating_add(AFTER_PLANNED_S);
        }
        Some(unreported)
    }
}

/// Stripe tries within hours of the time that it planned.
const AFTER_PLANNED_S: i64 = 24 * 3600;

/// A bank debit takes up to 14 business days. Source: <https://docs.stripe.com/payments/sepa-debit>.
const AFTER_BEGINNING_S: i64 = 21 * 24 * 3600;

/// Whether an event says that the retries were exhausted before it.
pub(super) fn was_exhausted(state: &RecordedState<InvoiceFacts>) -> Option<bool> {
    state.all_unchanged(&["status", "attempt_count", "next_payment_attempt"])
}

/// Whether an event says that the invoice was open after at least this many failed attempts before it.
pub(super) fn had_failed(state: &RecordedState<InvoiceFacts>, attempts: u32) -> bool {
    let enough = match state.before("attempt_count") {
        // The event reports the failure of the attempt that was counted before it.
        Before::Same => state.facts.attempt_failed != Some(true),
        Before::Was(from) => {
            let now = state.facts.attempts.unwrap_or(attempts);
            (attempts..=now).any(|n| value_fingerprint(n) == from)
        }
        Before::Nothing | Before::NotSaid | Before::Unknown => false,
    };
    enough && state.was_so_before(&["status"])
}
