//! The environment of tests: private servers that end with the test, the binary, simulated Slack
//! and Stripe APIs, and a business as events.

pub(crate) mod collector;
pub(crate) mod echo_server;
pub(crate) mod history;
pub(crate) mod localstripe;
pub(crate) mod mail;
pub(crate) mod port;
pub(crate) mod prometheus;
pub(crate) mod providers;
pub(crate) mod rabbitmq;
pub(crate) mod redis;
pub(crate) mod revwatch;
pub(crate) mod slack;
pub(crate) mod stripe;
pub(crate) mod wait;

/// Whether `tests/run --long` requests the long runs too.
#[expect(
    clippy::disallowed_methods,
    reason = "no setting of revwatch: it is about the tests themselves"
)]
pub(crate) fn is_long() -> bool {
    std::env::var_os("REVWATCH_LONG_TESTS").is_some_and(|value| !value.is_empty())
}
