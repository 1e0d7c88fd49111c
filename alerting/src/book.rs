//! Everything the evaluator remembers, and what a tick does to it. Pure: the shell in `lib.rs` reads the
//! store, calls in here, and writes what comes out.
//!
//! Invariant: every change of the book comes with the documents that make it durable; the shell writes
//! them before anything is told, and forgets the book when it cannot.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use revwatch_shared::condition::{Condition, ConditionKey};
use revwatch_shared::counters::Counters;
use revwatch_shared::entity::EntityKey;
use revwatch_shared::ports::{ChangeCursor, ConditionChange, DocumentWrite};
use serde::{Deserialize, Serialize};

use crate::alert::{Alert, AlertState, Evidence, Progress};
use crate::outcome::Outcome;
use crate::reading::{Reading, read};
use crate::rule::{Rule, RuleKind};
use crate::step::{Effect, Watch, resolve, step};

/// Alerts that are not over, or not told yet.
pub const ALERTS: &str = "alert";
/// Alerts that are over and told.
pub const HISTORY: &str = "history";
/// Rules that hold, but not yet for long enough.
pub const PENDING: &str = "pending";
/// How far the evaluator has read.
pub const PROGRESS: &str = "evaluator";

/// How far the evaluator has read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadSoFar {
    /// Of the condition changes.
    pub cursor: ChangeCursor,
    /// Conditions that fall due up to this Unix second have been looked at.
    pub until_s: i64,
    /// The condition rules for which that is true.
    pub rules: Vec<String>,
}

/// See the module.
pub struct Book {
    rules: Vec<Rule>,
    watches: HashMap<WatchKey, Watch>,
    /// Over, but some notifier has not told it yet.
    untold: BTreeMap<String, Alert>,
    /// Where the alert with this id is.
    firing: HashMap<String, WatchKey>,
    /// By notifier: what it has to tell, by the time of the next attempt.
    to_tell: BTreeMap<String, BTreeSet<(i64, i64, String)>>,
    /// How far it has read.
    pub read: ReadSoFar,
}

type WatchKey = (String, Option<EntityKey>);

/// The documents as they were stored.
#[derive(Debug, Clone, Default)]
pub struct Documents {
    /// Space [`ALERTS`].
    pub alerts: Vec<(String, String)>,
    /// Space [`PENDING`].
    pub pending: Vec<(String, String)>,
    /// Space [`PROGRESS`].
    pub progress: Vec<(String, String)>,
}

impl Book {
    /// Opens the book of an earlier evaluator, or a new one. `notifiers` are all that must be told.
    pub fn open(rules: Vec<Rule>, notifiers: &[String], stored: &Documents) -> Result<Self, serde_json::Error> {
        let mut book = Self {
            rules,
            watches: HashMap::new(),
            untold: BTreeMap::new(),
            firing: HashMap::new(),
            to_tell: notifiers.iter().map(|n| (n.clone(), BTreeSet::new())).collect(),
            read: ReadSoFar::default(),
        };
        if let Some((_, body)) = stored.progress.first() {
            book.read = serde_json::from_str(body)?;
        }
        for (_, body) in &stored.pending {
            let (key, since_s): (WatchKey, i64) = serde_json::from_str(body)?;
            book.watches.insert(key, Watch::Pending { since_s });
        }
        for (_, body) in &stored.alerts {
            let alert: Alert = serde_json::from_str(body)?;
            book.schedule(&alert);
            if alert.state == AlertState::Resolved {
                book.untold.insert(alert.id.clone(), alert);
            } else {
                let key = (alert.rule.clone(), alert.subject.clone());
                book.firing.insert(alert.id.clone(), key.clone());
                book.watches.insert(key, Watch::Firing(Box::new(alert)));
            }
        }
        Ok(book)
    }

    /// Whether all open conditions must be looked at before changes can be followed: at the first start,
    /// and when condition rules were added or changed.
    pub fn needs_scan(&self) -> bool {
        self.read.rules != self.condition_rules()
    }

    /// How long after a condition falls due its rules want to know.
    pub fn delays_s(&self) -> BTreeSet<i64> {
        self.rules.iter().filter_map(|rule| rule_delay(rule).map(|(_, after_s)| after_s)).collect()
    }

