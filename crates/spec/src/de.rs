//! Reads our types from a tree of YAML, and puts a place on every error.
//!
//! Stricter than YAML where YAML guesses (a quoted number is text), and kinder where people expect it: an empty list,
//! mapping or optional field may be left blank, and text may be anything that was written as one scalar.

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, EnumAccess, Error, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::{Deserializer, forward_to_deserialize_any};

use crate::fault::{Fault, FaultKind};
use crate::suggest;
use crate::text::quoted;
use crate::yaml::{Content, Key, Node, Place, Scalar};

impl Node {
    fn unexpected(&self) -> Unexpected<'_> {
        match &self.content {
            Content::Null => Unexpected::Unit,
            Content::Scalar { kind: Scalar::Bool(value), .. } => Unexpected::Bool(*value),
            Content::Scalar { written, kind: Scalar::Text } => Unexpected::Str(written),
            Content::Scalar { written, .. } => Unexpected::Other(written),
            Content::List(_) => Unexpected::Seq,
            Content::Map(_) => Unexpected::Map,
        }
    }

    fn mismatch(&self, expected: &str) -> Fault {
        Fault::invalid_type(self.unexpected(), &expected).or_at(self.place)
    }

    /// Hands a whole number to a visitor, which checks the range.
    fn integer<'de, V: Visitor<'de>>(&self, highest: u64, visitor: V) -> Result<V::Value, Fault> {
        let Content::Scalar { written, kind } = &self.content else {
            return Err(self.mismatch("a whole number"));
        };
        match kind {
            Scalar::Integer(value) => match u64::try_from(*value) {
                Ok(value) if value <= highest => {
                    visitor.visit_u64(value).map_err(|fault: Fault| fault.or_at(self.place))
                }
                _ => {
                    let message = if *value < 0 {
                        format!("{} is negative: write 0 or more", quoted(written))
                    } else {
                        format!("{} is too much: write at most {highest}", quoted(written))
                    };
                    Err(Fault::new(FaultKind::InvalidValue, message).or_at(self.place))
                }
            },
            Scalar::Text if written.parse::<u64>().is_ok() => {
                Err(self.mismatch("a whole number").or_suggest(Some("leave the quotes out")))
            }
            _ => Err(self.mismatch("a whole number")),
        }
    }

    fn text<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fault> {
        match &self.content {
            Content::Scalar { written, .. } => visitor.visit_str(written),
            _ => Err(self.mismatch("text")),
        }
        .map_err(|fault: Fault| fault.or_at(self.place))
    }

    fn map<'de, V: Visitor<'de>>(&self, visitor: V, suggestion: Option<&str>) -> Result<V::Value, Fault> {
        let rest = match &self.content {
            Content::Map(entries) => entries.iter(),
            Content::Null => [].iter(),
            _ => return Err(self.mismatch("a mapping").or_suggest(suggestion)),
        };
        let mut entries = Entries { rest, value: None, last_key: self.place };
        visitor.visit_map(&mut entries).map_err(|fault: Fault| match fault.kind {
            FaultKind::DuplicateKey => fault.or_at(entries.last_key),
            _ => fault.or_at(self.place),
        })
    }
}

impl<'de> Deserializer<'de> for &Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.content {
            Content::Null | Content::Scalar { .. } => self.text(visitor),
            Content::List(_) => {
                visitor.visit_seq(Items([].iter())).map_err(|fault: Fault| fault.or_at(self.place))
            }
            Content::Map(_) => self.map(visitor, None),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.content {
            Content::Scalar { kind: Scalar::Bool(value), .. } => visitor.visit_bool(*value),
            _ => Err(self.mismatch("true or false")),
        }
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.integer(u8::MAX.into(), visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.integer(u16::MAX.into(), visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.integer(u32::MAX.into(), visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.content {
            Content::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.content {
            Content::List(items) => visitor.visit_seq(Items(items.iter())),
            Content::Null => visitor.visit_seq(Items([].iter())),
            Content::Scalar { .. } => Err(self
                .mismatch("a list")
                .or_suggest(Some("write [\"one\", \"two\"], or one `- ` line for each entry"))),
            Content::Map(_) => Err(self.mismatch("a list").or_suggest(Some("begin every entry with `- `"))),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.map(visitor, Some("write one `key: value` line for each"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.map(visitor, suggest::structure(name))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let Content::Scalar { written, .. } = &self.content else { return Err(self.mismatch("text")) };
        visitor.visit_enum(Variant(written)).map_err(|fault: Fault| fault.or_at(self.place))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple tuple_struct
        identifier ignored_any
    }
}

struct Items<'n>(std::slice::Iter<'n, Node>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(item) = self.0.next() else { return Ok(None) };
        seed.deserialize(item).map(Some).map_err(|fault| fault.or_at(item.place))
    }
}

struct Entries<'n> {
    rest: std::slice::Iter<'n, (Key, Node)>,
    value: Option<&'n Node>,
    last_key: Place,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some(value);
        self.last_key = key.place;
        seed.deserialize(StrDeserializer::new(&key.name))
            .map(Some)
            .map_err(|fault: Fault| fault.or_at(key.place))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let value = self.value.take().ok_or_else(|| Fault::custom("a value was asked for before its key"))?;
        seed.deserialize(value).map_err(|fault| fault.or_at(value.place))
    }
}

struct Variant<'n>(&'n str);

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        Ok((seed.deserialize(StrDeserializer::new(self.0))?, self))
    }
}

/// Our enums are plain words.
impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Fault> {
        Err(Fault::invalid_type(Unexpected::Str(self.0), &"a mapping"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Fault> {
        Err(Fault::invalid_type(Unexpected::Str(self.0), &"a list"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Fault> {
        Err(Fault::invalid_type(Unexpected::Str(self.0), &"a mapping"))
    }
}
