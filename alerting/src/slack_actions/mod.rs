//! Interactions with alerts in Slack (acknowledge, silence), on their way to the evaluator.
//!
//! Slack delivers them in one of two ways: it posts them to us ([`Interactivity`]), or we receive
//! them over a WebSocket ([`SocketMode`]). In both cases [`payload`] parses them, and they are
//! confirmed to Slack once the command is durable in the store; without a confirmation Slack shows
//! the user an error. Any number of processes may do this concurrently, whether they evaluate or
//! not.

mod http;
mod inbox;
pub mod payload;
pub mod signature;
mod socket;

use std::net::SocketAddr;
use std::sync::Arc;

use revwatch_core::clock::Clock;
use revwatch_core::signature::SigningKey;
use revwatch_runtime::config::{Config, ConfigError, ExposeSecret as _, SlackConfig};
use revwatch_runtime::listen::ListenError;
use revwatch_runtime::reload::{Apply, Reloadable};
use revwatch_runtime::telemetry::Metrics;
use revwatch_storage::ports::Documents;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::http::Interactivity;
pub use self::socket::SocketMode;
use crate::notify::{EgressClient, SetupError};

/// Both receivers, as far as they are configured.
#[derive(Default)]
pub struct SlackActions {
    http: Option<Interactivity>,
    socket: Option<watch::Sender<Option<SocketMode>>>,
}

/// Replaces the active secrets and tokens.
pub struct Switch {
    keys: Option<Reloadable<Vec<SigningKey>>>,
    socket: Option<watch::Sender<Option<SocketMode>>>,
    store: Arc<dyn Documents>,
}

/// Interactions cannot be received; the message names the setting and the fix.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The listener.
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
    /// Opens the listener if there is a signing secret, and prepares Socket Mode if there is an app
    /// token.
    pub async fn bind(
        config: &Config,
        egress: &EgressClient,
        store: Arc<dyn Documents>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Result<Self, StartError> {
        let http = match keys(&config.slack)? {
            Some(keys) => {
                Some(Interactivity::bind(config, keys, store.clone(), clock, metrics).await?)
            }
            None => None,
        };
        let socket = socket(&config.slack, egress, store)?;
        Ok(Self {
            http,
            socket: Some(watch::Sender::new(socket)),
        })
    }

    /// The handle with which a reload replaces secrets and tokens.
    pub fn switch(&self, store: Arc<dyn Documents>) -> Switch {
        Switch {
            keys: self.http.as_ref().map(Interactivity::keys),
            socket: self.socket.clone(),
            store,
        }
    }

    /// The listener's address, with the port that the system chose; `None` without a signing
    /// secret.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(Interactivity::local_addr)
    }

    /// Receives interactions until `shutdown`; ends at once if neither receiver is, or can become,
    /// configured.
    pub async fn run(self, shutdown: CancellationToken) {
        let http = async {
            if let Some(http) = self.http {
                http.serve(shutdown.clone()).await;
            }
        };
        let changes = self.socket.map(|sender| sender.subscribe());
        let socket = async {
            if let Some(changes) = changes {
                keep_socket(changes, &shutdown).await;
            }
        };
        tokio::join!(http, socket);
    }
}

