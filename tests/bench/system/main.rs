//! What revwatch costs, beside the least that the same work can cost, in one run.
//!
//! `tests/bench/run` starts it; `tests/bench/run --help` says how. It starts a RabbitMQ and a Redis
//! of its own, its own load generator, and the program itself, each as a process, so that the
//! processor time of each is known. Every round measures everything once, one after the other, so
//! that a slow minute of the machine strikes all alike; the table has the median of the rounds, and
//! what counts are the ratios.

mod alerts;
mod bare;
mod events;
mod growth;
mod load;
mod memory;
mod notified;
mod others;
mod pipeline;
mod postgresql;
mod process;
mod ratios;
mod report;
mod tick;

#[path = "../business.rs"]
#[expect(dead_code, reason = "the microbenchmarks need more of it")]
mod business;
#[path = "../../../src/demo/simulator/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "the demo and its tests need more of it"
)]
mod simulator;
#[path = "../../support"]
#[expect(dead_code, reason = "tests need more of it")]
mod support {
    pub(crate) mod port;
    pub(crate) mod rabbitmq;
    pub(crate) mod redis;
    pub(crate) mod slack;
    pub(crate) mod wait;
}

use std::path::PathBuf;

use clap::Parser;

/// revwatch's system benchmark
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// One short round: to see that it works, not to be quoted.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Rounds of which the median is taken.
    #[arg(long)]
    pub(crate) rounds: Option<usize>,
    /// Only these; several are possible.
    #[arg(long, value_name = "GROUP")]
    pub(crate) only: Vec<pipeline::Group>,
    /// Only on these.
    #[arg(long)]
    pub(crate) on: Option<pipeline::Pipeline>,
    /// For the comparison with Node: where `node` and the files of `tests/bench/node` are, with
    /// what they need.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) node: Option<PathBuf>,
    /// The same with Python: an environment, with the files of `tests/bench/python`.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) python: Option<PathBuf>,
    /// For the comparison with a sync engine, which needs `--node`, too: where PostgreSQL's
    /// programs are.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) postgresql: Option<PathBuf>,
    /// Also write the figures there, as JSON.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Cargo adds it.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match std::env::args().nth(1).as_deref() {
        Some("load") => load::main(),
        Some("bare-http") => runtime.block_on(bare::http()),
        Some("bare-publish") => runtime.block_on(bare::publish()),
        Some("prototype-ingest") => runtime.block_on(bare::ingest()),
        Some("prototype-worker") => runtime.block_on(bare::worker()),
        _ => pipeline::run(&Options::parse(), &runtime),
    }
}
