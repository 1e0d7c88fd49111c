//! The clocks of alerts: when the next notice of each is due, and whether it is still worth sending.

use std::collections::BTreeSet;

use crate::alert::{Alert, AlertState, NoticeKind, Sla};

/// Which alerts have a notice due, by Unix second. The notices themselves are in [`Sla::upcoming`]: of each alert
/// only the first is here.
#[derive(Default)]
pub(super) struct SlaClocks {
    due: BTreeSet<(i64, String)>,
}

/// Why a notice that is due is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoticeSkip {
    /// The alert is muted.
    Muted,
    /// The notice requests a response, and the alert was acknowledged.
    Acknowledged,
    /// The alert is resolved.
    Resolved,
    /// It warns of a breach that is reported at the same time.
    Breached,
}

impl SlaClocks {
    /// Waits for the first notice of an alert.
    pub fn start(&mut self, alert_id: &str, sla: &Sla) {
        if let Some((at_s, _)) = sla.upcoming.first() {
            self.due.insert((*at_s, alert_id.to_owned()));
        }
    }

    /// Waits no longer. To be called before [`Sla::upcoming`] changes.
    pub fn stop(&mut self, alert_id: &str, sla: &Sla) {
        if let Some((at_s, _)) = sla.upcoming.first() {
            self.due.remove(&(*at_s, alert_id.to_owned()));
        }
    }

    /// The next alert with a notice due by now; it must be started again if it has more of them.
    pub fn pop_due(&mut self, now_s: i64) -> Option<String> {
        let is_due = self.due.first().is_some_and(|(at_s, _)| *at_s <= now_s);
        is_due
            .then(|| self.due.pop_first())
            .flatten()
            .map(|(_, id)| id)
    }

    /// The first Unix second after `after_s` at which a notice is due.
    pub fn next_s(&self, after_s: i64) -> Option<i64> {
        let mut later = self.due.iter().map(|(at_s, _)| *at_s);
        later.find(|at_s| *at_s > after_s)
    }
}

/// Why a notice of `alert` is not sent; `None`: it is. `due` are all that are due now.
pub(super) fn notice_skip(
    alert: &Alert,
    kind: NoticeKind,
    due: &[NoticeKind],
) -> Option<NoticeSkip> {
    use NoticeKind::{
        Again, Escalated, ResolveBreached, ResolveSoon, RespondBreached, RespondSoon,
    };
    if alert.muted.is_some() {
        return Some(NoticeSkip::Muted);
    }
    match alert.state {
        AlertState::Resolved => return Some(NoticeSkip::Resolved),
        AlertState::Acknowledged if kind.asks_for_response() => {
            return Some(NoticeSkip::Acknowledged);
        }
        AlertState::Acknowledged | AlertState::Firing => {}
    }
    let breach = match kind {
        RespondSoon => RespondBreached,
        ResolveSoon => ResolveBreached,
        RespondBreached | ResolveBreached | Escalated(_) | Again(_) => return None,
    };
    due.contains(&breach).then_some(NoticeSkip::Breached)
}

#[cfg(test)]
mod tests {
    use super::super::tests::rules;
    use super::*;
    use crate::alert::{Evidence, Mute, Subject};

    fn sla(at_s: &[i64]) -> Sla {
        let upcoming = at_s.iter().map(|at_s| (*at_s, NoticeKind::RespondSoon));
        Sla {
            upcoming: upcoming.collect(),
            ..Sla::default()
        }
    }

    #[test]
    fn clocks_are_due_in_their_order_until_they_are_stopped() {
        let mut clocks = SlaClocks::default();
        clocks.start("al_b", &sla(&[20, 40]));
        clocks.start("al_a", &sla(&[10]));
        clocks.start("al_c", &sla(&[15]));
        clocks.start("al_d", &sla(&[]));
        clocks.stop("al_c", &sla(&[15]));
        assert_eq!((clocks.next_s(9), clocks.next_s(10)), (Some(10), Some(20)));
        assert_eq!(clocks.pop_due(9), None);
        assert_eq!(clocks.pop_due(20).as_deref(), Some("al_a"));
        assert_eq!(clocks.pop_due(20).as_deref(), Some("al_b"));
        assert_eq!((clocks.pop_due(i64::MAX), clocks.next_s(0)), (None, None));
    }

    #[test]
    fn a_notice_that_is_not_sent_has_a_reason() {
        use NoticeKind::{Escalated, ResolveBreached, ResolveSoon, RespondBreached, RespondSoon};
        let rule = &rules()[0];
        let mut alert = Alert::fire(rule, &Subject::Business, 0, 0, Evidence::default());
        let both = [RespondSoon, RespondBreached, ResolveSoon, ResolveBreached];
        let skips = |alert: &Alert| both.map(|kind| notice_skip(alert, kind, &both));
        let breached = Some(NoticeSkip::Breached);
        assert_eq!(skips(&alert), [breached, None, breached, None]);
        assert_eq!(notice_skip(&alert, RespondSoon, &[RespondSoon]), None);
        assert_eq!(notice_skip(&alert, Escalated(0), &[Escalated(0)]), None);
        alert.state = AlertState::Acknowledged;
        let acknowledged = Some(NoticeSkip::Acknowledged);
        assert_eq!(skips(&alert), [acknowledged, acknowledged, breached, None]);
        assert_eq!(notice_skip(&alert, Escalated(1), &[]), acknowledged);
        alert.state = AlertState::Resolved;
        assert_eq!(skips(&alert), [Some(NoticeSkip::Resolved); 4]);
        alert.muted = Some(Mute::Silence("s".into()));
        assert_eq!(skips(&alert), [Some(NoticeSkip::Muted); 4]);
    }
}
