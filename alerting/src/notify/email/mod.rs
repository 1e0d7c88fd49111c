//! Email over SMTP: one mail when an alert fires, one when it resolves, and one per notice, in one
//! thread.

mod bounded_stream;
mod config;
mod letter;
mod server;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lettre::message::Mailbox;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Severity;
use revwatch_runtime::config::{Config, EmailConfig};
use tokio::time::timeout;

use self::config::{Settings, address};
use self::server::{Server, cause};
use super::partial_deliveries::PartialDeliveries;
use super::recipients::Recipients;
use super::{
    ATTEMPT_TIMEOUT, Capabilities, Configured, EgressClient, Lookup, Notifier, Outcome, SetupError,
    boxed,
};
use crate::message::Message;

/// Sends mails.
pub struct Email {
    server: Server,
    from: Mailbox,
    domain: String,
    to: Recipients<Mailbox>,
    delivered: PartialDeliveries,
    per_second: f64,
}

/// The server's replies about the recipients: whom it accepted, and how many it refused.
#[derive(Default)]
struct RecipientReplies {
    mailboxes: Vec<Mailbox>,
    deferred: usize,
    refused: usize,
}

/// See [`Email::configured`].
pub(super) fn configured(config: &Config, _: &EgressClient, per_second: f64) -> Configured {
    boxed(Email::configured(&config.email, per_second)?)
}

impl Email {
    /// `None` if nothing of it is configured. `per_second` are messages.
    pub fn configured(config: &EmailConfig, per_second: f64) -> Result<Option<Self>, SetupError> {
        let Some(Settings { server, from, to }) = Settings::new(config)? else {
            return Ok(None);
        };
        let domain = from.email.domain().to_ascii_lowercase();
        Ok(Some(Self {
            server,
            from,
            domain,
            to,
            delivered: PartialDeliveries::default(),
            per_second,
        }))
    }

    /// Runs the complete SMTP session; `is_handed_over` is set before the mail itself is sent.
    async fn send(&self, message: &Message, is_handed_over: &AtomicBool) -> Outcome {
        let (list, recipients) = self.to.for_route(&message.route);
        let id = letter::id(message, &self.domain);
        let delivered = self.delivered.receipts(&id);
        let pending: Vec<&Mailbox> = recipients
            .iter()
            .filter(|m| !delivered.contains_key(address(m)))
            .collect();
        let mail = match letter::letter(message, &self.from, recipients, &self.domain) {
            Ok(mail) => mail.formatted(),
            Err(error) => {
                return Outcome::Failed {
                    reason: format!("the mail cannot be composed: {error}"),
                    permanent: true,
                };
            }
        };
        let mut connection = match self
            .server
            .connect(&ClientId::Domain(self.domain.clone()))
            .await
        {
            Ok(connection) => connection,
            Err(outcome) => return outcome,
        };
        let replies = match self.offer(&mut connection, &pending, list).await {
            Ok(replies) => replies,
            Err(outcome) => return outcome,
        };
        if replies.mailboxes.is_empty() {
            return self.outcome(&id, list, &replies, !delivered.is_empty());
        }
        if let Err(error) = connection.command(Data).await {
            return self.server.failed("handing over", &error, "[email]");
        }
        is_handed_over.store(true, Ordering::Relaxed);
        match connection.message(&mail).await {
            Ok(answer) if answer.code().severity == Severity::PositiveCompletion => {}
            Ok(answer) => {
                let reason = format!("{}, the mail: answered {}", self.server, answer.code());
                return Outcome::Unknown { reason };
            }
            // An answer means that the mail was refused.
            Err(error) if error.status().is_some() => {
                return self.server.failed("the mail", &error, "[email]");
            }
            Err(error) => {
                return Outcome::Unknown {
                    reason: format!("{}, the mail: {}", self.server, cause(&error)),
                };
            }
        }
        for mailbox in &replies.mailboxes {
            self.delivered
                .remember(&id, address(mailbox), String::new());
        }
        // The mail was accepted; whether QUIT succeeds does not matter.
        tokio::spawn(async move {
            timeout(Duration::from_secs(1), connection.quit())
                .await
                .is_ok()
        });
        self.outcome(&id, list, &replies, true)
    }

