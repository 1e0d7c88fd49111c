//! Which adapters stand behind the ports: RabbitMQ and Redis where they are configured, else SQLite.

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
}

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uses {
    /// The queue alone: the `ingest` role by itself.
    Queue,
    /// Queue and store: every other role.
    QueueAndStore,
}

/// A backend could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// A setting is missing.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Uses {
    /// What of the URLs is missing or cannot be understood; asks no server.
    pub fn check(self, config: &Config) -> Result<(), ConfigError> {
        let (amqp_url, redis_url) = match self {
            Self::Queue => (config.queue_server()?, None),
            Self::QueueAndStore => config.servers()?.unzip(),
        };
        let queue = amqp_url
            .and_then(|url| RabbitQueue::check_url(url).err())
            .map(|error| error.to_string());
        let store = redis_url
            .and_then(|url| RedisStore::check_url(url).err())
            .map(|error| error.to_string());
        ConfigError::none_of(queue.into_iter().chain(store).collect())
    }

    /// For people: `embedded` or the servers.
    pub fn name(self, config: &Config) -> &'static str {
        match self {
            _ if config.amqp_url.is_none() => "embedded",
            Self::Queue => "rabbitmq",
            Self::QueueAndStore => "rabbitmq + redis",
        }
    }
}

impl Backend {
    /// Opens queue and store to serve with, creating what is missing.
    pub async fn open(config: &Config) -> Result<Self, BackendError> {
        let Some((amqp_url, redis_url)) = config.servers()? else {
            let sqlite = created(config)?;
            return Ok(Self {
                queue: Arc::new(sqlite.clone()),
                store: Arc::new(sqlite),
            });
        };
        // The store first: with a wrong number of partitions a RabbitMQ that is still empty is not set up for it.
        let store = RedisStore::connect(redis_url, config.partitions).await?;
        let queue = rabbitmq(config, amqp_url).await?;
        Ok(Self {
            queue: Arc::new(queue),
            store: Arc::new(store),
        })
    }

    /// Opens the queue alone to publish into, creating what is missing. Redis is neither needed nor asked: RabbitMQ
    /// itself refuses another number of partitions than it was set up for.
    pub async fn intake(config: &Config) -> Result<Arc<dyn EventQueue>, BackendError> {
        Ok(match config.queue_server()? {
            Some(amqp_url) => Arc::new(rabbitmq(config, amqp_url).await?),
            None => Arc::new(created(config)?),
        })
    }

    /// Opens the store alone, to look at what is there.
    pub async fn store(config: &Config) -> Result<Arc<dyn StateStore>, BackendError> {
        Ok(match config.servers()? {
            Some((_, redis_url)) => {
                Arc::new(RedisStore::connect(redis_url, config.partitions).await?)
            }
            None => Arc::new(Sqlite::open(&config.data, Open::Existing)?),
        })
    }

    /// Opens the queue alone, to look at what is there.
    pub async fn queue(config: &Config) -> Result<Arc<dyn EventQueue>, BackendError> {
        Ok(match config.servers()? {
            Some((amqp_url, _)) => Arc::new(rabbitmq(config, amqp_url).await?),
            None => Arc::new(Sqlite::open(&config.data, Open::Existing)?),
        })
    }
}

fn created(config: &Config) -> Result<Sqlite, StoreError> {
    Sqlite::open(
        &config.data,
        Open::Create {
            partitions: config.partitions,
        },
    )
}

async fn rabbitmq(config: &Config, url: &SecretString) -> Result<RabbitQueue, QueueError> {
    // Under load a message holds several deliveries: enough for a batch to be under way and another to be ready.
    let prefetch = u16::try_from(config.worker.batch / 2)
        .unwrap_or(u16::MAX)
        .max(1);
    RabbitQueue::connect(RabbitOptions {
        url: url.clone(),
        partitions: config.partitions,
        publish_timeout: Duration::from_secs_f64(config.limits.publish_seconds),
        prefetch,
        name: format!("revwatch {}", std::process::id()),
    })
    .await
}
