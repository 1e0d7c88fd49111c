//! `revwatch app verify`: judges events as the endpoint does.

use std::io::Write as _;

use anyhow::bail;
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use jiff::Timestamp;
use revwatch_core::app_event::{AppEvent, AppEventError};
use revwatch_core::neutral::line;
use serde_json::{Value, json};

use super::super::global_options::GlobalOptions;
use super::super::output;
use super::super::send::{events, read};

/// Options of `app verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// File of events, or - for standard input.
    file: String,
}

/// What one event is, or why it is refused.
enum Judged {
    /// Its type has a schema, and it is after that.
    Known(String),
    /// It is kept and changes nothing.
    Unknown(String),
    Refused(AppEventError),
}

pub(super) fn run(options: &GlobalOptions, args: &VerifyArgs) -> anyhow::Result<()> {
    let text = read(&args.file)?;
    let now_s = Timestamp::now().as_second();
    let events = events(&args.file, &text)?;
    let judged: Vec<_> = events.iter().map(|event| judge(event, now_s)).collect();
    let refused = judged.iter().filter(|it| matches!(it, Judged::Refused(_)));
    let refused = refused.count();
    let mut out = output::stdout();
    if options.json {
        let all: Vec<Value> = judged.iter().map(Judged::json).collect();
        writeln!(out, "{}", json!({ "events": all }))?;
    } else {
        let mut table = Table::new();
        table
            .load_style(UTF8_BORDERS_ONLY)
            .set_header(["event", "type", "result"]);
        for (number, judged) in (1..).zip(&judged) {
            let [kind, result] = judged.row();
            table.add_row([
                number.to_string(),
                line(&kind).into_owned(),
                line(&result).into_owned(),
            ]);
        }
        writeln!(out, "{table}")?;
    }
    match refused {
        0 => Ok(()),
        refused => bail!("{refused} of {} events would be refused", events.len()),
    }
}

/// The default of `limits.body_bytes`.
const MAX_BYTES: usize = 512 * 1024;

fn judge(event: &str, now_s: i64) -> Judged {
    if event.len() > MAX_BYTES {
        return Judged::Refused(AppEventError {
            pointer: String::new(),
            what: format!("is larger than {MAX_BYTES} bytes (limits.body_bytes)"),
        });
    }
    let event = match AppEvent::parse(event.as_bytes()) {
        Ok(event) => event,
        Err(error) => return Judged::Refused(error),
    };
    match (event.check_time(now_s), event.subject) {
        (Err(error), _) => Judged::Refused(error),
        (Ok(()), Some(_)) => Judged::Known(event.kind.into_owned()),
        (Ok(()), None) => Judged::Unknown(event.kind.into_owned()),
    }
}

impl Judged {
    fn row(&self) -> [String; 2] {
        match self {
            Self::Known(kind) => [kind.clone(), "ok".to_owned()],
            Self::Unknown(kind) => {
                let what = "kept, but it has no schema and changes nothing".to_owned();
                [kind.clone(), what]
            }
            Self::Refused(error) => [String::new(), format!("refused: {error}")],
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Known(kind) => json!({"type": kind, "known": true, "error": null}),
            Self::Unknown(kind) => json!({"type": kind, "known": false, "error": null}),
            Self::Refused(error) => {
                let error = json!({"pointer": error.pointer, "message": error.to_string()});
                json!({"type": null, "known": null, "error": error})
            }
        }
    }
}
