//! Text messages through Twilio: one per recipient when an alert fires and for each notice.
//!
//! Sources: <https://www.twilio.com/docs/messaging/api/message-resource>,
//! <https://www.twilio.com/docs/usage/twilios-response>, <https://www.twilio.com/docs/api/errors/20429>.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures_util::future::join_all;
use jiff::fmt::rfc2822;
use reqwest::StatusCode;
use revwatch_runtime::config::SmsConfig;
use revwatch_runtime::egress::{HttpClient, HttpRequest};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::time::timeout;

use super::partial_deliveries::PartialDeliveries;
use super::{
    ATTEMPT_TIMEOUT, Capabilities, EgressClient, Lookup, Notifier, Outcome, SetupError, complete,
    for_route, http_outcome,
};
use crate::message::Message;

/// Sends text messages.
pub struct Sms {
    client: HttpClient,
    account_sid: String,
    auth_token: SecretString,
    from: String,
    api_base: String,
    to: BTreeMap<String, Vec<String>>,
    delivered: PartialDeliveries,
    per_second: f64,
}

const PROVIDER: &str = "Twilio";
const ACCOUNT_SID: &str = "sms.account_sid (TWILIO_ACCOUNT_SID)";
const AUTH_TOKEN: &str = "sms.auth_token (TWILIO_AUTH_TOKEN)";
/// Maximum number of characters; Twilio refuses more.
const MAX_BODY_CHARS: usize = 1600;
/// Allowance for clock differences, in seconds.
const BEFORE_FIRED_S: i64 = 600;
/// Page size when searching the messages to one number, newest first.
const PER_PAGE: &str = "100";
const MAX_PAGES: usize = 3;
/// Maximum bytes of a page of messages.
const MAX_RESPONSE_BYTES: usize = 1 << 20;

#[derive(Deserialize)]
struct Sent {
    sid: String,
}

#[derive(Deserialize)]
struct TwilioError {
    code: Option<i64>,
}

#[derive(Deserialize)]
struct Page {
    messages: Vec<Listed>,
    next_page_uri: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    sid: String,
    body: Option<String>,
    status: Option<String>,
    date_created: Option<String>,
}

impl Sms {
    /// `None` if nothing of it is configured. `per_second` are messages to one list of numbers.
    pub fn configured(
        config: &SmsConfig,
        egress: &EgressClient,
        per_second: f64,
    ) -> Result<Option<Self>, SetupError> {
        let is_set = |text: &str| !text.trim().is_empty();
        let parts = [
            (ACCOUNT_SID, is_set(&config.account_sid)),
            (AUTH_TOKEN, config.auth_token.is_some()),
            ("sms.from", is_set(&config.from)),
            (
                "a list of numbers in [sms.to]",
                config.to.values().any(|list| !list.is_empty()),
            ),
        ];
        complete("sms", &parts)?;
        let Some(auth_token) = config.auth_token.clone() else {
            return Ok(None);
        };
        let invalid = |what: String| Err(SetupError::Invalid(what));
        // It becomes a part of URLs.
        let account_sid = config.account_sid.trim().to_owned();
        if !account_sid.starts_with("AC") || !account_sid.bytes().all(|b| b.is_ascii_alphanumeric())
        {
            return invalid(format!(
                "{ACCOUNT_SID} must be the AC… shown in Twilio's console"
            ));
        }
        let mut to = BTreeMap::new();
        for (route, list) in &config.to {
            match (list.is_empty(), route.as_str()) {
                (false, _) => {}
                (true, "default") => continue,
                (true, _) => {
                    return invalid(format!(
                        "[sms.to] {route} is empty: give a number, or remove the line"
                    ));
                }
            }
            let mut numbers: Vec<String> = Vec::new();
            for (number, place) in list.iter().map(|number| number.trim()).zip(1..) {
                // Numbers are not quoted: errors are logged.
                if !is_number(number) {
                    return invalid(format!(
                        "[sms.to] {route}: entry {place} must be a number like +15550101"
                    ));
                }
                if !numbers.iter().any(|known| known == number) {
                    numbers.push(number.to_owned());
                }
            }
            to.insert(route.clone(), numbers);
        }
        if !to.contains_key("default") {
            return invalid(
                "[sms.to] has no default, for routes that are not listed: give one".into(),
            );
        }
        let (client, api_base) = (
            egress.client()?,
            egress.base("sms.api_base", &config.api_base)?,
        );
        let from = config.from.trim().to_owned();
        Ok(Some(Self {
            client,
            account_sid,
            auth_token,
            from,
            api_base,
            to,
            delivered: PartialDeliveries::default(),
            per_second,
        }))
    }

