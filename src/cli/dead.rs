//! `revwatch dead`: deliveries that cannot be applied, and how to requeue or discard them.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::ops::ControlFlow;

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use jiff::Timestamp;
use revwatch_runtime::backend::Backend;
use revwatch_runtime::panics::catch;
use revwatch_storage::journal::DISMISSED;
use revwatch_storage::ports::{
    Delivery, Disposition, EventQueue, HeldDelivery, Holding, HoldingQueue, JournalEntry,
    TriageSummary,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::audit::{By, note};
use super::global_options::GlobalOptions;
use super::output;
use super::time::iso_ms;

/// Subcommands of `dead`.
#[derive(Debug, Subcommand)]
pub enum DeadCommand {
    /// List dead letters with their reasons, oldest first.
    #[command(after_help = "Example:\n  revwatch dead list --limit 20")]
    List {
        /// Maximum number of dead letters.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Show dead letters with their bodies as received. Bodies hold personal data.
    #[command(
        after_help = "Examples:\n  revwatch dead show evt_1NG8Du2eZvKYlo2CUI79vXWy\n  revwatch dead show 0192f3c1-… --json"
    )]
    Show {
        /// Ids of events or deliveries, as `dead list` shows them.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Requeue dead letters, for example after an upgrade that can apply them. A delivery that still
    /// cannot be applied becomes a dead letter again.
    #[command(
        after_help = "Examples:\n  revwatch dead replay evt_1NG8Du2eZvKYlo2CUI79vXWy\n  revwatch dead replay --all"
    )]
    Replay(Selection),
    /// Discard dead letters. The archive keeps the received bodies for 35 days.
    #[command(
        after_help = "Examples:\n  revwatch dead drop evt_1NG8Du2eZvKYlo2CUI79vXWy\n  revwatch dead drop --all --reason 'not valid JSON'"
    )]
    Drop(Selection),
}

/// Selects dead letters.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["ids", "all"]))]
pub struct Selection {
    /// Ids of events or deliveries, as `dead list` shows them.
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All of them.
    #[arg(long)]
    all: bool,
    /// Only dead letters whose reason contains this text.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    by: By,
}

/// Runs `dead`.
pub async fn run(options: &GlobalOptions, command: &DeadCommand) -> anyhow::Result<()> {
    if let DeadCommand::Replay(selection) | DeadCommand::Drop(selection) = command {
        // The audit entry comes last, because it has the numbers. What cannot be audited is not done.
        selection.by.name()?;
    }
    let queue = Backend::queue(&options.config()?).await?;
    let result = match command {
        DeadCommand::List { limit } => list(options, queue.as_ref(), *limit).await,
        DeadCommand::Show { ids } => show(options, queue.as_ref(), ids).await,
        DeadCommand::Replay(selection) => triage(options, queue.as_ref(), selection, true).await,
        DeadCommand::Drop(selection) => triage(options, queue.as_ref(), selection, false).await,
    };
    queue.close().await;
    result
}

