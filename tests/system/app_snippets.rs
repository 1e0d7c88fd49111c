//! What docs/application.md tells developers to write, run as it stands there: with the official libraries of Standard
//! Webhooks, and without one.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use revwatch_core::standard_webhooks::StandardKey;

use super::Deployment;
use crate::support::revwatch::{Revwatch, metrics};
use crate::support::wait::until;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const PAGE: &str = include_str!("../../docs/application.md");

/// The code of this language on the page.
fn snippet(language: &str) -> &'static str {
    let begin = format!("```{language}\n");
    let after = PAGE.split(&begin).skip(1);
    let mut blocks = after.filter_map(|after| after.split("```").next());
    let of_sender = blocks.find(|block| block.contains("EVENTS_URL"));
    of_sender.expect(language)
}

/// The folder with the libraries: `tests/run` makes it.
fn libraries() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("standard-webhooks");
    assert!(
        folder.exists(),
        "{} is missing: run tests/run once",
        folder.display()
    );
    folder
}

fn run(command: &mut Command, url: &str) -> Output {
    command
        .env("EVENTS_URL", url)
        .env("REVWATCH_APP_WEBHOOK_SECRET", SECRET)
        .env("NO_PROXY", "127.0.0.1");
    command.output().expect("it starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_snippet_is_accepted_as_it_stands() {
    let libraries = libraries();
    let deployment = Deployment::embedded();
    let variables = deployment.variables(&[("REVWATCH_APP_WEBHOOK_SECRET", SECRET)]);
    let process = Revwatch::serve(&variables, "ingest,worker");
    let url = process.url("/webhooks/app");
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", snippet("sh")]);
    let mut python = Command::new(libraries.join("bin/python"));
    python.args(["-c", snippet("python")]);
    let mut node = Command::new(libraries.join("bin/node"));
    node.args(["-e", snippet("js")])
        .current_dir(libraries.join("node"));
    for (language, mut command) in [("sh", shell), ("python", python), ("js", node)] {
        let output = run(&mut command, &url);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success() && printed.contains("stored"),
            "{language}: {printed}{error}"
        );
    }
    until("all are applied", || async {
        (metrics(&variables)["events_applied"] == 3).then_some(())
    })
    .await;
    process.stop();
}

/// Both libraries sign good and bad cases as this program judges them.
#[test]
fn the_official_libraries_sign_alike() {
    let libraries = libraries();
    let body = r#"{"a":"é\u2028"}"#;
    let python = "import sys, datetime; from standardwebhooks import Webhook; \
        print(Webhook(sys.argv[1]).sign('msg_1', datetime.datetime.fromtimestamp(1700000000, datetime.timezone.utc), sys.argv[2]))";
    let node = "const { Webhook } = require('standardwebhooks'); \
        console.log(new Webhook(process.argv[1]).sign('msg_1', new Date(1700000000000), process.argv[2]))";
    for secret in [SECRET, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"] {
        let key = StandardKey::new(secret).expect("a secret");
        let expected = key.sign("msg_1", 1_700_000_000, body.as_bytes());
        let mut of_python = Command::new(libraries.join("bin/python"));
        of_python.args(["-c", python, secret, body]);
        let mut of_node = Command::new(libraries.join("bin/node"));
        of_node
            .args(["-e", node, secret, body])
            .current_dir(libraries.join("node"));
        for mut command in [of_python, of_node] {
            let output = command.output().expect("it starts");
            let printed = String::from_utf8_lossy(&output.stdout);
            assert_eq!(
                printed.trim(),
                expected,
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}
