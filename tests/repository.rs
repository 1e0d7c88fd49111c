//! Rules about the complete repository.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use revwatch_runtime::config::variables;
use revwatch_runtime::telemetry::Metrics;

/// The crates of one role each. Only the root package depends on several of them.
const ROLES: [&str; 3] = ["ingest", "worker", "alerting"];

/// The shared crates, from the bottom: each may depend on the previous ones.
const SHARED: [&str; 4] = ["core", "storage", "runtime", "stripe"];

#[test]
fn dependencies_go_downwards() {
    for role in ROLES {
        let others = ROLES.iter().filter(|other| **other != role);
        depends_on_none(role, others.map(|other| (*other).to_owned()));
    }
    for (index, name) in SHARED.iter().enumerate() {
        let above = SHARED[index + 1..].iter().chain(&ROLES);
        depends_on_none(
            &format!("shared/{name}"),
            above.map(|above| (*above).to_owned()),
        );
    }
}

/// A crate without a runtime and a client in its manifest cannot do I/O.
#[test]
fn the_core_has_neither_a_runtime_nor_a_client() {
    let manifest = read("shared/core/Cargo.toml");
    for name in [
        "tokio", "axum", "hyper", "reqwest", "lapin", "redis", "rusqlite", "tracing",
    ] {
        assert!(
            !manifest.lines().any(|line| line.starts_with(name)),
            "shared/core/Cargo.toml must not depend on {name}"
        );
    }
}

fn depends_on_none(package: &str, forbidden: impl Iterator<Item = String>) {
    let manifest = read(&format!("{package}/Cargo.toml"));
    for name in forbidden {
        assert!(
            !manifest
                .lines()
                .any(|line| line.starts_with(&format!("revwatch-{name}"))),
            "{package}/Cargo.toml must not depend on revwatch-{name}"
        );
    }
}

/// Each crate is code to review and to keep current, in the program that the internet can reach.
#[test]
fn the_edge_links_few_crates_and_neither_a_store_nor_the_rule_engine() {
    // 28 of them judge events of the application by their published schemas.
    const MAX_CRATES: usize = 215;
    let command = "tree -p revwatch-ingest --target x86_64-unknown-linux-gnu -e normal --prefix none \
                   --locked";
    let listed = Command::new(env!("CARGO"))
        .args(command.split_whitespace())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo lists dependencies");
    assert!(listed.status.success(), "{listed:?}");
    let listed = String::from_utf8(listed.stdout).expect("UTF-8");
    let crates: BTreeSet<&str> = listed
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .collect();
    for name in [
        "redis",
        "rusqlite",
        "reqwest",
        "clap",
        "revwatch-worker",
        "revwatch-alerting",
    ] {
        let found = crates
            .iter()
            .any(|line| line.starts_with(&format!("{name} ")));
        assert!(!found, "revwatch-ingest must not link {name}");
    }
    assert!(
        crates.len() <= MAX_CRATES,
        "revwatch-ingest links {} crates, more than {MAX_CRATES}. The list, and `-i CRATE` for the \
         reason of one: cargo {command} | sed 's/ (\\*)$//' | sort -u",
        crates.len()
    );
}

/// Cargo runs the tests in a folder next to a manifest only. It ignores all others without a warning.
#[test]
fn every_integration_test_belongs_to_a_crate() {
    let Some(names) = tracked() else { return };
    let orphans: Vec<&String> = names
        .iter()
        .filter(|name| name.ends_with(".rs") && !name.split('/').any(|folder| folder == "src"))
        .filter(|name| {
            name.split_once("/tests/")
                .is_some_and(|(folder, _)| !names.contains(&format!("{folder}/Cargo.toml")))
        })
        .collect();
    assert!(orphans.is_empty(), "tests without a crate: {orphans:?}");
}

