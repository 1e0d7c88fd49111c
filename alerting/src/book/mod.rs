//! Everything the evaluator remembers, and what a tick does to it. Pure: the shell in `lib.rs` reads the
//! store, calls in here, and writes what comes out.
//!
//! Inputs ([`Book::on_changes`], [`Book::on_figures`], [`Book::on_command`], [`Book::on_time`], …) only note
//! what happened; [`Book::settle`] then decides, for all of it at once, who is told, and gives the documents
//! to be written. `groups.rs` joins alerts, `telling.rs` follows their messages.
//!
//! Invariant: every change of the book comes with the documents that make it durable; the shell writes
//! them before anything is told, and forgets the book when it cannot.

mod commands;
mod groups;
mod outbox;
mod telling;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use revwatch_shared::condition::{Condition, ConditionKey, ConditionKind};
use revwatch_shared::entity::EntityKey;
use revwatch_shared::ports::{ChangeCursor, ConditionChange, DocumentWrite};
use serde::{Deserialize, Serialize};

use self::outbox::Outbox;
pub use self::telling::{Job, Told};
use crate::alert::{Alert, AlertState, Evidence, Mute, Subject};
use crate::command::Silence;
use crate::figure::{Facts, newest_event_s};
use crate::lifecycle::{Stage, is_drawn};
use crate::policy::{Policy, silenced};
use crate::reading::{Reading, read, trend};
use crate::rule::{FigureRule, Rule, RuleKind};
use crate::step::{Effect, Patience, Phase, step};

/// Alerts that are not over, or not told yet.
pub const ALERTS: &str = "alert";
/// Alerts that are over and told.
pub const HISTORY: &str = "history";
/// Rules that hold, but not yet for long enough, and those whose alert was ended by hand.
pub const PENDING: &str = "pending";
/// Silences, also those that have ended of late.
pub const SILENCES: &str = "silence";
/// How far the evaluator has read.
pub const PROGRESS: &str = "evaluator";

/// How far the evaluator has read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReadSoFar {
    /// Of the condition changes.
    pub cursor: ChangeCursor,
    /// Conditions that fall due up to this Unix second have been looked at.
    pub until_s: i64,
    /// The rules for which that is true.
    pub rules: Vec<String>,
    /// Something was left aside while events were late: look at all open conditions when they are not.
    pub left_aside: bool,
    /// Unix second at which what is too old was last taken out of the history.
    pub history_cut_s: i64,
}

/// A rule and whom it looks at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WatchKey {
    /// The rule's name.
    pub rule: String,
    /// Whom.
    pub subject: Subject,
}

/// A change in the life of an alert, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// The alert; `None` while it is pending.
    pub alert_id: Option<String>,
    /// Which rule, about whom.
    pub key: WatchKey,
    /// What it was.
    pub from: Stage,
    /// What it is.
    pub to: Stage,
    /// Who did it; `None`: it happened by itself.
    pub by: Option<String>,
}

/// The documents as they were stored.
#[derive(Debug, Clone, Default)]
pub struct Documents {
    /// Space [`ALERTS`].
    pub alerts: Vec<(String, String)>,
    /// Space [`PENDING`].
    pub pending: Vec<(String, String)>,
    /// Space [`SILENCES`].
    pub silences: Vec<(String, String)>,
    /// Space [`PROGRESS`].
    pub progress: Vec<(String, String)>,
}

