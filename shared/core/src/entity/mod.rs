//! The objects whose state revwatch keeps, and the pure functions on them.
//!
//! An entity accumulates what events say about it ([`Entity::merge`]); everything else is a
//! function of the accumulated state. Stripe guarantees neither order nor uniqueness, therefore:
//!
//! Invariant: `merge` is commutative, associative and idempotent. Any permutation and any repetition
//! of the same events gives an entity that encodes to the same bytes.

pub mod account;
pub mod application_ids;
mod compact;
pub mod coupon;
pub mod customer;
pub mod disabled_reason;
pub mod events;
pub mod format_1;
pub mod invoice;
pub mod key;
pub mod kind;
pub mod mention;
mod merge;
pub mod missing_event;
pub mod movement;
pub mod payout;
pub mod recurring;
pub mod reported;
pub mod reports;
pub mod risk;
pub mod signup;
mod state;
pub mod stripe_enums;
pub mod subscribed;
pub mod subscription;
pub mod timeline;
pub mod transition;

use std::collections::HashSet;

use self::account::{Account, AccountUpdate};
use self::coupon::{Coupon, CouponFacts, coupon_key};
use self::customer::{Customer, CustomerFacts, CustomerOrigin};
use self::events::EventRef;
use self::invoice::{Invoice, InvoiceFacts, InvoiceOrigin, InvoicePayment};
pub use self::key::EntityKey;
pub use self::kind::EntityKind;
use self::mention::Mention;
use self::merge::keep_greater;
use self::missing_event::MissingEvent;
use self::movement::{MoneyMovement, MoneyMovementFacts, MoneyMovementOrigin};
use self::payout::{Payout, PayoutFacts, PayoutOrigin};
use self::reported::{BookingFee, Member, Provider, Ticket};
use self::reports::{Report, Reports};
use self::signup::Reached;
pub use self::state::EntityState;
use self::state::{DecodeError, decode, empty};
use self::subscribed::Subscribed;
use self::subscription::{Subscription, SubscriptionFacts, SubscriptionOrigin};
use self::timeline::RecordedState;
pub use self::transition::Transition;
use crate::condition::Condition;
use crate::counters::{Bucket, Counters, Tally};
use crate::event::partition_of;
use crate::realm::Realm;

/// The format of a store's state: how entities are encoded, what they contribute to counters, and which
/// conditions they have. A change to one of the three raises it. Workers convert a store of an
/// older format before they apply anything to it.
///
/// | format | what changed |
/// |---|---|
/// | 1 | all versions before stores recorded their format |
/// | 2 | one object is one entity, whatever its events say of `context` or of its customer |
/// | 3 | of facts, what differs from others of the object |
/// | 4 | bounds of amounts; next attempts and payments of invoices; why a capability is not usable, what reverses a payout, how much of a transfer was reversed, the balance and the closing of an account, the names of its requirements; which thin event named an object last; some counters by the minute |
/// | 5 | when the subscriptions of a customer pay; the inclusive tax of a subscription's items, from its invoices; until when a dispute must be answered; which invoices bill a subscription |
/// | 6 | what the capabilities of an account need; when a trial ends, and the money of further currencies, in conditions |
/// | 7 | which invoices of a subscription are looked up for its tax; what a coupon takes off in further currencies; what conditions know of money that is not exact; the bounds of past-due MRR |
/// | 8 | attempts of which no event says how they ended; bounds of MRR where a coupon may apply to some products only |
/// | 9 | what the user's application says: of accounts, and of objects of its own |
pub const STATE_FORMAT: u32 = 9;

/// The counter of entities whose state has to be fetched, by kind; accounts have one of their own.
pub const NEEDING_FETCH: &str = "objects_needing_fetch";

