//! The software business: subscriptions and their invoices.

use std::collections::BTreeMap;

use serde_json::json;

use super::event::{Draft, Mint, Shape, SimEvent, changed};
use super::shapes;
use super::subscription::{CURRENCIES, Invoice, Plan, Status, Subscription};

/// The customers, and all subscriptions that have not ended.
#[derive(Default)]
pub struct Saas {
    pub subscriptions: Vec<Subscription>,
    /// In the order in which they came; none is removed.
    pub customers: Vec<Customer>,
    invoices: u32,
}

pub struct Customer {
    pub id: String,
    pub currency: &'static str,
    pub since_s: i64,
}

const DAY_S: i64 = 86_400;

const PLANS: [Plan; 3] = [
    Plan {
        lookup_key: "starter",
        product: "prod_Starter4k2Xw9Qz1",
        interval: "month",
        amounts_minor: [2_900, 2_700, 14_900, 4_200],
    },
    Plan {
        lookup_key: "pro",
        product: "prod_ProS8vLq2Yt6Rb",
        interval: "month",
        amounts_minor: [9_900, 9_200, 49_900, 14_000],
    },
    Plan {
        lookup_key: "enterprise",
        product: "prod_Enterprise7Hd3",
        interval: "year",
        amounts_minor: [478_800, 442_800, 2_388_000, 708_000],
    },
];

impl Subscription {
    /// Changes the subscription; the event holds the previous values.
    fn change(&mut self, at_s: i64, change: impl FnOnce(&mut Self)) -> Draft<'static> {
        let before = shapes::subscription(self);
        change(self);
        self.changed_s = at_s;
        let after = shapes::subscription(self);
        let previous = changed(&before, &after);
        self.draft("customer.subscription.updated", at_s, after, Some(previous))
    }

    fn invoice_event(&self, kind: &'static str, at_s: i64, invoice: &Invoice) -> Draft<'static> {
        self.draft(kind, at_s, shapes::invoice(self, invoice), None)
    }
}

impl Saas {
    /// Monthly recurring revenue by currency: the value that revwatch must compute.
    pub fn mrr_minor(&self) -> BTreeMap<String, i64> {
        let mut sums = BTreeMap::new();
        for s in &self.subscriptions {
            *sums.entry(s.currency.to_owned()).or_default() += s.mrr_minor();
        }
        sums.retain(|_, minor| *minor != 0);
        sums
    }

    /// The number of past-due subscriptions, and of active and past-due ones.
    pub fn past_due(&self) -> (usize, usize) {
        let count = |status| {
            self.subscriptions
                .iter()
                .filter(|s| s.status == status)
                .count()
        };
        (
            count(Status::PastDue),
            count(Status::PastDue) + count(Status::Active),
        )
    }

    /// A random subscription with this status that has not changed in this second.
    pub fn pick(&self, mint: &mut Mint, status: Status, now_s: i64) -> Option<usize> {
        let fits = |i: &usize| {
            let s = &self.subscriptions[*i];
            s.status == status && !s.stuck && s.changed_s < now_s
        };
        let fitting: Vec<usize> = (0..self.subscriptions.len()).filter(fits).collect();
        mint.rng.choice(fitting)
    }

    /// A customer subscribes.
    pub fn start(&mut self, mint: &mut Mint, at_s: i64, trial: bool) -> Vec<SimEvent> {
        // Both shapes and all currencies alternate, whatever the seed.
        let index = self.subscriptions.len();
        let plan = &PLANS[[0, 0, 0, 0, 1, 1, 1, 1, 2, 0][mint.rng.usize(0..10)]];
        let mut s = Subscription {
            id: mint.id("sub", at_s),
            item: mint.short_id("si"),
            customer: mint.short_id("cus"),
            plan,
            currency: CURRENCIES[[0, 1, 0, 2, 1, 0, 3, 0, 2, 1][index % 10]],
            quantity: mint.rng.i64(1..=6),
            shape: if index.is_multiple_of(2) {
                Shape::Acacia
            } else {
                Shape::Clover
            },
            status: if trial {
                Status::Trialing
            } else {
                Status::Active
            },
            created_s: at_s,
            period_start_s: at_s,
            trial_end_s: trial.then_some(at_s + 14 * 86_400),
            cancelling: false,
            latest_invoice: None,
            open_invoice: None,
            stuck: false,
            changed_s: at_s,
        };
        let customer = json!({"id": s.customer, "object": "customer", "created": at_s, "currency": s.currency,
            "delinquent": false, "livemode": true, "metadata": {}});
        let mut drafts = vec![s.draft("customer.created", at_s, customer, None)];
        self.invoices += 1;
        let mut invoice = draft_invoice(mint, &s, self.invoices, at_s, "subscription_create");
        if !trial {
            s.latest_invoice = Some(invoice.id.clone());
        }
        drafts.push(s.draft(
            "customer.subscription.created",
            at_s,
            shapes::subscription(&s),
            None,
        ));
        if !trial {
            drafts.extend(pay(&s, &mut invoice, at_s));
        }
        self.customers.push(Customer {
            id: s.customer.clone(),
            currency: s.currency,
            since_s: at_s,
        });
        self.subscriptions.push(s);
        drafts.into_iter().map(|d| mint.event(d)).collect()
    }

    /// A period ends and the next is paid.
    pub fn renew(&mut self, mint: &mut Mint, index: usize, at_s: i64) -> Vec<SimEvent> {
        self.invoices += 1;
        let s = &mut self.subscriptions[index];
        let mut invoice = draft_invoice(mint, s, self.invoices, at_s, "subscription_cycle");
        let mut drafts = vec![s.change(at_s, |s| {
            (s.period_start_s, s.latest_invoice) = (at_s, Some(invoice.id.clone()));
        })];
        drafts.extend(pay(s, &mut invoice, at_s));
        drafts.into_iter().map(|d| mint.event(d)).collect()
    }

