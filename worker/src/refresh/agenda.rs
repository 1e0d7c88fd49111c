//! Which account to fetch next, and when: a function of the open conditions, of how fetches ended, and of
//! the time.
//!
//! Nothing here is stored. The open conditions of kind `account_stale` are what needs doing; whoever
//! takes the lease builds the agenda from them anew.
//!
//! Times are since the agenda began, on a clock that never goes back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use revwatch_core::condition::{Condition, ConditionKind};
use revwatch_storage::ports::ConditionChange;

/// What the latest thin event about an account told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThinMention {
    /// `acct_…`, and nothing but letters and digits after it: it becomes part of a URL.
    pub account: String,
    /// `created` of the event, Unix seconds.
    pub told_s: i64,
    /// The event.
    pub event_id: String,
}

/// How a fetch ended: what to do about the account next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its state is in the queue as an event; the condition closes when that is applied.
    Refreshed,
    /// Stripe has no such account, or not for this key: nothing to do until it is named again.
    Gone,
    /// Stripe will not answer this until somebody changes something. `all`: nor any other request.
    Refused {
        /// The key itself was refused.
        all: bool,
    },
    /// Too many requests. Without a word from Stripe how long to wait, as after a failure.
    Limited {
        /// From `Retry-After`.
        wait: Option<Duration>,
    },
    /// Stripe or the way to it, or the queue, is not well.
    Failed,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Fetch this account; say how it ended with [`Agenda::ended`].
    Fetch(ThinMention),
    /// Nothing before then.
    Wait(Duration),
    /// Nothing until something changes.
    Idle,
}

/// Accounts waiting to be fetched, at most [`Agenda::MAX_ACCOUNTS`].
#[derive(Debug, Default)]
pub struct Agenda {
    waiting: BTreeMap<String, Entry>,
    /// What was named and cannot be fetched, at most [`Agenda::MAX_UNAVAILABLE`].
    gone: BTreeMap<String, ThinMention>,
    paused_until: Duration,
    overflowed: bool,
}

#[derive(Debug)]
struct Entry {
    told: ThinMention,
    phase: Phase,
    not_before: Duration,
    /// Fetches that ended without settling it.
    tries: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Due,
    UnderWay,
    /// Its state was published and is not applied yet.
    Published,
}

/// How long a change rests before its account is fetched. One second at least, so that the second
/// before the fetch is not before the change (see `snapshot::seen_at`); and changes come in bursts.
const SETTLE_DELAY: Duration = Duration::from_secs(1);

impl Agenda {
    /// Accounts remembered; when there are more, the others are found again by looking at all conditions.
    pub const MAX_ACCOUNTS: usize = 10_000;
    /// Accounts remembered as gone; beyond it, some are asked for once more.
    pub const MAX_UNAVAILABLE: usize = 100_000;

    /// Takes notice of what opened and closed, in the order in which it did.
    pub fn on_changes(&mut self, changes: &[ConditionChange], now: Duration) {
        for change in changes {
            match change {
                ConditionChange::Open(condition) => self.name(condition, now),
                ConditionChange::Close(key) if key.kind == ConditionKind::AccountStale => {
                    self.forget(&key.subject.id);
                }
                ConditionChange::Close(_) => {}
            }
        }
    }

    /// Takes notice of all conditions that are open.
    pub fn on_scan(&mut self, open: &[Condition], now: Duration) {
        self.overflowed = false;
        let stale: BTreeSet<&str> = open
            .iter()
            .filter_map(told)
            .map(|(account, _)| account)
            .collect();
        self.waiting
            .retain(|account, _| stale.contains(account.as_str()));
        self.gone
            .retain(|account, _| stale.contains(account.as_str()));
        for condition in open {
            self.name(condition, now);
        }
    }

    /// Whether there were more accounts than room, and there is room again.
    pub fn needs_scan(&self) -> bool {
        self.overflowed && self.waiting.len() <= Self::MAX_ACCOUNTS / 2
    }

