//! What Stripe's events mean. Pure: no clock, no randomness, no I/O; time is an argument.
//!
//! [`event`] reads the envelope, [`observe`] says which entities learn what from an event, [`entity`] merges
//! observations in any order. [`counters`], [`condition`] and [`kpi`] are functions of entities; [`recount`]
//! computes them again to compare.
//!
//! Invariant: this crate depends on no runtime and no client. Any permutation and repetition of the same events
//! gives entities that encode to the same bytes.

pub mod condition;
pub mod counters;
pub mod entity;
pub mod event;
pub mod histogram;
pub mod kpi;
pub mod money;
pub mod observe;
pub mod pauses;
pub mod recount;
pub mod redact;
pub mod signature;
pub mod span;
