//! Webhooks through the pipeline and its parts.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use secrecy::ExposeSecret as _;
use tokio::runtime::Runtime;

use super::Options;
use super::bare;
use super::load::{Plan, Sent};
use super::process::{Loaded, Measured, Variables, cpu_s};
use super::report::{Figures, Report};
use super::support::rabbitmq::RabbitServer;
use super::support::redis::RedisServer;

/// Everything that is measured shares these.
struct Bench {
    rabbitmq: RabbitServer,
    amqp_url: String,
    redis: RedisServer,
    /// Webhooks in one measurement.
    count: usize,
    only: Option<String>,
    seed: u64,
    report: Report,
}

const CONNECTIONS: usize = 64;

pub(crate) fn run(options: &Options, runtime: &Runtime) {
    let rabbitmq = runtime.block_on(RabbitServer::start());
    let amqp_url = rabbitmq.url().expose_secret().to_owned();
    let mut bench = Bench {
        rabbitmq,
        amqp_url,
        redis: RedisServer::start(),
        count: if options.quick { 20_000 } else { 60_000 },
        only: options.only.clone(),
        seed: 1,
        report: Report::default(),
    };
    let rounds = options.rounds.unwrap_or(if options.quick { 1 } else { 3 });
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        bench.round(runtime);
    }
    println!("{}", bench.report.table(&["per_s", "us", "broker_us", "redis_us", "p50_ms", "p99_ms", "max_ms", "rss_mb"]));
}

impl Bench {
    fn wants(&self, name: &str) -> bool {
        let wanted = self.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
        if wanted {
            eprintln!("  {name}");
        }
        wanted
    }

    fn round(&mut self, runtime: &Runtime) {
        if self.wants("bare axum + HMAC") {
            let (process, address) = Measured::part("bare-http", &Variables::new());
            let plan = self.closed(CONNECTIONS);
            let figures = self.ingested(&process, &address, plan);
            self.report.add("bare axum + HMAC", figures);
        }
        if self.wants("rabbitmq") {
            let (process, started) = Measured::revwatch(&self.servers(), "ingest");
            let plan = self.closed(CONNECTIONS);
            let figures = self.ingested(&process, &started.webhooks, plan);
            self.report.add("ingest, rabbitmq", figures);
            drop(process);
            let figures = self.drained(&self.servers());
            self.report.add("worker, rabbitmq", figures);
            runtime.block_on(bare::purge(&self.amqp_url));
        }
        if self.wants("prototype") {
            let variables = vec![("AMQP_URL", self.amqp_url.clone())];
            let (process, address) = Measured::part("prototype-ingest", &variables);
            let plan = self.closed(CONNECTIONS);
            let figures = self.ingested(&process, &address, plan);
            self.report.add("prototype ingest", figures);
            drop(process);
            let figures = self.job("prototype-worker");
            self.report.add("prototype worker", figures);
            runtime.block_on(bare::purge(&self.amqp_url));
        }
        if self.wants("bare lapin publish") {
            let figures = self.job("bare-publish");
            self.report.add("bare lapin publish", figures);
            runtime.block_on(bare::purge(&self.amqp_url));
        }
        if self.wants("embedded") {
            let folder = tempfile::tempdir().expect("a folder");
            let variables = vec![("REVWATCH_DATA", folder.path().display().to_string())];
            let (process, started) = Measured::revwatch(&variables, "ingest");
            let plan = self.closed(CONNECTIONS);
            let figures = self.ingested(&process, &started.webhooks, plan);
            self.report.add("ingest, embedded", figures);
            drop(process);
            let figures = self.drained(&variables);
            self.report.add("worker, embedded", figures);
        }
        if self.wants("end to end, rabbitmq") {
            let (ingest, started) = Measured::revwatch(&self.servers(), "ingest");
            let (worker, worker_started) = Measured::revwatch(&self.servers(), "worker");
            let (alerting, _) = Measured::revwatch(&self.servers(), "alerting");
            let plan = self.closed(CONNECTIONS);
            let figures = self.end_to_end(&[&ingest, &worker, &alerting], &started.webhooks, &worker_started.admin, plan);
            self.report.add("end to end, rabbitmq + redis", figures);
        }
        if self.wants("end to end, embedded") {
            let folder = tempfile::tempdir().expect("a folder");
            let variables = vec![("REVWATCH_DATA", folder.path().display().to_string())];
            let (process, started) = Measured::revwatch(&variables, "ingest,worker,alerting");
            let plan = self.closed(CONNECTIONS);
            let figures = self.end_to_end(&[&process], &started.webhooks, &started.admin, plan);
            self.report.add("end to end, embedded", figures);
        }
    }

    fn servers(&self) -> Variables {
        let redis = self.redis.url().expose_secret().to_owned();
        vec![("REVWATCH_AMQP_URL", self.amqp_url.clone()), ("REVWATCH_REDIS_URL", redis)]
    }

    fn closed(&mut self, connections: usize) -> Plan {
        self.seed += 1;
        Plan {
            address: String::new(),
            path: "/webhooks/stripe".to_owned(),
            seed: self.seed,
            connections,
            seconds: 60.0,
            most: self.count,
            rate: None,
        }
    }

