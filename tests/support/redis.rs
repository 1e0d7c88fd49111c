//! Private Redis servers: standalone, as a Cluster, behind Sentinel.
//!
//! They end with the thread that started them (`setpriv --pdeathsig`), so that nothing outlives a
//! killed test process: start them from the test's own thread, never from a pool's.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::{FromRedisValue, RedisResult};
use secrecy::SecretString;
use tempfile::TempDir;

use super::port::free_port;
use super::wait::until_blocking;

/// How often to retry the start if another process took the port.
const ATTEMPTS: usize = 5;

/// One redis-server with its own folder.
pub(crate) struct RedisServer {
    child: Child,
    port: u16,
    settings: Vec<String>,
    dir: TempDir,
}

impl RedisServer {
    /// A server as revwatch requires it: every write is on disk before it is answered.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with additional settings, such as `["--requirepass", "secret"]`; the last one
    /// applies.
    pub(crate) fn start_with(extra: &[&str]) -> Self {
        let usual = "--appendonly yes --appendfsync always --maxmemory-policy noeviction";
        let settings: Vec<String> = usual
            .split(' ')
            .chain(["--save", ""])
            .chain(extra.iter().copied())
            .map(str::to_owned)
            .collect();
        Self::start_on_free_port(|_| settings.clone())
    }

    /// A Sentinel that watches the server as `mymaster` and decides on failovers alone.
    pub(crate) fn start_sentinel(watched: &Self) -> Self {
        let watched = watched.port;
        Self::start_on_free_port(|dir| {
            let config = dir.path().join("sentinel.conf");
            let text = format!(
                "sentinel monitor mymaster 127.0.0.1 {watched} 1\nsentinel down-after-milliseconds mymaster 1000\n\
                 sentinel failover-timeout mymaster 5000\n"
            );
            std::fs::write(&config, text).expect("write sentinel.conf");
            vec![config.display().to_string(), "--sentinel".to_owned()]
        })
    }

    /// A replica of this server, in sync with it.
    pub(crate) fn start_replica(&self) -> Self {
        let replica = Self::start_with(&["--replicaof", "127.0.0.1", &self.port.to_string()]);
        until_blocking("the replica follows", || {
            let info: String = replica.run("INFO replication");
            info.contains("master_link_status:up").then_some(())
        });
        replica
    }

    fn start_on_free_port(settings: impl Fn(&TempDir) -> Vec<String>) -> Self {
        for _ in 0..ATTEMPTS {
            let dir = folder();
            let (settings, port) = (settings(&dir), free_port());
            let mut server = Self {
                child: spawn(&dir, port, &settings),
                port,
                settings,
                dir,
            };
            if server.is_ready() {
                return server;
            }
        }
        panic!("redis-server did not start in {ATTEMPTS} attempts");
    }

    /// The process id.
    #[allow(dead_code, reason = "only benchmarks ask")]
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// The address.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The value of a setting that it was started with.
    pub(crate) fn setting(&self, name: &str) -> &str {
        let mut settings = self.settings.iter().skip_while(|it| *it != name);
        settings.nth(1).expect("a setting with a value")
    }

    /// The URL for [`revwatch_storage::redis::RedisStore::connect`].
    pub(crate) fn url(&self) -> SecretString {
        format!("redis://127.0.0.1:{}/", self.port).into()
    }

    /// Sends a command directly to the server, words separated by spaces.
    pub(crate) fn run<T: FromRedisValue>(&self, words: &str) -> T {
        self.try_run(words)
            .unwrap_or_else(|err| panic!("{words}: {err}"))
    }