/// See the module.
pub struct Book {
    rules: Vec<Rule>,
    /// The rules that look at a condition, by its kind.
    by_condition: HashMap<ConditionKind, Vec<usize>>,
    policy: Policy,
    alerts: HashMap<String, Alert>,
    watches: HashMap<WatchKey, Watch>,
    /// By figure rule, the parts of the business that it has a watch on.
    parts: HashMap<String, BTreeSet<String>>,
    /// By group.
    members: HashMap<String, BTreeSet<String>>,
    /// The group that still takes members, by rule and route.
    open_groups: HashMap<(String, String), String>,
    /// By rule and route: told one by one, and no attempt has begun.
    waiting: HashMap<(String, String), BTreeSet<String>>,
    silences: BTreeMap<String, Silence>,
    /// Alerts that nobody is told of at present.
    muted: BTreeSet<String>,
    /// Whether some of them may be told again.
    look_at_muted: bool,
    /// Unix second up to which the ends of silences have been looked at.
    looked_s: i64,
    /// Alerts that fire and could explain others, by rule and account.
    explaining: HashMap<(String, String), BTreeSet<String>>,
    /// By Unix second: clocks that have something to say.
    clocks: BTreeSet<(i64, String)>,
    /// By Unix second: what is over and will have been for long enough.
    closing: BTreeSet<(i64, WatchKey)>,
    /// By Unix second: what will have held for long enough to fire.
    ripening: BTreeSet<(i64, WatchKey)>,
    /// Over, but some message is not told.
    over: BTreeSet<String>,
    outbox: Outbox,
    /// Notifiers that cannot tell anybody until something is mended, and why.
    broken: BTreeMap<String, String>,
    newest_event_s: Option<i64>,
    counts: BTreeMap<(String, String, Stage), i64>,
    fired: Vec<String>,
    /// Groups found without open members: over as soon as there is a clock.
    empty_groups: Vec<String>,
    dirty: BTreeSet<String>,
    writes: BTreeMap<(&'static str, String), Option<String>>,
    happened: Vec<Happened>,
    written_progress: ReadSoFar,
    /// How far it has read.
    pub read: ReadSoFar,
}

/// What is remembered of a rule and a subject. (Inactive: nothing.)
#[derive(Debug, Clone, PartialEq, Eq)]
enum Watch {
    Pending { since_s: i64 },
    Firing { alert_id: String },
    Dismissed,
}

/// A [`Watch`] that has no alert, as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredWatch {
    key: WatchKey,
    /// Unix seconds; `None`: dismissed.
    since_s: Option<i64>,
}

/// Readers are told of a figure that moves not more often than this.
const REFRESH_S: i64 = 300;
/// Silences that have ended are listed for so long.
const ENDED_SILENCES_KEPT_S: i64 = 30 * 86_400;

impl Book {
    /// Opens the book of an earlier evaluator, or a new one.
    pub fn open(rules: Vec<Rule>, policy: Policy, stored: &Documents) -> Result<Self, serde_json::Error> {
        let mut by_condition = HashMap::<ConditionKind, Vec<usize>>::new();
        for (index, rule) in rules.iter().enumerate() {
            if let RuleKind::Condition { condition, .. } = rule.kind {
                by_condition.entry(condition).or_default().push(index);
            }
        }
        let mut book = Self {
            rules,
            by_condition,
            policy,
            alerts: HashMap::new(),
            watches: HashMap::new(),
            parts: HashMap::new(),
            members: HashMap::new(),
            open_groups: HashMap::new(),
            waiting: HashMap::new(),
            silences: BTreeMap::new(),
            muted: BTreeSet::new(),
            look_at_muted: true,
            looked_s: 0,
            explaining: HashMap::new(),
            clocks: BTreeSet::new(),
            closing: BTreeSet::new(),
            ripening: BTreeSet::new(),
            over: BTreeSet::new(),
            outbox: Outbox::default(),
            broken: BTreeMap::new(),
            newest_event_s: None,
            counts: BTreeMap::new(),
            fired: Vec::new(),
            empty_groups: Vec::new(),
            dirty: BTreeSet::new(),
            writes: BTreeMap::new(),
            happened: Vec::new(),
            written_progress: ReadSoFar::default(),
            read: ReadSoFar::default(),
        };
        if let Some((_, body)) = stored.progress.first() {
            book.read = serde_json::from_str(body)?;
            book.written_progress = book.read.clone();
        }
        for (id, body) in &stored.silences {
            book.silences.insert(id.clone(), serde_json::from_str(body)?);
        }
        for (_, body) in &stored.pending {
            let StoredWatch { key, since_s } = serde_json::from_str(body)?;
            let watch = since_s.map_or(Watch::Dismissed, |since_s| Watch::Pending { since_s });
            book.watch(key, Some(watch));
        }
        for (_, body) in &stored.alerts {
            book.admit(serde_json::from_str(body)?);
        }
        book.mend_groups();
        Ok(book)
    }

