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
    /// Of a source that moved: the folder that its partitions lay in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
}

/// What became of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    Added,
    Removed,
    Changed,
    /// The source is read from another folder, which stands in the place of the partition. What differs in it comes beside.
    Moved,
}

impl fmt::Display for PartitionChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.change {
            Change::Added => "was added",
            Change::Removed => "is gone",
            Change::Changed => "changed",
            Change::Moved => {
                let was = self.was.as_deref().unwrap_or_default();
                return write!(f, "source `{}`: read from {}, was {was}", self.source, self.partition);
            }
        };
        let mut files = self.files.iter().take(FILES_SHOWN).cloned().collect::<Vec<_>>().join(", ");
        if self.files.len() > FILES_SHOWN {
            files += &format!(" and {} more", self.files.len() - FILES_SHOWN);
        }
        write!(f, "source `{}`: {} {what} ({files})", self.source, self.partition)
    }
}

/// The partitions that differ between the `earlier` inputs of some samples and those they would be made from `now`, by source and
/// place. A window that moved on shows as a partition gone and one added: compare samples of one date. Where all of a source lies in
/// another folder than it did, that is one change, and its partitions are compared by their names and the sizes of their files, since a
/// copy of a file is another version of it.
pub fn changes(earlier: &[InputFile], now: &[InputFile]) -> Vec<PartitionChange> {
    let (from, to) = (folders(earlier), folders(now));
    let moves = from.iter().filter_map(|(source, was)| {
        let (was, is) = ((*was)?, to.get(source).copied().flatten()?);
        (was != is).then_some((*source, (was, is)))
    });
    let moves: BTreeMap<&str, (&str, &str)> = moves.collect();
    let (before, after) = (by_partition(earlier, &moves), by_partition(now, &BTreeMap::new()));
    let all: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let none = BTreeMap::new();
    let changed = all.into_iter().filter_map(|place| {
        let (was, is) = (before.get(place).unwrap_or(&none), after.get(place).unwrap_or(&none));
        let names: BTreeSet<&str> = was.keys().chain(is.keys()).copied().collect();
        let moved = moves.contains_key(place.0);
        let size = |files: &BTreeMap<&str, (u64, &str)>, name: &str| files.get(name).map(|(bytes, _)| *bytes);
        let same = |name: &str| if moved { size(was, name) == size(is, name) } else { was.get(name) == is.get(name) };
        let files: Vec<String> = names.into_iter().filter(|name| !same(name)).map(String::from).collect();
        let change = match (was.is_empty(), is.is_empty()) {
            (true, false) => Change::Added,
            (false, true) => Change::Removed,
            _ => Change::Changed,
        };
        let (source, partition) = (place.0.to_string(), place.1.clone());
        (!files.is_empty()).then_some(PartitionChange { source, partition, change, files, was: None })
    });
    let moved = moves.iter().map(|(source, (was, is))| PartitionChange {
        source: source.to_string(),
        partition: is.to_string(),
        change: Change::Moved,
        files: Vec::new(),
        was: Some(was.to_string()),
    });
    moved.chain(changed).collect()
}

/// The folder that the partitions of each source lie in, or that of its files where it has none; `None` where there are several.
fn folders(inputs: &[InputFile]) -> BTreeMap<&str, Option<&str>> {
    let mut found = BTreeMap::new();
    for input in inputs {
        let (partition, _) = split(&input.url);
        let folder = match partition.rsplit_once('/') {
            Some((folder, name)) if is_date(name) => folder,
            _ => partition,
        };
        let known = found.entry(input.source.as_str()).or_insert(Some(folder));
        *known = known.filter(|known| *known == folder);
    }
    found
}

/// Size and version of each file, by source and partition and then by the file's place in it.
type ByPartition<'a> = BTreeMap<(&'a str, String), BTreeMap<&'a str, (u64, &'a str)>>;

/// With the partitions of sources in `moves` in the folder that they moved to.
fn by_partition<'a>(inputs: &'a [InputFile], moves: &BTreeMap<&str, (&str, &str)>) -> ByPartition<'a> {
    let mut found = ByPartition::new();
    for input in inputs {
        let (partition, file) = split(&input.url);
        let partition = match moves.get(input.source.as_str()) {
            Some((was, is)) => format!("{is}{}", partition.strip_prefix(was).unwrap_or(partition)),
            None => partition.to_string(),
        };
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
        if is_date(part) && end < url.len() {
            return (&url[..end - 1], &url[end..]);
        }
    }
    url.rsplit_once('/').unwrap_or(("", url))
}

/// Whether a folder's name is that of a partition.
fn is_date(folder: &str) -> bool {
    folder.split_once('=').is_some_and(|(_, date)| date.parse::<crate::artifacts::RunDate>().is_ok())
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
    #[test]
    fn a_source_whose_folder_became_another_moved_and_has_no_late_files() {
        let earlier = inputs(&[("clicks/dt=2026-11-19/a", "1"), ("clicks/dt=2026-11-20/h=1/a", "1"), ("items/a", "1")]);
        let mut now = inputs(&[("clicks/dt=2026-11-19/a", "7"), ("clicks/dt=2026-11-20/h=1/a", "8"), ("items/a", "1")]);
        now.iter_mut().for_each(|file| file.url = file.url.replace("/clicks/", "/old/clicks_2/"));
        let found = |now: &[InputFile]| changes(&earlier, now).iter().map(ToString::to_string).collect::<Vec<_>>();
        let moved = "source `clicks`: read from s3://logs/old/clicks_2, was s3://logs/clicks";
        assert_eq!(found(&now), [moved]);
        // what has another size differs, whatever the folder
        now[0].bytes = 2;
        assert_eq!(found(&now), [moved, "source `clicks`: s3://logs/old/clicks_2/dt=2026-11-19 changed (a)"]);
        // half of it elsewhere is no move
        now[0].url = earlier[0].url.clone();
        assert_eq!(found(&now).len(), 3, "{:?}", found(&now));
    }
}
