//! The process's log, on standard error.
//!
//! Invariant: log lines never hold secrets, card data or personal data.

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, for programs.
    Json,
    /// For a terminal.
    Pretty,
}

/// Installs the process's logger: JSON lines, or readable ones when standard error is a terminal.
/// `RUST_LOG` chooses what is shown; without it, `info` and the spans of revwatch.
pub fn init_logs(format: Option<LogFormat>) {
    init_logs_or(format, "info,lapin=warn");
}

/// The same with another choice for when there is no `RUST_LOG`.
pub fn init_logs_or(format: Option<LogFormat>, otherwise: &str) {
    use std::io::IsTerminal as _;
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(otherwise));
    let format = format.unwrap_or(if std::io::stderr().is_terminal() { LogFormat::Pretty } else { LogFormat::Json });
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call, as in tests, keeps the first logger.
    let _ = match format {
        LogFormat::Json => builder.json().flatten_event(true).with_span_list(false).try_init(),
        LogFormat::Pretty => builder.compact().try_init(),
    };
}
