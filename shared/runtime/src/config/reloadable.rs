//! Which settings a running process takes over.

use super::channels::CHANNELS;

/// Tables and keys that a running process reloads, with those of [`CHANNELS`]. Everything else needs
/// a restart.
const RELOADABLE: [&str; 9] = [
    "stripe_webhook_secret",
    "stripe_kernel_webhook_secret",
    "app_webhook_secret",
    "stripe_secret_key",
    "stripe_api_base",
    "endpoints",
    "rules",
    "alerting",
    "egress",
];

/// Whether a running process applies a new value of this key.
pub(super) fn is_reloadable(path: &[String]) -> bool {
    let Some(first) = path.first().map(String::as_str) else {
        return false;
    };
    match CHANNELS.iter().find(|channel| channel.name == first) {
        Some(channel) => !channel.startup_only.iter().any(|keys| path == *keys),
        None => RELOADABLE.contains(&first),
    }
}