    /// How many hours of counters the rules need.
    pub fn hours_needed(&self) -> u32 {
        self.rules.iter().map(|rule| crate::reading::hours_needed(&rule.kind)).max().unwrap_or(0)
    }

    /// Follows changes of conditions.
    pub fn on_changes(&mut self, changes: &[ConditionChange], now_s: i64) -> Vec<DocumentWrite> {
        let mut writes = Vec::new();
        for change in changes {
            match change {
                ConditionChange::Open(condition) => writes.extend(self.on_open(condition, now_s)),
                ConditionChange::Close(key) => writes.extend(self.on_close(key, now_s)),
            }
        }
        writes
    }

    /// A condition that holds: rules whose time has come fire.
    pub fn on_open(&mut self, condition: &Condition, now_s: i64) -> Vec<DocumentWrite> {
        let rules: Vec<Rule> = self.rules_on(condition.key.kind);
        let mut writes = Vec::new();
        for rule in rules {
            let Some((_, after_s)) = rule_delay(&rule) else { continue };
            if condition.due_s.saturating_add(after_s) <= now_s {
                let reading = Reading::Breached { since_s: condition.since_s, evidence: Evidence::from(condition) };
                writes.extend(self.observe(&rule, Some(&condition.key.subject), reading, now_s));
            }
        }
        writes
    }

    /// Looks at all open conditions at once, and resolves what fires for none of them.
    pub fn on_scan(&mut self, open: &[Condition], now_s: i64) -> Vec<DocumentWrite> {
        let held: BTreeSet<&ConditionKey> = open.iter().map(|c| &c.key).collect();
        let mut over = Vec::new();
        for (rule, subject) in self.watches.keys() {
            let kind = self.rules.iter().find(|r| r.name == *rule).map(|r| &r.kind);
            match (kind, subject) {
                (Some(RuleKind::Condition { condition, .. }), Some(subject)) => {
                    if !held.contains(&ConditionKey { kind: *condition, subject: subject.clone() }) {
                        over.push((rule.clone(), Some(subject.clone())));
                    }
                }
                (Some(RuleKind::Condition { .. }), None) | (None, _) => over.push((rule.clone(), subject.clone())),
                (Some(_), Some(_)) => over.push((rule.clone(), subject.clone())),
                (Some(_), None) => {}
            }
        }
        let mut writes: Vec<_> = over.iter().flat_map(|key| self.end(key, now_s)).collect();
        writes.extend(open.iter().flat_map(|condition| self.on_open(condition, now_s)));
        self.read.rules = self.condition_rules();
        writes
    }

    /// Rules on the whole business look at the counters.
    pub fn on_counters(&mut self, counters: &Counters, now_s: i64) -> Vec<DocumentWrite> {
        let rules = self.rules.clone();
        let readings = rules.iter().filter_map(|rule| Some((rule, read(&rule.kind, counters, now_s)?)));
        readings.flat_map(|(rule, reading)| self.observe(rule, None, reading, now_s)).collect()
    }

    /// The document that says how far this book has read.
    pub fn progress(&self) -> DocumentWrite {
        document(PROGRESS, "progress", Some(&self.read))
    }

    /// The alert that `notifier` should tell next, if its time has come.
    pub fn next_to_tell(&self, notifier: &str, now_ms: i64) -> Option<&Alert> {
        let (not_before_ms, _, id) = self.to_tell.get(notifier)?.first()?;
        if *not_before_ms <= now_ms { self.alert(id) } else { None }
    }

    /// Notes how an attempt to tell `revision` of an alert ended.
    pub fn on_told(
        &mut self,
        id: &str,
        notifier: &str,
        revision: u32,
        outcome: &Outcome,
        now_ms: i64,
    ) -> Vec<DocumentWrite> {
        let Some(mut alert) = self.alert(id).cloned() else { return Vec::new() };
        self.unschedule(&alert);
        let progress = alert.deliveries.entry(notifier.to_owned()).or_default();
        note(progress, revision, outcome, now_ms);
        self.schedule(&alert);
        let told = self.to_tell.keys().all(|notifier| !alert.is_news_for(notifier));
        if let Some(key) = self.firing.get(id) {
            self.watches.insert(key.clone(), Watch::Firing(Box::new(alert.clone())));
        } else if told {
            self.untold.remove(id);
            return vec![document::<()>(ALERTS, id, None), document(HISTORY, id, Some(&alert))];
        } else {
            self.untold.insert(id.to_owned(), alert.clone());
        }
        vec![document(ALERTS, id, Some(&alert))]
    }

