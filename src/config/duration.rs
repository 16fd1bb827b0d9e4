//! Lengths of time: `60s`, `10m`, `24h`, `7d`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time, written `10m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub std::time::Duration);

/// In milliseconds.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];

impl Duration {
    pub const fn seconds(n: u64) -> Self {
        Duration(std::time::Duration::from_secs(n))
    }

    fn parse(text: &str) -> Option<Self> {
        let (unit, number) = UNITS.iter().find_map(|unit| Some((unit, text.trim().strip_suffix(unit.0)?)))?;
        let milliseconds = number.trim().parse::<u64>().ok()?.checked_mul(unit.1)?;
        Some(Duration(std::time::Duration::from_millis(milliseconds)))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis() as u64;
        let (unit, factor) = UNITS[1..]
            .iter()
            .find(|(_, factor)| milliseconds > 0 && milliseconds.is_multiple_of(*factor))
            .unwrap_or(&UNITS[0]);
        write!(f, "{}{unit}", milliseconds / factor)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hint = "write it with a unit, like 60s, 10m, 24h or 7d";
        let text = String::deserialize(deserializer)
            .map_err(|_| de::Error::custom(format!("not a length of time; {hint}")))?;
        Duration::parse(&text).ok_or_else(|| de::Error::custom(format!("`{text}` is not a length of time; {hint}")))
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+ *(ms|s|m|h|d)$" })
    }
}

impl std::str::FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Duration::parse(text)
            .ok_or_else(|| format!("`{text}` is not a length of time; write it like 60s, 10m, 24h or 7d"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_read_and_write_the_same() {
        for (text, milliseconds) in
            [("250ms", 250), ("90s", 90_000), ("10m", 600_000), ("36h", 129_600_000), ("7d", 604_800_000), ("0ms", 0)]
        {
            let read = Duration::parse(text).unwrap();
            assert_eq!((read.0.as_millis(), read.to_string()), (milliseconds, text.to_string()));
        }
        assert_eq!(Duration::parse("10"), None);
        assert_eq!(Duration::parse("soon"), None);
    }
}
