//! The processes of a deployment on one set of memory adapters: ingest, two workers and two
//! alerting replicas, each of which can be killed, stopped, stalled and started again.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;
use revwatch_alerting::notify::{EgressClient, SlackBot};
use revwatch_alerting::rule::Rule;
use revwatch_alerting::slack_actions::SlackActions;
use revwatch_alerting::{Alerting, PendingSettings, Turns, rules_file};
use revwatch_core::event_settings::EventSettings;
use revwatch_core::mode::Mode;
use revwatch_core::realm::Realm;
use revwatch_ingest::{Settings, Webhooks};
use revwatch_runtime::admin::Readiness;
use revwatch_runtime::config::Config;
use revwatch_runtime::reload::Reloadable;
use revwatch_runtime::supervise::Supervisor;
use revwatch_runtime::telemetry::{Metrics, Tracer};
use revwatch_storage::memory::{Faults, Gate, GateState, Memory, NumberedIds, VirtualClock};
use revwatch_worker::resolver::Resolver;
use revwatch_worker::{BatchPermits, OtherModeCounts, Worker};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::slack::{Slack, SlackOfProcess, TOKEN};
use super::stripe::Sent;
use super::trace::{Trace, lock};

pub(super) const PARTITIONS: u32 = 4;
pub(super) const SECRET: &str = "whsec_simulation";
/// The virtual time at which a run begins: 2026-09-21.
pub(super) const START_S: i64 = 1_790_000_000;
/// To one channel of Slack.
const MESSAGES_PER_SECOND: f64 = 20.0;

const RULES: &str = r#"
[[rule]]
name = "charges_lost"
kind = "condition"
condition = "charges_lost"
severity = "critical"
route = "critical"
title = "A provider can no longer accept charges"
actions = ["Call the provider."]

[[rule]]
name = "payout_failed"
kind = "condition"
condition = "payout_failed"
severity = "high"
route = "payouts"
title = "A payout failed"
actions = ["Read the reason."]

[[rule]]
name = "dispute_open"
kind = "condition"
condition = "dispute_open"
severity = "high"
route = "payouts"
title = "A charge is disputed"
actions = ["Answer the dispute."]

[[rule]]
name = "invoice_payment_failed"
kind = "condition"
condition = "invoice_payment_failed"
after = "10m"
severity = "medium"
route = "billing"
title = "An invoice is not paid"
actions = ["Write to the customer."]

[[rule]]
name = "trial_ending"
kind = "condition"
condition = "trial_ending"
severity = "medium"
route = "billing"
title = "A trial ends soon"
actions = ["Write to the customer."]
keep_firing_for = "5s"

[[rule]]
name = "mrr_incomplete"
kind = "condition"
condition = "mrr_incomplete"
severity = "medium"
route = "billing"
title = "MRR is not known"
actions = ["See why."]
"#;

/// High alerts have notices while Slack fails.
const SETTINGS: &str = "stripe_webhook_secret = \"whsec_simulation\"\n\
    [worker]\nbatch = 8\nmember_seconds = 3.0\nrecovery_margin_seconds = 120.0\n\
    [slack.channels]\ndefault = \"#alerts-critical\"\npayouts = \"C0000000001\"\nbilling = \"C0000000003\"\n\
    [alerting]\ntick_seconds = 0.5\nlease_seconds = 6.0\ngroup_above = 4\ngroup_open = \"20s\"\n\
    [alerting.severity.high]\nrespond = \"30s\"\nescalate = [{ after = \"20s\", notify = [\"slack\"] }]\n";

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Ingest,
    Worker,
    Alerting,
}

/// The processes, by index.
pub(super) const PROCESSES: [Role; 5] = [
    Role::Ingest,
    Role::Worker,
    Role::Worker,
    Role::Alerting,
    Role::Alerting,
];

/// The deployment and its surroundings.
pub(super) struct World {
    pub(super) trace: Trace,
    /// Of the processes. The store's own clock never jumps.
    pub(super) clock: Arc<VirtualClock>,
    pub(super) memory: Memory,
    pub(super) faults: Faults,
    pub(super) slack: Arc<Slack>,
    pub(super) sent: Sent,
    ids: Arc<NumberedIds>,
    config: &'static Config,
    running: Mutex<[Option<Process>; PROCESSES.len()]>,
}

struct Process {
    gate: Gate,
    shutdown: CancellationToken,
    killed: CancellationToken,
    task: Option<JoinHandle<()>>,
    webhooks: Option<Arc<Webhooks>>,
}

impl World {
    /// Nothing runs yet.
    pub(super) fn new(rng: &mut Rng) -> Arc<Self> {
        let clock = || {
            let start = Timestamp::from_second(START_S).expect("a time");
            Arc::new(VirtualClock::starting_at(start))
        };
        let (trace, memory) = (Trace::begin(), Memory::new(PARTITIONS, clock()));
        let clock = clock();
        Arc::new(Self {
            slack: Slack::new(rng.u64(..), clock.clone(), trace.clone()),
            trace,
            clock,
            faults: memory.faults(),
            memory,
            sent: Sent::default(),
            ids: Arc::default(),
            config: config(),
            running: Mutex::default(),
        })
    }

