//! How costs grow: with partitions, with workers, on a Redis Cluster, with entities and alerts; and how fast state is
//! made anew. Measured once, however many rounds there are.

use std::time::Instant;

use secrecy::ExposeSecret as _;

use super::memory::bytes_per_entity;
use super::pipeline::{Bench, Group, Pipeline};
use super::process::{Measured, Variables};
use super::report::Figures;
use super::support::redis::{RedisCluster, RedisServer};
use super::tick::{Size, StoreKind, idle_ticks};

impl Bench<'_> {
    pub(super) fn growth(&mut self) {
        for pipeline in self.pipelines() {
            self.measure(Group::Rebuild, &format!("rebuild: {}", pipeline.name()), |bench| bench.rebuilt(pipeline));
        }
        for partitions in [1, 2, 4, 8, 16] {
            self.grown(&format!("{partitions} partitions, 1 worker"), partitions, 1, 0);
        }
        for workers in [2, 3, 4] {
            self.grown(&format!("8 partitions, {workers} workers"), 8, workers, 0);
        }
        for workers in [1, 2] {
            self.grown(&format!("8 partitions, {workers} workers, Redis Cluster of 3"), 8, workers, 3);
        }
        self.ticks();
        self.bytes();
    }

    /// Ingest, and then worker, with so many partitions.
    fn grown(&mut self, name: &str, partitions: u32, workers: usize, nodes: usize) {
        if !self.wants(Group::Growth) {
            return;
        }
        let cluster = (nodes > 0).then(|| RedisCluster::start(nodes));
        let single = RedisServer::start();
        let url = cluster.as_ref().map_or_else(|| single.url(), RedisCluster::url);
        let stores = cluster.as_ref().map_or_else(|| vec![&single], |cluster| cluster.nodes.iter().collect());
        let variables = self.empty_servers(url.expose_secret(), partitions);
        self.prepare(&variables);
        self.measure(Group::Growth, &format!("ingest: {name}"), |bench| {
            let (process, started) = Measured::revwatch(&variables, "ingest");
            bench.ingested(&process, &started.webhooks)
        });
        self.measure(Group::Growth, &format!("worker: {name}"), |bench| bench.drained(&variables, workers, &stores));
    }

    /// A virtual host that nobody has used yet, and a Redis.
    fn empty_servers(&self, redis_url: &str, partitions: u32) -> Variables {
        vec![
            ("REVWATCH_AMQP_URL", self.rabbitmq.url().expose_secret().to_owned()),
            ("REVWATCH_REDIS_URL", redis_url.to_owned()),
            ("REVWATCH_PARTITIONS", partitions.to_string()),
        ]
    }

    /// How fast `revwatch rebuild` goes through the archive, with nothing else running.
    fn rebuilt(&mut self, pipeline: Pipeline) -> Figures {
        let (redis, folder) = (RedisServer::start(), tempfile::tempdir().expect("a folder"));
        let variables = match pipeline {
            Pipeline::Servers => self.empty_servers(redis.url().expose_secret(), 8),
            Pipeline::Embedded => vec![("REVWATCH_DATA", folder.path().display().to_string())],
        };
        if pipeline == Pipeline::Servers {
            self.prepare(&variables);
        }
        let (process, started) = Measured::revwatch(&variables, "ingest");
        self.ingested(&process, &started.webhooks);
        drop(process);
        self.drained(&variables, 1, &[&redis]);
        let (began, before) = (Instant::now(), self.broker_s());
        let process = Measured::spawn(&variables, env!("CARGO_BIN_EXE_revwatch"), &["rebuild", "--yes", "--json"]);
        process.ends();
        let seconds = began.elapsed().as_secs_f64();
        let count = self.count as f64;
        vec![("per_s", count / seconds), ("broker_us", (self.broker_s() - before) * 1e6 / count)]
    }

    /// An idle tick with more and more entities, and with more and more alerts.
    fn ticks(&mut self) {
        if !self.wants(Group::Tick) {
            return;
        }
        let [some, many, alerts] =
            if self.options.quick { [1_000, 10_000, 1_000] } else { [10_000, 1_000_000, 100_000] };
        let sizes = [(100, 100), (some, 100), (many, 100), (alerts, alerts)];
        let sizes = sizes.map(|(entities, alerts)| Size { entities, alerts });
        for pipeline in self.pipelines() {
            let (name, kind) = match pipeline {
                Pipeline::Servers => ("Redis", StoreKind::Redis),
                Pipeline::Embedded => ("SQLite", StoreKind::Sqlite),
            };
            eprintln!("  ticks: {name}");
            let figures = self.runtime.block_on(idle_ticks(kind, &sizes));
            for (Size { entities, alerts }, figures) in sizes.iter().zip(figures) {
                self.report.add(&format!("tick: {entities} entities, {alerts} alerts, {name}"), figures);
            }
        }
    }

    fn bytes(&mut self) {
        if !self.wants(Group::Memory) {
            return;
        }
        eprintln!("  bytes per entity");
        let count = if self.options.quick { 2_000 } else { 20_000 };
        for (name, figures) in self.runtime.block_on(bytes_per_entity(count)) {
            self.report.add(&name, figures);
        }
    }
}
