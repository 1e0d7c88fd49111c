//! The kinds of Stripe object whose state revwatch keeps. The names and properties that differ by kind
//! are one row of [`KINDS`].
//!
//! Invariant: this file names no function of a kind, so that the envelope, conditions and the kinds
//! themselves can use it. [`super::Entity`], [`crate::observe::observe`] and [`super::movement`] choose
//! the functions of a kind, each with a `match` that names every kind.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The kinds of entity, in the order of [`KINDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntityKind {
    /// `sub_…`
    Subscription,
    /// `in_…`
    Invoice,
    /// `po_…`
    Payout,
    /// `acct_…`
    Account,
    /// `pi_…`
    Payment,
    /// `cs_…`
    Checkout,
    /// `dp_…` or `du_…`
    Dispute,
    /// `re_…` or `pyr_…`
    Refund,
    /// `tr_…`
    Transfer,
    /// `cus_…`
    Customer,
    /// See [`super::coupon`].
    Coupon,
    /// `evt_…`
    MissingEvent,
    /// A support ticket; this and the following are objects of the user's application.
    Ticket,
    /// A user who registered as a provider.
    Provider,
    /// A booking fee that a customer owes.
    BookingFee,
    /// A member of an organisation.
    Member,
}

/// What is different for one kind: a row of [`KINDS`].
pub struct KindRow {
    /// The kind.
    pub kind: EntityKind,
    /// The name in commands, stored keys and JSON. It must never change.
    pub name: &'static str,
    /// The name in exports and counters. It must never change.
    pub plural: &'static str,
    /// The `object` of Stripe's JSON. Source: <https://docs.stripe.com/api>.
    pub object: &'static str,
    /// The path in Stripe's API, without the id.
    pub api_path: &'static str,
    /// The type of the event that revwatch makes of a fetched object: one that says nothing but how the object
    /// is. Stripe sends some of them, and others for the rest.
    pub fetched_type: &'static str,
    /// How Stripe's ids of this kind begin.
    pub id_prefixes: &'static [&'static str],
    /// Stripe's events about it, without the last part of their type. Thin ones name their object instead:
    /// `shared/core/src/observe/thin.rs` reads them.
    pub event_families: &'static [&'static str],
    /// Whether it is a subscription, or a payment for one.
    pub is_billing: bool,
    /// The path of its page in Stripe's dashboard, without the id; `None`: it has no page of its own.
    /// Source: the URLs of the dashboard.
    pub dashboard_path: Option<&'static str>,
}

/// Every kind.
pub const KINDS: [KindRow; 16] = [
    KindRow {
        kind: EntityKind::Subscription,
        name: "subscription",
        plural: "subscriptions",
        object: "subscription",
        api_path: "/v1/subscriptions",
        fetched_type: "customer.subscription.updated",
        id_prefixes: &["sub_"],
        event_families: &["customer.subscription"],
        is_billing: true,
        dashboard_path: Some("subscriptions"),
    },
    KindRow {
        kind: EntityKind::Invoice,
        name: "invoice",
        plural: "invoices",
        object: "invoice",
        api_path: "/v1/invoices",
        fetched_type: "invoice.updated",
        id_prefixes: &["in_"],
        event_families: &["invoice", "invoice_payment"],
        is_billing: true,
        dashboard_path: Some("invoices"),
    },
    KindRow {
        kind: EntityKind::Payout,
        name: "payout",
        plural: "payouts",
        object: "payout",
        api_path: "/v1/payouts",
        fetched_type: "payout.updated",
        id_prefixes: &["po_"],
        event_families: &["payout"],
        is_billing: false,
        dashboard_path: Some("payouts"),
    },
    KindRow {
        kind: EntityKind::Account,
        name: "account",
        plural: "accounts",
        object: "account",
        api_path: "/v1/accounts",
        fetched_type: "account.updated",
        id_prefixes: &["acct_"],
        event_families: &[
            "account",
            "account.application",
            "account.external_account",
            "balance",
            "capability",
        ],
        is_billing: false,
        dashboard_path: Some("connect/accounts"),
    },
    KindRow {
        kind: EntityKind::Payment,
        name: "payment_intent",
        plural: "payment_intents",
        object: "payment_intent",
        api_path: "/v1/payment_intents",
        fetched_type: "payment_intent.updated",
        id_prefixes: &["pi_"],
        event_families: &["payment_intent"],
        is_billing: true,
        dashboard_path: Some("payments"),
    },
    KindRow {
        kind: EntityKind::Checkout,
        name: "checkout_session",
        plural: "checkout_sessions",
        object: "checkout.session",
        api_path: "/v1/checkout/sessions",
        fetched_type: "checkout.session.updated",
        id_prefixes: &["cs_"],
        event_families: &["checkout.session"],
        is_billing: true,
        dashboard_path: None,
    },
    KindRow {
        kind: EntityKind::Dispute,
        name: "dispute",
        plural: "disputes",
        object: "dispute",
        api_path: "/v1/disputes",
        fetched_type: "charge.dispute.updated",
        id_prefixes: &["dp_", "du_"],
        event_families: &["charge.dispute"],
        is_billing: false,
        dashboard_path: Some("disputes"),
    },
    KindRow {
        kind: EntityKind::Refund,
        name: "refund",
        plural: "refunds",
        object: "refund",
        api_path: "/v1/refunds",
        fetched_type: "refund.updated",
        id_prefixes: &["re_", "pyr_"],
        event_families: &["refund", "charge.refund"],
        is_billing: false,
        dashboard_path: None,
    },
    KindRow {
        kind: EntityKind::Transfer,
        name: "transfer",
        plural: "transfers",
        object: "transfer",
        api_path: "/v1/transfers",
        fetched_type: "transfer.updated",
        id_prefixes: &["tr_"],
        event_families: &["transfer"],
        is_billing: false,
        dashboard_path: Some("connect/transfers"),
    },
    KindRow {
        kind: EntityKind::Customer,
        name: "customer",
        plural: "customers",
        object: "customer",
        api_path: "/v1/customers",
        fetched_type: "customer.updated",
        id_prefixes: &["cus_"],
        event_families: &["customer"],
        is_billing: true,
        dashboard_path: Some("customers"),
    },
    KindRow {
        kind: EntityKind::Coupon,
        name: "coupon",
        plural: "coupons",
        object: "coupon",
        api_path: "/v1/coupons",
        fetched_type: "coupon.updated",
        id_prefixes: &["main/platform/"],
        event_families: &["coupon", "promotion_code"],
        is_billing: true,
        dashboard_path: None,
    },
    KindRow {
        kind: EntityKind::MissingEvent,
        name: "missing_event",
        plural: "missing_events",
        object: "v2.core.event",
        api_path: "/v2/core/events",
        fetched_type: NEVER_MADE,
        id_prefixes: &["evt_"],
        event_families: &[],
        is_billing: false,
        dashboard_path: None,
    },
    KindRow::of_app(EntityKind::Ticket, "ticket", "tickets"),
    KindRow::of_app(EntityKind::Provider, "provider", "providers"),
    KindRow::of_app(EntityKind::BookingFee, "booking_fee", "booking_fees"),
    KindRow::of_app(EntityKind::Member, "member", "members"),
];

