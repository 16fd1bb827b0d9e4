//! The baseline that ranks by popularity, and items grouped by it.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use futures::StreamExt;

use crate::artifacts::{Bucket, Ids, SampleFacts};
use crate::error::{Error, Result};
use crate::retrieval::{IdNumbers, table};
use crate::storage::{Store, read_parquet_stream, sorted_parts};

/// Positives of each item of the catalogue, from `item_frequency`; 0 for an item that is not in it.
pub async fn read_positives(
    store: &Store,
    samples: &SampleFacts,
    catalogue: &IdNumbers,
    items: usize,
) -> Result<Vec<u64>> {
    let mut positives = vec![0; items];
    let keys = samples.tables.get("item_frequency").map(|table| sorted_parts(&table.files)).unwrap_or_default();
    let mut batches = read_parquet_stream(store, keys, Some(vec!["item_id".into(), "positives".into()]), 65_536);
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        let mut ids = Ids::new(samples.item_id_type);
        ids.extend_from(table::column(&batch, "item_frequency", "item_id")?, "item_frequency.item_id")?;
        let counts = cast(table::column(&batch, "item_frequency", "positives")?, &DataType::Int64)
            .map_err(|error| Error::config("item_frequency.positives is not an integer").caused_by(error))?;
        for (at, count) in counts.as_primitive::<Int64Type>().iter().enumerate() {
            if let Some(position) = catalogue.get(&ids, at) {
                positives[position as usize] = count.unwrap_or(0).max(0) as u64;
            }
        }
    }
    Ok(positives)
}

/// All positions, the most popular first; ties by id.
pub fn by_popularity(ids: &Ids, positives: &[u64]) -> Vec<u32> {
    let by_id = |a: u32, b: u32| -> Ordering {
        match ids {
            Ids::Int(ids) => ids[a as usize].cmp(&ids[b as usize]),
            Ids::Str(ids) => ids[a as usize].cmp(&ids[b as usize]),
        }
    };
    let mut order: Vec<u32> = (0..ids.len() as u32).collect();
    order.sort_by(|&a, &b| positives[b as usize].cmp(&positives[a as usize]).then_with(|| by_id(a, b)));
    order
}

/// Recall by popularity of the target.
pub struct Buckets {
    cutoffs: Vec<usize>,
    /// Fewest and most positives of each bucket; the first is that of new items, 0.
    ranges: Vec<(u64, u64)>,
    /// Of each item.
    bucket: Vec<u16>,
    items: Vec<u64>,
    targets: Vec<u64>,
    /// Found targets by bucket and cut-off: by the model and by popularity.
    found: [Vec<Vec<u64>>; 2],
}

impl Buckets {
    /// About `count` buckets with about equally many of the items that have positives. Items with equally many positives stay
    /// together, so there may be fewer buckets; items without any are apart.
    pub fn new(positives: &[u64], count: usize, cutoffs: &[usize]) -> Self {
        let mut sorted: Vec<u64> = positives.iter().copied().filter(|count| *count > 0).collect();
        sorted.sort_unstable();
        let count = count.clamp(1, 1000);
        let mut ranges = vec![(0, 0)];
        let mut from = 0;
        for left in (1..=count).rev() {
            if from == sorted.len() {
                break;
            }
            // what ties took from one bucket's share is shared among those that are left
            let end = from + (sorted.len() - from).div_ceil(left);
            let most = sorted[end - 1];
            ranges.push((sorted[from], most));
            from = sorted.partition_point(|value| *value <= most);
        }
        let bucket: Vec<u16> =
            positives.iter().map(|value| ranges.partition_point(|range| range.1 < *value) as u16).collect();
        let mut items = vec![0; ranges.len()];
        bucket.iter().for_each(|at| items[usize::from(*at)] += 1);
        let zeros = vec![vec![0; cutoffs.len()]; ranges.len()];
        Buckets {
            cutoffs: cutoffs.to_vec(),
            targets: vec![0; ranges.len()],
            found: [zeros.clone(), zeros],
            ranges,
            bucket,
            items,
        }
    }

    /// Adds one user's targets (ascending) and his lists by the model and by popularity, best first.
    pub fn add(&mut self, targets: &[u32], lists: [&[u32]; 2]) {
        targets.iter().for_each(|item| self.targets[usize::from(self.bucket[*item as usize])] += 1);
        for (found, list) in self.found.iter_mut().zip(lists) {
            for (rank, item) in list.iter().enumerate().filter(|(_, item)| targets.binary_search(item).is_ok()) {
                let counts = &mut found[usize::from(self.bucket[*item as usize])];
                let within = self.cutoffs.iter().zip(counts).filter(|(cutoff, _)| rank < **cutoff);
                within.for_each(|(_, count)| *count += 1);
            }
        }
    }

    /// New items (absent where there are none) and the buckets, the least popular first.
    pub fn finish(self) -> (Option<Bucket>, Vec<Bucket>) {
        let bucket = |at: usize| {
            let (least, most) = self.ranges[at];
            let recall = |found: &[Vec<u64>]| -> BTreeMap<usize, f64> {
                let share = |(cutoff, count): (&usize, &u64)| (*cutoff, *count as f64 / self.targets[at].max(1) as f64);
                self.cutoffs.iter().zip(&found[at]).map(share).collect()
            };
            Bucket {
                label: if least == most { least.to_string() } else { format!("{least}-{most}") },
                items: self.items[at],
                targets: self.targets[at],
                recall: recall(&self.found[0]),
                popularity_recall: recall(&self.found[1]),
            }
        };
        ((self.items[0] > 0).then(|| bucket(0)), (1..self.ranges.len()).map(bucket).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_by_positives_then_by_id() {
        assert_eq!(by_popularity(&Ids::Int(vec![30, 10, 20, 5]), &[1, 2, 2, 0]), [1, 2, 0, 3]);
        assert_eq!(by_popularity(&Ids::Str(vec!["b".into(), "a".into()]), &[4, 4]), [1, 0]);
    }

    #[test]
    fn buckets_share_the_items_keep_equal_counts_together_and_set_new_items_apart() {
        let positives = [0, 1, 1, 1, 1, 2, 3, 50, 0, 4];
        let mut buckets = Buckets::new(&positives, 3, &[1, 2]);
        // targets: item 0 (new), items 1 and 7; the model finds 7 then 0, popularity only 7 at rank 2
        buckets.add(&[0, 1, 7], [&[7, 0], &[9, 7]]);
        let (new, by) = buckets.finish();
        let labels: Vec<_> = by.iter().map(|bucket| (bucket.label.as_str(), bucket.items, bucket.targets)).collect();
        assert_eq!(labels, [("1", 4, 1), ("2-3", 2, 0), ("4-50", 2, 1)]);
        assert_eq!(by[2].recall, BTreeMap::from([(1, 1.0), (2, 1.0)]));
        assert_eq!(by[2].popularity_recall, BTreeMap::from([(1, 0.0), (2, 1.0)]));
        assert_eq!(by[0].recall[&2], 0.0);
        let new = new.unwrap();
        assert_eq!((new.label.as_str(), new.items, new.targets, new.recall[&1], new.recall[&2]), ("0", 2, 1, 0.0, 1.0));
    }

    #[test]
    fn a_catalogue_without_positives_has_only_new_items() {
        let (new, by) = Buckets::new(&[0, 0], 5, &[10]).finish();
        assert_eq!((new.unwrap().items, by.len()), (2, 0));
        assert!(Buckets::new(&[3], 5, &[10]).finish().0.is_none());
    }
}
