//! Slack actions.
pub mod payload;
pub mod signature;
