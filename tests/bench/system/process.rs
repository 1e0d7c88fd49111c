//! Measured processes: started, measured, and stopped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::application;
use super::events::SECRET;
use super::load::{Plan, Sent};

/// A process, killed on drop. Its output goes to a file, as it goes to the journal under systemd.
pub(crate) struct Measured {
    child: Child,
    folder: TempDir,
}

/// Variables of a process.
pub(crate) type Variables = Vec<(&'static str, String)>;

/// A load generator that has prepared its requests and waits for the start.
pub(crate) struct Loaded {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

const TIMEOUT: Duration = Duration::from_secs(60);

impl Measured {
    /// `revwatch serve --roles …`, ready.
    pub(crate) fn revwatch(variables: &Variables, roles: &str) -> (Self, Started) {
        let process = Self::spawn(
            variables,
            env!("CARGO_BIN_EXE_revwatch"),
            &["serve", "--roles", roles],
        );
        let text = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let admin = text(&process.wait_for("started"), "admin");
        let webhooks = if roles.contains("ingest") {
            text(&process.wait_for("accepting webhooks"), "listen")
        } else {
            String::new()
        };
        (process, Started { admin, webhooks })
    }

    /// One of this program's other parts, with its address.
    pub(crate) fn part(part: &str, variables: &Variables) -> (Self, String) {
        let process = Self::spawn_part(part, variables);
        let listen = process.listens();
        (process, listen)
    }

    /// One of this program's other parts, which measures itself and ends; returns its result.
    pub(crate) fn job(part: &str, variables: &Variables) -> (Self, Value) {
        let process = Self::spawn_part(part, variables);
        let done = process.wait_for("done");
        (process, done)
    }

    /// One of this program's other parts.
    pub(crate) fn spawn_part(part: &str, variables: &Variables) -> Self {
        let program = std::env::current_exe().expect("this program");
        Self::spawn(variables, program.to_str().expect("a path"), &[part])
    }

    /// Any program.
    pub(crate) fn spawn(variables: &Variables, program: &str, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let output = std::fs::File::create(folder.path().join("output")).expect("a file");
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", program])
            .args(args)
            .env_clear()
            .envs([
                ("STRIPE_WEBHOOK_SECRET", SECRET),
                ("REVWATCH_APP_WEBHOOK_SECRET", application::SECRET),
                ("REVWATCH_LISTEN", "127.0.0.1:0"),
                ("REVWATCH_ADMIN_LISTEN", "127.0.0.1:0"),
            ]);
        command.envs(variables.iter().cloned()).stdin(Stdio::null());
        command
            .stdout(output.try_clone().expect("a file"))
            .stderr(output);
        Self {
            child: command
                .spawn()
                .expect("setpriv (package util-linux) can be started"),
            folder,
        }
    }

    /// The first line of JSON with this message.
    pub(crate) fn wait_for(&self, message: &str) -> Value {
        let until = Instant::now() + TIMEOUT;
        loop {
            let output =
                std::fs::read_to_string(self.folder.path().join("output")).unwrap_or_default();
            let lines = output
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(line) = { lines }.find(|line| line["message"] == message) {
                return line;
            }
            assert!(Instant::now() < until, "no line with {message:?}: {output}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The address that a program prints.
    pub(crate) fn listens(&self) -> String {
        self.wait_for("listening")["listen"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Seconds of processor time so far.
    pub(crate) fn cpu_s(&self) -> f64 {
        cpu_s(self.child.id())
    }

    /// Megabytes in memory.
    pub(crate) fn rss_mb(&self) -> f64 {
        rss_mb(self.child.id())
    }

    /// The most megabytes that it had in memory since [`Self::forget_peak`].
    pub(crate) fn peak_mb(&self) -> f64 {
        memory_mb(self.child.id(), "VmHWM:")
    }

    /// Lets the peak be what it has in memory now. Source: proc(5), `clear_refs`.
    pub(crate) fn forget_peak(&self) {
        let path = format!("/proc/{}/clear_refs", self.child.id());
        std::fs::write(path, "5").expect("a process of this user");
    }

    /// Waits until it has exited successfully.
    pub(crate) fn ends(mut self) {
        let status = self.child.wait().expect("a child");
        let output =
            || std::fs::read_to_string(self.folder.path().join("output")).unwrap_or_default();
        assert!(status.success(), "{status}: {}", output());
    }
}

/// The addresses of a revwatch process.
#[derive(Debug, Clone)]
pub(crate) struct Started {
    pub(crate) admin: String,
    pub(crate) webhooks: String,
}

impl Drop for Measured {
    /// Stops it gracefully: a killed worker keeps its partitions for a while.
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .stderr(Stdio::null())
            .status();
        let until = Instant::now() + TIMEOUT;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Loaded {
    /// Prepares all requests of `plan`.
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(std::env::current_exe().expect("this program"))
            .arg("load");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv");
        let (input, output) = (
            child.stdin.take().expect("a pipe"),
            child.stdout.take().expect("a pipe"),
        );
        let mut loaded = Self {
            child,
            input,
            output: BufReader::new(output),
        };
        loaded.send_line(&serde_json::to_string(plan).expect("JSON"));
        assert_eq!(loaded.receive().trim(), "ready");
        loaded
    }

    /// Sends all requests.
    pub(crate) fn send(mut self) -> Sent {
        self.send_line("go");
        serde_json::from_str(&self.receive()).expect("the result")
    }

    fn send_line(&mut self, line: &str) {
        writeln!(self.input, "{line}")
            .and_then(|()| self.input.flush())
            .expect("the load generator listens");
    }

    fn receive(&mut self) -> String {
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .expect("the load generator answers");
        line
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends one line to the process that started this part.
pub(crate) fn print_line(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .expect("the parent listens");
}

/// Standard output of a small program.
pub(crate) fn output_of(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("it can be started");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Seconds of processor time of a process. Source: proc(5); `utime` and `stime`, in hundredths.
pub(crate) fn cpu_s(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum();
    ticks / 100.0
}

/// Megabytes that a process has in memory.
pub(crate) fn rss_mb(process: u32) -> f64 {
    memory_mb(process, "VmRSS:")
}

fn memory_mb(process: u32, what: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let kilobytes = status.lines().find_map(|line| {
        line.strip_prefix(what)?
            .trim()
            .split(' ')
            .next()?
            .parse()
            .ok()
    });
    kilobytes.unwrap_or(0.0) / 1024.0
}
