//! Values as people write them, with what editors, shells and other programs add. One rule for variables, files and
//! the settings file: what is around a value is removed here; what is inside it is a fault (`suspect.rs`). Pure.

/// The value without spaces, line ends and the byte order mark around it.
pub(super) fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
}

/// The lines of a secret. Empty ones are none, and neither are comments, which begin with `#`.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.split(['\n', '\r']).map(trimmed);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The items of a secret that may be several, while one is being rotated out: one per line, or separated by commas.
pub(super) fn items(text: &str) -> impl Iterator<Item = &str> {
    lines(text).flat_map(|line| line.split(',').map(trimmed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_add_around_a_value_is_removed() {
        for text in ["a b", "\u{feff}a b\r\n", " \ta b \u{feff}", "\ra b\r"] {
            assert_eq!(trimmed(text), "a b", "{text:?}");
        }
        assert_eq!(trimmed("\u{feff}\r\n"), "");
    }

    #[test]
    fn secrets_are_on_lines_or_between_commas() {
        let table: [(&str, &[&str]); 6] = [
            ("\u{feff}a\r\n", &["a"]),
            ("a\nb\n", &["a", "b"]),
            ("# production\r\na\r\n\r\n#old\r\nb", &["a", "b"]),
            ("a, b\nc", &["a", "b", "c"]),
            ("a,,b", &["a", "", "b"]),
            ("\u{feff}# only a comment\n", &[]),
        ];
        for (text, expected) in table {
            let items: Vec<&str> = items(text).collect();
            assert_eq!(items, expected, "{text:?}");
        }
    }
}
