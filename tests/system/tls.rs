//! TLS to RabbitMQ and Redis, whose certificates are signed by a private authority: trusted with `SSL_CERT_FILE`, and
//! refused with an error that names the setting.

use std::process::Output;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use secrecy::ExposeSecret as _;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::support::history::History;
use crate::support::port::free_port;
use crate::support::rabbitmq::RabbitServer;
use crate::support::redis::{RedisCluster, RedisServer};
use crate::support::revwatch::{Revwatch, Variables, cli, metrics, post};
use crate::support::wait::until;

#[tokio::test(flavor = "multi_thread")]
async fn events_go_over_tls_through_rabbitmq_and_redis() {
    let certificates = Certificates::new();
    let rabbit = TlsRabbit::start(&certificates, "").await;
    let redis = TlsRedis::start(&certificates, "no");
    // rustls reads the certificate authorities from the file that this variable names.
    let variables: Variables = vec![
        ("REVWATCH_AMQP_URL".into(), rabbit.url()),
        ("REVWATCH_REDIS_URL".into(), redis.url()),
        ("SSL_CERT_FILE".into(), certificates.path("ca.pem")),
    ];
    let revwatch = Revwatch::serve(&variables, "ingest,worker,alerting");
    let history = History::new(3, 1, jiff::Timestamp::now().as_second());
    let client = reqwest::Client::new();
    let url = revwatch.url("/webhooks/stripe");
    for event in &history.events[..3] {
        assert_eq!(post(&client, &url, event).await.expect("answered"), 200);
    }
    until("all are applied", || async {
        (metrics(&variables)["events_applied"] == 3).then_some(())
    })
    .await;
    revwatch.stop();
}

