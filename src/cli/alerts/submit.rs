//! `alerts ack` and `alerts resolve`, and how any command reaches the evaluator: it is left in the
//! store, and whoever left it waits a while for it to be taken.

use std::io::Write as _;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use revwatch_alerting::alert::{Alert, AlertState};
use revwatch_alerting::command::{Command, CommandKind};
use revwatch_storage::ports::{COMMANDS, StateStore};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::stored::{load_alerts, load_open};
use super::{Common, now_s, state};
use crate::cli::export::iso;

/// Options of `alerts ack` and `alerts resolve`.
#[derive(Debug, Args)]
pub struct AskArgs {
    /// Ids of alerts or groups.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    asking: Asking,
}

/// Options of every command that asks something of the evaluator.
#[derive(Debug, Args)]
pub struct Asking {
    /// Your name; other people see it.
    #[arg(long, value_name = "NAME", env = "USER", hide_env_values = true, value_parser = NonEmptyStringValueParser::new())]
    pub by: String,
    /// Seconds to wait until an alerting process has carried it out; 0: do not wait.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    wait: u64,
}

/// Whether the evaluator has done what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It has.
    Taken,
    /// Not yet, and it may be that none runs.
    Stored,
}

/// How often to look whether it was taken.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Runs `alerts ack`.
pub async fn acknowledge(
    common: &Common,
    store: &dyn StateStore,
    args: &AskArgs,
) -> anyhow::Result<()> {
    let found = load_open(store, &args.ids).await?;
    // Whoever was first has it: a second acknowledgement would change nothing.
    let firing = found
        .iter()
        .filter(|alert| alert.state == AlertState::Firing);
    let asks = firing
        .map(|alert| CommandKind::Acknowledge {
            alert_id: alert.id.clone(),
        })
        .collect();
    let fate = args.asking.submit(store, asks).await?;
    print(common, store, args, &found, fate).await
}

/// Runs `alerts resolve`.
pub async fn resolve(
    common: &Common,
    store: &dyn StateStore,
    args: &AskArgs,
) -> anyhow::Result<()> {
    let found = load_open(store, &args.ids).await?;
    let asks = found
        .iter()
        .map(|alert| CommandKind::Resolve {
            alert_id: alert.id.clone(),
        })
        .collect();
    let fate = args.asking.submit(store, asks).await?;
    print(common, store, args, &found, fate).await
}

impl Asking {
    /// Leaves commands in the store, and waits until none of them is there any more.
    pub async fn submit(
        &self,
        store: &dyn StateStore,
        asks: Vec<CommandKind>,
    ) -> anyhow::Result<Fate> {
        let at_s = now_s();
        let mut keys = Vec::new();
        for ask in asks {
            let command = Command {
                ask,
                by: self.by.clone(),
                via: "cli".to_owned(),
                at_s,
            };
            let key = Uuid::now_v7().to_string();
            store
                .submit(COMMANDS, &key, &serde_json::to_string(&command)?)
                .await?;
            keys.push(key);
        }
        if keys.is_empty() {
            return Ok(Fate::Taken);
        }
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(self.wait) {
            let stored = store.documents(COMMANDS).await?;
            if !stored.iter().any(|(key, _)| keys.contains(key)) {
                return Ok(Fate::Taken);
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(Fate::Stored)
    }

    /// What to tell whoever asked when nobody has done it yet.
    pub fn not_taken(&self) -> String {
        let when = match self.wait {
            0 => "not waited for".to_owned(),
            seconds => format!("no alerting process took it within {seconds} s"),
        };
        format!(
            "Stored; {when}. It stays stored and is done as soon as one runs (`revwatch serve`)."
        )
    }
}

/// How the alerts stand now, and whether that is what was asked for.
async fn print(
    common: &Common,
    store: &dyn StateStore,
    args: &AskArgs,
    asked: &[Alert],
    fate: Fate,
) -> anyhow::Result<()> {
    let is_asked = |alert: &Alert| asked.iter().any(|a| a.id == alert.id);
    let now: Vec<_> = load_alerts(store)
        .await?
        .into_iter()
        .filter(is_asked)
        .collect();
    let mut out = std::io::stdout().lock();
    if common.json {
        let rows: Vec<Value> = now.iter().map(|alert| describe(alert, fate)).collect();
        writeln!(out, "{:#}", Value::Array(rows))?;
        return Ok(());
    }
    for alert in &now {
        writeln!(out, "{}", line(alert))?;
    }
    if fate == Fate::Stored {
        writeln!(out, "{}", args.asking.not_taken())?;
    }
    Ok(())
}

fn line(alert: &Alert) -> String {
    let (at_s, by) = match alert.state {
        AlertState::Firing => (None, None),
        AlertState::Acknowledged => (alert.acknowledged_s, alert.acknowledged_by.as_ref()),
        AlertState::Resolved => (alert.resolved_s, alert.resolved_by.as_ref()),
    };
    let by = by.map_or_else(String::new, |by| format!(" by {by}"));
    let at = at_s.map_or_else(String::new, |at_s| format!(" at {}", iso(Some(at_s))));
    format!("{} {}{by}{at}{}", alert.id, state(alert), told_by(alert))
}

/// One of a group is not told by itself: what is asked of it changes nothing for those who read the
/// group.
pub fn told_by(alert: &Alert) -> String {
    let group = alert.part_of.as_ref().filter(|_| !alert.is_over());
    group.map_or_else(String::new, |id| {
        format!(" (told by its group {id}, which this does not answer)")
    })
}

fn describe(alert: &Alert, fate: Fate) -> Value {
    json!({
        "id": alert.id, "state": alert.state, "taken": fate == Fate::Taken,
        "acknowledged_at": alert.acknowledged_s.map(|s| iso(Some(s))), "acknowledged_by": alert.acknowledged_by,
        "resolved_at": alert.resolved_s.map(|s| iso(Some(s))), "resolved_by": alert.resolved_by,
    })
}
