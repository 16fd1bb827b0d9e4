//! How functions make lists, and `own_list(list)`, which makes one of a view.

use datafusion::arrow::array::{Array, ArrayRef, ListArray, MutableArrayData, make_array};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::types::{item_field, list_of, sql_name};

/// Lists, as [`list_of`] types them, that `offsets` cut `values` into.
pub fn lists(values: ArrayRef, offsets: OffsetBuffer<i32>, nulls: Option<NullBuffer>) -> Result<ListArray> {
    Ok(ListArray::try_new(item_field(values.data_type().clone()), offsets, values, nulls)?)
}

/// `own_list(list)`: the same list, no longer a view or a part of one that many rows share. Such keep all lists of their batch in memory, so
/// where rows go on to a join, an aggregate or a sort, they should become lists of their own.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct OwnList {
    signature: Signature,
}

impl Default for OwnList {
    fn default() -> Self {
        OwnList { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for OwnList {
    fn name(&self) -> &str {
        "own_list"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match &arguments[0] {
            DataType::List(item) | DataType::ListView(item) => Ok(list_of(item.data_type().clone())),
            other => plan_err!("own_list(list) takes a list, found {}", sql_name(other)),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let column = &columns[0];
        Ok(ColumnarValue::Array(match column.data_type() {
            DataType::List(_) => own(column)?,
            _ => cast(column, args.return_field.data_type())?,
        }))
    }
}

/// The same values in memory of their own, where `column` is a part of a larger one: copied in as few pieces as there are.
pub fn own(column: &ArrayRef) -> Result<ArrayRef> {
    let data = column.to_data();
    let mut copy = MutableArrayData::new(vec![&data], false, data.len());
    copy.try_extend(0, 0, data.len())?;
    Ok(make_array(copy.freeze()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn a_part_of_lists_becomes_lists_of_their_own() {
        let lists =
            (0..1000).map(|row| (row % 5 != 0).then(|| (0..row % 7).map(move |at| (at != 2).then_some(row + at))));
        let all = ListArray::from_iter_primitive::<Int64Type, _, _>(lists);
        for (from, rows) in [(0, 1000), (13, 20), (999, 1), (500, 0)] {
            let part = all.slice(from, rows);
            let owned = own(&(Arc::new(part.clone()) as ArrayRef)).unwrap();
            let owned = owned.as_list::<i32>();
            assert_eq!(*owned, part);
            assert_eq!(owned.values().len(), part.offsets().lengths().sum::<usize>());
            assert!(rows == 1000 || owned.get_buffer_memory_size() < all.get_buffer_memory_size() / 10);
        }
    }
}
