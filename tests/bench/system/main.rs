//! The costs of revwatch, compared with the minimal costs of the same work, in one run.
//!
//! `tests/bench/run` starts it; `tests/bench/run --help` explains it. It starts its own RabbitMQ,
//! Redis and load generator, and the program, each as a process, so that the processor time of each
//! is known. Every round measures everything one time in sequence, so that a slow minute of the
//! machine affects everything alike. The table has the median of the rounds; the ratios are what
//! matters.

mod alerts;
mod application;
mod bare;
mod conversion;
mod events;
mod growth;
mod hostile;
mod load;
mod memory;
mod others;
mod pipeline;
mod postgresql;
mod process;
mod ratios;
mod report;
mod stored_history;
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
    /// One short round: checks that the benchmark works; do not quote its numbers.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Number of rounds; the median is reported.
    #[arg(long)]
    pub(crate) rounds: Option<usize>,
    /// Run only these groups; several are possible.
    #[arg(long, value_name = "GROUP")]
    pub(crate) only: Vec<pipeline::Group>,
    /// Run only on these setups.
    #[arg(long)]
    pub(crate) on: Option<pipeline::Pipeline>,
    /// For the comparison with Node: the folder with `node` and the files of `tests/bench/node`,
    /// with their dependencies.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) node: Option<PathBuf>,
    /// The same for Python: an environment, with the files of `tests/bench/python`.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) python: Option<PathBuf>,
    /// For the comparison with a sync engine, which needs `--node` too: the folder of PostgreSQL's
    /// programs.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) postgresql: Option<PathBuf>,
    /// Also write the values to this file as JSON.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Added by cargo.
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
