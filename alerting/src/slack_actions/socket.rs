//! Socket Mode: interactions are received over a WebSocket that we open, so Slack need not reach
//! us.
//!
//! `apps.connections.open` returns a URL that is valid for one connection. Envelopes arrive over
//! it, and each is confirmed with its `envelope_id`. Slack replaces connections every few hours and
//! announces it with `disconnect`. If an app has several connections, each envelope goes to one of
//! them. Sources: <https://docs.slack.dev/apis/events-api/using-socket-mode>,
//! <https://docs.slack.dev/reference/methods/apps.connections.open>.
//!
//! Invariant: an envelope is confirmed only after its command is durable. The URL is a secret: it
//! holds a ticket, and is never logged.

mod envelope;

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::{StatusCode, header};
use revwatch_core::backoff::Backoff;
use revwatch_core::redact;
use revwatch_runtime::config::{EgressConfig, ExposeSecret as _, SecretString, names_loopback};
use revwatch_runtime::egress::{HttpClient, HttpError, retry_after};
use revwatch_runtime::retries::Retries;
use revwatch_storage::ports::Documents;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use tokio_util::sync::CancellationToken;
use url::Url;

use self::envelope::{Disconnect, Envelope};
use super::StartError;
use super::inbox::Inbox;
use super::payload::commands;
use crate::notify::{EgressClient, SLACK_API_BASE, SetupError, http_outcome};

/// Maintains one connection to Slack.
#[derive(Clone)]
pub struct SocketMode {
    client: HttpClient,
    token: SecretString,
    api_base: String,
    policy: EgressConfig,
    inbox: Inbox,
    idle_timeout: Duration,
    stable_after: Duration,
}

/// Slack pings more often than every 30 seconds, according to the default of its own client:
/// <https://docs.slack.dev/tools/node-slack-sdk/reference/socket-mode/interfaces/SocketModeOptions>.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// Timeout for a handshake, and for sending one message.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Slack does not close its side immediately.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection that lasted this long was stable: the next failure starts a new backoff.
const STABLE_AFTER: Duration = Duration::from_secs(10);
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(200),
    max: Duration::from_secs(30),
};
/// The wait after a 429 that names no time.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
/// The same limit as over HTTP.
const MESSAGE_BYTES: usize = super::http::BODY_BYTES;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Why a connection ended normally.
enum SessionEnd {
    Shutdown,
    Replaced,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum SocketError {
    #[error("apps.connections.open: {0}")]
    Refused(String),
    #[error("apps.connections.open: Slack requests a retry in {} s", .0.as_secs())]
    Later(Duration),
    #[error("Slack returned a URL that is neither wss:// nor on this machine")]
    Address,
    #[error("cannot open a WebSocket to Slack: {0}")]
    Connection(String),
    #[error("nothing arrived from Slack for {0:?}")]
    Quiet(Duration),
    #[error("Slack closed the connection")]
    Closed,
    #[error("Slack ended the connection: {0}{fix}", fix = .0.fix())]
    Ended(Disconnect),
}

impl SocketMode {
    /// `token` is the app-level token, `xapp-…`; `api_base` is Slack's Web API.
    pub fn new(
        token: SecretString,
        api_base: &str,
        egress: &EgressClient,
        store: Arc<dyn Documents>,
    ) -> Result<Self, StartError> {
        let api_base = egress
            .base(SLACK_API_BASE, api_base)
            .map_err(SetupError::from)?;
        let client = egress.client().map_err(SetupError::from)?;
        Ok(Self {
            client,
            token,
            api_base,
            policy: egress.policy(),
            inbox: Inbox::new(store),
            idle_timeout: IDLE_TIMEOUT,
            stable_after: STABLE_AFTER,
        })
    }

    /// Whether it has the same token, API address and egress policy.
    pub fn is_same(&self, other: &Self) -> bool {
        let same_token = self.token.expose_secret() == other.token.expose_secret();
        same_token && self.api_base == other.api_base && self.policy == other.policy
    }

    /// Receives interactions until `shutdown`. If Slack is unreachable, it retries with backoff.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut retries = Retries::new(BACKOFF);
        loop {
            let began = Instant::now();
            let ended = self.connection(&shutdown).await;
            let was_stable = began.elapsed() >= self.stable_after;
            if was_stable {
                retries.reset();
            }
            let pause = match ended {
                Ok(SessionEnd::Shutdown) => return,
                Ok(SessionEnd::Replaced) if was_stable => Duration::ZERO,
                Ok(SessionEnd::Replaced) => retries.pause(),
                Err(error) => {
                    let own = retries.pause();
                    let pause = if let SocketError::Later(wait) = error {
                        own.max(wait)
                    } else {
                        own
                    };
                    tracing::warn!(%error, ?pause, "Slack's Socket Mode is disconnected; retrying");
                    pause
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }

    async fn connection(&self, shutdown: &CancellationToken) -> Result<SessionEnd, SocketError> {
        let mut socket = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(SessionEnd::Shutdown),
            socket = self.connect() => socket?,
        };
        let ended = self.receive(&mut socket, shutdown).await;
        // Whether Slack receives the close frame does not matter.
        let _ = timeout(CLOSE_TIMEOUT, socket.close(None)).await;
        ended
    }

    async fn connect(&self) -> Result<Socket, SocketError> {
        let url = self.open().await?;
        if !is_private(&url, "wss", "ws") {
            return Err(SocketError::Address);
        }
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES))
            .max_frame_size(Some(MESSAGE_BYTES));
        let connecting = Box::pin(connect_async_with_config(url, Some(config), true));
        let connected = timeout(REQUEST_TIMEOUT, connecting)
            .await
            .map_err(|_| SocketError::Quiet(REQUEST_TIMEOUT))?;
        connected
            .map(|(socket, _)| socket)
            .map_err(|error| SocketError::Connection(error.to_string()))
    }

