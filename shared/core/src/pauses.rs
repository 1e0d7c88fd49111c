//! Pauses of processing: operators can pause everything, one mode or one account, and resume as
//! gradually (K15). Paused deliveries are kept, not discarded.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::mode::Mode;

/// The events that a pause covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All events.
    All,
    /// Events of one mode.
    Mode(Mode),
    /// Events of one connected account.
    Account(String),
}

/// All pauses in force. An entry for an account overrides its mode's, and an entry for a mode
/// overrides `all`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pauses {
    /// Whether everything without an entry below is paused.
    pub all: bool,
    /// `live` and `test`: paused (`true`) or running.
    #[serde(default)]
    pub modes: BTreeMap<String, bool>,
    /// Connected accounts: paused (`true`) or running.
    #[serde(default)]
    pub accounts: BTreeMap<String, bool>,
}

impl Pauses {
    /// Pauses or resumes. `Scope::All` removes the entries of modes and accounts.
    pub fn set(&mut self, scope: &Scope, paused: bool) {
        match scope {
            Scope::All => {
                *self = Self {
                    all: paused,
                    ..Self::default()
                }
            }
            Scope::Mode(mode) => drop(self.modes.insert(mode.as_str().to_owned(), paused)),
            Scope::Account(id) => drop(self.accounts.insert(id.clone(), paused)),
        }
        // Entries that change nothing are removed.
        let all = self.all;
        if self.accounts.is_empty() {
            self.modes.retain(|_, paused| *paused != all);
        }
        if self.modes.is_empty() {
            self.accounts.retain(|_, paused| *paused != all);
        }
    }

    /// Why the event is paused; `None` if it is not.
    pub fn hold(&self, event: &Event<'_>) -> Option<String> {
        if let Some(account) = &event.account
            && let Some(paused) = self.accounts.get(account.as_ref())
        {
            return paused.then(|| format!("account {account} is paused"));
        }
        let of_mode = |mode: Mode| match self.modes.get(mode.as_str()) {
            Some(paused) => paused.then(|| format!("{mode} mode is paused")),
            None => self.all.then(|| "processing is paused".to_owned()),
        };
        match event.livemode {
            Some(livemode) => of_mode(Mode::of(livemode)),
            // It may be of either mode.
            None => of_mode(Mode::Live).or_else(|| of_mode(Mode::Test)),
        }
    }

    /// Whether anything is paused.
    pub fn is_any_paused(&self) -> bool {
        self.all
            || self
                .modes
                .values()
                .chain(self.accounts.values())
                .any(|paused| *paused)
    }

    /// Whether everything is paused, so that no event need be read.
    pub fn is_everything_paused(&self) -> bool {
        [Mode::Live, Mode::Test]
            .into_iter()
            .all(|mode| self.modes.get(mode.as_str()).copied().unwrap_or(self.all))
            && self.accounts.values().all(|paused| *paused)
    }
}

/// Successive pauses, oldest first, each with the time (Unix milliseconds) from which it was in
/// force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseHistory(Vec<(i64, Pauses)>);

impl PauseHistory {
    /// The last entry is in force now.
    pub fn new(history: Vec<(i64, Pauses)>) -> Self {
        Self(history)
    }

    /// The pauses in force.
    pub fn now(&self) -> Pauses {
        self.0
            .last()
            .map(|(_, pauses)| pauses.clone())
            .unwrap_or_default()
    }

    /// Why the event, received at that time, is paused; `None` if it is not. Events received before
    /// the pause began are not paused.
    pub fn hold(&self, event: &Event<'_>, received_ms: i64) -> Option<String> {
        let unbroken = self
            .0
            .iter()
            .rev()
            .map_while(|(from_ms, pauses)| Some((*from_ms, pauses.hold(event)?)));
        let (began_ms, reason) = unbroken.reduce(|(_, reason), (from_ms, _)| (from_ms, reason))?;
        (received_ms >= began_ms).then_some(reason)
    }
}

/// The pauses have always been in force.
impl From<Pauses> for PauseHistory {
    fn from(pauses: Pauses) -> Self {
        Self(vec![(i64::MIN, pauses)])
    }
}

/// For operators.
impl fmt::Display for Pauses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = vec![if self.all { "all paused" } else { "running" }.to_owned()];
        let named = self
            .modes
            .iter()
            .map(|(name, paused)| (format!("{name} mode"), *paused));
        let named = named.chain(
            self.accounts
                .iter()
                .map(|(id, paused)| (id.clone(), *paused)),
        );
        parts.extend(
            named.map(|(name, paused)| {
                format!("{name} {}", if paused { "paused" } else { "running" })
            }),
        );
        f.write_str(&parts.join(", but "))
    }
}

