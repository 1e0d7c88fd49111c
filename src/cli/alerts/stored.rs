//! What the evaluator has written, as the commands need it.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use revwatch_alerting::alert::Alert;
use revwatch_alerting::command::{Command, CommandKind, Silence};
use revwatch_alerting::engine;
use revwatch_storage::ports::{COMMANDS, StateStore};
use serde::de::DeserializeOwned;

/// Every alert that is stored, those not over first, then newest first.
pub async fn load_alerts(store: &dyn StateStore) -> anyhow::Result<Vec<Alert>> {
    // In this order one that is on its way into the history is seen at least once; it is listed
    // once.
    let mut alerts = BTreeMap::new();
    for space in [engine::ALERTS, engine::HISTORY] {
        let read: Vec<Alert> = load(store, space).await?;
        alerts.extend(read.into_iter().map(|alert| (alert.id.clone(), alert)));
    }
    let mut alerts: Vec<_> = alerts.into_values().collect();
    alerts.sort_by_key(|a| (a.is_over(), std::cmp::Reverse(a.fired_s), a.id.clone()));
    Ok(alerts)
}

/// Those with these ids, each once; none of them may be over.
pub async fn load_open(store: &dyn StateStore, ids: &[String]) -> anyhow::Result<Vec<Alert>> {
    let mut stored: BTreeMap<_, _> = load_alerts(store)
        .await?
        .into_iter()
        .map(|a| (a.id.clone(), a))
        .collect();
    let mut found: Vec<Alert> = Vec::new();
    for id in ids {
        match stored.remove(id) {
            Some(alert) if alert.is_over() => {
                bail!("{id} is over already: `revwatch alerts show {id}` says since when")
            }
            Some(alert) => found.push(alert),
            None if found.iter().any(|alert| alert.id == *id) => {}
            None => bail!(not_there(id)),
        }
    }
    Ok(found)
}

/// Every silence that is stored, also those that ended of late.
pub async fn load_silences(store: &dyn StateStore) -> anyhow::Result<Vec<Silence>> {
    load(store, engine::SILENCES).await
}

/// Silences that were asked for and not taken by the evaluator yet. Read before [`load_silences`]:
/// one that is taken in between is in both, not in neither.
pub async fn load_asked_silences(store: &dyn StateStore) -> anyhow::Result<Vec<Silence>> {
    // What cannot be read the evaluator throws away, too.
    let asked = |(_, body): (String, String)| match serde_json::from_str(&body).ok()? {
        Command {
            ask: CommandKind::Silence(silence),
            ..
        } => Some(silence),
        _ => None,
    };
    Ok(store
        .documents(COMMANDS)
        .await?
        .into_iter()
        .filter_map(asked)
        .collect())
}

/// What to say of an id that names nothing.
pub fn not_there(id: &str) -> String {
    format!("no alert {id}: `revwatch alerts list --all --members` shows those there are")
}

async fn load<T: DeserializeOwned>(
    store: &dyn StateStore,
    space: &'static str,
) -> anyhow::Result<Vec<T>> {
    let read = |(key, body): &(String, String)| {
        serde_json::from_str(body).with_context(|| {
            format!(
                "the stored {space} {key} cannot be read: use the version of revwatch that serves"
            )
        })
    };
    store.documents(space).await?.iter().map(read).collect()
}
