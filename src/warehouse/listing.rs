//! Which files a source means on a date: those of the partitions in its window, and none outside it.

use super::catalog::Folders;
use crate::artifacts::{InputFile, RunDate};
use crate::config::{Missing, Source};
use crate::error::{Error, Kind};
use crate::storage::{Object, Store};

/// The files of one source on one date.
#[derive(Clone)]
pub struct Listing {
    pub source: String,
    pub store: Store,
    pub settings: Source,
    /// In the order of their dates.
    pub partitions: Vec<Partition>,
    pub warnings: Vec<String>,
}

/// One partition, or the whole folder of a source without them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    pub date: Option<RunDate>,
    /// Relative to the source's path.
    pub folder: String,
    /// Data files, sorted by key.
    pub files: Vec<Object>,
}

impl Listing {
    /// Whether its window reaches past the date, so that only `holdout` may read it.
    pub fn is_after_date(&self) -> bool {
        is_after_date(&self.settings)
    }

    /// Every file with the size and version that the samples were made from.
    pub fn inputs(&self) -> Vec<InputFile> {
        let files = self.partitions.iter().flat_map(|partition| &partition.files);
        files
            .map(|file| InputFile {
                source: self.source.clone(),
                url: self.store.url_of(&file.key),
                bytes: file.size,
                version: file.version(),
            })
            .collect()
    }
}

/// Whether a source's window reaches past the date of the run.
pub fn is_after_date(source: &Source) -> bool {
    source.partition.is_some() && !source.snapshot && source.days.to > 0
}

/// Why there is nothing to make a date's samples from.
#[derive(Debug)]
pub enum Unlisted {
    /// Nothing will come: the policy is to skip such a date.
    NoData(Error),
    /// These partitions are missing, empty, or without their marker, and may be written yet.
    NotReady { partitions: Vec<String>, error: Error },
    /// The config or the store is at fault.
    Failed(Error),
}

impl Unlisted {
    /// The same with more words.
    fn and(mut self, words: &str) -> Self {
        let (Unlisted::NoData(error) | Unlisted::NotReady { error, .. } | Unlisted::Failed(error)) = &mut self;
        error.message += words;
        self
    }
}

impl From<Error> for Unlisted {
    fn from(error: Error) -> Self {
        Unlisted::Failed(error)
    }
}

impl From<Unlisted> for Error {
    fn from(unlisted: Unlisted) -> Self {
        match unlisted {
            Unlisted::NoData(error) | Unlisted::NotReady { error, .. } | Unlisted::Failed(error) => error,
        }
    }
}

type Result<T> = std::result::Result<T, Unlisted>;

/// What stands where a partition should be.
enum Found {
    Data(Partition),
    Missing,
    Empty,
    /// Its marker is not there yet.
    Unmarked,
}

/// One source on one date, by its window and its policy for missing partitions.
pub(super) struct Lister<'a> {
    folders: &'a Folders,
    source: &'a Source,
    date: RunDate,
    warnings: Vec<String>,
}

impl<'a> Lister<'a> {
    pub fn new(folders: &'a Folders, date: RunDate) -> Self {
        Lister { folders, source: &folders.settings, date, warnings: Vec::new() }
    }

    pub async fn list(mut self) -> Result<Listing> {
        let partitions = match (&self.source.partition, self.source.snapshot) {
            (None, _) => vec![self.whole_folder().await?],
            (Some(_), true) => vec![self.snapshot().await?],
            (Some(key), false) => match self.window().await {
                Ok(partitions) => partitions,
                Err(failed @ Unlisted::Failed(_)) => return Err(failed),
                Err(unlisted) => return Err(unlisted.and(&self.none_at_all(key).await?)),
            },
        };
        Ok(Listing {
            source: self.folders.source.clone(),
            store: self.folders.store.clone(),
            settings: self.source.clone(),
            partitions,
            warnings: self.warnings,
        })
    }

    /// Every file below the path, or the path itself when it is a file.
    async fn whole_folder(&self) -> Result<Partition> {
        let objects = self.folders.objects("").await?;
        if let [file] = &objects[..]
            && file.key.is_empty()
        {
            return Ok(Partition { date: None, folder: String::new(), files: vec![file.clone()] });
        }
        let name = &self.folders.source;
        match self.read_folder("", None).await? {
            Found::Data(partition) => Ok(partition),
            Found::Missing => Err(Unlisted::Failed(Error::config(format!(
                "source `{name}`: {} does not exist or is empty; look at `sources.{name}.path`",
                self.folders.store.url()
            )))),
            Found::Empty => Err(Unlisted::Failed(self.gap("", &Found::Empty))),
            Found::Unmarked => Err(self.not_ready(&[String::new()])),
        }
    }

