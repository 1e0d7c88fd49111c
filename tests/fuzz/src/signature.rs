//! A signed request, through all of the edge but its sockets.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::HeaderValue;
use hyper::{Method, Request, StatusCode};
use jiff::Timestamp;
use revwatch_core::clock::{Clock, Ids};
use revwatch_core::signature::{DEFAULT_TOLERANCE_S, SignatureError, SigningKey, verify};
use revwatch_ingest::{Settings, Webhooks};
use revwatch_runtime::config::Config;
use revwatch_runtime::telemetry::{Metrics, Tracer};
use revwatch_storage::ports::{Delivery, Probed, Publish, QueueError};
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

use crate::NOW_S;

/// The lines of `Stripe-Signature`, an empty line, and the body. `$` in a header stands for the signature of the body
/// at the first time that the lines name.
///
/// A delivery is stored if and only if one signature is right, and its body is the one that was sent. No signature
/// arises by chance: without `$` nothing is stored.
pub fn signature(data: &[u8]) {
    let end = data.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = match end {
        Some(end) => (&data[..end], &data[end + 2..]),
        None => (data, &b""[..]),
    };
    let lines: Vec<HeaderValue> = head
        .split(|byte| *byte == b'\n')
        .filter_map(|line| HeaderValue::from_bytes(&signed(line, head, body)).ok())
        .collect();
    EDGE.with(|edge| {
        let status = edge.post(&lines, body);
        let stored = edge.queue.take();
        let header = lines.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
        let header = header.join(&b","[..]);
        let header = (!lines.is_empty()).then_some(&header[..]);
        let verified = verify(&[key()], header, body, NOW_S, DEFAULT_TOLERANCE_S);
        if status == StatusCode::OK {
            assert_eq!(verified, Ok(()), "stored without a right signature");
            assert!(head.contains(&b'$'), "a signature that was never made");
            let [delivery] = &stored[..] else {
                panic!("200 for {} deliveries", stored.len());
            };
            assert!(
                delivery.body == body,
                "the stored body is not the received one"
            );
        } else {
            assert!(stored.is_empty(), "stored, and answered {status}");
            // Then it is our clock that is behind.
            let is_from_future = matches!(verified, Err(SignatureError::FromFuture { .. }));
            assert_eq!(status.is_server_error(), is_from_future, "{status}");
        }
    });
}

const SECRET: &str = "whsec_of_the_fuzzer";

fn key() -> SigningKey {
    SigningKey::new(SECRET).expect("a secret")
}

/// The line with the signature in place of `$`.
fn signed(line: &[u8], head: &[u8], body: &[u8]) -> Vec<u8> {
    if !line.contains(&b'$') {
        return line.to_vec();
    }
    let mut elements = head.split(|byte| b",\n".contains(byte));
    let time = elements.find_map(|element| element.trim_ascii().strip_prefix(b"t="));
    let signature = key().sign(&[time.unwrap_or_default(), b".", body]);
    let mut made = Vec::with_capacity(line.len() + signature.len());
    for byte in line {
        match byte {
            b'$' => made.extend_from_slice(signature.as_bytes()),
            byte => made.push(*byte),
        }
    }
    made
}

thread_local! {
    static EDGE: Edge = Edge::new();
}

struct Edge {
    webhooks: Webhooks,
    path: String,
    queue: Arc<Queue>,
    runtime: Runtime,
}

impl Edge {
    fn new() -> Self {
        let of_variable = |name: &str| (name == "STRIPE_WEBHOOK_SECRET").then(|| SECRET.to_owned());
        let config = Config::load(None, &of_variable).expect("valid settings");
        let endpoints = config.webhook_endpoints().expect("an endpoint");
        let path = endpoints[0].path.clone();
        let queue = Arc::<Queue>::default();
        let settings = Settings {
            listen: config.listen,
            trusted_proxies: config.trusted_proxies.clone(),
            endpoints,
            limits: config.limits,
            queue: queue.clone(),
            clock: Arc::new(Now),
            ids: Arc::<Numbered>::default(),
            metrics: Metrics::new(),
            tracer: Tracer::default(),
        };
        let runtime = Builder::new_current_thread().enable_time().build();
        Self {
            webhooks: Webhooks::new(settings).expect("valid limits"),
            path,
            queue,
            runtime: runtime.expect("a runtime"),
        }
    }

    /// Each request is another client's: none is refused for those before.
    fn post(&self, lines: &[HeaderValue], body: &[u8]) -> StatusCode {
        static PEERS: AtomicU32 = AtomicU32::new(0);
        let peer = IpAddr::V4(Ipv4Addr::from_bits(PEERS.fetch_add(1, Ordering::Relaxed)));
        let mut request = Request::new(Full::new(Bytes::copy_from_slice(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.parse().expect("a path");
        for line in lines {
            let headers = request.headers_mut();
            headers.append("stripe-signature", line.clone());
        }
        let answer = self.webhooks.answer(peer, request);
        self.runtime.block_on(answer).status()
    }
}

/// Keeps what is published until it is taken.
#[derive(Default)]
struct Queue(Mutex<Vec<Delivery>>);

impl Queue {
    fn take(&self) -> Vec<Delivery> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Publish for Queue {
    fn partitions(&self) -> u32 {
        8
    }

    async fn publish(&self, delivery: Delivery) -> Result<(), QueueError> {
        let mut published = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        published.push(delivery);
        Ok(())
    }

    async fn probe(&self) -> Result<Probed, QueueError> {
        Ok(Probed::default())
    }
}

struct Now;

impl Clock for Now {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(NOW_S).expect("a time")
    }
}

#[derive(Default)]
struct Numbered(AtomicU32);

impl Ids for Numbered {
    fn fresh(&self) -> Uuid {
        Uuid::from_u128(self.0.fetch_add(1, Ordering::Relaxed).into())
    }
}
