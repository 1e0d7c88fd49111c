//! Posts events as Stripe and an application do: signed, over HTTP, concurrently, with a retry after a 503.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use reqwest::Client;
use revwatch_core::signature::SigningKey;
use revwatch_core::standard_webhooks::StandardKey;
use tokio::sync::{Semaphore, mpsc};

use super::simulator::{Sender, SimEvent};
use crate::cli::send::{self, Signer};

/// A queue of events to post, and counts of the responses.
pub struct Poster {
    queue: mpsc::UnboundedSender<SimEvent>,
    queued: u64,
    counts: Arc<ResponseCounts>,
}

/// What the two senders sign with.
pub struct Secrets {
    pub stripe: String,
    pub application: String,
}

/// Where each sender posts to, and how it signs.
struct Endpoints {
    stripe: (String, Signer),
    application: (String, Signer),
}

#[derive(Default)]
struct ResponseCounts {
    accepted: AtomicU64,
    refusal: OnceLock<String>,
}

/// Maximum number of concurrent requests.
const MAX_CONCURRENT: usize = 16;

impl Poster {
    /// Posts to the webhook endpoints at `address` until dropped.
    pub fn start(address: SocketAddr, secrets: &Secrets) -> anyhow::Result<Self> {
        let endpoints = Arc::new(Endpoints::new(address, secrets)?);
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
                let (client, endpoints, counts) =
                    (client.clone(), endpoints.clone(), shared_counts.clone());
                tokio::spawn(async move {
                    let _permit = permit;
                    let (url, signer) = endpoints.of(event.sender);
                    match send::post(&client, signer, url, event.body).await {
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

impl Endpoints {
    fn new(address: SocketAddr, secrets: &Secrets) -> anyhow::Result<Self> {
        let url = |path: &str| format!("http://{address}/webhooks/{path}");
        let key = SigningKey::new(&secrets.stripe).context("the secret is empty")?;
        let app_key = StandardKey::new(&secrets.application);
        let app_key = app_key.context("the application's secret is not valid")?;
        Ok(Self {
            stripe: (url("stripe"), Signer::Stripe(key)),
            application: (url("app"), Signer::App(app_key)),
        })
    }

    fn of(&self, sender: Sender) -> (&str, &Signer) {
        let (url, signer) = match sender {
            Sender::Stripe => &self.stripe,
            Sender::Application => &self.application,
        };
        (url, signer)
    }
}
