//! Random histories of conditions whose due time moves, through complete ticks, against a small model that knows
//! neither due windows nor deadlines: at each tick it goes through what has changed and looks at what holds.

use fastrand::Rng;
use jiff::Timestamp;

use super::super::rule_set::rule_delay;
use super::due_times::{Store, due_rules};
use super::*;

/// What the model expects of one rule and one subject.
struct Watched {
    rule: Rule,
    key: ConditionKey,
    expected: Expected,
    /// How often it has fired.
    fired: usize,
    /// What the last message of each alert that is over shows.
    over: Vec<LastMessage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Idle,
    Firing {
        shown: Shown,
        clear_since_s: Option<i64>,
    },
    Dismissed,
}

/// Since when the condition holds, and where its due time moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Shown {
    since_s: i64,
    due_s: Option<i64>,
}

/// What the last message of an alert shows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct LastMessage {
    rule: String,
    subject: String,
    is_over: bool,
    shown: Shown,
}

impl Watched {
    /// `states`: those since the last tick; the last of them is `now`, if there are any.
    fn tick(&mut self, states: &[Option<&Condition>], now: Option<&Condition>, now_s: i64) {
        // What a later state replaces ends what fires, and fires nothing.
        let replaced = states
            .split_last()
            .map_or(&[][..], |(_, replaced)| replaced);
        for state in replaced {
            let fires = self.expected == Expected::Idle && self.is_due(*state, now_s);
            if !fires {
                self.evaluate(*state, now_s);
            }
        }
        if !states.is_empty() {
            self.evaluate(now, now_s);
        }
        // Time alone may have made it due.
        if self.is_due(now, now_s) {
            self.evaluate(now, now_s);
        }
        self.end_if_clear(now_s);
    }

    fn evaluate(&mut self, state: Option<&Condition>, now_s: i64) {
        let is_due = self.is_due(state, now_s);
        let news = state.map(|condition| Shown {
            since_s: condition.since_s,
            due_s: (!is_due).then_some(condition.due_s + self.after_s()),
        });
        self.expected = match (self.expected, news) {
            (Expected::Dismissed, Some(_)) if is_due => Expected::Dismissed,
            (Expected::Dismissed, _) => Expected::Idle,
            (before, Some(shown)) if is_due => {
                self.fired += usize::from(before == Expected::Idle);
                Expected::Firing {
                    shown,
                    clear_since_s: None,
                }
            }
            (Expected::Idle, _) => Expected::Idle,
            (
                Expected::Firing {
                    shown,
                    clear_since_s,
                },
                news,
            ) => Expected::Firing {
                shown: news.unwrap_or(shown),
                clear_since_s: clear_since_s.or(Some(now_s)),
            },
        };
        self.end_if_clear(now_s);
    }

    fn end_if_clear(&mut self, now_s: i64) {
        if let Expected::Firing {
            shown,
            clear_since_s: Some(clear_s),
        } = self.expected
            && clear_s + self.rule.keep_firing_for_s <= now_s
        {
            self.over.push(self.message(true, shown));
            self.expected = Expected::Idle;
        }
    }

    /// A person resolves it.
    fn dismiss(&mut self) {
        if let Expected::Firing {
            shown,
            clear_since_s,
        } = self.expected
        {
            self.over.push(self.message(true, shown));
            self.expected = match clear_since_s {
                Some(_) => Expected::Idle,
                None => Expected::Dismissed,
            };
        }
    }

    fn firing(&self) -> Option<LastMessage> {
        match self.expected {
            Expected::Firing { shown, .. } => Some(self.message(false, shown)),
            Expected::Idle | Expected::Dismissed => None,
        }
    }

    fn message(&self, is_over: bool, shown: Shown) -> LastMessage {
        LastMessage {
            rule: self.rule.name.clone(),
            subject: self.key.subject.to_string(),
            is_over,
            shown,
        }
    }

    fn is_due(&self, state: Option<&Condition>, now_s: i64) -> bool {
        state.is_some_and(|condition| condition.due_s + self.after_s() <= now_s)
    }

    fn after_s(&self) -> i64 {
        rule_delay(&self.rule).map_or(0, |(_, delay)| delay.seconds)
    }
}

fn model(rules: &[Rule]) -> Vec<Watched> {
    let of_rule = |rule: &Rule| {
        let kind = rule_delay(rule).map(|(kind, _)| kind);
        let kind = kind.expect("a rule on a condition");
        let rule = rule.clone();
        SUBJECTS.map(|id| Watched {
            rule: rule.clone(),
            key: ConditionKey {
                kind,
                subject: EntityKey::new(EntityKind::Subscription, id),
            },
            expected: Expected::Idle,
            fired: 0,
            over: Vec::new(),
        })
    };
    rules.iter().flat_map(of_rule).collect()
}

const SUBJECTS: [&str; 3] = ["sub_1", "sub_2", "sub_3"];

/// A change of a condition, about as often due as not.
fn random_change(rng: &mut Rng, now_s: i64) -> ConditionChange {
    let kinds = [ConditionKind::TrialEnding, ConditionKind::PastDue];
    let (kind, id) = (rng.choice(kinds), rng.choice(SUBJECTS));
    let (kind, id) = (kind.expect("one"), id.expect("one"));
    let since_s = now_s - rng.i64(0..500);
    let opened = condition(kind, EntityKind::Subscription, id, "acct_1", since_s);
    match (rng.u8(0..5), kind) {
        (0, _) => ConditionChange::Close(opened.key),
        (_, ConditionKind::TrialEnding) => ConditionChange::Open(Condition {
            due_s: now_s + rng.i64(-200..300),
            ..opened
        }),
        _ => ConditionChange::Open(opened),
    }
}

