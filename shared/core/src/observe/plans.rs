//! The names of plans.

use std::collections::BTreeMap;

use super::fields::Reference;
use super::prices::Price;

/// Plan names by price id, product id or lookup key (R1).
#[derive(Debug, Clone, Default)]
pub struct Plans(BTreeMap<String, String>);

impl Plans {
    /// The names configured under `[plans]`.
    pub fn new(names: BTreeMap<String, String>) -> Self {
        Self(names)
    }

    pub(super) fn name(&self, price: &Price) -> Option<&str> {
        let product = price.product.as_known().map(Reference::id);
        let id = price.id.as_known().map(String::as_str);
        let lookup_key = price.lookup_key.as_known().map(String::as_str);
        let keys = [id, lookup_key, product];
        keys.into_iter()
            .flatten()
            .find_map(|key| self.0.get(key))
            .map(String::as_str)
    }
}

/// The plan of a subscription whose prices are not configured.
pub const UNMAPPED_PLAN: &str = "unmapped";
