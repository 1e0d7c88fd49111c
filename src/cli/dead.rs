//! `revwatch dead`: deliveries that cannot be applied, and how to requeue or discard them.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::ops::ControlFlow;

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use jiff::Timestamp;
use revwatch_core::event::Event;
use revwatch_runtime::backend::Backend;
use revwatch_storage::journal::DISMISSED;
use revwatch_storage::ports::{
    Delivery, Disposition, EventQueue, HeldDelivery, Holding, HoldingQueue, JournalEntry,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::audit::{By, note};
use super::global_options::GlobalOptions;
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
    let mut out = std::io::stdout().lock();
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
    let mut out = std::io::stdout().lock();
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
    let (mut matched, mut dismissed) = (BTreeSet::new(), Vec::new());
    let mut decide = |letter: &HeldDelivery| {
        let named = selection.ids.iter().find(|id| is_named(letter, id));
        matched.extend(named);
        let of_reason = selection
            .reason
            .as_ref()
            .is_none_or(|text| letter.reason.contains(text));
        let is_chosen = (selection.all || named.is_some()) && of_reason;
        if is_chosen {
            dismissed.push(letter.delivery.id);
        }
        match is_chosen {
            false => Disposition::Keep,
            true if replay => Disposition::Requeue(Box::new(requeued(&letter.delivery))),
            true => Disposition::Discard,
        }
    };
    let summary = queue
        .triage(HoldingQueue::DeadLetters, &mut decide)
        .await
        .context("interrupted: see `revwatch dead list`")?;
    let at_ms = Timestamp::now().as_millisecond();
    let (space, body) = (DISMISSED.to_owned(), Some(String::new()));
    let lines = dismissed.into_iter().map(|id| JournalEntry {
        at_ms,
        space: space.clone(),
        key: id.to_string(),
        body: body.clone(),
    });
    queue.append_journal(lines.collect()).await?;
    let count = summary.requeued + summary.discarded;
    let (action, done) = if replay {
        ("dead replay", "requeued")
    } else {
        ("dead drop", "discarded")
    };
    let which = if selection.all {
        "all".to_owned()
    } else {
        selection.ids.join(" ")
    };
    let reason = selection
        .reason
        .as_ref()
        .map(|text| format!(", reason has {text:?}"))
        .unwrap_or_default();
    note(
        queue,
        &selection.by,
        action,
        &format!("{which}{reason}: {count} dead letters {done}"),
    )
    .await?;
    let missing: Vec<&String> = selection
        .ids
        .iter()
        .filter(|id| !matched.contains(id))
        .collect();
    let mut out = std::io::stdout().lock();
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
        "readable": Event::parse(&delivery.body).is_ok(),
    })
}
