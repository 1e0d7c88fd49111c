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
use revwatch_core::realm::Realm;
use revwatch_storage::ports::ConditionChange;

/// An object to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The object. Its id and its account are plain: they become part of a request.
    pub need: Need,
    /// The conditions that wait for it; at least one.
    pub waiting: BTreeMap<ConditionKey, Cause>,
}

/// Why a condition waits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    /// Since when, Unix seconds: an answer from before is no answer.
    pub since_s: i64,
    /// The event that began it.
    pub event_id: String,
}

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

impl Task {
    /// What these conditions wait for.
    pub fn all_of(conditions: &[Condition]) -> Vec<Self> {
        let mut tasks = BTreeMap::<Need, BTreeMap<ConditionKey, Cause>>::new();
        for condition in conditions {
            for need in needs_of(condition) {
                let waiting = tasks.entry(need).or_default();
                waiting.insert(condition.key.clone(), Cause::of(condition));
            }
        }
        let task = |(need, waiting)| Self { need, waiting };
        tasks.into_iter().map(task).collect()
    }

    /// The newest cause: the answer must be at least as new.
    pub fn newest(&self) -> Option<&Cause> {
        self.waiting.values().max()
    }

    /// The same for the entities that are not the object itself, if there are any: what the store has of it is
    /// new to them only.
    pub fn by_others(&self) -> Option<Self> {
        let own = self.need.key();
        let mut others = self.clone();
        others.waiting.retain(|key, _| key.subject != own);
        (!others.waiting.is_empty()).then_some(others)
    }
}

impl Cause {
    fn of(condition: &Condition) -> Self {
        Self {
            since_s: condition.since_s,
            event_id: condition.event_id.clone(),
        }
    }
}

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
        (self.overflowed, self.next_scan) = (false, None);
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
        let since_began_s = condition.due_s.saturating_sub(self.began_s);
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

/// What the condition waits for. Nothing is asked about an account that an organisation's endpoint does not know.
fn needs_of(condition: &Condition) -> Vec<Need> {
    let mut needs = Need::of(condition);
    needs.retain(|need| need.realm != *Realm::unknown() && is_plain(need));
    needs
}

/// Whether the ids of a need are those of Stripe: letters, digits and underscores, after the kind's prefix.
fn is_plain(need: &Need) -> bool {
    let prefixes = need.kind.row().id_prefixes;
    let is_id = |id: &str, prefixes: &[&str]| {
        let mut rest = prefixes.iter().filter_map(|prefix| id.strip_prefix(prefix));
        rest.any(|rest| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            !rest.is_empty() && rest.len() <= 250 && rest.bytes().all(is_plain)
        })
    };
    let account = need.account.as_deref();
    is_id(&need.id, prefixes) && account.is_none_or(|account| is_id(account, &["acct_"]))
}

#[cfg(test)]
mod tests {
    use revwatch_core::condition::ConditionKind;
    use revwatch_core::entity::{EntityKey, EntityKind};

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// One that begins after all conditions of these tests.
    fn agenda() -> Agenda {
        Agenda::beginning_at(1000)
    }

    /// The next step, if the store lacks each object and Stripe may be asked at once.
    fn next(agenda: &mut Agenda, now: Duration) -> Next {
        match agenda.next(now, Duration::ZERO) {
            Next::Look(task) => {
                agenda.ended(&task, Outcome::NotStored, now);
                agenda.next(now, Duration::ZERO)
            }
            next => next,
        }
    }

