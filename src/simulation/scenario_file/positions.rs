//! Where in a test file the parts of a text are. A text that is written as it is read, without escapes, has a place for
//! each of its characters; so has each field of an event in it. Pure.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::super::template::PLACEHOLDERS;

/// The offset in `file` at which the text in quotes at `span` begins, if it is written as it is read.
pub(super) fn begin_of(file: &str, span: &Range<usize>, text: &str) -> Option<usize> {
    let written = file.get(span.clone())?;
    let inner = match ["'''", "\"\"\""].map(|quotes| written.strip_prefix(quotes)) {
        [Some(inner), _] | [_, Some(inner)] => {
            // A line break directly after the quotes is not a part of the text.
            let of_first_line = inner
                .strip_prefix("\r\n")
                .or_else(|| inner.strip_prefix('\n'));
            of_first_line.unwrap_or(inner)
        }
        _ => written.get(1..)?,
    };
    let begin = span.end - inner.len();
    inner.starts_with(text).then_some(begin)
}

/// The offset in `json` of the field at `path`, such as `data.object.status`; if it is not there, of the innermost field
/// around it.
pub(super) fn field_in(json: &str, path: &str) -> Option<usize> {
    let json = filled(json);
    let mut value = json.as_str();
    let mut found = None;
    for name in path.split('.') {
        let fields = serde_json::from_str::<BTreeMap<String, &RawValue>>(value);
        let Some(inner) = fields.ok().and_then(|mut fields| fields.remove(name)) else {
            break;
        };
        value = inner.get();
        found = Some(value.as_ptr() as usize - json.as_ptr() as usize);
    }
    key_before(&json, found?)
}

/// The offset at which `json` breaks the syntax of JSON; `None`: it keeps to it.
pub(super) fn syntax_error_in(json: &str) -> Option<usize> {
    let json = filled(json);
    let error = serde_json::from_str::<IgnoredAny>(&json).err()?;
    let lines = json.split_inclusive('\n').map(str::len);
    let before: usize = lines.take(error.line().saturating_sub(1)).sum();
    let at = (before + error.column().saturating_sub(1)).min(json.len());
    (0..=at).rev().find(|at| json.is_char_boundary(*at))
}

/// The offset of a part of a text.
pub(super) fn offset_of(part: &str, text: &str) -> usize {
    part.as_ptr() as usize - text.as_ptr() as usize
}

/// The text with numbers for its placeholders, each as long as the placeholder: every offset stays.
fn filled(text: &str) -> String {
    PLACEHOLDERS.iter().fold(text.to_owned(), |text, name| {
        text.replace(&format!("{{{name}}}"), &"1".repeat(name.len() + 2))
    })
}

/// The offset of the key before the value at `at`.
fn key_before(json: &str, at: usize) -> Option<usize> {
    let before = json[..at].trim_end().strip_suffix(':')?;
    before.trim_end().strip_suffix('"')?.rfind('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_escapes_has_the_places_of_its_characters() {
        for (written, text, expected) in [
            ("'ab'", "ab", Some(1)),
            ("\"ab\"", "ab", Some(1)),
            ("'''ab'''", "ab", Some(3)),
            ("'''\nab'''", "ab", Some(4)),
            ("'''\r\nab'''", "ab", Some(5)),
            ("\"\"\"\nab\"\"\"", "ab", Some(4)),
            ("''", "", Some(1)),
            (r#""a\"b""#, "a\"b", None),
            (r#""\u0061b""#, "ab", None),
        ] {
            let file = format!("x = {written} # more");
            let span = 4..4 + written.len();
            let begin = begin_of(&file, &span, text);
            assert_eq!(begin, expected.map(|at| 4 + at), "{written}");
        }
    }

    #[test]
    fn a_field_is_found_around_placeholders_and_one_that_is_missing_by_what_is_around_it() {
        let json = r#"{"id": "evt_{seq}", "created": {created_s}, "data" : {"object":{"id":"é","of":[{n}]}}}"#;
        for (path, key) in [
            ("id", Some("\"id\"")),
            ("created", Some("\"created\"")),
            ("data.object", Some("\"object\"")),
            ("data.object.of", Some("\"of\"")),
            ("data.object.status", Some("\"object\"")),
            ("type", None),
        ] {
            assert_eq!(
                field_in(json, path),
                key.and_then(|key| json.find(key)),
                "{path}"
            );
        }
    }

    #[test]
    fn a_syntax_error_has_its_place_and_never_splits_a_character() {
        assert_eq!(syntax_error_in(r#"{"at": {at_s}}"#), None);
        assert_eq!(syntax_error_in("{\n \"a\": x}"), Some(8));
        for json in ["{\"é\" é}", "é", "", "{\"é"] {
            let at = syntax_error_in(json).expect("no JSON");
            assert!(json.is_char_boundary(at), "{json:?} {at}");
        }
    }
}
