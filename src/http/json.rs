//! JSON of strangers: no deeper than it needs to be, and to be read in one way only.

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::collections::HashSet;
use std::fmt;

/// How deep values may be nested.
pub const DEPTH_MAX: usize = 16;

/// Reads one value. An object has each key once, values are [`DEPTH_MAX`] deep at most, and numbers are finite, in
/// parts that nobody asked for too. The error says nothing of the values.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    check(bytes)?;
    serde_json::from_slice(bytes)
}

/// Whether [`read`] may go on to what the value is.
pub fn check(bytes: &[u8]) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    Checked { depth: 0 }.deserialize(&mut deserializer)?;
    deserializer.end()
}

/// A value inside so many others.
#[derive(Clone, Copy)]
struct Checked {
    depth: usize,
}

impl Checked {
    fn inner<E: serde::de::Error>(self) -> Result<Checked, E> {
        match self.depth < DEPTH_MAX {
            true => Ok(Checked { depth: self.depth + 1 }),
            false => Err(E::custom(format_args!("values are nested {DEPTH_MAX} deep at most"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Checked {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    // One too large for it is refused before this is called.
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while elements.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        let mut keys = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if !keys.insert(key) {
                return Err(A::Error::custom("a key is there twice"));
            }
            entries.next_value_seed(inner)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn sixteen_deep_is_read_and_seventeen_is_not() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
            assert!(read::<Value>(nested(DEPTH_MAX).as_bytes()).is_ok());
            let refused = read::<Value>(nested(DEPTH_MAX + 1).as_bytes()).unwrap_err().to_string();
            assert!(refused.starts_with("values are nested 16 deep at most"), "{refused}");
        }
        assert!(check("[".repeat(100_000).as_bytes()).is_err(), "the stack is not at stake");
    }

    #[test]
    fn a_key_is_there_once_wherever_it_is_and_however_it_is_written() {
        for twice in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":1}"#, r#"[{"b":{"a":1,"c":2,"a":3}}]"#, r#"{"":1,"":1}"#] {
            let refused = check(twice.as_bytes()).unwrap_err().to_string();
            assert!(refused.starts_with("a key is there twice"), "{refused}");
        }
        assert!(check(br#"{"a":{"a":{"a":1}},"b":{"a":1},"A":1}"#).is_ok());
    }

    #[test]
    fn numbers_are_finite() {
        for number in ["1e400", "-1e400", "1e999999999999", "NaN", "Infinity", "-"] {
            assert!(check(format!("{{\"n\":{number}}}").as_bytes()).is_err(), "{number}");
        }
        for number in ["1e308", "-0", "18446744073709551616", "1e-400", "0.1"] {
            assert!(check(format!("[{number}]").as_bytes()).is_ok(), "{number}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused_and_what_is_is_read() {
        for text in ["", " ", "{", "[1,]", "{\"a\"}", "\"\\ud800\"", "1 2", "tru", "\u{0}"] {
            assert!(check(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(check(b"\"\xff\"").is_err());
        let text = r#" {"a":[null,true,"x",-1,2.5],"b":{}} "#;
        assert_eq!(read::<Value>(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }
}
