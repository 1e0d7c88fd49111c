//! Read models: what commands, and any other interface, show of entities, alerts, business
//! metrics and verifications, as rows of a table or as JSON. Interfaces fetch, call a function from
//! here, and print.

pub mod alert;
pub mod alert_details;
pub mod alert_history;
pub mod alert_report;
pub mod column;
pub mod entity;
pub mod field;
pub mod kpi;
mod text;
pub mod verification;

pub use self::text::{NOT_KNOWN, rfc3339};
