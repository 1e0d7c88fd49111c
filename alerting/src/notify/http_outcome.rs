//! Maps the answers and failures of notifiers' requests to outcomes. [`revwatch_runtime::egress`]
//! makes the requests and decides where they may go.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName};
use reqwest::{Response, StatusCode};
use revwatch_core::redact;
use revwatch_runtime::egress::{BlockedAddressError, HttpError, HttpErrorKind, retry_after};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::Outcome;
use crate::message::Message;

/// The wait of a service that limits requests and names no time.
const DEFAULT_WAIT: Duration = Duration::from_secs(5);

/// Why the body of an answer proves nothing. No text of it is quoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoProof {
    /// It did not arrive completely; this is the cause.
    Lost(String),
    /// It is JSON, but does not say that the request was carried out.
    Unclear,
    /// The provider does not answer like this: something else did, for instance the login page of a proxy.
    Foreign,
}

/// The outcome of a request without an answer. If the connection was never made, nothing was
/// delivered; any later failure leaves that unknown. `provider` names the receiver, `settings` the
/// settings to check; the URL, which may be secret, is not included.
pub fn no_answer(provider: &str, error: &HttpError, settings: &str) -> Outcome {
    let mut causes = std::iter::successors(error.source(), |cause| (**cause).source());
    let refusal = causes.find(|cause| cause.is::<BlockedAddressError>());
    let is_refused = refusal.is_some();
    let reason = match refusal {
        Some(refusal) => format!("{provider}: {refusal}"),
        None => format!(
            "{provider}: {}: check {settings}, and whether this machine may connect to it",
            error.cause()
        ),
    };
    if error.kind() != HttpErrorKind::NoAnswer || is_refused {
        Outcome::Failed {
            reason,
            permanent: error.kind() == HttpErrorKind::Invalid || is_refused,
        }
    } else {
        Outcome::Unknown { reason }
    }
}

/// The outcome that an answer's status alone determines; `None` for success. `settings` names the
/// settings to check if the destination refuses the request; the wait may be given as a date after
/// `now`. After a server error it is unknown whether the message was delivered: the service may have
/// failed after it, or a proxy in between has given up.
pub fn refused(
    provider: &str,
    status: StatusCode,
    headers: &HeaderMap,
    settings: &str,
    now: Timestamp,
) -> Option<Outcome> {
    if status.is_success() {
        return None;
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        let wait = retry_after(headers, now).unwrap_or(DEFAULT_WAIT);
        return Some(Outcome::RetryAfter {
            wait_ms: i64::try_from(wait.as_millis()).unwrap_or(i64::MAX),
        });
    }
    let permanent = !matches!(
        status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_EARLY
            | StatusCode::NOT_IMPLEMENTED
            | StatusCode::HTTP_VERSION_NOT_SUPPORTED
    );
    let reason = match status {
        _ if !permanent => format!("{provider} answered {status}"),
        _ if status.is_server_error() => {
            let reason = format!("{provider} answered {status}");
            return Some(Outcome::Unknown { reason });
        }
        _ if status.is_redirection() => {
            format!(
                "{provider} answered {status}, and redirects are not followed: check {settings}"
            )
        }
        _ => format!("{provider} answered {status}: check {settings}"),
    };
    Some(Outcome::Failed { reason, permanent })
}

/// The outcome of a request whose answer is successful by its status, but proves nothing by its body. What did not
/// reach the provider was not delivered; `settings` names the settings to check.
pub fn unproved(provider: &str, why: &NoProof, settings: &str) -> Outcome {
    match why {
        NoProof::Foreign => Outcome::Failed {
            reason: format!(
                "{provider}: {why}: check {settings}, and whether a proxy or a login page answers in its place"
            ),
            permanent: true,
        },
        NoProof::Lost(_) | NoProof::Unclear => Outcome::Unknown {
            reason: format!("{provider}: {why}"),
        },
    }
}

/// The body of an answer as JSON, if it has at most `max_bytes`.
pub async fn json<T: DeserializeOwned>(response: Response, max_bytes: usize) -> Result<T, NoProof> {
    let body = body(response, max_bytes).await?;
    serde_json::from_slice(&body).map_err(|error| match error.classify() {
        Category::Data => NoProof::Unclear,
        // The beginning of one.
        Category::Eof if !body.trim_ascii().is_empty() => NoProof::Unclear,
        Category::Io | Category::Syntax | Category::Eof => NoProof::Foreign,
    })
}

/// The body of an answer, if it has at most `max_bytes`: a longer one is not the provider's.
pub async fn body(mut response: Response, max_bytes: usize) -> Result<Vec<u8>, NoProof> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > max_bytes => {
                return Err(NoProof::Foreign);
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => return Err(NoProof::Lost(error.without_url().to_string())),
        }
    }
}

