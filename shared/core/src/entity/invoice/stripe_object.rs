//! The invoice as Stripe would show it, as far as others need it.

use serde_json::{Value, json};

use super::Invoice;
use crate::entity::recurring::ItemTax;
use crate::entity::stripe_enums::InvoiceStatus;

impl Invoice {
    /// The invoice with the lines that have its subscription's tax, in the form since 2025-03-31.basil; `None`: it
    /// stores none of them.
    pub fn as_stripe_object(&self) -> Option<Value> {
        let (facts, taxes) = (self.current()?, self.origin.taxes.as_ref()?);
        let lines: Vec<_> = taxes.items.iter().map(line).collect();
        Some(json!({
            "id": self.id, "object": "invoice", "created": taxes.created_s, "status": facts.status.as_str(),
            "lines": {"object": "list", "data": lines},
        }))
    }

    /// Whether its lines may still change.
    pub(crate) fn is_draft(&self) -> bool {
        let status = self.current().map(|facts| &facts.status);
        status == Some(&InvoiceStatus::Draft)
    }
}

fn line(of: &ItemTax) -> Value {
    let off_minor = of
        .invoiced
        .amount_minor
        .saturating_sub(of.invoiced.taxed_minor);
    let details = json!({"subscription_item": of.item, "proration": false});
    json!({
        "amount": of.invoiced.amount_minor, "discount_amounts": [{"amount": off_minor}],
        "parent": {"subscription_item_details": details}, "pricing": {"price_details": {"price": of.price}},
        "taxes": [{"amount": of.invoiced.tax_minor, "tax_behavior": "inclusive"}],
    })
}
