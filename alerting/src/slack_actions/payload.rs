//! Translates interactions into commands for the evaluator. Pure.
//!
//! Slack reports an interaction with a `block_actions` payload, the same over HTTP and over Socket
//! Mode. Sources: <https://docs.slack.dev/reference/interaction-payloads/block_actions-payload>,
//! <https://docs.slack.dev/interactivity/handling-user-interaction>.
//!
//! | `action_id` | value | effect |
//! |---|---|---|
//! | `acknowledge` | the alert's id | [`CommandKind::Acknowledge`] |
//! | `silence`, `silence_…` | the alert's id, a space, seconds | [`CommandKind::Silence`] |
//! | `open` | any | none: the button is a link, but Slack reports it too |
//!
//! Several silence buttons in one block need the longer form: Slack requires each `action_id` of a
//! block to be unique (<https://docs.slack.dev/reference/block-kit/block-elements/button-element>).
//!
//! Invariant: the same payload yields the same keys and the same silences, however often it
//! arrives.

use std::borrow::Cow;

use revwatch_core::redact;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::alert::{Command, CommandKind, Matcher, Silence};

/// The content of one payload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interaction {
    /// Requested commands, in the order of the actions.
    pub requested: Vec<RequestedAction>,
    /// Actions that request nothing from us.
    pub ignored: Vec<Ignored>,
}

/// A command and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedAction {
    /// The same for the same interaction, so that a repeat replaces it.
    pub key: String,
    /// Slack's id of the user, for the log.
    pub user_id: String,
    /// The alert it refers to.
    pub alert_id: String,
    /// The command for the evaluator.
    pub command: Command,
}

/// An action that requests nothing from us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// One of a bounded set, for the log.
    pub reason: &'static str,
    /// Slack's value, shortened.
    pub action_id: String,
}

/// The payload contains no action on one of our messages.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PayloadError {
    /// Not JSON, or not the documented form.
    #[error(
        "the payload is unreadable at line {line}, column {column}: it is not what Slack documents for block_actions"
    )]
    Unreadable {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// Another payload type that Slack can send.
    #[error(
        "the payload is of type {0:?}, and only block_actions is expected: turn the others off in the app's settings"
    )]
    Type(String),
}

/// A mistyped silence must not last for years.
const MAX_SILENCE_S: i64 = 366 * 86_400;
const MAX_NAME_CHARS: usize = 80;

/// The payload in a form as Slack posts it; `None` if the body is no such form.
pub fn in_form(body: &[u8]) -> Option<Cow<'_, str>> {
    let mut fields = url::form_urlencoded::parse(body);
    let (_, payload) = fields.find(|(name, _)| name == "payload")?;
    Some(payload)
}

