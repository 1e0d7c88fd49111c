//! What tests need to run: private servers that die with the test, the binary, a Slack and a Stripe of our
//! own, and a business to tell about.

pub(crate) mod history;
pub(crate) mod providers;
pub(crate) mod rabbitmq;
pub(crate) mod redis;
pub(crate) mod revwatch;
pub(crate) mod slack;
pub(crate) mod stripe;
pub(crate) mod wait;
