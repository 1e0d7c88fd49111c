//! Test support: a server on this machine with scripted answers that records its requests, and a
//! sample message.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::alert::AlertState;
use crate::message::Message;
use crate::rule::Severity;

/// A received request.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `POST`.
    pub method: String,
    /// Including the query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// As received.
    pub body: String,
}

/// A scripted answer.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    silent: bool,
}

/// The server; it ends with the test's runtime.
pub struct Stub {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Request {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("a JSON body")
    }

    /// A parameter of the query, or of a form.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let query = self.path.split_once('?').map_or("", |(_, query)| query);
        let mut pairs = url::form_urlencoded::parse(query.as_bytes())
            .chain(url::form_urlencoded::parse(self.body.as_bytes()));
        pairs
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.into_owned())
    }
}

impl Reply {
    /// 200 with a body.
    pub fn ok(body: &str) -> Self {
        Self {
            body: body.to_owned(),
            ..Self::status(200)
        }
    }

    /// 200 with a JSON body.
    #[expect(clippy::needless_pass_by_value, reason = "called with json!()")]
    pub fn json(body: Value) -> Self {
        Self::ok(&body.to_string())
    }

    /// An empty answer.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: String::new(),
            silent: false,
        }
    }

    /// Closes the connection without an answer.
    pub fn silence() -> Self {
        Self {
            silent: true,
            ..Self::status(500)
        }
    }

    /// Sets another status.
    pub fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl Stub {
    /// Answers every request with `answer`.
    pub async fn answering(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (seen, answer) = (requests.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer) = (seen.clone(), answer.clone());
                tokio::spawn(async move { serve(stream, &seen, &*answer).await });
            }
        });
        Self { port, requests }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The requests received so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("not poisoned").clone()
    }
}

/// One request per connection.
async fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<Request>>,
    answer: &(dyn Fn(&Request) -> Reply + Send + Sync),
) {
    let mut bytes = Vec::new();
    let request = loop {
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(n) if n > 0 => bytes.extend_from_slice(&chunk[..n]),
            _ => return,
        }
        if let Some(request) = parse(&bytes) {
            break request;
        }
    };
    let reply = answer(&request);
    seen.lock().expect("not poisoned").push(request);
    if reply.silent {
        return;
    }
    let mut head = format!(
        "HTTP/1.1 {} X\r\nconnection: close\r\ncontent-length: {}\r\n",
        reply.status,
        reply.body.len()
    );
    for (name, value) in &reply.headers {
        head = format!("{head}{name}: {value}\r\n");
    }
    // Some tests stop reading before the end of the answer.
    stream
        .write_all(format!("{head}\r\n{}", reply.body).as_bytes())
        .await
        .ok();
    stream.shutdown().await.ok();
}

/// `None` until the request is complete.
fn parse(bytes: &[u8]) -> Option<Request> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let headers: Vec<(String, String)> = lines
        .filter_map(|l| l.split_once(':'))
        .map(|(n, v)| (n.to_lowercase(), v.trim().to_owned()))
        .collect();
    let length = headers
        .iter()
        .find(|(n, _)| n == "content-length")
        .map_or(0, |(_, v)| v.parse().expect("a length"));
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    (body.len() >= length).then(|| Request {
        method,
        path,
        headers,
        body: body.to_owned(),
    })
}

/// The first message of a new alert.
pub fn message() -> Message {
    Message {
        delivery_id: "al_1-0".into(),
        alert_id: "al_1".into(),
        revision: 1,
        rule: "payouts_failed".into(),
        severity: Severity::High,
        state: AlertState::Firing,
        notice: None,
        route: "default".into(),
        fired_s: 1_763_632_800,
        receipt: None,
        thread: None,
        possible_duplicate: false,
        headline: "Payouts fail · Straße".into(),
        text: "Payouts fail.\nLook at them.".into(),
        short: "Payouts fail al_1".into(),
        blocks: json!([{"type": "section"}]),
        details: json!({"id": "al_1", "runbook": "https://runbooks.example/payouts"}),
    }
}