    /// Sends a command of words that may be any bytes.
    pub(crate) fn run_bytes(&self, words: &[Vec<u8>]) {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.port));
        let client = client.expect("an address");
        let mut connection = client.get_connection().expect("a connection");
        let mut cmd = redis::Cmd::new();
        cmd.arg(words).exec(&mut connection).expect("accepted");
    }

    pub(crate) fn try_run<T: FromRedisValue>(&self, words: &str) -> RedisResult<T> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.port))?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(5))?;
        let mut words = words.split(' ');
        let mut cmd = redis::cmd(words.next().unwrap_or_default());
        cmd.arg(words.collect::<Vec<_>>()).query(&mut connection)
    }

    /// Kills the server.
    pub(crate) fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Restarts it on the same port with the same data.
    pub(crate) fn restart(&mut self) {
        self.kill9();
        self.child = spawn(&self.dir, self.port, &self.settings);
        assert!(
            self.is_ready(),
            "redis-server did not start again on port {}",
            self.port
        );
    }

    /// Restarts it on the same port without its data.
    pub(crate) fn restart_empty(&mut self) {
        self.kill9();
        std::fs::remove_dir_all(self.dir.path().join("appendonlydir"))
            .expect("its data is removed");
        self.restart();
    }

    /// Restarts it on the same port without the latest data, as after a machine crash before the
    /// data was written, or after a failover to a lagging replica.
    pub(crate) fn restart_behind(&mut self, bytes: u64) {
        let length = self.appended().saturating_sub(bytes);
        self.restart_at(length);
    }

    /// The same, with the data up to this size of the append-only file.
    pub(crate) fn restart_at(&mut self, appended: u64) {
        self.kill9();
        let file = std::fs::File::options()
            .write(true)
            .open(self.append_file())
            .expect("opened");
        file.set_len(appended).expect("cut");
        self.restart();
    }

    /// The size of its append-only file.
    pub(crate) fn appended(&self) -> u64 {
        self.append_file().metadata().expect("its length").len()
    }

    fn append_file(&self) -> PathBuf {
        let files = std::fs::read_dir(self.dir.path().join("appendonlydir"))
            .expect("its data")
            .flatten();
        let newest = files
            .map(|file| file.path())
            .find(|path| path.to_string_lossy().contains(".incr."));
        newest.expect("an append-only file")
    }

    /// Waits until it responds; `false` if it ended instead.
    fn is_ready(&mut self) -> bool {
        until_blocking("redis-server answers", || {
            if let Ok(Some(status)) = self.child.try_wait() {
                let log =
                    std::fs::read_to_string(self.dir.path().join("redis.log")).unwrap_or_default();
                eprintln!("redis-server ended with {status}:\n{log}");
                return Some(false);
            }
            // A server with a password, or one that is loading, responds with an error.
            match self.try_run::<String>("PING") {
                Ok(_) => Some(true),
                Err(err) if err.kind() == redis::ErrorKind::AuthenticationFailed => Some(true),
                Err(err) if err.code() == Some("NOAUTH") => Some(true),
                Err(_) => None,
            }
        })
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// A Cluster of primaries without replicas.
pub(crate) struct RedisCluster {
    pub(crate) nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts the nodes, assigns the slots and waits until all nodes agree.
    pub(crate) fn start(size: usize) -> Self {
        Self::start_with(size, Vec::new)
    }

    /// The same with additional settings for each node.
    pub(crate) fn start_with(size: usize, extra: impl Fn() -> Vec<String>) -> Self {
        let nodes: Vec<RedisServer> = (0..size)
            .map(|_| {
                let (bus, extra) = (free_port().to_string(), extra());
                let cluster = [
                    "--cluster-enabled",
                    "yes",
                    "--cluster-node-timeout",
                    "5000",
                    "--cluster-port",
                    &bus,
                ];
                let extra = extra.iter().map(String::as_str);
                RedisServer::start_with(&cluster.into_iter().chain(extra).collect::<Vec<_>>())
            })
            .collect();
        const SLOTS: usize = 16_384;
        for (i, node) in nodes.iter().enumerate() {
            node.run::<()>(&format!("CLUSTER SET-CONFIG-EPOCH {}", i + 1));
            let (first, last) = (SLOTS * i / size, SLOTS * (i + 1) / size - 1);
            node.run::<()>(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"));
            let bus = node.setting("--cluster-port");
            nodes[0].run::<()>(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", node.port));
        }
        let cluster = Self { nodes };
        cluster.wait_until_ok();
        cluster
    }

    /// Waits until every node sees every slot assigned.
    pub(crate) fn wait_until_ok(&self) {
        let size = format!("cluster_size:{}", self.nodes.len());
        until_blocking("the cluster is formed", || {
            let agreed = self.nodes.iter().all(|node| {
                let info: String = node.try_run("CLUSTER INFO").unwrap_or_default();
                info.contains("cluster_state:ok") && info.contains(&size)
            });
            agreed.then_some(())
        });
    }

    /// The URL for [`revwatch_storage::redis::RedisStore::connect`]. One node is left out and must
    /// be discovered.
    pub(crate) fn url(&self) -> SecretString {
        let hosts: Vec<String> = self.nodes[1..]
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port))
            .collect();
        format!("redis-cluster://{}", hosts.join(",")).into()
    }

    /// Sends a command to every node.
    pub(crate) fn run_everywhere(&self, words: &str) {
        for node in &self.nodes {
            node.run::<()>(words);
        }
    }
}

fn spawn(dir: &TempDir, port: u16, settings: &[String]) -> Child {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "redis-server"])
        .args(settings);
    command.args([
        "--port",
        &port.to_string(),
        "--bind",
        "127.0.0.1",
        "--logfile",
        "redis.log",
    ]);
    command.arg("--dir").arg(dir.path()).current_dir(dir.path());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    assert!(
        Command::new("redis-server")
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .is_ok(),
        "redis-server is missing: apt-get install redis-server (tests/run lists the other requirements)"
    );
    command
        .spawn()
        .expect("setpriv is missing: apt-get install util-linux")
}

/// A folder in target/, named after this process; folders of ended processes are removed first.
fn folder() -> TempDir {
    static SWEEP: std::sync::Once = std::sync::Once::new();
    let root = env!("CARGO_TARGET_TMPDIR");
    SWEEP.call_once(|| {
        for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name
                .strip_prefix("redis-")
                .and_then(|rest| rest.split('-').next());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    });
    let prefix = format!("redis-{}-", std::process::id());
    tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir_in(root)
        .expect("a folder for redis-server")
}
