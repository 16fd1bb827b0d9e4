//! Sources: named tables over files in the object store.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// One table over files in the object store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Folder (or single file) of the table: a path, `s3://bucket/prefix` or `memory://name/prefix`.
    pub path: String,
    /// What the files are. CSV has a header line; JSON is one object a line; `.gz` and `.zst` are read as they are.
    #[serde(default)]
    pub format: Format,
    /// Name of the date in hive-style folders, `dt` for `dt=2026-11-20/`. Without it the whole folder is read.
    #[serde(default)]
    pub partition: Option<String>,
    /// The days that are read, relative to the date of the run, both ends included: `-6..0` is the week that ends with
    /// it. Only these partitions are listed. A window after the date (`1..2`) is for offline evaluation: only `holdout`
    /// may read it.
    #[serde(default)]
    pub days: Days,
    /// Read the newest partition that is not after the date, in place of a window: for tables that are written whole.
    #[serde(default)]
    pub snapshot: bool,
    /// Column that says since when a row is known (TIMESTAMP or DATE), where there may be several rows for one user: the built-in
    /// `positives` then sees of `users` the newest that is not after the event. When not given, and the window has several
    /// partitions, their rows count as known from the end of their day on; naming the partition here makes that the beginning.
    #[serde(default)]
    pub time: Option<String>,
    /// What a missing partition means. `fail`: the job stops. `skip`: without the date's own partition the run ends
    /// with 99, other days are left out. `latest`: the newest partition before it stands in.
    #[serde(default)]
    pub missing: Missing,
    /// A file that its writer puts into a partition last, `_SUCCESS` for example. A partition without it is not ready,
    /// and the run ends with 75 so that a scheduler tries again.
    #[serde(default)]
    pub ready: Option<String>,
    /// Columns that must be there, with their types. Further columns in the files are fine.
    #[serde(default, with = "super::ordered")]
    #[schemars(with = "std::collections::BTreeMap<String, ColumnType>")]
    pub columns: IndexMap<String, ColumnType>,
}

impl Source {
    /// Whether it may hold one thing several times, as it was at several times: a window of several partitions, or rows with a time.
    pub fn has_versions(&self) -> bool {
        let windowed = self.partition.is_some() && !self.snapshot && self.days.from != self.days.to;
        windowed || self.time.is_some()
    }
}

/// Format of a source's files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Parquet,
    Csv,
    Json,
}

/// What a missing partition means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    #[default]
    Fail,
    Skip,
    Latest,
}

/// Type of a declared column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// Any integer below 2^63. Unsigned ones from there on, as ids may be, are declared `varchar`.
    Bigint,
    /// Text.
    Varchar,
    /// Any floating point or decimal number.
    Double,
    Boolean,
    /// A point in time.
    Timestamp,
    Date,
    /// A list of integers.
    #[serde(rename = "bigint[]")]
    BigintList,
    /// A list of texts.
    #[serde(rename = "varchar[]")]
    VarcharList,
    /// A list of numbers.
    #[serde(rename = "double[]")]
    DoubleList,
}

/// A window of days relative to the date of the run, both ends included. Written `-6..0`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Days {
    pub from: i32,
    pub to: i32,
}

impl FromStr for Days {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a window of days; write it like `-6..0`, both ends included");
        let (from, to) = text.split_once("..").ok_or_else(bad)?;
        let days = Days {
            from: from.trim().parse().map_err(|_| bad())?,
            to: to.trim().trim_start_matches('=').parse().map_err(|_| bad())?,
        };
        if days.from > days.to {
            return Err(format!(
                "the window of days `{text}` ends before it begins; write the earlier day first, like `-6..0`"
            ));
        }
        Ok(days)
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.from, self.to)
    }
}

impl Serialize for Days {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Days {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Days {
    fn schema_name() -> Cow<'static, str> {
        "Days".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^-?[0-9]+\\.\\.-?[0-9]+$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_names_both_ends() {
        assert_eq!("-6..0".parse(), Ok(Days { from: -6, to: 0 }));
        assert!("0..-6".parse::<Days>().unwrap_err().contains("earlier day first"));
        assert!("week".parse::<Days>().is_err());
    }
}
