//! The messages to deliver, in order: by notifier and route, of what may be tried by now the most severe first,
//! whether it was tried before or not.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::alert::{Alert, MessageKey};
use crate::rule::Severity;

/// Notifier and route: their messages are delivered one after the other.
pub type Lane = (String, String);

/// No attempt waits longer: a destination that asks for more is not obeyed (`retry_after`), and other waits are shorter.
const LONGEST_WAIT_MS: i64 = 3_600_000;

/// Severity (critical first), fired, alert, notice.
type Rank = (Reverse<Severity>, i64, String, u32);

/// The messages in a lane.
#[derive(Default)]
struct Queue {
    /// May be tried.
    due: BTreeSet<Rank>,
    /// Not before these Unix milliseconds.
    later: BTreeSet<(i64, Rank)>,
}

/// The messages to deliver, in order: by notifier and route, of what may be tried by now the most severe first,
/// whether it was tried before or not.
#[derive(Default)]
pub struct Outbox {
    lanes: BTreeMap<Lane, Queue>,
    /// Where the messages of each alert are.
    places: HashMap<String, Vec<(Lane, i64, Rank)>>,
    /// Attempts that have begun and not ended.
    in_flight: HashSet<(String, MessageKey)>,
    /// Notifiers that do not deliver, and why.
    broken: BTreeMap<String, String>,
}

impl Outbox {
    /// Replaces the messages of `alert`: key, route and the Unix millisecond before which each waits.
    pub fn put(&mut self, alert: &Alert, messages: Vec<(MessageKey, String, i64)>) {
        self.clear(&alert.id);
        let mut places = Vec::new();
        for (key, route, not_before_ms) in messages {
            if self.is_in_flight(&alert.id, &key) {
                continue;
            }
            let lane = (key.notifier, route);
            let rank = (
                Reverse(alert.severity),
                alert.fired_s,
                alert.id.clone(),
                key.notice,
            );
            self.lanes
                .entry(lane.clone())
                .or_default()
                .later
                .insert((not_before_ms, rank.clone()));
            places.push((lane, not_before_ms, rank));
        }
        if !places.is_empty() {
            self.places.insert(alert.id.clone(), places);
        }
    }

    /// Removes the messages of an alert.
    pub fn clear(&mut self, id: &str) {
        for (lane, not_before_ms, rank) in self.places.remove(id).unwrap_or_default() {
            if let Some(queue) = self.lanes.get_mut(&lane) {
                queue.due.remove(&rank);
                queue.later.remove(&(not_before_ms, rank));
                if queue.due.is_empty() && queue.later.is_empty() {
                    self.lanes.remove(&lane);
                }
            }
        }
    }

    /// Every lane with something in it, and when its first message may be tried (Unix milliseconds).
    pub fn lanes(&self) -> impl Iterator<Item = (&Lane, i64)> {
        let first_ms = |queue: &Queue| match queue.due.is_empty() {
            true => queue.later.first().map(|(not_before_ms, _)| *not_before_ms),
            false => Some(0),
        };
        self.lanes
            .iter()
            .filter_map(move |(lane, queue)| Some((lane, first_ms(queue)?)))
    }

    /// The lanes in which something may be tried by now, that with the most severe first: several may lead to one
    /// destination.
    pub fn due(&mut self, now_ms: i64) -> Vec<Lane> {
        let firsts = self
            .lanes
            .iter_mut()
            .filter_map(|(lane, queue)| Some((queue.first(now_ms)?, lane)));
        let mut due: Vec<_> = firsts.collect();
        due.sort();
        due.into_iter().map(|(_, lane)| lane.clone()).collect()
    }

    /// The alert and the message that are next in a lane.
    pub fn next(&mut self, lane: &Lane, now_ms: i64) -> Option<(String, MessageKey)> {
        let (_, _, id, notice) = self.lanes.get_mut(lane)?.first(now_ms)?;
        Some((
            id.clone(),
            MessageKey {
                notifier: lane.0.clone(),
                notice: *notice,
            },
        ))
    }

    /// An attempt begins.
    pub fn begin(&mut self, id: &str, key: &MessageKey) {
        self.in_flight.insert((id.to_owned(), key.clone()));
    }

    /// An attempt has ended.
    pub fn end(&mut self, id: &str, key: &MessageKey) {
        self.in_flight.remove(&(id.to_owned(), key.clone()));
    }

    /// A notifier does not deliver. Returns whether that is new.
    pub fn break_notifier(&mut self, name: &str, reason: &str) -> bool {
        let before = self.broken.insert(name.to_owned(), reason.to_owned());
        before.is_none()
    }

    /// A notifier has delivered; returns whether it had been broken.
    pub fn repair(&mut self, name: &str) -> bool {
        self.broken.remove(name).is_some()
    }

    pub fn is_broken(&self, name: &str) -> bool {
        self.broken.contains_key(name)
    }

