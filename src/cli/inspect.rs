//! Commands that read: `state`, `metrics`. They read what a running `serve` writes.

use std::io::Write as _;

use anyhow::bail;
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use jiff::Timestamp;
use revwatch_core::entity::timeline::Stage;
use revwatch_core::entity::{Entity, EntityKey, EntityKind};
use revwatch_core::kpi::{Kpis, hours_needed};
use revwatch_core::money::Money;
use revwatch_runtime::backend::Backend;
use serde_json::{Value, json};

use super::Common;
use super::export::iso;

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
        bail!("no {key}: no event about it has been applied");
    };
    let entity = Entity::decode(&key, &stored.body).map_err(anyhow::Error::msg)?;
    // Always JSON: this is the documented interface.
    writeln!(std::io::stdout().lock(), "{:#}", describe(&entity))?;
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
    let percent = |ratio: Option<f64>| {
        ratio.map_or_else(|| "–".to_owned(), |r| format!("{:.2} %", r * 100.0))
    };
    let list = |counts: &std::collections::BTreeMap<String, i64>| {
        let parts: Vec<_> = counts
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        if parts.is_empty() {
            "–".to_owned()
        } else {
            parts.join(", ")
        }
    };
    let mrr: Vec<_> = kpis
        .mrr_minor
        .iter()
        .map(|(c, minor)| Money::new(*minor, c).to_string())
        .collect();
    let events = format!(
        "{} applied, {} duplicate, {} ignored, {} dead",
        kpis.events_applied, kpis.events_duplicate, kpis.events_ignored, kpis.events_dead
    );
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    for (name, value) in [
        ("Events", events),
        (
            "MRR",
            if mrr.is_empty() {
                "–".to_owned()
            } else {
                mrr.join(", ")
            },
        ),
        ("Subscriptions", list(&kpis.subscriptions)),
        (
            "Past due, of active and past due",
            percent(kpis.past_due_ratio),
        ),
        ("Invoices", list(&kpis.invoices)),
        ("Payouts", list(&kpis.payouts)),
        (
            "Payouts failed, 24 h",
            percent(kpis.payout_failure_ratio_24h),
        ),
        ("Accounts by risk", list(&kpis.accounts)),
        ("Onboarding reached", list(&kpis.funnel)),
    ] {
        table.add_row([name.to_owned(), value]);
    }
    writeln!(out, "{table}")?;
    Ok(())
}

fn describe(entity: &Entity) -> Value {
    let history: Vec<Value> = entity
        .history()
        .iter()
        .map(|t| json!({"at": iso(Some(t.at_s)), "event": t.event_id, "change": t.what, "expected": t.expected}))
        .collect();
    let conditions: Vec<Value> = entity
        .conditions()
        .iter()
        .map(|c| json!({"kind": c.key.kind, "since": iso(Some(c.since_s)), "event": c.event_id, "detail": c.detail}))
        .collect();
    let events: Vec<Value> = entity
        .events()
        .iter()
        .map(|t| json!({"event": t.event_id, "created": iso(Some(t.created_s)), "stage": t.stage.map(stage), "about": t.about}))
        .collect();
    let mut value = match entity {
        Entity::Subscription(s) => json!({
            "id": s.id, "kind": "subscription", "account": s.origin.account, "customer": s.origin.customer,
            "currency": s.origin.currency, "mrr_minor": s.mrr_minor(), "current": s.current(),
            "past_due_since": s.past_due_since().map(|(at_s, _)| iso(Some(at_s))),
        }),
        Entity::Invoice(i) => json!({
            "id": i.id, "kind": "invoice", "account": i.origin.account, "customer": i.origin.customer,
            "subscription": i.origin.subscription, "currency": i.origin.currency, "current": i.current(),
        }),
        Entity::Payout(p) => json!({
            "id": p.id, "kind": "payout", "account": p.origin.account, "amount_minor": p.origin.amount_minor,
            "currency": p.origin.currency, "current": p.current(),
        }),
        Entity::Account(a) => json!({
            "id": a.id, "kind": "account", "country": a.country, "connected": a.connected(), "risk": a.risk(),
            "stage": a.stage(), "onboarding_seconds": a.onboarding_seconds(), "milestones": a.milestones,
            "current": a.current(),
            "capabilities": a.capabilities.iter().map(|(name, t)| (name.clone(), json!(t.last().map(|s| &s.facts.status))))
                .collect::<serde_json::Map<_, _>>(),
            "external_accounts": a.external_accounts,
        }),
        Entity::Movement(m) => json!({
            "id": m.id, "kind": m.kind, "account": m.origin.account, "customer": m.origin.customer,
            "currency": m.origin.currency, "of": m.origin.of, "current": m.current(),
        }),
    };
    value["history"] = Value::Array(history);
    value["events"] = Value::Array(events);
    value["conditions"] = Value::Array(conditions);
    value
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Created => "created",
        Stage::Updated => "updated",
        Stage::Deleted => "deleted",
    }
}
