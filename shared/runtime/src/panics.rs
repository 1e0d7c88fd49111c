//! Panics: every panic of a process is counted and logged; [`catch`] keeps one from stopping what it does not concern.
//!
//! Invariant: neither a log line nor a [`PanicError`] shows the message of a panic, which may hold any
//! data the code was handling. Only the place is shown, and in the log a string literal from the source.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use prometheus::IntCounter;

/// Code panicked: a bug of revwatch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("panic at {place}")]
pub struct PanicError {
    /// File, line and column of the source.
    place: String,
}

thread_local! {
    /// Where this thread panicked last.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Whether [`count_panics`] was called.
static IS_COUNTED: AtomicBool = AtomicBool::new(false);

/// Runs `work`. After a panic, what `work` changed must be discarded.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, PanicError> {
    note_places();
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| PanicError {
        place: PLACE
            .take()
            .unwrap_or_else(|| "an unknown place".to_owned()),
    })
}

/// From now on every panic of the process is counted and logged.
pub(crate) fn count_panics(panics: IntCounter) {
    IS_COUNTED.store(true, Relaxed);
    set_hook(Box::new(move |panic| {
        panics.inc();
        PLACE.set(Some(place(panic)));
        let thread = std::thread::current();
        tracing::error!(
            place = place(panic),
            thread = thread.name(),
            panic_message = panic_text(panic),
            "panic; please report this"
        );
    }));
}

/// Only the hook learns the place of a panic. A command does not call [`count_panics`]: it prints the place, and not
/// the message as the hook of the standard library does.
fn note_places() {
    static NOTED: Once = Once::new();
    NOTED.call_once(|| {
        let counting = IS_COUNTED.load(Relaxed).then(take_hook);
        set_hook(Box::new(move |panic| {
            PLACE.set(Some(place(panic)));
            match &counting {
                Some(count) => count(panic),
                None => eprintln!("revwatch: panic at {}: {}", place(panic), panic_text(panic)),
            }
        }));
    });
}

fn place(panic: &PanicHookInfo<'_>) -> String {
    panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// The text of `panic!("…")`. A formatted message may hold data.
fn panic_text(panic: &PanicHookInfo<'_>) -> &'static str {
    panic
        .payload()
        .downcast_ref::<&'static str>()
        .copied()
        .unwrap_or("(not shown: it may hold data)")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Both tests need their own hook.
    static HOOK: Mutex<()> = Mutex::new(());

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_panic_is_counted_and_its_data_is_not_shown() {
        let panics = IntCounter::new("panics", "of this test").expect("a counter");
        let (lines, card) = (Lines::default(), "4242424242424242");
        let writer = lines.clone();
        let logged = move |work: fn(&str)| {
            let writer = writer.clone();
            let log = tracing_subscriber::fmt().with_writer(move || writer.clone());
            tracing::subscriber::with_default(log.finish(), || work(card));
        };
        let _alone = HOOK.lock().expect("no panic");
        let before = take_hook();
        count_panics(panics.clone());
        let first = std::thread::spawn({
            let logged = logged.clone();
            move || logged(|_| panic!("on purpose"))
        });
        let first = first.join();
        let second = std::thread::spawn(move || logged(|data| panic!("it holds {data}"))).join();
        set_hook(before);
        assert!(first.is_err() && second.is_err() && panics.get() >= 2);
        let text = String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("text");
        assert!(
            text.contains("on purpose") && text.contains("(not shown: it may hold data)"),
            "{text}"
        );
        assert!(!text.contains(card), "{text}");
    }

    #[test]
    fn a_caught_panic_says_its_place_and_not_its_data() {
        let _alone = HOOK.lock().expect("no panic");
        assert_eq!(catch(|| 7), Ok(7));
        let card = "4242424242424242";
        for _ in 0..2 {
            let line = line!() + 1;
            let error = catch(|| panic!("it holds {card}")).expect_err("it panics");
            let expected = format!("panic at {}:{line}:", file!());
            assert!(error.to_string().starts_with(&expected), "{error}");
            assert!(!format!("{error} {error:?}").contains(card), "{error:?}");
        }
    }
}