/// One entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entity {
    /// `sub_…`
    Subscription(Subscription),
    /// `in_…`
    Invoice(Invoice),
    /// `po_…`
    Payout(Payout),
    /// `acct_…`: much larger than the others.
    Account(Box<Account>),
    /// Payment intent, checkout session, dispute, refund or transfer.
    Movement(MoneyMovement),
    /// `cus_…`
    Customer(Customer),
    /// See [`coupon`].
    Coupon(Coupon),
    /// `evt_…`
    MissingEvent(MissingEvent),
    /// Of the application, as the following.
    Ticket(Ticket),
    /// See [`reported`].
    Provider(Provider),
    /// See [`reported`].
    BookingFee(BookingFee),
    /// See [`reported`].
    Member(Member),
}

/// What one event says about one entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The entity.
    pub key: EntityKey,
    /// Unix seconds, from the event.
    pub created_s: i64,
    /// The realm of the endpoint to which the event came.
    pub realm: Realm,
    /// The content.
    pub update: Update,
}

/// The content of an observation, by kind of entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// About a subscription.
    Subscription(SubscriptionOrigin, RecordedState<SubscriptionFacts>),
    /// About an invoice.
    Invoice(InvoiceOrigin, RecordedState<InvoiceFacts>),
    /// About one payment of an invoice: its id, and what it paid.
    InvoicePayment(InvoiceOrigin, String, InvoicePayment),
    /// About a payout.
    Payout(PayoutOrigin, RecordedState<PayoutFacts>),
    /// About a connected account.
    Account(AccountUpdate),
    /// About a movement of money.
    Movement(MoneyMovementOrigin, RecordedState<MoneyMovementFacts>),
    /// About a customer.
    Customer(CustomerOrigin, RecordedState<CustomerFacts>),
    /// What a subscription, as it is stored, says about its customer. It replaces what the customer knew: its order
    /// counts. See [`crate::relay`].
    Subscribed {
        /// The connected account of both.
        account: Option<String>,
        /// `sub_…`
        subscription: String,
        /// `None`: it is of another customer.
        subscribed: Option<Subscribed>,
    },
    /// What an account, as it is stored, says about the provider whose account it is. It replaces what the provider
    /// knew, as `Subscribed`.
    Onboarded {
        /// `acct_…`
        account: String,
        /// `None`: it is another user's.
        reached: Option<Reached>,
    },
    /// About a coupon, of this connected account.
    Coupon(Option<String>, RecordedState<CouponFacts>),
    /// What a discount or an invoice shows of a subscription.
    SubscriptionOrigin(SubscriptionOrigin),
    /// Only that it changed.
    Mention {
        /// The connected account it belongs to.
        account: Option<String>,
        /// The thin event.
        event_id: String,
    },
    /// The API said which object a missing event is about.
    Found {
        /// The connected account that the report belongs to.
        account: Option<String>,
    },
    /// What the application says of an object of its own.
    Reported(Report),
}

impl Observation {
    /// The same, from an endpoint of this realm.
    #[must_use]
    pub fn of(mut self, realm: &Realm) -> Self {
        if let Update::Coupon(account, _) = &self.update {
            let key = self.key.id.splitn(3, '/').last();
            self.key = coupon_key(realm, account.as_deref(), key.unwrap_or_default());
        }
        self.realm.clone_from(realm);
        self
    }

    /// Whether its endpoint says of which of the platform's Stripe accounts the entity is. An application speaks of
    /// accounts of all of them at one endpoint, and its users are not of the realms of their accounts.
    pub fn says_realm(&self) -> bool {
        !matches!(
            self.update,
            Update::Account(AccountUpdate::Reported(_)) | Update::Onboarded { .. }
        )
    }

    /// The partition of its event, of `partitions`: that of the entity.
    pub fn partition(&self, partitions: u32) -> u32 {
        let id = self.key.id.as_str();
        let key = match &self.update {
            Update::Subscription(SubscriptionOrigin { account, .. }, _)
            | Update::SubscriptionOrigin(SubscriptionOrigin { account, .. })
            | Update::Invoice(InvoiceOrigin { account, .. }, _)
            | Update::InvoicePayment(InvoiceOrigin { account, .. }, ..)
            | Update::Customer(CustomerOrigin { account, .. }, _)
            | Update::Payout(PayoutOrigin { account, .. }, _)
            | Update::Movement(MoneyMovementOrigin { account, .. }, _) => {
                account.as_deref().unwrap_or(id)
            }
            Update::Coupon(Some(account), _) => account,
            Update::Coupon(None, _) => id.splitn(3, '/').last().unwrap_or(id),
            Update::Mention { account, .. }
            | Update::Found { account }
            | Update::Subscribed { account, .. } => account.as_deref().unwrap_or(id),
            Update::Account(_) | Update::Reported(_) | Update::Onboarded { .. } => id,
        };
        partition_of(key, partitions)
    }
}

