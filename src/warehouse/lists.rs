//! How functions make lists, and `own_list(list)`, which makes one of a view.

use datafusion::arrow::array::{Array, ArrayRef, ListArray, UInt32Array};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::{cast, take};
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
            DataType::List(_) => take(column, &UInt32Array::from_iter_values(0..column.len() as u32), None)?,
            _ => cast(column, args.return_field.data_type())?,
        }))
    }
}
