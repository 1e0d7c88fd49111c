//! Rules about the repository as a whole.

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

/// Looks at every text that is, or is about to be, in git.
fn check_texts(fault: impl Fn(&str) -> Option<String>) {
    let listed = Command::new("git")
        // In a container the files may belong to somebody else.
        .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let Some(listed) = listed.ok().filter(|output| output.status.success()) else {
        eprintln!("not looked at: this is not a git checkout, or git is not installed");
        return;
    };
    let names = String::from_utf8(listed.stdout).expect("file names in UTF-8");
    let names: Vec<&str> = names.split('\0').filter(|name| !name.is_empty()).collect();
    assert!(names.contains(&"Cargo.toml"), "git lists the repository's files");
    let mut faults = Vec::new();
    for name in names {
        // A file may be deleted and not yet committed; what is no text is no prose.
        let Ok(text) = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)) else { continue };
        faults.extend(fault(&text).map(|what| format!("{name}: {what}")));
    }
    assert!(faults.is_empty(), "found in\n{}", faults.join("\n"));
}

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("a file of the repository")
}