    async fn snapshot(&self) -> Result<Partition> {
        let dates = self.folders.dates().await?;
        for date in dates.iter().rev().filter(|date| **date <= self.date) {
            match self.read_partition(*date).await? {
                Found::Data(partition) => return Ok(partition),
                Found::Unmarked => return Err(self.not_ready(&[self.folders.name(*date)])),
                _ if self.source.missing == Missing::Latest => {}
                found => return Err(self.by_policy(&self.folders.name(*date), &found)),
            }
        }
        let (name, url) = (&self.folders.source, self.folders.store.url());
        let key = self.source.partition.as_deref().unwrap_or_default();
        let error = Error::config(format!(
            "source `{name}`: missing partition {url}/{key}=…: none that is not after {} and holds data; look at `sources.{name}.path`",
            self.date
        ));
        Err(match self.source.missing {
            Missing::Skip => Unlisted::NoData(Error { kind: Kind::NoData, ..error }),
            _ => {
                Unlisted::NotReady { partitions: vec![self.folders.store.url_of(&self.folders.name(self.date))], error }
            }
        })
    }

    async fn window(&mut self) -> Result<Vec<Partition>> {
        let days = self.source.days;
        let wanted: Vec<RunDate> = self.date.offset(days.from).to(self.date.offset(days.to)).collect();
        // a window that does not hold the date itself stands or falls with its last day
        let own = if days.from <= 0 && 0 <= days.to { self.date } else { self.date.offset(days.to) };
        let mut partitions = Vec::new();
        let mut gaps = Vec::new();
        let mut unmarked = Vec::new();
        for date in &wanted {
            match self.read_partition(*date).await? {
                Found::Data(partition) => partitions.push(partition),
                Found::Unmarked => unmarked.push(self.folders.name(*date)),
                found => gaps.push((*date, found)),
            }
        }
        if !unmarked.is_empty() {
            return Err(self.not_ready(&unmarked));
        }
        if self.source.missing == Missing::Fail
            && let Some((date, found)) = gaps.last()
        {
            let error = self.gap(&self.folders.name(*date), found);
            let partitions =
                gaps.iter().map(|(date, _)| self.folders.store.url_of(&self.folders.name(*date))).collect();
            return Err(Unlisted::NotReady { partitions, error });
        }
        self.fill(gaps, &wanted, own, &mut partitions).await?;
        partitions.sort_by_key(|partition| partition.date);
        Ok(partitions)
    }

    /// A path or a key that is misspelt looks like a missing day: what tells them apart, where there is no partition of any day.
    async fn none_at_all(&self, key: &str) -> Result<String> {
        let (name, url) = (&self.folders.source, self.folders.store.url());
        Ok(match self.folders.dates().await? {
            [] => format!(
                "; {url} has no folder `{key}=YYYY-MM-DD` of any day, so look at `sources.{name}.path` and `sources.{name}.partition`"
            ),
            _ => String::new(),
        })
    }

    /// Leaves gaps out, or lets earlier partitions stand in.
    async fn fill(
        &mut self,
        gaps: Vec<(RunDate, Found)>,
        wanted: &[RunDate],
        own: RunDate,
        partitions: &mut Vec<Partition>,
    ) -> Result<()> {
        let mut earlier = match self.source.missing {
            Missing::Latest if !gaps.is_empty() => self.folders.dates().await?.to_vec(),
            _ => Vec::new(),
        };
        earlier.retain(|date| *date < wanted[0]);
        // the newest gap takes the newest stand-in
        for (date, found) in gaps.into_iter().rev() {
            let folder = self.folders.name(date);
            match self.source.missing {
                Missing::Fail | Missing::Skip if date == own => return Err(self.by_policy(&folder, &found)),
                Missing::Fail | Missing::Skip => {
                    self.warnings.push(format!("{}; the day is left out", self.describe(&folder, &found)));
                }
                Missing::Latest => {
                    let Some(stand_in) = self.newest(&mut earlier).await? else {
                        let error = self.gap(&folder, &found);
                        let message = format!("{}; no earlier partition is left to stand in", error.message);
                        let partitions = vec![self.folders.store.url_of(&folder)];
                        return Err(Unlisted::NotReady { partitions, error: Error { message, ..error } });
                    };
                    self.warnings.push(format!("{}; {} stands in", self.describe(&folder, &found), stand_in.folder));
                    partitions.push(stand_in);
                }
            }
        }
        Ok(())
    }

