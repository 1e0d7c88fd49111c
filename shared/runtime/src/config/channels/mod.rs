//! Settings of the notifiers, one file each. A notifier is enabled by its secret; an incomplete
//! configuration is refused at startup, by the notifier itself.

mod channel;
mod email;
mod pagerduty;
mod slack;
mod sms;
mod webhook;

use self::channel::Channel;
pub(super) use self::channel::check_credential;
pub use self::email::EmailConfig;
pub use self::pagerduty::PagerDutyConfig;
pub use self::slack::SlackConfig;
pub use self::sms::SmsConfig;
pub use self::webhook::WebhookConfig;

/// Every notifier that has settings, in order of preference.
pub(super) const CHANNELS: [&Channel; 5] = [
    &slack::CHANNEL,
    &email::CHANNEL,
    &sms::CHANNEL,
    &pagerduty::CHANNEL,
    &webhook::CHANNEL,
];

/// The names that `notify` may use, in order of preference. The log needs no settings.
pub const NOTIFIERS: [&str; CHANNELS.len() + 1] = {
    let mut names = ["log"; CHANNELS.len() + 1];
    let mut index = 0;
    while index < CHANNELS.len() {
        names[index] = CHANNELS[index].name;
        index += 1;
    }
    names
};
