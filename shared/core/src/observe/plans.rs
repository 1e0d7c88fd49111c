//! The names of plans.

use std::collections::BTreeMap;

use super::fields::Reference;
use super::prices::Price;
use crate::class::Owner;

/// Plan names by price id, product id or lookup key (R1). A connected account chooses the ids and keys of
/// its prices, so the platform's names are not for them.
#[derive(Debug, Clone, Default)]
pub struct Plans {
    /// Those of the platform's prices.
    pub platform: BTreeMap<String, String>,
    /// Those of the connected accounts' prices.
    pub connected: BTreeMap<String, String>,
}

impl Plans {
    /// Of the platform's prices, as configured under `[plans]`.
    pub fn new(platform: BTreeMap<String, String>) -> Self {
        Self {
            platform,
            ..Self::default()
        }
    }

    pub(super) fn name(&self, price: &Price, owner: Owner) -> Option<&str> {
        let names = match owner {
            Owner::Platform => &self.platform,
            Owner::Connected => &self.connected,
        };
        let product = price.product.as_known().map(Reference::id);
        let id = price.id.as_known().map(String::as_str);
        let lookup_key = price.lookup_key.as_known().map(String::as_str);
        let keys = [id, lookup_key, product];
        keys.into_iter()
            .flatten()
            .find_map(|key| names.get(key))
            .map(String::as_str)
    }
}

/// The plan of a subscription whose prices are not configured.
pub const UNMAPPED_PLAN: &str = "unmapped";
