//! TLS to RabbitMQ and Redis: with a certificate authority that the system trusts, and with one that it
//! does not.

use std::process::Output;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use secrecy::ExposeSecret as _;
use tempfile::TempDir;

use crate::support::history::History;
use crate::support::port::free_port;
use crate::support::rabbitmq::RabbitServer;
use crate::support::redis::RedisServer;
use crate::support::revwatch::{Revwatch, Variables, cli, post};

#[tokio::test(flavor = "multi_thread")]
async fn ingest_publishes_over_tls_if_it_trusts_the_certificate() {
    let folder = certificates();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let tls_port = free_port();
    let rabbit = RabbitServer::start_with(&format!(
        "listeners.ssl.1 = 127.0.0.1:{tls_port}\n\
         ssl_options.cacertfile = {}\nssl_options.certfile = {}\nssl_options.keyfile = {}\n",
        path("ca.pem"),
        path("server.pem"),
        path("server.key"),
    ))
    .await;
    let url = rabbit.url().expose_secret().replace("amqp://", "amqps://");
    let url = url.replace(&rabbit.address(), &format!("127.0.0.1:{tls_port}"));

    // OpenSSL reads the certificate authorities from the file that this variable names.
    let trusting: Variables = vec![
        ("REVWATCH_AMQP_URL".into(), url.clone()),
        ("SSL_CERT_FILE".into(), path("ca.pem")),
    ];
    let ingest = Revwatch::serve(&trusting, "ingest");
    let history = History::new(3, 1, jiff::Timestamp::now().as_second());
    let client = reqwest::Client::new();
    let status = post(&client, &ingest.url("/webhooks/stripe"), &history.events[0]).await;
    assert_eq!(status.expect("answered"), 200);
    ingest.stop();

    let output = cli(
        &vec![("REVWATCH_AMQP_URL".into(), url)],
        &["serve", "--roles", "ingest"],
    );
    assert_certificate_refused(output);
}

#[test]
fn a_command_reads_the_store_over_tls_if_it_trusts_the_certificate() {
    let folder = certificates();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let tls_port = free_port();
    let _redis = RedisServer::start_with(&[
        "--tls-port",
        &tls_port.to_string(),
        "--tls-cert-file",
        &path("server.pem"),
        "--tls-key-file",
        &path("server.key"),
        "--tls-ca-cert-file",
        &path("ca.pem"),
        "--tls-auth-clients",
        "no",
    ]);
    let url = format!("rediss://127.0.0.1:{tls_port}/");
    let mut variables: Variables = vec![
        ("REVWATCH_REDIS_URL".into(), url),
        // The command does not use the queue.
        ("REVWATCH_AMQP_URL".into(), "amqp://127.0.0.1:1".into()),
    ];
    // The new store has no worker that would complete it.
    let command = ["audit", "--changes", "--partial"];
    assert_certificate_refused(cli(&variables, &command));

    variables.push(("SSL_CERT_FILE".into(), path("ca.pem")));
    let output = cli(&variables, &command);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

fn assert_certificate_refused(output: Output) {
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(
        !output.status.success() && text.contains("certificate"),
        "{text}"
    );
}

/// A certificate authority, and a server on the loopback address that it vouches for.
fn certificates() -> TempDir {
    let folder = TempDir::with_prefix("revwatch-tls-").expect("a temporary folder");
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let ca = CertifiedIssuer::self_signed(params, key).expect("signed");
    let server_key = KeyPair::generate().expect("a key");
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .expect("an address")
        .signed_by(&server_key, &ca)
        .expect("signed");
    for (name, text) in [
        ("ca.pem", ca.pem()),
        ("server.pem", server.pem()),
        ("server.key", server_key.serialize_pem()),
    ] {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    folder
}
