//! `revwatch export`: CSV with a header, sorted by id.

use std::collections::BTreeMap;
use std::io::Write as _;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use revwatch_core::entity::kind::KINDS;
use revwatch_core::entity::{Entity, EntityKey, EntityKind};
use revwatch_core::view;
use revwatch_runtime::backend::Backend;
use revwatch_storage::ports::{Entities, StateStore};

use super::alerts::stored::load_alerts;
use super::audit::{By, note};
use super::completeness::{Partial, Shown};
use super::global_options::GlobalOptions;
use super::output;

/// Options of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// What to export.
    #[arg(value_parser = parser())]
    kind: ExportKind,
    #[command(flatten)]
    partial: Partial,
    #[command(flatten)]
    by: By,
}

/// What can be exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportKind {
    /// Every kind of entity.
    Entities(EntityKind),
    /// Alerts that are open and those in the history.
    Alerts,
}

/// Runs `export`.
pub async fn run(options: &GlobalOptions, args: &ExportArgs) -> anyhow::Result<()> {
    args.by.name()?;
    let config = options.config()?;
    let Backend { queue, store } = Backend::existing(&config).await?;
    // The audit entry comes first: every export is in the audit, even one that fails.
    note(queue.as_ref(), &args.by, "export", &args.kind.name()).await?;
    queue.close().await;
    let csv = csv(store.as_ref(), args.kind);
    let csv = args
        .partial
        .read(store.as_ref(), args.kind.shown(), csv)
        .await?;
    output::stdout().write_all(&csv)?;
    Ok(())
}

/// The header and the rows.
pub async fn csv(store: &dyn StateStore, kind: ExportKind) -> anyhow::Result<Vec<u8>> {
    let (header, mut rows) = match kind {
        ExportKind::Alerts => (
            view::alert::EXPORT.iter().map(|c| c.name).collect(),
            load_alerts(store)
                .await?
                .iter()
                .map(view::alert::export_row)
                .collect(),
        ),
        ExportKind::Entities(kind) => (view::entity::header(kind), entity_rows(store, kind).await?),
    };
    rows.sort();
    output::csv(header, rows)
}

impl ExportKind {
    /// The name on the command line.
    fn name(self) -> String {
        match self {
            Self::Entities(kind) => kind.plural().replace('_', "-"),
            Self::Alerts => "alerts".to_owned(),
        }
    }

    fn shown(self) -> Shown {
        match self {
            Self::Entities(_) => Shown::Entities,
            Self::Alerts => Shown::Alerts,
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        let entities = KINDS.iter().map(|row| Self::Entities(row.kind));
        entities.chain([Self::Alerts])
    }
}

fn parser() -> impl TypedValueParser<Value = ExportKind> {
    let names = ExportKind::all().map(|kind| PossibleValue::new(kind.name()));
    PossibleValuesParser::new(names.collect::<Vec<_>>()).map(|name| {
        ExportKind::all()
            .find(|kind| kind.name() == name)
            .expect("one of the possible values")
    })
}

async fn entity_rows(store: &dyn Entities, kind: EntityKind) -> anyhow::Result<Vec<Vec<String>>> {
    let mut rows = Vec::new();
    let mut of_customers = BTreeMap::new();
    if kind == EntityKind::Subscription {
        each(store, EntityKind::Customer, &mut |key, customer| {
            let ids = customer.application_ids().cloned();
            of_customers.extend(ids.map(|ids| (key, ids)));
        })
        .await?;
    }
    each(store, kind, &mut |_, mut entity| {
        let lacked = entity.ids_come_from();
        if let Some(ids) = lacked.and_then(|customer| of_customers.get(&customer)) {
            entity.take_ids(ids);
        }
        rows.extend(view::entity::row(&entity));
    })
    .await?;
    Ok(rows)
}

/// Reads every entity of a kind.
pub async fn each(
    store: &dyn Entities,
    kind: EntityKind,
    found: &mut (dyn FnMut(EntityKey, Entity) + Send),
) -> anyhow::Result<()> {
    let mut unreadable = None;
    let mut read = |_: u32, id: &str, body: &[u8]| {
        let key = EntityKey::new(kind, id);
        match Entity::decode(&key, body) {
            Ok(entity) => found(key, entity),
            Err(error) => unreadable = Some(error),
        }
    };
    store.entities(kind, &mut read).await?;
    unreadable.map_or(Ok(()), |error| Err(anyhow::Error::msg(error)))
}
