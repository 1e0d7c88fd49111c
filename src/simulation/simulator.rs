//! A simulated revwatch with a simulated clock: deliveries are applied by the worker's code, needs are met by the
//! resolver's from the store, rules are evaluated by the evaluator's, and a simulated Slack takes every message. Pure.
//!
//! [`Simulator::tick`] is the engine's own tick on a store in memory; it reads everything in every tick. Between ticks
//! time is skipped: [`Simulator::run_to`] stops only where time alone changes something.
//!
//! Invariant: everything that the evaluator remembers is in its documents; with [`SimulationConfig::restarts`] it is
//! restarted from them after every tick and within every notification.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use anyhow::bail;
use revwatch_alerting::alert::{Alert, NoticeKind, Subject};
use revwatch_alerting::engine::{
    self, Attempt, AttemptResult, Decisions, Documents, Engine, PipelineRead, ReadIntervals,
    ReadResult, TickTime, UnreadableDocumentError, WatchKey,
};
use revwatch_alerting::message::Message;
use revwatch_alerting::metric_value::PipelineStatus;
use revwatch_alerting::outcome::Outcome;
use revwatch_alerting::policy::Policy;
use revwatch_alerting::rule::Rule;
use revwatch_alerting::stage::Stage;
use revwatch_core::bucket::{first_minute_kept, hour_of};
use revwatch_core::event_settings::EventSettings;
use revwatch_storage::ports::{Delivery, DocumentWrite};
use revwatch_worker::batch;

use super::calendar::Calendar;
use super::memory_store::MemoryStore;
use super::resolver::Resolver;

/// The settings of a simulation.
#[derive(Clone)]
pub struct SimulationConfig {
    /// The rules to evaluate.
    pub rules: Vec<Rule>,
    /// Routes and deadlines by severity; its notifier is [`NOTIFIER`].
    pub policy: Policy,
    /// Which events are applied, of which realm they are, and how they are read. The events of rule tests
    /// are live, and of the main realm.
    pub events: EventSettings,
    /// The evaluator is restarted wherever it could end.
    pub restarts: bool,
    /// While something is pending, or something has just happened, there is a tick at least this often; seconds.
    pub tick_s: i64,
    /// Ticks that time alone requires come at most this often; seconds.
    pub spacing_s: i64,
}

/// The only notifier: its messages are changed in place, and it always delivers.
pub const NOTIFIER: &str = "slack";

/// See the module.
pub struct Simulator {
    setting: SimulationConfig,
    store: MemoryStore,
    resolver: Resolver,
    engine: Engine,
    documents: BTreeMap<(&'static str, String), String>,
    commands: Vec<(String, String)>,
    pipeline: PipelineStatus,
    /// Unix milliseconds; `None`: the engine learns of no beginning.
    first_received_ms: Option<i64>,
    calendar: Calendar,
    start_s: i64,
    now_s: i64,
    /// The number of ticks, and the Unix second of the last one.
    ticks: u64,
    ticked_s: Option<i64>,
    /// Unix second of the last change from outside.
    busy_s: i64,
    pruned_hour: u32,
    /// By document, the Unix second at which the rule will have held for long enough.
    pending: BTreeMap<String, i64>,
    /// Every rule and subject that was ever pending or firing, with its connected account.
    observed: BTreeMap<WatchKey, Option<String>>,
    resolved: Vec<Alert>,
    slack: Slack,
    log: Vec<SentMessage>,
}

/// A message as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentMessage {
    /// Unix second.
    pub at_s: i64,
    /// The alert.
    pub alert_id: String,
    /// The alert's rule.
    pub rule: String,
    /// The alert's subject.
    pub subject: Subject,
    /// The connected account concerned.
    pub account: Option<String>,
    /// The kind of notice; `None`: it is the alert's own message.
    pub notice: Option<NoticeKind>,
    /// It was posted; otherwise an earlier one was changed in place.
    pub is_new: bool,
    /// One line.
    pub headline: String,
    /// All of it.
    pub text: String,
}

/// A rule and a subject that were pending or firing at some time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct View {
    /// The rule and the subject.
    pub key: WatchKey,
    /// The connected account concerned.
    pub account: Option<String>,
    /// The stage; resolved, when there was an alert and it has ended.
    pub stage: Stage,
}

/// The simulated destination of messages.
#[derive(Default)]
struct Slack {
    arrived: BTreeMap<String, u32>,
    /// Attempts during which the evaluator was restarted.
    cut_off: HashSet<(String, u32)>,
}

/// How long ticks continue after an event: a metric may still move then, and messages show it.
const BUSY_S: i64 = 600;

