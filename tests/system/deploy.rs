//! Checks the files in `deploy/` for containers, clusters and systemd without running any of them,
//! and with the tools that are installed here (systemd-analyze, kubectl, docker).

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::Deployment;
use crate::support::revwatch::{Revwatch, cli};

/// `systemd-analyze security` rates exposure from 0 (safe) to 10; this is in tenths.
const EXPOSURE: &str = "20";

#[test]
fn every_referenced_file_and_setting_exists() {
    let output = deploy_py(Path::new("/usr/bin/python3"), &[]);
    assert!(output.status.success(), "{}", text_of(&output));
}

/// Uses the Kubernetes schemas that `tests/run` installs from PyPI.
#[test]
fn manifests_conform_to_the_kubernetes_schemas() {
    let python = target().join("kubernetes-validate/bin/python");
    assert!(
        python.exists(),
        "{} is missing: tests/run makes it",
        python.display()
    );
    let output = deploy_py(&python, &[]);
    assert!(output.status.success(), "{}", text_of(&output));
    for folder in ["base", "overlays/example"] {
        let Ok(rendered) = Command::new("kubectl")
            .arg("kustomize")
            .arg(root().join("deploy/kubernetes").join(folder))
            .output()
        else {
            eprintln!("skipped: kustomize output (kubectl is not installed)");
            return;
        };
        assert!(
            rendered.status.success(),
            "{folder}: {}",
            text_of(&rendered)
        );
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), &rendered.stdout).expect("written");
        let output = deploy_py(&python, &["--rendered", &file.path().display().to_string()]);
        assert!(output.status.success(), "{folder}: {}", text_of(&output));
    }
}

#[test]
fn systemd_accepts_the_units_and_rates_their_exposure_low() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut units = Vec::new();
    for entry in std::fs::read_dir(root().join("deploy/systemd")).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|end| end == "service") {
            // The paths of the installation do not exist on this machine.
            let text = std::fs::read_to_string(&path).expect("text");
            assert!(
                text.contains("ExecStart=/usr/local/bin/revwatch serve"),
                "{}",
                path.display()
            );
            let text = text.replace("/usr/local/bin/revwatch", env!("CARGO_BIN_EXE_revwatch"));
            let copy = folder.path().join(path.file_name().expect("a name"));
            std::fs::write(&copy, text).expect("written");
            units.push(copy);
        }
    }
    assert_eq!(units.len(), 4);
    let Ok(verified) = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(&units)
        .output()
    else {
        eprintln!("skipped: units (systemd-analyze is not installed)");
        return;
    };
    // The output covers other units of this machine, too.
    let ours: Vec<String> = text_of(&verified)
        .lines()
        .filter(|l| l.contains("revwatch"))
        .map(str::to_owned)
        .collect();
    assert!(ours.is_empty(), "{ours:?}");
    for unit in units {
        let threshold = format!("--threshold={EXPOSURE}");
        let judged = Command::new("systemd-analyze")
            .args(["security", "--offline=true", &threshold])
            .arg(&unit)
            .output();
        let judged = judged.expect("the tool was found above");
        assert!(
            judged.status.success(),
            "{}: {}",
            unit.display(),
            text_of(&judged)
        );
    }
}

#[test]
fn docker_reads_the_compose_file() {
    let file = root().join("deploy/compose/compose.yml");
    let docker = |args: &[&str]| Command::new("docker").arg("compose").args(args).output();
    if !docker(&["version"]).is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: the compose file (docker compose is not installed)");
        return;
    }
    let output = docker(&["-f", &file.display().to_string(), "config", "--quiet"])
        .expect("the tool was found above");
    assert!(output.status.success(), "{}", text_of(&output));
}

/// The health check of the containers.
#[test]
fn health_reports_the_readiness_of_the_local_process() {
    let deployment = Deployment::embedded();
    let variables = deployment.variables(&[]);
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    let address = process.admin("").trim_start_matches("http://").to_owned();
    let asked = [variables, vec![("REVWATCH_ADMIN_LISTEN".into(), address)]].concat();
    let ready = || cli(&asked, &["health"]).status.success().then_some(());
    crate::support::wait::until_blocking("it is ready", ready);
    let output = cli(&asked, &["health", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["ready"], true, "{report}");
    process.stop();
    let output = cli(&asked, &["health"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text_of(&output).contains("does not respond"),
        "{}",
        text_of(&output)
    );
}

fn deploy_py(python: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(python);
    command
        .arg("-B")
        .arg(root().join("tests/support/deploy.py"))
        .arg(root())
        .args(more);
    command
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", python.display()))
}

fn text_of(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|out| String::from_utf8_lossy(out).into_owned())
        .concat()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("the target folder")
        .to_owned()
}
