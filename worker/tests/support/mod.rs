//! A worker for tests.

use std::sync::Arc;

use revwatch_core::event_settings::EventSettings;
use revwatch_runtime::admin::Readiness;
use revwatch_runtime::config::Config;
use revwatch_runtime::reload::Reloadable;
use revwatch_runtime::supervise::Supervisor;
use revwatch_runtime::telemetry::{Metrics, Tracer};
use revwatch_storage::ports::{EventQueue, StateStore};
use revwatch_storage::system::{SystemClock, SystemIds};
use revwatch_worker::{BatchPermits, OtherModeCounts, Worker};

/// On `queue` and `store`, with the default settings and no resolver.
pub fn worker(
    queue: Arc<dyn EventQueue>,
    store: Arc<dyn StateStore>,
    metrics: &Metrics,
    readiness: &Readiness,
) -> Worker {
    Worker {
        queue,
        store,
        clock: Arc::new(SystemClock),
        ids: Arc::new(SystemIds),
        config: Config::load(None, &|_| None).expect("the defaults").worker,
        events: Reloadable::new(EventSettings::default()),
        other_mode: OtherModeCounts::default(),
        metrics: metrics.clone(),
        tracer: Tracer::default(),
        ready: readiness.check("worker"),
        tasks: Supervisor::new(readiness),
        batch_permits: BatchPermits::default(),
        resolver: None,
    }
}
