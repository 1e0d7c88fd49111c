//! What people ask of the evaluator: acknowledge, resolve, silence. Anybody may leave a command in the
//! store ([`revwatch_storage::ports::COMMANDS`]); the evaluator carries it out and takes it away in one
//! write. Pure.
//!
//! Invariant: a command carried out twice changes nothing the second time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A request, who made it and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// What is asked.
    pub ask: CommandKind,
    /// Who asks: a name from Slack, or the user of the command line.
    pub by: String,
    /// By what means: `slack` or `cli`.
    pub via: String,
    /// Unix seconds.
    pub at_s: i64,
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandKind {
    /// "I have it." A group's members are acknowledged with it.
    Acknowledge {
        /// The alert's id.
        alert_id: String,
    },
    /// "It is over", whatever the rule says; it does not fire again before it has been over.
    Resolve {
        /// The alert's id.
        alert_id: String,
    },
    /// Tell nobody for a while.
    Silence(Silence),
    /// Ends a silence before its time.
    Unsilence {
        /// The silence's id.
        silence_id: String,
    },
}

/// Nobody is told of what it matches until it ends. Alerts still fire, and are told if they still fire
/// then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// `si_…`
    pub id: String,
    /// All that is given must fit.
    pub matches: Matcher,
    /// Unix seconds.
    pub from_s: i64,
    /// Unix seconds; a silence without an end does not exist.
    pub until_s: i64,
    /// Why; never empty.
    pub reason: String,
    /// Who.
    pub by: String,
}

/// Which alerts a silence is about. Fields that are not given fit everything; at least one is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Matcher {
    /// One alert; a group stands for its members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert_id: Option<String>,
    /// A rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// A connected account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}
