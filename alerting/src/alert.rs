//! An alert: its rule and subject, severity, clocks, and the state of its messages.

use std::collections::BTreeMap;
use std::fmt;

use revwatch_core::condition::Condition;
use revwatch_core::entity::EntityKey;
use revwatch_core::money::Money;
use revwatch_core::redact;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::rule::{Rule, Severity};

/// One alert, from firing to resolved and delivered.
///
/// Many alerts of one rule at once are delivered as one: the *group* is an alert of its own with
/// [`Alert::group`] set, and its members, which name it in [`Alert::part_of`], have no messages of their own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// `al_…`; a function of rule, subject and time, so that two evaluators give it the same one.
    pub id: String,
    /// The rule's name.
    pub rule: String,
    /// Its severity.
    pub severity: Severity,
    /// Where its messages go.
    pub route: String,
    /// Words to route and silence by: the rule's, and those of the segment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The rule's words when it fired.
    pub title: String,
    /// What to do, in order.
    pub actions: Vec<String>,
    /// Where to read on.
    pub runbook: Option<String>,
    /// What it is about.
    #[serde(default)]
    pub subject: Subject,
    /// Where it is in its life.
    pub state: AlertState,
    /// Unix seconds at which the problem began.
    pub since_s: i64,
    /// Unix seconds.
    pub fired_s: i64,
    /// Unix seconds.
    pub acknowledged_s: Option<i64>,
    /// The person who acknowledged it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_by: Option<String>,
    /// Unix seconds.
    pub resolved_s: Option<i64>,
    /// The person who resolved it; `None` when its rule did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_by: Option<String>,
    /// Unix seconds since which its rule is clear, while `keep_firing_for` runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear_since_s: Option<i64>,
    /// When it should be acknowledged and resolved.
    #[serde(default)]
    pub sla: Sla,
    /// What messages show of the problem.
    pub evidence: Evidence,
    /// Set on a group: its members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// The group that it is a member of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<String>,
    /// Why its messages are held back now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted: Option<Mute>,
    /// Warnings and escalations so far, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Notice>,
    /// Grows with every change that readers should see.
    pub revision: u32,
    /// Unix seconds of the last change that readers should see.
    #[serde(default)]
    pub revised_s: i64,
    /// Its metric value has changed since, and readers have not seen it.
    #[serde(
        default,
        alias = "is_behind",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub has_unsent_changes: bool,
    /// The notifiers that deliver it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notifiers: Vec<String>,
    /// The state of each message.
    #[serde(alias = "deliveries")]
    pub notifications: BTreeMap<MessageKey, NotificationState>,
}

/// What an alert is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The complete business.
    #[default]
    Business,
    /// A part of it, for example the currency `usd`.
    Segment {
        /// What it is divided by.
        by: String,
        /// Which part.
        value: String,
    },
    /// One entity.
    Entity(EntityKey),
}

/// Where an alert is in its life. (Pending is a state of the rule: there is no alert yet.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// Its rule holds, and no person has acknowledged it.
    Firing,
    /// A person has acknowledged it.
    Acknowledged,
    /// It has ended.
    Resolved,
}

/// The times by which an alert should be acknowledged and resolved (C13), and its clocks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sla {
    /// Time to respond, in seconds as the rule has it (of business hours, if it counts those).
    pub respond_s: i64,
    /// Time to resolve.
    pub resolve_s: i64,
    /// Unix seconds by which it should be acknowledged.
    pub respond_due_s: i64,
    /// Unix seconds by which it should be resolved.
    pub resolve_due_s: i64,
    /// The notices that will be due, by Unix second, soonest first.
    #[serde(alias = "ahead")]
    pub upcoming: Vec<(i64, NoticeKind)>,
}

/// What a message shows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The value compared, for rules on metrics.
    #[serde(default, alias = "figure", skip_serializing_if = "Option::is_none")]
    pub metric_value: Option<MetricValue>,
    /// The money concerned, one entry per currency.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub money: Vec<Money>,
    /// The connected account concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The customer concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// Stripe's reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Its recent values, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trend: Vec<Point>,
    /// The events that show it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_ids: Vec<String>,
}

