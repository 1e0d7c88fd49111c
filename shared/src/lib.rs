//! What revwatch's roles share.
//!
//! The pure part says what events mean: [`event`], [`observe`], [`entity`], [`counters`],
//! [`condition`], [`kpi`], [`money`], [`pauses`], [`recount`], [`signature`]. It knows no clock, no randomness and no I/O; a
//! test checks that. The rest connects it to the world: [`ports`] and their adapters ([`sqlite`],
//! [`rabbitmq`], [`redis`]), [`config`], [`telemetry`], [`listen`],
//! [`bounded`], [`admin`], [`reload`], [`supervise`], [`egress`].

pub mod admin;
pub mod backend;
pub mod bounded;
pub mod condition;
pub mod config;
pub mod counters;
pub mod egress;
pub mod entity;
pub mod event;
pub mod histogram;
pub mod journal;
pub mod kpi;
pub mod listen;
pub mod money;
pub mod observe;
pub mod pauses;
pub mod ports;
pub mod process;
pub mod rabbitmq;
pub mod recount;
pub mod redis;
pub mod reload;
pub mod signature;
pub mod span;
pub mod sqlite;
pub mod supervise;
pub mod telemetry;
