//! Commands that read: `state`, `metrics`. They read what a running `serve` writes.

use std::io::Write as _;

use anyhow::bail;
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use jiff::Timestamp;
use revwatch_core::entity::{Entity, EntityKey, EntityKind};
use revwatch_core::kpi::{Kpis, hours_needed};
use revwatch_core::view;
use revwatch_runtime::backend::Backend;

use super::Common;

/// Options of `state`.
#[derive(Debug, Args)]
pub struct StateArgs {
    /// subscription, invoice, payout, account, payment_intent, checkout_session, dispute, refund or
    /// transfer.
    kind: EntityKind,
    /// The object's id at Stripe.
    id: String,
}

/// Runs `state`.
pub async fn state(common: &Common, args: &StateArgs) -> anyhow::Result<()> {
    let store = Backend::store(&common.config()?).await?;
    let key = EntityKey::new(args.kind, &args.id);
    let Some(stored) = store.entity(&key).await? else {
        bail!(
            "no {key}: no event about it has been applied (ids of this kind begin with {})",
            args.kind.row().id_prefixes.join(" or ")
        );
    };
    let entity = Entity::decode(&key, &stored.body).map_err(anyhow::Error::msg)?;
    // Always JSON: this is the documented interface.
    writeln!(
        std::io::stdout().lock(),
        "{:#}",
        view::entity::describe(&key, &entity)
    )?;
    Ok(())
}

/// Runs `metrics`.
pub async fn metrics(common: &Common) -> anyhow::Result<()> {
    let store = Backend::store(&common.config()?).await?;
    let now_s = Timestamp::now().as_second();
    let (from, to) = hours_needed(now_s);
    let kpis = Kpis::compute(&store.counters(from, to).await?, now_s);
    let mut out = std::io::stdout().lock();
    if common.json {
        writeln!(out, "{:#}", serde_json::to_value(&kpis)?)?;
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    for (name, value) in view::kpi::rows(&kpis) {
        table.add_row([name.to_owned(), value]);
    }
    writeln!(out, "{table}")?;
    Ok(())
}
