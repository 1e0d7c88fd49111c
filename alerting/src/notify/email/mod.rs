//! Email over SMTP: one mail when an alert fires, one when it is over, one per notice, as one thread.

mod letter;
mod server;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lettre::message::Mailbox;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use revwatch_shared::config::EmailConfig;
use tokio::time::timeout;

use self::server::{Server, cause, failed};
use super::told::Told;
use super::{ANSWER_WITHIN, Habits, Notifier, Outcome, SetupError, complete, of_route};
use crate::message::Message;

/// Sends mails.
pub struct Email {
    server: Server,
    from: Mailbox,
    domain: String,
    to: BTreeMap<String, Vec<Mailbox>>,
    told: Told,
    per_second: f64,
}

/// A mail that all, some or none of its recipients were accepted for.
#[derive(Default)]
struct Accepted {
    mailboxes: Vec<Mailbox>,
    refused_for_now: usize,
    refused: usize,
}

impl Email {
    /// `None` when nothing of it is set. `per_second` are messages.
    pub fn configured(config: &EmailConfig, per_second: f64) -> Result<Option<Self>, SetupError> {
        let has_recipients = config.to.values().any(|list| !list.is_empty());
        let parts = [
            (server::SETTING, config.smtp_url.is_some()),
            ("email.from", !config.from.trim().is_empty()),
            ("a list of addresses in [email.to]", has_recipients),
        ];
        complete("email", &parts)?;
        let Some(url) = &config.smtp_url else { return Ok(None) };
        let wrong = |what: String| SetupError::Invalid(what);
        let from = mailbox(&config.from).ok_or_else(|| {
            wrong("email.from is not an address: write it like \"revwatch <alerts@example.com>\"".into())
        })?;
        let mut to = BTreeMap::new();
        for (route, list) in &config.to {
            if list.is_empty() {
                return Err(wrong(format!("[email.to] {route} is empty: give an address, or remove the line")));
            }
            // Addresses are not quoted: errors are logged.
            let parse = |(place, text): (usize, &String)| {
                mailbox(text)
                    .ok_or_else(|| wrong(format!("[email.to] {route}: number {} is not an address", place + 1)))
            };
            to.insert(route.clone(), list.iter().enumerate().map(parse).collect::<Result<Vec<_>, _>>()?);
        }
        if !to.contains_key("default") {
            return Err(wrong("[email.to] has no default, for routes that are not listed: give one".into()));
        }
        let domain = from.email.domain().to_ascii_lowercase();
        Ok(Some(Self { server: Server::new(url)?, from, domain, to, told: Told::default(), per_second }))
    }

    /// The whole conversation; `is_handed_over` is set before the mail itself is sent.
    async fn send(&self, message: &Message, is_handed_over: &AtomicBool) -> Outcome {
        let Some((list, everybody)) = of_route(&self.to, &message.route) else {
            return Outcome::Failed { reason: "[email.to] has no default".into(), permanent: true };
        };
        let id = letter::id(message, &self.domain);
        let told = self.told.of(&id);
        let rest: Vec<&Mailbox> = everybody.iter().filter(|m| !told.contains_key(address(m))).collect();
        let mail = match letter::letter(message, &self.from, everybody, &self.domain) {
            Ok(mail) => mail.formatted(),
            Err(error) => {
                return Outcome::Failed { reason: format!("the mail cannot be written: {error}"), permanent: true };
            }
        };
        let mut connection = match self.server.connect(&ClientId::Domain(self.domain.clone())).await {
            Ok(connection) => connection,
            Err(outcome) => return outcome,
        };
        let accepted = match self.offer(&mut connection, &rest, list).await {
            Ok(accepted) => accepted,
            Err(outcome) => return outcome,
        };
        if accepted.mailboxes.is_empty() {
            return self.settled(&id, list, &accepted, !told.is_empty());
        }
        if let Err(error) = connection.command(Data).await {
            return failed("handing over", &error, "[email]");
        }
        is_handed_over.store(true, Ordering::Relaxed);
        match connection.message(&mail).await {
            Ok(_) => {}
            // It answered: the mail is not taken.
            Err(error) if error.status().is_some() => return failed("the mail", &error, "[email]"),
            Err(error) => return Outcome::Unknown { reason: format!("mail server, the mail: {}", cause(&error)) },
        }
        for mailbox in &accepted.mailboxes {
            self.told.remember(&id, address(mailbox), String::new());
        }
        // The mail is taken; that the conversation ends politely changes nothing.
        tokio::spawn(async move { timeout(Duration::from_secs(1), connection.quit()).await.is_ok() });
        self.settled(&id, list, &accepted, true)
    }

