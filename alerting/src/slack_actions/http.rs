//! Slack posts interactions: `POST /slack/interactivity`, a form whose field `payload` is JSON.
//!
//! | status | when |
//! |---|---|
//! | 200 | all requested commands are durable, or none of the actions is ours |
//! | 400 | the payload is unreadable |
//! | 401 | the signature is missing, invalid, or too far from the current time |
//! | 408 | the body did not arrive in time |
//! | 413 | the body is larger than [`BODY_BYTES`] |
//! | 429 | the client has sent too many requests that were refused |
//! | 503 | the store cannot accept the command, or too many large bodies are arriving |
//!
//! For any status but 200 Slack shows the user an error:
//! <https://docs.slack.dev/interactivity/handling-user-interaction#acknowledgment_response>.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use revwatch_core::clock::Clock;
use revwatch_core::signature::SigningKey;
use revwatch_runtime::config::Config;
use revwatch_runtime::listen::{ListenError, ListenSetting, listen};
use revwatch_runtime::public::{Bounds, Port, Routed, serve};
use revwatch_runtime::reload::Reloadable;
use revwatch_runtime::telemetry::{LimitedLog, Metrics};
use revwatch_storage::ports::Documents;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::inbox::Inbox;
use super::payload::{PayloadError, commands, in_form};
use super::signature::{SignatureError, verify};

/// The listener for interactions, bound but not yet serving.
pub struct Interactivity {
    listener: TcpListener,
    local_addr: SocketAddr,
    port: Arc<Port>,
    metrics: Metrics,
    handler: Arc<Handler>,
}

/// Larger bodies are refused. A payload contains the message it refers to, of some kilobytes.
pub const BODY_BYTES: usize = 1024 * 1024;

/// The path that Slack posts to.
pub const PATH: &str = "/slack/interactivity";

/// People press one button at a time, and Slack waits three seconds for the answer.
const BOUNDS: Bounds = Bounds {
    connections: 256,
    connections_per_peer: 64,
    unfinished_body_bytes: 8 * BODY_BYTES,
    header: Duration::from_secs(10),
    body: Duration::from_secs(10),
    // As limits.idle_seconds says: the proxy is the same.
    idle: Duration::ZERO,
    drain: Duration::from_secs(5),
    refused_per_second: 1,
    refused_burst: 100,
};

/// Lines about refused requests in ten seconds.
const REFUSAL_LINES: u32 = 1;

struct Handler {
    keys: Reloadable<Vec<SigningKey>>,
    inbox: Inbox,
    clock: Arc<dyn Clock>,
    refusals: LimitedLog,
}

