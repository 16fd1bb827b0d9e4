//! A vocabulary that goes on from an earlier day's: values keep their rows, new ones take rows behind them, and those that nobody has
//! had for long go.

use std::collections::HashMap;
use std::hash::Hash;

use super::learn::Side;
use super::spec::{Encoding, FeatureSpec, TowerSpec};
use super::vocabulary::{Counts, Entry, Rows, Vocabulary};
use crate::error::{Error, Result};

/// How the rows of a table came to be from those it had before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Growth {
    /// Rows that are gone, ascending, by their old numbers. Those behind them moved up, in their order.
    pub evicted: Vec<u32>,
    /// Rows that were added at the end.
    pub added: usize,
}

/// When a value counts as unseen.
#[derive(Debug, Clone, Copy)]
pub struct Eviction {
    /// The day at hand, counted from 1970.
    pub day: i32,
    /// Days without the value, after which it goes; 0 for never.
    pub after: u32,
}

impl Counts {
    /// The vocabulary after `before`, given what was counted on the day at hand. Values that are new and reach `min_count` follow by
    /// descending count, then by value.
    pub fn grow(self, before: Vocabulary, min_count: u64, eviction: Eviction) -> Result<(Vocabulary, Growth)> {
        let unknown_rows = before.unknown_rows;
        let (rows, growth) = match (self, before.rows) {
            (Counts::Int(counts), Rows::Int(known)) => {
                let (rows, growth) = grow(counts, known, unknown_rows, min_count, eviction);
                (Rows::Int(rows), growth)
            }
            (Counts::Text(counts), Rows::Text(known)) => {
                let (rows, growth) = grow(counts, known, unknown_rows, min_count, eviction);
                (Rows::Text(rows), growth)
            }
            (counts, rows) => {
                let (rows, found) = (Vocabulary { unknown_rows, rows }.value_type(), counts.value_type());
                return Err(Error::config(format!("{rows:?} before, {found:?} now")));
            }
        };
        Ok((Vocabulary { unknown_rows, rows }, growth))
    }
}

fn grow<V: Ord + Hash>(
    mut counts: HashMap<V, u64>,
    mut known: HashMap<V, Entry>,
    unknown_rows: usize,
    min_count: u64,
    eviction: Eviction,
) -> (HashMap<V, Entry>, Growth) {
    let mut evicted = Vec::new();
    known.retain(|value, entry| {
        if let Some(count) = counts.remove(value) {
            (entry.count, entry.last_seen) = (count, eviction.day);
        }
        let unseen = i64::from(eviction.day) - i64::from(entry.last_seen);
        let stays = eviction.after == 0 || unseen <= i64::from(eviction.after);
        if !stays {
            evicted.push(entry.row);
        }
        stays
    });
    evicted.sort_unstable();
    for entry in known.values_mut() {
        entry.row -= evicted.partition_point(|gone| *gone < entry.row) as u32;
    }
    let mut new: Vec<(V, u64)> = counts.into_iter().filter(|(_, count)| *count >= min_count).collect();
    new.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let growth = Growth { evicted, added: new.len() };
    let first = (unknown_rows + known.len()) as u32;
    let entry = |row: u32, count: u64| Entry { row, count, last_seen: eviction.day };
    known.extend(new.into_iter().zip(first..).map(|((value, count), row)| (value, entry(row, count))));
    (known, growth)
}

/// What of a tower is not as it was, but for what is learned from the data and stays the parent's: `features.item.title: …`.
pub(super) fn difference(side: Side, before: &TowerSpec, now: &TowerSpec) -> Option<String> {
    let key = |name: &str| format!("features.{}.{name}", side.name());
    for (before, now) in before.features.iter().zip(&now.features) {
        if before.name != now.name {
            return Some(format!("{}: not there before, where `{}` stood", key(&now.name), before.name));
        }
        let (old, new) = (without_measures(&before.encoding), without_measures(&now.encoding));
        if old != new || before.column != now.column || before.width != now.width {
            return Some(format!("{}: {} before, {} now", key(&now.name), in_words(&old), in_words(&new)));
        }
    }
    let plain = |tower: &TowerSpec| TowerSpec { features: Vec::new(), ..tower.clone() };
    (before.features.len() != now.features.len() || plain(before) != plain(now))
        .then(|| format!("model.{}_tower: other features or layers than before", side.name()))
}

