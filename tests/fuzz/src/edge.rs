//! All of the edge but its sockets, and a queue that keeps what is published until it is taken.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::HeaderValue;
use hyper::{Method, Request, StatusCode};
use jiff::Timestamp;
use revwatch_core::clock::{Clock, Ids};
use revwatch_ingest::{Settings, Webhooks};
use revwatch_runtime::config::Config;
use revwatch_runtime::telemetry::{Metrics, Tracer};
use revwatch_storage::ports::{Delivery, Probed, Publish, QueueError};
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

use crate::NOW_S;

/// Stripe's secret.
pub(crate) const SECRET: &str = "whsec_of_the_fuzzer";

/// The application's.
pub(crate) const APP_SECRET: &str = "whsec_0123456789abcdef0123456789abcdef";

/// The path of Stripe's endpoint.
pub(crate) const STRIPE: &str = "/webhooks/stripe";

/// The path of the application's.
pub(crate) const APP: &str = "/webhooks/app";

thread_local! {
    pub(crate) static EDGE: Edge = Edge::new();
}

pub(crate) struct Edge {
    webhooks: Webhooks,
    queue: Arc<Queue>,
    runtime: Runtime,
}

impl Edge {
    fn new() -> Self {
        let of_variable = |name: &str| match name {
            "STRIPE_WEBHOOK_SECRET" => Some(SECRET.to_owned()),
            "REVWATCH_APP_WEBHOOK_SECRET" => Some(APP_SECRET.to_owned()),
            _ => None,
        };
        let config = Config::load(None, &of_variable).expect("valid settings");
        let endpoints = config.webhook_endpoints().expect("endpoints");
        let paths = [&endpoints[0].path, &endpoints[1].path];
        assert_eq!(paths, [STRIPE, APP]);
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
            queue,
            runtime: runtime.expect("a runtime"),
        }
    }

    /// Status and body of the answer. Each request is another client's: none is refused for those before.
    pub(crate) fn post(
        &self,
        path: &str,
        headers: impl Iterator<Item = (&'static str, HeaderValue)>,
        body: &[u8],
    ) -> (StatusCode, Bytes) {
        static PEERS: AtomicU32 = AtomicU32::new(0);
        let peer = IpAddr::V4(Ipv4Addr::from_bits(PEERS.fetch_add(1, Ordering::Relaxed)));
        let mut request = Request::new(Full::new(Bytes::copy_from_slice(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.parse().expect("a path");
        for (name, value) in headers {
            request.headers_mut().append(name, value);
        }
        self.runtime.block_on(async {
            let (head, body) = self.webhooks.answer(peer, request).await.into_parts();
            let body = body.collect().await.expect("it is complete");
            (head.status, body.to_bytes())
        })
    }

    /// What was published since the last call.
    pub(crate) fn take(&self) -> Vec<Delivery> {
        std::mem::take(&mut self.queue.lock())
    }
}

#[derive(Default)]
struct Queue(Mutex<Vec<Delivery>>);

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Vec<Delivery>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Publish for Queue {
    fn partitions(&self) -> u32 {
        8
    }

    async fn publish(&self, delivery: Delivery) -> Result<(), QueueError> {
        self.lock().push(delivery);
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