    /// Takes in an alert of an earlier evaluator.
    fn admit(&mut self, alert: Alert) {
        let id = alert.id.clone();
        if let Some(group_id) = &alert.part_of {
            self.members.entry(group_id.clone()).or_default().insert(id.clone());
        }
        for (way, progress) in &alert.deliveries {
            if let Some(reason) = &progress.broken {
                self.broken.insert(way.notifier.clone(), reason.clone());
            }
        }
        if alert.is_over() {
            self.over.insert(id.clone());
        } else {
            let key = key_of(&alert);
            if alert.group.is_some() {
                // The newest is the one that may be joined.
                let place = (alert.rule.clone(), alert.route.clone());
                let newer = |other: &Alert| other.fired_s < alert.fired_s;
                if self.open_groups.get(&place).is_none_or(|o| self.alerts.get(o).is_none_or(newer)) {
                    self.open_groups.insert(place, id.clone());
                }
            } else {
                if let Some(clear_since_s) = alert.clear_since_s {
                    let patience_s = self.rule(&alert.rule).map_or(0, |r| r.keep_firing_for_s);
                    self.closing.insert((clear_since_s + patience_s, key.clone()));
                }
                if self.watch(key.clone(), Some(Watch::Firing { alert_id: id.clone() })).is_some() {
                    // A crash came between the alert and what it replaced.
                    self.forget_watch(&key);
                }
                self.note_explaining(&alert, true);
            }
            if let Some((at_s, _)) = alert.sla.ahead.first() {
                self.clocks.insert((*at_s, id.clone()));
            }
        }
        if alert.muted.is_some() {
            self.muted.insert(id.clone());
        }
        self.count(&alert, 1);
        self.alerts.insert(id.clone(), alert);
        self.post(&id);
    }

    /// Whether all open conditions must be looked at before changes can be followed: at the first start,
    /// when rules were added, changed or taken away, and when events are no longer late.
    pub fn needs_scan(&self, now_s: i64) -> bool {
        let fresh_again = || !self.rules.iter().any(|rule| self.is_late(rule, now_s));
        self.read.rules != self.rules_in_short() || (self.read.left_aside && fresh_again())
    }

    /// How long after a condition falls due its rules want to know.
    pub fn delays_s(&self) -> BTreeSet<i64> {
        self.rules.iter().filter_map(|rule| rule_delay(rule).map(|(_, after_s)| after_s)).collect()
    }

    /// How many hours of counters the rules need.
    pub fn hours_needed(&self) -> u32 {
        let needed = |rule: &Rule| {
            let fresh = rule.fresh_within_s.map_or(0, |s| u32::try_from(s / 3600 + 1).unwrap_or(u32::MAX));
            match &rule.kind {
                RuleKind::Figure(figure) => figure.measure.hours_needed().max(fresh),
                RuleKind::Condition { .. } => fresh,
            }
        };
        self.rules.iter().map(needed).max().unwrap_or(0)
    }

    /// Notifiers that cannot tell anybody until something is mended.
    pub fn broken_notifiers(&self) -> impl Iterator<Item = &String> {
        self.broken.keys()
    }

    /// Follows changes of conditions.
    pub fn on_changes(&mut self, changes: &[ConditionChange], now_s: i64) {
        for change in changes {
            match change {
                ConditionChange::Open(condition) => self.on_open(condition, now_s),
                ConditionChange::Close(key) => self.on_close(key, now_s),
            }
        }
    }

    /// A condition that holds: rules whose time has come fire.
    pub fn on_open(&mut self, condition: &Condition, now_s: i64) {
        for index in self.by_condition.get(&condition.key.kind).cloned().unwrap_or_default() {
            let rule = &self.rules[index];
            let Some((_, after_s)) = rule_delay(rule) else { continue };
            let due_s = condition.due_s.saturating_add(after_s);
            if due_s > now_s {
                continue;
            }
            // What was due and did not happen may have happened: the event that tells is perhaps on its way.
            if due_s > condition.since_s && self.is_late(rule, now_s) {
                self.read.left_aside = true;
                continue;
            }
            let key = entity_key(rule, &condition.key.subject);
            let reading = Reading::Breached { since_s: condition.since_s, evidence: Evidence::from(condition) };
            self.observe(index, key, reading, now_s, None);
        }
    }

    fn on_close(&mut self, key: &ConditionKey, now_s: i64) {
        for index in self.by_condition.get(&key.kind).cloned().unwrap_or_default() {
            let key = entity_key(&self.rules[index], &key.subject);
            if self.watches.contains_key(&key) {
                self.observe(index, key, Reading::Clear { evidence: None }, now_s, None);
            }
        }
    }

    /// Looks at all open conditions at once, and resolves what fires for none of them.
    pub fn on_scan(&mut self, open: &[Condition], now_s: i64) {
        self.begin_scan(open, now_s);
        for condition in open {
            self.on_open(condition, now_s);
        }
        self.end_scan();
    }

