//! Decides which object to fetch next, and when: a function of the open conditions, of the outcomes
//! of earlier fetches, and of the time.
//!
//! Nothing here is stored. The open conditions that are a [`Need`] are the work to do; each new
//! holder of the lease builds its agenda from them. Conditions that wait for one object have one task.
//!
//! Times are durations since the agenda was created, on a monotonic clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use revwatch_core::backoff::Backoff;
use revwatch_core::condition::{Condition, ConditionKey};
use revwatch_core::need::Need;
use revwatch_storage::ports::ConditionChange;

use super::task::{Cause, Task, needs_of};

/// The result of a fetch. It decides what happens to the object next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The object's state was published to the queue as an event. The conditions close when that
    /// event is applied.
    Refreshed,
    /// The store had it, and its state was published like that. Nothing was asked of Stripe.
    Found,
    /// Nothing lacks it any more, or there is nothing to have yet, as of a draft.
    Known,
    /// The store lacks it, and Stripe may be asked for it.
    NotStored,
    /// Stripe has no such object: do nothing until another event names it.
    Gone,
    /// The key may not read it, or its account has disconnected: ask again after an hour.
    Forbidden,
    /// Stripe refuses this request until the configuration or the object changes. `all`: every
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
    /// Only Stripe has it, and there is no key of its realm.
    NoKey,
    /// Stripe, the connection to it or the queue failed.
    Failed,
}

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Look for this object in the store, and report the outcome with [`Agenda::ended`].
    Look(Task),
    /// Fetch it from Stripe, and report the outcome.
    Fetch(Task),
    /// Nothing to do before this time.
    Wait(Duration),
    /// Nothing to do until something changes.
    Idle,
}

/// Objects to fetch, for at most [`Agenda::MAX_WAITING`] conditions.
#[derive(Debug)]
pub struct Agenda {
    /// Unix seconds.
    began_s: i64,
    entries: BTreeMap<Need, Entry>,
    /// The objects that each waiting condition needs.
    needs: BTreeMap<ConditionKey, Vec<Need>>,
    /// Objects that cannot be fetched, by the conditions that need them; at most
    /// [`Agenda::MAX_UNAVAILABLE`] conditions.
    unavailable: BTreeMap<ConditionKey, BTreeMap<Need, Unavailable>>,
    paused_until: Duration,
    overflowed: bool,
    /// When a scan finds conditions that are due too late to wait here.
    next_scan: Option<Duration>,
}

#[derive(Debug)]
struct Unavailable {
    /// Why it was needed.
    cause: Cause,
    /// When it is tried again, without another event.
    until: Option<Duration>,
}

#[derive(Debug)]
struct Entry {
    waiting: BTreeMap<ConditionKey, Cause>,
    phase: Phase,
    not_before: Duration,
    /// When to look into the store again while Stripe is to be asked: an event may have brought it.
    look_at: Duration,
    looks: u32,
    /// Fetches that did not close the conditions.
    attempts: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Due,
    /// The store lacks it: Stripe is asked next.
    NotStored,
    InProgress,
    /// Its state was published but not yet applied.
    Published,
}

/// How long to wait after a change before fetching its object: changes come in bursts. At least
/// one second, so that the second before the fetch is not before the change (see
/// `snapshot::observed_at`).
const SETTLE_DELAY: Duration = Duration::from_secs(1);

/// What is due later than that is left to a scan: else it would take the room of what is due now.
const SCAN_INTERVAL: Duration = Duration::from_secs(3600);

impl Agenda {
    /// Conditions remembered. Beyond it, a scan of all open conditions finds the others later.
    pub const MAX_WAITING: usize = 10_000;
    /// Conditions remembered whose objects are gone. Beyond it, some are fetched once more.
    pub const MAX_UNAVAILABLE: usize = 100_000;

    /// One that begins at this Unix second.
    pub fn beginning_at(began_s: i64) -> Self {
        Self {
            began_s,
            entries: BTreeMap::new(),
            needs: BTreeMap::new(),
            unavailable: BTreeMap::new(),
            paused_until: Duration::ZERO,
            overflowed: false,
            next_scan: None,
        }
    }

    /// Applies opened and closed conditions, in their order.
    pub fn on_changes(&mut self, changes: &[ConditionChange], now: Duration) {
        for change in changes {
            match change {
                ConditionChange::Open(condition) => self.add(condition, now),
                ConditionChange::Close(key) => {
                    self.forget(key, &[]);
                    self.unavailable.remove(key);
                }
            }
        }
    }

