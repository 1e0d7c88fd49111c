//! A partition whose queue fails again and again is reported as failing until it works again.

mod support;

use std::sync::Arc;
use std::time::Duration;

use revwatch_core::pauses::Pauses;
use revwatch_runtime::admin::Readiness;
use revwatch_runtime::telemetry::Metrics;
use revwatch_storage::memory::Memory;
use revwatch_storage::system::SystemClock;
use revwatch_worker::partition::Partition;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// After how many milliseconds the gauge of the idle partition changed, in the first minute.
async fn changes(consumes: u32, reads: u32) -> Vec<(u64, i64)> {
    let queue = Memory::new(1, Arc::new(SystemClock));
    queue.faults().fail_consumers(consumes, reads);
    queue.faults().delay(Duration::from_millis(100));
    let metrics = Metrics::new();
    let (_pauses, known) = watch::channel(Some(Arc::new(Pauses::default())));
    let stop = CancellationToken::new();
    let (store, readiness) = (Arc::new(queue.reopen()), Readiness::default());
    let worker = support::worker(Arc::new(queue.reopen()), store, &metrics, &readiness);
    let partition = Partition::new(worker, 0, known);
    let running = tokio::spawn(partition.run(false, stop.clone()));
    let gauge = metrics.partition_failing.with_label_values(&["0"]);
    let (start, mut found) = (Instant::now(), Vec::new());
    let mut last = 0;
    while start.elapsed() < Duration::from_secs(60) {
        // The clock is paused: this only lets the partition run.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let now = gauge.get();
        if now != last {
            let at_ms = u64::try_from(start.elapsed().as_millis()).expect("small");
            found.push((at_ms, now));
            last = now;
        }
    }
    stop.cancel();
    running.await.expect("no panic");
    found
}

#[tokio::test(start_paused = true)]
async fn a_partition_whose_consumers_fail_is_reported_as_failing_without_interruption() {
    let found = changes(0, 6).await;
    let states: Vec<_> = found.iter().map(|(_, is_failing)| *is_failing).collect();
    assert_eq!(states, [1, 0], "{found:?}");
    let (failed_ms, works_ms) = (found[0].0, found[1].0);
    assert!(works_ms - failed_ms > 5_000, "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn a_partition_without_deliveries_works_as_soon_as_it_is_consumed_again() {
    let found = changes(1, 0).await;
    let states: Vec<_> = found.iter().map(|(_, is_failing)| *is_failing).collect();
    assert_eq!(states, [1, 0], "{found:?}");
    assert!(found[1].0 < 1_000, "{found:?}");
}
