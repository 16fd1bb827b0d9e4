//! What lies in the folders of the sources, asked once for all the dates of a range.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::OnceCell;

use super::listing::{Lister, Listing, Unlisted};
use crate::artifacts::RunDate;
use crate::config::{Config, Source};
use crate::error::Result;
use crate::storage::{Object, Store, open};

/// The sources of a job, for the dates of a range.
pub struct Catalog {
    sources: Vec<Folders>,
}

impl Catalog {
    /// Of those sources that `read` names. Nothing is asked yet.
    pub fn new(config: &Config, read: impl Fn(&str) -> bool, first: RunDate, last: RunDate) -> Result<Catalog> {
        let mut sources = Vec::new();
        for (name, source) in config.sources.iter().filter(|(name, _)| read(name)) {
            let store = open(&config.resolve(&source.path))?;
            sources.push(Folders::new(name, source, store, first, last));
        }
        Ok(Catalog { sources })
    }

    /// What every source means on `date`, which is one of the range.
    ///
    /// # Errors
    /// [`Unlisted::NotReady`] with the partitions of all sources that are not, unless one of them lets the date be skipped.
    pub async fn list(&self, date: RunDate) -> Result<Vec<Listing>, Unlisted> {
        let mut listings = Vec::new();
        let mut not_ready: Option<(Vec<String>, crate::error::Error)> = None;
        for folders in &self.sources {
            match Lister::new(folders, date).list().await {
                Ok(listing) => listings.push(listing),
                Err(Unlisted::NotReady { partitions, error }) => match &mut not_ready {
                    Some((all, _)) => all.extend(partitions),
                    None => not_ready = Some((partitions, error)),
                },
                Err(other) => return Err(other),
            }
        }
        match not_ready {
            Some((partitions, error)) => Err(Unlisted::NotReady { partitions, error }),
            None => Ok(listings),
        }
    }
}

/// What one source means on `date`, for a source that no config holds.
pub(super) async fn list_one(name: &str, source: &Source, store: Store, date: RunDate) -> Result<Listing> {
    let folders = Folders::new(name, source, store, date, date);
    Ok(Lister::new(&folders, date).list().await?)
}

/// The folders of one source, each listed at most once.
pub(super) struct Folders {
    pub source: String,
    pub settings: Source,
    pub store: Store,
    first: RunDate,
    last: RunDate,
    listed: Mutex<BTreeMap<String, Arc<Vec<Object>>>>,
    /// The dates that have a folder, in order.
    dates: OnceCell<Vec<RunDate>>,
    ahead: OnceCell<()>,
}

impl Folders {
    pub fn new(source: &str, settings: &Source, store: Store, first: RunDate, last: RunDate) -> Folders {
        Folders {
            source: source.into(),
            settings: settings.clone(),
            store,
            first,
            last,
            listed: Mutex::default(),
            dates: OnceCell::new(),
            ahead: OnceCell::new(),
        }
    }

    /// Every object below a folder, sorted by key. For the source's own, which is the empty name, it may be one object without a name:
    /// a source that is a single file.
    pub async fn objects(&self, folder: &str) -> Result<Arc<Vec<Object>>> {
        self.ahead.get_or_try_init(|| self.list_ahead()).await?;
        if let Some(known) = self.listed.lock().expect("no holder of this lock panics").get(folder) {
            return Ok(known.clone());
        }
        let objects = match self.single_file(folder).await? {
            Some(file) => vec![file],
            None => self.store.list(folder).await?,
        };
        let objects = Arc::new(objects);
        self.listed.lock().expect("no holder of this lock panics").insert(folder.into(), objects.clone());
        Ok(objects)
    }

    async fn single_file(&self, folder: &str) -> Result<Option<Object>> {
        let is_bucket = self.store.path_of("").as_ref().is_empty();
        if folder.is_empty() && !is_bucket { self.store.head("").await } else { Ok(None) }
    }

    /// The dates that have a folder, in order.
    pub async fn dates(&self) -> Result<&[RunDate]> {
        let found = self.dates.get_or_try_init(|| async {
            let Some(key) = &self.settings.partition else { return Ok(Vec::new()) };
            let (folders, _) = self.store.list_level("").await?;
            let dates = folders.iter().filter_map(|folder| folder.strip_prefix(key)?.strip_prefix('=')?.parse().ok());
            let mut dates: Vec<RunDate> = dates.collect();
            dates.sort();
            Ok(dates)
        });
        found.await.map(Vec::as_slice)
    }

    pub fn name(&self, date: RunDate) -> String {
        format!("{}={date}", self.settings.partition.as_deref().unwrap_or_default())
    }

    /// Lists the partitions that the range asks for in any case.
    async fn list_ahead(&self) -> Result<()> {
        if self.settings.partition.is_none() {
            return Ok(());
        }
        let wanted: Vec<RunDate> = if self.settings.snapshot {
            let dates = self.dates().await?;
            let from = dates.partition_point(|date| *date <= self.first).saturating_sub(1);
            dates[from..].iter().copied().filter(|date| *date <= self.last).collect()
        } else {
            let days = self.settings.days;
            self.first.offset(days.from).to(self.last.offset(days.to)).collect()
        };
        let names: Vec<String> = wanted.into_iter().map(|date| self.name(date)).collect();
        let found = self.store.list_folders(&names).await?;
        let mut listed = self.listed.lock().expect("no holder of this lock panics");
        listed.extend(found.into_iter().map(|(name, objects)| (name, Arc::new(objects))));
        Ok(())
    }
}
