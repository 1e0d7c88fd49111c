//! Webhooks through the pipeline and through its parts.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use secrecy::ExposeSecret as _;
use tokio::runtime::Runtime;

use super::application::Form;
use super::bare;
use super::events::Mix;
use super::load::{Plan, Sent};
use super::process::{Loaded, Measured, Started, Variables, cpu_s};
use super::report::{Report, Values};
use super::support::rabbitmq::RabbitServer;
use super::support::redis::RedisServer;
use super::{Options, alerts};

/// The shared environment of all measurements.
pub(crate) struct Bench<'a> {
    pub(super) options: &'a Options,
    pub(super) runtime: &'a Runtime,
    pub(super) rabbitmq: RabbitServer,
    /// Additional nodes of its cluster.
    pub(super) replicas: Vec<RabbitServer>,
    amqp_url: String,
    redis: RedisServer,
    /// Number of webhooks of one measurement.
    pub(super) count: usize,
    /// Number of webhooks of one measurement at a fixed rate.
    seconds: f64,
    seed: u64,
    pub(super) report: Report,
}

const CONNECTIONS: usize = 64;

/// Enough to keep the slowest part busy, although each webhook waits for all parts.
const MANY_CONNECTIONS: usize = 256;

/// The setups of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pipeline {
    /// Three processes on RabbitMQ and Redis.
    Servers,
    /// One process with an embedded store.
    Embedded,
}

/// The groups of measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    /// Memory and startup time, while idle.
    Idle,
    /// Ingest and worker separately, compared with their minimal costs.
    Parts,
    /// From the webhook to the commit, all roles.
    EndToEnd,
    /// How long Stripe waits for the response.
    Accept,
    /// How long people wait for the message.
    Slack,
    /// A rebuild of the state from the archive.
    Rebuild,
    /// The pipeline with other kinds of load.
    Mixes,
    /// Partitions, workers, a Redis Cluster, replicas.
    Growth,
    /// An idle tick of the evaluator, with entities, alerts and rules.
    Tick,
    /// Bytes per entity.
    Memory,
    /// The state of an earlier version is converted.
    Conversion,
    /// Signed events that are made to cost much.
    Hostile,
    /// Events of the user's own application, next to Stripe's.
    Application,
}

pub(crate) fn run(options: &Options, runtime: &Runtime) {
    let rabbitmq = runtime.block_on(RabbitServer::start_with(&shipped()));
    let amqp_url = rabbitmq.url().expose_secret().to_owned();
    let mut bench = Bench {
        options,
        runtime,
        rabbitmq,
        replicas: Vec::new(),
        amqp_url,
        redis: RedisServer::start(),
        count: if options.quick { 20_000 } else { 60_000 },
        seconds: if options.quick { 5.0 } else { 20.0 },
        seed: 1,
        report: Report::default(),
    };
    // The bare parts use the same exchanges and queues.
    bench.prepare(&bench.servers());
    let rounds = options.rounds.unwrap_or(if options.quick { 1 } else { 3 });
    for pipeline in bench.pipelines() {
        bench.idle(pipeline, rounds);
    }
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        bench.round();
    }
    eprintln!("growth");
    bench.growth();
    bench.report.show(options.json.as_deref());
}

/// RabbitMQ's default settings, except for memory and disk limits.
pub(super) fn shipped() -> String {
    let shipped = include_str!("../../../deploy/compose/rabbitmq.conf").lines();
    shipped
        .filter(|line| line.starts_with("raft."))
        .collect::<Vec<_>>()
        .join("\n")
}

impl Pipeline {
    /// All roles, after alerting has evaluated the existing state; with the addresses of webhooks
    /// and metrics.
    pub(crate) fn start(self, variables: &Variables) -> (Vec<Measured>, Started) {
        match self {
            Self::Embedded => {
                let (process, started) = Measured::revwatch(variables, "ingest,worker,alerting");
                has_evaluated(&started.admin);
                (vec![process], started)
            }
            Self::Servers => {
                let (ingest, started) = Measured::revwatch(variables, "ingest");
                let (worker, Started { admin, .. }) = Measured::revwatch(variables, "worker");
                let (alerting, alerting_addresses) = Measured::revwatch(variables, "alerting");
                has_evaluated(&alerting_addresses.admin);
                (
                    vec![ingest, worker, alerting],
                    Started {
                        admin,
                        webhooks: started.webhooks,
                    },
                )
            }
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Servers => "RabbitMQ + Redis",
            Self::Embedded => "embedded",
        }
    }
}

