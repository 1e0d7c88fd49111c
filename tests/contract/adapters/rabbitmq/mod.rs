//! RabbitMQ: what only a broker can suffer, and what only it promises.

mod archive;
mod broker;
mod cluster;
mod messages;
mod setup;
mod topology;

pub(crate) use self::setup::RabbitMq;
