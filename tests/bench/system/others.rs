//! The same work in other stacks: Node, Python, and a sync engine into PostgreSQL, with their usual
//! libraries. The comparison makes revwatch's values meaningful on any machine.

use std::path::Path;

use super::events::Mix;
use super::pipeline::{Bench, Group};
use super::postgresql::Postgres;
use super::process::{Measured, Started, Variables};
use super::report::Values;
use super::{Options, bare};

/// Slow stacks get a fraction of the load, or a measurement would take minutes.
const FEWER: usize = 4;

impl Bench<'_> {
    /// Each stack that is available.
    pub(super) fn others(&mut self) {
        let Options {
            node,
            python,
            postgresql,
            ..
        } = self.options;
        if let Some(folder) = python {
            self.measure(Group::Parts, "ingest: Python", |bench| {
                let (process, address) = bench.python_ingest(folder);
                bench.ingested_of(bench.count / FEWER, &process, &address)
            });
            self.purge();
        }
        let Some(folder) = node else { return };
        self.measure(Group::Parts, "ingest: Node", |bench| {
            let (process, address) = bench.node_ingest(folder);
            bench.ingested(&process, &address)
        });
        self.purge();
        if let Some(postgresql) = postgresql {
            self.measure(Group::EndToEnd, "end to end: sync engine", |bench| {
                bench.synced(folder, postgresql)
            });
        }
        self.measure(Group::EndToEnd, "end to end: Node", |bench| {
            let (processes, started) = bench.node_pair(folder);
            bench.end_to_end(&processes, &started, Mix::Ordinary)
        });
    }

    /// A Node ingest, with its address.
    fn node_ingest(&self, folder: &Path) -> (Measured, String) {
        start(
            &folder.join("node"),
            &folder.join("ingest.js"),
            &self.variables_of_a_part(),
        )
    }

    /// A Python ingest, with its address.
    fn python_ingest(&self, folder: &Path) -> (Measured, String) {
        start(
            &folder.join("bin/python"),
            &folder.join("ingest.py"),
            &self.variables_of_a_part(),
        )
    }

    /// The pair of Node processes with the minimal work of the complete pipeline.
    fn node_pair(&self, folder: &Path) -> (Vec<Measured>, Started) {
        let mut variables = self.variables_of_a_part();
        variables.push(("COMMIT", bare::COMMIT.to_owned()));
        let (ingest, webhooks) = self.node_ingest(folder);
        let (worker, admin) = start(&folder.join("node"), &folder.join("worker.js"), &variables);
        (vec![ingest, worker], Started { admin, webhooks })
    }

    /// The sync engine's throughput; PostgreSQL has committed when it responds.
    fn synced(&mut self, node: &Path, postgresql: &Path) -> Values {
        let postgres = Postgres::start(postgresql);
        let variables = vec![("POSTGRES_URL", postgres.url())];
        let (process, address) = start(&node.join("node"), &node.join("sync.js"), &variables);
        let (count, before) = (self.count / FEWER, postgres.cpu_s());
        let mut values = self.ingested_of(count, &process, &address);
        values.retain(|(name, _)| *name != "broker_us");
        values.push(("store_us", (postgres.cpu_s() - before) * 1e6 / count as f64));
        values
    }
}

fn start(program: &Path, script: &Path, variables: &Variables) -> (Measured, String) {
    let path = |path: &Path| path.to_str().expect("a path").to_owned();
    let process = Measured::spawn(variables, &path(program), &[&path(script)]);
    let listen = process.listens();
    (process, listen)
}