/// For operators.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("everything"),
            Self::Mode(mode) => write!(f, "{mode} mode"),
            Self::Account(id) => write!(f, "account {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(pauses: &Pauses, livemode: bool, account: Option<&str>) -> bool {
        let account = account
            .map(|id| format!(r#","account":"{id}""#))
            .unwrap_or_default();
        let body = format!(
            r#"{{"id":"evt_1","type":"payout.paid","created":5,"livemode":{livemode}{account}}}"#
        );
        pauses
            .hold(&Event::parse(body.as_bytes()).expect("an event"))
            .is_some()
    }

    #[test]
    fn processing_resumes_gradually_test_mode_then_one_account_then_all_k15() {
        let mut pauses = Pauses::default();
        assert!(!pauses.is_any_paused() && !hold(&pauses, true, None));
        pauses.set(&Scope::All, true);
        assert!(
            pauses.is_everything_paused()
                && hold(&pauses, true, None)
                && hold(&pauses, false, Some("acct_1"))
        );
        pauses.set(&Scope::Mode(Mode::Test), false);
        assert!(
            !pauses.is_everything_paused()
                && !hold(&pauses, false, Some("acct_1"))
                && hold(&pauses, true, Some("acct_1"))
        );
        pauses.set(&Scope::Account("acct_1".into()), false);
        assert!(
            !hold(&pauses, true, Some("acct_1"))
                && hold(&pauses, true, Some("acct_2"))
                && hold(&pauses, true, None)
        );
        assert_eq!(
            pauses.to_string(),
            "all paused, but test mode running, but acct_1 running"
        );
        pauses.set(&Scope::All, false);
        assert_eq!(pauses, Pauses::default());
    }

    #[test]
    fn events_before_the_current_pause_are_not_paused() {
        let event = br#"{"id":"evt_1","type":"payout.paid","created":5,"livemode":true,"account":"acct_1"}"#;
        let event = Event::parse(event).expect("an event");
        let mut history = Vec::new();
        let mut pauses = Pauses::default();
        for (at_ms, scope, paused) in [
            (10, Scope::Mode(Mode::Live), true),
            (20, Scope::All, false),
            (30, Scope::Account("acct_1".into()), true),
            (40, Scope::Mode(Mode::Test), true),
            (50, Scope::All, true),
        ] {
            pauses.set(&scope, paused);
            history.push((at_ms, pauses.clone()));
        }
        let held = |upto: usize, received_ms| {
            PauseHistory::new(history[..upto].to_vec())
                .hold(&event, received_ms)
                .is_some()
        };
        assert!(!held(0, 5) && !held(1, 9) && held(1, 10) && !held(2, 15));
        for upto in [3, 4, 5] {
            assert!(
                !held(upto, 15) && !held(upto, 29) && held(upto, 30) && held(upto, 60),
                "{upto}"
            );
        }
        assert!(PauseHistory::from(pauses.clone()).hold(&event, 0).is_some());
        assert_eq!(
            (
                PauseHistory::new(history).now(),
                PauseHistory::new(Vec::new()).now()
            ),
            (pauses, Pauses::default())
        );
    }

    #[test]
    fn one_account_or_mode_can_be_paused() {
        let mut pauses = Pauses::default();
        pauses.set(&Scope::Account("acct_1".into()), true);
        assert!(pauses.is_any_paused() && !pauses.is_everything_paused());
        assert!(
            hold(&pauses, true, Some("acct_1"))
                && !hold(&pauses, true, Some("acct_2"))
                && !hold(&pauses, true, None)
        );
        pauses.set(&Scope::Account("acct_1".into()), false);
        assert_eq!(pauses, Pauses::default(), "its entry is removed");
        pauses.set(&Scope::Mode(Mode::Live), true);
        assert!(
            hold(&pauses, true, None)
                && !hold(&pauses, false, None)
                && !pauses.is_everything_paused()
        );
        pauses.set(&Scope::Mode(Mode::Test), true);
        assert!(pauses.is_everything_paused() && !pauses.all);
        pauses.set(&Scope::Account("acct_1".into()), false);
        assert!(!pauses.is_everything_paused() && !hold(&pauses, true, Some("acct_1")));
    }

    #[test]
    fn an_event_without_a_mode_is_held_by_a_pause_of_either() {
        let event = br#"{"id":"evt_1","type":"payout.paid","created":5}"#;
        let event = Event::parse(event).expect("an event");
        assert_eq!(Pauses::default().hold(&event), None);
        for mode in [Mode::Live, Mode::Test] {
            let mut pauses = Pauses::default();
            pauses.set(&Scope::Mode(mode), true);
            assert_eq!(pauses.hold(&event), Some(format!("{mode} mode is paused")));
        }
    }
}
