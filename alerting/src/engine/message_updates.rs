//! Whether a message must be sent or changed, and why.

use crate::alert::{Alert, MessageKey, NotificationState};
use crate::policy::Capabilities;

/// Why a message must be sent, or changed in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UpdateReason {
    /// Its readers have nothing yet.
    NotDelivered,
    /// The alert has changed since its readers saw it.
    Changed,
    /// The alert is resolved, and its readers do not know.
    Resolved,
}

/// The notifier that is always there: it writes messages to the log.
pub(super) const LOG: &str = "log";

/// Every message of an alert, and the route that it takes.
pub(super) fn message_keys(alert: &Alert) -> impl Iterator<Item = (MessageKey, String)> {
    let main = alert
        .notifiers
        .iter()
        .map(|name| (MessageKey::main(name), alert.route.clone()));
    let notices = alert.notices.iter().flat_map(|notice| {
        notice.notifiers.iter().map(|name| {
            let key = MessageKey {
                notifier: name.clone(),
                notice: notice.number,
            };
            (key, notice.route.clone())
        })
    });
    main.chain(notices)
}

/// Why the message `key` of `alert` needs an update; `None`: it needs none, or its notifier cannot deliver it.
pub(super) fn update_reason(
    alert: &Alert,
    key: &MessageKey,
    capabilities: Capabilities,
) -> Option<UpdateReason> {
    let nothing = NotificationState::default();
    let state = alert.notifications.get(key).unwrap_or(&nothing);
    let is_delivered = state.delivered_revision > 0;
    let may_have_arrived = is_delivered || state.attempting_revision.is_some();
    if alert.muted.is_some() && !(may_have_arrived && alert.is_resolved()) {
        return None;
    }
    if key.notice > 0 {
        // What was wrong already has no deadlines, also if that became known after one. It may happen again.
        let mut notices = alert.notices.iter();
        let notice = notices.find(|notice| notice.number == key.notice);
        let is_of_a_clock = notice.is_none_or(|notice| notice.kind.is_of_a_clock());
        let is_wanted = !(alert.is_resolved() || alert.pre_existing && is_of_a_clock);
        let is_due = !is_delivered && is_wanted && !waits_for_main(alert, key);
        return is_due.then_some(UpdateReason::NotDelivered);
    }
    if !is_delivered {
        // An alert that was short, or whose destination was down, is not missed: one that resolved before its first
        // delivery is delivered once, as both. A broken notifier has nothing to add to what another delivered.
        let is_known =
            state.broken.is_some() && !may_have_arrived && is_delivered_by_another(alert);
        let is_late = alert.is_resolved() && (!capabilities.resolves || is_known);
        return (!is_late).then_some(UpdateReason::NotDelivered);
    }
    if state.delivered_revision >= alert.revision {
        return None;
    }
    if alert.is_resolved() {
        return (capabilities.edits || capabilities.resolves).then_some(UpdateReason::Resolved);
    }
    capabilities.edits.then_some(UpdateReason::Changed)
}

/// Whether any notifier has delivered the alert's own message to people. The log does not count.
fn is_delivered_by_another(alert: &Alert) -> bool {
    let mut messages = alert.notifications.iter();
    messages
        .any(|(key, state)| key.notice == 0 && key.notifier != LOG && state.delivered_revision > 0)
}

/// A notice follows the alert's own message, unless that cannot be delivered.
fn waits_for_main(alert: &Alert, key: &MessageKey) -> bool {
    let main = alert.notifications.get(&MessageKey::main(&key.notifier));
    alert.notifiers.contains(&key.notifier)
        && main.is_none_or(|state| state.delivered_revision == 0 && state.broken.is_none())
}

#[cfg(test)]
mod tests {
    use super::super::tests::rules;
    use super::*;
    use crate::alert::{AlertState, Evidence, Mute, Notice, NoticeKind, Subject};

    const EDITS: Capabilities = Capabilities {
        edits: true,
        resolves: true,
    };
    const RESOLVES: Capabilities = Capabilities {
        edits: false,
        ..EDITS
    };
    const FIRES: Capabilities = Capabilities {
        edits: false,
        resolves: false,
    };

    /// An alert at revision 2 of which Slack has `delivered_revision`.
    fn alert(delivered_revision: u32, state: AlertState) -> Alert {
        let mut alert = Alert::fire(&rules()[0], &Subject::Business, 0, 0, Evidence::default());
        alert.notifiers.push("slack".into());
        alert.state = state;
        alert.revision = 2;
        let delivered = NotificationState {
            delivered_revision,
            ..NotificationState::default()
        };
        alert
            .notifications
            .insert(MessageKey::main("slack"), delivered);
        alert
    }

