//! The process's log, on standard error.
//!
//! A line of JSON is written for every webhook and every commit, so its cost is part of theirs: it
//! is formatted in one buffer per thread and written with one call. Those about one batch are written
//! [`log_together`]. If the reader keeps up, no line waits longer than that, so a process that dies later loses none.
//! If the reader does not keep up, `log_output.rs` keeps some and drops the others: work goes on.
//!
//! Invariant: log lines never hold secrets, card data or personal data.

use std::cell::Cell;
use std::io::{self, IsTerminal as _};

use jiff::Timestamp;
use revwatch_core::neutral;
use serde::{Serializer as _, ser::SerializeMap as _};
use tracing::{Event, Subscriber};
#[cfg(feature = "client")]
use tracing_log::NormalizeEvent as _;
use tracing_serde::{AsSerde as _, SerdeMapVisitor};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{fmt, registry};

use super::log_output::{LogWriter, write_log};
use crate::config::log_filter;

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line, for programs.
    Json,
    /// Readable text, for a terminal.
    Pretty,
}

/// Installs the process's logger: JSON lines, or readable ones when standard error is a terminal.
/// `RUST_LOG` selects the levels that are logged, for instance `debug` or `info,lapin=debug`.
pub fn init_logs(format: Option<LogFormat>) {
    init_logs_or(format, "info,lapin=off");
}

/// The same with another default for when `RUST_LOG` is not set.
pub fn init_logs_or(format: Option<LogFormat>, default_filter: &str) {
    let configured = log_filter();
    let (filter, warning) = filter_of(configured.as_deref().unwrap_or(default_filter));
    let format = format.unwrap_or(if io::stderr().is_terminal() {
        LogFormat::Pretty
    } else {
        LogFormat::Json
    });
    // A second call, as in tests, keeps the first logger.
    let _ = match format {
        LogFormat::Json => registry().with(filter).with(JsonLines).try_init(),
        LogFormat::Pretty => registry()
            .with(filter)
            .with(fmt::layer().with_writer(|| LogWriter).compact())
            .try_init(),
    };
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
}

/// The filter that `text` is, and what was probably meant otherwise. A word that is no level is a target, so that
/// `verbose` alone would turn all lines off, also those about errors.
fn filter_of(text: &str) -> (Targets, Option<&'static str>) {
    match text.parse::<Targets>() {
        Ok(filter) if filter.default_level().is_some() || text.contains("revwatch") => {
            (filter, None)
        }
        Ok(filter) => (
            filter.with_default(LevelFilter::INFO),
            Some(
                "RUST_LOG has no level for revwatch, which is off, error, warn, info, debug or trace: it is info",
            ),
        ),
        Err(_) => (
            Targets::new().with_default(LevelFilter::INFO),
            Some(
                "RUST_LOG is not a log filter such as info or info,lapin=debug: the level is info",
            ),
        ),
    }
}

/// Runs `work`, and writes all JSON lines of it in one call at its end.
pub fn log_together<T>(work: impl FnOnce() -> T) -> T {
    struct Ends(bool);

    impl Drop for Ends {
        fn drop(&mut self) {
            WAIT.set(self.0);
            if !self.0 {
                let mut lines = LINES.take();
                write(&mut lines);
                LINES.set(lines);
            }
        }
    }

    let _ends = Ends(WAIT.replace(true));
    work()
}

thread_local! {
    /// Lines that are not written yet.
    static LINES: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// Whether more lines will be written with them.
    static WAIT: Cell<bool> = const { Cell::new(false) };
}

/// One JSON object per line: `timestamp`, `level`, the fields of the event, `target`. The
/// subscriber's own formatter writes the same at four times the cost.
struct JsonLines;

impl<S: Subscriber> Layer<S> for JsonLines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // Taken, not borrowed: formatting a field may itself write a log line.
        let mut lines = LINES.take();
        let before = lines.len();
        if render(Timestamp::now(), event, &mut lines).is_err() {
            lines.truncate(before);
        }
        lines.append(&mut LINES.take());
        if !WAIT.get() {
            write(&mut lines);
        }
        LINES.set(lines);
    }
}

fn write(lines: &mut Vec<u8>) {
    const KEPT_BYTES: usize = 64 * 1024;
    write_log(lines);
    lines.clear();
    lines.shrink_to(KEPT_BYTES);
}

fn render(now: Timestamp, event: &Event<'_>, line: &mut Vec<u8>) -> io::Result<()> {
    let begin = line.len();
    // Records of libraries that use the crate `log`, such as the client, carry their target and level among their
    // fields.
    #[cfg(feature = "client")]
    let normalized = event.normalized_metadata();
    #[cfg(not(feature = "client"))]
    let normalized: Option<tracing::Metadata<'_>> = None;
    let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
    let mut json = serde_json::Serializer::new(&mut *line);
    let mut map = json.serialize_map(None)?;
    map.serialize_entry("timestamp", &format_args!("{now:.6}"))?;
    map.serialize_entry("level", &metadata.level().as_serde())?;
    let mut fields = SerdeMapVisitor::new(map);
    event.record(&mut fields);
    let mut map = fields.take_serializer()?;
    map.serialize_entry("target", metadata.target())?;
    map.end()?;
    line.push(b'\n');
    neutralise(line, begin);
    Ok(())
}