#[test]
fn event_types_are_sorted_and_unique() {
    let text = read("shared/core/src/event_types.txt");
    let types: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
    assert!(types.len() > 200, "only {} types", types.len());
    for pair in types.windows(2) {
        assert!(
            pair[0] < pair[1],
            "{:?} and {:?} are out of order or the same",
            pair[0],
            pair[1]
        );
    }
}

#[test]
fn no_file_mentions_a_developers_machine() {
    // Written in two parts, so that this file does not match itself.
    let places = ["work", "tmp/w", "home", "root", "Users"].map(|folder| format!("/{folder}/"));
    check_texts(|text| {
        let begins_a_path = |at: usize| {
            !text[..at].ends_with(|c: char| c.is_alphanumeric() || "./-_}~".contains(c))
        };
        places
            .iter()
            .find(|place| text.match_indices(*place).any(|(at, _)| begins_a_path(at)))
            .cloned()
    });
}

/// Between two machines it cannot be promised. Write "at least once", and name the deduplication.
#[test]
fn no_file_promises_impossible_delivery_guarantees() {
    let promise = ["exact", "ly once"].concat(); // split here as well
    check_texts(|text| {
        // With any hyphen, line break, or comment prefix in between.
        let words: Vec<&str> = text
            .split(|c: char| !c.is_alphanumeric())
            .filter(|w| !w.is_empty())
            .collect();
        let found = words
            .windows(2)
            .any(|pair| pair.join(" ").eq_ignore_ascii_case(&promise));
        found.then(|| promise.clone())
    });
}

#[test]
fn the_settings_file_names_every_environment_variable() {
    let known: BTreeSet<String> = variables()
        .into_iter()
        .map(|variable| variable.name.to_owned())
        .collect();
    let named: BTreeSet<String> = words(&read("deploy/revwatch.toml"), is_of_variable)
        .map(|word| word.strip_suffix("_FILE").unwrap_or(word).to_owned())
        .filter(|word| is_prefixed(word) && word != "REVWATCH_CONFIG")
        .collect();
    assert_eq!(
        named, known,
        "deploy/revwatch.toml against shared/runtime/src/config/variables.rs"
    );
}

