//! The families of Stripe's events that state is made of, and what is unknown without each. One table: for
//! the endpoints at Stripe, which must name these types, and for [`crate::kpi`], which notices that a family
//! never came.

use crate::event::known_kinds;

/// What is different for one family: a row of [`FAMILIES`].
#[derive(Debug, PartialEq, Eq)]
pub struct EventFamily {
    /// Its types without their last part, as in [`crate::entity::kind::KindRow::event_families`].
    pub name: &'static str,
    /// Only connected accounts matter: of the platform itself, nothing is read.
    pub of_connected: bool,
    /// What is unknown without it, for people.
    pub shows: &'static str,
}

/// Every family.
pub const FAMILIES: [EventFamily; 18] = [
    of_any("customer", "customers"),
    of_any(
        "customer.subscription",
        "subscriptions, MRR, the past-due share, churn and trials",
    ),
    of_any("customer.discount", "MRR of customers with a discount"),
    of_any(
        "coupon",
        "MRR of subscriptions whose discount is named by its id",
    ),
    of_any("promotion_code", "the coupon behind a promotion code"),
    of_any(
        "invoice",
        "invoices, failed collections, the retry queue and exhausted retries",
    ),
    of_any("invoice_payment", "invoices that are paid in parts"),
    of_any(
        "payout",
        "payouts, their failures and volume, and their reversals",
    ),
    of_any(
        "payment_intent",
        "payments, their failure share, and first payments of accounts",
    ),
    of_any("checkout.session", "checkouts"),
    of_any("charge.dispute", "disputes"),
    of_any("refund", "refunds"),
    of_any("transfer", "transfers and their reversals"),
    of_connected(
        "account",
        "connected accounts: their risk, requirements and onboarding",
    ),
    of_connected(
        "account.application",
        "accounts that disconnect from the platform",
    ),
    of_connected("account.external_account", "bank accounts for payouts"),
    of_connected("capability", "capabilities that wait or are disabled"),
    of_connected("balance", "what accounts could be paid out"),
];

const fn of_any(name: &'static str, shows: &'static str) -> EventFamily {
    EventFamily {
        name,
        of_connected: false,
        shows,
    }
}

const fn of_connected(name: &'static str, shows: &'static str) -> EventFamily {
    EventFamily {
        name,
        of_connected: true,
        shows,
    }
}

impl EventFamily {
    /// The row with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        static ROWS: [EventFamily; FAMILIES.len()] = FAMILIES;
        ROWS.iter().find(|row| row.name == name)
    }

    /// Its documented types.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        let name = self.name;
        known_kinds().filter(move |kind| {
            kind.rsplit_once('.')
                .is_some_and(|(family, _)| family == name)
        })
    }

    /// As people name its types: `invoice.*`; or each, if it has one or if other families begin as it does.
    pub fn types(&self) -> String {
        let kinds: Vec<_> = self.kinds().collect();
        let begin = format!("{}.", self.name);
        let is_ambiguous = FAMILIES.iter().any(|other| other.name.starts_with(&begin));
        match kinds.len() {
            1 => kinds.concat(),
            _ if is_ambiguous => kinds.join(", "),
            _ => format!("{begin}*"),
        }
    }
}

/// Whether an endpoint for which these types are enabled gets events of type `kind`: all types, this one, or thin
/// events that name the same objects. Thin events of accounts have types of their own.
/// Sources: <https://docs.stripe.com/api/webhook_endpoints/object#webhook_endpoint_object-enabled_events>,
/// <https://docs.stripe.com/api/v2/core/event-destinations/object>.
pub fn is_enabled<'a>(kind: &str, enabled: impl IntoIterator<Item = &'a str>) -> bool {
    enabled.into_iter().any(|it| {
        it == "*"
            || it == kind
            || it.strip_prefix("v1.") == Some(kind)
            // What older API versions have instead.
            || it == "charge.refund.updated" && kind.starts_with("refund.")
            || kind == "account.updated"
                && ["v2.core.account.", "v2.core.account["]
                    .iter()
                    .any(|begin| it.starts_with(begin))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::kind::KINDS;

    /// What older API versions have instead of `refund.*`.
    const REPLACED: &str = "charge.refund";

    #[test]
    fn every_family_of_every_kind_has_a_row_with_documented_types() {
        let of_kinds = KINDS.iter().flat_map(|row| row.event_families);
        for family in of_kinds.filter(|family| **family != REPLACED) {
            assert!(EventFamily::named(family).is_some(), "{family}");
        }
        for row in &FAMILIES {
            assert!(row.kinds().next().is_some(), "{}", row.name);
        }
        let types = |name| EventFamily::named(name).map(EventFamily::types);
        assert_eq!(types("invoice").as_deref(), Some("invoice.*"));
        assert_eq!(types("account").as_deref(), Some("account.updated"));
        let customer = "customer.created, customer.deleted, customer.updated";
        assert_eq!(types("customer").as_deref(), Some(customer));
    }

    /// The page that says which types to send.
    #[test]
    fn the_page_of_the_endpoint_names_every_family() {
        let page = include_str!("../../../docs/reference/endpoint.md");
        for row in FAMILIES.iter().filter(|row| row.name != "customer") {
            let types = format!("`{}`", row.types());
            assert!(page.contains(&types), "{types}");
        }
    }

    #[test]
    fn all_types_one_type_and_thin_events_enable_a_type() {
        let table = [
            ("*", "invoice.paid", true),
            ("invoice.paid", "invoice.paid", true),
            ("v1.invoice.paid", "invoice.paid", true),
            ("invoice.payment_failed", "invoice.paid", false),
            ("charge.refund.updated", "refund.failed", true),
            ("charge.refund.updated", "payout.failed", false),
            ("v2.core.account_link.returned", "account.updated", false),
            (
                "v2.core.account[requirements].updated",
                "account.updated",
                true,
            ),
            (
                "v2.core.account[requirements].updated",
                "account.external_account.created",
                false,
            ),
        ];
        for (enabled, kind, expected) in table {
            assert_eq!(is_enabled(kind, [enabled]), expected, "{enabled} {kind}");
        }
    }
}
