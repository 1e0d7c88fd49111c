use std::collections::BTreeMap;

use super::*;
use crate::counters::{Bucket, Counters};
use crate::entity::reports::{Report, Step};
use crate::entity::stripe_enums::CapabilityStatus;
use crate::entity::timeline::{Changes, HORIZON_S, KEPT_CHANGES, RecordedState, Stage};
use crate::histogram;

const HOUR_S: i64 = 3600;

/// Time and event: `+` a state that may take charges, `-` one that may not, `a` authorized, `d`
/// deauthorized, `c` closed.
type Story = [(i64, char)];

fn account_after(story: &Story) -> Account {
    let mut account = Account {
        id: "acct_1".into(),
        ..Account::default()
    };
    for (i, (at_s, symbol)) in story.iter().enumerate() {
        let event_id = format!("evt_{i:03}");
        let update = match symbol {
            '+' | '-' => view(*at_s, event_id, *symbol == '+'),
            'c' => AccountUpdate::Closed { event_id },
            _ => AccountUpdate::Connection {
                connected: *symbol == 'a',
                event_id,
            },
        };
        account.merge(*at_s, update);
    }
    account
}

fn view(created_s: i64, event_id: String, charges_enabled: bool) -> AccountUpdate {
    let facts = AccountFacts {
        charges_enabled,
        payouts_enabled: false,
        details_submitted: Some(false),
        disabled_reason: None,
        currently_due: Some(0),
        past_due: Some(0),
        due_fingerprints: (0, 0),
        reason_is_unknown: false,
    };
    let state = RecordedState {
        created_s,
        event_id: event_id.into(),
        stage: Stage::Updated,
        facts: facts.into(),
        changes: Changes::default(),
    };
    AccountUpdate::Snapshot {
        country: None,
        created_s: None,
        state,
        external_account: Shown {
            before: None,
            now: Some(false),
        },
        ids: None,
        requirement_names: RequirementNames::default(),
    }
}

fn counters_of(account: &Account) -> Counters {
    let mut tally = Tally::default();
    account.contributions(&mut tally);
    Counters::from(&tally)
}

/// How many are charging now, and by how much that changed in which hour.
fn charging(account: &Account) -> (i64, BTreeMap<Bucket, i64>) {
    let counters = counters_of(account);
    let changes = counters
        .iter()
        .filter(|(_, name, _)| *name == "charging_change");
    let changes = changes.map(|(bucket, _, by)| (bucket, by)).collect();
    (
        counters.get(Bucket::Current, &["accounts_charging"]),
        changes,
    )
}

/// A job that was paid in cash before says nothing of when the first payment came after charges were enabled.
#[test]
fn a_job_counts_as_a_first_payment_from_when_charges_are_enabled() {
    let job = |at_ms: i64| {
        AccountUpdate::Reported(Report {
            step: Step::JobPaid,
            at_ms,
            event_id: format!("app_{at_ms}"),
            fields: Vec::new(),
        })
    };
    let enabled = |milestone_s: i64| {
        let mut account = Account {
            created_s: Some(100),
            ..Account::default()
        };
        account
            .milestones
            .insert(Milestone::ChargesEnabled, milestone_s);
        account
    };
    let mut account = enabled(1000);
    account.merge(500, job(500_000));
    assert_eq!(
        (account.earliest_payment_s(), account.first_payment_s()),
        (Some(500), None)
    );
    account.merge(1500, AccountUpdate::Paid);
    assert_eq!(account.first_payment_s(), Some(1500));
    account.merge(1200, job(1_200_000));
    assert_eq!(
        (account.first_payment_s(), account.took_payment_s()),
        (Some(1200), Some(1500))
    );
}

#[test]
fn transitions_are_listed_oldest_first_connections_too() {
    let changes = |story: &Story| -> Vec<(i64, String)> {
        let transitions = account_after(story).transitions();
        transitions.into_iter().map(|t| (t.at_s, t.what)).collect()
    };
    let shown = changes(&[(10, 'd'), (20, 'a'), (30, '+')]);
    let expected = [
        (10, "disconnected"),
        (20, "connected"),
        (30, "charges_enabled (new) → true"),
        (30, "payouts_enabled (new) → false"),
    ];
    assert_eq!(shown, expected.map(|(at_s, what)| (at_s, what.to_owned())));
    let same_second = changes(&[(10, 'd'), (10, 'a')]);
    let expected = [(10, "connected"), (10, "disconnected")];
    assert_eq!(
        same_second,
        expected.map(|(at_s, what)| (at_s, what.to_owned()))
    );
}

