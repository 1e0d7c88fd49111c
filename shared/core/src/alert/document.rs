//! The alert itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::evidence::Evidence;
use super::notification::{MessageKey, Notice, NoticeKind, NotificationState};
use super::subject::Subject;
use crate::amounts::{Amounts, MoneyDoubt};
use crate::money::Money;
use crate::redact;

/// Document space of alerts that are not resolved, or of which a message is not delivered yet.
pub const ALERTS: &str = "alert";
/// Document space of alerts that are resolved, all their messages delivered.
pub const HISTORY: &str = "history";
/// The rule that the digest of [`Alert::pre_existing`] alerts names, and its route: no rule of a file can have this
/// name.
pub const DIGEST: &str = "pre-existing";
/// Document space of silences, also those that have ended recently.
pub const SILENCES: &str = "silence";

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
    /// Selects the channels and addresses that are notified.
    pub route: String,
    /// Labels for routing and silencing: the rule's, and the segment's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The rule's title when it fired.
    pub title: String,
    /// What to do, in order.
    pub actions: Vec<String>,
    /// Where to read more.
    pub runbook: Option<String>,
    /// What it is about.
    #[serde(default)]
    pub subject: Subject,
    /// Its state.
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
    /// Unix seconds since which its rule is false, while `keep_firing_for` runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear_since_s: Option<i64>,
    /// Unix seconds at which it fired soon after it, or the one before it, had resolved: its problem comes and goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned_s: Option<i64>,
    /// When it should be acknowledged and resolved.
    #[serde(default)]
    pub sla: Sla,
    /// What messages show of the problem.
    pub evidence: Evidence,
    /// It was so before revwatch began: no person is notified of it singly, and it has no clocks. On a group: the
    /// digest of such alerts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pre_existing: bool,
    /// Set on a group: its members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// The group that it is a member of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<String>,
    /// Why its messages are suppressed now.
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

/// The state of an alert. (Pending is a state of the rule: there is no alert yet.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// Its rule is true, and no person has acknowledged it.
    Firing,
    /// A person has acknowledged it.
    Acknowledged,
    /// Its rule is false, or a person resolved it.
    Resolved,
}

/// The severity of an alert (C13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For the record.
    Low,
    /// May become a loss.
    Medium,
    /// Revenue is impaired.
    High,
    /// Revenue is blocked.
    Critical,
}

/// The times by which an alert should be acknowledged and resolved (C13), and its clocks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sla {
    /// Time to respond, in seconds as in the rule (of business hours, if it counts those).
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
    /// Unix second from which they count: when it fired, or when it was no longer muted. 0 in what earlier
    /// versions stored.
    #[serde(default)]
    pub started_s: i64,
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
    /// How much more it may be.
    #[serde(default, skip_serializing_if = "MoneyDoubt::is_none")]
    pub money_doubt: MoneyDoubt,
    /// How many of each rule joined, the most severe first. Only the digest of [`Alert::pre_existing`] alerts has
    /// several rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleCount>,
}

/// How many alerts of a rule joined a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCount {
    /// The rule's name.
    pub rule: String,
    /// Its title.
    pub title: String,
    /// Its severity.
    pub severity: Severity,
    /// How many joined.
    pub joined: u32,
}

/// A member that a group names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The alert's id.
    pub alert_id: String,
    /// What it is about.
    pub subject: Subject,
    /// The connected account concerned.
    pub account: Option<String>,
    /// The money concerned: at least this.
    pub money: Option<Money>,
    /// How much more it may be.
    #[serde(default, skip_serializing_if = "MoneyDoubt::is_none")]
    pub money_doubt: MoneyDoubt,
    /// The alert's rule; empty in what earlier versions stored.
    #[serde(default)]
    pub rule: String,
}

/// Why the messages of an alert are suppressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mute {
    /// A silence, by id.
    Silence(String),
    /// Another alert explains it, by id.
    Inhibited(String),
}

/// What a rule gives to each alert that it fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertTemplate {
    /// The rule's name.
    pub rule: String,
    /// See [`Alert::severity`].
    pub severity: Severity,
    /// See [`Alert::route`].
    pub route: String,
    /// See [`Alert::labels`].
    pub labels: BTreeMap<String, String>,
    /// See [`Alert::title`].
    pub title: String,
    /// See [`Alert::actions`].
    pub actions: Vec<String>,
    /// See [`Alert::runbook`].
    pub runbook: Option<String>,
}

