//! What was before each of a user's clicks: `histories(items, moments, n)` and `as_of(moments, times)`.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, ListArray, ListViewArray, UInt32Array, make_comparator};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::kernels::cmp::distinct;
use datafusion::arrow::compute::{SortOptions, cast, take};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::lists::lists;
use super::types::{item_field, list_of, sql_name, view_of};

const HISTORIES: &str = "histories(items, moments, n) takes two lists and an integer";
const AS_OF: &str = "as_of(moments, times) takes two lists of one type";

/// `histories(items, moments, n)`: of one user's clicks, oldest first, the up to `n` newest items from before each click's moment, newest
/// first. A list of lists, to be unnested along with `items`. Clicks of one moment do not see each other.
///
/// They are views of one copy of the user's items, so that their number does not cost memory.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Histories {
    signature: Signature,
}

impl Default for Histories {
    fn default() -> Self {
        Histories { signature: Signature::any(3, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Histories {
    fn name(&self) -> &str {
        "histories"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let [DataType::List(item), DataType::List(_), n] = arguments else { return plan_err!("{HISTORIES}") };
        if !n.is_integer() {
            return plan_err!("{HISTORIES}, found {} for n", sql_name(n));
        }
        Ok(list_of(view_of(item.data_type().clone())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let (items, moments) = (columns[0].as_list::<i32>(), columns[1].as_list::<i32>());
        let longest = cast(&columns[2], &DataType::Int64)?;
        let longest = longest.as_primitive::<Int64Type>();
        let begins = beginnings(moments)?;
        let (mut lengths, mut reversed) = (Vec::with_capacity(items.len()), Vec::new());
        // where each view begins, and how long it is
        let (mut starts, mut sizes): (Vec<i32>, Vec<i32>) = (Vec::new(), Vec::new());
        for row in 0..items.len() {
            let (range, times) = (range_of(items, row), range_of(moments, row));
            if range.len() != times.len() {
                return exec_err!("histories: found {} items and {} moments of one user", range.len(), times.len());
            }
            let most = if longest.is_null(row) { 0 } else { longest.value(row).max(0) };
            let mut earlier = 0;
            for at in 0..range.len() {
                if begins(times.start + at) {
                    earlier = at;
                }
                starts.push((reversed.len() + range.len() - earlier) as i32);
                sizes.push((earlier as i64).min(most) as i32);
            }
            lengths.push(range.len());
            reversed.extend(range.rev().map(|at| at as u32));
        }
        let values = take(items.values(), &UInt32Array::from(reversed), None)?;
        let item = item_field(values.data_type().clone());
        let views = ListViewArray::try_new(item, starts.into(), sizes.into(), values, None)?;
        let of_users = lists(Arc::new(views), OffsetBuffer::from_lengths(lengths), None)?;
        Ok(ColumnarValue::Array(Arc::new(of_users)))
    }
}

/// `as_of(moments, times)`: for each of the moments the newest of the times that is not after it, or null. Both lists, of one user, are in
/// order, oldest first.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct AsOf {
    signature: Signature,
}

impl Default for AsOf {
    fn default() -> Self {
        AsOf { signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for AsOf {
    fn name(&self) -> &str {
        "as_of"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let [DataType::List(moment), DataType::List(time)] = arguments else { return plan_err!("{AS_OF}") };
        if moment.data_type() != time.data_type() {
            return plan_err!("{AS_OF}, found {} and {}", sql_name(moment.data_type()), sql_name(time.data_type()));
        }
        Ok(list_of(time.data_type().clone()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let (moments, times) = (columns[0].as_list::<i32>(), columns[1].as_list::<i32>());
        // a time that is not known comes after all moments
        let order = SortOptions { descending: false, nulls_first: false };
        let compare = make_comparator(times.values(), moments.values(), order)?;
        let mut lengths = Vec::with_capacity(moments.len());
        let mut newest: Vec<Option<u32>> = Vec::new();
        for row in 0..moments.len() {
            let (range, known) = (range_of(moments, row), range_of(times, row));
            lengths.push(range.len());
            let mut next = known.start;
            for moment in range {
                while next < known.end && compare(next, moment).is_le() {
                    next += 1;
                }
                newest.push((next > known.start).then(|| next as u32 - 1));
            }
        }
        let values = take(times.values(), &UInt32Array::from(newest), None)?;
        Ok(ColumnarValue::Array(Arc::new(lists(values, OffsetBuffer::from_lengths(lengths), None)?)))
    }
}

/// Where the values of a row's list are; a null is an empty list.
pub fn range_of(list: &ListArray, row: usize) -> Range<usize> {
    let offsets = list.value_offsets();
    let (first, last) = (offsets[row] as usize, offsets[row + 1] as usize);
    if list.is_null(row) { first..first } else { first..last }
}

/// Whether the value at a place differs from the one before it.
fn beginnings(moments: &ListArray) -> Result<impl Fn(usize) -> bool> {
    // the values of more rows may lie around those of this batch
    let (first, last) = (moments.value_offsets()[0] as usize, moments.value_offsets()[moments.len()] as usize);
    let (values, pairs) = (moments.values().slice(first, last - first), (last - first).saturating_sub(1));
    let differ = distinct(&values.slice(0, pairs), &values.slice(values.len() - pairs, pairs))?;
    Ok(move |at: usize| at == first || differ.value(at - first - 1))
}
