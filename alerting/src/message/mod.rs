//! What people read: an alert, or a notice about it, as text and as Slack blocks. Pure.

// What a sender sends must neither panic nor wrap; see `revwatch_core`.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

mod details;
mod facts;
mod format;
mod links;
mod markup;
mod slack_blocks;
#[cfg(test)]
mod tests;
mod text;

use revwatch_core::neutral;
use serde_json::Value;

use self::details::details;
use self::facts::facts;
pub(crate) use self::format::clamp;
pub(crate) use self::markup::escape;
use self::slack_blocks::blocks;
use self::text::{short, text};
use crate::alert::{Alert, AlertState, MessageKey, Notice, NoticeKind, NotificationState, Subject};
use crate::rule::Severity;

/// A message, ready for any notifier. Its texts are neutral: what is foreign in them neither begins a line nor acts on
/// what shows it. `details` is for programs, and holds what was sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Names this message to its destination; the same for every attempt at it.
    pub delivery_id: String,
    /// The alert.
    pub alert_id: String,
    /// The revision of the alert that it shows.
    pub revision: u32,
    /// The rule that fired.
    pub rule: String,
    /// Its severity.
    pub severity: Severity,
    /// The state of the alert at this revision.
    pub state: AlertState,
    /// `None` for the alert itself; otherwise the kind of notice.
    pub notice: Option<NoticeKind>,
    /// Selects the channel or the addresses.
    pub route: String,
    /// Unix seconds at which the alert fired.
    pub fired_s: i64,
    /// The earlier message, to update in place.
    pub receipt: Option<String>,
    /// The alert's own message by the same notifier: a notice is posted in its thread.
    pub thread: Option<String>,
    /// An earlier attempt may have delivered it.
    pub possible_duplicate: bool,
    /// One line, for a subject.
    pub headline: String,
    /// Everything, as plain text.
    pub text: String,
    /// The essential facts in at most 300 characters, for text messages.
    pub short: String,
    /// The same as `text`, in Slack's Block Kit.
    pub blocks: Value,
    /// The alert for programs: id, rule, severity, state, times, labels, money, metric value.
    pub details: Value,
}

/// Ends the delivery id of a separate message that an alert is resolved.
pub const RESOLVED: &str = "-resolved";

/// Renders an alert, or one of its notices, in its current state.
pub fn render(alert: &Alert, key: &MessageKey, state: &NotificationState) -> Message {
    let notice = alert
        .notices
        .iter()
        .find(|notice| notice.number == key.notice);
    // A reader who first learns of the end must learn that it had fired, too. An earlier attempt that may have arrived
    // said so.
    let fired_unseen = alert.is_resolved()
        && notice.is_none()
        && state.delivered_revision == 0
        && !state.possible_duplicate;
    let facts = facts(alert, state, fired_unseen);
    let headline = headline(alert, notice, fired_unseen);
    let suffix = if key.notice == 0
        && state.delivered_revision > 0
        && state.receipt.is_none()
        && alert.is_resolved()
    {
        RESOLVED
    } else {
        ""
    };
    // The readers of one that returned have another message of it, which cannot be changed.
    let again = match alert.returned_s {
        Some(returned_s) if key.notice == 0 && state.receipt.is_none() => format!("-{returned_s}"),
        _ => String::new(),
    };
    let route = notice.map_or(&alert.route, |notice| &notice.route);
    let main = alert.notifications.get(&MessageKey::main(&key.notifier));
    Message {
        delivery_id: format!("{}-{}{again}{suffix}", alert.id, key.notice),
        alert_id: alert.id.clone(),
        revision: alert.revision,
        rule: alert.rule.clone(),
        severity: alert.severity,
        state: alert.state,
        notice: notice.map(|notice| notice.kind),
        route: route.clone(),
        fired_s: alert.fired_s,
        receipt: state.receipt.clone(),
        // Another route has another channel, without this thread.
        thread: main
            .filter(|_| notice.is_some() && *route == alert.route)
            .and_then(|main| main.receipt.clone()),
        possible_duplicate: state.possible_duplicate,
        text: text(alert, &headline, &facts),
        short: short(alert, &headline),
        blocks: blocks(alert, notice, &headline, &facts),
        details: details(alert, notice),
        headline,
    }
}

/// For example `🔴 CRITICAL: More than 5 % of payouts are failing`.
fn headline(alert: &Alert, notice: Option<&Notice>, fired_unseen: bool) -> String {
    let severity = match alert.severity {
        Severity::Critical => "🔴 CRITICAL",
        Severity::High => "🟠 HIGH",
        Severity::Medium => "🟡 MEDIUM",
        Severity::Low => "🔵 LOW",
    };
    let status = match (alert.state, notice) {
        (_, Some(notice)) => format!("{} · {severity}", notice_text(notice.kind)),
        (AlertState::Resolved, None) if alert.is_withdrawn() => "↩️ CORRECTED".to_owned(),
        (AlertState::Resolved, None) if fired_unseen => "✅ FIRED AND RESOLVED".to_owned(),
        (AlertState::Resolved, None) => "✅ RESOLVED".to_owned(),
        (AlertState::Acknowledged, None) => format!("{severity} (acknowledged)"),
        (AlertState::Firing, None) if alert.pre_existing && alert.group.is_none() => {
            format!("{severity} (wrong already)")
        }
        (AlertState::Firing, None) => severity.to_owned(),
    };
    let count = match &alert.group {
        Some(group) if alert.is_digest() => match group.joined {
            0 => "nothing was ".to_owned(),
            1 => "1 thing was ".to_owned(),
            joined => format!("{joined} things were "),
        },
        Some(group) => format!("{} × ", group.joined),
        None => String::new(),
    };
    let segment = match &alert.subject {
        Subject::Segment { value, .. } => format!(" ({value})"),
        _ => String::new(),
    };
    let headline = format!("{status}: {count}{}{segment}", alert.title);
    neutral::line(&headline).into_owned()
}

/// A notice in the words of a headline.
fn notice_text(kind: NoticeKind) -> String {
    match kind {
        NoticeKind::RespondSoon => "⏳ RESPONSE DUE SOON".into(),
        NoticeKind::RespondBreached => "⏰ NO RESPONSE IN TIME".into(),
        NoticeKind::Escalated(step) => format!("📣 ESCALATION {}", step.saturating_add(1)),
        NoticeKind::ResolveSoon => "⏳ RESOLUTION DUE SOON".into(),
        NoticeKind::ResolveBreached => "⏰ NOT RESOLVED IN TIME".into(),
        NoticeKind::Again(times) => format!("🔁 AGAIN ({times})"),
    }
}
