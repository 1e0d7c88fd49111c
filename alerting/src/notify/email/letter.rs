//! Formats a message as a mail, threaded with the other mails about the same alert. Sources:
//! <https://www.rfc-editor.org/rfc/rfc5322#section-3.6.4>,
//! <https://www.rfc-editor.org/rfc/rfc3834#section-5>.

use lettre::Message as Mail;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, SinglePart};
use revwatch_core::neutral;

use crate::alert::AlertState;
use crate::message::Message;

/// The Message-ID of `message`, with its brackets; the same for every attempt. The firing and the
/// resolved message of an alert share one delivery, but are two mails.
pub fn id(message: &Message, domain: &str) -> String {
    let end = if message.notice.is_none() && message.state == AlertState::Resolved {
        ".resolved"
    } else {
        ""
    };
    bracketed(&format!("{}{end}", message.delivery_id), domain)
}

/// A mail with `message` to all of `to`. All later mails about an alert reply to the first one.
pub fn letter(
    message: &Message,
    from: &Mailbox,
    to: &[Mailbox],
    domain: &str,
) -> Result<Mail, String> {
    let (id, first) = (
        id(message, domain),
        bracketed(&format!("{}-0", message.alert_id), domain),
    );
    let mut letter = Mail::builder()
        .from(from.clone())
        .subject(one_line(&message.headline))
        .message_id(Some(id.clone()));
    for mailbox in to {
        letter = letter.to(mailbox.clone());
    }
    if id != first {
        letter = letter.in_reply_to(first.clone()).references(first);
    }
    for (name, value) in [
        ("X-Revwatch-Alert", one_line(&message.alert_id)),
        ("Auto-Submitted", "auto-generated".into()),
    ] {
        let name =
            HeaderName::new_from_ascii(name.to_owned()).map_err(|error| error.to_string())?;
        letter = letter.raw_header(HeaderValue::new(name, value));
    }
    letter
        .singlepart(SinglePart::plain(message.text.clone()))
        .map_err(|error| error.to_string())
}

fn bracketed(name: &str, domain: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = name
        .chars()
        .map(|c| if is_plain(c) { c } else { '-' })
        .collect();
    format!("<{name}@{domain}>")
}

/// The value of a header.
fn one_line(text: &str) -> String {
    neutral::line(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::super::stub::message;
    use super::*;
    use crate::alert::NoticeKind;

    fn header(message: &Message, name: &str) -> Option<String> {
        let mailbox: Mailbox = "revwatch <alerts@example.com>".parse().expect("an address");
        let mail = letter(
            message,
            &mailbox,
            std::slice::from_ref(&mailbox),
            "example.com",
        )
        .expect("a mail");
        mail.headers().get_raw(name).map(str::to_owned)
    }

    #[test]
    fn mails_about_one_alert_form_one_thread() {
        let first = message();
        let notice = Message {
            delivery_id: "al_1-2".into(),
            notice: Some(NoticeKind::RespondSoon),
            ..message()
        };
        let resolved = Message {
            state: AlertState::Resolved,
            revision: 3,
            ..message()
        };
        let late = Message {
            state: AlertState::Resolved,
            ..notice.clone()
        };
        let table = [
            (first, "<al_1-0@example.com>", None),
            (notice, "<al_1-2@example.com>", Some("<al_1-0@example.com>")),
            (
                resolved,
                "<al_1-0.resolved@example.com>",
                Some("<al_1-0@example.com>"),
            ),
            (late, "<al_1-2@example.com>", Some("<al_1-0@example.com>")),
        ];
        for (message, id, reply) in table {
            assert_eq!(header(&message, "Message-ID").as_deref(), Some(id));
            assert_eq!(header(&message, "In-Reply-To").as_deref(), reply);
            assert_eq!(header(&message, "References").as_deref(), reply);
            assert_eq!(
                header(&message, "X-Revwatch-Alert").as_deref(),
                Some("al_1")
            );
            // Without it, mail clients do not decode the body.
            assert_eq!(header(&message, "MIME-Version").as_deref(), Some("1.0"));
        }
    }

    #[test]
    fn no_text_adds_a_header_or_acts_in_one() {
        let texts = include_str!("../../../../tests/fixtures/hostile_texts.json");
        let texts: Vec<String> = serde_json::from_str(texts).expect("a list of texts");
        for text in texts {
            let hostile = Message {
                headline: text.clone(),
                alert_id: text.clone(),
                delivery_id: text,
                ..message()
            };
            assert_eq!(header(&hostile, "Bcc"), None);
            for name in ["Subject", "X-Revwatch-Alert", "Message-ID"] {
                let value = header(&hostile, name).expect("there");
                let is_active = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
                assert!(!value.contains(is_active), "{value:?}");
            }
        }
    }

    #[test]
    fn texts_cannot_inject_headers() {
        let malicious = Message {
            headline: "a\r\nBcc: x@example.com".into(),
            alert_id: "al\r\nX: y".into(),
            delivery_id: "a b\r\n<".into(),
            ..message()
        };
        assert_eq!(header(&malicious, "Bcc"), None);
        assert_eq!(
            header(&malicious, "Subject").as_deref(),
            Some("a  Bcc: x@example.com")
        );
        assert_eq!(
            header(&malicious, "X-Revwatch-Alert").as_deref(),
            Some("al  X: y")
        );
        assert_eq!(
            header(&malicious, "Message-ID").as_deref(),
            Some("<a-b---@example.com>")
        );
    }
}
