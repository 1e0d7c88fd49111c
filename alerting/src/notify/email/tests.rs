//! Mails against a scripted SMTP server.

use std::sync::{Arc, Mutex};

use secrecy::SecretString;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::super::stub::message;
use super::*;

const ONE: &str = "one@example.com";
const TWO: &str = "two@example.com";

/// The server's answers to lines with these prefixes; `""` closes the connection without an
/// answer. All other lines succeed. `CONTENT` is the end of the mail, `GREETING` the beginning.
type Script = &'static [(&'static str, &'static str)];

/// A server that follows the script, and the lines it received.
async fn server(script: Script) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let received = lines.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, script, received.clone()));
        }
    });
    (port, lines)
}

async fn serve(
    mut stream: TcpStream,
    script: Script,
    received: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read).lines();
    let answer_to = |line: &str| {
        let scripted = script
            .iter()
            .find(|(begins, _)| line.starts_with(begins))
            .map(|(_, answer)| *answer);
        scripted.unwrap_or(match line {
            "GREETING" => "220 ready",
            "DATA" => "354 go on",
            _ if line.starts_with("EHLO") => "250-here\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME",
            _ if line.starts_with("AUTH") => "235 welcome",
            _ => "250 fine",
        })
    };
    let mut is_content = false;
    let mut line = "GREETING".to_owned();
    loop {
        received.lock().expect("not poisoned").push(line.clone());
        let answer = match (is_content, line.as_str()) {
            (true, ".") => {
                is_content = false;
                Some(answer_to("CONTENT"))
            }
            (true, _) => None,
            (false, line) => Some(answer_to(line)),
        };
        if let Some(answer) = answer {
            if answer.is_empty() {
                return None;
            }
            is_content |= line == "DATA" && answer.starts_with("354");
            write
                .write_all(format!("{answer}\r\n").as_bytes())
                .await
                .ok()?;
        }
        line = lines.next_line().await.ok()??;
    }
}

fn config(url: &str, to: &[&str]) -> EmailConfig {
    EmailConfig {
        smtp_url: (!url.is_empty()).then(|| SecretString::from(url.to_owned())),
        from: "revwatch <alerts@Example.com>".into(),
        to: [(
            "default".to_owned(),
            to.iter().map(|a| (*a).to_owned()).collect(),
        )]
        .into(),
    }
}

fn email(port: u16, to: &[&str]) -> Email {
    let config = config(&format!("smtp://me:hidden@localhost:{port}"), to);
    Email::configured(&config, 1.0)
        .expect("valid")
        .expect("configured")
}

#[tokio::test]
async fn mails_are_handed_over_completely() {
    let (port, lines) = server(&[]).await;
    let outcome = email(port, &[ONE, TWO]).deliver(&message()).await;
    assert_eq!(
        outcome,
        Outcome::Delivered {
            receipt: Some("<al_1-0@example.com>".into())
        }
    );
    let lines = lines.lock().expect("not poisoned").clone();
    for expected in [
        "EHLO example.com",
        "AUTH PLAIN AG1lAGhpZGRlbg==",
        "MAIL FROM:<alerts@Example.com>",
        "RCPT TO:<one@example.com>",
        "RCPT TO:<two@example.com>",
        "To: one@example.com, two@example.com",
        "Subject: Payouts fail =?utf-8?b?wrcgU3RyYcOfZQ==?=",
        "Message-ID: <al_1-0@example.com>",
        "X-Revwatch-Alert: al_1",
        "Payouts fail.",
        "Look at them.",
    ] {
        assert!(
            lines.iter().any(|line| line == expected),
            "{expected} is not in {lines:#?}"
        );
    }
}

#[tokio::test]
async fn responses_map_to_outcomes() {
    let table: [(Script, &str, &str); 18] = [
        (&[], "delivered", ""),
        (&[("GREETING", "421 later")], "failed", "421"),
        (&[("GREETING", "")], "failed", "connecting"),
        (
            &[("EHLO", "250 nothing")],
            "permanent",
            "leave user and password out",
        ),
        (
            &[("AUTH", "535 one@example.com is wrong")],
            "permanent",
            "user and password in email.smtp_url (SMTP_URL)",
        ),
        (&[("AUTH", "454 later")], "failed", "454"),
        (&[("MAIL", "550 no")], "permanent", "email.from"),
        (
            &[("MAIL", "530 login first")],
            "permanent",
            "it wants a user and a password: put both into email.smtp_url (SMTP_URL)",
        ),
        (
            &[("EHLO", "250 AUTH XOAUTH2")],
            "permanent",
            "takes no passwords, only XOAUTH2",
        ),
        (&[("MAIL", "451 later")], "failed", "451"),
        (
            &[("RCPT", "550 one@example.com unknown")],
            "permanent",
            "[email.to] default",
        ),
        (&[("RCPT", "450 greylisted")], "failed", "temporarily"),
        (&[("DATA", "554 no")], "permanent", "554"),
        (&[("DATA", "")], "failed", ""),
        (&[("CONTENT", "552 too long")], "permanent", "552"),
        (&[("CONTENT", "452 full")], "failed", "452"),
        (&[("CONTENT", "")], "unknown", ""),
        (&[("CONTENT", "what?")], "unknown", ""),
    ];
    for (script, expected, part) in table {
        let (port, _) = server(script).await;
        let outcome = email(port, &[ONE]).deliver(&message()).await;
        let outcome_text = format!("{outcome:?}");
        assert_eq!(outcome.as_str(), expected, "{script:?}: {outcome_text}");
        assert!(
            outcome_text.contains(part)
                && !outcome_text.contains(ONE)
                && !outcome_text.contains("hidden"),
            "{script:?}: {outcome_text}"
        );
    }
    assert_eq!(
        email(1, &[ONE]).deliver(&message()).await.as_str(),
        "failed"
    );
}

