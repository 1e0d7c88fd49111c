//! The endpoints to which Stripe sends events, as its API lists them.

use std::collections::BTreeSet;

use std::time::Duration;

use reqwest::Url;
use revwatch_core::event_endpoint::EventEndpoint;
use serde_json::Value;

use crate::{ApiError, Request, StripeApi};

/// What Stripe's API says of the endpoints of the key's account, in the key's mode.
#[derive(Debug)]
pub struct EventEndpoints {
    /// Those of both lists.
    pub endpoints: Vec<EventEndpoint>,
    /// Why the destinations of API v2 could not be read; webhook endpoints are complete without.
    pub destinations_error: Option<ApiError>,
}

const WEBHOOK_ENDPOINTS: &str = "/v1/webhook_endpoints";
const DESTINATIONS: &str = "/v2/core/event_destinations";
/// Stripe allows 16 of them per account: <https://docs.stripe.com/webhooks>.
const MAX_PAGES: usize = 20;
const MAX_BYTES: usize = 4 << 20;
const TIMEOUT: Duration = Duration::from_secs(20);

/// Lists webhook endpoints, and destinations of API v2, which also say whose events they get. Sources:
/// <https://docs.stripe.com/api/webhook_endpoints/list>, <https://docs.stripe.com/api/v2/core/event-destinations/list>.
pub async fn event_endpoints(api: &StripeApi) -> Result<EventEndpoints, ApiError> {
    let mut endpoints: Vec<_> = webhook_endpoints(api).await?;
    let destinations_error = match destinations(api).await {
        Ok(destinations) => {
            // One that both lists have says more in the second.
            endpoints.retain(|it| !destinations.iter().any(|other| is_same(it, other)));
            endpoints.extend(destinations);
            None
        }
        Err(error) => Some(error),
    };
    Ok(EventEndpoints {
        endpoints,
        destinations_error,
    })
}

/// Whether any account is connected to the key's.
pub async fn has_connected_accounts(api: &StripeApi) -> Result<bool, ApiError> {
    let page = get(api, "/v1/accounts", &[("limit", "1")]).await?;
    Ok(!data(&page)?.is_empty())
}

async fn webhook_endpoints(api: &StripeApi) -> Result<Vec<EventEndpoint>, ApiError> {
    let mut found: Vec<EventEndpoint> = Vec::new();
    for _ in 0..MAX_PAGES {
        let after = found.last().map(|last| last.id.clone());
        let mut query = vec![("limit", "100")];
        query.extend(after.as_deref().map(|after| ("starting_after", after)));
        let page = get(api, WEBHOOK_ENDPOINTS, &query).await?;
        found.extend(data(&page)?.iter().map(webhook_endpoint));
        if page["has_more"] != true {
            return Ok(found);
        }
    }
    Err(too_many(WEBHOOK_ENDPOINTS))
}

async fn destinations(api: &StripeApi) -> Result<Vec<EventEndpoint>, ApiError> {
    let mut found = Vec::new();
    let first = [("include[0]", "webhook_endpoint.url"), ("limit", "100")];
    let mut page = get(api, DESTINATIONS, &first).await?;
    for _ in 0..MAX_PAGES {
        found.extend(data(&page)?.iter().map(destination));
        // Source: <https://docs.stripe.com/api-v2-overview#list-pagination>. Nothing but this list is requested.
        let next = page["next_page_url"].as_str();
        let Some(at) = next.and_then(|url| Some(&url[url.find(DESTINATIONS)?..])) else {
            return Ok(found);
        };
        page = get(api, at, &[]).await?;
    }
    Err(too_many(DESTINATIONS))
}

async fn get(api: &StripeApi, path: &str, query: &[(&str, &str)]) -> Result<Value, ApiError> {
    let request = Request {
        path,
        query,
        account: None,
        max_bytes: MAX_BYTES,
        timeout: TIMEOUT,
    };
    let body = api.get(request).await?.body;
    serde_json::from_str(&body).map_err(|_| ApiError::refused("the response is not JSON"))
}

fn data(page: &Value) -> Result<&Vec<Value>, ApiError> {
    let data = page["data"].as_array();
    data.ok_or_else(|| ApiError::refused("the response is not a list: check STRIPE_API_BASE"))
}

fn too_many(path: &str) -> ApiError {
    ApiError::refused(format!("{path} has more than {MAX_PAGES} pages"))
}

fn is_same(endpoint: &EventEndpoint, destination: &EventEndpoint) -> bool {
    endpoint.id == destination.id
        || endpoint.url.is_some()
            && endpoint.url == destination.url
            && set(&endpoint.types) == set(&destination.types)
}

/// Their order says nothing.
fn set(types: &[String]) -> BTreeSet<&str> {
    types.iter().map(String::as_str).collect()
}

