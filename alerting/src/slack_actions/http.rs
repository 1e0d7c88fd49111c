//! Slack posts interactions: `POST /slack/interactivity`, a form whose field `payload` is JSON.
//!
//! | status | when |
//! |---|---|
//! | 200 | all requested commands are durable, or none of the actions is ours |
//! | 400 | the payload is unreadable |
//! | 401 | the signature is missing, invalid, or too far from the current time |
//! | 413 | the body is larger than [`BODY_BYTES`] |
//! | 503 | the store cannot accept the command |
//!
//! For any status but 200 Slack shows the user an error:
//! <https://docs.slack.dev/interactivity/handling-user-interaction#acknowledgment_response>.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use revwatch_core::clock::Clock;
use revwatch_core::signature::SigningKey;
use revwatch_runtime::bounded_server::{Bounds, serve};
use revwatch_runtime::listen::{ListenError, ListenSetting, listen};
use revwatch_runtime::reload::Reloadable;
use revwatch_storage::ports::Documents;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::inbox::Inbox;
use super::payload::{PayloadError, commands};
use super::signature::{SignatureError, verify};

/// The listener for interactions, bound but not yet serving.
pub struct Interactivity {
    listener: TcpListener,
    local_addr: SocketAddr,
    handler: Arc<Handler>,
}

/// Larger bodies are refused. A payload contains the message it refers to, of some kilobytes.
pub const BODY_BYTES: usize = 1024 * 1024;

/// The path that Slack posts to.
pub const PATH: &str = "/slack/interactivity";

/// People press one button at a time. A connection serves one request, which must finish within the
/// connection's lifetime.
const BOUNDS: Bounds = Bounds {
    connections: 64,
    idle: Duration::from_secs(10),
    life: Some(Duration::from_secs(20)),
    drain: Duration::from_secs(5),
};

struct Handler {
    keys: Reloadable<Vec<SigningKey>>,
    inbox: Inbox,
    clock: Arc<dyn Clock>,
    refusals: Mutex<RefusalLog>,
}

/// Refused requests, for the log. Anyone on the network can send them, so it gets at most one line a minute.
#[derive(Default)]
struct RefusalLog {
    line_at_s: Option<i64>,
    refused: u64,
}

impl RefusalLog {
    const INTERVAL_S: i64 = 60;

    /// Counts one refusal. Returns the number since the last line, if a line is due.
    fn note(&mut self, now_s: i64) -> Option<u64> {
        self.refused += 1;
        let is_early = |at_s| (at_s..at_s + Self::INTERVAL_S).contains(&now_s);
        if self.line_at_s.is_some_and(is_early) {
            return None;
        }
        self.line_at_s = Some(now_s);
        Some(std::mem::take(&mut self.refused))
    }
}

impl Interactivity {
    /// Opens the listener. `keys` are those of the Slack app; without any, all requests are
    /// refused.
    pub async fn bind(
        addr: SocketAddr,
        keys: Vec<SigningKey>,
        store: Arc<dyn Documents>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ListenError> {
        let (listener, local_addr) = listen(addr, ListenSetting::SlackInteractivity).await?;
        Ok(Self {
            listener,
            local_addr,
            handler: Arc::new(Handler {
                keys: Reloadable::new(keys),
                inbox: Inbox::new(store),
                clock,
                refusals: Mutex::default(),
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
            .layer(DefaultBodyLimit::max(BODY_BYTES))
            .with_state(self.handler);
        serve(self.listener, router, BOUNDS, shutdown).await;
    }
}

async fn interactivity(
    State(handler): State<Arc<Handler>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    // Each connection serves one request: see `BOUNDS`.
    (
        [(header::CONNECTION, "close")],
        handler.answer(&headers, body).await,
    )
        .into_response()
}

/// Why a request is not answered 200.
enum RequestError {
    Body(BytesRejection),
    Signature(SignatureError),
    NoPayload,
    Payload(PayloadError),
    Store,
}

impl Handler {
    fn refused(&self, now_s: i64) -> Option<u64> {
        let log = self.refusals.lock();
        log.unwrap_or_else(PoisonError::into_inner).note(now_s)
    }

    async fn answer(
        &self,
        headers: &HeaderMap,
        body: Result<Bytes, BytesRejection>,
    ) -> Result<(), RequestError> {
        let body = body.map_err(RequestError::Body)?;
        let now_s = self.clock.now_s();
        let header = |name| headers.get(name).map(|value| value.as_bytes());
        let (timestamp, signature) = (
            header("x-slack-request-timestamp"),
            header("x-slack-signature"),
        );
        verify(&self.keys.get(), timestamp, signature, &body, now_s).map_err(|refusal| {
            match refusal {
                // These can be our own mistake: a wrong signing secret, or a wrong clock.
                SignatureError::Mismatch | SignatureError::WrongTime => {
                    if let Some(refused) = self.refused(now_s) {
                        tracing::warn!(%refusal, refused, "refused requests that are not from Slack");
                    }
                }
                SignatureError::Missing | SignatureError::Unreadable => {
                    tracing::debug!(%refusal, "refused a request that is not from Slack");
                }
            }
            RequestError::Signature(refusal)
        })?;
        let mut fields = url::form_urlencoded::parse(&body);
        let (_, payload) = fields
            .find(|(name, _)| name == "payload")
            .ok_or(RequestError::NoPayload)?;
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
            Self::Body(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                format!("the body is larger than {BODY_BYTES} bytes"),
            ),
            Self::Body(_) => (
                StatusCode::BAD_REQUEST,
                "incomplete_body",
                "the body could not be read".to_owned(),
            ),
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
    use tokio::time::timeout;

    use super::super::signature::keys;
    use super::super::tests::{
        LONG, break_store, hold_store, open, pending_commands, press, repair_store,
    };
    use super::*;
    use crate::alert::CommandKind;

    struct Served {
        url: String,
        folder: TempDir,
        store: Arc<dyn Documents>,
        shutdown: CancellationToken,
    }

    async fn start() -> Served {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path());
        let keys = keys("old,new").expect("keys");
        let bound = Interactivity::bind(
            ([127, 0, 0, 1], 0).into(),
            keys,
            store.clone(),
            Arc::new(SystemClock),
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

    #[test]
    fn refused_requests_do_not_flood_the_log() {
        let mut log = RefusalLog::default();
        let noted: Vec<_> = [100, 100, 101, 159, 160, 161, 10]
            .into_iter()
            .filter_map(|now_s| log.note(now_s))
            .collect();
        // The clock may go back.
        assert_eq!(noted, [1, 4, 2]);
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

    #[tokio::test]
    async fn the_listener_stops_on_shutdown() {
        let folder = tempfile::tempdir().expect("a folder");
        let bound = Interactivity::bind(
            ([127, 0, 0, 1], 0).into(),
            Vec::new(),
            open(folder.path()),
            Arc::new(SystemClock),
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
