//! The pure modules stay pure: they use no runtime, no client, no clock, no randomness and no I/O,
//! except in their own tests. Time is an argument.
//!
//! The sources are parsed into Rust tokens, so that comments and strings do not count, and an
//! import counts however it is written.

use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Files and folders whose code decides and performs no effects.
const PURE: &[&str] = &[
    "shared/core/src",
    "shared/runtime/src/telemetry/correlation.rs",
    "shared/runtime/src/wording.rs",
    "ingest/src/verify.rs",
    "ingest/src/answer.rs",
    "shared/runtime/src/public/client_address.rs",
    "worker/src/backfill/page.rs",
    "worker/src/membership.rs",
    "worker/src/batch.rs",
    "worker/src/batch",
    "worker/src/guarded.rs",
    "worker/src/resolver/agenda.rs",
    "worker/src/resolver/items.rs",
    "worker/src/resolver/snapshot.rs",
    "worker/src/resolver/stored.rs",
    "alerting/src/engine",
    "alerting/src/metric_value.rs",
    "alerting/src/stage.rs",
    "alerting/src/message",
    "alerting/src/notify/pagerduty/event.rs",
    "alerting/src/notify/webhook/body.rs",
    "alerting/src/outcome.rs",
    "alerting/src/policy.rs",
    "alerting/src/policy",
    "alerting/src/metric_evaluation.rs",
    "alerting/src/rule",
    "alerting/src/rule_text",
    "alerting/src/slack_actions/payload.rs",
    "alerting/src/slack_actions/signature.rs",
    "alerting/src/slack_actions/socket/envelope.rs",
    "alerting/src/phase.rs",
    "alerting/src/rivals.rs",
    "src/cli/evidence/cases.rs",
    "src/cli/evidence/scorecard.rs",
    "src/simulation",
];

/// Names that must not appear in any path: runtimes, clients and adapters; clocks; randomness.
const FORBIDDEN_NAMES: &[&str] = &[
    "axum",
    "lapin",
    "notify",
    "rabbitmq",
    "redis",
    "reqwest",
    "rusqlite",
    "sqlite",
    "tokio",
    "tokio_util",
    "Instant",
    "SystemTime",
    "now_v7",
    "new_v4",
    "fastrand",
    "getrandom",
    "rand",
];

/// Modules of the standard library that perform I/O. (`use std::*` would hide them.)
const FORBIDDEN_OF_STD: &[&str] = &["*", "env", "fs", "io", "net", "os", "process", "thread"];

/// Types of these modules that are values.
const VALUES_OF_STD: &[(&str, &str)] = &[
    ("net", "IpAddr"),
    ("net", "Ipv4Addr"),
    ("net", "SocketAddr"),
];

/// A path in the source, one string per segment, with its line.
struct Named {
    segments: Vec<String>,
    line: usize,
}

#[test]
fn pure_modules_use_no_runtime_client_clock_or_randomness() {
    let files: Vec<PathBuf> = PURE
        .iter()
        .flat_map(|name| rust_files(&root().join(name)))
        .filter(|file| !is_test(file))
        .collect();
    assert!(files.len() > PURE.len(), "the folders hold files");
    let mut faults = Vec::new();
    for file in &files {
        let source = std::fs::read_to_string(file).expect("a source file");
        let shown = file
            .strip_prefix(root())
            .expect("within the repository")
            .display();
        faults.extend(
            impurities(&source)
                .into_iter()
                .map(|(path, line)| format!("{shown}:{line}: {path}")),
        );
    }
    assert!(
        faults.is_empty(),
        "pure modules must not name:\n{}",
        faults.join("\n")
    );
}

/// Crates that take the wall clock and fresh ids as parameters: see `shared/core/src/clock.rs`.
const WITHOUT_CLOCK: &[&str] = &["ingest/src", "worker/src", "alerting/src", "shared"];

/// The files that may read the system's clock or draw random numbers.
const SYSTEM: &[&str] = &[
    "shared/storage/src/system.rs",
    // The time stamps of log lines and spans.
    "shared/runtime/src/telemetry/logs.rs",
    "shared/runtime/src/telemetry/trace.rs",
];

#[test]
fn the_wall_clock_and_random_ids_are_read_in_one_file() {
    let files = WITHOUT_CLOCK
        .iter()
        .flat_map(|name| rust_files(&root().join(name)));
    let mut readers = Vec::new();
    for file in files {
        let shown = file.strip_prefix(root()).expect("within the repository");
        let shown = shown.display().to_string();
        let source = std::fs::read_to_string(&file).expect("a source file");
        if !is_test(&file) && reads_system(&source) {
            readers.push(shown);
        }
    }
    readers.sort();
    let mut allowed = SYSTEM.to_vec();
    allowed.sort_unstable();
    assert_eq!(
        readers, allowed,
        "a file reads the system's clock, or no longer does"
    );
}

