//! The meaning of Stripe's events. Pure: no clock, no randomness, no I/O; time is an argument.
//! [`clock`] declares the clock and the ids that code with effects takes.
//!
//! [`event`] parses the envelope, [`observe`] derives from an event what it says about which
//! entities, [`entity`] merges these observations in any order. [`counters`], [`condition`] and
//! [`kpi`] are functions of entities; [`recount`] computes them again to verify a store, and
//! [`correction`] to convert one. [`alert`] has
//! the documents of alerting. [`view`] is what interfaces show of all this.
//!
//! Invariant: this crate depends on no runtime and no client. Any permutation and repetition of the
//! same events gives entities that encode to the same bytes.

// What a sender sends must neither panic nor wrap. Where a sum may be too large, use `counters::add`, or checked or
// saturating operations.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

pub mod alert;
pub mod amounts;
pub mod app_event;
pub mod backoff;
pub mod bucket;
pub mod class;
pub mod clock;
pub mod condition;
pub mod correction;
pub mod counters;
pub mod currency;
pub mod durations;
pub mod entity;
pub mod event;
pub mod event_bounds;
pub mod event_endpoint;
pub mod event_family;
pub mod event_settings;
pub mod histogram;
mod json_text;
pub mod kpi;
pub mod mode;
pub mod money;
pub mod need;
pub mod neutral;
pub mod observe;
pub mod pauses;
pub mod realm;
pub mod recount;
pub mod redact;
pub mod relay;
pub mod requirement;
pub mod signature;
pub mod source;
pub mod standard_webhooks;
pub mod view;