impl KindRow {
    /// A kind of which Stripe knows nothing.
    const fn of_app(kind: EntityKind, name: &'static str, plural: &'static str) -> Self {
        Self {
            kind,
            name,
            plural,
            object: "",
            api_path: "",
            fetched_type: "",
            id_prefixes: &[],
            event_families: &[],
            is_billing: false,
            dashboard_path: None,
        }
    }
}

/// The type of the thin event about an event that Stripe failed to make. It names the object in its data, which
/// the API has. Source: <https://docs.stripe.com/webhooks/handle-irrecoverable-events>.
pub const NEVER_MADE: &str = "v2.core.health.event_generation_failure.resolved";

static ROWS: [KindRow; KINDS.len()] = KINDS;

impl EntityKind {
    /// Every kind.
    pub const ALL: [Self; KINDS.len()] = {
        let mut kinds = [Self::Subscription; KINDS.len()];
        let mut i = 0;
        while i < kinds.len() {
            kinds[i] = KINDS[i].kind;
            i += 1;
        }
        kinds
    };

    /// The kind of an object that an event only names, by `object` and id.
    pub fn of_object(object: &str, id: &str) -> Option<Self> {
        let is_so = |row: &&KindRow| {
            row.kind.is_known_by_id()
                && row.object == object
                && row.id_prefixes.iter().any(|start| id.starts_with(start))
        };
        ROWS.iter().find(is_so).map(|row| row.kind)
    }

    /// Whether Stripe's id says which object it is. The terms of a coupon never change, and merchants choose its id: no
    /// event of one needs its state.
    pub fn is_known_by_id(self) -> bool {
        self != Self::Coupon && !self.is_of_app()
    }

    /// Whether it is an object of the user's application, of which Stripe knows nothing.
    pub fn is_of_app(self) -> bool {
        self.row().object.is_empty()
    }

    /// Whether an event that only names one makes it a need: of an account, that is a condition of its own.
    pub fn is_needed_when_named(self) -> bool {
        self.is_known_by_id() && self != Self::Account
    }

    /// Its row of the table.
    pub fn row(self) -> &'static KindRow {
        &ROWS[self as usize]
    }

    /// The name that commands and keys use.
    pub fn as_str(self) -> &'static str {
        self.row().name
    }

    /// The name that exports and counters use.
    pub fn plural(self) -> &'static str {
        self.row().plural
    }

    /// The page of an object of this kind in Stripe's dashboard, if it has one; `account` is the
    /// connected account that it belongs to. The pages of an account itself and of a transfer to it are the
    /// platform's. Ids come from outside: an id with other characters than Stripe's gets no link.
    pub fn dashboard_url(self, id: &str, account: Option<&str>) -> Option<String> {
        let is_id = |text: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        let path = self.row().dashboard_path?;
        let account = account.filter(|account| *account != id && self != Self::Transfer);
        let of_account = account.map_or_else(String::new, |account| format!("/{account}"));
        (is_id(id) && account.is_none_or(is_id))
            .then(|| format!("https://dashboard.stripe.com{of_account}/{path}/{id}"))
    }
}

/// The kind whose state events of this type change.
pub fn kind_of_event(event_type: &str) -> Option<EntityKind> {
    row_of_event(event_type).map(|row| row.kind)
}

/// The row whose events have this type.
pub(crate) fn row_of_event(event_type: &str) -> Option<&'static KindRow> {
    let family = event_type
        .rsplit_once('.')
        .map_or(event_type, |(family, _)| family);
    ROWS.iter().find(|row| row.event_families.contains(&family))
}

impl std::str::FromStr for EntityKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            // Exports write their names with hyphens.
            .find(|kind| kind.as_str() == text.replace('-', "_"))
            .ok_or_else(|| {
                let known = Self::ALL.map(Self::as_str).join(", ");
                format!("unknown kind {text:?}: one of {known}")
            })
    }
}

impl Serialize for EntityKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EntityKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<str>::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}
