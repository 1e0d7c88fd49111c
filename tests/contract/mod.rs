//! What every adapter of a port must do.

mod memory;
mod queue;
mod rabbitmq_queue;
mod sqlite_queue;
mod store;
