//! What an event says of the time before it. The first event about an object is seldom its
//! beginning: what it does not say is unknown.

use super::Timeline;
use super::changes::Before;
use super::fingerprint::fingerprint;
use super::recorded::{Facts, RecordedState, Stage};
use crate::condition::BeganBefore;

/// So long after its beginning, an object is new: an event that does not say what it changed reports
/// what just happened.
const NEW_S: i64 = 3600;

impl<F: Facts> RecordedState<F> {
    /// What its event says that a field was before it; `field` is one of [`Facts::FIELDS`].
    pub fn before(&self, field: &str) -> Before {
        let place = F::FIELDS.iter().position(|tracked| *tracked == field);
        debug_assert!(place.is_some(), "{field} is not tracked");
        let Some(place) = place else {
            return Before::NotSaid;
        };
        match self.changes.before(place) {
            _ if self.stage == Stage::Created => Before::Nothing,
            _ if self.is_fetched() => Before::Unknown,
            Before::Was(former) if self.facts.value(place) == former => Before::Same,
            before => before,
        }
    }

    /// The same, of an object that began at `began_s`, if that is known: of an old one, an event that
    /// does not say what it changed says nothing of the time before.
    pub fn before_in_life(&self, field: &str, began_s: Option<i64>) -> Before {
        match self.before(field) {
            Before::NotSaid if self.is_unsure(began_s) => Before::Unknown,
            before => before,
        }
    }

    /// Whether it does not say what happened: it was fetched, or its event has no
    /// `previous_attributes` and its object began long before it, at `began_s`.
    pub fn is_unsure(&self, began_s: Option<i64>) -> bool {
        let is_old = |began_s: i64| began_s < self.created_s.saturating_sub(NEW_S);
        let is_silent = self.stage == Stage::Updated && self.changes.fields().is_none();
        self.is_fetched() || is_silent && began_s.is_some_and(is_old)
    }

    /// Whether it was fetched from Stripe's API.
    pub fn is_fetched(&self) -> bool {
        self.event_id.is_fetched()
    }

    /// Whether the event says that none of these fields changed with it.
    pub fn was_so_before(&self, fields: &[&str]) -> bool {
        self.all_unchanged(fields) == Some(true)
    }

    /// Whether all of these fields were before the event as they are in the event. `None`: the event does
    /// not say it of all, and of none that it was otherwise.
    pub fn all_unchanged(&self, fields: &[&str]) -> Option<bool> {
        let all = fields.iter().map(|field| self.unchanged(field));
        // The least: `Some(false)`, then `None`, then `Some(true)`.
        all.min_by_key(|unchanged| match unchanged {
            Some(false) => 0,
            None => 1,
            Some(true) => 2,
        })?
    }

    /// Whether a field was before the event as it is in the event. `None`: the event does not say it.
    pub fn unchanged(&self, field: &str) -> Option<bool> {
        self.held_before(field, |_| false)
    }

    /// Whether something that a field shows in the event was so before it; `held` judges the fingerprint
    /// of another value. `None`: the event does not say it.
    pub fn held_before(&self, field: &str, held: impl Fn(u32) -> bool) -> Option<bool> {
        match self.before(field) {
            Before::Same => Some(true),
            Before::Was(from) => Some(held(from)),
            Before::Nothing | Before::NotSaid | Before::Unknown => None,
        }
    }

    /// Whether a flag was set before the event; `now` is its value in the event. `None`: unknown.
    pub fn flag_before(&self, field: &str, now: bool) -> Option<bool> {
        match self.before(field) {
            Before::Nothing | Before::NotSaid => Some(false),
            Before::Same => Some(now),
            Before::Was(_) => Some(!now),
            Before::Unknown => None,
        }
    }
}

/// Whether the list with this fingerprint has elements.
pub fn has_elements(list: u32) -> bool {
    !["[]", "null"].map(fingerprint).contains(&list)
}

impl<F: Facts> Timeline<F> {
    /// Whether this is the oldest remembered state.
    pub fn is_first(&self, state: &RecordedState<F>) -> bool {
        let first = self.in_order().into_iter().next();
        first.is_some_and(|f| (f.created_s, &f.event_id) == (state.created_s, &state.event_id))
    }

    /// Whether a run of states that starts with `first` began before it. `held_before`: whether the
    /// event says so, as in [`Timeline::since`].
    pub fn began_before(
        &self,
        first: &RecordedState<F>,
        held_before: impl Fn(&RecordedState<F>) -> Option<bool>,
    ) -> Option<BeganBefore> {
        if !self.is_first(first) {
            return None;
        }
        if self.is_cut() {
            return Some(BeganBefore::Forgotten);
        }
        (held_before(first) == Some(true)).then_some(BeganBefore::FirstSeen)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::changes::Changes;
    use super::*;

    struct Row(Value);

    impl Facts for Row {
        const FIELDS: &'static [&'static str] = &["status", "on", "items.data", "due"];

        fn progress(&self) -> u64 {
            0
        }

        fn value(&self, place: usize) -> u32 {
            let mut names = Self::FIELDS[place].split('.');
            let value = names.try_fold(&self.0, |value, name| value.get(name));
            fingerprint(&value.unwrap_or(&Value::Null).to_string())
        }
    }