    /// Every alert that is not over, or not told.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        let firing = self.watches.values().filter_map(|watch| match watch {
            Watch::Firing(alert) => Some(alert.as_ref()),
            _ => None,
        });
        firing.chain(self.untold.values())
    }

    fn alert(&self, id: &str) -> Option<&Alert> {
        match self.firing.get(id).and_then(|key| self.watches.get(key)) {
            Some(Watch::Firing(alert)) => Some(alert),
            _ => self.untold.get(id),
        }
    }

    fn on_close(&mut self, key: &ConditionKey, now_s: i64) -> Vec<DocumentWrite> {
        let rules = self.rules_on(key.kind);
        rules
            .iter()
            .flat_map(|rule| self.observe(rule, Some(&key.subject), Reading::Clear { evidence: None }, now_s))
            .collect()
    }

    fn observe(
        &mut self,
        rule: &Rule,
        subject: Option<&EntityKey>,
        reading: Reading,
        now_s: i64,
    ) -> Vec<DocumentWrite> {
        let key = (rule.name.clone(), subject.cloned());
        let before = self.watches.remove(&key).unwrap_or(Watch::Idle);
        let was_pending = matches!(before, Watch::Pending { .. });
        let (after, effects) = step(rule, subject, before, reading, now_s);
        let mut writes = Vec::new();
        match (&after, was_pending) {
            (Watch::Pending { since_s }, false) => {
                writes.push(document(PENDING, &pending_key(&key), Some(&(&key, since_s))));
            }
            (Watch::Idle | Watch::Firing(_), true) => writes.push(document::<()>(PENDING, &pending_key(&key), None)),
            _ => {}
        }
        if after != Watch::Idle {
            self.watches.insert(key.clone(), after);
        }
        writes.extend(effects.into_iter().flat_map(|effect| self.apply(&key, effect)));
        writes
    }

    fn apply(&mut self, key: &WatchKey, effect: Effect) -> Vec<DocumentWrite> {
        let alert = match effect {
            Effect::Fired(alert) => {
                self.firing.insert(alert.id.clone(), key.clone());
                alert
            }
            Effect::Changed(alert) => alert,
            Effect::Resolved(alert) => {
                self.firing.remove(&alert.id);
                self.untold.insert(alert.id.clone(), (*alert).clone());
                alert
            }
        };
        self.unschedule(&alert);
        self.schedule(&alert);
        vec![document(ALERTS, &alert.id, Some(&*alert))]
    }

    /// Ends a watch whatever its rule says.
    fn end(&mut self, key: &WatchKey, now_s: i64) -> Vec<DocumentWrite> {
        match self.watches.remove(key) {
            Some(Watch::Firing(alert)) => {
                let effect = Effect::Resolved(Box::new(resolve(*alert, now_s)));
                self.apply(key, effect)
            }
            Some(Watch::Pending { .. }) => vec![document::<()>(PENDING, &pending_key(key), None)],
            Some(Watch::Idle) | None => Vec::new(),
        }
    }

    fn schedule(&mut self, alert: &Alert) {
        for (notifier, waiting) in &mut self.to_tell {
            if alert.is_news_for(notifier) {
                let not_before_ms = alert.deliveries.get(notifier).map_or(0, |p| p.not_before_ms);
                waiting.insert((not_before_ms, alert.fired_s, alert.id.clone()));
            }
        }
    }

    fn unschedule(&mut self, alert: &Alert) {
        for (notifier, waiting) in &mut self.to_tell {
            let not_before_ms = alert.deliveries.get(notifier).map_or(0, |p| p.not_before_ms);
            waiting.remove(&(not_before_ms, alert.fired_s, alert.id.clone()));
        }
    }

    fn rules_on(&self, wanted: revwatch_shared::condition::ConditionKind) -> Vec<Rule> {
        let concerned = |rule: &&Rule| rule_delay(rule).is_some_and(|(condition, _)| condition == wanted);
        self.rules.iter().filter(concerned).cloned().collect()
    }

    fn condition_rules(&self) -> Vec<String> {
        let describe = |rule: &Rule| {
            let (condition, after_s) = rule_delay(rule)?;
            Some(format!("{} {} {after_s}", rule.name, condition.as_str()))
        };
        self.rules.iter().filter_map(describe).collect()
    }
}

