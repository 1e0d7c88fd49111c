//! Decides which account to fetch next, and when: a function of the open conditions, of the
//! outcomes of earlier fetches, and of the time.
//!
//! Nothing here is stored. The open conditions of kind `account_stale` are the work to do; each new
//! holder of the lease builds its agenda from them.
//!
//! Times are durations since the agenda was created, on a monotonic clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use revwatch_core::backoff::Backoff;
use revwatch_core::condition::{Condition, ConditionKind};
use revwatch_core::realm::Realm;
use revwatch_storage::ports::ConditionChange;

/// The latest thin event about an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThinMention {
    /// `acct_…` followed by letters and digits only: it becomes part of a URL.
    pub account: String,
    /// `created` of the event, Unix seconds.
    pub named_at_s: i64,
    /// The event.
    pub event_id: String,
}

/// The result of a fetch. It decides what happens to the account next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The account's state was published to the queue as an event. The condition closes when that
    /// event is applied.
    Refreshed,
    /// Stripe has no such account, or the key may not see it: do nothing until another event names
    /// it.
    Gone,
    /// Stripe refuses this request until the configuration or the account changes. `all`: every
    /// request.
    Refused {
        /// The key itself was refused.
        all: bool,
    },
    /// Too many requests. Without a `Retry-After`, it waits as after a failure.
    Limited {
        /// From `Retry-After`.
        wait: Option<Duration>,
    },
    /// Stripe, the connection to it or the queue failed.
    Failed,
}

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Fetch this account and report the outcome with [`Agenda::ended`].
    Fetch(ThinMention),
    /// Nothing to do before this time.
    Wait(Duration),
    /// Nothing to do until something changes.
    Idle,
}

/// Accounts to fetch, at most [`Agenda::MAX_ACCOUNTS`].
#[derive(Debug, Default)]
pub struct Agenda {
    /// That of the key: accounts of others are not its platform's.
    realm: Realm,
    waiting: BTreeMap<String, Entry>,
    /// Accounts that cannot be fetched, with the event that named them last; at most
    /// [`Agenda::MAX_UNAVAILABLE`].
    unavailable: BTreeMap<String, ThinMention>,
    paused_until: Duration,
    overflowed: bool,
}

#[derive(Debug)]
struct Entry {
    mention: ThinMention,
    phase: Phase,
    not_before: Duration,
    /// Fetches that did not close the condition.
    attempts: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Due,
    InProgress,
    /// Its state was published but not yet applied.
    Published,
}

/// How long to wait after a change before fetching its account: changes come in bursts. At least
/// one second, so that the second before the fetch is not before the change (see
/// `snapshot::observed_at`).
const SETTLE_DELAY: Duration = Duration::from_secs(1);

impl Agenda {
    /// An empty agenda for the accounts of one realm.
    pub fn of(realm: Realm) -> Self {
        Self {
            realm,
            ..Self::default()
        }
    }

    /// Accounts remembered. Beyond it, a scan of all open conditions finds the others later.
    pub const MAX_ACCOUNTS: usize = 10_000;
    /// Accounts remembered as gone. Beyond it, some are fetched once more.
    pub const MAX_UNAVAILABLE: usize = 100_000;

    /// Applies opened and closed conditions, in their order.
    pub fn on_changes(&mut self, changes: &[ConditionChange], now: Duration) {
        for change in changes {
            match change {
                ConditionChange::Open(condition) => self.add(condition, now),
                ConditionChange::Close(key) if key.kind == ConditionKind::AccountStale => {
                    self.forget(&key.subject.id);
                }
                ConditionChange::Close(_) => {}
            }
        }
    }

    /// Replaces the agenda's accounts by all open conditions.
    pub fn on_scan(&mut self, open: &[Condition], now: Duration) {
        self.overflowed = false;
        let stale: BTreeSet<&str> = open
            .iter()
            .filter_map(mention)
            .map(|(account, _)| account)
            .collect();
        self.waiting
            .retain(|account, _| stale.contains(account.as_str()));
        self.unavailable
            .retain(|account, _| stale.contains(account.as_str()));
        for condition in open {
            self.add(condition, now);
        }
    }

