//! A private RabbitMQ node on free loopback ports, with its data in a temporary folder. It ends
//! with the test, however the test ends.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use lapin::{Connection, ConnectionProperties};
use secrecy::SecretString;
use tempfile::TempDir;

use super::port::free_port;

/// A RabbitMQ, running or (between `kill9` and `restart`) dead.
pub(crate) struct RabbitServer {
    folder: TempDir,
    amqp_port: u16,
    dist_port: u16,
    epmd_port: u16,
    /// The number of virtual hosts given out.
    taken: AtomicU32,
    broker: Mutex<Option<Process>>,
    /// Erlang's port mapper, dropped after the broker. A node that joined a cluster uses the other
    /// node's.
    _epmd: Option<Process>,
}

/// Debian's package has the scripts here; `rabbitmq-server` in the path requires its own user.
const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";

/// Virtual hosts created at the start: a test that takes one has an empty RabbitMQ.
const VIRTUAL_HOSTS: u32 = 32;
const PASSWORD: &str = "pa55-of-the-test";
const READY_WITHIN: Duration = Duration::from_secs(60);

impl RabbitServer {
    /// The server shared by tests that do not disturb it; it ends with the last of them.
    pub(crate) async fn shared() -> Arc<Self> {
        static SHARED: tokio::sync::Mutex<Weak<RabbitServer>> =
            tokio::sync::Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(Self::start().await);
        *shared = Arc::downgrade(&server);
        server
    }

    /// Starts a server and waits until it accepts connections.
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// The same with additional configuration.
    pub(crate) async fn start_with(extra: &str) -> Self {
        let server = program("rabbitmq-server");
        assert!(
            server.exists(),
            "{} is missing: these tests run against a real RabbitMQ. \
             Install it with `apt-get install rabbitmq-server`, or let `tests/run` do it.",
            server.display()
        );
        let folder = TempDir::with_prefix("revwatch-rabbitmq-").expect("a temporary folder");
        let epmd_port = free_port();
        let mut epmd = command(Path::new("epmd"), folder.path());
        epmd.args(["-address", "127.0.0.1", "-port", &epmd_port.to_string()]);
        let server = Self::new(folder, epmd_port, Some(Process::spawn(epmd)));
        server.write_config(extra);
        server.restart().await;
        server
    }

    /// Starts another node of this node's cluster.
    pub(crate) async fn start_replica(&self, extra: &str) -> Self {
        const COOKIE: &str = ".erlang.cookie";
        let folder = TempDir::with_prefix("revwatch-rabbitmq-").expect("a temporary folder");
        std::fs::copy(self.path(COOKIE), folder.path().join(COOKIE))
            .expect("the cookie, with its permissions");
        let server = Self::new(folder, self.epmd_port, None);
        let nodes = [self.node(), server.node()];
        let nodes = (1..)
            .zip(&nodes)
            .map(|(n, node)| format!("cluster_formation.classic_config.nodes.{n} = {node}\n"));
        let nodes: String = nodes.collect();
        server.write_config(&format!(
            "cluster_formation.peer_discovery_backend = classic_config\n{nodes}{extra}"
        ));
        server.restart().await;
        server
    }

    fn new(folder: TempDir, epmd_port: u16, epmd: Option<Process>) -> Self {
        Self {
            amqp_port: free_port(),
            dist_port: free_port(),
            epmd_port,
            taken: AtomicU32::new(0),
            broker: Mutex::new(None),
            _epmd: epmd,
            folder,
        }
    }

    /// The URL of an unused virtual host.
    pub(crate) fn url(&self) -> SecretString {
        let taken = self.taken.fetch_add(1, Ordering::SeqCst);
        assert!(
            taken < VIRTUAL_HOSTS,
            "more than {VIRTUAL_HOSTS} virtual hosts requested: raise VIRTUAL_HOSTS"
        );
        SecretString::from(self.url_of(taken, PASSWORD))
    }