/// The rules that have a delay get another one.
fn change_delays(rules: &mut [Rule]) {
    for rule in rules {
        if let RuleKind::Condition { after, .. } = &mut rule.kind
            && after.seconds > 0
        {
            after.seconds = 540 - after.seconds;
        }
    }
}

fn last_message(message: &Message) -> LastMessage {
    let unix_s = |name: &str| {
        let text = message.details[name].as_str()?;
        Some(text.parse::<Timestamp>().expect("a time").as_second())
    };
    let subject = message.details["subject"].as_str();
    LastMessage {
        rule: message.rule.clone(),
        subject: subject.expect("a subject").to_owned(),
        is_over: message.state == AlertState::Resolved,
        shown: Shown {
            since_s: unix_s("since").expect("it has begun"),
            due_s: unix_s("due_at"),
        },
    }
}

/// A deployment, the model of it, and what its readers have read.
struct World {
    rng: Rng,
    now_s: i64,
    rules: Vec<Rule>,
    harness: Harness,
    store: Store,
    /// How many changes the evaluator has read.
    read: usize,
    /// The evaluator cannot follow the changes.
    is_scan_due: bool,
    model: Vec<Watched>,
    last: BTreeMap<String, LastMessage>,
}

impl World {
    fn new(seed: u64, policy: &Policy) -> Self {
        let rules = due_rules();
        let nothing = Documents::default();
        Self {
            rng: Rng::with_seed(seed),
            now_s: 10_000,
            harness: Harness::open_with(rules.clone(), policy.clone(), &nothing),
            store: Store::default(),
            read: 0,
            is_scan_due: true,
            model: model(&rules),
            last: BTreeMap::new(),
            rules,
        }
    }

    fn step(&mut self, policy: &Policy) {
        self.now_s += self.rng.i64(0..60);
        for _ in 0..self.rng.u8(0..4) {
            let change = random_change(&mut self.rng, self.now_s);
            self.store.change(change);
        }
        match self.rng.u8(0..16) {
            0 => self.lose_changes(),
            1 => {
                let recovery_id = self.rng.u32(..).to_string();
                self.harness.engine.on_recovery(&recovery_id);
                self.is_scan_due = true;
            }
            2 => {
                change_delays(&mut self.rules);
                for watched in &mut self.model {
                    change_delays(std::slice::from_mut(&mut watched.rule));
                }
                self.is_scan_due = true;
            }
            3 => self.resolve_one(),
            // Nothing reads what has changed.
            4..7 => return,
            _ => {}
        }
        if self.is_scan_due || self.rng.bool() {
            self.harness.settle(self.now_s);
            self.harness.reopen_with(self.rules.clone(), policy.clone());
        }
        self.tick();
    }

    fn lose_changes(&mut self) {
        self.is_scan_due |= self.read < self.store.changes.len();
        self.store.kept_from = self.store.changes.len();
    }

    /// A person resolves an alert.
    fn resolve_one(&mut self) {
        let is_open = |alert: &&Alert| !alert.is_resolved();
        let open = self.harness.engine.alerts().find(is_open).cloned();
        let Some(alert) = open else {
            return;
        };
        let is_its = |it: &&mut Watched| {
            it.rule.name == alert.rule && Some(&it.key.subject) == alert.subject.entity()
        };
        let watched = self.model.iter_mut().find(is_its);
        watched.expect("it is in the model").dismiss();
        let alert_id = alert.id;
        self.harness
            .command(CommandKind::Resolve { alert_id }, self.now_s);
    }

    fn tick(&mut self) {
        let unread = match self.is_scan_due {
            true => &[][..],
            false => &self.store.changes[self.read..],
        };
        for watched in &mut self.model {
            let now = self.store.open.get(&watched.key);
            let of_key = unread.iter().filter(|change| *change.key() == watched.key);
            let mut states: Vec<Option<&Condition>> = of_key
                .map(|change| match change {
                    ConditionChange::Open(condition) => Some(condition),
                    ConditionChange::Close(_) => None,
                })
                .collect();
            states.extend(self.is_scan_due.then_some(now));
            watched.tick(&states, now, self.now_s);
        }
        (self.read, self.is_scan_due) = (self.store.changes.len(), false);
        for message in self.harness.tick_and_send(&self.store, self.now_s) {
            if message.notice.is_none() {
                let last = last_message(&message);
                self.last.insert(message.alert_id, last);
            }
        }
    }

    fn check(&self, seed: u64) {
        let place = format!("seed {seed}, second {}", self.now_s);
        let sent = |is_over: bool| {
            let mut sent: Vec<_> = self.last.values().collect();
            sent.retain(|last| last.is_over == is_over);
            sent.sort();
            sent.into_iter().cloned().collect::<Vec<_>>()
        };
        let mut firing: Vec<_> = self.model.iter().filter_map(Watched::firing).collect();
        firing.sort();
        assert_eq!(sent(false), firing, "{place}");
        let over = self.model.iter().flat_map(|watched| &watched.over);
        let mut over: Vec<_> = over.cloned().collect();
        over.sort();
        assert_eq!(sent(true), over, "{place}");
        let fired: usize = self.model.iter().map(|watched| watched.fired).sum();
        assert_eq!(self.last.len(), fired, "{place}");
    }
}

#[test]
fn alerts_follow_a_due_time_that_moves_whatever_else_happens() {
    let first = fastrand::u64(..u64::MAX / 2);
    eprintln!("seeds from {first}");
    let policy = policy_with(&["slack"]);
    for seed in first..first + 200 {
        let mut world = World::new(seed, &policy);
        for _ in 0..50 {
            world.step(&policy);
            world.check(seed);
        }
    }
}
