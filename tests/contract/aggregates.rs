//! Counters, as sums over commits.

use revwatch_core::bucket::{Bucket, Buckets, HOURS_KEPT_DAYS, hour_of};
use revwatch_core::counters::{self, Counters, LARGEST_SUM};
use revwatch_core::recount::{compared, first_hour};
use revwatch_storage::ports::{Commit, StateStore};

use crate::contract::StorePlace;
use crate::contract::fixtures::{DAY, PARTITIONS, applied, now_s};

contract!(store: [
    current_counters_are_summed_over_partitions,
    a_counter_at_zero_is_removed,
    only_the_requested_hours_are_summed,
    only_the_minutes_of_requested_hours_are_summed,
    minutes_are_kept_while_they_are_compared_and_then_dropped,
    hours_are_kept_while_they_are_compared_and_then_dropped,
    large_numbers_stay_exact,
    a_sum_beyond_the_largest_is_not_known_any_more,
]);

async fn current_counters_are_summed_over_partitions(place: &dyn StorePlace) {
    let store = place.store().await;
    for partition in 0..PARTITIONS {
        add(&*store, partition, Bucket::Current, "failed", 3).await;
        add(&*store, partition, Bucket::Current, "failed", -1).await;
    }
    add(&*store, 0, Bucket::Current, "negative", -5).await;
    let counters = store.counters(&Buckets::none()).await.expect("counters");
    assert_eq!(counters.get(Bucket::Current, &["payouts", "failed"]), 8);
    assert_eq!(counters.get(Bucket::Current, &["payouts", "negative"]), -5);
    assert_eq!(counters.len(), 2);
    for (names, expected) in [
        (
            &["payouts|failed", "payouts|negative", "payouts|never"][..],
            3,
        ),
        (&["payouts|negative"], -5),
        (&["payouts|never"], 0),
    ] {
        assert_eq!(
            store.current_counters(names).await.expect("sum"),
            expected,
            "{names:?}"
        );
    }
}

async fn a_counter_at_zero_is_removed(place: &dyn StorePlace) {
    let store = place.store().await;
    for bucket in [
        Bucket::Current,
        Bucket::Hour(DAY * 24),
        Bucket::Minute(DAY * 1440),
    ] {
        add(&*store, 0, bucket, "failed", 2).await;
        add(&*store, 0, bucket, "failed", -2).await;
        add(&*store, 1, bucket, "across", 2).await;
        add(&*store, 2, bucket, "across", -2).await;
    }
    let all = Buckets {
        hours: 0..=u32::MAX,
        minutes_of: [DAY * 24].into(),
    };
    assert_eq!(
        store.counters(&all).await.expect("counters"),
        Counters::default()
    );
}

async fn only_the_requested_hours_are_summed(place: &dyn StorePlace) {
    let store = place.store().await;
    let last = DAY * 24 + 5;
    for back in [0, 1, 5, 6, 23, 24, 1_000, 3_000] {
        add(
            &*store,
            back % PARTITIONS,
            Bucket::Hour(last - back),
            "failed",
            i64::from(back) + 1,
        )
        .await;
        add(&*store, 0, Bucket::Hour(last - back), "failed", 1).await;
    }
    add(&*store, 0, Bucket::Current, "failed", 77).await;
    for (window, expected) in [
        ((last, last), vec![0]),
        ((last - 5, last), vec![0, 1, 5]),
        ((last - 23, last), vec![0, 1, 5, 6, 23]),
        ((last - 23, last - 1), vec![1, 5, 6, 23]),
        ((last - 2_000, last), vec![0, 1, 5, 6, 23, 24, 1_000]),
        ((0, u32::MAX), vec![0, 1, 5, 6, 23, 24, 1_000, 3_000]),
        ((last + 1, u32::MAX), vec![]),
    ] {
        let counters = store
            .counters(&Buckets::of_hours(window.0, window.1))
            .await
            .expect("counters");
        let mut sums = Counters::default();
        sums.add(Bucket::Current, &["payouts", "failed"], 77);
        for back in expected {
            sums.add(
                Bucket::Hour(last - back),
                &["payouts", "failed"],
                i64::from(back) + 2,
            );
        }
        assert_eq!(counters, sums, "{window:?}");
    }
}

async fn only_the_minutes_of_requested_hours_are_summed(place: &dyn StorePlace) {
    let store = place.store().await;
    let hour = hour_of(now_s());
    let minutes = [
        hour * 60 - 1,
        hour * 60,
        hour * 60 + 7,
        hour * 60 + 59,
        hour * 60 + 60,
    ];
    for (by, minute) in (1..).zip(minutes) {
        add(
            &*store,
            minute % PARTITIONS,
            Bucket::Minute(minute),
            "failed",
            by,
        )
        .await;
        add(&*store, 0, Bucket::Minute(minute), "failed", 10).await;
    }
    add(&*store, 0, Bucket::Hour(hour), "failed", 100).await;
    for (minutes_of, expected) in [
        (vec![], vec![]),
        (vec![hour], vec![1, 2, 3]),
        (vec![hour - 1, hour + 1], vec![0, 4]),
        (vec![hour - 1, hour, hour + 1], vec![0, 1, 2, 3, 4]),
    ] {
        let mut sums = Counters::default();
        for i in expected {
            let by = i64::try_from(i).expect("small") + 11;
            sums.add(Bucket::Minute(minutes[i]), &["payouts", "failed"], by);
        }
        let mut buckets = Buckets {
            minutes_of: minutes_of.into_iter().collect(),
            ..Buckets::none()
        };
        let counters = store.counters(&buckets).await.expect("counters");
        assert_eq!(counters, sums, "{buckets:?}");
        buckets.hours = hour..=hour;
        sums.add(Bucket::Hour(hour), &["payouts", "failed"], 100);
        let counters = store.counters(&buckets).await.expect("counters");
        assert_eq!(counters, sums, "{buckets:?}");
    }
}

