//! Alerts as documents: the alert with its subject, clocks, evidence and messages, and the commands that
//! people give; how well alerts were handled. `revwatch-alerting` decides about them; every role may
//! read them.

mod command;
mod document;
mod evidence;
mod notification;
pub mod report;
mod subject;

pub use self::command::{Command, CommandKind, Matcher, Silence};
pub use self::document::{
    ALERTS, Alert, AlertState, AlertTemplate, DIGEST, Group, HISTORY, Member, Mute, RuleCount,
    SILENCES, Severity, Sla, id,
};
pub use self::evidence::{Evidence, MetricValue, Point, Side, Unit};
pub use self::notification::{
    Failing, Failures, MessageKey, Notice, NoticeKind, NotificationState,
};
pub use self::subject::Subject;