    /// Takes the newest of `dates` that holds data.
    async fn newest(&self, dates: &mut Vec<RunDate>) -> Result<Option<Partition>> {
        while let Some(date) = dates.pop() {
            match self.read_partition(date).await? {
                Found::Data(partition) => return Ok(Some(partition)),
                Found::Unmarked => return Err(self.not_ready(&[self.folders.name(date)])),
                Found::Missing | Found::Empty => {}
            }
        }
        Ok(None)
    }

    async fn read_partition(&self, date: RunDate) -> Result<Found> {
        self.read_folder(&self.folders.name(date), Some(date)).await
    }

    async fn read_folder(&self, folder: &str, date: Option<RunDate>) -> Result<Found> {
        let objects = self.folders.objects(folder).await?;
        if objects.is_empty() {
            return Ok(Found::Missing);
        }
        let below = |key: &str| key.strip_prefix(folder).unwrap_or(key).trim_start_matches('/').to_string();
        let marker = self.source.ready.as_deref();
        if let Some(marker) = marker
            && !objects.iter().any(|object| below(&object.key) == marker)
        {
            return Ok(Found::Unmarked);
        }
        let hidden = |key: &str| below(key).split('/').any(|part| part.starts_with(['_', '.']));
        let is_data = |object: &&Object| !hidden(&object.key) && marker != Some(below(&object.key).as_str());
        let files: Vec<Object> = objects.iter().filter(is_data).cloned().collect();
        if files.is_empty() {
            return Ok(Found::Empty);
        }
        Ok(Found::Data(Partition { date, folder: folder.to_string(), files }))
    }

    fn describe(&self, folder: &str, found: &Found) -> String {
        let what = match found {
            Found::Empty => "empty partition",
            _ => "missing partition",
        };
        format!("source `{}`: {what} {}", self.folders.source, self.folders.store.url_of(folder))
    }

    fn gap(&self, folder: &str, found: &Found) -> Error {
        let what = match found {
            Found::Empty => "the folder holds no data file (names that begin with `_` or `.` do not count)",
            _ => "there is no such folder",
        };
        let advice = match &self.source.partition {
            Some(_) => format!("; write it, or set `sources.{}.missing` to `skip` or `latest`", self.folders.source),
            None => String::new(),
        };
        Error::config(format!("{}: {what}{advice}", self.describe(folder, found)))
    }

    /// Partitions that have been begun and do not have their marker yet.
    fn not_ready(&self, folders: &[String]) -> Unlisted {
        let partitions: Vec<String> = folders.iter().map(|folder| self.folders.store.url_of(folder)).collect();
        let error = Error::transient(format!(
            "source `{}`: partition {} is not ready: its marker `{}` is not there yet; try again later",
            self.folders.source,
            partitions[0],
            self.source.ready.as_deref().unwrap_or_default()
        ));
        Unlisted::NotReady { partitions, error }
    }