    /// Starts a process if it does not run.
    pub(super) fn start(&self, index: usize) {
        let running = &mut lock(&self.running)[index];
        if running.is_some() {
            return;
        }
        self.trace.add(&format!("start {index}"));
        let handle = Arc::new(self.memory.reopen());
        let (gate, shutdown) = (handle.gate(), CancellationToken::new());
        let (mut task, mut webhooks) = (None, None);
        match PROCESSES[index] {
            Role::Ingest => webhooks = Some(Arc::new(self.ingest(handle))),
            Role::Worker => {
                let role = revwatch_worker::run(self.worker(handle), shutdown.clone());
                task = Some(tokio::spawn(role));
            }
            Role::Alerting => {
                let role = revwatch_alerting::run(self.alerting(handle), shutdown.clone());
                task = Some(tokio::spawn(role));
            }
        }
        *running = Some(Process {
            gate,
            shutdown,
            killed: CancellationToken::new(),
            task,
            webhooks,
        });
    }

    /// Kills a process: what it was doing has no further effect.
    pub(super) fn kill(&self, index: usize) {
        if let Some(process) = lock(&self.running)[index].take() {
            self.trace.add(&format!("kill {index}"));
            process.gate.set(GateState::Killed);
            process.killed.cancel();
            if let Some(task) = process.task {
                task.abort();
            }
        }
    }

    /// Asks a process to stop; it ends in its own time.
    pub(super) fn stop(&self, index: usize) {
        if let Some(process) = lock(&self.running)[index].take() {
            self.trace.add(&format!("stop {index}"));
            process.gate.set(GateState::Open);
            process.shutdown.cancel();
        }
    }

    /// Stalls a process, or lets it continue.
    pub(super) fn stall(&self, index: usize, stalled: bool) {
        if let Some(process) = &lock(&self.running)[index] {
            self.trace.add(&format!("stall {index} {stalled}"));
            process.gate.set(if stalled {
                GateState::Stalled
            } else {
                GateState::Open
            });
        }
    }

    /// The running ingest, and the token that is cancelled when it is killed.
    pub(super) fn webhooks(&self) -> Option<(Arc<Webhooks>, CancellationToken)> {
        let running = lock(&self.running);
        let process = running[0].as_ref()?;
        Some((process.webhooks.clone()?, process.killed.clone()))
    }

    fn ingest(&self, queue: Arc<Memory>) -> Webhooks {
        let settings = Settings {
            listen: ([127, 0, 0, 1], 0).into(),
            trusted_proxies: Default::default(),
            endpoints: self.config.webhook_endpoints().expect("an endpoint"),
            limits: self.config.limits.clone(),
            queue,
            clock: self.clock.clone(),
            ids: self.ids.clone(),
            metrics: Metrics::new(),
            tracer: Tracer::default(),
        };
        Webhooks::new(settings).expect("valid settings")
    }

    pub(super) fn worker(&self, memory: Arc<Memory>) -> Worker {
        let readiness = Readiness::default();
        let resolver = self.resolver(memory.clone());
        Worker {
            queue: memory.clone(),
            store: memory,
            clock: self.clock.clone(),
            ids: self.ids.clone(),
            config: self.config.worker.clone(),
            events: Reloadable::new(EventSettings::default()),
            other_mode: OtherModeCounts::default(),
            metrics: Metrics::new(),
            tracer: Tracer::default(),
            ready: readiness.check("worker"),
            tasks: Supervisor::new(&readiness),
            batch_permits: BatchPermits::default(),
            resolver: Some(Arc::new(resolver)),
        }
    }

    /// It has no key: it meets needs from the store alone.
    fn resolver(&self, memory: Arc<Memory>) -> Resolver {
        Resolver {
            api: watch::channel(None).1,
            queue: memory.clone(),
            leases: memory.clone(),
            conditions: memory.clone(),
            entities: memory,
            clock: self.clock.clone(),
            ids: self.ids.clone(),
            metrics: Metrics::new(),
            realm: Realm::MAIN,
            mode: Mode::Live,
            pace: Duration::from_millis(100),
            lease: Duration::from_secs_f64(self.config.worker.member_seconds),
        }
    }

    pub(super) fn alerting(&self, memory: Arc<Memory>) -> Alerting {
        let slack = Arc::new(SlackOfProcess {
            slack: self.slack.clone(),
            gate: memory.gate(),
        });
        let egress = EgressClient::new(self.config.egress)
            .with_clock(self.clock.clone())
            .with_transport(slack);
        let bot = SlackBot::configured(&self.config.slack, &egress, MESSAGES_PER_SECOND)
            .expect("valid settings")
            .expect("a token");
        Alerting {
            queue: memory.clone(),
            holding: memory.clone(),
            archive: memory.clone(),
            journal: memory.clone(),
            store: memory,
            clock: self.clock.clone(),
            ids: self.ids.clone(),
            rules: rules(),
            notifiers: vec![Arc::new(bot)],
            actions: SlackActions::default(),
            config: self.config.alerting.clone(),
            has_kernel: false,
            metrics: Metrics::new(),
            tracer: Tracer::default(),
            ready: Readiness::default().check("alerting"),
            turns: Turns::default(),
            new_settings: PendingSettings::default(),
        }
    }
}

/// Reads the settings and the rules, once in a process.
pub(super) fn read_files() {
    config();
    rules();
}

fn config() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    CONFIG.get_or_init(|| {
        with_file(SETTINGS, |path| {
            let variable = |name: &str| (name == "SLACK_BOT_TOKEN").then(|| TOKEN.to_owned());
            Config::load(Some(path), &variable).expect("valid")
        })
    })
}

fn rules() -> Vec<Rule> {
    static RULES_READ: OnceLock<Vec<Rule>> = OnceLock::new();
    let read = || {
        with_file(RULES, |path| {
            rules_file::load(Some(path)).expect("valid rules")
        })
    };
    RULES_READ.get_or_init(read).clone()
}

fn with_file<T>(text: &str, read: impl FnOnce(&std::path::Path) -> T) -> T {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("simulation.toml");
    std::fs::write(&path, text).expect("written");
    read(&path)
}