    /// Requests a connection URL.
    async fn open(&self) -> Result<String, SocketError> {
        #[derive(Deserialize)]
        struct Answer {
            ok: bool,
            error: Option<String>,
            url: Option<String>,
        }
        let request = self
            .client
            .post(format!("{}/apps.connections.open", self.api_base));
        let request = request
            .bearer_auth(self.token.expose_secret())
            .header(header::CONTENT_LENGTH, 0);
        let failed = |error: HttpError| {
            // `#` adds the causes.
            SocketError::Refused(format!("{:#}", anyhow::Error::new(error)))
        };
        let response = request.send().await.map_err(failed)?;
        match response.status() {
            StatusCode::TOO_MANY_REQUESTS => {
                let wait = retry_after(response.headers(), self.client.now());
                return Err(SocketError::Later(wait.unwrap_or(DEFAULT_WAIT)));
            }
            status if !status.is_success() => {
                return Err(SocketError::Refused(format!("Slack answered {status}")));
            }
            _ => {}
        }
        // An unreadable answer is not quoted: it may repeat the token.
        let read = http_outcome::json(response, MESSAGE_BYTES).await;
        match read.map_err(|what| SocketError::Refused(format!("Slack: {what}")))? {
            Answer {
                ok: true,
                url: Some(url),
                ..
            } => Ok(url),
            Answer { error, .. } => {
                let word = error.as_deref().map_or("without a reason", redact::word);
                let fix = match word {
                    "invalid_auth" | "not_authed" | "token_revoked" | "token_expired"
                    | "account_inactive" => ": check SLACK_APP_TOKEN",
                    "not_allowed_token_type" => {
                        ": SLACK_APP_TOKEN must be an app-level token, xapp-…"
                    }
                    "missing_scope" | "no_permission" => {
                        ": give the app-level token the scope connections:write"
                    }
                    _ => "",
                };
                Err(SocketError::Refused(format!("Slack answered {word}{fix}")))
            }
        }
    }

    /// An envelope in progress is finished even if the process is stopping.
    async fn receive(
        &self,
        socket: &mut Socket,
        shutdown: &CancellationToken,
    ) -> Result<SessionEnd, SocketError> {
        let broken = |error: tokio_tungstenite::tungstenite::Error| {
            SocketError::Connection(error.to_string())
        };
        loop {
            let message = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(SessionEnd::Shutdown),
                message = timeout(self.idle_timeout, socket.next()) => message.map_err(|_| SocketError::Quiet(self.idle_timeout))?,
            };
            let text = match message.ok_or(SocketError::Closed)?.map_err(broken)? {
                Message::Text(text) => text,
                Message::Close(_) => return Err(SocketError::Closed),
                // Pings are answered with the next read.
                _ => continue,
            };
            let confirm = match Envelope::read(&text) {
                Envelope::Hello { connections } => {
                    tracing::info!(connections, "Slack's Socket Mode is connected");
                    None
                }
                Envelope::Disconnect(reason) if reason.is_routine() => {
                    tracing::info!(%reason, "Slack is replacing the Socket Mode connection");
                    return Ok(SessionEnd::Replaced);
                }
                Envelope::Disconnect(reason) => return Err(SocketError::Ended(reason)),
                Envelope::Interactive { id, payload } => self.take(payload).await.then_some(id),
                Envelope::Other { id } => {
                    tracing::debug!(
                        "Slack sent an unexpected kind of envelope; confirmed and ignored"
                    );
                    Some(id)
                }
                Envelope::Unreadable => {
                    tracing::warn!("ignored an unreadable message from Slack");
                    None
                }
            };
            if let Some(id) = confirm {
                let message = Message::text(envelope::confirmation(id));
                timeout(REQUEST_TIMEOUT, socket.send(message))
                    .await
                    .map_err(|_| SocketError::Quiet(REQUEST_TIMEOUT))?
                    .map_err(broken)?;
            }
        }
    }

    /// Whether the envelope is settled, so that Slack need not send it again.
    async fn take(&self, payload: &str) -> bool {
        match commands(payload, self.client.now().as_second()) {
            Ok(interaction) => {
                let taken = self.inbox.take(&interaction).await;
                if let Err(error) = &taken {
                    tracing::error!(%error, "an action in Slack could not be stored; Slack shows the user an error");
                }
                taken.is_ok()
            }
            Err(error) => {
                tracing::warn!(%error, "Slack sent a payload without an action");
                true
            }
        }
    }
}

/// Whether the connection is encrypted or local: the scheme `secure`, or `plain` on this machine.
fn is_private(url: &str, secure: &str, plain: &str) -> bool {
    Url::parse(url)
        .is_ok_and(|url| url.scheme() == secure || (url.scheme() == plain && names_loopback(&url)))
}

#[cfg(test)]
mod tests;
