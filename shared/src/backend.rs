//! Which adapters stand behind the ports: RabbitMQ and Redis where both are configured, else SQLite.

use std::sync::Arc;

use crate::config::Config;
use crate::ports::{EventQueue, QueueError, StateStore, StoreError};
use crate::sqlite::{Open, Sqlite};

/// Queue and store.
#[derive(Clone)]
pub struct Backend {
    /// Where deliveries wait.
    pub queue: Arc<dyn EventQueue>,
    /// Where state lives.
    pub store: Arc<dyn StateStore>,
    /// For people: `embedded` or `rabbitmq + redis`.
    pub name: &'static str,
}

/// A backend could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Backend {
    /// Opens queue and store to serve with, creating what is missing.
    pub async fn open(config: &Config) -> Result<Self, BackendError> {
        let sqlite = Sqlite::open(&config.data, Open::Create { partitions: config.partitions })?;
        Ok(Self { queue: Arc::new(sqlite.clone()), store: Arc::new(sqlite), name: "embedded" })
    }

    /// Opens the store alone, to look at what is there.
    pub async fn store(config: &Config) -> Result<Arc<dyn StateStore>, BackendError> {
        Ok(Arc::new(Sqlite::open(&config.data, Open::Existing)?))
    }

    /// Opens the queue alone, to look at what is there.
    pub async fn queue(config: &Config) -> Result<Arc<dyn EventQueue>, BackendError> {
        Ok(Arc::new(Sqlite::open(&config.data, Open::Existing)?))
    }
}