    /// The path of the account's messages.
    fn path(&self) -> String {
        format!("/2010-04-01/Accounts/{}/Messages.json", self.account_sid)
    }

    fn signed(&self, request: HttpRequest) -> HttpRequest {
        request.basic_auth(
            &self.account_sid,
            Some(self.auth_token.expose_secret().trim()),
        )
    }

    /// Sends one message to one number; returns its sid.
    async fn send(&self, body: &str, number: &str, list: &str) -> Result<String, Outcome> {
        let sender = if self.from.starts_with("MG") {
            "MessagingServiceSid"
        } else {
            "From"
        };
        let form = http_outcome::encoded(&[("To", number), (sender, &self.from), ("Body", body)]);
        let request = self
            .client
            .post(format!("{}{}", self.api_base, self.path()));
        let request = self
            .signed(request)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        let response = request
            .send()
            .await
            .map_err(|error| http_outcome::no_answer(PROVIDER, &error))?;
        let settings = match response.status() {
            StatusCode::UNAUTHORIZED => format!("{ACCOUNT_SID} and {AUTH_TOKEN}"),
            StatusCode::NOT_FOUND => format!("{ACCOUNT_SID} and sms.api_base"),
            _ => format!("sms.from and the numbers of [sms.to] {list}"),
        };
        let refused = http_outcome::refused(
            PROVIDER,
            response.status(),
            response.headers(),
            &settings,
            self.client.now(),
        );
        if let Some(outcome) = refused {
            // Only the code: Twilio's message quotes the number.
            let error_reply = http_outcome::json::<TwilioError>(response, MAX_RESPONSE_BYTES)
                .await
                .ok();
            let code = error_reply.and_then(|error_reply| error_reply.code);
            return Err(match (outcome, code) {
                (Outcome::Failed { reason, permanent }, Some(code)) => Outcome::Failed {
                    reason: format!("{reason} (see https://www.twilio.com/docs/api/errors/{code})"),
                    permanent,
                },
                (outcome, _) => outcome,
            });
        }
        let sent = http_outcome::json::<Sent>(response, MAX_RESPONSE_BYTES).await;
        sent.map(|sent| sent.sid).map_err(|what| Outcome::Unknown {
            reason: format!("{PROVIDER}: {what}"),
        })
    }

