//! `revwatch state`: one entity with its history.

use std::io::Write as _;

use anyhow::Context as _;
use clap::Args;
use revwatch_core::entity::coupon::coupon_key_of;
use revwatch_core::entity::{Entity, EntityKey, EntityKind};
use revwatch_core::view;
use revwatch_runtime::backend::Backend;
use revwatch_storage::ports::Entities;

use super::completeness::{Partial, Shown};
use super::global_options::GlobalOptions;
use super::output;

/// Options of `state`.
#[derive(Debug, Args)]
pub struct StateArgs {
    /// subscription, invoice, payout, account, payment_intent, checkout_session, dispute, refund,
    /// transfer, customer, coupon; of your application: ticket, provider, `booking_fee`, member.
    kind: EntityKind,
    /// The object's id at Stripe, or in your application.
    id: String,
    #[command(flatten)]
    partial: Partial,
}

/// Runs `state`.
pub async fn run(options: &GlobalOptions, args: &StateArgs) -> anyhow::Result<()> {
    let store = Backend::store(&options.config()?).await?;
    let key = match args.kind {
        EntityKind::Coupon => coupon_key_of(&args.id),
        kind => EntityKey::new(kind, &args.id),
    };
    let read = read(store.as_ref(), &key);
    let entity = args
        .partial
        .read(store.as_ref(), Shown::Entities, read)
        .await?;
    // Always JSON: this is the documented interface.
    writeln!(
        output::stdout(),
        "{:#}",
        view::entity::describe(&key, &entity)
    )?;
    Ok(())
}

/// The entity, with the ids of its customer if it has none of its own.
async fn read(store: &dyn Entities, key: &EntityKey) -> anyhow::Result<Entity> {
    let entity = find(store, key).await?;
    let mut entity = entity.with_context(|| {
        let ids = match key.kind.row().id_prefixes {
            [] => "its id is one of your own application".to_owned(),
            prefixes => format!("ids of this kind begin with {}", prefixes.join(" or ")),
        };
        format!("no {key}: no event about it has been applied ({ids})")
    })?;
    let customer = match entity.ids_come_from() {
        Some(customer) => find(store, &customer).await?,
        None => None,
    };
    if let Some(ids) = customer.as_ref().and_then(Entity::application_ids) {
        entity.take_ids(ids);
    }
    Ok(entity)
}

async fn find(store: &dyn Entities, key: &EntityKey) -> anyhow::Result<Option<Entity>> {
    let stored = store.entity(key).await?;
    let decoded = stored.map(|stored| Entity::decode(key, &stored.body));
    decoded.transpose().map_err(anyhow::Error::msg)
}
