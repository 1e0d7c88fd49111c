//! Ids of the platform's own application.

use serde::{Deserialize, Serialize};

/// What an object's `metadata` says about the platform's own application. The newest event decides:
/// metadata can be changed and removed. The order of the fields is the order of two of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ApplicationIds {
    /// Unix seconds of the event.
    pub at_s: i64,
    /// The application that the object is for.
    pub app_id: Option<String>,
    /// The user of the application that it is for.
    pub user_id: Option<String>,
}
