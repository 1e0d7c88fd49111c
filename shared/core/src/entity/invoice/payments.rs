//! The payments of an invoice: one invoice can be paid in parts.
//! Source: <https://docs.stripe.com/invoicing/partial-payments>.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::counters::sum;
use crate::entity::events::EventRef;
use crate::entity::transition::Transition;

/// The payments of an invoice, by their ids (`inpay_…`): at most the 64 first ones, so that
/// the result does not depend on the order in which they came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InvoicePayments(BTreeMap<String, InvoicePayment>);

/// One payment of an invoice. That it was paid is final.
/// Source: <https://docs.stripe.com/api/invoice-payment/object>.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InvoicePayment {
    /// What it paid of the invoice in minor units; `None`: it is not paid, or that is not known.
    pub paid_minor: Option<i64>,
    /// Unix seconds at which it was paid, if known.
    pub paid_s: Option<i64>,
    /// Unix seconds, from the event.
    pub created_s: i64,
    /// `evt_…`
    pub event_id: String,
}

const MAX_PAYMENTS: usize = 64;

impl InvoicePayments {
    /// Adds a payment. Of two events about one, the greater stays.
    pub(super) fn insert(&mut self, id: &str, payment: &InvoicePayment) {
        match self.0.get_mut(id) {
            Some(known) if *payment > *known => known.clone_from(payment),
            Some(_) => {}
            None => {
                self.0.insert(id.to_owned(), payment.clone());
            }
        }
        while self.0.len() > MAX_PAYMENTS {
            self.0.pop_last();
        }
    }

    pub(super) fn union(&mut self, other: &Self) {
        for (id, payment) in &other.0 {
            self.insert(id, payment);
        }
    }

    /// What they paid in minor units, together.
    pub(super) fn total_minor(&self) -> i64 {
        sum(self.0.values().filter_map(|payment| payment.paid_minor))
    }

    /// What those paid that were paid after this second: a state of the invoice in it does not include them.
    pub(super) fn minor_after(&self, at_s: i64) -> i64 {
        let is_later =
            |payment: &&InvoicePayment| payment.paid_s.is_some_and(|paid_s| paid_s > at_s);
        sum(self
            .0
            .values()
            .filter(is_later)
            .filter_map(|payment| payment.paid_minor))
    }

    /// By id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &InvoicePayment)> {
        self.0.iter().map(|(id, payment)| (id.as_str(), payment))
    }

    pub(super) fn transitions(&self) -> impl Iterator<Item = Transition> {
        let paid = self
            .iter()
            .filter(|(_, payment)| payment.paid_minor.is_some());
        paid.map(|(id, payment)| Transition {
            at_s: payment.created_s,
            event_id: payment.event_id.as_str().into(),
            what: format!("payment {id} paid"),
            expected: true,
        })
    }

    pub(super) fn events(&self) -> impl Iterator<Item = EventRef> {
        self.iter().map(|(id, payment)| EventRef {
            created_s: payment.created_s,
            event_id: payment.event_id.as_str().into(),
            stage: None,
            about: Some(format!("payment {id}")),
        })
    }
}
