//! `revwatch state`: one entity with its history.

use std::io::Write as _;

use anyhow::Context as _;
use clap::Args;
use revwatch_core::entity::{Entity, EntityKey, EntityKind};
use revwatch_core::view;
use revwatch_runtime::backend::Backend;

use super::completeness::{Partial, Shown};
use super::global_options::GlobalOptions;

/// Options of `state`.
#[derive(Debug, Args)]
pub struct StateArgs {
    /// subscription, invoice, payout, account, payment_intent, checkout_session, dispute, refund or
    /// transfer.
    kind: EntityKind,
    /// The object's id at Stripe.
    id: String,
    #[command(flatten)]
    partial: Partial,
}

/// Runs `state`.
pub async fn run(options: &GlobalOptions, args: &StateArgs) -> anyhow::Result<()> {
    let store = Backend::store(&options.config()?).await?;
    let key = EntityKey::new(args.kind, &args.id);
    let read = async {
        store.entity(&key).await?.with_context(|| {
            format!(
                "no {key}: no event about it has been applied (ids of this kind begin with {})",
                args.kind.row().id_prefixes.join(" or ")
            )
        })
    };
    let stored = args
        .partial
        .read(store.as_ref(), Shown::Entities, read)
        .await?;
    let mut entity = Entity::decode(&key, &stored.body).map_err(anyhow::Error::msg)?;
    if let Some(customer) = entity.ids_come_from()
        && let Some(stored) = store.entity(&customer).await?
    {
        let customer = Entity::decode(&customer, &stored.body).map_err(anyhow::Error::msg)?;
        if let Some(ids) = customer.application_ids() {
            entity.take_ids(ids);
        }
    }
    // Always JSON: this is the documented interface.
    writeln!(
        std::io::stdout().lock(),
        "{:#}",
        view::entity::describe(&key, &entity)
    )?;
    Ok(())
}
