//! A private Prometheus on a free port, which ends with the test; and promtool.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::port::free_port;
use super::wait::until_blocking;

/// How often to retry the start if another process took the port.
const ATTEMPTS: usize = 5;

pub(crate) struct Prometheus {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Prometheus {
    /// Starts with this configuration file, which may name rule files; returns once the server
    /// responds.
    pub(crate) fn start(config: &str) -> Self {
        let installed = Command::new("prometheus")
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(
            installed.is_ok(),
            "prometheus is missing: apt-get install prometheus (tests/run lists the other requirements)"
        );
        for _ in 0..ATTEMPTS {
            let folder = tempfile::tempdir().expect("a folder");
            let port = free_port();
            std::fs::write(folder.path().join("prometheus.yml"), config).expect("written");
            let mut server = Self {
                child: spawn(folder.path(), port),
                port,
                folder,
            };
            if server.is_ready() {
                return server;
            }
        }
        panic!("prometheus did not start in {ATTEMPTS} attempts");
    }

    /// Queries the API; returns `data`, or the error.
    pub(crate) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let mut url = reqwest::Url::parse(&format!("http://127.0.0.1:{}/api/v1/{path}", self.port))
            .expect("an address");
        url.query_pairs_mut().extend_pairs(query);
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client");
        let answer = client.get(url).send().await.map_err(|e| e.to_string())?;
        let mut answer: Value = answer.json().await.map_err(|e| e.to_string())?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].take()),
            _ => Err(answer.to_string()),
        }
    }

    /// The current series of an expression, with their values.
    pub(crate) async fn query(&self, expr: &str) -> Result<Vec<Value>, String> {
        let data = self.get("query", &[("query", expr)]).await?;
        match data["resultType"].as_str() {
            Some("vector") => Ok(data["result"].as_array().cloned().unwrap_or_default()),
            _ => Ok(vec![data["result"].clone()]),
        }
    }

    fn is_ready(&mut self) -> bool {
        until_blocking("prometheus answers", || {
            if let Ok(Some(status)) = self.child.try_wait() {
                let log =
                    std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                eprintln!("prometheus ended with {status}:\n{log}");
                return Some(false);
            }
            std::net::TcpStream::connect(("127.0.0.1", self.port))
                .is_ok()
                .then_some(true)
        })
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs promtool with this standard input; returns its output and whether it succeeded.
pub(crate) fn promtool(args: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new("promtool")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is missing: apt-get install prometheus");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(input.as_bytes())
        .expect("read");
    let output = child.wait_with_output().expect("it ends");
    let text = [output.stdout, output.stderr]
        .map(|out| String::from_utf8_lossy(&out).into_owned())
        .concat();
    (output.status.success(), text)
}

fn spawn(folder: &Path, port: u16) -> Child {
    let log = std::fs::File::create(folder.join("log")).expect("a file");
    Command::new("setpriv")
        .args([
            "--pdeathsig",
            "KILL",
            "prometheus",
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
        ])
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("setpriv is missing: apt-get install util-linux")
}
