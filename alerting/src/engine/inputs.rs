//! What rules evaluate: conditions as they change, all open conditions at once, and metrics.

use std::collections::{BTreeSet, HashMap};

use revwatch_core::bucket::Buckets;
use revwatch_core::condition::{BeganBefore, Condition, ConditionKey};
use revwatch_core::entity::EntityKey;
use revwatch_storage::ports::{ConditionChange, DueWindow};

use super::rule_set::{is_in_scope, rule_delay};
use super::{Engine, ScanReason, WatchKey};
use crate::alert::{Evidence, Subject};
use crate::metric_evaluation::{Evaluation, evaluate};
use crate::metric_value::MetricInputs;
use crate::rule::{Rule, RuleKind};

impl Engine {
    /// Why all open conditions must be evaluated before changes can be followed; `None`: they need not.
    pub(super) fn scan_reason(&self, now_s: i64) -> Option<ScanReason> {
        if self.position.rules != self.rules.fingerprints() {
            return Some(ScanReason::RulesChanged);
        }
        let waited = |rule: &&Rule| self.position.waiting.contains(&rule.name);
        let is_fresh = |rule: &&Rule| self.freshness.lateness(rule, now_s).is_none();
        let rules = self.rules.all().iter().filter(waited).filter(is_fresh);
        let rules: Vec<String> = rules.map(|rule| rule.name.clone()).collect();
        (!rules.is_empty()).then_some(ScanReason::NoLongerLate(rules))
    }

    /// When a condition that falls due after `after_s` (Unix seconds) reaches the time of one of its rules. `next_due_s`
    /// finds when the first condition falls due after a time.
    pub fn next_due_s(
        &self,
        after_s: i64,
        next_due_s: impl Fn(i64) -> Option<i64>,
    ) -> impl Iterator<Item = i64> {
        let delays = self.rules.delays().into_iter();
        delays.filter_map(move |delay| {
            let due_s = next_due_s(self.policy.begun_s(delay, after_s))?;
            Some(self.policy.due_s(delay, due_s))
        })
    }

    /// When the conditions fell due that rules must evaluate since the last tick. None within the same second.
    pub(super) fn due_windows(&self, now_s: i64) -> Vec<DueWindow> {
        if now_s <= self.position.until_s {
            return Vec::new();
        }
        let window = |delay| DueWindow {
            after_s: self.policy.begun_s(delay, self.position.until_s),
            until_s: self.policy.begun_s(delay, now_s),
        };
        let windows = self.rules.delays().into_iter().map(window);
        // Outside of business hours no time passes.
        windows.filter(|it| it.after_s < it.until_s).collect()
    }

    /// How many hours of counters the rules need.
    pub fn hours_needed(&self) -> u32 {
        self.rules.hours_needed()
    }

    /// The counters that the rules need at a time.
    pub fn buckets_needed(&self, now_s: i64) -> Buckets {
        self.rules.buckets_needed(now_s)
    }

    /// Follows changes of conditions: all that were not read yet, in their order. What a later one of them replaces was
    /// over before it could be read: no rule fires for it, and only alerts that fire already show it.
    pub(super) fn on_changes(&mut self, unread: &[ConditionChange], now_s: i64) {
        let newest: HashMap<&ConditionKey, usize> = unread
            .iter()
            .enumerate()
            .map(|(at, change)| (change.key(), at))
            .collect();
        for (at, change) in unread.iter().enumerate() {
            match change {
                ConditionChange::Open(condition) => {
                    let is_newest = newest.get(&condition.key) == Some(&at);
                    self.evaluate_open(condition, is_newest, now_s);
                }
                ConditionChange::Close(key) => self.on_close(key, now_s),
            }
        }
    }

    /// A condition that holds: rules whose time has come fire, and alerts of rules whose time has moved into the future
    /// end.
    pub(super) fn on_open(&mut self, condition: &Condition, now_s: i64) {
        self.evaluate_open(condition, true, now_s);
    }

