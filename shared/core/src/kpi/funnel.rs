//! The funnel from a registered provider to its first payment (C16): how many reached each stage, where they were lost,
//! and how long each stage took.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::Serialize;

use super::Ratio;
use crate::class::{Owner, Scope};
use crate::counters::{Bucket, Counters, Figures, UNKNOWN, add};
use crate::entity::signup::Stage;
use crate::realm::Realm;

/// The dimensions that divide the funnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Two letters.
    Country,
    /// Where the provider came from, as the application says it.
    Source,
    /// The day of the week of the registration, in UTC.
    Weekday,
    /// The day of the registration, in UTC.
    Day,
}

/// The providers who registered in a period, by stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Funnel {
    /// Whether it begins with the registration, which only the application shows. Otherwise it begins with the account,
    /// and has those that were created in the period: no registration in it is known.
    pub has_registrations: bool,
    /// The first hour of the period in which a provider registered, in Unix seconds: of earlier ones nothing may be
    /// known.
    pub registrations_since_s: Option<i64>,
    /// The stages in order.
    pub stages: Vec<StageFigures>,
    /// The last stage ÷ the first one that is known; `null`: there was none.
    pub conversion: Option<f64>,
    /// What it should be.
    pub conversion_target: f64,
    /// The same by segment; empty: it is not divided.
    pub segments: BTreeMap<String, Vec<StageFigures>>,
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageFigures {
    /// Its name.
    pub stage: &'static str,
    /// How many reached it; `null`: it is unknown.
    pub reached: Option<i64>,
    /// Of those in the first stage.
    pub of_first: Option<f64>,
    /// What that should be.
    pub target: f64,
    /// Of those in the stage before.
    pub of_previous: Option<f64>,
    /// Below this share of the stage before, something must be done.
    pub floor: Option<f64>,
    /// How many of the stage before did not reach it.
    pub lost: Option<i64>,
    /// The mean time from the stage before, over those that reached it in the period, in seconds. Of segments it is not
    /// known.
    pub mean_seconds: Option<i64>,
    /// What that should be at most.
    pub target_seconds: Option<i64>,
    /// Above this, something must be done.
    pub alert_seconds: Option<i64>,
    /// What must be done, if it is.
    pub action: Option<&'static str>,
}

/// What a stage should be like. Sources: C16.
struct Goal {
    stage: Stage,
    target: f64,
    floor: Option<f64>,
    seconds: Option<[i64; 2]>,
    action: &'static str,
}

const HOUR_S: i64 = 3600;
const DAY_S: i64 = 24 * HOUR_S;

const GOALS: [Goal; 6] = [
    Goal {
        stage: Stage::Registered,
        target: 1.0,
        floor: None,
        seconds: None,
        action: "",
    },
    Goal {
        stage: Stage::AccountCreated,
        target: 0.95,
        floor: Some(0.90),
        seconds: None,
        action: "Read the errors of account creation; make the next step easier to find",
    },
    Goal {
        stage: Stage::Started,
        target: 0.90,
        floor: Some(0.80),
        seconds: Some([4 * HOUR_S, DAY_S]),
        action: "Remind after 24 and 48 hours; improve the text; offer help in a chat",
    },
    Goal {
        stage: Stage::ExternalAccount,
        target: 0.85,
        floor: Some(0.75),
        seconds: Some([HOUR_S / 2, 2 * HOUR_S]),
        action: "Explain why the bank account is safe; offer help by telephone",
    },
    Goal {
        stage: Stage::ChargesEnabled,
        target: 0.80,
        floor: Some(0.70),
        seconds: Some([HOUR_S / 6, HOUR_S]),
        action: "Go through the requirements and documents with the provider",
    },
    Goal {
        stage: Stage::FirstPayment,
        target: 0.70,
        floor: Some(0.60),
        seconds: Some([7 * DAY_S, 14 * DAY_S]),
        action: "Improve the matching of jobs; encourage customers to pay online",
    },
];

