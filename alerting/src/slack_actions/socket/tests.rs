//! Tests against a fake Slack on loopback ports.

use std::collections::VecDeque;
use std::sync::Mutex;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Json, Router};
use revwatch_runtime::config::{Config, EgressConfig};
use revwatch_runtime::telemetry::Metrics;
use revwatch_storage::system::SystemClock;
use revwatch_test_servers::names;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_tungstenite::accept_async;

use super::super::SlackActions;
use super::super::tests::{LONG, break_store, open, pending_commands, press, repair_store, until};
use super::*;

/// The API's error answers before it succeeds, and the authorizations it received.
#[derive(Default)]
struct Api {
    errors: Mutex<VecDeque<(u16, Value)>>,
    authorizations: Mutex<Vec<String>>,
    url: String,
}

struct Slack {
    api: Arc<Api>,
    sockets: TcpListener,
    folder: TempDir,
    store: Arc<dyn Documents>,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

type Peer = WebSocketStream<TcpStream>;

async fn opened(State(api): State<Arc<Api>>, headers: HeaderMap) -> impl IntoResponse {
    let authorization = headers["authorization"].to_str().expect("text").to_owned();
    api.authorizations
        .lock()
        .expect("a lock")
        .push(authorization);
    let error = api.errors.lock().expect("a lock").pop_front();
    let (status, answer) = error.unwrap_or_else(|| (200, json!({"ok": true, "url": api.url})));
    (
        StatusCode::from_u16(status).expect("a status"),
        [("retry-after", "1")],
        Json(answer),
    )
}

impl Slack {
    async fn start(errors: &[(u16, Value)], set: impl FnOnce(&mut SocketMode)) -> Self {
        let make = |api_base: String, store: Arc<dyn Documents>| async move {
            let mut socket =
                SocketMode::new("xapp-1".into(), &api_base, &egress(), store).expect("a client");
            set(&mut socket);
            |shutdown: CancellationToken| socket.run(shutdown)
        };
        Self::with(errors, make).await
    }

    /// `make` creates what runs against this Slack, from the base URL of its API.
    async fn with<
        M: Future<Output = R>,
        R: FnOnce(CancellationToken) -> F,
        F: Future<Output = ()> + Send + 'static,
    >(
        errors: &[(u16, Value)],
        make: impl FnOnce(String, Arc<dyn Documents>) -> M,
    ) -> Self {
        let (sockets, addr) = revwatch_test_servers::listen().await;
        let url = format!("ws://{addr}/link/?ticket=t");
        let api = Arc::new(Api {
            errors: Mutex::new(errors.to_vec().into()),
            url,
            ..Api::default()
        });
        let router = Router::new()
            .route("/api/apps.connections.open", post(opened))
            .with_state(api.clone());
        let addr = revwatch_test_servers::serve(router).await;
        let api_base = format!("http://{addr}/api/");

        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path());
        let run = make(api_base, store.clone()).await;
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(run(shutdown.clone()));
        Self {
            api,
            sockets,
            folder,
            store,
            shutdown,
            running,
        }
    }

    /// Accepts the next connection and greets it.
    async fn accept(&self) -> Peer {
        let accepted = timeout(LONG, self.sockets.accept())
            .await
            .expect("a connection in time");
        let mut peer = accept_async(accepted.expect("a connection").0)
            .await
            .expect("a WebSocket");
        send_text(
            &mut peer,
            &json!({"type": "hello", "num_connections": 1, "debug_info": {"host": "h"}}),
        )
        .await;
        peer
    }

    fn request_count(&self) -> usize {
        self.api.authorizations.lock().expect("a lock").len()
    }
}

async fn send_text(peer: &mut Peer, message: &Value) {
    peer.send(Message::text(message.to_string()))
        .await
        .expect("sent");
}

