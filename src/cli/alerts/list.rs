//! `alerts list`.

use std::io::Write as _;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use revwatch_alerting::rule::Severity;
use revwatch_core::view::alert::{self as view, ListedState};
use revwatch_storage::ports::StateStore;
use serde_json::Value;

use super::stored::load_alerts;
use crate::cli::completeness::{Partial, Shown};
use crate::cli::global_options::GlobalOptions;
use crate::cli::output;
use crate::cli::time::now_s;

/// Options of `alerts list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Also resolved alerts.
    #[arg(long)]
    all: bool,
    /// Only alerts of this rule.
    #[arg(long)]
    rule: Option<String>,
    /// Only alerts of this severity.
    #[arg(long, value_parser = severity())]
    severity: Option<Severity>,
    /// Only alerts in this state; `resolved` does not need --all.
    #[arg(long)]
    state: Option<StateName>,
    /// Only alerts on this connected account, and groups with such a member.
    #[arg(long)]
    account: Option<String>,
    /// Only the members of this group.
    #[arg(long, value_name = "ID")]
    group: Option<String>,
    /// Also list the members of groups.
    #[arg(long)]
    members: bool,
    #[command(flatten)]
    partial: Partial,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StateName {
    Firing,
    Acknowledged,
    Resolved,
    Silenced,
    Inhibited,
}

/// Runs `alerts list`.
pub async fn run(
    options: &GlobalOptions,
    store: &dyn StateStore,
    args: &ListArgs,
) -> anyhow::Result<()> {
    let alerts = args
        .partial
        .read(store, Shown::Alerts, load_alerts(store))
        .await?;
    let alerts = args.selection().of(alerts);
    let mut out = output::stdout();
    if options.json {
        let described = alerts.iter().map(view::describe);
        writeln!(out, "{:#}", Value::Array(described.collect()))?;
        return Ok(());
    }
    if alerts.is_empty() {
        writeln!(out, "No alerts.")?;
        return Ok(());
    }
    let now_s = now_s();
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(view::LIST_HEADER);
    table.add_rows(alerts.iter().map(|alert| view::list_row(alert, now_s)));
    writeln!(out, "{table}")?;
    Ok(())
}

/// Parses a [`Severity`] by its name.
pub fn severity() -> impl TypedValueParser<Value = Severity> {
    PossibleValuesParser::new(Severity::ALL.iter().rev().map(|s| s.as_str())).map(|word| {
        let mut all = Severity::ALL.into_iter();
        all.find(|severity| severity.as_str() == word)
            .expect("one of the possible values")
    })
}

impl ListArgs {
    fn selection(&self) -> view::Selection {
        view::Selection {
            resolved: self.all,
            rule: self.rule.clone(),
            severity: self.severity,
            state: self.state.map(StateName::state),
            account: self.account.clone(),
            group: self.group.clone(),
            members: self.members,
        }
    }
}

impl StateName {
    fn state(self) -> ListedState {
        match self {
            Self::Firing => ListedState::Firing,
            Self::Acknowledged => ListedState::Acknowledged,
            Self::Resolved => ListedState::Resolved,
            Self::Silenced => ListedState::Silenced,
            Self::Inhibited => ListedState::Inhibited,
        }
    }
}
