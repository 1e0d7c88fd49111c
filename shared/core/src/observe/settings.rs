//! What the settings say about reading objects.

use super::metadata::MetadataKeys;
use super::plans::Plans;

/// How objects are read.
#[derive(Debug, Clone, Default)]
pub struct ObserveSettings {
    /// The names of plans.
    pub plans: Plans,
    /// The keys of the platform's own ids.
    pub metadata: MetadataKeys,
}

impl From<Plans> for ObserveSettings {
    fn from(plans: Plans) -> Self {
        Self {
            plans,
            ..Self::default()
        }
    }
}