fn rule_delay(rule: &Rule) -> Option<(revwatch_shared::condition::ConditionKind, i64)> {
    match rule.kind {
        RuleKind::Condition { condition, after_s } => Some((condition, after_s)),
        _ => None,
    }
}

/// What an attempt means for the next one.
fn note(progress: &mut Progress, revision: u32, outcome: &Outcome, now_ms: i64) {
    progress.attempts += 1;
    let pause_ms = 1000_i64 << progress.attempts.min(8);
    match outcome {
        Outcome::Delivered { receipt } => {
            *progress = Progress {
                told: revision,
                receipt: receipt.clone().or(progress.receipt.take()),
                possible_duplicate: progress.possible_duplicate,
                ..Progress::default()
            };
        }
        Outcome::RetryAfter { wait_ms } => progress.not_before_ms = now_ms + (*wait_ms).max(1),
        // Nothing is given up: somebody may mend the token, the channel or the network.
        Outcome::Failed { .. } => progress.not_before_ms = now_ms + pause_ms,
        Outcome::Unknown { .. } => {
            progress.possible_duplicate = true;
            progress.not_before_ms = now_ms + pause_ms;
        }
        // The message was deleted: the next attempt posts it anew.
        Outcome::Gone => {
            progress.receipt = None;
            progress.not_before_ms = now_ms;
        }
    }
}

fn pending_key(key: &WatchKey) -> String {
    format!("{}\n{}", key.0, key.1.as_ref().map_or_else(String::new, ToString::to_string))
}

fn document<T: Serialize>(space: &'static str, key: &str, body: Option<&T>) -> DocumentWrite {
    let body = body.map(|b| serde_json::to_string(b).expect("plain data has a JSON form"));
    DocumentWrite { space, key: key.to_owned(), body }
}

#[cfg(test)]
mod tests {
    use revwatch_shared::condition::ConditionKind;
    use revwatch_shared::entity::EntityKind;

    use super::*;

    fn book(stored: &Documents) -> Book {
        Book::open(crate::rule::built_in().expect("valid"), &["slack".to_owned()], stored).expect("readable")
    }

    fn lost(id: &str, since_s: i64) -> Condition {
        let key = ConditionKey { kind: ConditionKind::ChargesLost, subject: EntityKey::new(EntityKind::Account, id) };
        Condition {
            key,
            since_s,
            due_s: since_s,
            account: Some(id.into()),
            money: None,
            detail: None,
            event_id: "evt_1".into(),
        }
    }

    /// Writes as the store would keep them.
    fn store(documents: &mut Documents, writes: &[DocumentWrite]) {
        for w in writes {
            let space = match w.space {
                ALERTS => &mut documents.alerts,
                PENDING => &mut documents.pending,
                PROGRESS => &mut documents.progress,
                _ => continue,
            };
            space.retain(|(key, _)| *key != w.key);
            space.extend(w.body.clone().map(|body| (w.key.clone(), body)));
        }
    }

    fn delivered() -> Outcome {
        Outcome::Delivered { receipt: Some("r1".into()) }
    }

