//! What people press under an alert in Slack (acknowledge, silence), on its way to the evaluator.
//!
//! Slack tells of it in one of two ways: it posts it to us ([`Interactivity`]), or we fetch it over a
//! WebSocket ([`SocketMode`]). Either way [`payload`] reads it, and it is confirmed to Slack once the command
//! is durable in the store; without that Slack shows an error to whoever pressed. Any number of processes may
//! do this at once, whether they evaluate or not.

mod http;
mod inbox;
pub mod payload;
pub mod signature;
mod socket;

use std::net::SocketAddr;
use std::sync::Arc;

use revwatch_core::signature::SigningKey;
use revwatch_runtime::config::{Config, ConfigError, ExposeSecret as _, SlackConfig};
use revwatch_runtime::listen::ListenError;
use revwatch_runtime::reload::{Apply, Reloadable};
use revwatch_storage::ports::StateStore;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::http::Interactivity;
pub use self::socket::SocketMode;
use crate::notify::{EgressClient, SetupError};

/// Both ways, as far as they are configured.
#[derive(Default)]
pub struct SlackActions {
    http: Option<Interactivity>,
    socket: Option<watch::Sender<Option<SocketMode>>>,
}

/// Puts other secrets and tokens in the place of those in use.
pub struct Switch {
    keys: Option<Reloadable<Vec<SigningKey>>>,
    socket: Option<watch::Sender<Option<SocketMode>>>,
    store: Arc<dyn StateStore>,
}

/// What people press cannot be taken; the text names the setting and the fix.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A setting.
    #[error("{0}")]
    Setting(String),
    /// Slack's API, or the client for it.
    #[error(transparent)]
    Api(#[from] SetupError),
}

impl SlackActions {
    /// Opens the port, if there is a signing secret, and prepares Socket Mode, if there is an app token.
    pub async fn bind(
        config: &SlackConfig,
        egress: &EgressClient,
        store: Arc<dyn StateStore>,
    ) -> Result<Self, StartError> {
        let http = match keys(config)? {
            Some(keys) => {
                Some(Interactivity::bind(config.interactivity_listen, keys, store.clone()).await?)
            }
            None => None,
        };
        let socket = socket(config, egress, store)?;
        Ok(Self {
            http,
            socket: Some(watch::Sender::new(socket)),
        })
    }

    /// Whether what is configured can be used; opens nothing.
    pub fn check(config: &Config) -> Result<(), ConfigError> {
        let wrong = |error: StartError| ConfigError::of(error.to_string());
        keys(&config.slack).map_err(wrong)?;
        if config.slack.app_token.is_some() {
            let egress = EgressClient::new(config.egress);
            egress
                .base(socket::SETTING, &config.slack.api_base)
                .map_err(|error| wrong(SetupError::from(error).into()))?;
        }
        Ok(())
    }

    /// To be asked when other settings come.
    pub fn switch(&self, store: Arc<dyn StateStore>) -> Switch {
        Switch {
            keys: self.http.as_ref().map(Interactivity::keys),
            socket: self.socket.clone(),
            store,
        }
    }

    /// Where Slack may post, with the port the system chose; `None` without a signing secret.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(Interactivity::local_addr)
    }

    /// Takes what is pressed until `shutdown`; ends at once if neither way is, or can become, configured.
    pub async fn run(self, shutdown: CancellationToken) {
        let http = async {
            if let Some(http) = self.http {
                http.serve(shutdown.clone()).await;
            }
        };
        let arriving = self.socket.map(|sender| sender.subscribe());
        let socket = async {
            if let Some(arriving) = arriving {
                keep_socket(arriving, &shutdown).await;
            }
        };
        tokio::join!(http, socket);
    }
}

impl Switch {
    /// Makes ready what `config` says. Without a signing secret, requests of Slack are refused from then on; a
    /// first one opens no listener.
    pub fn prepare(&self, config: &Config) -> Result<Apply, ConfigError> {
        let egress = EgressClient::new(config.egress);
        let wrong = |error: StartError| ConfigError::of(error.to_string());
        let keys = keys(&config.slack).map_err(wrong)?.unwrap_or_default();
        let new = socket(&config.slack, &egress, self.store.clone()).map_err(wrong)?;
        let (current, sender) = (self.keys.clone(), self.socket.clone());
        Ok(Box::new(move || {
            if let Some(current) = current {
                current.set(keys);
            }
            if let Some(sender) = sender {
                // A connection with the same token goes on.
                sender.send_if_modified(|old| {
                    let is_new = match (&*old, &new) {
                        (None, None) => false,
                        (Some(old), Some(new)) => !old.is_like(new),
                        _ => true,
                    };
                    if is_new {
                        *old = new;
                    }
                    is_new
                });
            }
        }))
    }
}

fn keys(config: &SlackConfig) -> Result<Option<Vec<SigningKey>>, StartError> {
    let Some(secrets) = &config.signing_secret else {
        return Ok(None);
    };
    let keys = signature::keys(secrets.expose_secret());
    let empty = || {
        StartError::Setting(
            "slack.signing_secret (SLACK_SIGNING_SECRET) holds an empty secret".into(),
        )
    };
    keys.map(Some).ok_or_else(empty)
}

fn socket(
    config: &SlackConfig,
    egress: &EgressClient,
    store: Arc<dyn StateStore>,
) -> Result<Option<SocketMode>, StartError> {
    let token = config.app_token.clone();
    token
        .map(|token| SocketMode::new(token, &config.api_base, egress, store))
        .transpose()
}