impl Switch {
    /// Prepares the settings in `config`. Without a signing secret, Slack's requests are refused
    /// from then on; a first secret opens no listener.
    pub fn prepare(&self, config: &Config) -> Result<Apply, ConfigError> {
        let egress = EgressClient::new(config.egress);
        let invalid = |error: StartError| ConfigError::of(error.to_string());
        let keys = keys(&config.slack).map_err(invalid)?.unwrap_or_default();
        let new = socket(&config.slack, &egress, self.store.clone()).map_err(invalid)?;
        let (current, sender) = (self.keys.clone(), self.socket.clone());
        Ok(Box::new(move || {
            if let Some(current) = current {
                current.set(keys);
            }
            if let Some(sender) = sender {
                // A connection with the same token stays open.
                sender.send_if_modified(|old| {
                    let is_new = match (&*old, &new) {
                        (None, None) => false,
                        (Some(old), Some(new)) => !old.is_same(new),
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
            "slack.signing_secret (SLACK_SIGNING_SECRET) holds an empty secret: separate several by single commas".into(),
        )
    };
    keys.map(Some).ok_or_else(empty)
}

fn socket(
    config: &SlackConfig,
    egress: &EgressClient,
    store: Arc<dyn Documents>,
) -> Result<Option<SocketMode>, StartError> {
    let token = config.app_token.clone();
    token
        .map(|token| SocketMode::new(token, &config.api_base, egress, store))
        .transpose()
}

/// Keeps Socket Mode connected with the current token. Work in progress with the previous one is
/// finished first.
async fn keep_socket(
    mut changes: watch::Receiver<Option<SocketMode>>,
    shutdown: &CancellationToken,
) {
    while !shutdown.is_cancelled() {
        let socket = changes.borrow_and_update().clone();
        let stop = shutdown.child_token();
        let mut running = std::pin::pin!(async {
            match socket {
                Some(socket) => socket.run(stop.clone()).await,
                None => stop.cancelled().await,
            }
        });
        tokio::select! {
            () = &mut running => return,
            // No other token can arrive any more: without one there is nothing to do.
            changed = changes.changed() => if changed.is_err() {
                if changes.borrow().is_some() {
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
    use revwatch_storage::system::SystemClock;
    use serde_json::json;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::alert::Command;

    /// Maximum duration of any step before a test fails.
    pub(super) const LONG: Duration = Duration::from_secs(30);

    pub(super) fn open(folder: &Path) -> Arc<dyn Documents> {
        Arc::new(Sqlite::open(folder, Open::Create { partitions: 1 }).expect("a store"))
    }

    /// The commands that wait for the evaluator, by key.
    pub(super) async fn pending_commands(store: &Arc<dyn Documents>) -> Vec<(String, Command)> {
        let documents = store.documents(COMMANDS).await.expect("documents");
        documents
            .into_iter()
            .map(|(key, body)| (key, serde_json::from_str(&body).expect("a command")))
            .collect()
    }

    /// Makes the store refuse commands.
    pub(super) fn break_store(folder: &Path) {
        let other = rusqlite::Connection::open(folder.join(FILE_NAME)).expect("the file");
        other.busy_timeout(LONG).expect("set");
        other
            .execute_batch("ALTER TABLE documents RENAME TO elsewhere")
            .expect("renamed");
    }

    /// Makes it accept them again.
    pub(super) fn repair_store(folder: &Path) {
        let other = rusqlite::Connection::open(folder.join(FILE_NAME)).expect("the file");
        other.busy_timeout(LONG).expect("set");
        other
            .execute_batch("ALTER TABLE elsewhere RENAME TO documents")
            .expect("renamed");
    }

    /// Until it is dropped, the store cannot write.
    pub(super) fn hold_store(folder: &Path) -> rusqlite::Connection {
        let other = rusqlite::Connection::open(folder.join(FILE_NAME)).expect("the file");
        other.busy_timeout(LONG).expect("set");
        other.execute_batch("BEGIN IMMEDIATE").expect("begun");
        other
    }

    pub(super) async fn until<T, F: Future<Output = Option<T>>>(
        what: &str,
        mut answer: impl FnMut() -> F,
    ) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = answer().await {
                return found;
            }
            assert!(began.elapsed() < LONG, "timed out waiting until {what}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// An interaction with the button `action_id`, identified by `action_ts`.
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

    pub(super) fn config(variables: &[(&str, &str)]) -> Config {
        let find = |name: &str| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        Config::load(None, &find).expect("valid")
    }

    #[tokio::test]
    async fn only_configured_receivers_are_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path());
        let egress = EgressClient::new(EgressConfig::default());
        let bind = async |config: &Config| {
            let clock = Arc::new(SystemClock);
            SlackActions::bind(config, &egress, store.clone(), clock, Metrics::new()).await
        };
        let off = bind(&config(&[])).await.expect("nothing to open");
        assert!(off.local_addr().is_none());
        tokio::time::timeout(LONG, off.run(CancellationToken::new()))
            .await
            .expect("it ends");

        let on = config(&[
            ("SLACK_SIGNING_SECRET", "s"),
            ("SLACK_INTERACTIVITY_LISTEN", "127.0.0.1:0"),
        ]);
        let on = bind(&on).await.expect("a port");
        let addr = on.local_addr().expect("an address").to_string();
        let taken = config(&[
            ("SLACK_SIGNING_SECRET", "s"),
            ("SLACK_INTERACTIVITY_LISTEN", &addr),
        ]);
        let error = bind(&taken).await.err().expect("taken").to_string();
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