/// The next message other than pings and pongs.
async fn receive(peer: &mut Peer) -> Value {
    loop {
        match timeout(LONG, peer.next())
            .await
            .expect("in time")
            .expect("a message")
            .expect("readable")
        {
            Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn interactive(id: &str, payload: &Value) -> Value {
    json!({"type": "interactive", "envelope_id": id, "accepts_response_payload": true, "payload": payload})
}

#[tokio::test]
async fn an_interaction_is_stored_before_it_is_confirmed() {
    let slack = Slack::start(&[], |_| {}).await;
    let mut peer = slack.accept().await;
    let pressed = press("acknowledge", "al_1", "1767326130.289415");
    for id in ["e1", "e2"] {
        send_text(&mut peer, &interactive(id, &pressed)).await;
        assert_eq!(receive(&mut peer).await, json!({"envelope_id": id}));
        let stored = pending_commands(&slack.store).await;
        assert_eq!(stored.len(), 1, "a repeat has the same key: {stored:?}");
    }
    send_text(
        &mut peer,
        &interactive("e3", &press("silence", "al_1 60", "1767326131.0")),
    )
    .await;
    assert_eq!(receive(&mut peer).await, json!({"envelope_id": "e3"}));
    assert_eq!(pending_commands(&slack.store).await.len(), 2);
    assert_eq!(
        *slack.api.authorizations.lock().expect("a lock"),
        ["Bearer xapp-1"]
    );
}

#[tokio::test]
async fn unusable_messages_are_confirmed_or_ignored() {
    let slack = Slack::start(&[], |_| {}).await;
    let mut peer = slack.accept().await;
    send_text(&mut peer, &json!("nonsense")).await;
    peer.send(Message::binary(vec![0, 1])).await.expect("sent");
    peer.send(Message::Ping("are you there".into()))
        .await
        .expect("sent");
    let answered = timeout(LONG, peer.next())
        .await
        .expect("in time")
        .expect("a message")
        .expect("readable");
    assert_eq!(answered, Message::Pong("are you there".into()));
    for (id, message) in [
        ("e1", interactive("e1", &json!({"type": "view_submission"}))),
        ("e2", interactive("e2", &press("open", "", "1.0"))),
        (
            "e3",
            json!({"type": "slash_commands", "envelope_id": "e3", "payload": {}}),
        ),
    ] {
        send_text(&mut peer, &message).await;
        assert_eq!(receive(&mut peer).await, json!({"envelope_id": id}));
    }
    assert_eq!(pending_commands(&slack.store).await, []);
    assert_eq!(slack.request_count(), 1, "all over one connection");
}

#[tokio::test]
async fn an_interaction_that_is_not_stored_is_not_confirmed() {
    let slack = Slack::start(&[], |_| {}).await;
    let mut peer = slack.accept().await;
    break_store(slack.folder.path());
    let pressed = press("acknowledge", "al_1", "1767326130.289415");
    send_text(&mut peer, &interactive("lost", &pressed)).await;
    // Envelopes are handled one after the other: the first answer must be the one to the second.
    send_text(&mut peer, &interactive("link", &press("open", "", "1.0"))).await;
    assert_eq!(receive(&mut peer).await, json!({"envelope_id": "link"}));
    repair_store(slack.folder.path());
    assert_eq!(pending_commands(&slack.store).await, []);
    send_text(&mut peer, &interactive("again", &pressed)).await;
    assert_eq!(receive(&mut peer).await, json!({"envelope_id": "again"}));
    assert_eq!(pending_commands(&slack.store).await.len(), 1);
}

#[tokio::test]
async fn a_closed_connection_is_replaced() {
    // Every connection counts as stable, so that reconnects happen without a pause.
    let slack = Slack::start(&[], |socket| socket.stable_after = Duration::ZERO).await;
    let mut peer = slack.accept().await;
    send_text(
        &mut peer,
        &json!({"type": "disconnect", "reason": "warning"}),
    )
    .await;
    let mut peer = slack.accept().await;
    send_text(
        &mut peer,
        &json!({"type": "disconnect", "reason": "refresh_requested"}),
    )
    .await;
    let mut peer = slack.accept().await;
    peer.close(None).await.expect("closed");
    drop(slack.accept().await);
    let mut peer = slack.accept().await;
    send_text(
        &mut peer,
        &json!({"type": "disconnect", "reason": "link_disabled"}),
    )
    .await;
    let mut peer = slack.accept().await;
    send_text(
        &mut peer,
        &interactive("e1", &press("acknowledge", "al_1", "1.0")),
    )
    .await;
    assert_eq!(receive(&mut peer).await, json!({"envelope_id": "e1"}));
    assert_eq!(slack.request_count(), 6);
}

#[tokio::test]
async fn an_idle_connection_is_replaced() {
    let slack = Slack::start(&[], |socket| {
        socket.idle_timeout = Duration::from_millis(200);
    })
    .await;
    let first = slack.accept().await;
    let _second = slack.accept().await;
    drop(first);
}

#[tokio::test]
async fn a_failing_api_is_retried() {
    let errors = [
        (200, json!({"ok": false, "error": "internal_error"})),
        (500, json!({})),
        (429, json!({})),
    ];
    let slack = Slack::start(&errors, |_| {}).await;
    slack.accept().await;
    assert_eq!(slack.request_count(), 4);
}

#[tokio::test]
async fn an_unusable_url_is_not_connected_to() {
    let (no_tls, addr) = revwatch_test_servers::listen().await;
    let no_tls_url = format!("wss://{addr}/");
    tokio::spawn(async move { while no_tls.accept().await.is_ok() {} });
    let errors = ["ws://192.0.2.1/link/?ticket=t", &no_tls_url]
        .map(|url| (200, json!({"ok": true, "url": url})));
    let slack = Slack::start(&errors, |_| {}).await;
    slack.accept().await;
    assert_eq!(slack.request_count(), 3);
}

#[tokio::test]
async fn the_connection_ends_on_shutdown() {
    let slack = Slack::start(&[], |_| {}).await;
    let mut peer = slack.accept().await;
    send_text(&mut peer, &interactive("e1", &press("open", "", "1.0"))).await;
    assert_eq!(receive(&mut peer).await, json!({"envelope_id": "e1"}));
    slack.shutdown.cancel();
    let goodbye = timeout(LONG, peer.next())
        .await
        .expect("in time")
        .expect("a message")
        .expect("readable");
    assert!(goodbye.is_close(), "{goodbye:?}");
    timeout(LONG, slack.running)
        .await
        .expect("in time")
        .expect("no panic");

    // The same while Slack is unreachable.
    let down: Vec<_> = (0..100).map(|_| (500, json!({}))).collect();
    let slack = Slack::start(&down, |_| {}).await;
    until("it has connected to the API", async || {
        (slack.request_count() > 0).then_some(())
    })
    .await;
    slack.shutdown.cancel();
    timeout(LONG, slack.running)
        .await
        .expect("in time")
        .expect("no panic");
}

#[tokio::test]
async fn errors_name_the_fix_and_show_no_secret() {
    let errors: Vec<_> = ["missing_scope", "invalid_auth", "not_allowed_token_type"]
        .map(|word| (200, json!({"ok": false, "error": word})))
        .into();
    let (listener, addr) = revwatch_test_servers::listen().await;
    let api_base = format!("http://{addr}");
    let api = Arc::new(Api {
        errors: Mutex::new(errors.into()),
        ..Api::default()
    });
    let router = Router::new()
        .route("/apps.connections.open", post(opened))
        .with_state(api);
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let folder = tempfile::tempdir().expect("a folder");
    let socket = SocketMode::new(
        "xapp-secret".into(),
        &api_base,
        &egress(),
        open(folder.path()),
    )
    .expect("a client");
    for expected in ["connections:write", "check SLACK_APP_TOKEN", "app-level"] {
        let error = socket.open().await.expect_err("refused").to_string();
        assert!(
            error.contains(expected) && !error.contains("secret"),
            "{error}"
        );
    }
    serving.abort();
    let Envelope::Disconnect(link) =
        Envelope::read(r#"{"type":"disconnect","reason":"link_disabled"}"#)
    else {
        panic!("expected a disconnect")
    };
    assert!(
        SocketError::Ended(link)
            .to_string()
            .contains("turn on Socket Mode")
    );
}

#[test]
fn only_this_machine_is_contacted_without_tls() {
    for (url, expected) in [
        ("wss://wss-primary.slack.com/link/?ticket=t", true),
        ("ws://127.0.0.1:1/", true),
        ("ws://[::1]:1/", true),
        ("ws://localhost:1/", true),
        ("ws://localhost.example/", false),
        ("ws://wss-primary.slack.com/", false),
        ("https://slack.com/", false),
        ("nonsense", false),
    ] {
        assert_eq!(is_private(url, "wss", "ws"), expected, "{url}");
    }
}

/// The DNS resolves `slack.example` to this machine.
fn egress() -> EgressClient {
    EgressClient::with_lookup(
        EgressConfig::default(),
        names(&[("slack.example", &["127.0.0.1"])]),
    )
}

#[tokio::test]
async fn the_token_is_not_sent_to_a_name_in_a_private_network() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let socket = SocketMode::new(
        "xapp-secret".into(),
        "https://slack.example",
        &egress(),
        store,
    )
    .expect("a client");
    let error = socket.open().await.expect_err("refused").to_string();
    assert!(
        error.contains("[egress]") && !error.contains("secret"),
        "{error}"
    );
}

#[tokio::test]
async fn a_new_token_replaces_the_connection_and_the_same_one_keeps_it() {
    let (send, switched) = tokio::sync::oneshot::channel();
    let slack = Slack::with(&[], |api_base, store| async move {
        let config = move |token: &str| {
            let variables = [
                ("SLACK_APP_TOKEN", token),
                ("SLACK_API_BASE", api_base.as_str()),
            ];
            let find = |name: &str| {
                variables
                    .iter()
                    .find(|(n, _)| *n == name)
                    .map(|(_, value)| (*value).to_owned())
            };
            Config::load(None, &find).expect("valid")
        };
        let actions = SlackActions::bind(
            &config("xapp-1"),
            &egress(),
            store.clone(),
            Arc::new(SystemClock),
            Metrics::new(),
        )
        .await
        .expect("usable");
        let switch = actions.switch(store);
        let _ = send.send(move |token: &str| switch.prepare(&config(token)).expect("usable")());
        |shutdown: CancellationToken| actions.run(shutdown)
    })
    .await;
    let switch = switched.await.expect("made");
    let mut first = slack.accept().await;
    switch("xapp-1");
    send_text(
        &mut first,
        &interactive("e1", &press("acknowledge", "al_1", "1.0")),
    )
    .await;
    assert_eq!(
        receive(&mut first).await,
        json!({"envelope_id": "e1"}),
        "the connection stays open"
    );
    assert_eq!(slack.request_count(), 1);
    // Messages sent before the token changes are still handled.
    send_text(
        &mut first,
        &interactive("e2", &press("acknowledge", "al_2", "2.0")),
    )
    .await;
    assert_eq!(receive(&mut first).await, json!({"envelope_id": "e2"}));
    switch("xapp-2");
    let ended = timeout(LONG, first.next()).await.expect("in time");
    assert!(
        matches!(ended, Some(Ok(Message::Close(_))) | None),
        "{ended:?}"
    );
    let mut second = slack.accept().await;
    assert_eq!(
        *slack.api.authorizations.lock().expect("a lock"),
        ["Bearer xapp-1", "Bearer xapp-2"]
    );
    send_text(
        &mut second,
        &interactive("e3", &press("acknowledge", "al_3", "3.0")),
    )
    .await;
    assert_eq!(receive(&mut second).await, json!({"envelope_id": "e3"}));
    switch("");
    let ended = timeout(LONG, second.next()).await.expect("in time");
    assert!(
        matches!(ended, Some(Ok(Message::Close(_))) | None),
        "{ended:?}"
    );
    switch("xapp-3");
    let mut third = slack.accept().await;
    send_text(
        &mut third,
        &interactive("e4", &press("acknowledge", "al_4", "4.0")),
    )
    .await;
    assert_eq!(receive(&mut third).await, json!({"envelope_id": "e4"}));
    assert_eq!(pending_commands(&slack.store).await.len(), 4);
    slack.shutdown.cancel();
    timeout(LONG, slack.running)
        .await
        .expect("in time")
        .expect("no panic");
}
