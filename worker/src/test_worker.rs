//! A worker on the adapters in memory.

use std::sync::Arc;

use revwatch_core::event_settings::EventSettings;
use revwatch_core::realm::Realms;
use revwatch_runtime::admin::Readiness;
use revwatch_runtime::config::Config;
use revwatch_runtime::reload::Reloadable;
use revwatch_runtime::supervise::Supervisor;
use revwatch_runtime::telemetry::{Metrics, Tracer};
use revwatch_storage::memory::{Memory, NumberedIds, VirtualClock};

use crate::Worker;

pub(crate) fn worker(memory: &Memory, clock: &Arc<VirtualClock>, realms: Realms) -> Worker {
    let readiness = Readiness::default();
    Worker {
        queue: Arc::new(memory.reopen()),
        store: Arc::new(memory.reopen()),
        clock: clock.clone(),
        ids: Arc::new(NumberedIds::default()),
        config: Config::load(None, &|_| None).expect("the defaults").worker,
        events: Reloadable::new(EventSettings {
            realms,
            ..EventSettings::default()
        }),
        other_mode: crate::OtherModeCounts::default(),
        metrics: Metrics::new(),
        tracer: Tracer::default(),
        ready: readiness.check("worker"),
        tasks: Supervisor::new(&readiness),
        batch_permits: crate::BatchPermits::default(),
        resolver: None,
    }
}
