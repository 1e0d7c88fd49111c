//! The command line of a program that runs one role. It has one option, so that it needs no more
//! than [`lexopt`]; the commands of `revwatch` itself use clap.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;

use lexopt::Arg::{Long, Short, Value};

use crate::config::closest_match;

/// The options of a program that runs one role.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RoleArguments {
    /// TOML file with settings; else the variable `REVWATCH_CONFIG` names it.
    pub config: Option<PathBuf>,
}

/// What a command line requests.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Run(RoleArguments),
    Help,
    Version,
}

const OPTIONS: [&str; 3] = ["config", "help", "version"];

const HELP: &str = "\
Options:
      --config <FILE>  TOML file with settings; environment variables override it. `revwatch config
                       print --defaults` lists all keys [env: REVWATCH_CONFIG]
  -h, --help           Print help
  -V, --version        Print version
";

impl RoleArguments {
    /// The options of this process. Prints help or the version and ends the process if the command
    /// line requests them, and ends it with status 2 if the command line is wrong.
    pub fn of_process(program: &str, about: &str) -> Self {
        let usage = format!("Usage: {program} [OPTIONS]");
        let answer = match parse(std::env::args_os().skip(1)) {
            Ok(Request::Run(arguments)) => {
                return arguments;
            }
            Ok(Request::Help) => format!("{about}\n\n{usage}\n\n{HELP}"),
            Ok(Request::Version) => format!("{program} {}\n", env!("CARGO_PKG_VERSION")),
            Err(error) => {
                let text =
                    format!("error: {error}\n\n{usage}\n\nFor more information, try '--help'.\n");
                let _ = io::stderr().write_all(text.as_bytes());
                std::process::exit(2);
            }
        };
        // The reader of a pipe may have ended.
        let _ = io::stdout().write_all(answer.as_bytes());
        std::process::exit(0);
    }
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, lexopt::Error> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut found = RoleArguments::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("config") if found.config.is_none() => found.config = Some(parser.value()?.into()),
            Long("config") => return Err("the option '--config' cannot be used twice".into()),
            Short('h') | Long("help") => return Ok(Request::Help),
            Short('V') | Long("version") => return Ok(Request::Version),
            Long(name) => {
                let hint = closest_match(name, OPTIONS.into_iter());
                let hint = hint.map(|option| format!("; did you mean '--{option}'?"));
                let hint = hint.unwrap_or_default();
                return Err(format!("unexpected option '--{name}'{hint}").into());
            }
            Short(_) | Value(_) => return Err(argument.unexpected()),
        }
    }
    Ok(Request::Run(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request, String> {
        parse(line.split_whitespace().map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_settings_file_help_and_version_are_options() {
        let run = |config: Option<&str>| {
            Ok(Request::Run(RoleArguments {
                config: config.map(PathBuf::from),
            }))
        };
        let table = [
            ("", run(None)),
            ("--config a.toml", run(Some("a.toml"))),
            ("--config=a.toml", run(Some("a.toml"))),
            ("--help", Ok(Request::Help)),
            ("-h", Ok(Request::Help)),
            ("--config a.toml --version", Ok(Request::Version)),
            ("-V", Ok(Request::Version)),
        ];
        for (line, expected) in table {
            assert_eq!(parsed(line), expected, "{line}");
        }
    }

    #[test]
    fn a_wrong_command_line_is_refused_with_the_reason() {
        let table = [
            (
                "--confg a.toml",
                "unexpected option '--confg'; did you mean '--config'?",
            ),
            ("--roles ingest", "unexpected option '--roles'"),
            ("--config", "missing argument for option '--config'"),
            (
                "--config a --config b",
                "the option '--config' cannot be used twice",
            ),
            ("-x", "invalid option '-x'"),
            ("serve", "unexpected argument \"serve\""),
        ];
        for (line, expected) in table {
            assert_eq!(parsed(line), Err(expected.to_owned()), "{line}");
        }
    }
}
