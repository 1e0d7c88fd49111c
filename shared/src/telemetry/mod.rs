//! What a process says of itself: metrics and logs.

mod logs;
mod metrics;

pub use self::logs::{LogFormat, init_logs, init_logs_or};
pub use self::metrics::{Board, Metrics};
