//! Where events wait and where state lives: the [`ports`], and their adapters behind features.
//!
//! | feature | adapter |
//! |---|---|
//! | `rabbitmq` | the queue on RabbitMQ |
//! | `redis` | the store on Redis (single, Sentinel, Cluster) |
//! | `sqlite` | queue and store in one SQLite file |
//!
//! Invariant: an adapter knows nothing of rules or of Stripe; one contract suite holds for all of them.

pub mod journal;
pub mod ports;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "sqlite")]
pub mod sqlite;
