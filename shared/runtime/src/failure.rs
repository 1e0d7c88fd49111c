//! How a program ends after an error.

use std::error::Error;
use std::process::ExitCode;

use revwatch_core::neutral;

use crate::telemetry::{finish_log, write_log};

/// The status with which a program ends; an error goes to standard error, after the log.
pub fn exit_code(program: &str, result: Result<(), impl AsRef<dyn Error>>) -> ExitCode {
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            write_log(format!("{program}: {}\n", text(error.as_ref())).as_bytes());
            ExitCode::FAILURE
        }
    };
    finish_log();
    code
}

/// The error with its causes, as a terminal may show it. Many errors name their cause themselves: it is not repeated.
fn text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let what = inner.to_string();
        if !text.contains(&what) {
            text = format!("{text}: {what}");
        }
        cause = inner.source();
    }
    neutral::lines(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Failure {
        #[error("cannot read x: {0}")]
        Names(#[source] std::io::Error),
        #[error("cannot read x")]
        Hides(#[source] std::io::Error),
        #[error("the rules")]
        Outer(#[source] Box<Failure>),
    }

    #[test]
    fn an_error_does_not_control_the_terminal() {
        let error = std::io::Error::other("no sub_1\u{1b}[2J");
        assert_eq!(text(&error), "no sub_1\\u001b[2J");
    }

    #[test]
    fn each_cause_is_named_once() {
        let cause = || std::io::Error::other("no such file");
        for failure in [Failure::Names(cause()), Failure::Hides(cause())] {
            assert_eq!(text(&failure), "cannot read x: no such file");
            let outer = Failure::Outer(Box::new(failure));
            assert_eq!(text(&outer), "the rules: cannot read x: no such file");
        }
    }
}
