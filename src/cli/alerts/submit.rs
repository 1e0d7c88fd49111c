//! `alerts ack` and `alerts resolve`, and how commands reach the evaluator: a command is stored,
//! and the CLI waits a while until the evaluator has carried it out.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use revwatch_alerting::alert::{Alert, AlertState, Command, CommandKind};
use revwatch_core::view::alert::state;
use revwatch_core::view::rfc3339;
use revwatch_storage::ports::{COMMANDS, Documents};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::stored::{load_alerts, load_open};
use crate::cli::audit::By;
use crate::cli::global_options::GlobalOptions;
use crate::cli::output;
use crate::cli::time::now_s;

/// Options of `alerts ack` and `alerts resolve`.
#[derive(Debug, Args)]
pub struct AlertIds {
    /// Ids of alerts or groups.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    pub submission: Submission,
}

/// Options of every command that is sent to the evaluator.
#[derive(Debug, Args)]
pub struct Submission {
    #[command(flatten)]
    pub by: By,
    /// Seconds to wait until an alerting process has carried it out; 0: do not wait.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    wait: u64,
}

/// Whether the evaluator has carried out the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandState {
    /// Carried out.
    Applied,
    /// Not yet. Perhaps no evaluator is running.
    Pending,
}

/// How often to check whether the command was carried out.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Runs `alerts ack`.
pub async fn acknowledge(
    options: &GlobalOptions,
    store: &dyn Documents,
    args: &AlertIds,
) -> anyhow::Result<()> {
    let open = load_open(store, &args.ids).await?;
    // The first acknowledgement counts: a second would change nothing.
    let firing = open
        .iter()
        .filter(|alert| alert.state == AlertState::Firing);
    let commands = firing
        .map(|alert| CommandKind::Acknowledge {
            alert_id: alert.id.clone(),
        })
        .collect();
    let outcome = args.submission.submit(store, commands).await?;
    print(options, store, args, &open, outcome).await
}

/// Runs `alerts resolve`.
pub async fn resolve(
    options: &GlobalOptions,
    store: &dyn Documents,
    args: &AlertIds,
) -> anyhow::Result<()> {
    let open = load_open(store, &args.ids).await?;
    let commands = open
        .iter()
        .map(|alert| CommandKind::Resolve {
            alert_id: alert.id.clone(),
        })
        .collect();
    let outcome = args.submission.submit(store, commands).await?;
    print(options, store, args, &open, outcome).await
}

impl Submission {
    /// Stores commands and waits until none of them is left.
    pub async fn submit(
        &self,
        store: &dyn Documents,
        commands: Vec<CommandKind>,
    ) -> anyhow::Result<CommandState> {
        let (at_s, by) = (now_s(), self.by.name()?);
        let (mut keys, mut submitted) = (Vec::new(), Vec::new());
        let count = commands.len();
        for kind in commands {
            let command = Command {
                kind,
                by: by.to_owned(),
                via: "cli".to_owned(),
                at_s,
            };
            let key = Uuid::now_v7().to_string();
            store
                .submit(COMMANDS, &key, &serde_json::to_string(&command)?)
                .await
                .with_context(|| {
                    let is_last = submitted.len() + 1 == count;
                    unknown_after(&submitted, subject(&command.kind), is_last)
                })?;
            submitted.push(subject(&command.kind).to_owned());
            keys.push(key);
        }
        if keys.is_empty() {
            return Ok(CommandState::Applied);
        }
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(self.wait) {
            let stored = store.documents(COMMANDS).await?;
            if !stored.iter().any(|(key, _)| keys.contains(key)) {
                return Ok(CommandState::Applied);
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(CommandState::Pending)
    }

    /// The message when a command was not carried out in time.
    pub fn pending_message(&self) -> String {
        let when = match self.wait {
            0 => "not waited for".to_owned(),
            seconds => format!("no alerting process carried it out within {seconds} s"),
        };
        format!(
            "Pending; {when}. It is carried out as soon as an alerting process runs (`revwatch serve`)."
        )
    }
}

/// What the command names: an alert or a silence.
fn subject(command: &CommandKind) -> &str {
    match command {
        CommandKind::Acknowledge { alert_id } | CommandKind::Resolve { alert_id } => alert_id,
        CommandKind::Silence(silence) => &silence.id,
        CommandKind::Unsilence { silence_id } => silence_id,
    }
}

/// Each id is a command of its own, so an error may leave some of them stored; the one at which it
/// occurred too, if only the reply was lost.
fn unknown_after(submitted: &[String], at: &str, is_last: bool) -> String {
    let before = match submitted {
        [] => String::new(),
        ids => format!("submitted before the error: {}; ", ids.join(" ")),
    };
    let after = if is_last {
        ""
    } else {
        "; the ids after it were not"
    };
    format!("{before}whether {at} was submitted is not known{after}")
}

/// Prints the state of the alerts and whether the command was carried out.
async fn print(
    options: &GlobalOptions,
    store: &dyn Documents,
    args: &AlertIds,
    selected: &[Alert],
    outcome: CommandState,
) -> anyhow::Result<()> {
    let is_selected = |alert: &Alert| selected.iter().any(|a| a.id == alert.id);
    let alerts: Vec<_> = load_alerts(store)
        .await?
        .into_iter()
        .filter(is_selected)
        .collect();
    let mut out = output::stdout();
    if options.json {
        let rows: Vec<Value> = alerts
            .iter()
            .map(|alert| describe(alert, outcome))
            .collect();
        writeln!(out, "{:#}", Value::Array(rows))?;
        return Ok(());
    }
    for alert in &alerts {
        writeln!(out, "{}", line(alert))?;
    }
    if outcome == CommandState::Pending {
        writeln!(out, "{}", args.submission.pending_message())?;
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
    let at = at_s.map_or_else(String::new, |at_s| format!(" at {}", rfc3339(Some(at_s))));
    format!("{} {}{by}{at}{}", alert.id, state(alert), group_note(alert))
}

/// A note for members of a group: the group is notified in their place, and a command for a member
/// does not change the group.
pub fn group_note(alert: &Alert) -> String {
    let group = alert.part_of.as_ref().filter(|_| !alert.is_resolved());
    group.map_or_else(String::new, |id| {
        format!(
            " (its group {id} is notified in its place; this command does not change the group)"
        )
    })
}

fn describe(alert: &Alert, outcome: CommandState) -> Value {
    json!({
        "id": alert.id, "state": alert.state, "applied": outcome == CommandState::Applied,
        "acknowledged_at": alert.acknowledged_s.map(|s| rfc3339(Some(s))), "acknowledged_by": alert.acknowledged_by,
        "resolved_at": alert.resolved_s.map(|s| rfc3339(Some(s))), "resolved_by": alert.resolved_by,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_is_known_of_each_id() {
        assert_eq!(
            unknown_after(&[], "al_1", true),
            "whether al_1 was submitted is not known"
        );
        assert_eq!(
            unknown_after(&["al_1".to_owned(), "al_2".to_owned()], "al_3", false),
            "submitted before the error: al_1 al_2; whether al_3 was submitted is not known; the ids after it were not"
        );
    }
}