    /// What to do now.
    pub fn next(&mut self, now: Duration) -> Next {
        let idle = self
            .waiting
            .values_mut()
            .filter(|e| e.phase != Phase::UnderWay);
        let Some(entry) = idle.min_by_key(|e| e.not_before) else {
            return Next::Idle;
        };
        let at = entry.not_before.max(self.paused_until);
        if at > now {
            return Next::Wait(at);
        }
        entry.phase = Phase::UnderWay;
        Next::Fetch(entry.told.clone())
    }

    /// A fetch that [`Agenda::next`] asked for has ended.
    pub fn ended(&mut self, told: ThinMention, outcome: Outcome, now: Duration) {
        if let Outcome::Limited { .. } | Outcome::Refused { all: true } = outcome {
            let wait = if let Outcome::Limited { wait } = outcome {
                wait
            } else {
                Some(KEY_REFUSED_BACKOFF)
            };
            self.paused_until = self.paused_until.max(now + wait.unwrap_or(SETTLE_DELAY));
        }
        // Closed meanwhile: somebody else told of its state.
        let Some(entry) = self.waiting.get_mut(&told.account) else {
            return;
        };
        let named_again = entry.told != told;
        entry.phase = Phase::Due;
        let wait = match outcome {
            // What was told since may not be in the answer.
            Outcome::Refreshed | Outcome::Gone if named_again => {
                entry.tries = 0;
                SETTLE_DELAY
            }
            Outcome::Gone => {
                self.waiting.remove(&told.account);
                if self.gone.len() >= Self::MAX_UNAVAILABLE {
                    self.gone.pop_first();
                }
                self.gone.insert(told.account.clone(), told);
                return;
            }
            Outcome::Refreshed => {
                entry.phase = Phase::Published;
                backoff(UNAPPLIED_BACKOFF, entry.tries)
            }
            Outcome::Refused { .. } => backoff(REFUSED_BACKOFF, entry.tries),
            Outcome::Limited { wait: Some(wait) } => wait,
            Outcome::Limited { wait: None } | Outcome::Failed => {
                backoff(FAILED_BACKOFF, entry.tries)
            }
        };
        entry.tries = entry.tries.saturating_add(1);
        entry.not_before = now + wait;
    }

    fn name(&mut self, condition: &Condition, now: Duration) {
        let Some((account, told)) = told(condition) else {
            return;
        };
        if self.gone.get(account) == Some(&told) {
            return;
        }
        let full = self.waiting.len() >= Self::MAX_ACCOUNTS;
        match self.waiting.get_mut(account) {
            Some(entry) if entry.told == told => {}
            Some(entry) => {
                entry.told = told;
                // A back-off goes on: Stripe is no better for another event. An answer that is on its way to
                // be applied, though, will not do.
                if entry.phase == Phase::Published {
                    (entry.phase, entry.tries, entry.not_before) =
                        (Phase::Due, 0, now + SETTLE_DELAY);
                }
            }
            None if full => self.overflowed = true,
            None => {
                let entry = Entry {
                    told,
                    phase: Phase::Due,
                    not_before: now + SETTLE_DELAY,
                    tries: 0,
                };
                self.waiting.insert(account.to_owned(), entry);
            }
        }
    }

    fn forget(&mut self, account: &str) {
        self.waiting.remove(account);
        self.gone.remove(account);
    }
}

impl Outcome {
    /// The word under which it is counted.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refreshed => "refreshed",
            Self::Gone => "gone",
            Self::Refused { .. } => "refused",
            Self::Limited { .. } => "limited",
            Self::Failed => "failed",
        }
    }
}

/// The first wait of each kind; it doubles with each try, up to an hour. What is published is applied
/// within moments, unless the worker is far behind: then fetching again would only add to that.
const FAILED_BACKOFF: Duration = Duration::from_secs(1);
const UNAPPLIED_BACKOFF: Duration = Duration::from_secs(60);
const REFUSED_BACKOFF: Duration = Duration::from_secs(300);
const MAX_BACKOFF: Duration = Duration::from_secs(3600);

/// Nobody's account is fetched while the key is refused; a key that is replaced comes with a restart.
const KEY_REFUSED_BACKOFF: Duration = Duration::from_secs(60);

