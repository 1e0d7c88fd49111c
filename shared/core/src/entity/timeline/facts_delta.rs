//! The stored form of facts: what differs from the facts that were stored before them.
//!
//! | bytes | meaning |
//! |---|---|
//! | number | 0, or bit `n` set: the value `n` differs |
//! | if 0 | number: a length; so many bytes: the facts in MessagePack |
//! | else, per differing value | number: twice the value, if it is a number from 0; else twice the length of its MessagePack, and 1, and the MessagePack |
//!
//! The values are those of MessagePack in their order, without the outermost array; an array within it
//! counts as one value, and each of its elements.

use rmp::Marker;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bytes::{Reader, TimelineError, write_number};

/// The facts that were stored or read last, in MessagePack.
#[derive(Default)]
pub(super) struct NewestFacts {
    bytes: Vec<u8>,
    /// Kept for its memory.
    next: Vec<u8>,
    /// The values that differ. Kept for its memory.
    changed: Vec<u8>,
}

impl NewestFacts {
    /// Appends `facts` as what differs from the newest; they are the newest then.
    pub(super) fn write<F: Serialize>(
        &mut self,
        facts: &F,
        bytes: &mut Vec<u8>,
    ) -> Result<(), rmp_serde::encode::Error> {
        self.next.clear();
        rmp_serde::encode::write(&mut self.next, facts)?;
        if let Some(mask) = self.difference() {
            write_number(mask, bytes);
            bytes.extend(&self.changed);
        } else {
            write_number(0, bytes);
            write_number(self.next.len() as u64, bytes);
            bytes.extend(&self.next);
        }
        std::mem::swap(&mut self.bytes, &mut self.next);
        Ok(())
    }

    /// Reads the output of [`NewestFacts::write`].
    pub(super) fn read<F: DeserializeOwned>(
        &mut self,
        reader: &mut Reader<'_>,
    ) -> Result<F, TimelineError> {
        self.next.clear();
        let mask = reader.number()?;
        if mask == 0 {
            let length = reader.number()?;
            self.next.extend(reader.bytes(length)?);
        } else {
            self.apply(mask, reader)?;
        }
        std::mem::swap(&mut self.bytes, &mut self.next);
        rmp_serde::from_slice(&self.bytes).map_err(TimelineError::Facts)
    }

    /// Writes the values of `next` that differ to `changed`, and returns a bit for each. `None`: they have
    /// another shape, or are the same.
    fn difference(&mut self) -> Option<u64> {
        self.changed.clear();
        let (mut before, mut after) = (self.bytes.as_slice(), self.next.as_slice());
        if take(&mut before)? != take(&mut after)? {
            return None;
        }
        let mut mask = 0;
        for place in 0..u64::BITS {
            if before.is_empty() && after.is_empty() {
                break;
            }
            let value = take(&mut after)?;
            if take(&mut before)? != value {
                mask |= 1 << place;
                write_value(value, &mut self.changed);
            }
        }
        (mask != 0 && before.is_empty() && after.is_empty()).then_some(mask)
    }

    /// Writes to `next` the newest facts with the values that differ.
    fn apply(&mut self, mut mask: u64, reader: &mut Reader<'_>) -> Result<(), TimelineError> {
        let mut before = self.bytes.as_slice();
        let array = take(&mut before).ok_or(TimelineError::NoSuchFacts)?;
        self.next.extend(array);
        while !before.is_empty() {
            let value = take(&mut before).ok_or(TimelineError::NoSuchFacts)?;
            if mask & 1 == 0 {
                self.next.extend(value);
            } else {
                read_value(reader, &mut self.next)?;
            }
            mask >>= 1;
        }
        Ok(())
    }
}

/// The next value; of an array, what precedes its elements.
fn take<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let big_endian = |digits: usize| {
        let digits = bytes.get(1..=digits)?;
        Some(
            digits
                .iter()
                .fold(0, |all, digit| all << 8 | usize::from(*digit)),
        )
    };
    let length = match Marker::from_u8(*bytes.first()?) {
        Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => 1,
        Marker::FixArray(_) => 1,
        Marker::U8 | Marker::I8 => 2,
        Marker::U16 | Marker::I16 | Marker::Array16 => 3,
        Marker::U32 | Marker::I32 | Marker::F32 | Marker::Array32 => 5,
        Marker::U64 | Marker::I64 | Marker::F64 => 9,
        Marker::FixStr(length) => 1 + usize::from(length),
        Marker::Str8 => big_endian(1)?.saturating_add(2),
        Marker::Str16 => big_endian(2)?.saturating_add(3),
        Marker::Str32 => big_endian(4)?.saturating_add(5),
        _ => return None,
    };
    let (value, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(value)
}