    /// Whether accounts were left out for lack of room, and there is room again.
    pub fn needs_scan(&self) -> bool {
        self.overflowed && self.waiting.len() <= Self::MAX_ACCOUNTS / 2
    }

    /// Returns the next step.
    pub fn next(&mut self, now: Duration) -> Next {
        let idle = self
            .waiting
            .values_mut()
            .filter(|e| e.phase != Phase::InProgress);
        let Some(entry) = idle.min_by_key(|e| e.not_before) else {
            return Next::Idle;
        };
        let at = entry.not_before.max(self.paused_until);
        if at > now {
            return Next::Wait(at);
        }
        entry.phase = Phase::InProgress;
        Next::Fetch(entry.mention.clone())
    }

    /// Records the outcome of a fetch that [`Agenda::next`] started.
    pub fn ended(&mut self, mention: ThinMention, outcome: Outcome, now: Duration) {
        if let Outcome::Limited { .. } | Outcome::Refused { all: true } = outcome {
            let wait = if let Outcome::Limited { wait } = outcome {
                wait
            } else {
                Some(KEY_REFUSED_BACKOFF)
            };
            self.paused_until = self.paused_until.max(now + wait.unwrap_or(SETTLE_DELAY));
        }
        // The condition closed during the fetch: another event carried the state.
        let Some(entry) = self.waiting.get_mut(&mention.account) else {
            return;
        };
        let named_again = entry.mention != mention;
        entry.phase = Phase::Due;
        let wait = match outcome {
            // The response may not include a change that was reported during the fetch.
            Outcome::Refreshed | Outcome::Gone if named_again => {
                entry.attempts = 0;
                SETTLE_DELAY
            }
            Outcome::Gone => {
                self.waiting.remove(&mention.account);
                if self.unavailable.len() >= Self::MAX_UNAVAILABLE {
                    self.unavailable.pop_first();
                }
                self.unavailable.insert(mention.account.clone(), mention);
                return;
            }
            Outcome::Refreshed => {
                entry.phase = Phase::Published;
                backoff(UNAPPLIED_BACKOFF, entry.attempts)
            }
            Outcome::Refused { .. } => backoff(REFUSED_BACKOFF, entry.attempts),
            Outcome::Limited { wait: Some(wait) } => wait,
            Outcome::Limited { wait: None } | Outcome::Failed => {
                backoff(FAILED_BACKOFF, entry.attempts)
            }
        };
        entry.attempts = entry.attempts.saturating_add(1);
        entry.not_before = now + wait;
    }

    fn add(&mut self, condition: &Condition, now: Duration) {
        let Some((account, mention)) = mention(condition).filter(|_| condition.realm == self.realm)
        else {
            return;
        };
        if self.unavailable.get(account) == Some(&mention) {
            return;
        }
        let full = self.waiting.len() >= Self::MAX_ACCOUNTS;
        match self.waiting.get_mut(account) {
            Some(entry) if entry.mention == mention => {}
            Some(entry) => {
                entry.mention = mention;
                // A back-off continues: another event does not make Stripe available. A published
                // state, though, is outdated now.
                if entry.phase == Phase::Published {
                    (entry.phase, entry.attempts, entry.not_before) =
                        (Phase::Due, 0, now + SETTLE_DELAY);
                }
            }
            None if full => self.overflowed = true,
            None => {
                let entry = Entry {
                    mention,
                    phase: Phase::Due,
                    not_before: now + SETTLE_DELAY,
                    attempts: 0,
                };
                self.waiting.insert(account.to_owned(), entry);
            }
        }
    }

    fn forget(&mut self, account: &str) {
        self.waiting.remove(account);
        self.unavailable.remove(account);
    }
}

