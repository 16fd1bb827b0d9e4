//! Lists of what is drawn for each of a user's samples.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, exec_err};

use super::histories::range_of;
use super::lists::lists;
use crate::kernels::random::{GOLDEN, mix};

/// For each row, a user, and each of his `samples`, a list of BIGINT: what `draw` appends, given the row, the key of the sample's own stream, made
/// of the integer `key` and the sample, and the number of draws `k`. Without a key or a number nothing is drawn. `values` makes a column of all
/// draws, and the result is a list of lists, in the order of the samples. `most` says how many draws a sample of a row has at most, of so many that
/// are asked for. `function` is who draws.
pub fn drawn_for_samples<T>(
    function: &str,
    [key, samples, k]: [&ArrayRef; 3],
    most: impl Fn(usize, u64) -> u64,
    mut draw: impl FnMut(usize, u64, u64, &mut Vec<T>),
    values: impl FnOnce(Vec<T>) -> Result<ArrayRef>,
) -> Result<ListArray> {
    let (keys, counts) = (cast(key, &DataType::Int64)?, cast(k, &DataType::Int64)?);
    let (keys, counts) = (keys.as_primitive::<Int64Type>(), counts.as_primitive::<Int64Type>());
    let samples = samples.as_list::<i32>();
    let ids = samples.values().as_primitive::<Int64Type>();
    let count_of = |row| if keys.is_null(row) || counts.is_null(row) { 0 } else { counts.value(row).max(0) as u64 };
    // as large as it gets from the start: to grow would copy what is there, into memory that the kernel has to clear
    let of_row = |row| most(row, count_of(row)).saturating_mul(range_of(samples, row).len() as u64);
    let room = (0..samples.len()).map(of_row).fold(0, u64::saturating_add);
    let mut drawn = Vec::with_capacity(room.min(i32::MAX as u64) as usize);
    let mut ends = vec![0i32];
    for row in 0..samples.len() {
        let count = count_of(row);
        let key = mix((keys.value(row) as u64).wrapping_add(GOLDEN));
        for at in range_of(samples, row) {
            if ids.is_valid(at) {
                draw(row, mix(key ^ ids.value(at) as u64), count, &mut drawn);
            }
            let Ok(end) = i32::try_from(drawn.len()) else {
                return exec_err!("{function} draws more items at once than the 2147483647 that lists may hold");
            };
            ends.push(end);
        }
    }
    let draws = lists(values(drawn)?, OffsetBuffer::new(ends.into()), None)?;
    let of_samples = OffsetBuffer::from_lengths((0..samples.len()).map(|row| range_of(samples, row).len()));
    lists(Arc::new(draws), of_samples, None)
}
