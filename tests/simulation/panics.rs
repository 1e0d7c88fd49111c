//! Panics on a simulation's thread. Roles survive them, so a run would not notice.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Runs `body`; every panic on this thread meanwhile is recorded, caught or not.
pub(super) fn record<T>(body: impl FnOnce() -> T) -> T {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let text = panic.to_string();
            PANICS.with_borrow_mut(|panics| {
                if let Some(panics) = panics {
                    panics.push(text);
                }
            });
            others(panic);
        }));
    });
    PANICS.set(Some(Vec::new()));
    let result = body();
    PANICS.set(None);
    result
}

/// The panics so far.
pub(super) fn take() -> Vec<String> {
    PANICS.with_borrow_mut(|panics| panics.as_mut().map(std::mem::take).unwrap_or_default())
}