    fn by_policy(&self, folder: &str, found: &Found) -> Unlisted {
        if self.source.missing == Missing::Skip {
            let message = format!(
                "no data for {}: {}, and its policy is `missing: skip`",
                self.date,
                self.describe(folder, found)
            );
            return Unlisted::NoData(Error::new(Kind::NoData, message));
        }
        let partitions = vec![self.folders.store.url_of(folder)];
        Unlisted::NotReady { partitions, error: self.gap(folder, found) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Days};
    use crate::storage::open;

    /// A source over the keys given, in a memory store of its own.
    async fn listed(name: &str, keys: &[&str], change: impl FnOnce(&mut Source)) -> crate::error::Result<Vec<String>> {
        let url = format!("memory://listing-{name}/logs");
        let store = open(&url).unwrap();
        for key in keys {
            store.put(key, "x").await.unwrap();
        }
        let text = format!(
            "version: 1\nname: a\noutput: out\nsources:\n  logs: {{path: '{url}', partition: dt}}\nfeatures: {{user: {{u: {{kind: id}}}}, item: {{i: {{kind: id}}}}}}\n"
        );
        let config = Config::parse(&text, "job.yaml", &Default::default()).unwrap();
        let mut source = config.sources["logs"].clone();
        change(&mut source);
        let date = "2026-11-20".parse().unwrap();
        let store = open(&config.resolve(&source.path)).unwrap();
        let folders = Folders::new("logs", &source, store, date, date);
        let listing = Lister::new(&folders, date).list().await?;
        let files = listing.partitions.iter().flat_map(|p| p.files.iter().map(|f| f.key.clone()));
        Ok(files.chain(listing.warnings.iter().map(|w| format!("warning: {w}"))).collect())
    }

    fn days(from: i32, to: i32) -> Days {
        Days { from, to }
    }

    #[tokio::test]
    async fn only_the_window_is_read_and_hidden_files_are_not() {
        let keys =
            ["dt=2026-11-18/a", "dt=2026-11-19/a", "dt=2026-11-20/_SUCCESS", "dt=2026-11-20/h=1/b", "dt=2026-11-21/a"];
        let files = listed("window", &keys, |s| s.days = days(-1, 0)).await.unwrap();
        assert_eq!(files, ["dt=2026-11-19/a", "dt=2026-11-20/h=1/b"]);
    }

    #[tokio::test]
    async fn a_snapshot_is_the_newest_partition_not_after_the_date() {
        let keys = ["dt=2026-11-11/a", "dt=2026-11-18/a", "dt=2026-11-21/a"];
        assert_eq!(listed("snapshot", &keys, |s| s.snapshot = true).await.unwrap(), ["dt=2026-11-18/a"]);
        let none = listed("snapshot-none", &["dt=2026-11-21/a"], |s| s.snapshot = true).await.unwrap_err();
        assert_eq!(none.kind, Kind::Config);
    }

    #[tokio::test]
    async fn a_missing_day_fails_or_is_skipped_or_an_earlier_one_stands_in() {
        let keys = ["dt=2026-11-15/a", "dt=2026-11-16/a", "dt=2026-11-19/a"];
        let fail = listed("fail", &keys, |s| s.days = days(-1, 0)).await.unwrap_err();
        assert_eq!(fail.kind, Kind::Config);
        let skip = |s: &mut Source| (s.days, s.missing) = (days(-1, 0), Missing::Skip);
        assert_eq!(listed("skip", &keys, skip).await.unwrap_err().kind, Kind::NoData);
        let left_out = |s: &mut Source| (s.days, s.missing) = (days(-2, -1), Missing::Skip);
        let files = listed("left-out", &keys, left_out).await.unwrap();
        assert_eq!(files[0], "dt=2026-11-19/a");
        assert!(files[1].contains("missing partition") && files[1].contains("dt=2026-11-18"), "{files:?}");
        let latest = |s: &mut Source| (s.days, s.missing) = (days(-2, 0), Missing::Latest);
        let files = listed("latest", &keys, latest).await.unwrap();
        assert_eq!(files[..3], ["dt=2026-11-15/a", "dt=2026-11-16/a", "dt=2026-11-19/a"]);
    }

    #[tokio::test]
    async fn a_source_without_any_partition_is_told_from_one_that_lacks_a_day() {
        let misspelt = "has no folder `dt=YYYY-MM-DD` of any day";
        for missing in [Missing::Fail, Missing::Skip] {
            let day = listed("one-day", &["dt=2026-11-19/a"], |s| s.missing = missing).await.unwrap_err();
            assert!(!day.message.contains(misspelt), "{day}");
            let all =
                listed("no-day", &["day=2026-11-20/a", "dt=20261120/a"], |s| s.missing = missing).await.unwrap_err();
            assert!(all.message.contains(misspelt) && all.message.contains("sources.logs.partition"), "{all}");
        }
    }

    #[tokio::test]
    async fn a_partition_without_its_marker_is_tried_again_later() {
        let ready = |s: &mut Source| s.ready = Some("_SUCCESS".into());
        assert_eq!(listed("not-ready", &["dt=2026-11-20/a"], ready).await.unwrap_err().kind, Kind::Transient);
        let keys = ["dt=2026-11-20/a", "dt=2026-11-20/_SUCCESS"];
        assert_eq!(listed("ready", &keys, ready).await.unwrap(), ["dt=2026-11-20/a"]);
    }

    #[tokio::test]
    async fn a_source_without_partitions_is_a_folder_or_a_file() {
        let whole = |s: &mut Source| s.partition = None;
        assert_eq!(listed("whole", &["a", "b/c", "_tmp/d"], whole).await.unwrap(), ["a", "b/c"]);
        let file = |s: &mut Source| (s.partition, s.path) = (None, "memory://listing-file/logs/a".into());
        assert_eq!(listed("file", &["a", "b"], file).await.unwrap(), [""]);
    }
}
