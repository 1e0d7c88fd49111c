//! `revwatch rules`: list, check, test and backtest rules.

mod backtest;
mod check;
mod files;
mod list;
mod test;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use revwatch_alerting::policy::{Capabilities, Policy};
use revwatch_alerting::rule::Rule;
use revwatch_alerting::rules_file;
use revwatch_core::durations::Span;
use revwatch_runtime::config::{AlertingConfig, Config, Fault};
use serde_json::{Value, json};

use super::global_options::GlobalOptions;
use crate::simulation::simulator::NOTIFIER;

/// Subcommands of `rules`.
#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// List the rules in effect: REVWATCH_RULES, or the built-in ones.
    #[command(after_help = "\
With --json each rule has all fields of its kind as in docs/rules.md, null where it has none, and `threshold` in words.
`respond`, `resolve`, `clock` and `notify` are those of its severity if the rule has none, `remind` always is.
[[alerting.routes]], which may replace `notify` and `route`, are not applied.

Examples:
  revwatch rules list
  REVWATCH_RULES=/etc/revwatch/rules revwatch rules list --json")]
    List,
    /// List every mistake in rule files, with line and column.
    #[command(after_help = "\
Exits with 1 if there is a mistake. Without PATH the rules in effect are checked.

Examples:
  revwatch rules check rules.toml
  revwatch rules check /etc/revwatch/rules more.toml --json")]
    Check(CheckArgs),
    /// Run rule tests: events in, alerts out, with a simulated clock.
    ///
    /// No store is read or written: events are applied and rules evaluated in memory, by the code
    /// that runs in production. Each test runs four times: plainly, with restarts, with repeats out
    /// of order, and with a replay at the end. All four must give the same notifications. Exits
    /// with 1 if a test fails.
    #[command(after_help = "\
Without PATH the built-in tests run against the rules in effect; tests that name a missing rule are skipped. docs/rules.md explains how tests are written.
With --json the mistakes in tests that cannot be read are in `faults`.

Examples:
  revwatch rules test
  revwatch rules test my_rules_test.toml
  revwatch rules test tests/ --rules rules.toml --json")]
    Test(TestArgs),
    /// Show which alerts rules would have fired on the events in the archive.
    ///
    /// Events are applied in the order in which they were received, with an evaluation every
    /// --step. Events from before --since are applied without alerts, so that the state is right.
    #[command(after_help = "\
The archive and the state are held in memory: expect about twice the size of the events.
The archive keeps 35 days. Entities without a newer event are unknown, so levels such as MRR are too low.
revwatch's own metrics (queue depth, dead letters, processing time) are not in the archive: their rules do not
fire. Alerts that were already true at --since are marked.

Examples:
  revwatch rules backtest --since 7d
  revwatch rules backtest --since 2026-03-01T00:00:00Z --rules stricter.toml --json")]
    Backtest(BacktestArgs),
}

/// Options of `rules check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Rule files, or folders of them.
    paths: Vec<PathBuf>,
}

/// Options of `rules test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Test files, or folders of them.
    paths: Vec<PathBuf>,
    /// Rules for tests that name none; default: those in effect.
    #[arg(long, value_name = "PATH")]
    rules: Option<PathBuf>,
}

/// Options of `rules backtest`.
#[derive(Debug, Args)]
pub struct BacktestArgs {
    /// Start of the alerts: 2026-03-01, 2026-03-01T00:00:00Z, or an age such as 36h or 7d.
    #[arg(long, value_name = "TIME")]
    since: String,
    /// Rules to evaluate; default: those in effect.
    #[arg(long, value_name = "PATH")]
    rules: Option<PathBuf>,
    /// Time between two evaluations, at least 1s. Shorter is slower, longer is less precise.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = step)]
    step: Span,
}

/// Runs `rules`.
pub async fn run(options: &GlobalOptions, command: &RulesCommand) -> anyhow::Result<()> {
    match command {
        RulesCommand::List => list::run(options),
        RulesCommand::Check(args) => check::run(options, &args.paths),
        RulesCommand::Test(args) => test::run(options, args),
        RulesCommand::Backtest(args) => backtest::run(options, args).await,
    }
}

/// A fault as JSON. A fault without a place concerns all files.
fn fault_json(fault: &Fault) -> Value {
    let place = fault.place.as_ref();
    json!({
        "file": place.map(|place| &place.file),
        "line": place.map(|place| place.line),
        "column": place.map(|place| place.column),
        "what": fault.what,
    })
}

fn step(text: &str) -> Result<Span, String> {
    match text.parse()? {
        Span(0) => Err("give at least 1s".to_owned()),
        step => Ok(step),
    }
}

/// The rules at `path`, or those in effect.
fn rules(config: &Config, path: Option<&Path>) -> anyhow::Result<Vec<Rule>> {
    Ok(rules_file::load(path.or(config.rules.as_deref()))?)
}

/// The policy per severity, with the simulated Slack as the only notifier.
fn policy(config: &AlertingConfig) -> anyhow::Result<Policy> {
    Ok(Policy::new(
        config,
        vec![(
            NOTIFIER.to_owned(),
            Capabilities {
                edits: true,
                resolves: true,
            },
        )],
    )?)
}
