//! A private PostgreSQL on a free loopback port, with its data in a temporary folder.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::process::{cpu_s, output_of};
use super::support::port::free_port;

/// A running PostgreSQL, stopped on drop.
pub(crate) struct Postgres {
    server: Child,
    port: u16,
    _folder: TempDir,
}

impl Postgres {
    /// `programs` is the folder with `initdb` and `postgres`. With its defaults every commit is on
    /// disk when it is answered.
    pub(crate) fn start(programs: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // PostgreSQL refuses to be root.
        let is_root = output_of("id", &["-u"]).trim() == "0";
        if is_root {
            output_of(
                "chown",
                &["nobody:nogroup", folder.path().to_str().expect("a path")],
            );
        }
        let run = |program: &str| {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL"]);
            if is_root {
                command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]);
            }
            command
                .arg(programs.join(program))
                .arg("-D")
                .arg(folder.path().join("data"));
            command
                .current_dir(folder.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command
        };
        // The user that the sync engine expects.
        let made = run("initdb")
            .args(["--username", "postgres", "--auth", "trust"])
            .status()
            .expect("initdb");
        assert!(made.success(), "initdb: {made}");
        let port = free_port();
        let mut server = run("postgres");
        server.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k", ""]);
        let server = Self {
            server: server.spawn().expect("postgres"),
            port,
            _folder: folder,
        };
        let until = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "PostgreSQL does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Seconds of processor time so far, of all its running processes.
    pub(crate) fn cpu_s(&self) -> f64 {
        let server = self.server.id();
        let children = output_of("pgrep", &["-P", &server.to_string()]);
        children
            .lines()
            .filter_map(|line| line.parse().ok())
            .chain([server])
            .map(cpu_s)
            .sum()
    }
}

impl Drop for Postgres {
    /// A fast shutdown, which ends its child processes too.
    fn drop(&mut self) {
        output_of("kill", &["-INT", &self.server.id().to_string()]);
        let _ = self.server.wait();
    }
}