/// A file that is compiled with tests only.
fn is_test(file: &Path) -> bool {
    let within = file.strip_prefix(root()).expect("within the repository");
    let mut names = within.iter().skip(1);
    names.any(|name| name == "tests" || name == "tests.rs")
}

#[test]
fn system_clocks_and_random_ids_are_found_in_any_notation() {
    for (source, expected) in [
        ("fn f() { jiff::Timestamp::now(); }", true),
        ("fn f() { std::time::SystemTime::now(); }", true),
        ("fn f() { g(SystemTime::now) }", true),
        ("fn f() { Uuid::now_v7(); }", true),
        ("fn f() { fastrand::u64(..); }", true),
        (
            "fn f() { Instant::now(); clock.now(); self.clock.now_ms(); }",
            false,
        ),
        ("fn f(at: SystemTime) -> Timestamp { at.into() }", false),
        (
            "#[cfg(test)] mod tests { fn f() { Uuid::now_v7(); } }",
            false,
        ),
    ] {
        assert_eq!(reads_system(source), expected, "{source}");
    }
}

fn reads_system(source: &str) -> bool {
    let mut named = Vec::new();
    collect(source.parse().expect("Rust"), &mut named);
    named.iter().any(|Named { segments, .. }| {
        let has = |name: &str| segments.iter().any(|s| s == name);
        let reads_clock = ["Timestamp", "Zoned", "SystemTime"].into_iter().any(has) && has("now");
        // A socket for IPv4 is no random id.
        let makes_id = has("now_v7") || has("new_v4") && !has("TcpSocket");
        reads_clock || makes_id || ["fastrand", "getrandom"].into_iter().any(has)
    })
}

#[test]
fn impure_paths_are_found_in_any_notation() {
    let table: &[(&str, &[&str])] = &[
        ("use tokio::time::sleep;", &["tokio::time::sleep"]),
        (
            "use std::{collections::BTreeMap, time::{Duration, Instant}};",
            &["std::time::Instant"],
        ),
        (
            "use std::time::SystemTime as Clock;",
            &["std::time::SystemTime"],
        ),
        (
            "use std::{fs::{self, File}, fmt};",
            &["std::fs::self", "std::fs::File"],
        ),
        ("use std::*;", &["std::*"]),
        (
            "fn f() { let _ = ::std::env::var(\"X\"); }",
            &["std::env::var"],
        ),
        (
            "fn f() -> i64 { jiff::Timestamp::now().as_second() }",
            &["jiff::Timestamp::now"],
        ),
        ("fn f() { Zoned::now(); }", &["Zoned::now"]),
        ("fn f() { <Timestamp>::now(); }", &["::now"]),
        ("fn f() { vec![Uuid::now_v7()]; }", &["Uuid::now_v7"]),
        ("fn f() { rand::random::<u8>(); }", &["rand::random"]),
        (
            "impl T { fn f(&self) { if true { crate::redis::x() } } }",
            &["crate::redis::x"],
        ),
        (
            "mod inner { use super::*; use reqwest as r; }",
            &["reqwest"],
        ),
        (
            "#[cfg(test)] use std::fs; use std::net::{IpAddr, TcpStream};",
            &["std::net::TcpStream"],
        ),
        ("#[cfg(not(test))] use std::fs;", &["std::fs"]),
        (
            "#[cfg(test)] mod tests { use std::fs; } fn f() { std::fs::read(p); }",
            &["std::fs::read"],
        ),
        // Allowed paths.
        (
            "#[cfg(test)]\n#[expect(dead_code)]\nmod tests { use tokio::test; }",
            &[],
        ),
        (
            "//! tokio::time\n/// std::fs\nfn f(now: Timestamp) -> &'static str { \"std::fs::read\" /* redis */ }",
            &[],
        ),
        (
            "use std::collections::HashMap; use std::time::Duration; fn f(now_s: i64) { g(now); }",
            &[],
        ),
        ("const V: &str = env!(\"CARGO_PKG_VERSION\");", &[]),
    ];
    for (source, expected) in table {
        let found: Vec<_> = impurities(source)
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        assert_eq!(found, *expected, "{source}");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The file, or all files of the folder. A missing one is a mistake in the list above.
fn rust_files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(path)
        .unwrap_or_else(|e| panic!("{} is on the list: {e}", path.display()));
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.sort();
    paths.retain(|p| p.is_dir() || p.extension().is_some_and(|e| e == "rs"));
    paths.iter().flat_map(|p| rust_files(p)).collect()
}

/// The forbidden paths, with their lines.
fn impurities(source: &str) -> Vec<(String, usize)> {
    let tokens: TokenStream = source.parse().expect("Rust");
    let mut named = Vec::new();
    collect(tokens, &mut named);
    named.retain(|n| is_impure(&n.segments));
    named
        .into_iter()
        .map(|n| (n.segments.join("::"), n.line))
        .collect()
}

fn is_impure(segments: &[String]) -> bool {
    let is_value = matches!(segments, [_, second, third, ..]
        if VALUES_OF_STD.contains(&(second.as_str(), third.as_str())));
    let reaches_out = matches!(segments, [first, second, ..]
        if first == "std" && FORBIDDEN_OF_STD.contains(&second.as_str()) && !is_value);
    // `Timestamp::now`, `Zoned::now` and similar; a variable called `now` is time passed as an
    // argument.
    let reads_clock = segments.iter().skip(1).any(|s| s == "now");
    reaches_out
        || reads_clock
        || segments
            .iter()
            .any(|s| FORBIDDEN_NAMES.contains(&s.as_str()))
}

/// Every path of `tokens` except those of items under `#[cfg(test)]`; imports are expanded.
fn collect(tokens: TokenStream, named: &mut Vec<Named>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            token if is_punct(token, '#') && tokens.get(at + 1).is_some_and(is_cfg_test) => {
                at = after_item(&tokens, at);
            }
            TokenTree::Ident(word) if word == "use" => {
                let end = (at..tokens.len())
                    .find(|i| is_punct(&tokens[*i], ';'))
                    .unwrap_or(tokens.len());
                spell_out(&[], &tokens[at + 1..end], named);
                at = end;
            }
            TokenTree::Ident(word) => {
                let line = word.span().start().line;
                // `<T>::now`: the token before the colons is not an identifier.
                let mut segments = if follows_angle_bracket(&tokens, at) {
                    vec![String::new()]
                } else {
                    Vec::new()
                };
                segments.push(word.to_string());
                at += 1;
                while let Some(TokenTree::Ident(next)) = tokens.get(at + 2)
                    && is_colons(&tokens, at)
                {
                    segments.push(next.to_string());
                    at += 3;
                }
                named.push(Named { segments, line });
            }
            TokenTree::Group(group) => {
                collect(group.stream(), named);
                at += 1;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => at += 1,
        }
    }
}

