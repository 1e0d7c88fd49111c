//! A simulated Stripe API on a loopback port: has accounts and events, and injects the configured faults.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// One recorded request for an object or a page of items.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// The requested account, else the path.
    pub(crate) account: String,
    /// The query.
    pub(crate) query: Vec<(String, String)>,
    /// The connected account that the request is made as.
    pub(crate) owner: String,
    /// The authorization header.
    pub(crate) authorization: String,
    /// The requested API version.
    pub(crate) version: String,
    /// The status of the response; 0 for none.
    pub(crate) status: u16,
}

/// Faults of the first responses.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// 429 with Retry-After: 1.
    TooMany,
    /// A response with this status.
    Status(u16),
    /// 302 to a URL that must not be requested.
    Redirect,
    /// No response.
    NoResponse,
    /// The connection is closed in the middle of the response.
    Closed,
}

/// One recorded request for a list of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListCall {
    /// The connected account of the request.
    pub(crate) account: Option<String>,
    /// `starting_after`
    pub(crate) after: Option<String>,
    /// The status of the response; 0 for none.
    pub(crate) status: u16,
}

/// A running Stripe API.
#[derive(Clone)]
pub(crate) struct Stripe {
    addr: SocketAddr,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    calls: Vec<Call>,
    faults: VecDeque<Fault>,
    accounts: BTreeMap<String, Value>,
    /// Other objects, and pages of items: by owner and path, a page with its `starting_after`.
    objects: BTreeMap<(String, String), Value>,
    lists: Vec<ListCall>,
    /// In the order of the list: newest first, without the account.
    events: Vec<(Option<String>, i64, Value)>,
    /// The only key that may list events.
    key: Option<String>,
}

/// An account in Stripe's shape, complete or not yet onboarded.
pub(crate) fn account(id: &str, charges: bool) -> Value {
    json!({"id": id, "object": "account", "country": "PT", "created": 1_700_000_000, "charges_enabled": charges,
        "payouts_enabled": charges, "details_submitted": charges,
        "requirements": {"currently_due": [], "past_due": [], "disabled_reason": null},
        "external_accounts": {"object": "list", "data": [], "total_count": 0}})
}

impl Stripe {
    /// Starts it; the first responses are `faults`.
    pub(crate) async fn start(faults: &[Fault]) -> Self {
        let (listener, addr) = revwatch_test_servers::listen().await;
        let inner = Arc::new(Mutex::new(Inner {
            faults: faults.iter().copied().collect(),
            ..Inner::default()
        }));
        let stripe = Self { addr, inner };
        let router = Router::new()
            .route("/v1/accounts", axum::routing::get(list_accounts))
            .route("/v1/accounts/{id}", axum::routing::get(retrieve_account))
            .route("/v1/events", axum::routing::get(list_events))
            .fallback(axum::routing::get(retrieve_object))
            .with_state(stripe.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        stripe
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Sets the current state of this account.
    pub(crate) fn set_account(&self, account: Value) {
        let id = account["id"].as_str().expect("an id").to_owned();
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .accounts
            .insert(id, account);
    }

    /// Sets the current state of what has this path, of a connected account or of the platform (``).
    pub(crate) fn set_object(&self, owner: &str, path: &str, object: Value) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (owner.to_owned(), path.to_owned());
        inner.objects.insert(key, object);
    }

    /// Adds these events, given in the form of Connect's webhooks; `key` may list them.
    pub(crate) fn add_events(&self, events: &[String], key: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.key = Some(key.to_owned());
        for event in events {
            let mut event: Value = serde_json::from_str(event).expect("JSON");
            let account = event.as_object_mut().expect("an object").remove("account");
            let account = account.and_then(|id| id.as_str().map(str::to_owned));
            let created_s = event["created"].as_i64().expect("a time");
            inner.events.push((account, created_s, event));
        }
        inner
            .events
            .sort_by_key(|(_, created_s, _)| std::cmp::Reverse(*created_s));
    }

    /// Every request for a list of events.
    pub(crate) fn lists(&self) -> Vec<ListCall> {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .lists
            .clone()
    }

    /// All requests.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .calls
            .clone()
    }

    /// The status of each response, in order.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        self.calls().iter().map(|call| call.status).collect()
    }
}

async fn retrieve_account(
    State(stripe): State<Stripe>,
    Path(account): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let known = |inner: &Inner, _: &Call| inner.accounts.get(&account).cloned();
    retrieve(&stripe, account.clone(), &uri, &headers, known).await
}

/// Any other object, and pages of items.
async fn retrieve_object(State(stripe): State<Stripe>, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().to_owned();
    let known = |inner: &Inner, call: &Call| {
        let after = call.query.iter().find(|(name, _)| name == "starting_after");
        let path = after.map_or_else(|| path.clone(), |(_, after)| format!("{path} {after}"));
        inner.objects.get(&(call.owner.clone(), path)).cloned()
    };
    retrieve(&stripe, path.clone(), &uri, &headers, known).await
}

