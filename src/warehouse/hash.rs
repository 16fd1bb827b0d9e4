//! `stable_hash(seed, …)`: the only source of randomness in sample files.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::types::{TIMESTAMP, normalised};
use crate::kernels::random::{GOLDEN, absorb, absorb_integers, mix};

/// Kinds of values; a number and its text hash differently.
const NULL: u64 = 1;
const INTEGER: u64 = 2;
const DOUBLE: u64 = 3;
const TEXT: u64 = 4;
const BOOLEAN: u64 = 5;
const TIME: u64 = 6;
const DATE: u64 = 7;

fn absorb_text(state: u64, text: &str) -> u64 {
    let mut state = absorb(state, TEXT, text.len() as u64);
    for chunk in text.as_bytes().chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        state = mix(state.wrapping_add(GOLDEN) ^ u64::from_le_bytes(word));
    }
    state
}

/// Adds a column to the running state of each row.
fn absorb_column(states: &mut [u64], column: &ArrayRef) -> Result<()> {
    let plain = match column.data_type() {
        DataType::Null => {
            states.iter_mut().for_each(|state| *state = absorb(*state, NULL, 0));
            return Ok(());
        }
        other => cast(column, &normalised(other))?,
    };
    let fold = |states: &mut [u64], next: &dyn Fn(u64, usize) -> u64| {
        for (row, state) in states.iter_mut().enumerate() {
            *state = if plain.is_null(row) { absorb(*state, NULL, 0) } else { next(*state, row) };
        }
    };
    match plain.data_type() {
        DataType::Int64 if plain.null_count() == 0 => {
            absorb_integers(states, INTEGER, plain.as_primitive::<Int64Type>().values());
        }
        DataType::Int64 => {
            let values = plain.as_primitive::<Int64Type>().values();
            fold(states, &|state, row| absorb(state, INTEGER, values[row] as u64));
        }
        DataType::Float64 => {
            let values = plain.as_primitive::<Float64Type>().values();
            // the two zeros are equal, and so are all values that are not a number
            let bits = |x: f64| if x.is_nan() { f64::NAN.to_bits() } else { (x + 0.0).to_bits() };
            fold(states, &|state, row| absorb(state, DOUBLE, bits(values[row])));
        }
        DataType::Utf8 => {
            let values = plain.as_string::<i32>();
            fold(states, &|state, row| absorb_text(state, values.value(row)));
        }
        DataType::Boolean => {
            let values = plain.as_boolean();
            fold(states, &|state, row| absorb(state, BOOLEAN, u64::from(values.value(row))));
        }
        t if *t == TIMESTAMP => {
            let values = plain.as_primitive::<TimestampMicrosecondType>().values();
            fold(states, &|state, row| absorb(state, TIME, values[row] as u64));
        }
        DataType::Date32 => {
            let days = cast(&plain, &DataType::Int32).and_then(|days| cast(&days, &DataType::Int64))?;
            let values = days.as_primitive::<Int64Type>().values();
            fold(states, &|state, row| absorb(state, DATE, values[row] as u64));
        }
        other => return exec_err!("stable_hash cannot hash a value of type {other}"),
    }
    Ok(())
}

/// The hash of each row of `columns`: 63 bits, never negative.
pub fn hash_columns(columns: &[ArrayRef], rows: usize) -> Result<Vec<i64>> {
    let mut states = vec![0; rows];
    for column in columns {
        absorb_column(&mut states, column)?;
    }
    Ok(states.into_iter().map(|state| (state >> 1) as i64).collect())
}

/// The seed of the hash that rows of sample tables are in the order of.
pub const ORDER_SEED: i64 = 0;

/// `stable_hash(ORDER_SEED, sample_id)`: what leads the order of rows in tables of samples.
pub fn place_of_sample(id: i64) -> i64 {
    (absorb(absorb(0, INTEGER, ORDER_SEED as u64), INTEGER, id as u64) >> 1) as i64
}

/// `stable_hash(seed, …)`: BIGINT, uniform over 0 .. 2^63 - 1, never null.
///
/// Takes any number of integers, doubles, texts, booleans, timestamps and dates; null is a value like any other. Each
/// argument is absorbed into a 64-bit state s, starting from 0, as s = mix(mix(s + GOLDEN + kind) ^ value), where `mix` is the
/// finaliser of SplitMix64; a text absorbs its length in bytes and then its bytes, eight at a time, little-endian, padded with
/// zeros, as s = mix((s + GOLDEN) ^ word). Integers of any width hash alike, timestamps count microseconds. The result is the
/// state without its lowest bit. Integer arithmetic alone, so it is the same on every machine.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct StableHash {
    signature: Signature,
}

