//! The reference pages equal the output of the program.

use std::path::Path;
use std::process::Command;

#[test]
fn reference_pages_are_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference");
    let mut commands = Vec::new();
    for page in ["commands", "settings", "metrics", "events"] {
        let output = Command::new(env!("CARGO_BIN_EXE_revwatch"))
            .args(["reference", page])
            .output()
            .expect("revwatch runs");
        assert!(
            output.status.success(),
            "revwatch reference {page}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let stored = std::fs::read(folder.join(format!("{page}.md"))).unwrap_or_default();
        if stored != output.stdout {
            commands.push(format!(
                "cargo run -- reference {page} > docs/reference/{page}.md"
            ));
        }
    }
    assert!(
        commands.is_empty(),
        "reference pages are out of date; run\n{}",
        commands.join("\n")
    );
}
