//! The settings of email, checked.

use lettre::message::Mailbox;
use revwatch_runtime::config::EmailConfig;

use super::super::recipients::Recipients;
use super::super::{SetupError, complete};
use super::server::{self, Server};

/// Valid settings.
pub struct Settings {
    pub server: Server,
    pub from: Mailbox,
    pub to: Recipients<Mailbox>,
}

impl Settings {
    /// `None` if nothing is configured.
    pub fn new(config: &EmailConfig) -> Result<Option<Self>, SetupError> {
        let has_recipients = config.to.values().any(|list| !list.is_empty());
        let parts = [
            (server::SETTING, config.smtp_url.is_some()),
            ("email.from", !config.from.trim().is_empty()),
            ("a list of addresses in [email.to]", has_recipients),
        ];
        complete("email", &parts)?;
        let Some(url) = &config.smtp_url else {
            return Ok(None);
        };
        let from = mailbox(&config.from).ok_or_else(|| {
            let example = "write it like \"revwatch <alerts@example.com>\"";
            SetupError::Invalid(format!("email.from is not an address: {example}"))
        })?;
        let address = |text: &str, place: &str| {
            mailbox(text).ok_or_else(|| format!("{place} is not an address"))
        };
        Ok(Some(Self {
            server: Server::new(url)?,
            from,
            to: Recipients::new("email.to", "an address", &config.to, address)?,
        }))
    }
}

/// An address with or without a name. Only ASCII: few servers accept others (SMTPUTF8).
fn mailbox(text: &str) -> Option<Mailbox> {
    let mailbox: Mailbox = text.trim().parse().ok()?;
    address(&mailbox).is_ascii().then_some(mailbox)
}

/// The address alone.
pub fn address(mailbox: &Mailbox) -> &str {
    mailbox.email.as_ref()
}