#[test]
fn charging_changes_count_in_their_hour() {
    const H: i64 = HOUR_S;
    let table: [(&Story, &[(u32, i64)]); 15] = [
        (&[], &[]),
        (&[(H, '-')], &[]),
        (&[(H, '+'), (2 * H, '+')], &[(1, 1)]),
        (
            &[(H, '+'), (2 * H, '-'), (5 * H, '+')],
            &[(1, 1), (2, -1), (5, 1)],
        ),
        (&[(H, '+'), (H + 1, '-'), (H + 1, '+'), (H + 2, '-')], &[]),
        (&[(H, '+'), (3 * H, 'd')], &[(1, 1), (3, -1)]),
        (
            &[(H, '+'), (3 * H, 'd'), (4 * H, 'a')],
            &[(1, 1), (3, -1), (4, 1)],
        ),
        (&[(H, '+'), (3 * H, 'd'), (3 * H, 'a')], &[(1, 1), (3, -1)]),
        (
            &[
                (0, 'a'),
                (H, '+'),
                (3 * H, 'd'),
                (4 * H, '-'),
                (5 * H, 'a'),
                (6 * H, '+'),
            ],
            &[(1, 1), (3, -1), (6, 1)],
        ),
        // Only the latest removal is remembered, so the first interruption is lost.
        (
            &[(H, '+'), (3 * H, 'd'), (4 * H, 'a'), (5 * H, 'd')],
            &[(1, 1), (5, -1)],
        ),
        (&[(3 * H, 'd'), (4 * H, '+')], &[]),
        // It charged until it was closed, or lost that before.
        (&[(H, '+'), (3 * H, 'c'), (4 * H, '+')], &[(1, 1), (3, -1)]),
        (
            &[(H, '+'), (2 * H, '-'), (3 * H, 'c'), (3 * H, 'd')],
            &[(1, 1), (2, -1)],
        ),
        (&[(H, '+'), (3 * H, 'd'), (4 * H, 'c')], &[(1, 1), (3, -1)]),
        (&[(3 * H, 'd'), (4 * H, '+'), (5 * H, 'a')], &[(5, 1)]),
    ];
    for (story, changes) in table {
        let standing = changes.iter().map(|(_, by)| by).sum();
        let changes = changes
            .iter()
            .map(|(hour, by)| (Bucket::Hour(*hour), *by))
            .collect();
        assert_eq!(
            charging(&account_after(story)),
            (standing, changes),
            "{story:?}"
        );
    }
}

#[test]
fn changes_of_charging_add_up_to_the_current_level() {
    const SYMBOLS: [char; 5] = ['+', '-', 'a', 'd', 'c'];
    // Some in the same second, some in the same hour.
    const TIMES: [i64; 6] = [3600, 3600, 3601, 7200, 7200, 20_000];
    for number in 0..SYMBOLS.len().pow(6) {
        let mut rest = number;
        let story = TIMES.map(|at_s| {
            let symbol = SYMBOLS[rest % SYMBOLS.len()];
            rest /= SYMBOLS.len();
            (at_s, symbol)
        });
        let (standing, changes) = charging(&account_after(&story));
        assert_eq!(changes.values().sum::<i64>(), standing, "{story:?}");
        // The level at the end of an earlier hour is the current level minus the changes since,
        // unless a removal or an authorization was replaced by a later one.
        let repeated = |symbol| story.iter().filter(|(_, w)| *w == symbol).count() > 1;
        for hour in (0..6).filter(|_| !repeated('a') && !repeated('d')) {
            let until_hour: Vec<_> = story
                .iter()
                .copied()
                .filter(|(at_s, _)| at_s / 3600 <= i64::from(hour))
                .collect();
            let since: i64 = changes
                .range(Bucket::Hour(hour + 1)..)
                .map(|(_, by)| by)
                .sum();
            assert_eq!(
                charging(&account_after(&until_hour)).0,
                standing - since,
                "{story:?} at the end of hour {hour}"
            );
        }
    }
}