    /// The sid of the message to one number that contains the delivery's id.
    async fn search_number(
        &self,
        message: &Message,
        number: &str,
    ) -> Result<Option<String>, Lookup> {
        let later = |reason: String| Lookup::Later { reason };
        let query = http_outcome::encoded(&[("To", number), ("PageSize", PER_PAGE)]);
        let mut uri = format!("{}?{query}", self.path());
        for _ in 0..MAX_PAGES {
            let request = self.signed(self.client.get(format!("{}{uri}", self.api_base)));
            let response = request.send().await.map_err(|error| {
                match http_outcome::no_answer(PROVIDER, &error) {
                    Outcome::Failed { reason, .. } | Outcome::Unknown { reason } => later(reason),
                    other => later(other.as_str().to_owned()),
                }
            })?;
            match response.status() {
                status if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
                    return Err(later(format!("{PROVIDER} answered {status}")));
                }
                status if !status.is_success() => return Err(Lookup::CannotTell),
                _ => {}
            }
            let page = http_outcome::json::<Page>(response, MAX_RESPONSE_BYTES).await;
            let page = page.map_err(|what| later(format!("{PROVIDER}: {what}")))?;
            if let Some(found) = page
                .messages
                .iter()
                .find(|listed| listed.is_delivered(&message.delivery_id))
            {
                return Ok(Some(found.sid.clone()));
            }
            // Newest first: the following messages are older than the alert.
            let is_before = page
                .messages
                .last()
                .is_some_and(|listed| listed.is_before(message.fired_s - BEFORE_FIRED_S));
            match page
                .next_page_uri
                .filter(|next| !is_before && !next.is_empty())
            {
                None => return Ok(None),
                // The request carries the credentials, so the path must be our own.
                Some(next) if next.starts_with(&format!("{}?", self.path())) => uri = next,
                Some(_) => return Err(Lookup::CannotTell),
            }
        }
        // It may be on a later page.
        Err(Lookup::CannotTell)
    }

    fn receipt(&self, message: &Message) -> Option<String> {
        let sids: Vec<_> = self
            .delivered
            .receipts(&message.delivery_id)
            .into_values()
            .collect();
        (!sids.is_empty()).then(|| sids.join(","))
    }

    async fn find_all(&self, message: &Message) -> Lookup {
        let Some((_, numbers)) = for_route(&self.to, &message.route) else {
            return Lookup::CannotTell;
        };
        let delivered = self.delivered.receipts(&message.delivery_id);
        let pending: Vec<_> = numbers
            .iter()
            .filter(|number| !delivered.contains_key(*number))
            .collect();
        let lookups = join_all(
            pending
                .iter()
                .map(|number| self.search_number(message, number)),
        )
        .await;
        let (mut is_absent, mut failure) = (false, None);
        for (number, lookup) in pending.iter().zip(lookups) {
            match lookup {
                Ok(Some(sid)) => self.delivered.remember(&message.delivery_id, number, sid),
                Ok(None) => is_absent = true,
                Err(later @ Lookup::Later { .. }) => failure = Some(later),
                Err(other) => failure = failure.or(Some(other)),
            }
        }
        match failure {
            Some(failure) => failure,
            None if is_absent => Lookup::Absent,
            None => {
                let receipt = self.receipt(message);
                self.delivered.forget(&message.delivery_id);
                Lookup::Found {
                    receipt,
                    revision: None,
                }
            }
        }
    }
}

#[async_trait]
impl Notifier for Sms {
    fn name(&self) -> &'static str {
        "sms"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            edits: false,
            resolves: false,
        }
    }

    fn destination(&self, route: &str) -> String {
        format!(
            "sms {}",
            for_route(&self.to, route).map_or("default", |(list, _)| list)
        )
    }

    fn per_second(&self) -> f64 {
        self.per_second
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        let Some((list, numbers)) = for_route(&self.to, &message.route) else {
            return Outcome::Failed {
                reason: "[sms.to] has no default".into(),
                permanent: true,
            };
        };
        let body = body(message);
        let delivered = self.delivered.receipts(&message.delivery_id);
        let pending: Vec<_> = numbers
            .iter()
            .filter(|number| !delivered.contains_key(*number))
            .collect();
        // In parallel: no recipient waits for another's message.
        let sent = join_all(pending.iter().map(|number| self.send(&body, number, list))).await;
        let mut worst: Option<Outcome> = None;
        for (number, sent) in pending.iter().zip(sent) {
            match sent {
                Ok(sid) => self.delivered.remember(&message.delivery_id, number, sid),
                Err(outcome) => worst = Some(worse(worst, outcome)),
            }
        }
        let receipt = self.receipt(message);
        match worst {
            Some(Outcome::Failed {
                permanent: true,
                reason,
            }) if receipt.is_some() => {
                tracing::warn!(
                    list,
                    reason,
                    "some recipients cannot receive text messages; the others have it"
                );
            }
            Some(outcome) => return outcome,
            None => {}
        }
        self.delivered.forget(&message.delivery_id);
        Outcome::Delivered { receipt }
    }

    async fn find(&self, message: &Message) -> Lookup {
        let searching = timeout(ATTEMPT_TIMEOUT, self.find_all(message)).await;
        searching.unwrap_or_else(|_| Lookup::Later {
            reason: format!("{PROVIDER}: no answer in time"),
        })
    }
}

impl Listed {
    /// Whether it is the message of this delivery, and did not fail on its way.
    fn is_delivered(&self, delivery_id: &str) -> bool {
        let is_lost = self
            .status
            .as_deref()
            .is_some_and(|s| matches!(s, "failed" | "undelivered" | "canceled"));
        !is_lost
            && self
                .body
                .as_deref()
                .is_some_and(|body| names(body, delivery_id))
    }