    /// Sends the sender and the recipients. A refused recipient does not block the others.
    async fn offer(
        &self,
        connection: &mut AsyncSmtpConnection,
        to: &[&Mailbox],
        list: &str,
    ) -> Result<RecipientReplies, Outcome> {
        let sender = Mail::new(Some(self.from.email.clone()), Vec::new());
        connection
            .command(sender)
            .await
            .map_err(|error| self.server.failed("the sender", &error, "email.from"))?;
        let mut replies = RecipientReplies::default();
        for mailbox in to {
            match connection
                .command(Rcpt::new(mailbox.email.clone(), Vec::new()))
                .await
            {
                Ok(_) => replies.mailboxes.push((*mailbox).clone()),
                Err(error) if error.is_permanent() => replies.refused += 1,
                Err(error) if error.is_transient() => replies.deferred += 1,
                Err(error) => {
                    return Err(self.server.failed(
                        &format!("recipients of [email.to] {list}"),
                        &error,
                        "[email]",
                    ));
                }
            }
        }
        Ok(replies)
    }

    /// The outcome; `is_delivered` means that at least one recipient has the mail.
    fn outcome(
        &self,
        id: &str,
        list: &str,
        replies: &RecipientReplies,
        is_delivered: bool,
    ) -> Outcome {
        let RecipientReplies {
            refused, deferred, ..
        } = *replies;
        if deferred > 0 {
            let reason = format!(
                "the mail server temporarily refuses {deferred} recipients of [email.to] {list}"
            );
            return Outcome::Failed {
                reason,
                permanent: false,
            };
        }
        if !is_delivered {
            let reason = format!("the mail server refuses all recipients: check [email.to] {list}");
            return Outcome::Failed {
                reason,
                permanent: true,
            };
        }
        if refused > 0 {
            tracing::warn!(
                list,
                refused,
                "the mail server refuses some recipients; the others have the mail: check [email.to]"
            );
        }
        self.delivered.forget(id);
        Outcome::Delivered {
            receipt: Some(id.to_owned()),
        }
    }
}

#[async_trait]
impl Notifier for Email {
    fn name(&self) -> &'static str {
        "email"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            edits: false,
            resolves: true,
        }
    }

    fn destination(&self, route: &str) -> String {
        format!("email {}", self.to.for_route(route).0)
    }

    fn per_second(&self) -> f64 {
        self.per_second
    }

    fn partial_deliveries(&self) -> Option<&PartialDeliveries> {
        Some(&self.delivered)
    }

    fn is_partly_delivered(&self, message: &Message) -> bool {
        let id = letter::id(message, &self.domain);
        self.delivered.is_partly_delivered(&id)
    }

    async fn probe(&self) -> Option<Result<(), String>> {
        let id = ClientId::Domain(self.domain.clone());
        // Boxed: TLS makes the future large.
        let connecting = Box::pin(self.server.connect(&id));
        Some(match timeout(ATTEMPT_TIMEOUT, connecting).await {
            Ok(Ok(mut connection)) => {
                let _ = timeout(Duration::from_secs(1), connection.quit()).await;
                Ok(())
            }
            Ok(Err(outcome)) => Err(outcome.reason()),
            Err(_) => Err(self.server.silent()),
        })
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        let id = letter::id(message, &self.domain);
        self.delivered.begin(&id);
        let is_handed_over = AtomicBool::new(false);
        // Boxed: TLS makes the future large.
        let sending = Box::pin(self.send(message, &is_handed_over));
        let sent = timeout(ATTEMPT_TIMEOUT, sending).await;
        let outcome = sent.unwrap_or_else(|_| {
            let reason = self.server.silent();
            if is_handed_over.load(Ordering::Relaxed) {
                Outcome::Unknown { reason }
            } else {
                Outcome::Failed {
                    reason,
                    permanent: false,
                }
            }
        });
        self.delivered.end(&id, &outcome);
        outcome
    }

    /// Mails cannot be searched for. As long as it is remembered who has this one, the others lack it.
    async fn find(&self, message: &Message) -> Lookup {
        let id = letter::id(message, &self.domain);
        if self.delivered.is_complete(&id) {
            Lookup::Absent
        } else {
            Lookup::Inconclusive
        }
    }
}