    /// Sends `plan` to an ingest.
    fn ingested(&self, process: &Measured, address: &str, plan: Plan) -> Figures {
        let loaded = Loaded::new(&Plan { address: address.to_owned(), ..plan });
        let before = [process.cpu_s(), self.broker_s()];
        let sent = loaded.send();
        let after = [process.cpu_s(), self.broker_s()];
        let [us, broker_us] = per_event(before, after, sent.stored);
        let mut figures = vec![("us", us), ("broker_us", broker_us), ("rss_mb", process.rss_mb())];
        figures.extend(latency(&sent));
        figures
    }

    /// Lets a worker deal with all that waits.
    fn drained(&self, variables: &Variables) -> Figures {
        let (process, started) = Measured::revwatch(variables, "worker");
        let (began, already) = until(|| Some(dealt_with(&started.admin)).filter(|n| *n > 0));
        let before = [process.cpu_s(), self.broker_s(), self.redis_s()];
        let count = self.count as u64;
        let (ended, _) = until(|| Some(dealt_with(&started.admin)).filter(|n| *n >= count));
        let after = [process.cpu_s(), self.broker_s(), self.redis_s()];
        let dealt = count.saturating_sub(already);
        let [us, broker_us, redis_us] = per_event(before, after, dealt);
        vec![
            ("per_s", dealt as f64 / (ended - began).as_secs_f64()),
            ("us", us),
            ("broker_us", broker_us),
            ("redis_us", redis_us),
            ("rss_mb", process.rss_mb()),
        ]
    }

    fn job(&mut self, part: &str) -> Figures {
        self.seed += 1;
        let mut variables = vec![("AMQP_URL", self.amqp_url.clone()), ("SEED", self.seed.to_string())];
        variables.push(("REDIS_URL", self.redis.url().expose_secret().to_owned()));
        variables.push(("COUNT", self.count.to_string()));
        let before = [self.broker_s(), self.redis_s()];
        let (process, done) = Measured::job(part, &variables);
        let [broker_us, redis_us] = per_event(before, [self.broker_s(), self.redis_s()], self.count as u64);
        process.ends();
        let number = |name: &str| done[name].as_f64().expect("a number");
        let count = number("count");
        vec![
            ("per_s", count / number("seconds")),
            ("us", number("cpu_s") * 1e6 / count),
            ("broker_us", broker_us),
            ("redis_us", redis_us),
        ]
    }

    fn end_to_end(&self, processes: &[&Measured], webhooks: &str, admin: &str, plan: Plan) -> Figures {
        let loaded = Loaded::new(&Plan { address: webhooks.to_owned(), ..plan });
        let cpu_s = || [processes.iter().map(|p| p.cpu_s()).sum(), self.broker_s(), self.redis_s()];
        let (before, began) = (cpu_s(), Instant::now());
        let sent = loaded.send();
        let (ended, _) = until(|| Some(dealt_with(admin)).filter(|n| *n >= sent.stored));
        let [us, broker_us, redis_us] = per_event(before, cpu_s(), sent.stored);
        let mut figures = vec![("us", us), ("broker_us", broker_us), ("redis_us", redis_us)];
        figures.extend(latency(&sent));
        figures.retain(|(name, _)| *name != "per_s");
        figures.push(("per_s", sent.stored as f64 / (ended - began).as_secs_f64()));
        figures.push(("ingest_per_s", sent.stored as f64 / sent.seconds));
        figures.push(("rss_mb", processes.iter().map(|p| p.rss_mb()).sum()));
        figures
    }

    fn broker_s(&self) -> f64 {
        cpu_s(self.rabbitmq.process())
    }

    fn redis_s(&self) -> f64 {
        cpu_s(self.redis.process())
    }
}

/// Microseconds of processor time per event.
fn per_event<const N: usize>(before: [f64; N], after: [f64; N], events: u64) -> [f64; N] {
    std::array::from_fn(|i| (after[i] - before[i]) * 1e6 / events as f64)
}

fn latency(sent: &Sent) -> Figures {
    assert_eq!(sent.refused, 0, "no webhook is refused");
    vec![
        ("per_s", sent.stored as f64 / sent.seconds),
        ("p50_ms", sent.p50_ms),
        ("p99_ms", sent.p99_ms),
        ("p999_ms", sent.p999_ms),
        ("max_ms", sent.max_ms),
    ]
}

/// Asks until there is an answer, and says when.
fn until<T>(mut ask: impl FnMut() -> Option<T>) -> (Instant, T) {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return (Instant::now(), answer);
        }
        assert!(began.elapsed() < Duration::from_secs(120), "it takes too long");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Deliveries a worker has dealt with, whatever came of them.
fn dealt_with(admin: &str) -> u64 {
    let counted = page(admin, "/metrics");
    let values = counted.lines().filter(|line| line.starts_with("revwatch_worker_events_total{"));
    values.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

fn page(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the admin port");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").expect("asked");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("a page");
    text
}