async fn list(options: &GlobalOptions, queue: &dyn Holding, limit: usize) -> anyhow::Result<()> {
    let letters = queue.oldest_held(HoldingQueue::DeadLetters, limit).await?;
    let mut out = output::stdout();
    if options.json {
        writeln!(
            out,
            "{:#}",
            Value::Array(letters.iter().map(describe).collect())
        )?;
        return Ok(());
    }
    if letters.is_empty() {
        writeln!(out, "No dead letters.")?;
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header([
        "delivery",
        "event",
        "type",
        "reason",
        "dead since",
    ]);
    for letter in &letters {
        table.add_row([
            letter.delivery.id.to_string(),
            letter.delivery.event_id.clone(),
            letter.delivery.event_type.clone(),
            letter.reason.clone(),
            iso_ms(letter.at_ms),
        ]);
    }
    writeln!(out, "{table}")?;
    Ok(())
}

async fn show(options: &GlobalOptions, queue: &dyn Holding, ids: &[String]) -> anyhow::Result<()> {
    // All are visited, because several may belong to one event. Only requested ones are kept.
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    let mut visit = |letter: HeldDelivery| {
        if ids.iter().any(|id| is_named(&letter, id)) && seen.insert(letter.delivery.id) {
            found.push(letter);
        }
        ControlFlow::Continue(())
    };
    queue
        .visit_held(HoldingQueue::DeadLetters, &mut visit)
        .await?;
    found.sort_by_key(|letter| letter.at_ms);
    if let Some(missing) = ids
        .iter()
        .find(|id| !found.iter().any(|letter| is_named(letter, id)))
    {
        bail!("no dead letter has the id {missing}: see `revwatch dead list`");
    }
    let mut out = output::stdout();
    if options.json {
        let rows = found.iter().map(|letter| {
            let mut value = describe(letter);
            value["body"] = String::from_utf8_lossy(&letter.delivery.body).into();
            value
        });
        writeln!(out, "{:#}", Value::Array(rows.collect()))?;
        return Ok(());
    }
    for letter in &found {
        let HeldDelivery {
            delivery,
            reason,
            at_ms,
        } = letter;
        writeln!(out, "delivery  {}", delivery.id)?;
        writeln!(
            out,
            "event     {} ({})",
            delivery.event_id, delivery.event_type
        )?;
        writeln!(
            out,
            "endpoint  {}, partition {}",
            delivery.endpoint, delivery.partition
        )?;
        writeln!(out, "received  {}", iso_ms(delivery.received_ms))?;
        writeln!(out, "dead      {}", iso_ms(*at_ms))?;
        writeln!(out, "reason    {reason}\n")?;
        writeln!(out, "{}\n", String::from_utf8_lossy(&delivery.body))?;
    }
    Ok(())
}

async fn triage(
    options: &GlobalOptions,
    queue: &dyn EventQueue,
    selection: &Selection,
    replay: bool,
) -> anyhow::Result<()> {
    let (summary, matched) = carry_out(queue, selection, replay).await?;
    let (count, done) = (
        summary.requeued + summary.discarded,
        if replay { "requeued" } else { "discarded" },
    );
    let missing: Vec<&String> = selection
        .ids
        .iter()
        .filter(|id| !matched.contains(id))
        .collect();
    let mut out = output::stdout();
    if options.json {
        let value = json!({"requeued": summary.requeued, "discarded": summary.discarded, "kept": summary.kept, "unknown": missing});
        writeln!(out, "{value:#}")?;
    } else {
        writeln!(out, "{count} {done}, {} left.", summary.kept)?;
    }
    if let Some(id) = missing.first() {
        bail!("no dead letter has the id {id}: see `revwatch dead list`");
    }
    Ok(())
}

/// Requeues or discards the selected dead letters, and records it. After an error the first of them
/// may be gone already, so what was decided is recorded as well: without it, a replay of the archive
/// would make them dead letters again. For a letter that is still there, the record changes nothing.
async fn carry_out<'a>(
    queue: &dyn EventQueue,
    selection: &'a Selection,
    replay: bool,
) -> anyhow::Result<(TriageSummary, BTreeSet<&'a String>)> {
    let (mut matched, mut dismissed) = (BTreeSet::new(), Vec::new());
    let mut decide = |letter: &HeldDelivery| {
        matched.extend(selection.ids.iter().find(|id| is_named(letter, id)));
        match selection.includes(letter) {
            false => return Disposition::Keep,
            true => dismissed.push(letter.delivery.id),
        }
        match replay {
            true => Disposition::Requeue(Box::new(requeued(&letter.delivery))),
            false => Disposition::Discard,
        }
    };
    let outcome = queue.triage(HoldingQueue::DeadLetters, &mut decide).await;
    let (action, done) = match replay {
        true => ("dead replay", "requeued"),
        false => ("dead drop", "discarded"),
    };
    let count = match &outcome {
        Ok(summary) => format!(
            "{} dead letter(s) {done}",
            summary.requeued + summary.discarded
        ),
        Err(_) => format!(
            "interrupted, at most {} dead letter(s) {done}",
            dismissed.len()
        ),
    };
    let recorded = record(
        queue,
        dismissed,
        &selection.by,
        action,
        &selection.to_text(),
        &count,
    )
    .await;
    match (outcome, recorded) {
        (Ok(summary), Ok(())) => Ok((summary, matched)),
        (Ok(_), Err(unrecorded)) => Err(unrecorded),
        (Err(error), Ok(())) => Err(error).context("interrupted: see `revwatch dead list`"),
        (Err(error), Err(unrecorded)) => Err(error).context(format!(
            "interrupted: see `revwatch dead list`; what was done could not be recorded either ({unrecorded:#})"
        )),
    }
}

/// Adds the dismissed dead letters to the journal, and an entry to the audit.
async fn record(
    queue: &dyn EventQueue,
    dismissed: Vec<Uuid>,
    by: &By,
    action: &str,
    selected: &str,
    count: &str,
) -> anyhow::Result<()> {
    let at_ms = Timestamp::now().as_millisecond();
    let lines = dismissed.into_iter().map(|id| JournalEntry {
        at_ms,
        space: DISMISSED.to_owned(),
        key: id.to_string(),
        body: Some(String::new()),
    });
    queue.append_journal(lines.collect()).await?;
    note(queue, by, action, &format!("{selected}: {count}")).await?;
    Ok(())
}