    /// Replaces the agenda's conditions by all open ones.
    pub fn on_scan(&mut self, open: &[Condition], now: Duration) {
        self.overflowed = false;
        let until = self.unavailable.values().flat_map(BTreeMap::values);
        let until = until.filter_map(|gone| gone.until.filter(|until| *until > now));
        self.next_scan = until.min();
        let is_open: BTreeSet<&ConditionKey> =
            open.iter().map(|condition| &condition.key).collect();
        let waiting = self.needs.keys();
        let closed: Vec<_> = waiting
            .filter(|key| !is_open.contains(key))
            .cloned()
            .collect();
        for key in closed {
            self.forget(&key, &[]);
        }
        self.unavailable.retain(|key, _| is_open.contains(key));
        for condition in open {
            self.add(condition, now);
        }
    }

    /// Whether conditions were left out for lack of room, and there is room again; or some were not due for long.
    pub fn needs_scan(&self, now: Duration) -> bool {
        let has_room = self.overflowed && self.needs.len() <= Self::MAX_WAITING / 2;
        has_room || self.next_scan.is_some_and(|at| at <= now)
    }

    /// Returns the next step. Stripe is not asked before `ask_at`; the store has no such limit.
    pub fn next(&mut self, now: Duration, ask_at: Duration) -> Next {
        let ask_at = ask_at.max(self.paused_until);
        let at = |entry: &Entry| match entry.phase {
            Phase::NotStored => entry.not_before.max(ask_at).min(entry.look_at),
            _ => entry.not_before,
        };
        let idle = self.entries.iter_mut();
        let idle = idle.filter(|(_, entry)| entry.phase != Phase::InProgress);
        let Some((need, entry)) = idle.min_by_key(|(_, entry)| at(entry)) else {
            return Next::Idle;
        };
        let at = at(entry);
        if at > now {
            return Next::Wait(at);
        }
        let task = Task {
            need: need.clone(),
            waiting: entry.waiting.clone(),
        };
        let may_ask = entry.not_before.max(ask_at) <= now;
        match std::mem::replace(&mut entry.phase, Phase::InProgress) {
            Phase::NotStored if may_ask => Next::Fetch(task),
            _ => Next::Look(task),
        }
    }

    /// Records the outcome of a fetch that [`Agenda::next`] started.
    pub fn ended(&mut self, task: &Task, outcome: Outcome, now: Duration) {
        if let Outcome::Limited { .. } | Outcome::Refused { all: true } = outcome {
            let wait = if let Outcome::Limited { wait } = outcome {
                wait
            } else {
                Some(KEY_REFUSED_BACKOFF)
            };
            self.paused_until = self.paused_until.max(now + wait.unwrap_or(SETTLE_DELAY));
        }
        // The conditions closed during the fetch: another event carried the state.
        let Some(entry) = self.entries.get_mut(&task.need) else {
            return;
        };
        let mut waiting = entry.waiting.iter();
        let named_again = waiting.any(|(key, cause)| task.waiting.get(key) != Some(cause));
        entry.phase = Phase::Due;
        let wait = match outcome {
            // The response may not include a change that was reported during the fetch.
            Outcome::Refreshed
            | Outcome::Found
            | Outcome::Known
            | Outcome::Gone
            | Outcome::Forbidden
                if named_again =>
            {
                entry.attempts = 0;
                SETTLE_DELAY
            }
            Outcome::NotStored => {
                entry.phase = Phase::NotStored;
                entry.not_before = now;
                entry.look_at = now + backoff(FAILED_BACKOFF, entry.looks).min(MAX_NO_KEY_WAIT);
                entry.looks = entry.looks.saturating_add(1);
                return;
            }
            Outcome::Gone => return self.give_up(&task.need, None),
            Outcome::Forbidden => {
                let until = now + FORBIDDEN_WAIT;
                self.scan_at(until);
                return self.give_up(&task.need, Some(until));
            }
            Outcome::Refreshed | Outcome::Found => {
                entry.phase = Phase::Published;
                backoff(UNAPPLIED_BACKOFF, entry.attempts)
            }
            Outcome::Refused { .. } => backoff(REFUSED_BACKOFF, entry.attempts),
            Outcome::Limited { wait: Some(wait) } => wait,
            Outcome::Limited { wait: None } | Outcome::Failed => {
                backoff(FAILED_BACKOFF, entry.attempts)
            }
            // An event may bring what the store lacks.
            Outcome::Known | Outcome::NoKey => {
                backoff(FAILED_BACKOFF, entry.attempts).min(MAX_NO_KEY_WAIT)
            }
        };
        entry.attempts = entry.attempts.saturating_add(1);
        entry.not_before = now + wait;
    }

