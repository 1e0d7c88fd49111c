//! The real binary, started by a test and ended with it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use revwatch_core::signature::SigningKey;
use serde_json::Value;

use super::wait::until_blocking;

/// The signing secret of every endpoint under test.
pub(crate) const SECRET: &str = "whsec_test_only";

/// All that a test tells happened after revwatch began.
pub(crate) const BEGAN_LONG_AGO: (&str, &str) = ("REVWATCH_BEGAN", "1970-01-01T00:00:00Z");

/// Far more than any command needs: one that waits for ever must fail its test, not stop all of them.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(180);

/// The variables that define where a deployment keeps its data.
pub(crate) type Variables = Vec<(String, String)>;

/// One process.
pub(crate) struct Revwatch {
    child: Child,
    started: Value,
    webhooks: Option<SocketAddr>,
    log: Arc<Mutex<Vec<Value>>>,
    reader: Option<JoinHandle<()>>,
}

impl Revwatch {
    /// `revwatch serve --roles …` with listeners on free ports; returns once it is ready.
    pub(crate) fn serve(variables: &Variables, roles: &str) -> Self {
        let mut process = Self::spawn(variables, roles);
        process.has_started(roles);
        process
    }

    /// The same, without waiting until it is ready.
    pub(crate) fn spawn(variables: &Variables, roles: &str) -> Self {
        let mut child = command(variables)
            .args(["serve", "--roles", roles])
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("revwatch starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().expect("a pipe"));
        let written = log.clone();
        let reader = std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                written
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
            }
        });
        Self {
            child,
            started: Value::Null,
            webhooks: None,
            log,
            reader: Some(reader),
        }
    }

    /// Waits until it is ready.
    pub(crate) fn has_started(&mut self, roles: &str) {
        self.started = self.wait_for("started");
        if roles.contains("ingest") {
            let line = self.wait_for("accepting webhooks");
            self.webhooks = line["listen"].as_str().and_then(|addr| addr.parse().ok());
        }
    }

    /// The URL of `path` on the public listener.
    pub(crate) fn url(&self, path: &str) -> String {
        format!(
            "http://{}{path}",
            self.webhooks.expect("the process has the ingest role")
        )
    }

    /// The metrics page, if the process answers.
    pub(crate) async fn metrics_page(&self) -> Option<String> {
        let answer = reqwest::get(self.admin("/metrics")).await.ok()?;
        answer.text().await.ok()
    }

    /// The value of one series, `name{label="value"}`, if it is on the metrics page.
    pub(crate) async fn metric(&self, series: &str) -> Option<f64> {
        let page = self.metrics_page().await?;
        page.lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// The URL of `path` on the admin listener.
    pub(crate) fn admin(&self, path: &str) -> String {
        format!(
            "http://{}{path}",
            self.started["admin"].as_str().expect("an address")
        )
    }

    /// Log lines with this message so far.
    pub(crate) fn logged(&self, message: &str) -> Vec<Value> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter()
            .filter(|line| line["message"] == message)
            .cloned()
            .collect()
    }

    /// All log lines so far.
    pub(crate) fn log(&self) -> Vec<Value> {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Kills the process.
    pub(crate) fn kill9(mut self) {
        self.child.kill().expect("it was running");
        self.child.wait().expect("it has ended");
    }

    /// Sends SIGHUP, to reload the settings.
    pub(crate) fn hang_up(&self) {
        self.signal("-HUP");
    }

    /// Whether the process handles SIGHUP.
    pub(crate) fn handles_hangups(&self) -> bool {
        const HANGUP: u64 = 1;
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        caught.is_some_and(|mask| {
            u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & HANGUP != 0)
        })
    }

    /// Stops it and checks that it exits successfully.
    pub(crate) fn stop(self) {
        self.stop_and_read();
    }

    /// The same; returns the complete log.
    pub(crate) fn stop_and_read(mut self) -> Vec<Value> {
        self.signal("-TERM");
        let status = until_blocking("revwatch ends", || self.child.try_wait().expect("a child"));
        assert!(status.success(), "{status}");
        if let Some(reader) = self.reader.take() {
            reader.join().expect("no panic");
        }
        self.log()
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([name, &self.child.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(sent.success());
    }

    fn wait_for(&self, message: &str) -> Value {
        until_blocking(&format!("revwatch logs {message:?}"), || {
            let found = self.logged(message).pop();
            assert!(
                found.is_some() || !self.has_ended(),
                "revwatch ended: {:?}",
                self.log
            );
            found
        })
    }

    fn has_ended(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        stat.map_or(true, |text| {
            text.rsplit(')')
                .next()
                .is_some_and(|rest| rest.trim_start().starts_with('Z'))
        })
    }
}

impl Drop for Revwatch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end.
pub(crate) fn cli(variables: &Variables, args: &[&str]) -> Output {
    let mut command = command(variables);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().expect("revwatch runs");
    let id = child.id();
    let (ended, ending) = std::sync::mpsc::channel();
    std::thread::spawn(move || ended.send(child.wait_with_output()));
    match ending.recv_timeout(COMMAND_TIMEOUT) {
        Ok(output) => output.expect("revwatch runs"),
        // It has not ended, so the id is still its.
        Err(_) => {
            let _ = Command::new("kill")
                .args(["-KILL", &id.to_string()])
                .status();
            panic!("revwatch {args:?} did not end within {COMMAND_TIMEOUT:?}");
        }
    }
}

/// Starts a command that the test kills.
pub(crate) fn begin(variables: &Variables, args: &[&str]) -> Child {
    let mut command = command(variables);
    command
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().expect("revwatch starts")
}

/// The standard output of a command that must succeed. One that shows state refuses while the store is
/// incomplete, as a new one is at first: it is repeated.
pub(crate) fn print(variables: &Variables, args: &[&str]) -> String {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    until_blocking(&format!("revwatch {args:?} shows state"), || {
        let output = cli(variables, args);
        let (printed, error) = (text(output.stdout), text(output.stderr));
        let is_incomplete = error.contains("--partial shows what is there");
        assert!(
            output.status.success() || is_incomplete,
            "revwatch {args:?}: {error}\n{printed}"
        );
        output.status.success().then_some(printed)
    })
}

/// `revwatch metrics --json`.
pub(crate) fn metrics(variables: &Variables) -> Value {
    serde_json::from_str(&print(variables, &["metrics", "--json"])).expect("JSON")
}

/// Posts one event signed now; returns the status.
pub(crate) async fn post(
    client: &reqwest::Client,
    url: &str,
    body: &str,
) -> Result<u16, reqwest::Error> {
    post_signed(client, url, body, SECRET).await
}

/// The same, signed with this secret.
pub(crate) async fn post_signed(
    client: &reqwest::Client,
    url: &str,
    body: &str,
    secret: &str,
) -> Result<u16, reqwest::Error> {
    let key = SigningKey::new(secret).expect("a secret");
    let header = key.header(jiff::Timestamp::now().as_second(), body.as_bytes());
    let request = client
        .post(url)
        .header("stripe-signature", header)
        .header("content-type", "application/json");
    Ok(request
        .body(Bytes::from(body.to_owned()))
        .send()
        .await?
        .status()
        .as_u16())
}

/// The process sees nothing of the tester's environment and ends with the test.
fn command(variables: &Variables) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(binary());
    command.env_clear();
    command.envs([
        // The audit needs a name.
        ("USER", "tester"),
        ("STRIPE_WEBHOOK_SECRET", SECRET),
        ("REVWATCH_LISTEN", "127.0.0.1:0"),
        ("REVWATCH_ADMIN_LISTEN", "127.0.0.1:0"),
    ]);
    command.envs(variables.iter().cloned());
    command
}

/// The binary under test: this version's, unless `REVWATCH_TEST_BINARY` names another one.
#[expect(
    clippy::disallowed_methods,
    reason = "no setting of revwatch: it is about the tests themselves"
)]
fn binary() -> std::ffi::OsString {
    let other = std::env::var_os("REVWATCH_TEST_BINARY");
    other.unwrap_or_else(|| env!("CARGO_BIN_EXE_revwatch").into())
}