fn without_measures(encoding: &Encoding) -> Encoding {
    match encoding.clone() {
        Encoding::Numeric { transform, .. } => Encoding::Numeric { transform, mean: 0.0, deviation: 1.0 },
        Encoding::Bucketized { table, .. } => Encoding::Bucketized { table, boundaries: Vec::new() },
        other => other,
    }
}

fn in_words(encoding: &Encoding) -> String {
    serde_json::to_string(encoding).unwrap_or_default()
}

/// What of `spec`'s ids is not as it was.
pub(super) fn other_ids(before: &FeatureSpec, now: &FeatureSpec) -> Option<String> {
    let sides =
        [("user_id", before.user_id_type, now.user_id_type), ("item_id", before.item_id_type, now.item_id_type)];
    sides
        .into_iter()
        .find(|(_, before, now)| before != now)
        .map(|(name, before, now)| format!("{name}: {before:?} before, {now:?} now"))
}

#[cfg(test)]
mod tests {
    use super::super::Keys;
    use super::super::spec::ValueType;
    use super::*;
    use arrow::array::StringArray;

    fn counts(values: &[(&str, u64)]) -> Counts {
        let keys = Keys::Text(StringArray::from_iter_values(values.iter().map(|(value, _)| value)));
        let mut counts = Counts::new(ValueType::Varchar);
        values.iter().enumerate().for_each(|(at, (_, count))| counts.add(&keys, at, *count));
        counts
    }

    fn rows(vocabulary: &Vocabulary) -> Vec<(String, u32)> {
        let Rows::Text(rows) = &vocabulary.rows else { panic!("they are texts") };
        let mut rows: Vec<_> = rows.iter().map(|(value, entry)| (value.to_string(), entry.row)).collect();
        rows.sort_by_key(|(_, row)| *row);
        rows
    }

    fn named(rows: &[(&str, u32)]) -> Vec<(String, u32)> {
        rows.iter().map(|(value, row)| (value.to_string(), *row)).collect()
    }

    #[test]
    fn known_values_keep_their_rows_and_new_ones_follow_by_count_then_value() {
        let first = counts(&[("b", 9), ("a", 5), ("rare", 1)]).into_vocabulary(2, 1, 100);
        assert_eq!(rows(&first), named(&[("b", 1), ("a", 2)]));
        // `a` is far more frequent now, `b` is below the least count, and both stay where they are
        let day = counts(&[("a", 50), ("b", 0), ("y", 3), ("z", 4), ("x", 3), ("rare", 1)]);
        let (next, growth) = day.grow(first, 2, Eviction { day: 101, after: 30 }).unwrap();
        assert_eq!(rows(&next), named(&[("b", 1), ("a", 2), ("z", 3), ("x", 4), ("y", 5)]));
        assert_eq!(growth, Growth { evicted: vec![], added: 3 });
        let Rows::Text(entries) = &next.rows else { panic!("they are texts") };
        assert_eq!((entries["a"].count, entries["b"].last_seen), (50, 101));
    }

    #[test]
    fn what_was_not_seen_for_too_long_goes_and_the_rest_closes_up_in_its_order() {
        let mut known = counts(&[("a", 5), ("b", 4), ("c", 3), ("d", 2)]).into_vocabulary(1, 2, 100);
        for day in [120, 131] {
            let growth;
            (known, growth) = counts(&[("b", 1), ("d", 1)]).grow(known, 1, Eviction { day, after: 30 }).unwrap();
            let gone: &[u32] = if day == 131 { &[2, 4] } else { &[] };
            assert_eq!(growth, Growth { evicted: gone.to_vec(), added: 0 });
        }
        assert_eq!(rows(&known), named(&[("b", 2), ("d", 3)]));
        // one that comes back is new
        let (back, growth) = counts(&[("a", 1)]).grow(known.clone(), 1, Eviction { day: 132, after: 30 }).unwrap();
        assert_eq!((rows(&back), growth.added), (named(&[("b", 2), ("d", 3), ("a", 4)]), 1));
        let (kept, _) = counts(&[]).grow(known, 1, Eviction { day: 9999, after: 0 }).unwrap();
        assert_eq!(rows(&kept), named(&[("b", 2), ("d", 3)]));
    }

    #[test]
    fn values_of_another_type_are_refused() {
        let known = counts(&[("a", 5)]).into_vocabulary(1, 1, 100);
        let error = Counts::new(ValueType::Bigint).grow(known, 1, Eviction { day: 101, after: 30 }).unwrap_err();
        assert_eq!(error.message, "Varchar before, Bigint now");
    }
}
