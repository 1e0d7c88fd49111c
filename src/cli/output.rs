//! Where commands print. What they print holds foreign text, and a person's terminal reads it: all of it goes through
//! here.

use std::io::{self, Write};

use revwatch_core::neutral;

/// Standard output, on which nothing controls the terminal.
pub fn stdout() -> impl Write {
    Neutral(io::stdout().lock())
}

/// CSV with a header, in which no cell is a formula.
pub fn csv<'a>(
    header: impl IntoIterator<Item = &'a str>,
    rows: impl IntoIterator<Item = Vec<String>>,
) -> anyhow::Result<Vec<u8>> {
    let mut out = csv::Writer::from_writer(Vec::new());
    out.write_record(header)?;
    for row in rows {
        out.write_record(row.iter().map(|text| neutral::cell(text).into_owned()))?;
    }
    Ok(out.into_inner().map_err(csv::IntoInnerError::into_error)?)
}

/// Writes text without what would act on a terminal.
struct Neutral<W>(W);

impl<W: Write> Write for Neutral<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Commands write whole texts, so no character is cut in two.
        let text = String::from_utf8_lossy(bytes);
        self.0.write_all(neutral::lines(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hostile() -> Vec<String> {
        let texts = include_str!("../../tests/fixtures/hostile_texts.json");
        serde_json::from_str(texts).expect("a list of texts")
    }

    #[test]
    fn nothing_that_is_printed_controls_the_terminal() {
        for text in hostile() {
            let mut out = Neutral(Vec::new());
            writeln!(out, "{text}").expect("written");
            let printed = String::from_utf8(out.0).expect("text");
            let is_control = |c: char| c.is_control() && c != '\n' && c != '\t';
            assert!(!printed.contains(is_control), "{printed:?}");
            assert!(!printed.contains(['\u{202e}', '\u{2066}']), "{printed:?}");
        }
    }

    #[test]
    fn no_cell_of_an_export_is_a_formula() {
        let rows = hostile().into_iter().map(|text| vec!["1".to_owned(), text]);
        let written = csv(["n", "text"], rows).expect("written");
        let mut read = csv::Reader::from_reader(written.as_slice());
        let rows: Vec<_> = read.records().map(|row| row.expect("a row")).collect();
        assert_eq!(rows.len(), hostile().len());
        for row in rows {
            assert!(
                !row[1].starts_with(['=', '+', '-', '@', '\t', '\r']),
                "{row:?}"
            );
            assert!(!row[1].contains(char::is_control), "{row:?}");
        }
    }
}
