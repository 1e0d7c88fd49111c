//! `revwatch export`: CSV with a header, sorted by id.

use std::io::Write;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use revwatch_alerting::alert::Alert;
use revwatch_core::entity::account::Account;
use revwatch_core::entity::risk::Risk;
use revwatch_core::entity::{Entity, EntityKey, EntityKind};
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
        None => load_alerts(store).await?.iter().map(alert_row).collect(),
        Some(kind) => entity_rows(store, kind).await?,
    };
    rows.sort();
    let mut out = csv::Writer::from_writer(to);
    out.write_record(header(kind))?;
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

fn header(kind: ExportKind) -> &'static [&'static str] {
    match kind {
        ExportKind::Subscriptions => &[
            "id",
            "customer",
            "account",
            "status",
            "plan",
            "currency",
            "mrr_minor",
            "cancel_scheduled",
            "past_due_since",
            "updated_at",
        ],
        ExportKind::Invoices => &[
            "id",
            "customer",
            "subscription",
            "status",
            "currency",
            "amount_due_minor",
            "amount_paid_minor",
            "attempts",
            "account",
        ],
        ExportKind::Payouts => &[
            "id",
            "account",
            "status",
            "currency",
            "amount_minor",
            "failure_code",
        ],
        ExportKind::Accounts => &[
            "id",
            "country",
            "charges_enabled",
            "payouts_enabled",
            "connected",
            "risk",
            "stage",
            "onboarding_seconds",
        ],
        ExportKind::PaymentIntents
        | ExportKind::CheckoutSessions
        | ExportKind::Disputes
        | ExportKind::Refunds
        | ExportKind::Transfers => &[
            "id",
            "account",
            "customer",
            "status",
            "currency",
            "amount_minor",
            "reason",
            "of",
            "updated_at",
        ],
        ExportKind::Alerts => &[
            "id",
            "rule",
            "severity",
            "state",
            "subject",
            "since",
            "acknowledged_at",
            "resolved_at",
            "acknowledged_by",
            "resolved_by",
            "respond_by",
            "resolve_by",
            "group",
        ],
    }
}

async fn entity_rows(store: &dyn Entities, kind: EntityKind) -> anyhow::Result<Vec<Vec<String>>> {
    let mut rows = Vec::new();
    let mut unreadable = None;
    store
        .entities(
            kind,
            &mut |id, body| match Entity::decode(&EntityKey::new(kind, id), body) {
                Ok(entity) => rows.extend(row(&entity)),
                Err(error) => unreadable = Some(error),
            },
        )
        .await?;
    match unreadable {
        Some(error) => Err(anyhow::Error::msg(error)),
        None => Ok(rows),
    }
}

/// One row; `None` for an entity that an event mentioned but no event contained.
fn row(entity: &Entity) -> Option<Vec<String>> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Some(match entity {
        Entity::Subscription(s) => {
            let last = s.timeline.last()?;
            vec![
                s.id.clone(),
                text(&s.origin.customer),
                text(&s.origin.account),
                last.facts.status.to_string(),
                last.facts.plan.clone(),
                text(&s.origin.currency),
                s.mrr_minor().to_string(),
                last.facts.cancel_scheduled().to_string(),
                iso(s.past_due_since().map(|(at_s, _)| at_s)),
                iso(Some(last.created_s)),
            ]
        }
        Entity::Invoice(i) => {
            let facts = i.current()?;
            vec![
                i.id.clone(),
                text(&i.origin.customer),
                text(&i.origin.subscription),
                facts.status.to_string(),
                text(&i.origin.currency),
                facts.amount_due_minor.to_string(),
                facts.amount_paid_minor.to_string(),
                facts.attempts.to_string(),
                text(&i.origin.account),
            ]
        }
        Entity::Payout(p) => {
            let facts = p.current()?;
            vec![
                p.id.clone(),
                text(&p.origin.account),
                facts.status.to_string(),
                text(&p.origin.currency),
                p.origin.amount_minor.unwrap_or(0).to_string(),
                text(&facts.failure_code),
            ]
        }
        Entity::Account(a) => account_row(a),
        Entity::Movement(m) => {
            let last = m.timeline.last()?;
            vec![
                m.id.clone(),
                text(&m.origin.account),
                text(&m.origin.customer),
                last.facts.status.clone(),
                text(&m.origin.currency),
                last.facts.amount_minor.to_string(),
                text(&last.facts.reason),
                text(&m.origin.of),
                iso(Some(last.created_s)),
            ]
        }
    })
}

/// An account known by its id only has empty flags.
fn account_row(a: &Account) -> Vec<String> {
    let flag = |value: Option<bool>| value.map_or_else(String::new, |v| v.to_string());
    vec![
        a.id.clone(),
        a.country.clone().unwrap_or_default(),
        flag(a.current().map(|f| f.charges_enabled)),
        flag(a.current().map(|f| f.payouts_enabled)),
        a.connected().to_string(),
        a.risk().map_or("unknown", Risk::as_str).to_owned(),
        a.stage().as_str().to_owned(),
        a.onboarding_seconds()
            .map_or_else(String::new, |s| s.to_string()),
    ]
}

fn alert_row(alert: &Alert) -> Vec<String> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    // Deadlines that have not started have no time.
    let due = |at_s: i64| iso(Some(at_s).filter(|at_s| *at_s > 0));
    vec![
        alert.id.clone(),
        alert.rule.clone(),
        alert.severity.as_str().to_owned(),
        alert.state.as_str().to_owned(),
        alert.subject_text(),
        iso(Some(alert.since_s)),
        iso(alert.acknowledged_s),
        iso(alert.resolved_s),
        text(&alert.acknowledged_by),
        text(&alert.resolved_by),
        due(alert.sla.respond_due_s),
        due(alert.sla.resolve_due_s),
        text(&alert.part_of),
    ]
}

/// RFC 3339 in UTC; empty for nothing.
pub fn iso(unix_s: Option<i64>) -> String {
    let time = unix_s.and_then(|s| Timestamp::from_second(s).ok());
    time.map_or_else(String::new, |t| t.to_string())
}
