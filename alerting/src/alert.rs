//! An alert: what fired, about whom, how bad, and how far its messages have got.

use std::collections::BTreeMap;

use revwatch_shared::condition::Condition;
use revwatch_shared::entity::EntityKey;
use revwatch_shared::kpi::Ratio;
use revwatch_shared::money::Money;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::rule::{Rule, Severity};

/// One alert, from firing to resolved and told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// `al_…`; a function of rule, subject and time, so that two evaluators give it the same one.
    pub id: String,
    /// The rule's name.
    pub rule: String,
    /// How bad.
    pub severity: Severity,
    /// Whom it tells.
    pub route: String,
    /// The rule's words when it fired.
    pub title: String,
    /// What to do, in order.
    pub actions: Vec<String>,
    /// Where to read on.
    pub runbook: Option<String>,
    /// The entity it is about; `None` for one about the whole business.
    pub subject: Option<EntityKey>,
    /// Where it is in its life.
    pub state: AlertState,
    /// Unix seconds at which the trouble began.
    pub since_s: i64,
    /// Unix seconds.
    pub fired_s: i64,
    /// Unix seconds.
    pub acknowledged_s: Option<i64>,
    /// Unix seconds.
    pub resolved_s: Option<i64>,
    /// Unix seconds at which it was last seen to hold.
    pub last_held_s: i64,
    /// What is the matter.
    pub evidence: Evidence,
    /// Grows with every change that readers should see.
    pub revision: u32,
    /// How far each notifier has got, by its name.
    pub deliveries: BTreeMap<String, Progress>,
}

/// Where an alert is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// It holds.
    Firing,
    /// Somebody has taken it.
    Acknowledged,
    /// It is over.
    Resolved,
}

/// What a message shows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The share, for rules on shares.
    pub share: Option<Share>,
    /// The money concerned, one entry per currency.
    pub money: Vec<Money>,
    /// The connected account concerned.
    pub account: Option<String>,
    /// Stripe's reason.
    pub detail: Option<String>,
    /// The events that show it.
    pub event_ids: Vec<String>,
}

/// A share, its parts, and the threshold it was compared with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// How many are concerned.
    pub part: i64,
    /// Of how many.
    pub whole: i64,
    /// What it may be at most, 0 to 1.
    pub above: f64,
}

/// How far one notifier has got with one alert.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The revision its readers have seen; 0: none.
    pub told: u32,
    /// Where the message is, for updating it in place.
    pub receipt: Option<String>,
    /// Attempts since the last success.
    pub attempts: u32,
    /// Unix milliseconds before which nothing is tried.
    pub not_before_ms: i64,
    /// An attempt ended without an answer: readers may have the message twice.
    pub possible_duplicate: bool,
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
    /// Fires `rule` now.
    pub fn fire(rule: &Rule, subject: Option<EntityKey>, since_s: i64, now_s: i64, evidence: Evidence) -> Self {
        let whose = subject.as_ref().map_or_else(String::new, ToString::to_string);
        let digest = Sha256::digest(format!("{}\n{whose}\n{since_s}\n{now_s}", rule.name));
        Self {
            id: format!("al_{}", hex::encode(&digest[..8])),
            rule: rule.name.clone(),
            severity: rule.severity,
            route: rule.route.clone(),
            title: rule.title.clone(),
            actions: rule.actions.clone(),
            runbook: rule.runbook.clone(),
            subject,
            state: AlertState::Firing,
            since_s,
            fired_s: now_s,
            acknowledged_s: None,
            resolved_s: None,
            last_held_s: now_s,
            evidence,
            revision: 1,
            deliveries: BTreeMap::new(),
        }
    }

    /// Whether `notifier` has something to tell.
    pub fn is_news_for(&self, notifier: &str) -> bool {
        self.deliveries.get(notifier).is_none_or(|p| p.told < self.revision)
    }

    /// What the subject is called in exports; empty for the whole business.
    pub fn subject_text(&self) -> String {
        self.subject.as_ref().map_or_else(String::new, ToString::to_string)
    }
}

impl From<&Condition> for Evidence {
    fn from(condition: &Condition) -> Self {
        Self {
            share: None,
            money: condition.money.iter().cloned().collect(),
            account: condition.account.clone(),
            detail: condition.detail.clone(),
            event_ids: vec![condition.event_id.clone()],
        }
    }
}

impl Share {
    /// The share itself.
    pub fn value(self) -> f64 {
        Ratio { part: self.part, whole: self.whole }.value().unwrap_or(0.0)
    }
}