/// `revwatch verify` compares the minutes that are kept.
async fn minutes_are_kept_while_they_are_compared_and_then_dropped(place: &dyn StorePlace) {
    let store = place.store().await;
    let now_s = now_s();
    let (minute, hour) = (Bucket::minute_of(now_s), Bucket::hour_of(now_s));
    add(&*store, 0, minute, "failed", 2).await;
    add(&*store, 1, hour, "failed", 3).await;
    let all = Buckets {
        hours: 0..=u32::MAX,
        minutes_of: [hour_of(now_s)].into(),
    };
    let stored = async || {
        let counters = store.counters(&all).await.expect("counters");
        [minute, hour].map(|bucket| counters.get(bucket, &["payouts", "failed"]))
    };
    let is_compared = |hours: i64| compared(now_s + hours * 3600).contains(minute);
    assert_eq!([47, 48].map(is_compared), [true, false]);
    place.let_days_pass(0..2).await;
    assert_eq!(
        stored().await,
        [2, 3],
        "a little longer than they are compared"
    );
    place.let_days_pass(2..3).await;
    assert_eq!(stored().await, [0, 3], "dropped, unlike hours");
}

/// `revwatch verify` compares the hours that are kept.
async fn hours_are_kept_while_they_are_compared_and_then_dropped(place: &dyn StorePlace) {
    let store = place.store().await;
    let today = hour_of(now_s()) / 24 * 24;
    add(&*store, 0, Bucket::Hour(today), "failed", 2).await;
    add(&*store, 1, Bucket::Current, "failed", 3).await;
    let stored = async |from_hour| {
        let counters = store
            .counters(&Buckets::of_hours(from_hour, u32::MAX))
            .await
            .expect("counters");
        [Bucket::Hour(today), Bucket::Current]
            .map(|bucket| counters.get(bucket, &["payouts", "failed"]))
    };
    let days_later = |days: u32| first_hour(now_s() + i64::from(days) * 86_400);
    place.let_days_pass(0..HOURS_KEPT_DAYS - 1).await;
    assert_eq!(
        stored(days_later(HOURS_KEPT_DAYS - 1)).await,
        [2, 3],
        "still compared"
    );
    assert!(today < days_later(HOURS_KEPT_DAYS), "no longer compared");
    place
        .let_days_pass(HOURS_KEPT_DAYS - 1..HOURS_KEPT_DAYS + 1)
        .await;
    assert_eq!(stored(0).await, [0, 3], "dropped, unlike current counters");
}

/// Around 2^53, from which a double loses precision.
async fn large_numbers_stay_exact(place: &dyn StorePlace) {
    let store = place.store().await;
    let (exact, large) = ((1_i64 << 53) - 1, (1_i64 << 60) + 1);
    let mut sum = 0;
    for delta in [
        exact, 1, 1, 1, -4, 4, large, 1, -large, -exact, -2, -1, 1, -exact, exact,
    ] {
        sum += delta;
        add(&*store, 0, Bucket::Current, "failed", delta).await;
        let counters = store.counters(&Buckets::none()).await.expect("counters");
        let counted: Vec<_> = counters.iter().map(|(_, _, value)| value).collect();
        let expected: &[i64] = if sum == 0 { &[] } else { &[sum] };
        assert_eq!(counted, expected, "after {delta}");
    }
}

/// One sender may send thousands of amounts at their bound: no commit may fail for that, and no sum may wrap.
async fn a_sum_beyond_the_largest_is_not_known_any_more(place: &dyn StorePlace) {
    let store = place.store().await;
    for (name, sign) in [("up", 1), ("down", -1)] {
        let mut expected = 0;
        for delta in [LARGEST_SUM - 3, 2, 1, 1, 1, -LARGEST_SUM, 7] {
            expected = counters::add(expected, sign * delta);
            add(&*store, 0, Bucket::Current, name, sign * delta).await;
            let found = store.counters(&Buckets::none()).await.expect("counters");
            let found = found.get(Bucket::Current, &["payouts", name]);
            assert_eq!(found, expected, "{name} after {delta}");
        }
        assert_eq!(expected, sign * i64::MAX);
        let at_once = format!("{name} at once");
        add(&*store, 0, Bucket::Current, &at_once, sign * i64::MAX).await;
        add(&*store, 0, Bucket::Current, &at_once, sign * -5).await;
        add(&*store, 1, Bucket::Current, &at_once, sign * -5).await;
        let names = [format!("payouts|{at_once}")];
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let sum = store.current_counters(&names).await.expect("a sum");
        assert_eq!(sum, sign * i64::MAX);
    }
}

async fn add(store: &dyn StateStore, partition: u32, bucket: Bucket, name: &str, by: i64) {
    let mut counters = Counters::default();
    counters.add(bucket, &["payouts", name], by);
    applied(
        store,
        &Commit {
            partition,
            counters,
            ..Commit::default()
        },
    )
    .await;
}
