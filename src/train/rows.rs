//! Rows of an earlier day's tables in the places that they have now, and what new ones start from.

use std::collections::HashMap;

use super::data::Data;
use crate::features::{EncodedColumn, Encoding, Growth};
use crate::kernels::tables::{EmbeddingTable, RowInit};
use crate::model::Weights;

/// Takes out the rows that are gone, in place, and appends zeros for those that are new. `width` values are one row.
pub fn regrow(values: &mut Vec<f32>, width: usize, growth: &Growth) {
    if let Some(first) = growth.evicted.first().map(|row| *row as usize) {
        let (mut gone, mut to) = (growth.evicted.iter().peekable(), first);
        for row in first..values.len() / width {
            if gone.next_if(|gone| **gone as usize == row).is_none() {
                values.copy_within(row * width..(row + 1) * width, to * width);
                to += 1;
            }
        }
        values.truncate(to * width);
    }
    values.reserve_exact(growth.added * width);
    values.resize(values.len() + growth.added * width, 0.0);
}

/// New rows start where their like are, so that an item is near its own kind before it is taught: at the mean of the rows of
/// known items that share a value of another single-valued feature (category, publisher), averaged over those features. Where
/// no item has the value, or nothing is shared, at the mean of the table; in a table without known rows, as in a start from nothing.
pub fn fill_new_rows(weights: &mut Weights, data: &Data, seed: u64) {
    for (salt, (name, growth)) in (1u64..).zip(&data.growth).filter(|(_, (_, growth))| growth.added > 0) {
        let Some(table) = weights.tables.get_mut(name) else { continue };
        let known = data.spec.tables[name].unknown_rows..table.len() - growth.added;
        if known.is_empty() {
            let fresh = EmbeddingTable::new(table.len(), table.dim, &RowInit::usual(table.dim, seed ^ (salt << 48)));
            let from = known.end * table.dim;
            table.rows[from..].copy_from_slice(&fresh.rows[from..]);
            continue;
        }
        let all = mean(table, known.clone());
        let like = means_of_like(table, name, data, known.clone());
        for row in known.end..table.len() {
            let start = like.get(&(row as u32)).unwrap_or(&all);
            let to = &mut table.rows[row * table.dim..(row + 1) * table.dim];
            to.iter_mut().zip(start).for_each(|(to, start)| *to = *start as f32);
        }
    }
}

fn mean(table: &EmbeddingTable, rows: std::ops::Range<usize>) -> Vec<f64> {
    let mut sum = vec![0.0; table.dim];
    let count = rows.len() as f64;
    rows.for_each(|row| add(&mut sum, table.row(row)));
    sum.iter_mut().for_each(|value| *value /= count);
    sum
}

fn add(sum: &mut [f64], row: &[f32]) {
    sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
}

/// By new row, the mean of the rows that known items of the same kind have. Memory grows with what is new, not with the table.
fn means_of_like(
    table: &EmbeddingTable,
    name: &str,
    data: &Data,
    known: std::ops::Range<usize>,
) -> HashMap<u32, Vec<f64>> {
    let single = |table: &str| {
        let features = data.spec.item.features.iter().zip(&data.catalogue.columns);
        let columns = features.filter_map(|(feature, column)| match (&feature.encoding, column) {
            (Encoding::Id { table } | Encoding::Categorical { table }, EncodedColumn::One(rows)) => Some((table, rows)),
            _ => None,
        });
        let table = table.to_string();
        columns.filter(move |(of, _)| **of == table).map(|(_, rows)| rows).collect::<Vec<_>>()
    };
    let mut sums: HashMap<u32, (Vec<f64>, f64)> = HashMap::new();
    for own in single(name) {
        let is_new = |row: u32| row as usize >= known.end && (row as usize) < table.len();
        for (other, spec) in data.spec.tables.iter().filter(|(other, _)| *other != name) {
            for shared in single(other) {
                // of each value that a new item has: the sum and number of the known items' rows
                let told = |row: u32| row as usize >= spec.unknown_rows && (row as usize) < spec.rows;
                let items = || own.iter().copied().zip(shared.iter().copied()).filter(|(_, shared)| told(*shared));
                let mut kinds: HashMap<u32, (Vec<f64>, f64)> = items()
                    .filter(|(own, _)| is_new(*own))
                    .map(|(_, shared)| (shared, (vec![0.0; table.dim], 0.0)))
                    .collect();
                for (own, shared) in items().filter(|(own, _)| known.contains(&(*own as usize))) {
                    if let Some((sum, count)) = kinds.get_mut(&shared) {
                        add(sum, table.row(own as usize));
                        *count += 1.0;
                    }
                }
                for (own, shared) in items().filter(|(own, _)| is_new(*own)) {
                    let (kind, count) = &kinds[&shared];
                    if *count > 0.0 {
                        let (sum, kinds) = sums.entry(own).or_insert_with(|| (vec![0.0; table.dim], 0.0));
                        sum.iter_mut().zip(kind).for_each(|(sum, value)| *sum += value / count);
                        *kinds += 1.0;
                    }
                }
            }
        }
    }
    sums.into_iter().map(|(row, (sum, kinds))| (row, sum.into_iter().map(|value| value / kinds).collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_close_up_in_their_order_and_new_ones_are_zeros() {
        let mut rows: Vec<f32> = (0..10).map(|value| value as f32).collect();
        regrow(&mut rows, 2, &Growth { evicted: vec![1, 3], added: 2 });
        assert_eq!(rows, [0.0, 1.0, 4.0, 5.0, 8.0, 9.0, 0.0, 0.0, 0.0, 0.0]);
        regrow(&mut rows, 2, &Growth::default());
        assert_eq!(rows.len(), 10);
        regrow(&mut rows, 1, &Growth { evicted: vec![9], added: 0 });
        assert_eq!(rows.len(), 9);
    }
}