impl Simulator {
    /// A new deployment, at `start_s`.
    pub fn new(setting: SimulationConfig, start_s: i64) -> anyhow::Result<Self> {
        let engine = open(&setting, &Documents::default())?;
        let calendar = Calendar::new(&setting.rules);
        Ok(Self {
            store: MemoryStore::new(setting.events.clone()),
            resolver: Resolver::default(),
            engine,
            documents: BTreeMap::new(),
            commands: Vec::new(),
            pipeline: PipelineStatus::default(),
            first_received_ms: None,
            calendar,
            start_s,
            now_s: start_s,
            ticks: 0,
            ticked_s: None,
            busy_s: i64::MIN / 2,
            pruned_hour: 0,
            pending: BTreeMap::new(),
            observed: BTreeMap::new(),
            resolved: Vec::new(),
            slack: Slack::default(),
            log: Vec::new(),
            setting,
        })
    }

    /// Applies deliveries at the simulated time; the next tick evaluates them.
    pub fn apply(&mut self, deliveries: &[Delivery]) -> anyhow::Result<Vec<batch::Outcome>> {
        self.apply_at(deliveries, self.now_s.saturating_mul(1000))
    }

    /// Applies deliveries of the past; how long each took is unknown.
    pub fn apply_past(&mut self, deliveries: &[Delivery]) -> anyhow::Result<()> {
        let Some(first) = deliveries.first() else {
            return Ok(());
        };
        self.apply_at(deliveries, first.received_ms).map(drop)
    }

    /// Applies deliveries of the past whose changes no tick reads.
    pub fn apply_unseen(&mut self, deliveries: &[Delivery]) -> anyhow::Result<()> {
        self.apply_past(deliveries)?;
        self.store.forget_changes();
        Ok(())
    }

    /// Sets the status of the pipeline from now on.
    pub fn set_pipeline(&mut self, pipeline: PipelineStatus) {
        self.busy_s = self.now_s;
        self.pipeline = pipeline;
    }

    /// Sets when the first delivery of all was received, in Unix milliseconds: since then, an event can be missing.
    pub fn set_first_delivery(&mut self, received_ms: Option<i64>) {
        self.first_received_ms = received_ms;
    }

    /// Submits a command for the next tick.
    pub fn submit(&mut self, body: String) {
        self.commands
            .push((format!("{:020}", self.commands.len()), body));
    }

    /// Moves the clock without a tick.
    pub fn set_clock(&mut self, now_s: i64) {
        self.now_s = self.now_s.max(now_s);
    }

    /// Lets time pass, up to just before `to_s`, with the ticks that time alone requires.
    pub fn run_to(&mut self, to_s: i64) -> anyhow::Result<()> {
        while let Some(at_s) = self.next_moment_s().filter(|at_s| *at_s < to_s) {
            self.tick(at_s)?;
        }
        self.set_clock(to_s);
        Ok(())
    }

    /// One tick of the evaluator.
    pub fn tick(&mut self, now_s: i64) -> anyhow::Result<()> {
        self.now_s = now_s;
        self.ticks += 1;
        let time = self.time();
        loop {
            let reads = self.engine.required_reads(time);
            let read = ReadResult {
                pipeline: reads.pipeline.then(|| pipeline_read(&self.pipeline)),
                commands: match reads.commands {
                    true => std::mem::take(&mut self.commands),
                    false => Vec::new(),
                },
                first_delivery: self
                    .first_received_ms
                    .filter(|_| reads.first_delivery)
                    .map(Some),
                ..self.store.read(&reads)
            };
            let output = self.engine.tick(read, time);
            if let Some(command) = output.unreadable.first() {
                bail!(
                    "command {} cannot be read at {}",
                    command.key,
                    command.place
                )
            }
            self.write(output.decisions)?;
            if output.unfinished.is_none() {
                break;
            }
        }
        self.store.forget_changes();
        self.deliver_due()?;
        if self.setting.restarts {
            self.reopen()?;
        }
        self.prune();
        self.ticked_s = Some(now_s);
        Ok(())
    }

    /// The stage of every rule and subject that was ever pending or firing.
    pub fn views(&self) -> Vec<View> {
        let resolved: HashSet<(&str, &Subject)> = self
            .resolved()
            .map(|a| (a.rule.as_str(), &a.subject))
            .collect();
        let view = |(key, account): (&WatchKey, &Option<String>)| {
            let stage = match self.engine.stage_of(key) {
                Stage::Inactive if resolved.contains(&(key.rule.as_str(), &key.subject)) => {
                    Stage::Resolved
                }
                stage => stage,
            };
            View {
                key: key.clone(),
                account: account.clone(),
                stage,
            }
        };
        self.observed.iter().map(view).collect()
    }

    /// The rules that are evaluated.
    pub fn rules(&self) -> &[Rule] {
        &self.setting.rules
    }

    /// Every message so far.
    pub fn log(&self) -> &[SentMessage] {
        &self.log
    }