/// Whether an answer is a page for a browser.
pub async fn is_page(mut response: Response) -> bool {
    /// The start of a page is in its first bytes.
    const START_BYTES: usize = 1024;
    /// A receiver that answers with success and then sends nothing has accepted the message.
    const START_WITHIN: Duration = Duration::from_secs(1);
    let mut start = Vec::new();
    let headers = response.headers().clone();
    let reading = async {
        while start.len() < START_BYTES
            && let Ok(Some(chunk)) = response.chunk().await
        {
            start.extend_from_slice(&chunk);
        }
    };
    let _ = tokio::time::timeout(START_WITHIN, reading).await;
    start.truncate(START_BYTES);
    begins_a_page(&headers, &start)
}

/// Whether the headers of an answer and the start of its body are those of a page. The type alone says little: many
/// frameworks call every text HTML.
fn begins_a_page(headers: &HeaderMap, start: &[u8]) -> bool {
    /// What a document begins with, after its prolog and comments; the last is a comment that goes on.
    const FIRST_TAGS: [&str; 10] = [
        "<!doctype",
        "<html",
        "<head",
        "<body",
        "<title",
        "<meta",
        "<script",
        "<style",
        "<link",
        "<!--",
    ];
    let header = |name: HeaderName| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().trim().to_ascii_lowercase()
    };
    let is_html = header(CONTENT_TYPE).contains("html");
    // Nothing compressed was asked for, and what is in it is not known: the type decides.
    let encoding = header(CONTENT_ENCODING);
    let is_compressed = !matches!(encoding.as_str(), "" | "identity") || is_gzip(start);
    if is_compressed {
        return is_html && !start.is_empty();
    }
    // Of UTF-16, the letters of a tag; of UTF-8, all but the mark at its start.
    let text: Vec<u8> = start.iter().copied().filter(|byte| *byte != 0).collect();
    let text = String::from_utf8_lossy(&text).to_ascii_lowercase();
    let document = after_prolog(&text);
    FIRST_TAGS.iter().any(|tag| document.starts_with(tag))
        || is_html
            && text
                .split('<')
                .skip(1)
                .any(|rest| rest.starts_with(begins_a_tag))
}

fn is_gzip(start: &[u8]) -> bool {
    start.starts_with(&[0x1f, 0x8b])
}

fn begins_a_tag(first: char) -> bool {
    first.is_ascii_alphabetic() || "!/?".contains(first)
}

/// What follows a byte order mark, `<?xml …?>` and comments that end.
fn after_prolog(text: &str) -> &str {
    let is_between = |c: char| c.is_whitespace() || matches!(c, '\u{feff}' | '\u{fffd}');
    let mut rest = text.trim_start_matches(is_between);
    while let Some((_, end)) = [("<!--", "-->"), ("<?", "?>")]
        .iter()
        .find(|(begin, _)| rest.starts_with(begin))
    {
        let Some((_, after)) = rest.split_once(end) else {
            break;
        };
        rest = after.trim_start_matches(is_between);
    }
    rest
}

/// The Unix second from which a service is searched for a message: shortly before its alert fired, because clocks
/// differ.
pub fn searched_since_s(message: &Message) -> i64 {
    const CLOCKS_DIFFER_S: i64 = 600;
    (message.fired_s - CLOCKS_DIFFER_S).max(0)
}

/// Names and values, encoded as a query or a form.
pub fn encoded(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

/// `text` from a third party, as one word for the log.
pub fn word(text: &str) -> String {
    redact::word(text).to_owned()
}

impl fmt::Display for NoProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(cause) => write!(f, "its answer did not arrive: {cause}"),
            Self::Unclear => f.write_str("its answer does not say that the message was accepted"),
            Self::Foreign => f.write_str("the answer is not its own, so nothing was delivered"),
        }
    }
}

#[cfg(test)]
mod tests {
    use revwatch_runtime::config::EgressConfig;
    use revwatch_runtime::egress::EgressClient;
    use revwatch_test_servers::names;

    use super::super::stub::{Reply, Stub};
    use super::*;

    const NAMES: &[(&str, &[&str])] = &[
        ("rebound.example", &["127.0.0.1"]),
        ("localhost", &["1.1.1.1", "127.0.0.1"]),
    ];

