//! A started edge on port 0, a queue whose behavior a test chooses, and a client that writes bytes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use revwatch_core::signature::SigningKey;
use revwatch_core::standard_webhooks::StandardKey;
use revwatch_ingest::{Ingest, Settings};
use revwatch_runtime::config::{Endpoint, Keys, Limits};
use revwatch_runtime::telemetry::Metrics;
use revwatch_storage::ports::{Delivery, Probed, Publish, QueueError};
use revwatch_storage::system::{SystemClock, SystemIds};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const SECRET: &str = "whsec_main";
pub(crate) const ROTATED: &str = "whsec_rotated";
pub(crate) const KERNEL_SECRET: &str = "whsec_kernel";
pub(crate) const PATH: &str = "/webhooks/stripe";
pub(crate) const APP_PATH: &str = "/webhooks/app";

/// The secret of [`APP_PATH`].
pub(crate) fn app_key() -> StandardKey {
    StandardKey::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret")
}

/// What [`TestQueue::publish`] does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Behaviour {
    Succeed,
    Fail,
    Misconfigured,
    /// Never returns.
    Hang,
    /// Returns `Ok` once the test has added a permit to `gate`.
    Gated,
    Panic,
}

pub(crate) struct TestQueue {
    pub(crate) behaviour: Mutex<Behaviour>,
    pub(crate) gate: Semaphore,
    pub(crate) begun: AtomicUsize,
    stored: Mutex<Vec<Delivery>>,
}

impl TestQueue {
    pub(crate) fn set(&self, behaviour: Behaviour) {
        *self.behaviour.lock().expect("unpoisoned") = behaviour;
    }

    pub(crate) fn stored(&self) -> Vec<Delivery> {
        self.stored.lock().expect("unpoisoned").clone()
    }

    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Publish for TestQueue {
    fn partitions(&self) -> u32 {
        8
    }

    async fn publish(&self, delivery: Delivery) -> Result<(), QueueError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let behaviour = *self.behaviour.lock().expect("unpoisoned");
        match behaviour {
            Behaviour::Succeed => {}
            Behaviour::Fail => return Err(QueueError::Unavailable("the broker is gone".into())),
            Behaviour::Misconfigured => {
                return Err(QueueError::Misconfigured("no such exchange".into()));
            }
            Behaviour::Hang => std::future::pending().await,
            Behaviour::Gated => self.gate.acquire().await.expect("an open gate").forget(),
            Behaviour::Panic => panic!("a bug in the adapter, made by this test"),
        }
        self.stored.lock().expect("unpoisoned").push(delivery);
        Ok(())
    }

    async fn probe(&self) -> Result<Probed, QueueError> {
        Ok(Probed::default())
    }
}

/// Deadlines long enough that none is reached by accident; a test shortens the one it tests.
pub(crate) fn limits() -> Limits {
    Limits {
        body_bytes: 4096,
        unfinished_body_bytes: 1024 * 1024,
        connections: 256,
        connections_per_peer: 256,
        in_flight: 64,
        header_seconds: 30.0,
        idle_seconds: 30.0,
        body_seconds: 30.0,
        publish_seconds: 30.0,
        drain_seconds: 30.0,
        signature_tolerance_seconds: 300,
        refused_per_second: 1_000_000,
        refused_burst: 1_000_000,
    }
}

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) queue: Arc<TestQueue>,
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: CancellationToken,
    pub(crate) serving: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(limits: Limits) -> Self {
        Self::behind("", limits).await
    }

    /// With trusted proxies.
    pub(crate) async fn behind(trusted_proxies: &str, limits: Limits) -> Self {
        let key = |secret| SigningKey::new(secret).expect("a secret");
        let endpoint = |name: &str, path: &str, keys| Endpoint {
            name: name.to_owned(),
            path: path.to_owned(),
            keys,
        };
        let queue = Arc::new(TestQueue {
            behaviour: Mutex::new(Behaviour::Succeed),
            gate: Semaphore::new(0),
            begun: AtomicUsize::new(0),
            stored: Mutex::new(Vec::new()),
        });
        let metrics = Metrics::new();
        let ingest = Ingest::bind(Settings {
            listen: ([127, 0, 0, 1], 0).into(),
            trusted_proxies: trusted_proxies.to_owned().try_into().expect("networks"),
            endpoints: vec![
                endpoint(
                    "stripe",
                    PATH,
                    Keys::Stripe(vec![key(SECRET), key(ROTATED)]),
                ),
                endpoint(
                    "kernel",
                    "/webhooks/kernel/stripe",
                    Keys::Stripe(vec![key(KERNEL_SECRET)]),
                ),
                endpoint("app", APP_PATH, Keys::App(vec![app_key()])),
            ],
            limits,
            queue: queue.clone(),
            metrics: metrics.clone(),
            tracer: Default::default(),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
        })
        .await
        .expect("a free port");
        let addr = ingest.local_addr();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(ingest.serve(shutdown.clone()));
        Self {
            addr,
            queue,
            metrics,
            shutdown,
            serving,
        }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.expect("the listener")
    }

    /// A connection on which `request`, or the beginning of one, was sent.
    pub(crate) async fn sending(&self, request: &[u8]) -> TcpStream {
        let mut stream = self.connect().await;
        within(stream.write_all(request)).await.expect("to send");
        stream
    }

    /// Connections that were served `request` and stay open.
    pub(crate) async fn served(&self, count: usize, request: &[u8]) -> Vec<TcpStream> {
        let mut open = Vec::new();
        for _ in 0..count {
            let mut stream = self.sending(request).await;
            assert_eq!(read_answer(&mut stream).await.status, 200);
            open.push(stream);
        }
        open
    }

    /// A sender that disconnects while its delivery is being published, until `gate` opens.
    pub(crate) async fn abandoned_publish(&self) {
        self.queue.set(Behaviour::Gated);
        let stream = self
            .sending(&signed(PATH, SECRET, &event("evt_1", true)))
            .await;
        until(|| self.queue.begun() == 1).await;
        // With or without unread data, dropping the connection here is all that the edge can notice.
        stream
            .set_zero_linger()
            .expect("to reset the connection when it is dropped");
    }

    /// Connects from another address of this machine.
    pub(crate) async fn connect_from(&self, address: [u8; 4]) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket
            .bind((address, 0).into())
            .expect("all of 127/8 is this machine");
        socket.connect(self.addr).await.expect("the listener")
    }

    /// Sends `request` on a new connection and reads the answer.
    pub(crate) async fn send(&self, request: &[u8]) -> Answered {
        let mut stream = self.connect().await;
        // The edge may answer and stop reading before everything has been sent.
        let _ = stream.write_all(request).await;
        read_answer(&mut stream).await
    }

    pub(crate) fn count(&self, endpoint: &str, outcome: &str) -> u64 {
        self.metrics
            .ingest_requests
            .with_label_values(&[endpoint, outcome])
            .get()
    }

    /// All requests ever counted.
    pub(crate) fn counted(&self) -> u64 {
        let text = self.metrics.render();
        let lines = text
            .lines()
            .filter(|line| line.starts_with("revwatch_ingest_requests_total{"));
        lines
            .map(|line| {
                line.rsplit(' ')
                    .next()
                    .and_then(|n| n.parse::<u64>().ok())
                    .expect("a number")
            })
            .sum()
    }
}

