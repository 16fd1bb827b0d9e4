//! Which files a source means on a date: one list call for each partition of the window, and none outside it.

use futures::{StreamExt, TryStreamExt, stream};

use crate::artifacts::{InputFile, RunDate};
use crate::config::{Config, Missing, Source};
use crate::error::{Error, Kind, Result};
use crate::storage::{Object, Store, open};

/// Partitions that are listed at the same time.
const LISTED_AT_ONCE: usize = 8;

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
                version: file.e_tag.clone().unwrap_or_else(|| file.modified.to_rfc3339()),
            })
            .collect()
    }
}

/// Whether a source's window reaches past the date of the run.
pub fn is_after_date(source: &Source) -> bool {
    source.partition.is_some() && !source.snapshot && source.days.to > 0
}

/// Lists what `source` means on `date`, by its window and its policy for missing partitions.
pub async fn list_source(config: &Config, name: &str, source: &Source, date: RunDate) -> Result<Listing> {
    let store = open(&config.resolve(&source.path))?;
    let mut lister = Lister { name, source, store: &store, date, warnings: Vec::new() };
    let partitions = match &source.partition {
        None => vec![lister.whole_folder().await?],
        Some(key) if source.snapshot => vec![lister.snapshot(key).await?],
        Some(key) => lister.window(key).await?,
    };
    let warnings = lister.warnings;
    Ok(Listing { source: name.into(), settings: source.clone(), partitions, warnings, store })
}

/// What stands where a partition should be.
enum Found {
    Data(Partition),
    Missing,
    Empty,
}

struct Lister<'a> {
    name: &'a str,
    source: &'a Source,
    store: &'a Store,
    date: RunDate,
    warnings: Vec<String>,
}

