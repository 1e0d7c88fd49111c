//! Where events wait and where state lives: the [`ports`], and their adapters behind features.
//!
//! | feature | adapter |
//! |---|---|
//! | `rabbitmq` | the queue on RabbitMQ |
//! | `redis` | the store on Redis (single, Sentinel, Cluster) |
//! | `sqlite` | queue and store in one SQLite file |
//! | `memory` | queue and store in memory, with failures on request: for tests and simulations |
//!
//! Invariant: an adapter knows neither rules nor Stripe; one contract suite covers all of them.

pub mod connection_failure;
pub mod failure_log;
pub mod gaps;
pub mod journal;
#[cfg(any(feature = "memory", feature = "rabbitmq", feature = "redis"))]
mod lock;
#[cfg(feature = "memory")]
pub mod memory;
pub mod ports;
pub mod private;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
#[cfg(any(feature = "rabbitmq", feature = "redis"))]
mod reconnecting;
#[cfg(feature = "redis")]
pub mod redis;
pub mod server_url;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod system;
