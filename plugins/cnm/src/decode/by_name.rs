//! Objects are written as objects: derived decoders take a list for one as well, its members by their
//! order, which nobody means. What is between the decoder and the document passes everything on but that,
//! and is not there any more when it is compiled.

use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};

/// A document in which no list stands for an object. What is read as anything first, such as what is
/// `untagged`, is not looked into.
#[derive(Debug)]
pub struct ByName<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ByName<T> {
    fn deserialize<D: Deserializer<'de>>(document: D) -> Result<Self, D::Error> {
        T::deserialize(Inside(document)).map(Self)
    }
}

/// Where in a document: what is read from it is looked at as well.
struct Inside<T>(T);

/// What is told what there is; whether a list is.
struct Told<V, const LIST: bool>(V);

macro_rules! read {
    ($($method:ident($($name:ident: $type:ty),*))*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, $($name: $type,)* told: V) -> Result<V::Value, D::Error> {
            self.0.$method($($name,)* Told::<V, true>(told))
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Inside<D> {
    type Error = D::Error;

    read! {
        deserialize_any() deserialize_bool() deserialize_i8() deserialize_i16() deserialize_i32()
        deserialize_i64() deserialize_i128() deserialize_u8() deserialize_u16() deserialize_u32()
        deserialize_u64() deserialize_u128() deserialize_f32() deserialize_f64() deserialize_char()
        deserialize_str() deserialize_string() deserialize_bytes() deserialize_byte_buf()
        deserialize_option() deserialize_unit() deserialize_unit_struct(name: &'static str)
        deserialize_newtype_struct(name: &'static str) deserialize_seq() deserialize_tuple(len: usize)
        deserialize_tuple_struct(name: &'static str, len: usize) deserialize_map()
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
        deserialize_identifier() deserialize_ignored_any()
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        told: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_struct(name, fields, Told::<V, false>(told))
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

macro_rules! tell {
    ($($method:ident($type:ty))*) => {$(
        #[inline]
        fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.0.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>, const LIST: bool> Visitor<'de> for Told<V, LIST> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    tell! {
        visit_bool(bool) visit_i8(i8) visit_i16(i16) visit_i32(i32) visit_i64(i64) visit_i128(i128)
        visit_u8(u8) visit_u16(u16) visit_u32(u32) visit_u64(u64) visit_u128(u128) visit_f32(f32)
        visit_f64(f64) visit_char(char) visit_str(&str) visit_borrowed_str(&'de str)
        visit_string(String) visit_bytes(&[u8]) visit_borrowed_bytes(&'de [u8]) visit_byte_buf(Vec<u8>)
    }

    #[inline]
    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    #[inline]
    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    #[inline]
    fn visit_some<D: Deserializer<'de>>(self, document: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Inside(document))
    }

    #[inline]
    fn visit_newtype_struct<D: Deserializer<'de>>(self, document: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(Inside(document))
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<V::Value, A::Error> {
        if LIST {
            self.0.visit_seq(Inside(list))
        } else {
            Err(A::Error::invalid_type(Unexpected::Seq, &"a map"))
        }
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Inside(object))
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, one: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(Inside(one))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Inside<S> {
    type Value = S::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, document: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Inside(document))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Inside<A> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Inside(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Inside<A> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(Inside(seed))
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Inside(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Inside<A> {
    type Error = A::Error;
    type Variant = Inside<A::Variant>;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), A::Error> {
        let (value, variant) = self.0.variant_seed(Inside(seed))?;
        Ok((value, Inside(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Inside<A> {
    type Error = A::Error;

    #[inline]
    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.unit_variant()
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.0.newtype_variant_seed(Inside(seed))
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, told: V) -> Result<V::Value, A::Error> {
        self.0.tuple_variant(len, Told::<V, true>(told))
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        told: V,
    ) -> Result<V::Value, A::Error> {
        self.0.struct_variant(fields, Told::<V, false>(told))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json, value::RawValue};

    use super::*;
    use crate::{driver::AttachEndpoint, endpoint::Attach};

    #[derive(Debug, PartialEq, serde::Deserialize)]
    enum One {
        Unit,
        Newtype(Option<(u8, String)>),
        Tuple(u8, bool),
        Struct { a: char, b: Vec<f64> },
    }

    #[test]
    fn what_is_right_is_read_as_it_was() {
        for json in [
            r#"[1, -2, 1.5, "x", "\n", null, true, {"a": [{}], "b": {"c": []}}]"#,
            r#"{"a": 18446744073709551615}"#,
        ] {
            let ByName(read): ByName<Value> = serde_json::from_str(json).expect(json);
            assert_eq!(read, serde_json::from_str::<Value>(json).expect(json));
            let ByName(raw): ByName<&RawValue> = serde_json::from_str(json).expect(json);
            assert_eq!(raw.get(), json);
        }
        let ones = json!(["Unit", {"Newtype": [1, "x"]}, {"Newtype": null}, {"Tuple": [1, true]},
            {"Struct": {"a": "x", "b": [1, 2]}}]);
        let ByName(ones): ByName<Vec<One>> = serde_json::from_value(ones).expect("all of them");
        let expected = [
            One::Unit,
            One::Newtype(Some((1, "x".to_owned()))),
            One::Newtype(None),
            One::Tuple(1, true),
            One::Struct { a: 'x', b: vec![1.0, 2.0] },
        ];
        assert_eq!(ones, expected);
        let attach = json!({"network": "app", "container": {"id": "c", "name": "web"},
            "addresses": ["10.9.0.2"], "ports": [{"container_port": 80}], "options": {"a": "b"}});
        let ByName(read): ByName<Attach> = serde_json::from_value(attach.clone()).expect("it");
        assert_eq!(read, serde_json::from_value(attach).expect("it"));
    }

    #[test]
    fn a_list_is_no_object_wherever_it_is() {
        let refused = |error: serde_json::Error| {
            assert_eq!(
                error.to_string().split(" at ").next(),
                Some("invalid type: sequence, expected a map")
            );
        };
        refused(serde_json::from_str::<ByName<Attach>>("[]").expect_err("a list"));
        let inside = r#"{"network": ["app"], "endpoint": {}, "netns": ""}"#;
        refused(serde_json::from_str::<ByName<AttachEndpoint>>(inside).expect_err("inside"));
        let variant = r#"[{"Struct": ["x", []]}]"#;
        refused(serde_json::from_str::<ByName<Vec<One>>>(variant).expect_err("a variant"));
    }
}