    /// A look at all open conditions begins: what fires for none of them resolves. Let [`Book::on_open`] see
    /// each of them, then end it.
    pub fn begin_scan(&mut self, open: &[Condition], now_s: i64) {
        let held: BTreeSet<&ConditionKey> = open.iter().map(|c| &c.key).collect();
        self.read.left_aside = false;
        let watched: Vec<WatchKey> = self.watches.keys().cloned().collect();
        for key in watched {
            let index = self.rules.iter().position(|rule| rule.name == key.rule);
            let is_entity = |subject: &EntityKey, kind| held.contains(&ConditionKey { kind, subject: subject.clone() });
            match (index.map(|i| &self.rules[i].kind), &key.subject) {
                (Some(RuleKind::Condition { condition, .. }), Subject::Entity(subject)) => {
                    if !is_entity(subject, *condition) {
                        self.observe(index.unwrap_or(0), key, Reading::Clear { evidence: None }, now_s, None);
                    }
                }
                // The rule is gone, or has become another one.
                (None | Some(RuleKind::Condition { .. }), _) | (Some(RuleKind::Figure(_)), Subject::Entity(_)) => {
                    self.end(&key, now_s, None);
                }
                (Some(RuleKind::Figure(figure)), subject) => {
                    let by = match subject {
                        Subject::Segment { by, .. } => Some(by),
                        _ => None,
                    };
                    if by != figure.by.as_ref() {
                        self.end(&key, now_s, None);
                    }
                }
            }
        }
    }

    /// Every open condition has been looked at.
    pub fn end_scan(&mut self) {
        self.read.rules = self.rules_in_short();
    }

    /// Rules on figures look at the counters.
    pub fn on_figures(&mut self, facts: Facts<'_>) {
        self.newest_event_s = newest_event_s(facts.counters, facts.now_s);
        for index in 0..self.rules.len() {
            let rule = &self.rules[index];
            let RuleKind::Figure(figure) = rule.kind.clone() else { continue };
            if self.is_late(rule, facts.now_s) {
                continue;
            }
            let watched = self.parts.get(&rule.name).cloned().unwrap_or_default();
            let name = rule.name.clone();
            for (part, reading) in read(&figure, facts, watched) {
                let subject = match &figure.by {
                    None => Subject::Business,
                    Some(by) => Subject::Segment { by: by.clone(), value: part },
                };
                let key = WatchKey { rule: name.clone(), subject };
                self.observe(index, key, reading, facts.now_s, Some((&figure, facts)));
            }
        }
    }

    /// Time passes: clocks speak, what has been over for long enough resolves, silences end.
    pub fn on_time(&mut self, now_s: i64) {
        while let Some((at_s, key)) = self.closing.first().cloned().filter(|(at_s, _)| *at_s <= now_s) {
            self.closing.remove(&(at_s, key.clone()));
            match self.rules.iter().position(|rule| rule.name == key.rule) {
                Some(index) => self.observe(index, key, Reading::Clear { evidence: None }, now_s, None),
                None => self.end(&key, now_s, None),
            }
        }
        for id in std::mem::take(&mut self.empty_groups) {
            self.resolve(&id, None, now_s, None);
        }
        self.let_clocks_speak(now_s);
        let ended: Vec<_> = self.silences.values().filter(|s| s.until_s <= now_s).map(|s| s.id.clone()).collect();
        let since_s = std::mem::replace(&mut self.looked_s, now_s);
        self.look_at_muted |= self.silences.values().any(|s| since_s < s.until_s && s.until_s <= now_s);
        for id in ended {
            if self.silences.get(&id).is_some_and(|s| s.until_s + ENDED_SILENCES_KEPT_S <= now_s) {
                self.silences.remove(&id);
                self.writes.insert((SILENCES, id), None);
            }
        }
    }

    /// Decides who is told of what happened since the last time, and gives the documents to be written, in
    /// this order, before anything is told.
    pub fn settle(&mut self, now_s: i64) -> Vec<DocumentWrite> {
        let fired = std::mem::take(&mut self.fired);
        self.mute_and_unmute(&fired, now_s);
        self.group(fired, now_s);
        for id in std::mem::take(&mut self.dirty) {
            self.post(&id);
            self.write_alert(&id, now_s);
        }
        self.retire(now_s);
        if self.read.cursor != self.written_progress.cursor
            || self.read.rules != self.written_progress.rules
            || self.read.left_aside != self.written_progress.left_aside
            || self.read.history_cut_s != self.written_progress.history_cut_s
            || !self.writes.is_empty()
        {
            if self.read != self.written_progress {
                let body = json(&self.read);
                self.writes.insert((PROGRESS, "progress".to_owned()), Some(body));
            }
            self.written_progress = self.read.clone();
        }
        let writes = std::mem::take(&mut self.writes);
        let mut writes: Vec<_> =
            writes.into_iter().map(|((space, key), body)| DocumentWrite { space, key, body }).collect();
        writes.sort_by_key(|write| self.rank(write));
        writes
    }