impl Default for StableHash {
    fn default() -> Self {
        StableHash { signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for StableHash {
    fn name(&self) -> &str {
        "stable_hash"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        for argument in arguments {
            let plain = normalised(argument);
            let known = matches!(
                plain,
                DataType::Null
                    | DataType::Int64
                    | DataType::Float64
                    | DataType::Utf8
                    | DataType::Boolean
                    | DataType::Date32
            );
            if !known && plain != TIMESTAMP {
                return plan_err!("stable_hash cannot hash a value of type {argument}; cast it to bigint or varchar");
            }
        }
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        // constants alone come as arrays of one row
        let rows = columns.first().map_or(args.number_rows, |column| column.len());
        let hashes = hash_columns(&columns, rows)?;
        Ok(ColumnarValue::Array(Arc::new(Int64Array::from(hashes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Int32Array, StringArray};

    fn hash_of(columns: &[ArrayRef]) -> Vec<i64> {
        hash_columns(columns, columns[0].len()).unwrap()
    }

    #[test]
    fn the_hash_never_changes_between_versions() {
        let columns: [ArrayRef; 2] =
            [Arc::new(Int64Array::from(vec![Some(17), None])), Arc::new(StringArray::from(vec!["a", "a longer text"]))];
        assert_eq!(hash_of(&columns), reference(&[(17, "a")]).into_iter().chain(reference_null()).collect::<Vec<_>>());
    }

    /// The definition in the documentation, written out once more.
    fn reference(rows: &[(i64, &str)]) -> Vec<i64> {
        rows.iter()
            .map(|(number, text)| {
                let s = mix(mix(GOLDEN.wrapping_add(2)) ^ *number as u64);
                let s = mix(mix(s.wrapping_add(GOLDEN).wrapping_add(4)) ^ text.len() as u64);
                let mut word = [0; 8];
                word[..text.len()].copy_from_slice(text.as_bytes());
                (mix(s.wrapping_add(GOLDEN) ^ u64::from_le_bytes(word)) >> 1) as i64
            })
            .collect()
    }

    fn reference_null() -> Vec<i64> {
        let s = mix(mix(GOLDEN.wrapping_add(1)));
        let mut s = mix(mix(s.wrapping_add(GOLDEN).wrapping_add(4)) ^ 13);
        for word in [*b"a longer", *b" text\0\0\0"] {
            s = mix(s.wrapping_add(GOLDEN) ^ u64::from_le_bytes(word));
        }
        vec![(s >> 1) as i64]
    }

    #[test]
    fn integers_of_any_width_hash_alike_and_texts_of_them_do_not() {
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![5]));
        let narrow: ArrayRef = Arc::new(Int32Array::from(vec![5]));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["5"]));
        assert_eq!(hash_of(std::slice::from_ref(&wide)), hash_of(&[narrow]));
        assert_ne!(hash_of(&[wide]), hash_of(&[text]));
    }

    #[test]
    fn a_sample_stands_at_the_hash_of_the_seed_and_its_id() {
        let ids = [0, 1, -1, i64::MIN, i64::MAX];
        let columns: [ArrayRef; 2] =
            [Arc::new(Int64Array::from(vec![ORDER_SEED; ids.len()])), Arc::new(Int64Array::from(ids.to_vec()))];
        assert_eq!(hash_of(&columns), ids.map(place_of_sample));
    }

    #[test]
    fn a_text_padded_with_zeros_is_another_text() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "a\0"]));
        let hashes = hash_of(&[texts]);
        assert_ne!(hashes[0], hashes[1]);
    }

    #[test]
    fn hashes_are_uniform() {
        let n = 100_000;
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..n));
        let hashes = hash_of(&[column]);
        let mut buckets = [0f64; 64];
        for hash in hashes {
            assert!(hash >= 0);
            buckets[(hash >> 57) as usize] += 1.0;
        }
        let expected = n as f64 / 64.0;
        let chi_squared: f64 = buckets.iter().map(|count| (count - expected).powi(2) / expected).sum();
        // 63 degrees of freedom: above 110 has a probability of 0.0002
        assert!(chi_squared < 110.0, "{chi_squared}");
    }
}
