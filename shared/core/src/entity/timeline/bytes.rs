//! Numbers and byte strings within a stored timeline.
//!
//! A number is in base 128, the lowest digit first; a byte above 127 is followed by another.

use std::fmt;

/// Why bytes are not a timeline.
#[derive(Debug)]
pub(super) enum TimelineError {
    Truncated,
    NoSuchFacts,
    NoSuchField,
    Facts(rmp_serde::decode::Error),
    Text,
}

impl fmt::Display for TimelineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("a timeline is truncated"),
            Self::NoSuchFacts => f.write_str("a state of a timeline has no facts"),
            Self::NoSuchField => f.write_str("a state of a timeline changed an unknown field"),
            Self::Facts(error) => write!(f, "the facts of a timeline: {error}"),
            Self::Text => f.write_str("an event id in a timeline is not text"),
        }
    }
}

pub(super) fn write_number(number: u64, bytes: &mut Vec<u8>) {
    let digit = (number & 0x7f).to_le_bytes()[0];
    let rest = number >> 7;
    if rest == 0 {
        bytes.push(digit);
    } else {
        bytes.push(digit | 0x80);
        write_number(rest, bytes);
    }
}

/// What is left of the bytes.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&mut self, length: u64) -> Result<&'a [u8], TimelineError> {
        let length = usize::try_from(length).map_err(|_| TimelineError::Truncated)?;
        let (found, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(TimelineError::Truncated)?;
        self.0 = rest;
        Ok(found)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], TimelineError> {
        let (found, rest) = self.0.split_first_chunk().ok_or(TimelineError::Truncated)?;
        self.0 = rest;
        Ok(*found)
    }

    pub(super) fn number(&mut self) -> Result<u64, TimelineError> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let [digit] = self.array()?;
            number |= u64::from(digit & 0x7f) << shift;
            if digit < 0x80 {
                return Ok(number);
            }
        }
        Err(TimelineError::Truncated)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, TimelineError> {
        let length = self.number()?;
        std::str::from_utf8(self.bytes(length)?).map_err(|_| TimelineError::Text)
    }
}