impl Bench<'_> {
    pub(super) fn is_selected(&self, group: Group) -> bool {
        self.options.only.is_empty() || self.options.only.contains(&group)
    }

    /// The selected groups.
    pub(super) fn pipelines(&self) -> impl Iterator<Item = Pipeline> + use<> {
        let on = self.options.on;
        [Pipeline::Servers, Pipeline::Embedded]
            .into_iter()
            .filter(move |pipeline| on.is_none_or(|on| on == *pipeline))
    }

    /// Records the result of `measuring`, if its group is selected.
    pub(super) fn measure(
        &mut self,
        group: Group,
        name: &str,
        measuring: impl FnOnce(&mut Self) -> Values,
    ) {
        if self.is_selected(group) {
            let values = measuring(self);
            self.report.add(name, values);
        }
    }

    /// Measures everything one time. Compared measurements are adjacent.
    fn round(&mut self) {
        self.measure(Group::Parts, "bare axum + HMAC", |bench| {
            let (process, address) = Measured::part("bare-http", &Variables::new());
            bench.ingested(&process, &address)
        });
        self.measure(Group::Parts, "bare lapin publish", |bench| {
            bench.job("bare-publish")
        });
        self.purge();
        self.measure(Group::Parts, "ingest: prototype", |bench| {
            let (process, address) = Measured::part(
                "prototype-ingest",
                &vec![("AMQP_URL", bench.amqp_url.clone())],
            );
            bench.ingested(&process, &address)
        });
        self.measure(Group::Parts, "worker: prototype", |bench| {
            bench.job("prototype-worker")
        });
        self.purge();
        self.others();
        for pipeline in self.pipelines() {
            self.pipeline(pipeline);
        }
    }

    fn pipeline(&mut self, pipeline: Pipeline) {
        let name = pipeline.name();
        let folder = tempfile::tempdir().expect("a folder");
        let variables = self.variables(pipeline, folder.path());
        self.measure(Group::Parts, &format!("ingest: {name}"), |bench| {
            let (process, started) = Measured::revwatch(&variables, "ingest");
            bench.ingested(&process, &started.webhooks)
        });
        self.measure(Group::Parts, &format!("worker: {name}"), |bench| {
            bench.drained(&variables, 1, std::slice::from_ref(&bench.redis))
        });
        self.purge();
        self.measure(Group::EndToEnd, &format!("end to end: {name}"), |bench| {
            let (processes, started) = pipeline.start(&variables);
            bench.end_to_end(&processes, &started, Mix::Ordinary)
        });
        self.accept(pipeline, &variables);
        self.application(pipeline);
        for rate in [100.0, 1000.0] {
            self.measure(
                Group::Slack,
                &format!("webhook to Slack at {rate}/s: {name}"),
                |bench| {
                    let plan = Plan {
                        rate: Some(rate),
                        seconds: bench.seconds,
                        ..bench.plan()
                    };
                    bench
                        .runtime
                        .block_on(alerts::webhook_to_slack(pipeline, &variables, plan))
                },
            );
        }
    }

    /// The memory of each role while idle and unused.
    fn idle(&mut self, pipeline: Pipeline, rounds: usize) {
        if !self.is_selected(Group::Idle) {
            return;
        }
        let (redis, folder) = (RedisServer::start(), tempfile::tempdir().expect("a folder"));
        let variables = self.new_store(pipeline, &redis, folder.path());
        for _ in 0..rounds {
            for roles in ["ingest", "worker", "alerting", "ingest,worker,alerting"] {
                self.measure(
                    Group::Idle,
                    &format!("idle: {roles}, {}", pipeline.name()),
                    |_| idle(&variables, roles),
                );
            }
        }
    }

    /// Response latencies, compared with those of the minimal parts.
    fn accept(&mut self, pipeline: Pipeline, variables: &Variables) {
        let name = pipeline.name();
        let prototype = |bench: &Self| {
            Measured::part(
                "prototype-ingest",
                &vec![("AMQP_URL", bench.amqp_url.clone())],
            )
        };
        if pipeline == Pipeline::Servers {
            self.measure(
                Group::Accept,
                "accept at 5,000/s, prototype ingest alone",
                |bench| {
                    let (process, address) = prototype(bench);
                    bench.accepted(&[process], &address)
                },
            );
            self.purge();
        }
        self.measure(
            Group::Accept,
            &format!("accept at 5,000/s, ingest alone: {name}"),
            |bench| {
                // Unprocessed deliveries must not delay the next measurement.
                let elsewhere = tempfile::tempdir().expect("a folder");
                let (process, started) =
                    Measured::revwatch(&bench.variables(pipeline, elsewhere.path()), "ingest");
                bench.accepted(&[process], &started.webhooks)
            },
        );
        self.purge();
        if pipeline == Pipeline::Servers {
            self.measure(
                Group::Accept,
                "accept at 5,000/s, prototype pipeline",
                |bench| {
                    let (process, address) = prototype(bench);
                    let mut variables = bench.variables_of_a_part();
                    variables.push(("COUNT", usize::MAX.to_string()));
                    bench.accepted(
                        &[
                            process,
                            Measured::spawn_part("prototype-worker", &variables),
                        ],
                        &address,
                    )
                },
            );
            self.purge();
        }
        self.measure(
            Group::Accept,
            &format!("accept at 5,000/s, complete pipeline: {name}"),
            |bench| {
                let (processes, started) = pipeline.start(variables);
                bench.accepted(&processes, &started.webhooks)
            },
        );
    }

    /// Declares exchanges and queues, and lets a worker complete the new store: otherwise it would
    /// replay the archive during the measurement.
    pub(super) fn prepare(&self, variables: &Variables) {
        let (worker, _) = Measured::revwatch(variables, "worker");
        worker.wait_for("the archive is replayed");
    }

    /// Waits until RabbitMQ's queues are empty.
    pub(super) fn purge(&self) {
        self.runtime.block_on(bare::purge(&self.amqp_url));
    }

    /// The environment of the data.
    pub(super) fn variables(&self, pipeline: Pipeline, folder: &Path) -> Variables {
        match pipeline {
            Pipeline::Servers => self.servers(),
            Pipeline::Embedded => vec![("REVWATCH_DATA", folder.display().to_string())],
        }
    }

    fn servers(&self) -> Variables {
        let redis = self.redis.url().expose_secret().to_owned();
        vec![
            ("REVWATCH_AMQP_URL", self.amqp_url.clone()),
            ("REVWATCH_REDIS_URL", redis),
        ]
    }

    pub(super) fn variables_of_a_part(&self) -> Variables {
        let redis = self.redis.url().expose_secret().to_owned();
        vec![("AMQP_URL", self.amqp_url.clone()), ("REDIS_URL", redis)]
    }

    /// As many as possible, one after the other on each connection.
    pub(super) fn plan(&mut self) -> Plan {
        self.seed += 1;
        Plan {
            address: String::new(),
            form: Form::Stripe,
            mix: Mix::Ordinary,
            seed: self.seed,
            connections: CONNECTIONS,
            seconds: 60.0,
            most: self.count,
            rate: None,
        }
    }

    /// Sends as many as possible to an ingest.
    pub(super) fn ingested(&mut self, process: &Measured, address: &str) -> Values {
        self.ingested_of(self.count, process, address)
    }

    /// Sends this many to an ingest.
    pub(super) fn ingested_of(&mut self, most: usize, process: &Measured, address: &str) -> Values {
        let plan = Plan {
            address: address.to_owned(),
            most,
            ..self.plan()
        };
        self.ingested_as(&plan, process)
    }

    /// Sends what the plan says to an ingest.
    pub(super) fn ingested_as(&self, plan: &Plan, process: &Measured) -> Values {
        let loaded = Loaded::new(plan);
        let before = [process.cpu_s(), self.broker_s()];
        let sent = loaded.send();
        let after = [process.cpu_s(), self.broker_s()];
        let [us, broker_us] = per_event(before, after, sent.stored);
        let mut values = vec![
            ("us", us),
            ("broker_us", broker_us),
            ("rss_mb", process.rss_mb()),
        ];
        values.extend(latency(&sent));
        values
    }

    /// Response latencies at 5,000 webhooks a second.
    fn accepted(&mut self, processes: &[Measured], address: &str) -> Values {
        let seconds = self.seconds;
        let plan = Plan {
            rate: Some(5_000.0),
            seconds,
            connections: 256,
            address: address.to_owned(),
            ..self.plan()
        };
        let loaded = Loaded::new(&plan);
        let sent = loaded.send();
        let mut values = latency(&sent);
        values.push(("rss_mb", processes.iter().map(Measured::rss_mb).sum()));
        values
    }

    /// Lets workers process all waiting deliveries.
    pub(super) fn drained(
        &self,
        variables: &Variables,
        workers: usize,
        stores: &[RedisServer],
    ) -> Values {
        let processes: Vec<_> = (0..workers)
            .map(|_| Measured::revwatch(variables, "worker"))
            .collect();
        let dealt = || {
            processes
                .iter()
                .map(|(_, started)| processed(&started.admin))
                .sum::<u64>()
        };
        let cpu_s = || {
            let own = processes.iter().map(|(process, _)| process.cpu_s()).sum();
            [
                own,
                self.broker_s(),
                stores.iter().map(|store| cpu_s(store.process())).sum(),
            ]
        };
        let (began, already) = until(|| Some(dealt()).filter(|n| *n > 0));
        let (before, count) = (cpu_s(), self.count as u64);
        let (ended, _) = until(|| Some(dealt()).filter(|n| *n >= count));
        let left = count.saturating_sub(already);
        let [us, broker_us, store_us] = per_event(before, cpu_s(), left);
        vec![
            ("per_s", left as f64 / (ended - began).as_secs_f64()),
            ("us", us),
            ("broker_us", broker_us),
            ("store_us", store_us),
            (
                "rss_mb",
                processes.iter().map(|(process, _)| process.rss_mb()).sum(),
            ),
        ]
    }

    fn job(&mut self, part: &str) -> Values {
        self.seed += 1;
        let mut variables = self.variables_of_a_part();
        variables.extend([
            ("SEED", self.seed.to_string()),
            ("COUNT", self.count.to_string()),
        ]);
        let before = [self.broker_s(), self.redis_s()];
        let (process, done) = Measured::job(part, &variables);
        let [broker_us, store_us] =
            per_event(before, [self.broker_s(), self.redis_s()], self.count as u64);
        process.ends();
        let number = |name: &str| done[name].as_f64().expect("a number");
        let count = number("count");
        vec![
            ("per_s", count / number("seconds")),
            ("us", number("cpu_s") * 1e6 / count),
            ("broker_us", broker_us),
            ("store_us", store_us),
        ]
    }

    pub(super) fn end_to_end(
        &mut self,
        processes: &[Measured],
        started: &Started,
        mix: Mix,
    ) -> Values {
        let plan = Plan { mix, ..self.plan() };
        self.end_to_end_as(&plan, processes, started)
    }

    /// Sends what the plan says, on many connections.
    pub(super) fn end_to_end_as(
        &self,
        plan: &Plan,
        processes: &[Measured],
        started: &Started,
    ) -> Values {
        let loaded = Loaded::new(&Plan {
            address: started.webhooks.clone(),
            connections: MANY_CONNECTIONS,
            ..plan.clone()
        });
        let cpu_s = || {
            [
                processes.iter().map(Measured::cpu_s).sum(),
                self.broker_s(),
                self.redis_s(),
            ]
        };
        let (before, began, already) = (cpu_s(), Instant::now(), processed(&started.admin));
        let sent = loaded.send();
        let (ended, _) =
            until(|| Some(processed(&started.admin)).filter(|n| *n >= already + sent.stored));
        let [us, broker_us, store_us] = per_event(before, cpu_s(), sent.stored);
        let mut values = vec![("us", us), ("broker_us", broker_us), ("store_us", store_us)];
        values.extend(latency(&sent));
        values.retain(|(name, _)| *name != "per_s");
        values.push(("per_s", sent.stored as f64 / (ended - began).as_secs_f64()));
        values.push(("rss_mb", processes.iter().map(Measured::rss_mb).sum()));
        values
    }

    pub(super) fn broker_s(&self) -> f64 {
        std::iter::once(&self.rabbitmq)
            .chain(&self.replicas)
            .map(|node| cpu_s(node.process()))
            .sum()
    }

    fn redis_s(&self) -> f64 {
        cpu_s(self.redis.process())
    }
}