impl Alert {
    /// As it may be logged: text that is neither an id nor a word of Stripe's is replaced, and so are the
    /// names of people.
    pub fn redacted(&self) -> Self {
        let mut alert = self.clone();
        let id = |text: &mut String| *text = redact::id(text).into_owned();
        let currency =
            |money: &mut Money| money.currency = redact::name(&money.currency).into_owned();
        alert.subject = alert.subject.redacted();
        // Firing it made a label of the segment.
        if let Subject::Segment { by, value } = &alert.subject {
            alert.labels.insert(by.clone(), value.clone());
        }
        let Evidence {
            account,
            customer,
            detail,
            money,
            money_doubt,
            event_ids,
            ..
        } = &mut alert.evidence;
        account
            .iter_mut()
            .chain(customer)
            .chain(event_ids)
            .for_each(id);
        money.iter_mut().for_each(currency);
        money_doubt.redact();
        // Why a notifier fails is said in our own words.
        if alert.subject.broken_notifier().is_none() {
            detail
                .iter_mut()
                .for_each(|text| *text = redact::detail(text).into_owned());
        }
        if let Some(group) = &mut alert.group {
            group.money.iter_mut().for_each(currency);
            group.money_doubt.redact();
            for member in &mut group.top {
                member.subject = member.subject.redacted();
                member.account.iter_mut().for_each(id);
                member.money.iter_mut().for_each(currency);
                member.money_doubt.redact();
            }
        }
        for by in alert
            .acknowledged_by
            .iter_mut()
            .chain(&mut alert.resolved_by)
        {
            "a person".clone_into(by);
        }
        alert
    }

    /// An alert that begins to fire now. The engine sets its clocks and notifiers.
    pub fn fire(
        template: impl Into<AlertTemplate>,
        subject: &Subject,
        since_s: i64,
        now_s: i64,
        evidence: Evidence,
    ) -> Self {
        let AlertTemplate {
            rule,
            severity,
            route,
            mut labels,
            title,
            actions,
            runbook,
        } = template.into();
        let id = id(&format!("{rule}\n{subject}\n{since_s}\n{now_s}"));
        if let Subject::Segment { by, value } = subject {
            labels.insert(by.clone(), value.clone());
        }
        Self {
            id,
            rule,
            severity,
            route,
            labels,
            title,
            actions,
            runbook,
            subject: subject.clone(),
            state: AlertState::Firing,
            since_s,
            fired_s: now_s,
            acknowledged_s: None,
            acknowledged_by: None,
            resolved_s: None,
            resolved_by: None,
            clear_since_s: None,
            returned_s: None,
            sla: Sla::default(),
            evidence,
            pre_existing: false,
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

    /// Whether it is the digest of what was wrong already when revwatch began.
    pub fn is_digest(&self) -> bool {
        self.pre_existing && self.group.is_some()
    }

    /// Whether it is a group of which every alert turned out to belong elsewhere.
    pub fn is_withdrawn(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.joined == 0)
    }

    /// The notifiers whose own message of it has arrived, or may have.
    pub fn reached(&self) -> Vec<String> {
        let has_arrived = |state: &NotificationState| {
            let is_unconfirmed = state.attempting_revision.is_some() || state.possible_duplicate;
            state.delivered_revision > 0 || is_unconfirmed
        };
        let messages = self.notifications.iter();
        let reached = messages.filter(|(key, state)| key.notice == 0 && has_arrived(state));
        reached.map(|(key, _)| key.notifier.clone()).collect()
    }

    /// When its clocks started: those of an alert that was muted do when people can know of it.
    pub fn started_s(&self) -> i64 {
        match self.sla.started_s {
            0 => self.fired_s,
            started_s => started_s,
        }
    }

    /// Whether it is resolved.
    pub fn is_resolved(&self) -> bool {
        self.state == AlertState::Resolved
    }

    /// A change that its readers should see.
    pub fn revise(&mut self, now_s: i64) {
        self.revision = self.revision.saturating_add(1);
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

impl Group {
    /// The money of all that joined.
    pub fn amounts(&self) -> Amounts {
        Amounts {
            money: self.money.clone(),
            doubt: self.money_doubt.clone(),
        }
    }

    /// Adds `times` an amount to the money of all that joined.
    pub fn add_amounts(&mut self, amounts: &Amounts, times: i64) {
        let mut sum = self.amounts();
        sum.add(amounts, times);
        (self.money, self.money_doubt) = (sum.money, sum.doubt);
    }
}

impl Member {
    /// The money concerned.
    pub fn amounts(&self) -> Amounts {
        Amounts {
            money: self.money.iter().cloned().collect(),
            doubt: self.money_doubt.clone(),
        }
    }
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

impl Severity {
    /// All severities, from the lowest.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The name in rule files and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// The id of the alert with this name.
pub fn id(name: &str) -> String {
    format!("al_{}", hex::encode(&Sha256::digest(name)[..8]))
}

#[cfg(test)]
impl AlertTemplate {
    /// A critical alert without anything optional.
    pub(crate) fn sample() -> Self {
        Self {
            rule: "charges_lost".into(),
            severity: Severity::Critical,
            route: "x".into(),
            labels: BTreeMap::new(),
            title: "t".into(),
            actions: Vec::new(),
            runbook: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_redacted_as_the_subject_and_as_a_label() {
        let template = AlertTemplate {
            labels: BTreeMap::from([("tag".into(), "growth team".into())]),
            ..AlertTemplate::sample()
        };
        let subject = Subject::Segment {
            by: "country".into(),
            value: "Jane Doe".into(),
        };
        let alert = Alert::fire(template, &subject, 1, 2, Evidence::default());
        let shown = alert.redacted();
        assert!(alert.labels["country"] == "Jane Doe" && shown.labels["tag"] == "growth team");
        assert!(
            shown.labels["country"].starts_with("unusual-"),
            "{:?}",
            shown.labels
        );
        assert!(!format!("{shown:?}").contains("Jane"), "{shown:?}");
    }
}