    fn add(&mut self, condition: &Condition, now: Duration) {
        let key = &condition.key;
        let mut needs = needs_of(condition);
        self.forget(key, &needs);
        let cause = Cause::of(condition);
        let unavailable = self.unavailable.get(key);
        let is_available = |need: &Need| {
            let gone = unavailable.and_then(|of_key| of_key.get(need));
            let gone = gone.filter(|gone| gone.until.is_none_or(|until| now < until));
            gone.is_none_or(|gone| gone.cause != cause)
        };
        needs.retain(is_available);
        if needs.is_empty() {
            return;
        }
        // Other needs are due since an event, whose clock may be ahead of this one.
        let due_s = Some(condition.due_s).filter(|_| key.kind.has_due_date());
        let since_began_s = due_s.map_or(0, |due_s| due_s.saturating_sub(self.began_s));
        let due = Duration::from_secs(since_began_s.try_into().unwrap_or(0));
        if due > now + SCAN_INTERVAL {
            self.forget(key, &[]);
            return self.scan_at(due);
        }
        let due = due.max(now + SETTLE_DELAY);
        if self.needs.len() >= Self::MAX_WAITING && !self.needs.contains_key(key) {
            self.overflowed = true;
            return;
        }
        for need in &needs {
            let entry = self.entries.entry(need.clone()).or_insert_with(|| Entry {
                waiting: BTreeMap::new(),
                phase: Phase::Due,
                not_before: due,
                look_at: due,
                looks: 0,
                attempts: 0,
            });
            // Another condition may need the object earlier.
            if entry.attempts == 0 && entry.phase == Phase::Due {
                entry.not_before = entry.not_before.min(due);
            }
            let before = entry.waiting.insert(key.clone(), cause.clone());
            // A back-off continues: another event does not make Stripe available. A published
            // state, though, is outdated now.
            if before.as_ref() != Some(&cause) && entry.phase == Phase::Published {
                (entry.phase, entry.attempts, entry.not_before) = (Phase::Due, 0, due);
            }
        }
        self.needs.insert(key.clone(), needs);
    }

    /// The condition no longer waits for objects other than those in `still`.
    fn forget(&mut self, key: &ConditionKey, still: &[Need]) {
        let Some(needs) = self.needs.remove(key) else {
            return;
        };
        let (kept, dropped): (Vec<_>, Vec<_>) =
            needs.into_iter().partition(|need| still.contains(need));
        for need in dropped {
            if let Some(entry) = self.entries.get_mut(&need) {
                entry.waiting.remove(key);
                if entry.waiting.is_empty() {
                    self.entries.remove(&need);
                }
            }
        }
        if !kept.is_empty() {
            self.needs.insert(key.clone(), kept);
        }
    }

    fn scan_at(&mut self, at: Duration) {
        self.next_scan = Some(self.next_scan.map_or(at, |before| before.min(at)));
    }

    /// Until another event names it, or until then, an object is not fetched.
    fn give_up(&mut self, need: &Need, until: Option<Duration>) {
        let Some(entry) = self.entries.remove(need) else {
            return;
        };
        for (key, cause) in entry.waiting {
            if let Some(needs) = self.needs.get_mut(&key) {
                needs.retain(|other| other != need);
                if needs.is_empty() {
                    self.needs.remove(&key);
                }
            }
            if self.unavailable.len() >= Self::MAX_UNAVAILABLE {
                self.unavailable.pop_first();
            }
            let of_key = self.unavailable.entry(key).or_default();
            of_key.insert(need.clone(), Unavailable { cause, until });
        }
    }
}

impl Outcome {
    /// The name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refreshed => "refreshed",
            Self::Found | Self::Known => "known",
            Self::NotStored => "not_stored",
            Self::Gone => "gone",
            Self::Forbidden => "forbidden",
            Self::Refused { .. } => "refused",
            Self::Limited { .. } => "limited",
            Self::NoKey => "no_key",
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
/// A permission may be granted.
const FORBIDDEN_WAIT: Duration = Duration::from_secs(3600);

/// The store is asked more often than Stripe.
const MAX_NO_KEY_WAIT: Duration = Duration::from_secs(300);

/// Nothing is fetched while the key is refused. A new key takes effect by reload or restart.
const KEY_REFUSED_BACKOFF: Duration = Duration::from_secs(60);

fn backoff(first: Duration, attempts: u32) -> Duration {
    let max = MAX_WAIT;
    Backoff { first, max }.wait(attempts)
}

#[cfg(test)]
mod tests;