    /// Very many documents are written in parts, in this order: whatever of it a crash leaves out is found out
    /// and done again by the next evaluator. What is to be forgotten goes after what replaces it, groups
    /// after their members, and how far was read after everything.
    fn rank(&self, write: &DocumentWrite) -> u8 {
        match write.space {
            HISTORY => 0,
            SILENCES => 1,
            PENDING if write.body.is_none() => 2,
            PENDING => 5,
            ALERTS if write.body.is_none() => 5,
            ALERTS if self.members.contains_key(&write.key) => 4,
            ALERTS => 3,
            PROGRESS => 7,
            _ => 6,
        }
    }

    /// What happened since this was last asked.
    pub fn take_happened(&mut self) -> Vec<Happened> {
        std::mem::take(&mut self.happened)
    }

    /// Every alert that is not over, or not told; groups as well as their members.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values()
    }

    /// One of them.
    pub fn alert(&self, id: &str) -> Option<&Alert> {
        self.alerts.get(id)
    }

    /// How many alerts there are by rule, severity and stage; groups do not count beside their members.
    pub fn counts(&self) -> impl Iterator<Item = (&str, &str, Stage, i64)> {
        self.counts.iter().map(|((rule, severity, stage), n)| (rule.as_str(), severity.as_str(), *stage, *n))
    }

    /// What a rule and a subject are up to.
    pub fn stage_of(&self, key: &WatchKey) -> Stage {
        match self.watches.get(key) {
            None | Some(Watch::Dismissed) => Stage::Inactive,
            Some(Watch::Pending { .. }) => Stage::Pending,
            Some(Watch::Firing { alert_id }) => self.alerts.get(alert_id).map_or(Stage::Inactive, |a| a.state.into()),
        }
    }

    /// The rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The next moment at which time alone changes something.
    pub fn next_moment_s(&self) -> Option<i64> {
        let closing = self.closing.first().map(|(at_s, _)| *at_s);
        let clock = self.clocks.first().map(|(at_s, _)| *at_s);
        let ripe = self.ripening.first().map(|(at_s, _)| *at_s);
        closing.into_iter().chain(clock).chain(ripe).min()
    }

    /// Whether something has held for long enough to fire, if it still holds.
    pub fn is_ripe(&self, now_s: i64) -> bool {
        self.ripening.first().is_some_and(|(at_s, _)| *at_s <= now_s)
    }

    fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    fn is_late(&self, rule: &Rule, now_s: i64) -> bool {
        rule.fresh_within_s
            .is_some_and(|within_s| self.newest_event_s.is_none_or(|newest_s| now_s - newest_s > within_s))
    }

    /// One look of one rule at one subject. `figure` is there when the rule is on a figure.
    fn observe(
        &mut self,
        index: usize,
        key: WatchKey,
        reading: Reading,
        now_s: i64,
        figure: Option<(&FigureRule, Facts<'_>)>,
    ) {
        let rule = &self.rules[index];
        let patience = Patience { for_s: rule.for_s, keep_firing_for_s: rule.keep_firing_for_s };
        let before = self.phase(&key);
        let (after, effect) = step(patience, before, reading, now_s);
        self.turn(&key, before, after, now_s, patience);
        let part = match &key.subject {
            Subject::Segment { value, .. } => value.as_str(),
            _ => "",
        };
        let with_trend = |mut evidence: Evidence| {
            if let Some((figure, facts)) = figure {
                evidence.trend = trend(figure, facts, part);
            }
            evidence
        };
        match effect {
            Effect::Nothing => {}
            Effect::Fire { since_s, evidence } => {
                let alert = Alert::fire(&self.rules[index], &key.subject, since_s, now_s, with_trend(evidence));
                self.fire(key, before, alert);
            }
            Effect::Show { evidence } => {
                let Some(Watch::Firing { alert_id }) = self.watches.get(&key) else { return };
                let Some(alert) = self.alerts.get_mut(alert_id) else { return };
                let moved = Evidence { trend: Vec::new(), ..alert.evidence.clone() } != evidence;
                if moved {
                    // A figure moves all the time; an entity changes when something happened to it.
                    let is_due = figure.is_none() || now_s - alert.revised_s >= REFRESH_S;
                    let trend = if is_due { None } else { Some(alert.evidence.trend.clone()) };
                    alert.evidence = match trend {
                        Some(trend) => Evidence { trend, ..evidence },
                        None => with_trend(evidence),
                    };
                    if is_due {
                        alert.revise(now_s);
                    }
                    self.dirty.insert(alert_id.clone());
                }
            }
            Effect::Resolve { evidence } => {
                if let Some(Watch::Firing { alert_id }) = self.watch(key, None) {
                    self.resolve(&alert_id, evidence, now_s, None);
                }
            }
        }
    }

    fn phase(&self, key: &WatchKey) -> Phase {
        match self.watches.get(key) {
            None => Phase::Inactive,
            Some(Watch::Pending { since_s }) => Phase::Pending { since_s: *since_s },
            Some(Watch::Dismissed) => Phase::Dismissed,
            Some(Watch::Firing { alert_id }) => {
                Phase::Firing { clear_since_s: self.alerts.get(alert_id).and_then(|a| a.clear_since_s) }
            }
        }
    }

    /// Remembers the new phase, as far as it is not about an alert that fires or resolves.
    fn turn(&mut self, key: &WatchKey, before: Phase, after: Phase, now_s: i64, patience: Patience) {
        if before == after {
            return;
        }
        match (before, after) {
            (Phase::Firing { .. }, Phase::Firing { clear_since_s }) => {
                let Some(Watch::Firing { alert_id }) = self.watches.get(key) else { return };
                let Some(alert) = self.alerts.get_mut(alert_id) else { return };
                if let Some(earlier_s) = alert.clear_since_s {
                    self.closing.remove(&(earlier_s + patience.keep_firing_for_s, key.clone()));
                }
                if clear_since_s.is_some() {
                    self.closing.insert((now_s + patience.keep_firing_for_s, key.clone()));
                }
                alert.clear_since_s = clear_since_s;
                self.dirty.insert(alert_id.clone());
            }
            (_, Phase::Pending { since_s }) => {
                self.store_watch(key, Some(since_s));
                self.watch(key.clone(), Some(Watch::Pending { since_s }));
                self.happen(None, key, Stage::Inactive, Stage::Pending, None);
            }
            (Phase::Pending { .. }, Phase::Inactive) => {
                self.forget_watch(key);
                self.watch(key.clone(), None);
                self.happen(None, key, Stage::Pending, Stage::Inactive, None);
            }
            (Phase::Pending { .. }, Phase::Firing { .. }) => self.forget_watch(key),
            (Phase::Dismissed, Phase::Inactive) => {
                self.forget_watch(key);
                self.watch(key.clone(), None);
            }
            _ => {}
        }
    }

    fn fire(&mut self, key: WatchKey, before: Phase, alert: Alert) {
        let from = if matches!(before, Phase::Pending { .. }) { Stage::Pending } else { Stage::Inactive };
        self.happen(Some(&alert.id), &key, from, Stage::Firing, None);
        self.watch(key, Some(Watch::Firing { alert_id: alert.id.clone() }));
        self.note_explaining(&alert, true);
        self.count(&alert, 1);
        self.fired.push(alert.id.clone());
        self.dirty.insert(alert.id.clone());
        self.alerts.insert(alert.id.clone(), alert);
    }

    /// Ends an alert. Its watch has been dealt with.
    fn resolve(&mut self, id: &str, evidence: Option<Evidence>, now_s: i64, by: Option<&str>) {
        let Some(mut alert) = self.alerts.get(id).cloned().filter(|a| !a.is_over()) else { return };
        self.count(&alert, -1);
        if let Some((at_s, _)) = alert.sla.ahead.first() {
            self.clocks.remove(&(*at_s, id.to_owned()));
        }
        if let Some(clear_since_s) = alert.clear_since_s {
            let patience_s = self.rule(&alert.rule).map_or(0, |r| r.keep_firing_for_s);
            self.closing.remove(&(clear_since_s + patience_s, key_of(&alert)));
        }
        self.happen(Some(id), &key_of(&alert), alert.state.into(), Stage::Resolved, by);
        alert.state = AlertState::Resolved;
        alert.resolved_s = Some(now_s);
        alert.resolved_by = by.map(str::to_owned);
        if let Some(evidence) = evidence {
            let trend = std::mem::take(&mut alert.evidence.trend);
            alert.evidence = Evidence { trend, ..evidence };
        }
        alert.revise(now_s);
        self.note_explaining(&alert, false);
        self.count(&alert, 1);
        self.over.insert(id.to_owned());
        self.dirty.insert(id.to_owned());
        self.waits_no_longer(&alert);
        let group_id = alert.part_of.clone();
        self.alerts.insert(id.to_owned(), alert);
        if let Some(group_id) = group_id {
            self.member_is_over(&group_id, id, now_s, by);
        }
    }

    /// Ends a watch whatever its rule says.
    fn end(&mut self, key: &WatchKey, now_s: i64, by: Option<&str>) {
        match self.watch(key.clone(), None) {
            Some(Watch::Firing { alert_id }) => self.resolve(&alert_id, None, now_s, by),
            Some(Watch::Pending { .. }) => {
                self.forget_watch(key);
                self.happen(None, key, Stage::Pending, Stage::Inactive, None);
            }
            Some(Watch::Dismissed) => self.forget_watch(key),
            None => {}
        }
    }

    /// Sets or removes a watch; returns the earlier one.
    fn watch(&mut self, key: WatchKey, watch: Option<Watch>) -> Option<Watch> {
        if let Subject::Segment { value, .. } = &key.subject {
            let parts = self.parts.entry(key.rule.clone()).or_default();
            if watch.is_some() {
                parts.insert(value.clone());
            } else {
                parts.remove(value);
            }
        }
        let ripe_s = |book: &Self, since_s: i64| since_s + book.rule(&key.rule).map_or(0, |rule| rule.for_s);
        if let Some(Watch::Pending { since_s }) = self.watches.get(&key) {
            let place = (ripe_s(self, *since_s), key.clone());
            self.ripening.remove(&place);
        }
        if let Some(Watch::Pending { since_s }) = &watch {
            let place = (ripe_s(self, *since_s), key.clone());
            self.ripening.insert(place);
        }
        match watch {
            Some(watch) => self.watches.insert(key, watch),
            None => self.watches.remove(&key),
        }
    }

    fn store_watch(&mut self, key: &WatchKey, since_s: Option<i64>) {
        let body = json(&StoredWatch { key: key.clone(), since_s });
        self.writes.insert((PENDING, pending_key(key)), Some(body));
    }

    fn forget_watch(&mut self, key: &WatchKey) {
        self.writes.insert((PENDING, pending_key(key)), None);
    }

    fn write_alert(&mut self, id: &str, _now_s: i64) {
        if let Some(alert) = self.alerts.get(id) {
            self.writes.insert((ALERTS, id.to_owned()), Some(json(alert)));
        }
    }

    /// Moves what is over and told into the history.
    fn retire(&mut self, now_s: i64) {
        let done: Vec<_> = self.over.iter().filter(|id| self.is_done(id, now_s)).cloned().collect();
        for id in done {
            self.over.remove(&id);
            self.muted.remove(&id);
            self.members.remove(&id);
            self.outbox.clear(&id);
            let Some(alert) = self.alerts.remove(&id) else { continue };
            self.count(&alert, -1);
            if let Some(members) = alert.part_of.as_ref().and_then(|group| self.members.get_mut(group)) {
                members.remove(&id);
            }
            self.writes.insert((ALERTS, id.clone()), None);
            self.writes.insert((HISTORY, id), Some(json(&alert)));
        }
    }

    /// New alerts may be muted; muted ones may be told again.
    fn mute_and_unmute(&mut self, fired: &[String], now_s: i64) {
        let again: Vec<String> =
            if std::mem::take(&mut self.look_at_muted) { self.muted.iter().cloned().collect() } else { Vec::new() };
        for id in fired.iter().chain(&again) {
            let Some(alert) = self.alerts.get(id) else { continue };
            let mute = if alert.is_over() { None } else { self.mute_of(alert, now_s) };
            if alert.muted == mute {
                continue;
            }
            self.set_mute(id, mute.as_ref(), now_s);
        }
    }

    fn mute_of(&self, alert: &Alert, now_s: i64) -> Option<Mute> {
        silenced(alert, self.silences.values(), now_s).or_else(|| {
            let rule = self.rule(&alert.rule)?;
            let account = alert.account()?;
            let by = rule.inhibited_by.iter().filter_map(|by| self.explaining.get(&(by.clone(), account.to_owned())));
            by.flatten().find(|id| **id != alert.id).cloned().map(Mute::Inhibited)
        })
    }

    fn set_mute(&mut self, id: &str, mute: Option<&Mute>, now_s: i64) {
        let is_new = !self.fired.iter().any(|fired| fired == id);
        let Some(alert) = self.alerts.get_mut(id) else { return };
        let was_told = alert.deliveries.values().any(|p| p.told > 0);
        alert.muted = mute.cloned();
        if mute.is_some() {
            self.muted.insert(id.to_owned());
            if let Some(waiting) = self.waiting.get_mut(&(alert.rule.clone(), alert.route.clone())) {
                waiting.remove(id);
            }
        } else {
            self.muted.remove(id);
            if !alert.is_over() && !was_told && alert.part_of.is_none() && alert.group.is_none() && is_new {
                // It is told now, as if it fired now: its clocks start when somebody can know of it.
                self.fired.push(id.to_owned());
            }
        }
        if was_told {
            alert.revise(now_s);
        }
        self.dirty.insert(id.to_owned());
    }

    /// Keeps track of alerts that explain others, and looks again at what they explained when they are over.
    fn note_explaining(&mut self, alert: &Alert, fires: bool) {
        if !self.rules.iter().any(|rule| rule.inhibited_by.contains(&alert.rule)) {
            return;
        }
        let Some(account) = alert.account() else { return };
        let place = (alert.rule.clone(), account.to_owned());
        let alerts = self.explaining.entry(place.clone()).or_default();
        if fires {
            alerts.insert(alert.id.clone());
        } else {
            alerts.remove(&alert.id);
            if alerts.is_empty() {
                self.explaining.remove(&place);
            }
            self.look_at_muted = true;
        }
    }

    fn happen(&mut self, alert_id: Option<&str>, key: &WatchKey, from: Stage, to: Stage, by: Option<&str>) {
        debug_assert!(is_drawn(from, to), "{from:?} → {to:?} is not in the picture");
        let (alert_id, by) = (alert_id.map(str::to_owned), by.map(str::to_owned));
        self.happened.push(Happened { alert_id, key: key.clone(), from, to, by });
        if to == Stage::Pending || from == Stage::Pending {
            let severity = self.rule(&key.rule).map_or("", |rule| rule.severity.as_str()).to_owned();
            let by = if to == Stage::Pending { 1 } else { -1 };
            self.add_count((key.rule.clone(), severity, Stage::Pending), by);
        }
    }

    fn count(&mut self, alert: &Alert, by: i64) {
        if alert.group.is_none() && !alert.is_over() {
            self.add_count((alert.rule.clone(), alert.severity.as_str().to_owned(), alert.state.into()), by);
        }
    }

    fn add_count(&mut self, key: (String, String, Stage), by: i64) {
        *self.counts.entry(key).or_default() += by;
    }

    /// Of every rule what decides whom it watches.
    fn rules_in_short(&self) -> Vec<String> {
        let describe = |rule: &Rule| match &rule.kind {
            RuleKind::Condition { condition, after_s } => format!("{} {} {after_s}", rule.name, condition.as_str()),
            RuleKind::Figure(figure) => format!("{} by {}", rule.name, figure.by.as_deref().unwrap_or("nothing")),
        };
        self.rules.iter().map(describe).collect()
    }
}

fn rule_delay(rule: &Rule) -> Option<(ConditionKind, i64)> {
    match rule.kind {
        RuleKind::Condition { condition, after_s } => Some((condition, after_s)),
        RuleKind::Figure(_) => None,
    }
}

fn entity_key(rule: &Rule, subject: &EntityKey) -> WatchKey {
    WatchKey { rule: rule.name.clone(), subject: Subject::Entity(subject.clone()) }
}

fn key_of(alert: &Alert) -> WatchKey {
    WatchKey { rule: alert.rule.clone(), subject: alert.subject.clone() }
}

fn pending_key(key: &WatchKey) -> String {
    format!("{}\n{}", key.rule, key.subject)
}

fn json<T: Serialize>(body: &T) -> String {
    serde_json::to_string(body).expect("plain data has a JSON form")
}

#[cfg(test)]
mod tests;
