//! The marketplace: providers with connected accounts, and the payouts to their banks.

use serde_json::json;

use super::account::{Account, Payout};
use super::event::{Mint, SimEvent, changed};
use super::shapes;

/// All connected accounts and the payouts that may still change.
#[derive(Default)]
pub struct Market {
    pub accounts: Vec<Account>,
    on_their_way: Vec<Payout>,
    paid: Vec<Payout>,
    /// Payouts that are paid now.
    pub paid_count: u64,
    /// Payouts that failed.
    pub failed_count: u64,
}

/// The account that loses its charges; it is never disconnected at random.
pub const LARGEST: usize = 0;

const NAMES: [&str; 12] = [
    "Atlas Fitness",
    "Bairro Café",
    "Sakura Studio",
    "Nordlicht Yoga",
    "Harbor Dental",
    "Casa Verde",
    "Kite & Sail",
    "Lumen Photo",
    "Pedal Works",
    "Quiet Spa",
    "Tango Club",
    "Vista Tours",
];
const HOMES: [(&str, &str); 4] = [("US", "usd"), ("DE", "eur"), ("BR", "brl"), ("JP", "jpy")];

impl Market {
    /// A provider signs up.
    pub fn join(&mut self, mint: &mut Mint, at_s: i64) -> Vec<SimEvent> {
        let index = self.accounts.len();
        let (country, currency) = HOMES[index % HOMES.len()];
        let mut name = NAMES[index % NAMES.len()].to_owned();
        if index >= NAMES.len() {
            name = format!("{name} {}", index / NAMES.len() + 1);
        }
        let account = Account {
            id: mint.account_id(at_s),
            name,
            country,
            currency,
            bank: mint.id("ba", at_s),
            created_s: at_s,
            stage: 0,
            disabled: false,
            connected: true,
            changed_s: at_s,
        };
        // Stripe has no `account.created`: a platform first receives an update.
        let draft = account.draft("account.updated", at_s, shapes::account(&account), None);
        let events = vec![mint.event(draft)];
        self.accounts.push(account);
        events
    }

    /// One step of onboarding.
    pub fn onboard(&mut self, mint: &mut Mint, index: usize, at_s: i64) -> Vec<SimEvent> {
        let account = &mut self.accounts[index];
        let before = shapes::account(account);
        let was = account.capability();
        account.stage += 1;
        account.changed_s = at_s;
        let after = shapes::account(account);
        let previous = changed(&before, &after);
        let mut drafts = Vec::new();
        if account.stage == 2 {
            let bank = shapes::bank_account(account);
            drafts.push(account.draft("account.external_account.created", at_s, bank, None));
        }
        if account.capability() != was {
            let capability = shapes::capability(account);
            drafts.push(account.draft(
                "capability.updated",
                at_s,
                capability,
                Some(json!({"status": was})),
            ));
        }
        drafts.push(account.draft("account.updated", at_s, after, Some(previous)));
        drafts.into_iter().map(|d| mint.event(d)).collect()
    }

    /// An active account loses the right to take charges, or gets it back.
    pub fn set_disabled(
        &mut self,
        mint: &mut Mint,
        index: usize,
        at_s: i64,
        disabled: bool,
    ) -> Vec<SimEvent> {
        let account = &mut self.accounts[index];
        let (before, was) = (shapes::account(account), account.capability());
        (account.disabled, account.changed_s) = (disabled, at_s);
        let after = shapes::account(account);
        let previous = changed(&before, &after);
        let drafts = [
            account.draft("account.updated", at_s, after, Some(previous)),
            account.draft(
                "capability.updated",
                at_s,
                shapes::capability(account),
                Some(json!({"status": was})),
            ),
        ];
        drafts.into_iter().map(|d| mint.event(d)).collect()
    }

    /// The provider disconnects. The object is the application; the account is in the envelope
    /// only.
    pub fn leave(&mut self, mint: &mut Mint, index: usize, at_s: i64) -> Vec<SimEvent> {
        let application =
            json!({"id": mint.short_id("ca"), "object": "application", "name": "Demo Marketplace"});
        let account = &mut self.accounts[index];
        account.connected = false;
        let draft = account.draft("account.application.deauthorized", at_s, application, None);
        vec![mint.event(draft)]
    }

    /// Stripe sends money to a provider's bank.
    pub fn pay_out(&mut self, mint: &mut Mint, at_s: i64) -> Vec<SimEvent> {
        let Some(index) = self.pick(mint, i64::MAX, |a| a.charges_enabled()) else {
            return Vec::new();
        };
        let account = &self.accounts[index];
        // Yen have no minor unit; a real is worth a fifth of a dollar.
        let scale = match account.currency {
            "jpy" => 150,
            "brl" => 500,
            _ => 100,
        };
        let payout = Payout {
            id: mint.id("po", at_s),
            account: index,
            amount_minor: mint.rng.i64(80..4_000) * scale + mint.rng.i64(0..scale),
            status: "pending",
            created_s: at_s,
        };
        let draft = account.draft(
            "payout.created",
            at_s,
            shapes::payout(account, &payout),
            None,
        );
        let events = vec![mint.event(draft)];
        self.on_their_way.push(payout);
        events
    }

    /// The bank accepts the oldest payout in transit, or returns it.
    pub fn settle(&mut self, mint: &mut Mint, at_s: i64, arrives: bool) -> Vec<SimEvent> {
        if self.on_their_way.is_empty() {
            return Vec::new();
        }
        let mut payout = self.on_their_way.remove(0);
        payout.status = if arrives { "paid" } else { "failed" };
        let account = &self.accounts[payout.account];
        let kind = if arrives {
            "payout.paid"
        } else {
            "payout.failed"
        };
        let draft = account.draft(kind, at_s, shapes::payout(account, &payout), None);
        let events = vec![mint.event(draft)];
        if arrives {
            self.paid_count += 1;
            self.paid.push(payout);
        } else {
            self.failed_count += 1;
        }
        events
    }

    /// The bank returns a payout that Stripe had reported as paid.
    pub fn bounce(&mut self, mint: &mut Mint, at_s: i64) -> Vec<SimEvent> {
        let Some(mut payout) = self.paid.pop() else {
            return Vec::new();
        };
        payout.status = "failed";
        self.paid_count -= 1;
        self.failed_count += 1;
        let account = &self.accounts[payout.account];
        let draft = account.draft(
            "payout.failed",
            at_s,
            shapes::payout(account, &payout),
            None,
        );
        vec![mint.event(draft)]
    }

    /// Older payouts no longer count and no longer change.
    pub fn forget_payouts(&mut self) {
        self.paid.clear();
        (self.paid_count, self.failed_count) = (0, 0);
    }

    /// A random matching connected account that has not changed in this second.
    pub fn pick(
        &self,
        mint: &mut Mint,
        now_s: i64,
        fits: impl Fn(&Account) -> bool,
    ) -> Option<usize> {
        let fitting: Vec<usize> = (0..self.accounts.len())
            .filter(|i| {
                let account = &self.accounts[*i];
                account.connected && account.changed_s < now_s && fits(account)
            })
            .collect();
        mint.rng.choice(fitting)
    }
}