fn write_value(value: &[u8], bytes: &mut Vec<u8>) {
    let number = rmp::decode::read_int::<u64, _>(&mut &*value).ok();
    match number.filter(|number| number.leading_zeros() > 0) {
        Some(number) => write_number(number << 1, bytes),
        None => {
            write_number((value.len() as u64) << 1 | 1, bytes);
            bytes.extend(value);
        }
    }
}

fn read_value(reader: &mut Reader<'_>, facts: &mut Vec<u8>) -> Result<(), TimelineError> {
    let number = reader.number()?;
    if number & 1 == 1 {
        facts.extend(reader.bytes(number >> 1)?);
    } else {
        rmp::encode::write_uint(facts, number >> 1).expect("writing to a Vec cannot fail");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Serialize, Deserialize)]
    struct Row {
        count: u64,
        minor: Option<i64>,
        plan: Option<String>,
        prints: (u32, u32),
        done: bool,
    }

    fn row() -> Row {
        Row {
            count: 3,
            minor: None,
            plan: Some("plan".into()),
            prints: (1, 1 << 31),
            done: true,
        }
    }

    /// The stored form of `facts` after `base`; it comes back.
    fn written<B: Serialize, F: Serialize + DeserializeOwned>(
        base: Option<&B>,
        facts: &F,
    ) -> Vec<u8> {
        let (mut writer, mut stored) = (NewestFacts::default(), Vec::new());
        if let Some(base) = base {
            writer
                .write(base, &mut stored)
                .expect("plain structs encode");
        }
        let base_bytes = writer.bytes.clone();
        stored.clear();
        writer
            .write(facts, &mut stored)
            .expect("plain structs encode");
        let mut reader = NewestFacts {
            bytes: base_bytes.clone(),
            ..NewestFacts::default()
        };
        let found: F = reader.read(&mut Reader::new(&stored)).expect("readable");
        assert_eq!(encode(&found), encode(facts));
        for length in 0..stored.len() {
            let mut reader = NewestFacts {
                bytes: base_bytes.clone(),
                ..NewestFacts::default()
            };
            let cut = reader.read::<F>(&mut Reader::new(&stored[..length]));
            assert!(cut.is_err(), "{length} of {} bytes", stored.len());
        }
        stored
    }

    fn encode<F: Serialize>(facts: &F) -> Vec<u8> {
        rmp_serde::to_vec(facts).expect("plain structs encode")
    }

    #[test]
    fn only_the_values_that_differ_are_stored() {
        let table = [
            (Row { count: 4, ..row() }, vec![1, 8]),
            (
                Row {
                    count: 1 << 20,
                    ..row()
                },
                vec![1, 0x80, 0x80, 0x80, 1],
            ),
            (
                Row {
                    minor: Some(-1),
                    ..row()
                },
                vec![2, 3, 0xff],
            ),
            (
                Row {
                    minor: Some(300),
                    ..row()
                },
                vec![2, 0xd8, 4],
            ),
            (
                Row {
                    plan: None,
                    ..row()
                },
                vec![4, 3, 0xc0],
            ),
            (
                Row {
                    plan: Some("pro".into()),
                    ..row()
                },
                vec![4, 9, 0xa3, b'p', b'r', b'o'],
            ),
            (
                Row {
                    prints: (1, 2),
                    ..row()
                },
                vec![32, 4],
            ),
            (
                Row {
                    prints: (0, 1 << 31),
                    done: false,
                    ..row()
                },
                vec![0x50, 0, 3, 0xc2],
            ),
        ];
        for (changed, expected) in table {
            assert_eq!(written(Some(&row()), &changed), expected);
        }
    }

    #[test]
    fn facts_of_another_shape_are_stored_completely() {
        let complete = |facts: &[u8]| [&[0, facts.len().to_le_bytes()[0]], facts].concat();
        let facts = encode(&row());
        assert_eq!(written(None::<&Row>, &row()), complete(&facts));
        assert_eq!(written(Some(&(3, 4)), &row()), complete(&facts));
        assert_eq!(written(Some(&row()), &row()), complete(&facts));
        let (ones, twos) = (vec![1_u8; 70], vec![2_u8; 70]);
        assert_eq!(written(Some(&ones), &twos), complete(&encode(&twos)));
        let one_less = &twos[..63];
        assert_eq!(
            written(Some(&twos), &one_less.to_vec()),
            complete(&encode(&one_less))
        );
    }

    #[test]
    fn numbers_at_their_limits_come_back() {
        for count in [
            0,
            127,
            128,
            255,
            256,
            65_535,
            65_536,
            (1 << 32) - 1,
            1 << 32,
            u64::MAX >> 1,
            u64::MAX,
        ] {
            let of = |count| Row { count, ..row() };
            written(Some(&of(count ^ 1)), &of(count));
        }
    }

    #[test]
    fn without_facts_before_a_difference_is_an_error() {
        let stored = written(Some(&row()), &Row { count: 4, ..row() });
        let found = NewestFacts::default().read::<Row>(&mut Reader::new(&stored));
        assert!(found.is_err());
    }
}
