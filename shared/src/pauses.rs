//! What operators hold back: processing can be paused as a whole, by mode and by account, and resumed as
//! gradually (K15). What is held back is kept, not cancelled.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::event::Event;

/// Which events a pause is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All.
    All,
    /// Those of live (`true`) or test mode.
    Mode(bool),
    /// Those of one connected account.
    Account(String),
}

/// All pauses in force. What is said of an account goes before what is said of its mode, and that before what
/// is said of all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pauses {
    /// Whether everything is paused that nothing below speaks of.
    pub all: bool,
    /// `live` and `test`: paused (`true`) or running.
    #[serde(default)]
    pub modes: BTreeMap<String, bool>,
    /// Connected accounts: paused (`true`) or running.
    #[serde(default)]
    pub accounts: BTreeMap<String, bool>,
}

impl Pauses {
    /// Pauses or resumes. What is said of all ends what was said of modes and accounts.
    pub fn set(&mut self, scope: &Scope, paused: bool) {
        match scope {
            Scope::All => *self = Self { all: paused, ..Self::default() },
            Scope::Mode(livemode) => drop(self.modes.insert(mode(*livemode).to_owned(), paused)),
            Scope::Account(id) => drop(self.accounts.insert(id.clone(), paused)),
        }
        // What says no more than the rest says without it is left out.
        let all = self.all;
        if self.accounts.is_empty() {
            self.modes.retain(|_, paused| *paused != all);
        }
        if self.modes.is_empty() {
            self.accounts.retain(|_, paused| *paused != all);
        }
    }

    /// Why the event is held back, if it is.
    pub fn hold(&self, event: &Event<'_>) -> Option<String> {
        if let Some(account) = &event.account
            && let Some(paused) = self.accounts.get(account.as_ref())
        {
            return paused.then(|| format!("account {account} is paused"));
        }
        let word = mode(event.livemode);
        match self.modes.get(word) {
            Some(paused) => paused.then(|| format!("{word} mode is paused")),
            None => self.all.then(|| "processing is paused".to_owned()),
        }
    }

    /// Whether anything is held back.
    pub fn any(&self) -> bool {
        self.all || self.modes.values().chain(self.accounts.values()).any(|paused| *paused)
    }

    /// Whether everything is held back, so that nothing need be looked at.
    pub fn everything(&self) -> bool {
        [true, false].into_iter().all(|live| self.modes.get(mode(live)).copied().unwrap_or(self.all))
            && self.accounts.values().all(|paused| *paused)
    }
}

/// For people.
impl fmt::Display for Pauses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = vec![if self.all { "all paused" } else { "running" }.to_owned()];
        let named = self.modes.iter().map(|(name, paused)| (format!("{name} mode"), *paused));
        let named = named.chain(self.accounts.iter().map(|(id, paused)| (id.clone(), *paused)));
        parts.extend(named.map(|(name, paused)| format!("{name} {}", if paused { "paused" } else { "running" })));
        f.write_str(&parts.join(", but "))
    }
}

/// For people.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("everything"),
            Self::Mode(livemode) => write!(f, "{} mode", mode(*livemode)),
            Self::Account(id) => write!(f, "account {id}"),
        }
    }
}

fn mode(livemode: bool) -> &'static str {
    if livemode { "live" } else { "test" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(pauses: &Pauses, livemode: bool, account: Option<&str>) -> bool {
        let account = account.map(|id| format!(r#","account":"{id}""#)).unwrap_or_default();
        let body = format!(r#"{{"id":"evt_1","type":"payout.paid","created":5,"livemode":{livemode}{account}}}"#);
        pauses.hold(&Event::parse(body.as_bytes()).expect("an event")).is_some()
    }

    #[test]
    fn processing_resumes_gradually_test_mode_then_one_account_then_all_k15() {
        let mut pauses = Pauses::default();
        assert!(!pauses.any() && !hold(&pauses, true, None));
        pauses.set(&Scope::All, true);
        assert!(pauses.everything() && hold(&pauses, true, None) && hold(&pauses, false, Some("acct_1")));
        pauses.set(&Scope::Mode(false), false);
        assert!(!pauses.everything() && !hold(&pauses, false, Some("acct_1")) && hold(&pauses, true, Some("acct_1")));
        pauses.set(&Scope::Account("acct_1".into()), false);
        assert!(
            !hold(&pauses, true, Some("acct_1")) && hold(&pauses, true, Some("acct_2")) && hold(&pauses, true, None)
        );
        assert_eq!(pauses.to_string(), "all paused, but test mode running, but acct_1 running");
        pauses.set(&Scope::All, false);
        assert_eq!(pauses, Pauses::default());
    }

    #[test]
    fn an_account_or_a_mode_is_paused_alone() {
        let mut pauses = Pauses::default();
        pauses.set(&Scope::Account("acct_1".into()), true);
        assert!(pauses.any() && !pauses.everything());
        assert!(
            hold(&pauses, true, Some("acct_1")) && !hold(&pauses, true, Some("acct_2")) && !hold(&pauses, true, None)
        );
        pauses.set(&Scope::Account("acct_1".into()), false);
        assert_eq!(pauses, Pauses::default(), "nothing is left of it");
        pauses.set(&Scope::Mode(true), true);
        assert!(hold(&pauses, true, None) && !hold(&pauses, false, None) && !pauses.everything());
        pauses.set(&Scope::Mode(false), true);
        assert!(pauses.everything() && !pauses.all);
        pauses.set(&Scope::Account("acct_1".into()), false);
        assert!(!pauses.everything() && !hold(&pauses, true, Some("acct_1")));
    }
}
