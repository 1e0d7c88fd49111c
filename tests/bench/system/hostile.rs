//! Signed events that are made to cost much: what one takes of time and memory, and how long thousands of updates
//! of one object in one second take.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;

use super::events;
use super::pipeline::{Bench, Group, Pipeline, processed, until};
use super::process::{Measured, Started};
use super::report::Values;
use super::support::redis::RedisServer;

/// The default of `limits.body_bytes`.
const BYTES: usize = 512 * 1024;

/// Each is measured so often, because processor time is counted in hundredths of a second.
const REPEATS: usize = 20;

/// How many connections send them: as Stripe does, many at one time.
const SENDERS: usize = 64;

/// The updates of one object in one second.
const UPDATES: usize = 6_000;

impl Bench<'_> {
    pub(super) fn hostile(&mut self) {
        for pipeline in self.pipelines() {
            for (about, begin, element, end) in KINDS {
                self.measure(
                    Group::Hostile,
                    &format!("{about}: {}", pipeline.name()),
                    |bench| {
                        let body = |n| event(n, &repeated(begin, element, end));
                        bench.each(pipeline, REPEATS, 1, &body)
                    },
                );
            }
            let name = format!(
                "{UPDATES} updates of one object in one second: {}",
                pipeline.name()
            );
            self.measure(Group::Hostile, &name, |bench| {
                bench.each(pipeline, UPDATES, SENDERS, &update)
            });
        }
    }

    /// Sends one event to an idle pipeline, then so many more, and waits until all are applied.
    fn each(
        &mut self,
        pipeline: Pipeline,
        count: usize,
        senders: usize,
        body: &(dyn Fn(usize) -> String + Sync),
    ) -> Values {
        let (redis, folder) = (RedisServer::start(), tempfile::tempdir().expect("a folder"));
        let variables = self.new_store(pipeline, &redis, folder.path());
        let (processes, started) = pipeline.start(&variables);
        send(&started, 0..1, 1, &|_| event(usize::MAX, ""));
        let sums = || {
            let cpu_s = processes.iter().map(Measured::cpu_s).sum::<f64>();
            (cpu_s, processes.iter().map(Measured::rss_mb).sum::<f64>())
        };
        let (_, idle_mb) = sums();
        processes.iter().for_each(Measured::forget_peak);
        send(&started, 0..1, 1, body);
        let peak_mb = processes.iter().map(Measured::peak_mb).sum::<f64>();
        let (before, _) = sums();
        let began = Instant::now();
        let sent = send(&started, 1..count + 1, senders, body);
        let seconds = began.elapsed();
        vec![
            ("seconds", seconds.as_secs_f64()),
            ("drain_seconds", (seconds - sent).as_secs_f64()),
            ("ms_each", (sums().0 - before) * 1000.0 / count as f64),
            ("one_over_idle_mb", peak_mb - idle_mb),
        ]
    }
}

/// Sends them on so many connections, on each one after another, and waits until all are processed. Returns how long it
/// took until the last was answered.
fn send(
    started: &Started,
    numbers: Range<usize>,
    senders: usize,
    body: &(dyn Fn(usize) -> String + Sync),
) -> Duration {
    let now_s = jiff::Timestamp::now().as_second();
    let address = started.webhooks.as_str();
    let count = numbers.len();
    let requests: Vec<_> = numbers
        .map(|n| events::request(address, "/webhooks/stripe", &body(n), now_s))
        .collect();
    let already = processed(&started.admin);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for part in requests.chunks(count.div_ceil(senders)) {
            scope.spawn(move || send_each(address, part));
        }
    });
    let sent = began.elapsed();
    until(|| (processed(&started.admin) >= already + count as u64).then_some(()));
    sent
}

fn send_each(address: &str, requests: &[Bytes]) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    let mut answer = [0; 4096];
    for request in requests {
        stream.write_all(request).expect("sent");
        let length = stream.read(&mut answer).expect("an answer");
        assert!(
            answer[..length].starts_with(b"HTTP/1.1 200"),
            "it is stored"
        );
    }
}

/// What is repeated within the object and `previous_attributes`.
const KINDS: [(&str, &str, &str, &str); 5] = [
    ("hostile: empty items", r#","items":{"data":["#, "{}", "]}}"),
    (
        "hostile: empty discounts of an item",
        r#","items":{"data":[{"discounts":["#,
        "{}",
        "]}]}}",
    ),
    (
        "hostile: longer items",
        r#","items":{"data":["#,
        r#"{"id":"si_of_some_length"}"#,
        "]}}",
    ),
    ("hostile: many fields", ",", r#""a":0"#, "}"),
    (
        "hostile: previous attributes",
        r#"},"previous_attributes":{"items":{"data":["#,
        "{}",
        "]}}",
    ),
];

/// About half a megabyte.
fn repeated(begin: &str, element: &str, end: &str) -> String {
    let count = (BYTES - 1_000) / (element.len() + 1);
    // Former attributes of more bytes are not read at all.
    let count = if begin.starts_with('}') {
        count / 2
    } else {
        count
    };
    format!("{begin}{}{end}", vec![element; count].join(","))
}

/// About a subscription of its own. `rest` closes the object, if there is any.
fn event(n: usize, rest: &str) -> String {
    let rest = if rest.is_empty() { "}" } else { rest };
    let now_s = jiff::Timestamp::now().as_second();
    format!(
        r#"{{"id":"evt_hostile_{n}","type":"customer.subscription.updated","created":{now_s},"livemode":true,
            "data":{{"object":{{"id":"sub_{n}","object":"subscription","status":"active"{rest}}}}}"#
    )
}

/// Of one subscription, in one second of the past.
fn update(n: usize) -> String {
    let items = |quantity: usize| {
        json!({"data": [{"id": "si_1", "quantity": quantity, "price": {"id": "price_1", "unit_amount": 1000,
            "recurring": {"interval": "month", "interval_count": 1}}}]})
    };
    let object = json!({"id": "sub_1", "object": "subscription", "status": "active", "currency": "usd",
        "items": items(n + 1)});
    json!({"id": format!("evt_update_{n}"), "type": "customer.subscription.updated", "livemode": true,
        "created": 1_795_900_000, "data": {"object": object, "previous_attributes": {"items": items(n)}}})
    .to_string()
}
