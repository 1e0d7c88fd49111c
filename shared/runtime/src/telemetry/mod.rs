//! A process's telemetry: metrics, logs and traces.

mod correlation;
mod export;
mod limited_log;
mod log_output;
mod logs;
mod metrics;
mod registrar;
mod trace;

pub use self::correlation::{Correlation, parse_traceparent};
pub use self::export::SetupError;
pub use self::limited_log::LimitedLog;
pub(crate) use self::log_output::{count_dropped_lines, finish_log, write_log};
pub use self::logs::{LogFormat, init_logs, init_logs_or, log_together};
pub use self::metrics::Metrics;
pub use self::registrar::{Family, GaugeSet, RatioGauge};
pub use self::trace::{Span, SpanContext, SpanId, SpanKind, Tracer, new_span_id};
