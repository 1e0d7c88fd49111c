//! localstripe, a public imitation of Stripe's API that others maintain: it makes its own objects and events, and
//! signs and posts its own webhooks. <https://pypi.org/project/localstripe/>

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use url::form_urlencoded::Serializer;

/// Any key that begins so is accepted.
pub(crate) const KEY: &str = "sk_test_never_shown";

/// A running server; it ends with the test.
pub(crate) struct Localstripe {
    server: Child,
    url: String,
    client: reqwest::Client,
}

impl Localstripe {
    pub(crate) fn start() -> Self {
        let python = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .with_file_name("localstripe")
            .join("bin/python");
        assert!(
            python.exists(),
            "{} is missing: tests/run makes it, with localstripe in it",
            python.display()
        );
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/support/serve_localstripe.py"
        );
        let mut server = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(python)
            .arg(script)
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python runs");
        let mut port = String::new();
        BufReader::new(server.stdout.take().expect("a pipe"))
            .read_line(&mut port)
            .expect("localstripe prints its port");
        let port: u16 = port.trim().parse().expect("localstripe has started");
        Self {
            server,
            url: format!("http://127.0.0.1:{port}"),
            client: reqwest::Client::new(),
        }
    }

    /// For `STRIPE_API_BASE`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// It posts every event to this URL from now on, signed with this secret.
    pub(crate) async fn add_webhook(&self, url: &str, secret: &str) {
        let form = [("url", url), ("secret", secret)];
        let request = self.request(Method::POST, "/_config/webhooks/revwatch");
        let response = request
            .body(encoded(&form))
            .send()
            .await
            .expect("an answer");
        assert!(response.status().is_success(), "{response:?}");
    }

    /// Creates or changes an object; returns it.
    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> Value {
        let request = self.request(Method::POST, path);
        answer(request.body(encoded(form))).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        answer(self.request(Method::GET, path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Value {
        answer(self.request(Method::DELETE, path)).await
    }

    /// Every object of a list.
    pub(crate) async fn all(&self, path: &str) -> Vec<Value> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let page = self.get(&format!("{path}{separator}limit=100")).await;
        assert_eq!(page["has_more"], false, "{path}");
        page["data"].as_array().expect("a list").clone()
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.url))
            .basic_auth(KEY, Some(""))
            .header("content-type", "application/x-www-form-urlencoded")
    }
}

impl Drop for Localstripe {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

async fn answer(request: RequestBuilder) -> Value {
    let response = request.send().await.expect("an answer");
    let (status, url) = (response.status(), response.url().path().to_owned());
    let text = response.text().await.expect("text");
    assert!(status.is_success(), "{url}: {status} {text}");
    serde_json::from_str(&text).expect("JSON")
}

fn encoded(form: &[(&str, &str)]) -> String {
    Serializer::new(String::new()).extend_pairs(form).finish()
}