impl Outcome {
    /// The name in logs and metrics.
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

/// The first wait of each kind; it doubles with each attempt, up to an hour. A published state is
/// applied within moments unless the worker is far behind; fetching again would then only add load.
const FAILED_BACKOFF: Duration = Duration::from_secs(1);
const UNAPPLIED_BACKOFF: Duration = Duration::from_secs(60);
const REFUSED_BACKOFF: Duration = Duration::from_secs(300);
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// No account is fetched while the key is refused. A new key takes effect by reload or restart.
const KEY_REFUSED_BACKOFF: Duration = Duration::from_secs(60);

fn backoff(first: Duration, attempts: u32) -> Duration {
    let max = MAX_WAIT;
    Backoff { first, max }.wait(attempts)
}

/// The thin event behind a condition, if its account can be fetched.
fn mention(condition: &Condition) -> Option<(&str, ThinMention)> {
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
                named_at_s: *since_s,
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

    fn stale(account: &str, named_at_s: i64) -> Condition {
        let subject = EntityKey::new(EntityKind::Account, account);
        Condition {
            key: ConditionKey {
                kind: ConditionKind::AccountStale,
                subject,
            },
            since_s: named_at_s,
            began_before: None,
            due_s: named_at_s,
            account: Some(account.to_owned()),
            realm: Realm::MAIN,
            customer: None,
            money: None,
            detail: None,
            event_id: format!("evt_{named_at_s}"),
            times: None,
        }
    }

    fn open(account: &str, named_at_s: i64) -> ConditionChange {
        ConditionChange::Open(stale(account, named_at_s))
    }

    fn mention_of(account: &str, named_at_s: i64) -> ThinMention {
        ThinMention {
            account: account.to_owned(),
            named_at_s,
            event_id: format!("evt_{named_at_s}"),
        }
    }

    /// An agenda while the fetch of `acct_1` is in progress; an event at 100 named the account.
    fn fetching() -> Agenda {
        let mut agenda = Agenda::default();
        agenda.on_changes(&[open("acct_1", 100)], s(0));
        assert_eq!(agenda.next(s(0)), Next::Wait(s(1)));
        assert_eq!(agenda.next(s(1)), Next::Fetch(mention_of("acct_1", 100)));
        assert_eq!(
            agenda.next(s(1)),
            Next::Idle,
            "one fetch per account at a time"
        );
        agenda
    }

    #[test]
    fn only_accounts_of_the_keys_realm_are_fetched() {
        let kernel = Realm::named("kernel").expect("a name");
        let of_kernel = Condition {
            realm: kernel.clone(),
            ..stale("acct_2", 100)
        };
        for (realm, expected) in [(Realm::MAIN, "acct_1"), (kernel, "acct_2")] {
            let mut agenda = Agenda::of(realm);
            agenda.on_scan(&[stale("acct_1", 100), of_kernel.clone()], s(0));
            assert_eq!(agenda.next(s(1)), Next::Fetch(mention_of(expected, 100)));
            assert_eq!(agenda.waiting.len(), 1);
        }
    }

    #[test]
    fn each_outcome_has_its_next_step() {
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
            agenda.ended(mention_of("acct_1", 100), outcome, s(2));
            assert_eq!(agenda.next(s(2)), expected, "{outcome:?}");
        }
    }

    #[test]
    fn backoff_doubles_up_to_an_hour() {
        let mut agenda = fetching();
        let mut waits = Vec::new();
        for _ in 0..14 {
            agenda.ended(mention_of("acct_1", 100), Outcome::Failed, s(0));
            let Next::Wait(at) = agenda.next(s(0)) else {
                panic!("it waits")
            };
            waits.push(at.as_secs());
            assert_eq!(agenda.next(at), Next::Fetch(mention_of("acct_1", 100)));
        }
        assert_eq!(waits[..4], [1, 2, 4, 8]);
        assert_eq!(waits[12..], [3600, 3600]);
    }

