// SPDX-License-Identifier: Apache-2.0
//! JSON as containerd takes it: what Go's decoder makes of a document, for the fields that we use.
//!
//! Every field may be missing, and `null` is as good as missing, in a list too. A field's name matches in any case.
//! What is not used is passed over, whatever it is. Text need not be UTF-8. In one thing it is stricter: of a field
//! that a document has twice, Go takes a mixture that depends on its version, so such a document is refused.

use serde::Deserialize;
use serde::de::Visitor;

use crate::error::{Error, ErrorKind, Result};

/// A list; its elements may be `null`.
pub type List<T> = Vec<Option<T>>;

/// Reads one document.
///
/// # Errors
/// `FailedPrecondition` with the place, if it is not JSON, which containerd can't read, either; `InvalidInput` if a field
/// is of another type or duplicate.
pub fn parse<T: for<'de> Deserialize<'de> + Default>(content: &[u8]) -> Result<T> {
    let parsed: Result<Option<T>, serde_json::Error> = serde_json::from_slice(content);
    let document = parsed.map_err(|error| match error.is_data() {
        true => Error::new(ErrorKind::InvalidInput, "invalid document").with_source(error),
        false => Error::new(ErrorKind::FailedPrecondition, "not JSON").with_source(error),
    })?;
    Ok(document.unwrap_or_default())
}

/// The elements of a list that may be missing; those that are `null` are empty.
pub fn elements<T: Default>(list: Option<List<T>>) -> impl ExactSizeIterator<Item = T> {
    list.unwrap_or_default().into_iter().map(Option::unwrap_or_default)
}

/// A string. What is not UTF-8 in it, or half a surrogate pair, is replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Text;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text(String::from_utf8_lossy(bytes).into_owned()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
        }
        // Asked for bytes, the parser does not insist on UTF-8.
        deserializer.deserialize_bytes(Bytes)
    }
}

/// A field's name as Go compares it: in lower case, the long s and the sign of the kelvin among it.
pub fn fold(name: &str) -> String {
    let folded = |c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    name.chars().map(folded).collect()
}

/// Keeps the value of a field, unless it is `null`.
pub fn set<T, E: serde::de::Error>(slot: &mut Option<T>, name: &'static str, value: Option<T>) -> Result<(), E> {
    match value {
        Some(_) if slot.is_some() => Err(E::duplicate_field(name)),
        Some(value) => {
            *slot = Some(value);
            Ok(())
        }
        None => Ok(()),
    }
}

/// A type of document: the names of its fields, in lower case, and what they are.
macro_rules! document {
    ($(#[$meta:meta])* $name:ident { $($key:literal => $field:ident: $kind:ty),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        pub(super) struct $name { $(pub $field: Option<$kind>),+ }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Fields;
                impl<'de> serde::de::Visitor<'de> for Fields {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        let mut document = $name::default();
                        while let Some($crate::containerd::json::Text(key)) = map.next_key()? {
                            match $crate::containerd::json::fold(&key).as_str() {
                                $($key => {
                                    let value = map.next_value()?;
                                    $crate::containerd::json::set::<_, A::Error>(&mut document.$field, $key, value)?;
                                })+
                                _ => drop(map.next_value::<serde::de::IgnoredAny>()?),
                            }
                        }
                        Ok(document)
                    }
                }
                deserializer.deserialize_map(Fields)
            }
        }
    };
}
pub(super) use document;

#[cfg(test)]
mod tests {
    use super::*;

    document!(Inner { "text" => text: Text, "flag" => flag: bool });
    document!(Outer { "inner" => inner: Inner, "list" => list: List<Text>, "skew" => skew: i64 });

    /// What Go's decoder makes of it: text, flag, list, skew.
    fn shown(json: &[u8]) -> String {
        match parse::<Outer>(json) {
            Err(error) if error.kind() == ErrorKind::FailedPrecondition => "not JSON".into(),
            Err(_) => "refused".into(),
            Ok(outer) => {
                let inner = outer.inner.unwrap_or_default();
                let list: Vec<_> = elements(outer.list).map(|Text(text)| text).collect();
                let text = inner.text.unwrap_or_default().0;
                format!("{text:?} {} {list:?} {}", inner.flag.unwrap_or_default(), outer.skew.unwrap_or_default())
            }
        }
    }

    #[test]
    fn a_document_is_read_as_go_reads_it() {
        let nothing = r#""" false [] 0"#;
        let cases: [(&[u8], &str); 23] = [
            (br#"{"inner":{"text":"a","flag":true},"list":["b","c"],"skew":-1}"#, r#""a" true ["b", "c"] -1"#),
            (br#"{}"#, nothing),
            (br#"null"#, nothing),
            (br#"{"inner":null,"list":null,"skew":null}"#, nothing),
            (br#"{"inner":{"text":null,"flag":null},"list":[null,"b"]}"#, r#""" false ["", "b"] 0"#),
            (br#"{"INNER":{"Text":"a"},"lIsT":["b"]}"#, r#""a" false ["b"] 0"#),
            ("{\"\u{17f}\u{212a}ew\":7}".as_bytes(), r#""" false [] 7"#),
            (br#"{"other":{"deep":[1.5e300,true,null]},"Labels":{"a":null},"skew":1}"#, r#""" false [] 1"#),
            (b"{\"inner\":{\"text\":\"a\xff\"}}", "\"a\u{fffd}\" false [] 0"),
            (b"{\"b\xff\":\"\xff\",\"skew\":2}", r#""" false [] 2"#),
            (br#"{"inner":{"text":"\ud800"},"x":"\ud800"}"#, "\"\u{fffd}\u{fffd}\u{fffd}\" false [] 0"),
            (b" {\"skew\":3}\n\t", r#""" false [] 3"#),
            (br#"{"skew":1,"SKEW":null}"#, r#""" false [] 1"#),
            (br#"{"skew":1,"SKEW":2}"#, "refused"),
            (br#"{"skew":1} {}"#, "not JSON"),
            (br#"{"skew":1.5}"#, "refused"),
            (br#"{"skew":"1"}"#, "refused"),
            (br#"{"list":"b"}"#, "refused"),
            (br#"{"list":[1]}"#, "refused"),
            (br#"[]"#, "refused"),
            (br#"{"skew":1"#, "not JSON"),
            (b"\xef\xbb\xbf{}", "not JSON"),
            (b"", "not JSON"),
        ];
        for (json, expected) in cases {
            assert_eq!(shown(json), expected, "{}", String::from_utf8_lossy(json));
        }
    }
}
