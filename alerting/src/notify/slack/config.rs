//! What the settings of Slack mean together.

use revwatch_runtime::config::{ConfigError, Fault, SlackConfig};

/// Whether interactions (pressed buttons) are received.
pub fn is_interactive(config: &SlackConfig) -> bool {
    config.signing_secret.is_some() || config.app_token.is_some()
}

/// A secret or token for interactions without a way to post messages is a partial configuration.
pub fn check_without_notifier(slack: &SlackConfig) -> Result<(), ConfigError> {
    let given = match (&slack.signing_secret, &slack.app_token) {
        (Some(_), _) => "slack.signing_secret (SLACK_SIGNING_SECRET)",
        (None, Some(_)) => "slack.app_token (SLACK_APP_TOKEN)",
        (None, None) => return Ok(()),
    };
    let what = format!(
        "Slack is only partly configured: {given} is set, but nothing to post messages with: set SLACK_BOT_TOKEN (or \
         SLACK_WEBHOOK_URL), or unset it"
    );
    let missing = ["slack.bot_token", "slack.webhook_url"];
    Err(ConfigError::of(
        Fault::from(what).about([given].into_iter().chain(missing)),
    ))
}