/// An import tree, `a::{b, c::{self, d as e}}`, as the paths it imports.
fn spell_out(prefix: &[String], tree: &[TokenTree], named: &mut Vec<Named>) {
    for branch in tree.split(|token| is_punct(token, ',')) {
        let mut segments = prefix.to_vec();
        let mut line = 0;
        let mut grouped = false;
        for token in branch {
            line = token.span().start().line;
            match token {
                TokenTree::Ident(word) if word == "as" => break,
                TokenTree::Ident(word) => segments.push(word.to_string()),
                TokenTree::Group(group) => {
                    spell_out(
                        &segments,
                        &group.stream().into_iter().collect::<Vec<_>>(),
                        named,
                    );
                    grouped = true;
                }
                token if is_punct(token, '*') => segments.push("*".to_owned()),
                _ => {}
            }
        }
        if !grouped && !branch.is_empty() {
            named.push(Named { segments, line });
        }
    }
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(p) if p.as_char() == wanted)
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    tokens.len() > at + 1 && is_punct(&tokens[at], ':') && is_punct(&tokens[at + 1], ':')
}

fn follows_angle_bracket(tokens: &[TokenTree], at: usize) -> bool {
    at >= 3 && is_colons(tokens, at - 2) && is_punct(&tokens[at - 3], '>')
}

fn is_cfg_test(token: &TokenTree) -> bool {
    let TokenTree::Group(group) = token else {
        return false;
    };
    let text: String = group.stream().to_string().split_whitespace().collect();
    group.delimiter() == Delimiter::Bracket && text == "cfg(test)"
}

/// The end of the item whose attributes begin at `at`: after its braces, or its semicolon.
fn after_item(tokens: &[TokenTree], at: usize) -> usize {
    let ends = |token: &TokenTree| {
        is_punct(token, ';')
            || matches!(token, TokenTree::Group(g) if g.delimiter() == Delimiter::Brace)
    };
    let item = (at..tokens.len()).find(|i| ends(&tokens[*i]));
    item.map_or(tokens.len(), |end| end + 1)
}
