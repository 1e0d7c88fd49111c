//! What strangers send and people write, as functions of bytes. Each calls the program's own code, and panics if
//! something is seen that must not be: a panic, also one that revwatch would catch, or a result that breaks an
//! invariant.
//!
//! The shells in `fuzz_targets/` pass them to libFuzzer. `tests/smoke` runs them over a corpus and seeded mutations of
//! it, with the stable compiler.
//!
//! Invariant: the same bytes give the same result. A target reads no clock, no environment, and no file but one of its
//! own.

mod application;
mod edge;
mod events;
mod rules;
mod settings;
mod signature;
#[expect(dead_code, reason = "the program needs more of it")]
#[path = "../../../src/simulation/mod.rs"]
mod simulation;
mod slack;
mod state;

pub use self::application::application;
pub use self::events::events;
pub use self::rules::rules;
pub use self::settings::settings;
pub use self::signature::signature;
pub use self::slack::slack;

/// A target.
pub type Target = fn(&[u8]);

/// All of them, by the names of their corpora.
pub const TARGETS: [(&str, Target); 6] = [
    ("application", application),
    ("events", events),
    ("rules", rules),
    ("settings", settings),
    ("signature", signature),
    ("slack", slack),
];

/// The time at which everything happens: 2026-09-21, in Unix seconds.
const NOW_S: i64 = 1_790_000_000;

/// Separates the parts of an input, on a line of its own.
const SEPARATOR: &str = "-----";

/// The parts of a text: as many as are asked for, the last with all the rest. Those that are missing are empty.
fn parts<const N: usize>(text: &str) -> [&str; N] {
    let mut parts = [""; N];
    let between = format!("\n{SEPARATOR}\n");
    for (part, found) in parts.iter_mut().zip(text.splitn(N, &between)) {
        *part = found;
    }
    parts
}