    /// Sender and recipients. One whom the server does not want does not keep the mail from the others.
    async fn offer(
        &self,
        connection: &mut AsyncSmtpConnection,
        to: &[&Mailbox],
        list: &str,
    ) -> Result<Accepted, Outcome> {
        let sender = Mail::new(Some(self.from.email.clone()), Vec::new());
        connection.command(sender).await.map_err(|error| failed("the sender", &error, "email.from"))?;
        let mut accepted = Accepted::default();
        for mailbox in to {
            match connection.command(Rcpt::new(mailbox.email.clone(), Vec::new())).await {
                Ok(_) => accepted.mailboxes.push((*mailbox).clone()),
                Err(error) if error.is_permanent() => accepted.refused += 1,
                Err(error) if error.is_transient() => accepted.refused_for_now += 1,
                Err(error) => return Err(failed(&format!("recipients of [email.to] {list}"), &error, "[email]")),
            }
        }
        Ok(accepted)
    }

    /// What follows when `somebody` has the mail, or nobody.
    fn settled(&self, id: &str, list: &str, accepted: &Accepted, somebody: bool) -> Outcome {
        let Accepted { refused, refused_for_now, .. } = *accepted;
        if refused_for_now > 0 {
            let reason = format!("the mail server refuses {refused_for_now} recipients of [email.to] {list} for now");
            return Outcome::Failed { reason, permanent: false };
        }
        if !somebody {
            let reason = format!("the mail server refuses all recipients: check [email.to] {list}");
            return Outcome::Failed { reason, permanent: true };
        }
        if refused > 0 {
            tracing::warn!(
                list,
                refused,
                "the mail server refuses some recipients; the others have the mail: check [email.to]"
            );
        }
        self.told.forget(id);
        Outcome::Delivered { receipt: Some(id.to_owned()) }
    }
}

#[async_trait]
impl Notifier for Email {
    fn name(&self) -> &'static str {
        "email"
    }

    fn habits(&self) -> Habits {
        Habits { edits: false, resolves: true }
    }

    fn destination(&self, route: &str) -> String {
        format!("email {}", of_route(&self.to, route).map_or("default", |(list, _)| list))
    }

    fn per_second(&self) -> f64 {
        self.per_second
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        let is_handed_over = AtomicBool::new(false);
        // As a task of its own it would go on after its time.
        let sending = Box::pin(self.send(message, &is_handed_over));
        timeout(ANSWER_WITHIN, sending).await.unwrap_or_else(|_| {
            let reason = "mail server: no answer in time".to_owned();
            if is_handed_over.load(Ordering::Relaxed) {
                Outcome::Unknown { reason }
            } else {
                Outcome::Failed { reason, permanent: false }
            }
        })
    }
}

/// An address with or without a name. Only ASCII: few servers take others (SMTPUTF8).
fn mailbox(text: &str) -> Option<Mailbox> {
    let mailbox: Mailbox = text.trim().parse().ok()?;
    address(&mailbox).is_ascii().then_some(mailbox)
}

fn address(mailbox: &Mailbox) -> &str {
    mailbox.email.as_ref()
}
