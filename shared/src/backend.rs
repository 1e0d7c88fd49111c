//! Which adapters stand behind the ports: RabbitMQ and Redis where both are configured, else SQLite.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use crate::config::{Config, ConfigError};
use crate::ports::{EventQueue, QueueError, StateStore, StoreError};
use crate::rabbitmq::{RabbitOptions, RabbitQueue};
use crate::redis::RedisStore;
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
    /// What of the URLs cannot be understood; asks nobody.
    pub fn check(config: &Config) -> Result<(), ConfigError> {
        let Some((amqp_url, redis_url)) = config.servers() else { return Ok(()) };
        let queue = RabbitQueue::check_url(amqp_url).err().map(|error| error.to_string());
        let store = RedisStore::check_url(redis_url).err().map(|error| error.to_string());
        ConfigError::none_of(queue.into_iter().chain(store).collect())
    }

    /// Opens queue and store to serve with, creating what is missing.
    pub async fn open(config: &Config) -> Result<Self, BackendError> {
        let Some((amqp_url, redis_url)) = config.servers() else {
            let sqlite = Sqlite::open(&config.data, Open::Create { partitions: config.partitions })?;
            return Ok(Self { queue: Arc::new(sqlite.clone()), store: Arc::new(sqlite), name: "embedded" });
        };
        // The store first: it knows with how many partitions the deployment was created.
        let store = RedisStore::connect(redis_url, config.partitions).await?;
        let queue = rabbitmq(config, amqp_url).await?;
        Ok(Self { queue: Arc::new(queue), store: Arc::new(store), name: "rabbitmq + redis" })
    }

    /// Opens the store alone, to look at what is there.
    pub async fn store(config: &Config) -> Result<Arc<dyn StateStore>, BackendError> {
        Ok(match config.servers() {
            Some((_, redis_url)) => Arc::new(RedisStore::connect(redis_url, config.partitions).await?),
            None => Arc::new(Sqlite::open(&config.data, Open::Existing)?),
        })
    }

    /// Opens the queue alone, to look at what is there.
    pub async fn queue(config: &Config) -> Result<Arc<dyn EventQueue>, BackendError> {
        Ok(match config.servers() {
            Some((amqp_url, _)) => Arc::new(rabbitmq(config, amqp_url).await?),
            None => Arc::new(Sqlite::open(&config.data, Open::Existing)?),
        })
    }
}

async fn rabbitmq(config: &Config, url: &SecretString) -> Result<RabbitQueue, QueueError> {
    // Under load a message holds several deliveries: enough for a batch to be under way and another to be ready.
    let prefetch = u16::try_from(config.worker.batch / 2).unwrap_or(u16::MAX).max(1);
    RabbitQueue::connect(RabbitOptions {
        url: url.clone(),
        partitions: config.partitions,
        publish_timeout: Duration::from_secs_f64(config.limits.publish_seconds),
        prefetch,
        name: format!("revwatch {}", std::process::id()),
    })
    .await
}
