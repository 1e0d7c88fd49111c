//! `revwatch`: all roles in one process, and the command line around them.

mod cli;
mod demo;
mod serve;
mod simulation;

use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    cli::run(cli::Cli::parse()).await
}
