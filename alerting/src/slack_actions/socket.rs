//! Socket Mode: what is pressed is fetched over a WebSocket, so that Slack need not reach us.
//!
//! `apps.connections.open` gives an address that is good for one connection. Over it come envelopes; each is
//! confirmed with its `envelope_id`. Slack replaces connections every few hours and says so with `disconnect`.
//! Of several connections of one app each envelope goes to one. Sources:
//! <https://docs.slack.dev/apis/events-api/using-socket-mode>,
//! <https://docs.slack.dev/reference/methods/apps.connections.open>.
//!
//! Invariant: an envelope is confirmed only after the command in it is durable. The address is a secret: it
//! holds a ticket, and is in no log.

mod envelope;

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures_util::{SinkExt as _, StreamExt as _};
use jiff::Timestamp;
use reqwest::{Client, StatusCode, header};
use revwatch_core::redact;
use revwatch_runtime::config::{EgressConfig, ExposeSecret as _, SecretString};
use revwatch_storage::ports::StateStore;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use tokio_util::sync::CancellationToken;
use url::{Host, Url};

use self::envelope::{Disconnect, Envelope};
use super::StartError;
use super::inbox::Inbox;
use super::payload::commands;
use crate::notify::{EgressClient, SetupError, http_outcome};

/// Keeps one connection to Slack.
#[derive(Clone)]
pub struct SocketMode {
    client: Client,
    token: SecretString,
    api_base: String,
    policy: EgressConfig,
    inbox: Inbox,
    quiet: Duration,
    steady: Duration,
}

/// Where Slack's API is.
pub(super) const SETTING: &str = "slack.api_base (SLACK_API_BASE)";
/// Slack pings more often than every 30 seconds, says the default of its own client:
/// <https://docs.slack.dev/tools/node-slack-sdk/reference/socket-mode/interfaces/SocketModeOptions>.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// For a handshake, and for one message to be sent.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Slack does not close its side at once.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection that held for this long was a good one: what follows is a new trouble.
const STABLE_AFTER: Duration = Duration::from_secs(10);
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// As much as over HTTP.
const MESSAGE_BYTES: usize = super::http::BODY_BYTES;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Why a connection ended in good order.
enum SessionEnd {
    Shutdown,
    Asked,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum SocketError {
    #[error("apps.connections.open: {0}")]
    Refused(String),
    #[error("apps.connections.open: Slack wants it asked again in {} s", .0.as_secs())]
    Later(Duration),
    #[error("Slack gave an address that is neither wss:// nor on this machine")]
    Address,
    #[error("no WebSocket to Slack: {0}")]
    Connection(String),
    #[error("nothing arrived from Slack for {0:?}")]
    Quiet(Duration),
    #[error("Slack closed the connection")]
    Closed,
    #[error("Slack ended the connection: {0}{fix}", fix = .0.fix())]
    Ended(Disconnect),
}

impl SocketMode {
    /// `token` is the app-level one, `xapp-…`; `api_base` is Slack's Web API.
    pub fn new(
        token: SecretString,
        api_base: &str,
        egress: &EgressClient,
        store: Arc<dyn StateStore>,
    ) -> Result<Self, StartError> {
        let api_base = egress.base(SETTING, api_base).map_err(SetupError::from)?;
        let client = egress.client().map_err(SetupError::from)?;
        Ok(Self {
            client,
            token,
            api_base,
            policy: egress.policy(),
            inbox: Inbox::new(store),
            quiet: IDLE_TIMEOUT,
            steady: STABLE_AFTER,
        })
    }

    /// Whether it connects with this token, there, and by the same rules.
    pub fn is_like(&self, other: &Self) -> bool {
        let same_token = self.token.expose_secret() == other.token.expose_secret();
        same_token && self.api_base == other.api_base && self.policy == other.policy
    }

    /// Takes what is pressed until `shutdown`. A Slack that cannot be reached is asked again and again.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut pauses = backoff();
        loop {
            let began = Instant::now();
            let ended = self.connection(&shutdown).await;
            let was_steady = began.elapsed() >= self.steady;
            if was_steady {
                pauses = backoff();
            }
            let pause = match ended {
                Ok(SessionEnd::Shutdown) => return,
                Ok(SessionEnd::Asked) if was_steady => Duration::ZERO,
                Ok(SessionEnd::Asked) => pauses.next().unwrap_or(MAX_BACKOFF),
                Err(error) => {
                    let own = pauses.next().unwrap_or(MAX_BACKOFF);
                    let pause = if let SocketError::Later(wait) = error {
                        own.max(wait)
                    } else {
                        own
                    };
                    tracing::warn!(%error, ?pause, "Slack's Socket Mode pauses");
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
        let ended = self.converse(&mut socket, shutdown).await;
        // Whether Slack hears it does not matter.
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

    /// Asks for an address.
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
        let failed = |error: reqwest::Error| SocketError::Refused(causes(&error.without_url()));
        let response = request.send().await.map_err(failed)?;
        match response.status() {
            StatusCode::TOO_MANY_REQUESTS => {
                let seconds = response
                    .headers()
                    .get(header::RETRY_AFTER)
                    .and_then(|v| v.to_str().ok()?.parse().ok());
                return Err(SocketError::Later(Duration::from_secs(
                    seconds.unwrap_or(30).clamp(1, 3600),
                )));
            }
            status if !status.is_success() => {
                return Err(SocketError::Refused(format!("Slack answered {status}")));
            }
            _ => {}
        }
        // An answer that cannot be read is not quoted: it may repeat the token.
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

    /// An envelope under way is finished even when the process is asked to stop.
    async fn converse(
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
                message = timeout(self.quiet, socket.next()) => message.map_err(|_| SocketError::Quiet(self.quiet))?,
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
                Envelope::Disconnect(reason) if reason.is_usual() => {
                    tracing::info!(%reason, "Slack replaces the connection of Socket Mode");
                    return Ok(SessionEnd::Asked);
                }
                Envelope::Disconnect(reason) => return Err(SocketError::Ended(reason)),
                Envelope::Interactive { id, payload } => self.take(payload).await.then_some(id),
                Envelope::Other { id } => {
                    tracing::debug!(
                        "Slack tells of something that nobody asked for; confirmed and ignored"
                    );
                    Some(id)
                }
                Envelope::Unreadable => {
                    tracing::warn!("a message from Slack cannot be read; ignored");
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

    /// Whether Slack need not send it again.
    async fn take(&self, payload: &str) -> bool {
        match commands(payload, Timestamp::now().as_second()) {
            Ok(interaction) => {
                let taken = self.inbox.take(&interaction).await;
                if let Err(error) = &taken {
                    tracing::error!(%error, "an action in Slack could not be stored; whoever pressed sees that");
                }
                taken.is_ok()
            }
            Err(error) => {
                tracing::warn!(%error, "Slack told of something that is no action");
                true
            }
        }
    }
}

/// Whether nobody on the way can read along: the scheme `secure`, or `plain` on this machine.
fn is_private(url: &str, secure: &str, plain: &str) -> bool {
    Url::parse(url).is_ok_and(|url| {
        let is_local = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
        url.scheme() == secure || (url.scheme() == plain && is_local)
    })
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn backoff() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(MAX_BACKOFF)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests;
