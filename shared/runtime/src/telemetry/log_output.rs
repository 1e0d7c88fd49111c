//! Where log lines go: standard error, which may be a pipe that is read slowly or not at all.
//!
//! While the reader keeps up, a line is written at once. What the reader does not take yet waits in memory for a thread
//! that writes it; when too much waits, lines are dropped and counted.
//!
//! Invariant: writing a line never waits for the reader.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntCounter;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// So much may wait for a reader.
const MAX_WAITING_BYTES: usize = 4 << 20;
/// What a pipe that is ready takes without blocking. Source: POSIX, `PIPE_BUF`; Linux' is 4096.
const CHUNK_BYTES: usize = 4096;
/// A buffer keeps this much memory.
const KEPT_BYTES: usize = 64 * 1024;
/// How long the end of the process waits for the reader.
const LAST_WAIT: Duration = Duration::from_secs(1);

static STANDARD_ERROR: LazyLock<Option<LogOutput>> = LazyLock::new(|| {
    let file = io::stderr().as_fd().try_clone_to_owned().ok()?;
    Some(LogOutput::to(file.into()))
});

/// Writes to standard error.
pub(crate) fn write_log(lines: &[u8]) {
    if let Some(output) = &*STANDARD_ERROR {
        output.write(lines);
    }
}

/// Counts dropped lines here from now on, those before included.
pub(crate) fn count_dropped_lines(counter: &IntCounter) {
    if let Some(output) = &*STANDARD_ERROR {
        output.count(counter.clone());
    }
}

/// At the end of the process: waits a little until the reader has everything.
pub(crate) fn finish_log() {
    if let Some(output) = &*STANDARD_ERROR {
        output.finish(LAST_WAIT);
    }
}

/// Standard error in a form that `tracing-subscriber` takes.
pub(super) struct LogWriter;

