//! What became of the sources' files since samples were made from them: late rows, a partition written anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::artifacts::InputFile;

/// Files named for each partition.
const FILES_SHOWN: usize = 3;

/// A partition of a source whose files are not those that the samples were made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionChange {
    pub source: String,
    /// The partition's folder, or the source's own where it has none.
    pub partition: String,
    pub change: Change,
    /// The files that are new, gone, or another version, by their place in the partition.
    pub files: Vec<String>,
}

/// What became of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    Added,
    Removed,
    Changed,
}

impl fmt::Display for PartitionChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.change {
            Change::Added => "was added",
            Change::Removed => "is gone",
            Change::Changed => "changed",
        };
        let mut files = self.files.iter().take(FILES_SHOWN).cloned().collect::<Vec<_>>().join(", ");
        if self.files.len() > FILES_SHOWN {
            files += &format!(" and {} more", self.files.len() - FILES_SHOWN);
        }
        write!(f, "source `{}`: {} {what} ({files})", self.source, self.partition)
    }
}

/// The partitions that differ between the `earlier` inputs of some samples and those they would be made from `now`, by source and
/// place. A window that moved on shows as a partition gone and one added: compare samples of one date.
pub fn changes(earlier: &[InputFile], now: &[InputFile]) -> Vec<PartitionChange> {
    let (before, after) = (by_partition(earlier), by_partition(now));
    let all: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let none = BTreeMap::new();
    let changed = all.into_iter().filter_map(|place| {
        let (was, is) = (before.get(place).unwrap_or(&none), after.get(place).unwrap_or(&none));
        let names: BTreeSet<&str> = was.keys().chain(is.keys()).copied().collect();
        let files: Vec<String> =
            names.into_iter().filter(|name| was.get(name) != is.get(name)).map(String::from).collect();
        let change = match (was.is_empty(), is.is_empty()) {
            (true, false) => Change::Added,
            (false, true) => Change::Removed,
            _ => Change::Changed,
        };
        let (source, partition) = (place.0.to_string(), place.1.to_string());
        (!files.is_empty()).then_some(PartitionChange { source, partition, change, files })
    });
    changed.collect()
}

/// Size and version of each file, by source and partition and then by the file's place in it.
type ByPartition<'a> = BTreeMap<(&'a str, &'a str), BTreeMap<&'a str, (u64, &'a str)>>;

fn by_partition(inputs: &[InputFile]) -> ByPartition<'_> {
    let mut found = ByPartition::new();
    for input in inputs {
        let (partition, file) = split(&input.url);
        let files = found.entry((input.source.as_str(), partition)).or_default();
        files.insert(file, (input.bytes, input.version.as_str()));
    }
    found
}

/// A file's place as its partition's folder and the rest: the first folder that names a date (`dt=2026-11-20`), else the last folder.
pub(super) fn split(url: &str) -> (&str, &str) {
    let mut end = 0;
    for part in url.split('/') {
        end += part.len() + 1;
        let is_date = part.split_once('=').is_some_and(|(_, date)| date.parse::<crate::artifacts::RunDate>().is_ok());
        if is_date && end < url.len() {
            return (&url[..end - 1], &url[end..]);
        }
    }
    url.rsplit_once('/').unwrap_or(("", url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(files: &[(&str, &str)]) -> Vec<InputFile> {
        let file = |(key, version): &(&str, &str)| InputFile {
            source: key.split('/').next().unwrap().into(),
            url: format!("s3://logs/{key}"),
            bytes: 1,
            version: version.to_string(),
        };
        files.iter().map(file).collect()
    }

    #[test]
    fn late_files_name_their_partition() {
        let earlier = inputs(&[
            ("clicks/dt=2026-11-19/a", "1"),
            ("clicks/dt=2026-11-20/h=1/a", "1"),
            ("clicks/dt=2026-11-18/a", "1"),
            ("items/a", "1"),
        ]);
        let now = inputs(&[
            ("clicks/dt=2026-11-19/a", "1"),
            ("clicks/dt=2026-11-20/h=1/a", "1"),
            ("clicks/dt=2026-11-20/h=2/b", "1"),
            ("clicks/dt=2026-11-21/a", "1"),
            ("items/a", "2"),
        ]);
        assert_eq!(changes(&now, &now), []);
        let found: Vec<String> = changes(&earlier, &now).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "source `clicks`: s3://logs/clicks/dt=2026-11-18 is gone (a)",
                "source `clicks`: s3://logs/clicks/dt=2026-11-20 changed (h=2/b)",
                "source `clicks`: s3://logs/clicks/dt=2026-11-21 was added (a)",
                "source `items`: s3://logs/items changed (a)",
            ]
        );
    }
}
