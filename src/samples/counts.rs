//! How many rows samples would read, before they are read: from earlier manifests and from the footers of files.

use std::collections::{BTreeMap, HashMap};

use futures::{StreamExt, TryStreamExt};

use super::changes::split;
use super::plan::SamplePlan;
use crate::artifacts::SampleFacts;
use crate::error::{Kind, Result};
use crate::storage::Object;
use crate::warehouse::{Listing, rows_of};

/// Most footers that are read; with more of them rows are left unknown.
const MOST_FOOTERS: usize = 2000;
/// Footers that are read at once.
const READ_AT_ONCE: usize = 32;

/// The files of a partition, by place and version.
type Files = BTreeMap<String, String>;

/// Rows of partitions that earlier samples were made from.
#[derive(Default)]
pub struct Counts {
    /// By source and place.
    known: HashMap<(String, String), (Files, u64)>,
}

impl Counts {
    /// Takes in the partitions of earlier samples.
    pub fn learn(&mut self, samples: &SampleFacts) {
        let mut files: HashMap<(&str, &str), Files> = HashMap::new();
        for input in &samples.inputs {
            let (partition, _) = split(&input.url);
            let files = files.entry((&input.source, partition)).or_default();
            files.insert(input.url.clone(), input.version.clone());
        }
        for ((source, partition), files) in files {
            let date = partition.rsplit('=').next().and_then(|date| date.parse().ok());
            let rows = date.and_then(|date| samples.statistics.sources.get(source)?.get(&date));
            if let Some(rows) = rows {
                self.known.insert((source.into(), partition.into()), (files, *rows));
            }
        }
    }

    /// The rows of a partition whose files are still the same.
    fn rows(&self, listing: &Listing, folder: &str, files: &[Object]) -> Option<u64> {
        let (known, rows) = self.known.get(&(listing.source.clone(), listing.store.url_of(folder)))?;
        let same = |file: &Object| known.get(&listing.store.url_of(&file.key)) == Some(&file.version());
        (known.len() == files.len() && files.iter().all(same)).then_some(*rows)
    }
}

/// The rows that each of `plans` would read, where that can be told at little cost.
pub async fn count_rows(plans: &[&SamplePlan], counts: Counts) -> Result<Vec<Option<u64>>> {
    let mut by_file: HashMap<(&str, &str), Option<u64>> = HashMap::new();
    let mut footers: Vec<(&Listing, &Object)> = Vec::new();
    for listing in plans.iter().flat_map(|plan| &plan.sources) {
        for partition in &listing.partitions {
            if counts.rows(listing, &partition.folder, &partition.files).is_none() {
                for file in &partition.files {
                    if by_file.insert((&listing.source, &file.key), None).is_none() {
                        footers.push((listing, file));
                    }
                }
            }
        }
    }
    if footers.len() <= MOST_FOOTERS {
        let read: Vec<_> = futures::stream::iter(footers)
            .map(|(listing, file)| async move {
                match rows_of(listing, file).await {
                    Ok(rows) => Ok(((listing.source.as_str(), file.key.as_str()), rows)),
                    // whoever builds the samples will say what is wrong with the file
                    Err(error) if error.kind == Kind::Config => Ok(((&listing.source[..], &file.key[..]), None)),
                    Err(error) => Err(error),
                }
            })
            .buffer_unordered(READ_AT_ONCE)
            .try_collect()
            .await?;
        by_file.extend(read);
    }
    let rows = |plan: &&SamplePlan| {
        let mut total = 0;
        for listing in &plan.sources {
            for partition in &listing.partitions {
                total += match counts.rows(listing, &partition.folder, &partition.files) {
                    Some(rows) => rows,
                    None => {
                        let of = |file: &Object| by_file.get(&(&listing.source, &file.key)).copied().flatten();
                        partition.files.iter().map(of).sum::<Option<u64>>()?
                    }
                };
            }
        }
        Some(total)
    };
    Ok(plans.iter().map(rows).collect())
}
