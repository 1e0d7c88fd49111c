//! Rules about the repository as a whole.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// The crates of one role each. They meet in the root package and nowhere else.
const ROLES: [&str; 3] = ["ingest", "worker", "alerting"];

#[test]
fn roles_do_not_depend_on_each_other_nor_shared_on_them() {
    for package in ROLES.iter().chain(&["shared"]) {
        let manifest = read(&format!("{package}/Cargo.toml"));
        for role in ROLES.iter().filter(|role| *role != package) {
            let found = [format!("revwatch-{role}"), format!("../{role}")].into_iter().find(|s| manifest.contains(s));
            assert_eq!(found, None, "{package}/Cargo.toml must not depend on the role {role}");
        }
    }
}

#[test]
fn event_types_are_sorted_and_unique() {
    let text = read("shared/src/event_types.txt");
    let types: Vec<&str> = text.lines().collect();
    assert!(types.len() > 200, "only {} types", types.len());
    for pair in types.windows(2) {
        assert!(pair[0] < pair[1], "{:?} and {:?} are out of order or the same", pair[0], pair[1]);
    }
}

#[test]
fn nothing_speaks_of_one_persons_machine() {
    // Written in halves, so that this file is not its own fault.
    let places = ["work", "tmp/w", "home", "root", "Users"].map(|folder| format!("/{folder}/"));
    check_texts(|text| {
        let begins_a_path = |at: usize| !text[..at].ends_with(|c: char| c.is_alphanumeric() || "./-_}~".contains(c));
        places.iter().find(|place| text.match_indices(*place).any(|(at, _)| begins_a_path(at))).cloned()
    });
}

/// Between two machines nobody can promise it. Say "at least once", and what makes it look like once.
#[test]
fn nothing_promises_what_nobody_can_keep() {
    let promise = ["exact", "ly once"].concat(); // in halves here, too
    check_texts(|text| {
        // However it is hyphenated, wrapped, or broken over lines of a comment.
        let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
        let found = words.windows(2).any(|pair| pair.join(" ").eq_ignore_ascii_case(&promise));
        found.then(|| promise.clone())
    });
}

#[test]
fn the_readme_names_the_settings_and_metrics_there_are() {
    let readme = read("README.md");
    let settings = |text: &str| {
        let prefixes = ["REVWATCH_", "STRIPE_", "SLACK_"];
        words(text, |c| c.is_ascii_uppercase() || c == '_')
            .filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix)))
            .map(|word| word.strip_suffix("_FILE").unwrap_or(word).to_owned())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(settings(&readme), settings(&read("deploy/revwatch.toml")));
    let metrics = |text: &str| {
        let metric = |c: char| c.is_ascii_lowercase() || c == '_';
        words(text, metric).filter(|word| word.starts_with("revwatch_")).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    assert_eq!(metrics(&readme), metrics(&read("shared/src/telemetry/metrics.rs")));
}

#[test]
fn pages_name_files_that_are_there() {
    let Some(names) = tracked() else { return };
    // Pages leave out the `src/` of each crate.
    let names: Vec<String> = names.iter().map(|name| format!("/{}", name.replace("/src/", "/"))).collect();
    for page in [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "deploy/README.md",
        "docs/alerting.md",
        "docs/performance.md",
        "docs/rules.md",
        "docs/runbooks.md",
    ] {
        let text = read(page);
        let quoted = text.split('`').skip(1).step_by(2);
        let linked = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for file in quoted.chain(linked).filter(|w| !w.starts_with(['/', '.']) && !w.contains([' ', ':', '\n', '*'])) {
            let there = match file.strip_suffix('/') {
                Some(folder) => names.iter().any(|name| name.contains(&format!("/{folder}/"))),
                None if [".rs", ".toml", ".md"].iter().any(|end| file.ends_with(end)) => {
                    names.iter().any(|name| name.ends_with(&format!("/{file}")))
                }
                None => continue,
            };
            assert!(there, "{page} names {file}, which is not there");
        }
    }
}

/// In comments of sources: a name alone is of the same folder (or the module's own), anything longer begins at the root.
#[test]
fn comments_name_sources_that_are_there() {
    let Some(names) = tracked() else { return };
    let there = |name: &str| names.iter().any(|known| known == name);
    let mut faults = Vec::new();
    for source in names.iter().filter(|name| name.ends_with(".rs")) {
        let Ok(text) = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(source)) else { continue };
        let (folder, module) = (source.rsplit_once('/').map_or("", |(folder, _)| folder), source.trim_end_matches(".rs"));
        for comment in text.lines().filter(|line| line.trim_start().starts_with("//")) {
            let named = comment.split('`').skip(1).step_by(2).filter(|word| word.ends_with(".rs") && !word.contains(' '));
            faults.extend(named.filter_map(|name| {
                let found = match name.contains('/') {
                    true => there(name),
                    false => there(&format!("{folder}/{name}")) || there(&format!("{module}/{name}")),
                };
                (!found).then(|| format!("{source} names {name}"))
            }));
        }
    }
    assert!(faults.is_empty(), "not there:\n{}", faults.join("\n"));
}

/// Looks at every text that is, or is about to be, in git.
fn check_texts(fault: impl Fn(&str) -> Option<String>) {
    let Some(names) = tracked() else { return };
    let mut faults = Vec::new();
    for name in names {
        // A file may be deleted and not yet committed; what is no text is no prose.
        let Ok(text) = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&name)) else { continue };
        faults.extend(fault(&text).map(|what| format!("{name}: {what}")));
    }
    assert!(faults.is_empty(), "found in\n{}", faults.join("\n"));
}

/// What is, or is about to be, in git. `None`, and a word about it, where nobody can tell.
fn tracked() -> Option<Vec<String>> {
    let listed = Command::new("git")
        // In a container the files may belong to somebody else.
        .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let Some(listed) = listed.ok().filter(|output| output.status.success()) else {
        eprintln!("not looked at: this is not a git checkout, or git is not installed");
        return None;
    };
    let names = String::from_utf8(listed.stdout).expect("file names in UTF-8");
    let names: Vec<String> = names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    assert!(names.iter().any(|name| name == "Cargo.toml"), "git lists the repository's files");
    Some(names)
}

fn words(text: &str, of: impl Fn(char) -> bool) -> impl Iterator<Item = &str> {
    text.split(move |c: char| !of(c))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("a file of the repository")
}