/// The memory of an idle process, and its startup time.
fn idle(variables: &Variables, roles: &str) -> Values {
    let began = Instant::now();
    let (process, _) = Measured::revwatch(variables, roles);
    let start_ms = began.elapsed().as_secs_f64() * 1000.0;
    // Until it has evaluated everything one time.
    std::thread::sleep(Duration::from_secs(3));
    vec![("start_ms", start_ms), ("rss_mb", process.rss_mb())]
}

/// Microseconds of processor time per event.
fn per_event<const N: usize>(before: [f64; N], after: [f64; N], events: u64) -> [f64; N] {
    std::array::from_fn(|i| (after[i] - before[i]) * 1e6 / events as f64)
}

fn latency(sent: &Sent) -> Values {
    assert_eq!(sent.refused, 0, "no webhook is refused");
    vec![
        ("per_s", sent.stored as f64 / sent.seconds),
        ("p50_ms", sent.p50_ms),
        ("p99_ms", sent.p99_ms),
        ("p999_ms", sent.p999_ms),
        ("max_ms", sent.max_ms),
    ]
}

/// Polls until there is a result; returns the time as well.
pub(super) fn until<T>(mut poll: impl FnMut() -> Option<T>) -> (Instant, T) {
    let began = Instant::now();
    loop {
        if let Some(answer) = poll() {
            return (Instant::now(), answer);
        }
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "timed out after 60 s"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Deliveries that a worker has processed, whatever the result.
pub(super) fn processed(admin: &str) -> u64 {
    counted(admin, "revwatch_worker_events_total{")
}

/// Waits until alerting has evaluated everything one time.
fn has_evaluated(admin: &str) {
    until(|| (counted(admin, "revwatch_rule_evaluation_seconds_count") > 0).then_some(()));
}

/// The sum over all series of a metric.
fn counted(admin: &str, metric: &str) -> u64 {
    let page = page(admin, "/metrics");
    let values = page.lines().filter(|line| line.starts_with(metric));
    values
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

fn page(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the admin port");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )
    .expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("a page");
    text
}
