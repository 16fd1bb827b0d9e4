//! `sample_parts(key, samples, items, k, top)`: what is drawn from a user's ranking for each of his samples.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::histories::range_of;
use super::sample_draws::drawn_for_samples;
use super::types::{list_of, sql_name};
use crate::kernels::random::{GOLDEN, mix};

/// `sample_parts(key, samples, items, k, top)`, of one user: for each of the list `samples` of BIGINT sample ids, `k` of the list `items`. It is
/// cut into `k` parts, as even as can be, and one item of each is drawn; a part without an item gives none. Or with `top`, the first `k`. A list
/// of lists, to be unnested along with `samples`. `key` and the sample decide the draws.
///
/// A user's list is there once for all his samples: to give each a row with a copy, and then each draw, moved many times what is drawn.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct SampleParts {
    signature: Signature,
}

impl Default for SampleParts {
    fn default() -> Self {
        SampleParts { signature: Signature::any(5, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for SampleParts {
    fn name(&self) -> &str {
        "sample_parts"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [key, DataType::List(samples), DataType::List(item), k, DataType::Boolean]
                if key.is_integer() && *samples.data_type() == DataType::Int64 && k.is_integer() =>
            {
                Ok(list_of(list_of(item.data_type().clone())))
            }
            _ => {
                let found: Vec<String> = arguments.iter().map(sql_name).collect();
                plan_err!(
                    "sample_parts(key, samples, items, k, top) takes an integer, a list of BIGINT, a list, an integer and a BOOLEAN; found ({})",
                    found.join(", ")
                )
            }
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let (items, top) = (columns[2].as_list::<i32>(), columns[4].as_boolean());
        let drawn = drawn_for_samples(
            self.name(),
            [&columns[0], &columns[1], &columns[3]],
            |row, count| count.min(range_of(items, row).len() as u64),
            |row, key, count, drawn| {
                let list = range_of(items, row);
                // nothing where it is not known which
                let count = if top.is_valid(row) { count } else { 0 };
                let places = draws(key, list.len() as u64, count, top.value(row));
                drawn.extend(places.map(|place| list.start as u32 + place as u32));
            },
            |drawn| Ok(take(items.values(), &UInt32Array::from(drawn), None)?),
        )?;
        Ok(ColumnarValue::Array(Arc::new(drawn)))
    }
}

/// Places in a list of `length` items: one of each of `count` parts, or the first of all.
fn draws(key: u64, length: u64, count: u64, top: bool) -> impl Iterator<Item = u64> {
    // more parts than items: those without one are left out
    (0..count).filter_map(move |draw| {
        if top {
            return (draw < length).then_some(draw);
        }
        let bound = |part: u64| (u128::from(part) * u128::from(length) / u128::from(count)) as u64;
        let (start, end) = (bound(draw), bound(draw + 1));
        let number = u128::from(mix(key.wrapping_add(GOLDEN.wrapping_mul(draw + 1))));
        (end > start).then(|| start + ((number * u128::from(end - start)) >> 64) as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_gives_one_item_and_all_items_are_drawn_alike() {
        let (length, count, keys) = (10, 3, 60_000);
        let mut counts = [0f64; 10];
        for key in 0..keys {
            let places: Vec<u64> = draws(mix(key), length, count, false).collect();
            assert!(matches!(places[..], [0..3, 3..6, 6..10]), "{places:?}");
            places.iter().for_each(|place| counts[*place as usize] += 1.0);
        }
        for (place, found) in counts.iter().enumerate() {
            let expected = keys as f64 / if place < 6 { 3.0 } else { 4.0 };
            assert!((found - expected).abs() <= 4.0 * expected.sqrt(), "{place}: {found} against {expected}");
        }
    }

    #[test]
    fn short_lists_give_what_they_have() {
        let places = |length, count, top| draws(7, length, count, top).collect::<Vec<u64>>();
        assert_eq!(places(2, 5, false), [0, 1]);
        assert_eq!(places(5, 5, false), [0, 1, 2, 3, 4]);
        assert_eq!(places(0, 5, false), [0; 0]);
        assert_eq!((places(9, 4, true), places(2, 4, true)), (vec![0, 1, 2, 3], vec![0, 1]));
    }
}
