//! Two ways to read the same structs from one of Stripe's objects.
//!
//! - Strictly: one pass over the text, which fails if any field is not as documented.
//! - Leniently: for what the strict way refused. Each field is taken as text first, so that one that
//!   cannot be read costs only itself. It is several times slower.
//!
//! Whatever the strict way accepts, the lenient way reads alike: the strict one is only faster.
//!
//! Both ways end at the bounds of `bounds.rs`, so that no event takes more memory than a few times its size.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};
use serde_json::value::RawValue;

use super::bounds::{Bounded, count};
use crate::json_text::Text;

pub(super) fn read<'de, T: Deserialize<'de>>(object: &'de str) -> serde_json::Result<T> {
    read_strictly(object).or_else(|_| read_leniently(object))
}

pub(super) fn read_strictly<'de, T: Deserialize<'de>>(json: &'de str) -> serde_json::Result<T> {
    T::deserialize(OnlyObjects(&mut serde_json::Deserializer::from_str(json)))
}

pub(super) fn read_leniently<'de, T: Deserialize<'de>>(json: &'de str) -> serde_json::Result<T> {
    T::deserialize(FieldsAsText(json))
}

/// A value that the two ways read differently. Its `Deserialize` is [`either_way`].
pub(super) trait BothWays<'de>: Sized {
    fn strictly<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;

    fn leniently(json: &'de str) -> serde_json::Result<Self>;
}

pub(super) fn either_way<'de, D: Deserializer<'de>, T: BothWays<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    deserializer.deserialize_newtype_struct(BOTH_WAYS, EitherWay(PhantomData))
}

/// By this name, [`FieldsAsText`] recognises such a value. JSON itself has no newtypes: serde_json
/// ignores the name.
const BOTH_WAYS: &str = "revwatch::BothWays";

struct EitherWay<T>(PhantomData<T>);

impl<'de, T: BothWays<'de>> Visitor<'de> for EitherWay<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a documented value")
    }

    /// From serde_json.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<T, D::Error> {
        T::strictly(value)
    }

    /// From [`FieldsAsText`].
    fn visit_borrowed_str<E: serde::de::Error>(self, json: &'de str) -> Result<T, E> {
        T::leniently(json).map_err(E::custom)
    }
}

/// A value in which an object is an object: serde would also read its fields from a list.
pub(super) struct Documented<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Documented<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(OnlyObjects(deserializer)).map(Self)
    }
}

/// Implements the methods that have only a visitor by those of another deserializer.
macro_rules! forward {
    ($this:ident => $to:expr; $($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            let $this = self;
            ($to).$method(visitor)
        })*
    };
}

struct OnlyObjects<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for OnlyObjects<D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Bounded(visitor))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Bounded(visitor))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_seq(Bounded(visitor))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_str(Bounded(visitor))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_string(Bounded(visitor))
    }

    forward! { this => this.0;
        deserialize_any deserialize_bool deserialize_i64 deserialize_u32 deserialize_u64
        deserialize_option deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_newtype_struct(name, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 u8 u16 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
    }
}

/// A JSON text, of whose objects and lists each value is again text.
struct FieldsAsText<'de>(&'de str);

impl<'de> Deserializer<'de> for FieldsAsText<'de> {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> serde_json::Result<V::Value> {
        match self.0.as_bytes().first() {
            Some(b'{') => self.deserialize_map(visitor),
            Some(b'[') => self.deserialize_seq(visitor),
            _ => serde_json::Deserializer::from_str(self.0).deserialize_any(visitor),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> serde_json::Result<V::Value> {
        let fields = serde_json::from_str::<Fields<'_>>(self.0)?.0.into_iter();
        visitor.visit_map(MapDeserializer::new(fields))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> serde_json::Result<V::Value> {
        self.deserialize_map(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> serde_json::Result<V::Value> {
        let list = serde_json::from_str::<Elements<'_>>(self.0)?.0.into_iter();
        visitor.visit_seq(SeqDeserializer::new(list))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> serde_json::Result<V::Value> {
        match self.0 {
            "null" => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> serde_json::Result<V::Value> {
        match name {
            BOTH_WAYS => visitor.visit_borrowed_str(self.0),
            _ => {
                serde_json::Deserializer::from_str(self.0).deserialize_newtype_struct(name, visitor)
            }
        }
    }

    /// The text of a value is known to be JSON.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> serde_json::Result<V::Value> {
        visitor.visit_unit()
    }

    forward! { this => &mut serde_json::Deserializer::from_str(this.0);
        deserialize_bool deserialize_i64 deserialize_u32 deserialize_u64 deserialize_str
        deserialize_string deserialize_identifier
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> serde_json::Result<V::Value> {
        serde_json::Deserializer::from_str(self.0).deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 u8 u16 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
    }
}

impl<'de> IntoDeserializer<'de, serde_json::Error> for FieldsAsText<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// All elements of a list.
struct Elements<'de>(Vec<FieldsAsText<'de>>);

impl<'de> Deserialize<'de> for Elements<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values;

        impl<'de> Visitor<'de> for Values {
            type Value = Elements<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element::<&RawValue>()? {
                    count(values.len())?;
                    values.push(FieldsAsText(value.get()));
                }
                Ok(Elements(values))
            }
        }

        deserializer.deserialize_seq(Values)
    }
}

/// All fields of an object, also those that are there twice.
struct Fields<'de>(Vec<(Cow<'de, str>, FieldsAsText<'de>)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((Text(name), value)) = map.next_entry::<_, &RawValue>()? {
                    count(fields.len())?;
                    fields.push((name, FieldsAsText(value.get())));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}
