//! The settings of email, checked.

use lettre::message::Mailbox;
use revwatch_runtime::config::{ConfigError, EmailConfig, Fault, Faults};

use super::super::complete;
use super::super::recipients::Recipients;
use super::server::{self, Server};

/// Valid settings.
pub struct Settings {
    pub server: Server,
    pub from: Mailbox,
    pub to: Recipients<Mailbox>,
}

impl Settings {
    /// `None` if nothing is configured. Errors name every fault.
    pub fn new(config: &EmailConfig) -> Result<Option<Self>, ConfigError> {
        let has_sender = !config.from.trim().is_empty();
        let has_recipients = config.to.values().any(|list| !list.is_empty());
        let parts = [
            (server::SETTING, config.smtp_url.is_some()),
            ("email.from", has_sender),
            ("email.to (a list of addresses)", has_recipients),
        ];
        let mut faults = Faults::default();
        faults.of(complete("email", &parts));
        let server = config.smtp_url.as_ref();
        let server = server.and_then(|url| faults.of(Server::new(url)));
        let from = mailbox(&config.from);
        if has_sender && from.is_none() {
            let what = "is not an address: write it like \"revwatch <alerts@example.com>\"";
            faults.add(Fault::of("email.from", what));
        }
        let address = |text: &str, place: &str| {
            mailbox(text).ok_or_else(|| {
                format!("{place} is not an address: write it like ana@example.com, in ASCII (a domain as xn--…)")
            })
        };
        let to = has_recipients.then(|| {
            faults.of(Recipients::new(
                "email.to",
                "an address",
                &config.to,
                address,
            ))
        });
        faults.none()?;
        Ok(match (server, from, to.flatten()) {
            (Some(server), Some(from), Some(to)) => Some(Self { server, from, to }),
            _ => None,
        })
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
