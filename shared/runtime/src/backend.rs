//! The adapters behind the ports: RabbitMQ and Redis if they are configured, otherwise SQLite.
//!
//! With the feature `store` all of them can be opened; without it only RabbitMQ, for a process that
//! only publishes.

use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "store")]
use revwatch_storage::ports::{EventQueue, StateStore};
use revwatch_storage::ports::{QueueError, StoreError};
use revwatch_storage::rabbitmq::{RabbitOptions, RabbitQueue};
#[cfg(feature = "store")]
use revwatch_storage::redis::RedisStore;
#[cfg(feature = "store")]
use revwatch_storage::sqlite::{Open, Sqlite};

use crate::config::{Config, ConfigError, Fault, Faults, SecretString};

/// Queue and store.
#[cfg(feature = "store")]
#[derive(Clone)]
pub struct Backend {
    /// Where deliveries wait.
    pub queue: Arc<dyn EventQueue>,
    /// Where state lives.
    pub store: Arc<dyn StateStore>,
}

/// The backends a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uses {
    /// Only the queue: a process whose one role is `ingest`.
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
    /// Reports missing or invalid URLs; contacts no server.
    pub fn check(self, config: &Config) -> Result<(), ConfigError> {
        let mut faults = Faults::default();
        match self {
            Self::Queue => drop(faults.of(config.queue_server())),
            Self::QueueAndStore => drop(faults.of(config.servers())),
        }
        if let Some(Err(error)) = config.amqp_url.as_ref().map(RabbitQueue::check_url) {
            let what = match error {
                QueueError::Misconfigured(what) => what,
                error => error.to_string(),
            };
            faults.add(Fault::from(what).about(["amqp_url"]));
        }
        if self == Self::QueueAndStore
            && let Some(Err(why)) = config.redis_url.as_ref().map(check_redis_url)
        {
            faults.add(Fault::from(why).about(["redis_url"]));
        }
        faults.none()
    }

    /// A name for logs: `embedded` or the servers.
    pub fn name(self, config: &Config) -> &'static str {
        match self {
            _ if config.amqp_url.is_none() => "embedded",
            Self::Queue => "rabbitmq",
            Self::QueueAndStore => "rabbitmq + redis",
        }
    }
}

#[cfg(feature = "store")]
fn check_redis_url(url: &SecretString) -> Result<(), String> {
    RedisStore::check_url(url).map_err(|error| match error {
        StoreError::Misconfigured(what) => what,
        error => error.to_string(),
    })
}

#[cfg(not(feature = "store"))]
fn check_redis_url(_: &SecretString) -> Result<(), String> {
    Err("this program has no support for Redis".to_owned())
}

/// The URL of RabbitMQ, for a program that does not work without it.
pub fn required_rabbitmq(config: &Config) -> Result<&SecretString, ConfigError> {
    config.queue_server()?.ok_or_else(|| {
        let what = "is not set: a process whose one role is ingest publishes to RabbitMQ; write it like \
                    amqp://user:password@host:5672/virtual-host. On one machine run `revwatch`, which runs all roles \
                    on an embedded store";
        ConfigError::of(Fault::of("amqp_url (REVWATCH_AMQP_URL)", what))
    })
}

/// Opens RabbitMQ for publishing, creating what is missing. Redis is neither needed nor contacted:
/// RabbitMQ itself refuses a number of partitions other than the one it was set up for.
pub async fn open_rabbitmq(config: &Config) -> Result<Arc<RabbitQueue>, BackendError> {
    let amqp_url = required_rabbitmq(config)?;
    Ok(Arc::new(rabbitmq(config, amqp_url).await?))
}

#[cfg(feature = "store")]
impl Backend {
    /// Opens queue and store for serving, creating what is missing.
    pub async fn open(config: &Config) -> Result<Self, BackendError> {
        let Some((amqp_url, redis_url)) = config.servers()? else {
            let sqlite = created(config)?;
            return Ok(Self {
                queue: Arc::new(sqlite.clone()),
                store: Arc::new(sqlite),
            });
        };
        // The store first: with a wrong number of partitions, an empty RabbitMQ must not be set up
        // for it.
        let store = RedisStore::connect(redis_url, config.partitions).await?;
        let queue = rabbitmq(config, amqp_url).await?;
        Ok(Self {
            queue: Arc::new(queue),
            store: Arc::new(store),
        })
    }

    /// Opens queue and store for a command. An embedded store must exist.
    pub async fn existing(config: &Config) -> Result<Self, BackendError> {
        if config.servers()?.is_some() {
            return Self::open(config).await;
        }
        let sqlite = Sqlite::open(&config.data, Open::Existing)?;
        Ok(Self {
            queue: Arc::new(sqlite.clone()),
            store: Arc::new(sqlite),
        })
    }

    /// Opens only the queue, for publishing, creating what is missing.
    pub async fn intake(config: &Config) -> Result<Arc<dyn EventQueue>, BackendError> {
        Ok(match config.queue_server()? {
            Some(amqp_url) => Arc::new(rabbitmq(config, amqp_url).await?),
            None => Arc::new(created(config)?),
        })
    }

    /// Opens only the store, for a command. An embedded one must exist.
    pub async fn store(config: &Config) -> Result<Arc<dyn StateStore>, BackendError> {
        Ok(match config.servers()? {
            Some((_, redis_url)) => {
                Arc::new(RedisStore::connect(redis_url, config.partitions).await?)
            }
            None => Arc::new(Sqlite::open(&config.data, Open::Existing)?),
        })
    }

    /// Opens only the queue, for a command. An embedded one must exist.
    pub async fn queue(config: &Config) -> Result<Arc<dyn EventQueue>, BackendError> {
        Ok(match config.servers()? {
            Some((amqp_url, _)) => Arc::new(rabbitmq(config, amqp_url).await?),
            None => Arc::new(Sqlite::open(&config.data, Open::Existing)?),
        })
    }
}

/// Whether [`Backend::open`] could open an embedded store: of its folder, its file and its number of partitions. Makes
/// nothing.
#[cfg(feature = "store")]
pub fn check_embedded(config: &Config) -> Result<(), StoreError> {
    match config.amqp_url {
        Some(_) => Ok(()),
        None => Sqlite::check(&config.data, config.partitions),
    }
}

#[cfg(feature = "store")]
fn created(config: &Config) -> Result<Sqlite, StoreError> {
    Sqlite::open(
        &config.data,
        Open::Create {
            partitions: config.partitions,
        },
    )
}

async fn rabbitmq(config: &Config, url: &SecretString) -> Result<RabbitQueue, QueueError> {
    // Under load a message holds several deliveries: enough for some batches whose relays are not written yet, and
    // another one ready.
    let prefetch = u16::try_from(config.worker.batch)
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
