//! `revwatch config check --connect`: whether the servers that the settings name answer and accept the logins.
//!
//! Invariant: nothing is created and nothing is sent to people.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use revwatch_alerting::notify::Notifier;
use revwatch_runtime::backend::Uses;
use revwatch_runtime::config::Config;
use revwatch_storage::ports::{QueueError, StoreError};
use revwatch_storage::rabbitmq::RabbitQueue;
use revwatch_storage::redis::RedisStore;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A server, and what it answered.
pub(super) struct Asked {
    pub(super) name: &'static str,
    /// `None`: it cannot be asked without a message to people.
    pub(super) answer: Option<Result<(), String>>,
    /// What is wrong although it works.
    pub(super) warnings: Vec<String>,
}

/// For one server: its own timeouts are shorter.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Asks all of them at once.
pub(super) async fn ask(
    config: &Config,
    uses: Uses,
    notifiers: &[Arc<dyn Notifier>],
) -> Vec<Asked> {
    let mut asking = JoinSet::new();
    let partitions = config.partitions;
    if let Some(url) = config.amqp_url.clone() {
        asking.spawn(bounded(0, "rabbitmq", async move {
            let probed = RabbitQueue::probe(&url, partitions).await;
            Some(probed.map_err(of_queue))
        }));
    }
    if let Some(url) = config.redis_url.clone()
        && uses == Uses::QueueAndStore
    {
        asking.spawn(bounded(1, "redis", async move {
            let probed = RedisStore::probe(&url, partitions).await;
            Some(probed.map(|()| Vec::new()).map_err(of_store))
        }));
    }
    let with_server = notifiers.iter().filter(|notifier| notifier.name() != "log");
    for (place, notifier) in (2..).zip(with_server.cloned()) {
        asking.spawn(bounded(place, notifier.name(), async move {
            let probed = notifier.probe().await?;
            Some(probed.map(|()| Vec::new()))
        }));
    }
    let mut asked = asking.join_all().await;
    asked.sort_by_key(|(place, _)| *place);
    asked.into_iter().map(|(_, asked)| asked).collect()
}

impl Asked {
    /// For the list of faults.
    pub(super) fn fault(&self) -> Option<String> {
        match &self.answer {
            Some(Err(why)) => Some(format!("{}: {why}", self.name)),
            _ => None,
        }
    }

    pub(super) fn json(&self) -> Value {
        let error = match &self.answer {
            Some(Err(why)) => Some(why),
            _ => None,
        };
        json!({"name": self.name, "result": self.result(), "error": error})
    }

    fn result(&self) -> &'static str {
        match &self.answer {
            None => "not_asked",
            Some(Ok(())) => "ok",
            Some(Err(_)) => "failed",
        }
    }
}

/// One line for each.
pub(super) fn print(asked: &[Asked], out: &mut impl Write) -> std::io::Result<()> {
    for (number, asked) in asked.iter().enumerate() {
        let title = if number == 0 { "servers" } else { "" };
        let result = match asked.result() {
            "not_asked" => "not asked: it answers only to messages",
            result => result,
        };
        writeln!(out, "{title:9} {:9} {result}", asked.name)?;
    }
    Ok(())
}

async fn bounded(
    place: usize,
    name: &'static str,
    asking: impl Future<Output = Option<Result<Vec<String>, String>>>,
) -> (usize, Asked) {
    let answer = timeout(ANSWER_TIMEOUT, Box::pin(asking)).await;
    let no_answer = || {
        Some(Err(format!(
            "no answer within {} s",
            ANSWER_TIMEOUT.as_secs()
        )))
    };
    let (answer, warnings) = match answer.unwrap_or_else(|_| no_answer()) {
        Some(Ok(warnings)) => (Some(Ok(())), warnings),
        Some(Err(why)) => (Some(Err(why)), Vec::new()),
        None => (None, Vec::new()),
    };
    let asked = Asked {
        name,
        answer,
        warnings,
    };
    (place, asked)
}

/// The text without what the port says of its errors: the name of the server stands before it.
fn of_queue(error: QueueError) -> String {
    match error {
        QueueError::Unavailable(cause) => cause.to_string(),
        QueueError::Misconfigured(why) => why,
    }
}

fn of_store(error: StoreError) -> String {
    match error {
        StoreError::Unavailable(cause) => cause.to_string(),
        StoreError::Misconfigured(why) => why,
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_is_one_line_and_only_failures_are_faults() {
        let asked = [
            ("rabbitmq", Some(Ok(()))),
            ("email", Some(Err("the password is wrong".to_owned()))),
            ("pagerduty", None),
        ]
        .map(|(name, answer)| Asked {
            name,
            answer,
            warnings: Vec::new(),
        });
        let mut out = Vec::new();
        print(&asked, &mut out).expect("written");
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "servers   rabbitmq  ok\n          email     failed\n          pagerduty not asked: it answers only to messages\n"
        );
        let faults: Vec<_> = asked.iter().filter_map(Asked::fault).collect();
        assert_eq!(faults, ["email: the password is wrong"]);
        assert_eq!(
            asked[1].json(),
            json!({"name": "email", "result": "failed", "error": "the password is wrong"})
        );
    }
}