    fn is_before(&self, unix_s: i64) -> bool {
        let created = self
            .date_created
            .as_deref()
            .and_then(|date| rfc2822::parse(date).ok());
        created.is_some_and(|created| created.timestamp().as_second() < unix_s)
    }
}

/// The text to send: the short text with the delivery's id, by which it is found again.
fn body(message: &Message) -> String {
    let id = &message.delivery_id;
    if names(&message.short, id) {
        return http_outcome::clamp(&message.short, MAX_BODY_CHARS);
    }
    let max_chars = MAX_BODY_CHARS.saturating_sub(id.chars().count() + 1);
    format!("{} {id}", http_outcome::clamp(&message.short, max_chars))
}

/// Whether `text` contains `id` as a word: `al_1-1` is not in `al_1-10`.
fn names(text: &str, id: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-'))
        .any(|word| word == id)
}

/// E.164: a plus and up to 15 digits. Source: <https://www.twilio.com/docs/glossary/what-e164>.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or_default();
    (7..=15).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && !digits.starts_with('0')
}

/// The more important of two outcomes for the caller: first, that delivery is unknown; then the
/// time to wait; then that a retry helps.
fn worse(before: Option<Outcome>, new: Outcome) -> Outcome {
    let rank = |outcome: &Outcome| match outcome {
        Outcome::Unknown { .. } => 3,
        Outcome::RetryAfter { .. } => 2,
        Outcome::Failed {
            permanent: false, ..
        } => 1,
        _ => 0,
    };
    match (before, new) {
        (None, new) => new,
        (Some(Outcome::RetryAfter { wait_ms: a }), Outcome::RetryAfter { wait_ms: b }) => {
            Outcome::RetryAfter { wait_ms: a.max(b) }
        }
        (Some(before), new) => {
            if rank(&new) > rank(&before) {
                new
            } else {
                before
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use revwatch_runtime::config::EgressConfig;
    use serde_json::json;

    use super::super::stub::{Reply, Request, Stub, message};
    use super::*;

    const ONE: &str = "+15550101";
    const TWO: &str = "+15550102";

    fn config(base: &str, to: &[&str]) -> SmsConfig {
        SmsConfig {
            account_sid: "AC1".into(),
            auth_token: Some(SecretString::from("hidden".to_owned())),
            from: "+15550100".into(),
            api_base: base.into(),
            to: [(
                "default".to_owned(),
                to.iter().map(|n| (*n).to_owned()).collect(),
            )]
            .into(),
        }
    }

    fn configured(config: &SmsConfig) -> Result<Option<Sms>, SetupError> {
        Sms::configured(config, &EgressClient::new(EgressConfig::default()), 1.0)
    }

    fn sms(stub: &Stub, to: &[&str]) -> Sms {
        configured(&config(&stub.url(), to))
            .expect("valid")
            .expect("configured")
    }

    fn sent(request: &Request) -> Reply {
        let sid = format!(
            "SM{}",
            request
                .parameter("To")
                .unwrap_or_default()
                .trim_start_matches('+')
        );
        Reply::json(json!({"sid": sid, "status": "queued"})).with_status(201)
    }

    fn listed(bodies: &[&str], created: &str, next: Option<&str>) -> Reply {
        let messages: Vec<_> = bodies
            .iter()
            .map(|body| json!({"sid": "SM1", "body": body, "status": "delivered", "date_created": created}))
            .collect();
        Reply::json(json!({"messages": messages, "next_page_uri": next}))
    }

    const SINCE: &str = "Thu, 20 Nov 2025 10:00:01 +0000";
    const BEFORE: &str = "Thu, 20 Nov 2025 08:00:00 +0000";

    #[tokio::test]
    async fn responses_map_to_outcomes() {
        let error_reply = |status: u16, code: i64| {
            Reply::json(json!({"code": code, "message": "The 'To' number +15550101 is not valid"}))
                .with_status(status)
        };
        let table = [
            (
                Reply::json(json!({"sid": "SM1"})).with_status(201),
                "delivered",
                "SM1",
            ),
            (
                error_reply(429, 20429).header("retry-after", "2"),
                "retry_after",
                "2000",
            ),
            (error_reply(503, 20503), "failed", "20503"),
            (error_reply(401, 20003), "permanent", "TWILIO_AUTH_TOKEN"),
            (error_reply(404, 20404), "permanent", "TWILIO_ACCOUNT_SID"),
            (error_reply(400, 21211), "permanent", "errors/21211"),
            (Reply::status(400), "permanent", "sms.from"),
            (Reply::ok("?"), "unknown", "JSON"),
            (Reply::silence(), "unknown", ""),
        ];
        for (reply, expected, part) in table {
            let answer = reply.clone();
            let stub = Stub::answering(move |_| answer.clone()).await;
            let outcome = sms(&stub, &[ONE]).deliver(&message()).await;
            let outcome_text = format!("{outcome:?}");
            assert_eq!(outcome.as_str(), expected, "{reply:?}: {outcome_text}");
            assert!(
                outcome_text.contains(part)
                    && !outcome_text.contains("hidden")
                    && !outcome_text.contains("555"),
                "{outcome_text}"
            );
        }
        let closed = configured(&config("http://127.0.0.1:1", &[ONE]))
            .expect("valid")
            .expect("configured");
        assert_eq!(closed.deliver(&message()).await.as_str(), "failed");
    }

    #[tokio::test]
    async fn requests_have_the_form_that_twilio_documents() {
        let stub = Stub::answering(sent).await;
        let one = sms(&stub, &[ONE, TWO, ONE]);
        let outcome = one.deliver(&message()).await;
        assert_eq!(
            outcome,
            Outcome::Delivered {
                receipt: Some("SM15550101,SM15550102".into())
            }
        );
        let requests = stub.requests();
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[0].path, "/2010-04-01/Accounts/AC1/Messages.json");
        assert_eq!(
            requests[0].header("authorization"),
            Some("Basic QUMxOmhpZGRlbg==")
        );
        assert_eq!(requests[0].parameter("From"), Some("+15550100".into()));
        assert_eq!(
            requests[0].parameter("Body"),
            Some("Payouts fail al_1 al_1-0".into())
        );
        let service = SmsConfig {
            from: "MG1".into(),
            ..config(&stub.url(), &[ONE])
        };
        configured(&service)
            .expect("valid")
            .expect("configured")
            .deliver(&message())
            .await;
        let request = stub.requests().pop().expect("a request");
        assert_eq!(
            (
                request.parameter("MessagingServiceSid"),
                request.parameter("From")
            ),
            (Some("MG1".into()), None)
        );
    }

    #[tokio::test]
    async fn a_retry_skips_recipients_who_have_the_message() {
        let is_recovered = std::sync::Arc::new(AtomicBool::new(false));
        let now = is_recovered.clone();
        let stub = Stub::answering(move |request| {
            let is_two = request.parameter("To").as_deref() == Some(TWO);
            if is_two && !now.load(Ordering::Relaxed) {
                Reply::status(500)
            } else {
                sent(request)
            }
        })
        .await;
        let sms = sms(&stub, &[ONE, TWO]);
        assert_eq!(sms.deliver(&message()).await.as_str(), "failed");
        is_recovered.store(true, Ordering::Relaxed);
        let outcome = sms.deliver(&message()).await;
        assert_eq!(
            outcome,
            Outcome::Delivered {
                receipt: Some("SM15550101,SM15550102".into())
            }
        );
        let to_one = stub
            .requests()
            .iter()
            .filter(|r| r.parameter("To").as_deref() == Some(ONE))
            .count();
        assert_eq!((to_one, stub.requests().len()), (1, 3));
    }

    #[tokio::test]
    async fn an_unreachable_recipient_does_not_block_the_others() {
        let stub = Stub::answering(|request| {
            let is_two = request.parameter("To").as_deref() == Some(TWO);
            if is_two {
                Reply::json(json!({"code": 21610})).with_status(400)
            } else {
                sent(request)
            }
        })
        .await;
        let outcome = sms(&stub, &[TWO, ONE]).deliver(&message()).await;
        assert_eq!(
            outcome,
            Outcome::Delivered {
                receipt: Some("SM15550101".into())
            }
        );
        assert_eq!(
            sms(&stub, &[TWO]).deliver(&message()).await.as_str(),
            "permanent"
        );
    }

    #[tokio::test]
    async fn after_a_crash_it_finds_delivered_messages_and_sends_the_rest() {
        let stub = Stub::answering(|request| {
            let is_two = request.parameter("To").as_deref() == Some(TWO);
            match request.method.as_str() {
                "POST" => sent(request),
                _ if is_two => listed(&["x al_1-10", "x al_1-01"], SINCE, None),
                _ => listed(&["Payouts fail al_1 al_1-0"], SINCE, None),
            }
        })
        .await;
        let sms = sms(&stub, &[ONE, TWO]);
        assert_eq!(sms.find(&message()).await, Lookup::Absent);
        let asked = stub.requests()[0].clone();
        assert_eq!(
            (asked.method.as_str(), asked.parameter("To").is_some()),
            ("GET", true)
        );
        let outcome = sms.deliver(&message()).await;
        assert_eq!(
            outcome,
            Outcome::Delivered {
                receipt: Some("SM1,SM15550102".into())
            }
        );
        assert_eq!(
            stub.requests()
                .iter()
                .filter(|r| r.method == "POST")
                .count(),
            1
        );
    }

    #[tokio::test]
    async fn the_search_is_bounded() {
        let path = "/2010-04-01/Accounts/AC1/Messages.json?Page=1";
        let table = [
            (listed(&["al_1-0"], SINCE, None), "found", 1),
            (listed(&["x"], SINCE, None), "absent", 1),
            (listed(&["x"], BEFORE, Some(path)), "absent", 1),
            (listed(&["x"], SINCE, Some(path)), "cannot tell", 3),
            (
                listed(&["x"], SINCE, Some("//elsewhere.example/")),
                "cannot tell",
                1,
            ),
            (Reply::status(429), "later", 1),
            (Reply::status(500), "later", 1),
            (Reply::ok("?"), "later", 1),
            (Reply::silence(), "later", 1),
            (Reply::status(401), "cannot tell", 1),
        ];
        for (reply, expected, requests) in table {
            let answer = reply.clone();
            let stub = Stub::answering(move |_| answer.clone()).await;
            let found = sms(&stub, &[ONE]).find(&message()).await;
            let word = match &found {
                Lookup::Found { .. } => "found",
                Lookup::Absent => "absent",
                Lookup::Later { .. } => "later",
                Lookup::CannotTell => "cannot tell",
            };
            assert_eq!(
                (word, stub.requests().len()),
                (expected, requests),
                "{reply:?}"
            );
            assert!(!format!("{found:?}").contains("555"), "{found:?}");
        }
        let lost = json!({"messages": [{"sid": "SM1", "body": "al_1-0", "status": "failed"}]});
        let stub = Stub::answering(move |_| Reply::json(lost.clone())).await;
        assert_eq!(sms(&stub, &[ONE]).find(&message()).await, Lookup::Absent);
    }

    #[test]
    fn missing_or_invalid_settings_are_named() {
        let nothing = SmsConfig {
            account_sid: String::new(),
            auth_token: None,
            from: String::new(),
            ..config("https://h.example", &[])
        };
        assert!(configured(&nothing).expect("valid").is_none());
        type Case = (fn(&mut SmsConfig), &'static str);
        let table: [Case; 8] = [
            (
                |c| c.auth_token = None,
                "sms.auth_token (TWILIO_AUTH_TOKEN) is missing",
            ),
            (
                |c| c.account_sid = " ".into(),
                "sms.account_sid (TWILIO_ACCOUNT_SID) is missing",
            ),
            (|c| c.from.clear(), "sms.from is missing"),
            (|c| c.to.clear(), "[sms.to] is missing"),
            (
                |c| c.account_sid = "AC1/../AC2".into(),
                "TWILIO_ACCOUNT_SID",
            ),
            (
                |c| c.to = [("default".into(), vec!["5559999".into()])].into(),
                "[sms.to] default: entry 1",
            ),
            (
                |c| c.to = [("x".into(), vec![ONE.into()])].into(),
                "[sms.to] has no default",
            ),
            (
                |c| c.to.extend([("x".into(), Vec::new())]),
                "[sms.to] x is empty",
            ),
        ];
        for (spoil, expected) in table {
            let mut invalid = config("https://h.example", &[ONE]);
            spoil(&mut invalid);
            let Err(error) = configured(&invalid) else {
                panic!("{expected}")
            };
            let error = error.to_string();
            assert!(
                error.contains(expected) && !error.contains("9999") && !error.contains("hidden"),
                "{error}"
            );
        }
    }
}