fn backoff(first: Duration, tries: u32) -> Duration {
    (first * 2_u32.saturating_pow(tries.min(12))).min(MAX_BACKOFF)
}

/// What a condition says of an account that can be fetched.
fn told(condition: &Condition) -> Option<(&str, ThinMention)> {
    let Condition {
        key,
        since_s,
        event_id,
        ..
    } = condition;
    let account = key.subject.id.as_str();
    let is_plain = account.strip_prefix("acct_").is_some_and(|rest| {
        !rest.is_empty() && rest.len() <= 250 && rest.bytes().all(|b| b.is_ascii_alphanumeric())
    });
    (key.kind == ConditionKind::AccountStale && is_plain).then(|| {
        (
            account,
            ThinMention {
                account: account.to_owned(),
                told_s: *since_s,
                event_id: event_id.clone(),
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use revwatch_core::condition::ConditionKey;
    use revwatch_core::entity::{EntityKey, EntityKind};

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn stale(account: &str, told_s: i64) -> Condition {
        let subject = EntityKey::new(EntityKind::Account, account);
        Condition {
            key: ConditionKey {
                kind: ConditionKind::AccountStale,
                subject,
            },
            since_s: told_s,
            due_s: told_s,
            account: Some(account.to_owned()),
            customer: None,
            money: None,
            detail: None,
            event_id: format!("evt_{told_s}"),
        }
    }

    fn open(account: &str, told_s: i64) -> ConditionChange {
        ConditionChange::Open(stale(account, told_s))
    }

    fn told_of(account: &str, told_s: i64) -> ThinMention {
        ThinMention {
            account: account.to_owned(),
            told_s,
            event_id: format!("evt_{told_s}"),
        }
    }

    /// An agenda at the moment in which the fetch of `acct_1`, told of at 100, is under way.
    fn fetching() -> Agenda {
        let mut agenda = Agenda::default();
        agenda.on_changes(&[open("acct_1", 100)], s(0));
        assert_eq!(agenda.next(s(0)), Next::Wait(s(1)));
        assert_eq!(agenda.next(s(1)), Next::Fetch(told_of("acct_1", 100)));
        assert_eq!(
            agenda.next(s(1)),
            Next::Idle,
            "one fetch of an account at a time"
        );
        agenda
    }

    #[test]
    fn what_follows_each_outcome() {
        let table = [
            (Outcome::Refreshed, Next::Wait(s(62))),
            (Outcome::Gone, Next::Idle),
            (Outcome::Refused { all: false }, Next::Wait(s(302))),
            (Outcome::Refused { all: true }, Next::Wait(s(302))),
            (Outcome::Limited { wait: Some(s(7)) }, Next::Wait(s(9))),
            (Outcome::Limited { wait: None }, Next::Wait(s(3))),
            (Outcome::Failed, Next::Wait(s(3))),
        ];
        for (outcome, expected) in table {
            let mut agenda = fetching();
            agenda.ended(told_of("acct_1", 100), outcome, s(2));
            assert_eq!(agenda.next(s(2)), expected, "{outcome:?}");
        }
    }

    #[test]
    fn failures_wait_ever_longer_but_not_forever() {
        let mut agenda = fetching();
        let mut waits = Vec::new();
        for _ in 0..14 {
            agenda.ended(told_of("acct_1", 100), Outcome::Failed, s(0));
            let Next::Wait(at) = agenda.next(s(0)) else {
                panic!("it waits")
            };
            waits.push(at.as_secs());
            assert_eq!(agenda.next(at), Next::Fetch(told_of("acct_1", 100)));
        }
        assert_eq!(waits[..4], [1, 2, 4, 8]);
        assert_eq!(waits[12..], [3600, 3600]);
    }

    #[test]
    fn too_many_requests_and_a_refused_key_hold_up_everybody() {
        for (outcome, until) in [
            (Outcome::Limited { wait: Some(s(30)) }, s(32)),
            (Outcome::Refused { all: true }, s(62)),
        ] {
            let mut agenda = fetching();
            agenda.on_changes(&[open("acct_2", 100)], s(0));
            agenda.ended(told_of("acct_1", 100), outcome, s(2));
            assert_eq!(agenda.next(s(2)), Next::Wait(until), "{outcome:?}");
        }
    }

    #[test]
    fn a_burst_about_one_account_is_one_fetch() {
        let mut agenda = Agenda::default();
        let burst: Vec<_> = (0..20).map(|n| open("acct_1", 100 + n)).collect();
        agenda.on_changes(&burst, s(0));
        assert_eq!(agenda.next(s(1)), Next::Fetch(told_of("acct_1", 119)));
        agenda.ended(told_of("acct_1", 119), Outcome::Refreshed, s(1));
        agenda.on_changes(&[ConditionChange::Close(stale("acct_1", 119).key)], s(1));
        assert_eq!(agenda.next(s(9999)), Next::Idle);
    }

    #[test]
    fn what_is_told_during_a_fetch_or_after_it_is_fetched_for() {
        for outcome in [Outcome::Refreshed, Outcome::Gone] {
            let mut agenda = fetching();
            agenda.on_changes(&[open("acct_1", 101)], s(1));
            agenda.ended(told_of("acct_1", 100), outcome, s(2));
            assert_eq!(
                agenda.next(s(3)),
                Next::Fetch(told_of("acct_1", 101)),
                "during, {outcome:?}"
            );
            let mut agenda = fetching();
            agenda.ended(told_of("acct_1", 100), outcome, s(2));
            agenda.on_changes(&[open("acct_1", 100)], s(2));
            assert!(
                !matches!(agenda.next(s(3)), Next::Fetch(_)),
                "nothing new, {outcome:?}"
            );
            agenda.on_changes(&[open("acct_1", 101)], s(2));
            assert_eq!(
                agenda.next(s(3)),
                Next::Fetch(told_of("acct_1", 101)),
                "after, {outcome:?}"
            );
        }
        let mut agenda = fetching();
        agenda.ended(told_of("acct_1", 100), Outcome::Failed, s(2));
        agenda.on_changes(&[open("acct_1", 101)], s(2));
        assert_eq!(
            agenda.next(s(2)),
            Next::Wait(s(3)),
            "another event does not end a back-off"
        );
    }

    #[test]
    fn a_scan_finds_what_is_open_and_forgets_what_is_not() {
        let mut agenda = fetching();
        agenda.on_changes(&[open("acct_2", 100)], s(0));
        agenda.ended(told_of("acct_1", 100), Outcome::Gone, s(1));
        agenda.on_scan(&[stale("acct_1", 100), stale("acct_3", 100)], s(1));
        assert_eq!(
            agenda.next(s(9)),
            Next::Fetch(told_of("acct_3", 100)),
            "gone is gone, and acct_2 is well"
        );
        assert_eq!(agenda.next(s(9)), Next::Idle);
    }

    #[test]
    fn only_plain_ids_become_part_of_a_url() {
        for id in [
            "acct_",
            "acct_1/../../v1/balance",
            "acct_1?expand=x",
            "cus_1",
            "acct_é",
            "acct_1%2e",
        ] {
            let mut agenda = Agenda::default();
            agenda.on_changes(&[open(id, 100)], s(0));
            assert_eq!(agenda.next(s(9)), Next::Idle, "{id}");
        }
    }

    #[test]
    fn what_finds_no_room_is_looked_for_again() {
        let all: Vec<_> = (0..=Agenda::MAX_ACCOUNTS)
            .map(|n| stale(&format!("acct_{n}"), 100))
            .collect();
        let mut agenda = Agenda::default();
        agenda.on_scan(&all, s(0));
        assert!(
            agenda.overflowed && !agenda.needs_scan(),
            "not before there is room"
        );
        for condition in &all[..Agenda::MAX_ACCOUNTS / 2] {
            agenda.on_changes(&[ConditionChange::Close(condition.key.clone())], s(1));
        }
        assert!(agenda.needs_scan());
        agenda.on_scan(&all[Agenda::MAX_ACCOUNTS / 2..], s(2));
        assert!(!agenda.overflowed);
    }
}
