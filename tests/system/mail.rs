//! Mail is delivered to a real server: readable, threaded, and not lost while the server is down.

use serde_json::Value;

use super::Deployment;
use crate::support::mail::MailServer;
use crate::support::providers::{Settings, post_all, updated};
use crate::support::revwatch::Revwatch;
use crate::support::wait::until;

const SETTINGS: &str = "[alerting]\ntick_seconds = 0.05\nmessages_per_second = 100.0\n\
    [email]\nfrom = \"revwatch <alerts@example.com>\"\n\
    [email.to]\ndefault = [\"Ana Conceição <ana@example.org>\", \"on-call@example.org\"]\n";

fn header<'a>(mail: &'a Value, name: &str) -> &'a str {
    mail["headers"][name].as_str().unwrap_or_default()
}

/// The only mail about this account with this text in its subject.
fn about<'a>(mails: &'a [Value], account: &str, subject: &str) -> &'a Value {
    let fits = |m: &&Value| {
        header(m, "subject").contains(subject)
            && m["text"].as_str().is_some_and(|t| t.contains(account))
    };
    let mut found = mails.iter().filter(fits);
    let mail = found
        .next()
        .unwrap_or_else(|| panic!("no {subject} of {account} in {mails:#?}"));
    assert!(
        found.next().is_none(),
        "two mails with {subject} about {account}: {mails:#?}"
    );
    mail
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_about_alerts_and_resolutions_arrive_after_a_server_outage() {
    let (deployment, settings, mut server) = (
        Deployment::embedded(),
        Settings::of_providers(SETTINGS),
        MailServer::start(),
    );
    let variables = settings.variables(deployment.variables(&[("SMTP_URL", &server.url())]));
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    let (url, begin_s) = (
        process.url("/webhooks/stripe"),
        jiff::Timestamp::now().as_second() - 100,
    );
    let event = |n: i64, account: &str, charges: bool| {
        updated(
            &format!("evt_{n}"),
            account,
            begin_s + n,
            charges,
            "requirements.past_due",
        )
    };
    post_all(&url, &[event(0, "acct_1", true), event(1, "acct_2", true)]).await;
    post_all(&url, &[event(2, "acct_1", false)]).await;
    let mails = until("the first mail has arrived", || async {
        let mails = server.mails();
        (!mails.is_empty()).then_some(mails)
    })
    .await;
    let first = about(
        &mails,
        "acct_1",
        "🔴 CRITICAL: A provider can no longer take charges",
    );
    let id = header(first, "message-id").to_owned();
    assert!(
        id.starts_with("<al_") && id.ends_with("-0@example.com>"),
        "{id}"
    );
    assert_eq!(header(first, "from"), "revwatch <alerts@example.com>");
    assert_eq!(
        header(first, "to"),
        "Ana Conceição <ana@example.org>, on-call@example.org"
    );
    assert_eq!(
        header(first, "x-rcptto"),
        "ana@example.org, on-call@example.org"
    );
    assert_eq!(
        (header(first, "in-reply-to"), header(first, "mime-version")),
        ("", "1.0")
    );
    assert!(!header(first, "date").is_empty());

    server.kill9();
    post_all(&url, &[event(3, "acct_1", true), event(4, "acct_2", false)]).await;
    until("both notifications failed", || async {
        (process.logged("notification will be retried").len() >= 2).then_some(())
    })
    .await;
    server.restart();
    let mails = until("the other mails have arrived", || async {
        let mails = server.mails();
        (mails.len() >= 3).then_some(mails)
    })
    .await;
    let resolution = about(
        &mails,
        "acct_1",
        "✅ RESOLVED: A provider can no longer take charges",
    );
    assert_eq!(header(resolution, "in-reply-to"), id);
    assert_eq!(header(resolution, "references"), id);
    assert_ne!(header(resolution, "message-id"), id);
    about(&mails, "acct_2", "🔴 CRITICAL");
    process.stop();
    let mails = server.mails();
    assert_eq!(mails.len(), 3, "{mails:#?}");
    for mail in &mails {
        let text = mail["text"].as_str().expect("a text");
        assert!(
            text.contains(" · charges_lost")
                && text.contains("Reason: requirements.past_due (information is missing and its deadline has passed)")
                || mail == resolution,
            "{text}"
        );
        assert_eq!(
            (&mail["kind"], &mail["charset"]),
            (&"text/plain".into(), &"utf-8".into())
        );
        assert_eq!(mail["defects"], serde_json::json!([]));
        assert!(mail["longest"].as_i64() < Some(998), "RFC 5322: {mail}");
    }
}