const WEEKDAYS: [&str; 7] = ["thu", "fri", "sat", "sun", "mon", "tue", "wed"];

type Counts = BTreeMap<Stage, i64>;

impl Funnel {
    /// Of those who began in these hours, by a dimension if one is given.
    pub fn compute(
        counters: &Counters,
        realm: Realm,
        hours: RangeInclusive<u32>,
        by: Option<By>,
    ) -> Self {
        let scope = Scope::of(realm, Owner::Platform);
        let figures = counters.of(&scope);
        // Other events of the application say nothing of who registered.
        let registers = |hour: &u32| {
            figures
                .under(Bucket::Hour(*hour), "signups")
                .next()
                .is_some()
        };
        let since = hours.clone().find(registers);
        let has_registrations = since.is_some();
        let counted = |by| count(&figures, hours.clone(), has_registrations, by);
        let all = counted(None).remove("").unwrap_or_default();
        let seconds = mean_seconds(&figures, hours.clone(), has_registrations);
        let stages = stages(&all, has_registrations, &seconds);
        let mut divided = by.map(|by| counted(Some(by))).unwrap_or_default();
        if by == Some(By::Source) {
            add_unknown(&all, &mut divided);
        }
        let divided = divided.into_iter().map(|(segment, counts)| {
            let of_segment = self::stages(&counts, has_registrations, &BTreeMap::new());
            (segment, of_segment)
        });
        Self {
            has_registrations,
            registrations_since_s: since.map(|hour| i64::from(hour).saturating_mul(HOUR_S)),
            conversion: stages.last().and_then(|last| last.of_first),
            stages,
            conversion_target: GOALS[5].target,
            segments: divided.collect(),
        }
    }
}

/// How many reached each stage, by segment; without a dimension the only segment has no name.
fn count(
    figures: &Figures<'_>,
    hours: RangeInclusive<u32>,
    has_registrations: bool,
    by: Option<By>,
) -> BTreeMap<String, Counts> {
    let family = match (has_registrations, by) {
        (true, _) => "signups",
        (false, Some(By::Source)) => "cohort_source",
        (false, _) => "cohort",
    };
    let mut counts = BTreeMap::<String, Counts>::new();
    for hour in hours {
        for (rest, n) in figures.under(Bucket::Hour(hour), family) {
            let Some(stage) = Stage::ALL.into_iter().find(|it| it.as_str() == rest[0]) else {
                continue;
            };
            let segment = segment(by, hour, &rest);
            let count = counts.entry(segment).or_default().entry(stage).or_default();
            *count = add(*count, n);
        }
    }
    counts
}

/// Those that are in no segment. Of an account, the application need not say the source.
fn add_unknown(all: &Counts, divided: &mut BTreeMap<String, Counts>) {
    for (stage, count) in all {
        let known = divided.values().filter_map(|counts| counts.get(stage));
        let rest = count.saturating_sub(known.copied().fold(0, add));
        if rest > 0 {
            let unknown = divided.entry(UNKNOWN.to_owned()).or_default();
            let unknown = unknown.entry(*stage).or_default();
            *unknown = add(*unknown, rest);
        }
    }
}

/// `rest`: the stage, then the country and the source, or one of them.
fn segment(by: Option<By>, hour: u32, rest: &[&str]) -> String {
    let text = match by {
        None => "",
        Some(By::Country) => rest.get(1).copied().unwrap_or(UNKNOWN),
        Some(By::Source) => rest.last().copied().unwrap_or(UNKNOWN),
        Some(By::Weekday) => WEEKDAYS[(hour / 24 % 7) as usize],
        Some(By::Day) => return day(hour),
    };
    text.to_owned()
}

/// For example `2026-01-31`.
fn day(hour: u32) -> String {
    let at_s = i64::from(hour).saturating_mul(HOUR_S);
    let at = jiff::Timestamp::from_second(at_s).unwrap_or_default();
    at.strftime("%F").to_string()
}