/// A person may read a line of JSON in a terminal: what JSON leaves as it is must not act there. Most lines are ASCII,
/// of which JSON escapes all but one.
fn neutralise(line: &mut Vec<u8>, begin: usize) {
    const DELETE: u8 = 0x7f;
    let written = &line[begin..];
    if written.is_ascii() && !written.contains(&DELETE) {
        return;
    }
    let neutral = String::from_utf8_lossy(written);
    let neutral = neutral::lines(&neutral).into_owned();
    line.truncate(begin);
    line.extend_from_slice(neutral.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use tracing::subscriber::with_default;

    use super::*;

    #[test]
    fn no_filter_turns_the_log_off_by_mistake() {
        use tracing::Level;
        for (text, level, is_warned) in [
            ("info", Level::INFO, false),
            ("info,lapin=off", Level::INFO, false),
            ("error", Level::ERROR, false),
            ("revwatch=debug", Level::DEBUG, false),
            ("verbose", Level::INFO, true),
            ("warning", Level::INFO, true),
            ("lapin=debug", Level::INFO, true),
            ("revwatch=verbose", Level::INFO, true),
        ] {
            let (filter, warning) = filter_of(text);
            assert!(filter.would_enable("revwatch_worker", &level), "{text}");
            assert_eq!(warning.is_some(), is_warned, "{text}");
        }
        let (off, warning) = filter_of("off");
        assert!(!off.would_enable("revwatch_worker", &Level::ERROR) && warning.is_none());
    }

    /// Renders events with a fixed time, the beginning of 1970.
    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl<S: Subscriber> Layer<S> for Captured {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            render(
                Timestamp::UNIX_EPOCH,
                event,
                &mut self.0.lock().expect("unpoisoned"),
            )
            .expect("rendered");
        }
    }

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("unpoisoned").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Captured {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("unpoisoned").clone()).expect("UTF-8")
        }
    }

    fn log_samples() {
        let (id, error) = ("evt_\"1\"\u{7}\n→", io::Error::other("a\tb"));
        let word: Option<&str> = Some("x");
        tracing::info!(
            endpoint = "stripe", %id, bytes = 2650_usize, below = -7_i64, share = 0.25, known = true, word, "webhook"
        );
        tracing::error!(%error, cause = &error as &dyn std::error::Error, all = ?["a", "b"], wide = 1_u128 << 80, "no {id}");
        tracing::warn!(target: "elsewhere", missing = None::<u64>, r#type = "raw");
    }

    /// Line by line the same as the subscriber's own JSON, which people's queries and alerts read.
    #[test]
    fn lines_match_the_subscribers_own_formatter() {
        let (ours, theirs) = (Captured::default(), Captured::default());
        with_default(registry().with(ours.clone()), log_samples);
        let copy = theirs.clone();
        let own = fmt()
            .with_writer(move || copy.clone())
            .json()
            .flatten_event(true)
            .with_span_list(false);
        with_default(own.finish(), log_samples);
        let split_lines = |captured: &Captured| -> Vec<(usize, String)> {
            // The length of the timestamp, and the rest of the line.
            let parts = |line: &str| {
                line.split_once(",\"level\"")
                    .map(|(time, rest)| (time.len(), rest.to_owned()))
            };
            captured
                .text()
                .lines()
                .map(|line| parts(line).expect("a timestamp, then a level"))
                .collect()
        };
        assert_eq!(split_lines(&ours), split_lines(&theirs));
        assert_eq!(split_lines(&ours).len(), 3);
    }

    #[test]
    fn a_line_acts_on_no_terminal_and_keeps_its_text() {
        let texts = include_str!("../../../../tests/fixtures/hostile_texts.json");
        let texts: Vec<String> = serde_json::from_str(texts).expect("a list of texts");
        for text in texts {
            let captured = Captured::default();
            with_default(registry().with(captured.clone()), || {
                tracing::warn!(text, "foreign");
            });
            let line = captured.text();
            let is_active = |c: char| {
                c.is_control() && c != '\n'
                    || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            };
            assert!(
                line.ends_with('\n') && !line.contains(is_active),
                "{line:?}"
            );
            let read: Value = serde_json::from_str(&line).expect("one object");
            assert_eq!(read["text"], text);
        }
    }

    #[test]
    fn lines_of_one_piece_of_work_wait_for_its_end() {
        let waiting = || {
            let lines = LINES.take();
            let count = lines.split(|byte| *byte == b'\n').count() - 1;
            LINES.set(lines);
            count
        };
        with_default(registry().with(JsonLines), || {
            log_together(|| {
                tracing::info!("one");
                log_together(|| tracing::info!("two"));
                assert_eq!(waiting(), 2);
            });
            assert_eq!(waiting(), 0);
            tracing::info!("three");
            assert_eq!(waiting(), 0);
        });
    }

    #[test]
    fn a_line_is_one_object_whatever_it_contains() {
        let captured = Captured::default();
        with_default(registry().with(captured.clone()), log_samples);
        let lines: Vec<Value> = captured
            .text()
            .lines()
            .map(|line| serde_json::from_str(line).expect("one object per line"))
            .collect();
        assert_eq!(lines[0]["timestamp"], "1970-01-01T00:00:00.000000Z");
        assert_eq!(
            (&lines[0]["level"], &lines[0]["message"]),
            (&Value::from("INFO"), &Value::from("webhook"))
        );
        assert_eq!(lines[0]["id"], "evt_\"1\"\u{7}\n→");
        assert_eq!(lines[2]["target"], "elsewhere");
    }
}
