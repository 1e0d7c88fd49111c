//! `revwatch export`: CSV with a header, sorted by id.

use std::io::Write;

use clap::{Args, ValueEnum};
use revwatch_core::entity::{Entity, EntityKey, EntityKind};
use revwatch_core::view;
pub use revwatch_core::view::rfc3339 as iso;
use revwatch_runtime::backend::Backend;
use revwatch_storage::ports::{Entities, StateStore};

use super::Common;
use super::alerts::load_alerts;
use super::audit::{By, note};

/// Options of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// What to export.
    kind: ExportKind,
    #[command(flatten)]
    by: By,
}

/// What can be exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportKind {
    Subscriptions,
    Invoices,
    Payouts,
    Accounts,
    PaymentIntents,
    CheckoutSessions,
    Disputes,
    Refunds,
    Transfers,
    Alerts,
}

/// Runs `export`.
pub async fn run(common: &Common, args: &ExportArgs) -> anyhow::Result<()> {
    let config = common.config()?;
    let (queue, store) = (
        Backend::queue(&config).await?,
        Backend::store(&config).await?,
    );
    // The audit entry comes first: every export is in the audit, even one that fails.
    let kind = args
        .kind
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned());
    note(queue.as_ref(), &args.by, "export", &kind).await?;
    queue.close().await;
    write(store.as_ref(), args.kind, std::io::stdout().lock()).await
}

/// Writes the header and the rows.
pub async fn write(store: &dyn StateStore, kind: ExportKind, to: impl Write) -> anyhow::Result<()> {
    let mut rows = match kind.entity() {
        None => load_alerts(store)
            .await?
            .iter()
            .map(view::alert::export_row)
            .collect(),
        Some(kind) => entity_rows(store, kind).await?,
    };
    rows.sort();
    let mut out = csv::Writer::from_writer(to);
    out.write_record(match kind.entity() {
        None => view::alert::EXPORT.iter().map(|c| c.name).collect(),
        Some(kind) => view::entity::header(kind),
    })?;
    for row in rows {
        out.write_record(row)?;
    }
    out.flush()?;
    Ok(())
}

impl ExportKind {
    fn entity(self) -> Option<EntityKind> {
        Some(match self {
            Self::Subscriptions => EntityKind::Subscription,
            Self::Invoices => EntityKind::Invoice,
            Self::Payouts => EntityKind::Payout,
            Self::Accounts => EntityKind::Account,
            Self::PaymentIntents => EntityKind::Payment,
            Self::CheckoutSessions => EntityKind::Checkout,
            Self::Disputes => EntityKind::Dispute,
            Self::Refunds => EntityKind::Refund,
            Self::Transfers => EntityKind::Transfer,
            Self::Alerts => return None,
        })
    }
}

async fn entity_rows(store: &dyn Entities, kind: EntityKind) -> anyhow::Result<Vec<Vec<String>>> {
    let mut rows = Vec::new();
    let mut unreadable = None;
    store
        .entities(
            kind,
            &mut |id, body| match Entity::decode(&EntityKey::new(kind, id), body) {
                Ok(entity) => rows.extend(view::entity::row(&entity)),
                Err(error) => unreadable = Some(error),
            },
        )
        .await?;
    match unreadable {
        Some(error) => Err(anyhow::Error::msg(error)),
        None => Ok(rows),
    }
}
