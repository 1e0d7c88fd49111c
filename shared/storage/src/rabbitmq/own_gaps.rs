//! The gaps of the archive that this process makes, until the journal has them.

use std::collections::BTreeMap;

use revwatch_core::clock::Ids as _;
use tokio::time::Instant;

use crate::gaps::{Gap, REPEAT};
use crate::system::SystemIds;

/// See the module. At most one gap is open.
#[derive(Debug, Default)]
pub(super) struct OwnGaps {
    /// By key. What has ended leaves when the journal has its end.
    gaps: BTreeMap<String, Own>,
}

#[derive(Debug)]
struct Own {
    gap: Gap,
    /// When the journal took its newest line. `None`: something changed since.
    recorded: Option<Instant>,
}

impl OwnGaps {
    /// A gap lasts since `since_ms`, or one that is open does. Returns whether that is new.
    pub(super) fn begin(&mut self, since_ms: i64, reason: &str) -> bool {
        let Some(open) = self.open() else {
            let gap = Gap {
                since_ms,
                until_ms: None,
                reason: reason.to_owned(),
            };
            let recorded = None;
            let key = SystemIds.fresh().to_string();
            self.gaps.insert(key, Own { gap, recorded });
            return true;
        };
        let is_longer = since_ms < open.gap.since_ms;
        if is_longer {
            open.gap.since_ms = since_ms;
            reason.clone_into(&mut open.gap.reason);
            open.recorded = None;
        }
        is_longer
    }

    /// The open gap ends; `None`: there is none.
    pub(super) fn end(&mut self, until_ms: i64) -> Option<Gap> {
        let open = self.open()?;
        open.gap.until_ms = Some(until_ms);
        open.recorded = None;
        Some(open.gap.clone())
    }

    /// Whether the journal has something to learn.
    pub(super) fn is_any_due(&self, now: Instant) -> bool {
        self.gaps.values().any(|own| own.is_due(now))
    }

    /// The gaps that the journal has to take now, by key.
    pub(super) fn due(&self, now: Instant) -> Vec<(String, Gap)> {
        let due = self.gaps.iter().filter(|(_, own)| own.is_due(now));
        due.map(|(key, own)| (key.clone(), own.gap.clone()))
            .collect()
    }

    /// The journal has taken these.
    pub(super) fn recorded(&mut self, taken: &[(String, Gap)], now: Instant) {
        for (key, gap) in taken {
            if let Some(own) = self.gaps.get_mut(key)
                && own.gap == *gap
            {
                own.recorded = Some(now);
            }
        }
        self.gaps
            .retain(|_, own| own.gap.until_ms.is_none() || own.recorded.is_none());
    }

    fn open(&mut self) -> Option<&mut Own> {
        let mut all = self.gaps.values_mut();
        all.find(|own| own.gap.until_ms.is_none())
    }
}

impl Own {
    fn is_due(&self, now: Instant) -> bool {
        self.recorded
            .is_none_or(|recorded| now.duration_since(recorded) >= REPEAT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_due_until_it_is_recorded_again_while_it_lasts_and_once_when_it_ends() {
        let (mut own, start) = (OwnGaps::default(), Instant::now());
        assert_eq!(own.end(1), None);
        assert!(own.begin(1, "down"));
        assert!(!own.begin(2, "still"), "it began before");
        let due = own.due(start);
        assert_eq!(due.len(), 1);
        assert_eq!((due[0].1.since_ms, due[0].1.until_ms), (1, None));
        assert!(own.is_any_due(start + REPEAT), "the journal took nothing");
        own.recorded(&due, start);
        assert!(!own.is_any_due(start + REPEAT / 2));
        assert_eq!(own.due(start + REPEAT), due);

        assert!(own.begin(0, "deleted"), "more is missing");
        let longer = own.due(start);
        assert_eq!((longer[0].1.since_ms, &*longer[0].1.reason), (0, "deleted"));
        assert!(own.end(9).is_some());
        own.recorded(&longer, start);
        let end = own.due(start);
        assert_eq!(end[0].1.until_ms, Some(9), "the end is not recorded yet");
        own.recorded(&end, start);
        assert_eq!(own.due(start + REPEAT * 9), []);
    }

    #[test]
    fn an_end_that_is_not_recorded_waits_although_the_next_gap_begins() {
        let (mut own, start) = (OwnGaps::default(), Instant::now());
        own.begin(1, "down");
        own.end(2);
        own.begin(3, "down");
        assert_eq!(own.due(start).len(), 2);
    }
}
