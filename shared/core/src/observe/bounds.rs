//! How much is read of one value. What is longer is not as documented, and costs what any odd field costs.
//!
//! Invariant: it ends while it is read, not afterwards: what is read takes many times the memory of its text.

use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

use crate::json_text::Text;

/// The most elements of a list, and fields of an object. More than the items of all pages that the resolver reads.
pub(super) const MAX_ELEMENTS: usize = 2_500;

/// The most characters of a text. Source: `maxLength` in <https://github.com/stripe/openapi>.
pub(super) const MAX_CHARACTERS: usize = 5_000;

/// An object may have so many values, and one more for each [`BYTES_PER_VALUE`] of its text. With its name, the average
/// value of Stripe's has twice as many and more.
const VALUES: usize = 1_000;
const BYTES_PER_VALUE: usize = 12;

/// Whether an object has so many and so short values that reading it takes many times the memory of its text.
pub(super) fn is_too_dense(object: &str) -> bool {
    let max = VALUES.saturating_add(object.len() / BYTES_PER_VALUE);
    // One follows after each value but the last. Texts have commas of their own: few objects are looked at again.
    object.bytes().filter(|byte| *byte == b',').count() > max && commas_outside_texts(object) > max
}

fn commas_outside_texts(json: &str) -> usize {
    let (mut commas, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_text = !in_text,
            b',' if !in_text => commas = commas.saturating_add(1),
            _ => {}
        }
    }
    commas
}

/// Fails if no element may follow so many.
pub(super) fn count<E: Error>(elements: usize) -> Result<(), E> {
    match elements {
        ..MAX_ELEMENTS => Ok(()),
        _ => Err(E::custom("too many elements")),
    }
}

/// The visitor of a list, an object or a text within the bounds.
pub(super) struct Bounded<V>(pub(super) V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Bounded<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Counted(list, 0))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Counted(map, 0))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<V::Value, E> {
        measure(text)?;
        self.0.visit_str(text)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<V::Value, E> {
        measure(text)?;
        self.0.visit_borrowed_str(text)
    }

    fn visit_string<E: Error>(self, text: String) -> Result<V::Value, E> {
        measure(&text)?;
        self.0.visit_string(text)
    }
}

/// Whether a JSON value is a text beyond its bound.
pub(super) fn is_too_long_a_text(json: &str) -> bool {
    json.len() > MAX_CHARACTERS
        && json.starts_with('"')
        && serde_json::from_str(json).is_ok_and(|Text(text)| is_too_long(&text))
}

fn measure<E: Error>(text: &str) -> Result<(), E> {
    match is_too_long(text) {
        true => Err(E::custom("too long a text")),
        false => Ok(()),
    }
}

fn is_too_long(text: &str) -> bool {
    text.len() > MAX_CHARACTERS && text.chars().nth(MAX_CHARACTERS).is_some()
}

/// A list or an object, and how many of its elements were read.
struct Counted<A>(A, usize);

impl<A> Counted<A> {
    fn next<T, E: Error>(&mut self, element: Option<T>) -> Result<Option<T>, E> {
        if element.is_some() {
            count(self.1)?;
            self.1 = self.1.saturating_add(1);
        }
        Ok(element)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Counted<A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        let element = self.0.next_element_seed(seed)?;
        self.next(element)
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Counted<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let name = self.0.next_key_seed(seed)?;
        self.next(name)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::lenient::Lenient;
    use super::super::ways::{read_leniently, read_strictly};
    use super::*;

    type List = Lenient<Vec<Lenient<u32>>>;
    type Fields = Lenient<BTreeMap<String, Lenient<u32>>>;

    #[test]
    fn only_very_many_very_short_values_are_too_dense() {
        let list =
            |value: &str, values: usize| format!("[{}0]", format!("{value},").repeat(values));
        assert!(!is_too_dense(&list("0", VALUES)));
        assert!(is_too_dense(&list("{}", 2 * VALUES)));
        let compact =
            r#""amount":500,"currency":"usd","livemode":true,"object":"line_item","tax":null"#;
        assert!(!is_too_dense(&list(compact, 100_000)));
        let note = r#""note":"0,1,2,\"0,1,2,3,4,5,6,7,8,9,""#;
        assert!(!is_too_dense(&list(note, 2 * VALUES)));
        assert!(is_too_dense(&list(r#""\\",0,0,0,0,0,0,0"#, VALUES)));
    }

    #[test]
    fn a_list_an_object_or_a_text_beyond_its_bound_is_odd_in_both_ways() {
        for beyond in [0, 1] {
            let list = format!("[{}0]", "0,".repeat(MAX_ELEMENTS - 1 + beyond));
            let fields = (0..MAX_ELEMENTS + beyond).map(|n| format!("\"{n}\":0"));
            let fields = format!("{{{}}}", fields.collect::<Vec<_>>().join(","));
            let text = format!("\"{}\"", "é".repeat(MAX_CHARACTERS + beyond));
            let strictly = [
                read_strictly::<List>(&list).is_ok(),
                read_strictly::<Fields>(&fields).is_ok(),
                read_strictly::<Lenient<String>>(&text).is_ok(),
            ];
            assert_eq!(strictly, [beyond == 0; 3]);
            let odd = [
                read_leniently::<List>(&list).expect("never fails").is_odd(),
                read_leniently::<Fields>(&fields)
                    .expect("never fails")
                    .is_odd(),
                read_leniently::<Lenient<String>>(&text)
                    .expect("never fails")
                    .is_odd(),
            ];
            assert_eq!(odd, [beyond == 1; 3]);
        }
    }
}
