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

use super::bytes::{Reader, TimelineError, write_number};

/// Appends `facts` as what differs from `base`; both are MessagePack. `base` is empty for the first facts.
pub(super) fn write(base: &[u8], facts: &[u8], bytes: &mut Vec<u8>) {
    if let Some((mask, changed)) = difference(base, facts) {
        write_number(mask, bytes);
        changed
            .into_iter()
            .for_each(|value| write_value(value, bytes));
    } else {
        write_number(0, bytes);
        write_number(facts.len() as u64, bytes);
        bytes.extend(facts);
    }
}

/// Reads the output of [`write`].
pub(super) fn read(base: &[u8], reader: &mut Reader<'_>) -> Result<Vec<u8>, TimelineError> {
    let mask = reader.number()?;
    if mask == 0 {
        let length = reader.number()?;
        return Ok(reader.bytes(length)?.to_vec());
    }
    let (array, values) = parts(base).ok_or(TimelineError::NoSuchFacts)?;
    let mut facts = array.to_vec();
    for (place, value) in values.into_iter().enumerate() {
        if mask >> place & 1 == 0 {
            facts.extend(value);
        } else {
            read_value(reader, &mut facts)?;
        }
    }
    Ok(facts)
}

/// A bit for each value that differs, and these values.
fn difference<'a>(base: &[u8], facts: &'a [u8]) -> Option<(u64, Vec<&'a [u8]>)> {
    let (base_array, base_values) = parts(base)?;
    let (array, values) = parts(facts)?;
    if array != base_array || values.len() != base_values.len() {
        return None;
    }
    let mut mask = 0;
    let mut changed = Vec::new();
    for (place, (value, before)) in values.into_iter().zip(base_values).enumerate() {
        if value != before {
            mask |= 1 << place;
            changed.push(value);
        }
    }
    (mask != 0).then_some((mask, changed))
}

/// The outermost array, without its elements, and all values in it. `None`: too many, or an unknown type.
fn parts(mut bytes: &[u8]) -> Option<(&[u8], Vec<&[u8]>)> {
    let array = take(&mut bytes)?;
    let mut values = Vec::with_capacity(16);
    while !bytes.is_empty() {
        values.push(take(&mut bytes)?);
    }
    (values.len() <= u64::BITS as usize).then_some((array, values))
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
        Marker::Str8 => 2 + big_endian(1)?,
        Marker::Str16 => 3 + big_endian(2)?,
        Marker::Str32 => 5 + big_endian(4)?,
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
    use serde::Serialize;

    use super::*;

    #[derive(Clone, Serialize)]
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

    fn encode(row: &Row) -> Vec<u8> {
        rmp_serde::to_vec(row).expect("plain structs encode")
    }

    #[test]
    fn only_the_values_that_differ_are_stored() {
        let base = encode(&row());
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
            let (facts, mut bytes) = (encode(&changed), Vec::new());
            write(&base, &facts, &mut bytes);
            assert_eq!(bytes, expected);
            assert_eq!(
                read(&base, &mut Reader::new(&bytes)).expect("readable"),
                facts
            );
        }
    }

    #[test]
    fn facts_of_another_shape_are_stored_completely() {
        let facts = encode(&row());
        let many = rmp_serde::to_vec(&vec![1; 70]).expect("a list encodes");
        for (base, facts) in [
            (Vec::new(), facts.clone()),
            (
                rmp_serde::to_vec(&(3, 4)).expect("a tuple encodes"),
                facts.clone(),
            ),
            (facts.clone(), facts),
            (
                rmp_serde::to_vec(&vec![2; 70]).expect("a list encodes"),
                many,
            ),
        ] {
            let mut bytes = Vec::new();
            write(&base, &facts, &mut bytes);
            assert_eq!(
                bytes,
                [&[0, facts.len().to_le_bytes()[0]], facts.as_slice()].concat()
            );
            assert_eq!(
                read(&base, &mut Reader::new(&bytes)).expect("readable"),
                facts
            );
        }
    }

    #[test]
    fn numbers_at_their_limits_come_back() {
        for number in [
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
            let facts = encode(&Row {
                count: number,
                ..row()
            });
            let base = encode(&Row {
                count: number ^ 1,
                ..row()
            });
            let mut bytes = Vec::new();
            write(&base, &facts, &mut bytes);
            assert_eq!(
                read(&base, &mut Reader::new(&bytes)).expect("readable"),
                facts,
                "{number}"
            );
        }
    }

    #[test]
    fn cut_bytes_are_an_error() {
        let base = encode(&row());
        let mut bytes = Vec::new();
        write(
            &base,
            &encode(&Row {
                plan: Some("pro".into()),
                ..row()
            }),
            &mut bytes,
        );
        for length in 0..bytes.len() {
            assert!(read(&base, &mut Reader::new(&bytes[..length])).is_err());
        }
        assert!(
            read(&[], &mut Reader::new(&bytes)).is_err(),
            "there are no facts before"
        );
    }
}