/// The mean time that each stage took from the one before it.
fn mean_seconds(
    figures: &Figures<'_>,
    hours: RangeInclusive<u32>,
    has_registrations: bool,
) -> BTreeMap<Stage, i64> {
    let family = match has_registrations {
        true => "signup_stage",
        false => "stage",
    };
    let mut sums = BTreeMap::<Stage, [i64; 2]>::new();
    for (rest, n) in hours.flat_map(|hour| figures.under(Bucket::Hour(hour), family)) {
        let stage = Stage::ALL.into_iter().find(|it| it.as_str() == rest[0]);
        let (Some(stage), [_, what]) = (stage, rest.as_slice()) else {
            continue;
        };
        let [count, seconds] = sums.entry(stage).or_default();
        match *what {
            "count" => *count = add(*count, n),
            "seconds" => *seconds = add(*seconds, n),
            _ => {}
        }
    }
    let means = sums.into_iter().filter_map(|(stage, [count, seconds])| {
        let mean = seconds.checked_div(count).filter(|_| count > 0)?;
        Some((stage, mean))
    });
    means.collect()
}

fn stages(
    counts: &Counts,
    has_registrations: bool,
    seconds: &BTreeMap<Stage, i64>,
) -> Vec<StageFigures> {
    let reached = |stage: Stage| {
        let is_known = has_registrations || stage != Stage::Registered;
        is_known.then(|| counts.get(&stage).copied().unwrap_or(0))
    };
    let share = |part: Option<i64>, total: Option<i64>| {
        let (part, total) = part.zip(total)?;
        Ratio { part, total }.value()
    };
    let first = GOALS.iter().find_map(|goal| reached(goal.stage));
    let mut previous = None;
    let figures = GOALS.iter().map(|goal| {
        let now = reached(goal.stage);
        let before = std::mem::replace(&mut previous, now);
        let of_previous = share(now, before);
        let mean_seconds = seconds.get(&goal.stage).copied();
        let is_few = of_previous
            .zip(goal.floor)
            .is_some_and(|(share, floor)| share < floor);
        let is_slow = mean_seconds
            .zip(goal.seconds)
            .is_some_and(|(mean, [_, alert])| mean > alert);
        StageFigures {
            stage: goal.stage.as_str(),
            reached: now,
            of_first: share(now, first),
            target: goal.target,
            of_previous,
            floor: goal.floor,
            lost: before
                .zip(now)
                .map(|(before, now)| before.saturating_sub(now)),
            mean_seconds,
            target_seconds: goal.seconds.map(|[target, _]| target),
            alert_seconds: goal.seconds.map(|[_, alert]| alert),
            action: (is_few || is_slow).then_some(goal.action),
        }
    });
    figures.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::Entity;
    use crate::event::Event;
    use crate::observe::{ObserveSettings, observe};
    use crate::relay::Relay;
    use crate::source::Source;
    use serde_json::{Value, json};

    const START_S: i64 = 1_795_000_000;

    /// What providers and accounts add to the counters, of events in the reverse of their order.
    #[derive(Default)]
    struct Business(BTreeMap<crate::entity::EntityKey, Entity>);

    impl Business {
        fn apply(&mut self, source: Source, body: &Value) {
            let body = body.to_string();
            let event = Event::read(source, body.as_bytes()).expect("an event");
            for observation in observe(&event, &ObserveSettings::default()).expect("readable") {
                let new = || Entity::new(&observation.key);
                let entity = self.0.entry(observation.key.clone()).or_insert_with(new);
                entity.merge(&observation);
            }
        }

        fn app(&mut self, kind: &str, n: i64, after_s: i64, data: &Value) {
            let at = jiff::Timestamp::from_second(START_S + after_s).expect("a time");
            self.apply(
                Source::App,
                &json!({"specversion": "1.0", "id": format!("{kind}-{n}"), "source": "/app", "type": kind,
                    "time": at.to_string(), "data": data}),
            );
        }

        fn account(&mut self, n: i64, after_s: i64, account: &Value) {
            let mut object = json!({"id": format!("acct_{n}"), "object": "account", "country": "BR",
                "created": START_S + 60, "details_submitted": false, "charges_enabled": false,
                "payouts_enabled": false, "external_accounts": {"object": "list", "data": []}});
            let fields = account.as_object().expect("fields").clone();
            object.as_object_mut().expect("an object").extend(fields);
            self.apply(
                Source::Stripe,
                &json!({"id": format!("evt_{n}_{after_s}"), "object": "event", "account": format!("acct_{n}"),
                    "created": START_S + after_s, "type": "account.updated", "data": {"object": object}}),
            );
        }

        fn counters(mut self) -> Counters {
            for from in self.0.values().cloned().collect::<Vec<_>>() {
                for relay in Relay::all_of(&from) {
                    let to = self
                        .0
                        .entry(relay.to.clone())
                        .or_insert_with(|| Entity::new(&relay.to));
                    to.merge(&relay.observe(Some(&from)).expect("it is stored"));
                }
            }
            let mut counters = Counters::default();
            for entity in self.0.values() {
                counters.merge(entity.contributions(), 1);
            }
            counters
        }
    }

    /// So many providers reached each stage.
    fn business(reached: [i64; 6]) -> Counters {
        let mut business = Business::default();
        for n in 0..reached[0] {
            let user = format!("u_{n}");
            let source = if n % 2 == 0 { "ads" } else { "friend" };
            let of = json!({"account": format!("acct_{n}"), "user": user});
            let bank = json!([{"id": "ba_1", "object": "bank_account"}]);
            let external = json!({"object": "list", "data": bank});
            if n < reached[5] {
                let job =
                    json!({"account": format!("acct_{n}"), "amount_minor": 100, "currency": "brl"});
                business.app("job.paid", n, 90_000, &job);
            }
            if n < reached[4] {
                let charges = json!({"details_submitted": true, "charges_enabled": true, "external_accounts": external});
                business.account(n, 5000, &charges);
            }
            if n < reached[3] {
                business.account(
                    n,
                    4500,
                    &json!({"details_submitted": true, "external_accounts": external}),
                );
            }
            if n < reached[2] {
                business.app("account_link.clicked", n, 3660, &of);
            }
            if n < reached[1] {
                business.account(n, 61, &json!({}));
                business.app("account.created_by_user", n, 60, &of);
            }
            let provider = json!({"user": user, "country": "BR", "source": source});
            business.app("provider.registered", n, 0, &provider);
        }
        business.counters()
    }

    fn funnel(counters: &Counters, by: Option<By>) -> Funnel {
        let hour = crate::counters::hour_of(START_S);
        Funnel::compute(
            counters,
            Realm::MAIN,
            hour.saturating_sub(24)..=hour + 48,
            by,
        )
    }

    /// The example of C16's source.
    #[test]
    fn the_example_of_the_requirements_comes_out_as_there() {
        let counters = business([100, 95, 86, 73, 68, 48]);
        let funnel = funnel(&counters, Some(By::Source));
        assert!(funnel.has_registrations);
        let reached: Vec<_> = funnel
            .stages
            .iter()
            .map(|it| it.reached.expect("known"))
            .collect();
        assert_eq!(reached, [100, 95, 86, 73, 68, 48]);
        assert_eq!(
            (funnel.conversion, funnel.conversion_target),
            (Some(0.48), 0.70)
        );
        let lost: Vec<_> = funnel.stages.iter().map(|it| it.lost).collect();
        assert_eq!(lost, [None, Some(5), Some(9), Some(13), Some(5), Some(20)]);
        let targets: Vec<_> = funnel.stages.iter().map(|it| it.target).collect();
        assert_eq!(targets, [1.0, 0.95, 0.90, 0.85, 0.80, 0.70]);
        let floors: Vec<_> = funnel.stages.iter().filter_map(|it| it.floor).collect();
        assert_eq!(floors, [0.90, 0.80, 0.75, 0.70, 0.60]);
        assert!(
            funnel.stages.iter().all(|it| it.action.is_none()),
            "no floor is reached"
        );
        let seconds: Vec<_> = funnel.stages.iter().map(|it| it.mean_seconds).collect();
        assert_eq!(
            seconds,
            [
                None,
                Some(60),
                Some(3600),
                Some(840),
                Some(500),
                Some(85_000)
            ]
        );
        let ads: Vec<_> = funnel.segments["ads"]
            .iter()
            .map(|it| it.reached.expect("known"))
            .collect();
        assert_eq!(ads, [50, 48, 43, 37, 34, 24]);
        let of = |by| {
            self::funnel(&counters, Some(by))
                .segments
                .into_keys()
                .collect::<Vec<_>>()
        };
        assert_eq!(of(By::Country), ["BR"]);
        assert_eq!(of(By::Weekday), ["wed"]);
        assert_eq!(of(By::Day), ["2026-11-18"]);
    }

    #[test]
    fn a_stage_below_its_floor_or_above_its_time_has_an_action() {
        let funnel = funnel(&business([10, 8, 8, 8, 8, 4]), None);
        let actions: Vec<_> = funnel.stages.iter().map(|it| it.action.is_some()).collect();
        assert_eq!(actions, [false, true, false, false, false, true]);
        assert_eq!(funnel.stages[1].of_previous, Some(0.8));
        assert!(funnel.segments.is_empty());
    }

    /// Without it, the registration is unknown, not zero, and the rest is of accounts.
    #[test]
    fn without_registrations_the_funnel_begins_with_the_account() {
        let accounts = || {
            let mut business = Business::default();
            for n in 0..4 {
                business.account(n, 61, &json!({}));
                if n < 2 {
                    business.account(n, 70, &json!({"details_submitted": true}));
                }
            }
            let of = json!({"account": "acct_0", "user": "u_0", "source": "ads"});
            business.app("account.created_by_user", 0, 60, &of);
            business
        };
        let begins_with_account = |funnel: &Funnel| {
            assert!(!funnel.has_registrations);
            let reached: Vec<_> = funnel.stages.iter().map(|it| it.reached).collect();
            assert_eq!(reached, [None, Some(4), Some(2), Some(0), Some(0), Some(0)]);
            assert_eq!(funnel.stages[2].of_first, Some(0.5));
            let created = |source: &str| funnel.segments[source][1].reached;
            assert_eq!((created("ads"), created(UNKNOWN)), (Some(1), Some(3)));
        };
        let never = funnel(&accounts().counters(), Some(By::Source));
        begins_with_account(&never);
        // The first registration came later: it says nothing of the time before, in which the application
        // reported other things.
        let mut later = accounts();
        let provider = json!({"user": "u_9", "country": "BR"});
        later.app("provider.registered", 9, 30 * DAY_S, &provider);
        let counters = later.counters();
        begins_with_account(&funnel(&counters, Some(By::Source)));
        let hour = crate::counters::hour_of(START_S + 30 * DAY_S);
        let since = Funnel::compute(&counters, Realm::MAIN, hour - 5..=hour, None);
        assert_eq!(since.registrations_since_s, Some(i64::from(hour) * HOUR_S));
        assert_eq!(since.stages[0].reached, Some(1));
    }

    /// Who got the account later has it, and opening its link changes nothing of that.
    #[test]
    fn an_account_of_another_user_is_no_longer_the_first_one_s() {
        let mut business = Business::default();
        let of = |user: &str| json!({"account": "acct_1", "user": user});
        for (n, user) in [(1, "u_1"), (2, "u_2")] {
            business.app("provider.registered", n, 0, &json!({"user": user}));
            business.app("account.created_by_user", n, 60 * n, &of(user));
        }
        business.app("account_link.clicked", 3, 300, &of("u_3"));
        let counters = business.counters();
        let funnel = funnel(&counters, None);
        let reached: Vec<_> = funnel.stages[..2].iter().map(|it| it.reached).collect();
        assert_eq!(reached, [Some(2), Some(1)]);
        assert_eq!(funnel.stages[2].reached, Some(1));
    }
}