/// One answer, as received from the socket.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answered {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// `stored`, or the reason of the refusal.
    pub(crate) fn outcome(&self) -> String {
        let json: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        let word = json["status"].as_str().or(json["error"]["reason"].as_str());
        word.unwrap_or("none").to_owned()
    }
}

/// Reads one answer; `status` is 0 if the connection ended without one.
pub(crate) async fn read_answer(stream: &mut TcpStream) -> Answered {
    within(async {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let answered = Answered {
                    status: head
                        .split(' ')
                        .nth(1)
                        .and_then(|s| s.parse().ok())
                        .expect("a status"),
                    head: head.to_owned(),
                    body: body.to_owned(),
                };
                let length = answered
                    .header("content-length")
                    .map_or(0, |n| n.parse().expect("a length"));
                if body.len() >= length {
                    return answered;
                }
            }
            let mut chunk = vec![0; 4096];
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => {
                    return Answered {
                        status: 0,
                        head: String::new(),
                        body: text,
                    };
                }
                Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            }
        }
    })
    .await
}

/// Fails instead of hanging.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("within 20 seconds")
}

/// Waits until `condition` holds.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    within(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

pub(crate) fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

pub(crate) fn event(id: &str, livemode: bool) -> Vec<u8> {
    format!(
        r#"{{"id":"{id}","object":"event","type":"payout.paid","created":{},"account":"acct_1","livemode":{livemode},"data":{{"object":{{"id":"po_1","object":"payout"}}}}}}"#,
        now_s()
    )
    .into_bytes()
}

/// An event of `bytes` bytes.
pub(crate) fn large_event(id: &str, bytes: usize) -> Vec<u8> {
    let mut event = event(id, true);
    event.resize(bytes, b' ');
    event
}

pub(crate) fn sign(secret: &str, body: &[u8]) -> String {
    SigningKey::new(secret)
        .expect("a secret")
        .header(now_s(), body)
}

/// A POST request with these headers (each `name: value`) and a content length.
pub(crate) fn post(path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n",
        body.len()
    );
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

/// A webhook as Stripe sends it.
pub(crate) fn signed(path: &str, secret: &str, body: &[u8]) -> Vec<u8> {
    let signature = format!("stripe-signature: {}", sign(secret, body));
    post(
        path,
        &["content-type: application/json; charset=utf-8", &signature],
        body,
    )
}

/// `body` in chunks of `size`.
pub(crate) fn chunked(path: &str, headers: &[&str], body: &[u8], size: usize) -> Vec<u8> {
    let mut request =
        format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n")
            .into_bytes();
    for header in headers {
        request.extend_from_slice(format!("{header}\r\n").as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    for chunk in body.chunks(size) {
        request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        request.extend_from_slice(chunk);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    request
}