impl io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_log(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes lines to a file, pipe or terminal.
struct LogOutput(Arc<Shared>);

struct Shared {
    file: File,
    /// A write to a file on disk does not wait for a reader.
    is_on_disk: bool,
    state: Mutex<State>,
    /// Something waits, or nothing does any more.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What the thread has to write next.
    waiting: Vec<u8>,
    /// What it is writing.
    writing_bytes: usize,
    has_thread: bool,
    /// Not logged or not counted yet.
    dropped: Dropped,
    counter: Option<IntCounter>,
}

#[derive(Default)]
struct Dropped {
    unlogged: u64,
    uncounted: u64,
}

impl LogOutput {
    fn to(file: File) -> Self {
        Self(Arc::new(Shared {
            is_on_disk: file.metadata().is_ok_and(|found| found.is_file()),
            file,
            state: Mutex::default(),
            changed: Condvar::new(),
        }))
    }

    fn write(&self, lines: &[u8]) {
        let mut state = self.0.state();
        let taken = match state.is_behind() {
            true => 0,
            // A failure to write the log cannot be reported anywhere.
            false => self.0.write_ready(lines).unwrap_or(lines.len()),
        };
        let rest = &lines[taken..];
        if rest.is_empty() {
            return;
        }
        // The rest of a line whose beginning was written is kept: it is never too much.
        if state.is_behind()
            && state.waiting.len() + state.writing_bytes + rest.len() > MAX_WAITING_BYTES
        {
            let lines = rest.iter().filter(|byte| **byte == b'\n').count();
            state.drop_lines(u64::try_from(lines).unwrap_or(u64::MAX));
            return;
        }
        state.waiting.extend_from_slice(rest);
        self.0.changed.notify_all();
        if !state.has_thread {
            let shared = self.0.clone();
            let thread = std::thread::Builder::new().name("log-writer".into());
            // Without a thread the lines wait for the next attempt to start one.
            state.has_thread = thread.spawn(move || shared.write_what_waits()).is_ok();
        }
    }

    fn count(&self, counter: IntCounter) {
        let mut state = self.0.state();
        counter.inc_by(std::mem::take(&mut state.dropped.uncounted));
        state.counter = Some(counter);
    }

    fn finish(&self, longest: Duration) {
        let state = self.0.state();
        let waited = self
            .0
            .changed
            .wait_timeout_while(state, longest, |state| state.is_behind());
        drop(waited);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what can be written without waiting, and returns how much that was.
    fn write_ready(&self, lines: &[u8]) -> io::Result<usize> {
        if self.is_on_disk {
            return (&self.file).write_all(lines).map(|()| lines.len());
        }
        let mut written = 0;
        while written < lines.len() && self.is_ready() {
            match (&self.file).write(chunk(&lines[written..])) {
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    /// Also when its reader has gone: a write then fails at once.
    fn is_ready(&self) -> bool {
        let mut files = [PollFd::new(&self.file, PollFlags::OUT)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut files, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// The thread: waits for the reader in place of those who log.
    fn write_what_waits(&self) {
        let mut lines = Vec::new();
        loop {
            let state = self.state();
            let has_none = |state: &mut State| state.waiting.is_empty();
            let waited = self.changed.wait_while(state, has_none);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut lines, &mut state.waiting);
            state.writing_bytes = lines.len();
            drop(state);
            self.write_blocking(&lines);
            lines.clear();
            lines.shrink_to(KEPT_BYTES);
            let mut state = self.state();
            state.writing_bytes = 0;
            let dropped = std::mem::take(&mut state.dropped.unlogged);
            self.changed.notify_all();
            drop(state);
            if dropped > 0 {
                tracing::warn!(
                    dropped,
                    "log lines were dropped: what reads standard error did not keep up"
                );
            }
        }
    }

    fn write_blocking(&self, mut lines: &[u8]) {
        while !lines.is_empty() {
            match (&self.file).write(lines) {
                Ok(bytes) => lines = &lines[bytes..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Another process made the pipe non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let _ = poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], None);
                }
                Err(_) => return,
            }
        }
    }
}

impl State {
    /// Whether earlier lines are not written yet.
    fn is_behind(&self) -> bool {
        self.writing_bytes > 0 || !self.waiting.is_empty()
    }

    fn drop_lines(&mut self, lines: u64) {
        self.dropped.unlogged += lines;
        match &self.counter {
            Some(counter) => counter.inc_by(lines),
            None => self.dropped.uncounted += lines,
        }
    }
}

/// As many complete lines as fit, or else a part of one.
fn chunk(lines: &[u8]) -> &[u8] {
    if lines.len() <= CHUNK_BYTES {
        return lines;
    }
    let some = &lines[..CHUNK_BYTES];
    let end = some.iter().rposition(|byte| *byte == b'\n');
    &some[..end.map_or(CHUNK_BYTES, |at| at + 1)]
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, pipe};
    use std::os::fd::OwnedFd;

    use super::*;

    fn to_pipe() -> (io::PipeReader, LogOutput) {
        let (reader, writer) = pipe().expect("a pipe");
        (reader, LogOutput::to(OwnedFd::from(writer).into()))
    }

    fn line(number: usize) -> String {
        format!("{number:<999}\n")
    }

    #[test]
    fn lines_that_are_read_are_written_at_once() {
        let (reader, output) = to_pipe();
        for number in 0..10 {
            output.write(line(number).as_bytes());
        }
        assert!(!output.0.state().is_behind());
        drop(output);
        let mut text = String::new();
        BufReader::new(reader)
            .read_to_string(&mut text)
            .expect("text");
        assert_eq!(text, (0..10).map(line).collect::<String>());
    }

    /// Without the thread, or with one that holds the lock while it writes, this test would not end.
    #[test]
    fn a_reader_that_does_not_read_stops_nothing_and_gets_what_waited_in_order() {
        const LINES: usize = 10_000;
        let (reader, output) = to_pipe();
        let counter = IntCounter::new("dropped", "dropped").expect("a counter");
        for number in 0..LINES / 2 {
            output.write(line(number).as_bytes());
        }
        output.count(counter.clone());
        for number in LINES / 2..LINES {
            output.write(line(number).as_bytes());
        }
        let dropped = usize::try_from(counter.get()).expect("few");
        let kept = LINES - dropped;
        assert!(kept * 1000 >= MAX_WAITING_BYTES - 1000, "{kept}");
        assert!(kept * 1000 <= MAX_WAITING_BYTES + (1 << 20), "{kept}");
        let mut lines = BufReader::new(reader).lines();
        for number in 0..kept {
            let read = lines.next().expect("a line").expect("text");
            assert_eq!(read.trim(), number.to_string());
        }
        output.finish(Duration::from_secs(60));
        output.write(b"later\n");
        let read = lines.next().expect("a line").expect("text");
        assert_eq!(read, "later");
    }

    #[test]
    fn a_reader_that_has_gone_stops_nothing() {
        let (reader, output) = to_pipe();
        drop(reader);
        for number in 0..10_000 {
            output.write(line(number).as_bytes());
        }
        assert!(!output.0.state().is_behind());
    }

    #[test]
    fn the_end_does_not_wait_for_ever() {
        let (_reader, output) = to_pipe();
        output.write(&vec![b'x'; 1 << 20]);
        output.finish(Duration::from_millis(1));
        assert!(output.0.state().is_behind());
    }

    #[test]
    fn chunks_end_with_lines_where_they_can() {
        assert_eq!(chunk(b"a\nb"), b"a\nb");
        let text = [line(0), line(1), line(2), line(3), line(4)].concat();
        assert_eq!(chunk(text.as_bytes()).len(), 4000);
        assert_eq!(chunk(&[b'x'; 5000]).len(), CHUNK_BYTES);
    }
}