    /// Alerts that are not resolved, groups as well as their members.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.engine.alerts().filter(|alert| !alert.is_resolved())
    }

    /// Resolved alerts, without groups, in the order in which they ended.
    pub fn resolved(&self) -> impl Iterator<Item = &Alert> {
        // Those that may return are not in the history yet.
        let alerts = self.engine.alerts();
        let resting = alerts.filter(|alert| alert.is_resolved() && alert.group.is_none());
        self.resolved.iter().chain(resting)
    }

    fn time(&self) -> TickTime {
        let since_start_s = (self.now_s - self.start_s).unsigned_abs();
        TickTime {
            now_s: self.now_s,
            // No two ticks are at the same instant.
            elapsed: Duration::from_secs(since_start_s) + Duration::from_millis(self.ticks),
        }
    }

    /// The next moment at which time alone changes something.
    fn next_moment_s(&self) -> Option<i64> {
        let now_s = self.now_s;
        let Some(ticked_s) = self.ticked_s else {
            return Some(now_s);
        };
        let mut moments: Vec<i64> = Vec::new();
        moments.extend(self.engine.next_moment_s(ticked_s));
        moments.extend(self.engine.silences().map(|silence| silence.until_s));
        moments.extend(self.pending.values());
        let busy = now_s < self.busy_s + BUSY_S && self.engine.alerts().next().is_some();
        if !self.pending.is_empty() || busy {
            moments.push(ticked_s + self.setting.tick_s);
        }
        let next_due_s = |after_s| self.store.next_due_s(after_s);
        moments.extend(self.engine.next_due_s(ticked_s, next_due_s));
        let begun_s = self.first_received_ms.map(|ms| ms.div_euclid(1000));
        moments.extend(self.calendar.next_s(ticked_s, &self.store, begun_s));
        let earliest_s = (ticked_s + self.setting.spacing_s.max(1)).max(now_s);
        moments
            .into_iter()
            .filter(|at_s| *at_s > ticked_s)
            .min()
            .map(|at_s| at_s.max(earliest_s))
    }

    fn apply_at(
        &mut self,
        deliveries: &[Delivery],
        now_ms: i64,
    ) -> anyhow::Result<Vec<batch::Outcome>> {
        if !deliveries.is_empty() {
            self.busy_s = self.now_s;
        }
        let outcomes = self.store.apply(deliveries, now_ms);
        let outcomes = outcomes.map_err(anyhow::Error::msg)?;
        self.meet_needs(now_ms).map_err(anyhow::Error::msg)?;
        Ok(outcomes)
    }

    /// What meets a need may be another need. If that does not end, the rest waits for the next deliveries.
    fn meet_needs(&mut self, now_ms: i64) -> Result<(), String> {
        const MAX_ROUNDS: usize = 10;
        for _ in 0..MAX_ROUNDS {
            let (store, events) = (&mut self.store, &self.setting.events);
            let written = store.take_written();
            let deliveries = self.resolver.deliveries(store, events, written, now_ms)?;
            if deliveries.is_empty() {
                break;
            }
            store.apply(&deliveries, now_ms)?;
        }
        Ok(())
    }

    /// Writes what follows from attempts.
    fn write_attempts(&mut self) -> anyhow::Result<()> {
        let decisions = self.engine.take_writes(self.now_s);
        self.write(decisions)
    }

    /// Writes what the engine decided, and notes what it was.
    fn write(&mut self, decisions: Decisions) -> anyhow::Result<()> {
        for DocumentWrite { space, key, body } in decisions.writes {
            if space == engine::PENDING {
                self.note_pending(&key, body.as_deref())?;
            }
            match body {
                None => drop(self.documents.remove(&(space, key))),
                Some(body) if space == engine::HISTORY => {
                    let alert: Alert = serde_json::from_str(&body)?;
                    if alert.group.is_none() {
                        self.resolved.push(alert);
                    }
                }
                Some(body) => drop(self.documents.insert((space, key), body)),
            }
        }
        for transition in decisions.transitions {
            if matches!(transition.to, Stage::Pending | Stage::Firing) {
                let alert = transition
                    .alert_id
                    .as_ref()
                    .and_then(|id| self.engine.alert(id));
                let account = alert.and_then(|alert| alert.account()).map(str::to_owned);
                self.observed.insert(transition.key, account);
            }
        }
        Ok(())
    }

    fn note_pending(&mut self, key: &str, body: Option<&str>) -> anyhow::Result<()> {
        let Some(body) = body else {
            self.pending.remove(key);
            return Ok(());
        };
        let stored: serde_json::Value = serde_json::from_str(body)?;
        let rule = key.split('\n').next().unwrap_or_default();
        let for_s = self
            .setting
            .rules
            .iter()
            .find(|r| r.name == rule)
            .map_or(0, |r| r.for_s);
        match stored["since_s"].as_i64() {
            Some(since_s) => self.pending.insert(key.to_owned(), since_s + for_s),
            None => self.pending.remove(key),
        };
        Ok(())
    }

    /// Delivers all messages that are due.
    fn deliver_due(&mut self) -> anyhow::Result<()> {
        /// More attempts mean that the loop does not end.
        const MAX_ATTEMPTS: usize = 1_000_000;
        let now_ms = self.now_s.saturating_mul(1000);
        for _ in 0..MAX_ATTEMPTS {
            self.write_attempts()?;
            let lane = self
                .engine
                .lanes()
                .find(|(_, at_ms)| *at_ms <= now_ms)
                .map(|(lane, _)| lane.clone());
            let Some(lane) = lane else { return Ok(()) };
            let Some(job) = self.engine.begin_attempt(&lane, now_ms) else {
                bail!("{lane:?} has no message to deliver")
            };
            self.write_attempts()?;
            let attempt = (job.message.delivery_id.clone(), job.revision);
            if self.setting.restarts && self.slack.cut_off.insert(attempt) {
                // Every second one arrives, and its result is not stored.
                if self.slack.cut_off.len().is_multiple_of(2) {
                    self.deliver(&job.message);
                }
                self.reopen()?;
                continue;
            }
            let result = self.attempt(job);
            self.engine.on_attempt_result(&result, now_ms);
        }
        bail!("deliveries do not end: {:?}", self.log.last())
    }

    /// As `alerting/src/attempt.rs`: searches first, where an earlier one may have arrived.
    fn attempt(&mut self, job: Attempt) -> AttemptResult {
        let Attempt {
            alert_id,
            message_key: key,
            mut revision,
            message,
            unconfirmed,
            is_muted,
            ..
        } = job;
        let mut outcome = Outcome::Delivered {
            receipt: Some(message.delivery_id.clone()),
        };
        match unconfirmed {
            Some((_, unconfirmed_revision))
                if self.slack.arrived.contains_key(&message.delivery_id) =>
            {
                revision = unconfirmed_revision;
            }
            Some(_) if is_muted => outcome = Outcome::Withheld,
            _ => self.deliver(&message),
        }
        AttemptResult {
            alert_id,
            message_key: key,
            revision,
            outcome,
            possible_duplicate: false,
            is_partly_delivered: false,
        }
    }

    /// Changes nothing if the message is already there in this revision.
    fn deliver(&mut self, message: &Message) {
        if self
            .slack
            .arrived
            .insert(message.delivery_id.clone(), message.revision)
            == Some(message.revision)
        {
            return;
        }
        let alert = self.engine.alert(&message.alert_id);
        self.log.push(SentMessage {
            at_s: self.now_s,
            alert_id: message.alert_id.clone(),
            rule: message.rule.clone(),
            subject: alert.map(|alert| alert.subject.clone()).unwrap_or_default(),
            account: alert.and_then(|alert| alert.account()).map(str::to_owned),
            notice: message.notice,
            is_new: message.receipt.is_none(),
            headline: message.headline.clone(),
            text: message.text.clone(),
        });
    }

    /// The evaluator ends, and another one begins with the stored documents.
    fn reopen(&mut self) -> anyhow::Result<()> {
        let space = |wanted: &'static str| {
            let of_space = self
                .documents
                .range((wanted, String::new())..)
                .take_while(|((space, _), _)| *space == wanted);
            of_space
                .map(|((_, key), body)| (key.clone(), body.clone()))
                .collect()
        };
        let stored = Documents {
            alerts: space(engine::ALERTS),
            pending: space(engine::PENDING),
            began: space(engine::BEGAN),
            silences: space(engine::SILENCES),
            position: space(engine::POSITION),
        };
        self.engine = open(&self.setting, &stored)?;
        Ok(())
    }

    /// Forgets, once a day, the hours that no rule evaluates any more.
    fn prune(&mut self) {
        const DAY: u32 = 24;
        let hour = hour_of(self.now_s);
        if hour >= self.pruned_hour + DAY {
            self.pruned_hour = hour;
            let minute = first_minute_kept(self.now_s);
            self.store.forget_minutes_before(minute);
            self.store.forget_hours_before(
                hour.saturating_sub(self.engine.hours_needed().saturating_add(DAY)),
            );
        }
    }
}

fn open(setting: &SimulationConfig, stored: &Documents) -> Result<Engine, UnreadableDocumentError> {
    let engine = Engine::open(setting.rules.clone(), setting.policy.clone(), stored)?;
    Ok(engine.with_intervals(ReadIntervals::NONE))
}

fn pipeline_read(status: &PipelineStatus) -> PipelineRead {
    PipelineRead {
        status: status.clone(),
        stalled_s: Some(status.stalled_s),
    }
}