impl Selection {
    fn includes(&self, letter: &HeldDelivery) -> bool {
        let is_of_reason = self
            .reason
            .as_ref()
            .is_none_or(|text| letter.reason.contains(text));
        is_of_reason && (self.all || self.ids.iter().any(|id| is_named(letter, id)))
    }

    /// For the audit.
    fn to_text(&self) -> String {
        let ids = match self.all {
            true => "all".to_owned(),
            false => self.ids.join(" "),
        };
        let reason = self
            .reason
            .as_ref()
            .map_or_else(String::new, |text| format!(", reason has {text:?}"));
        format!("{ids}{reason}")
    }
}

fn is_named(letter: &HeldDelivery, id: &str) -> bool {
    letter.delivery.event_id == id || letter.delivery.id.to_string() == id
}

/// The same delivery under a new id, because its own id is marked as handled. The new id is derived
/// from the old one: if the command is interrupted and repeated, it is still one delivery.
fn requeued(delivery: &Delivery) -> Delivery {
    let digest = Sha256::new()
        .chain_update("dead letter replayed")
        .chain_update(delivery.id.as_bytes())
        .finalize();
    let head: [u8; 16] = digest[..16].try_into().expect("a digest has 32 bytes");
    Delivery {
        id: uuid::Builder::from_custom_bytes(head).into_uuid(),
        ..delivery.clone()
    }
}

fn describe(letter: &HeldDelivery) -> Value {
    let HeldDelivery {
        delivery,
        reason,
        at_ms,
    } = letter;
    json!({
        "delivery_id": delivery.id, "event_id": delivery.event_id, "type": delivery.event_type, "reason": reason,
        "dead_lettered_at": iso_ms(*at_ms), "received_at": iso_ms(delivery.received_ms),
        "readable": catch(|| delivery.event().is_ok()) == Ok(true),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use revwatch_storage::journal::{newest_documents, operator_actions};
    use revwatch_storage::memory::Memory;
    use revwatch_storage::system::SystemClock;

    use super::*;

    fn letter(n: u128) -> HeldDelivery {
        HeldDelivery {
            delivery: Delivery {
                id: Uuid::from_u128(n),
                event_id: format!("evt_{n}"),
                event_type: "payout.paid".to_owned(),
                partition: 0,
                endpoint: "default".to_owned(),
                received_ms: 1,
                traceparent: None,
                body: Bytes::from_static(b"{}"),
            },
            reason: "not valid JSON".to_owned(),
            at_ms: 2,
        }
    }

    /// Two dead letters; `who` carries out `replay` or discards them, and is interrupted after the first.
    async fn interrupted(who: Option<&str>, replay: bool) -> (Memory, anyhow::Error) {
        let queue = Memory::new(1, Arc::new(SystemClock));
        for held in [letter(1), letter(2)] {
            let held = queue.hold(HoldingQueue::DeadLetters, held);
            held.await.expect("held");
        }
        let selection = Selection {
            ids: Vec::new(),
            all: true,
            reason: None,
            by: By {
                who: who.map(str::to_owned),
            },
        };
        queue.faults().interrupt_triages(1);
        let result = carry_out(&queue, &selection, replay).await;
        let error = result.expect_err("interrupted");
        (queue, error)
    }

    #[tokio::test]
    async fn what_was_done_before_an_error_is_recorded() {
        let (queue, error) = interrupted(Some("ada"), true).await;
        assert!(error.to_string().contains("dead list"), "{error}");

        let dismissed = newest_documents(&queue, &[DISMISSED]).await.expect("read");
        let first = (DISMISSED.to_owned(), Uuid::from_u128(1).to_string());
        assert!(dismissed.contains_key(&first), "{dismissed:?}");
        let actions = operator_actions(&queue).await.expect("read").actions;
        let details: Vec<&str> = actions.iter().map(|act| act.detail.as_str()).collect();
        assert_eq!(
            details,
            ["all: interrupted, at most 1 dead letter(s) requeued"]
        );
    }

    #[tokio::test]
    async fn an_interruption_that_cannot_be_recorded_is_an_error_with_both_causes() {
        // Without a name there is no entry.
        let (_, error) = interrupted(None, false).await;
        let error = format!("{error:#}");
        for cause in ["dead list", "--by NAME"] {
            assert!(error.contains(cause), "{error} should contain {cause}");
        }
    }
}
