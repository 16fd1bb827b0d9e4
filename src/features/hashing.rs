//! Rows of tables without a vocabulary, by hash: the same on every machine, see [`super::RowHash`].

use arrow::array::Array;

use super::Keys;
use crate::kernels::random::{fnv1a64, mix};

/// The row of a value's bytes in a table of `rows`.
pub(super) fn row(bytes: &[u8], rows: usize) -> u32 {
    (mix(fnv1a64(bytes)) % rows as u64) as u32
}

/// The row of the key at `at`; null has none.
pub(super) fn key_row(keys: &Keys, at: usize, rows: usize) -> Option<u32> {
    match keys {
        Keys::Int(keys) => keys.is_valid(at).then(|| row(&keys.value(at).to_le_bytes(), rows)),
        Keys::Text(keys) => keys.is_valid(at).then(|| row(keys.value(at).as_bytes(), rows)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};

    #[test]
    fn rows_are_those_that_the_spec_says() {
        // computed by another program from the formula in `RowHash`
        let ints = Keys::Int(Int64Array::from(vec![Some(0), Some(1), Some(-1), None]));
        let rows: Vec<Option<u32>> = (0..4).map(|at| key_row(&ints, at, 1_000_003)).collect();
        assert_eq!(rows, [INTS[0], INTS[1], INTS[2], None]);
        let texts = Keys::Text(StringArray::from(vec!["", "u1", "\u{e9}t\u{e9}"]));
        let rows: Vec<Option<u32>> = (0..3).map(|at| key_row(&texts, at, 1_000_003)).collect();
        assert_eq!(rows, TEXTS);
    }

    const INTS: [Option<u32>; 3] = [Some(142_485), Some(29_532), Some(610_207)];
    const TEXTS: [Option<u32>; 3] = [Some(274_437), Some(586_597), Some(254_169)];

    #[test]
    fn consecutive_ids_fill_the_rows_as_draws_would() {
        // 50,000 ids in 10,000 rows: a row is empty with probability e^-5, and chi squared has mean 9,999, deviation 141
        for rows in [10_000, 1 << 13] {
            let mut hits = vec![0f64; rows];
            let ids = Keys::Int(Int64Array::from_iter_values(0..5 * rows as i64));
            (0..ids.len()).for_each(|at| hits[key_row(&ids, at, rows).unwrap() as usize] += 1.0);
            let chi: f64 = hits.iter().map(|n| (n - 5.0).powi(2) / 5.0).sum();
            let (mean, deviation) = (rows as f64, (2.0 * rows as f64).sqrt());
            assert!((chi - mean).abs() < 5.0 * deviation, "{rows} rows: chi squared {chi}");
        }
    }
}
