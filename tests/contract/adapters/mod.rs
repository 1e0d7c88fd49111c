//! Where each adapter keeps its data during a test, and what it promises beyond its ports.

mod memory;
mod rabbitmq;
mod redis;
mod sqlite;

pub(crate) use self::memory::Memory;
pub(crate) use self::rabbitmq::RabbitMq;
pub(crate) use self::redis::{SharedCluster, SingleRedis};
pub(crate) use self::sqlite::SqliteFile;