    fn evaluate_open(&mut self, condition: &Condition, is_newest: bool, now_s: i64) {
        for index in self.rules.on_condition(condition.key.kind) {
            let rule = &self.rules.all()[index];
            let Some((_, delay)) = rule_delay(rule) else {
                continue;
            };
            let key = entity_key(rule, &condition.key.subject);
            if !is_in_scope(rule, condition) {
                // The rule had another scope, or the owner became known.
                if self.watches.get(&key).is_some() {
                    self.clear(index, key, now_s);
                }
                continue;
            }
            let due_s = self.policy.due_s(delay, condition.due_s);
            if due_s > now_s {
                // When it began is not remembered, so it may have been due for long: unknown, neither fires nor
                // resolves.
                let is_forgotten = condition.began_before == Some(BeganBefore::Forgotten);
                if is_forgotten && self.watches.firing(&key).is_some() {
                    continue;
                }
                let evidence = Evidence {
                    due_s: Some(due_s),
                    ..Evidence::from(condition)
                };
                self.postpone(index, key, (condition.since_s, evidence), now_s);
                continue;
            }
            if !is_newest && self.watches.firing(&key).is_none() {
                continue;
            }
            // The step that is due may have been taken: its event is perhaps still in the queue.
            if due_s > condition.since_s && self.freshness.lateness(rule, now_s).is_some() {
                self.position.waiting.insert(rule.name.clone());
                continue;
            }
            let notified_times = self.notified_times(&key);
            // Readers are notified of the newest only, and of that once.
            let times = match is_newest {
                true => condition.times.max(notified_times),
                false => notified_times,
            };
            let evaluation = Evaluation::Breached {
                since_s: condition.since_s,
                evidence: Evidence {
                    times,
                    ..Evidence::from(condition)
                },
            };
            let fires = self.watches.firing(&key).is_none();
            self.observe(index, key.clone(), evaluation, now_s, None);
            if is_newest {
                self.judge_beginning(&key, condition, due_s, fires, now_s);
                self.notify_again(&key, notified_times, now_s);
            }
        }
    }

    pub(super) fn on_close(&mut self, key: &ConditionKey, now_s: i64) {
        for index in self.rules.on_condition(key.kind) {
            let key = entity_key(&self.rules.all()[index], &key.subject);
            if self.watches.get(&key).is_some() {
                self.clear(index, key, now_s);
            }
        }
    }

    /// Evaluates all open conditions at once, and resolves what fires for none of them.
    #[cfg(test)]
    pub(super) fn on_scan(&mut self, open: &[Condition], now_s: i64) {
        self.begin_scan(open, now_s);
        for condition in open {
            self.on_open(condition, now_s);
        }
        self.end_scan();
    }

    /// An evaluation of all open conditions begins: what fires for none of them resolves. Call [`Engine::on_open`]
    /// for each of them, then [`Engine::end_scan`].
    pub(super) fn begin_scan(&mut self, open: &[Condition], now_s: i64) {
        // Until it has ended, an evaluator that continues from here starts it again.
        self.position.rules.clear();
        let held: BTreeSet<&ConditionKey> = open.iter().map(|c| &c.key).collect();
        self.position.waiting.clear();
        let watched: Vec<WatchKey> = self.watches.keys().cloned().collect();
        for key in watched {
            let index = self.rules.position(&key.rule);
            let is_entity = |subject: &EntityKey, kind| {
                held.contains(&ConditionKey {
                    kind,
                    subject: subject.clone(),
                })
            };
            match (index.map(|i| &self.rules.all()[i].kind), &key.subject) {
                (Some(RuleKind::Condition { condition, .. }), Subject::Entity(subject)) => {
                    if !is_entity(subject, *condition) {
                        self.observe(
                            index.unwrap_or(0),
                            key,
                            Evaluation::Clear { evidence: None },
                            now_s,
                            None,
                        );
                    }
                }
                // The rule was removed, or is a rule of another kind now.
                (None | Some(RuleKind::Condition { .. }), _)
                | (Some(RuleKind::Metric(_)), Subject::Entity(_)) => {
                    self.end_watch(&key, now_s, None);
                }
                (Some(RuleKind::Metric(metric)), subject) => {
                    let by = match subject {
                        Subject::Segment { by, .. } => Some(by),
                        _ => None,
                    };
                    if by != metric.by.as_ref() {
                        self.end_watch(&key, now_s, None);
                    }
                }
            }
        }
    }

    /// Every open condition has been evaluated.
    pub(super) fn end_scan(&mut self) {
        self.position.rules = self.rules.fingerprints().to_vec();
    }

    /// Rules on metrics evaluate the counters; while the workers are behind, only those about the pipeline.
    pub(super) fn on_counters(&mut self, inputs: MetricInputs<'_>) {
        self.freshness.update(inputs);
        for index in 0..self.rules.all().len() {
            let rule = &self.rules.all()[index];
            let RuleKind::Metric(metric) = rule.kind.clone() else {
                continue;
            };
            let must_wait = self.is_catching_up() && !metric.measure.is_about_pipeline();
            if must_wait || self.freshness.lateness(rule, inputs.now_s).is_some() {
                continue;
            }
            let watched = self.watches.segments(&rule.name);
            let name = rule.name.clone();
            for (segment, evaluation) in evaluate(&metric, inputs, watched) {
                let subject = match &metric.by {
                    None => Subject::Business,
                    Some(by) => Subject::Segment {
                        by: by.clone(),
                        value: segment,
                    },
                };
                let key = WatchKey {
                    rule: name.clone(),
                    subject,
                };
                self.observe(
                    index,
                    key,
                    evaluation,
                    inputs.now_s,
                    Some((&metric, inputs)),
                );
            }
        }
    }
}

fn entity_key(rule: &Rule, subject: &EntityKey) -> WatchKey {
    WatchKey {
        rule: rule.name.clone(),
        subject: Subject::Entity(subject.clone()),
    }
}