    /// When the store is looked into, and when the first object is fetched, while the store lacks all.
    fn looks_and_fetch(
        agenda: &mut Agenda,
        mut now: Duration,
        ask_at: Duration,
    ) -> (Vec<Duration>, Duration) {
        let mut looks = Vec::new();
        loop {
            match agenda.next(now, ask_at) {
                Next::Look(task) => {
                    looks.push(now);
                    agenda.ended(&task, Outcome::NotStored, now);
                }
                Next::Wait(at) => now = at,
                Next::Fetch(_) => return (looks, now),
                Next::Idle => panic!("it waits"),
            }
        }
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
            answer_by_s: None,
            trial_end_s: None,
            further_money: Vec::new(),
            uncertain: None,
        }
    }

    fn open(account: &str, named_at_s: i64) -> ConditionChange {
        ConditionChange::Open(stale(account, named_at_s))
    }

    fn task(account: &str, named_at_s: i64) -> Task {
        task_of(&[stale(account, named_at_s)])
    }

    /// What conditions about one object have to do.
    fn task_of(conditions: &[Condition]) -> Task {
        let causes = conditions.iter().map(|condition| {
            let Condition {
                since_s, event_id, ..
            } = condition.clone();
            (condition.key.clone(), Cause { since_s, event_id })
        });
        Task {
            need: Need::of(&conditions[0]).remove(0),
            waiting: causes.collect(),
        }
    }

    /// An agenda while the fetch of `acct_1` is in progress; an event at 100 named the account.
    fn fetching() -> Agenda {
        let mut agenda = agenda();
        agenda.on_changes(&[open("acct_1", 100)], s(0));
        assert_eq!(next(&mut agenda, s(0)), Next::Wait(s(1)));
        assert_eq!(next(&mut agenda, s(1)), Next::Fetch(task("acct_1", 100)));
        assert_eq!(
            next(&mut agenda, s(1)),
            Next::Idle,
            "one fetch per account at a time"
        );
        agenda
    }

    #[test]
    fn what_the_store_has_of_an_object_is_for_the_others_that_wait() {
        let own = task("acct_1", 100);
        assert_eq!(own.by_others(), None);
        let mut both = own;
        let mut other = stale("acct_1", 90);
        other.key.subject = EntityKey::new(EntityKind::Subscription, "sub_1");
        let cause = Cause {
            since_s: 90,
            event_id: "evt_90".to_owned(),
        };
        both.waiting.insert(other.key.clone(), cause.clone());
        let others = both.by_others().expect("one");
        assert_eq!(others.waiting, [(other.key, cause)].into());
    }

    #[test]
    fn objects_of_every_realm_are_looked_for_but_not_those_of_an_unknown_account() {
        let of = |realm: &Realm| Condition {
            realm: realm.clone(),
            ..stale("acct_1", 100)
        };
        let realms = [&Realm::MAIN, &Realm::kernel(), Realm::unknown()];
        let tasks = realms.map(|realm| Task::all_of(&[of(realm)]).len());
        assert_eq!(tasks, [1, 1, 0]);
    }

    #[test]
    fn each_outcome_has_its_next_step() {
        let table = [
            (Outcome::Refreshed, Next::Wait(s(62))),
            (Outcome::Found, Next::Wait(s(62))),
            (Outcome::Known, Next::Wait(s(3))),
            (Outcome::Gone, Next::Idle),
            (Outcome::Forbidden, Next::Idle),
            (Outcome::Refused { all: false }, Next::Wait(s(302))),
            (Outcome::Refused { all: true }, Next::Wait(s(302))),
            (Outcome::Limited { wait: Some(s(7)) }, Next::Wait(s(9))),
            (Outcome::Limited { wait: None }, Next::Wait(s(3))),
            (Outcome::Failed, Next::Wait(s(3))),
        ];
        for (outcome, expected) in table {
            let mut agenda = fetching();
            agenda.ended(&task("acct_1", 100), outcome, s(2));
            assert_eq!(next(&mut agenda, s(2)), expected, "{outcome:?}");
        }
    }

    #[test]
    fn backoff_doubles_up_to_an_hour() {
        let mut agenda = fetching();
        let mut waits = Vec::new();
        for _ in 0..14 {
            agenda.ended(&task("acct_1", 100), Outcome::Failed, s(0));
            let Next::Wait(at) = next(&mut agenda, s(0)) else {
                panic!("it waits")
            };
            waits.push(at.as_secs());
            assert_eq!(next(&mut agenda, at), Next::Fetch(task("acct_1", 100)));
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
            agenda.ended(&task("acct_1", 100), outcome, s(2));
            let (_, fetched_at) = looks_and_fetch(&mut agenda, s(2), Duration::ZERO);
            assert_eq!(fetched_at, until, "{outcome:?}");
        }
    }

    #[test]
    fn the_store_is_asked_at_once_and_again_while_stripe_is_asked_at_its_pace() {
        let mut agenda = agenda();
        agenda.on_changes(&[open("acct_1", 100), open("acct_2", 100)], s(0));
        let ask_at = s(60);
        assert_eq!(agenda.next(s(1), ask_at), Next::Look(task("acct_1", 100)));
        agenda.ended(&task("acct_1", 100), Outcome::NotStored, s(1));
        assert_eq!(agenda.next(s(1), ask_at), Next::Look(task("acct_2", 100)));
        agenda.ended(&task("acct_2", 100), Outcome::Found, s(1));
        let (looks, fetched_at) = looks_and_fetch(&mut agenda, s(2), ask_at);
        assert_eq!(
            (looks, fetched_at),
            ([2, 4, 8, 16, 32].map(s).to_vec(), ask_at)
        );
    }

    #[test]
    fn what_the_key_may_not_read_is_asked_for_again_after_an_hour() {
        let mut agenda = fetching();
        agenda.ended(&task("acct_1", 100), Outcome::Forbidden, s(2));
        assert_eq!(next(&mut agenda, s(3600)), Next::Idle);
        assert!(!agenda.needs_scan(s(3601)) && agenda.needs_scan(s(3602)));
        agenda.on_scan(&[stale("acct_1", 100)], s(3000));
        assert_eq!(
            next(&mut agenda, s(3100)),
            Next::Idle,
            "a scan for another reason"
        );
        assert!(agenda.needs_scan(s(3602)));
        agenda.on_scan(&[stale("acct_1", 100)], s(3602));
        assert_eq!(next(&mut agenda, s(3603)), Next::Fetch(task("acct_1", 100)));
    }

    #[test]
    fn what_is_due_later_waits_until_then_and_takes_no_room() {
        let mut agenda = agenda();
        let due_in = |account: &str, seconds: i64| Condition {
            due_s: 1000 + seconds,
            ..stale(account, 100)
        };
        let (soon, late) = (due_in("acct_1", 50), due_in("acct_2", 5000));
        agenda.on_scan(&[soon.clone(), late.clone()], s(0));
        assert_eq!(next(&mut agenda, s(9)), Next::Wait(s(50)));
        assert!(!agenda.needs_scan(s(4999)) && agenda.needs_scan(s(5000)));
        agenda.on_scan(&[soon, late.clone()], s(5000));
        assert!(!agenda.needs_scan(s(9999)));
        agenda.on_changes(
            &[
                open("acct_1", 101),
                ConditionChange::Close(
                    task("acct_1", 101).waiting.into_keys().next().expect("one"),
                ),
            ],
            s(5000),
        );
        assert_eq!(next(&mut agenda, s(5001)), Next::Fetch(task_of(&[late])));
    }

    #[test]
    fn a_burst_of_events_about_one_account_causes_one_fetch() {
        let mut agenda = agenda();
        let burst: Vec<_> = (0..20).map(|n| open("acct_1", 100 + n)).collect();
        agenda.on_changes(&burst, s(0));
        assert_eq!(next(&mut agenda, s(1)), Next::Fetch(task("acct_1", 119)));
        agenda.ended(&task("acct_1", 119), Outcome::Refreshed, s(1));
        agenda.on_changes(&[ConditionChange::Close(stale("acct_1", 119).key)], s(1));
        assert_eq!(next(&mut agenda, s(9999)), Next::Idle);
    }

    #[test]
    fn events_during_or_after_a_fetch_cause_another_fetch() {
        for outcome in [
            Outcome::Refreshed,
            Outcome::Found,
            Outcome::Gone,
            Outcome::Forbidden,
        ] {
            let mut agenda = fetching();
            agenda.on_changes(&[open("acct_1", 101)], s(1));
            agenda.ended(&task("acct_1", 100), outcome, s(2));
            assert_eq!(
                next(&mut agenda, s(3)),
                Next::Fetch(task("acct_1", 101)),
                "during the fetch, {outcome:?}"
            );
            let mut agenda = fetching();
            agenda.ended(&task("acct_1", 100), outcome, s(2));
            agenda.on_changes(&[open("acct_1", 100)], s(2));
            assert!(
                !matches!(next(&mut agenda, s(3)), Next::Fetch(_)),
                "the same event again, {outcome:?}"
            );
            agenda.on_changes(&[open("acct_1", 101)], s(2));
            assert_eq!(
                next(&mut agenda, s(3)),
                Next::Fetch(task("acct_1", 101)),
                "after the fetch, {outcome:?}"
            );
        }
        let mut agenda = fetching();
        agenda.ended(&task("acct_1", 100), Outcome::Failed, s(2));
        agenda.on_changes(&[open("acct_1", 101)], s(2));
        assert_eq!(
            next(&mut agenda, s(2)),
            Next::Wait(s(3)),
            "another event does not end a back-off"
        );
    }

    #[test]
    fn a_scan_adds_open_conditions_and_drops_closed_ones() {
        let mut agenda = fetching();
        agenda.on_changes(&[open("acct_2", 100)], s(0));
        agenda.ended(&task("acct_1", 100), Outcome::Gone, s(1));
        agenda.on_scan(&[stale("acct_1", 100), stale("acct_3", 100)], s(1));
        assert_eq!(
            next(&mut agenda, s(9)),
            Next::Fetch(task("acct_3", 100)),
            "acct_1 stays unavailable, and acct_2 is closed"
        );
        assert_eq!(next(&mut agenda, s(9)), Next::Idle);
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
            &format!("acct_{}", "1".repeat(251)),
        ] {
            let mut agenda = agenda();
            agenda.on_changes(&[open(id, 100)], s(0));
            assert_eq!(next(&mut agenda, s(9)), Next::Idle, "{id}");
        }
    }

    fn needed(kind: EntityKind, id: &str, account: Option<&str>) -> Condition {
        let mut condition = stale(id, 100);
        condition.key.kind = ConditionKind::StateNeeded;
        condition.key.subject.kind = kind;
        condition.account = account.map(str::to_owned);
        condition
    }

    #[test]
    fn objects_of_every_kind_are_fetched_as_their_account() {
        for kind in EntityKind::ALL {
            let id = format!("{}a_1", kind.row().id_prefixes[0]);
            for account in [None, Some("acct_1")] {
                let condition = needed(kind, &id, account);
                let mut agenda = agenda();
                agenda.on_scan(std::slice::from_ref(&condition), s(0));
                let Next::Fetch(task) = next(&mut agenda, s(1)) else {
                    panic!("{kind:?}")
                };
                assert_eq!(task, task_of(&[condition]));
                assert_eq!(task.need.account.as_deref(), account);
            }
        }
        for (id, account) in [
            ("in_1", None),
            ("po_1", Some("acct_1/x")),
            ("po_1", Some("")),
        ] {
            let mut agenda = agenda();
            agenda.on_scan(&[needed(EntityKind::Payout, id, account)], s(0));
            assert_eq!(next(&mut agenda, s(9)), Next::Idle, "{id} {account:?}");
        }
    }

    #[test]
    fn conditions_that_wait_for_one_object_have_one_task() {
        let mut both = [
            stale("acct_1", 100),
            needed(EntityKind::Account, "acct_1", None),
        ];
        both[1].since_s = 105;
        let mut agenda = agenda();
        agenda.on_scan(&both, s(0));
        let all = task_of(&both);
        assert_eq!(all.newest().map(|cause| cause.since_s), Some(105));
        assert_eq!(next(&mut agenda, s(1)), Next::Fetch(all.clone()));
        assert_eq!(next(&mut agenda, s(1)), Next::Idle);
        // One closes during the fetch: the other still waits for the answer, and no longer.
        agenda.on_changes(&[ConditionChange::Close(both[0].key.clone())], s(1));
        agenda.ended(&all, Outcome::Refreshed, s(2));
        assert_eq!(next(&mut agenda, s(2)), Next::Wait(s(62)));
        // Another that begins to wait does not wait for a minute.
        agenda.on_changes(&[ConditionChange::Open(both[0].clone())], s(2));
        assert_eq!(next(&mut agenda, s(3)), Next::Fetch(all));
        let closed = both.map(|condition| ConditionChange::Close(condition.key));
        agenda.on_changes(&closed, s(3));
        assert!(agenda.entries.is_empty() && agenda.needs.is_empty());
    }

    #[test]
    fn a_condition_that_closes_and_opens_again_asks_for_what_was_gone() {
        let mut agenda = fetching();
        agenda.ended(&task("acct_1", 100), Outcome::Gone, s(2));
        assert!(agenda.entries.is_empty() && agenda.needs.is_empty());
        agenda.on_changes(&[ConditionChange::Close(stale("acct_1", 100).key)], s(2));
        agenda.on_changes(&[open("acct_1", 100)], s(2));
        assert_eq!(next(&mut agenda, s(3)), Next::Fetch(task("acct_1", 100)));
    }

    #[test]
    fn conditions_beyond_the_limit_are_found_by_a_later_scan() {
        let all: Vec<_> = (0..=Agenda::MAX_WAITING)
            .map(|n| stale(&format!("acct_{n}"), 100))
            .collect();
        let mut agenda = agenda();
        agenda.on_scan(&all, s(0));
        assert!(
            agenda.overflowed && !agenda.needs_scan(s(1)),
            "no scan before there is room"
        );
        for condition in &all[..Agenda::MAX_WAITING / 2] {
            agenda.on_changes(&[ConditionChange::Close(condition.key.clone())], s(1));
        }
        assert!(agenda.needs_scan(s(1)));
        agenda.on_scan(&all[Agenda::MAX_WAITING / 2..], s(2));
        assert!(!agenda.overflowed);
    }
}