    #[test]
    fn a_rate_limit_and_a_refused_key_delay_all_accounts() {
        for (outcome, until) in [
            (Outcome::Limited { wait: Some(s(30)) }, s(32)),
            (Outcome::Refused { all: true }, s(62)),
        ] {
            let mut agenda = fetching();
            agenda.on_changes(&[open("acct_2", 100)], s(0));
            agenda.ended(mention_of("acct_1", 100), outcome, s(2));
            assert_eq!(agenda.next(s(2)), Next::Wait(until), "{outcome:?}");
        }
    }

    #[test]
    fn a_burst_of_events_about_one_account_causes_one_fetch() {
        let mut agenda = Agenda::default();
        let burst: Vec<_> = (0..20).map(|n| open("acct_1", 100 + n)).collect();
        agenda.on_changes(&burst, s(0));
        assert_eq!(agenda.next(s(1)), Next::Fetch(mention_of("acct_1", 119)));
        agenda.ended(mention_of("acct_1", 119), Outcome::Refreshed, s(1));
        agenda.on_changes(&[ConditionChange::Close(stale("acct_1", 119).key)], s(1));
        assert_eq!(agenda.next(s(9999)), Next::Idle);
    }

    #[test]
    fn events_during_or_after_a_fetch_cause_another_fetch() {
        for outcome in [Outcome::Refreshed, Outcome::Gone] {
            let mut agenda = fetching();
            agenda.on_changes(&[open("acct_1", 101)], s(1));
            agenda.ended(mention_of("acct_1", 100), outcome, s(2));
            assert_eq!(
                agenda.next(s(3)),
                Next::Fetch(mention_of("acct_1", 101)),
                "during the fetch, {outcome:?}"
            );
            let mut agenda = fetching();
            agenda.ended(mention_of("acct_1", 100), outcome, s(2));
            agenda.on_changes(&[open("acct_1", 100)], s(2));
            assert!(
                !matches!(agenda.next(s(3)), Next::Fetch(_)),
                "the same event again, {outcome:?}"
            );
            agenda.on_changes(&[open("acct_1", 101)], s(2));
            assert_eq!(
                agenda.next(s(3)),
                Next::Fetch(mention_of("acct_1", 101)),
                "after the fetch, {outcome:?}"
            );
        }
        let mut agenda = fetching();
        agenda.ended(mention_of("acct_1", 100), Outcome::Failed, s(2));
        agenda.on_changes(&[open("acct_1", 101)], s(2));
        assert_eq!(
            agenda.next(s(2)),
            Next::Wait(s(3)),
            "another event does not end a back-off"
        );
    }

    #[test]
    fn a_scan_adds_open_conditions_and_drops_closed_ones() {
        let mut agenda = fetching();
        agenda.on_changes(&[open("acct_2", 100)], s(0));
        agenda.ended(mention_of("acct_1", 100), Outcome::Gone, s(1));
        agenda.on_scan(&[stale("acct_1", 100), stale("acct_3", 100)], s(1));
        assert_eq!(
            agenda.next(s(9)),
            Next::Fetch(mention_of("acct_3", 100)),
            "acct_1 stays unavailable, and acct_2 is closed"
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
    fn accounts_beyond_the_limit_are_found_by_a_later_scan() {
        let all: Vec<_> = (0..=Agenda::MAX_ACCOUNTS)
            .map(|n| stale(&format!("acct_{n}"), 100))
            .collect();
        let mut agenda = Agenda::default();
        agenda.on_scan(&all, s(0));
        assert!(
            agenda.overflowed && !agenda.needs_scan(),
            "no scan before there is room"
        );
        for condition in &all[..Agenda::MAX_ACCOUNTS / 2] {
            agenda.on_changes(&[ConditionChange::Close(condition.key.clone())], s(1));
        }
        assert!(agenda.needs_scan());
        agenda.on_scan(&all[Agenda::MAX_ACCOUNTS / 2..], s(2));
        assert!(!agenda.overflowed);
    }
}