async fn retrieve(
    stripe: &Stripe,
    account: String,
    uri: &Uri,
    headers: &HeaderMap,
    known: impl Fn(&Inner, &Call) -> Option<Value>,
) -> Response {
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    let url = reqwest::Url::parse(&format!("http://stripe{uri}")).expect("a URL");
    let mut call = Call {
        account,
        query: url.query_pairs().into_owned().collect(),
        owner: header("stripe-account"),
        authorization: header("authorization"),
        version: header("stripe-version"),
        status: 0,
    };
    let (fault, known) = {
        let mut inner = stripe.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = inner.faults.pop_front();
        let known = known(&inner, &call);
        call.status = match (fault, &known) {
            (Some(Fault::TooMany), _) => 429,
            (Some(Fault::Status(status)), _) => status,
            (Some(Fault::Redirect), _) => 302,
            (Some(Fault::NoResponse | Fault::Closed), _) => 0,
            (None, Some(_)) => 200,
            (None, None) => 404,
        };
        inner.calls.push(call);
        (fault, known)
    };
    match fault {
        Some(fault) => fault.respond().await,
        None => match known {
            Some(object) => axum::Json(object).into_response(),
            None => (
                StatusCode::NOT_FOUND,
                axum::Json(json!({"error": {"code": "resource_missing"}})),
            )
                .into_response(),
        },
    }
}

impl Fault {
    async fn respond(self) -> Response {
        match self {
            Self::TooMany => (
                StatusCode::TOO_MANY_REQUESTS,
                [("retry-after", "1")],
                "slow down",
            )
                .into_response(),
            Self::Status(status) => StatusCode::from_u16(status)
                .expect("a status")
                .into_response(),
            Self::Redirect => {
                (StatusCode::FOUND, [("location", "/v1/accounts/acct_trap")]).into_response()
            }
            Self::NoResponse => std::future::pending().await,
            Self::Closed => {
                let parts = [
                    Ok("{\"object\": \"list\","),
                    Err(std::io::Error::other("closed")),
                ];
                Body::from_stream(futures_util::stream::iter(parts)).into_response()
            }
        }
    }
}

/// `GET /v1/events`. Source: <https://docs.stripe.com/api/events/list>.
async fn list_events(State(stripe): State<Stripe>, uri: Uri, headers: HeaderMap) -> Response {
    let url = reqwest::Url::parse(&format!("http://stripe{uri}")).expect("a URL");
    let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    let account = headers
        .get("stripe-account")
        .and_then(|v| v.to_str().ok())
        .map(str::to_owned);
    let (fault, page) = {
        let mut inner = stripe.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = inner.faults.pop_front();
        let key = inner.key.as_ref().map(|key| format!("Bearer {key}"));
        let is_authorized =
            headers.get("authorization").and_then(|v| v.to_str().ok()) == key.as_deref();
        let page = match &account {
            _ if !is_authorized => Err(401),
            Some(id) if !inner.events.iter().any(|(of, ..)| of.as_ref() == Some(id)) => Err(403),
            _ => inner.page(account.as_ref(), &query),
        };
        let status = match (fault, &page) {
            (Some(Fault::TooMany), _) => 429,
            (Some(Fault::Status(status)), _) => status,
            (Some(Fault::Redirect), _) => 302,
            (Some(Fault::NoResponse | Fault::Closed), _) => 0,
            (None, Ok(_)) => 200,
            (None, Err(status)) => *status,
        };
        inner.lists.push(ListCall {
            account,
            after: query.get("starting_after").cloned(),
            status,
        });
        (fault, page)
    };
    match (fault, page) {
        (Some(fault), _) => fault.respond().await,
        (None, Ok(page)) => axum::Json(page).into_response(),
        (None, Err(status)) => StatusCode::from_u16(status)
            .expect("a status")
            .into_response(),
    }
}

/// `GET /v1/accounts`, one on each page. Source: <https://docs.stripe.com/api/accounts/list>.
async fn list_accounts(State(stripe): State<Stripe>, uri: Uri) -> Response {
    let url = reqwest::Url::parse(&format!("http://stripe{uri}")).expect("a URL");
    let after = url
        .query_pairs()
        .find(|(name, _)| name == "starting_after")
        .map(|(_, id)| id.into_owned());
    let inner = stripe.inner.lock().unwrap_or_else(PoisonError::into_inner);
    let mut rest = inner
        .accounts
        .iter()
        .filter(|(id, _)| after.as_ref().is_none_or(|after| *id > after));
    let data: Vec<&Value> = rest
        .next()
        .map(|(_, account)| account)
        .into_iter()
        .collect();
    let page = json!({"object": "list", "url": "/v1/accounts", "has_more": rest.next().is_some(), "data": data});
    axum::Json(page).into_response()
}

impl Inner {
    fn page(
        &self,
        account: Option<&String>,
        query: &BTreeMap<String, String>,
    ) -> Result<Value, u16> {
        let number = |name: &str| query.get(name).and_then(|text| text.parse::<i64>().ok());
        let limit = usize::try_from(number("limit").unwrap_or(10)).expect("a limit");
        assert!(limit <= 100, "Stripe gives no more than 100");
        let (since_s, until_s) = (
            number("created[gte]").unwrap_or(0),
            number("created[lt]").unwrap_or(i64::MAX),
        );
        let listed = self
            .events
            .iter()
            .filter(|(of, at_s, _)| of.as_ref() == account && (since_s..until_s).contains(at_s));
        let mut listed: Vec<&Value> = listed.map(|(_, _, event)| event).collect();
        if let Some(after) = query.get("starting_after") {
            // The event to continue from must exist.
            let at = listed
                .iter()
                .position(|event| event["id"] == after.as_str())
                .ok_or(404_u16)?;
            listed.drain(..=at);
        }
        let has_more = listed.len() > limit;
        listed.truncate(limit);
        Ok(json!({"object": "list", "url": "/v1/events", "has_more": has_more, "data": listed}))
    }
}