impl Entity {
    /// An entity without any known state.
    pub fn new(key: &EntityKey) -> Self {
        match key.kind {
            EntityKind::Subscription => Self::Subscription(empty(key)),
            EntityKind::Invoice => Self::Invoice(empty(key)),
            EntityKind::Payout => Self::Payout(empty(key)),
            EntityKind::Account => Self::Account(Box::new(empty(key))),
            EntityKind::Customer => Self::Customer(empty(key)),
            EntityKind::Coupon => Self::Coupon(empty(key)),
            EntityKind::MissingEvent => Self::MissingEvent(empty(key)),
            EntityKind::Ticket => Self::Ticket(empty(key)),
            EntityKind::Provider => Self::Provider(empty(key)),
            EntityKind::BookingFee => Self::BookingFee(empty(key)),
            EntityKind::Member => Self::Member(empty(key)),
            EntityKind::Payment
            | EntityKind::Checkout
            | EntityKind::Dispute
            | EntityKind::Refund
            | EntityKind::Transfer => Self::Movement(empty(key)),
        }
    }

    /// Merges an observation of this entity.
    pub fn merge(&mut self, observation: &Observation) {
        // All are of one realm. If they were not, the result would be the same in any order.
        if observation.says_realm() {
            keep_greater(self.realm_mut(), &Some(observation.realm.clone()));
        }
        match (self, &observation.update) {
            (Self::Subscription(s), Update::Subscription(origin, state)) => {
                s.merge(origin, state.clone());
            }
            (Self::Subscription(s), Update::SubscriptionOrigin(origin)) => {
                s.origin.merge(origin);
            }
            (Self::Coupon(c), Update::Coupon(_, state)) => c.merge(state.clone()),
            (Self::Invoice(i), Update::Invoice(origin, state)) => i.merge(origin, state.clone()),
            (Self::Invoice(i), Update::InvoicePayment(origin, id, payment)) => {
                i.merge_payment(origin, id, payment);
            }
            (Self::Payout(p), Update::Payout(origin, state)) => p.merge(origin, state.clone()),
            (Self::Movement(m), Update::Movement(origin, state)) => m.merge(origin, state.clone()),
            (Self::Customer(c), Update::Customer(origin, state)) => c.merge(origin, state.clone()),
            (
                Self::Customer(c),
                Update::Subscribed {
                    account,
                    subscription,
                    subscribed,
                },
            ) => {
                keep_greater(&mut c.origin.account, account);
                c.subscriptions.set(subscription, subscribed.as_ref());
            }
            (Self::Account(a), Update::Account(update)) => {
                a.merge(observation.created_s, update.clone());
            }
            (Self::MissingEvent(e), Update::Found { account }) => {
                keep_greater(&mut e.account, account);
                e.find(observation.created_s);
            }
            (Self::Provider(p), Update::Onboarded { account, reached }) => {
                p.set(account, reached.as_ref());
            }
            (entity, Update::Reported(report)) => match entity.reports_mut() {
                Some(reports) => reports.merge(report),
                None => debug_assert!(false, "{report:?} does not match {entity:?}"),
            },
            (entity, Update::Mention { account, event_id }) => {
                let mention = (observation.created_s, event_id.clone());
                entity.mention(account, &Some(mention));
            }
            (entity, update) => debug_assert!(false, "{update:?} does not match {entity:?}"),
        }
    }