    fn updated(previous: Option<&Value>) -> RecordedState<Row> {
        let facts = Row(
            json!({"status": "past_due", "on": true, "items": {"data": [1]}, "due": ["a"], "email": "new"}),
        );
        let changes = previous.and_then(|it| Changes::read(&it.to_string(), Row::FIELDS));
        RecordedState {
            created_s: 1,
            event_id: "evt_1".into(),
            stage: Stage::Updated,
            facts: facts.into(),
            changes: changes.unwrap_or_default(),
        }
    }

    #[test]
    fn an_event_says_what_was_before_it() {
        let was = |value: Value| Before::Was(fingerprint(&value.to_string()));
        let table = [
            (None, "status", Before::NotSaid),
            (Some(json!({"email": "old"})), "status", Before::Same),
            (Some(json!({})), "status", Before::Same),
            (
                Some(json!({"status": "active"})),
                "status",
                was(json!("active")),
            ),
            (Some(json!({"status": "active"})), "on", Before::Same),
            (Some(json!({"status": "past_due"})), "status", Before::Same),
            (
                Some(json!({"items": {"data": [2]}})),
                "items.data",
                was(json!([2])),
            ),
            (Some(json!({"items": null})), "items.data", Before::Unknown),
            (
                Some(json!({"items": {"data": {"x": 1}}})),
                "items.data",
                Before::Unknown,
            ),
        ];
        for (previous, field, expected) in table {
            assert_eq!(
                updated(previous.as_ref()).before(field),
                expected,
                "{field} with {previous:?}"
            );
        }
        let created = RecordedState {
            stage: Stage::Created,
            ..updated(None)
        };
        assert_eq!(created.before("status"), Before::Nothing);
        let fetched = RecordedState {
            event_id: format!("{}1", crate::event::FETCHED).into(),
            ..updated(None)
        };
        assert_eq!(fetched.before("status"), Before::Unknown);
    }

    #[test]
    fn of_an_old_object_an_event_that_does_not_say_what_it_changed_says_nothing() {
        let at = |stage| RecordedState {
            created_s: 2 * NEW_S,
            stage,
            ..updated(None)
        };
        let table = [
            (Stage::Updated, None, Before::NotSaid),
            (Stage::Updated, Some(NEW_S), Before::NotSaid),
            (Stage::Updated, Some(NEW_S - 1), Before::Unknown),
            (Stage::Updated, Some(i64::MIN), Before::Unknown),
            (Stage::Updated, Some(i64::MAX), Before::NotSaid),
            (Stage::Created, Some(0), Before::Nothing),
            (Stage::Deleted, Some(0), Before::NotSaid),
        ];
        for (stage, began_s, expected) in table {
            assert_eq!(
                at(stage).before_in_life("status", began_s),
                expected,
                "{stage:?} of an object that began at {began_s:?}"
            );
        }
        let said = RecordedState {
            created_s: 2 * NEW_S,
            ..updated(Some(&json!({"email": "old"})))
        };
        assert_eq!(said.before_in_life("status", Some(0)), Before::Same);
    }

    #[test]
    fn flags_and_lists_before_an_event() {
        let flag = |previous: Option<Value>| updated(previous.as_ref()).flag_before("on", true);
        assert_eq!(flag(None), Some(false), "it happened with the event");
        assert_eq!(flag(Some(json!({"email": "old"}))), Some(true));
        assert_eq!(flag(Some(json!({"on": false}))), Some(false));
        let list =
            |previous: Option<Value>| updated(previous.as_ref()).held_before("due", has_elements);
        assert_eq!(list(None), None, "it is not said");
        assert_eq!(list(Some(json!({"due": []}))), Some(false));
        assert_eq!(list(Some(json!({"due": null}))), Some(false));
        assert_eq!(list(Some(json!({"due": ["b"]}))), Some(true));
        assert_eq!(list(Some(json!({"on": false}))), Some(true));
    }

    #[test]
    fn a_run_began_before_its_first_state_if_the_first_event_says_so() {
        let mut timeline = Timeline::default();
        let said = |timeline: &Timeline<Row>, at: usize| {
            let states = timeline.in_order();
            timeline.began_before(states[at], |s| s.unchanged("status"))
        };
        timeline.insert(updated(Some(&json!({"email": "old"}))));
        assert_eq!(said(&timeline, 0), Some(BeganBefore::FirstSeen));
        timeline.insert(RecordedState {
            created_s: 0,
            event_id: "evt_0".into(),
            ..updated(Some(&json!({"status": "active"})))
        });
        assert_eq!(said(&timeline, 0), None, "it began with the event");
        assert_eq!(said(&timeline, 1), None, "another state is before it");
    }
}