/// The nodes name each other's ports for TLS; with Redis 7.0 they do so only if they use TLS themselves.
#[test]
fn a_command_reads_a_redis_cluster_over_tls() {
    let certificates = Certificates::new();
    let cluster = RedisCluster::start_with(3, || {
        let mut settings = certificates.of_redis("no");
        settings.extend(["--tls-cluster", "yes", "--tls-port"].map(str::to_owned));
        settings.push(free_port().to_string());
        settings
    });
    let hosts: Vec<String> = cluster.nodes[1..]
        .iter()
        .map(|node| format!("127.0.0.1:{}", node.setting("--tls-port")))
        .collect();
    let url = format!("redis-cluster://{}?tls=true", hosts.join(","));
    let output = audit(&url, &certificates.path("ca.pem"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_another_authority_are_refused_by_rabbitmq_and_redis_with_the_setting() {
    let certificates = Certificates::new();
    let others = Certificates::new();
    let nothing = certificates.path("nothing.pem");
    let empty = certificates.path("empty.pem");
    std::fs::write(&empty, "").expect("written");
    let rabbit = TlsRabbit::start(&certificates, "").await;
    let redis = TlsRedis::start(&certificates, "no");
    let unknown = "this machine does not know the authority that signed its certificate";
    for (file, expected) in [
        (others.path("ca.pem"), unknown),
        (nothing, "SSL_CERT_DIR names cannot be read"),
    ] {
        assert_refused(publish(&rabbit.url(), &file), "REVWATCH_AMQP_URL", expected);
        assert_refused(audit(&redis.url(), &file), "REVWATCH_REDIS_URL", expected);
    }
    let none = "there are no certificate authorities";
    assert_refused(publish(&rabbit.url(), &empty), "REVWATCH_AMQP_URL", none);
    assert_refused(audit(&redis.url(), &empty), "REVWATCH_REDIS_URL", unknown);
}

/// revwatch has no certificate to show.
#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_or_redis_that_demands_client_certificates_is_named_with_the_fix() {
    let certificates = Certificates::new();
    let file = certificates.path("ca.pem");
    let demanding = "ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n";
    let rabbit = TlsRabbit::start(&certificates, demanding).await;
    let expected = "it demands a certificate of its clients"; // perhaps, if its reason got lost
    assert_refused(publish(&rabbit.url(), &file), "REVWATCH_AMQP_URL", expected);
    let redis = TlsRedis::start(&certificates, "yes");
    assert_refused(audit(&redis.url(), &file), "REVWATCH_REDIS_URL", expected);
}

struct TlsRabbit {
    server: RabbitServer,
    port: u16,
}

impl TlsRabbit {
    async fn start(certificates: &Certificates, more: &str) -> Self {
        let port = free_port();
        let server = RabbitServer::start_with(&format!(
            "listeners.ssl.1 = 127.0.0.1:{port}\n\
             ssl_options.cacertfile = {}\nssl_options.certfile = {}\nssl_options.keyfile = {}\n{more}",
            certificates.path("ca.pem"),
            certificates.path("server.pem"),
            certificates.path("server.key"),
        ))
        .await;
        // Its listener for TLS is the last one.
        until("it listens for TLS", async || {
            TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        Self { server, port }
    }

    fn url(&self) -> String {
        let url = self.server.url();
        let url = url.expose_secret().replace("amqp://", "amqps://");
        url.replace(&self.server.address(), &format!("127.0.0.1:{}", self.port))
    }
}

struct TlsRedis {
    port: u16,
    _server: RedisServer,
}

impl TlsRedis {
    fn start(certificates: &Certificates, asks_clients: &str) -> Self {
        let port = free_port();
        let mut settings = certificates.of_redis(asks_clients);
        settings.extend(["--tls-port".to_owned(), port.to_string()]);
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        Self {
            port,
            _server: RedisServer::start_with(&settings),
        }
    }

    fn url(&self) -> String {
        format!("rediss://127.0.0.1:{}/", self.port)
    }
}

/// A certificate authority, and a server on the loopback address that it vouches for.
struct Certificates(TempDir);

impl Certificates {
    fn new() -> Self {
        let folder = TempDir::with_prefix("revwatch-tls-").expect("a temporary folder");
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let ca = CertifiedIssuer::self_signed(params, key).expect("signed");
        let server_key = KeyPair::generate().expect("a key");
        let address = "127.0.0.1".to_owned();
        let mut params = CertificateParams::new(vec![address.clone()]).expect("an address");
        // Redis would take one that has the authority's name for one that is signed by itself.
        params.distinguished_name.push(DnType::CommonName, address);
        let server = params.signed_by(&server_key, &ca).expect("signed");
        let certificates = Self(folder);
        for (name, text) in [
            ("ca.pem", ca.pem()),
            ("server.pem", server.pem()),
            ("server.key", server_key.serialize_pem()),
        ] {
            std::fs::write(certificates.path(name), text).expect("written");
        }
        certificates
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// The settings of a Redis with TLS, without its port.
    fn of_redis(&self, asks_clients: &str) -> Vec<String> {
        [
            ("--tls-cert-file", self.path("server.pem")),
            ("--tls-key-file", self.path("server.key")),
            ("--tls-ca-cert-file", self.path("ca.pem")),
            ("--tls-auth-clients", asks_clients.to_owned()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
    }
}

/// An ingest that trusts the authorities in this file.
fn publish(url: &str, authorities: &str) -> Output {
    let variables = vec![
        ("REVWATCH_AMQP_URL".into(), url.to_owned()),
        ("SSL_CERT_FILE".into(), authorities.to_owned()),
    ];
    cli(&variables, &["serve", "--roles", "ingest"])
}

/// A command that reads the store. A new one has no worker that would complete it.
fn audit(url: &str, authorities: &str) -> Output {
    let variables = vec![
        ("REVWATCH_REDIS_URL".into(), url.to_owned()),
        // The command does not use the queue.
        ("REVWATCH_AMQP_URL".into(), "amqp://127.0.0.1:1".into()),
        ("SSL_CERT_FILE".into(), authorities.to_owned()),
    ];
    cli(&variables, &["audit", "--changes", "--partial"])
}

fn assert_refused(output: Output, setting: &str, expected: &str) {
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(
        !output.status.success() && text.contains(setting) && text.contains(expected),
        "{text}"
    );
}
