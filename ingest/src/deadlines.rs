//! The limits that are durations or counts, validated once so that nothing panics on them later.

use std::time::Duration;

use revwatch_runtime::config::Limits;

use crate::StartError;

/// The durations of [`Limits`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    pub(crate) header: Duration,
    pub(crate) body: Duration,
    /// How much of `body` an incomplete body has in any case while memory is short.
    pub(crate) body_min_time: Duration,
    pub(crate) publish: Duration,
    pub(crate) drain: Duration,
}

/// An unhindered sender needs far less than a tenth of the time it has.
const MIN_TIME_DIVISOR: u32 = 10;

impl Deadlines {
    pub(crate) fn new(limits: &Limits) -> Result<Self, StartError> {
        for (name, count) in [
            ("body_bytes", limits.body_bytes),
            ("connections", limits.connections),
            ("connections_per_peer", limits.connections_per_peer),
            ("in_flight", limits.in_flight),
            ("refused_per_second", limits.refused_per_second as usize),
            ("refused_burst", limits.refused_burst as usize),
        ] {
            if count == 0 {
                return Err(StartError::Limit {
                    name,
                    must: "at least 1",
                });
            }
        }
        if limits.unfinished_body_bytes < limits.body_bytes {
            return Err(StartError::Limit {
                name: "unfinished_body_bytes",
                must: "at least limits.body_bytes",
            });
        }
        let body = seconds("body_seconds", limits.body_seconds)?;
        Ok(Self {
            header: seconds("header_seconds", limits.header_seconds)?,
            body,
            body_min_time: body / MIN_TIME_DIVISOR,
            publish: seconds("publish_seconds", limits.publish_seconds)?,
            drain: seconds("drain_seconds", limits.drain_seconds)?,
        })
    }
}

/// A day is longer than any useful value of these, and short enough for clock arithmetic.
fn seconds(name: &'static str, value: f64) -> Result<Duration, StartError> {
    if value > 0.0 && value <= 86_400.0 {
        Ok(Duration::from_secs_f64(value))
    } else {
        Err(StartError::Limit {
            name,
            must: "more than 0 and at most 86400",
        })
    }
}
