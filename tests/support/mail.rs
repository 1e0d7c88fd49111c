//! A private mail server: Debian's aiosmtpd on a free loopback port, with a mailbox in a temporary
//! folder that Python's own parser reads.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::port::free_port;
use super::wait::until_blocking;

/// Debian's packages are installed for the system's Python, which may not be the first in the path.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// Prints every mail of the Maildir at `sys.argv[1]`: headers and text.
const READ: &str = "
import email, email.policy, json, pathlib, sys
mails = []
for path in sorted(pathlib.Path(sys.argv[1], 'new').iterdir()):
    raw = path.read_bytes()
    mail = email.message_from_bytes(raw, policy=email.policy.default)
    headers = {name.lower(): str(value) for name, value in mail.items()}
    mails.append({'headers': headers, 'text': mail.get_content(), 'kind': mail.get_content_type(),
                  'charset': mail.get_content_charset(), 'defects': [str(d) for d in mail.defects],
                  'longest': max(map(len, raw.splitlines()))})
print(json.dumps(mails))
";

/// A running mail server.
pub(crate) struct MailServer {
    folder: TempDir,
    port: u16,
    child: Child,
}

impl MailServer {
    /// Starts the server and waits until it accepts connections.
    pub(crate) fn start() -> Self {
        let known = Command::new(PYTHON)
            .args(["-c", "import aiosmtpd"])
            .stderr(Stdio::null())
            .status();
        assert!(
            known.is_ok_and(|status| status.success()),
            "aiosmtpd is missing: apt-get install python3-aiosmtpd (tests/run lists the other requirements)"
        );
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let mut server = Self {
            child: spawn(&folder, port),
            folder,
            port,
        };
        server.wait();
        server
    }

    /// The URL for `SMTP_URL`.
    pub(crate) fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    /// Kills the server. Its mails stay.
    pub(crate) fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Restarts the server on the same port with the same mailbox.
    pub(crate) fn restart(&mut self) {
        self.kill9();
        self.child = spawn(&self.folder, self.port);
        self.wait();
    }

    /// The received mails: `headers` by lower-case names, `text`, `kind`, `charset`, `defects`, and
    /// the length of the longest line.
    pub(crate) fn mails(&self) -> Vec<Value> {
        let read = Command::new(PYTHON)
            .args(["-c", READ])
            .arg(self.folder.path().join("mails"))
            .output();
        let read = read.expect("Python runs");
        assert!(
            read.status.success(),
            "{}",
            String::from_utf8_lossy(&read.stderr)
        );
        serde_json::from_slice(&read.stdout).expect("JSON")
    }

    fn wait(&mut self) {
        until_blocking("the mail server answers", || {
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none(), "the mail server ended: {ended:?}");
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.kill9();
    }
}

fn spawn(folder: &TempDir, port: u16) -> Child {
    let mut command = Command::new("setpriv");
    command.args([
        "--pdeathsig",
        "KILL",
        PYTHON,
        "-m",
        "aiosmtpd",
        "--nosetuid",
    ]);
    command.args([
        "--listen",
        &format!("127.0.0.1:{port}"),
        "--class",
        "aiosmtpd.handlers.Mailbox",
    ]);
    command
        .arg(folder.path().join("mails"))
        .current_dir(folder.path());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
        .spawn()
        .expect("setpriv is missing: apt-get install util-linux")
}