    /// Adds everything that another copy of this entity knows, as if one had merged the observations of
    /// both. It is commutative, associative and idempotent, too.
    pub fn union(&mut self, other: &Self) {
        keep_greater(self.realm_mut(), &other.realm().cloned());
        if let (Some((_, kept)), Some(other)) = (self.mention_mut(), other.mentioned()) {
            keep_greater(kept, other);
        }
        match (self, other) {
            (Self::Subscription(s), Self::Subscription(other)) => s.union(other),
            (Self::Invoice(i), Self::Invoice(other)) => i.union(other),
            (Self::Payout(p), Self::Payout(other)) => p.union(other),
            (Self::Movement(m), Self::Movement(other)) => m.union(other),
            (Self::Account(a), Self::Account(other)) => a.union(other),
            (Self::Customer(c), Self::Customer(other)) => c.union(other),
            (Self::Coupon(c), Self::Coupon(other)) => c.union(other),
            (Self::MissingEvent(e), Self::MissingEvent(other)) => e.union(other),
            (Self::Ticket(t), Self::Ticket(other)) => t.union(other),
            (Self::Provider(p), Self::Provider(other)) => p.union(other),
            (Self::BookingFee(f), Self::BookingFee(other)) => f.union(other),
            (Self::Member(m), Self::Member(other)) => m.union(other),
            (entity, other) => debug_assert!(false, "{other:?} is of another kind than {entity:?}"),
        }
    }

    /// The partition of its events, of `partitions`, and thus its own for life.
    pub fn partition(&self, partitions: u32) -> u32 {
        partition_of(self.state().partition_key(), partitions)
    }

    /// What this entity adds to every aggregate. A total is the sum of this over all entities.
    pub fn contributions(&self) -> Counters {
        Counters::from(&self.tally())
    }

