//! The limits that are durations or counts, validated once so that nothing panics on them later.

use std::time::Duration;

use revwatch_runtime::config::Limits;
use revwatch_runtime::public::Bounds;

use crate::StartError;

/// What [`Limits`] means.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    /// Of the listener.
    pub(crate) bounds: Bounds,
    /// Of the queue.
    pub(crate) publish: Duration,
}

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
        let bounds = Bounds {
            connections: limits.connections,
            connections_per_peer: limits.connections_per_peer,
            unfinished_body_bytes: limits.unfinished_body_bytes,
            header: seconds("header_seconds", limits.header_seconds)?,
            body: seconds("body_seconds", limits.body_seconds)?,
            idle: seconds("idle_seconds", limits.idle_seconds)?,
            drain: seconds("drain_seconds", limits.drain_seconds)?,
            refused_per_second: limits.refused_per_second,
            refused_burst: limits.refused_burst,
        };
        Ok(Self {
            bounds,
            publish: seconds("publish_seconds", limits.publish_seconds)?,
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
