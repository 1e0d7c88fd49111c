//! The load generator: a separate process, so that its costs are not counted as those of another.
//!
//! Closed loop: each connection sends the next webhook when the last one is answered, which finds
//! the highest rate. Open loop: webhooks are due at fixed times, whether or not earlier ones were
//! answered, and latency counts from the due time: a stall affects every webhook that had to wait
//! (no "coordinated omission").

use std::cell::{Cell, RefCell};
use std::io::BufRead as _;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until};

use super::application::{self, Form};
use super::events::{self, Mix};
use super::process::print_line;

/// The load, its target, and its mode.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// `host:port`
    pub(crate) address: String,
    pub(crate) form: Form,
    /// Of Stripe's events.
    pub(crate) mix: Mix,
    /// Unique among the plans of one run, so that their events differ.
    pub(crate) seed: u64,
    pub(crate) connections: usize,
    /// A closed loop sends as many as possible in this time, an open loop exactly those that are
    /// due.
    pub(crate) seconds: f64,
    /// A closed loop ends earlier when this many have been sent.
    pub(crate) most: usize,
    /// Webhooks per second of an open loop; `None` for a closed loop.
    pub(crate) rate: Option<f64>,
}

/// The result.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(crate) stored: u64,
    pub(crate) refused: u64,
    pub(crate) seconds: f64,
    /// Milliseconds to the response.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
}

/// The process: reads a plan from the first line of standard input, prints `ready`, waits for a
/// line, and prints the result.
pub(crate) fn main() {
    let mut lines = std::io::stdin().lock().lines();
    let mut line = || lines.next().expect("a line").expect("standard input");
    let plan: Plan = serde_json::from_str(&line()).expect("a plan");
    let now_s = jiff::Timestamp::now().as_second();
    let due = plan
        .rate
        .map_or(plan.most, |rate| rounded(rate * plan.seconds));
    let bodies = match plan.form {
        Form::Stripe => plan.mix.bodies(plan.seed, due, now_s),
        form => application::bodies(form, plan.seed, due, now_s),
    };
    let request = |body: &String| match plan.form {
        Form::Stripe => events::request(&plan.address, "/webhooks/stripe", body, now_s),
        form => application::request(&plan.address, form, body, now_s),
    };
    let requests: Vec<Bytes> = bodies.iter().map(request).collect();
    drop(bodies);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let sent = LocalSet::new().block_on(&runtime, async {
        let mut connections = Vec::new();
        for _ in 0..plan.connections {
            let stream = TcpStream::connect(&plan.address)
                .await
                .expect("a connection");
            stream.set_nodelay(true).expect("a socket");
            connections.push(stream);
        }
        print_line("ready");
        line();
        send(&plan, requests, connections).await
    });
    print_line(&serde_json::to_string(&sent).expect("JSON"));
}

/// The shared state of the connections.
struct Shared {
    requests: Vec<Bytes>,
    next: Cell<usize>,
    began: Instant,
    plan: Plan,
    micros: RefCell<Histogram<u64>>,
    stored: Cell<u64>,
    refused: Cell<u64>,
}

async fn send(plan: &Plan, requests: Vec<Bytes>, connections: Vec<TcpStream>) -> Sent {
    let micros = Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds");
    let shared = Rc::new(Shared {
        requests,
        next: Cell::new(0),
        began: Instant::now(),
        plan: plan.clone(),
        micros: RefCell::new(micros),
        stored: Cell::new(0),
        refused: Cell::new(0),
    });
    let all: Vec<_> = connections
        .into_iter()
        .map(|connection| tokio::task::spawn_local(shared.clone().connection(connection)))
        .collect();
    for one in all {
        one.await.expect("no panic");
    }
    let micros = shared.micros.borrow();
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a minute")]
    let ms = |value: u64| value as f64 / 1000.0;
    Sent {
        stored: shared.stored.get(),
        refused: shared.refused.get(),
        seconds: shared.began.elapsed().as_secs_f64(),
        p50_ms: ms(micros.value_at_quantile(0.5)),
        p99_ms: ms(micros.value_at_quantile(0.99)),
        p999_ms: ms(micros.value_at_quantile(0.999)),
        max_ms: ms(micros.max()),
    }
}

impl Shared {
    async fn connection(self: Rc<Self>, mut stream: TcpStream) {
        let mut buffer = vec![0; 4096];
        while let Some((request, due)) = self.take() {
            let started = match due {
                Some(due) => {
                    sleep_until(due).await;
                    due
                }
                None => Instant::now(),
            };
            stream.write_all(&request).await.expect("sent");
            let stored = read_response(&mut stream, &mut buffer).await;
            let took = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.micros.borrow_mut().saturating_record(took.max(1));
            let counter = if stored { &self.stored } else { &self.refused };
            counter.set(counter.get() + 1);
        }
    }

    /// The next request, with its due time in an open loop.
    fn take(&self) -> Option<(Bytes, Option<Instant>)> {
        let n = self.next.get();
        let request = self.requests.get(n)?.clone();
        let due = match self.plan.rate {
            #[expect(clippy::cast_precision_loss, reason = "below a million")]
            Some(rate) => Some(self.began + Duration::from_secs_f64(n as f64 / rate)),
            None if self.began.elapsed().as_secs_f64() >= self.plan.seconds => return None,
            None => None,
        };
        self.next.set(n + 1);
        Some((request, due))
    }
}

/// Reads one response; returns whether the event is stored.
async fn read_response(stream: &mut TcpStream, buffer: &mut [u8]) -> bool {
    let mut length = 0;
    loop {
        let read = stream.read(&mut buffer[length..]).await.expect("an answer");
        assert!(
            read > 0,
            "the connection was closed: {}",
            String::from_utf8_lossy(&buffer[..length])
        );
        length += read;
        if is_complete(&buffer[..length]) {
            return buffer.starts_with(b"HTTP/1.1 200");
        }
    }
}

fn is_complete(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|w| w == b"\r\n\r\n") else {
        return false;
    };
    let text = String::from_utf8_lossy(&answer[..head]);
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    answer.len() >= head + 4 + length.unwrap_or(0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "below a million"
)]
fn rounded(count: f64) -> usize {
    count.round() as usize
}
