//! What Slack posts when a button is pressed.

use revwatch_alerting::alert::{Command, CommandKind};
use revwatch_alerting::slack_actions::payload::{commands, in_form};
use revwatch_alerting::slack_actions::signature::{TOLERANCE_S, keys, verify};

use crate::NOW_S;

/// The body of a request: a form with a payload, or a payload alone, for the sake of mutations.
///
/// The same payload gives the same commands. A command is stored as it is read, its author is one line, and a silence
/// ends within a bound.
pub fn slack(data: &[u8]) {
    signed(data);
    if let Some(payload) = in_form(data) {
        interact(&payload);
    }
    if let Ok(payload) = std::str::from_utf8(data) {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        let form = form.append_pair("payload", payload).finish();
        assert_eq!(in_form(form.as_bytes()).as_deref(), Some(payload), "{form}");
        interact(payload);
    }
}

fn interact(payload: &str) {
    let first = commands(payload, NOW_S);
    assert_eq!(
        first,
        commands(payload, NOW_S),
        "the same payload, other commands"
    );
    let Ok(interaction) = first else { return };
    for requested in interaction.requested {
        let stored = serde_json::to_string(&requested.command).expect("JSON");
        let read: Command = serde_json::from_str(&stored).expect("a command");
        assert_eq!(read, requested.command);
        assert!(!read.by.contains(char::is_control), "{:?}", read.by);
        if let CommandKind::Silence(silence) = read.kind {
            let seconds = silence.until_s - silence.from_s;
            assert!((1..=366 * 86_400).contains(&seconds), "{seconds} s");
        }
    }
}

/// A signature is right for its own body and time alone.
fn signed(body: &[u8]) {
    let keys = keys("secret of the fuzzer").expect("a secret");
    let time = NOW_S.to_string();
    let tag = format!(
        "v0={}",
        keys[0].sign(&[b"v0:", time.as_bytes(), b":", body])
    );
    let check = |time: &[u8], tag: &[u8], body: &[u8], now_s| {
        verify(&keys, Some(time), Some(tag), body, now_s).is_ok()
    };
    let (time, tag) = (time.as_bytes(), tag.as_bytes());
    assert!(check(time, tag, body, NOW_S + TOLERANCE_S));
    assert!(!check(time, tag, body, NOW_S + TOLERANCE_S + 1));
    assert!(!check(time, tag, &[body, b"x"].concat(), NOW_S));
    // Headers may hold anything.
    assert!(!check(body, tag, body, NOW_S));
    assert!(!check(time, body, body, NOW_S));
}