/// The value of a metric, and what it was compared with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MetricValue {
    /// The value.
    pub value: f64,
    /// What it must not be above (or below).
    pub threshold: f64,
    /// Which of the two.
    pub side: Side,
    /// How to write it.
    pub unit: Unit,
    /// A share's parts: how many, of how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<(i64, i64)>,
}

/// On which side of a threshold the problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Too much.
    Above,
    /// Too little.
    Below,
}

/// How a metric value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// 0.05 is 5 %.
    Share,
    /// So many.
    Count,
    /// A duration.
    Seconds,
    /// The smallest unit of the segment's currency.
    Minor,
}

/// One point of a trend.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Unix seconds.
    pub at_s: i64,
    /// In the metric's unit; `None`: too little was known.
    pub value: Option<f64>,
}

/// What a group stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// How many alerts joined it.
    pub joined: u32,
    /// How many of them are not resolved.
    pub open: u32,
    /// The largest by money, largest first; some of the first where no money is known.
    pub top: Vec<Member>,
    /// The money of all that joined; the evidence has that of those that are not resolved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub money: Vec<Money>,
}

/// A member that a group names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The alert's id.
    pub alert_id: String,
    /// Whom it is about.
    pub subject: Subject,
    /// The connected account concerned.
    pub account: Option<String>,
    /// The money concerned.
    pub money: Option<Money>,
}

/// Why the messages of an alert are held back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mute {
    /// A silence, by id.
    Silence(String),
    /// Another alert explains it, by id.
    Inhibited(String),
}

/// A message about an alert in addition to its own: a warning, a breach, an escalation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// From 1; 0 is the alert's own message.
    pub number: u32,
    /// What it says.
    pub kind: NoticeKind,
    /// Unix seconds.
    pub at_s: i64,
    /// Where it goes.
    pub route: String,
    /// The notifiers that deliver it.
    pub notifiers: Vec<String>,
}

/// The notices that a clock can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// The time to respond ends soon.
    RespondSoon,
    /// No person responded in time.
    RespondBreached,
    /// Step of the escalation chain, from 0.
    Escalated(u32),
    /// The time to resolve ends soon.
    ResolveSoon,
    /// It was not resolved in time.
    ResolveBreached,
}

/// One message's way to its readers: which notifier, and which of the alert's notices (0: the alert
/// itself).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageKey {
    /// Name of the notifier.
    pub notifier: String,
    /// See [`Notice::number`].
    pub notice: u32,
}

/// The state of one message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NotificationState {
    /// The revision its readers have seen; 0: none.
    #[serde(alias = "told")]
    pub delivered_revision: u32,
    /// The revision of an attempt, written before the attempt is made: an evaluator that finds it after a crash does
    /// not know whether the message arrived.
    #[serde(alias = "trying", skip_serializing_if = "Option::is_none")]
    pub attempting_revision: Option<u32>,
    /// Where the message is, for changing it in place and for its thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// Attempts since the last success.
    pub attempts: u32,
    /// Unix milliseconds before which nothing is tried.
    pub not_before_ms: i64,
    /// An attempt ended without an answer, and the destination could not say whether the message arrived: readers may
    /// have it twice.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub possible_duplicate: bool,
    /// Why this notifier cannot deliver it until a person repairs something; another was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

impl AlertState {
    /// The word in exports and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
        }
    }
}

impl Alert {
    /// As it may be logged: whatever could be more than an id or a word of Stripe's is replaced, and names of people
    /// are left out.
    pub fn redacted(&self) -> Self {
        let mut alert = self.clone();
        let id = |text: &mut String| *text = redact::id(text).into_owned();
        let currency =
            |money: &mut Money| money.currency = redact::name(&money.currency).into_owned();
        alert.subject = alert.subject.for_the_log();
        let Evidence {
            account,
            customer,
            detail,
            money,
            event_ids,
            ..
        } = &mut alert.evidence;
        account
            .iter_mut()
            .chain(customer)
            .chain(event_ids)
            .for_each(id);
        money.iter_mut().for_each(currency);
        detail.iter_mut().for_each(|text| {
            // A word of Stripe's, or a step of ours.
            let (ours, theirs) = match text.strip_prefix("reached ") {
                Some(step) => ("reached ", step),
                None => ("", text.as_str()),
            };
            *text = format!("{ours}{}", redact::kind(theirs));
        });
        if let Some(group) = &mut alert.group {
            group.money.iter_mut().for_each(currency);
            for member in &mut group.top {
                member.subject = member.subject.for_the_log();
                member.account.iter_mut().for_each(id);
                member.money.iter_mut().for_each(currency);
            }
        }
        for by in alert
            .acknowledged_by
            .iter_mut()
            .chain(&mut alert.resolved_by)
        {
            "somebody".clone_into(by);
        }
        alert
    }