    fn reasons(alert: &Alert) -> [Option<UpdateReason>; 3] {
        let key = MessageKey::main("slack");
        [EDITS, RESOLVES, FIRES].map(|capabilities| update_reason(alert, &key, capabilities))
    }

    #[test]
    fn an_update_has_a_reason_that_depends_on_what_the_notifier_can_do() {
        use UpdateReason::{Changed, NotDelivered, Resolved};
        let (firing, over) = (AlertState::Firing, AlertState::Resolved);
        assert_eq!(reasons(&alert(0, firing)), [Some(NotDelivered); 3]);
        assert_eq!(reasons(&alert(1, firing)), [Some(Changed), None, None]);
        assert_eq!(reasons(&alert(2, firing)), [None; 3]);
        let late = [Some(NotDelivered), Some(NotDelivered), None];
        assert_eq!(reasons(&alert(0, over)), late);
        let resolved = [Some(Resolved), Some(Resolved), None];
        assert_eq!(reasons(&alert(1, over)), resolved);
        assert_eq!(reasons(&alert(2, over)), [None; 3]);
    }

    #[test]
    fn a_muted_alert_needs_an_update_only_when_its_readers_wait_for_its_end() {
        let muted = |delivered_revision, state| Alert {
            muted: Some(Mute::Silence("s".into())),
            ..alert(delivered_revision, state)
        };
        assert_eq!(reasons(&muted(0, AlertState::Firing)), [None; 3]);
        assert_eq!(reasons(&muted(1, AlertState::Firing)), [None; 3]);
        assert_eq!(reasons(&muted(0, AlertState::Resolved)), [None; 3]);
        let resolved = Some(UpdateReason::Resolved);
        assert_eq!(reasons(&muted(1, AlertState::Resolved))[0], resolved);
        // Its readers may have it: an attempt ended without an answer before the alert was muted.
        let unconfirmed = |state| {
            let mut alert = muted(0, state);
            for state in alert.notifications.values_mut() {
                state.attempting_revision = Some(1);
            }
            reasons(&alert)
        };
        assert_eq!(unconfirmed(AlertState::Firing), [None; 3]);
        let late = Some(UpdateReason::NotDelivered);
        assert_eq!(unconfirmed(AlertState::Resolved), [late, late, None]);
    }

    #[test]
    fn a_broken_notifier_delivers_late_what_no_other_has_delivered() {
        let mut alert = alert(0, AlertState::Resolved);
        for state in alert.notifications.values_mut() {
            state.broken = Some("no channel".into());
        }
        let late = Some(UpdateReason::NotDelivered);
        assert_eq!(reasons(&alert), [late, late, None]);
        let delivered = NotificationState {
            delivered_revision: 1,
            ..NotificationState::default()
        };
        let in_log = MessageKey::main("log");
        alert.notifications.insert(in_log, delivered.clone());
        assert_eq!(
            reasons(&alert),
            [late, late, None],
            "no notifier had delivered it"
        );
        let other = MessageKey::main("email");
        alert.notifications.insert(other, delivered);
        assert_eq!(reasons(&alert), [None; 3]);
    }

    #[test]
    fn what_was_wrong_already_has_no_deadlines_and_may_happen_again() {
        let key = MessageKey {
            notifier: "slack".into(),
            notice: 1,
        };
        let reason = |kind, state| {
            let mut alert = alert(1, state);
            alert.pre_existing = true;
            alert.notices.push(Notice {
                number: 1,
                kind,
                at_s: 0,
                route: "x".into(),
                notifiers: vec!["slack".into()],
            });
            update_reason(&alert, &key, FIRES)
        };
        let due = Some(UpdateReason::NotDelivered);
        assert_eq!(reason(NoticeKind::Again(2), AlertState::Firing), due);
        assert_eq!(reason(NoticeKind::Again(2), AlertState::Resolved), None);
        assert_eq!(reason(NoticeKind::RespondSoon, AlertState::Firing), None);
    }

    #[test]
    fn a_notice_waits_for_the_alerts_own_message_unless_that_cannot_be_delivered() {
        let key = MessageKey {
            notifier: "slack".into(),
            notice: 1,
        };
        let due = Some(UpdateReason::NotDelivered);
        let reason = |alert: &Alert| update_reason(alert, &key, FIRES);
        assert_eq!(reason(&alert(0, AlertState::Firing)), None);
        assert_eq!(reason(&alert(1, AlertState::Acknowledged)), due);
        assert_eq!(reason(&alert(1, AlertState::Resolved)), None);
        let mut broken = alert(0, AlertState::Firing);
        for state in broken.notifications.values_mut() {
            state.broken = Some("no channel".into());
        }
        assert_eq!(reason(&broken), due);
    }
}
