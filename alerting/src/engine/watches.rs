//! What is remembered of each rule and subject between evaluations, and when time alone changes it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::WatchKey;
use crate::alert::Subject;

/// What is remembered of a rule and a subject. Nothing is remembered of an inactive one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Watch {
    /// The rule holds since this Unix second, not yet for long enough.
    Pending { since_s: i64 },
    /// There is an alert.
    Firing { alert_id: String },
    /// A person resolved the alert while the rule held.
    Dismissed,
}

/// A [`Watch`] that has no alert, as it is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredWatch {
    pub key: WatchKey,
    /// Unix seconds; `None`: dismissed.
    pub since_s: Option<i64>,
}

/// What is remembered of each rule and subject between evaluations, and when time alone changes it.
#[derive(Default)]
pub(super) struct Watches {
    by_key: HashMap<WatchKey, Watch>,
    /// By rule on a metric, the segments that it has a watch on.
    segments: BTreeMap<String, BTreeSet<String>>,
    /// By Unix second: what will have held for long enough to fire.
    ripening: BTreeSet<(i64, WatchKey)>,
    /// By Unix second: what will have been clear for long enough to resolve.
    closing: BTreeSet<(i64, WatchKey)>,
}

impl StoredWatch {
    pub fn watch(&self) -> Watch {
        match self.since_s {
            Some(since_s) => Watch::Pending { since_s },
            None => Watch::Dismissed,
        }
    }

    /// The key of its document.
    pub fn document_key(key: &WatchKey) -> String {
        format!("{}\n{}", key.rule, key.subject)
    }
}

impl Watches {
    /// Sets or removes a watch; returns the earlier one. `for_s` is how long its rule must hold.
    pub fn set(&mut self, key: WatchKey, watch: Option<Watch>, for_s: i64) -> Option<Watch> {
        if let Subject::Segment { value, .. } = &key.subject {
            let segments = self.segments.entry(key.rule.clone()).or_default();
            if watch.is_some() {
                segments.insert(value.clone());
            } else {
                segments.remove(value);
            }
        }
        if let Some(Watch::Pending { since_s }) = self.by_key.get(&key) {
            self.ripening.remove(&(since_s + for_s, key.clone()));
        }
        if let Some(Watch::Pending { since_s }) = &watch {
            self.ripening.insert((since_s + for_s, key.clone()));
        }
        match watch {
            Some(watch) => self.by_key.insert(key, watch),
            None => self.by_key.remove(&key),
        }
    }

    pub fn get(&self, key: &WatchKey) -> Option<&Watch> {
        self.by_key.get(key)
    }

    /// The alert of a rule and a subject that fire.
    pub fn firing(&self, key: &WatchKey) -> Option<&String> {
        match self.by_key.get(key)? {
            Watch::Firing { alert_id } => Some(alert_id),
            Watch::Pending { .. } | Watch::Dismissed => None,
        }
    }

    pub fn keys(&self) -> impl Iterator<Item = &WatchKey> {
        self.by_key.keys()
    }

    /// The segments that a rule has a watch on.
    pub fn segments(&self, rule: &str) -> BTreeSet<String> {
        self.segments.get(rule).cloned().unwrap_or_default()
    }

    /// What fires is clear and resolves at `at_s` unless it breaches again.
    pub fn close_at(&mut self, at_s: i64, key: &WatchKey) {
        self.closing.insert((at_s, key.clone()));
    }

    /// What was to resolve at `at_s` does not, or has.
    pub fn cancel_close(&mut self, at_s: i64, key: &WatchKey) {
        self.closing.remove(&(at_s, key.clone()));
    }

    /// The next that has been clear for long enough by now.
    pub fn pop_closing(&mut self, now_s: i64) -> Option<WatchKey> {
        let is_due = self.closing.first().is_some_and(|(at_s, _)| *at_s <= now_s);
        is_due
            .then(|| self.closing.pop_first())
            .flatten()
            .map(|(_, key)| key)
    }

    /// Whether something has held for long enough to fire, if it still holds.
    pub fn is_ripe(&self, now_s: i64) -> bool {
        self.ripening
            .first()
            .is_some_and(|(at_s, _)| *at_s <= now_s)
    }

    /// The first Unix second after `after_s` at which time alone changes something. What is overdue and unknown
    /// waits for news, not for time.
    pub fn next_s(&self, after_s: i64) -> Option<i64> {
        let first = |moments: &BTreeSet<(i64, WatchKey)>| {
            let mut later = moments.iter().map(|(at_s, _)| *at_s);
            later.find(|at_s| *at_s > after_s)
        };
        let moments = [first(&self.closing), first(&self.ripening)];
        moments.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(value: &str) -> WatchKey {
        let subject = Subject::Segment {
            by: "currency".into(),
            value: value.into(),
        };
        WatchKey {
            rule: "failures".into(),
            subject,
        }
    }

    #[test]
    fn a_pending_watch_is_ripe_until_it_fires_or_is_removed() {
        let mut watches = Watches::default();
        let pending = |since_s| Some(Watch::Pending { since_s });
        assert_eq!(watches.set(key("usd"), pending(100), 60), None);
        watches.set(key("eur"), pending(130), 60);
        assert!(!watches.is_ripe(159) && watches.is_ripe(160));
        assert_eq!(
            (watches.next_s(0), watches.next_s(160)),
            (Some(160), Some(190))
        );
        let alert_id = "al_1".to_owned();
        let earlier = watches.set(key("usd"), Some(Watch::Firing { alert_id }), 60);
        assert_eq!(earlier, pending(100));
        assert!(!watches.is_ripe(189));
        assert_eq!(
            watches.firing(&key("usd")).map(String::as_str),
            Some("al_1")
        );
        assert_eq!(watches.firing(&key("eur")), None);
        watches.set(key("eur"), None, 60);
        assert!(!watches.is_ripe(i64::MAX) && watches.next_s(0).is_none());
        assert_eq!(
            watches.segments("failures"),
            BTreeSet::from(["usd".to_owned()])
        );
    }

    #[test]
    fn clear_watches_close_in_the_order_of_their_time() {
        let mut watches = Watches::default();
        watches.close_at(20, &key("usd"));
        watches.close_at(10, &key("eur"));
        watches.close_at(15, &key("gbp"));
        watches.cancel_close(15, &key("gbp"));
        assert_eq!(watches.next_s(10), Some(20));
        assert_eq!(watches.pop_closing(9), None);
        assert_eq!(watches.pop_closing(20), Some(key("eur")));
        assert_eq!(watches.pop_closing(20), Some(key("usd")));
        assert_eq!(watches.pop_closing(i64::MAX), None);
    }
}
