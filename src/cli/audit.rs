//! `revwatch audit`: who did what. Commands that change something add an entry.

use std::io::Write as _;

use anyhow::Context as _;
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use jiff::Timestamp;
use revwatch_core::view::rfc3339;
use revwatch_runtime::backend::Backend;
use revwatch_storage::journal::{self, OperatorAction, OperatorActions};
use revwatch_storage::ports::{AuditEntry, Journal, QueueError};
use revwatch_storage::system::SystemIds;

use super::completeness::{Partial, Shown};
use super::global_options::GlobalOptions;
use super::output;
use super::time::iso_ms;

/// Options of `audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Maximum number of entries: the newest ones, printed oldest first.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Only actions of this person.
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// Only actions of this kind, for example pause or "alert acknowledged".
    #[arg(long, value_name = "ACTION")]
    what: Option<String>,
    /// Instead of people's actions: state changes of subscriptions, invoices, payments, payouts and
    /// accounts, with the event that caused each.
    #[arg(long, conflicts_with_all = ["who", "what"])]
    changes: bool,
    #[command(flatten)]
    partial: Partial,
}

/// The person who runs a command.
#[derive(Debug, Clone, Args)]
pub struct By {
    /// Your name, for the audit; other people see it.
    #[arg(long = "by", value_name = "NAME", env = "USER", hide_env_values = true)]
    pub who: Option<String>,
}

impl By {
    /// The name; an empty one counts as none. A command that changes something asks for it first. Only
    /// such a command needs it, so it is not a required option.
    pub fn name(&self) -> anyhow::Result<&str> {
        let name = self.who.as_deref().map(str::trim);
        let name = name.filter(|name| !name.is_empty());
        name.context(
            "who are you? Give --by NAME for the audit (the variable USER is not set or empty)",
        )
    }
}

/// Runs `audit`.
pub async fn run(options: &GlobalOptions, args: &AuditArgs) -> anyhow::Result<()> {
    if args.changes {
        return changes(options, args).await;
    }
    let queue = Backend::queue(&options.config()?).await?;
    let mut acts = actions(queue.as_ref()).await?;
    queue.close().await;
    acts.retain(|act| args.who.as_ref().is_none_or(|who| act.who == *who));
    acts.retain(|act| args.what.as_ref().is_none_or(|what| act.what == *what));
    acts.drain(..acts.len().saturating_sub(args.limit));
    let mut out = output::stdout();
    if options.json {
        let rows: Vec<_> = acts
            .iter()
            .map(|act| serde_json::json!({"at": iso_ms(act.at_ms), "who": act.who, "what": act.what, "detail": act.detail}))
            .collect();
        writeln!(out, "{:#}", serde_json::Value::Array(rows))?;
        return Ok(());
    }
    if acts.is_empty() {
        writeln!(out, "No entries yet.")?;
        return Ok(());
    }
    let mut table = Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .set_header(["when", "who", "what", "detail"]);
    for OperatorAction {
        at_ms,
        who,
        what,
        detail,
    } in acts
    {
        table.add_row([iso_ms(at_ms), who, what, detail]);
    }
    writeln!(out, "{table}")?;
    Ok(())
}

/// All actions, oldest first. Entries that cannot be read are reported on standard error.
pub async fn actions(journal: &dyn Journal) -> Result<Vec<OperatorAction>, QueueError> {
    let OperatorActions {
        actions,
        unreadable,
    } = journal::operator_actions(journal).await?;
    match unreadable {
        0 => {}
        1 => eprintln!("warning: 1 entry of the audit cannot be read"),
        more => eprintln!("warning: {more} entries of the audit cannot be read"),
    }
    Ok(actions)
}

/// The audit trail of state changes (K10), also oldest first.
async fn changes(options: &GlobalOptions, args: &AuditArgs) -> anyhow::Result<()> {
    let store = Backend::store(&options.config()?).await?;
    let entries = async { Ok(store.audit(args.limit).await?) };
    let mut entries = args
        .partial
        .read(store.as_ref(), Shown::Entities, entries)
        .await?;
    entries.reverse();
    let mut out = output::stdout();
    if options.json {
        let rows: Vec<_> = entries
            .iter()
            .map(|AuditEntry { at_s, subject, event_id, what }| {
                let (kind, id) = (subject.kind.as_str(), &subject.id);
                serde_json::json!({"at": rfc3339(Some(*at_s)), "kind": kind, "id": id, "change": what, "event": event_id})
            })
            .collect();
        writeln!(out, "{:#}", serde_json::Value::Array(rows))?;
        return Ok(());
    }
    if entries.is_empty() {
        writeln!(out, "No state changes yet.")?;
        return Ok(());
    }
    let mut table = Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .set_header(["when", "kind", "id", "change", "event"]);
    for AuditEntry {
        at_s,
        subject,
        event_id,
        what,
    } in entries
    {
        table.add_row([
            rfc3339(Some(at_s)),
            subject.kind.as_str().to_owned(),
            subject.id,
            what,
            event_id,
        ]);
    }
    writeln!(out, "{table}")?;
    Ok(())
}

/// Adds an entry to the audit.
pub async fn note(journal: &dyn Journal, by: &By, what: &str, detail: &str) -> anyhow::Result<()> {
    let at_ms = Timestamp::now().as_millisecond();
    let act = OperatorAction {
        at_ms,
        who: by.name()?.to_owned(),
        what: what.to_owned(),
        detail: detail.to_owned(),
    };
    Ok(journal::record_action(journal, &act, &SystemIds).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_one_is_audited_under_an_invented_name() {
        let by = |who: Option<&str>| By {
            who: who.map(str::to_owned),
        };
        assert_eq!(by(Some("ada")).name().expect("a name"), "ada");
        for nameless in [None, Some(""), Some(" ")] {
            let error = by(nameless).name().expect_err("no name").to_string();
            assert!(error.contains("--by NAME"), "{error}");
        }
    }
}
