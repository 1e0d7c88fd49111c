//! Servers for the tests of every crate, on loopback ports of the system's choice. They end with the
//! runtime of the test.
//!
//! This crate depends on no other crate of revwatch, so that all of them can use it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Serves `router`; returns its address.
pub async fn serve(router: Router) -> SocketAddr {
    let (listener, addr) = listen().await;
    tokio::spawn(async move { axum::serve(listener, router).await });
    addr
}

/// A listener on a free port.
pub async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    (listener, addr)
}

/// A name server in place of the system's: the names and their addresses.
pub fn names(
    names: &'static [(&'static str, &'static [&'static str])],
) -> Arc<dyn Fn(String) -> Resolution + Send + Sync> {
    Arc::new(move |name| {
        let found = names.iter().find(|(known, _)| *known == name);
        let found = found
            .map(|(_, addresses)| {
                let parsed = addresses.iter().map(|a| a.parse().expect("an address"));
                parsed.map(|ip| SocketAddr::new(ip, 0)).collect()
            })
            .ok_or_else(|| io::Error::other("no such name"));
        Box::pin(async move { found })
    })
}

/// The future result of [`names`].
pub type Resolution = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Sends `GET path` to `addr` and returns the complete answer, head included.
pub async fn get(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    let reading = stream.read_to_string(&mut answer);
    timeout(TOO_LATE, reading)
        .await
        .expect("an answer in time")
        .expect("text");
    answer
}

/// An answer that takes longer will not come.
const TOO_LATE: Duration = Duration::from_secs(10);

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

/// An HTTP server with scripted answers that records its requests.
pub struct Stub {
    addr: SocketAddr,
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
        let (listener, addr) = listen().await;
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (seen, answer) = (requests.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer) = (seen.clone(), answer.clone());
                tokio::spawn(async move { answer_one(stream, &seen, &*answer).await });
            }
        });
        Self { addr, requests }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The requests received so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("not poisoned").clone()
    }
}

/// One request per connection.
async fn answer_one(
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