/// Keeps Socket Mode connected with the token of the day. What is under way with the last one is finished first.
async fn keep_socket(
    mut arriving: watch::Receiver<Option<SocketMode>>,
    shutdown: &CancellationToken,
) {
    while !shutdown.is_cancelled() {
        let socket = arriving.borrow_and_update().clone();
        let stop = shutdown.child_token();
        let mut running = std::pin::pin!(async {
            match socket {
                Some(socket) => socket.run(stop.clone()).await,
                None => stop.cancelled().await,
            }
        });
        tokio::select! {
            () = &mut running => return,
            // Nobody can give another token any more: with none there is nothing to do.
            arrived = arriving.changed() => if arrived.is_err() {
                if arriving.borrow().is_some() {
                    running.await;
                }
                return;
            },
        }
        stop.cancel();
        running.await;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use revwatch_runtime::config::EgressConfig;
    use revwatch_storage::ports::COMMANDS;
    use revwatch_storage::sqlite::{FILE_NAME, Open, Sqlite};
    use serde_json::json;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::command::Command;

    /// The longest that anything may take before a test fails.
    pub(super) const LONG: Duration = Duration::from_secs(30);

    pub(super) fn open(folder: &Path) -> Arc<dyn StateStore> {
        Arc::new(Sqlite::open(folder, Open::Create { partitions: 1 }).expect("a store"))
    }

    /// What waits for the evaluator, by key.
    pub(super) async fn left(store: &Arc<dyn StateStore>) -> Vec<(String, Command)> {
        let documents = store.documents(COMMANDS).await.expect("documents");
        documents
            .into_iter()
            .map(|(key, body)| (key, serde_json::from_str(&body).expect("a command")))
            .collect()
    }

    /// From now on the store takes no command.
    pub(super) fn break_store(folder: &Path) {
        let other = rusqlite::Connection::open(folder.join(FILE_NAME)).expect("the file");
        other.busy_timeout(LONG).expect("set");
        other
            .execute_batch("ALTER TABLE documents RENAME TO elsewhere")
            .expect("renamed");
    }

    /// And now it does again.
    pub(super) fn mend_store(folder: &Path) {
        let other = rusqlite::Connection::open(folder.join(FILE_NAME)).expect("the file");
        other.busy_timeout(LONG).expect("set");
        other
            .execute_batch("ALTER TABLE elsewhere RENAME TO documents")
            .expect("renamed");
    }

    /// Until it is dropped, the store can write nothing.
    pub(super) fn hold_store(folder: &Path) -> rusqlite::Connection {
        let other = rusqlite::Connection::open(folder.join(FILE_NAME)).expect("the file");
        other.busy_timeout(LONG).expect("set");
        other.execute_batch("BEGIN IMMEDIATE").expect("begun");
        other
    }

    pub(super) async fn until<T, F: Future<Output = Option<T>>>(
        what: &str,
        mut ask: impl FnMut() -> F,
    ) -> T {
        let began = Instant::now();
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            assert!(began.elapsed() < LONG, "waited in vain until {what}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// A press of the button `action_id`, told apart by `action_ts`.
    pub(super) fn press(action_id: &str, value: &str, action_ts: &str) -> serde_json::Value {
        json!({
            "type": "block_actions",
            "user": {"id": "U0123456789", "username": "ana.silva", "name": "ana", "team_id": "T0123456789"},
            "container": {"type": "message", "message_ts": "1767326126.896109", "channel_id": "C0123456789"},
            "actions": [{
                "type": "button", "action_id": action_id, "block_id": "b", "value": value, "action_ts": action_ts,
            }],
        })
    }

    fn config(variables: &[(&str, &str)]) -> SlackConfig {
        let find = |name: &str| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        Config::load(None, &find).expect("valid").slack
    }

    #[tokio::test]
    async fn nothing_is_opened_that_is_not_configured() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path());
        let egress = EgressClient::new(EgressConfig::default());
        let off = SlackActions::bind(&config(&[]), &egress, store.clone())
            .await
            .expect("nothing to open");
        assert!(off.local_addr().is_none());
        tokio::time::timeout(LONG, off.run(CancellationToken::new()))
            .await
            .expect("it ends");

        let on = config(&[
            ("SLACK_SIGNING_SECRET", "s"),
            ("SLACK_INTERACTIVITY_LISTEN", "127.0.0.1:0"),
        ]);
        let on = SlackActions::bind(&on, &egress, store.clone())
            .await
            .expect("a port");
        let addr = on.local_addr().expect("an address").to_string();
        let taken = config(&[
            ("SLACK_SIGNING_SECRET", "s"),
            ("SLACK_INTERACTIVITY_LISTEN", &addr),
        ]);
        let error = SlackActions::bind(&taken, &egress, store.clone())
            .await
            .err()
            .expect("taken")
            .to_string();
        assert!(error.contains("SLACK_INTERACTIVITY_LISTEN"), "{error}");

        let shutdown = CancellationToken::new();
        let running = tokio::spawn(on.run(shutdown.clone()));
        let url = format!("http://{addr}/slack/interactivity");
        let answer = reqwest::Client::new()
            .post(url)
            .timeout(LONG)
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 401, "it serves");
        shutdown.cancel();
        tokio::time::timeout(LONG, running)
            .await
            .expect("in time")
            .expect("no panic");

        for (base, expected) in [
            ("http://slack.example/api", "https://"),
            ("https://10.0.0.1/api", "private"),
        ] {
            let refused = SocketMode::new("xapp-1".into(), base, &egress, store.clone());
            let error = refused.err().expect("refused").to_string();
            assert!(
                error.contains("SLACK_API_BASE") && error.contains(expected),
                "{error}"
            );
        }
    }
}