    /// Each notifier that does not deliver, and why.
    pub fn broken_notifiers(&self) -> impl Iterator<Item = (&String, &String)> {
        self.broken.iter()
    }

    /// Whether an attempt is under way.
    pub fn is_in_flight(&self, id: &str, key: &MessageKey) -> bool {
        self.in_flight.contains(&(id.to_owned(), key.clone()))
    }
}

impl Queue {
    /// What is next, if it may be tried by now.
    fn first(&mut self, now_ms: i64) -> Option<&Rank> {
        while self
            .later
            .first()
            .is_some_and(|(not_before_ms, _)| *not_before_ms <= now_ms)
        {
            self.due
                .extend(self.later.pop_first().map(|(_, rank)| rank));
        }
        // A wait that ends later than any that begins now began while the clock was ahead.
        while self
            .later
            .last()
            .is_some_and(|(not_before_ms, _)| *not_before_ms > now_ms + LONGEST_WAIT_MS)
        {
            self.due.extend(self.later.pop_last().map(|(_, rank)| rank));
        }
        self.due.first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{Evidence, Subject};

    fn alert(id: &str, severity: Severity) -> Alert {
        let text = format!(
            "[[rule]]\nname = \"r\"\nkind = \"condition\"\ncondition = \"payout_failed\"\nroute = \"x\"\n\
             severity = \"{}\"\ntitle = \"t\"\nactions = [\"a\"]\n",
            severity.as_str()
        );
        let rules = crate::rule_text::parse(&[("test".into(), text)]).expect("valid");
        let alert = Alert::fire(&rules[0], &Subject::Business, 0, 0, Evidence::default());
        Alert {
            id: id.into(),
            ..alert
        }
    }

    fn lane(route: &str) -> Lane {
        ("slack".into(), route.into())
    }

    #[test]
    fn a_broken_notifier_is_repaired_once() {
        let mut outbox = Outbox::default();
        assert!(outbox.break_notifier("slack", "no token"));
        assert!(!outbox.break_notifier("slack", "no channel"));
        assert!(outbox.is_broken("slack") && !outbox.is_broken("email"));
        let broken: Vec<_> = outbox.broken_notifiers().collect();
        assert_eq!(broken, [(&"slack".to_owned(), &"no channel".to_owned())]);
        assert!(outbox.repair("slack") && !outbox.repair("slack"));
    }

    #[test]
    fn the_most_severe_goes_first_also_when_it_was_tried_before_or_takes_another_route() {
        let mut outbox = Outbox::default();
        let mut put = |id, severity, route: &str, not_before_ms| {
            outbox.put(
                &alert(id, severity),
                vec![(MessageKey::main("slack"), route.into(), not_before_ms)],
            );
        };
        put("al_medium", Severity::Medium, "a", 0);
        put("al_high", Severity::High, "a", 500);
        put("al_critical", Severity::Critical, "b", 900);
        let next = |outbox: &mut Outbox, route, now_ms| {
            outbox.next(&lane(route), now_ms).map(|(id, _)| id)
        };
        assert_eq!(outbox.due(499), [lane("a")]);
        assert_eq!(next(&mut outbox, "a", 499).as_deref(), Some("al_medium"));
        assert_eq!(
            (outbox.due(500), next(&mut outbox, "a", 500).as_deref()),
            (vec![lane("a")], Some("al_high"))
        );
        assert_eq!(outbox.due(900), [lane("b"), lane("a")]);
        assert_eq!(
            outbox.lanes().map(|(_, at_ms)| at_ms).collect::<Vec<_>>(),
            [0, 0]
        );
        for id in ["al_medium", "al_high", "al_critical"] {
            outbox.clear(id);
        }
        assert!(outbox.lanes().next().is_none() && outbox.due(i64::MAX).is_empty());
    }

    /// Else it would wait until the clock gets there again.
    #[test]
    fn a_wait_that_began_while_the_clock_was_ahead_is_over() {
        const DAY_MS: i64 = 86_400_000;
        let mut outbox = Outbox::default();
        for (id, not_before_ms) in [("al_day", DAY_MS), ("al_hour", LONGEST_WAIT_MS)] {
            let message = (MessageKey::main("slack"), id.into(), not_before_ms);
            outbox.put(&alert(id, Severity::High), vec![message]);
        }
        assert_eq!(outbox.due(0), [lane("al_day")]);
        assert_eq!(
            outbox.lanes().map(|(_, at_ms)| at_ms).collect::<Vec<_>>(),
            [0, LONGEST_WAIT_MS]
        );
        assert_eq!(
            outbox.due(LONGEST_WAIT_MS),
            [lane("al_day"), lane("al_hour")]
        );
        outbox.clear("al_day");
        assert_eq!(outbox.due(LONGEST_WAIT_MS), [lane("al_hour")]);
    }
}