    /// The URL of an existing virtual host with a wrong password.
    pub(crate) fn url_with_wrong_password(&self) -> SecretString {
        SecretString::from(self.url_of(0, "wr0ng"))
    }

    /// The process id.
    pub(crate) fn process(&self) -> u32 {
        self.broker
            .lock()
            .expect("no panic while locked")
            .as_ref()
            .expect("the server runs")
            .child
            .id()
    }

    /// `host:port`
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.amqp_port)
    }

    /// Kills the process, as in a power failure. Its data stays.
    pub(crate) fn kill9(&self) {
        self.broker.lock().expect("no panic while locked").take();
    }

    /// Restarts the server on the same data and waits until it accepts connections.
    pub(crate) async fn restart(&self) {
        let deadline = Instant::now() + READY_WITHIN;
        let broker = Process::spawn(self.broker_command());
        *self.broker.lock().expect("no panic while locked") = Some(broker);
        while !self.takes_connections().await {
            let gone = self
                .broker
                .lock()
                .expect("no panic while locked")
                .as_mut()
                .is_none_or(Process::has_ended);
            assert!(!gone, "RabbitMQ ended instead of starting:\n{}", self.log());
            assert!(
                Instant::now() < deadline,
                "RabbitMQ did not start within {READY_WITHIN:?}:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until RabbitMQ has stored the metadata of its stream. This takes seconds after the
    /// first declaration; if it is killed before, RabbitMQ 3.10 never restores its streams.
    pub(crate) async fn settle(&self) {
        let names = self
            .path("mnesia")
            .join(self.node())
            .join("coordination")
            .join(self.node())
            .join("names.dets");
        let deadline = Instant::now() + READY_WITHIN;
        let name = b"rabbit_stream_coordinator";
        while !std::fs::read(&names)
            .unwrap_or_default()
            .windows(name.len())
            .any(|window| window == name)
        {
            assert!(
                Instant::now() < deadline,
                "no stream in {} within {READY_WITHIN:?}",
                names.display()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Stops the process with SIGSTOP: connections stay open, nothing responds.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Continues a frozen process.
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    /// Runs `rabbitmqctl`, and returns what it prints.
    pub(crate) async fn ctl(&self, arguments: &[&str]) -> String {
        let mut ctl = self.erlang_command(&program("rabbitmqctl"));
        ctl.args(["-n", &self.node()]).args(arguments);
        let output = tokio::task::spawn_blocking(move || {
            ctl.stdout(Stdio::piped()).stderr(Stdio::piped()).output()
        });
        let output = output
            .await
            .expect("no panic")
            .expect("rabbitmqctl can be started");
        assert!(
            output.status.success(),
            "rabbitmqctl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn signal(&self, signal: &str) {
        send(signal, &self.process().to_string());
    }

    fn url_of(&self, virtual_host: u32, password: &str) -> String {
        format!(
            "amqp://revwatch:{password}@{}/t{virtual_host}",
            self.address()
        )
    }

    async fn takes_connections(&self) -> bool {
        let url = self.url_of(0, PASSWORD);
        let connecting = Connection::connect(&url, ConnectionProperties::default());
        match tokio::time::timeout(Duration::from_secs(5), connecting).await {
            Ok(Ok(connection)) => {
                let _ = connection.close(200, "ready".into()).await;
                true
            }
            _ => false,
        }
    }

    fn write_config(&self, extra: &str) {
        let hosts: Vec<String> = (0..VIRTUAL_HOSTS)
            .map(|n| format!(r#"{{"name":"t{n}"}}"#))
            .collect();
        let permissions: Vec<String> = (0..VIRTUAL_HOSTS)
            .map(|n| format!(r#"{{"user":"revwatch","vhost":"t{n}","configure":".*","write":".*","read":".*"}}"#))
            .collect();
        let definitions = format!(
            r#"{{"users":[{{"name":"revwatch","password":"{PASSWORD}","tags":"administrator"}}],
                "vhosts":[{}],"permissions":[{}]}}"#,
            hosts.join(","),
            permissions.join(",")
        );
        let config = format!(
            "listeners.tcp.1 = {}\nload_definitions = {}\ndisk_free_limit.absolute = 1MB\nlog.file.level = warning\n{extra}",
            self.address(),
            self.path("definitions.json").display()
        );
        std::fs::write(self.path("definitions.json"), definitions)
            .expect("a file in a temporary folder");
        std::fs::write(self.path("rabbitmq.conf"), config).expect("a file in a temporary folder");
        std::fs::write(self.path("enabled_plugins"), "[].\n")
            .expect("a file in a temporary folder");
    }

    fn broker_command(&self) -> Command {
        let mut broker = self.erlang_command(&program("rabbitmq-server"));
        broker
            // Makes the script exec the Erlang machine instead of supervising it, so that the
            // process id is the server's.
            .env("RABBITMQ_ALLOW_INPUT", "true")
            .args(["-noinput", "-start_epmd", "false"])
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1}",
            )
            .env("RABBITMQ_DIST_PORT", self.dist_port.to_string())
            .env("RABBITMQ_CONFIG_FILE", self.path("rabbitmq.conf"))
            .env(
                "RABBITMQ_ENABLED_PLUGINS_FILE",
                self.path("enabled_plugins"),
            )
            .env("RABBITMQ_MNESIA_BASE", self.path("mnesia"))
            .env("RABBITMQ_LOG_BASE", self.path("log"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", self.path("generated"))
            .env("RABBITMQ_SCHEMA_DIR", self.path("schema"))
            .env("RABBITMQ_PLUGINS_EXPAND_DIR", self.path("plugins"));
        broker
    }

    fn erlang_command(&self, program: &Path) -> Command {
        let mut erlang = command(program, self.folder.path());
        erlang
            .env("RABBITMQ_NODENAME", self.node())
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("ERL_EPMD_PORT", self.epmd_port.to_string());
        erlang
    }

    fn node(&self) -> String {
        format!("revwatch{}@localhost", self.amqp_port)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        let logs = std::fs::read_dir(self.path("log"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| read(entry.path()));
        std::iter::once(read(self.path("output")))
            .chain(logs)
            .collect()
    }
}

/// A process group that is killed on drop.
struct Process {
    child: Child,
}

impl Process {
    fn spawn(mut command: Command) -> Self {
        command.process_group(0);
        // The kernel kills the process when the *thread* that started it ends, so it is started by
        // a thread that never ends.
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _ = send.send(command.spawn());
            loop {
                std::thread::park();
            }
        });
        let child = receive.recv().expect("the thread answers");
        Self {
            child: child.expect("setpriv (package util-linux) can be started"),
        }
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        send("KILL", &format!("-{}", self.child.id()));
        let _ = self.child.kill();
        // Returns quickly: SIGKILL cannot be ignored.
        let _ = self.child.wait();
    }
}

/// A program of RabbitMQ. `tests/run --servers` names another folder.
#[expect(
    clippy::disallowed_methods,
    reason = "no setting of revwatch: it is about the tests themselves"
)]
fn program(name: &str) -> PathBuf {
    let folder = std::env::var_os("REVWATCH_TEST_RABBITMQ").unwrap_or_else(|| PROGRAMS.into());
    Path::new(&folder).join(name)
}

/// A command that ends with this process and does not see the user's home or settings.
#[expect(clippy::disallowed_methods, reason = "handed on, not a setting")]
fn command(program: &Path, home: &Path) -> Command {
    let output = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(home.join("output"));
    let output = output.expect("a file in a temporary folder");
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("LANG", "C.UTF-8")
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a file handle"))
        .stderr(output);
    command
}

/// `target` is a process id, or the negated id of a process group. `kill` is a shell built-in.
fn send(signal: &str, target: &str) {
    let script = format!("kill -s {signal} -- {target}");
    let _ = Command::new("sh")
        .args(["-c", &script])
        .stderr(Stdio::null())
        .status();
}