    /// Fires `rule` now. Its clocks and ways are set by the engine.
    pub fn fire(
        rule: &Rule,
        subject: &Subject,
        since_s: i64,
        now_s: i64,
        evidence: Evidence,
    ) -> Self {
        let id = id(&format!("{}\n{subject}\n{since_s}\n{now_s}", rule.name));
        let mut labels = rule.labels.clone();
        if let Subject::Segment { by, value } = subject {
            labels.insert(by.clone(), value.clone());
        }
        Self {
            id,
            rule: rule.name.clone(),
            severity: rule.severity,
            route: rule.route.clone(),
            labels,
            title: rule.title.clone(),
            actions: rule.actions.clone(),
            runbook: rule.runbook.clone(),
            subject: subject.clone(),
            state: AlertState::Firing,
            since_s,
            fired_s: now_s,
            acknowledged_s: None,
            acknowledged_by: None,
            resolved_s: None,
            resolved_by: None,
            clear_since_s: None,
            sla: Sla::default(),
            evidence,
            group: None,
            part_of: None,
            muted: None,
            notices: Vec::new(),
            revision: 1,
            revised_s: now_s,
            has_unsent_changes: false,
            notifiers: Vec::new(),
            notifications: BTreeMap::new(),
        }
    }

    /// Whether it is resolved.
    pub fn is_over(&self) -> bool {
        self.state == AlertState::Resolved
    }

    /// A change that its readers should see.
    pub fn revise(&mut self, now_s: i64) {
        self.revision += 1;
        self.revised_s = now_s;
        self.has_unsent_changes = false;
    }

    /// What the subject is called in exports; empty for the complete business.
    pub fn subject_text(&self) -> String {
        self.subject.to_string()
    }

    /// The connected account it concerns.
    pub fn account(&self) -> Option<&str> {
        self.evidence.account.as_deref()
    }
}

/// The id of what is named like this.
pub fn id(name: &str) -> String {
    format!("al_{}", hex::encode(&Sha256::digest(name)[..8]))
}

impl Subject {
    /// The entity, if it is one.
    pub fn entity(&self) -> Option<&EntityKey> {
        match self {
            Self::Entity(key) => Some(key),
            _ => None,
        }
    }
}

/// For example `account acct_1` or `currency usd`; empty for the whole business.
impl Subject {
    /// As it may be logged.
    pub fn for_the_log(&self) -> Self {
        match self {
            Self::Business => Self::Business,
            Self::Segment { by, value } => Self::Segment {
                by: by.clone(),
                value: redact::name(value).into_owned(),
            },
            Self::Entity(key) => Self::Entity(EntityKey::new(key.kind, redact::id(&key.id))),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Business => Ok(()),
            Self::Segment { by, value } => write!(f, "{by} {value}"),
            Self::Entity(key) => write!(f, "{key}"),
        }
    }
}

impl MessageKey {
    /// The alert's own message by this notifier.
    pub fn main(notifier: &str) -> Self {
        Self {
            notifier: notifier.to_owned(),
            notice: 0,
        }
    }
}

/// `slack`, and `slack#2` for the second notice.
impl fmt::Display for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.notice {
            0 => f.write_str(&self.notifier),
            n => write!(f, "{}#{n}", self.notifier),
        }
    }
}

impl Serialize for MessageKey {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MessageKey {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Ok(match text.split_once('#') {
            Some((notifier, notice)) => Self {
                notifier: notifier.to_owned(),
                notice: notice
                    .parse()
                    .map_err(|_| serde::de::Error::custom("a notice has a number"))?,
            },
            None => Self::main(&text),
        })
    }
}

impl From<&Condition> for Evidence {
    fn from(condition: &Condition) -> Self {
        Self {
            money: condition.money.iter().cloned().collect(),
            account: condition.account.clone(),
            customer: condition.customer.clone(),
            detail: condition.detail.clone(),
            event_ids: vec![condition.event_id.clone()],
            ..Self::default()
        }
    }
}