#[tokio::test]
async fn a_retry_skips_recipients_who_have_the_mail() {
    let (broken, _) = server(&[("RCPT TO:<two", "450 later")]).await;
    let sender = email(broken, &[ONE, TWO]);
    assert_eq!(sender.find(&message()).await, Lookup::Inconclusive);
    assert_eq!(sender.deliver(&message()).await.as_str(), "failed");
    // Only this process knows that one recipient has it: a crash loses that.
    assert!(sender.is_partly_delivered(&message()));
    assert_eq!(sender.find(&message()).await, Lookup::Absent);
    let (fixed, lines) = server(&[]).await;
    let sender = Email {
        server: email(fixed, &[ONE]).server,
        ..sender
    };
    assert_eq!(sender.deliver(&message()).await.as_str(), "delivered");
    let received = lines.lock().expect("not poisoned").clone();
    assert_eq!(
        received
            .iter()
            .filter(|line| line.starts_with("RCPT"))
            .collect::<Vec<_>>(),
        ["RCPT TO:<two@example.com>"]
    );
    // The next mail is sent to all recipients again.
    sender.deliver(&message()).await;
    assert_eq!(
        lines
            .lock()
            .expect("not poisoned")
            .iter()
            .filter(|line| line.starts_with("RCPT"))
            .count(),
        3
    );
}

#[tokio::test]
async fn an_unknown_recipient_does_not_block_the_others() {
    let (port, _) = server(&[("RCPT TO:<two", "550 unknown")]).await;
    assert_eq!(
        email(port, &[ONE, TWO]).deliver(&message()).await.as_str(),
        "delivered"
    );
}

#[tokio::test]
async fn nothing_is_sent_to_a_remote_server_before_tls() {
    let (port, lines) = server(&[]).await;
    let mut sender = email(port, &[ONE]);
    // The settings for any host that is not this machine.
    sender.server = Server::new(&SecretString::from(format!(
        "smtp://me:hidden@mail.example:{port}"
    )))
    .expect("valid");
    sender.server.redirected("127.0.0.1");
    let outcome = sender.deliver(&message()).await;
    assert!(
        matches!(&outcome, Outcome::Failed { permanent: true, reason } if reason.contains("STARTTLS")),
        "{outcome:?}"
    );
    assert_eq!(
        *lines.lock().expect("not poisoned"),
        ["GREETING", "EHLO example.com"]
    );
}

/// Its answers are read by lines, and a line may be of any length.
#[tokio::test]
async fn a_server_that_sends_bytes_without_end_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let flood = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let part = [b'2'; 65_536];
        let mut sent = 0_usize;
        while stream.write_all(&part).await.is_ok() {
            sent += part.len();
        }
        sent
    });
    let outcome = email(port, &[ONE]).deliver(&message()).await;
    assert!(
        matches!(&outcome, Outcome::Failed { permanent: false, reason } if reason.contains("connecting")),
        "{outcome:?}"
    );
    // What the kernel's buffers hold was sent, too.
    let sent = flood.await.expect("no panic");
    assert!(sent < 64 * 1024 * 1024, "{sent} bytes");
}

#[test]
fn missing_or_invalid_settings_are_named() {
    let nothing = EmailConfig {
        from: String::new(),
        ..config("", &[])
    };
    assert!(Email::configured(&nothing, 1.0).expect("valid").is_none());
    type Case = (fn(&mut EmailConfig), &'static str);
    let table: [Case; 7] = [
        (
            |c| c.smtp_url = None,
            "email.smtp_url (SMTP_URL) is missing",
        ),
        (|c| c.from.clear(), "email.from is missing"),
        (
            |c| c.to.clear(),
            "email.to (a list of addresses) is missing",
        ),
        (
            |c| c.from = "revwatch".into(),
            "email.from is not an address",
        ),
        (
            |c| c.to = [("default".into(), vec![ONE.into(), "one at example".into()])].into(),
            "entry 2",
        ),
        (
            |c| c.to = [("x".into(), vec![ONE.into()])].into(),
            "[email.to] has no default",
        ),
        (
            |c| c.to.extend([("x".into(), Vec::new())]),
            "[email.to] x is empty",
        ),
    ];
    for (spoil, expected) in table {
        let mut invalid = config("smtps://me:hidden@mail.example", &[ONE]);
        spoil(&mut invalid);
        let Err(error) = Email::configured(&invalid, 1.0) else {
            panic!("{expected}")
        };
        let error = error.to_string();
        assert!(
            error.contains(expected)
                && !error.contains("one@")
                && !error.contains("one at")
                && !error.contains("hidden"),
            "{error}"
        );
    }
}