impl Lister<'_> {
    /// Every file below the path, or the path itself when it is a file.
    async fn whole_folder(&self) -> Result<Partition> {
        if !self.store.path_of("").as_ref().is_empty()
            && let Some(file) = self.store.head("").await?
        {
            return Ok(Partition { date: None, folder: String::new(), files: vec![file] });
        }
        match self.read_folder("", None).await? {
            Found::Data(partition) => Ok(partition),
            Found::Missing => Err(Error::config(format!(
                "source `{}`: {} does not exist or is empty; look at `sources.{}.path`",
                self.name,
                self.store.url(),
                self.name
            ))),
            Found::Empty => Err(self.gap("", &Found::Empty)),
        }
    }

    async fn snapshot(&self, key: &str) -> Result<Partition> {
        let mut dates = self.dates(key).await?;
        dates.retain(|date| *date <= self.date);
        for date in dates.into_iter().rev() {
            match self.read_partition(key, date).await? {
                Found::Data(partition) => return Ok(partition),
                _ if self.source.missing == Missing::Latest => {}
                found => return Err(self.by_policy(&folder_name(key, date), &found)),
            }
        }
        let error = Error::config(format!(
            "source `{}`: missing partition {}/{key}=…: none that is not after {} and holds data; look at `sources.{}.path`",
            self.name,
            self.store.url(),
            self.date,
            self.name
        ));
        Err(if self.source.missing == Missing::Skip { Error { kind: Kind::NoData, ..error } } else { error })
    }

    async fn window(&mut self, key: &str) -> Result<Vec<Partition>> {
        let days = self.source.days;
        let wanted: Vec<RunDate> = self.date.offset(days.from).to(self.date.offset(days.to)).collect();
        // a window that does not hold the date itself stands or falls with its last day
        let own = if days.from <= 0 && 0 <= days.to { self.date } else { self.date.offset(days.to) };
        let this = &*self;
        let found: Vec<Found> = stream::iter(&wanted)
            .map(|date| this.read_partition(key, *date))
            .buffered(LISTED_AT_ONCE)
            .try_collect()
            .await?;
        let mut partitions = Vec::new();
        let mut gaps = Vec::new();
        for (date, found) in wanted.iter().zip(found) {
            match found {
                Found::Data(partition) => partitions.push(partition),
                found => gaps.push((*date, found)),
            }
        }
        if gaps.is_empty() {
            return Ok(partitions);
        }
        let mut earlier = match self.source.missing {
            Missing::Latest => self.dates(key).await?,
            Missing::Fail | Missing::Skip => Vec::new(),
        };
        earlier.retain(|date| *date < wanted[0]);
        // the newest gap takes the newest stand-in
        for (date, found) in gaps.into_iter().rev() {
            let folder = folder_name(key, date);
            match self.source.missing {
                Missing::Fail => return Err(self.gap(&folder, &found)),
                Missing::Skip if date == own => return Err(self.by_policy(&folder, &found)),
                Missing::Skip => self.warnings.push(format!("{}; the day is left out", self.describe(&folder, &found))),
                Missing::Latest => {
                    let stand_in = self.newest(key, &mut earlier).await?.ok_or_else(|| {
                        let error = self.gap(&folder, &found);
                        Error {
                            message: format!("{}; no earlier partition is left to stand in", error.message),
                            ..error
                        }
                    })?;
                    self.warnings.push(format!("{}; {} stands in", self.describe(&folder, &found), stand_in.folder));
                    partitions.push(stand_in);
                }
            }
        }
        partitions.sort_by_key(|partition| partition.date);
        Ok(partitions)
    }

    /// Takes the newest of `dates` that holds data.
    async fn newest(&self, key: &str, dates: &mut Vec<RunDate>) -> Result<Option<Partition>> {
        while let Some(date) = dates.pop() {
            if let Found::Data(partition) = self.read_partition(key, date).await? {
                return Ok(Some(partition));
            }
        }
        Ok(None)
    }

    /// The dates that have a folder, in order.
    async fn dates(&self, key: &str) -> Result<Vec<RunDate>> {
        let (folders, _) = self.store.list_level("").await?;
        let dates = folders.iter().filter_map(|folder| folder.strip_prefix(key)?.strip_prefix('=')?.parse().ok());
        let mut dates: Vec<RunDate> = dates.collect();
        dates.sort();
        Ok(dates)
    }

    async fn read_partition(&self, key: &str, date: RunDate) -> Result<Found> {
        self.read_folder(&folder_name(key, date), Some(date)).await
    }

    async fn read_folder(&self, folder: &str, date: Option<RunDate>) -> Result<Found> {
        let objects = self.store.list(folder).await?;
        if objects.is_empty() {
            return Ok(Found::Missing);
        }
        let below = |key: &str| key.strip_prefix(folder).unwrap_or(key).trim_start_matches('/').to_string();
        if let Some(marker) = &self.source.ready
            && !objects.iter().any(|object| below(&object.key) == *marker)
        {
            return Err(Error::transient(format!(
                "source `{}`: partition {} is not ready: its marker `{marker}` is not there yet; try again later",
                self.name,
                self.store.url_of(folder)
            )));
        }
        let hidden = |key: &str| below(key).split('/').any(|part| part.starts_with(['_', '.']));
        let marker = self.source.ready.as_deref();
        let is_data = |object: &Object| !hidden(&object.key) && marker != Some(below(&object.key).as_str());
        let files: Vec<Object> = objects.into_iter().filter(is_data).collect();
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
        format!("source `{}`: {what} {}", self.name, self.store.url_of(folder))
    }

    fn gap(&self, folder: &str, found: &Found) -> Error {
        let what = match found {
            Found::Empty => "the folder holds no data file (names that begin with `_` or `.` do not count)",
            _ => "there is no such folder",
        };
        let advice = match &self.source.partition {
            Some(_) => format!("; write it, or set `sources.{}.missing` to `skip` or `latest`", self.name),
            None => String::new(),
        };
        Error::config(format!("{}: {what}{advice}", self.describe(folder, found)))
    }

    fn by_policy(&self, folder: &str, found: &Found) -> Error {
        if self.source.missing == Missing::Skip {
            let message = format!(
                "no data for {}: {}, and its policy is `missing: skip`",
                self.date,
                self.describe(folder, found)
            );
            return Error::new(Kind::NoData, message);
        }
        self.gap(folder, found)
    }
}

fn folder_name(key: &str, date: RunDate) -> String {
    format!("{key}={date}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Days;

    /// A source over the keys given, in a memory store of its own.
    async fn listed(name: &str, keys: &[&str], change: impl FnOnce(&mut Source)) -> Result<Vec<String>> {
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
        let listing = list_source(&config, "logs", &source, "2026-11-20".parse().unwrap()).await?;
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