/// Source: <https://docs.stripe.com/api/webhook_endpoints/object>.
fn webhook_endpoint(object: &Value) -> EventEndpoint {
    EventEndpoint {
        id: text(&object["id"]).unwrap_or_default(),
        url: text(&object["url"]).map(|url| without_query(&url)),
        enabled: object["status"] == "enabled",
        types: texts(&object["enabled_events"]),
        api_version: text(&object["api_version"]),
        own: None,
        connected: None,
    }
}

/// Source: <https://docs.stripe.com/api/v2/core/event-destinations/object>. Names of senders before API version
/// 2026-03-25.dahlia:
/// <https://docs.stripe.com/changelog/dahlia/2026-03-25/updates-eventsfrom-parameter-on-event-destinations>.
fn destination(object: &Value) -> EventEndpoint {
    let senders = object["events_from"].as_array();
    let is_connected = |sender: &Value| {
        let name = sender.as_str().unwrap_or_default();
        name == "other_accounts" || name.ends_with("@accounts")
    };
    let url = &object["webhook_endpoint"]["url"];
    let is_webhook = object["type"] == "webhook_endpoint";
    EventEndpoint {
        id: text(&object["id"]).unwrap_or_default(),
        url: is_webhook.then(|| {
            let url = text(url);
            without_query(url.as_deref().unwrap_or("its URL is not known"))
        }),
        enabled: object["status"] == "enabled",
        types: texts(&object["enabled_events"]),
        api_version: text(&object["snapshot_api_version"]),
        own: senders.map(|senders| !senders.iter().all(is_connected)),
        connected: senders.map(|senders| senders.iter().any(is_connected)),
    }
}

/// Without what a terminal would obey.
fn text(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    Some(text.chars().filter(|c| !c.is_control()).collect())
}

fn texts(value: &Value) -> Vec<String> {
    let all = value.as_array().into_iter().flatten();
    all.filter_map(text).collect()
}

/// A query or a password may be a secret.
fn without_query(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else {
        return url.split('?').next().unwrap_or_default().to_owned();
    };
    url.set_query(None);
    url.set_fragment(None);
    // Fails only for URLs that can have neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_terminal_obeys_nothing_that_stripe_sends() {
        let listed = webhook_endpoint(&json!({"id": "we_\u{1b}[31m1\n", "status": "enabled",
            "enabled_events": ["a\rb"], "url": "https://example.com/\u{7}hook"}));
        assert_eq!(listed.id, "we_[31m1");
        assert_eq!(listed.url.as_deref(), Some("https://example.com/hook"));
        assert_eq!(listed.types, ["ab"]);
    }

    #[test]
    fn the_order_of_types_makes_no_other_endpoint() {
        let of = |id: &str, types: [&str; 2]| EventEndpoint {
            id: id.to_owned(),
            url: Some("https://example.com".to_owned()),
            types: types.map(str::to_owned).to_vec(),
            ..EventEndpoint::default()
        };
        assert!(is_same(&of("we_1", ["a", "b"]), &of("ed_1", ["b", "a"])));
        assert!(!is_same(&of("we_1", ["a", "b"]), &of("ed_1", ["b", "c"])));
    }

    #[test]
    fn both_lists_become_endpoints_and_unknown_is_not_guessed() {
        let listed = webhook_endpoint(
            &json!({"id": "we_1", "object": "webhook_endpoint", "api_version": null,
            "application": null, "enabled_events": ["charge.failed"], "status": "enabled",
            "url": "https://user:secret@example.com/hook?token=secret"}),
        );
        let expected = EventEndpoint {
            id: "we_1".to_owned(),
            url: Some("https://example.com/hook".to_owned()),
            enabled: true,
            types: vec!["charge.failed".to_owned()],
            api_version: None,
            own: None,
            connected: None,
        };
        assert_eq!(listed, expected);
        let of = |changes: Value| {
            let mut object = json!({"id": "ed_1", "type": "webhook_endpoint", "status": "enabled",
                "enabled_events": ["charge.failed"], "events_from": ["@self"],
                "webhook_endpoint": {"url": "https://example.com/hook"}});
            let fields = changes.as_object().cloned().unwrap_or_default();
            object.as_object_mut().expect("an object").extend(fields);
            destination(&object)
        };
        assert!(is_same(&listed, &of(json!({}))));
        assert!(!is_same(&listed, &of(json!({"enabled_events": ["*"]}))));
        for (senders, expected) in [
            (json!(["@self"]), [Some(true), Some(false)]),
            (json!(["self", "other_accounts"]), [Some(true); 2]),
            (
                json!(["@organization_members/@accounts"]),
                [Some(false), Some(true)],
            ),
            (json!(["@organization_members"]), [Some(true), Some(false)]),
            (Value::Null, [None; 2]),
        ] {
            let found = of(json!({"events_from": senders}));
            assert_eq!([found.own, found.connected], expected, "{senders}");
        }
        let bus = of(json!({"type": "amazon_eventbridge", "webhook_endpoint": null}));
        assert_eq!(bus.url, None);
        assert!(!of(json!({"status": "disabled"})).enabled);
    }
}
