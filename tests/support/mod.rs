//! What tests need to run: private servers that die with the test, the binary, a Slack of our own.

pub(crate) mod rabbitmq;
pub(crate) mod redis;
pub(crate) mod wait;