/// What Stripe reports of the connection with or after the closing is a consequence of it.
#[test]
fn a_closed_account_is_not_lost_twice() {
    const H: i64 = HOUR_S;
    let table: [(&Story, i64); 4] = [
        (&[(H, '+'), (2 * H, 'd'), (3 * H, 'c')], 1),
        (&[(H, '+'), (2 * H, 'd'), (2 * H, 'c')], 0),
        (&[(H, '+'), (2 * H, 'c'), (3 * H, 'd')], 0),
        (&[(H, '+'), (H, 'd'), (2 * H, 'a'), (3 * H, 'c')], 0),
    ];
    for (story, removals) in table {
        let account = account_after(story);
        let counters = counters_of(&account);
        let found = counters.iter().filter(|(bucket, name, _)| {
            matches!(bucket, Bucket::Hour(_)) && *name == "deauthorized"
        });
        assert_eq!(
            found.map(|(_, _, by)| by).sum::<i64>(),
            removals,
            "{story:?}"
        );
        assert_eq!(counters.get(Bucket::Current, &["accounts", "closed"]), 1);
        assert_eq!(counters.get(Bucket::Current, &["accounts", "critical"]), 0);
        assert_eq!(counters.get(Bucket::Current, &["standing", "closed"]), 1);
        assert_eq!(account.conditions(), []);
        let last = account.transitions().pop().expect("a change");
        assert!(["closed", "disconnected"].contains(&last.what.as_str()));
    }
}

/// C16: the last stage of the funnel. An account that charged before may have been paid before, too.
#[test]
fn the_first_payment_is_timed_if_it_is_known_when_charges_were_enabled() {
    const H: i64 = HOUR_S;
    let counts = |story: &Story, paid: &[i64]| {
        let mut account = account_after(story);
        account.merge(
            story[0].0,
            AccountUpdate::Connection {
                connected: true,
                event_id: "evt_a".into(),
            },
        );
        for at_s in paid {
            account.merge(*at_s, AccountUpdate::Paid);
        }
        let counters = counters_of(&account);
        let sum = |start: &str| -> i64 {
            let found = counters
                .iter()
                .filter(|(_, name, _)| name.starts_with(start));
            found.map(|(_, _, by)| by).sum()
        };
        [
            "funnel|first_payment",
            "first_payment|enabled",
            "first_payment|paid",
            "milestone|first_payment",
            "stage|first_payment|seconds",
        ]
        .map(sum)
    };
    let enabled: &Story = &[(H, '-'), (2 * H, '+')];
    assert_eq!(counts(enabled, &[]), [0, 1, 0, 0, 0]);
    assert_eq!(counts(enabled, &[5 * H, 4 * H]), [1, 1, 1, 1, 2 * H]);
    // The payment shows that charges were enabled before the event that says so.
    assert_eq!(counts(enabled, &[H]), [1, 1, 0, 0, 0]);
    let old: &Story = &[(H, 'a'), (H + HORIZON_S + 1, '+')];
    assert_eq!(counts(old, &[H + HORIZON_S + 2]), [1, 0, 0, 0, 0]);
}

#[test]
fn the_oldest_remembered_state_is_not_a_gain_of_charging() {
    let mut story: Vec<_> = (0..1300).map(|hour| (hour * HOUR_S, '+')).collect();
    let older = 1300 * HOUR_S - HORIZON_S;
    assert!(older > i64::try_from(KEPT_CHANGES).expect("small") * HOUR_S);
    assert_eq!(charging(&account_after(&story)), (1, BTreeMap::new()));
    assert_eq!(
        charging(&account_after(&story[..5])),
        (1, BTreeMap::from([(Bucket::Hour(0), 1)]))
    );
    story.push((1300 * HOUR_S, 'd'));
    assert_eq!(
        charging(&account_after(&story)),
        (0, BTreeMap::from([(Bucket::Hour(1300), -1)]))
    );
    // It was disconnected and reconnected before the oldest remembered state.
    story.pop();
    story.extend([(HOUR_S, 'd'), (2 * HOUR_S, 'a')]);
    assert_eq!(charging(&account_after(&story)), (1, BTreeMap::new()));
}

#[test]
fn an_account_named_only_by_other_events_starts_no_onboarding() {
    let starts_onboarding = |account: &Account| {
        let counters = counters_of(account);
        let found = counters
            .iter()
            .any(|(_, name, _)| name.starts_with("cohort|") || name.starts_with("milestone|"));
        (
            found,
            counters.get(Bucket::Current, &["accounts", "unknown"]),
        )
    };
    let named = Account {
        first_seen_s: Some(100),
        ..Account::default()
    };
    assert_eq!(
        starts_onboarding(&named),
        (false, 1),
        "it is only counted as known"
    );
    assert_eq!(
        starts_onboarding(&Account {
            created_s: Some(50),
            ..named.clone()
        }),
        (true, 1)
    );
    assert_eq!(
        starts_onboarding(&Account {
            thin: Some((100, "evt_1".into())),
            ..named.clone()
        }),
        (false, 1)
    );
    assert_eq!(
        starts_onboarding(&Account {
            authorized: Some((100, "evt_1".into())),
            ..named
        }),
        (true, 1)
    );
}

