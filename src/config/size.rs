//! Sizes of memory: `2GiB`, `512MiB`, or plain bytes.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of bytes, written `2GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl ByteSize {
    pub const fn mib(n: u64) -> Self {
        ByteSize(n << 20)
    }

    pub fn bytes(self) -> usize {
        self.0 as usize
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        for (unit, factor) in UNITS {
            if let Some(number) = text.strip_suffix(unit) {
                let number: f64 = number.trim().parse().ok()?;
                return (number > 0.0).then_some(ByteSize((number * factor as f64) as u64));
            }
        }
        text.trim_end_matches('B').trim().parse().ok().map(ByteSize)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in UNITS {
            if self.0 >= factor {
                let number = self.0 as f64 / factor as f64;
                return if number.fract() == 0.0 {
                    write!(f, "{number}{unit}")
                } else {
                    write!(f, "{number:.1}{unit}")
                };
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Bytes(u64),
            Text(String),
        }
        match Raw::deserialize(deserializer) {
            Ok(Raw::Bytes(bytes)) => Ok(ByteSize(bytes)),
            Ok(Raw::Text(text)) => ByteSize::parse(&text)
                .ok_or_else(|| de::Error::custom(format!("`{text}` is not a size; write it like 2GiB or 512MiB"))),
            Err(_) => Err(de::Error::custom("not a size; write it like 2GiB or 512MiB")),
        }
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "pattern": "^[0-9.]+ *([KMGT]iB|B)?$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_write_the_same() {
        for (text, bytes) in [("2GiB", 2u64 << 30), ("512MiB", 512 << 20), ("1.5GiB", 3 << 29), ("100B", 100)] {
            assert_eq!(ByteSize::parse(text), Some(ByteSize(bytes)));
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
        assert_eq!(ByteSize::parse("a lot"), None);
    }
}
