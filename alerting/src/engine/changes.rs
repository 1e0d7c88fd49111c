//! What has changed since the engine last settled: what must be decided, written and reported.

use std::collections::{BTreeMap, BTreeSet};

use revwatch_storage::ports::DocumentWrite;
use serde::Serialize;

use super::position;
use super::{
    ALERTS, BEGAN, EvaluatorPosition, HISTORY, PENDING, POSITION, SILENCES, TransitionEvent, json,
};
use crate::rule::Severity;

/// What has changed since the engine last settled: what must be decided, written and reported.
#[derive(Default)]
pub(super) struct Changes {
    /// New alerts: whether they are muted and join a group is not decided yet.
    fired: Vec<String>,
    /// Alerts that must be written, and whose messages may need an update.
    dirty: BTreeSet<String>,
    /// Resolved alerts of an earlier evaluator, which may be moved into the history.
    admitted: Vec<String>,
    writes: BTreeMap<(&'static str, String), Option<String>>,
    transitions: Vec<TransitionEvent>,
    written_position: EvaluatorPosition,
}

impl Changes {
    /// Nothing has changed since `position` was written.
    pub fn since(position: EvaluatorPosition) -> Self {
        Self {
            written_position: position,
            ..Self::default()
        }
    }

    /// An alert is to be delivered for the first time.
    pub fn fire(&mut self, alert_id: &str) {
        self.fired.push(alert_id.to_owned());
    }

    pub fn take_fired(&mut self) -> Vec<String> {
        std::mem::take(&mut self.fired)
    }

    /// An alert has changed.
    pub fn touch(&mut self, alert_id: &str) {
        self.dirty.insert(alert_id.to_owned());
    }

    pub fn take_dirty(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.dirty)
    }

    /// An earlier evaluator left a resolved alert.
    pub fn admit_resolved(&mut self, alert_id: &str) {
        self.admitted.push(alert_id.to_owned());
    }

    pub fn take_admitted(&mut self) -> Vec<String> {
        std::mem::take(&mut self.admitted)
    }

    pub fn put(&mut self, space: &'static str, key: &str, body: &impl Serialize) {
        self.writes
            .insert((space, key.to_owned()), Some(json(body)));
    }

    pub fn delete(&mut self, space: &'static str, key: &str) {
        self.writes.insert((space, key.to_owned()), None);
    }

    pub fn record(&mut self, transition: TransitionEvent) {
        self.transitions.push(transition);
    }

    /// Notes how many seconds after the alert fired the last transition came.
    pub fn clock_last(&mut self, severity: Severity, seconds: i64) {
        if let Some(last) = self.transitions.last_mut() {
            last.clocked = Some((severity, seconds));
        }
    }

    pub fn take_transitions(&mut self) -> Vec<TransitionEvent> {
        std::mem::take(&mut self.transitions)
    }

    /// Writes how far was read. If nothing but the time has changed, it is written only together with something else.
    pub fn put_position(&mut self, position: &EvaluatorPosition) {
        if self.writes.is_empty() && !self.is_beyond_time(position) {
            return;
        }
        if *position != self.written_position {
            self.put(POSITION, position::KEY, position);
            self.written_position = position.clone();
        }
    }

    /// Documents to be written, in this order. Very many are written in parts: what a crash leaves out the next
    /// evaluator finds and does again. A deletion comes after what replaces the document, an alert that a person
    /// resolved after the note that it was, a group after its members, and how far was read after everything.
    pub fn take_writes(&mut self, is_group: impl Fn(&str) -> bool) -> Vec<DocumentWrite> {
        let rank = |write: &DocumentWrite| match write.space {
            HISTORY => 0,
            SILENCES => 1,
            PENDING if write.body.is_some() => 2,
            ALERTS | PENDING if write.body.is_none() => 5,
            ALERTS if is_group(&write.key) => 4,
            ALERTS => 3,
            POSITION => 7,
            BEGAN => 0,
            _ => 6,
        };
        let mut writes: Vec<_> = std::mem::take(&mut self.writes)
            .into_iter()
            .map(|((space, key), body)| DocumentWrite { space, key, body })
            .collect();
        writes.sort_by_key(rank);
        writes
    }

    fn is_beyond_time(&self, position: &EvaluatorPosition) -> bool {
        let EvaluatorPosition {
            cursor,
            until_s: _,
            rules,
            waiting,
            history_cut_s,
            recovery_id,
            not_waited_for,
        } = position;
        let written = &self.written_position;
        *cursor != written.cursor
            || *rules != written.rules
            || *waiting != written.waiting
            || *history_cut_s != written.history_cut_s
            || *recovery_id != written.recovery_id
            || *not_waited_for != written.not_waited_for
    }
}

#[cfg(test)]
mod tests {
    use revwatch_storage::ports::COMMANDS;

    use super::*;

    #[test]
    fn documents_are_written_before_what_they_replace_is_deleted_and_the_position_last() {
        let mut changes = Changes::default();
        let position = EvaluatorPosition {
            until_s: 7,
            ..EvaluatorPosition::default()
        };
        changes.delete(COMMANDS, "c");
        changes.delete(ALERTS, "old");
        changes.put(ALERTS, "a_group", &1);
        changes.put(ALERTS, "member", &1);
        changes.put(PENDING, "dismissed", &1);
        changes.put(SILENCES, "s", &1);
        changes.put(HISTORY, "old", &1);
        changes.put_position(&position);
        let writes = changes.take_writes(|key| key == "a_group");
        let order: Vec<_> = writes.iter().map(|w| (w.space, w.key.as_str())).collect();
        let expected = [
            (HISTORY, "old"),
            (SILENCES, "s"),
            (PENDING, "dismissed"),
            (ALERTS, "member"),
            (ALERTS, "a_group"),
            (ALERTS, "old"),
            (COMMANDS, "c"),
            (POSITION, position::KEY),
        ];
        assert_eq!(order, expected);
        assert!(changes.take_writes(|_| false).is_empty());
    }

    #[test]
    fn time_alone_is_not_written() {
        let mut changes = Changes::since(EvaluatorPosition::default());
        let mut position = EvaluatorPosition {
            until_s: 7,
            ..EvaluatorPosition::default()
        };
        changes.put_position(&position);
        assert!(changes.take_writes(|_| false).is_empty());
        position.cursor.insert(0, 1);
        changes.put_position(&position);
        assert_eq!(changes.take_writes(|_| false).len(), 1);
        changes.put_position(&position);
        assert!(changes.take_writes(|_| false).is_empty());
    }
}
