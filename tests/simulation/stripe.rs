//! A simulated Stripe: signs events and delivers them out of order, some repeatedly, until they are
//! answered 2xx or it gives up.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use fastrand::Rng;
use revwatch_core::clock::Clock as _;
use revwatch_core::event::Event;
use revwatch_core::signature::SigningKey;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::trace::lock;
use super::world::{SECRET, World};

/// Stripe sends from addresses of its own.
const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(3, 18, 12, 63));
/// Stripe waits this long for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_BACKOFF: Duration = Duration::from_secs(20);

/// What the sender knows about its events, by id.
#[derive(Default)]
pub(super) struct Sent {
    /// Answered 2xx at least once.
    accepted: Mutex<BTreeSet<String>>,
    /// Sent with a valid signature at least once.
    attempted: Mutex<BTreeSet<String>>,
}

/// How one event is delivered.
struct Plan {
    body: String,
    id: String,
    key: SigningKey,
    first: Duration,
    max_attempts: u32,
    repeats: u32,
    rng: Rng,
}

impl Sent {
    pub(super) fn accepted(&self) -> BTreeSet<String> {
        lock(&self.accepted).clone()
    }

    pub(super) fn attempted(&self) -> BTreeSet<String> {
        lock(&self.attempted).clone()
    }
}

/// Starts to deliver `events` within `period`, and some forged ones.
pub(super) fn begin(
    world: &Arc<World>,
    events: &[String],
    period: Duration,
    seed: u64,
) -> JoinSet<()> {
    let mut rng = Rng::with_seed(seed);
    let mut senders = JoinSet::new();
    for body in events {
        let mut plan = Plan::draw(body, SECRET, period, &mut rng);
        // Most events are retried until they are accepted.
        if rng.u8(..12) == 0 {
            plan.max_attempts = 2;
        }
        senders.spawn(plan.carry_out(world.clone()));
        if rng.u8(..20) == 0 {
            let forged = body.replacen("\"evt_", "\"evt_forged_", 1);
            let mut plan = Plan::draw(&forged, "whsec_wrong", period, &mut rng);
            plan.max_attempts = 1;
            senders.spawn(plan.carry_out(world.clone()));
        }
    }
    senders
}

impl Plan {
    fn draw(body: &str, secret: &str, period: Duration, rng: &mut Rng) -> Self {
        let event = Event::parse(body.as_bytes()).expect("an event");
        Self {
            body: body.to_owned(),
            id: event.id.into_owned(),
            key: SigningKey::new(secret).expect("not empty"),
            first: period.mul_f64(rng.f64()),
            max_attempts: u32::MAX,
            repeats: u32::from(rng.u8(..5) == 0),
            rng: rng.fork(),
        }
    }

    async fn carry_out(mut self, world: Arc<World>) {
        sleep(self.first).await;
        for _ in 0..=self.repeats {
            let mut backoff = Duration::from_millis(500);
            for _ in 0..self.max_attempts {
                if self.attempt(&world).await {
                    break;
                }
                sleep(backoff.mul_f64(0.5 + self.rng.f64())).await;
                backoff = (backoff * 2).min(MAX_BACKOFF);
            }
            sleep(Duration::from_millis(self.rng.u64(..20_000))).await;
        }
    }

    /// Whether the answer is 2xx.
    async fn attempt(&self, world: &World) -> bool {
        let status = match world.webhooks() {
            None => "no connection".to_owned(),
            Some((webhooks, killed)) => {
                let signature = self.key.header(world.clock.now_s(), self.body.as_bytes());
                let request = Request::post("/webhooks/stripe")
                    .header("content-type", "application/json")
                    .header("stripe-signature", signature)
                    .body(Body::from(self.body.clone()))
                    .expect("a request");
                if !self.id.contains("forged") {
                    lock(&world.sent.attempted).insert(self.id.clone());
                }
                let answer = timeout(ANSWER_TIMEOUT, webhooks.answer(PEER, request));
                tokio::select! {
                    biased;
                    () = killed.cancelled() => "connection closed".to_owned(),
                    answer = answer => answer.map_or_else(
                        |_| "no answer".to_owned(),
                        |answer| answer.status().as_str().to_owned(),
                    ),
                }
            }
        };
        world.trace.add(&format!("stripe {} {status}", self.id));
        let is_accepted = status.starts_with('2');
        if is_accepted {
            lock(&world.sent.accepted).insert(self.id.clone());
        }
        is_accepted
    }
}
