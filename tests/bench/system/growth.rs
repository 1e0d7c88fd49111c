//! Scaling: costs by number of partitions, workers, entities, alerts and rules, on a Redis Cluster
//! and with replicas; and the speed of a rebuild. Measured one time, whatever the number of rounds.

use std::path::Path;
use std::time::Instant;

use clap::ValueEnum as _;
use secrecy::{ExposeSecret as _, SecretString};

use super::conversion::conversions;
use super::events::Mix;
use super::memory::bytes_per_entity;
use super::pipeline::{Bench, Group, Pipeline, shipped};
use super::process::{Measured, Variables};
use super::report::Values;
use super::support::redis::{RedisCluster, RedisServer};
use super::tick::{Size, StoreKind, idle_ticks};

impl Bench<'_> {
    pub(super) fn growth(&mut self) {
        for pipeline in self.pipelines() {
            self.measure(
                Group::Rebuild,
                &format!("rebuild: {}", pipeline.name()),
                |bench| bench.rebuilt(pipeline),
            );
        }
        self.mixes();
        self.hostile();
        if self.is_selected(Group::Growth) {
            self.partitions_and_workers();
        }
        self.ticks();
        self.bytes();
        self.conversions();
        // Last: its servers keep running during later measurements.
        if self.is_selected(Group::Growth) {
            self.replicas();
        }
    }

    /// The complete pipeline with other kinds of load.
    fn mixes(&mut self) {
        for pipeline in self.pipelines() {
            for mix in Mix::value_variants() {
                let word = mix.to_possible_value().expect("none is hidden");
                self.measure(
                    Group::Mixes,
                    &format!("events of mix {}: {}", word.get_name(), pipeline.name()),
                    |bench| {
                        let folder = tempfile::tempdir().expect("a folder");
                        let (processes, started) =
                            pipeline.start(&bench.variables(pipeline, folder.path()));
                        bench.end_to_end(&processes, &started, *mix)
                    },
                );
            }
        }
    }

    fn partitions_and_workers(&mut self) {
        for (partitions, workers) in [
            (1, 1),
            (2, 1),
            (4, 1),
            (8, 1),
            (16, 1),
            (8, 2),
            (8, 3),
            (8, 4),
        ] {
            let single = [RedisServer::start()];
            let name = format!("{partitions} partitions, {workers} workers");
            self.grown(&name, partitions, workers, &single[0].url(), &single);
        }
        for workers in [1, 2] {
            let cluster = RedisCluster::start(3);
            let name = format!("8 partitions, {workers} workers, Redis Cluster of 3");
            self.grown(&name, 8, workers, &cluster.url(), &cluster.nodes);
        }
    }

    /// Everything is stored three times. Redis does not wait for its replicas, RabbitMQ waits for
    /// one.
    fn replicas(&mut self) {
        let primary = RedisServer::start();
        let stores = [primary.start_replica(), primary.start_replica(), primary];
        for _ in 0..2 {
            self.replicas.push(
                self.runtime
                    .block_on(self.rabbitmq.start_replica(&shipped())),
            );
        }
        self.grown(
            "8 partitions, 1 workers, three replicas",
            8,
            1,
            &stores[2].url(),
            &stores,
        );
    }

    /// Ingest, and then worker, with this many partitions.
    fn grown(
        &mut self,
        name: &str,
        partitions: u32,
        workers: usize,
        redis: &SecretString,
        stores: &[RedisServer],
    ) {
        let variables = self.empty_servers(redis.expose_secret(), partitions);
        self.prepare(&variables);
        self.measure(Group::Growth, &format!("ingest: {name}"), |bench| {
            let (process, started) = Measured::revwatch(&variables, "ingest");
            bench.ingested(&process, &started.webhooks)
        });
        self.measure(Group::Growth, &format!("worker: {name}"), |bench| {
            bench.drained(&variables, workers, stores)
        });
    }

    /// An unused environment: a new Redis and a new folder.
    pub(super) fn new_store(
        &self,
        pipeline: Pipeline,
        redis: &RedisServer,
        folder: &Path,
    ) -> Variables {
        if pipeline == Pipeline::Embedded {
            return vec![("REVWATCH_DATA", folder.display().to_string())];
        }
        let variables = self.empty_servers(redis.url().expose_secret(), 8);
        self.prepare(&variables);
        variables
    }

    /// An unused virtual host, and a Redis.
    fn empty_servers(&self, redis_url: &str, partitions: u32) -> Variables {
        vec![
            (
                "REVWATCH_AMQP_URL",
                self.rabbitmq.url().expose_secret().to_owned(),
            ),
            ("REVWATCH_REDIS_URL", redis_url.to_owned()),
            ("REVWATCH_PARTITIONS", partitions.to_string()),
        ]
    }

    /// The speed of `revwatch rebuild` through the archive, with nothing else running.
    fn rebuilt(&mut self, pipeline: Pipeline) -> Values {
        let (redis, folder) = (RedisServer::start(), tempfile::tempdir().expect("a folder"));
        let variables = self.new_store(pipeline, &redis, folder.path());
        let (process, started) = Measured::revwatch(&variables, "ingest");
        self.ingested(&process, &started.webhooks);
        drop(process);
        self.drained(&variables, 1, std::slice::from_ref(&redis));
        let (began, before) = (Instant::now(), self.broker_s());
        let process = Measured::spawn(
            &variables,
            env!("CARGO_BIN_EXE_revwatch"),
            &["rebuild", "--yes", "--by", "bench", "--json"],
        );
        process.ends();
        let seconds = began.elapsed().as_secs_f64();
        let count = self.count as f64;
        vec![
            ("per_s", count / seconds),
            ("broker_us", (self.broker_s() - before) * 1e6 / count),
        ]
    }

    /// An idle tick with more and more entities, with more and more alerts, and with ten times as
    /// many rules.
    fn ticks(&mut self) {
        if !self.is_selected(Group::Tick) {
            return;
        }
        let [some, many, alerts] = if self.options.quick {
            [1_000, 10_000, 1_000]
        } else {
            [10_000, 1_000_000, 100_000]
        };
        let sizes = [
            (100, 100, 1),
            (some, 100, 1),
            (many, 100, 1),
            (some, 100, 10),
            (alerts, alerts, 1),
        ];
        let sizes: [_; 5] = sizes.map(|(entities, alerts, rules)| Size {
            entities,
            alerts,
            rules,
        });
        for pipeline in self.pipelines() {
            let (name, kind) = match pipeline {
                Pipeline::Servers => ("Redis", StoreKind::Redis),
                Pipeline::Embedded => ("SQLite", StoreKind::Sqlite),
            };
            eprintln!("  ticks: {name}");
            let values = self.runtime.block_on(idle_ticks(kind, &sizes));
            for (
                Size {
                    entities,
                    alerts,
                    rules,
                },
                values,
            ) in sizes.iter().zip(values)
            {
                let more = if *rules > 1 {
                    format!(", {rules} times the rules")
                } else {
                    String::new()
                };
                self.report.add(
                    &format!("tick: {entities} entities, {alerts} alerts{more}, {name}"),
                    values,
                );
            }
        }
    }

    fn bytes(&mut self) {
        if !self.is_selected(Group::Memory) {
            return;
        }
        eprintln!("  bytes per entity");
        let count = if self.options.quick { 2_000 } else { 20_000 };
        for (name, values) in self.runtime.block_on(bytes_per_entity(count)) {
            self.report.add(&name, values);
        }
    }

    fn conversions(&mut self) {
        if !self.is_selected(Group::Conversion) {
            return;
        }
        eprintln!("  conversion of the state");
        let count = if self.options.quick { 20_000 } else { 200_000 };
        for (name, values) in self.runtime.block_on(conversions(count)) {
            self.report.add(name, values);
        }
    }
}
