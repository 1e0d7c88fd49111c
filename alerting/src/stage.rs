//! The stages in the life of an alert and the transitions between them: the one list, which the engine may not leave
//! and from which the diagram in the documentation is made. Pure.

use crate::alert::AlertState;

/// Where a rule and a subject are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// The rule does not hold.
    Inactive,
    /// It holds, not yet for long enough: there is no alert.
    Pending,
    /// It fires, and no person has acknowledged it.
    Firing,
    /// A person has acknowledged it.
    Acknowledged,
    /// The alert has ended.
    Resolved,
}

/// From one stage to another, and its cause.
pub type Transition = (Stage, Stage, &'static str);

/// Every transition.
pub const TRANSITIONS: [Transition; 10] = [
    (
        Stage::Inactive,
        Stage::Pending,
        "the rule is true and has a hold time",
    ),
    (Stage::Inactive, Stage::Firing, "the rule is true"),
    (Stage::Pending, Stage::Inactive, "the rule is false"),
    (
        Stage::Pending,
        Stage::Firing,
        "the rule has been true for its hold time",
    ),
    (Stage::Firing, Stage::Acknowledged, "a person acknowledges"),
    (
        Stage::Firing,
        Stage::Resolved,
        "the rule has been false for `keep_firing_for`, or a person resolves it",
    ),
    (Stage::Acknowledged, Stage::Resolved, "the same"),
    (
        Stage::Resolved,
        Stage::Firing,
        "the rule is true again within `reopen_within`",
    ),
    (
        Stage::Resolved,
        Stage::Acknowledged,
        "the same, and a person had acknowledged",
    ),
    (
        Stage::Resolved,
        Stage::Inactive,
        "the resolution was sent, and the alert is in the history",
    ),
];

impl Stage {
    /// The word in exports, metrics and rule tests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
        }
    }
}

impl From<AlertState> for Stage {
    fn from(state: AlertState) -> Self {
        match state {
            AlertState::Firing => Self::Firing,
            AlertState::Acknowledged => Self::Acknowledged,
            AlertState::Resolved => Self::Resolved,
        }
    }
}

/// Whether [`TRANSITIONS`] has this one.
pub fn is_drawn(from: Stage, to: Stage) -> bool {
    TRANSITIONS.iter().any(|(a, b, _)| (*a, *b) == (from, to))
}

/// The diagram, in Mermaid's language.
pub fn diagram() -> String {
    let mut lines = vec![
        "stateDiagram-v2".to_owned(),
        "    [*] --> inactive".to_owned(),
    ];
    for (from, to, why) in TRANSITIONS {
        lines.push(format!(
            "    {} --> {}: {}",
            from.as_str(),
            to.as_str(),
            why.replace('`', "")
        ));
    }
    lines.join("\n")
}
