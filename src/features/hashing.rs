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

/// The rows of a text's first `limit` letter trigrams, word after word: see [`super::Encoding::Text`].
pub(super) fn trigram_rows(text: &str, limit: usize, rows: usize) -> Vec<u32> {
    let lower = text.to_lowercase();
    let mut found = Vec::new();
    let (mut letters, mut bytes) = (Vec::new(), String::new());
    for word in lower.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()) {
        letters.clear();
        letters.extend(std::iter::once('#').chain(word.chars()).chain(['#']));
        for three in letters.windows(3) {
            if found.len() == limit {
                return found;
            }
            bytes.clear();
            bytes.extend(three);
            found.push(row(bytes.as_bytes(), rows));
        }
    }
    found
}

/// The row of the values at `at` of several columns: see [`super::Encoding::Crossed`].
pub(super) fn crossed_row(columns: &[Keys], at: usize, rows: usize) -> u32 {
    let mut bytes = Vec::new();
    for keys in columns {
        match keys {
            _ if keys.is_null(at) => bytes.push(0),
            Keys::Int(keys) => {
                bytes.push(1);
                bytes.extend(keys.value(at).to_le_bytes());
            }
            Keys::Text(keys) => {
                bytes.push(2);
                bytes.extend(keys.value(at).as_bytes());
                bytes.push(255);
            }
        }
    }
    row(&bytes, rows)
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
    fn trigrams_are_those_of_the_words_in_lower_case() {
        let rows = |trigrams: &[&str]| trigrams.iter().map(|three| row(three.as_bytes(), 5000)).collect::<Vec<_>>();
        assert_eq!(
            trigram_rows("Good-\u{c9}t\u{e9}, a!", usize::MAX, 5000),
            rows(&["#go", "goo", "ood", "od#", "#\u{e9}t", "\u{e9}t\u{e9}", "t\u{e9}#", "#a#"])
        );
        assert_eq!(trigram_rows("cat", 2, 5000), rows(&["#ca", "cat"]));
        assert_eq!(trigram_rows(" ,-! ", 9, 5000), [0u32; 0]);
    }

    #[test]
    fn crossed_values_are_told_apart_by_place_type_and_null() {
        let texts = |values: Vec<Option<&str>>| Keys::Text(StringArray::from(values));
        let a = texts(vec![Some("ab"), Some("a"), None, Some("\u{0}"), Some("1")]);
        let b = texts(vec![Some("c"), Some("bc"), Some("x"), Some("x"), Some("1")]);
        let rows: Vec<u32> = (0..5).map(|at| crossed_row(&[a.clone(), b.clone()], at, 1 << 30)).collect();
        let swapped: Vec<u32> = (0..5).map(|at| crossed_row(&[b.clone(), a.clone()], at, 1 << 30)).collect();
        let ints = Keys::Int(Int64Array::from(vec![1]));
        let mut all = [&rows[..], &swapped[..4], &[crossed_row(&[ints.clone(), ints], 0, 1 << 30)]].concat();
        assert_eq!(rows[0], row(b"\x02ab\xff\x02c\xff", 1 << 30));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 10);
    }

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
