//! A wrong mode loses no event: a rebuild under the right one brings them in.

mod support;

use std::sync::Arc;

use revwatch_core::event_settings::EventSettings;
use revwatch_core::mode::{Mode, Modes};
use revwatch_core::pauses::Pauses;
use revwatch_runtime::admin::Readiness;
use revwatch_runtime::reload::Reloadable;
use revwatch_runtime::telemetry::Metrics;
use revwatch_storage::memory::Memory;
use revwatch_storage::ports::{Delivery, EventQueue, StateStore};
use revwatch_storage::system::SystemClock;
use revwatch_worker::Worker;
use revwatch_worker::recovery::{IncompletePartition, ReplaySummary, recover};
use uuid::Uuid;

/// Two payouts of a connected account in live mode, three in test mode.
fn deliveries() -> impl Iterator<Item = Delivery> {
    [true, false, true, false, false]
        .into_iter()
        .zip(1_u128..)
        .map(|(livemode, n)| Delivery {
            id: Uuid::from_u128(n),
            event_id: format!("evt_{n}"),
            event_type: "payout.paid".into(),
            partition: 0,
            endpoint: "stripe".into(),
            received_ms: 1_000_000,
            traceparent: None,
            body: format!(
                r#"{{"id":"evt_{n}","type":"payout.paid","created":900,"account":"acct_1","livemode":{livemode},
                "data":{{"object":{{"id":"po_{n}","object":"payout","status":"paid","amount":5,"currency":"eur"}}}}}}"#
            )
            .into(),
        })
}

/// Drops the state and replays the archive, as `rebuild` does.
async fn rebuild(worker: &Worker) -> ReplaySummary {
    worker.store.drop_state().await.expect("dropped");
    let health = worker.store.health().await.expect("read");
    let incomplete = (0..)
        .zip(health)
        .map(|(partition, health)| IncompletePartition { partition, health })
        .collect::<Vec<_>>();
    let pauses = Pauses::default().into();
    recover(worker, &incomplete, &pauses, &mut |_| {})
        .await
        .expect("recovered")
}

#[tokio::test]
async fn a_rebuild_under_another_mode_brings_its_events_in() {
    let memory = Memory::new(1, Arc::new(SystemClock));
    let queue: Arc<dyn EventQueue> = Arc::new(memory.reopen());
    let store: Arc<dyn StateStore> = Arc::new(memory.reopen());
    for delivery in deliveries() {
        queue.publish(delivery).await.expect("published");
    }
    let mut worker = support::worker(queue, store, &Metrics::new(), &Readiness::default());
    for (mode, own, other) in [(Mode::Live, 2, 3), (Mode::Test, 3, 2), (Mode::Live, 2, 3)] {
        worker.events = Reloadable::new(EventSettings {
            modes: Modes::new(mode, []),
            ..EventSettings::default()
        });
        let replayed = rebuild(&worker).await;
        let counted = (replayed.applied, replayed.other_mode);
        assert_eq!(counted, (own, other), "{mode}");
        for (name, expected) in [
            ("events|applied", own),
            ("events|other_mode", other),
            ("main/connected:payouts|paid|eur", own),
        ] {
            let count = worker.store.current_counters(&[name]).await.expect("read");
            assert_eq!(u64::try_from(count), Ok(expected), "{mode} {name}");
        }
    }
}