impl Interactivity {
    /// Opens the listener. `keys` are those of the Slack app; without any, all requests are
    /// refused.
    pub async fn bind(
        config: &Config,
        keys: Vec<SigningKey>,
        store: Arc<dyn Documents>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Result<Self, ListenError> {
        let addr = config.slack.interactivity_listen;
        let bounds = Bounds {
            idle: Duration::from_secs_f64(config.limits.idle_seconds),
            ..BOUNDS
        };
        let (listener, local_addr) = listen(addr, ListenSetting::SlackInteractivity).await?;
        Ok(Self {
            listener,
            local_addr,
            port: Arc::new(Port::new(bounds, config.trusted_proxies.clone())),
            metrics,
            handler: Arc::new(Handler {
                keys: Reloadable::new(keys),
                inbox: Inbox::new(store),
                clock,
                refusals: LimitedLog::new(REFUSAL_LINES),
            }),
        })
    }

    /// The bound address, with the port that the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The keys; a reload replaces them.
    pub fn keys(&self) -> Reloadable<Vec<SigningKey>> {
        self.handler.keys.clone()
    }

    /// Serves until `shutdown`.
    pub async fn serve(self, shutdown: CancellationToken) {
        let router = Router::new()
            .route(PATH, post(interactivity))
            // The port has its own limit.
            .layer(DefaultBodyLimit::disable())
            .with_state(self.handler);
        let requests = self.metrics.public_requests;
        let service = Routed::new(router, BODY_BYTES, "slack", requests);
        serve(self.listener, self.port, Arc::new(service), shutdown).await;
    }
}

async fn interactivity(
    State(handler): State<Arc<Handler>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(), RequestError> {
    handler.answer(&headers, &body).await
}

/// Why a request is not answered 200.
enum RequestError {
    Signature(SignatureError),
    NoPayload,
    Payload(PayloadError),
    Store,
}

impl Handler {
    async fn answer(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), RequestError> {
        let now_s = self.clock.now_s();
        let header = |name| headers.get(name).map(|value| value.as_bytes());
        let (timestamp, signature) = (
            header("x-slack-request-timestamp"),
            header("x-slack-signature"),
        );
        verify(&self.keys.get(), timestamp, signature, body, now_s).map_err(|refusal| {
            match refusal {
                // These can be our own mistake: a wrong signing secret, or a wrong clock.
                SignatureError::Mismatch | SignatureError::WrongTime => {
                    if let Some(unlogged) = self.refusals.one_more(Instant::now()) {
                        tracing::warn!(%refusal, unlogged, "refused a request that is not from Slack");
                    }
                }
                SignatureError::Missing | SignatureError::Unreadable => {
                    tracing::debug!(%refusal, "refused a request that is not from Slack");
                }
            }
            RequestError::Signature(refusal)
        })?;
        let payload = in_form(body).ok_or(RequestError::NoPayload)?;
        let interaction = commands(&payload, now_s).map_err(|error| {
            tracing::warn!(%error, "Slack sent a payload without an action");
            RequestError::Payload(error)
        })?;
        self.inbox.take(&interaction).await.map_err(|error| {
            tracing::error!(%error, "an action in Slack could not be stored; Slack shows the user an error");
            RequestError::Store
        })
    }
}

impl IntoResponse for RequestError {
    fn into_response(self) -> Response {
        let (status, reason, message) = match self {
            Self::Signature(refusal) => (
                StatusCode::UNAUTHORIZED,
                refusal.reason(),
                refusal.to_string(),
            ),
            Self::NoPayload => (
                StatusCode::BAD_REQUEST,
                "no_payload",
                "the body is not a form with a field `payload`".to_owned(),
            ),
            Self::Payload(error) => (StatusCode::BAD_REQUEST, "not_an_action", error.to_string()),
            Self::Store => {
                let message = "it could not be stored in time: press again".to_owned();
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
            }
        };
        (
            status,
            Json(json!({"error": {"reason": reason, "message": message}})),
        )
            .into_response()
    }
}

#[cfg(test)]
mod tests {
    use revwatch_storage::system::SystemClock;
    use tempfile::TempDir;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::super::signature::keys;
    use super::super::tests::{
        LONG, break_store, config, hold_store, open, pending_commands, press, repair_store,
    };
    use super::*;
    use crate::alert::CommandKind;

    struct Served {
        url: String,
        folder: TempDir,
        store: Arc<dyn Documents>,
        metrics: Metrics,
        shutdown: CancellationToken,
    }

    async fn start() -> Served {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path());
        let keys = keys("old,new").expect("keys");
        let metrics = Metrics::new();
        let bound = Interactivity::bind(
            &config(&[("SLACK_INTERACTIVITY_LISTEN", "127.0.0.1:0")]),
            keys,
            store.clone(),
            Arc::new(SystemClock),
            metrics.clone(),
        )
        .await
        .expect("a port");
        let url = format!("http://{}{PATH}", bound.local_addr());
        let shutdown = CancellationToken::new();
        tokio::spawn(bound.serve(shutdown.clone()));
        Served {
            url,
            folder,
            store,
            metrics,
            shutdown,
        }
    }

    fn now_s() -> i64 {
        SystemClock.now_s()
    }

    fn form(payload: &str) -> String {
        url::form_urlencoded::Serializer::new(String::new())
            .append_pair("payload", payload)
            .finish()
    }

    impl Served {
        /// Posts `body`, signed with `secret` at `signed_s`.
        async fn post(&self, body: String, secret: &str, signed_s: i64) -> (u16, String) {
            let signed = signed_s.to_string();
            let tag = SigningKey::new(secret).expect("a key").sign(&[
                b"v0:",
                signed.as_bytes(),
                b":",
                body.as_bytes(),
            ]);
            self.send(
                body,
                &[
                    ("x-slack-request-timestamp", signed),
                    ("x-slack-signature", format!("v0={tag}")),
                ],
            )
            .await
        }

        async fn send(&self, body: String, headers: &[(&str, String)]) -> (u16, String) {
            let mut request = reqwest::Client::new().post(&self.url).timeout(LONG);
            request = request.header("content-type", "application/x-www-form-urlencoded");
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            let response = request.body(body).send().await.expect("an answer");
            (
                response.status().as_u16(),
                response.text().await.expect("text"),
            )
        }
    }

    #[tokio::test]
    async fn an_interaction_is_stored_before_it_is_confirmed_and_a_repeat_replaces_it() {
        let served = start().await;
        let acknowledge = form(&press("acknowledge", "al_1", "1767326130.289415").to_string());
        for secret in ["new", "old", "new"] {
            assert_eq!(
                served.post(acknowledge.clone(), secret, now_s()).await,
                (200, String::new())
            );
        }
        let stored = pending_commands(&served.store).await;
        assert_eq!(stored.len(), 1, "{stored:?}");
        let (_, command) = &stored[0];
        assert_eq!(
            (command.by.as_str(), command.via.as_str(), command.at_s),
            ("ana", "slack", 1_767_326_130)
        );
        assert_eq!(
            command.kind,
            CommandKind::Acknowledge {
                alert_id: "al_1".into()
            }
        );

        let silence = form(&press("silence_4h", "al_1 14400", "1767326131.000000").to_string());
        assert_eq!(served.post(silence, "new", now_s()).await.0, 200);
        assert_eq!(pending_commands(&served.store).await.len(), 2);
        let link = form(&press("open", "", "1767326132.000000").to_string());
        assert_eq!(served.post(link, "new", now_s()).await.0, 200);
        assert_eq!(
            pending_commands(&served.store).await.len(),
            2,
            "a link requests nothing"
        );
        served.shutdown.cancel();
    }

    #[tokio::test]
    async fn an_unsigned_request_is_refused_and_nothing_is_stored() {
        let served = start().await;
        let body = form(&press("acknowledge", "al_1", "1767326130.289415").to_string());
        for (secret, age_s, expected) in [
            ("other", 0, "signature_mismatch"),
            ("new", 400, "signature_of_another_time"),
            ("new", -400, "signature_of_another_time"),
            ("other", 400, "signature_mismatch"),
        ] {
            let (status, text) = served.post(body.clone(), secret, now_s() - age_s).await;
            assert!(status == 401 && text.contains(expected), "{status} {text}");
        }
        let (status, text) = served.send(body.clone(), &[]).await;
        assert!(
            status == 401 && text.contains("signature_missing"),
            "{status} {text}"
        );
        let headers = [
            ("x-slack-request-timestamp", now_s().to_string()),
            ("x-slack-signature", "v0=?".to_owned()),
        ];
        let (status, text) = served.send(body, &headers).await;
        assert!(
            status == 401 && text.contains("signature_unreadable"),
            "{status} {text}"
        );
        assert_eq!(pending_commands(&served.store).await, []);
        let other_path = served.url.replace("interactivity", "events");
        let answer = reqwest::Client::new()
            .post(other_path)
            .timeout(LONG)
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 404);
        let answer = reqwest::Client::new()
            .get(&served.url)
            .timeout(LONG)
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 405);
    }

    #[tokio::test]
    async fn an_unreadable_body_is_refused_with_a_reason() {
        let served = start().await;
        for (body, status, reason) in [
            (String::new(), 400, "no_payload"),
            ("a=b".to_owned(), 400, "no_payload"),
            (
                press("acknowledge", "al_1", "1.0").to_string(),
                400,
                "no_payload",
            ),
            (form("nonsense"), 400, "not_an_action"),
            (
                form(r#"{"type":"view_submission"}"#),
                400,
                "view_submission",
            ),
            ("x".repeat(BODY_BYTES + 1), 413, "too_large"),
        ] {
            let (answered, text) = served.post(body, "new", now_s()).await;
            assert!(
                answered == status && text.contains(reason),
                "{answered} {text}"
            );
        }
        assert_eq!(pending_commands(&served.store).await, []);
    }

    #[tokio::test]
    async fn slack_gets_503_while_the_store_refuses_commands() {
        let served = start().await;
        let body = form(&press("acknowledge", "al_1", "1767326130.289415").to_string());
        break_store(served.folder.path());
        let (status, text) = served.post(body.clone(), "new", now_s()).await;
        assert!(
            status == 503 && text.contains("unavailable"),
            "{status} {text}"
        );
        repair_store(served.folder.path());
        assert_eq!(pending_commands(&served.store).await, []);
        assert_eq!(served.post(body, "new", now_s()).await.0, 200);
        assert_eq!(pending_commands(&served.store).await.len(), 1);
    }

    #[tokio::test]
    async fn slack_gets_503_while_the_store_is_slow() {
        let served = start().await;
        let body = form(&press("acknowledge", "al_1", "1767326130.289415").to_string());
        let held = hold_store(served.folder.path());
        let (status, text) = served.post(body.clone(), "new", now_s()).await;
        assert!(
            status == 503 && text.contains("unavailable"),
            "{status} {text}"
        );
        drop(held);
        assert_eq!(served.post(body, "new", now_s()).await.0, 200);
        assert_eq!(
            pending_commands(&served.store).await.len(),
            1,
            "it may have been stored late, under the same key"
        );
    }

    /// Anyone may reach the port: they get neither its places nor its log nor its answers.
    #[tokio::test]
    async fn strangers_keep_nothing_from_slack() {
        let served = start().await;
        let address = served.url.split('/').nth(2).expect("an address");
        let mut slow = Vec::new();
        for _ in 0..2 * BOUNDS.connections_per_peer {
            let mut stream = TcpStream::connect(address).await.expect("accepted");
            stream
                .write_all(b"POST /slack/interactivity HTTP/1.1\r\nx: ")
                .await
                .expect("sent");
            slow.push(stream);
        }
        let client = reqwest::Client::new();
        let mut status = 0;
        for _ in 0..2 * BOUNDS.refused_burst {
            let unsigned = client.post(&served.url).timeout(LONG).send().await;
            status = unsigned.expect("an answer").status().as_u16();
        }
        assert_eq!(status, 429, "a client with too many refusals");
        let body = form(&press("acknowledge", "al_1", "1767326130.289415").to_string());
        assert_eq!(served.post(body, "new", now_s()).await.0, 200);
        let requests = &served.metrics.public_requests;
        let count = |outcome| requests.with_label_values(&["slack", outcome]).get();
        assert_eq!(count("answered"), 1);
        assert!(count("refused") > 0);
    }

    #[tokio::test]
    async fn the_listener_stops_on_shutdown() {
        let folder = tempfile::tempdir().expect("a folder");
        let bound = Interactivity::bind(
            &config(&[("SLACK_INTERACTIVITY_LISTEN", "127.0.0.1:0")]),
            Vec::new(),
            open(folder.path()),
            Arc::new(SystemClock),
            Metrics::new(),
        )
        .await;
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(bound.expect("a port").serve(shutdown.clone()));
        shutdown.cancel();
        timeout(LONG, serving)
            .await
            .expect("in time")
            .expect("no panic");
    }
}