/// Reads a payload.
pub fn commands(payload: &str, now_s: i64) -> Result<Interaction, PayloadError> {
    let Kind { r#type } = read(payload)?;
    if r#type != "block_actions" {
        return Err(PayloadError::Type(redact::kind(&r#type).into_owned()));
    }
    let Payload { user, actions } = read(payload)?;
    let mut interaction = Interaction::default();
    for action in &actions {
        match request(action, &user, now_s) {
            Ok(requested) => interaction.requested.push(requested),
            Err(reason) => interaction.ignored.push(Ignored {
                reason,
                action_id: shorten(&action.action_id),
            }),
        }
    }
    Ok(interaction)
}

#[derive(Deserialize)]
struct Kind {
    r#type: String,
}

#[derive(Deserialize)]
struct Payload {
    user: User,
    actions: Vec<Action>,
}

#[derive(Deserialize)]
struct User {
    id: String,
    username: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Action {
    action_id: String,
    action_ts: String,
    /// The value of a button.
    value: Option<String>,
    /// The choice in a menu; `null` if the choice was cleared.
    selected_option: Option<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    value: String,
}

/// The error is the reason for ignoring the action.
fn request(action: &Action, user: &User, now_s: i64) -> Result<RequestedAction, &'static str> {
    let Action {
        action_id,
        action_ts,
        value,
        selected_option,
    } = action;
    let value = selected_option
        .as_ref()
        .map(|choice| &choice.value)
        .or(value.as_ref());
    let by = user.name();
    let at_s = pressed_s(action_ts, now_s).unwrap_or(now_s);
    let (alert_id, kind) = match action_id
        .split_once('_')
        .map_or(action_id.as_str(), |(word, _)| word)
    {
        "acknowledge" => {
            let alert_id = alert_id(value.ok_or("no_value")?)?;
            (
                alert_id,
                CommandKind::Acknowledge {
                    alert_id: alert_id.to_owned(),
                },
            )
        }
        "silence" => {
            let (alert_id, seconds) = alert_and_seconds(value.ok_or("no_value")?)?;
            let silence = Silence {
                id: format!("si_{}", digest(&[alert_id, &user.id, action_ts], 8)),
                matches: Matcher {
                    alert_id: Some(alert_id.to_owned()),
                    ..Matcher::default()
                },
                from_s: at_s,
                until_s: at_s.saturating_add(seconds),
                ahead_until_s: None,
                reason: format!("silenced from Slack by {by}"),
                by: by.clone(),
            };
            (alert_id, CommandKind::Silence(silence))
        }
        "open" => return Err("link"),
        _ => return Err("unknown_action"),
    };
    Ok(RequestedAction {
        key: format!(
            "slack_{}",
            digest(&[action_ts, &user.id, action_id, alert_id], 16)
        ),
        user_id: shorten(&user.id),
        alert_id: alert_id.to_owned(),
        command: Command {
            kind,
            by,
            via: "slack".to_owned(),
            at_s,
        },
    })
}

/// The time of the interaction, so that a repeat has the same. A time ahead of our clock is not used.
fn pressed_s(action_ts: &str, now_s: i64) -> Option<i64> {
    let seconds = action_ts.split('.').next()?.parse().ok()?;
    (0..=now_s).contains(&seconds).then_some(seconds)
}

/// The alert to silence, and for how long.
fn alert_and_seconds(value: &str) -> Result<(&str, i64), &'static str> {
    let (alert, seconds) = value.split_once(' ').ok_or("no_time")?;
    let alert_id = alert_id(alert)?;
    let seconds = seconds.parse().map_err(|_| "no_time")?;
    if !(1..=MAX_SILENCE_S).contains(&seconds) {
        return Err("no_time");
    }
    Ok((alert_id, seconds))
}

impl User {
    /// The name by which people know the user; the id if Slack sends no name.
    fn name(&self) -> String {
        let names = [&self.name, &self.username]
            .into_iter()
            .flatten()
            .map(|name| name.trim());
        shorten(
            names
                .chain([self.id.as_str()])
                .find(|name| !name.is_empty())
                .unwrap_or("unknown"),
        )
    }
}

/// We write these values and Slack signs them, but another holder of the app's token could post
/// others.
fn alert_id(value: &str) -> Result<&str, &'static str> {
    let rest = value
        .strip_prefix("al_")
        .filter(|rest| !rest.is_empty() && value.len() <= MAX_NAME_CHARS);
    let fits =
        rest.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
    if fits { Ok(value) } else { Err("not_an_alert") }
}

/// Each part is written with its length, so that none can extend into the next.
fn digest(parts: &[&str], bytes: usize) -> String {
    let text: String = parts
        .iter()
        .map(|part| format!("{} {part}\n", part.len()))
        .collect();
    hex::encode(&Sha256::digest(text)[..bytes])
}

fn shorten(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(MAX_NAME_CHARS)
        .collect()
}

/// The error names the position and quotes nothing.
fn read<'a, T: Deserialize<'a>>(payload: &'a str) -> Result<T, PayloadError> {
    serde_json::from_str(payload).map_err(|e| PayloadError::Unreadable {
        line: e.line(),
        column: e.column(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW_S: i64 = 1_767_326_140;

    /// A payload as Slack sends it, with more fields than we read.
    fn payload(user: &Value, actions: &Value) -> String {
        json!({
            "type": "block_actions",
            "user": user,
            "api_app_id": "A0123456789",
            "token": "xAbCdEfGhIjKlMnOpQrStUvW",
            "container": {"type": "message", "message_ts": "1767326126.896109", "channel_id": "C0123456789", "is_ephemeral": false},
            "trigger_id": "10215325802133.3901254001572.2e2548aa918b35fd85829545c2d4ae2b",
            "team": {"id": "T0123456789", "domain": "example"},
            "enterprise": null,
            "is_enterprise_install": false,
            "channel": {"id": "C0123456789", "name": "alerts-critical"},
            "message": {"user": "U0BOT000000", "type": "message", "ts": "1767326126.896109", "bot_id": "B0123456789", "text": "Payouts fail", "blocks": []},
            "state": {"values": {}},
            "response_url": "https://hooks.slack.com/actions/T0123456789/1/x",
            "actions": actions,
        })
        .to_string()
    }

    fn ana() -> Value {
        json!({"id": "U0123456789", "username": "ana.silva", "name": "ana", "team_id": "T0123456789"})
    }

    fn button(action_id: &str, value: &str) -> Value {
        json!({
            "action_id": action_id, "block_id": "P0z+f", "type": "button", "value": value, "style": "primary",
            "text": {"type": "plain_text", "text": "…", "emoji": true}, "action_ts": "1767326130.289415",
        })
    }

    fn menu(value: &str) -> Value {
        json!({
            "action_id": "silence", "block_id": "P0z+f", "type": "static_select", "action_ts": "1767326130.289415",
            "selected_option": {"text": {"type": "plain_text", "text": "4 h", "emoji": true}, "value": value},
            "placeholder": {"type": "plain_text", "text": "Silence", "emoji": true},
        })
    }

    fn one(action: &Value) -> Result<RequestedAction, &'static str> {
        let Interaction {
            mut requested,
            ignored,
        } = commands(&payload(&ana(), &json!([action])), NOW_S).expect("read");
        assert_eq!(requested.len() + ignored.len(), 1);
        requested.pop().ok_or_else(|| ignored[0].reason)
    }

    #[test]
    fn an_interaction_becomes_a_command() {
        let acknowledged = one(&button("acknowledge", "al_1")).expect("a command");
        assert_eq!(
            (
                acknowledged.alert_id.as_str(),
                acknowledged.user_id.as_str()
            ),
            ("al_1", "U0123456789")
        );
        assert!(
            acknowledged.key.starts_with("slack_") && acknowledged.key.len() == 38,
            "{}",
            acknowledged.key
        );
        let expected = Command {
            kind: CommandKind::Acknowledge {
                alert_id: "al_1".into(),
            },
            by: "ana".into(),
            via: "slack".into(),
            at_s: 1_767_326_130,
        };
        assert_eq!(acknowledged.command, expected);
        for action in [
            menu("al_1 14400"),
            button("silence", "al_1 14400"),
            button("silence_4h", "al_1 14400"),
        ] {
            let requested = one(&action).expect("a command");
            let CommandKind::Silence(silence) = requested.command.kind else {
                panic!("{requested:?}")
            };
            assert_eq!(
                (silence.from_s, silence.until_s),
                (1_767_326_130, 1_767_340_530)
            );
            assert_eq!(
                (silence.reason.as_str(), silence.by.as_str()),
                ("silenced from Slack by ana", "ana")
            );
            assert_eq!(
                silence.matches,
                Matcher {
                    alert_id: Some("al_1".into()),
                    ..Matcher::default()
                }
            );
            assert!(
                silence.id.starts_with("si_") && silence.id.len() == 19,
                "{}",
                silence.id
            );
        }
    }

    #[test]
    fn an_action_without_a_request_is_ignored_with_a_reason() {
        let mut nothing = menu("");
        nothing["selected_option"] = Value::Null;
        for (action, expected) in [
            (button("open", "al_1"), "link"),
            (button("resolve", "al_1"), "unknown_action"),
            (button("", ""), "unknown_action"),
            (button("acknowledge", ""), "not_an_alert"),
            (button("acknowledge", "al_"), "not_an_alert"),
            (button("acknowledge", "al_1 2"), "not_an_alert"),
            (button("acknowledge", "in_1"), "not_an_alert"),
            (
                button("acknowledge", &format!("al_{}", "1".repeat(100))),
                "not_an_alert",
            ),
            (menu("al_1"), "no_time"),
            (menu("al_1 "), "no_time"),
            (menu("al_1 0"), "no_time"),
            (menu("al_1 -5"), "no_time"),
            (menu("al_1 99999999999"), "no_time"),
            (menu("al_1 4h"), "no_time"),
            (menu("x 60"), "not_an_alert"),
            (nothing, "no_value"),
        ] {
            assert_eq!(one(&action), Err(expected), "{action}");
        }
        let both = json!([button("open", ""), button("acknowledge", "al_1")]);
        let Interaction { requested, ignored } =
            commands(&payload(&ana(), &both), NOW_S).expect("read");
        assert_eq!(
            (requested.len(), ignored),
            (
                1,
                vec![Ignored {
                    reason: "link",
                    action_id: "open".into()
                }]
            )
        );
    }

    #[test]
    fn a_repeat_has_the_same_key_and_another_interaction_has_its_own() {
        let press = |action: &Value, user: &Value, now_s| {
            let mut requested = commands(&payload(user, &json!([action])), now_s)
                .expect("read")
                .requested;
            requested.pop().expect("a command")
        };
        let (first, ana) = (menu("al_1 60"), ana());
        assert_eq!(press(&first, &ana, NOW_S), press(&first, &ana, NOW_S + 200));
        let mut later = first.clone();
        later["action_ts"] = "1767326131.000000".into();
        let others = [
            press(&later, &ana, NOW_S),
            press(&menu("al_2 60"), &ana, NOW_S),
            press(&first, &json!({"id": "U2"}), NOW_S),
        ];
        let id = |requested: &RequestedAction| match &requested.command.kind {
            CommandKind::Silence(silence) => silence.id.clone(),
            other => panic!("{other:?}"),
        };
        let first = press(&first, &ana, NOW_S);
        for other in &others {
            assert!(
                other.key != first.key && id(other) != id(&first),
                "{other:?}"
            );
        }
    }

    #[test]
    fn implausible_times_are_replaced_by_ours() {
        for action_ts in ["", "soon", "-5.0", "9999999999.000000"] {
            let mut action = menu("al_1 60");
            action["action_ts"] = action_ts.into();
            assert_eq!(
                one(&action).expect("a command").command.at_s,
                NOW_S,
                "{action_ts:?}"
            );
        }
    }

    #[test]
    fn users_are_shown_by_their_names() {
        for (user, expected) in [
            (json!({"id": "U1", "username": "u", "name": "n"}), "n"),
            (json!({"id": "U1", "username": "u", "name": " "}), "u"),
            (json!({"id": "U1", "username": null}), "U1"),
            (json!({"id": "U1", "name": "a\nb"}), "ab"),
        ] {
            let read = commands(
                &payload(&user, &json!([button("acknowledge", "al_1")])),
                NOW_S,
            )
            .expect("read");
            assert_eq!(read.requested[0].command.by, expected);
        }
    }

    #[test]
    fn other_payloads_are_refused_with_a_reason() {
        for (text, expected) in [
            ("", "line 1"),
            ("nonsense", "line 1"),
            ("{}", "line 1"),
            ("[]", "line 1"),
            (r#"{"type":"block_actions"}"#, "line 1"),
            (
                r#"{"type":"block_actions","user":{"id":"U1"},"actions":[{}]}"#,
                "block_actions",
            ),
            (r#"{"type":"view_submission","view":{}}"#, "view_submission"),
            (
                r#"{"type":"interactive_message","callback_id":"x"}"#,
                "interactive_message",
            ),
            (r#"{"type":"shortcut"}"#, "shortcut"),
        ] {
            let error = commands(text, NOW_S).expect_err("refused").to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