    #[tokio::test]
    async fn a_name_that_resolves_to_a_private_address_is_not_connected_to() {
        let stub = Stub::answering(|_| Reply::ok("{}")).await;
        let client = EgressClient::with_lookup(EgressConfig::default(), names(NAMES))
            .client()
            .expect("a client");
        // Over http, which no setting allows for names: it would reach the stub.
        let url = format!("http://rebound.example:{}/secret", stub.port());
        let error = client.get(&url).send().await.expect_err("refused");
        let Outcome::Failed {
            reason,
            permanent: true,
        } = no_answer("X", &error, "x.url")
        else {
            panic!("{error:?}")
        };
        assert!(
            reason.contains("[egress]") && !reason.contains("secret"),
            "{reason}"
        );
        assert!(stub.requests().is_empty());

        let unknown = client
            .get("https://unknown.example/secret")
            .send()
            .await
            .expect_err("no such name");
        let outcome = no_answer("X", &unknown, "x.url");
        assert!(
            matches!(&outcome, Outcome::Failed { permanent: false, reason } if !reason.contains("secret") && reason.contains("check x.url"))
        );
        let localhost = client
            .get(format!("http://localhost:{}/", stub.port()))
            .send()
            .await;
        assert_eq!(localhost.expect("answered").status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn redirects_are_not_followed() {
        let stub = Stub::answering(|_| Reply::status(302).header("location", "/elsewhere")).await;
        let client = EgressClient::new(EgressConfig::default())
            .client()
            .expect("a client");
        let response = client.get(stub.url()).send().await.expect("answered");
        let outcome = refused(
            "X",
            response.status(),
            response.headers(),
            "x.url",
            client.now(),
        );
        let Some(Outcome::Failed {
            reason,
            permanent: true,
        }) = outcome
        else {
            panic!("{outcome:?}")
        };
        assert!(
            reason.contains("redirects are not followed: check x.url"),
            "{reason}"
        );
        assert_eq!(stub.requests().len(), 1);
    }

    #[tokio::test]
    async fn an_overlong_answer_is_not_read() {
        let stub = Stub::answering(|_| Reply::ok(&format!("[{}1]", "1,".repeat(5000)))).await;
        let client = EgressClient::new(EgressConfig::default())
            .client()
            .expect("a client");
        let long = client.get(stub.url()).send().await.expect("answered");
        assert_eq!(json::<Vec<u8>>(long, 1000).await, Err(NoProof::Foreign));
        let fits = client.get(stub.url()).send().await.expect("answered");
        assert_eq!(
            json::<Vec<u8>>(fits, 20_000).await.map(|list| list.len()),
            Ok(5001)
        );
    }

    /// Headers, and the start of the body.
    type Answer<'a> = (&'a [(&'a str, &'a str)], &'a [u8]);

    #[test]
    fn a_page_is_known_by_its_start_and_never_by_its_type_alone() {
        let html = [("content-type", "text/html; charset=utf-8")];
        let xhtml = [("content-type", "application/xhtml+xml")];
        let plain = [("content-type", "text/plain")];
        let packed = [("content-type", "text/html"), ("content-encoding", "br")];
        let packed_json = [
            ("content-type", "application/json"),
            ("content-encoding", "gzip"),
        ];
        let unpacked = [
            ("content-type", "text/html"),
            ("content-encoding", "identity"),
        ];
        let utf16 = |text: &str| -> Vec<u8> {
            let text = format!("\u{feff}{text}");
            text.encode_utf16().flat_map(u16::to_le_bytes).collect()
        };
        let long_comment = format!("<!-- {}", "x".repeat(1020));
        let unnamed: &[(&str, &str)] = &[];
        let pages: &[Answer<'_>] = &[
            (unnamed, b"<!DOCTYPE html><p>"),
            (unnamed, b"\n <HTML lang=en>"),
            (unnamed, b"<!doctype\nhtml>"),
            (unnamed, b"<head><title>Log in"),
            (unnamed, b"<body>"),
            (unnamed, b"<script src=x>"),
            (unnamed, b"<!-- a proxy --> \n<!-- of ours --><html>"),
            (unnamed, b"<?xml version=\"1.0\"?>\n<!DOCTYPE html PUBLIC"),
            (
                unnamed,
                b"<?xml version=\"1.0\"?><!-- x --><html xmlns=\"x\">",
            ),
            (unnamed, "\u{feff}<html>".as_bytes()),
            (unnamed, &utf16("<html>")),
            (&plain, b"<html>"),
            (&html, b"Wait <script>go()</script>"),
            (&html, b"<p>Please log in"),
            (unnamed, long_comment.as_bytes()),
            (&xhtml, b"<?xml version=\"1.0\"?>"),
            (&html, b"\x1f\x8b\x08 packed without a word"),
            (&packed, b"\x0b\x02\x80"),
            (&unpacked, b"<div>"),
        ];
        let receipts: &[Answer<'_>] = &[
            (unnamed, b""),
            (unnamed, b"ok"),
            (unnamed, b"{\"html\": \"<html>\"}"),
            (unnamed, b"<3"),
            (unnamed, b"<?xml version=\"1.0\"?><Response/>"),
            (&html, b""),
            (&html, b"thanks"),
            (&html, b"1 < 2, and x <- y"),
            (&packed, b""),
            (&packed_json, b"\x1f\x8b\x08"),
            (&plain, b"<ok>"),
        ];
        for (cases, expected) in [(pages, true), (receipts, false)] {
            for (headers, start) in cases {
                let headers = headers.iter().map(|(name, value)| {
                    let name: HeaderName = name.parse().expect("a name");
                    (name, value.parse().expect("a value"))
                });
                let headers: HeaderMap = headers.collect();
                let shown = String::from_utf8_lossy(start);
                assert_eq!(
                    begins_a_page(&headers, start),
                    expected,
                    "{headers:?} {shown}"
                );
            }
        }
    }

    #[test]
    fn foreign_texts_are_cut() {
        assert_eq!(word("channel_not_found\nX: y"), "channel_not_found");
        assert_eq!(word("<html>"), "something unreadable");
    }
}