#[test]
fn stages_are_timed_from_the_previous_milestone() {
    use Milestone as M;
    // For an account created at 100: when each milestone was reached, and how long that took.
    let table: [&[(M, i64, i64)]; 4] = [
        &[],
        &[
            (M::OnboardingStarted, 3700, 3600),
            (M::ExternalAccountAdded, 7300, 3600),
            (M::ChargesEnabled, 11_000, 3700),
            (M::OnboardingCompleted, 15_000, 4000),
        ],
        // Missing milestones are skipped.
        &[
            (M::ExternalAccountAdded, 3700, 3600),
            (M::OnboardingCompleted, 7300, 3600),
        ],
        // One that came before its predecessor took no time, and the next is measured from it.
        &[
            (M::ExternalAccountAdded, 9000, 8900),
            (M::ChargesEnabled, 4000, 0),
            (M::OnboardingCompleted, 8000, 4000),
        ],
    ];
    for reached in table {
        let milestones = reached
            .iter()
            .map(|(milestone, at_s, _)| (*milestone, *at_s))
            .collect();
        let counters = counters_of(&Account {
            created_s: Some(100),
            first_seen_s: Some(100),
            milestones,
            ..Account::default()
        });
        let mut expected = Counters::default();
        expected.add(Bucket::Hour(0), &["milestone", "account_created"], 1);
        for (milestone, at_s, seconds) in reached {
            let (hour, name) = (Bucket::hour_of(*at_s), milestone.as_str());
            expected.add(hour, &["milestone", name], 1);
            expected.add(hour, &["stage", name, "count"], 1);
            expected.add(hour, &["stage", name, "seconds"], *seconds);
            expected.add(
                hour,
                &[
                    "stage_bucket",
                    name,
                    &histogram::bucket(*seconds).to_string(),
                ],
                1,
            );
            if *milestone == M::ChargesEnabled {
                let all = histogram::bucket(at_s - 100).to_string();
                expected.add(hour, &["onboarded_bucket", &all], 1);
            }
        }
        let mut found = Counters::default();
        for (bucket, name, by) in counters.iter() {
            if ["milestone|", "stage|", "stage_bucket|", "onboarded_bucket|"]
                .iter()
                .any(|f| name.starts_with(f))
            {
                found.add_named(bucket, name.to_owned(), by);
            }
        }
        assert_eq!(found, expected, "{reached:?}");
    }
}

/// In whatever order the events of a capability come, its needs are those of the newest event that says them.
#[test]
fn the_needs_of_a_capability_are_those_of_the_newest_event_that_says_them() {
    let event = |created_s: i64, needs: Option<&[&str]>| {
        let facts = CapabilityFacts {
            status: CapabilityStatus::Inactive,
            disabled_reason: Some("requirements.fields_needed".into()),
            requested: Some(true),
        };
        let state = RecordedState {
            created_s,
            event_id: format!("evt_{created_s}").into(),
            stage: Stage::Updated,
            facts: facts.into(),
            changes: Changes::default(),
        };
        let needs = needs.map(|needs| needs.iter().map(|it| (*it).to_owned()).collect());
        let name = "transfers".to_owned();
        (created_s, AccountUpdate::Capability { name, state, needs })
    };
    let events = [
        event(1, Some(&["external_account"])),
        event(3, Some(&["tos_acceptance.date", "no name"])),
        event(2, Some(&[])),
        event(4, None),
    ];
    let after = |order: &[usize]| {
        let mut account = Account::default();
        for n in order {
            let (created_s, update) = events[*n].clone();
            account.merge(created_s, update);
        }
        account
    };
    let all = after(&[0, 1, 2, 3]);
    let newest = (3, vec!["tos_acceptance.date".to_owned()]);
    assert_eq!(all.capability_needs.get("transfers"), Some(&newest));
    assert_eq!(after(&[3, 2, 1, 0]), all);
    for (one, other) in [(&[0, 1][..], &[2, 3][..]), (&[2, 3], &[1, 0])] {
        let mut joined = after(one);
        joined.union(&after(other));
        assert_eq!(joined, all);
    }
    assert_eq!(
        after(&[0, 2]).capability_needs["transfers"],
        (2, Vec::new())
    );
}
