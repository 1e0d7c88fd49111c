//! Stripe's API of our own on a loopback port: knows how accounts stand, answers as told.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// One request for an account, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// The account asked for.
    pub(crate) account: String,
    /// The authorization header.
    pub(crate) authorization: String,
    /// The API version asked for.
    pub(crate) version: String,
    /// The status it was answered with; 0 for none.
    pub(crate) answered: u16,
}

/// What the stub does before it answers well.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trouble {
    /// 429 with Retry-After: 1.
    TooMany,
    /// This status.
    Status(u16),
    /// 302 to a place that must not be asked.
    Elsewhere,
    /// No answer at all.
    Silence,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Stripe {
    addr: SocketAddr,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    calls: Vec<Call>,
    troubles: VecDeque<Trouble>,
    accounts: BTreeMap<String, Value>,
}

/// An account in Stripe's shape, in good standing or still to be onboarded.
pub(crate) fn account(id: &str, charges: bool) -> Value {
    json!({"id": id, "object": "account", "country": "PT", "created": 1_700_000_000, "charges_enabled": charges,
        "payouts_enabled": charges, "details_submitted": charges,
        "requirements": {"currently_due": [], "past_due": [], "disabled_reason": null},
        "external_accounts": {"object": "list", "data": [], "total_count": 0}})
}

impl Stripe {
    /// Listens; the first answers are those of `troubles`.
    pub(crate) async fn start(troubles: &[Trouble]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let inner = Arc::new(Mutex::new(Inner { troubles: troubles.iter().copied().collect(), ..Inner::default() }));
        let stripe = Self { addr, inner };
        let router = Router::new().route("/v1/accounts/{id}", axum::routing::get(answer)).with_state(stripe.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        stripe
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// From now on it knows this account, as it stands.
    pub(crate) fn knows(&self, account: Value) {
        let id = account["id"].as_str().expect("an id").to_owned();
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).accounts.insert(id, account);
    }

    /// Everything it was asked.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).calls.clone()
    }

    /// The status of each answer, in order.
    pub(crate) fn answers(&self) -> Vec<u16> {
        self.calls().iter().map(|call| call.answered).collect()
    }
}

async fn answer(State(stripe): State<Stripe>, Path(account): Path<String>, headers: HeaderMap) -> Response {
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let (trouble, known) = {
        let mut inner = stripe.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble = inner.troubles.pop_front();
        let known = inner.accounts.get(&account).cloned();
        let answered = match (trouble, &known) {
            (Some(Trouble::TooMany), _) => 429,
            (Some(Trouble::Status(status)), _) => status,
            (Some(Trouble::Elsewhere), _) => 302,
            (Some(Trouble::Silence), _) => 0,
            (None, Some(_)) => 200,
            (None, None) => 404,
        };
        let (authorization, version) = (header("authorization"), header("stripe-version"));
        inner.calls.push(Call { account, authorization, version, answered });
        (trouble, known)
    };
    match trouble {
        Some(Trouble::TooMany) => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")], "slow down").into_response(),
        Some(Trouble::Status(status)) => StatusCode::from_u16(status).expect("a status").into_response(),
        Some(Trouble::Elsewhere) => (StatusCode::FOUND, [("location", "/v1/accounts/acct_trap")]).into_response(),
        Some(Trouble::Silence) => std::future::pending().await,
        None => match known {
            Some(account) => axum::Json(account).into_response(),
            None => (StatusCode::NOT_FOUND, axum::Json(json!({"error": {"code": "resource_missing"}}))).into_response(),
        },
    }
}
