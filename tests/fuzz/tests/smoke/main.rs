//! Every target over its corpus and over mutations of it, without a fuzzer: what a change breaks at once is seen by
//! everyone who runs the tests.
//!
//! By default each target runs its corpus and the same few hundred mutations every time. `REVWATCH_FUZZ_SECONDS` makes
//! each run so long, with mutations of its own. A run follows from its seed alone; `REVWATCH_FUZZ_SEED` sets the first.

mod mutation;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use allocation_counter::AllocationInfo;
use fastrand::Rng;
use revwatch_fuzz::{TARGETS, Target};

use self::mutation::mutated;

#[test]
fn application() {
    smoke("application", 100);
}

#[test]
fn events() {
    smoke("events", 30);
}

#[test]
fn rules() {
    smoke("rules", 60);
}

#[test]
fn settings() {
    smoke("settings", 60);
}

#[test]
fn signature() {
    smoke("signature", 300);
}

#[test]
fn slack() {
    smoke("slack", 150);
}

#[test]
fn every_target_has_a_corpus_and_a_shell() {
    let names = |folder: &str, end: &str| {
        let entries = std::fs::read_dir(here().join(folder)).expect("a folder");
        let mut names: Vec<String> = entries
            .map(|entry| {
                let name = entry.expect("readable").file_name();
                let name = name.into_string().expect("text");
                name.trim_end_matches(end).to_owned()
            })
            .collect();
        names.sort_unstable();
        names
    };
    let targets = TARGETS.map(|(name, _)| name);
    assert_eq!(names("corpus", ""), targets);
    assert_eq!(names("fuzz_targets", ".rs"), targets);
}

/// What strangers may make one input cost: bytes at one time, and the number of allocations, which measures work on any
/// machine alike. Rules and settings are the operator's own.
const MAX_BYTES: u64 = 16 << 20;
const MAX_ALLOCATIONS: u64 = 2_000_000;
const OF_STRANGERS: [&str; 4] = ["application", "events", "signature", "slack"];

/// Inputs of the corpus are below this, and mutations are cut there: a request is at most twice as large.
const MAX_INPUT_BYTES: usize = 256 << 10;

/// `default` is the number of mutations, unless `REVWATCH_FUZZ_SECONDS` says how long. It is chosen so that all take
/// about five seconds.
fn smoke(name: &str, default: u64) {
    let (_, target) = TARGETS
        .into_iter()
        .find(|(known, _)| *known == name)
        .expect("a target");
    let corpus = corpus(name);
    // Once-initialised values are no input's cost.
    target(b"");
    for (file, input) in &corpus {
        check(name, target, input, &format!("{}", file.display()));
    }
    let seconds = variable("REVWATCH_FUZZ_SECONDS").map(Duration::from_secs);
    let first = variable("REVWATCH_FUZZ_SEED").unwrap_or_else(|| match seconds {
        // The same every time, so that a change that fails is the cause.
        None => 1,
        Some(_) => fastrand::u64(..1 << 48),
    });
    let began = Instant::now();
    let mut runs = 0;
    while seconds.map_or(runs < default, |seconds| began.elapsed() < seconds) {
        let seed = first + runs;
        let mut rng = Rng::with_seed(seed);
        let mut input = mutated(&corpus, &mut rng);
        input.truncate(MAX_INPUT_BYTES);
        let again = format!(
            "seed {seed}; repeat it: REVWATCH_FUZZ_SEED={seed} cargo test -p revwatch-fuzz --test smoke {name}"
        );
        check(name, target, &input, &again);
        runs += 1;
    }
    eprintln!(
        "{name}: {} files, {runs} mutations from seed {first}",
        corpus.len()
    );
}

/// Runs one input. If it fails, it is kept where a fuzzer and a debugger find it.
fn check(name: &str, target: Target, input: &[u8], what: &str) {
    let mut result = Ok(());
    let cost = allocation_counter::measure(|| {
        result = catch_unwind(AssertUnwindSafe(|| target(input))).map_err(drop);
    });
    let AllocationInfo {
        bytes_max,
        count_total,
        ..
    } = cost;
    let is_cheap = bytes_max <= MAX_BYTES && count_total <= MAX_ALLOCATIONS;
    let is_cheap = is_cheap || !OF_STRANGERS.contains(&name);
    if result.is_ok() && is_cheap {
        return;
    }
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
    std::fs::write(&kept, input).expect("written");
    eprintln!(
        "{name}: {bytes_max} bytes, {count_total} allocations for {} bytes in {} ({what})",
        input.len(),
        kept.display()
    );
    // Once more, because the hook that revwatch has set by now does not show the message of a panic.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    target(input);
    panic!("too dear");
}

/// The files of a corpus, by name.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(here().join("corpus").join(name)).expect("a folder");
    let mut files: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("readable").path();
            let input = std::fs::read(&path).expect("readable");
            (path, input)
        })
        .collect();
    files.sort_unstable();
    files
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "no setting of revwatch: it is about the tests themselves"
)]
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
