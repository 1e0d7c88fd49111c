//! `revwatch rules`: look at rules, check them, try them out.

mod backtest;
mod check;
mod list;
mod shelf;
mod test;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use revwatch_alerting::policy::{Habits, Policy};
use revwatch_alerting::rule::Rule;
use revwatch_alerting::rules_file;
use revwatch_shared::config::{AlertingConfig, Config};

use super::Common;
use crate::rules::bench::NOTIFIER;

/// Subcommands of `rules`.
#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// List the rules in effect: REVWATCH_RULES, or the built-in ones.
    #[command(after_help = "\
Examples:
  revwatch rules list
  REVWATCH_RULES=/etc/revwatch/rules revwatch rules list --json")]
    List,
    /// Name everything that is wrong with rule files, with line and column.
    #[command(after_help = "\
Exits with 1 if anything is. Without PATH the rules in effect are checked.

Examples:
  revwatch rules check rules.toml
  revwatch rules check /etc/revwatch/rules more.toml --json")]
    Check(CheckArgs),
    /// Play tests of rules: events in, alerts out, by a clock that needs no waiting.
    ///
    /// Nothing is read of or written to any store: events are applied and rules evaluated in memory, by the
    /// very code that serves. Each test is played plainly, with restarts, with repeats out of order, and with
    /// a replay at the end; all must tell the same. Exits with 1 if a test fails.
    #[command(after_help = "\
Without PATH the built-in tests are played against the rules in effect; those that name a rule that is not
there are skipped. docs/rules.md explains how tests are written.

Examples:
  revwatch rules test
  revwatch rules test my_rules_test.toml
  revwatch rules test tests/ --rules rules.toml --json")]
    Test(TestArgs),
    /// What rules would have fired on the events in the archive.
    ///
    /// Events are played in the order in which they were received, with a tick every --step. What was received
    /// before --since is applied without telling anybody, so that the state is right.
    #[command(after_help = "\
All of the archive is held in memory, its state beside it: count on about twice the size of its events.
The archive keeps 35 days, so of what has not changed since then nothing is known: levels such as MRR are too low.
What revwatch says of itself (queue depth, dead letters, processing time) is not in the archive: such rules
stay silent. Alerts that hold at --since already are marked.

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
    /// Rules for the tests that do not say which; default: those in effect.
    #[arg(long, value_name = "PATH")]
    rules: Option<PathBuf>,
}

/// Options of `rules backtest`.
#[derive(Debug, Args)]
pub struct BacktestArgs {
    /// From when on alerts are told: a time like 2026-03-01T00:00:00Z, or how long ago, like 7d.
    #[arg(long, value_name = "TIME")]
    since: String,
    /// Rules to try; default: those in effect.
    #[arg(long, value_name = "PATH")]
    rules: Option<PathBuf>,
    /// Time between two looks at the rules. Shorter is slower, longer less exact.
    #[arg(long, value_name = "TIME", default_value = "5m")]
    step: String,
}

/// Runs `rules`.
pub async fn run(common: &Common, command: &RulesCommand) -> anyhow::Result<()> {
    match command {
        RulesCommand::List => list::run(common),
        RulesCommand::Check(args) => check::run(common, &args.paths),
        RulesCommand::Test(args) => test::run(common, args),
        RulesCommand::Backtest(args) => backtest::run(common, args).await,
    }
}

/// The rules at `path`, else those in effect.
fn rules(config: &Config, path: Option<&Path>) -> anyhow::Result<Vec<Rule>> {
    Ok(rules_file::load(path.or(config.rules.as_deref()))?)
}

/// What severities mean, where all there is to tell with is the bench's pretended Slack.
fn policy(config: &AlertingConfig) -> anyhow::Result<Policy> {
    Ok(Policy::new(config, vec![(NOTIFIER.to_owned(), Habits { edits: true, resolves: true })])?)
}
