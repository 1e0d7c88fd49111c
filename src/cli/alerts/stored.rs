//! Reads what the evaluator has stored, for the commands.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use revwatch_alerting::alert::{Alert, Command, CommandKind, Silence};
use revwatch_alerting::engine;
use revwatch_storage::ports::{COMMANDS, Documents};
use serde::de::DeserializeOwned;

/// All stored alerts: open ones first, then newest first.
pub async fn load_alerts(store: &dyn Documents) -> anyhow::Result<Vec<Alert>> {
    // The history is read last: an alert that moves there in between is read at least once. The map
    // removes the duplicate.
    let mut alerts = BTreeMap::new();
    for space in [engine::ALERTS, engine::HISTORY] {
        let read: Vec<Alert> = load(store, space).await?;
        alerts.extend(read.into_iter().map(|alert| (alert.id.clone(), alert)));
    }
    let mut alerts: Vec<_> = alerts.into_values().collect();
    alerts.sort_by_key(|a| (a.is_resolved(), std::cmp::Reverse(a.fired_s), a.id.clone()));
    Ok(alerts)
}

/// The open alerts with these ids, each once. Fails if one of them is resolved.
pub async fn load_open(store: &dyn Documents, ids: &[String]) -> anyhow::Result<Vec<Alert>> {
    let mut stored: BTreeMap<_, _> = load_alerts(store)
        .await?
        .into_iter()
        .map(|a| (a.id.clone(), a))
        .collect();
    let mut open: Vec<Alert> = Vec::new();
    for id in ids {
        match stored.remove(id) {
            Some(alert) if alert.is_resolved() => {
                bail!("{id} is resolved already: `revwatch alerts show {id}` says since when")
            }
            Some(alert) => open.push(alert),
            None if open.iter().any(|alert| alert.id == *id) => {}
            None => bail!(unknown_alert(id)),
        }
    }
    Ok(open)
}

/// All stored silences, including those that ended recently.
pub async fn load_silences(store: &dyn Documents) -> anyhow::Result<Vec<Silence>> {
    load(store, engine::SILENCES).await
}

/// Silences that were requested and that the evaluator has not applied yet. Read them before
/// [`load_silences`]: a silence that is applied in between is then in both lists, never in neither.
pub async fn load_pending_silences(store: &dyn Documents) -> anyhow::Result<Vec<Silence>> {
    // The evaluator discards commands that cannot be decoded, too.
    let pending = |(_, body): (String, String)| match serde_json::from_str(&body).ok()? {
        Command {
            kind: CommandKind::Silence(silence),
            ..
        } => Some(silence),
        _ => None,
    };
    Ok(store
        .documents(COMMANDS)
        .await?
        .into_iter()
        .filter_map(pending)
        .collect())
}

/// The error text for an unknown alert id.
pub fn unknown_alert(id: &str) -> String {
    format!("no alert {id}: `revwatch alerts list --all --members` lists the alerts")
}

async fn load<T: DeserializeOwned>(
    store: &dyn Documents,
    space: &'static str,
) -> anyhow::Result<Vec<T>> {
    let read = |(key, body): &(String, String)| {
        serde_json::from_str(body).with_context(|| {
            format!(
                "the stored {space} {key} cannot be read: use the same version of revwatch as `serve`"
            )
        })
    };
    store.documents(space).await?.iter().map(read).collect()
}