    /// A period ends and the card is declined.
    pub fn decline(
        &mut self,
        mint: &mut Mint,
        index: usize,
        at_s: i64,
        stuck: bool,
    ) -> Vec<SimEvent> {
        self.invoices += 1;
        let s = &mut self.subscriptions[index];
        let mut invoice = draft_invoice(mint, s, self.invoices, at_s, "subscription_cycle");
        let mut drafts = vec![s.invoice_event("invoice.created", at_s - 1, &invoice)];
        invoice.status = "open";
        drafts.push(s.invoice_event("invoice.finalized", at_s - 1, &invoice));
        (invoice.attempts, invoice.next_attempt_s) = (1, Some(at_s + DAY_S));
        drafts.push(s.invoice_event("invoice.payment_failed", at_s, &invoice));
        drafts.push(s.change(at_s, |s| {
            (s.status, s.stuck, s.latest_invoice) =
                (Status::PastDue, stuck, Some(invoice.id.clone()));
        }));
        s.open_invoice = Some(invoice);
        drafts.into_iter().map(|d| mint.event(d)).collect()
    }

    /// Stripe retries the card and fails.
    pub fn retry(&mut self, mint: &mut Mint, index: usize, at_s: i64) -> Vec<SimEvent> {
        let s = &mut self.subscriptions[index];
        let Some(mut invoice) = s.open_invoice.take() else {
            return Vec::new();
        };
        invoice.attempts += 1;
        invoice.next_attempt_s = Some(at_s + 7 * DAY_S);
        let draft = s.invoice_event("invoice.payment_failed", at_s, &invoice);
        s.open_invoice = Some(invoice);
        vec![mint.event(draft)]
    }

    /// The card works again.
    pub fn recover(&mut self, mint: &mut Mint, index: usize, at_s: i64) -> Vec<SimEvent> {
        let s = &mut self.subscriptions[index];
        let Some(mut invoice) = s.open_invoice.take() else {
            return Vec::new();
        };
        invoice.status = "paid";
        invoice.attempts += 1;
        let drafts = [
            s.invoice_event("invoice.paid", at_s, &invoice),
            s.invoice_event("invoice.payment_succeeded", at_s, &invoice),
            s.change(at_s, |s| (s.status, s.stuck) = (Status::Active, false)),
        ];
        drafts.into_iter().map(|d| mint.event(d)).collect()
    }

    /// The trial becomes a paid subscription.
    pub fn convert(&mut self, mint: &mut Mint, index: usize, at_s: i64) -> Vec<SimEvent> {
        self.invoices += 1;
        let s = &mut self.subscriptions[index];
        let mut invoice = draft_invoice(mint, s, self.invoices, at_s, "subscription_cycle");
        let mut drafts = vec![s.change(at_s, |s| {
            (s.status, s.trial_end_s, s.latest_invoice) =
                (Status::Active, Some(at_s), Some(invoice.id.clone()));
        })];
        drafts.extend(pay(s, &mut invoice, at_s));
        drafts.into_iter().map(|d| mint.event(d)).collect()
    }

    /// The number of seats changes.
    pub fn resize(&mut self, mint: &mut Mint, index: usize, at_s: i64) -> Vec<SimEvent> {
        let s = &mut self.subscriptions[index];
        let draft = s.change(at_s, |s| s.quantity += if s.quantity > 3 { -2 } else { 2 });
        vec![mint.event(draft)]
    }

    /// The customer cancels: at the end of the period, or immediately if that is already scheduled.
    pub fn cancel(&mut self, mint: &mut Mint, index: usize, at_s: i64) -> Vec<SimEvent> {
        let s = &mut self.subscriptions[index];
        if !s.cancelling {
            let draft = s.change(at_s, |s| s.cancelling = true);
            return vec![mint.event(draft)];
        }
        let mut cancelled = self.subscriptions.swap_remove(index);
        cancelled.status = Status::Canceled;
        let draft = cancelled.draft(
            "customer.subscription.deleted",
            at_s,
            shapes::subscription(&cancelled),
            None,
        );
        vec![mint.event(draft)]
    }
}

fn draft_invoice(
    mint: &mut Mint,
    s: &Subscription,
    number: u32,
    at_s: i64,
    reason: &'static str,
) -> Invoice {
    Invoice {
        id: mint.id("in", at_s),
        number: format!("REV-{number:05}"),
        payment_intent: mint.id("pi", at_s),
        status: "draft",
        reason,
        amount_minor: s.plan.amount_minor(s.currency) * s.quantity,
        attempts: 0,
        next_attempt_s: None,
        created_s: at_s,
    }
}

/// An invoice from draft to paid, within one second, as is common.
fn pay(s: &Subscription, invoice: &mut Invoice, at_s: i64) -> Vec<Draft<'static>> {
    let mut drafts = vec![s.invoice_event("invoice.created", at_s, invoice)];
    invoice.status = "open";
    drafts.push(s.invoice_event("invoice.finalized", at_s, invoice));
    (invoice.status, invoice.attempts) = ("paid", 1);
    drafts.push(s.draft(
        "payment_intent.succeeded",
        at_s,
        shapes::payment_intent(s, invoice),
        None,
    ));
    drafts.push(s.invoice_event("invoice.paid", at_s, invoice));
    drafts
}