#[test]
fn pages_name_settings_and_metrics_that_exist() {
    let Some(pages) = pages() else { return };
    let settings: BTreeSet<&str> = variables()
        .iter()
        .map(|variable| variable.name)
        .chain(["REVWATCH_CONFIG"])
        .chain(OF_OPENTELEMETRY)
        .collect();
    let families = Metrics::new();
    let metrics: BTreeSet<&str> = families
        .families()
        .iter()
        .map(|family| family.name.as_str())
        .collect();
    let prefixes = ["ingest", "worker", "alerting", "shared"];
    let mut faults = Vec::new();
    for page in pages {
        let text = read(&page);
        for word in words(&text, is_of_variable).filter(|word| is_prefixed(word)) {
            let name = word.strip_suffix("_FILE").unwrap_or(word);
            // A prefix, and variables of compose and of the tests.
            let is_other = word.ends_with('_')
                || word.starts_with("REVWATCH_SIMULATION_")
                || word.starts_with("REVWATCH_FUZZ_")
                || [
                    "REVWATCH_PUBLISH",
                    "REVWATCH_LONG_TESTS",
                    "REVWATCH_TEST_BINARY",
                ]
                .contains(&word);
            if !settings.contains(name) && !is_other {
                faults.push(format!("{page}: the variable {word}"));
            }
        }
        for word in words(&text, |c| c.is_ascii_lowercase() || c == '_') {
            let is_metric = word
                .strip_prefix("revwatch_")
                .is_some_and(|rest| !prefixes.contains(&rest));
            let is_known = metrics.contains(word)
                || known_suffix(word).is_some_and(|name| metrics.contains(name));
            // A prefix, and names of files.
            let is_other =
                word.ends_with('_') || ["revwatch_amqp_url", "revwatch_redis_url"].contains(&word);
            if is_metric && !is_known && !is_other {
                faults.push(format!("{page}: the metric {word}"));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "these do not exist:\n{}",
        faults.join("\n")
    );
}

#[test]
fn pages_name_files_that_exist() {
    let (Some(pages), Some(names)) = (pages(), tracked()) else {
        return;
    };
    // Pages may leave out the `src/` of a crate.
    let short = names
        .iter()
        .map(|name| format!("/{}", name.replace("/src/", "/")));
    let names: Vec<String> = names
        .iter()
        .map(|name| format!("/{name}"))
        .chain(short)
        .collect();
    let mut faults = Vec::new();
    for page in pages {
        let text = read(&page);
        let quoted = text.split('`').skip(1).step_by(2);
        for file in
            quoted.filter(|w| !w.starts_with(['/', '.']) && !w.contains([' ', ':', '\n', '*']))
        {
            let there = match file.strip_suffix('/') {
                Some(folder) => names
                    .iter()
                    .any(|name| name.contains(&format!("/{folder}/"))),
                None if [".rs", ".toml", ".md", ".yml", ".lua", ".sql"]
                    .iter()
                    .any(|end| file.ends_with(end)) =>
                {
                    names.iter().any(|name| name.ends_with(&format!("/{file}")))
                }
                None => continue,
            };
            if !there {
                faults.push(format!("{page}: {file}"));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "these files do not exist:\n{}",
        faults.join("\n")
    );
}

/// `tests/run` compares the same texts with the servers that it finds or unpacks.
#[test]
fn pages_name_the_versions_of_servers_that_are_tested() {
    let script = read("tests/debian.sh");
    let tested: Vec<&str> = script
        .lines()
        .filter_map(|line| line.strip_prefix("TESTED_")?.split_once('='))
        .map(|(_, versions)| versions.trim_matches('"'))
        .collect();
    assert_eq!(tested.len(), 2, "{tested:?}");
    let page = read("deploy/README.md");
    for versions in tested {
        assert!(
            page.contains(&format!("({versions})")),
            "deploy/README.md must say ({versions}), as tests/debian.sh does"
        );
    }
}

#[test]
fn links_of_pages_resolve() {
    let (Some(pages), Some(names)) = (pages(), tracked()) else {
        return;
    };
    let mut faults = Vec::new();
    for page in pages {
        let text = read(&page);
        let folder: Vec<&str> = page.split('/').rev().skip(1).collect();
        let links = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://") && !link.contains(' ')) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let mut path: Vec<&str> = folder.iter().rev().copied().collect();
            for part in file.split('/') {
                match part {
                    "" | "." => {}
                    ".." => drop(path.pop()),
                    part => path.push(part),
                }
            }
            let path = if file.is_empty() {
                page.clone()
            } else {
                path.join("/")
            };
            let is_there = names
                .iter()
                .any(|name| *name == path || name.starts_with(&format!("{path}/")));
            if !is_there
                || (!anchor.is_empty()
                    && !headings(&read(&path))
                        .iter()
                        .any(|heading| heading == anchor))
            {
                faults.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "these links lead nowhere:\n{}",
        faults.join("\n")
    );
}

/// The anchor of a heading.
fn headings(text: &str) -> Vec<String> {
    let mut is_code = false;
    let mut anchors = Vec::new();
    for line in text.lines() {
        is_code ^= line.starts_with("```");
        if let Some(heading) = line.strip_prefix('#').filter(|_| !is_code) {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = heading
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            anchors.push(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
        }
    }
    anchors
}

/// Pages for readers.
fn pages() -> Option<Vec<String>> {
    Some(
        tracked()?
            .into_iter()
            .filter(|name| name.ends_with(".md") && !name.starts_with("src/"))
            .collect(),
    )
}

/// Standard variables that are not settings of revwatch; `shared/runtime/src/config/otel.rs` reads them.
const OF_OPENTELEMETRY: [&str; 5] = [
    "OTEL_SDK_DISABLED",
    "OTEL_TRACES_EXPORTER",
    "OTEL_TRACES_SAMPLER",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
];

fn is_of_variable(c: char) -> bool {
    c.is_ascii_uppercase() || c == '_'
}

fn is_prefixed(word: &str) -> bool {
    let prefixes = [
        "REVWATCH_",
        "STRIPE_",
        "SLACK_",
        "SMTP_",
        "TWILIO_",
        "PAGERDUTY_",
        "OTEL_",
    ];
    prefixes.iter().any(|prefix| word.starts_with(prefix))
}

/// The histogram that a series belongs to.
fn known_suffix(word: &str) -> Option<&str> {
    ["_bucket", "_count", "_sum"]
        .iter()
        .find_map(|suffix| word.strip_suffix(suffix))
}

/// In comments of sources: a bare file name is in the same folder (or the module's own); a longer
/// path begins at the root.
#[test]
fn comments_name_sources_that_exist() {
    let Some(names) = tracked() else { return };
    let there = |name: &str| names.iter().any(|known| known == name);
    let mut faults = Vec::new();
    for source in names.iter().filter(|name| name.ends_with(".rs")) {
        let Ok(text) = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(source))
        else {
            continue;
        };
        let (folder, module) = (
            source.rsplit_once('/').map_or("", |(folder, _)| folder),
            source.trim_end_matches(".rs"),
        );
        for comment in text
            .lines()
            .filter(|line| line.trim_start().starts_with("//"))
        {
            let named = comment
                .split('`')
                .skip(1)
                .step_by(2)
                .filter(|word| word.ends_with(".rs") && !word.contains(' '));
            faults.extend(named.filter_map(|name| {
                let found = match name.contains('/') {
                    true => there(name),
                    false => {
                        there(&format!("{folder}/{name}")) || there(&format!("{module}/{name}"))
                    }
                };
                (!found).then(|| format!("{source} names {name}"))
            }));
        }
    }
    assert!(faults.is_empty(), "not there:\n{}", faults.join("\n"));
}

/// Visits every text file that is in git or not ignored by it.
fn check_texts(fault: impl Fn(&str) -> Option<String>) {
    let Some(names) = tracked() else { return };
    let mut faults = Vec::new();
    for name in names {
        // A file may be deleted but not committed yet; binary files are skipped.
        let Ok(text) = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&name))
        else {
            continue;
        };
        faults.extend(fault(&text).map(|what| format!("{name}: {what}")));
    }
    assert!(faults.is_empty(), "found in\n{}", faults.join("\n"));
}

/// The files in git or not ignored by it. `None`, with a message, if git cannot list them.
fn tracked() -> Option<Vec<String>> {
    let listed = Command::new("git")
        // In a container the files may belong to another user.
        .args([
            "-c",
            "safe.directory=*",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let Some(listed) = listed.ok().filter(|output| output.status.success()) else {
        eprintln!("skipped: this is not a git checkout, or git is not installed");
        return None;
    };
    let names = String::from_utf8(listed.stdout).expect("file names in UTF-8");
    let names: Vec<String> = names
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    assert!(
        names.iter().any(|name| name == "Cargo.toml"),
        "git lists the repository's files"
    );
    Some(names)
}

fn words(text: &str, of: impl Fn(char) -> bool) -> impl Iterator<Item = &str> {
    text.split(move |c: char| !of(c))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name))
        .expect("a file of the repository")
}

/// A person's terminal reads what commands print: one place makes foreign text harmless there.
#[test]
fn commands_print_through_one_place() {
    let Some(names) = tracked() else { return };
    let is_command = |name: &&String| name.starts_with("src/cli/") && name.ends_with(".rs");
    let commands = names.iter().filter(is_command);
    for source in commands.filter(|name| *name != "src/cli/output.rs") {
        let text = read(source);
        for direct in ["io::stdout", " println!", " print!"] {
            assert!(
                !text.contains(direct),
                "{source}: print through src/cli/output.rs"
            );
        }
    }
}
