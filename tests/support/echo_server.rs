//! Peers that echo their input in every form of a bad response: parts of a request that must not be
//! logged must not reach the log through the response either.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Starts an HTTP peer; returns its base URL and its request counter.
pub(crate) async fn over_http() -> (String, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let router = Router::new().fallback(repeat).with_state(asked.clone());
    let addr = revwatch_test_servers::serve(router).await;
    (format!("http://{addr}"), asked)
}

async fn repeat(
    State(asked): State<Arc<AtomicUsize>>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    const STATUS: [u16; 6] = [200, 400, 403, 302, 500, 200];
    let n = asked.fetch_add(1, Ordering::SeqCst);
    let secret = headers
        .get("authorization")
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let bare = secret.rsplit(' ').next().unwrap_or_default();
    let echoed = format!("{uri} {headers:?} {body}");
    let text = match n % 3 {
        0 => {
            json!({"ok": false, "error": bare, "code": echoed, "message": echoed, "status": echoed})
                .to_string()
        }
        1 => echoed.clone(),
        _ => json!({"error": {"message": echoed, "code": bare}, "errors": [echoed]}).to_string(),
    };
    let status = StatusCode::from_u16(STATUS[n / 3 % STATUS.len()]).expect("a status");
    // Line breaks are not valid in a header.
    let place: String = echoed
        .chars()
        .filter(|c| c.is_ascii_graphic())
        .take(500)
        .collect();
    (
        status,
        [
            ("location", place.clone()),
            ("retry-after", "1".to_owned()),
            ("x-echoed", place),
        ],
        text,
    )
        .into_response()
}

/// Starts an SMTP peer that accepts a password, but no mail; returns its address.
pub(crate) fn over_smtp() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            std::thread::spawn(move || drop(converse(stream, n)));
        }
    });
    addr
}

fn converse(mut stream: TcpStream, n: usize) -> std::io::Result<()> {
    let lines = BufReader::new(stream.try_clone()?).lines();
    stream.write_all(b"220 parrot ESMTP\r\n")?;
    for line in lines {
        let line = line?;
        let answer = match line
            .split([' ', ':'])
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase()
            .as_str()
        {
            "EHLO" => "250-parrot\r\n250 AUTH PLAIN LOGIN".to_owned(),
            // The password is accepted every other time.
            "AUTH" if n % 2 == 1 => "235 welcome".to_owned(),
            "MAIL" => "250 fine".to_owned(),
            "QUIT" => "221 bye".to_owned(),
            _ => format!("550 5.1.1 {line}"),
        };
        stream.write_all(format!("{answer}\r\n").as_bytes())?;
    }
    Ok(())
}