    /// The contributions before they are summed up.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::of(self.state().class());
        self.state().contributions(&mut tally);
        if self.needed().is_some() {
            let kind = self.key().kind.plural();
            tally.add(Bucket::Current, &[NEEDING_FETCH, kind], 1);
        }
        tally
    }

    /// Its problems, present and scheduled.
    pub fn conditions(&self) -> Vec<Condition> {
        let state = self.state();
        let mut conditions = state.conditions();
        conditions.extend(
            self.needed().map(|mention| {
                mention::condition(self.key(), state.account(), self.realm(), mention)
            }),
        );
        let mut keys = conditions.iter().map(|condition| &condition.key);
        debug_assert!(keys.all(|key| key.kind.is_of(key.subject.kind)));
        conditions
    }

    /// All remembered transitions, oldest first.
    pub fn history(&self) -> Vec<Transition> {
        self.state().transitions()
    }

    /// Every remembered event, whether it changed anything or not, in the order in which things
    /// happened. Where only the latest event counts (authorization, a bank account), only that one.
    pub fn events(&self) -> Vec<EventRef> {
        let mut events = self.state().events();
        if let Some(Some((created_s, event_id))) = self.mentioned() {
            let after = events.partition_point(|event| event.created_s <= *created_s);
            let event = EventRef::of_mention(*created_s, event_id);
            events.insert(after, event);
        }
        events
    }

    /// The stored bytes: a format number, then MessagePack with fields by position. New fields are
    /// appended and have a default.
    pub fn encode(&self) -> Vec<u8> {
        const USUAL_BYTES: usize = 256;
        let mut bytes = Vec::with_capacity(USUAL_BYTES);
        bytes.push(ENCODING);
        self.state().encode(&mut bytes);
        bytes
    }

    /// Whether an earlier version wrote these bytes. [`Entity::decode`] reads them.
    pub fn has_older_encoding(bytes: &[u8]) -> bool {
        bytes.first().is_some_and(|encoding| *encoding < ENCODING)
    }

    /// Whether a version of format 1 wrote these bytes, so that [`format_1`] corrects them.
    pub fn is_of_format_1(bytes: &[u8]) -> bool {
        bytes.first() == Some(&1)
    }

    /// Decodes the output of [`Entity::encode`], of this version or an earlier one.
    pub fn decode(key: &EntityKey, bytes: &[u8]) -> Result<Self, String> {
        match bytes.split_first() {
            Some((&encoding @ 1..=ENCODING, rest)) => {
                let mut entity =
                    Self::decode_state(key, rest).map_err(|e| format!("{key}: {e}"))?;
                match (encoding, &mut entity) {
                    (1 | 2, Self::Account(account)) => account.read_milestones_again(),
                    (1..=3, Self::Subscription(subscription)) => subscription.doubt_discounts(),
                    _ => {}
                }
                Ok(entity)
            }
            Some((other, _)) => Err(format!(
                "{key}: format {other} was written by another version of revwatch"
            )),
            None => Err(format!("{key}: empty")),
        }
    }

    /// Decodes the bytes that follow the format number.
    fn decode_state(key: &EntityKey, bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(match key.kind {
            EntityKind::Subscription => Self::Subscription(decode(key, bytes)?),
            EntityKind::Invoice => Self::Invoice(decode(key, bytes)?),
            EntityKind::Payout => Self::Payout(decode(key, bytes)?),
            EntityKind::Account => Self::Account(Box::new(decode(key, bytes)?)),
            EntityKind::Customer => Self::Customer(decode(key, bytes)?),
            EntityKind::Coupon => Self::Coupon(decode(key, bytes)?),
            EntityKind::MissingEvent => Self::MissingEvent(decode(key, bytes)?),
            EntityKind::Ticket => Self::Ticket(decode(key, bytes)?),
            EntityKind::Provider => Self::Provider(decode(key, bytes)?),
            EntityKind::BookingFee => Self::BookingFee(decode(key, bytes)?),
            EntityKind::Member => Self::Member(decode(key, bytes)?),
            EntityKind::Payment
            | EntityKind::Checkout
            | EntityKind::Dispute
            | EntityKind::Refund
            | EntityKind::Transfer => Self::Movement(decode(key, bytes)?),
        })
    }

    /// Which of the platform's own Stripe accounts it is of, if any event about it was observed.
    pub fn realm(&self) -> Option<&Realm> {
        match self {
            Self::Subscription(s) => s.realm.as_ref(),
            Self::Invoice(i) => i.realm.as_ref(),
            Self::Payout(p) => p.realm.as_ref(),
            Self::Account(a) => a.realm.as_ref(),
            Self::Movement(m) => m.realm.as_ref(),
            Self::Customer(c) => c.realm.as_ref(),
            Self::Coupon(c) => c.realm.as_ref(),
            Self::MissingEvent(e) => e.realm.as_ref(),
            Self::Ticket(t) => t.realm.as_ref(),
            Self::Provider(p) => p.realm.as_ref(),
            Self::BookingFee(f) => f.realm.as_ref(),
            Self::Member(m) => m.realm.as_ref(),
        }
    }

    /// For what versions stored that knew no realms; events have theirs.
    pub fn set_realm(&mut self, realm: &Realm) {
        *self.realm_mut() = Some(realm.clone());
    }

    fn realm_mut(&mut self) -> &mut Option<Realm> {
        match self {
            Self::Subscription(s) => &mut s.realm,
            Self::Invoice(i) => &mut i.realm,
            Self::Payout(p) => &mut p.realm,
            Self::Account(a) => &mut a.realm,
            Self::Movement(m) => &mut m.realm,
            Self::Customer(c) => &mut c.realm,
            Self::Coupon(c) => &mut c.realm,
            Self::MissingEvent(e) => &mut e.realm,
            Self::Ticket(t) => &mut t.realm,
            Self::Provider(p) => &mut p.realm,
            Self::BookingFee(f) => &mut f.realm,
            Self::Member(m) => &mut m.realm,
        }
    }

    /// The thin event that it needs a state since. Accounts count and tell theirs themselves.
    fn needed(&self) -> Option<&Mention> {
        let is_account = matches!(self, Self::Account(_));
        self.state().unanswered().filter(|_| !is_account)
    }

    /// What it is.
    pub fn key(&self) -> EntityKey {
        let (kind, id) = match self {
            Self::Subscription(s) => (EntityKind::Subscription, &s.id),
            Self::Invoice(i) => (EntityKind::Invoice, &i.id),
            Self::Payout(p) => (EntityKind::Payout, &p.id),
            Self::Account(a) => (EntityKind::Account, &a.id),
            Self::Movement(m) => (m.kind, &m.id),
            Self::Customer(c) => (EntityKind::Customer, &c.id),
            Self::Coupon(c) => (EntityKind::Coupon, &c.id),
            Self::MissingEvent(e) => (EntityKind::MissingEvent, &e.id),
            Self::Ticket(t) => (EntityKind::Ticket, &t.id),
            Self::Provider(p) => (EntityKind::Provider, &p.id),
            Self::BookingFee(f) => (EntityKind::BookingFee, &f.id),
            Self::Member(m) => (EntityKind::Member, &m.id),
        };
        EntityKey::new(kind, id)
    }

    /// Whose it is comes with the event, so that it stays in its partition.
    fn mention(&mut self, account: &Option<String>, mention: &Option<Mention>) {
        if let Some((own_account, kept)) = self.mention_mut() {
            keep_greater(own_account, account);
            keep_greater(kept, mention);
        } else {
            debug_assert!(false, "an account has its own update");
        }
    }

    /// The account that it belongs to, and the newest thin event that names it. `None`: an account, which has
    /// the latter elsewhere.
    fn mention_mut(&mut self) -> Option<(&mut Option<String>, &mut Option<Mention>)> {
        Some(match self {
            Self::Subscription(s) => (&mut s.origin.account, &mut s.mention),
            Self::Invoice(i) => (&mut i.origin.account, &mut i.mention),
            Self::Payout(p) => (&mut p.origin.account, &mut p.mention),
            Self::Movement(m) => (&mut m.origin.account, &mut m.mention),
            Self::Customer(c) => (&mut c.origin.account, &mut c.mention),
            Self::MissingEvent(e) => (&mut e.account, &mut e.mention),
            _ => return None,
        })
    }

    fn mentioned(&self) -> Option<&Option<Mention>> {
        Some(match self {
            Self::Subscription(s) => &s.mention,
            Self::Invoice(i) => &i.mention,
            Self::Payout(p) => &p.mention,
            Self::Movement(m) => &m.mention,
            Self::Customer(c) => &c.mention,
            Self::MissingEvent(e) => &e.mention,
            _ => return None,
        })
    }

    /// The state, without its type.
    pub fn state(&self) -> &dyn EntityState {
        match self {
            Self::Subscription(s) => s,
            Self::Invoice(i) => i,
            Self::Payout(p) => p,
            Self::Account(a) => &**a,
            Self::Movement(m) => m,
            Self::Customer(c) => c,
            Self::Coupon(c) => c,
            Self::MissingEvent(e) => e,
            Self::Ticket(t) => t,
            Self::Provider(p) => p,
            Self::BookingFee(f) => f,
            Self::Member(m) => m,
        }
    }

    /// What the application says of an object of its own. `None`: it is one of Stripe's.
    fn reports_mut(&mut self) -> Option<&mut Reports> {
        Some(match self {
            Self::Ticket(t) => &mut t.reports,
            Self::Provider(p) => &mut p.reports,
            Self::BookingFee(f) => &mut f.reports,
            Self::Member(m) => &mut m.reports,
            _ => return None,
        })
    }
}

/// The transitions in `after` that are not in `before`. An event that arrives late adds transitions
/// in the past.
pub fn transitions(before: &Entity, after: &Entity) -> Vec<Transition> {
    let (old, new) = (before.history(), after.history());
    // Most events are the newest ones: what was known before is the same.
    let pairs = old.iter().zip(&new);
    let same = pairs.take_while(|(old, new)| old == new).count();
    let known: HashSet<&Transition> = old[same..].iter().collect();
    let mut added = new;
    added.drain(..same);
    added.retain(|transition| !known.contains(transition));
    added
}

/// The first stored byte of an entity. Encodings 1 and 2 had timelines in other forms, which they read
/// themselves, and their accounts had only some of what their states show of milestones. Encoding 2 was at
/// first without some fields and with others, which accounts and customers read. Encodings 3 and 4 had fewer fields.
const ENCODING: u8 = 5;

#[cfg(test)]
mod tests;
