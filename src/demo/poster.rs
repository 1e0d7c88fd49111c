//! Posts events as Stripe does: signed, over HTTP, concurrently, with a retry after a 503.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use reqwest::Client;
use revwatch_core::signature::SigningKey;
use tokio::sync::{Semaphore, mpsc};

use super::simulator::SimEvent;
use crate::cli::send::{self, Signer};

/// A queue of events to post, and counts of the responses.
pub struct Poster {
    queue: mpsc::UnboundedSender<SimEvent>,
    queued: u64,
    counts: Arc<ResponseCounts>,
}

#[derive(Default)]
struct ResponseCounts {
    accepted: AtomicU64,
    refusal: OnceLock<String>,
}

/// Maximum number of concurrent requests.
const MAX_CONCURRENT: usize = 16;

impl Poster {
    /// Posts to the webhook endpoint at `address` until dropped.
    pub fn start(address: SocketAddr, secret: &str) -> anyhow::Result<Self> {
        let url = format!("http://{address}/webhooks/stripe");
        let key = SigningKey::new(secret).context("the secret is empty")?;
        let signer = Signer::Stripe(key);
        // The user's proxy must not be used for the loopback interface.
        let client = Client::builder()
            .timeout(Duration::from_secs(30))
            .no_proxy()
            .build()?;
        let (queue, mut events) = mpsc::unbounded_channel::<SimEvent>();
        let counts = Arc::new(ResponseCounts::default());
        let shared_counts = counts.clone();
        tokio::spawn(async move {
            let free = Arc::new(Semaphore::new(MAX_CONCURRENT));
            while let (Ok(permit), Some(event)) =
                (free.clone().acquire_owned().await, events.recv().await)
            {
                let (client, signer, url, counts) = (
                    client.clone(),
                    signer.clone(),
                    url.clone(),
                    shared_counts.clone(),
                );
                tokio::spawn(async move {
                    let _permit = permit;
                    match send::post(&client, &signer, &url, event.body).await {
                        Ok(None) => {
                            counts.accepted.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(Some(refusal)) => {
                            drop(counts.refusal.set(format!("{}: {refusal}", event.kind)));
                        }
                        Err(error) => {
                            drop(counts.refusal.set(format!("{}: {error:#}", event.kind)));
                        }
                    }
                });
            }
        });
        Ok(Self {
            queue,
            queued: 0,
            counts,
        })
    }

    /// Queues events; each is posted as soon as a connection is free.
    pub fn post(&mut self, deliveries: Vec<SimEvent>) {
        for event in deliveries {
            self.queued += 1;
            let _ = self.queue.send(event);
        }
    }

    /// Deliveries answered with a 2xx.
    pub fn accepted(&self) -> u64 {
        self.counts.accepted.load(Ordering::Relaxed)
    }

    /// Deliveries not answered yet.
    pub fn waiting(&self) -> u64 {
        self.queued - self.accepted()
    }

    /// The first delivery that was permanently refused, with the reason.
    pub fn refusal(&self) -> Option<&str> {
        self.counts.refusal.get().map(String::as_str)
    }
}