    #[test]
    fn one_alert_per_subject_told_when_it_fires_and_when_it_is_over() {
        let mut book = book(&Documents::default());
        book.on_open(&lost("acct_1", 10), 20);
        book.on_open(&lost("acct_1", 10), 21);
        book.on_open(&lost("acct_2", 10), 21);
        assert_eq!(book.alerts().count(), 2);
        let first = book.next_to_tell("slack", 0).expect("something to tell").clone();
        assert_eq!((first.subject_text().as_str(), first.since_s, first.fired_s), ("account acct_1", 10, 20));
        book.on_told(&first.id, "slack", 1, &delivered(), 1000);
        assert_ne!(book.next_to_tell("slack", 0).map(|a| a.id.clone()), Some(first.id.clone()));
        book.on_changes(&[ConditionChange::Close(lost("acct_1", 10).key)], 30);
        let over = book.alert(&first.id).expect("untold").clone();
        assert_eq!(
            (over.state, over.revision, over.deliveries["slack"].receipt.as_deref()),
            (AlertState::Resolved, 2, Some("r1"))
        );
        let writes = book.on_told(&first.id, "slack", 2, &delivered(), 2000);
        assert_eq!(
            writes.iter().map(|w| (w.space, w.body.is_some())).collect::<Vec<_>>(),
            [(ALERTS, false), (HISTORY, true)]
        );
        assert_eq!(book.alerts().count(), 1);
    }

    #[test]
    fn a_book_reopened_at_any_point_goes_on_where_it_was() {
        let mut documents = Documents::default();
        let mut first = book(&documents);
        assert!(first.needs_scan());
        let scanned = first.on_scan(&[lost("acct_1", 10)], 20);
        store(&mut documents, &scanned);
        store(&mut documents, &[first.progress()]);
        let mut second = book(&documents);
        assert!(!second.needs_scan());
        assert!(second.on_open(&lost("acct_1", 10), 25).is_empty(), "it fires already");
        let id = second.next_to_tell("slack", 0).expect("not told yet").id.clone();
        let told = second.on_told(&id, "slack", 1, &delivered(), 1000);
        store(&mut documents, &told);
        let mut third = book(&documents);
        assert!(third.next_to_tell("slack", i64::MAX).is_none(), "told");
        // The condition ended while nobody followed the changes.
        let over = third.on_scan(&[], 40);
        store(&mut documents, &over);
        assert_eq!(book(&documents).next_to_tell("slack", 0).map(|a| a.state), Some(AlertState::Resolved));
    }

    #[test]
    fn failed_attempts_are_repeated_later_and_ambiguous_ones_remembered() {
        let mut book = book(&Documents::default());
        book.on_open(&lost("acct_1", 10), 20);
        let id = book.next_to_tell("slack", 0).expect("something to tell").id.clone();
        book.on_told(&id, "slack", 1, &Outcome::RetryAfter { wait_ms: 30_000 }, 1000);
        assert!(book.next_to_tell("slack", 30_999).is_none());
        assert!(book.next_to_tell("slack", 31_000).is_some());
        book.on_told(&id, "slack", 1, &Outcome::Unknown { reason: "timeout".into() }, 31_000);
        assert!(book.next_to_tell("slack", 31_001).is_none());
        book.on_told(&id, "slack", 1, &delivered(), 60_000);
        let progress = &book.alert(&id).expect("firing").deliveries["slack"];
        assert_eq!((progress.told, progress.attempts, progress.possible_duplicate), (1, 0, true));
        book.on_changes(&[ConditionChange::Close(lost("acct_1", 10).key)], 90);
        book.on_told(&id, "slack", 2, &Outcome::Gone, 91_000);
        assert_eq!(book.next_to_tell("slack", 91_000).map(|a| a.deliveries["slack"].receipt.clone()), Some(None));
    }

    #[test]
    fn a_rule_that_is_gone_resolves_what_it_fired() {
        let mut documents = Documents::default();
        let writes = book(&documents).on_open(&lost("acct_1", 10), 20);
        store(&mut documents, &writes);
        let others = crate::rule::built_in().expect("valid").into_iter().filter(|r| r.name != "provider_lost_charges");
        let mut book = Book::open(others.collect(), &["slack".into()], &documents).expect("readable");
        assert!(book.needs_scan() || book.read.rules.is_empty());
        book.on_scan(&[lost("acct_1", 10)], 30);
        assert_eq!(book.alerts().map(|a| a.state).collect::<Vec<_>>(), [AlertState::Resolved]);
    }
}
